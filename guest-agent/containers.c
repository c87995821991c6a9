// See containers.h. Settings: containers.conf(5); drop-ins count in the order of their names, the last one wins.
#include "containers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mounts.h"

#define SETTINGS "/run/stele-containers.conf"
#define DROP_INS "/etc/containers/containers.conf.d"
#define DROP_IN  DROP_INS "/00-stele.conf" // whoever adds another says the last word

static bool is_empty(const char *directory) {
  DIR *entries = opendir(directory);
  if (!entries) return errno == ENOENT;
  size_t count = 0;
  while (readdir(entries)) count++; // "." and ".." among them
  closedir(entries);
  return count <= 2;
}

static void offer_storage(void) {
  static const struct {
    const char *engine, *directory;
  } rows[] = {{"/usr/bin/dockerd", "/var/lib/docker"},
              {"/usr/sbin/dockerd", "/var/lib/docker"},
              {"/usr/bin/containerd", "/var/lib/containerd"},
              {"/usr/bin/podman", "/var/lib/containers"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (access(rows[i].engine, F_OK) == 0 && is_empty(rows[i].directory))
      mounts_add("tmpfs", rows[i].directory, "tmpfs", 0, "mode=0711");
}

// A regular file of the root. What else an image has there is not waited for.
static int open_file(const char *path, int flags) {
  struct stat status;
  int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC, 0644);
  if (fd < 0 || (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))) return fd;
  close(fd);
  return -1;
}

// Whether a containers.conf has a line that chooses the profile.
static bool chooses_profile(const char *path) {
  static const char key[] = "seccomp_profile";
  char *line = NULL;
  size_t size = 0;
  bool found = false;
  int fd = open_file(path, O_RDONLY);
  FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
  while (file && !found && getline(&line, &size, file) > 0)
    found = strncmp(line + strspn(line, " \t"), key, sizeof key - 1) == 0;
  if (file) fclose(file);
  free(line);
  return found;
}

static int offer_settings(void) {
  if (access("/usr/bin/podman", F_OK) < 0) return 0;
  if (chooses_profile("/usr/share/containers/containers.conf") || chooses_profile("/etc/containers/containers.conf"))
    return 0;
  file_write(SETTINGS, "# Translated programs have no seccomp filters yet: see stele-agent(8), CONTAINERS.\n"
                       "[containers]\nseccomp_profile = \"unconfined\"\n");
  mkdir("/etc/containers", 0755);
  mkdir(DROP_INS, 0755);
  int fd = open_file(DROP_IN, O_WRONLY | O_CREAT | O_NOFOLLOW);
  if (fd < 0) return 0; // a root that is read-only has nowhere to keep containers, either
  struct stat status;
  bool own = fstat(fd, &status) == 0 && status.st_size == 0; // what the root has there itself says something
  close(fd);
  return own && mount(SETTINGS, DROP_IN, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

int containers_prepare(const Config *config) {
  if (config->root_mode == ROOT_OVERLAY) offer_storage();
  return offer_settings();
}
