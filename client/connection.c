// See vmctl.h. Calls have no time limit of their own: steled answers within the limits it was
// given, and a lost connection ends them. While a call is under way the main context runs, so that
// progress and signals get their turn.
#include "vmctl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api-errors.h"
#include "api-names.h"
#include "listener.h"

char *default_socket(void) {
  const char *given = g_getenv("STELE_SOCKET");
  if (given && *given) return g_strdup(given);
  g_autofree char *own = g_build_filename(g_get_user_runtime_dir(), "stele", "stele.sock", NULL);
  gboolean use_own = geteuid() != 0 && g_file_test(own, G_FILE_TEST_EXISTS);
  return use_own ? g_steal_pointer(&own) : g_strdup("/run/stele/stele.sock");
}

// --- errors --------------------------------------------------------------------------------------

static const struct {
  const char *name;
  int exit_code;
} exit_codes[] = {
#define ROW(enumerator, name, exit_code) {STELE_ERROR_PREFIX name, exit_code},
    STELE_API_ERRORS(ROW)
#undef ROW
};

static int exit_code_of(const GError *error, const char *remote) {
  if (error->domain == G_IO_ERROR && remote == NULL) return EXIT_UNREACHABLE;
  for (size_t i = 0; remote && i < G_N_ELEMENTS(exit_codes); i++)
    if (g_str_equal(exit_codes[i].name, remote)) return exit_codes[i].exit_code;
  return EXIT_OTHER;
}

int session_fail(Session *session, GError *error) {
  g_autofree char *remote = g_dbus_error_get_remote_error(error);
  int code = exit_code_of(error, remote);
  g_dbus_error_strip_remote_error(error);
  print_error(session, remote, code, error->message);
  g_error_free(error);
  return code;
}

int session_fail_exec(Session *session, GError *error) {
  g_autofree char *remote = g_dbus_error_get_remote_error(error);
  session_fail(session, error);
  if (g_strcmp0(remote, STELE_ERROR_PREFIX "ProgramNotFound") == 0) return EXIT_NOT_FOUND;
  if (g_strcmp0(remote, STELE_ERROR_PREFIX "ProgramNotExecutable") == 0) return EXIT_NOT_EXECUTABLE;
  return EXIT_EXEC_FAILED;
}

// GDBus's own words would be about authentication mechanisms and missing bytes. Who can connect but
// not talk was turned away.
static void explain_unreachable(GError **error, const char *socket) {
  const char *why = !g_file_test(socket, G_FILE_TEST_EXISTS)
                        ? "there is no such socket: start steled, or name its socket with --socket"
                    : access(socket, W_OK) == 0 && !listener_is_there(socket) ? "nobody answers there: start steled"
                    : geteuid() == 0 ? "it hangs up, having as many clients as it can have: end some"
                                     : "permission denied: be root, the user steled runs as, or in the group 'stele'";
  g_clear_error(error);
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED, "cannot reach steled at %s: %s", socket, why);
}

// --- calls ---------------------------------------------------------------------------------------

GDBusProxy *session_connect(Session *session, GError **error) {
  if (session->steled) return session->steled;
  g_autofree char *escaped = g_dbus_address_escape_value(session->socket),
                  *address = g_strconcat("unix:path=", escaped, NULL);
  g_autoptr(GDBusConnection) connection =
      g_dbus_connection_new_for_address_sync(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, error);
  if (connection == NULL) {
    explain_unreachable(error, session->socket);
    return NULL;
  }
  session->steled = g_dbus_proxy_new_sync(connection, G_DBUS_PROXY_FLAGS_DO_NOT_LOAD_PROPERTIES, NULL, NULL,
                                          STELE_OBJECT_PATH, STELE_INTERFACE, NULL, error);
  return session->steled;
}

typedef struct Call {
  Progress *progress;
  const char *subject;
  gboolean done;
  GVariant *result;
  GUnixFDList *fds;
  GError *error;
} Call;

static void on_reply(GObject *proxy, GAsyncResult *result, gpointer user_data) {
  Call *call = user_data;
  call->result = g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(proxy), &call->fds, result, &call->error);
  call->done = TRUE;
}

static void on_signal(GDBusProxy *proxy, const char *sender, const char *signal, GVariant *arguments,
                      gpointer user_data) {
  Call *call = user_data;
  const char *message = "", *state = "", *name = "";
  if (g_str_equal(signal, "Progress") && g_variant_is_of_type(arguments, G_VARIANT_TYPE("(sss)")))
    g_variant_get(arguments, "(&s&s&s)", &name, NULL, &message);
  else if (g_str_equal(signal, "MachineChanged") && g_variant_is_of_type(arguments, G_VARIANT_TYPE("(sssss)")))
    g_variant_get(arguments, "(&s&s&s&s&s)", &name, NULL, &state, NULL, NULL);
  if (call->subject && !g_str_equal(call->subject, name)) return;
  if (*message || *state) progress_say(call->progress, *message ? message : state);
}

static void lost_connection(GError **error) {
  if (*error == NULL || g_dbus_error_is_remote_error(*error)) return;
  g_clear_error(error);
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the connection to steled was lost: look whether it still runs");
}

GVariant *session_call_with_fds(Session *session, const char *method, GVariant *arguments, GUnixFDList **ret_fds,
                                GError **error) {
  g_autoptr(GVariant) owned = arguments ? g_variant_ref_sink(arguments) : NULL;
  GDBusProxy *proxy = session_connect(session, error);
  if (proxy == NULL) return NULL;
  Call call = {.progress = session->quiet ? NULL : progress_new(), .subject = session->subject};
  gulong watch = g_signal_connect(proxy, "g-signal", G_CALLBACK(on_signal), &call);
  g_dbus_proxy_call_with_unix_fd_list(proxy, method, owned, G_DBUS_CALL_FLAGS_NONE, G_MAXINT, NULL, NULL, on_reply,
                                      &call);
  while (!call.done) g_main_context_iteration(NULL, TRUE);
  g_signal_handler_disconnect(proxy, watch);
  progress_free(call.progress);
  lost_connection(&call.error);
  if (call.error) g_propagate_error(error, call.error);
  if (ret_fds)
    *ret_fds = call.fds;
  else
    g_clear_object(&call.fds);
  return call.result;
}

GVariant *session_call(Session *session, const char *method, GVariant *arguments, GError **error) {
  return session_call_with_fds(session, method, arguments, NULL, error);
}
