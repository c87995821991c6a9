// See session.h. Calls: org.freedesktop.systemd1(5), StartTransientUnit; org.freedesktop.login1(5), CreateSession.
#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bus.h"

#define SYSTEMD_SOCKET "/run/systemd/private" // root's own connection to process 1, without a bus in between
#define BUS_SOCKET     "/run/dbus/system_bus_socket"
#define LOGIND_RUNS    "/run/systemd/seats" // logind makes it when it starts

// How long process 1 may take, and how long logind, which starts the user's service manager meanwhile.
enum { SCOPE_SECONDS = 30, LOGIN_SECONDS = 120 };

static const BusCall hello = {.destination = "org.freedesktop.DBus",
                              .path = "/org/freedesktop/DBus",
                              .interface = "org.freedesktop.DBus",
                              .member = "Hello"};
static const BusCall start_transient_unit = {.path = "/org/freedesktop/systemd1",
                                             .interface = "org.freedesktop.systemd1.Manager",
                                             .member = "StartTransientUnit",
                                             .signature = "ssa(sv)a(sa(sv))"};
static const BusCall create_session = {.destination = "org.freedesktop.login1",
                                       .path = "/org/freedesktop/login1",
                                       .interface = "org.freedesktop.login1.Manager",
                                       .member = "CreateSession",
                                       .signature = "uusssssussbssa(sv)"};

// --- a scope -------------------------------------------------------------------------------------------

static void put_property(Buffer *body, const char *name, const char *type) {
  bus_align(body, 8);
  bus_put_string(body, name);
  bus_put_signature(body, type);
}

// An interactive shell ignores SIGTERM, and would hold up the machine's end for as long as its scope may take.
static void put_scope(Buffer *body) {
  char name[64];
  snprintf(name, sizeof name, "stele-exec-%d-%lld.scope", (int)getpid(), (long long)time(NULL));
  bus_put_string(body, name);
  bus_put_string(body, "fail");
  BusArray properties = bus_open_array(body, 8);
  put_property(body, "Description", "s");
  bus_put_string(body, "Program run for the host");
  put_property(body, "PIDs", "au");
  BusArray pids = bus_open_array(body, 4);
  bus_put_u32(body, (uint32_t)getpid());
  bus_close_array(body, pids);
  put_property(body, "CollectMode", "s");
  bus_put_string(body, "inactive-or-failed");
  put_property(body, "SendSIGHUP", "b");
  bus_put_u32(body, true);
  put_property(body, "TimeoutStopUSec", "t");
  bus_put_u64(body, 10000000);
  bus_close_array(body, properties);
  bus_close_array(body, bus_open_array(body, 8)); // no further units
}

// The job is done when systemd says so; then this process is in the scope.
static void await_job(Bus *bus, const char *job) {
  BusMessage message;
  for (bool done = false; !done && bus_receive(bus, &message) == 0; bus_message_clear(&message)) {
    if (strcmp(message.member, "JobRemoved") != 0 || strcmp(message.signature, "uoss") != 0) continue;
    bus_get_u32(&message.body);
    done = strcmp(bus_get_string(&message.body), job) == 0;
  }
}

static void enter_scope(void) {
  Bus bus;
  BusMessage reply;
  BusCall call = start_transient_unit;
  if (bus_open(&bus, SYSTEMD_SOCKET, SCOPE_SECONDS) < 0) return;
  put_scope(&call.body);
  if (bus_call(&bus, &call, &reply) == 0) {
    await_job(&bus, bus_get_string(&reply.body));
    bus_message_clear(&reply);
  }
  bus_close(&bus);
}

// --- a login session -----------------------------------------------------------------------------------

static void put_session(Buffer *body, uid_t uid, const char *terminal) {
  bus_put_u32(body, uid);
  bus_put_u32(body, (uint32_t)getpid());
  bus_put_string(body, "stele"); // service
  bus_put_string(body, *terminal ? "tty" : "unspecified");
  bus_put_string(body, "user"); // class
  bus_put_string(body, "");     // desktop
  bus_put_string(body, "");     // seat
  bus_put_u32(body, 0);         // virtual terminal
  bus_put_string(body, terminal);
  bus_put_string(body, ""); // display
  bus_put_u32(body, false); // remote
  bus_put_string(body, ""); // remote user
  bus_put_string(body, ""); // remote host
  bus_close_array(body, bus_open_array(body, 8));
}

static void read_session(BusMessage *reply, Session *session) {
  const char *id = bus_get_string(&reply->body);
  bus_get_string(&reply->body); // its object
  const char *directory = bus_get_string(&reply->body);
  if (reply->body.failed || strcmp(reply->signature, "soshusub") != 0) return;
  snprintf(session->id, sizeof session->id, "%s", id);
  snprintf(session->runtime_directory, sizeof session->runtime_directory, "%s", directory);
  session->fd = reply->fd;
  reply->fd = -1;
}

static void log_in(Session *session, uid_t uid, const char *terminal) {
  Bus bus;
  BusMessage reply;
  BusCall greeting = hello, call = create_session;
  if (access(LOGIND_RUNS, F_OK) < 0 || bus_open(&bus, BUS_SOCKET, LOGIN_SECONDS) < 0) return;
  int r = bus_call(&bus, &greeting, &reply);
  if (r == 0) {
    bus_message_clear(&reply);
    put_session(&call.body, uid, terminal);
    r = bus_call(&bus, &call, &reply);
  }
  if (r == 0) {
    read_session(&reply, session);
    bus_message_clear(&reply);
  }
  bus_close(&bus);
}

// --- outside -------------------------------------------------------------------------------------------

// A runtime directory is there when the user is logged in otherwise, or lingers.
static void find_runtime_directory(Session *session, uid_t uid) {
  struct stat status;
  snprintf(session->runtime_directory, sizeof session->runtime_directory, "/run/user/%u", (unsigned)uid);
  if (stat(session->runtime_directory, &status) < 0 || status.st_uid != uid) session->runtime_directory[0] = 0;
}

void session_enter(Session *ret_session, uid_t uid, bool login, const char *terminal) {
  *ret_session = (Session){.fd = -1};
  if (login) log_in(ret_session, uid, terminal);
  if (ret_session->id[0]) return;
  enter_scope();
  find_runtime_directory(ret_session, uid);
}

void session_set_environment(const Session *session) {
  char address[128];
  if (session->id[0]) {
    setenv("XDG_SESSION_ID", session->id, 1);
    setenv("XDG_SESSION_CLASS", "user", 1);
    setenv("XDG_SESSION_TYPE", isatty(STDIN_FILENO) ? "tty" : "unspecified", 1);
  }
  if (!session->runtime_directory[0]) return;
  setenv("XDG_RUNTIME_DIR", session->runtime_directory, 1);
  snprintf(address, sizeof address, "%s/bus", session->runtime_directory);
  if (access(address, F_OK) < 0) return;
  snprintf(address, sizeof address, "unix:path=%s/bus", session->runtime_directory);
  setenv("DBUS_SESSION_BUS_ADDRESS", address, 1);
}
