// Roots made by hand: what is found to lack, and that damaged files are refused and never run past
// their end.
#include <criterion/criterion.h>
#include <elf.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "errors.h"
#include "root-check.h"

#define LOADER "/lib64/ld-linux-x86-64.so.2"

// A program with one loadable segment and, if it has a loader, a name of it at the end.
typedef struct Program {
  Elf64_Ehdr header;
  Elf64_Phdr segments[2];
  char loader[64];
} Program;

static char *root;

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
  return remove(path);
}

static void make_root(void) {
  root = g_dir_make_tmp("stele-root-XXXXXX", NULL);
}

static void remove_root(void) {
  nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  g_free(root);
}

TestSuite(root_check, .init = make_root, .fini = remove_root);

static void put(const char *path, const void *bytes, gsize size, int mode) {
  g_autofree char *full = g_build_filename(root, path, NULL), *directory = g_path_get_dirname(full);
  g_mkdir_with_parents(directory, 0755);
  cr_assert(g_file_set_contents(full, bytes, (gssize)size, NULL));
  g_chmod(full, (mode_t)mode);
}

static Program make_program(guint16 machine, const char *loader) {
  Program program = {.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                                .e_type = ET_DYN,
                                .e_machine = machine,
                                .e_phoff = offsetof(Program, segments),
                                .e_phentsize = sizeof(Elf64_Phdr),
                                .e_phnum = loader ? 2 : 1},
                     .segments = {{.p_type = PT_LOAD}}};
  if (loader) {
    g_strlcpy(program.loader, loader, sizeof program.loader);
    program.segments[1] =
        (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = offsetof(Program, loader), .p_filesz = strlen(loader) + 1};
  }
  return program;
}

static void put_program(const char *path, guint16 machine, const char *loader) {
  Program program = make_program(machine, loader);
  put(path, &program, sizeof program, 0755);
}

static void expect_refusal(const char *program, const char *words) {
  g_autoptr(GError) error = NULL;
  cr_assert_not(root_check_program(root, program, &error), "%s", program);
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_UNUSABLE_ROOT));
  cr_expect_not_null(strstr(error->message, words), "'%s' is not in: %s", words, error->message);
}

static void expect_good(const char *program) {
  g_autoptr(GError) error = NULL;
  cr_expect(root_check_program(root, program, &error), "%s: %s", program, error ? error->message : "");
}

// The kernel gives up on ".." while anything is renamed: what is there is found all the same.
Test(root_check, a_busy_system) {
  put_program("usr/bin/true", EM_X86_64, "/lib64/loader");
  put("usr/lib/loader", "", 0, 0755);
  g_autofree char *links = g_build_filename(root, "lib64", NULL), *link = g_build_filename(links, "loader", NULL);
  g_autofree char *one = g_build_filename(root, "one", NULL), *other = g_build_filename(root, "other", NULL);
  g_autoptr(GString) way = g_string_new(NULL); // a long one, so that the kernel is on it when a name changes
  while (way->len < 4000) g_string_append(way, "../lib64/");
  g_string_append(way, "../usr/lib/loader");
  g_mkdir_with_parents(links, 0755);
  cr_assert(symlink(way->str, link) == 0);
  put("one", "", 0, 0644);
  pid_t pid = fork();
  if (pid == 0)
    for (;;) rename(one, other), rename(other, one);
  gint64 end = g_get_monotonic_time() + 2 * G_USEC_PER_SEC; // of which both run at once now and then, busy as it may be
  while (g_get_monotonic_time() < end) expect_good("/usr/bin/true");
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

Test(root_check, more_headers_than_any_program_has) {
  Program program = make_program(EM_X86_64, NULL);
  g_autofree char *file = g_malloc0(1 << 20);
  program.header.e_phnum = 10000;
  memcpy(file, &program, sizeof program);
  put("usr/bin/many", file, 1 << 20, 0755);
  expect_refusal("/usr/bin/many", "damaged");
}

Test(root_check, no_root) {
  g_autoptr(GError) error = NULL;
  cr_expect_not(root_check_program("/no/such/root", "/sbin/init", &error));
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_MISSING_FILE));
}

Test(root_check, good_roots) {
  put_program("bin/static", EM_X86_64, NULL);
  expect_good("/bin/static");
  put_program("bin/dynamic", EM_X86_64, LOADER);
  put_program(LOADER, EM_X86_64, NULL);
  expect_good("/bin/dynamic");
  put_program("usr/local/bin/tool", EM_X86_64, LOADER);
  expect_good("tool");
  put("bin/script", "#! /bin/dynamic -e\n", 19, 0755);
  expect_good("/bin/script");
}

Test(root_check, links_stay_inside) {
  put_program("usr/lib/systemd/systemd", EM_X86_64, NULL);
  g_autofree char *link = g_build_filename(root, "init", NULL), *escape = g_build_filename(root, "escape", NULL);
  cr_assert_eq(symlink("/usr/lib/systemd/systemd", link), 0);
  expect_good("/init");
  cr_assert_eq(symlink("../../../../../../../../bin/true", escape),
               0); // is there on the host, not in this root
  expect_refusal("/escape", "missing");
}

Test(root_check, what_lacks_is_named) {
  expect_refusal("/sbin/init", "/sbin/init is missing");
  expect_refusal("nothing", "in none of the directories of PATH");
  put_program("bin/dynamic", EM_X86_64, LOADER);
  expect_refusal("/bin/dynamic", "loader " LOADER);
  expect_refusal("/bin/dynamic", "libc6:amd64");
  put_program("bin/arm", EM_AARCH64, NULL);
  expect_refusal("/bin/arm", "ARM64");
  put("bin/text", "hello", 5, 0755);
  expect_refusal("/bin/text", "neither an ELF program nor a script");
  put("bin/plain", "#!/bin/sh\n", 10, 0644);
  expect_refusal("/bin/plain", "not an executable file");
  put("bin/script", "#!/bin/nothing\n", 15, 0755);
  expect_refusal("/bin/script", "/bin/nothing is missing");
  put("bin/blank", "#! \n", 4, 0755);
  expect_refusal("/bin/blank", "names no interpreter");
  put("bin/loop", "#!/bin/loop\n", 12, 0755);
  expect_refusal("/bin/loop", "without end");
  expect_refusal("/bin", "not an executable file");
}

Test(root_check, truncated_programs) {
  Program program = make_program(EM_X86_64, LOADER);
  put_program(LOADER, EM_X86_64, NULL);
  gsize needed = offsetof(Program, loader) + strlen(LOADER) + 1;
  for (gsize size = 0; size < needed; size++) {
    put("bin/cut", &program, size, 0755);
    cr_expect_not(root_check_program(root, "/bin/cut", NULL), "cut to %zu bytes", size);
  }
  put("bin/cut", &program, needed, 0755);
  expect_good("/bin/cut");
}

// Fields of the headers set to what no honest linker writes.
Test(root_check, damaged_programs) {
  static const guint64 values[] = {0, 1, 0x7f, 0xffff, 0x7fffffff, 0xffffffff, G_MAXINT64, G_MAXUINT64, 1ull << 63};
  const Program good = make_program(EM_X86_64, LOADER);
  put_program(LOADER, EM_X86_64, NULL);
  for (gsize offset = sizeof good.header.e_ident; offset + 8 <= offsetof(Program, loader); offset += 2)
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
      Program damaged = good;
      memcpy((char *)&damaged + offset, &values[i], 8);
      put("bin/bad", &damaged, sizeof damaged, 0755);
      root_check_program(root, "/bin/bad",
                         NULL); // either answer is right; sanitizers judge the way there
    }
  Program endless = good; // the loader's name does not end
  memset(endless.loader, 'x', sizeof endless.loader);
  put("bin/bad", &endless, sizeof endless, 0755);
  expect_refusal("/bin/bad", "damaged");
}
