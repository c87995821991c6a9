// The request to rename a machine. A name is that of a file in the store and that of a domain of libvirt's, and both
// cannot change at once: the new definition is in the store before the old one goes, so that at no time there is none,
// and the old one's state says what it becomes. manager.c, which finds such a rest when steled starts, ends the rename.
#include "manager-private.h"

#include "errors.h"
#include "log-file.h"
#include "machine-edit.h"

static void move_log(Job *job) {
  g_autofree char *from = boot_console_log(job->manager->paths, job->name),
                  *to = boot_console_log(job->manager->paths, job->plan->name);
  log_file_move(from, to);
  logs_remove(job->manager->paths, job->name); // libvirt begins others
}

static gboolean replace_domain(Job *job) {
  Hypervisor *hypervisor = job->manager->hypervisor;
  return hypervisor_undefine(hypervisor, job->name, &job->error) &&
         hypervisor_define(hypervisor, job->plan->xml, &job->error);
}

// libvirt gets the old definition back.
static void undo_rename(Job *job) {
  Manager *manager = job->manager;
  g_autoptr(BootPlan) old =
      boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), job->old, job->plan->uuid, NULL);
  hypervisor_undefine(manager->hypervisor, job->plan->name, NULL);
  if (old) hypervisor_define(manager->hypervisor, old->xml, NULL);
}

static void work_rename(Job *job) {
  MachineStore *store = job->manager->store;
  MachineDraft *draft = machine_store_write(store, job->plan->name, job->text, &job->error);
  if (draft == NULL) return;
  machine_store_note_rename(store, job->name, job->plan->name);
  if (!replace_domain(job)) {
    machine_draft_discard(draft);
  } else if (machine_draft_commit(draft, &job->error)) {
    if (machine_store_remove(store, job->name, &job->error)) return move_log(job);
    machine_store_remove(store, job->plan->name, NULL);
  }
  undo_rename(job);
}

static void finish_rename(Job *job) {
  Manager *manager = job->manager;
  Machine *old = job->machine;
  g_hash_table_remove(manager->defining, job->plan->name);
  old->changing = FALSE;
  if (job->error) {
    machine_store_note_state(manager->store, job->name, machine_state_name(old->life.state), old->life.reason);
    job_reply(job);
    return;
  }
  Machine *machine = manager_add_machine(manager, job->plan->name, old->uuid);
  machine->life = old->life;
  machine->config = g_steal_pointer(&job->plan->config);
  machine->message = g_steal_pointer(&old->message);
  machine_store_note_state(manager->store, machine->name, machine_state_name(machine->life.state),
                           machine->life.reason);
  old->gone = TRUE;
  g_hash_table_remove(manager->machines, job->name);
  manager->observer->changed(job->name, "undefined", machine_state_name(machine->life.state), machine->life.reason, "",
                             manager->user_data);
  manager->observer->changed(machine->name, "defined", machine_state_name(machine->life.state), machine->life.reason,
                             "", manager->user_data);
  job->result = g_variant_new_string(machine->name);
  job_reply(job);
}

static gboolean check(Manager *manager, Machine *machine, const char *new_name, GError **error) {
  if (machine->foreign || machine->changing || machine->life.state != MACHINE_STOPPED)
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot rename '%s': it is %s", machine->name,
                machine->foreign    ? "no machine of steled's: virsh domrename does it"
                : machine->changing ? "just being changed"
                                    : "not stopped: 'vmctl shutdown' it first");
  else if (g_hash_table_contains(manager->machines, new_name) || g_hash_table_contains(manager->defining, new_name))
    g_set_error(error, STELE_ERROR, STELE_ERROR_NAME_TAKEN, "there is a machine '%s' already: choose another name",
                new_name);
  else
    return TRUE;
  return FALSE;
}

void manager_rename(Manager *manager, const char *name, const char *new_name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  g_autofree char *old = NULL, *xml = NULL;
  g_autoptr(BootPlan) plan = NULL;
  if (machine && check(manager, machine, new_name, &error)) old = machine_store_read(manager->store, name, &error);
  const MachineChanges changes = {.name = new_name, .uuid = machine ? machine->uuid : NULL};
  if (old) xml = machine_edit(old, &changes, &error);
  if (xml) plan = boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), xml, machine->uuid, &error);
  if (plan == NULL) {
    request_refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_rename, finish_rename, done, user_data);
  machine->changing = TRUE;
  g_hash_table_add(manager->defining, g_strdup(plan->name));
  job->text = g_steal_pointer(&xml);
  job->old = g_steal_pointer(&old);
  job->plan = g_steal_pointer(&plan);
  job_run(job);
}
