// What the files manager*.c share: the machine object, and jobs on worker threads. Each uses those above it:
//   manager-machines.c      the registry: objects, states, waiting for states
//   manager-jobs.c          work on threads, and how requests begin
//   manager-logs.c          keeps logs small
//   manager-guest.c         the link to a machine's agent, the watch over QEMU and the processes behind its shares
//   manager-translations.c  translations made ahead
//   manager-snapshots.c     copies of what machines have changed
//   manager-definitions.c, manager-power.c, manager-queries.c    the requests, by area
//   manager-rename.c        a machine's other name
//   manager-images.c        requests about images, and machines made of them
//   manager.c               events, and the start
#pragma once

#include "boot.h"
#include "image-fetch.h"
#include "machine-store.h"
#include "machine.h"
#include "manager.h"
#include "share.h"

typedef struct MachineStart MachineStart; // manager-power.c

// Jobs of one machine, of which only some may be on worker threads: each may be kept there by its QEMU. Those that end
// the machine, or only look at it, do not wait for the others.
typedef enum LaneKind { LANE_CHANGES, LANE_ENDS, LANE_LOOKS, LANES } LaneKind;
typedef struct JobLane {
  guint running;
  GQueue waiting;
} JobLane;

typedef struct Machine {
  int references;
  Manager *manager;
  char *name, *uuid;
  MachineLife life;
  char *message;             // for a person: why the state is what it is
  MachineConfig *config;     // as it was booted, or as it is defined; NULL: a plain VM
  gboolean foreign;          // known to libvirt only, not in our store
  gboolean found;            // ran when steled started: whether it was ready is not known
  gboolean changing;         // being redefined or undefined
  gboolean gone;             // undefined
  GCancellable *translating; // while its root is translated ahead, or may be; or NULL
  MachineStart *start;       // while it is being started; or NULL
  gboolean discarded;        // is to be undefined as soon as it has stopped
  GQueue waiters;
  JobLane lanes[LANES]; // of its jobs

  // Of the running machine, see manager-guest.c.
  AgentLink *link;
  gboolean link_opening;
  guint link_retry, link_delay; // source; seconds
  guint link_greeting;          // source: greets anew while the agent has not answered
  gboolean agent_up;
  char *agent_version, *guest_state, *guest_message;
  gint64 ready_ms;
  gboolean command_ended; // init=command, and the agent said so
  gboolean command_signalled;
  guint command_value; // its exit status, or the signal
  GPtrArray *share_watches;
  ProcessWatch *qemu;
  guint share_grace, qemu_grace; // sources
} Machine;

// What the registry and the guest lead to without knowing it.
typedef struct ManagerHooks {
  void (*ended)(Machine *machine); // QEMU has ended, or the machine is being forgotten
  // The guest cannot come up, for the reason given.
  void (*boot_failed)(Machine *machine, const char *message);
  void (*stopped)(Machine *machine);
} ManagerHooks;

struct Manager {
  const ManagerHooks *hooks;
  HostPaths *paths;
  Hypervisor *hypervisor;
  MachineStore *store;
  ImageStore *images;
  GHashTable *machines; // name -> Machine
  GHashTable *defining; // names whose definition is under way
  GThreadPool *workers;
  GThreadPool *pullers; // for what may take as long as a registry likes
  guint log_check;      // source
  const ManagerObserver *observer;
  gpointer user_data;
};

// --- manager-machines.c --------------------------------------------------------------------------

Machine *machine_ref(Machine *machine);
void machine_unref(Machine *machine);

Machine *manager_add_machine(Manager *manager, const char *name, const char *uuid);
// NULL with STELE_ERROR_NO_SUCH_MACHINE.
Machine *manager_find(Manager *manager, const char *name, GError **error);

// Applies the event and does what follows from the change. message may be NULL. FALSE when not
// accepted.
gboolean machine_apply(Machine *machine, MachineEvent event, const char *message);
// Tells observers of something other than a change of state.
void machine_notify(Machine *machine, const char *event, const char *message);
// Refuses a request the state has no row for: STELE_ERROR_WRONG_STATE.
gboolean machine_request(Machine *machine, MachineEvent request, const char *verb, GError **error);

// Whether this is a boot of ours whose userspace has not run yet: then a reset, a power-off or the
// agent's 'failed' mean that the boot failed.
gboolean machine_is_booting(Machine *machine);

typedef enum WaitFor { WAIT_RUNNING, WAIT_STOPPED } WaitFor;
// Comes back when the state is reached, cannot be reached any more, or `seconds` are over. `late`
// is what the error then says in the end; give_up: a request in progress is given up.
void machine_wait(Machine *machine, WaitFor wanted, guint seconds, const char *late, gboolean give_up, ManagerDone done,
                  gpointer user_data);

// --- manager-jobs.c ------------------------------------------------------------------------------

typedef struct Job Job;
struct Job {
  Manager *manager;
  Machine *machine;         // a reference, or NULL
  void (*work)(Job *job);   // on a worker thread: touches only what follows, paths, store and hypervisor
  void (*finish)(Job *job); // then on the main loop; NULL: job_reply()
  ManagerDone done;         // or NULL
  gpointer user_data;

  JobLane *lane; // that it runs in, or NULL

  char *name, *text, *old;
  gboolean flag;
  guint seconds;
  guint64 bytes;
  GHashTable *roots; // of machines in use
  GCancellable *cancellable;
  ByteChannel *channel;
  BootPlan *plan;
  HypervisorDomain *domain;
  HypervisorUsage usage;
  gpointer data; // of the request's own
  GDestroyNotify free_data;
  GVariant *result;
  GError *error;
};

Job *job_new(Manager *manager, Machine *machine, void (*work)(Job *), void (*finish)(Job *), ManagerDone done,
             gpointer user_data);
void job_run(Job *job); // in LANE_CHANGES, if it is a machine's
void job_run_in(Job *job, LaneKind kind);
void job_reply(Job *job);
// Progress under another name than a machine's, also from a worker thread.
void manager_report_progress(Manager *manager, const char *name, const char *operation, const char *message);
// The part on the main loop, and the job's end.
void job_complete(Job *job);
// From a worker thread.
void job_report_progress(Job *job, const char *operation, const char *message);
void job_worker(gpointer job, gpointer manager);

// How a request begins. A request that failed before any work:
void request_refuse(ManagerDone done, gpointer user_data, GError *error);
// Finds the machine, or refuses and is NULL.
Machine *request_find(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
// Finds the machine and applies the request to its state, or refuses.
Machine *request_begin(Manager *manager, const char *name, MachineEvent request, const char *verb, ManagerDone done,
                       gpointer user_data);

// --- manager-logs.c ------------------------------------------------------------------------------

// Keeps the logs of machines small as long as any runs.
void manager_watch_logs(Manager *manager);
// Removes all of a machine that does not run: the console's, and libvirt's where that is embedded. On any thread.
void logs_remove(const HostPaths *paths, const char *name);

// --- manager-snapshots.c -------------------------------------------------------------------------

// The disk that Create made for the machine's changes, which nothing else knows; or NULL.
char *machine_dup_own_changes(Machine *machine);
// From a worker thread, when the machine is gone.
void manager_forget_snapshots(Manager *manager, const char *uuid);

// --- manager-guest.c -----------------------------------------------------------------------------

void machine_guest_start(Machine *machine, int id);
void machine_guest_stop(Machine *machine);
void machine_guest_reset(Machine *machine);
// Sets the guest's clock, which stood still while the machine was paused.
void machine_guest_set_clock(Machine *machine);
// Gives the agent a command of its table: see agent_link_command(). Without an agent `done` is called
// at once.
void machine_guest_command(Machine *machine, const char *json, AgentCommandDone done, gpointer user_data);
// Ends QEMU itself, when libvirt cannot.
void machine_guest_kill(Machine *machine);
// Takes in what the guest said before it went.
void machine_guest_drain(Machine *machine);

// --- manager-translations.c ----------------------------------------------------------------------

// On the main loop, of a job that will call the next.
void job_prepare_translations(Job *job);
// Translates what the job's plan asks for, if it is not there. TRUE: it has been made, and the plan does not know of it
// yet. FALSE, with the job's error when it was cancelled: another failure is told, and the machine starts without.
gboolean job_translate_ahead(Job *job);
// On the main loop again.
void job_forget_translations(Job *job);
void manager_cancel_translations(Manager *manager);

// --- manager-images.c ----------------------------------------------------------------------------

// Removes a machine that is to go by itself, if its time has come.
void machine_discard_when_due(Machine *machine, gboolean closed);

// --- manager-power.c -----------------------------------------------------------------------------

// Ends QEMU because the boot failed, for the reason given.
void machine_end_failed_boot(Machine *machine, const char *message);
