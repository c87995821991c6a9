// vmctl list, info, version: what there is.
#include "vmctl.h"

#include <json-glib/json-glib.h>

static void add_cell(GPtrArray *cells, const char *text) {
  g_ptr_array_add(cells, printable(text));
}

// --- list ----------------------------------------------------------------------------------------

static gboolean all_hosts;
static const GOptionEntry list_options[] = {
    {"all-hosts", 'a', 0, G_OPTION_ARG_NONE, &all_hosts, "Those of other hosts, too", NULL}, {NULL}};

static void print_machines(GVariant *machines) {
  static const char *const columns[] = {"host", "name", "state", "reason"};
  static const char *const heads[] = {"HOST", "NAME", "STATE", "REASON"};
  g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
  size_t first = all_hosts ? 0 : 1;
  for (size_t i = first; i < G_N_ELEMENTS(heads); i++) add_cell(cells, heads[i]);
  for (gsize n = 0; n < g_variant_n_children(machines); n++) {
    g_autoptr(GVariant) machine = g_variant_get_child_value(machines, n);
    for (size_t i = first; i < G_N_ELEMENTS(columns); i++) add_cell(cells, lookup_string(machine, columns[i]));
  }
  print_table(cells, (guint)(G_N_ELEMENTS(columns) - first));
}

static GVariant *list_here(Session *session, int *ret_code) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "List", NULL, &error);
  *ret_code = result ? EXIT_OK : session_fail(session, error);
  return result ? g_variant_get_child_value(result, 0) : NULL;
}

static int run_list(Session *session, int argc, char **argv) {
  int code;
  g_autoptr(GVariant) machines = all_hosts ? all_hosts_list(session, &code) : list_here(session, &code);
  if (machines && session->json)
    print_json(machines);
  else if (machines)
    print_machines(machines);
  return code;
}

const Command command_list = {"list",
                              "",
                              "list all machines with their states",
                              "--all-hosts asks the vmctl of the hosts, each [USER@]HOST as ssh takes it, that the "
                              "variable STELE_HOSTS names or, "
                              "without it, the lines of ~/.config/stele/hosts.",
                              0,
                              0,
                              list_options,
                              run_list};

// --- dictionaries: info and version --------------------------------------------------------------

static char *value_to_text(const char *key, GVariant *value) {
  if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)) return printable(g_variant_get_string(value, NULL));
  if (g_variant_is_of_type(value, G_VARIANT_TYPE_BOOLEAN)) return g_strdup(g_variant_get_boolean(value) ? "yes" : "no");
  if (g_str_equal(key, "memory") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
    return g_format_size_full(g_variant_get_uint64(value), G_FORMAT_SIZE_IEC_UNITS);
  if (g_str_equal(key, "cpu-time") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
    return g_strdup_printf("%.1f s", (double)g_variant_get_uint64(value) / 1e9);
  return g_variant_print(value, FALSE);
}

int print_dictionary(Session *session, const char *method, GVariant *arguments) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, method, arguments, &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) dictionary = g_variant_get_child_value(result, 0);
  if (session->json) {
    print_json(dictionary);
    return EXIT_OK;
  }
  GVariantIter iterator;
  const char *key;
  GVariant *value;
  g_variant_iter_init(&iterator, dictionary);
  while (g_variant_iter_loop(&iterator, "{&sv}", &key, &value)) {
    g_autofree char *text = value_to_text(key, value);
    g_print("%-14s %s\n", key, text);
  }
  return EXIT_OK;
}

static int run_info(Session *session, int argc, char **argv) {
  return print_dictionary(session, "Info", g_variant_new("(s)", argv[0]));
}

static int run_version(Session *session, int argc, char **argv) {
  if (!session->json) g_print("%-14s %s\n", "vmctl", STELE_VERSION);
  return print_dictionary(session, "Version", NULL);
}

const Command command_info = {"info", "NAME", "tell all about a machine", NULL, 1, 1, NULL, run_info};
const Command command_version = {"version", "",         "print the versions of vmctl, steled and libvirt", NULL, 0, 0,
                                 NULL,      run_version};
