// See api.h. A handler's signature is gdbus-codegen's; `handlers` at the end binds them. Replies
// are made in one place, api_reply(): a method's result is the tuple of what its manager_…() call
// gave.
#include "api.h"

#include <gio/gunixfdlist.h>
#include <signal.h>
#include <unistd.h>
#include "api-images.h"
#include "api-names.h"
#include "api-options.h"
#include "errors.h"
#include "peer-calls.h"
#include "stele-manager.h"

#define START_SECONDS    180
#define SHUTDOWN_SECONDS 90
#define UNREAD_MAX       1024 // signals that wait for a peer

struct Api {
  SteleManager1 *skeleton;
  Manager *manager;
  GHashTable *peers;   // GDBusConnection -> Peer
  GHashTable *streams; // id -> ApiStream
  guint64 next_stream;
  ApiImages *images;
};

// A connection, and the signals that were sent there and may not have left yet.
typedef struct Peer {
  guint unread, flushing; // of them: flushing when all have left that were there when it was begun
} Peer;

// A program in a guest and the connection it belongs to.
typedef struct ApiStream {
  Api *api;
  guint64 id;
  GDBusConnection *connection;
  GDBusMethodInvocation *exec; // from its start until it runs
  GQueue waiting;              // invocations of ExecWait
  char *machine;
  AgentStream *stream; // until it has ended
  gboolean ended, signalled;
  guint value;
  GError *error;
} ApiStream;

// --- replies -------------------------------------------------------------------------------------

static void on_console(GVariant *result, const GError *error, gpointer user_data) {
  GDBusMethodInvocation *invocation = user_data;
  if (error) {
    g_dbus_method_invocation_return_gerror(invocation, error);
    return;
  }
  int fd = g_variant_get_int32(result);
  g_autoptr(GUnixFDList) list = g_unix_fd_list_new_from_array(&fd, 1); // takes the descriptor
  g_dbus_method_invocation_return_value_with_unix_fd_list(invocation, g_variant_new("(h)", 0), list);
}

// --- methods that pass through -------------------------------------------------------------------

static gboolean on_define(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *xml, GVariant *options,
                          Api *api) {
  gboolean replace = FALSE;
  const ApiOption rows[] = {{"replace", "b", &replace}};
  if (api_read_options(invocation, options, rows, 1)) manager_define(api->manager, xml, replace, api_reply, invocation);
  return TRUE;
}

typedef void (*NamedCall)(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
typedef void (*WaitingCall)(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                            gpointer user_data);

static gboolean pass(Api *api, GDBusMethodInvocation *invocation, const char *name, NamedCall function) {
  function(api->manager, name, api_reply, invocation);
  return TRUE;
}

static gboolean on_undefine(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_undefine);
}

static gboolean on_destroy(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_destroy);
}

static gboolean on_suspend(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_suspend);
}

static gboolean on_resume(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_resume);
}

static gboolean on_info(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_info);
}

static gboolean pass_waiting(Api *api, GDBusMethodInvocation *invocation, const char *name, GVariant *options,
                             WaitingCall function, ManagerStartOptions defaults) {
  const ApiOption rows[] = {{"wait", "b", &defaults.wait}, {"timeout", "u", &defaults.timeout}};
  if (api_read_options(invocation, options, rows, 2)) function(api->manager, name, &defaults, api_reply, invocation);
  return TRUE;
}

static gboolean on_start(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, GVariant *options,
                         Api *api) {
  return pass_waiting(api, invocation, name, options, manager_start, (ManagerStartOptions){FALSE, START_SECONDS});
}

static gboolean on_shutdown(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                            GVariant *options, Api *api) {
  return pass_waiting(api, invocation, name, options, manager_shutdown, (ManagerStartOptions){TRUE, SHUTDOWN_SECONDS});
}

static gboolean on_reboot(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, GVariant *options,
                          Api *api) {
  return pass_waiting(api, invocation, name, options, manager_reboot, (ManagerStartOptions){FALSE, START_SECONDS});
}

static gboolean on_list(SteleManager1 *object, GDBusMethodInvocation *invocation, Api *api) {
  manager_list(api->manager, api_reply, invocation);
  return TRUE;
}

static gboolean on_dump_xml(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                            GVariant *options, Api *api) {
  gboolean full = FALSE;
  const ApiOption rows[] = {{"full", "b", &full}};
  if (api_read_options(invocation, options, rows, 1)) manager_dump_xml(api->manager, name, full, api_reply, invocation);
  return TRUE;
}

static gboolean on_open_console(SteleManager1 *object, GDBusMethodInvocation *invocation, GUnixFDList *fds,
                                const char *name, GVariant *options, Api *api) {
  gboolean force = FALSE;
  const ApiOption rows[] = {{"force", "b", &force}};
  if (api_read_options(invocation, options, rows, 1))
    manager_open_console(api->manager, name, force, on_console, invocation);
  return TRUE;
}

static gboolean on_read_console_log(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                    guint bytes, Api *api) {
  manager_read_console_log(api->manager, name, FALSE, bytes, api_reply, invocation);
  return TRUE;
}

static gboolean on_read_former_console_log(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                           guint bytes, Api *api) {
  manager_read_console_log(api->manager, name, TRUE, bytes, api_reply, invocation);
  return TRUE;
}

static gboolean on_open_console_log(SteleManager1 *object, GDBusMethodInvocation *invocation, GUnixFDList *fds,
                                    const char *name, Api *api) {
  manager_open_console_log(api->manager, name, on_console, invocation);
  return TRUE;
}

static gboolean on_stats(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  return pass(api, invocation, name, manager_stats);
}

static gboolean on_add_port(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                            const char *port, Api *api) {
  manager_forward_port(api->manager, name, port, TRUE, api_reply, invocation);
  return TRUE;
}

static gboolean on_remove_port(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                               const char *port, Api *api) {
  manager_forward_port(api->manager, name, port, FALSE, api_reply, invocation);
  return TRUE;
}

static gboolean on_change(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, GVariant *changes,
                          Api *api) {
  MachineChanges wanted = {0};
  g_autofree const char **add_shares = NULL, **remove_shares = NULL, **add_ports = NULL, **remove_ports = NULL;
  const ApiOption rows[] = {{"memory", "t", &wanted.memory},         {"cpus", "u", &wanted.cpus},
                            {"autostart", "s", &wanted.autostart},   {"add-shares", "as", &add_shares},
                            {"remove-shares", "as", &remove_shares}, {"add-ports", "as", &add_ports},
                            {"remove-ports", "as", &remove_ports}};
  if (!api_read_options(invocation, changes, rows, G_N_ELEMENTS(rows))) return TRUE;
  wanted.add_shares = add_shares;
  wanted.remove_shares = remove_shares;
  wanted.add_ports = add_ports;
  wanted.remove_ports = remove_ports;
  manager_change(api->manager, name, &wanted, api_reply, invocation);
  return TRUE;
}

static gboolean on_clone(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                         const char *new_name, Api *api) {
  manager_clone(api->manager, name, new_name, api_reply, invocation);
  return TRUE;
}

typedef void (*SnapshotCall)(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                             gpointer user_data);

static gboolean pass_snapshot(Api *api, GDBusMethodInvocation *invocation, const char *name, const char *snapshot,
                              SnapshotCall function) {
  function(api->manager, name, snapshot, api_reply, invocation);
  return TRUE;
}

static gboolean on_create_snapshot(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                   const char *snapshot, Api *api) {
  return pass_snapshot(api, invocation, name, snapshot, manager_create_snapshot);
}

static gboolean on_restore_snapshot(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                    const char *snapshot, Api *api) {
  return pass_snapshot(api, invocation, name, snapshot, manager_restore_snapshot);
}

static gboolean on_remove_snapshot(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                   const char *snapshot, Api *api) {
  return pass_snapshot(api, invocation, name, snapshot, manager_remove_snapshot);
}

static gboolean on_list_snapshots(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                  Api *api) {
  return pass(api, invocation, name, manager_list_snapshots);
}

static gboolean on_rename(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                          const char *new_name, Api *api) {
  manager_rename(api->manager, name, new_name, api_reply, invocation);
  return TRUE;
}

static gboolean on_version(SteleManager1 *object, GDBusMethodInvocation *invocation, Api *api) {
  manager_version(api->manager, api_reply, invocation);
  return TRUE;
}

// --- translations made ahead ---------------------------------------------------------------------

typedef struct Translating {
  GDBusMethodInvocation *invocation;
  GCancellable *cancellable;
  gulong watch; // for the end of the connection
} Translating;

static void on_translated(GVariant *result, const GError *error, gpointer user_data) {
  Translating *translating = user_data;
  if (translating->watch)
    g_signal_handler_disconnect(g_dbus_method_invocation_get_connection(translating->invocation), translating->watch);
  api_reply(result, error, translating->invocation);
  g_object_unref(translating->cancellable);
  g_free(translating);
}

// It ends with the caller's connection.
static gboolean on_translate(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, Api *api) {
  Translating *translating = g_new(Translating, 1);
  *translating = (Translating){invocation, g_cancellable_new(), 0};
  translating->watch = g_signal_connect_swapped(g_dbus_method_invocation_get_connection(invocation), "closed",
                                                G_CALLBACK(g_cancellable_cancel), translating->cancellable);
  manager_translate(api->manager, name, translating->cancellable, on_translated, translating);
  return TRUE;
}

static gboolean on_translation_stats(SteleManager1 *object, GDBusMethodInvocation *invocation, Api *api) {
  manager_translation_stats(api->manager, api_reply, invocation);
  return TRUE;
}

static gboolean on_prune_translations(SteleManager1 *object, GDBusMethodInvocation *invocation, guint64 bytes,
                                      Api *api) {
  manager_prune_translations(api->manager, bytes, api_reply, invocation);
  return TRUE;
}

// --- programs in guests --------------------------------------------------------------------------

// An invocation holds its connection, and with it a socket, until it is answered: also when nobody is
// there to read the answer.
static void answer_gone(GDBusMethodInvocation *invocation) {
  g_dbus_method_invocation_return_error(invocation, STELE_ERROR, STELE_ERROR_NO_SUCH_STREAM, "the caller has gone");
}

static void stream_free(gpointer user_data) {
  ApiStream *stream = user_data;
  if (stream->stream) agent_stream_close(stream->stream);
  if (stream->exec) answer_gone(stream->exec);
  for (GDBusMethodInvocation *waiting; (waiting = g_queue_pop_head(&stream->waiting));) answer_gone(waiting);
  g_clear_error(&stream->error);
  g_free(stream->machine);
  g_free(stream);
}

static void forget_stream(ApiStream *stream) {
  g_hash_table_remove(stream->api->streams, &stream->id);
}

static void reply_wait(ApiStream *stream, GDBusMethodInvocation *invocation) {
  if (stream->error)
    g_dbus_method_invocation_return_gerror(invocation, stream->error);
  else
    g_dbus_method_invocation_return_value(invocation, g_variant_new("(bu)", stream->signalled, stream->value));
}

static void on_stream_opened(AgentStream *agent_stream, const int *fds, int count, gpointer user_data) {
  ApiStream *stream = user_data;
  g_autoptr(GUnixFDList) list = g_unix_fd_list_new_from_array(fds, count);
  GVariantBuilder handles;
  g_variant_builder_init(&handles, G_VARIANT_TYPE("ah"));
  for (int i = 0; i < count; i++) g_variant_builder_add(&handles, "h", i);
  GVariant *reply = g_variant_new("(tah)", stream->id, &handles);
  g_dbus_method_invocation_return_value_with_unix_fd_list(g_steal_pointer(&stream->exec), reply, list);
}

static void on_stream_ended(AgentStream *agent_stream, const AgentStreamResult *result, gpointer user_data) {
  ApiStream *stream = user_data;
  stream->ended = TRUE;
  stream->signalled = result->signalled;
  stream->value = result->value;
  stream->error = result->error ? g_error_copy(result->error) : NULL;
  gboolean told = stream->exec || !g_queue_is_empty(&stream->waiting);
  if (stream->exec) g_dbus_method_invocation_return_gerror(g_steal_pointer(&stream->exec), stream->error);
  for (GDBusMethodInvocation *waiting; (waiting = g_queue_pop_head(&stream->waiting));) reply_wait(stream, waiting);
  if (told) forget_stream(stream); // otherwise it is kept until it is asked for
}

static const AgentStreamHandlers stream_handlers = {on_stream_opened, on_stream_ended};

static ApiStream *find_stream(Api *api, GDBusMethodInvocation *invocation, guint64 id) {
  ApiStream *stream = g_hash_table_lookup(api->streams, &id);
  if (stream && stream->connection == g_dbus_method_invocation_get_connection(invocation)) return stream;
  g_dbus_method_invocation_return_error(invocation, STELE_ERROR, STELE_ERROR_NO_SUCH_STREAM,
                                        "this connection has started no program with the number %" G_GUINT64_FORMAT,
                                        id);
  return NULL;
}

static ApiStream *add_stream(Api *api, GDBusMethodInvocation *invocation, const char *name) {
  ApiStream *stream = g_new0(ApiStream, 1);
  *stream = (ApiStream){.api = api,
                        .id = api->next_stream++,
                        .machine = g_strdup(name),
                        .connection = g_dbus_method_invocation_get_connection(invocation)};
  g_queue_init(&stream->waiting);
  g_hash_table_insert(api->streams, &stream->id, stream);
  return stream;
}

// argv and options were checked by on_exec() and are read again from the invocation, which keeps
// them alive.
static void start_program(ApiStream *stream, GDBusMethodInvocation *invocation) {
  g_autofree const char **argv = NULL, **env = NULL;
  g_autoptr(GVariant) options = NULL;
  AgentExecRequest request = {0};
  const ApiOption rows[] = {{"env", "as", &env},          {"cwd", "s", &request.cwd},
                            {"user", "s", &request.user}, {"tty", "b", &request.tty},
                            {"rows", "u", &request.rows}, {"columns", "u", &request.columns}};
  g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(&s^a&s@a{sv})", NULL, &argv, &options);
  if (!api_read_options(invocation, options, rows, G_N_ELEMENTS(rows))) {
    forget_stream(stream);
    return;
  }
  request.argv = argv;
  request.env = env;
  g_autoptr(GError) error = NULL;
  stream->exec = invocation;
  stream->stream = manager_exec(stream->api->manager, stream->machine, &request, &stream_handlers, stream, &error);
  if (stream->stream) return;
  stream->exec = NULL;
  forget_stream(stream);
  g_dbus_method_invocation_return_gerror(invocation, error);
}

typedef struct PendingExec {
  Api *api;
  guint64 id;
  GDBusMethodInvocation *invocation;
} PendingExec;

// The connection, and with it the stream, may have gone while the machine was booting.
static void on_agent_awaited(GVariant *result, const GError *error, gpointer user_data) {
  g_autofree PendingExec *pending = user_data;
  ApiStream *stream = g_hash_table_lookup(pending->api->streams, &pending->id);
  if (stream && error == NULL) {
    start_program(stream, pending->invocation);
    return;
  }
  if (stream) forget_stream(stream);
  if (error)
    g_dbus_method_invocation_return_gerror(pending->invocation, error);
  else
    answer_gone(pending->invocation);
}

static gboolean on_exec(SteleManager1 *object, GDBusMethodInvocation *invocation, GUnixFDList *fds, const char *name,
                        const char *const *argv, GVariant *options, Api *api) {
  ApiStream *stream = add_stream(api, invocation, name);
  PendingExec *pending = g_new(PendingExec, 1);
  *pending = (PendingExec){api, stream->id, invocation};
  manager_await_agent(api->manager, name, on_agent_awaited, pending);
  return TRUE;
}

static gboolean on_exec_wait(SteleManager1 *object, GDBusMethodInvocation *invocation, guint64 id, Api *api) {
  ApiStream *stream = find_stream(api, invocation, id);
  if (stream == NULL) return TRUE;
  if (!stream->ended) {
    g_queue_push_tail(&stream->waiting, invocation);
  } else {
    reply_wait(stream, invocation);
    forget_stream(stream);
  }
  return TRUE;
}

static gboolean on_exec_signal(SteleManager1 *object, GDBusMethodInvocation *invocation, guint64 id, guint number,
                               Api *api) {
  ApiStream *stream = find_stream(api, invocation, id);
  if (stream == NULL) return TRUE;
  if (number < 1 || number > 64) {
    g_dbus_method_invocation_return_error(invocation, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT, "%u is no signal",
                                          number);
    return TRUE;
  }
  if (stream->stream && !stream->ended) agent_stream_signal(stream->stream, number);
  g_dbus_method_invocation_return_value(invocation, NULL);
  return TRUE;
}

static gboolean on_exec_resize(SteleManager1 *object, GDBusMethodInvocation *invocation, guint64 id, guint rows,
                               guint columns, Api *api) {
  ApiStream *stream = find_stream(api, invocation, id);
  if (stream == NULL) return TRUE;
  if (stream->stream && !stream->ended) agent_stream_resize(stream->stream, rows, columns);
  g_dbus_method_invocation_return_value(invocation, NULL);
  return TRUE;
}

static gboolean belongs_to(gpointer key, gpointer value, gpointer connection) {
  return ((ApiStream *)value)->connection == connection;
}

static void on_closed(GDBusConnection *connection, gboolean remote_vanished, GError *error, gpointer user_data) {
  Api *api = user_data;
  g_hash_table_foreach_remove(api->streams, belongs_to, connection);
  g_hash_table_remove(api->peers, connection);
  api_images_closed(api->images, connection);
  g_dbus_interface_skeleton_unexport_from_connection(G_DBUS_INTERFACE_SKELETON(api->skeleton), connection);
  g_object_unref(connection);
}

// --- signals -------------------------------------------------------------------------------------

static void on_flushed(GObject *object, GAsyncResult *result, gpointer user_data) {
  GDBusConnection *connection = G_DBUS_CONNECTION(object);
  Peer *peer = g_hash_table_lookup(((Api *)user_data)->peers, connection);
  if (!g_dbus_connection_flush_finish(connection, result, NULL) || peer == NULL) return;
  peer->unread -= peer->flushing;
  peer->flushing = 0;
}

// GDBus queues without bound for a peer that does not read, such as a stopped 'vmctl events'.
static void count_signal(Api *api) {
  GHashTableIter peers;
  gpointer connection, value;
  g_hash_table_iter_init(&peers, api->peers);
  while (g_hash_table_iter_next(&peers, &connection, &value)) {
    Peer *peer = value;
    if (++peer->unread > UNREAD_MAX) {
      peer_cut_off(connection);
    } else if (peer->flushing == 0) {
      peer->flushing = peer->unread;
      g_dbus_connection_flush(connection, NULL, on_flushed, api);
    }
  }
}

static void on_changed(const char *name, const char *event, const char *state, const char *reason, const char *message,
                       gpointer user_data) {
  stele_manager1_emit_machine_changed(((Api *)user_data)->skeleton, name, event, state, reason, message);
  count_signal(user_data);
}

static void on_progress(const char *name, const char *operation, const char *message, gpointer user_data) {
  stele_manager1_emit_progress(((Api *)user_data)->skeleton, name, operation, message);
  count_signal(user_data);
}

static void on_disconnected(gpointer user_data) {
  g_printerr("steled: the connection to libvirt was lost; ending, machines go on running\n");
  kill(getpid(), SIGTERM);
}

const ManagerObserver api_observer = {on_changed, on_progress, on_disconnected};

// --- the object ----------------------------------------------------------------------------------

static const struct {
  const char *signal;
  GCallback handler;
} handlers[] = {
    {"handle-define", G_CALLBACK(on_define)},
    {"handle-undefine", G_CALLBACK(on_undefine)},
    {"handle-start", G_CALLBACK(on_start)},
    {"handle-shutdown", G_CALLBACK(on_shutdown)},
    {"handle-reboot", G_CALLBACK(on_reboot)},
    {"handle-destroy", G_CALLBACK(on_destroy)},
    {"handle-suspend", G_CALLBACK(on_suspend)},
    {"handle-resume", G_CALLBACK(on_resume)},
    {"handle-list", G_CALLBACK(on_list)},
    {"handle-info", G_CALLBACK(on_info)},
    {"handle-dump-xml", G_CALLBACK(on_dump_xml)},
    {"handle-open-console", G_CALLBACK(on_open_console)},
    {"handle-read-console-log", G_CALLBACK(on_read_console_log)},
    {"handle-read-former-console-log", G_CALLBACK(on_read_former_console_log)},
    {"handle-open-console-log", G_CALLBACK(on_open_console_log)},
    {"handle-stats", G_CALLBACK(on_stats)},
    {"handle-add-port", G_CALLBACK(on_add_port)},
    {"handle-remove-port", G_CALLBACK(on_remove_port)},
    {"handle-clone", G_CALLBACK(on_clone)},
    {"handle-rename", G_CALLBACK(on_rename)},
    {"handle-create-snapshot", G_CALLBACK(on_create_snapshot)},
    {"handle-restore-snapshot", G_CALLBACK(on_restore_snapshot)},
    {"handle-remove-snapshot", G_CALLBACK(on_remove_snapshot)},
    {"handle-list-snapshots", G_CALLBACK(on_list_snapshots)},
    {"handle-change", G_CALLBACK(on_change)},
    {"handle-exec", G_CALLBACK(on_exec)},
    {"handle-exec-wait", G_CALLBACK(on_exec_wait)},
    {"handle-exec-signal", G_CALLBACK(on_exec_signal)},
    {"handle-exec-resize", G_CALLBACK(on_exec_resize)},
    {"handle-version", G_CALLBACK(on_version)},
    {"handle-translate", G_CALLBACK(on_translate)},
    {"handle-translation-stats", G_CALLBACK(on_translation_stats)},
    {"handle-prune-translations", G_CALLBACK(on_prune_translations)},
};

Api *api_new(void) {
  Api *api = g_new0(Api, 1);
  api->skeleton = stele_manager1_skeleton_new();
  api->peers = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  api->streams = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, stream_free);
  api->next_stream = 1;
  for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++)
    g_signal_connect(api->skeleton, handlers[i].signal, handlers[i].handler, api);
  api->images = api_images_new(api->skeleton);
  return api;
}

void api_set_manager(Api *api, Manager *manager) {
  api->manager = manager;
  api_images_set_manager(api->images, manager);
}

void api_free(Api *api) {
  g_hash_table_unref(api->streams);
  g_hash_table_unref(api->peers);
  api_images_free(api->images);
  g_object_unref(api->skeleton);
  g_free(api);
}

void api_add_peer(GDBusConnection *connection, gpointer user_data) {
  Api *api = user_data;
  g_signal_connect(g_object_ref(connection), "closed", G_CALLBACK(on_closed), api);
  g_hash_table_insert(api->peers, connection, g_new0(Peer, 1));
  peer_calls_limit(connection);
  g_autoptr(GError) error = NULL;
  if (!g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(api->skeleton), connection, STELE_OBJECT_PATH,
                                        &error))
    g_dbus_connection_close(connection, NULL, NULL, NULL);
}
