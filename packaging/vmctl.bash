# Bash completion of vmctl(1), which knows its own commands.
eval "$(vmctl completion bash)"
