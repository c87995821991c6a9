// The commands of the agent channel, a table at the end. Those marked QGA_INSIDE run in a child inside
// the userspace and may touch its files; the others must not. What each returns is fixed by QEMU's
// docs/interop/qemu-ga-ref, or for Stele's own by guest-protocol.h.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fs.h>
#include <linux/rtc.h>
#include <mntent.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <utmpx.h>
#include "mounts.h"
#include "qga.h"
#include "stop.h"

static bool frozen;

// --- about the agent -----------------------------------------------------------------------------------

static void put_nothing(Buffer *reply) { buffer_append(reply, "{}", 2); }

static int ping(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  put_nothing(reply);
  return 0;
}

static int sync_id(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  int64_t id;
  int r = json_get_integer(request, json_member(request, arguments, "id"), &id);
  if (r == 0) json_put_integer(reply, id);
  return r;
}

static void put_command(Buffer *reply, const char *name) {
  json_open(reply, '{');
  json_member_string(reply, "name", name);
  json_member_boolean(reply, "enabled", true);
  json_member_boolean(reply, "success-response", true);
  json_close(reply, '}');
}

static int info(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  json_open(reply, '{');
  json_member_string(reply, "version", STELE_VERSION);
  json_key(reply, "supported_commands");
  json_open(reply, '[');
  put_command(reply, "guest-sync-delimited");
  for (const QgaCommand *command = qga_commands; command->name; command++) put_command(reply, command->name);
  json_close(reply, ']');
  json_close(reply, '}');
  return 0;
}

static int shut_down(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  const JsonNode *mode = json_member(request, arguments, "mode");
  static const struct {
    const char *name;
    int action;
  } modes[] = {{"powerdown", RB_POWER_OFF}, {"reboot", RB_AUTOBOOT}, {"halt", RB_HALT_SYSTEM}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (mode && !json_equals(request, mode, modes[i].name)) continue;
    put_nothing(reply);
    return stop_request(agent, modes[i].action);
  }
  return -EINVAL;
}

static int status(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  qga_describe_status(agent, reply);
  return 0;
}

static int mounts(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  mounts_describe(reply);
  return 0;
}

void qga_describe_status(const Agent *agent, Buffer *json) {
  json_open(json, '{');
  json_member_string(json, "version", STELE_VERSION);
  json_member_integer(json, "protocol", STELE_PROTOCOL_VERSION);
  json_member_string(json, "state", agent_state_name(agent->state));
  json_member_string(json, "message", agent->message);
  json_member_string(json, "init", agent->config.init_kind == INIT_COMMAND ? "command" : "system");
  json_member_integer(json, "uptime-ms", (int64_t)agent_now_ms());
  json_member_integer(json, "ready-ms", (int64_t)agent->ready_ms);
  if (agent->command_ended) {
    json_key(json, "command");
    json_open(json, '{');
    json_member_boolean(json, "signalled", WIFSIGNALED(agent->command_status));
    json_member_integer(json, "value", WIFSIGNALED(agent->command_status) ? WTERMSIG(agent->command_status)
                                                                            : WEXITSTATUS(agent->command_status));
    json_close(json, '}');
  }
  json_key(json, "translator");
  json_open(json, '{');
  json_member_boolean(json, "registered", agent->translator_registered);
  json_member_string(json, "cpu", agent->config.cpu);
  json_member_string(json, "memory-model", agent->config.memory_model);
  json_close(json, '}');
  json_close(json, '}');
}

// --- numbers -------------------------------------------------------------------------------------------

// Fixed point of sysinfo(2), printed as a decimal fraction.
static void put_load(Buffer *reply, unsigned long load) {
  unsigned long hundredths = (load * 100 + (1ul << (SI_LOAD_SHIFT - 1))) >> SI_LOAD_SHIFT;
  if (reply->size && reply->data[reply->size - 1] != '[' && reply->data[reply->size - 1] != ':')
    buffer_append(reply, ",", 1);
  buffer_printf(reply, "%lu.%02lu", hundredths / 100, hundredths % 100);
}

static int load(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  static const char *const names[] = {"load1m", "load5m", "load15m"};
  struct sysinfo system;
  if (sysinfo(&system) < 0) return -errno;
  json_open(reply, '{');
  for (int i = 0; i < 3; i++) {
    json_key(reply, names[i]);
    put_load(reply, system.loads[i]);
  }
  json_close(reply, '}');
  return 0;
}

static int64_t available_memory(void) {
  char text[128];
  long long kilobytes = 0;
  FILE *file = fopen("/proc/meminfo", "re");
  while (file && fgets(text, sizeof text, file))
    if (sscanf(text, "MemAvailable: %lld kB", &kilobytes) == 1) break;
  if (file) fclose(file);
  return kilobytes * 1024;
}

static int statistics(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  struct sysinfo system;
  if (sysinfo(&system) < 0) return -errno;
  json_open(reply, '{');
  json_member_integer(reply, "uptime-ms", (int64_t)agent_now_ms());
  json_member_integer(reply, "memory-total", (int64_t)system.totalram * system.mem_unit);
  json_member_integer(reply, "memory-available", available_memory());
  json_key(reply, "load");
  json_open(reply, '[');
  for (int i = 0; i < 3; i++) put_load(reply, system.loads[i]);
  json_close(reply, ']');
  json_member_integer(reply, "processes", system.procs);
  json_close(reply, '}');
  return 0;
}

static int get_time(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0) return -errno;
  json_put_integer(reply, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
  return 0;
}

// Without a time given, the real-time clock's: the host keeps it right.
static int read_clock(struct timespec *ret_time) {
  struct rtc_time rtc;
  int fd = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = ioctl(fd, RTC_RD_TIME, &rtc) < 0 ? -errno : 0;
  close(fd);
  struct tm utc = {.tm_sec = rtc.tm_sec, .tm_min = rtc.tm_min, .tm_hour = rtc.tm_hour, .tm_mday = rtc.tm_mday,
                   .tm_mon = rtc.tm_mon, .tm_year = rtc.tm_year};
  if (r == 0) *ret_time = (struct timespec){.tv_sec = timegm(&utc)};
  return r;
}

static int set_time(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  const JsonNode *given = json_member(request, arguments, "time");
  struct timespec wanted;
  int64_t nanoseconds;
  int r = given ? json_get_integer(request, given, &nanoseconds) : read_clock(&wanted);
  if (r < 0) return r;
  if (given) wanted = (struct timespec){.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
  if (clock_settime(CLOCK_REALTIME, &wanted) < 0) return -errno;
  put_nothing(reply);
  return 0;
}

// --- hardware ------------------------------------------------------------------------------------------

static bool cpu_is_online(int number, bool *ret_can_offline) {
  char path[96], state = '1';
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/online", number);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  *ret_can_offline = fd >= 0;
  if (fd >= 0 && read(fd, &state, 1) != 1) state = '1';
  if (fd >= 0) close(fd);
  return state == '1';
}

static int get_vcpus(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  long count = sysconf(_SC_NPROCESSORS_CONF);
  json_open(reply, '[');
  for (int i = 0; i < count; i++) {
    bool can_offline, online = cpu_is_online(i, &can_offline);
    json_open(reply, '{');
    json_member_integer(reply, "logical-id", i);
    json_member_boolean(reply, "online", online);
    json_member_boolean(reply, "can-offline", can_offline);
    json_close(reply, '}');
  }
  json_close(reply, ']');
  return 0;
}

static int get_disks(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  char path[300];
  DIR *directory = opendir("/sys/block");
  json_open(reply, '[');
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/dev/%.200s", entry->d_name);
    json_open(reply, '{');
    json_member_string(reply, "name", path);
    json_member_boolean(reply, "partition", false);
    json_key(reply, "dependencies");
    json_open(reply, '[');
    json_close(reply, ']');
    json_close(reply, '}');
  }
  if (directory) closedir(directory);
  json_close(reply, ']');
  return 0;
}

static int prefix_length(const struct sockaddr *netmask) {
  const uint8_t *bytes = netmask->sa_family == AF_INET6
                             ? ((const struct sockaddr_in6 *)netmask)->sin6_addr.s6_addr
                             : (const uint8_t *)&((const struct sockaddr_in *)netmask)->sin_addr;
  int length = 0, size = netmask->sa_family == AF_INET6 ? 16 : 4;
  for (int i = 0; i < size; i++) length += __builtin_popcount(bytes[i]);
  return length;
}

static void put_address(Buffer *reply, const struct ifaddrs *entry) {
  char text[INET6_ADDRSTRLEN] = "";
  bool v6 = entry->ifa_addr->sa_family == AF_INET6;
  const void *address = v6 ? (const void *)&((struct sockaddr_in6 *)entry->ifa_addr)->sin6_addr
                           : (const void *)&((struct sockaddr_in *)entry->ifa_addr)->sin_addr;
  inet_ntop(entry->ifa_addr->sa_family, address, text, sizeof text);
  json_open(reply, '{');
  json_member_string(reply, "ip-address", text);
  json_member_string(reply, "ip-address-type", v6 ? "ipv6" : "ipv4");
  json_member_integer(reply, "prefix", entry->ifa_netmask ? prefix_length(entry->ifa_netmask) : 0);
  json_close(reply, '}');
}

static void put_interface(Buffer *reply, const struct ifaddrs *all, const struct ifaddrs *link) {
  const struct sockaddr_ll *hardware = (const struct sockaddr_ll *)link->ifa_addr;
  const uint8_t *a = hardware->sll_addr;
  char text[18];
  snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3], a[4], a[5]);
  json_open(reply, '{');
  json_member_string(reply, "name", link->ifa_name);
  json_member_string(reply, "hardware-address", text);
  json_key(reply, "ip-addresses");
  json_open(reply, '[');
  for (const struct ifaddrs *entry = all; entry; entry = entry->ifa_next)
    if (entry->ifa_addr && strcmp(entry->ifa_name, link->ifa_name) == 0 &&
        (entry->ifa_addr->sa_family == AF_INET || entry->ifa_addr->sa_family == AF_INET6))
      put_address(reply, entry);
  json_close(reply, ']');
  json_close(reply, '}');
}

static int get_interfaces(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  struct ifaddrs *all;
  if (getifaddrs(&all) < 0) return -errno;
  json_open(reply, '[');
  for (const struct ifaddrs *entry = all; entry; entry = entry->ifa_next)
    if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_PACKET) put_interface(reply, all, entry);
  json_close(reply, ']');
  freeifaddrs(all);
  return 0;
}

// --- the userspace -------------------------------------------------------------------------------------

// os-release(5): shell-like assignments; quotes are dropped, escapes are rare enough to be kept.
static void put_os_release(Buffer *reply, char *text) {
  static const struct {
    const char *key, *member;
  } wanted[] = {{"ID", "id"},           {"NAME", "name"},       {"PRETTY_NAME", "pretty-name"},
                {"VERSION", "version"}, {"VERSION_ID", "version-id"}, {"VARIANT", "variant"},
                {"VARIANT_ID", "variant-id"}};
  char *value = strchr(text, '=');
  if (!value || text[0] == '#') return;
  *value++ = 0;
  value[strcspn(value, "\n")] = 0;
  size_t length = strlen(value);
  if (length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value) {
    value[length - 1] = 0;
    value++;
  }
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
    if (strcmp(text, wanted[i].key) == 0) json_member_string(reply, wanted[i].member, value);
}

static int get_osinfo(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  struct utsname kernel;
  char text[512];
  if (uname(&kernel) < 0) return -errno;
  FILE *file = fopen("/etc/os-release", "re");
  if (!file) file = fopen("/usr/lib/os-release", "re");
  json_open(reply, '{');
  json_member_string(reply, "kernel-release", kernel.release);
  json_member_string(reply, "kernel-version", kernel.version);
  json_member_string(reply, "machine", "x86_64"); // as the userspace sees it
  while (file && fgets(text, sizeof text, file)) put_os_release(reply, text);
  if (file) fclose(file);
  json_close(reply, '}');
  return 0;
}

static int get_timezone(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  time_t now = time(NULL);
  struct tm local;
  tzset();
  if (!localtime_r(&now, &local)) return -EINVAL;
  json_open(reply, '{');
  json_member_string(reply, "zone", local.tm_zone);
  json_member_integer(reply, "offset", local.tm_gmtoff);
  json_close(reply, '}');
  return 0;
}

static int get_host_name(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  char name[65] = "";
  if (gethostname(name, sizeof name - 1) < 0) return -errno;
  json_open(reply, '{');
  json_member_string(reply, "host-name", name);
  json_close(reply, '}');
  return 0;
}

static int get_users(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  json_open(reply, '[');
  setutxent();
  for (struct utmpx *entry; (entry = getutxent());) {
    char user[sizeof entry->ut_user + 1] = "";
    if (entry->ut_type != USER_PROCESS) continue;
    memcpy(user, entry->ut_user, sizeof entry->ut_user);
    json_open(reply, '{');
    json_member_string(reply, "user", user);
    json_key(reply, "login-time");
    buffer_printf(reply, "%lld.%06ld", (long long)entry->ut_tv.tv_sec, (long)entry->ut_tv.tv_usec);
    json_close(reply, '}');
  }
  endutxent();
  json_close(reply, ']');
  return 0;
}

// Calls `visit` for each mounted file system that is on a device, or is the root; each source once.
static int each_filesystem(int (*visit)(const struct mntent *entry, void *context), void *context) {
  FILE *table = setmntent("/proc/self/mounts", "re");
  char seen[4096] = "\n", key[300];
  int r = 0;
  if (!table) return -errno;
  for (struct mntent *entry; r == 0 && (entry = getmntent(table));) {
    bool device = strncmp(entry->mnt_fsname, "/dev/", 5) == 0;
    if (!device && strcmp(entry->mnt_dir, "/") != 0) continue;
    snprintf(key, sizeof key, "\n%.290s\n", entry->mnt_fsname);
    if (strstr(seen, key)) continue;
    if (strlen(seen) + strlen(key) < sizeof seen) strcat(seen, key + 1);
    r = visit(entry, context);
  }
  endmntent(table);
  return r;
}

static int put_filesystem(const struct mntent *entry, void *context) {
  Buffer *reply = context;
  struct statvfs status;
  const char *slash = strrchr(entry->mnt_fsname, '/');
  json_open(reply, '{');
  json_member_string(reply, "name", slash ? slash + 1 : entry->mnt_fsname);
  json_member_string(reply, "mountpoint", entry->mnt_dir);
  json_member_string(reply, "type", entry->mnt_type);
  if (statvfs(entry->mnt_dir, &status) == 0) {
    json_member_integer(reply, "used-bytes", (int64_t)((status.f_blocks - status.f_bfree) * status.f_frsize));
    json_member_integer(reply, "total-bytes", (int64_t)(status.f_blocks * status.f_frsize));
  }
  json_key(reply, "disk");
  json_open(reply, '[');
  json_close(reply, ']');
  json_close(reply, '}');
  return 0;
}

static int get_fsinfo(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  json_open(reply, '[');
  int r = each_filesystem(put_filesystem, reply);
  json_close(reply, ']');
  return r;
}

static int control_filesystem(const struct mntent *entry, unsigned long command, void *argument) {
  int fd = open(entry->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = ioctl(fd, command, argument) < 0 ? -errno : 0;
  close(fd);
  return r;
}

// File systems that cannot be frozen (the root may be a share) are not counted; a frozen one stays so.
static int freeze_one(const struct mntent *entry, void *count) {
  int r = control_filesystem(entry, FIFREEZE, NULL);
  *(int *)count += r == 0;
  return r == 0 || r == -EOPNOTSUPP || r == -EBUSY ? 0 : r;
}

static int thaw_one(const struct mntent *entry, void *count) {
  int r = control_filesystem(entry, FITHAW, NULL);
  *(int *)count += r == 0;
  return 0;
}

static int freeze(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  int count = 0, thawed = 0;
  int r = each_filesystem(freeze_one, &count);
  if (r < 0) each_filesystem(thaw_one, &thawed);
  json_put_integer(reply, count);
  return r;
}

static int thaw(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  int count = 0;
  int r = each_filesystem(thaw_one, &count);
  json_put_integer(reply, count);
  return r;
}

static void note_frozen(void) { frozen = true; }
static void note_thawed(void) { frozen = false; }

static int freeze_status(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  json_put_string(reply, frozen ? "frozen" : "thawed");
  return 0;
}

static int trim_one(const struct mntent *entry, void *context) {
  Buffer *reply = context;
  struct fstrim_range range = {.len = UINT64_MAX};
  int r = control_filesystem(entry, FITRIM, &range);
  json_open(reply, '{');
  json_member_string(reply, "path", entry->mnt_dir);
  if (r < 0) json_member_string(reply, "error", strerror(-r));
  else json_member_integer(reply, "trimmed", (int64_t)range.len);
  json_close(reply, '}');
  return 0;
}

static int trim(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  json_open(reply, '{');
  json_key(reply, "paths");
  json_open(reply, '[');
  int r = each_filesystem(trim_one, reply);
  json_close(reply, ']');
  json_close(reply, '}');
  return r;
}

const QgaCommand qga_commands[] = {
    {"guest-ping", QGA_HERE, ping},
    {"guest-sync", QGA_HERE, sync_id},
    {"guest-info", QGA_HERE, info},
    {"guest-shutdown", QGA_HERE, shut_down},
    {"guest-get-time", QGA_HERE, get_time},
    {"guest-set-time", QGA_HERE, set_time},
    {"guest-get-vcpus", QGA_HERE, get_vcpus},
    {"guest-get-load", QGA_HERE, load},
    {"guest-get-disks", QGA_HERE, get_disks},
    {"guest-get-host-name", QGA_HERE, get_host_name},
    {"guest-network-get-interfaces", QGA_HERE, get_interfaces},
    {"guest-fsfreeze-status", QGA_HERE, freeze_status},
    {"guest-fsfreeze-freeze", QGA_INSIDE, freeze, note_frozen},
    {"guest-fsfreeze-thaw", QGA_INSIDE, thaw, note_thawed},
    {"guest-fstrim", QGA_INSIDE, trim},
    {"guest-get-osinfo", QGA_INSIDE, get_osinfo},
    {"guest-get-timezone", QGA_INSIDE, get_timezone},
    {"guest-get-users", QGA_INSIDE, get_users},
    {"guest-get-fsinfo", QGA_INSIDE, get_fsinfo},
    {STELE_COMMAND_STATUS, QGA_HERE, status},
    {STELE_COMMAND_MOUNTS, QGA_HERE, mounts},
    {STELE_COMMAND_STATS, QGA_HERE, statistics},
    {0},
};
