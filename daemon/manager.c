// The manager put together: what libvirt reports and what that means for a machine (the table in machine.c decides),
// and the machines there are when steled starts. See manager-private.h.
#include "manager-private.h"

#include <string.h>

#define PULLERS_MAX 8  // more pulls wait
#define WORKERS_MAX 64 // a worker may be kept for seconds by a QEMU that does not answer

// --- events ---------------------------------------------------------------------------------------

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
  machine_apply(machine, exited ? MACHINE_COMMAND_EXITED : MACHINE_POWERED_OFF, exited ? machine->guest_message : NULL);
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

// --- starting -------------------------------------------------------------------------------------

static void on_stopped(Machine *machine) {
  machine_discard_when_due(machine, FALSE);
}

static const ManagerHooks hooks = {
    .ended = machine_guest_stop, .boot_failed = machine_end_failed_boot, .stopped = on_stopped};

// A machine as the store and libvirt know it after steled, or the host, was started anew.
static void restore_machine(Machine *machine, const char *author_xml, const HypervisorDomain *domain) {
  Manager *manager = machine->manager;
  g_autoptr(GError) error = NULL;
  g_autoptr(BootPlan) plan =
      boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), author_xml, machine->uuid, &error);
  if (plan) {
    machine->config = g_steal_pointer(&plan->config);
    g_free(machine->uuid); // the author's, where libvirt does not know the machine
    machine->uuid = g_strdup(plan->uuid);
  }
  g_autofree char *state = NULL, *reason = NULL;
  gboolean recalled = machine_store_recall_state(manager->store, machine->name, &state, &reason);
  if (recalled && g_str_equal(state, "stopped")) machine->life.reason = machine_reason_intern(reason);
  if (error) machine->message = g_strdup(error->message);
  if (domain && domain->active) {
    machine->found = TRUE;
    machine_apply(machine, domain->paused ? MACHINE_FOUND_PAUSED : MACHINE_FOUND, NULL);
    if (machine->config == NULL) machine_apply(machine, MACHINE_GUEST_READY, NULL);
    machine_guest_start(machine, domain->id);
    if (recalled && g_str_equal(state, machine_state_name(MACHINE_STARTING)))
      machine_end_failed_boot(machine, "steled ended while the machine was being started, before it had been checked "
                                       "and given all that it asks for: start it again");
  } else if (recalled && !g_str_equal(state, "stopped")) {
    machine_apply(machine, MACHINE_FOUND_ENDED, "it ended while no steled was watching");
    boot_clean_up(manager->paths, machine->uuid);
  }
}

static HypervisorDomain *take_domain(GPtrArray *domains, const char *name) {
  for (guint i = 0; i < domains->len; i++) {
    HypervisorDomain *domain = domains->pdata[i];
    if (g_str_equal(domain->name, name)) return g_ptr_array_steal_index(domains, i);
  }
  return NULL;
}

// A rename that ended with the former steled is complete as soon as the new definition is there. TRUE: the old one has
// gone.
static gboolean finish_rename(Manager *manager, const char *name) {
  gboolean complete;
  if (!machine_store_recall_rename(manager->store, name, &complete)) return FALSE;
  if (complete) return machine_store_remove(manager->store, name, NULL);
  machine_store_note_state(manager->store, name, machine_state_name(MACHINE_STOPPED), "new");
  return FALSE;
}

static gboolean restore_stored(Manager *manager, GPtrArray *domains, GError **error) {
  g_autoptr(GPtrArray) names = machine_store_list(manager->store, error);
  for (guint i = 0; names && i < names->len; i++) {
    const char *name = names->pdata[i];
    if (finish_rename(manager, name)) continue;
    HypervisorDomain *domain = take_domain(domains, name);
    g_autofree char *xml = machine_store_read(manager->store, name, NULL), *own = g_uuid_string_random();
    restore_machine(manager_add_machine(manager, name, domain ? domain->uuid : own), xml ? xml : "", domain);
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

// Connections do not outlive steled, nor do the machines that were to go with them.
static void discard_left_over(Manager *manager) {
  g_autoptr(GList) machines = g_hash_table_get_values(manager->machines);
  for (GList *item = machines; item; item = item->next) machine_discard_when_due(item->data, TRUE);
}

static void on_started_by_itself(GVariant *result, const GError *error, gpointer user_data) {
  if (error) g_debug("not started by itself: %s", error->message); // the machine's state says it, too
}

static void start_by_itself(Manager *manager) {
  const ManagerStartOptions options = {.wait = FALSE};
  g_autoptr(GList) machines = g_hash_table_get_values(manager->machines);
  for (GList *item = machines; item; item = item->next) {
    const Machine *machine = item->data;
    if (machine->config && machine->config->autostart && machine->life.state == MACHINE_STOPPED)
      manager_start(manager, machine->name, &options, on_started_by_itself, NULL);
  }
}

Manager *manager_new(HostPaths *paths, const ManagerObserver *observer, gpointer user_data, GError **error) {
  Manager *manager = g_new0(Manager, 1);
  manager->paths = paths;
  manager->observer = observer;
  manager->user_data = user_data;
  manager->hooks = &hooks;
  manager->machines = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)machine_unref);
  manager->defining = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  manager->workers = g_thread_pool_new(job_worker, manager, WORKERS_MAX, FALSE, NULL);
  manager->pullers = g_thread_pool_new(job_worker, manager, PULLERS_MAX, FALSE, NULL);
  manager->store = machine_store_open(paths->machines, error);
  if (manager->store) manager->images = image_store_open(paths->images, paths->image_max, error);
  if (manager->images) manager->hypervisor = hypervisor_open(paths->uri, on_event, manager, error);
  g_autoptr(GPtrArray) domains = manager->hypervisor ? hypervisor_list(manager->hypervisor, error) : NULL;
  if (domains) boot_end_leftovers(paths, domains);
  if (domains == NULL || !restore_stored(manager, domains, error)) {
    manager_free(manager);
    return NULL;
  }
  restore_foreign(manager, domains);
  discard_left_over(manager);
  if (paths->new_boot) start_by_itself(manager);
  return manager;
}

void manager_free(Manager *manager) {
  if (manager == NULL) return;
  manager_cancel_translations(manager);
  g_thread_pool_free(manager->pullers, FALSE, TRUE);
  g_thread_pool_free(manager->workers, FALSE, TRUE);
  if (manager->log_check) g_source_remove(manager->log_check);
  g_hash_table_unref(manager->machines);
  g_hash_table_unref(manager->defining);
  hypervisor_close(manager->hypervisor);
  machine_store_close(manager->store);
  image_store_close(manager->images);
  g_free(manager);
}
