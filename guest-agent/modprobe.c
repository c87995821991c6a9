// See modprobe.h.
#include "modprobe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "mounts.h"

enum { PATH_SIZE = 512, LINE_SIZE = 8192, DIRECTORY_SIZE = 128, OPTIONS_SIZE = 1024 };

// --- names ---------------------------------------------------------------------------------------------

// The module a path such as kernel/drivers/net/veth.ko.xz holds.
static void name_of_path(const char *path, char *ret_name, size_t size) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  snprintf(ret_name, size, "%.*s", (int)strcspn(base, "."), base);
}

// --- the files of depmod -------------------------------------------------------------------------------

int modprobe_resolve(FILE *aliases, const ModprobeRules *rules, const char *wanted, char *ret_name, size_t size) {
  char line[1024], pattern[PATH_SIZE], name[64];
  rewind(aliases);
  while (fgets(line, sizeof line, aliases)) {
    if (sscanf(line, "alias %511s %63s", pattern, name) != 2 || !modprobe_name_matches(pattern, wanted)) continue;
    if (modprobe_rules_blacklist(rules, name)) continue;
    snprintf(ret_name, size, "%s", name);
    return 0;
  }
  return -ENOENT;
}

int modprobe_find(FILE *dependencies, const char *name, char *ret_line, size_t size) {
  char found[64];
  rewind(dependencies);
  while (fgets(ret_line, (int)size, dependencies)) {
    char *colon = strchr(ret_line, ':');
    if (!colon) continue;
    *colon = 0;
    name_of_path(ret_line, found, sizeof found);
    *colon = ' ';
    if (!modprobe_name_matches(found, name)) continue;
    ret_line[strcspn(ret_line, "\n")] = 0;
    return 0;
  }
  return -ENOENT;
}

// --- loading -------------------------------------------------------------------------------------------

static FILE *open_file(const char *directory, const char *name) {
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  return fopen(path, "re");
}

static int load_file(const char *directory, const char *name, const ModprobeRules *rules) {
  char path[PATH_SIZE], module[64], options[OPTIONS_SIZE];
  bool counts_as_loaded;
  const char *dot = strrchr(name, '.');
  int flags = dot && strcmp(dot, ".ko") != 0 ? MODULE_INIT_COMPRESSED_FILE : 0;
  name_of_path(name, module, sizeof module);
  if (modprobe_rules_forbid(rules, module, &counts_as_loaded)) return counts_as_loaded ? 0 : -EPERM;
  modprobe_rules_options(rules, module, options, sizeof options);
  snprintf(path, sizeof path, "%s/%s", directory, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = syscall(SYS_finit_module, fd, options, flags) < 0 ? -errno : 0;
  close(fd);
  return r == -EEXIST ? 0 : r;
}

// From the end: a module's needs stand behind it.
static int load_line(const char *directory, char *line, const ModprobeRules *rules) {
  int r = 0;
  for (char *blank; r == 0 && (blank = strrchr(line, ' '));) {
    if (blank[1]) r = load_file(directory, blank + 1, rules);
    *blank = 0;
  }
  return r == 0 ? load_file(directory, line, rules) : r;
}

static int load(const char *directory, const char *wanted, const ModprobeRules *rules) {
  char line[LINE_SIZE], name[64];
  FILE *dependencies = open_file(directory, "modules.dep"), *aliases = open_file(directory, "modules.alias");
  const char *meant = modprobe_rules_alias(rules, wanted);
  int r = dependencies ? modprobe_find(dependencies, meant ? meant : wanted, line, sizeof line) : -ENOENT;
  if (r == -ENOENT && dependencies && aliases && !meant) {
    r = modprobe_resolve(aliases, rules, wanted, name, sizeof name);
    if (r == 0) r = modprobe_find(dependencies, name, line, sizeof line);
  }
  if (dependencies) fclose(dependencies);
  if (aliases) fclose(aliases);
  return r == 0 ? load_line(directory, line, rules) : r;
}

static int find_directory(char ret_directory[DIRECTORY_SIZE]) {
  struct utsname kernel;
  if (uname(&kernel) < 0) return -errno;
  snprintf(ret_directory, DIRECTORY_SIZE, MODULES_SHARE "/%s", kernel.release);
  return 0;
}

int modprobe_main(int argc, char **argv) {
  char directory[DIRECTORY_SIZE];
  ModprobeRules rules = {0};
  int r = find_directory(directory), root = open(NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root >= 0) modprobe_rules_add_root(&rules, root);
  for (int i = 1; i < argc && r == 0; i++)
    if (argv[i][0] != '-') r = load(directory, argv[i], &rules);
  return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// --- device nodes --------------------------------------------------------------------------------------

// What everybody may open, as udev's rules of every distribution have it: they check their users themselves.
static mode_t mode_of_node(const char *name) {
  return strcmp(name, "fuse") == 0 || strcmp(name, "net/tun") == 0 ? 0666 : 0600;
}

static void make_node(const char *devices, const char *name, char type, unsigned major_number, unsigned minor_number) {
  char path[PATH_SIZE];
  snprintf(path, sizeof path, "%s/%s", devices, name);
  for (char *slash = path + strlen(devices) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(path, 0755);
    *slash = '/';
  }
  mknod(path, (type == 'b' ? S_IFBLK : S_IFCHR) | 0600, makedev(major_number, minor_number));
  chmod(path, mode_of_node(name)); // also of one the kernel has made
}

void modprobe_make_nodes(const char *devices) {
  char directory[DIRECTORY_SIZE], line[256], name[64], type;
  unsigned major_number, minor_number;
  if (find_directory(directory) < 0) return;
  FILE *file = open_file(directory, "modules.devname");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "%*s %63s %c%u:%u", name, &type, &major_number, &minor_number) == 4)
      make_node(devices, name, type, major_number, minor_number);
  if (file) fclose(file);
}
