// Translations made ahead by a program that is not to be trusted: it reads files that may be anybody's, and its
// directory is its user's. Here that program is this one, which does what the number of its --features says.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "translations.h"

#define LIMIT  (4 << 20)
#define NOBODY 65534

enum { WORKS, ENDS, CLOSES_ITS_OUTPUT, SAYS_MUCH };

static const char *argument_behind(char **argv, const char *option) {
  while (*argv && strcmp(*argv, option) != 0) argv++;
  return *argv ? argv[1] : "";
}

static _Noreturn void work(const char *store) {
  int fd = open(store, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  bool good = fd >= 0 && write(fd, "stored", 6) == 6;
  dprintf(1, "1 1\n");
  _exit(good ? 0 : 1);
}

static _Noreturn void say_much(void) {
  for (int i = 0; i < 200000; i++)
    if (write(1, i & 1 ? "1 2\n" : "2 2\n", 4) < 0) break;
  _exit(1);
}

// Before Criterion's main().
static __attribute__((constructor)) void be_stele_aot(int argc, char **argv, char **environment) {
  if (argc < 1 || strcmp(argv[0], "stele-aot") != 0) return;
  switch (atoi(argument_behind(argv, "--features"))) {
  case WORKS:
    work(argument_behind(argv, "--output"));
  case CLOSES_ITS_OUTPUT:
    close(1), close(2);
    for (;;) pause();
  case SAYS_MUCH:
    say_much();
  default:
    _exit(0);
  }
}

static char *place, *home;
static HostPaths paths;
static TranslationsWish wish;
static guint told;

static void set_scene(void) {
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  place = g_dir_make_tmp("translations-XXXXXX", NULL);
  cr_assert_eq(chmod(place, 0755), 0);
  paths = (HostPaths){.root = place, .aot = g_steal_pointer(&self), .translations_limit = LIMIT};
  wish = (TranslationsWish){.root = "/", .translator = "/bin/true", .ahead = "all", .memory = "both"};
  told = 0;
}

static void clear_scene(void) {
  g_autofree char *command = g_strdup_printf("rm -rf '%s'", place);
  cr_assert_eq(system(command), 0);
}

TestSuite(translations, .init = set_scene, .fini = clear_scene, .timeout = 120);

static void count(guint done, guint all, gpointer user_data) {
  told++;
}

// What comes of it when the program does that: the error's code, or -1.
static int make(guint32 what) {
  g_autoptr(GHashTable) in_use = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr(GError) error = NULL;
  GVariant *result = NULL;
  wish.features = what;
  g_free(home);
  home = translations_dup_directory(&paths, &wish);
  gboolean good = translations_make(&paths, &wish, in_use, NULL, count, NULL, &result, &error);
  if (result) g_variant_unref(g_variant_ref_sink(result));
  cr_expect_eq(good, error == NULL);
  cr_expect_eq(good, translations_are_there(&paths, &wish, FALSE));
  return good ? -1 : error->code;
}

// A file of the program's user in its directory, as an earlier run may have left it.
static char *prepare(guint32 what, int (*create)(const char *path)) {
  wish.features = what;
  g_autofree char *directory = translations_dup_directory(&paths, &wish),
                  *work = g_build_filename(directory, "work", NULL);
  char *path = g_build_filename(work, "store", NULL);
  cr_assert_eq(g_mkdir_with_parents(work, 0711), 0);
  cr_assert_eq(create(path), 0, "%s", strerror(errno));
  if (geteuid() == 0) cr_assert_eq(lchown(path, NOBODY, NOBODY), 0);
  return path;
}

static int create_fifo(const char *path) {
  return mkfifo(path, 0666);
}

static int create_large(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT, 0644), failed = fd < 0 || ftruncate(fd, LIMIT + 4096) < 0;
  return close(fd) < 0 || failed ? -1 : 0;
}

static int create_link(const char *path) {
  return symlink("/proc/self/exe", path);
}

Test(translations, made) {
  cr_expect_eq(make(WORKS), -1);
  g_autofree char *file = g_build_filename(home, "stele", NULL), *content = NULL;
  cr_assert(g_file_get_contents(file, &content, NULL, NULL));
  cr_expect_str_eq(content, "stored");
}

Test(translations, fifo_in_its_directory_holds_nobody_up) {
  g_free(prepare(ENDS, create_fifo));
  cr_expect_eq(make(ENDS), STELE_ERROR_STORAGE);
}

Test(translations, larger_than_allowed_is_not_copied) {
  g_free(prepare(ENDS, create_large));
  cr_expect_eq(make(ENDS), STELE_ERROR_STORAGE_FULL);
}

Test(translations, link_does_not_count_as_what_it_leads_to) {
  g_autofree char *path = prepare(ENDS, create_link);
  g_autoptr(GHashTable) in_use = g_hash_table_new(g_str_hash, g_str_equal);
  g_autoptr(GVariant) stats = g_variant_ref_sink(translations_stats(&paths, in_use));
  guint64 bytes = 1;
  cr_assert(g_variant_lookup(stats, "bytes", "t", &bytes));
  cr_expect_lt(bytes, 65536, "%s counts as %" G_GUINT64_FORMAT " bytes", path, bytes);
}

Test(translations, output_closed_ends_it) {
  cr_expect_eq(make(CLOSES_ITS_OUTPUT), STELE_ERROR_STORAGE);
}

Test(translations, much_said_is_no_memory) {
  cr_expect_eq(make(SAYS_MUCH), STELE_ERROR_STORAGE);
  cr_expect_lt(told, 100, "progress was told %u times", told);
}
