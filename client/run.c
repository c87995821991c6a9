// vmctl run: a command in a machine made for it, as 'docker run' does.
//
// The machine runs no init: the command is started by its agent once it is up, with our standard streams, and so its
// status is ours. With --rm the machine is tied to our connection, so that steled removes it also when we are killed.
// Detached, the command is the machine's own, and its output is in the machine's log.
#include "vmctl.h"

#include <string.h>
#include "machine-options.h"
#include "terminal.h"

#define START_SECONDS 300

static gboolean remove_after, interactive, tty, detached, insecure;
static char *given_name;
static const GOptionEntry options[] = {
    {"rm", 0, 0, G_OPTION_ARG_NONE, &remove_after, "Remove the machine when the command has ended", NULL},
    {"interactive", 'i', 0, G_OPTION_ARG_NONE, &interactive, "Hand our standard input on", NULL},
    {"tty", 't', 0, G_OPTION_ARG_NONE, &tty, "Give it a terminal", NULL},
    {"detach", 'd', 0, G_OPTION_ARG_NONE, &detached, "Leave it running; 'vmctl logs' shows its output", NULL},
    {"name", 'n', 0, G_OPTION_ARG_STRING, &given_name, "The machine's name", "NAME"},
    {"insecure", 0, 0, G_OPTION_ARG_NONE, &insecure, "The registry may be one without TLS", NULL},
    MACHINE_OPTIONS,
    {NULL}};

// debian-1a2b3c of debian:trixie
static char *make_name(const char *image) {
  const char *slash = strrchr(image, '/'), *start = slash ? slash + 1 : image;
  g_autofree char *base = g_strndup(start, strcspn(start, ":@"));
  for (char *c = base; *c; c++)
    if (!g_ascii_isalnum(*c)) *c = '-';
  return g_strdup_printf("%s-%06x", g_ascii_isalnum(*base) ? base : "machine", g_random_int() & 0xffffff);
}

static gboolean create(Session *session, const char *name, const char *image, GVariant *description,
                       const char *const *argv, GError **error) {
  GVariantBuilder builder;
  machine_options_begin(&builder, description);
  g_variant_builder_add(&builder, "{sv}", "init", g_variant_new_string(detached ? "command" : "none"));
  g_variant_builder_add(&builder, "{sv}", "mode", g_variant_new_string(remove_after ? "overlay" : "lasting"));
  if (remove_after)
    g_variant_builder_add(&builder, "{sv}", "remove", g_variant_new_string(detached ? "stopped" : "closed"));
  if (detached) machine_options_add_command(&builder, description, argv);
  g_autoptr(GVariant) result =
      session_call(session, "Create", g_variant_new("(ssa{sv})", name, image, &builder), error);
  return result != NULL;
}

static gboolean start(Session *session, const char *name, GError **error) {
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&builder, "{sv}", "wait", g_variant_new_boolean(TRUE));
  g_variant_builder_add(&builder, "{sv}", "timeout", g_variant_new_uint32(START_SECONDS));
  g_autoptr(GVariant) result = session_call(session, "Start", g_variant_new("(sa{sv})", name, &builder), error);
  return result != NULL;
}

static void call_quietly(Session *session, const char *method, GVariant *arguments) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GVariant) result = session_call(session, method, arguments, &error);
}

// Nobody minds how the changes of a machine end that are thrown away with it.
static void finish(Session *session, const char *name) {
  if (remove_after) {
    call_quietly(session, "Destroy", g_variant_new("(s)", name));
    call_quietly(session, "Undefine", g_variant_new("(s)", name));
  } else {
    call_quietly(session, "Shutdown", g_variant_new("(sa{sv})", name, NULL));
  }
}

static int run_attached(Session *session, const char *name, GVariant *description, const char *const *argv) {
  g_autoptr(GPtrArray) env = machine_options_env(description);
  g_ptr_array_add(env, NULL);
  const ExecSettings settings = {.env = (char **)env->pdata,
                                 .cwd = machine_options_cwd(description),
                                 .user = machine_options_user(description),
                                 .tty = tty,
                                 .no_input = !interactive};
  int code = exec_program(session, name, argv, &settings);
  finish(session, name);
  return code;
}

static int fail(Session *session, GError *error) {
  session_fail(session, error);
  return EXIT_EXEC_FAILED;
}

static int run_run(Session *session, int argc, char **argv) {
  GError *error = NULL;
  if (!machine_options_check(session)) return EXIT_EXEC_FAILED;
  g_autoptr(GVariant) description = image_ensure(session, argv[0], insecure, &error);
  if (description == NULL) return fail(session, error);
  g_autofree char *name = given_name ? g_strdup(given_name) : make_name(argv[0]);
  char **command = argv + 1;
  if (*command && g_str_equal(*command, "--")) command++;
  g_autofree const char **program = machine_options_argv(description, (const char *const *)command);
  if (*program == NULL) {
    print_error(session, NULL, EXIT_EXEC_FAILED, "run: the image names no command: give one");
    return EXIT_EXEC_FAILED;
  }
  session->subject = name;
  if (!create(session, name, argv[0], description, program, &error)) return fail(session, error);
  if (!start(session, name, &error)) {
    finish(session, name);
    return fail(session, error);
  }
  if (!detached) return run_attached(session, name, description, program);
  g_print("%s\n", name);
  return EXIT_OK;
}

const Command command_run = {
    "run",
    "IMAGE [COMMAND…]",
    "run a command in a new machine made of an image",
    "The exit code is the command's, or 128 + n when signal n killed it; 127: no such program, 126: it cannot be "
    "executed, 125: there is no machine to run it in. Without --rm the machine is there afterwards, switched off, "
    "with what the command changed.",
    1,
    -1,
    options,
    run_run};
