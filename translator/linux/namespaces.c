/* Which PID namespace is told to be the system's first. A machine's userspace is born into a namespace of its own, where
 * process 1 is its init; to programs that is all there is, and the one way to tell are the numbers of /proc/PID/ns/pid,
 * by which systemd-detect-virt(1) and others look for containers. Who starts the userspace names its namespace
 * (STELE_PID_NAMESPACE); others keep their numbers, so containers in the machine are told apart from it. */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "base/print.h"
#include "linux/host-stat.h"
#include "linux/linux.h"

#define FIRST_PID_NAMESPACE UINT64_C(0xeffffffc) /* PROC_PID_INIT_INO of Linux, include/linux/proc_ns.h */

/* Inode numbers are those of one file system; that of namespaces has no name to be found by, only members. */
static bool is_of_namespaces(uint64_t device) {
  HostStat host;
  return !host_call(__NR_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &host, 0) && host.device == device;
}

uint64_t linux_namespace_inode(uint64_t device, uint64_t inode) {
  if (!linux_program.pid_namespace || inode != linux_program.pid_namespace || !is_of_namespaces(device)) return inode;
  return FIRST_PID_NAMESPACE;
}

int linux_namespace_statx(uint64_t to) {
  struct statx status;
  if (!linux_program.pid_namespace) return 0;
  int error = linux_copy_in(&status, to, sizeof status);
  if (error || status.stx_ino != linux_program.pid_namespace) return error;
  /* As struct stat has it: include/linux/kdev_t.h, new_encode_dev(). */
  uint64_t device = (status.stx_dev_minor & 0xff) | status.stx_dev_major << 8 | (status.stx_dev_minor & ~0xffu) << 12;
  status.stx_ino = linux_namespace_inode(device, status.stx_ino);
  return linux_copy_out(to, &status, sizeof status);
}

int linux_namespace_link(uint64_t to, size_t length) {
  char text[32], own[32], first[32];
  if (!linux_program.pid_namespace) return 0;
  base_format(own, sizeof own, "pid:[%lu]", (unsigned long)linux_program.pid_namespace);
  base_format(first, sizeof first, "pid:[%lu]", (unsigned long)FIRST_PID_NAMESPACE);
  if (length != strlen(own) || length != strlen(first)) return 0; /* such numbers have ten digits */
  int error = linux_copy_in(text, to, length);
  return error || memcmp(text, own, length) ? error : linux_copy_out(to, first, length);
}
