// Jobs: what a request does on a worker thread and then on the main loop; and how requests begin. See
// manager-private.h.
#include "manager-private.h"

#define LANE_MAX 2 // jobs of a lane on worker threads: the other workers are for other machines

Job *job_new(Manager *manager, Machine *machine, void (*work)(Job *), void (*finish)(Job *), ManagerDone done,
             gpointer user_data) {
  Job *job = g_new0(Job, 1);
  *job = (Job){.manager = manager, .work = work, .finish = finish, .done = done, .user_data = user_data};
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
  g_clear_object(&job->cancellable);
  if (job->roots) g_hash_table_unref(job->roots);
  if (job->free_data && job->data) job->free_data(job->data);
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

void job_complete(Job *job) {
  (job->finish ? job->finish : job_reply)(job);
  job_free(job);
}

static void lane_advance(JobLane *lane, GThreadPool *workers) {
  while (lane->running < LANE_MAX && !g_queue_is_empty(&lane->waiting)) {
    lane->running++;
    g_thread_pool_push(workers, g_queue_pop_head(&lane->waiting), NULL);
  }
}

static gboolean job_finish(gpointer user_data) {
  Job *job = user_data;
  Machine *machine = job->machine ? machine_ref(job->machine) : NULL; // the lane is its
  JobLane *lane = job->lane;
  GThreadPool *workers = job->manager->workers;
  job->lane = NULL;
  if (lane) lane->running--;
  job_complete(job);
  if (lane) lane_advance(lane, workers);
  if (machine) machine_unref(machine);
  return G_SOURCE_REMOVE;
}

void job_worker(gpointer user_data, gpointer manager) {
  Job *job = user_data;
  job->work(job);
  g_idle_add_full(G_PRIORITY_DEFAULT, job_finish, job, NULL);
}

void job_run_in(Job *job, LaneKind kind) {
  job->lane = &job->machine->lanes[kind];
  g_queue_push_tail(&job->lane->waiting, job);
  lane_advance(job->lane, job->manager->workers);
}

void job_run(Job *job) {
  if (job->machine)
    job_run_in(job, LANE_CHANGES);
  else
    g_thread_pool_push(job->manager->workers, job, NULL);
}

typedef struct ProgressReport {
  Manager *manager;
  char *name;
  const char *operation;
  char *message;
} ProgressReport;

static gboolean deliver_progress(gpointer user_data) {
  ProgressReport *report = user_data;
  Manager *manager = report->manager;
  manager->observer->progress(report->name, report->operation, report->message, manager->user_data);
  g_free(report->name);
  g_free(report->message);
  g_free(report);
  return G_SOURCE_REMOVE;
}

void job_report_progress(Job *job, const char *operation, const char *message) {
  manager_report_progress(job->manager, job->name, operation, message);
}

void manager_report_progress(Manager *manager, const char *name, const char *operation, const char *message) {
  ProgressReport *report = g_new(ProgressReport, 1);
  *report = (ProgressReport){manager, g_strdup(name), operation, g_strdup(message)};
  g_idle_add_full(G_PRIORITY_DEFAULT, deliver_progress, report, NULL);
}

void request_refuse(ManagerDone done, gpointer user_data, GError *error) {
  g_autoptr(GError) owned = error;
  done(NULL, owned, user_data);
}

Machine *request_begin(Manager *manager, const char *name, MachineEvent request, const char *verb, ManagerDone done,
                       gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine && machine_request(machine, request, verb, &error)) return machine;
  request_refuse(done, user_data, error);
  return NULL;
}

Machine *request_find(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL) request_refuse(done, user_data, error);
  return machine;
}
