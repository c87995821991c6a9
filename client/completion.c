// vmctl completion: scripts for shells, made of the table of subcommands; names of machines and images are asked for.
#include "vmctl.h"

#include <string.h>

#define NAMES  "vmctl list 2>/dev/null | sed 1d | cut -d' ' -f1"
#define IMAGES "vmctl image list 2>/dev/null | sed 1d | cut -d' ' -f1"

static char *command_names(void) {
  GString *names = g_string_new(NULL);
  for (const Command *const *command = all_commands; *command; command++)
    g_string_append_printf(names, "%s%s", names->len ? " " : "", (*command)->name);
  return g_string_free(names, FALSE);
}

static void print_bash(void) {
  g_autofree char *names = command_names();
  g_print("_vmctl() {\n"
          "  local word=${COMP_WORDS[COMP_CWORD]}\n"
          "  if ((COMP_CWORD == 1)); then\n"
          "    COMPREPLY=($(compgen -W '%s' -- \"$word\"))\n"
          "  elif [[ ${COMP_WORDS[1]} == image && COMP_CWORD -eq 2 ]]; then\n"
          "    COMPREPLY=($(compgen -W 'pull import list inspect remove prune' -- \"$word\"))\n"
          "  elif [[ ${COMP_WORDS[1]} == image || ${COMP_WORDS[1]} == run ]]; then\n"
          "    COMPREPLY=($(compgen -f -W \"$(" IMAGES ")\" -- \"$word\"))\n"
          "  else\n"
          "    COMPREPLY=($(compgen -f -W \"$(" NAMES ")\" -- \"$word\"))\n"
          "  fi\n"
          "}\n"
          "complete -F _vmctl vmctl\n",
          names);
}

static void print_zsh(void) {
  g_print("#compdef vmctl\n"
          "_vmctl() {\n"
          "  local -a commands\n"
          "  commands=(\n");
  for (const Command *const *command = all_commands; *command; command++) {
    g_autofree char *row = g_strdup_printf("%s:%s", (*command)->name, (*command)->summary),
                    *quoted = g_shell_quote(row);
    g_print("    %s\n", quoted);
  }
  g_print("  )\n"
          "  if ((CURRENT == 2)); then _describe command commands\n"
          "  elif [[ $words[2] == image && CURRENT -eq 3 ]]; then compadd pull import list inspect remove prune\n"
          "  elif [[ $words[2] == image || $words[2] == run ]]; then compadd $(" IMAGES ")\n"
          "  else compadd $(" NAMES "); _files\n"
          "  fi\n"
          "}\n"
          "compdef _vmctl vmctl\n");
}

static void print_fish(void) {
  for (const Command *const *command = all_commands; *command; command++) {
    g_autofree char *quoted = g_shell_quote((*command)->summary);
    g_print("complete -c vmctl -n __fish_use_subcommand -f -a %s -d %s\n", (*command)->name, quoted);
  }
  g_print("complete -c vmctl -n '__fish_seen_subcommand_from image' -f -a 'pull import list inspect remove prune'\n"
          "complete -c vmctl -n '__fish_seen_subcommand_from image run' -f -a '(" IMAGES ")'\n"
          "complete -c vmctl -n 'not __fish_use_subcommand' -a '(" NAMES ")'\n");
}

static const struct {
  const char *shell;
  void (*print)(void);
} shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

static int run_completion(Session *session, int argc, char **argv) {
  for (gsize i = 0; i < G_N_ELEMENTS(shells); i++) {
    if (!g_str_equal(shells[i].shell, argv[0])) continue;
    shells[i].print();
    return EXIT_OK;
  }
  print_error(session, NULL, EXIT_USAGE, "completion: bash, zsh and fish are there");
  return EXIT_USAGE;
}

const Command command_completion = {"completion",
                                    "bash|zsh|fish",
                                    "print a shell's completion of vmctl's commands and names",
                                    "For bash: source <(vmctl completion bash)",
                                    1,
                                    1,
                                    NULL,
                                    run_completion};
