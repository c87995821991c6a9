/*
 * A program without a name: executed from a sealed memfd or a mount of its own, as container run times execute
 * themselves, and from a file that is deleted meanwhile. /proc/self/exe still leads to it: to read, to ask about, to
 * mount, and to execute once more. What is sealed is translated like any program; the deleted file's code is checked
 * when it is entered, and stays as it was made.
 * Build: dynamic static
 * At most: checked-regions 4200
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

extern char **environ;

static int copy_self(int to) {
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (from < 0 || fstat(from, &status) < 0) return -1;
  for (off_t left = status.st_size; left > 0;) {
    ssize_t sent = sendfile(to, from, NULL, (size_t)left);
    if (sent <= 0) return -1;
    left -= sent;
  }
  return close(from);
}

static void end(const char *what, pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  printf("%s ended with %d\n", what, WEXITSTATUS(status));
  fflush(stdout);
}

static int __attribute__((noinline)) next(int value) { return value * 5 + 1; }

/* Enters code of the program many times. */
static void compute(const char *what) {
  enum { TIMES = 200000 };
  int (*volatile function)(int) = next;
  int value = 0;
  for (int i = 0; i < TIMES; i++) value = function(value) & 0xffff;
  printf("%s: computed %d\n", what, value);
}

/* What a program that was executed so finds. */
static int look(const char *what) {
  char magic[4] = "", link[256] = "";
  struct stat named, opened;
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  printf("%s: opened %d", what, fd >= 0 && read(fd, magic, 4) == 4 && !memcmp(magic, "\177ELF", 4));
  int seals = fcntl(fd, F_GET_SEALS); /* those of a file depend on its file system: some say EINVAL */
  printf(", sealed %d", seals > 0 && (seals & F_SEAL_WRITE) != 0);
  printf(", stat %d", stat("/proc/self/exe", &named) == 0 && fstat(fd, &opened) == 0 && named.st_ino == opened.st_ino);
  printf(", links %d, access %d", (int)named.st_nlink, access("/proc/self/exe", X_OK));
  printf(", link %d\n", readlink("/proc/self/exe", link, sizeof link - 1) > 0 && strstr(link, " (deleted)") != NULL);
  compute(what);
  fflush(stdout);
  close(fd);
  pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", "nameless", "again", NULL);
    _exit(errno);
  }
  end("again", child);
  return 7;
}

static void from_memory(void) {
  int fd = memfd_create("nameless", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (copy_self(fd) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) return;
  pid_t child = fork();
  if (child == 0) {
    fexecve(fd, (char *[]){"nameless", "memory", NULL}, environ);
    _exit(errno);
  }
  end("memory", child);
  close(fd);
}

static void deleted(void) {
  char file[] = "/tmp/stele-nameless-XXXXXX";
  int fd = mkstemp(file);
  if (copy_self(fd) < 0 || fchmod(fd, 0700) < 0) return;
  close(fd);
  fd = open(file, O_RDONLY | O_CLOEXEC);
  unlink(file);
  pid_t child = fork();
  if (child == 0) {
    fexecve(fd, (char *[]){"nameless", "deleted", NULL}, environ);
    _exit(errno);
  }
  end("deleted", child);
  close(fd);
}

/* A mount without a place, by open_tree(2), or mounted over a file, opened, and gone from there. */
static int mount_self(const char *file) {
  if (!*file) return (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (mount("/proc/self/exe", file, NULL, MS_BIND, NULL) < 0) return -1;
  int fd = open(file, O_PATH | O_CLOEXEC);
  return umount2(file, MNT_DETACH) < 0 ? -1 : fd;
}

static int run_mounted(const char *file) {
  int fd = mount_self(file);
  if (fd >= 0) fexecve(fd, (char *[]){"nameless", "mount", NULL}, environ);
  printf("mounted: error %d\n", errno);
  return 1;
}

/* Where mounts are nobody else's, which the program has to be executed in to be mounted: root's alone to make. */
static void mounted(const char *program, const char *file) {
  pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
      execl(program, "nameless", "mounted", file, NULL);
    _exit(errno);
  }
  end("mounted", child);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "again")) return 9;
  if (argc > 2) return run_mounted(argv[2]);
  if (argc > 1) return look(argv[1]);
  from_memory();
  deleted();
  char file[] = "/tmp/stele-nameless-XXXXXX";
  close(mkstemp(file));
  mounted(argv[0], file);
  unlink(file);
  if (!under_qemu_user()) mounted(argv[0], "");
  return 0;
}
