// vmctl: the command line of steled. This file is the table of subcommands and the reading of their
// options.
#include "vmctl.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const Command *const all_commands[] = {
    &command_define,    &command_undefine,   &command_start,     &command_shutdown, &command_destroy,
    &command_reboot,    &command_suspend,    &command_resume,    &command_list,     &command_info,
    &command_dumpxml,   &command_console,    &command_shell,     &command_exec,     &command_events,
    &command_doctor,    &command_version,    &command_image,     &command_create,   &command_run,
    &command_logs,      &command_wait,       &command_stats,     &command_top,      &command_edit,
    &command_clone,     &command_rename,     &command_snapshot,  &command_port,     &command_explain,
    &command_cp,        &command_set,        &command_autostart, &command_share,    &command_ssh_config,
    &command_ssh_proxy, &command_completion, &command_translate, &command_cache,    NULL,
};

// What people type who come from docker, virsh and the shell.
static const struct {
  const char *alias, *name;
} aliases[] = {{"ls", "list"},      {"ps", "list"},       {"rm", "undefine"},    {"stop", "shutdown"},
               {"kill", "destroy"}, {"pause", "suspend"}, {"unpause", "resume"}, {"inspect", "info"}};

static void print_usage(void) {
  g_print("usage: vmctl [--host [USER@]HOST] [--socket PATH] [--json] COMMAND [OPTIONS] [ARGUMENTS]\n\n");
  for (size_t i = 0; all_commands[i]; i++) g_print("  %-10s %s\n", all_commands[i]->name, all_commands[i]->summary);
  g_print("\nAlso:");
  for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++)
    g_print(" %s (%s)%s", aliases[i].alias, aliases[i].name, i + 1 < G_N_ELEMENTS(aliases) ? "," : "\n");
  g_print("'vmctl COMMAND --help' tells more; see vmctl(1) for exit codes.\n");
}

static const Command *find_command(const char *name) {
  for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++)
    if (g_str_equal(aliases[i].alias, name)) name = aliases[i].name;
  for (size_t i = 0; all_commands[i]; i++)
    if (g_str_equal(all_commands[i]->name, name)) return all_commands[i];
  return NULL;
}

#define WORD_MAX 20 // no command is as long

// How many letters were added, left out, changed or swapped with the next (the optimal string alignment distance).
static guint distance(const char *a, const char *b) {
  guint table[WORD_MAX + 1][WORD_MAX + 1], m = (guint)strlen(a), n = (guint)strlen(b);
  if (m > WORD_MAX || n > WORD_MAX) return G_MAXUINT;
  for (guint i = 0; i <= m; i++)
    for (guint k = 0; k <= n; k++) {
      table[i][k] = i ? (k ? G_MAXUINT : i) : k;
      if (i == 0 || k == 0) continue;
      table[i][k] = MIN(MIN(table[i - 1][k], table[i][k - 1]) + 1, table[i - 1][k - 1] + (a[i - 1] != b[k - 1]));
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
        table[i][k] = MIN(table[i][k], table[i - 2][k - 2] + 1);
    }
  return table[m][n];
}

// The command somebody may have meant: at most two letters off, and fewer than it has left; or NULL.
static const char *suggest(const char *name) {
  const char *nearest = NULL;
  guint least = MIN(3, (guint)strlen(name));
  for (size_t i = 0; all_commands[i]; i++) {
    guint off = distance(name, all_commands[i]->name);
    if (off >= least) continue;
    least = off;
    nearest = all_commands[i]->name;
  }
  return nearest;
}

static int usage_error(Session *session, const Command *command, const char *trouble) {
  g_autofree char *message = g_strdup_printf("%s: %s\nusage: vmctl %s [OPTIONS] %s", command->name, trouble,
                                             command->name, command->arguments);
  print_error(session, NULL, EXIT_USAGE, message);
  return EXIT_USAGE;
}

static int without_value(Session *session, const char *option) {
  g_autofree char *message = g_strdup_printf("the option '%s' needs a value: try 'vmctl --help'", option);
  print_error(session, NULL, EXIT_USAGE, message);
  return EXIT_USAGE;
}

static int unknown(Session *session, const char *what, const char *name) {
  const char *meant = g_str_equal(what, "command") ? suggest(name) : NULL;
  g_autofree char *hint = meant ? g_strdup_printf("did you mean '%s'?", meant) : g_strdup("try 'vmctl --help'");
  g_autofree char *message = g_strdup_printf("there is no %s '%s': %s", what, name, hint);
  print_error(session, NULL, EXIT_USAGE, message);
  return EXIT_USAGE;
}

static GOptionContext *make_context(const Command *command, Session *session) {
  const GOptionEntry common[] = {{"json", 0, 0, G_OPTION_ARG_NONE, &session->json, "Print results as JSON", NULL},
                                 {NULL}};
  GOptionContext *context = g_option_context_new(command->arguments);
  g_autofree char *summary = g_strdup_printf("vmctl %s: %s", command->name, command->summary);
  g_option_context_set_summary(context, summary);
  g_option_context_set_description(context, command->details);
  g_option_context_set_strict_posix(context, command->most == -1);
  if (command->options) g_option_context_add_main_entries(context, command->options, NULL);
  g_option_context_add_main_entries(context, common, NULL);
  return context;
}

// The API's strings are, and what is not would be left out there.
static gboolean are_utf8(Session *session, const Command *command, int argc, char **argv, int *ret_code) {
  for (int i = 0; i < argc; i++) {
    if (g_utf8_validate(argv[i], -1, NULL)) continue;
    g_autofree char *trouble = g_strdup_printf("'%s' is not UTF-8, as names and arguments have to be", argv[i]);
    *ret_code = usage_error(session, command, trouble);
    return FALSE;
  }
  return TRUE;
}

// Of words that could not be read, and left no option set (g_option_context_parse()). Behind the first that is none, a
// command that runs a program has that program's.
static gboolean asks_for_json(const Command *command, int argc, char **argv) {
  for (int i = 1; i < argc && !g_str_equal(argv[i], "--"); i++) {
    if (g_str_equal(argv[i], "--json")) return TRUE;
    if (command->most == -1 && argv[i][0] != '-') return FALSE;
  }
  return FALSE;
}

static int run_command(Session *session, const Command *command, int argc, char **argv) {
  g_autofree char *program = g_strdup_printf("vmctl %s", command->name);
  argv[0] = program;
  g_set_prgname(program);
  g_autoptr(GOptionContext) context = make_context(command, session);
  g_autoptr(GError) error = NULL;
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    session->json |= asks_for_json(command, argc, argv);
    return usage_error(session, command, error->message);
  }
  if (argc > 1 && g_str_equal(argv[1], "--")) argv++, argc--;
  if (argc - 1 < command->least) return usage_error(session, command, "something is missing");
  if (command->most >= 0 && argc - 1 > command->most) return usage_error(session, command, "there is too much");
  int code;
  if (!are_utf8(session, command, argc - 1, argv + 1, &code)) return code;
  return command->run(session, argc - 1, argv + 1);
}

static const char *const options_with_value[] = {"--socket", "--host", NULL};
static const char *const help_words[] = {"--help", "-h", "help", NULL}, *const version_words[] = {"--version", "-v",
                                                                                                  "-V", NULL};

static gboolean is_one_of(const char *word, const char *const *words) {
  return g_strv_contains(words, word);
}

// The value of `--NAME VALUE` or `--NAME=VALUE`; NULL: it is another option, or has none.
static const char *global_value(const char *name, int argc, char **argv, int *ret_used) {
  gsize length = strlen(name);
  if (strncmp(argv[1], name, length) != 0) return NULL;
  *ret_used = argv[1][length] == '=' ? 1 : 2;
  if (argv[1][length] == '=') return argv[1] + length + 1;
  return argv[1][length] == 0 && argc > 2 ? argv[2] : NULL;
}

// Options before the subcommand; *argv is moved to it.
static gboolean read_global_options(int *argc, char ***argv, Session *session) {
  while (*argc > 1 && (*argv)[1][0] == '-') {
    const char *option = (*argv)[1], *value = NULL;
    int used = 1;
    if (g_str_equal(option, "--json"))
      session->json = TRUE;
    else if ((value = global_value("--socket", *argc, *argv, &used)))
      session->socket = value, session->socket_given = TRUE;
    else if ((value = global_value("--host", *argc, *argv, &used)))
      session->host = value;
    else
      return is_one_of(option, help_words) || is_one_of(option, version_words);
    *argc -= used;
    *argv += used;
  }
  return TRUE;
}

// What was started without standard input, output or error must not have a connection in their place.
static void open_standard_streams(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// Arguments, names and documents are UTF-8, also where nobody has chosen a locale, as in a cron job or a container.
static void choose_locale(void) {
  setlocale(LC_ALL, "");
  if (!g_get_charset(NULL)) setlocale(LC_CTYPE, "C.UTF-8");
}

int main(int argc, char **argv) {
  open_standard_streams();
  choose_locale();
  output_open();
  signal(SIGPIPE, SIG_IGN);
  g_autofree char *socket = default_socket();
  Session session = {.socket = socket};
  gboolean good = read_global_options(&argc, &argv, &session);
  const char *word = argc > 1 ? argv[1] : NULL;
  if (word && is_one_of(word, help_words)) {
    print_usage();
    return output_finish(&session, EXIT_OK);
  }
  if (word && is_one_of(word, version_words)) {
    g_print("vmctl " STELE_VERSION "\n");
    return output_finish(&session, EXIT_OK);
  }
  if (word == NULL) {
    print_error(&session, NULL, EXIT_USAGE, "a command is missing: try 'vmctl --help'");
    return EXIT_USAGE;
  }
  if (!good && is_one_of(word, options_with_value)) return without_value(&session, word);
  const Command *command = good ? find_command(word) : NULL;
  if (command == NULL) return unknown(&session, good ? "command" : "option", word);
  argv[1] = (char *)command->name; // not its alias
  // ssh itself runs here, and gets to that host by the command it is told.
  if (session.host && command != &command_ssh_config) return run_on_host(&session, session.host, argc - 1, argv + 1);
  int code = run_command(&session, command, argc - 1, argv + 1);
  g_clear_object(&session.steled);
  return output_finish(&session, code);
}
