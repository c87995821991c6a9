// Requests that start and end machines, and stop and resume their processors;
// each request is what is checked on the main loop, what is done on a worker thread (a work_… function, which
// sees only the job), and what follows on the main loop (a finish_… function). See manager-private.h.
#include "manager-private.h"

#include <string.h>
#include "errors.h"
#include "log-file.h"

#define GIVE_UP_MS      500
#define DESTROY_SECONDS 30 // for libvirt to report the end it has just brought about

// --- start ----------------------------------------------------------------------------------------

static BootPlan *read_plan(Job *job) {
  Manager *manager = job->manager;
  g_autofree char *xml = machine_store_read(manager->store, job->name, &job->error);
  return xml ? boot_plan_new(manager->paths, hypervisor_features(manager->hypervisor), xml, job->text, &job->error)
             : NULL;
}

// virtiofsd's own words are in its log only; libvirt says that nothing answered at its socket.
static void add_share_logs(Job *job) {
  for (int i = 0; i < 8; i++) {
    g_autofree char *path =
        g_strdup_printf("%s/log/qemu/%s-fs%d-virtiofsd.log", job->manager->paths->libvirt, job->name, i);
    g_autofree char *tail = log_file_read_tail(path, 400);
    if (strstr(job->error->message, "virtiofs") == NULL || *tail == 0) continue;
    g_autofree char *message = g_strdup_printf("%s\n%s says: %s", job->error->message, path, tail);
    g_free(job->error->message);
    job->error->message = g_steal_pointer(&message);
  }
}

static gboolean forward_ports(Job *job) {
  const MachineConfig *config = job->plan->config;
  for (guint i = 0; config && i < config->ports->len; i++) {
    const MachinePort *port = config->ports->pdata[i];
    if (!hypervisor_forward_port(job->manager->hypervisor, job->name, TRUE, port->protocol, port->address, port->host,
                                 port->guest, &job->error))
      return FALSE;
  }
  return TRUE;
}

static gboolean start_as_defined(Job *job) {
  Manager *manager = job->manager;
  Hypervisor *hypervisor = manager->hypervisor;
  job_report_progress(job, "Start", "checking root, kernel and translator");
  job->plan = read_plan(job);
  if (job->plan && job_translate_ahead(job)) {
    boot_plan_free(job->plan);
    job->plan = read_plan(job);
  }
  if (job->error || job->plan == NULL ||
      !boot_plan_prepare(job->plan, manager->paths, hypervisor_features(hypervisor), &job->error))
    return FALSE;
  job_report_progress(job, "Start", "starting QEMU");
  g_autofree char *log = boot_console_log(manager->paths, job->name);
  log_file_begin(log); // QEMU appends, so that it can be emptied while QEMU writes
  if (!hypervisor_define(hypervisor, job->plan->xml, &job->error) ||
      !hypervisor_start(hypervisor, job->name, &job->error))
    return FALSE;
  if (boot_check_started(job->plan, manager->paths, &job->error) && forward_ports(job)) return TRUE;
  hypervisor_destroy(hypervisor, job->name, NULL);
  return FALSE;
}

// What a start shares with who gives it up: nobody ends a QEMU on its account once it is over, as that could be the
// next one's.
struct MachineStart {
  GMutex lock;
  gboolean over;
};

static void clear_start(gpointer start) {
  g_mutex_clear(&((MachineStart *)start)->lock);
}

static void free_start(gpointer start) {
  g_atomic_rc_box_release_full(start, clear_start);
}

static MachineStart *start_new(void) {
  MachineStart *start = g_atomic_rc_box_new0(MachineStart);
  g_mutex_init(&start->lock);
  return start;
}

static void set_over(MachineStart *start) {
  g_mutex_lock(&start->lock);
  start->over = TRUE;
  g_mutex_unlock(&start->lock);
}

// A destroy that came too early to find anything, or while libvirt had the last word.
static gboolean start_is_given_up(Job *job) {
  if (!g_cancellable_is_cancelled(job->cancellable)) return FALSE;
  if (!g_error_matches(job->error, STELE_ERROR, STELE_ERROR_CANCELLED)) {
    g_clear_error(&job->error); // what libvirt says of it
    g_set_error(&job->error, STELE_ERROR, STELE_ERROR_CANCELLED,
                "machine '%s' was destroyed while it was being started", job->name);
  }
  return TRUE;
}

static void work_start(Job *job) {
  Manager *manager = job->manager;
  gboolean started = job->flag ? hypervisor_start(manager->hypervisor, job->name, &job->error) : start_as_defined(job);
  set_over(job->data);
  if (start_is_given_up(job) && started) {
    hypervisor_destroy(manager->hypervisor, job->name, NULL);
    started = FALSE;
  }
  if (started)
    hypervisor_lookup(manager->hypervisor, job->name, &job->domain);
  else if (job->plan)
    boot_clean_up(manager->paths, job->plan->uuid);
  if (!started && manager->paths->libvirt) add_share_logs(job);
}

static void destroy(Machine *machine, ManagerDone done, gpointer user_data);

static void finish_start(Job *job) {
  Machine *machine = job->machine;
  gboolean given_up = g_cancellable_is_cancelled(job->cancellable);
  job_forget_translations(job);
  g_clear_pointer(&machine->start, free_start);
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
  if (job->domain && !job->domain->active) machine_apply(machine, MACHINE_DIED, "QEMU has ended again");
  if (given_up && machine_request(machine, MACHINE_REQUEST_DESTROY, "destroy", NULL)) destroy(machine, NULL, NULL);
  g_autofree char *late = g_strdup_printf("machine '%s' was started, but its agent has not said within %u s that "
                                          "userspace runs; it goes on booting: "
                                          "'vmctl console %s' shows it, 'vmctl destroy %s' ends it",
                                          machine->name, job->seconds, machine->name, machine->name);
  if (!job->flag && job->seconds)
    machine_wait(machine, WAIT_RUNNING, job->seconds, late, FALSE, job->done, job->user_data);
  else
    job_reply(job);
}

void manager_start(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                   gpointer user_data) {
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_START, "start", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_start, finish_start, done, user_data);
  job->text = g_strdup(machine->uuid);
  job->flag = machine->foreign;
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  machine->start = start_new();
  job->data = g_atomic_rc_box_acquire(machine->start);
  job->free_data = free_start;
  job_prepare_translations(job);
  job_run(job);
}

// --- shutdown and reboot --------------------------------------------------------------------------

#define GUEST_SHUTDOWN(mode) "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"" mode "\"}}"

static void work_power_button(Job *job) {
  job->flag = TRUE;
  hypervisor_press_power_button(job->manager->hypervisor, job->name, &job->error);
}

static void work_shutdown(Job *job) {
  hypervisor_shutdown(job->manager->hypervisor, job->name, &job->error);
}

static void finish_shutdown(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late = g_strdup_printf(
      "machine '%s' has not powered off within %u s; %s: 'vmctl destroy %s' ends it at once", machine->name,
      job->seconds,
      job->flag ? "no guest agent answers, and the guest does not heed its power button" : "its agent took the request",
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

// The guest may have been off before its answer was read.
static void on_shutdown_asked(const GError *error, gpointer user_data) {
  Job *job = user_data;
  if (error == NULL || job->machine->life.state == MACHINE_STOPPED) {
    job_complete(job);
    return;
  }
  job_report_progress(job, "Shutdown", "no agent answers: pressing the power button");
  job->work = work_power_button;
  job_run(job);
}

void manager_shutdown(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                      gpointer user_data) {
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_SHUTDOWN, "shut down", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_shutdown, finish_shutdown, done, user_data);
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  if (machine->config)
    machine_guest_command(machine, GUEST_SHUTDOWN("powerdown"), on_shutdown_asked, job);
  else
    job_run(job);
}

static void work_reboot(Job *job) {
  hypervisor_reboot(job->manager->hypervisor, job->name, &job->error);
}

static void finish_reboot(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late =
      g_strdup_printf("machine '%s' has not come up again within %u s", machine->name, job->seconds);
  if (job->error) machine_apply(machine, MACHINE_REQUEST_GIVEN_UP, NULL);
  if (job->error || job->seconds == 0)
    job_reply(job);
  else
    machine_wait(machine, WAIT_RUNNING, job->seconds, late, TRUE, job->done, job->user_data);
}

static void on_reboot_asked(const GError *error, gpointer user_data) {
  Job *job = user_data;
  gboolean rebooted = job->machine->life.state == MACHINE_BOOTING;
  if (error && !rebooted)
    job->error = g_error_new(STELE_ERROR, error->code,
                             "cannot reboot without the guest's agent ('vmctl destroy' and 'vmctl "
                             "start' can): %s",
                             error->message);
  job_complete(job);
}

void manager_reboot(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                    gpointer user_data) {
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_REBOOT, "reboot", done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_reboot, finish_reboot, done, user_data);
  job->seconds = options->wait ? MAX(options->timeout, 1) : 0;
  if (machine->config)
    machine_guest_command(machine, GUEST_SHUTDOWN("reboot"), on_reboot_asked, job);
  else
    job_run(job);
}

// --- destroy --------------------------------------------------------------------------------------

static void work_destroy(Job *job) {
  if (hypervisor_destroy(job->manager->hypervisor, job->name, &job->error)) return;
  // It may have ended by itself on the way, which is as good.
  if (hypervisor_lookup(job->manager->hypervisor, job->name, &job->domain) && !job->domain->active)
    g_clear_error(&job->error);
}

// When libvirt cannot end it, we do; its end is then noticed like any other.
static void finish_destroy(Job *job) {
  Machine *machine = job->machine;
  g_autofree char *late = g_strdup_printf("QEMU of '%s' has not ended within %d s%s%s", machine->name, DESTROY_SECONDS,
                                          job->error ? ": " : "", job->error ? job->error->message : "");
  if (job->error && machine->manager->paths->libvirt == NULL) {
    machine_apply(machine, MACHINE_REQUEST_GIVEN_UP, NULL);
    job_reply(job);
    return;
  }
  if (job->error) machine_guest_kill(machine);
  if (job->done) machine_wait(machine, WAIT_STOPPED, DESTROY_SECONDS, late, FALSE, job->done, job->user_data);
}

static void destroy(Machine *machine, ManagerDone done, gpointer user_data) {
  job_run_in(job_new(machine->manager, machine, work_destroy, finish_destroy, done, user_data), LANE_ENDS);
}

// A start is given up: what steled does itself stops at the next opportunity, and the QEMU that libvirt waits for is
// ended as soon as there is one.
static void work_end_start(Job *job) {
  MachineStart *start = job->data;
  g_mutex_lock(&start->lock);
  if (!start->over) hypervisor_destroy(job->manager->hypervisor, job->name, NULL);
  g_mutex_unlock(&start->lock);
}

static gboolean end_start(gpointer job) {
  job_run_in(job, LANE_ENDS);
  return G_SOURCE_REMOVE;
}

static void end_start_later(Machine *machine);

static void finish_end_start(Job *job) {
  if (job->machine->start == job->data) end_start_later(job->machine);
}

static void end_start_later(Machine *machine) {
  Job *job = job_new(machine->manager, machine, work_end_start, finish_end_start, NULL, NULL);
  job->data = g_atomic_rc_box_acquire(machine->start);
  job->free_data = free_start;
  g_timeout_add(GIVE_UP_MS, end_start, job);
}

static gboolean give_up_start(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = manager_find(manager, name, NULL);
  if (machine == NULL || machine->start == NULL) return FALSE;
  g_autofree char *late = g_strdup_printf("'%s' has not stopped starting within %d s", name, DESTROY_SECONDS);
  if (!g_cancellable_is_cancelled(machine->translating)) {
    g_cancellable_cancel(machine->translating);
    end_start_later(machine);
  }
  machine_wait(machine, WAIT_STOPPED, DESTROY_SECONDS, late, FALSE, done, user_data);
  return TRUE;
}

void manager_destroy(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  if (give_up_start(manager, name, done, user_data)) return;
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_DESTROY, "destroy", done, user_data);
  if (machine) destroy(machine, done, user_data);
}

void machine_end_failed_boot(Machine *machine, const char *message) {
  if (!machine_apply(machine, MACHINE_BOOT_FAILED, message)) return;
  destroy(machine, NULL, NULL);
}

// --- suspend and resume ---------------------------------------------------------------------------

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
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_SUSPEND, "suspend", done, user_data);
  if (machine) job_run(job_new(manager, machine, work_suspend, finish_suspend, done, user_data));
}

void manager_resume(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = request_begin(manager, name, MACHINE_REQUEST_RESUME, "resume", done, user_data);
  if (machine) job_run(job_new(manager, machine, work_resume, finish_resume, done, user_data));
}
