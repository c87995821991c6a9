// vmctl: the command line of steled. This file is the table of subcommands and the reading of their
// options.
#include "vmctl.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const Command *const commands[] = {
    &command_define,  &command_undefine, &command_start,   &command_shutdown,
    &command_destroy, &command_reboot,   &command_suspend, &command_resume,
    &command_list,    &command_info,     &command_dumpxml, &command_console,
    &command_shell,   &command_exec,     &command_events,  &command_version,
};

static void print_usage(void) {
  g_print("usage: vmctl [--socket PATH] [--json] COMMAND [OPTIONS] [ARGUMENTS]\n\n");
  for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
    g_print("  %-10s %s\n", commands[i]->name, commands[i]->summary);
  g_print("\n'vmctl COMMAND --help' tells more; see vmctl(1) for exit codes.\n");
}

static const Command *find_command(const char *name) {
  for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
    if (g_str_equal(commands[i]->name, name)) return commands[i];
  return NULL;
}

static int usage_error(const Command *command, const char *trouble) {
  g_printerr("vmctl %s: %s\nusage: vmctl %s [OPTIONS] %s\n", command->name, trouble, command->name,
             command->arguments);
  return EXIT_USAGE;
}

static GOptionContext *make_context(const Command *command, Session *session) {
  const GOptionEntry common[] = {
      {"json", 0, 0, G_OPTION_ARG_NONE, &session->json, "Print results as JSON", NULL}, {NULL}};
  GOptionContext *context = g_option_context_new(command->arguments);
  g_autofree char *summary = g_strdup_printf("vmctl %s: %s", command->name, command->summary);
  g_option_context_set_summary(context, summary);
  g_option_context_set_description(context, command->details);
  g_option_context_set_strict_posix(context, command->most < 0);
  if (command->options) g_option_context_add_main_entries(context, command->options, NULL);
  g_option_context_add_main_entries(context, common, NULL);
  return context;
}

static int run_command(Session *session, const Command *command, int argc, char **argv) {
  g_autofree char *program = g_strdup_printf("vmctl %s", command->name);
  argv[0] = program;
  g_set_prgname(program);
  g_autoptr(GOptionContext) context = make_context(command, session);
  g_autoptr(GError) error = NULL;
  if (!g_option_context_parse(context, &argc, &argv, &error))
    return usage_error(command, error->message);
  if (argc > 1 && g_str_equal(argv[1], "--")) argv++, argc--;
  if (argc - 1 < command->least) return usage_error(command, "something is missing");
  if (command->most >= 0 && argc - 1 > command->most)
    return usage_error(command, "there is too much");
  return command->run(session, argc - 1, argv + 1);
}

// Options before the subcommand; *argv is moved to it.
static gboolean read_global_options(int *argc, char ***argv, Session *session) {
  while (*argc > 1 && (*argv)[1][0] == '-') {
    const char *option = (*argv)[1], *value = NULL;
    int used = 1;
    if (g_str_equal(option, "--json"))
      session->json = TRUE;
    else if (g_str_has_prefix(option, "--socket="))
      value = option + strlen("--socket=");
    else if (g_str_equal(option, "--socket") && *argc > 2)
      value = (*argv)[2], used = 2;
    else
      return g_str_equal(option, "--help") || g_str_equal(option, "-h") ||
             g_str_equal(option, "--version");
    if (value) session->socket = value;
    *argc -= used;
    *argv += used;
  }
  return TRUE;
}

int main(int argc, char **argv) {
  setlocale(LC_ALL, "");
  signal(SIGPIPE, SIG_IGN);
  g_autofree char *socket = default_socket();
  Session session = {.socket = socket};
  gboolean good = read_global_options(&argc, &argv, &session);
  if (good && argc > 1 &&
      (g_str_equal(argv[1], "--help") || g_str_equal(argv[1], "-h") ||
       g_str_equal(argv[1], "help"))) {
    print_usage();
    return EXIT_OK;
  }
  if (good && argc > 1 && g_str_equal(argv[1], "--version")) {
    g_print("vmctl " STELE_VERSION "\n");
    return EXIT_OK;
  }
  const Command *command = good && argc > 1 ? find_command(argv[1]) : NULL;
  if (command == NULL) {
    g_printerr("vmctl: %s%s\nTry 'vmctl --help'.\n",
               argc == 1 ? "a command is missing"
               : good    ? "there is no command "
                         : "there is no option ",
               argc == 1 ? "" : argv[1]);
    return EXIT_USAGE;
  }
  int code = run_command(&session, command, argc - 1, argv + 1);
  g_clear_object(&session.steled);
  return code;
}
