// See program.h. User data base: /etc/passwd and /etc/group read directly, since a static program cannot
// load the root's (x86-64) name service modules.
#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "elf-program.h"
#include "session.h"

enum { EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127, GROUPS_MAX = 256 };

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

typedef struct User {
  uid_t uid;
  gid_t gid;
  char name[64], home[256], shell[256];
  bool group_given; // gid was asked for, and is to be the only group
} User;

// --- the request ---------------------------------------------------------------------------------------

static int get_strings(const JsonDocument *document, const JsonNode *array, char ***ret_strings) {
  size_t count = 0;
  if (array && array->type != JSON_ARRAY) return -EINVAL;
  for (const JsonNode *node = json_first(document, array); node; node = json_next(document, array, node)) count++;
  char **strings = *ret_strings = calloc(count + 1, sizeof *strings);
  if (!strings) return -ENOMEM;
  for (const JsonNode *node = json_first(document, array); node; node = json_next(document, array, node)) {
    int r = json_get_string(document, node, strings++);
    if (r < 0) return r;
  }
  return 0;
}

static int get_optional_string(const JsonDocument *document, const char *name, char **ret_string) {
  const JsonNode *node = json_member(document, document->nodes, name);
  return !node || node->type == JSON_NULL ? 0 : json_get_string(document, node, ret_string);
}

static int get_size(const JsonDocument *document, const char *name, unsigned short *ret_size) {
  const JsonNode *node = json_member(document, document->nodes, name);
  int64_t value;
  if (!node) return 0;
  int r = json_get_integer(document, node, &value);
  if (r < 0) return r;
  if (value < 0 || value > USHRT_MAX) return -EINVAL;
  *ret_size = (unsigned short)value;
  return 0;
}

static int read_request(ProgramRequest *request, const JsonDocument *document) {
  const JsonNode *root = document->nodes, *tty = json_member(document, root, "tty");
  if (root->type != JSON_OBJECT) return -EINVAL;
  int r = get_strings(document, json_member(document, root, "argv"), &request->argv);
  if (r == 0) r = get_strings(document, json_member(document, root, "env"), &request->env);
  if (r == 0) r = get_optional_string(document, "cwd", &request->cwd);
  if (r == 0) r = get_optional_string(document, "user", &request->user);
  if (r == 0 && tty) r = json_get_boolean(document, tty, &request->tty);
  if (r == 0) r = get_size(document, "rows", &request->rows);
  if (r == 0) r = get_size(document, "cols", &request->columns);
  if (r == 0) r = get_size(document, "stop-signal", &request->stop_signal);
  if (r == 0 && request->stop_signal > 64) r = -EINVAL;
  for (char **entry = request->env; r == 0 && entry && *entry; entry++)
    if (!strchr(*entry, '=') || **entry == '=') r = -EINVAL;
  return r;
}

int program_parse(ProgramRequest *ret_request, const char *json, size_t size) {
  JsonDocument document;
  *ret_request = (ProgramRequest){0};
  int r = json_parse(&document, json, size);
  if (r < 0) return r;
  r = read_request(ret_request, &document);
  json_free(&document);
  return r;
}

static void free_strings(char **strings) {
  for (char **string = strings; string && *string; string++) free(*string);
  free(strings);
}

void program_free(ProgramRequest *request) {
  free_strings(request->argv);
  free_strings(request->env);
  free(request->cwd);
  free(request->user);
  *request = (ProgramRequest){0};
}

// --- in the child --------------------------------------------------------------------------------------
// Lines of /etc/passwd and /etc/group are as long as they like (groups of many members); what holds one is left to the
// end of the process.

static void fail(int report_fd, int error, const char *format, const char *what) {
  ProgramReport report = {.error = error, .pid = getpid()};
  snprintf(report.message, sizeof report.message, format, what);
  ssize_t ignored = write(report_fd, &report, sizeof report);
  (void)ignored;
  _exit(error == ENOENT || error == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE);
}

// Splits a line at colons, in place; returns the number of fields found, at most `count`.
static int split(char *line, char **fields, int count) {
  int found = 0;
  line[strcspn(line, "\n")] = 0;
  for (char *at = line; found < count && at; found++) {
    fields[found] = strsep(&at, ":");
  }
  return found;
}

static bool is_number(const char *text) {
  return *text && strspn(text, "0123456789") == strlen(text);
}

static int find_user(const char *wanted, User *ret_user) {
  char *line = NULL, *fields[7];
  size_t size = 0;
  *ret_user = (User){.name = "root", .home = "/", .shell = "/bin/sh"};
  FILE *file = fopen("/etc/passwd", "re");
  while (file && getline(&line, &size, file) > 0) {
    if (split(line, fields, 7) != 7) continue;
    if (strcmp(fields[0], wanted) != 0 && !(is_number(wanted) && strcmp(fields[2], wanted) == 0)) continue;
    ret_user->uid = (uid_t)strtoul(fields[2], NULL, 10);
    ret_user->gid = (gid_t)strtoul(fields[3], NULL, 10);
    snprintf(ret_user->name, sizeof ret_user->name, "%s", fields[0]);
    snprintf(ret_user->home, sizeof ret_user->home, "%s", fields[5]);
    if (*fields[6]) snprintf(ret_user->shell, sizeof ret_user->shell, "%s", fields[6]);
    fclose(file);
    return 0;
  }
  if (file) fclose(file);
  if (strcmp(wanted, "root") == 0 || strcmp(wanted, "0") == 0) return 0; // a root without /etc/passwd
  if (!is_number(wanted)) return -ENOENT;
  ret_user->uid = ret_user->gid = (uid_t)strtoul(wanted, NULL, 10);
  snprintf(ret_user->name, sizeof ret_user->name, "%.60s", wanted);
  return 0;
}

// NAME[:GROUP], either also as a number; the group is then the only one.
static int find_user_and_group(const char *wanted, User *ret_user) {
  char name[128], *line = NULL, *fields[4];
  size_t size = 0;
  const char *group = strchr(wanted, ':');
  snprintf(name, sizeof name, "%.*s", group ? (int)(group - wanted) : (int)sizeof name - 1, wanted);
  int r = find_user(name, ret_user);
  if (r < 0 || !group) return r;
  ret_user->group_given = true;
  bool found = is_number(++group);
  if (found) ret_user->gid = (gid_t)strtoul(group, NULL, 10);
  FILE *file = fopen("/etc/group", "re");
  while (file && !found && getline(&line, &size, file) > 0) {
    found = split(line, fields, 4) == 4 && strcmp(fields[0], group) == 0;
    if (found) ret_user->gid = (gid_t)strtoul(fields[2], NULL, 10);
  }
  if (file) fclose(file);
  return found ? 0 : -ENOENT;
}

static bool lists_member(char *members, const char *name) {
  for (char *member; (member = strsep(&members, ","));)
    if (strcmp(member, name) == 0) return true;
  return false;
}

static int become(const User *user) {
  char *line = NULL, *fields[4];
  size_t size = 0;
  gid_t groups[GROUPS_MAX] = {user->gid};
  size_t count = 1;
  FILE *file = user->group_given ? NULL : fopen("/etc/group", "re");
  while (file && count < GROUPS_MAX && getline(&line, &size, file) > 0)
    if (split(line, fields, 4) == 4 && lists_member(fields[3], user->name))
      groups[count++] = (gid_t)strtoul(fields[2], NULL, 10);
  if (file) fclose(file);
  return setgroups(count, groups) < 0 || setgid(user->gid) < 0 || setuid(user->uid) < 0 ? -errno : 0;
}

static void set_environment(const ProgramRequest *request, const User *user, const Session *session) {
  static const char *const settings[] = {"STELE_CPU", "STELE_CPU_VENDOR", "STELE_MEMORY_MODEL", "STELE_PID_NAMESPACE"};
  char *kept[sizeof settings / sizeof *settings];
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    kept[i] = getenv(settings[i]) ? strdup(getenv(settings[i])) : NULL;
  clearenv();
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
    if (kept[i]) setenv(settings[i], kept[i], 1);
  setenv("HOME", user->home, 1);
  setenv("USER", user->name, 1);
  setenv("LOGNAME", user->name, 1);
  setenv("SHELL", user->shell, 1);
  setenv("PATH", DEFAULT_PATH, 1);
  if (request->tty) setenv("TERM", "linux", 1);
  session_set_environment(session);
  for (char **entry = request->env; entry && *entry; entry++) putenv(*entry);
}

// The login session lasts as long as its descriptor: who waits for the program keeps it.
static void hand_over(int report_fd, Session *session) {
  ProgramReport report = {.pid = getpid()};
  union {
    struct cmsghdr header; // for the alignment
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  struct iovec part = {&report, sizeof report};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (session->fd < 0) return;
  memcpy(CMSG_DATA(&control.header), &session->fd, sizeof session->fd);
  ssize_t ignored = sendmsg(report_fd, &message, MSG_NOSIGNAL);
  (void)ignored;
  close(session->fd);
}

// The standard input's name below /dev, or "".
static void name_terminal(char *ret_name, size_t size) {
  char path[64];
  bool named = ttyname_r(STDIN_FILENO, path, sizeof path) == 0 && strncmp(path, "/dev/", 5) == 0;
  snprintf(ret_name, size, "%s", named ? path + 5 : "");
}

// The file execvp(3) would run: the name itself where it has a slash, else the first executable in PATH.
static int find_program(const char *name, char *ret_path, size_t size) {
  const char *path = getenv("PATH");
  struct stat status;
  if (strchr(name, '/')) return snprintf(ret_path, size, "%s", name) < (int)size ? 0 : -ENAMETOOLONG;
  while (path && *path) {
    int length = (int)strcspn(path, ":");
    snprintf(ret_path, size, "%.*s/%s", length ? length : 1, length ? path : ".", name);
    if (stat(ret_path, &status) == 0 && S_ISREG(status.st_mode) && access(ret_path, X_OK) == 0) return 0;
    path += length + (path[length] == ':');
  }
  return -ENOENT;
}

// What is damaged, or for a machine that may be this one, is left to the kernel and the translator.
int program_check(const char *path, char *message, size_t message_size) {
  ElfProgram file;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == EACCES) return 0; // may still be executable; execve decides
  if (fd < 0) return snprintf(message, message_size, "%.150s: %s", path, strerror(errno)), -errno;
  elf_program_read(fd, &file);
  close(fd);
  if (file.kind == ELF_FOREIGN && file.machine == EM_386)
    return snprintf(message, message_size, "%.150s is a 32-bit x86 program; only x86-64 runs here", path), -ENOEXEC;
  if (file.kind != ELF_PROGRAM || !*file.loader || access(file.loader, F_OK) == 0) return 0;
  snprintf(message, message_size, "the x86-64 loader %.100s is missing from this root: install libc6:amd64",
           file.loader);
  return -ENOENT;
}

void program_reset_signals(void) {
  sigset_t none;
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction normal = {.sa_handler = SIG_DFL};
    sigaction(signal, &normal, NULL);
  }
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

void program_exec(const ProgramRequest *request, int report_fd) {
  char path[PATH_MAX], reason[200], login[300], terminal[64];
  char *shell[] = {login, NULL};
  User user;
  Session session;
  const char *wanted = request->user ? request->user : "root";
  ProgramReport started = {.pid = getpid()};
  if (write(report_fd, &started, sizeof started) < 0) _exit(EXIT_CANNOT_EXECUTE);
  if (find_user_and_group(wanted, &user) < 0) fail(report_fd, ENOENT, "there is no user '%.100s' in this root", wanted);
  name_terminal(terminal, sizeof terminal);
  session_enter(&session, user.uid, !request->argv || !*request->argv, terminal);
  hand_over(report_fd, &session);
  set_environment(request, &user, &session);
  if (request->tty && fchown(STDIN_FILENO, user.uid, (gid_t)-1) < 0)
    fail(report_fd, errno, "cannot hand the terminal to '%.100s'", wanted);
  if (become(&user) < 0) fail(report_fd, errno, "cannot become user '%.100s'", wanted);
  const char *directory = request->cwd ? request->cwd : user.home;
  if (chdir(directory) < 0 && (request->cwd || chdir("/") < 0))
    fail(report_fd, errno, "cannot enter the directory '%.150s'", directory);
  char **argv = request->argv && *request->argv ? request->argv : shell;
  const char *slash = strrchr(user.shell, '/');
  snprintf(login, sizeof login, "-%.200s", slash ? slash + 1 : user.shell);
  const char *name = argv == shell ? user.shell : argv[0];
  if (find_program(name, path, sizeof path) < 0) fail(report_fd, ENOENT, "%.150s: no such program", name);
  if (argv == shell && access(path, X_OK) < 0)
    fail(report_fd, errno, "the user's login shell %.150s cannot be run: run another program instead", path);
  int r = program_check(path, reason, sizeof reason);
  if (r < 0) fail(report_fd, -r, "%s", reason);
  program_reset_signals();
  execv(path, argv);
  int error = errno;
  snprintf(reason, sizeof reason, "%.150s: %s", path, strerror(error));
  fail(report_fd, error, "%s", reason);
  _exit(EXIT_CANNOT_EXECUTE);
}
