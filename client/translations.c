// vmctl translate, cache: translations made ahead.
#include "vmctl.h"

#include <string.h>

static char *size_text(GVariant *dictionary, const char *key) {
  guint64 bytes = 0;
  g_variant_lookup(dictionary, key, "t", &bytes);
  return g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
}

// The dictionary that is the method's result, or NULL and error.
static GVariant *call(Session *session, const char *method, GVariant *arguments, GError **error) {
  g_autoptr(GVariant) result = session_call(session, method, arguments, error);
  return result ? g_variant_get_child_value(result, 0) : NULL;
}

// --- translate -----------------------------------------------------------------------------------

static int run_translate(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GVariant) result = call(session, "Translate", g_variant_new("(s)", argv[0]), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json) {
    print_json(result);
    return EXIT_OK;
  }
  guint files = 0;
  g_variant_lookup(result, "files", "u", &files);
  g_autofree char *bytes = size_text(result, "bytes");
  g_print("the root of machine '%s' is translated: %u files, %s\n", argv[0], files, bytes);
  return EXIT_OK;
}

const Command command_translate = {"translate",
                                   "NAME",
                                   "translate a machine's root ahead, or anew as it is now",
                                   "What is translated its definition says (<stele:translator ahead='loaded'/> or "
                                   "'all'); a machine that runs uses it when it "
                                   "is next started. ^C ends it; what is done by then is not done again.",
                                   1,
                                   1,
                                   NULL,
                                   run_translate};

// --- cache ---------------------------------------------------------------------------------------

static gboolean prune_all;
static gint64 keep_mib = -1;

static void add_cell(GPtrArray *cells, const char *text) {
  g_ptr_array_add(cells, printable(text));
}

static char *time_text(GVariant *row) {
  gint64 seconds = 0;
  g_variant_lookup(row, "used", "x", &seconds);
  g_autoptr(GDateTime) time = seconds ? g_date_time_new_from_unix_local(seconds) : NULL;
  return time ? g_date_time_format(time, "%F %R") : g_strdup("-");
}

static void add_root(GPtrArray *cells, GVariant *row) {
  gboolean in_use = FALSE;
  g_variant_lookup(row, "in-use", "b", &in_use);
  g_autofree char *bytes = size_text(row, "bytes"), *used = time_text(row);
  const char *root = lookup_string(row, "root");
  add_cell(cells, *root ? root : "(not finished)");
  add_cell(cells, lookup_string(row, "ahead"));
  add_cell(cells, bytes);
  add_cell(cells, in_use ? "in use" : used);
}

static int print_stats(Session *session) {
  GError *error = NULL;
  g_autoptr(GVariant) stats = call(session, "TranslationStats", NULL, &error);
  if (stats == NULL) return session_fail(session, error);
  if (session->json) {
    print_json(stats);
    return EXIT_OK;
  }
  static const char *const heads[] = {"ROOT", "AHEAD", "SIZE", "USED"};
  g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
  for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) add_cell(cells, heads[i]);
  g_autoptr(GVariant) roots = g_variant_lookup_value(stats, "roots", G_VARIANT_TYPE("aa{sv}"));
  for (gsize i = 0; roots && i < g_variant_n_children(roots); i++) {
    g_autoptr(GVariant) row = g_variant_get_child_value(roots, i);
    add_root(cells, row);
  }
  print_table(cells, G_N_ELEMENTS(heads));
  g_autofree char *bytes = size_text(stats, "bytes"), *limit = size_text(stats, "limit"),
                  *directory = printable(lookup_string(stats, "directory"));
  g_print("%s of at most %s in %s\n", bytes, limit, directory);
  return EXIT_OK;
}

// Without an option: what is above the limit, which is little but after the limit was lowered.
static int prune(Session *session) {
  GError *error = NULL;
  guint64 bytes = 0;
  g_autoptr(GVariant) stats = prune_all || keep_mib >= 0 ? NULL : call(session, "TranslationStats", NULL, &error);
  if (error) return session_fail(session, error);
  if (stats) g_variant_lookup(stats, "limit", "t", &bytes);
  if (keep_mib >= 0) bytes = (guint64)keep_mib << 20;
  g_autoptr(GVariant) result = call(session, "PruneTranslations", g_variant_new("(t)", bytes), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json) {
    print_json(result);
    return EXIT_OK;
  }
  guint removed = 0;
  g_variant_lookup(result, "removed", "u", &removed);
  g_autofree char *freed = size_text(result, "freed"), *left = size_text(result, "bytes");
  g_print("%u roots' translations removed, %s; %s are left\n", removed, freed, left);
  return EXIT_OK;
}

static const GOptionEntry cache_options[] = {
    {"all", 'a', 0, G_OPTION_ARG_NONE, &prune_all, "prune: remove all that no machine uses just now", NULL},
    {"keep", 0, 0, G_OPTION_ARG_INT64, &keep_mib, "prune: keep MIB of what was used last", "MIB"},
    {NULL}};

static int run_cache(Session *session, int argc, char **argv) {
  gboolean stats = g_str_equal(argv[0], "stats");
  if (!stats && !g_str_equal(argv[0], "prune")) {
    print_error(session, NULL, EXIT_USAGE, "cache: what to do is stats or prune");
    return EXIT_USAGE;
  }
  if (keep_mib < -1 || keep_mib > G_MAXINT32 || (stats && (prune_all || keep_mib >= 0))) {
    print_error(session, NULL, EXIT_USAGE, "cache: --all and --keep=MIB belong to prune");
    return EXIT_USAGE;
  }
  return stats ? print_stats(session) : prune(session);
}

const Command command_cache = {"cache",
                               "stats|prune",
                               "show or remove translations made ahead",
                               "prune removes what no machine uses just now, the longest unused first, until the "
                               "host's limit is kept, or --keep's.",
                               1,
                               1,
                               cache_options,
                               run_cache};
