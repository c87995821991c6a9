// Logs that others fill: what is kept of them, and that the writer goes on at the start.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "log-file.h"

static char *directory, *path, *older;

static void set_scene(void) {
  directory = g_dir_make_tmp("log-file-XXXXXX", NULL);
  path = g_build_filename(directory, "m.log", NULL);
  older = g_strconcat(path, ".1", NULL);
}

static void clear_scene(void) {
  log_file_remove(path);
  cr_expect_eq(g_rmdir(directory), 0, "something was left behind");
}

TestSuite(log_file, .init = set_scene, .fini = clear_scene);

static off_t size_of(const char *file) {
  struct stat status;
  return stat(file, &status) == 0 ? status.st_size : -1;
}

static void fill(int fd, char letter, gsize size) {
  g_autofree char *text = g_strnfill(size, letter);
  cr_assert_eq(write(fd, text, size), (ssize_t)size);
}

Test(log_file, does_not_grow) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  for (int i = 0; i < 20; i++) {
    fill(fd, (char)('a' + i), LOG_FILE_MAX);
    log_file_rotate(path);
    cr_assert_leq(size_of(path), LOG_FILE_MAX);
    cr_assert_leq(size_of(older), LOG_FILE_MAX);
  }
  cr_expect_eq(write(fd, "\nthe end\n", 9), 9);
  g_autofree char *tail = log_file_read_tail(path, 100);
  cr_expect_str_eq(tail, "the end");
  close(fd);
}

Test(log_file, small_ones_stay) {
  cr_assert(g_file_set_contents(path, "text", -1, NULL));
  cr_expect_not(log_file_rotate(path));
  cr_expect_eq(size_of(path), 4);
  cr_expect_eq(size_of(older), -1);
}

Test(log_file, reads_across_a_rotation) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  fill(fd, 'a', LOG_FILE_MAX + 1);
  cr_assert(log_file_rotate(path));
  fill(fd, 'b', 10);
  g_autoptr(GBytes) read = log_file_read(path, 15);
  cr_assert_eq(g_bytes_get_size(read), 15);
  cr_expect_arr_eq(g_bytes_get_data(read, NULL), "aaaaabbbbbbbbbb", 15);
  close(fd);
}

static char *dup_text(GBytes *bytes) {
  gsize size;
  const char *text = g_bytes_get_data(bytes, &size);
  char *copy = g_strndup(text ? text : "", size);
  g_bytes_unref(bytes);
  return copy;
}

Test(log_file, keeps_one_run_before) {
  g_autofree char *elsewhere = g_build_filename(directory, "other.log", NULL),
                  *former = g_strconcat(path, ".before", NULL);
  g_autofree char *none = (log_file_begin(path), dup_text(log_file_read_before(path, 100)));
  cr_expect_str_eq(none, "");
  for (const char *const *run = (const char *const[]){"first", "second", "third", NULL}; *run; run++) {
    log_file_begin(path);
    cr_assert(g_file_set_contents(path, *run, -1, NULL));
  }
  g_autofree char *before = dup_text(log_file_read_before(path, 100)), *now = dup_text(log_file_read(path, 100)),
                  *end = dup_text(log_file_read_before(path, 3));
  cr_expect_str_eq(before, "second");
  cr_expect_str_eq(now, "third");
  cr_expect_str_eq(end, "ond");
  cr_assert(g_file_set_contents(older, "older", -1, NULL) && g_file_set_contents(elsewhere, "x", -1, NULL));
  log_file_move(path, elsewhere);
  g_autofree char *moved = dup_text(log_file_read(elsewhere, 100)),
                  *with = dup_text(log_file_read_before(elsewhere, 100));
  cr_expect_str_eq(moved, "olderthird");
  cr_expect_str_eq(with, "second");
  log_file_begin(elsewhere);
  log_file_begin(elsewhere); // a run that printed nothing
  g_autofree char *nothing = dup_text(log_file_read_before(elsewhere, 100));
  cr_expect_str_eq(nothing, "");
  cr_expect_eq(size_of(former), -1);
  log_file_remove(elsewhere);
}

Test(log_file, of_none) {
  g_autofree char *tail = log_file_read_tail(path, 100);
  cr_expect_str_eq(tail, "");
  cr_expect_not(log_file_rotate(path));
}

Test(log_file, a_link_is_left_alone) {
  g_autofree char *target = g_build_filename(directory, "precious", NULL), *text = g_strnfill(LOG_FILE_MAX + 1, 'x');
  cr_assert(g_file_set_contents(target, text, -1, NULL));
  cr_assert_eq(symlink(target, path), 0);
  cr_expect_not(log_file_rotate(path));
  cr_expect_eq(size_of(target), LOG_FILE_MAX + 1);
  g_unlink(target);
}

Test(log_file, tail_is_clean) {
  cr_assert(g_file_set_contents(path,
                                "a\033[2Jb\xe2\x80\xae"
                                "c\n",
                                -1, NULL));
  g_autofree char *tail = log_file_read_tail(path, 100);
  cr_expect_str_eq(tail, "abc");
}
