// vmctl completion: scripts for shells, made of the table of subcommands; names of machines and images are asked for.
#include "vmctl.h"

#include <string.h>

#define NAMES  "vmctl list 2>/dev/null | sed 1d | cut -d\" \" -f1"
#define IMAGES "vmctl image list 2>/dev/null | sed 1d | cut -d\" \" -f1"

static char *command_names(void) {
  GString *names = g_string_new(NULL);
  for (const Command *const *command = all_commands; *command; command++)
    g_string_append_printf(names, "%s%s", names->len ? " " : "", (*command)->name);
  return g_string_free(names, FALSE);
}

// Options are those that a subcommand's --help names; --socket is handed to what asks
// for names; another host is not asked, since ssh may want a password.
static void print_bash(void) {
  g_autofree char *names = command_names();
  g_print("_vmctl_ask() { [[ $remote ]] || vmctl \"${socket[@]}\" \"$@\" list 2>/dev/null | sed 1d | cut -d' ' -f1; }\n"
          "_vmctl_options() { vmctl \"$1\" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u; }\n"
          "_vmctl() {\n"
          "  local word=${COMP_WORDS[COMP_CWORD]} command= words= files= remote= socket=() i\n"
          "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "    case ${COMP_WORDS[i]} in\n"
          "      --socket) socket=(--socket \"${COMP_WORDS[i + 1]}\"); i=$((i + 1)) ;;\n"
          "      --host) remote=1 i=$((i + 1)) ;;\n"
          "      -*) ;;\n"
          "      *) command=${COMP_WORDS[i]}; break ;;\n"
          "    esac\n"
          "  done\n"
          "  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == --socket ]]; then files=-f\n"
          "  elif [[ ! $command ]]; then words='%s --socket --host --json --help --version'\n"
          "  elif [[ $word == -* ]]; then words=$(_vmctl_options \"$command\")\n"
          "  elif [[ $command == image && COMP_CWORD -eq i+1 ]]; then words='pull import list inspect remove prune'\n"
          "  elif [[ $command == snapshot && COMP_CWORD -eq i+2 ]]; then words='create restore remove list'\n"
          "  elif [[ $command == image || $command == run ]]; then files=-f words=$(_vmctl_ask image)\n"
          "  else files=-f words=$(_vmctl_ask)\n"
          "  fi\n"
          "  mapfile -t COMPREPLY < <(compgen $files -W \"$words\" -- \"$word\")\n"
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
          "  elif [[ $words[2] == snapshot && CURRENT -eq 4 ]]; then compadd create restore remove list\n"
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
          "complete -c vmctl -n '__fish_seen_subcommand_from snapshot' -f -a 'create restore remove list'\n"
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
