// See open-inside.h. openat2(2), RESOLVE_IN_ROOT: the kernel gives up with EAGAIN where it meets ".." while anything on
// the system is renamed or mounted, which on a busy one is all the time.
#include "open-inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TRIES_MAX = 10000 }; // some ten milliseconds: who renames without end gets an error in the end

int open_inside(int root, const char *path, int flags) {
  struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  int fd = -1;
  for (int i = 0; i < TRIES_MAX; i++) {
    fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN) break;
    sched_yield();
  }
  return fd;
}
