// See console.h.
#include "console.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

static void put(const char *text, size_t size) {
  int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t ignored = write(fd, text, size);
  (void)ignored;
  close(fd);
}

void console_say(const char *format, ...) {
  static const char prefix[] = "stele-agent: ";
  char line[1024];
  va_list arguments;
  memcpy(line, prefix, sizeof prefix);
  size_t start = sizeof prefix - 1, room = sizeof line - start - 2;
  va_start(arguments, format);
  int length = vsnprintf(line + start, room, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  size_t end = start + ((size_t)length < room ? (size_t)length : room - 1);
  line[end++] = '\r'; // the console may be in raw mode by now
  line[end++] = '\n';
  put(line, end);
}

// Only async-signal-safe calls from here on.
static void on_fatal_signal(int signal) {
  char line[] = "stele-agent: crashed with signal NN; powering off\r\n", *digits = strstr(line, "NN");
  digits[0] = (char)('0' + signal / 10 % 10);
  digits[1] = (char)('0' + signal % 10);
  put(line, sizeof line - 1);
  sync();
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

void console_guard_against_panic(void) {
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
  struct sigaction action = {.sa_handler = on_fatal_signal, .sa_flags = SA_RESETHAND};
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) sigaction(fatal[i], &action, NULL);
}
