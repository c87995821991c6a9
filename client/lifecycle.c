// vmctl start, shutdown, destroy, reboot, suspend, resume: one method call each.
#include "vmctl.h"

static gboolean wait_ready, no_wait;
static int timeout_seconds;

static int report(Session *session, const char *name, const char *done) {
  if (!session->json) {
    g_print("machine '%s' %s\n", name, done);
    return EXIT_OK;
  }
  GError *error = NULL;
  g_autoptr(GVariant) info = session_call(session, "Info", g_variant_new("(s)", name), &error);
  if (info == NULL) return session_fail(error);
  g_autoptr(GVariant) dictionary = g_variant_get_child_value(info, 0);
  print_json(dictionary);
  return EXIT_OK;
}

static int call_simple(Session *session, const char *method, const char *name, const char *done) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, method, g_variant_new("(s)", name), &error);
  return result ? report(session, name, done) : session_fail(error);
}

static int call_waiting(Session *session, const char *method, const char *name, gboolean wait,
                        const char *done) {
  if (timeout_seconds < 0) {
    g_printerr("vmctl: --timeout takes a number of seconds\n");
    return EXIT_USAGE;
  }
  GError *error = NULL;
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&options, "{sv}", "wait", g_variant_new_boolean(wait));
  if (timeout_seconds)
    g_variant_builder_add(&options, "{sv}", "timeout",
                          g_variant_new_uint32((guint)timeout_seconds));
  g_autoptr(GVariant) result =
      session_call(session, method, g_variant_new("(sa{sv})", name, &options), &error);
  return result ? report(session, name, done) : session_fail(error);
}

// --- the subcommands -----------------------------------------------------------------------------

#define TIMEOUT_OPTION                                                                             \
  { "timeout", 't', 0, G_OPTION_ARG_INT, &timeout_seconds, "Wait at most SECONDS", "SECONDS" }

static const GOptionEntry start_options[] = {
    {"wait", 'w', 0, G_OPTION_ARG_NONE, &wait_ready,
     "Wait until the guest's agent says that userspace runs", NULL},
    TIMEOUT_OPTION,
    {NULL}};
static const GOptionEntry shutdown_options[] = {
    {"no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "Do not wait until it is off", NULL},
    TIMEOUT_OPTION,
    {NULL}};

static int run_start(Session *session, int argc, char **argv) {
  return call_waiting(session, "Start", argv[0], wait_ready, wait_ready ? "is running" : "started");
}

static int run_reboot(Session *session, int argc, char **argv) {
  return call_waiting(session, "Reboot", argv[0], wait_ready,
                      wait_ready ? "is running again" : "is rebooting");
}

static int run_shutdown(Session *session, int argc, char **argv) {
  return call_waiting(session, "Shutdown", argv[0], !no_wait,
                      no_wait ? "is shutting down" : "is off");
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
    "Without --wait it returns as soon as QEMU runs. The default timeout is 180 s.",
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
const Command command_destroy = {
    "destroy", "NAME",     "end a machine at once, as if its plug were pulled", NULL, 1, 1,
    NULL,      run_destroy};
const Command command_reboot = {"reboot",      "NAME",    "ask the guest to reboot", NULL, 1, 1,
                                start_options, run_reboot};
const Command command_suspend = {"suspend", "NAME",     "stop a machine's CPUs", NULL, 1, 1,
                                 NULL,      run_suspend};
const Command command_resume = {"resume", "NAME",    "let a suspended machine go on", NULL, 1, 1,
                                NULL,     run_resume};
