// vmctl image: pull, import, list, inspect, remove and prune images. The words after 'image' choose a row of `actions`.
#include "vmctl.h"

#include <string.h>
#include <unistd.h>
#include "api-errors.h"

static gboolean insecure, unused;
static char *new_name, *authfile;
static const GOptionEntry options[] = {
    {"name", 'n', 0, G_OPTION_ARG_STRING, &new_name, "pull, import: give the image this name", "NAME"},
    {"insecure", 0, 0, G_OPTION_ARG_NONE, &insecure, "pull: the registry may be one without TLS", NULL},
    {"authfile", 0, 0, G_OPTION_ARG_FILENAME, &authfile, "pull: credentials (default: skopeo's and docker's)", "FILE"},
    {"unused", 'a', 0, G_OPTION_ARG_NONE, &unused, "prune: also images that are no machine's root", NULL},
    {NULL}};

// --- pull and import ------------------------------------------------------------------------------

// Where skopeo, podman and docker keep a user's credentials (containers-auth.json(5)); steled's own user has others.
static char *find_authfile(void) {
  const char *given = g_getenv("REGISTRY_AUTH_FILE");
  if (authfile) return g_canonicalize_filename(authfile, NULL);
  if (given && *given) return g_canonicalize_filename(given, NULL);
  char *const places[] = {g_build_filename(g_get_user_runtime_dir(), "containers", "auth.json", NULL),
                          g_build_filename(g_get_user_config_dir(), "containers", "auth.json", NULL),
                          g_build_filename(g_get_home_dir(), ".docker", "config.json", NULL)};
  char *found = NULL;
  for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
    if (found == NULL && access(places[i], R_OK) == 0) found = g_strdup(places[i]);
    g_free(places[i]);
  }
  return found;
}

static GVariant *pull(Session *session, const char *source, gboolean plain, GError **error) {
  GVariantBuilder call_options;
  g_autofree char *credentials = find_authfile();
  g_variant_builder_init(&call_options, G_VARIANT_TYPE_VARDICT);
  if (new_name) g_variant_builder_add(&call_options, "{sv}", "name", g_variant_new_string(new_name));
  if (plain) g_variant_builder_add(&call_options, "{sv}", "insecure", g_variant_new_boolean(TRUE));
  if (credentials) g_variant_builder_add(&call_options, "{sv}", "authfile", g_variant_new_string(credentials));
  session->subject = source;
  g_autoptr(GVariant) result =
      session_call(session, "PullImage", g_variant_new("(sa{sv})", source, &call_options), error);
  session->subject = NULL;
  return result ? g_variant_get_child_value(result, 0) : NULL;
}

const char **lookup_strings(GVariant *description, const char *key) {
  const char **strings = NULL;
  g_variant_lookup(description, key, "^a&s", &strings);
  return strings;
}

static int report_pulled(Session *session, const char *source, gboolean plain) {
  GError *error = NULL;
  g_autoptr(GVariant) image = pull(session, source, plain, &error);
  if (image == NULL) return session_fail(session, error);
  g_autofree const char **names = lookup_strings(image, "names");
  if (session->json)
    print_json(image);
  else
    g_print("image '%s' is here: %.12s\n", names && *names ? *names : source, lookup_string(image, "id"));
  return EXIT_OK;
}

static int run_pull(Session *session, int argc, char **argv) {
  return report_pulled(session, argv[0], insecure);
}

// What is imported is a file or directory here; oci: and the like stand before a path.
static int run_import(Session *session, int argc, char **argv) {
  static const char *const transports[] = {"oci:", "oci-archive:", "docker-archive:"};
  for (gsize i = 0; i < G_N_ELEMENTS(transports); i++) {
    if (!g_str_has_prefix(argv[0], transports[i])) continue;
    g_autofree char *path = g_canonicalize_filename(argv[0] + strlen(transports[i]), NULL),
                    *source = g_strconcat(transports[i], path, NULL);
    return report_pulled(session, source, FALSE);
  }
  g_autofree char *path = g_canonicalize_filename(argv[0], NULL);
  return report_pulled(session, path, FALSE);
}

GVariant *image_ensure(Session *session, const char *image, gboolean plain, GError **error) {
  g_autoptr(GError) trouble = NULL;
  g_autoptr(GVariant) found = session_call(session, "InspectImage", g_variant_new("(s)", image), &trouble);
  if (found) return g_variant_get_child_value(found, 0);
  g_autofree char *remote = g_dbus_error_get_remote_error(trouble);
  if (g_strcmp0(remote, STELE_ERROR_PREFIX "NoSuchImage") == 0) return pull(session, image, plain, error);
  g_propagate_error(error, g_steal_pointer(&trouble));
  return NULL;
}

// --- list and inspect -----------------------------------------------------------------------------

static char *age(gint64 created) {
  g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(created);
  return time ? g_date_time_format(time, "%Y-%m-%d %H:%M") : g_strdup("");
}

static void add_rows(GPtrArray *cells, GVariant *image) {
  guint64 size = 0;
  gint64 created = 0;
  g_autofree const char **names = lookup_strings(image, "names");
  g_variant_lookup(image, "size", "t", &size);
  g_variant_lookup(image, "created", "x", &created);
  static const char *const nameless[] = {"(none)", NULL};
  for (const char *const *name = names && *names ? names : (const char **)nameless; *name; name++) {
    g_ptr_array_add(cells, printable(*name));
    g_ptr_array_add(cells, g_strndup(lookup_string(image, "id"), 12));
    g_ptr_array_add(cells, g_format_size_full(size, G_FORMAT_SIZE_IEC_UNITS));
    g_ptr_array_add(cells, age(created));
  }
}

static int run_list(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "ListImages", NULL, &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) images = g_variant_get_child_value(result, 0);
  if (session->json) {
    print_json(images);
    return EXIT_OK;
  }
  static const char *const heads[] = {"NAME", "ID", "SIZE", "SINCE"};
  g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
  for (gsize i = 0; i < G_N_ELEMENTS(heads); i++) g_ptr_array_add(cells, g_strdup(heads[i]));
  for (gsize n = 0; n < g_variant_n_children(images); n++) {
    g_autoptr(GVariant) image = g_variant_get_child_value(images, n);
    add_rows(cells, image);
  }
  print_table(cells, G_N_ELEMENTS(heads));
  return EXIT_OK;
}

static int run_inspect(Session *session, int argc, char **argv) {
  return print_dictionary(session, "InspectImage", g_variant_new("(s)", argv[0]));
}

// --- remove and prune -----------------------------------------------------------------------------

static int run_remove(Session *session, int argc, char **argv) {
  for (int i = 0; i < argc; i++) {
    GError *error = NULL;
    g_autoptr(GVariant) result = session_call(session, "RemoveImage", g_variant_new("(s)", argv[i]), &error);
    if (result == NULL) return session_fail(session, error);
    if (!session->json) g_print("image '%s' removed\n", argv[i]);
  }
  return EXIT_OK;
}

static int run_prune(Session *session, int argc, char **argv) {
  GError *error = NULL;
  GVariantBuilder call_options;
  g_variant_builder_init(&call_options, G_VARIANT_TYPE_VARDICT);
  if (unused) g_variant_builder_add(&call_options, "{sv}", "unused", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result = session_call(session, "PruneImages", g_variant_new("(a{sv})", &call_options), &error);
  if (result == NULL) return session_fail(session, error);
  guint64 freed = 0;
  g_variant_get(result, "(t)", &freed);
  g_autofree char *size = g_format_size_full(freed, G_FORMAT_SIZE_IEC_UNITS);
  if (session->json)
    print_json_result("freed", result);
  else
    g_print("%s of what was fetched removed\n", size);
  return EXIT_OK;
}

// --- the subcommand -------------------------------------------------------------------------------

static const struct {
  const char *name;
  int least, most; // arguments; most -1: any number
  int (*run)(Session *session, int argc, char **argv);
} actions[] = {{"pull", 1, 1, run_pull},  {"import", 1, 1, run_import},   {"list", 0, 0, run_list},
               {"ls", 0, 0, run_list},    {"inspect", 1, 1, run_inspect}, {"remove", 1, -1, run_remove},
               {"rm", 1, -1, run_remove}, {"prune", 0, 0, run_prune}};

static int run_image(Session *session, int argc, char **argv) {
  for (gsize i = 0; i < G_N_ELEMENTS(actions); i++) {
    if (!g_str_equal(actions[i].name, argv[0])) continue;
    int count = argc - 1;
    if (count >= actions[i].least && (actions[i].most < 0 || count <= actions[i].most))
      return actions[i].run(session, count, argv + 1);
    g_autofree char *message =
        g_strdup_printf("image %s: %s", argv[0], count < actions[i].least ? "which one?" : "there is too much");
    print_error(session, NULL, EXIT_USAGE, message);
    return EXIT_USAGE;
  }
  g_autofree char *message =
      g_strdup_printf("image: there is no '%s': pull, import, list, inspect, remove and prune are there", argv[0]);
  print_error(session, NULL, EXIT_USAGE, message);
  return EXIT_USAGE;
}

const Command command_image = {
    "image",
    "pull REFERENCE | import PATH | list | inspect IMAGE | remove IMAGE… | prune",
    "images that machines are made of",
    "REFERENCE is what a registry has, as docker names it, or debian:SUITE, made of Debian's packages. PATH is an OCI "
    "layout, an archive of docker's or OCI's, a tarball or directory with a root file system, or an image of a disk "
    "with "
    "ext4 or erofs. What was interrupted is gone on with by the same command.",
    1,
    -2,
    options,
    run_image};
