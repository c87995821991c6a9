// See user-namespace.h. A process cannot write such a mapping for itself: newuidmap and newgidmap, set-uid programs,
// write it from outside, started by a process that was forked before the namespace was entered.
#include "user-namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWNERS_MIN 65535 // with root, those that Debian's policy and images count on: 0 to 65535
#define PID_DIGITS 12

// Arguments of newuidmap: PID, then root's number and ours, then 1 and the numbers we were given.
typedef struct Mapper {
  char *program;
  char *own, *first, *count; // decimal
} Mapper;

struct UserNamespace {
  Mapper users, groups;
  gboolean has_owners;
  char *only_user, *only_group; // for uid_map and gid_map where there are no mappers
};

gboolean user_namespace_find_range(const char *text, const char *name, const char *id, guint32 *ret_first,
                                   guint32 *ret_count) {
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (char **line = lines; *line; line++) {
    g_auto(GStrv) fields = g_strsplit(g_strstrip(*line), ":", -1);
    guint64 first, count;
    if (g_strv_length(fields) != 3 || (g_strcmp0(fields[0], name) != 0 && g_strcmp0(fields[0], id) != 0)) continue;
    if (!g_ascii_string_to_unsigned(fields[1], 10, 1, G_MAXUINT32 - OWNERS_MIN, &first, NULL) ||
        !g_ascii_string_to_unsigned(fields[2], 10, OWNERS_MIN, G_MAXUINT32, &count, NULL))
      continue;
    *ret_first = (guint32)first;
    *ret_count = OWNERS_MIN;
    return TRUE;
  }
  return FALSE;
}

static gboolean find_mapper(Mapper *mapper, const char *file, const char *program, guint32 own) {
  g_autofree char *text = NULL, *id = g_strdup_printf("%u", geteuid());
  guint32 first, count;
  if (!g_file_get_contents(file, &text, NULL, NULL) ||
      !user_namespace_find_range(text, g_get_user_name(), id, &first, &count))
    return FALSE;
  *mapper = (Mapper){g_find_program_in_path(program), g_strdup_printf("%u", own), g_strdup_printf("%u", first),
                     g_strdup_printf("%u", count)};
  return mapper->program != NULL;
}

UserNamespace *user_namespace_new(void) {
  UserNamespace *it = g_new0(UserNamespace, 1);
  gboolean users = find_mapper(&it->users, "/etc/subuid", "newuidmap", geteuid()),
           groups = find_mapper(&it->groups, "/etc/subgid", "newgidmap", getegid());
  it->has_owners = users && groups;
  it->only_user = g_strdup_printf("0 %u 1\n", geteuid());
  it->only_group = g_strdup_printf("0 %u 1\n", getegid());
  return it;
}

void user_namespace_free(UserNamespace *it) {
  if (it == NULL) return;
  char *const strings[] = {it->users.program, it->users.own,    it->users.first,  it->users.count, it->groups.program,
                           it->groups.own,    it->groups.first, it->groups.count, it->only_user,   it->only_group};
  for (gsize i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  g_free(it);
}

gboolean user_namespace_has_owners(const UserNamespace *it) {
  return it->has_owners;
}

// --- in the child ---------------------------------------------------------------------------------

static void write_decimal(char text[PID_DIGITS], guint value) {
  char digits[PID_DIGITS];
  int count = 0, at = 0;
  do digits[count++] = (char)('0' + value % 10);
  while (value /= 10);
  while (count > 0) text[at++] = digits[--count];
  text[at] = 0;
}

static gboolean await_success(pid_t pid) {
  int status = -1;
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static gboolean map(const Mapper *mapper, char *target) {
  char root[] = "0", one[] = "1";
  char *const argv[] = {mapper->program, target, root, mapper->own, one, one, mapper->first, mapper->count, NULL};
  char *const environment[] = {NULL};
  pid_t pid = fork();
  if (pid == 0) {
    execve(mapper->program, argv, environment);
    _exit(EXIT_FAILURE);
  }
  return await_success(pid);
}

// Waits until `target` has entered its namespace; the pipe's end tells when it never will.
static void map_from_outside(const UserNamespace *it, int entered, pid_t target) {
  char byte, number[PID_DIGITS];
  write_decimal(number, (guint)target);
  gboolean good = read(entered, &byte, 1) == 1 && map(&it->users, number) && map(&it->groups, number);
  _exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
}

static gboolean enter_with_owners(const UserNamespace *it) {
  int entered[2];
  pid_t target = getpid();
  if (pipe2(entered, O_CLOEXEC) < 0) return FALSE;
  pid_t mapper = fork();
  if (mapper == 0) {
    close(entered[1]);
    map_from_outside(it, entered[0], target);
  }
  close(entered[0]);
  gboolean good = mapper > 0 && unshare(CLONE_NEWUSER) == 0 && write(entered[1], "", 1) == 1;
  close(entered[1]);
  good = await_success(mapper) && good;
  if (!good) errno = EPERM;
  return good;
}

static gboolean write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  gboolean good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (fd >= 0) close(fd);
  return good;
}

gboolean user_namespace_enter(const UserNamespace *it) {
  if (it->has_owners) return enter_with_owners(it);
  return unshare(CLONE_NEWUSER) == 0 && write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", it->only_user) && write_file("/proc/self/gid_map", it->only_group);
}
