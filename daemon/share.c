// See share.h.
#include "share.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "errors.h"

static int namespace_errno = EPERM; // why there is no namespace, 0 once there is one

gboolean share_enter_namespace(void) {
  // Slave: mounts made later on the host appear here, ours do not appear there.
  gboolean entered = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0;
  namespace_errno = entered ? 0 : errno;
  return entered;
}

gboolean share_has_namespace(void) {
  return namespace_errno == 0;
}

// A remount must repeat the flags the mount has, or the kernel refuses it in a container.
static unsigned long kept_flags(const char *path) {
  static const struct {
    unsigned long has, keep;
  } rows[] = {{ST_NOSUID, MS_NOSUID},   {ST_NODEV, MS_NODEV},           {ST_NOEXEC, MS_NOEXEC},
              {ST_NOATIME, MS_NOATIME}, {ST_NODIRATIME, MS_NODIRATIME}, {ST_RELATIME, MS_RELATIME}};
  struct statvfs status = {0};
  unsigned long flags = 0;
  if (statvfs(path, &status) < 0) return 0;
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (status.f_flag & rows[i].has) flags |= rows[i].keep;
  return flags;
}

static gboolean make_target(const char *source, const char *target) {
  g_autofree char *parent = g_path_get_dirname(target);
  if (g_file_test(source, G_FILE_TEST_IS_DIR)) return g_mkdir_with_parents(target, 0755) == 0;
  int fd = g_mkdir_with_parents(parent, 0755) == 0 ? g_open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
  return fd >= 0 && close(fd) == 0;
}

gboolean share_bind(const char *source, const char *target, gboolean readonly, GError **error) {
  unsigned long flags = MS_NOSUID | MS_NODEV | (readonly ? MS_RDONLY : 0);
  if (namespace_errno) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
                "cannot share '%s' safely: steled may not make mounts here (%s): run it as "
                "root, with CAP_SYS_ADMIN",
                source, g_strerror(namespace_errno));
    return FALSE;
  }
  share_unbind(target);
  if (make_target(source, target) && mount(source, target, NULL, MS_BIND, NULL) == 0 &&
      mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags | kept_flags(target), NULL) == 0)
    return TRUE;
  int number = errno;
  g_set_error(error, STELE_ERROR, number == ENOENT ? STELE_ERROR_MISSING_FILE : STELE_ERROR_UNSUPPORTED,
              "cannot share '%s': %s", source, g_strerror(number));
  share_unbind(target);
  return FALSE;
}

gboolean share_cover(const char *directory, const char *view, const char *name, GError **error) {
  g_autofree char *source = g_build_filename(directory, name, NULL), *target = g_build_filename(view, name, NULL);
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_RDONLY;
  if (mount(source, target, NULL, MS_BIND, NULL) == 0 &&
      mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags | kept_flags(target), NULL) == 0)
    return TRUE;
  int number = errno;
  g_set_error(error, STELE_ERROR, number == ENOENT ? STELE_ERROR_MISSING_FILE : STELE_ERROR_UNSUPPORTED,
              "cannot share '%s': %s", source, g_strerror(number));
  return FALSE;
}

void share_unbind(const char *target) {
  while (namespace_errno == 0 && umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  g_remove(target);
}

// --- processes -----------------------------------------------------------------------------------

struct ProcessWatch {
  int pidfd;
  guint source;
  ProcessDied died;
  gpointer user_data;
};

static gboolean on_exit_seen(gint fd, GIOCondition condition, gpointer user_data) {
  ProcessWatch *watch = user_data;
  watch->source = 0;
  watch->died(watch->user_data); // may free the watch
  return G_SOURCE_REMOVE;
}

ProcessWatch *process_watch_new(int pid, ProcessDied died, gpointer user_data) {
  int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
  if (pidfd < 0) return NULL;
  ProcessWatch *watch = g_new0(ProcessWatch, 1);
  *watch = (ProcessWatch){.pidfd = pidfd, .died = died, .user_data = user_data};
  if (died) watch->source = g_unix_fd_add(pidfd, G_IO_IN, on_exit_seen, watch);
  return watch;
}

void process_watch_free(ProcessWatch *watch) {
  if (watch == NULL) return;
  if (watch->source) g_source_remove(watch->source);
  close(watch->pidfd);
  g_free(watch);
}

gboolean process_watch_is_dead(const ProcessWatch *watch) {
  struct pollfd poller = {.fd = watch->pidfd, .events = POLLIN};
  return poll(&poller, 1, 0) == 1;
}

void process_watch_kill(const ProcessWatch *watch) {
  syscall(SYS_pidfd_send_signal, watch->pidfd, SIGKILL, NULL, 0);
}
