// A running machine as seen from its inside: the link to the agent, kept up as long as the machine
// runs, the state the agent reports, and a watch over the processes that serve its shares, whose
// death libvirt does not notice. See manager-private.h.
#include "manager-private.h"

#include "errors.h"
#include "guest-protocol.h"

#define RETRY_SECONDS_MAX   10
#define GREETING_SECONDS    3
#define QEMU_GRACE_SECONDS  10 // for libvirt to tell why QEMU ended, on a busy machine too
#define SHARE_GRACE_SECONDS 2  // virtiofsd ends a moment before QEMU does when a machine stops
#define COMMAND_SECONDS     10 // for the agent to take a command

// --- what the agent says -------------------------------------------------------------------------

static void keep_text(char **kept, const char *text) {
  g_free(*kept);
  *kept = g_strdup(text);
}

static void set_agent(Machine *machine, gboolean up) {
  if (machine->agent_up == up) return;
  machine->agent_up = up;
  machine_notify(machine, "agent", up ? "up" : "down");
}

static void on_status(const AgentStatus *status, gpointer user_data) {
  Machine *machine = user_data;
  machine->link_delay = 0;
  keep_text(&machine->agent_version, status->version);
  keep_text(&machine->guest_state, status->state);
  keep_text(&machine->guest_message, status->message);
  machine->ready_ms = status->ready_ms;
  machine->command_ended = status->command_ended;
  machine->command_signalled = status->command_signalled;
  machine->command_value = status->command_value;
  set_agent(machine, TRUE);
  if (g_str_equal(machine->guest_state, STELE_GUEST_READY)) {
    machine->found = FALSE;
    machine_apply(machine, MACHINE_GUEST_READY, NULL);
  } else if (g_str_equal(machine->guest_state, STELE_GUEST_FAILED)) {
    if (machine_is_booting(machine))
      machine->manager->hooks->boot_failed(machine, machine->guest_message);
    else
      machine_apply(machine, MACHINE_GUEST_FAILED, machine->guest_message);
  }
}

void machine_guest_command(Machine *machine, const char *json, AgentCommandDone done, gpointer user_data) {
  if (agent_link_is_open(machine->link)) {
    agent_link_command(machine->link, json, COMMAND_SECONDS, done, user_data);
    return;
  }
  g_autoptr(GError) error =
      g_error_new(STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "the agent of '%s' does not answer", machine->name);
  done(error, user_data);
}

// A guest that cannot do it keeps its wrong clock; nobody waits for this.
static void on_clock_set(const GError *error, gpointer user_data) {
  if (error) g_debug("the clock was not set: %s", error->message);
}

void machine_guest_set_clock(Machine *machine) {
  if (machine->config == NULL) return;
  g_autofree char *command = g_strdup_printf(
      "{\"execute\":\"guest-set-time\",\"arguments\":{\"time\":%" G_GINT64_FORMAT "000}}", g_get_real_time());
  machine_guest_command(machine, command, on_clock_set, NULL);
}

// --- the link ------------------------------------------------------------------------------------

static void link_open(Machine *machine);

static gboolean on_retry(gpointer user_data) {
  Machine *machine = user_data;
  machine->link_retry = 0;
  link_open(machine);
  return G_SOURCE_REMOVE;
}

static void link_retry(Machine *machine) {
  if (machine->link_retry || !machine_state_is_active(machine->life.state)) return;
  machine->link_delay = CLAMP(machine->link_delay * 2, 1, RETRY_SECONDS_MAX);
  machine->link_retry = g_timeout_add_seconds(machine->link_delay, on_retry, machine);
}

static void stop_greeting(Machine *machine) {
  if (machine->link_greeting) g_source_remove(machine->link_greeting);
  machine->link_greeting = 0;
}

static void on_link_ended(const char *why, gpointer user_data) {
  Machine *machine = user_data;
  g_debug("%s: %s", machine->name, why);
  stop_greeting(machine);
  g_clear_pointer(&machine->link, agent_link_free);
  set_agent(machine, FALSE);
  link_retry(machine);
}

static const AgentLinkHandlers link_handlers = {on_status, on_link_ended};

static void work_link(Job *job) {
  job->channel = hypervisor_open_channel(job->manager->hypervisor, job->name, STELE_STREAM_CHANNEL, &job->error);
}

// The port drops what it gets while the guest's end is being opened anew, a greeting as well.
static gboolean on_no_answer(gpointer user_data) {
  Machine *machine = user_data;
  if (machine->link && !agent_link_is_open(machine->link)) {
    agent_link_restart(machine->link);
    return G_SOURCE_CONTINUE;
  }
  machine->link_greeting = 0;
  return G_SOURCE_REMOVE;
}

static void finish_link(Job *job) {
  Machine *machine = job->machine;
  machine->link_opening = FALSE;
  if (!machine_state_is_active(machine->life.state)) return;
  if (job->channel && machine->link == NULL) {
    machine->link = agent_link_new(g_steal_pointer(&job->channel), &link_handlers, machine);
    stop_greeting(machine);
    if (machine->found) machine->link_greeting = g_timeout_add_seconds(GREETING_SECONDS, on_no_answer, machine);
  } else {
    link_retry(machine);
  }
}

static void link_open(Machine *machine) {
  if (machine->config == NULL || machine->link || machine->link_opening) return;
  machine->link_opening = TRUE;
  job_run(job_new(machine->manager, machine, work_link, finish_link, NULL, NULL));
}

void machine_guest_drain(Machine *machine) {
  if (machine->link) agent_link_drain(machine->link);
}

void machine_guest_reset(Machine *machine) {
  g_clear_pointer(&machine->guest_state, g_free);
  g_clear_pointer(&machine->guest_message, g_free);
  machine->ready_ms = 0;
  machine->command_ended = FALSE;
  if (machine->link) agent_link_restart(machine->link);
  set_agent(machine, FALSE);
}

// --- the shares ----------------------------------------------------------------------------------

static gboolean on_share_grace(gpointer user_data) {
  Machine *machine = user_data;
  machine->share_grace = 0;
  if (machine->qemu == NULL || !process_watch_is_dead(machine->qemu))
    machine_apply(machine, MACHINE_SHARE_DIED,
                  "a virtiofsd that serves its files has died, so programs in it hang: end it with "
                  "'vmctl destroy', "
                  "then start it again");
  return G_SOURCE_REMOVE;
}

static void on_share_died(gpointer user_data) {
  Machine *machine = user_data;
  if (machine->share_grace == 0)
    machine->share_grace = g_timeout_add_seconds(SHARE_GRACE_SECONDS, on_share_grace, machine);
}

// libvirt may not have been listening when QEMU ended, or may be waiting for it: the process is the truth.
static gboolean on_qemu_grace(gpointer user_data) {
  Machine *machine = user_data;
  gboolean asked = machine->life.state == MACHINE_STOPPING && g_str_equal(machine->life.reason, "destroyed");
  machine->qemu_grace = 0;
  machine_apply(machine, asked ? MACHINE_DESTROYED : MACHINE_DIED, "QEMU has ended");
  return G_SOURCE_REMOVE;
}

static void on_qemu_died(gpointer user_data) {
  Machine *machine = user_data;
  if (machine->qemu_grace == 0) machine->qemu_grace = g_timeout_add_seconds(QEMU_GRACE_SECONDS, on_qemu_grace, machine);
}

void machine_guest_kill(Machine *machine) {
  if (machine->qemu) process_watch_kill(machine->qemu);
}

static void watch_qemu(Machine *machine) {
  HostPaths *paths = machine->manager->paths;
  if (paths->libvirt == NULL) return; // it may be on another host
  machine->qemu = process_watch_new(boot_qemu_pid(paths, machine->uuid), on_qemu_died, machine);
  if (machine->qemu == NULL) on_qemu_died(machine);
}

static void watch_shares(Machine *machine, int id) {
  HostPaths *paths = machine->manager->paths;
  g_autoptr(GArray) pids = boot_share_pids(paths, id);
  machine->share_watches = g_ptr_array_new_with_free_func((GDestroyNotify)process_watch_free);
  for (guint i = 0; i < pids->len; i++) {
    ProcessWatch *watch = process_watch_new(g_array_index(pids, int, i), on_share_died, machine);
    if (watch)
      g_ptr_array_add(machine->share_watches, watch);
    else
      on_share_died(machine);
  }
}

// --- start and stop ------------------------------------------------------------------------------

void machine_guest_start(Machine *machine, int id) {
  machine->link_delay = 0;
  g_clear_pointer(&machine->guest_message, g_free);
  machine->command_ended = FALSE;
  watch_qemu(machine);
  watch_shares(machine, id);
  manager_watch_logs(machine->manager);
  link_open(machine);
}

void machine_guest_stop(Machine *machine) {
  if (machine->link_retry) g_source_remove(machine->link_retry);
  if (machine->share_grace) g_source_remove(machine->share_grace);
  if (machine->qemu_grace) g_source_remove(machine->qemu_grace);
  stop_greeting(machine);
  machine->link_retry = machine->share_grace = machine->qemu_grace = 0;
  g_clear_pointer(&machine->link, agent_link_free);
  machine->agent_up = FALSE; // observers hear of the machine's end
  g_clear_pointer(&machine->share_watches, g_ptr_array_unref);
  g_clear_pointer(&machine->qemu, process_watch_free);
  g_clear_pointer(&machine->guest_state, g_free);
  machine->ready_ms = 0;
}
