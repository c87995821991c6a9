/* See binfmt.h. Nothing stays behind but the registration, which holds the translator open, and a line for
 * systemd-binfmt, which makes it again after a boot. */
#include "binfmt/binfmt.h"

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/utsname.h>
#include <string.h>

#include "base/base.h"
#include "base/host-call.h"
#include "base/print.h"
#include "binfmt/entry.h"
#include "common/binfmt-rule.h"

enum { DONE, FAILED, WRONG_USAGE };

#define CONF_DIRECTORY "/etc/binfmt.d"
#define CONF           CONF_DIRECTORY "/" BINFMT_RULE_NAME ".conf"
#define CONF_HEAD      "# Written by stele install-binfmt; stele remove-binfmt removes it. See binfmt.d(5).\n"
#define OWN_ENTRY      BINFMT_MISC "/" BINFMT_RULE_NAME

static int complain(const char *format, ...) {
  char text[2 * BINFMT_PATH_MAX];
  va_list arguments;
  va_start(arguments, format);
  base_format_list(text, sizeof text, format, arguments);
  va_end(arguments);
  base_print(2, "stele: %s\n", text);
  return FAILED;
}

static bool contains(const char *text, const char *word) {
  for (; *text; text++)
    if (!strncmp(text, word, strlen(word))) return true;
  return false;
}

/* --- files ---------------------------------------------------------------------------------------------- */

static bool exists(const char *path) {
  return host_call(__NR_faccessat, AT_FDCWD, path, 0 /* F_OK */) == 0;
}

static int64_t read_file(const char *path, char *ret_text, size_t size) {
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  int64_t length = 0, got;
  while ((got = host_call(__NR_read, fd, ret_text + length, size - 1 - (size_t)length)) > 0) length += got;
  host_call(__NR_close, fd);
  ret_text[length] = '\0';
  return got < 0 ? got : length;
}

/* In one write: the kernel takes a rule whole or not at all. */
static int64_t write_file(const char *path, int flags, const char *text) {
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) return fd;
  int64_t length = (int64_t)strlen(text), put = host_call(__NR_write, fd, text, length);
  host_call(__NR_close, fd);
  return put < 0 ? put : put == length ? 0 : -EIO;
}

/* --- registrations -------------------------------------------------------------------------------------- */

static bool read_entry(const char *name, BinfmtEntry *ret_entry) {
  static char path[BINFMT_PATH_MAX], text[2 * BINFMT_PATH_MAX];
  base_format(path, sizeof path, BINFMT_MISC "/%s", name);
  return read_file(path, text, sizeof text) > 0 && binfmt_entry_parse(text, ret_entry);
}

typedef struct DirectoryRecord { /* struct linux_dirent64, getdents64(2) */
  uint64_t inode, offset;
  uint16_t length;
  uint8_t type;
  char name[];
} __attribute__((packed)) DirectoryRecord;

/* Calls `visit` with each registration that isn't ours and takes x86-64 programs; returns how many there are. */
static unsigned others(void (*visit)(const char *name, const BinfmtEntry *entry)) {
  static BinfmtEntry entry;
  static char records[4096] __attribute__((aligned(8)));
  unsigned count = 0;
  int64_t fd = host_call(__NR_openat, AT_FDCWD, BINFMT_MISC, O_RDONLY | O_DIRECTORY | O_CLOEXEC), length;
  while (fd >= 0 && (length = host_call(__NR_getdents64, fd, records, sizeof records)) > 0)
    for (int64_t at = 0; at < length;) {
      const DirectoryRecord *record = (const DirectoryRecord *)(records + at);
      at += record->length;
      if (!strcmp(record->name, BINFMT_RULE_NAME) || !read_entry(record->name, &entry)) continue;
      if (!binfmt_entry_takes_x86_64(&entry)) continue;
      visit(record->name, &entry);
      count++;
    }
  if (fd >= 0) host_call(__NR_close, fd);
  return count;
}

static void name_rival(const char *name, const BinfmtEntry *entry) {
  base_print(2, "stele: '%s' is registered for x86-64 programs, with the interpreter %s\n", name, entry->interpreter);
}

static void show_rival(const char *name, const BinfmtEntry *entry) {
  base_print(1, "also:         %s, with %s\n", name, entry->interpreter);
}

/* Whether this is the first user namespace: only its own root's numbers are all numbers (user_namespaces(7)). */
static bool in_user_namespace(void) {
  char map[256];
  return read_file("/proc/self/uid_map", map, sizeof map) > 0 && !contains(map, "4294967295");
}

static int64_t mount_binfmt_misc(void) {
  return host_call(__NR_mount, "binfmt_misc", BINFMT_MISC, "binfmt_misc", 0, NULL);
}

/* A user namespace has registrations of its own once it has mounted its own binfmt_misc, and until then those of the one
 * above (Linux 6.7). The mount that is seen here may be that one's, which says so by refusing writes. */
static int64_t make_reachable(void) {
  if (exists(BINFMT_MISC "/register")) {
    int64_t fd = host_call(__NR_openat, AT_FDCWD, BINFMT_MISC "/register", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) return host_call(__NR_close, fd), 0;
    if (!in_user_namespace()) return fd;
  }
  return mount_binfmt_misc();
}

static int explain_unreachable(int64_t error) {
  struct new_utsname kernel = {0};
  host_call(__NR_uname, &kernel);
  if (error == -ENODEV) return complain("this kernel (%s) has no binfmt_misc: modprobe binfmt_misc, or boot one that has", kernel.release);
  if (error == -ENOENT) return complain(BINFMT_MISC " is not there: mount /proc, and modprobe binfmt_misc");
  if (in_user_namespace())
    return complain("binfmt_misc can't be mounted in this user namespace (error %d): kernels can from 6.7 on, with a mount "
                    "namespace of the same user namespace (this is %s); or register on the host, as root",
                    (int)-error, kernel.release);
  return complain("cannot register with " BINFMT_MISC " (error %d): be root, in a container with --privileged", (int)-error);
}

/* --- commands ------------------------------------------------------------------------------------------- */

typedef struct Options {
  bool force, transient; /* transient: for this boot alone */
  uint64_t page_size;
} Options;

static bool find_self(char *ret_path) {
  int64_t length = host_call(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", ret_path, BINFMT_PATH_MAX - 1);
  ret_path[length > 0 ? length : 0] = '\0';
  return length > 0;
}

/* After a boot systemd-binfmt registers what files say. */
static int keep_for_boots(const char *rule) {
  static char text[2 * BINFMT_PATH_MAX];
  if (!exists("/usr/lib/systemd/systemd-binfmt")) return DONE;
  host_call(__NR_mkdirat, AT_FDCWD, CONF_DIRECTORY, 0755);
  base_format(text, sizeof text, CONF_HEAD "%s\n", rule);
  int64_t error = write_file(CONF, O_CREAT | O_TRUNC, text);
  return error == 0 ? DONE : complain("registered, but " CONF " can't be written (error %d): it holds until the next boot", (int)-error);
}

static int install(const Options *options) {
  static char self[BINFMT_PATH_MAX], rule[2 * BINFMT_PATH_MAX];
  if (options->page_size != 4096)
    return complain("this kernel has pages of %lu KiB, and x86-64 programs need 4 KiB: run them in a machine (vmctl, steled), "
                    "whose guest kernel has such pages, or boot a kernel that has",
                    options->page_size / 1024);
  if (!find_self(self)) return complain("cannot find my own file through /proc/self/exe: mount /proc");
  if (strlen(BINFMT_RULE("")) + strlen(self) > 1920 /* MAX_REGISTER_LENGTH of the kernel */)
    return complain("the kernel takes no interpreter with a path as long as %s", self);
  int64_t error = make_reachable();
  if (error < 0) return explain_unreachable(error);
  if (!options->force && others(name_rival))
    return complain("--force registers stele before what there is, which then isn't asked any more");
  if (exists(OWN_ENTRY)) write_file(OWN_ENTRY, 0, "-1");
  base_format(rule, sizeof rule, BINFMT_RULE("%s"), self);
  error = write_file(BINFMT_MISC "/register", 0, rule);
  if (error < 0) return explain_unreachable(error);
  return options->transient || in_user_namespace() ? DONE : keep_for_boots(rule);
}

static int remove_rule(const Options *options) {
  static char text[2 * BINFMT_PATH_MAX];
  int64_t error = exists(OWN_ENTRY) ? write_file(OWN_ENTRY, 0, "-1") : 0;
  if (error < 0) return complain("cannot remove the registration (error %d): be root", (int)-error);
  if (read_file(CONF, text, sizeof text) > 0 && !strncmp(text, CONF_HEAD, strlen(CONF_HEAD)))
    error = host_call(__NR_unlinkat, AT_FDCWD, CONF, 0);
  return error < 0 ? complain("cannot remove " CONF " (error %d): be root", (int)-error) : DONE;
}

static int show_status(const Options *options) {
  static BinfmtEntry entry;
  struct new_utsname kernel = {0};
  char state[16] = "";
  host_call(__NR_uname, &kernel);
  bool registered = read_entry(BINFMT_RULE_NAME, &entry), off = false;
  if (read_file(BINFMT_MISC "/status", state, sizeof state) > 0) off = !strncmp(state, "disabled", 8);
  base_print(1, "stele:        %s\nkernel:       %s, pages of %lu KiB%s\n", STELE_VERSION, kernel.release, options->page_size / 1024,
             options->page_size == 4096 ? "" : ": too large for x86-64 programs, which need 4 KiB");
  base_print(1, "registered:   %s\n", !registered           ? "no: stele install-binfmt"
                                      : !entry.enabled || off ? "yes, but disabled: stele install-binfmt"
                                                              : "yes");
  if (registered) base_print(1, "interpreter:  %s\nflags:        %s\n", entry.interpreter, entry.flags);
  base_print(1, "after a boot: %s\n", exists(CONF) ? "by " CONF : "not registered again");
  others(show_rival);
  return registered && entry.enabled && !off && options->page_size == 4096 ? DONE : FAILED;
}

/* The command line of images that register emulators: --install and --uninstall with a list of architectures. Without
 * either, what runs here as JSON. */
static int run_image_command(char *const *argv, Options *options) {
  options->force = options->transient = true;
  for (; *argv; argv++) {
    bool install_it = !strcmp(*argv, "--install") || !strcmp(*argv, "-install");
    bool remove_it = !strcmp(*argv, "--uninstall") || !strcmp(*argv, "-uninstall");
    if (!install_it && !remove_it) return complain("unknown option %s; there are --install ARCH and --uninstall ARCH", *argv), WRONG_USAGE;
    if (!*++argv) return complain("which architecture? --install amd64"), WRONG_USAGE;
    if (!contains(*argv, "amd64") && !contains(*argv, "x86_64") && strcmp(*argv, "all") && strcmp(*argv, "*"))
      return complain("%s: x86-64 programs alone can be translated, say amd64", *argv);
    int status = install_it ? install(options) : remove_rule(options);
    if (status != DONE) return status;
  }
  bool registered = exists(OWN_ENTRY);
  base_print(1, "{\n  \"supported\": [\"linux/arm64\"%s],\n  \"emulators\": [%s]\n}\n", registered ? ", \"linux/amd64\"" : "",
             registered ? "\"" BINFMT_RULE_NAME "\"" : "");
  return DONE;
}

static const struct {
  const char *word;
  int (*run)(const Options *options);
} commands[] = {{"install-binfmt", install}, {"remove-binfmt", remove_rule}, {"status", show_status}};

bool binfmt_is_command(const char *word) {
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
    if (!strcmp(word, commands[i].word)) return true;
  return !strcmp(word, "binfmt");
}

int binfmt_run(char *const *argv, uint64_t page_size) {
  Options options = {.page_size = page_size};
  if (!strcmp(argv[0], "binfmt")) return run_image_command(argv + 1, &options);
  for (char *const *option = argv + 1; *option; option++) {
    if (!strcmp(*option, "--force")) options.force = true;
    else if (!strcmp(*option, "--transient")) options.transient = true;
    else return complain("%s takes --force and --transient, not %s", argv[0], *option), WRONG_USAGE;
  }
  for (size_t i = 0;; i++)
    if (!strcmp(argv[0], commands[i].word)) return commands[i].run(&options);
}
