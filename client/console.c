// vmctl console: the guest's console on this terminal, or the log of what it printed.
#include "vmctl.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "terminal.h"

#define ESCAPE  '\x1d' // Ctrl-]
#define LOG_MAX (1024 * 1024)

static gboolean force, log_only;
static const GOptionEntry options[] = {
    {"force", 'f', 0, G_OPTION_ARG_NONE, &force, "Take the console from whoever has it open", NULL},
    {"log", 'l', 0, G_OPTION_ARG_NONE, &log_only, "Print what the guest has printed since it was started, and leave",
     NULL},
    {NULL}};

static int print_log(Session *session, const char *name) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "ReadConsoleLog", g_variant_new("(su)", name, LOG_MAX), &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) bytes = g_variant_get_child_value(result, 0);
  gsize size = 0;
  const void *text = g_variant_get_fixed_array(bytes, &size, 1);
  print_text(text, size);
  return EXIT_OK;
}

// Copies once; FALSE at the end of `from`, when `to` takes no more, or at the escape key.
static gboolean copy(int from, int to, gboolean watch_escape) {
  char bytes[4096];
  ssize_t n = read(from, bytes, sizeof bytes);
  if (n < 0 && errno == EINTR) return TRUE;
  char *escape = n > 0 && watch_escape ? memchr(bytes, ESCAPE, (size_t)n) : NULL;
  if (escape) n = escape - bytes;
  return n > 0 && write_all(to, bytes, (gsize)n) && escape == NULL;
}

// Returns when the console was closed or the user leaves. Input that ends leaves the output
// running.
static void converse(int console, gboolean interactive) {
  struct pollfd watched[2] = {{.fd = console, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  for (;;) {
    if (poll(watched, 2, -1) < 0 && errno != EINTR) return;
    if (watched[0].revents && !copy(console, STDOUT_FILENO, FALSE)) return;
    if (!watched[1].revents || copy(STDIN_FILENO, console, interactive)) continue;
    if (interactive) return;
    watched[1].fd = -1;
  }
}

static int run_console(Session *session, int argc, char **argv) {
  if (log_only) return print_log(session, argv[0]);
  GError *error = NULL;
  g_autoptr(GUnixFDList) fds = NULL;
  GVariantBuilder call_options;
  g_variant_builder_init(&call_options, G_VARIANT_TYPE_VARDICT);
  if (force) g_variant_builder_add(&call_options, "{sv}", "force", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result =
      session_call_with_fds(session, "OpenConsole", g_variant_new("(sa{sv})", argv[0], &call_options), &fds, &error);
  int console = result && fds ? g_unix_fd_list_get(fds, 0, &error) : -1;
  if (console < 0) return session_fail(session, error);
  gboolean interactive = isatty(STDIN_FILENO);
  if (interactive) g_printerr("Connected to the console of '%s'; Ctrl-] leaves.\n", argv[0]);
  terminal_make_raw();
  converse(console, interactive);
  terminal_restore();
  close(console);
  if (interactive) g_printerr("\nLeft the console of '%s'.\n", argv[0]);
  return EXIT_OK;
}

const Command command_console = {"console",
                                 "NAME",
                                 "connect to a machine's console",
                                 "Ctrl-] leaves. Without a terminal, standard input is sent and "
                                 "output is printed until the machine stops.",
                                 1,
                                 1,
                                 options,
                                 run_console};
