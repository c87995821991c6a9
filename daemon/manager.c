// The registry of machines, and the way events take: libvirt or a guest reports something, the
// table in machine.c decides what it means, and machine_apply() tells observers, the state file and
// whoever waits. See manager-private.h.
#include "manager-private.h"

#include <string.h>
#include "errors.h"
#include "log-file.h"

#define CONSOLE_TAIL_BYTES 1500
#define WORKERS_MAX        64 // a worker may be kept for seconds by an agent that does not answer

// --- machines ------------------------------------------------------------------------------------

Machine *machine_ref(Machine *machine) {
  g_atomic_int_inc(&machine->references);
  return machine;
}

void machine_unref(Machine *machine) {
  if (!g_atomic_int_dec_and_test(&machine->references)) return;
  machine_guest_stop(machine);
  machine_config_free(machine->config);
  g_free(machine->name);
  g_free(machine->uuid);
  g_free(machine->message);
  g_free(machine->agent_version);
  g_free(machine->guest_state);
  g_free(machine->guest_message);
  g_free(machine);
}

Machine *manager_add_machine(Manager *manager, const char *name, const char *uuid) {
  Machine *machine = g_new0(Machine, 1);
  machine->references = 1;
  machine->manager = manager;
  machine->name = g_strdup(name);
  machine->uuid = g_strdup(uuid);
  machine->life = (MachineLife){.state = MACHINE_STOPPED, .reason = "new"};
  g_queue_init(&machine->waiters);
  g_hash_table_insert(manager->machines, machine->name, machine);
  return machine;
}

Machine *manager_find(Manager *manager, const char *name, GError **error) {
  Machine *machine = g_hash_table_lookup(manager->machines, name);
  if (machine == NULL)
    g_set_error(error, STELE_ERROR, STELE_ERROR_NO_SUCH_MACHINE,
                "there is no machine '%s': 'vmctl list' shows what there is", name);
  return machine;
}

// --- waiting -------------------------------------------------------------------------------------

typedef struct Waiter {
  Machine *machine;
  WaitFor wanted;
  char *late;
  gboolean give_up;
  guint timeout;
  ManagerDone done;
  gpointer user_data;
} Waiter;

static void waiter_finish(Waiter *waiter, const GError *error) {
  g_queue_remove(&waiter->machine->waiters, waiter);
  if (waiter->timeout) g_source_remove(waiter->timeout);
  waiter->done(NULL, error, waiter->user_data);
  machine_unref(waiter->machine);
  g_free(waiter->late);
  g_free(waiter);
}

// "…\nThe console says:\n  | line…", or nothing.
static char *console_tail(Machine *machine) {
  g_autofree char *path = boot_console_log(machine->manager->paths, machine->name);
  g_autofree char *tail = log_file_read_tail(path, CONSOLE_TAIL_BYTES);
  if (*tail == 0) return g_strdup("\nThe guest printed nothing on its console.");
  g_auto(GStrv) lines = g_strsplit(tail, "\n", -1);
  g_autofree char *joined = g_strjoinv("\n  | ", lines);
  return g_strdup_printf("\nThe end of the guest's console:\n  | %s", joined);
}

static void fail_waiter(Waiter *waiter, SteleError code, const char *text) {
  g_autofree char *tail = console_tail(waiter->machine);
  g_autoptr(GError) error =
      g_error_new(STELE_ERROR, code, "%s%s", text, waiter->wanted == WAIT_RUNNING ? tail : "");
  waiter_finish(waiter, error);
}

static gboolean on_wait_timeout(gpointer user_data) {
  Waiter *waiter = user_data;
  waiter->timeout = 0;
  if (waiter->give_up) machine_apply(waiter->machine, MACHINE_REQUEST_GIVEN_UP, NULL);
  fail_waiter(waiter, STELE_ERROR_TIMEOUT, waiter->late);
  return G_SOURCE_REMOVE;
}

// Whether the waiter is done with; finishes it if so.
static gboolean check_waiter(Waiter *waiter) {
  Machine *machine = waiter->machine;
  MachineState state = machine->life.state;
  if (state == (waiter->wanted == WAIT_RUNNING ? MACHINE_RUNNING : MACHINE_STOPPED)) {
    waiter_finish(waiter, NULL);
    return TRUE;
  }
  if (waiter->wanted == WAIT_STOPPED || !(state == MACHINE_FAILED || state == MACHINE_STOPPED))
    return FALSE;
  g_autofree char *text = g_strdup_printf(
      "machine '%s' did not come up (%s): %s", machine->name, machine->life.reason,
      machine->message && *machine->message ? machine->message : "it ended while booting");
  fail_waiter(waiter, STELE_ERROR_BOOT_FAILED, text);
  return TRUE;
}

static void check_waiters(Machine *machine) {
  for (GList *item = machine->waiters.head, *next; item; item = next) {
    next = item->next;
    check_waiter(item->data);
  }
}

void machine_wait(Machine *machine, WaitFor wanted, guint seconds, const char *late,
                  gboolean give_up, ManagerDone done, gpointer user_data) {
  Waiter *waiter = g_new0(Waiter, 1);
  *waiter = (Waiter){.machine = machine_ref(machine),
                     .wanted = wanted,
                     .late = g_strdup(late),
                     .give_up = give_up,
                     .done = done,
                     .user_data = user_data};
  g_queue_push_tail(&machine->waiters, waiter);
  if (!check_waiter(waiter))
    waiter->timeout = g_timeout_add_seconds(seconds, on_wait_timeout, waiter);
}

// --- events --------------------------------------------------------------------------------------

void machine_notify(Machine *machine, const char *event, const char *message) {
  Manager *manager = machine->manager;
  manager->observer->changed(machine->name, event, machine_state_name(machine->life.state),
                             machine->life.reason, message ? message : "", manager->user_data);
}

static void entered_stopped(Machine *machine) {
  machine_guest_stop(machine);
  machine->found = FALSE;
  if (!machine->foreign) machine_clean_up(machine);
}

gboolean machine_apply(Machine *machine, MachineEvent event, const char *message) {
  MachineLife before = machine->life;
  if (!machine_life_apply(&machine->life, event)) return FALSE;
  gboolean changed =
      before.state != machine->life.state || !g_str_equal(before.reason, machine->life.reason);
  if (!changed) return TRUE;
  machine_ref(machine);
  // A boot that failed keeps its explanation until it is stopped.
  if (message || !g_str_equal(before.reason, machine->life.reason)) {
    g_free(machine->message);
    machine->message = g_strdup(message);
  }
  if (!machine->foreign && !machine->gone)
    machine_store_note_state(machine->manager->store, machine->name,
                             machine_state_name(machine->life.state), machine->life.reason);
  if (machine->life.state == MACHINE_STOPPED && before.state != MACHINE_STOPPED)
    entered_stopped(machine);
  machine_notify(machine, "state", machine->message);
  check_waiters(machine);
  machine_unref(machine);
  return TRUE;
}

// What a person is told to do about a request that does not fit the state.
static const struct {
  MachineEvent request;
  MachineState state;
  const char *advice;
} advice[] = {
    {MACHINE_REQUEST_START, MACHINE_PAUSED, "'vmctl resume' lets it go on"},
    {MACHINE_REQUEST_START, MACHINE_FAILED, "'vmctl destroy' ends it, then it can be started"},
    {MACHINE_REQUEST_SHUTDOWN, MACHINE_PAUSED,
     "'vmctl resume' it first, or end it with 'vmctl destroy'"},
    {MACHINE_REQUEST_SHUTDOWN, MACHINE_FAILED, "'vmctl destroy' ends it"},
    {MACHINE_REQUEST_REBOOT, MACHINE_FAILED, "'vmctl destroy' and 'vmctl start' it"},
    {MACHINE_REQUEST_REBOOT, MACHINE_BOOTING, "it is booting already"},
};

gboolean machine_request(Machine *machine, MachineEvent request, const char *verb, GError **error) {
  const char *hint = NULL;
  if (machine->changing) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE,
                "cannot %s '%s': its definition is being changed", verb, machine->name);
    return FALSE;
  }
  if (machine_life_accepts(&machine->life, request)) return machine_apply(machine, request, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(advice); i++)
    if (advice[i].request == request && advice[i].state == machine->life.state)
      hint = advice[i].advice;
  if (hint == NULL && request == MACHINE_REQUEST_UNDEFINE)
    hint = "stop it first ('vmctl shutdown' or 'vmctl destroy')";
  g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot %s '%s': it is %s (%s)%s%s",
              verb, machine->name, machine_state_name(machine->life.state), machine->life.reason,
              hint ? ": " : "", hint ? hint : "");
  return FALSE;
}

// See manager-private.h: before userspace has run, a reset or power-off means that the boot failed.
gboolean machine_is_booting(Machine *machine) {
  return machine->config && machine->life.state == MACHINE_BOOTING && !machine->found;
}

static void on_reset(Machine *machine) {
  machine_guest_drain(machine);
  if (machine_is_booting(machine)) {
    machine_end_failed_boot(machine, "the guest restarted before an init ran");
    return;
  }
  machine->found = FALSE;
  machine_guest_reset(machine);
  machine_apply(machine, MACHINE_GUEST_RESET, NULL);
}

static void on_powered_off(Machine *machine) {
  machine_guest_drain(machine); // a short command may have come and gone before its news were read
  if (machine_is_booting(machine))
    machine_apply(machine, MACHINE_BOOT_FAILED, "the guest powered off before an init ran");
  gboolean exited = machine->command_ended && machine->life.state == MACHINE_RUNNING;
  machine_apply(machine, exited ? MACHINE_COMMAND_EXITED : MACHINE_POWERED_OFF,
                exited ? machine->guest_message : NULL);
}

static void on_started_elsewhere(Machine *machine) {
  if (machine->manager->paths->libvirt || machine->life.state != MACHINE_STOPPED) return;
  machine->found = TRUE;
  machine_apply(machine, MACHINE_FOUND, "started by another client of libvirt");
  machine_guest_start(machine, -1);
}

static void on_event(const char *name, HypervisorEvent event, gpointer user_data) {
  Manager *manager = user_data;
  Machine *machine = name ? g_hash_table_lookup(manager->machines, name) : NULL;
  if (event == HYPERVISOR_DISCONNECTED) manager->observer->disconnected(manager->user_data);
  if (machine == NULL) return;
  machine_ref(machine);
  switch (event) {
  case HYPERVISOR_STARTED:
    on_started_elsewhere(machine);
    break;
  case HYPERVISOR_SUSPENDED:
    machine_apply(machine, MACHINE_SUSPENDED, NULL);
    break;
  case HYPERVISOR_HOST_PAUSED:
    machine_apply(machine, MACHINE_HOST_PAUSED, "a disk of it is full or failing");
    break;
  case HYPERVISOR_RESUMED:
    machine_apply(machine, MACHINE_RESUMED, NULL);
    machine_guest_set_clock(machine);
    break;
  case HYPERVISOR_RESET:
    on_reset(machine);
    break;
  case HYPERVISOR_POWERED_OFF:
    on_powered_off(machine);
    break;
  case HYPERVISOR_DESTROYED:
    machine_apply(machine, MACHINE_DESTROYED, NULL);
    break;
  case HYPERVISOR_DIED:
    machine_apply(machine, MACHINE_DIED, "QEMU ended by itself or was killed");
    break;
  case HYPERVISOR_DISCONNECTED:
    break;
  }
  machine_unref(machine);
}

// --- logs ----------------------------------------------------------------------------------------

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

// --- starting ------------------------------------------------------------------------------------

// A machine as the store and libvirt know it after steled, or the host, was started anew.
static void restore_machine(Machine *machine, const char *author_xml,
                            const HypervisorDomain *domain) {
  Manager *manager = machine->manager;
  g_autoptr(GError) error = NULL;
  g_autoptr(BootPlan) plan = boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor),
                                           author_xml, machine->uuid, &error);
  if (plan) machine->config = g_steal_pointer(&plan->config);
  g_autofree char *state = NULL, *reason = NULL;
  gboolean recalled = machine_store_recall_state(manager->store, machine->name, &state, &reason);
  if (recalled && g_str_equal(state, "stopped"))
    machine->life.reason = machine_reason_intern(reason);
  if (error) machine->message = g_strdup(error->message);
  if (domain && domain->active) {
    machine->found = TRUE;
    machine_apply(machine, domain->paused ? MACHINE_FOUND_PAUSED : MACHINE_FOUND, NULL);
    if (machine->config == NULL) machine_apply(machine, MACHINE_GUEST_READY, NULL);
    machine_guest_start(machine, domain->id);
  } else if (recalled && !g_str_equal(state, "stopped")) {
    machine_apply(machine, MACHINE_FOUND_ENDED, "it ended while no steled was watching");
    machine_clean_up(machine);
  }
}

static HypervisorDomain *take_domain(GPtrArray *domains, const char *name) {
  for (guint i = 0; i < domains->len; i++) {
    HypervisorDomain *domain = domains->pdata[i];
    if (g_str_equal(domain->name, name)) return g_ptr_array_steal_index(domains, i);
  }
  return NULL;
}

static gboolean restore_stored(Manager *manager, GPtrArray *domains, GError **error) {
  g_autoptr(GPtrArray) names = machine_store_list(manager->store, error);
  for (guint i = 0; names && i < names->len; i++) {
    const char *name = names->pdata[i];
    HypervisorDomain *domain = take_domain(domains, name);
    g_autofree char *xml = machine_store_read(manager->store, name, NULL),
                    *own = g_uuid_string_random();
    restore_machine(manager_add_machine(manager, name, domain ? domain->uuid : own), xml ? xml : "",
                    domain);
    if (domain) hypervisor_domain_free(domain);
  }
  return names != NULL;
}

// Domains of libvirt's that are not in the store. In the embedded libvirt, which is ours alone, an
// idle one is what a definition left that was cut short before it was stored: it never was a
// machine. Elsewhere they are other people's.
static void restore_foreign(Manager *manager, GPtrArray *domains) {
  for (guint i = 0; i < domains->len; i++) {
    HypervisorDomain *domain = domains->pdata[i];
    if (manager->paths->libvirt && !domain->active) {
      hypervisor_undefine(manager->hypervisor, domain->name, NULL);
      continue;
    }
    g_autofree char *xml = hypervisor_dump_xml(manager->hypervisor, domain->name, TRUE, NULL);
    Machine *machine = manager_add_machine(manager, domain->name, domain->uuid);
    machine->foreign = TRUE;
    restore_machine(machine, xml ? xml : "", domain);
  }
}

Manager *manager_new(HostPaths *paths, const ManagerObserver *observer, gpointer user_data,
                     GError **error) {
  Manager *manager = g_new0(Manager, 1);
  manager->paths = paths;
  manager->observer = observer;
  manager->user_data = user_data;
  manager->machines =
      g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)machine_unref);
  manager->defining = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  manager->workers = g_thread_pool_new(job_worker, manager, WORKERS_MAX, FALSE, NULL);
  manager->store = machine_store_open(paths->machines, error);
  if (manager->store) manager->hypervisor = hypervisor_open(paths->uri, on_event, manager, error);
  g_autoptr(GPtrArray) domains =
      manager->hypervisor ? hypervisor_list(manager->hypervisor, error) : NULL;
  if (domains == NULL || !restore_stored(manager, domains, error)) {
    manager_free(manager);
    return NULL;
  }
  restore_foreign(manager, domains);
  return manager;
}

void manager_free(Manager *manager) {
  if (manager == NULL) return;
  g_thread_pool_free(manager->workers, FALSE, TRUE);
  if (manager->log_check) g_source_remove(manager->log_check);
  g_hash_table_unref(manager->machines);
  g_hash_table_unref(manager->defining);
  hypervisor_close(manager->hypervisor);
  machine_store_close(manager->store);
  g_free(manager);
}
