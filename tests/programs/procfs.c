/*
 * What /proc tells of another process and of this one: the executable by link, open and stat under several names,
 * mappings in each of the lists and in map_files, for a child that waits in a pipe.
 * Build: dynamic static nopie
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

static char self[4096], directory[64];
static pid_t child;

static const char *path(const char *name) {
  static char text[4200];
  snprintf(text, sizeof text, "%s/%s", directory, name);
  return text;
}

static int same_file(const struct stat *a, const char *name) {
  struct stat b;
  return stat(name, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

static int is_self(int fd) {
  struct stat status;
  int is = fd >= 0 && fstat(fd, &status) == 0 && same_file(&status, self);
  if (fd >= 0) close(fd);
  return is;
}

static void executable(const char *whose) {
  char text[4096] = "", link[] = "/tmp/stele-procfs-XXXXXX";
  struct stat status;
  ssize_t length = readlink(path("exe"), text, sizeof text - 1);
  printf("%s: link %d", whose, length == (ssize_t)strlen(self) && !strcmp(text, self));
  int fd = open(directory, O_RDONLY | O_DIRECTORY);
  memset(text, 0, sizeof text);
  length = readlinkat(fd, "exe", text, sizeof text - 1);
  printf(", by descriptor %d", length == (ssize_t)strlen(self) && !strcmp(text, self));
  printf(", open %d %d", is_self(open(path("exe"), O_RDONLY)), is_self(openat(fd, "exe", O_RDONLY)));
  printf(", stat %d %d", stat(path("exe"), &status) == 0 && same_file(&status, self),
         fstatat(fd, "exe", &status, 0) == 0 && same_file(&status, self));
  printf(", a link still: %d", lstat(path("exe"), &status) == 0 && S_ISLNK(status.st_mode));
  close(mkstemp(link));
  unlink(link);
  printf(", through a link %d", symlink(path("exe"), link) == 0 && is_self(open(link, O_RDONLY)));
  printf(" %d\n", stat(link, &status) == 0 && same_file(&status, self));
  unlink(link);
  close(fd);
}

typedef struct Counts {
  int lines, program, writable, other, sums;
  long sizes;
} Counts;

/* Lines that begin with an address, and of them those of the program's file and of the translator's. */
static Counts count(const char *name) {
  static char line[8192];
  Counts counts = {0};
  FILE *file = fopen(path(name), "r");
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    long size;
    if (sscanf(line, "Size: %ld kB", &size) == 1) counts.sizes += size;
    if (!strncmp(line, "Rss:", 4)) counts.sums++;
    if (line[0] >= 'A' && line[0] <= 'Z') continue;
    counts.lines++;
    counts.program += strstr(line, self) != NULL;
    counts.writable += strstr(line, self) && strstr(line, " rw-p ");
    counts.other += strstr(line, "stele") != NULL && !strstr(line, self);
  }
  if (file) fclose(file);
  return counts;
}

/* The protection that a list gives for an address. */
static const char *listed(const char *name, const void *address) {
  static char protection[8];
  char line[8192];
  strcpy(protection, "none");
  FILE *file = fopen(path(name), "r");
  while (file && fgets(line, sizeof line, file)) {
    unsigned long from, to;
    char text[8];
    if (sscanf(line, "%lx-%lx %4s", &from, &to, text) == 3 && (uintptr_t)address >= from && (uintptr_t)address < to)
      strcpy(protection, text);
  }
  if (file) fclose(file);
  return protection;
}

/* What map_files has: entries of the program's file, of other files, and such as the list of mappings lacks. The host may
 * have one mapping where the list tells several apart. */
static void files(const char *whose) {
  unsigned program = 0, other = 0, unlisted = 0, unread = 0;
  DIR *folder = opendir(path("map_files"));
  for (struct dirent *entry; folder && (entry = readdir(folder));) {
    char name[300], text[4096] = "";
    unsigned long from, to;
    if (sscanf(entry->d_name, "%lx-%lx", &from, &to) != 2) continue;
    snprintf(name, sizeof name, "map_files/%s", entry->d_name);
    unread += readlink(path(name), text, sizeof text - 1) <= 0;
    program += !strcmp(text, self);
    other += strstr(text, "stele") && strcmp(text, self);
    unlisted += !strcmp(listed("maps", (const void *)from), "none");
  }
  if (folder) closedir(folder);
  printf("%s map_files: the program's %d, the translator's %u, unread %u, not in maps %u\n", whose, program > 1, other,
         unread, unlisted);
}

static void mappings(const char *whose) {
  static int data = 1;
  static const int constant = 1;
  printf("%s maps: code %s", whose, listed("maps", (const void *)mappings));
  printf(", data %s", listed("maps", &data));
  printf(", constant %s", listed("maps", &constant));
  printf(", the translator's %d, the program's %d\n", count("maps").other, count("maps").program > 2);
  printf("smaps: code %s", listed("smaps", (const void *)mappings));
  Counts smaps = count("smaps"), rollup = count("smaps_rollup");
  printf(", as many %d, rss of each %d, sizes %d", smaps.lines >= count("maps").lines, smaps.sums > 3,
         smaps.sizes > 100);
  printf(", the translator's %d\n", smaps.other);
  printf("rollup: lines %d, rss %d\n", rollup.lines, rollup.sums);
  printf("numa_maps: the translator's %d\n", count("numa_maps").other);
  files(whose);
}

int main(int argc, char **argv) {
  int ends[2];
  char byte;
  if (!realpath(argv[0], self) || pipe(ends)) return 1;
  child = fork();
  if (child == 0) {
    close(ends[1]);
    return read(ends[0], &byte, 1) != 0;
  }
  static const char *const own[] = {"/proc/self", "/proc/thread-self", "/proc/self/../self",
                                    "/proc/self/task/../../self"};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    strcpy(directory, own[i]);
    executable(own[i]);
  }
  strcpy(directory, "/proc/self");
  mappings("own");
  snprintf(directory, sizeof directory, "/proc/%d", child);
  executable("child");
  mappings("child's");
  snprintf(directory, sizeof directory, "/proc/%d/task/%d", child, child);
  executable("its thread");
  snprintf(directory, sizeof directory, "/proc/self/../%d", child);
  executable("roundabout");
  close(ends[1]);
  waitpid(child, NULL, 0);
  snprintf(directory, sizeof directory, "/proc/%d", child);
  printf("gone: %s\n", readlink(path("exe"), &byte, 1) < 0 ? strerror(errno) : "there");
  return 0;
}
