// vmctl list --all-hosts: the machines of this host and of others, whose vmctl is asked over ssh(1), all at once.
#include "vmctl.h"

#include <json-glib/json-glib.h>
#include <string.h>

#define CONNECT_SECONDS "10"
#define HERE            "localhost"

typedef struct Asked {
  char *host;
  GSubprocess *ssh; // NULL: could not be started
  char *output, *complaint;
  gboolean good;
} Asked;

typedef struct Asking {
  GPtrArray *hosts; // of Asked
  guint under_way;
} Asking;

static void asked_free(gpointer data) {
  Asked *asked = data;
  g_clear_object(&asked->ssh);
  g_free(asked->host);
  g_free(asked->output);
  g_free(asked->complaint);
  g_free(asked);
}

// --- which hosts ---------------------------------------------------------------------------------

static char *dup_file_of_hosts(void) {
  return g_build_filename(g_get_user_config_dir(), "stele", "hosts", NULL);
}

// Words of STELE_HOSTS or, without it, lines of the file; '#' begins a comment.
static char **read_hosts(void) {
  const char *given = g_getenv("STELE_HOSTS");
  g_autofree char *path = dup_file_of_hosts(), *text = NULL;
  if (given == NULL) g_file_get_contents(path, &text, NULL, NULL);
  g_auto(GStrv) lines = g_strsplit_set(given ? given : text ? text : "", given ? " \t\n" : "\n", -1);
  GStrvBuilder *hosts = g_strv_builder_new();
  for (char **line = lines; *line; line++) {
    (*line)[strcspn(*line, "#")] = 0;
    if (*g_strstrip(*line)) g_strv_builder_add(hosts, *line);
  }
  char **list = g_strv_builder_end(hosts);
  g_strv_builder_unref(hosts);
  return list;
}

// --- asking --------------------------------------------------------------------------------------

typedef struct Waiting {
  Asking *asking;
  Asked *asked;
} Waiting;

static void on_answered(GObject *source, GAsyncResult *result, gpointer user_data) {
  Waiting *it = user_data;
  g_autoptr(GError) error = NULL;
  it->asked->good =
      g_subprocess_communicate_utf8_finish(it->asked->ssh, result, &it->asked->output, &it->asked->complaint, &error) &&
      g_subprocess_get_successful(it->asked->ssh);
  it->asking->under_way--;
  g_free(it);
}

// No password is asked for: several hosts would ask at once.
static void ask(Asking *asking, const char *host) {
  Asked *asked = g_new0(Asked, 1);
  asked->host = g_strdup(host);
  g_ptr_array_add(asking->hosts, asked);
  g_autoptr(GError) error = NULL;
  if (*host == '-') {
    asked->complaint = g_strdup("it is no [USER@]HOST, as ssh takes it");
    return;
  }
  asked->ssh =
      g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error, "ssh", "-T",
                       "-oBatchMode=yes", "-oConnectTimeout=" CONNECT_SECONDS, "--", host, "vmctl --json list", NULL);
  if (asked->ssh == NULL) {
    asked->complaint = g_strdup(error->message);
    return;
  }
  Waiting *waiting = g_new(Waiting, 1);
  *waiting = (Waiting){asking, asked};
  asking->under_way++;
  g_subprocess_communicate_utf8_async(asked->ssh, NULL, NULL, on_answered, waiting);
}

// --- putting it together -------------------------------------------------------------------------

static void begin_row(GVariantBuilder *rows, const char *host) {
  g_variant_builder_open(rows, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(rows, "{sv}", "host", g_variant_new_string(host));
}

static void add_remote_machine(GVariantBuilder *rows, const char *host, JsonObject *machine) {
  g_autoptr(GList) members = json_object_get_members(machine);
  begin_row(rows, host);
  for (GList *item = members; item; item = item->next) {
    JsonNode *value = json_object_get_member(machine, item->data);
    GType type = JSON_NODE_HOLDS_VALUE(value) ? json_node_get_value_type(value) : G_TYPE_INVALID;
    if (g_str_equal(item->data, "host")) continue;
    if (type == G_TYPE_STRING)
      g_variant_builder_add(rows, "{sv}", item->data, g_variant_new_string(json_node_get_string(value)));
    else if (type == G_TYPE_BOOLEAN)
      g_variant_builder_add(rows, "{sv}", item->data, g_variant_new_boolean(json_node_get_boolean(value)));
  }
  g_variant_builder_close(rows);
}

// FALSE: it is no list of objects.
static gboolean add_remote_list(GVariantBuilder *rows, const Asked *asked) {
  g_autoptr(JsonParser) parser = json_parser_new();
  if (!json_parser_load_from_data(parser, asked->output, -1, NULL)) return FALSE;
  JsonNode *root = json_parser_get_root(parser);
  if (root == NULL || !JSON_NODE_HOLDS_ARRAY(root)) return FALSE;
  JsonArray *machines = json_node_get_array(root);
  for (guint i = 0; i < json_array_get_length(machines); i++)
    if (!JSON_NODE_HOLDS_OBJECT(json_array_get_element(machines, i))) return FALSE;
  for (guint i = 0; i < json_array_get_length(machines); i++)
    add_remote_machine(rows, asked->host, json_array_get_object_element(machines, i));
  return TRUE;
}

static void complain(Session *session, const Asked *asked) {
  g_autofree char *words = printable(asked->complaint && *asked->complaint ? g_strchomp(asked->complaint)
                                                                           : "its answer is no list of machines"),
                  *host = printable(asked->host), *message = g_strdup_printf("%s: %s", host, words);
  print_error(session, NULL, EXIT_UNREACHABLE, message);
}

// What cannot be asked is an error, and the others' machines are listed all the same.
static int add_remote(Session *session, GVariantBuilder *rows) {
  Asking asking = {.hosts = g_ptr_array_new_with_free_func(asked_free)};
  g_auto(GStrv) hosts = read_hosts();
  int code = EXIT_OK;
  for (char **host = hosts; *host; host++) ask(&asking, *host);
  while (asking.under_way) g_main_context_iteration(NULL, TRUE);
  for (guint i = 0; i < asking.hosts->len; i++) {
    const Asked *asked = asking.hosts->pdata[i];
    if (asked->good && add_remote_list(rows, asked)) continue;
    complain(session, asked);
    code = EXIT_UNREACHABLE;
  }
  g_ptr_array_unref(asking.hosts);
  return code;
}

static int add_local(Session *session, GVariantBuilder *rows) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "List", NULL, &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) machines = g_variant_get_child_value(result, 0);
  for (gsize i = 0; i < g_variant_n_children(machines); i++) {
    g_autoptr(GVariant) machine = g_variant_get_child_value(machines, i);
    GVariantIter members;
    const char *key;
    GVariant *value;
    begin_row(rows, HERE);
    g_variant_iter_init(&members, machine);
    while (g_variant_iter_loop(&members, "{&sv}", &key, &value)) g_variant_builder_add(rows, "{sv}", key, value);
    g_variant_builder_close(rows);
  }
  return EXIT_OK;
}

GVariant *all_hosts_list(Session *session, int *ret_code) {
  GVariantBuilder rows;
  g_variant_builder_init(&rows, G_VARIANT_TYPE("aa{sv}"));
  int here = add_local(session, &rows), there = add_remote(session, &rows);
  *ret_code = here ? here : there;
  return g_variant_ref_sink(g_variant_builder_end(&rows));
}
