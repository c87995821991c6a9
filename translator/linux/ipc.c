/* System V semaphores: the one structure of System V IPC that x86-64 lays out differently (struct
 * semid64_ds has a word of padding after each time). Shared memory's mapping is memory.c's. */
#include "linux/linux.h"

typedef struct Permissions { /* struct ipc64_perm, equal */
  uint64_t word[6];
} Permissions;

typedef struct HostSemaphores {
  Permissions permissions;
  int64_t operation_time, change_time;
  uint64_t count, unused[2];
} HostSemaphores;

typedef struct GuestSemaphores {
  Permissions permissions;
  int64_t operation_time, unused1, change_time, unused2;
  uint64_t count, unused[2];
} GuestSemaphores;

enum { COMMAND_SET = 1, COMMAND_STAT = 2, SEMAPHORE_STAT = 18, SEMAPHORE_STAT_ANY = 20 };

static int64_t get(LinuxThread *thread, const uint64_t a[6]) {
  HostSemaphores host;
  int64_t result = linux_guest_call_list(thread, __NR_semctl, a[0], a[1], a[2], (uint64_t)&host);
  if (result < 0) return result;
  GuestSemaphores guest = {.permissions = host.permissions,
                           .operation_time = host.operation_time,
                           .change_time = host.change_time,
                           .count = host.count};
  int error = linux_copy_out(a[3], &guest, sizeof guest);
  return error ? error : result;
}

static int64_t set(LinuxThread *thread, const uint64_t a[6]) {
  GuestSemaphores guest;
  if (linux_copy_in(&guest, a[3], sizeof guest)) return -EFAULT;
  HostSemaphores host = {.permissions = guest.permissions};
  return linux_guest_call_list(thread, __NR_semctl, a[0], a[1], a[2], (uint64_t)&host);
}

int64_t sys_semctl(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  switch ((int)a[2]) {
  case COMMAND_STAT:
  case SEMAPHORE_STAT:
  case SEMAPHORE_STAT_ANY: return get(thread, a);
  case COMMAND_SET: return set(thread, a);
  default: return linux_guest_call(thread, __NR_semctl, a);
  }
}
