// See session.h. Call: org.freedesktop.login1(5), CreateSession.
#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus.h"
#include "scope.h"

#define BUS_SOCKET  "/run/dbus/system_bus_socket"
#define LOGIND_RUNS "/run/systemd/seats" // logind makes it when it starts

// How long logind may take, which starts the user's service manager meanwhile.
enum { LOGIN_SECONDS = 120 };

static const BusCall hello = {.destination = "org.freedesktop.DBus",
                              .path = "/org/freedesktop/DBus",
                              .interface = "org.freedesktop.DBus",
                              .member = "Hello"};
static const BusCall create_session = {.destination = "org.freedesktop.login1",
                                       .path = "/org/freedesktop/login1",
                                       .interface = "org.freedesktop.login1.Manager",
                                       .member = "CreateSession",
                                       .signature = "uusssssussbssa(sv)"};

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
  scope_enter();
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
