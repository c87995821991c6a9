// See image-tool.h. Between fork and execve only system calls are made: other threads may hold any lock.
#include "image-tool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "errors.h"
#include "text.h"
#include "user-namespace.h"

#define TICK_MS         500
#define OUTPUT_MAX      (4 * 1024 * 1024)
#define COMPLAINT_MAX   2000 // bytes of the end of standard error that a message has
#define CANNOT_CONFINE  125
#define MOUNT_RECURSIVE 0x8000 // AT_RECURSIVE, mount_setattr(2)
#define MOVE_FROM_EMPTY 0x4    // MOVE_MOUNT_F_EMPTY_PATH

// --- in the child ---------------------------------------------------------------------------------

static gboolean set_mounts(const char *path, unsigned flags, guint64 set, guint64 clear, guint64 propagation) {
  struct mount_attr attributes = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
  return syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attributes, sizeof attributes) == 0;
}

// A copy of the mount at a directory, put over it, stays writable when all else no longer is.
static gboolean leave_writable(const char *directory) {
  int copy = (int)syscall(SYS_open_tree, AT_FDCWD, directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (copy < 0 || syscall(SYS_move_mount, copy, "", AT_FDCWD, directory, MOVE_FROM_EMPTY) < 0) return FALSE;
  return set_mounts("/", MOUNT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) && set_mounts(directory, 0, 0, MOUNT_ATTR_RDONLY, 0);
}

static void limit(int resource, guint64 value) {
  struct rlimit both = {value, value};
  setrlimit((__rlimit_resource_t)resource, &both);
}

typedef struct Running {
  const ImageTool *tool;
  UserNamespace *users; // NULL: steled is root
  GPid pid;
  int out, err; // -1 when closed
  GString *output, *complaint;
} Running;

static void confine(gpointer user_data) {
  const Running *run = user_data;
  const ImageTool *tool = run->tool;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  limit(RLIMIT_CORE, 0);
  if (tool->file_max) limit(RLIMIT_FSIZE, tool->file_max);
  if (tool->output >= 0) dup2(tool->output, STDOUT_FILENO);
  if (tool->host) return;
  if (run->users && !user_namespace_enter(run->users)) _exit(CANNOT_CONFINE);
  if (run->users) prctl(PR_SET_PDEATHSIG, SIGKILL); // lost with the credentials that were left, prctl(2)
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (unshare(CLONE_NEWNS | (tool->network ? 0 : CLONE_NEWNET)) < 0 ||
      !set_mounts("/", MOUNT_RECURSIVE, 0, 0, 1 << 18 /* MS_PRIVATE */) || !leave_writable(tool->writable))
    _exit(CANNOT_CONFINE);
}

// --- its output -----------------------------------------------------------------------------------

// FALSE at the end.
static gboolean collect(int fd, GString *text, gsize most, gboolean keep_end) {
  char bytes[8192];
  ssize_t n = read(fd, bytes, sizeof bytes);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (keep_end || text->len < most) g_string_append_len(text, bytes, n);
  if (keep_end && text->len > 2 * most) g_string_erase(text, 0, (gssize)(text->len - most));
  return n > 0;
}

static void collect_both(Running *run, int wait_ms) {
  struct pollfd watched[2] = {{.fd = run->out, .events = POLLIN}, {.fd = run->err, .events = POLLIN}};
  if (poll(watched, 2, wait_ms) <= 0) return;
  int *const fds[2] = {&run->out, &run->err};
  GString *const texts[2] = {run->output, run->complaint};
  for (int i = 0; i < 2; i++) {
    if (!watched[i].revents || collect(*fds[i], texts[i], i ? COMPLAINT_MAX : OUTPUT_MAX, i == 1)) continue;
    close(*fds[i]);
    *fds[i] = -1;
  }
}

// --- its end --------------------------------------------------------------------------------------

static gboolean go_on(const ImageTool *tool, GError **error) {
  if (g_cancellable_is_cancelled(tool->cancellable)) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_CANCELLED, "given up: what was fetched is kept for the next try");
    return FALSE;
  }
  return tool->tick == NULL || tool->tick(tool->user_data, error);
}

// Its children may keep the pipes open: what counts is its own end.
static gboolean await_end(Running *run, int *ret_status, GError **error) {
  gint64 ticked = 0;
  GError *trouble = NULL;
  while (waitpid(run->pid, ret_status, WNOHANG) == 0) {
    if (run->out >= 0 || run->err >= 0)
      collect_both(run, TICK_MS / 5);
    else
      g_usleep(TICK_MS * 1000 / 10);
    gint64 now = g_get_monotonic_time();
    if (trouble || now - ticked < TICK_MS * 1000) continue;
    ticked = now;
    if (!go_on(run->tool, &trouble)) kill(-run->pid, SIGKILL);
  }
  kill(-run->pid, SIGKILL);
  for (int quiet = 0; quiet < 2 && (run->out >= 0 || run->err >= 0); quiet++) collect_both(run, 0);
  if (trouble) g_propagate_error(error, trouble);
  return trouble == NULL;
}

static gboolean explain(Running *run, int status, GError **error) {
  const char *name = run->tool->argv[0];
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return TRUE;
  gboolean confined = !(WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_CONFINE && run->complaint->len == 0);
  gsize length = MIN(run->complaint->len, COMPLAINT_MAX);
  g_autofree char *words = text_clean(run->complaint->str + run->complaint->len - length, length);
  gboolean full = words && (strstr(words, "no space left") || strstr(words, "No space left") ||
                            strstr(words, "disk quota exceeded") || strstr(words, "Disk quota exceeded"));
  if (!confined)
    g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
                geteuid() == 0 ? "cannot confine %s: steled may not make mounts here: run it with CAP_SYS_ADMIN"
                               : "cannot confine %s: this host lets no users make user namespaces "
                                 "(user.max_user_namespaces, kernel.unprivileged_userns_clone), or newuidmap does not "
                                 "work: allow them, or run steled as root",
                name);
  else if (WIFSIGNALED(status))
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_IMAGE, "%s was killed by signal %d%s", name, WTERMSIG(status),
                WTERMSIG(status) == SIGXFSZ ? ": a file would be larger than an image may be" : "");
  else
    g_set_error(error, STELE_ERROR, full ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_INVALID_IMAGE, "%s: %s", name,
                words && *g_strstrip(words) ? words : "failed without a word");
  return FALSE;
}

static gboolean start(Running *run, GError **error) {
  const ImageTool *tool = run->tool;
  g_auto(GStrv) environment = g_get_environ();
  // What makes mounts of its own as other users of its user namespace could not get into the store.
  if (geteuid() == 0 || !tool->host) environment = g_environ_setenv(environment, "TMPDIR", tool->writable, TRUE);
  environment = g_environ_setenv(environment, "LC_ALL", "C.UTF-8", TRUE);
  environment = g_environ_unsetenv(environment, "NOTIFY_SOCKET");
  g_autoptr(GError) trouble = NULL;
  GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH;
  if (g_spawn_async_with_pipes(tool->writable, (char **)tool->argv, environment, flags, confine, run, &run->pid, NULL,
                               tool->output < 0 ? &run->out : NULL, &run->err, &trouble))
    return TRUE;
  gboolean absent = g_error_matches(trouble, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT);
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              absent ? "%s is not installed: install its package" : "%s: %s", tool->argv[0], trouble->message);
  return FALSE;
}

gboolean image_tool_run(const ImageTool *tool, char **ret_output, GError **error) {
  Running run = {.tool = tool, .out = -1, .err = -1, .output = g_string_new(NULL), .complaint = g_string_new(NULL)};
  if (geteuid() != 0) run.users = user_namespace_new();
  int status = 0;
  gboolean good =
      go_on(tool, error) && start(&run, error) && await_end(&run, &status, error) && explain(&run, status, error);
  if (run.out >= 0) close(run.out);
  if (run.err >= 0) close(run.err);
  g_string_free(run.complaint, TRUE);
  user_namespace_free(run.users);
  char *output = g_string_free(run.output, FALSE);
  if (good && ret_output)
    *ret_output = output;
  else
    g_free(output);
  return good;
}
