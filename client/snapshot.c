// vmctl snapshot: what a machine has changed, kept and brought back.
#include "vmctl.h"

static const struct {
  const char *verb, *method, *done;
} verbs[] = {{"create", "CreateSnapshot", "is kept as"},
             {"restore", "RestoreSnapshot", "is again as in"},
             {"remove", "RemoveSnapshot", "no longer has"}};

static void print_snapshots(GVariant *snapshots) {
  g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
  static const char *const heads[] = {"NAME", "SIZE", "SINCE"};
  for (gsize i = 0; i < G_N_ELEMENTS(heads); i++) g_ptr_array_add(cells, g_strdup(heads[i]));
  for (gsize n = 0; n < g_variant_n_children(snapshots); n++) {
    g_autoptr(GVariant) snapshot = g_variant_get_child_value(snapshots, n);
    gint64 created = 0;
    guint64 size = 0;
    g_variant_lookup(snapshot, "created", "x", &created);
    g_variant_lookup(snapshot, "size", "t", &size);
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(created);
    g_ptr_array_add(cells, printable(lookup_string(snapshot, "name")));
    g_ptr_array_add(cells, g_format_size_full(size, G_FORMAT_SIZE_IEC_UNITS));
    g_ptr_array_add(cells, time ? g_date_time_format(time, "%Y-%m-%d %H:%M") : g_strdup("?"));
  }
  print_table(cells, G_N_ELEMENTS(heads));
}

static int list(Session *session, const char *name) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "ListSnapshots", g_variant_new("(s)", name), &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) snapshots = g_variant_get_child_value(result, 0);
  if (session->json)
    print_json(snapshots);
  else
    print_snapshots(snapshots);
  return EXIT_OK;
}

static int run_snapshot(Session *session, int argc, char **argv) {
  GError *error = NULL;
  if (argc == 1 || (argc == 2 && g_str_equal(argv[1], "list"))) return list(session, argv[0]);
  for (gsize i = 0; i < G_N_ELEMENTS(verbs) && argc == 3; i++) {
    if (!g_str_equal(argv[1], verbs[i].verb)) continue;
    g_autoptr(GVariant) result =
        session_call(session, verbs[i].method, g_variant_new("(ss)", argv[0], argv[2]), &error);
    if (result == NULL) return session_fail(session, error);
    if (!session->json) g_print("machine '%s' %s snapshot '%s'\n", argv[0], verbs[i].done, argv[2]);
    return EXIT_OK;
  }
  print_error(session, NULL, EXIT_USAGE, "snapshot: NAME create, restore or remove SNAPSHOT, or NAME list");
  return EXIT_USAGE;
}

const Command command_snapshot = {
    "snapshot",
    "NAME [list] | NAME create|restore|remove SNAPSHOT",
    "keep what a stopped machine has changed, and bring it back",
    "Of machines whose changes last, as create and run make them. What was changed since is lost by restore.",
    1,
    3,
    NULL,
    run_snapshot};
