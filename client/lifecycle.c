// vmctl start, shutdown, destroy, reboot, suspend, resume: one method call each.
#include "vmctl.h"

#include <string.h>
#include "api-errors.h"

#define SYSTEM_SECONDS 600 // for 'system up', unless --timeout says otherwise

static gboolean wait_ready, wait_system, no_wait;
static int timeout_seconds;

// --wait=ready or --wait=system
static gboolean read_wait(const char *option, const char *value, gpointer data, GError **error) {
  wait_ready = TRUE;
  wait_system = g_strcmp0(value, "system") == 0;
  if (wait_system || g_strcmp0(value, "ready") == 0) return TRUE;
  g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--wait waits for 'ready' or 'system', not '%s'", value);
  return FALSE;
}

static int report(Session *session, const char *name, const char *done) {
  if (!session->json) {
    g_print("machine '%s' %s\n", name, done);
    return EXIT_OK;
  }
  GError *error = NULL;
  g_autoptr(GVariant) info = session_call(session, "Info", g_variant_new("(s)", name), &error);
  if (info == NULL) return session_fail(session, error);
  g_autoptr(GVariant) dictionary = g_variant_get_child_value(info, 0);
  print_json(dictionary);
  return EXIT_OK;
}

static int call_simple(Session *session, const char *method, const char *name, const char *done) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, method, g_variant_new("(s)", name), &error);
  return result ? report(session, name, done) : session_fail(session, error);
}

// --- 'system up' ---------------------------------------------------------------------------------

// systemd is up when nothing of what it starts at boot is left to be started (systemctl(1), is-system-running). It can
// be asked once its socket is there. What runs instead of it, if not, would never be up in this sense.
static const char await_system[] =
    "case $(cat /proc/1/comm) in systemd|init) ;; *) echo 'process 1 is no systemd'; exit 3;; esac\n"
    "until [ -S /run/systemd/private ]; do sleep 0.5; done\n"
    "state=$(systemctl is-system-running --wait)\n"
    "echo \"$state\"\n"
    "[ \"$state\" = degraded ] && systemctl --no-pager --plain --no-legend list-units --failed\n"
    "case $state in running|degraded) exit 0;; esac\n"
    "exit 1\n";

static int wait_for_system(Session *session, const char *name, const char *done) {
  GError *error = NULL;
  int seconds = timeout_seconds ? timeout_seconds : SYSTEM_SECONDS;
  g_autofree char *quoted = g_shell_quote(await_system),
                  *script = g_strdup_printf("timeout %d sh -c %s", seconds, quoted), *output = NULL;
  int code = run_script(session, name, script, &output, &error);
  if (code < 0) return session_fail(session, error);
  g_autofree char *said = printable_lines(g_strchomp(output));
  if (code != 0) {
    g_autofree char *message =
        code == 124 ? g_strdup_printf("machine '%s' runs, but its system is not up after %d s", name, seconds)
                    : g_strdup_printf("machine '%s' runs, but its system does not come up: %s", name, said);
    print_error(session, STELE_ERROR_PREFIX "Timeout", EXIT_TIMEOUT, message);
    return EXIT_TIMEOUT;
  }
  if (!session->json && !g_str_equal(said, "running")) g_printerr("vmctl: %s\n", said);
  return report(session, name, done);
}

// --- calls ---------------------------------------------------------------------------------------

static int call_waiting(Session *session, const char *method, const char *name, gboolean wait, const char *done) {
  if (timeout_seconds < 0) {
    print_error(session, NULL, EXIT_USAGE, "--timeout takes a number of seconds");
    return EXIT_USAGE;
  }
  GError *error = NULL;
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&options, "{sv}", "wait", g_variant_new_boolean(wait));
  if (timeout_seconds) g_variant_builder_add(&options, "{sv}", "timeout", g_variant_new_uint32((guint)timeout_seconds));
  g_autoptr(GVariant) result = session_call(session, method, g_variant_new("(sa{sv})", name, &options), &error);
  if (result == NULL) return session_fail(session, error);
  return wait_system ? wait_for_system(session, name, done) : report(session, name, done);
}

// --- the subcommands -----------------------------------------------------------------------------

#define TIMEOUT_OPTION                                                                                                 \
  { "timeout", 0, 0, G_OPTION_ARG_INT, &timeout_seconds, "Wait at most SECONDS", "SECONDS" }

static const GOptionEntry start_options[] = {
    {"wait", 'w', 0, G_OPTION_ARG_NONE, &wait_ready,
     "Wait until userspace runs; --wait=system: until systemd in it has started all", NULL},
    // With a value: GOption would take the machine's name for an optional one.
    {"wait", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_CALLBACK, read_wait, NULL, "ready|system"},
    TIMEOUT_OPTION,
    {NULL}};
static const GOptionEntry shutdown_options[] = {
    {"no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "Do not wait until it is off", NULL}, TIMEOUT_OPTION, {NULL}};

static int run_start(Session *session, int argc, char **argv) {
  return call_waiting(session, "Start", argv[0], wait_ready, wait_ready ? "is running" : "started");
}

static int run_reboot(Session *session, int argc, char **argv) {
  return call_waiting(session, "Reboot", argv[0], wait_ready, wait_ready ? "is running again" : "is rebooting");
}

static int run_shutdown(Session *session, int argc, char **argv) {
  return call_waiting(session, "Shutdown", argv[0], !no_wait, no_wait ? "is shutting down" : "is off");
}

static int run_destroy(Session *session, int argc, char **argv) {
  return call_simple(session, "Destroy", argv[0], "destroyed");
}

static int run_suspend(Session *session, int argc, char **argv) {
  return call_simple(session, "Suspend", argv[0], "suspended");
}

static int run_resume(Session *session, int argc, char **argv) {
  return call_simple(session, "Resume", argv[0], "resumed");
}

const Command command_start = {
    "start",
    "NAME",
    "boot a machine",
    "Without --wait it returns as soon as QEMU runs. The default timeout is 180 s, and 600 s more for system.",
    1,
    1,
    start_options,
    run_start};
const Command command_shutdown = {"shutdown",
                                  "NAME",
                                  "ask the guest to power off, and wait until it has",
                                  "Without an answer from the guest's agent its power button is "
                                  "pressed. The default timeout is 90 s.",
                                  1,
                                  1,
                                  shutdown_options,
                                  run_shutdown};
const Command command_destroy = {"destroy", "NAME",     "end a machine at once, as if its plug were pulled", NULL, 1, 1,
                                 NULL,      run_destroy};
const Command command_reboot = {"reboot", "NAME", "ask the guest to reboot", NULL, 1, 1, start_options, run_reboot};
const Command command_suspend = {"suspend", "NAME", "stop a machine's CPUs", NULL, 1, 1, NULL, run_suspend};
const Command command_resume = {"resume", "NAME", "let a suspended machine go on", NULL, 1, 1, NULL, run_resume};
