// Keeps small what QEMU and virtiofsd write down of machines that run. See log-file.h.
#include "manager-private.h"

#include <string.h>
#include "log-file.h"

static gboolean is_of_machine(const char *file, const char *name) {
  gsize length = strlen(name);
  return strncmp(file, name, length) == 0 && (file[length] == '.' || g_str_has_prefix(file + length, "-fs")) &&
         g_str_has_suffix(file, ".log");
}

static void rotate_logs(Machine *machine) {
  HostPaths *paths = machine->manager->paths;
  g_autofree char *console = boot_console_log(paths, machine->name),
                  *directory = paths->libvirt ? g_build_filename(paths->libvirt, "log", "qemu", NULL) : NULL;
  log_file_rotate(console);
  g_autoptr(GDir) logs = directory ? g_dir_open(directory, 0, NULL) : NULL;
  for (const char *file; logs && (file = g_dir_read_name(logs));) {
    if (!is_of_machine(file, machine->name)) continue;
    g_autofree char *path = g_build_filename(directory, file, NULL);
    log_file_rotate(path);
  }
}

static gboolean on_log_check(gpointer user_data) {
  Manager *manager = user_data;
  GHashTableIter machines;
  Machine *machine;
  gboolean active = FALSE;
  g_hash_table_iter_init(&machines, manager->machines);
  while (g_hash_table_iter_next(&machines, NULL, (gpointer *)&machine)) {
    if (!machine_state_is_active(machine->life.state)) continue;
    active = TRUE;
    rotate_logs(machine);
  }
  if (!active) manager->log_check = 0;
  return active;
}

void manager_watch_logs(Manager *manager) {
  if (manager->log_check == 0) manager->log_check = g_timeout_add_seconds(1, on_log_check, manager);
}
