// Requests about definitions: define, undefine and the XML;
// each request is what is checked on the main loop, what is done on a worker thread (a work_… function, which
// sees only the job), and what follows on the main loop (a finish_… function). See manager-private.h.
#include "manager-private.h"

#include <glib/gstdio.h>
#include "errors.h"

// --- define ---------------------------------------------------------------------------------------

// libvirt is put back to what it had: the old definition, or none.
static void undo_define(Job *job) {
  g_autoptr(BootPlan) old = job->old ? boot_plan_new(job->manager->paths, hypervisor_features(job->manager->hypervisor),
                                                     job->old, job->plan->uuid, NULL)
                                     : NULL;
  if (old)
    hypervisor_define(job->manager->hypervisor, old->xml, NULL);
  else
    hypervisor_undefine(job->manager->hypervisor, job->name, NULL);
}

// The definition is on disk, synced, before libvirt hears of it, and becomes the machine's after
// libvirt has taken it: a disk that is full is noticed while nothing has changed.
static void work_define(Job *job) {
  Manager *manager = job->manager;
  if (job->machine) job->old = machine_store_read(manager->store, job->name, NULL);
  MachineDraft *draft = machine_store_write(manager->store, job->name, job->text, &job->error);
  if (draft == NULL) return;
  if (!hypervisor_define(manager->hypervisor, job->plan->xml, &job->error)) {
    machine_draft_discard(draft);
    undo_define(job);
    return;
  }
  if (!machine_draft_commit(draft, &job->error)) undo_define(job);
}

static void finish_define(Job *job) {
  Manager *manager = job->manager;
  g_hash_table_remove(manager->defining, job->name);
  Machine *machine = job->machine;
  if (machine) machine->changing = FALSE;
  if (job->error) {
    job_reply(job);
    return;
  }
  if (machine == NULL) machine = manager_add_machine(manager, job->name, job->plan->uuid);
  machine->foreign = FALSE;
  if (machine->life.state == MACHINE_STOPPED) { // a running machine is what it was booted as
    machine_config_free(machine->config);
    machine->config = g_steal_pointer(&job->plan->config);
    g_clear_pointer(&machine->message, g_free);
  }
  manager->observer->changed(machine->name, "defined", machine_state_name(machine->life.state), machine->life.reason,
                             "", manager->user_data);
  job->result = g_variant_new_string(job->name);
  job_reply(job);
}

static gboolean check_name_is_free(Manager *manager, const char *name, gboolean replace, GError **error) {
  Machine *machine = g_hash_table_lookup(manager->machines, name);
  if (g_hash_table_contains(manager->defining, name) || (machine && machine->changing))
    g_set_error(error, STELE_ERROR, STELE_ERROR_NAME_TAKEN, "machine '%s' is just being defined or removed", name);
  else if (machine && !replace)
    g_set_error(error, STELE_ERROR, STELE_ERROR_NAME_TAKEN,
                "there is a machine '%s' already: choose another name, or replace its definition "
                "('vmctl define --replace')",
                name);
  else if (machine && machine->life.state == MACHINE_STARTING)
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "machine '%s' is just being started", name);
  else
    return TRUE;
  return FALSE;
}

void manager_define(Manager *manager, const char *xml, gboolean replace, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  const HypervisorFeatures *features = hypervisor_features(manager->hypervisor);
  g_autoptr(xmlDoc) document = domain_document_parse(xml, &error);
  g_autofree char *name = document ? domain_document_dup_name(document) : NULL;
  Machine *machine = name ? g_hash_table_lookup(manager->machines, name) : NULL;
  g_autoptr(BootPlan) plan = NULL;
  if (name && check_name_is_free(manager, name, replace, &error))
    plan = boot_plan_new(manager->paths, features, xml, machine ? machine->uuid : NULL, &error);
  if (plan == NULL) {
    request_refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_define, finish_define, done, user_data);
  if (machine == NULL) job->name = g_strdup(name);
  if (machine) machine->changing = TRUE;
  job->text = domain_text_declare_utf8(xml);
  job->plan = g_steal_pointer(&plan);
  g_hash_table_add(manager->defining, g_strdup(name));
  job_run(job);
}

// --- change ---------------------------------------------------------------------------------------

// The definition is small and on disk: reading it here keeps it from changing between reading and writing.
void manager_change(Manager *manager, const char *name, const MachineChanges *changes, ManagerDone done,
                    gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine && machine->foreign)
    g_set_error(&error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "'%s' is no machine of steled's: change it with virsh",
                name);
  g_autofree char *old = error ? NULL : machine_store_read(manager->store, name, &error);
  g_autofree char *xml = old ? machine_edit(old, changes, &error) : NULL;
  if (xml)
    manager_define(manager, xml, TRUE, done, user_data);
  else
    request_refuse(done, user_data, error);
}

// --- undefine -------------------------------------------------------------------------------------

static void work_undefine(Job *job) {
  Manager *manager = job->manager;
  if (!machine_store_remove(manager->store, job->name, &job->error)) return;
  // Now it is no machine any more; what libvirt may still know is removed at the next start, if not
  // here.
  hypervisor_undefine(manager->hypervisor, job->name, job->flag ? &job->error : NULL);
  if (job->error == NULL) logs_remove(manager->paths, job->name);
  if (job->error == NULL && job->text) g_unlink(job->text);
  if (job->error == NULL) manager_forget_snapshots(manager, job->old);
}

static void finish_undefine(Job *job) {
  Machine *machine = job->machine;
  machine->changing = FALSE;
  if (job->error == NULL) {
    machine->gone = TRUE;
    g_hash_table_remove(job->manager->machines, machine->name);
    job->manager->observer->changed(machine->name, "undefined", machine_state_name(machine->life.state),
                                    machine->life.reason, "", job->manager->user_data);
  }
  job_reply(job);
}

void manager_undefine(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_UNDEFINE, "undefine", done, user_data);
  if (machine == NULL) return;
  machine->changing = TRUE;
  Job *job = job_new(manager, machine, work_undefine, finish_undefine, done, user_data);
  job->flag = machine->foreign;
  job->text = machine_dup_own_changes(machine);
  job->old = g_strdup(machine->uuid);
  job_run(job);
}

// --- the XML --------------------------------------------------------------------------------------

static void work_dump_xml(Job *job) {
  Manager *manager = job->manager;
  g_autofree char *xml = NULL;
  if (job->flag) {
    xml = hypervisor_dump_xml(manager->hypervisor, job->name, TRUE, &job->error);
  } else {
    xml = machine_store_read(manager->store, job->name, &job->error);
  }
  if (xml) job->result = g_variant_new_string(xml);
}

void manager_dump_xml(Manager *manager, const char *name, gboolean full, ManagerDone done, gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_dump_xml, NULL, done, user_data);
  job->flag = full || machine->foreign;
  job_run_in(job, LANE_LOOKS);
}
