// See systemd.h.
#include "systemd.h"

#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mounts.h"

#define UNITS "/run/systemd/system"

typedef enum MaskReason {
  CONFLICTING, // would break the machine
  UNUSED,      // looks after hardware or firmware that no machine has, or after what the agent has done
  SCREEN,      // wants a screen
  VOLATILE,    // looks after a root whose changes go with the boot
} MaskReason;

static const struct Mask {
  const char *unit;
  MaskReason reason;
} masks[] = {
    // systemd's own binfmt_misc handling would flush the translator's registration.
    {"systemd-binfmt.service", CONFLICTING},
    {"proc-sys-fs-binfmt_misc.automount", CONFLICTING},
    {"proc-sys-fs-binfmt_misc.mount", CONFLICTING},
    // Device nodes are in /dev before systemd starts (modprobe.h).
    {"kmod-static-nodes.service", UNUSED},
    {"systemd-tmpfiles-setup-dev-early.service", UNUSED},
    {"systemd-tmpfiles-setup-dev.service", UNUSED},
    {"modprobe@fuse.service", UNUSED},
    {"modprobe@configfs.service", UNUSED},
    {"modprobe@efi_pstore.service", UNUSED},
    {"sys-kernel-config.mount", UNUSED},
    {"systemd-hwdb-update.service", UNUSED},
    {"systemd-udev-settle.service", UNUSED},
    {"systemd-rfkill.service", UNUSED},
    {"systemd-rfkill.socket", UNUSED},
    {"systemd-pstore.service", UNUSED},
    {"systemd-battery-check.service", UNUSED},
    {"systemd-bsod.service", UNUSED},
    {"systemd-firstboot.service", UNUSED}, // would ask at a console where nobody is
    {"systemd-random-seed.service", UNUSED},
    {"keyboard-setup.service", UNUSED},
    {"console-setup.service", UNUSED},
    {"smartmontools.service", UNUSED},
    {"getty@tty1.service", SCREEN},
    {"modprobe@drm.service", SCREEN},
    {"systemd-remount-fs.service", VOLATILE}, // by what /etc/fstab says of another machine's disks
    {"systemd-journal-flush.service", VOLATILE},
    {"systemd-machine-id-commit.service", VOLATILE},
    {"apt-daily.timer", VOLATILE},
    {"apt-daily-upgrade.timer", VOLATILE},
    {"dpkg-db-backup.timer", VOLATILE},
    {"man-db.timer", VOLATILE},
    {"e2scrub_all.timer", VOLATILE},
    {"e2scrub_reap.service", VOLATILE},
    {"fstrim.timer", VOLATILE},
    {"logrotate.timer", VOLATILE},
    {"plocate-updatedb.timer", VOLATILE},
    {"dnf-makecache.timer", VOLATILE},
    {"fwupd-refresh.timer", VOLATILE},
    {"motd-news.timer", VOLATILE},
};

static void link_unit(const char *target, const char *name) {
  char path[128];
  snprintf(path, sizeof path, UNITS "/%s", name);
  int ignored = symlink(target, path);
  (void)ignored; // a full /run: systemd says more about it than this could
}

// --- units ---------------------------------------------------------------------------------------------

static bool applies(MaskReason reason, const Config *config) {
  if (reason == CONFLICTING) return true;
  if (config->all_units) return false;
  if (reason == SCREEN) return access("/sys/class/graphics/fb0", F_OK) < 0;
  return reason == UNUSED || config->root_mode != ROOT_RW;
}

static void mask_units(const Config *config) {
  for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
    if (applies(masks[i].reason, config)) link_unit("/dev/null", masks[i].unit);
}

// Without udev a serial-getty waits for a device that is never announced.
static void choose_getty(void) {
  if (access("/usr/lib/systemd/systemd-udevd", F_OK) == 0) return;
  link_unit("/dev/null", "serial-getty@.service");
  mkdir(UNITS "/getty.target.wants", 0755);
  link_unit("/usr/lib/systemd/system/console-getty.service", "getty.target.wants/console-getty.service");
}

// --- generators ----------------------------------------------------------------------------------------

// Each is a program that runs before any unit. `needs` is what gives it something to do: a file of the root, or a
// kernel parameter's beginning; NULL: firmware or hardware that no machine has.
static const struct Generator {
  const char *name, *needs;
} generators[] = {
    {"systemd-bless-boot-generator", NULL},
    {"systemd-cryptsetup-generator", "/etc/crypttab"},
    {"systemd-debug-generator", "systemd."},
    {"systemd-gpt-auto-generator", NULL},
    {"systemd-hibernate-resume-generator", NULL},
    {"systemd-integritysetup-generator", "/etc/integritytab"},
    {"systemd-rc-local-generator", "/etc/rc.local"},
    {"systemd-run-generator", "systemd.run"},
    {"systemd-ssh-generator", "/usr/sbin/sshd"},
    {"systemd-system-update-generator", "/system-update"},
    {"systemd-tpm2-generator", NULL},
    {"systemd-veritysetup-generator", "/etc/veritytab"},
};

static void read_kernel_command_line(char *ret_line, size_t size) {
  FILE *file = fopen("/proc/cmdline", "re");
  if (!file || !fgets(ret_line, (int)size, file)) ret_line[0] = 0;
  if (file) fclose(file);
  ret_line[strcspn(ret_line, "\n")] = 0;
}

#define HOSTNAME_PARAMETER "systemd.hostname=" // steled gives it, and process 1 reads it

static bool has_parameter(const char *line, const char *beginning) {
  for (const char *word = line; *word; word += strcspn(word, " "), word += strspn(word, " "))
    if (strncmp(word, beginning, strlen(beginning)) == 0 &&
        strncmp(word, HOSTNAME_PARAMETER, strlen(HOSTNAME_PARAMETER)) != 0)
      return true;
  return false;
}

static void mask_generators(const Config *config) {
  char line[STELE_COMMAND_LINE_MAX + 1], path[128];
  struct stat status;
  if (config->all_units) return;
  read_kernel_command_line(line, sizeof line);
  mkdir("/run/systemd/system-generators", 0755);
  for (size_t i = 0; i < sizeof generators / sizeof *generators; i++) {
    const char *needs = generators[i].needs;
    if (needs && (*needs == '/' ? lstat(needs, &status) == 0 : has_parameter(line, needs))) continue;
    snprintf(path, sizeof path, "/run/systemd/system-generators/%s", generators[i].name);
    int ignored = symlink("/dev/null", path);
    (void)ignored;
  }
}

// --- mounts --------------------------------------------------------------------------------------------

// Mounts that systemd makes by a program each: made here, it finds them. Only where it would, since some distributions
// leave one or the other out. Sources, options: the units of that name of systemd 257.
static const struct Mount {
  const char *unit, *source, *target, *type, *options;
  unsigned long flags;
} mounts[] = {
    {"dev-mqueue.mount", "mqueue", "/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"dev-hugepages.mount", "hugetlbfs", "/dev/hugepages", "hugetlbfs", NULL, MS_NOSUID | MS_NODEV},
    {"sys-kernel-debug.mount", "debugfs", "/sys/kernel/debug", "debugfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sys-kernel-tracing.mount", "tracefs", "/sys/kernel/tracing", "tracefs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sys-fs-fuse-connections.mount", "fusectl", "/sys/fs/fuse/connections", "fusectl", NULL,
     MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"run-lock.mount", "tmpfs", "/run/lock", "tmpfs", "mode=1777,size=5m", MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"tmp.mount", "tmpfs", "/tmp", "tmpfs", "mode=1777,size=50%,nr_inodes=1m", MS_NOSUID | MS_NODEV | MS_STRICTATIME},
};

static bool is_wanted(const char *unit) {
  static const char *const targets[] = {"/usr/lib/systemd/system/sysinit.target.wants",
                                        "/usr/lib/systemd/system/local-fs.target.wants",
                                        "/etc/systemd/system/local-fs.target.wants"};
  char path[128];
  struct stat status;
  snprintf(path, sizeof path, "/etc/systemd/system/%s", unit);
  if (lstat(path, &status) == 0) return false; // masked, or the root's own idea of it
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    snprintf(path, sizeof path, "%s/%s", targets[i], unit);
    if (lstat(path, &status) == 0) return true;
  }
  return false;
}

// What the root's own table says of a mount point, systemd does.
static bool is_in_fstab(const char *target) {
  FILE *table = setmntent("/etc/fstab", "re");
  bool found = false;
  for (struct mntent *entry; table && !found && (entry = getmntent(table));)
    found = strcmp(entry->mnt_dir, target) == 0;
  if (table) endmntent(table);
  return found;
}

static void make_mounts(void) {
  for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++)
    if (is_wanted(mounts[i].unit) && !is_in_fstab(mounts[i].target))
      mounts_add(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options);
}

// --- settings ------------------------------------------------------------------------------------------

#define PATIENCE "TimeoutStartSec=5min\n"

// Units of the early boot that limit themselves to 90 s, which a first start under emulation can exceed.
static void write_unit_patience(void) {
  static const char *const units[] = {
      "systemd-modules-load",           "systemd-sysctl",           "systemd-sysusers", "systemd-journal-flush",
      "systemd-journal-catalog-update", "systemd-machine-id-commit"};
  char path[128];
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    snprintf(path, sizeof path, UNITS "/%s.service.d", units[i]);
    mkdir(path, 0755);
    snprintf(path, sizeof path, UNITS "/%s.service.d/50-stele.conf", units[i]);
    file_write(path, "[Service]\n" PATIENCE);
  }
}

// Settings for all of systemd's services: the same patience, and what the translator is to present.
static void write_manager_settings(const Config *config) {
  char text[320];
  snprintf(text, sizeof text, "[Manager]\nDefault" PATIENCE "DefaultEnvironment=%s%s %s%s %s%s\n",
           config->cpu[0] ? "STELE_CPU=" : "", config->cpu, config->cpu_vendor[0] ? "STELE_CPU_VENDOR=" : "",
           config->cpu_vendor, config->memory_model[0] ? "STELE_MEMORY_MODEL=" : "", config->memory_model);
  mkdir("/run/systemd/system.conf.d", 0755);
  file_write("/run/systemd/system.conf.d/50-stele.conf", text);
}

void systemd_prepare(const Agent *agent) {
  mkdir("/run/systemd", 0755);
  mkdir(UNITS, 0755);
  mask_units(&agent->config);
  mask_generators(&agent->config);
  choose_getty();
  make_mounts();
  write_unit_patience();
  write_manager_settings(&agent->config);
}

// --- the command line ----------------------------------------------------------------------------------

int systemd_command_line(const Config *config, char *ret_assignment, size_t size) {
  char kernels[STELE_COMMAND_LINE_MAX + 1];
  read_kernel_command_line(kernels, sizeof kernels);
  bool names_host = config->hostname[0] && !strstr(kernels, HOSTNAME_PARAMETER);
  // Of a root that is put together anew at every boot, files made from others (loader cache, message catalogs) would be
  // taken for outdated at every boot, too.
  bool as_built = config->root_mode != ROOT_RW && !config->all_units;
  return snprintf(ret_assignment, size, "SYSTEMD_PROC_CMDLINE=%s%s%s%s", kernels,
                  names_host ? " " HOSTNAME_PARAMETER : "", names_host ? config->hostname : "",
                  as_built ? " systemd.condition_needs_update=no" : "");
}
