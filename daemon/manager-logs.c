// Keeps small what QEMU and virtiofsd write down of machines that run, and removes it with them. See log-file.h.
#include "manager-private.h"

#include <string.h>
#include "log-file.h"

// libvirt's names: <name>.log is QEMU's, <name>-fs<n>-virtiofsd.log those of its shares' servers.
static gboolean is_of_machine(const char *file, const char *name) {
  if (!g_str_has_prefix(file, name)) return FALSE;
  const char *rest = file + strlen(name);
  return g_str_equal(rest, ".log") || (g_str_has_prefix(rest, "-fs") && g_str_has_suffix(rest, "-virtiofsd.log"));
}

// What libvirt had written down of a machine, as paths.
static GPtrArray *find_logs(const HostPaths *paths, const char *name) {
  GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
  if (paths->libvirt == NULL) return found;
  g_autofree char *directory = g_build_filename(paths->libvirt, "log", "qemu", NULL);
  g_autoptr(GDir) logs = g_dir_open(directory, 0, NULL);
  for (const char *file; logs && (file = g_dir_read_name(logs));)
    if (is_of_machine(file, name)) g_ptr_array_add(found, g_build_filename(directory, file, NULL));
  return found;
}

void logs_remove(const HostPaths *paths, const char *name) {
  g_autofree char *console = boot_console_log(paths, name);
  g_autoptr(GPtrArray) logs = find_logs(paths, name);
  log_file_remove(console);
  for (guint i = 0; i < logs->len; i++) log_file_remove(logs->pdata[i]);
}

static void rotate_logs(Machine *machine) {
  HostPaths *paths = machine->manager->paths;
  g_autofree char *console = boot_console_log(paths, machine->name);
  g_autoptr(GPtrArray) logs = find_logs(paths, machine->name);
  log_file_rotate(console);
  for (guint i = 0; i < logs->len; i++) log_file_rotate(logs->pdata[i]);
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
