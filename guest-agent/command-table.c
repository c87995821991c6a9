// What the host can ask for, a table at the end: power, time, and file systems held still or trimmed. Those marked
// COMMAND_INSIDE run in a child inside the userspace and may touch its files; the others must not. What each returns is
// fixed by QEMU's docs/interop/qemu-ga-ref.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>
#include "clock.h"
#include "commands.h"
#include "console.h"
#include "stop.h"
#include "userspace.h"

// A host that froze file systems and went away (its client was killed, it forgot) must not leave the machine standing:
// programs that write wait, and so does the machine's end. So long may a snapshot take.
enum { FREEZE_MS = 60000, RETRY_MS = 1000 };

static bool frozen;
static uint64_t thaw_at; // monotonic ms; 0: nothing is held, by all that is known

// --- about the agent -----------------------------------------------------------------------------------

static void put_nothing(Buffer *reply) {
  buffer_append(reply, "{}", 2);
}

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
  for (const Command *command = command_table; command->name; command++) put_command(reply, command->name);
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
    if (thaw_at) thaw_at = agent_now_ms(); // the userspace has to write to end
    return stop_request(agent, modes[i].action);
  }
  return -EINVAL;
}

// --- time -------------------------------------------------------------------------------------------

static int get_time(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0) return -errno;
  json_put_integer(reply, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
  return 0;
}

static int set_time(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply) {
  const JsonNode *given = json_member(request, arguments, "time");
  struct timespec wanted;
  int64_t nanoseconds;
  // Without a time given, the real-time clock's: the host keeps it right.
  int r = given ? json_get_integer(request, given, &nanoseconds) : clock_read_hardware(&wanted);
  if (r < 0) return r;
  if (given) wanted = (struct timespec){.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
  if (clock_settime(CLOCK_REALTIME, &wanted) < 0) return -errno;
  put_nothing(reply);
  return 0;
}

// --- file systems -------------------------------------------------------------------------------------

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

// From the beginning: one that is killed in the middle, as it takes too long, leaves some frozen.
static void note_freeze(CommandStage stage) {
  thaw_at = agent_now_ms() + FREEZE_MS;
  if (stage == COMMAND_DONE) frozen = true;
}

static void note_thaw(CommandStage stage) {
  if (stage != COMMAND_DONE) return;
  frozen = false;
  thaw_at = 0;
}

int command_table_expire(Agent *agent) {
  uint64_t now = agent_now_ms();
  int thawed = 0;
  if (!thaw_at) return -1;
  if (now < thaw_at) return (int)(thaw_at - now);
  pid_t pid = userspace_fork(agent);
  if (pid == 0) {
    each_filesystem(thaw_one, &thawed);
    _exit(EXIT_SUCCESS);
  }
  thaw_at = pid < 0 ? now + RETRY_MS : 0;
  if (pid < 0) return RETRY_MS;
  if (frozen) console_say("file systems were frozen for %d s: the host did not thaw them", FREEZE_MS / 1000);
  frozen = false;
  return -1;
}

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
  if (r < 0)
    json_member_string(reply, "error", strerror(-r));
  else
    json_member_integer(reply, "trimmed", (int64_t)range.len);
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

const Command command_table[] = {
    {"guest-ping", COMMAND_HERE, ping},
    {"guest-sync", COMMAND_HERE, sync_id},
    {"guest-sync-delimited", COMMAND_HERE, sync_id},
    {"guest-info", COMMAND_HERE, info},
    {"guest-shutdown", COMMAND_HERE, shut_down},
    {"guest-get-time", COMMAND_HERE, get_time},
    {"guest-set-time", COMMAND_HERE, set_time},
    {"guest-fsfreeze-status", COMMAND_HERE, freeze_status},
    {"guest-fsfreeze-freeze", COMMAND_INSIDE, freeze, note_freeze},
    {"guest-fsfreeze-thaw", COMMAND_INSIDE, thaw, note_thaw},
    {"guest-fstrim", COMMAND_INSIDE, trim},
    {0},
};
