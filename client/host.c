// vmctl --host: the same command by the vmctl of another host, over ssh(1), with its account and keys. The API's
// descriptors (consoles, programs' streams) cannot leave a host, so that it is not the socket that is forwarded.
#include "vmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

// Those that are used at a terminal get one there.
static const char *const at_terminal[] = {"shell", "console", "exec", "run", "edit", "top", NULL};

static void add_word(GString *line, const char *word) {
  g_autofree char *quoted = g_shell_quote(word);
  g_string_append_printf(line, "%s%s", line->len ? " " : "", quoted);
}

// A definition is read here, whatever it is called there.
static gboolean open_definition(Session *session, int argc, char **argv) {
  char **file = argc > 1 ? &argv[argc - 1] : NULL;
  if (file == NULL || **file == '-') return TRUE;
  int fd = open(*file, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || dup2(fd, STDIN_FILENO) < 0) {
    g_autofree char *message = g_strdup_printf("%s: %s", *file, g_strerror(errno));
    print_error(session, NULL, EXIT_OTHER, message);
    return FALSE;
  }
  *file = "-";
  return TRUE;
}

static gboolean refuse(Session *session, const char *message) {
  print_error(session, NULL, EXIT_USAGE, message);
  return FALSE;
}

// What would mean another file than the one that is meant.
static gboolean check(Session *session, const char *host, const char *command) {
  if (*host == 0 || *host == '-') return refuse(session, "--host takes [USER@]HOST, as ssh does");
  if (g_str_equal(command, "cp"))
    return refuse(session, "cp has no --host, for its files would be that host's: "
                           "'tar -c … | vmctl --host HOST exec NAME tar -x' copies into a machine");
  return TRUE;
}

int run_on_host(Session *session, const char *host, int argc, char **argv) {
  const char *command = argv[0];
  if (!check(session, host, command)) return EXIT_USAGE;
  if (g_str_equal(command, "define") && !open_definition(session, argc, argv)) return EXIT_OTHER;
  g_autoptr(GString) line = g_string_new("vmctl");
  if (session->socket_given) add_word(line, "--socket"), add_word(line, session->socket);
  if (session->json) add_word(line, "--json");
  for (int i = 0; i < argc; i++) add_word(line, argv[i]);
  gboolean terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && g_strv_contains(at_terminal, command);
  execlp("ssh", "ssh", terminal ? "-qt" : "-T", "--", host, line->str, NULL);
  g_autofree char *message = g_strdup_printf("cannot start ssh: %s", g_strerror(errno));
  print_error(session, NULL, EXIT_UNREACHABLE, message);
  return EXIT_UNREACHABLE;
}
