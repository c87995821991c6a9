// vmctl create: a machine whose root is an image's.
#include "vmctl.h"

#include <stdlib.h>
#include <string.h>
#include "machine-options.h"

static char *image, *mode, *init;
static gboolean insecure;
static const GOptionEntry options[] = {
    {"image", 'i', 0, G_OPTION_ARG_STRING, &image, "The image; pulled if it is not here", "IMAGE"},
    {"mode", 0, 0, G_OPTION_ARG_STRING, &mode,
     "lasting: changes outlast a boot (default); overlay: they go with it; ro: there are none", "MODE"},
    {"init", 0, 0, G_OPTION_ARG_STRING, &init, "system, command or none (default: what the image has)", "INIT"},
    {"insecure", 0, 0, G_OPTION_ARG_NONE, &insecure, "The registry may be one without TLS", NULL},
    MACHINE_OPTIONS,
    {NULL}};

static int usage(Session *session, const char *message) {
  print_error(session, NULL, EXIT_USAGE, message);
  return EXIT_USAGE;
}

// The distribution's init where there is one, otherwise the image's command, otherwise nothing.
static const char *choose_init(GVariant *description, const char *const *argv, gboolean given) {
  gboolean has_init = FALSE;
  g_variant_lookup(description, "has-init", "b", &has_init);
  if (init) return init;
  return given ? "command" : has_init ? "system" : *argv ? "command" : "none";
}

static int run_create(Session *session, int argc, char **argv) {
  GError *error = NULL;
  if (image == NULL) return usage(session, "create: which image? --image IMAGE");
  if (!machine_options_check(session)) return EXIT_USAGE;
  g_autoptr(GVariant) description = image_ensure(session, image, insecure, &error);
  if (description == NULL) return session_fail(session, error);
  char **command = argv + 1;
  if (*command && g_str_equal(*command, "--")) command++;
  g_autofree const char **program = machine_options_argv(description, (const char *const *)command);
  GVariantBuilder builder;
  machine_options_begin(&builder, description);
  const char *kind = choose_init(description, program, *command != NULL);
  g_variant_builder_add(&builder, "{sv}", "init", g_variant_new_string(kind));
  if (mode) g_variant_builder_add(&builder, "{sv}", "mode", g_variant_new_string(mode));
  if (g_str_equal(kind, "command")) machine_options_add_command(&builder, description, program);
  g_autoptr(GVariant) result =
      session_call(session, "Create", g_variant_new("(ssa{sv})", argv[0], image, &builder), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json)
    print_json_result("name", result);
  else
    g_print("machine '%s' created of %s\n", argv[0], image);
  return EXIT_OK;
}

const Command command_create = {
    "create",
    "NAME --image IMAGE [COMMAND…]",
    "make a machine of an image",
    "It boots what the image has as its init (systemd, say) or, without one, runs the command the image names; with "
    "COMMAND it runs that, and is off when it has ended. 'vmctl start' starts it.",
    1,
    -2,
    options,
    run_create};
