// Definitions on disk: whole or not at all, whatever goes wrong.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "machine-store.h"

static char *directory;
static MachineStore *store;

static void open_store(void) {
  directory = g_dir_make_tmp("stele-store-XXXXXX", NULL);
  store = machine_store_open(directory, NULL);
  cr_assert_not_null(store);
}

static void close_store(void) {
  machine_store_close(store);
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  for (const char *name; (name = g_dir_read_name(files));) {
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_unlink(path);
  }
  g_rmdir(directory);
  g_free(directory);
}

TestSuite(machine_store, .init = open_store, .fini = close_store);

static guint count_files(void) {
  guint count = 0;
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  while (g_dir_read_name(files)) count++;
  return count;
}

static void put(const char *name, const char *xml) {
  MachineDraft *draft = machine_store_write(store, name, xml, NULL);
  cr_assert_not_null(draft);
  cr_assert(machine_draft_commit(draft, NULL));
}

Test(machine_store, keeps_and_lists) {
  put("beta", "<b/>");
  put("alpha", "<a/>");
  put("alpha", "<a2/>");
  g_autofree char *text = machine_store_read(store, "alpha", NULL);
  cr_expect_str_eq(text, "<a2/>");
  g_autoptr(GPtrArray) names = machine_store_list(store, NULL);
  cr_assert_eq(names->len, 2);
  cr_expect_str_eq(names->pdata[0], "alpha");
  cr_expect_str_eq(names->pdata[1], "beta");
}

// What somebody put among the definitions with a name that no machine can have.
Test(machine_store, only_names_of_machines) {
  static const char *const odd[] = {"", "-option", ".hidden", "two words", "\033[2J", "\xff\xfe", "\u202eright"};
  put("alpha", "<a/>");
  for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) put(odd[i], "<odd/>");
  g_autoptr(GPtrArray) names = machine_store_list(store, NULL);
  cr_assert_eq(names->len, 1);
  cr_expect_str_eq(names->pdata[0], "alpha");
}

// A note of a rename is believed as long as it can be one: the machine would go with it.
Test(machine_store, renamed_to_what_is_no_name) {
  static const char *const odd[] = {"", "../machines/beta", ".", "beta beta"};
  gboolean complete = FALSE;
  put("alpha", "<a/>");
  put("beta", "<b/>");
  put("", "<odd/>");
  machine_store_note_rename(store, "alpha", "beta");
  cr_expect(machine_store_recall_rename(store, "alpha", &complete) && complete);
  for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
    machine_store_note_rename(store, "alpha", odd[i]);
    cr_expect_not(machine_store_recall_rename(store, "alpha", &complete) && complete, "'%s'", odd[i]);
  }
}

Test(machine_store, a_draft_is_not_yet_there) {
  put("dev", "<old/>");
  MachineDraft *draft = machine_store_write(store, "dev", "<new/>", NULL);
  g_autofree char *before = machine_store_read(store, "dev", NULL);
  cr_expect_str_eq(before, "<old/>");
  machine_draft_discard(draft);
  g_autofree char *after = machine_store_read(store, "dev", NULL);
  cr_expect_str_eq(after, "<old/>");
  cr_expect_eq(count_files(), 1);
}

Test(machine_store, what_a_killed_steled_left_is_removed) {
  put("dev", "<old/>");
  MachineDraft *draft = machine_store_write(store, "dev", "<new/>", NULL); // and then it was killed
  cr_assert_not_null(draft);
  MachineStore *again = machine_store_open(directory, NULL);
  g_autofree char *text = machine_store_read(again, "dev", NULL);
  cr_expect_str_eq(text, "<old/>");
  cr_expect_eq(count_files(), 1);
  machine_store_close(again);
  machine_draft_discard(draft);
}

// What is no file is refused, and not waited for (the alarm ends the test).
Test(machine_store, a_fifo_is_no_definition) {
  g_autofree char *fifo = g_build_filename(directory, "pipe.xml", NULL),
                  *folder = g_build_filename(directory, "dir.xml", NULL);
  g_autoptr(GError) error = NULL, other = NULL;
  alarm(20);
  cr_assert_eq(mkfifo(fifo, 0600), 0);
  cr_assert_eq(g_mkdir(folder, 0700), 0);
  cr_expect_null(machine_store_read(store, "pipe", &error));
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_STORAGE));
  cr_expect_null(machine_store_read(store, "dir", &other));
  cr_expect(g_error_matches(other, STELE_ERROR, STELE_ERROR_STORAGE));
  cr_expect_not(strstr(other->message, "Success"), "%s", other->message);
  g_rmdir(folder);
}

// A limit on file size is the full disk that needs no mount.
Test(machine_store, full_disk_changes_nothing) {
  put("dev", "<old/>");
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
  g_autofree char *large = g_strnfill(10000, 'x');
  g_autoptr(GError) error = NULL;
  MachineDraft *draft = machine_store_write(store, "dev", large, &error);
  limit.rlim_cur = RLIM_INFINITY;
  setrlimit(RLIMIT_FSIZE, &limit);
  cr_assert_null(draft);
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_STORAGE_FULL), "%s", error->message);
  g_autofree char *text = machine_store_read(store, "dev", NULL);
  cr_expect_str_eq(text, "<old/>");
  cr_expect_eq(count_files(), 1);
}

Test(machine_store, removal) {
  put("dev", "<a/>");
  machine_store_note_state(store, "dev", "running", "ready");
  cr_expect(machine_store_remove(store, "dev", NULL));
  cr_expect_eq(count_files(), 0);
  cr_expect(machine_store_remove(store, "dev", NULL), "removing twice is no error");
}

Test(machine_store, state_is_recalled) {
  g_autofree char *state = NULL, *reason = NULL;
  cr_expect_not(machine_store_recall_state(store, "dev", &state, &reason));
  machine_store_note_state(store, "dev", "running", "ready");
  cr_assert(machine_store_recall_state(store, "dev", &state, &reason));
  cr_expect_str_eq(state, "running");
  cr_expect_str_eq(reason, "ready");
}

Test(machine_store, a_link_in_the_way_of_a_draft_is_not_followed) {
  g_autofree char *target = g_build_filename(directory, "target", NULL),
                  *link = g_build_filename(directory, "dev.draft", NULL);
  g_file_set_contents(target, "precious", -1, NULL);
  cr_assert_eq(symlink(target, link), 0);
  cr_expect_null(machine_store_write(store, "dev", "<a/>", NULL));
  g_autofree char *text = NULL;
  g_file_get_contents(target, &text, NULL, NULL);
  cr_expect_str_eq(text, "precious");
}
