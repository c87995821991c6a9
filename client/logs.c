// vmctl logs: what a machine's console has printed, and goes on printing.
#include "vmctl.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MAX   (1024 * 1024)
#define LOOK_MS   200 // a file that grows makes no descriptor readable (poll(2))
#define LINES_ALL (-1)

static gboolean follow;
static int lines = LINES_ALL, boot;
static const GOptionEntry options[] = {
    {"follow", 'f', 0, G_OPTION_ARG_NONE, &follow, "Go on until the machine stops", NULL},
    {"boot", 'b', 0, G_OPTION_ARG_INT, &boot, "0: since the machine was started (the default); -1: the time before",
     "N"},
    {"tail", 'n', 0, G_OPTION_ARG_INT, &lines, "Only the last N lines", "N"},
    {NULL}};

static const char *last_lines(const char *text, gsize size) {
  const char *at = text + size;
  int left = lines;
  if (left < 0) return text;
  if (size && at[-1] == '\n') at--;
  for (; at > text; at--)
    if (at[-1] == '\n' && --left <= 0) break;
  return lines == 0 ? text + size : at;
}

static gboolean has_stopped(Session *session, const char *name) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GVariant) result = session_call(session, "Info", g_variant_new("(s)", name), &error);
  g_autoptr(GVariant) info = result ? g_variant_get_child_value(result, 0) : NULL;
  return info == NULL || g_str_equal(lookup_string(info, "state"), "stopped");
}

// TRUE when there was something, and somebody who takes it.
static gboolean print_more(int fd, goffset *position) {
  char bytes[65536];
  struct stat status;
  if (fstat(fd, &status) == 0 && status.st_size < *position) *position = 0; // it was emptied
  ssize_t n = pread(fd, bytes, sizeof bytes, *position);
  if (n <= 0) return FALSE;
  *position += n;
  return print_text(bytes, (gsize)n);
}

static int print_following(Session *session, const char *name, int fd, goffset position) {
  for (guint turns = 1;; turns++) {
    if (print_more(fd, &position)) continue;
    if (output_is_lost()) return EXIT_OK;
    if (turns % 5 == 0 && has_stopped(session, name)) break;
    g_usleep(LOOK_MS * 1000);
  }
  while (print_more(fd, &position)) {
  }
  return EXIT_OK;
}

static int run_logs(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GUnixFDList) fds = NULL;
  if (boot < -1 || boot > 0 || (boot && follow)) {
    print_error(session, NULL, EXIT_USAGE,
                boot && follow ? "logs: what has ended cannot be followed" : "logs: --boot is 0 or -1");
    return EXIT_USAGE;
  }
  g_autoptr(GVariant) opened =
      follow ? session_call_with_fds(session, "OpenConsoleLog", g_variant_new("(s)", argv[0]), &fds, &error) : NULL;
  int fd = fds ? g_unix_fd_list_get(fds, 0, NULL) : -1;
  if (error) return session_fail(session, error);
  struct stat status = {0};
  goffset position = fd >= 0 && fstat(fd, &status) == 0 ? status.st_size : 0;
  g_autoptr(GVariant) result = session_call(session, boot ? "ReadFormerConsoleLog" : "ReadConsoleLog",
                                            g_variant_new("(su)", argv[0], LOG_MAX), &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) bytes = g_variant_get_child_value(result, 0);
  gsize size = 0;
  const char *text = g_variant_get_fixed_array(bytes, &size, 1), *from = last_lines(text, size);
  if (!print_text(from, (gsize)(text + size - from))) return EXIT_OK;
  // What came between the two calls is in both.
  if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > position) position = status.st_size;
  return fd >= 0 ? print_following(session, argv[0], fd, position) : EXIT_OK;
}

const Command command_logs = {"logs",  "NAME",  "print what a machine's console has printed", NULL, 1, 1,
                              options, run_logs};
