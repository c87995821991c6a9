// The registry of machines: the objects, what changes their states and tells those who wait and those who watch, and
// which requests a state allows. Knows no guest and no request: what else the end of a machine means is a hook. See
// manager-private.h.
#include "manager-private.h"

#include <string.h>
#include "errors.h"
#include "log-file.h"

#define CONSOLE_TAIL_BYTES 1500

// --- machines -------------------------------------------------------------------------------------

Machine *machine_ref(Machine *machine) {
  g_atomic_int_inc(&machine->references);
  return machine;
}

void machine_unref(Machine *machine) {
  if (!g_atomic_int_dec_and_test(&machine->references)) return;
  machine->manager->hooks->ended(machine);
  machine_config_free(machine->config);
  g_clear_object(&machine->translating);
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

// --- waiting --------------------------------------------------------------------------------------

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
  g_autoptr(GError) error = g_error_new(STELE_ERROR, code, "%s%s", text, waiter->wanted == WAIT_RUNNING ? tail : "");
  waiter_finish(waiter, error);
}

static gboolean on_wait_timeout(gpointer user_data) {
  Waiter *waiter = user_data;
  waiter->timeout = 0;
  // The state in which giving up leaves the machine may be the one that was waited for: that would be no success.
  g_queue_remove(&waiter->machine->waiters, waiter);
  if (waiter->give_up) machine_apply(waiter->machine, MACHINE_REQUEST_GIVEN_UP, NULL);
  fail_waiter(waiter, STELE_ERROR_TIMEOUT, waiter->late);
  return G_SOURCE_REMOVE;
}

// Whether the waiter is done with; finishes and frees it if so.
static gboolean check_waiter(Waiter *waiter) {
  Machine *machine = waiter->machine;
  MachineState state = machine->life.state;
  if (state == (waiter->wanted == WAIT_RUNNING ? MACHINE_RUNNING : MACHINE_STOPPED)) {
    waiter_finish(waiter, NULL);
    return TRUE;
  }
  if (waiter->wanted == WAIT_STOPPED || !(state == MACHINE_FAILED || state == MACHINE_STOPPED)) return FALSE;
  g_autofree char *text =
      g_strdup_printf("machine '%s' did not come up (%s): %s", machine->name, machine->life.reason,
                      machine->message && *machine->message ? machine->message : "it ended while booting");
  fail_waiter(waiter, STELE_ERROR_BOOT_FAILED, text);
  return TRUE;
}

static void check_waiters(Machine *machine) {
  // Whoever is told may end other waits: then it begins again.
  for (GList *item = machine->waiters.head; item;) item = check_waiter(item->data) ? machine->waiters.head : item->next;
}

void machine_wait(Machine *machine, WaitFor wanted, guint seconds, const char *late, gboolean give_up, ManagerDone done,
                  gpointer user_data) {
  Waiter *waiter = g_new0(Waiter, 1);
  *waiter = (Waiter){.machine = machine_ref(machine),
                     .wanted = wanted,
                     .late = g_strdup(late),
                     .give_up = give_up,
                     .done = done,
                     .user_data = user_data};
  g_queue_push_tail(&machine->waiters, waiter);
  if (!check_waiter(waiter)) waiter->timeout = g_timeout_add_seconds(seconds, on_wait_timeout, waiter);
}

// --- changes of state -----------------------------------------------------------------------------

void machine_notify(Machine *machine, const char *event, const char *message) {
  Manager *manager = machine->manager;
  manager->observer->changed(machine->name, event, machine_state_name(machine->life.state), machine->life.reason,
                             message ? message : "", manager->user_data);
}

static void entered_stopped(Machine *machine) {
  machine->manager->hooks->ended(machine);
  machine->found = FALSE;
  if (!machine->foreign) boot_clean_up(machine->manager->paths, machine->uuid);
  machine->manager->hooks->stopped(machine);
}

gboolean machine_apply(Machine *machine, MachineEvent event, const char *message) {
  MachineLife before = machine->life;
  if (!machine_life_apply(&machine->life, event)) return FALSE;
  gboolean changed = before.state != machine->life.state || !g_str_equal(before.reason, machine->life.reason);
  if (!changed) return TRUE;
  machine_ref(machine);
  // A boot that failed keeps its explanation until it is stopped.
  if (message || !g_str_equal(before.reason, machine->life.reason)) {
    g_free(machine->message);
    machine->message = g_strdup(message);
  }
  if (!machine->foreign && !machine->gone)
    machine_store_note_state(machine->manager->store, machine->name, machine_state_name(machine->life.state),
                             machine->life.reason);
  if (machine->life.state == MACHINE_STOPPED && before.state != MACHINE_STOPPED) entered_stopped(machine);
  machine_notify(machine, "state", machine->message);
  check_waiters(machine);
  machine_unref(machine);
  return TRUE;
}

// --- requests -------------------------------------------------------------------------------------

// What a person is told to do about a request that does not fit the state.
static const struct {
  MachineEvent request;
  MachineState state;
  const char *advice;
} advice[] = {
    {MACHINE_REQUEST_START, MACHINE_PAUSED, "'vmctl resume' lets it go on"},
    {MACHINE_REQUEST_START, MACHINE_FAILED, "'vmctl destroy' ends it, then it can be started"},
    {MACHINE_REQUEST_SHUTDOWN, MACHINE_PAUSED, "'vmctl resume' it first, or end it with 'vmctl destroy'"},
    {MACHINE_REQUEST_SHUTDOWN, MACHINE_FAILED, "'vmctl destroy' ends it"},
    {MACHINE_REQUEST_REBOOT, MACHINE_FAILED, "'vmctl destroy' and 'vmctl start' it"},
    {MACHINE_REQUEST_REBOOT, MACHINE_BOOTING, "it is booting already"},
};

gboolean machine_request(Machine *machine, MachineEvent request, const char *verb, GError **error) {
  const char *hint = NULL;
  if (machine->changing) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot %s '%s': it is just being changed", verb,
                machine->name);
    return FALSE;
  }
  if (machine_life_accepts(&machine->life, request)) return machine_apply(machine, request, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(advice); i++)
    if (advice[i].request == request && advice[i].state == machine->life.state) hint = advice[i].advice;
  if (hint == NULL && request == MACHINE_REQUEST_UNDEFINE) hint = "stop it first ('vmctl shutdown' or 'vmctl destroy')";
  g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot %s '%s': it is %s (%s)%s%s", verb, machine->name,
              machine_state_name(machine->life.state), machine->life.reason, hint ? ": " : "", hint ? hint : "");
  return FALSE;
}

// See manager-private.h: before userspace has run, a reset or power-off means that the boot failed.
gboolean machine_is_booting(Machine *machine) {
  return machine->config && machine->life.state == MACHINE_BOOTING && !machine->found;
}
