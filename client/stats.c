// vmctl stats and top: what running machines use.
#include "vmctl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SAMPLE_SECONDS 2

static const GOptionEntry no_options[] = {{NULL}};

typedef struct Sample {
  char *name;
  gint64 time;     // monotonic
  GVariant *stats; // a{st}
} Sample;

static void sample_free(gpointer data) {
  Sample *sample = data;
  g_free(sample->name);
  g_variant_unref(sample->stats);
  g_free(sample);
}

static guint64 value_of(const Sample *sample, const char *key) {
  guint64 value = 0;
  g_variant_lookup(sample->stats, key, "t", &value);
  return value;
}

// A machine that stops meanwhile is left out.
static void take_one(Session *session, GPtrArray *samples, const char *name) {
  g_autoptr(GError) ignored = NULL;
  g_autoptr(GVariant) result = session_call(session, "Stats", g_variant_new("(s)", name), &ignored);
  if (result == NULL) return;
  Sample *sample = g_new(Sample, 1);
  *sample = (Sample){g_strdup(name), g_get_monotonic_time(), g_variant_get_child_value(result, 0)};
  g_ptr_array_add(samples, sample);
}

static GPtrArray *take(Session *session, int argc, char **argv, GError **error) {
  g_autoptr(GPtrArray) samples = g_ptr_array_new_with_free_func(sample_free);
  g_autoptr(GVariant) result = session_call(session, "List", NULL, error);
  if (result == NULL) return NULL;
  g_autoptr(GVariant) machines = g_variant_get_child_value(result, 0);
  for (gsize i = 0; i < g_variant_n_children(machines); i++) {
    g_autoptr(GVariant) machine = g_variant_get_child_value(machines, i);
    const char *name = lookup_string(machine, "name"), *state = lookup_string(machine, "state");
    gboolean wanted = argc == 0;
    for (int k = 0; k < argc; k++) wanted |= g_str_equal(argv[k], name);
    if (wanted && !g_str_equal(state, "stopped") && !g_str_equal(state, "starting")) take_one(session, samples, name);
  }
  return g_steal_pointer(&samples);
}

static int print_stats_json(const GPtrArray *samples) {
  GVariantBuilder list;
  g_variant_builder_init(&list, G_VARIANT_TYPE("a{sa{st}}"));
  for (guint i = 0; i < samples->len; i++) {
    const Sample *sample = samples->pdata[i];
    g_variant_builder_add(&list, "{s@a{st}}", sample->name, sample->stats);
  }
  g_autoptr(GVariant) value = g_variant_ref_sink(g_variant_builder_end(&list));
  print_json(value);
  return EXIT_OK;
}

static const Sample *find_sample(const GPtrArray *samples, const char *name) {
  for (guint i = 0; samples && i < samples->len; i++)
    if (g_str_equal(((Sample *)samples->pdata[i])->name, name)) return samples->pdata[i];
  return NULL;
}

static void add_size(GPtrArray *cells, guint64 bytes) {
  g_ptr_array_add(cells, g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS));
}

// CPU since the sample before, where there is one: 100% is one processor of the host's.
static void add_cpu(GPtrArray *cells, const Sample *now, const Sample *before) {
  guint64 used = value_of(now, "cpu-time");
  if (before == NULL) {
    g_ptr_array_add(cells, g_strdup_printf("%.1f s", (double)used / 1e9));
    return;
  }
  double passed = (double)MAX(now->time - before->time, 1) * 1e3;
  g_ptr_array_add(cells,
                  g_strdup_printf("%.0f%%", 100 * (double)(used - MIN(value_of(before, "cpu-time"), used)) / passed));
}

static void print_samples(const GPtrArray *samples, const GPtrArray *before) {
  static const char *const heads[] = {"NAME", "CPU", "RESIDENT", "OF", "READ", "WRITTEN", "RECEIVED", "SENT"};
  static const char *const keys[] = {"memory-resident", "memory",       "block-read",
                                     "block-written",   "net-received", "net-sent"};
  g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
  for (gsize i = 0; i < G_N_ELEMENTS(heads); i++) g_ptr_array_add(cells, g_strdup(heads[i]));
  for (guint i = 0; i < samples->len; i++) {
    const Sample *sample = samples->pdata[i];
    g_ptr_array_add(cells, printable(sample->name));
    add_cpu(cells, sample, find_sample(before, sample->name));
    for (gsize k = 0; k < G_N_ELEMENTS(keys); k++) add_size(cells, value_of(sample, keys[k]));
  }
  print_table(cells, G_N_ELEMENTS(heads));
}

static int run_stats(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GPtrArray) samples = take(session, argc, argv, &error);
  if (samples == NULL) return session_fail(session, error);
  if (session->json) return print_stats_json(samples);
  print_samples(samples, NULL);
  return EXIT_OK;
}

// On a terminal the screen is painted anew; elsewhere tables follow one another.
static int run_top(Session *session, int argc, char **argv) {
  g_autoptr(GPtrArray) before = NULL;
  session->quiet = TRUE;
  for (;;) {
    GError *error = NULL;
    GPtrArray *now = take(session, argc, argv, &error);
    if (now == NULL) return session_fail(session, error);
    if (isatty(STDOUT_FILENO)) g_print("\033[H\033[2J");
    if (before) print_samples(now, before);
    if (before == NULL && isatty(STDOUT_FILENO)) g_print("measuring …\n");
    if (output_is_lost()) return EXIT_OK;
    if (before) g_ptr_array_unref(before);
    before = now;
    g_usleep(SAMPLE_SECONDS * G_USEC_PER_SEC);
  }
}

const Command command_stats = {"stats",    "[NAME…]", "what running machines have used since their start", NULL, 0, -2,
                               no_options, run_stats};
const Command command_top = {"top",      "[NAME…]", "what running machines use, every two seconds until interrupted",
                             NULL,       0,         -2,
                             no_options, run_top};
