// vmctl exec, shell: a program in the guest on this process's standard input, output and error, or
// on its terminal.
//
// steled gives us the near ends of the program's pipes, or of its terminal. Threads copy, so that
// our own descriptors, which others may share, need not be made non-blocking; the main thread waits
// for the end and passes signals and sizes on.
#include "vmctl.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "terminal.h"

#define SCRIPT_OUTPUT_MAX 65536

static gboolean want_tty, no_tty;
static char **environment, *directory, *user;

#define COMMON_OPTIONS                                                                                                 \
  {"env",                                                                                                              \
   'e',                                                                                                                \
   0,                                                                                                                  \
   G_OPTION_ARG_STRING_ARRAY,                                                                                          \
   &environment,                                                                                                       \
   "Set an environment variable; without a value, to ours",                                                            \
   "NAME[=VALUE]"},                                                                                                    \
      {"cwd", 'C', 0, G_OPTION_ARG_STRING, &directory, "Start in DIR", "DIR"},                                         \
      {"user", 'u', 0, G_OPTION_ARG_STRING, &user, "Run as USER (default root)", "USER[:GROUP]"},                      \
      {"tty", 't', 0, G_OPTION_ARG_NONE, &want_tty, "Give it a terminal (default if we have one)", NULL},              \
      {"no-tty", 'T', 0, G_OPTION_ARG_NONE, &no_tty, "Give it pipes", NULL}, {                                         \
    NULL                                                                                                               \
  }

static const GOptionEntry options[] = {COMMON_OPTIONS};

// --- copying -------------------------------------------------------------------------------------

typedef struct Copy {
  int from, to;
  gboolean close_to; // hand on the end of input
} Copy;

static gpointer copy_all(gpointer user_data) {
  Copy *copy = user_data;
  char bytes[65536];
  for (;;) {
    ssize_t n = read(copy->from, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || !write_all(copy->to, bytes, (gsize)n)) break;
  }
  // Whoever fills `from` learns that nobody reads it any more; whoever reads `to`, that there is no
  // more.
  if (copy->close_to)
    close(copy->to);
  else
    close(copy->from);
  return NULL;
}

// --- while it runs -------------------------------------------------------------------------------

typedef struct Run {
  Session *session;
  guint64 stream;
  int number; // of the signal a source is for
} Run;

static void ignore_reply(GObject *proxy, GAsyncResult *result, gpointer user_data) {
  g_autoptr(GVariant) reply = g_dbus_proxy_call_finish(G_DBUS_PROXY(proxy), result, NULL);
}

static void tell(Run *run, const char *method, GVariant *arguments) {
  g_dbus_proxy_call(run->session->steled, method, arguments, G_DBUS_CALL_FLAGS_NONE, -1, NULL, ignore_reply, NULL);
}

static gboolean on_resized(gpointer user_data) {
  Run *run = user_data;
  guint rows, columns;
  terminal_get_size(&rows, &columns);
  tell(run, "ExecResize", g_variant_new("(tuu)", run->stream, rows, columns));
  return G_SOURCE_CONTINUE;
}

static gboolean on_signalled(gpointer user_data) {
  Run *run = user_data;
  tell(run, "ExecSignal", g_variant_new("(tu)", run->stream, (guint)run->number));
  return G_SOURCE_CONTINUE;
}

// A terminal turns keys into signals in the guest; without one they reach us.
static void follow_signals(Run *runs, gboolean tty) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
  if (tty) {
    g_unix_signal_add(SIGWINCH, on_resized, &runs[0]);
    on_resized(&runs[0]); // it may have changed since the program was asked for
  }
  for (size_t i = 0; i < G_N_ELEMENTS(numbers) && !tty; i++) {
    runs[i + 1] = runs[0];
    runs[i + 1].number = numbers[i];
    g_unix_signal_add(numbers[i], on_signalled, &runs[i + 1]);
  }
}

static int await_end(Session *session, guint64 stream, GThread **outputs) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "ExecWait", g_variant_new("(t)", stream), &error);
  for (; *outputs; outputs++) g_thread_join(*outputs); // steled has closed its ends
  terminal_restore();
  if (result == NULL) return session_fail_exec(session, error);
  gboolean signalled;
  guint value;
  g_variant_get(result, "(bu)", &signalled, &value);
  return signalled ? 128 + (int)value : (int)value;
}

// fds: stdin, stdout, stderr, or a terminal.
static int converse(Session *session, guint64 stream, const int *fds, int count, gboolean no_input) {
  gboolean tty = count == 1;
  static Copy in; // its thread may outlive this function
  in = (Copy){STDIN_FILENO, fds[0], !tty};
  Copy out = {tty ? fds[0] : fds[1], STDOUT_FILENO, FALSE}, err = {tty ? -1 : fds[2], STDERR_FILENO, FALSE};
  Run runs[4] = {{session, stream, 0}};
  GThread *outputs[3] = {NULL};
  session->quiet = TRUE;
  if (tty) terminal_make_raw();
  follow_signals(runs, tty);
  outputs[0] = g_thread_new("stdout", copy_all, &out);
  if (!tty) outputs[1] = g_thread_new("stderr", copy_all, &err);
  if (no_input && !tty) close(fds[0]);
  if (!no_input)
    g_thread_unref(g_thread_new("stdin", copy_all, &in)); // may be in read() when all is over; the exit ends it
  return await_end(session, stream, outputs);
}

// --- starting it ---------------------------------------------------------------------------------

static gboolean is_possible(const char *entry) {
  const char *own = strchr(entry, '=') ? NULL : g_getenv(entry);
  return *entry && *entry != '=' && (own == NULL || g_utf8_validate(own, -1, NULL));
}

// NAME alone hands on our own value, if we have one.
static void add_variable(GPtrArray *env, const char *entry) {
  const char *own = g_getenv(entry);
  if (strchr(entry, '='))
    g_ptr_array_add(env, g_strdup(entry));
  else if (own)
    g_ptr_array_add(env, g_strdup_printf("%s=%s", entry, own));
}

GPtrArray *exec_environment(char **given) {
  GPtrArray *env = g_ptr_array_new_with_free_func(g_free);
  for (char **entry = given; entry && *entry; entry++) add_variable(env, *entry);
  return env;
}

static GVariant *make_options(const ExecSettings *settings) {
  guint rows = 0, columns = 0;
  const char *term = g_getenv("TERM");
  g_autoptr(GPtrArray) env = exec_environment(settings->env);
  if (settings->tty && term && g_utf8_validate(term, -1, NULL))
    g_ptr_array_insert(env, 0, g_strconcat("TERM=", term, NULL));
  if (settings->tty) terminal_get_size(&rows, &columns);
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&builder, "{sv}", "env", g_variant_new_strv((const char *const *)env->pdata, env->len));
  g_variant_builder_add(&builder, "{sv}", "tty", g_variant_new_boolean(settings->tty));
  g_variant_builder_add(&builder, "{sv}", "rows", g_variant_new_uint32(rows));
  g_variant_builder_add(&builder, "{sv}", "columns", g_variant_new_uint32(columns));
  if (settings->cwd) g_variant_builder_add(&builder, "{sv}", "cwd", g_variant_new_string(settings->cwd));
  if (settings->user) g_variant_builder_add(&builder, "{sv}", "user", g_variant_new_string(settings->user));
  return g_variant_builder_end(&builder);
}

gboolean exec_check_environment(Session *session, char **given) {
  for (char **entry = given; entry && *entry; entry++) {
    if (is_possible(*entry)) continue;
    g_autofree char *message = g_strdup_printf("--env takes NAME=VALUE or NAME, in UTF-8, not '%s'", *entry);
    print_error(session, NULL, EXIT_USAGE, message);
    return FALSE;
  }
  return TRUE;
}

int exec_program(Session *session, const char *name, const char *const *argv, const ExecSettings *settings) {
  GError *error = NULL;
  g_autoptr(GUnixFDList) list = NULL;
  GVariant *arguments = g_variant_new("(s^as@a{sv})", name, argv, make_options(settings));
  g_autoptr(GVariant) result = session_call_with_fds(session, "Exec", arguments, &list, &error);
  if (result == NULL || list == NULL) return session_fail_exec(session, error);
  guint64 stream;
  g_autoptr(GVariant) handles = NULL;
  g_variant_get(result, "(t@ah)", &stream, &handles);
  int count = 0;
  g_autofree int *fds = g_unix_fd_list_steal_fds(list, &count);
  return converse(session, stream, fds, count, settings->no_input);
}

static int run_program(Session *session, const char *name, char **argv) {
  if (!exec_check_environment(session, environment)) return EXIT_USAGE;
  const ExecSettings settings = {
      .env = environment, .cwd = directory, .user = user, .tty = !no_tty && (want_tty || terminal_is_interactive())};
  return exec_program(session, name, (const char *const *)argv, &settings);
}

static char *read_all(int fd) {
  g_autoptr(GString) text = g_string_new(NULL);
  char bytes[4096];
  for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR);)
    if (n > 0 && text->len < SCRIPT_OUTPUT_MAX) g_string_append_len(text, bytes, n);
  return g_string_free(g_steal_pointer(&text), FALSE);
}

// Its errors go where its output goes, and nothing to its input.
int run_script(Session *session, const char *name, const char *script, char **ret_output, GError **error) {
  const char *const argv[] = {"sh", "-c", "exec 2>&1 </dev/null; eval \"$1\"", "sh", script, NULL};
  g_autoptr(GUnixFDList) list = NULL;
  GVariant *options = g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0);
  g_autoptr(GVariant) result =
      session_call_with_fds(session, "Exec", g_variant_new("(s^as@a{sv})", name, argv, options), &list, error);
  if (result == NULL || list == NULL) return -1;
  guint64 stream;
  g_variant_get(result, "(tah)", &stream, NULL);
  int count = 0;
  g_autofree int *fds = g_unix_fd_list_steal_fds(list, &count);
  g_autofree char *output = read_all(fds[1]); // first: the end is reported once there is room for all of it
  g_autoptr(GVariant) end = session_call(session, "ExecWait", g_variant_new("(t)", stream), error);
  for (int i = 0; i < count; i++) close(fds[i]);
  if (end == NULL) return -1;
  *ret_output = g_steal_pointer(&output);
  gboolean signalled;
  guint value;
  g_variant_get(end, "(bu)", &signalled, &value);
  return signalled ? 128 + (int)value : (int)value;
}

static int run_exec(Session *session, int argc, char **argv) {
  char **program = argv + 1;
  if (argc > 1 && g_str_equal(*program, "--")) program++;
  if (argc > 1 && *program) return run_program(session, argv[0], program);
  print_error(session, NULL, EXIT_USAGE, "exec: which program?");
  return EXIT_USAGE;
}

static int run_shell(Session *session, int argc, char **argv) {
  char *none[] = {NULL};
  return run_program(session, argv[0], none);
}

const Command command_exec = {"exec",
                              "NAME PROGRAM [ARGUMENTS…]",
                              "run a program in a machine",
                              "The exit code is the program's, or 128 + n when signal n killed it; "
                              "127: no such program, 126: it cannot be "
                              "executed, 125: steled or the guest's agent failed.",
                              2,
                              -1,
                              options,
                              run_exec};
const Command command_shell = {"shell", "NAME",   "open the user's login shell in a machine", NULL, 1, 1,
                               options, run_shell};
