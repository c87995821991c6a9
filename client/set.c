// vmctl set, autostart and share: changes to a definition without an editor.
#include "vmctl.h"

#include <string.h>
#include "machine-options.h"

static char *memory, **add_shares, **remove_shares, **add_ports, **remove_ports;
static int cpus;
static const GOptionEntry options[] = {
    {"memory", 'm', 0, G_OPTION_ARG_STRING, &memory, "How much memory: 512M, 2G", "SIZE"},
    {"cpus", 0, 0, G_OPTION_ARG_INT, &cpus, "How many processors", "N"},
    {"volume", 'v', 0, G_OPTION_ARG_STRING_ARRAY, &add_shares, "Share a directory of the host", "HOST:GUEST[:ro]"},
    {"no-volume", 0, 0, G_OPTION_ARG_STRING_ARRAY, &remove_shares, "Share it no longer", "GUEST"},
    {"publish", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &add_ports, "Let the host's port reach one of the machine's",
     "[ADDRESS:]HOST:GUEST[/udp]"},
    {"no-publish", 0, 0, G_OPTION_ARG_STRING_ARRAY, &remove_ports, "Let it no longer", "[ADDRESS:]HOST"},
    {NULL}};

static void add_list(GVariantBuilder *builder, const char *key, char **list) {
  if (list) g_variant_builder_add(builder, "{sv}", key, g_variant_new_strv((const char *const *)list, -1));
}

static int change(Session *session, const char *name, GVariantBuilder *changes) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "Change", g_variant_new("(sa{sv})", name, changes), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json)
    print_json_result("name", result);
  else
    g_print("machine '%s' changed; what runs goes on as it is until it is started anew\n", name);
  return EXIT_OK;
}

static int run_set(Session *session, int argc, char **argv) {
  guint64 bytes = 0;
  if ((memory && !machine_options_read_size(memory, &bytes)) || cpus < 0) {
    print_error(session, NULL, EXIT_USAGE, "set: --memory takes a size like 512M or 2G, --cpus a number");
    return EXIT_USAGE;
  }
  GVariantBuilder changes;
  g_variant_builder_init(&changes, G_VARIANT_TYPE_VARDICT);
  if (bytes) g_variant_builder_add(&changes, "{sv}", "memory", g_variant_new_uint64(bytes));
  if (cpus) g_variant_builder_add(&changes, "{sv}", "cpus", g_variant_new_uint32((guint)cpus));
  if (add_shares) g_variant_builder_add(&changes, "{sv}", "add-shares", machine_options_shares(add_shares));
  add_list(&changes, "remove-shares", remove_shares);
  add_list(&changes, "add-ports", add_ports);
  add_list(&changes, "remove-ports", remove_ports);
  return change(session, argv[0], &changes);
}

const Command command_set = {"set",
                             "NAME",
                             "change a machine's memory, processors, shares and ports",
                             "From its next start on. 'vmctl port' changes ports of a machine that runs.",
                             1,
                             1,
                             options,
                             run_set};

// --- autostart ------------------------------------------------------------------------------------

static gboolean off;
static const GOptionEntry autostart_options[] = {{"off", 0, 0, G_OPTION_ARG_NONE, &off, "No longer", NULL}, {NULL}};

static int run_autostart(Session *session, int argc, char **argv) {
  GVariantBuilder changes;
  g_variant_builder_init(&changes, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&changes, "{sv}", "autostart", g_variant_new_string(off ? "no" : "yes"));
  return change(session, argv[0], &changes);
}

const Command command_autostart = {"autostart",
                                   "NAME",
                                   "start a machine whenever the host has been booted",
                                   "With the first steled that runs then.",
                                   1,
                                   1,
                                   autostart_options,
                                   run_autostart};

// --- share ----------------------------------------------------------------------------------------

static int run_share(Session *session, int argc, char **argv) {
  gboolean add = g_str_equal(argv[1], "add"), remove = g_str_equal(argv[1], "remove");
  if (!add && !remove) {
    print_error(session, NULL, EXIT_USAGE, "share: add or remove?");
    return EXIT_USAGE;
  }
  char *list[] = {argv[2], NULL};
  GVariantBuilder changes;
  g_variant_builder_init(&changes, G_VARIANT_TYPE_VARDICT);
  if (add) g_variant_builder_add(&changes, "{sv}", "add-shares", machine_options_shares(list));
  if (remove) add_list(&changes, "remove-shares", list);
  return change(session, argv[0], &changes);
}

const Command command_share = {"share",
                               "NAME add HOST:GUEST[:ro] | NAME remove GUEST",
                               "share a directory of the host with a machine, or no longer",
                               "From its next start on.",
                               3,
                               3,
                               NULL,
                               run_share};
