// The requests of the API, one section each: what is checked on the main loop, what is done on a
// worker thread (a work_… function, which sees only the job), and what follows on the main loop (a
// finish_… function). See manager-private.h.
#include "manager-private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "errors.h"
#include "guest-json.h"
#include "pump.h"
#include "share.h"

#define AGENT_SECONDS   10 // for the agent to take a command
#define DESTROY_SECONDS 30 // for libvirt to report the end it has just brought about
#define LOG_READ_MAX    (1024 * 1024)

// --- jobs ----------------------------------------------------------------------------------------

Job *job_new(Manager *manager, Machine *machine, void (*work)(Job *), void (*finish)(Job *),
             ManagerDone done, gpointer user_data) {
  Job *job = g_new0(Job, 1);
  *job = (Job){
      .manager = manager, .work = work, .finish = finish, .done = done, .user_data = user_data};
  if (machine) job->machine = machine_ref(machine);
  if (machine) job->name = g_strdup(machine->name);
  return job;
}

static void job_free(Job *job) {
  if (job->machine) machine_unref(job->machine);
  byte_channel_close(job->channel);
  boot_plan_free(job->plan);
  if (job->domain) hypervisor_domain_free(job->domain);
  if (job->result) g_variant_unref(job->result);
  g_clear_error(&job->error);
  g_free(job->name);
  g_free(job->text);
  g_free(job->old);
  g_free(job);
}

void job_reply(Job *job) {
  if (job->done == NULL) return;
  if (job->result) g_variant_ref_sink(job->result);
  job->done(job->error ? NULL : job->result, job->error, job->user_data);
  job->done = NULL;
}

static gboolean job_finish(gpointer user_data) {
  Job *job = user_data;
  (job->finish ? job->finish : job_reply)(job);
  job_free(job);
  return G_SOURCE_REMOVE;
}

void job_worker(gpointer user_data, gpointer manager) {
  Job *job = user_data;
  job->work(job);
  g_idle_add_full(G_PRIORITY_DEFAULT, job_finish, job, NULL);
}

void job_run(Job *job) {
  g_thread_pool_push(job->manager->workers, job, NULL);
}

typedef struct ProgressReport {
  Manager *manager;
  char *name;
  const char *operation, *message;
} ProgressReport;

static gboolean deliver_progress(gpointer user_data) {
  ProgressReport *report = user_data;
  Manager *manager = report->manager;
  manager->observer->progress(report->name, report->operation, report->message, manager->user_data);
  g_free(report->name);
  g_free(report);
  return G_SOURCE_REMOVE;
}

void job_report_progress(Job *job, const char *operation, const char *message) {
  ProgressReport *report = g_new(ProgressReport, 1);
  *report = (ProgressReport){job->manager, g_strdup(job->name), operation, message};
  g_idle_add_full(G_PRIORITY_DEFAULT, deliver_progress, report, NULL);
}

// A request that failed before any work.
static void refuse(ManagerDone done, gpointer user_data, GError *error) {
  g_autoptr(GError) owned = error;
  done(NULL, owned, user_data);
}

// Finds the machine and applies the request to its state, or refuses.
static Machine *begin(Manager *manager, const char *name, MachineEvent request, const char *verb,
                      ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine && machine_request(machine, request, verb, &error)) return machine;
  refuse(done, user_data, error);
  return NULL;
}

static Machine *begin_query(Manager *manager, const char *name, ManagerDone done,
                            gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL) refuse(done, user_data, error);
  return machine;
}

// --- define --------------------------------------------------------------------------------------

// libvirt is put back to what it had: the old definition, or none.
static void undo_define(Job *job) {
  g_autoptr(BootPlan) old =
      job->old ? boot_plan_new(job->manager->paths, hypervisor_features(job->manager->hypervisor),
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
  manager->observer->changed(machine->name, "defined", machine_state_name(machine->life.state),
                             machine->life.reason, "", manager->user_data);
  job->result = g_variant_new_string(job->name);
  job_reply(job);
}

static gboolean check_name_is_free(Manager *manager, const char *name, gboolean replace,
                                   GError **error) {
  Machine *machine = g_hash_table_lookup(manager->machines, name);
  if (g_hash_table_contains(manager->defining, name) || (machine && machine->changing))
    g_set_error(error, STELE_ERROR, STELE_ERROR_NAME_TAKEN,
                "machine '%s' is just being defined or removed", name);
  else if (machine && !replace)
    g_set_error(error, STELE_ERROR, STELE_ERROR_NAME_TAKEN,
                "there is a machine '%s' already: choose another name, or replace its definition "
                "('vmctl define --replace')",
                name);
  else if (machine && machine->life.state == MACHINE_STARTING)
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "machine '%s' is just being started",
                name);
  else
    return TRUE;
  return FALSE;
}

void manager_define(Manager *manager, const char *xml, gboolean replace, ManagerDone done,
                    gpointer user_data) {
  GError *error = NULL;
  const HypervisorFeatures *features = hypervisor_features(manager->hypervisor);
  g_autoptr(xmlDoc) document = domain_document_parse(xml, &error);
  g_autofree char *name = document ? domain_document_dup_name(document) : NULL;
  Machine *machine = name ? g_hash_table_lookup(manager->machines, name) : NULL;
  g_autoptr(BootPlan) plan = NULL;
  if (name && check_name_is_free(manager, name, replace, &error))
    plan = boot_plan_new(manager->paths, features, xml, machine ? machine->uuid : NULL, &error);
  if (plan == NULL) {
    refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_define, finish_define, done, user_data);
  if (machine == NULL) job->name = g_strdup(name);
  if (machine) machine->changing = TRUE;
  job->text = g_strdup(xml);
  job->plan = g_steal_pointer(&plan);
  g_hash_table_add(manager->defining, g_strdup(name));
  job_run(job);
}

// --- undefine ------------------------------------------------------------------------------------

static void work_undefine(Job *job) {
  Manager *manager = job->manager;
  g_autofree char *log = boot_console_log(manager->paths, job->name);
  if (!machine_store_remove(manager->store, job->name, &job->error)) return;
  // Now it is no machine any more; what libvirt may still know is removed at the next start, if not
  // here.
  hypervisor_undefine(manager->hypervisor, job->name, job->flag ? &job->error : NULL);
  if (job->error == NULL) g_unlink(log);
}

static void finish_undefine(Job *job) {
  Machine *machine = job->machine;
  machine->changing = FALSE;
  if (job->error == NULL) {
    machine->gone = TRUE;
    g_hash_table_remove(job->manager->machines, machine->name);
    job->manager->observer->changed(machine->name, "undefined",
                                    machine_state_name(machine->life.state), machine->life.reason,
                                    "", job->manager->user_data);
  }
  job_reply(job);
}

void manager_undefine(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_UNDEFINE, "undefine", done, user_data);
  if (machine == NULL) return;
  machine->changing = TRUE;
  Job *job = job_new(manager, machine, work_undefine, finish_undefine, done, user_data);
  job->flag = machine->foreign;
  job_run(job);
}

// --- start ---------------------------------------------------------------------------------------

static BootPlan *read_plan(Job *job) {
  Manager *manager = job->manager;
  g_autofree char *xml = machine_store_read(manager->store, job->name, &job->error);
  return xml ? boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), xml,
                             job->text, &job->error)
             : NULL;
}

// virtiofsd's own words are in its log only; libvirt says that nothing answered at its socket.
static void add_share_logs(Job *job) {
  for (int i = 0; i < 8; i++) {
    g_autofree char *path = g_strdup_printf("%s/log/qemu/%s-fs%d-virtiofsd.log",
                                            job->manager->paths->libvirt, job->name, i);
    g_autofree char *tail = host_read_tail(path, 400);
    if (strstr(job->error->message, "virtiofs") == NULL || *tail == 0) continue;
    g_autofree char *message = g_strdup_printf("%s\n%s says: %s", job->error->message, path, tail);
    g_free(job->error->message);
    job->error->message = g_steal_pointer(&message);
  }
}

static gboolean start_as_defined(Job *job) {
  Manager *manager = job->manager;
  Hypervisor *hypervisor = manager->hypervisor;
  job_report_progress(job, "Start", "checking root, kernel and translator");
  job->plan = read_plan(job);
  if (job->plan == NULL ||
      !boot_plan_prepare(job->plan, manager->paths, hypervisor_features(hypervisor), &job->error))
    return FALSE;
  job_report_progress(job, "Start", "starting QEMU");
  return hypervisor_define(hypervisor, job->plan->xml, &job->error) &&
         hypervisor_start(hypervisor, job->name, &job->error);
}

static void work_start(Job *job) {
  Manager *manager = job->manager;
  gboolean started = job->flag ? hypervisor_start(manager->hypervisor, job->name, &job->error)
                               : start_as_defined(job);
  if (started)
    hypervisor_lookup(manager->hypervisor, job->name, &job->domain);
  else if (job->plan)
    boot_clean_up(manager->paths, job->plan->uuid);
  if (!started && manager->paths->libvirt) add_share_logs(job);
}

static void finish_start(Job *job) {
  Machine *machine = job->machine;
  if (job->error) {
    machine_apply(machine, MACHINE_START_FAILED, job->error->message);
    job_reply(job);
    return;
  }
  if (job->plan) {
    machine_config_free(machine->config);
    machine->config = g_steal_pointer(&job->plan->config);
  }
  machine_apply(machine, machine->config ? MACHINE_STARTED : MACHINE_STARTED_PLAIN, NULL);
  machine_guest_start(machine, job->domain ? job->domain->id : -1);
  g_autofree char *late =
      g_strdup_printf("machine '%s' was started, but its agent has not said within %u s that "
                      "userspace runs; it goes on booting: "
                      "'vmctl console %s' shows it, 'vmctl destroy %s' ends it",
                      machine->name, job->seconds, machine->name, machine->name);
  if (!job->flag && job->seconds)
    machine_wait(machine, WAIT_RUNNING, job->seconds, late, FALSE, job->done, job->user_data);
  else
    job_reply(job);
}

void manager_start(Manager *manager, const char *name, const ManagerStartOptions *options,
                   ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_START, "start", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_start, finish_start, done, user_data);
  job->text = g_strdup(machine->uuid);
  job->flag = machine->foreign;
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  job_run(job);
}

// --- shutdown and reboot -------------------------------------------------------------------------

static const char *agent_command_for(gboolean reboot) {
  return reboot ? "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"reboot\"}}"
                : "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}";
}

static void work_shutdown(Job *job) {
  g_autofree char *reply = hypervisor_agent_command(
      job->manager->hypervisor, job->name, agent_command_for(FALSE), AGENT_SECONDS, &job->error);
  if (reply) return;
  job_report_progress(job, "Shutdown", "no agent answers: pressing the power button");
  job->flag = TRUE;
  g_clear_error(&job->error);
  hypervisor_press_power_button(job->manager->hypervisor, job->name, &job->error);
}

static void finish_shutdown(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late = g_strdup_printf(
      "machine '%s' has not powered off within %u s; %s: 'vmctl destroy %s' ends it at once",
      machine->name, job->seconds,
      job->flag ? "no guest agent answers, and the guest does not heed its power button"
                : "its agent took the request",
      machine->name);
  if (job->error) {
    machine_apply(machine, MACHINE_REQUEST_GIVEN_UP, NULL);
    job_reply(job);
  } else if (job->seconds == 0) {
    job_reply(job);
  } else {
    machine_wait(machine, WAIT_STOPPED, job->seconds, late, TRUE, job->done, job->user_data);
  }
}

void manager_shutdown(Manager *manager, const char *name, const ManagerStartOptions *options,
                      ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_SHUTDOWN, "shut down", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_shutdown, finish_shutdown, done, user_data);
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  job_run(job);
}

static void work_reboot(Job *job) {
  g_autofree char *reply = hypervisor_agent_command(
      job->manager->hypervisor, job->name, agent_command_for(TRUE), AGENT_SECONDS, &job->error);
  if (job->error)
    g_prefix_error(
        &job->error,
        "cannot reboot without the guest's agent ('vmctl destroy' and 'vmctl start' can): ");
}

static void finish_reboot(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late = g_strdup_printf("machine '%s' has not come up again within %u s",
                                          machine->name, job->seconds);
  if (job->error) machine_apply(machine, MACHINE_REQUEST_GIVEN_UP, NULL);
  if (job->error || job->seconds == 0)
    job_reply(job);
  else
    machine_wait(machine, WAIT_RUNNING, job->seconds, late, TRUE, job->done, job->user_data);
}

void manager_reboot(Manager *manager, const char *name, const ManagerStartOptions *options,
                    ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_REBOOT, "reboot", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_reboot, finish_reboot, done, user_data);
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  job_run(job);
}

// --- destroy -------------------------------------------------------------------------------------

static void work_destroy(Job *job) {
  if (hypervisor_destroy(job->manager->hypervisor, job->name, &job->error)) return;
  // It may have ended by itself on the way, which is as good.
  if (hypervisor_lookup(job->manager->hypervisor, job->name, &job->domain) && !job->domain->active)
    g_clear_error(&job->error);
}

static void finish_destroy(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late = g_strdup_printf("libvirt has not reported the end of '%s' within %d s",
                                          machine->name, DESTROY_SECONDS);
  if (job->error) {
    machine_apply(machine, MACHINE_REQUEST_GIVEN_UP, NULL);
    job_reply(job);
  } else if (job->done) {
    machine_wait(machine, WAIT_STOPPED, DESTROY_SECONDS, late, FALSE, job->done, job->user_data);
  }
}

void manager_destroy(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_DESTROY, "destroy", done, user_data);
  if (machine) job_run(job_new(manager, machine, work_destroy, finish_destroy, done, user_data));
}

void machine_end_failed_boot(Machine *machine, const char *message) {
  if (!machine_apply(machine, MACHINE_BOOT_FAILED, message)) return;
  job_run(job_new(machine->manager, machine, work_destroy, finish_destroy, NULL, NULL));
}

// At once and not on a worker, so that it cannot take away the views of a start that follows.
void machine_clean_up(Machine *machine) {
  boot_clean_up(machine->manager->paths, machine->uuid);
}

// --- suspend and resume --------------------------------------------------------------------------

static void work_suspend(Job *job) {
  hypervisor_suspend(job->manager->hypervisor, job->name, &job->error);
}

static void work_resume(Job *job) {
  hypervisor_resume(job->manager->hypervisor, job->name, &job->error);
}

// libvirt's event says the same, but a caller that looks at once shall see it.
static void finish_suspend(Job *job) {
  if (job->error == NULL) machine_apply(job->machine, MACHINE_SUSPENDED, NULL);
  job_reply(job);
}

static void finish_resume(Job *job) {
  if (job->error == NULL) machine_apply(job->machine, MACHINE_RESUMED, NULL);
  job_reply(job);
}

void manager_suspend(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_SUSPEND, "suspend", done, user_data);
  if (machine) job_run(job_new(manager, machine, work_suspend, finish_suspend, done, user_data));
}

void manager_resume(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = begin(manager, name, MACHINE_REQUEST_RESUME, "resume", done, user_data);
  if (machine) job_run(job_new(manager, machine, work_resume, finish_resume, done, user_data));
}

// --- list and info -------------------------------------------------------------------------------

static void add_basics(GVariantBuilder *builder, Machine *machine) {
  g_variant_builder_add(builder, "{sv}", "name", g_variant_new_string(machine->name));
  g_variant_builder_add(builder, "{sv}", "state",
                        g_variant_new_string(machine_state_name(machine->life.state)));
  g_variant_builder_add(builder, "{sv}", "reason", g_variant_new_string(machine->life.reason));
  g_variant_builder_add(builder, "{sv}", "uuid", g_variant_new_string(machine->uuid));
  g_variant_builder_add(builder, "{sv}", "stele", g_variant_new_boolean(machine->config != NULL));
}

static gint compare_machines(gconstpointer a, gconstpointer b) {
  return strcmp(((const Machine *)a)->name, ((const Machine *)b)->name);
}

void manager_list(Manager *manager, ManagerDone done, gpointer user_data) {
  g_autoptr(GList) machines =
      g_list_sort(g_hash_table_get_values(manager->machines), compare_machines);
  GVariantBuilder list;
  g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
  for (GList *item = machines; item; item = item->next) {
    g_variant_builder_open(&list, G_VARIANT_TYPE_VARDICT);
    add_basics(&list, item->data);
    g_variant_builder_close(&list);
  }
  g_autoptr(GVariant) result = g_variant_ref_sink(g_variant_builder_end(&list));
  done(result, NULL, user_data);
}

static void add_text(GVariantBuilder *builder, const char *key, const char *text) {
  if (text && *text) g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(text));
}

static void add_config(GVariantBuilder *builder, const MachineConfig *config) {
  add_text(builder, "root", config->root_source);
  add_text(builder, "root-type", root_type_name(config->root_type));
  add_text(builder, "root-mode", root_mode_name(config->root_mode));
  add_text(builder, "init", init_kind_name(config->init));
  add_text(builder, "cpu", config->cpu);
  add_text(builder, "cpu-vendor", config->cpu_vendor);
  add_text(builder, "memory-model", config->memory_model);
}

static void add_running(GVariantBuilder *builder, Machine *machine) {
  int pid = boot_qemu_pid(machine->manager->paths, machine->name);
  if (pid > 0) g_variant_builder_add(builder, "{sv}", "pid", g_variant_new_int32(pid));
  gboolean agent = machine->agent_up || agent_link_is_open(machine->link);
  g_variant_builder_add(builder, "{sv}", "agent", g_variant_new_boolean(agent));
  add_text(builder, "agent-version", machine->agent_version);
  add_text(builder, "guest-state", machine->guest_state);
  add_text(builder, "guest-message", machine->guest_message);
  if (machine->ready_ms)
    g_variant_builder_add(builder, "{sv}", "ready-ms",
                          g_variant_new_uint64((guint64)machine->ready_ms));
}

static void work_info(Job *job) {
  job->flag = hypervisor_usage(job->manager->hypervisor, job->name, &job->usage, NULL);
  job->text = hypervisor_dump_xml(job->manager->hypervisor, job->name, FALSE, NULL);
}

static void add_usage(GVariantBuilder *builder, Job *job) {
  xmlDoc *document =
      job->text ? xmlReadMemory(job->text, (int)strlen(job->text), NULL, NULL, XML_PARSE_NONET)
                : NULL;
  xmlNode *domain = document ? xmlDocGetRootElement(document) : NULL;
  xmlChar *type = domain ? xmlGetNoNsProp(domain, (const xmlChar *)"type") : NULL;
  add_text(builder, "type", (const char *)type);
  if (job->flag) {
    g_variant_builder_add(builder, "{sv}", "vcpus", g_variant_new_uint32(job->usage.vcpus));
    g_variant_builder_add(builder, "{sv}", "memory", g_variant_new_uint64(job->usage.memory));
    g_variant_builder_add(builder, "{sv}", "cpu-time", g_variant_new_uint64(job->usage.cpu_time));
  }
  xmlFree(type);
  xmlFreeDoc(document);
}

static void finish_info(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *log = boot_console_log(job->manager->paths, machine->name);
  GVariantBuilder info;
  g_variant_builder_init(&info, G_VARIANT_TYPE_VARDICT);
  add_basics(&info, machine);
  add_text(&info, "message", machine->message);
  add_usage(&info, job);
  if (machine->config) add_config(&info, machine->config);
  if (machine_state_is_active(machine->life.state)) add_running(&info, machine);
  if (g_access(log, R_OK) == 0) add_text(&info, "console-log", log);
  job->result = g_variant_builder_end(&info);
  job_reply(job);
}

void manager_info(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = begin_query(manager, name, done, user_data);
  if (machine) job_run(job_new(manager, machine, work_info, finish_info, done, user_data));
}

// --- the XML -------------------------------------------------------------------------------------

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

void manager_dump_xml(Manager *manager, const char *name, gboolean full, ManagerDone done,
                      gpointer user_data) {
  Machine *machine = begin_query(manager, name, done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_dump_xml, NULL, done, user_data);
  job->flag = full || machine->foreign;
  job_run(job);
}

// --- the console ---------------------------------------------------------------------------------

static void work_console_log(Job *job) {
  g_autofree char *path = boot_console_log(job->manager->paths, job->name);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0, most = MIN((off_t)job->seconds, size);
  guint8 *bytes = g_malloc((gsize)MAX(most, 1));
  ssize_t n = fd >= 0 ? pread(fd, bytes, (size_t)most, size - most) : 0;
  if (fd >= 0) close(fd);
  job->result = g_variant_new_from_data(G_VARIANT_TYPE_BYTESTRING, bytes, (gsize)MAX(n, 0), TRUE,
                                        g_free, bytes);
}

void manager_read_console_log(Manager *manager, const char *name, guint bytes, ManagerDone done,
                              gpointer user_data) {
  Machine *machine = begin_query(manager, name, done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_console_log, NULL, done, user_data);
  job->seconds = MIN(bytes, LOG_READ_MAX);
  job_run(job);
}

static void work_console(Job *job) {
  job->channel =
      hypervisor_open_console(job->manager->hypervisor, job->name, job->flag, &job->error);
}

static void finish_console(Job *job) {
  int pair[2];
  if (job->error == NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    g_set_error(&job->error, STELE_ERROR, STELE_ERROR_HYPERVISOR, "cannot make a socket: %s",
                g_strerror(errno));
  if (job->error == NULL) {
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    pump_start(g_steal_pointer(&job->channel), pair[0]);
    job->result = g_variant_new_int32(pair[1]);
  }
  job_reply(job);
}

static gboolean check_active(Machine *machine, const char *verb, GError **error) {
  if (machine_state_is_active(machine->life.state) && machine->life.state != MACHINE_STARTING)
    return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE,
              "cannot %s '%s': it is %s: 'vmctl start' it first", verb, machine->name,
              machine_state_name(machine->life.state));
  return FALSE;
}

void manager_open_console(Manager *manager, const char *name, gboolean force, ManagerDone done,
                          gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL || !check_active(machine, "open the console of", &error)) {
    refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work_console, finish_console, done, user_data);
  job->flag = force;
  job_run(job);
}

// --- programs in the guest -----------------------------------------------------------------------

#define AGENT_WAIT_SECONDS 60

void manager_await_agent(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL || !check_active(machine, "run a program in", &error)) {
    refuse(done, user_data, error);
    return;
  }
  g_autofree char *late =
      g_strdup_printf("machine '%s' is booting and its agent has not answered within %d s",
                      machine->name, AGENT_WAIT_SECONDS);
  if (machine->life.state == MACHINE_BOOTING)
    machine_wait(machine, WAIT_RUNNING, AGENT_WAIT_SECONDS, late, FALSE, done, user_data);
  else
    done(NULL, NULL, user_data);
}

AgentStream *manager_exec(Manager *manager, const char *name, const AgentExecRequest *request,
                          const AgentStreamHandlers *handlers, gpointer user_data, GError **error) {
  Machine *machine = manager_find(manager, name, error);
  if (machine == NULL) return NULL;
  const char *why = machine->config == NULL ? "it is a plain VM without Stele's agent"
                    : machine->life.state == MACHINE_PAUSED
                        ? "it is paused: 'vmctl resume' it first"
                    : !agent_link_is_open(machine->link) ? "its agent does not answer"
                                                         : NULL;
  if (why) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE,
                "cannot run a program in '%s': %s", name, why);
    return NULL;
  }
  return agent_link_exec(machine->link, request, handlers, user_data, error);
}

// --- version -------------------------------------------------------------------------------------

static void add_version(GVariantBuilder *builder, const char *key, const char *prefix,
                        unsigned long version) {
  g_autofree char *text = g_strdup_printf("%s%lu.%lu.%lu", prefix, version / 1000000,
                                          version / 1000 % 1000, version % 1000);
  add_text(builder, key, text);
}

void manager_version(Manager *manager, ManagerDone done, gpointer user_data) {
  const HypervisorFeatures *features = hypervisor_features(manager->hypervisor);
  GVariantBuilder versions;
  g_variant_builder_init(&versions, G_VARIANT_TYPE_VARDICT);
  add_text(&versions, "version", STELE_VERSION);
  add_version(&versions, "libvirt", "", features->libvirt);
  if (features->emulator) add_version(&versions, "hypervisor", "QEMU ", features->emulator);
  add_text(&versions, "uri", hypervisor_uri(manager->hypervisor));
  add_text(&versions, "root", manager->paths->root);
  g_variant_builder_add(&versions, "{sv}", "pid", g_variant_new_int32(getpid()));
  g_autoptr(GVariant) result = g_variant_ref_sink(g_variant_builder_end(&versions));
  done(result, NULL, user_data);
}
