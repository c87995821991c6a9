// Stores made of what processes have mapped: by the real stele-aot, as root, in a directory of the test's own.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "translations.h"

static char home[32];
static Translations translations = {.features = "0x0", .memory = "plain", .limit = 1 << 30, .most = 4};

static void begin(void) {
  char path[512], stores[64];
  if (getuid() != 0) cr_skip_test("only root opens what others have mapped");
  const char *build = getenv("STELE_BUILD");
  if (!build) cr_skip_test("STELE_BUILD does not say where stele-aot is");
  snprintf(path, sizeof path, "%s/host/translator/stele-aot", build);
  strcpy(home, "/tmp/translations.XXXXXX");
  cr_assert(mkdtemp(home) != NULL && chmod(home, 0711) == 0);
  snprintf(stores, sizeof stores, "%s/stores", home);
  translations.program = open(path, O_RDONLY | O_CLOEXEC);
  cr_assert(translations.program >= 0, "no %s", path);
  cr_assert(mkdir(stores, 0700) == 0);
  translations.directory = open(stores, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  cr_assert(translations.directory >= 0);
}

static void end(void) {
  char command[64];
  close(translations.directory);
  close(translations.program);
  snprintf(command, sizeof command, "rm -rf %s", home);
  cr_assert(system(command) == 0);
}

// A program of one page of code: NOPs, then its number and RET.
static int program(const char *name, unsigned number, mode_t mode) {
  unsigned char bytes[8192] = {0x7f, 'E', 'L', 'F', 2, 1, 1, [16] = 2, [18] = 62, [20] = 1};
  char path[64];
  uint64_t entry = 0x400000, headers = 64, offset = 4096, size = 4096;
  uint32_t type = 1, flags = 5;
  memcpy(bytes + 24, &entry, 8);
  memcpy(bytes + 32, &headers, 8);
  bytes[52] = 64, bytes[54] = 56, bytes[56] = 1;
  memcpy(bytes + 64, &type, 4), memcpy(bytes + 68, &flags, 4), memcpy(bytes + 72, &offset, 8),
      memcpy(bytes + 80, &entry, 8);
  memcpy(bytes + 88, &entry, 8), memcpy(bytes + 96, &size, 8), memcpy(bytes + 104, &size, 8),
      memcpy(bytes + 112, &size, 8);
  memcpy(bytes + 200, &number, 4); // in what the file's name in stores is made from
  memset(bytes + 4096, 0x90, 64);
  bytes[4096] = 0xb8, memcpy(bytes + 4097, &number, 4), bytes[4096 + 64] = 0xc3;
  snprintf(path, sizeof path, "%s/%s", home, name);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  cr_assert(fd >= 0 && write(fd, bytes, sizeof bytes) == sizeof bytes && fchmod(fd, mode) == 0);
  return fd;
}

// What is said when the file is translated for this process, which maps it.
static const char *made(int fd, uint64_t offset) {
  static char said[256];
  int ends[2], status;
  char *place = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
  cr_assert(place != MAP_FAILED && pipe(ends) == 0);
  pid_t process = getpid(), job = fork();
  if (job == 0) translations_make(&translations, process, (uint64_t)(uintptr_t)place + offset, ends[1]);
  close(ends[1]);
  memset(said, 0, sizeof said);
  for (ssize_t got, size = 0; (got = read(ends[0], said + size, sizeof said - 1 - (size_t)size)) > 0;) size += got;
  close(ends[0]);
  waitpid(job, &status, 0);
  munmap(place, 8192);
  close(fd);
  return said;
}

static bool exists(const char *name) {
  return faccessat(translations.directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Test(translations, of_what_is_mapped) {
  struct stat status;
  unsigned long numbers[4];
  begin();
  cr_expect_str_eq(made(program("one", 1, 0755), 0), "opened\n+1\n");
  cr_expect_str_eq(made(program("two", 2, 04755), 5000), "opened\n+2\n");
  cr_assert(translations_list(&translations, numbers, 4) == 2 && numbers[0] == 1 && numbers[1] == 2);
  int store = translations_open(&translations, 2);
  cr_assert(store >= 0 && fstat(store, &status) == 0);
  cr_expect(status.st_uid == 0 && (status.st_mode & 07777) == 0644 && status.st_size > 4096);
  cr_expect(!exists("new") && !exists("work/store"));
  close(store);
  end();
}

Test(translations, of_nothing_else) {
  char path[64];
  begin();
  cr_expect_str_eq(made(program("secret", 1, 0751), 0), "", "what others may not read");
  int gone = program("gone", 1, 0755);
  snprintf(path, sizeof path, "%s/gone", home);
  unlink(path);
  cr_expect_str_eq(made(gone, 0), "", "what has no name");
  cr_expect_str_eq(made(program("beside", 1, 0755), 1 << 30), "", "an address without a file");
  int none = program("none", 1, 0755);
  cr_assert(pwrite(none, "none", 4, 0) == 4);
  cr_expect_str_eq(made(none, 0), "opened\n", "what is no program");
  cr_expect(!exists("store.00000001"));
  cr_expect(!exists("new") && !exists("work/store"), "left");
  end();
}

// As after a kill: what was half done is gone, what was done counts.
Test(translations, after_a_kill) {
  begin();
  int half = openat(translations.directory, "new", O_WRONLY | O_CREAT, 0600);
  cr_assert(half >= 0 && mkdirat(translations.directory, "work", 0755) == 0);
  close(half);
  cr_assert(symlinkat("/etc/passwd", translations.directory, "work/store") == 0);
  cr_assert(symlinkat("/etc/passwd", translations.directory, "store.00000007x") == 0);
  cr_expect_str_eq(made(program("one", 1, 0755), 0), "opened\n+1\n");
  cr_expect(!exists("new"));
  end();
}

Test(translations, bounded) {
  struct stat status;
  begin();
  made(program("one", 1, 0755), 0);
  cr_assert(fstatat(translations.directory, "store.00000001", &status, 0) == 0);
  translations.limit = (uint64_t)status.st_size * 5 / 2;
  cr_expect_str_eq(made(program("two", 2, 0755), 0), "opened\n+2\n");
  cr_expect_str_eq(made(program("three", 3, 0755), 0), "opened\n+3\n-1\n");
  cr_expect(!exists("store.00000001") && exists("store.00000002"));
  translations.limit = 100;
  cr_expect_str_eq(made(program("four", 4, 0755), 0), "", "a program that is larger than all stores may be");
  cr_expect(!exists("new"));
  end();
}

Test(translations, joined) {
  unsigned long numbers[64];
  struct stat one, all;
  char name[16];
  begin();
  for (unsigned i = 1; i < 4; i++) {
    snprintf(name, sizeof name, "p%u", i);
    made(program(name, i, 0755), 0);
  }
  cr_assert(translations_list(&translations, numbers, 64) == 3);
  cr_assert(fstatat(translations.directory, "store.00000001", &one, 0) == 0);
  const char *said = made(program("p4", 4, 0755), 0);
  cr_expect(strcmp(said, "opened\n+4\n-1\n-2\n-3\n-4\n+5\n") == 0, "%s", said);
  cr_assert(translations_list(&translations, numbers, 64) == 1 && numbers[0] == 5);
  cr_assert(fstatat(translations.directory, "store.00000005", &all, 0) == 0);
  cr_expect(all.st_size > 3 * one.st_size, "%ld of 4 times %ld", (long)all.st_size, (long)one.st_size);
  end();
}
