// See terminal.h.
#include "terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios original;
static volatile sig_atomic_t is_raw;

static void restore(int when) {
  if (is_raw) tcsetattr(STDIN_FILENO, when, &original);
  is_raw = 0;
}

void terminal_restore(void) {
  restore(TCSADRAIN);
}

// What has been written is not waited for: the terminal may be stopped, or nobody may read it any more.
static void on_fatal_signal(int signal_number) {
  restore(TCSANOW);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void terminal_make_raw(void) {
  static const int fatal[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGSEGV, SIGBUS, SIGABRT};
  if (is_raw || tcgetattr(STDIN_FILENO, &original) < 0) return;
  struct termios raw = original;
  cfmakeraw(&raw);
  for (size_t i = 0; i < G_N_ELEMENTS(fatal); i++) signal(fatal[i], on_fatal_signal);
  atexit(terminal_restore);
  is_raw = 1;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

gboolean terminal_is_interactive(void) {
  return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void terminal_get_size(guint *ret_rows, guint *ret_columns) {
  struct winsize size = {0};
  if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0) ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  *ret_rows = size.ws_row;
  *ret_columns = size.ws_col;
}

gboolean write_all(int fd, const void *bytes, gsize size) {
  const char *position = bytes;
  while (size > 0) {
    ssize_t n = write(fd, position, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FALSE;
    position += n;
    size -= (gsize)n;
  }
  return TRUE;
}
