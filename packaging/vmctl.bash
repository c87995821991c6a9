# Bash completion of vmctl(1). What there is to complete is asked of vmctl itself: its commands of --help, machines of
# list, options of a command's --help.
_vmctl_machines() { vmctl "${socket[@]}" list 2>/dev/null | awk 'NR > 1 { print $1 }'; }
_vmctl_commands() { vmctl --help | awk '/^  [a-z]/ { print $1 }'; }
_vmctl_options() { vmctl "$1" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u; }

_vmctl() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' words='' socket=() i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --socket) socket=(--socket "${COMP_WORDS[i + 1]}"); i=$((i + 1)) ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ ! $command ]]; then
    [[ ${COMP_WORDS[COMP_CWORD - 1]} == --socket ]] && { compopt -o default; return; }
    words="$(_vmctl_commands) --socket --json --help --version"
  elif [[ $current == -* ]]; then
    words=$(_vmctl_options "$command")
  elif [[ $command == define || $COMP_CWORD -gt $((i + 1)) && $command =~ ^(exec|run)$ ]]; then
    compopt -o default; return
  else
    words=$(_vmctl_machines)
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _vmctl vmctl
