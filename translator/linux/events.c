/* Waiting for descriptors: poll and select in their old forms, epoll with its packed events, and
 * eventfd. Masks given for the time of a wait are the host's business, but for the five signals it must
 * not block (signals.c). */
#include "linux/linux.h"

typedef struct PackedEvent { /* struct epoll_event is packed on x86-64 only */
  uint32_t events;
  uint64_t data;
} __attribute__((packed)) PackedEvent;

typedef struct HostEvent {
  uint32_t events, pad;
  uint64_t data;
} HostEvent;

enum { EVENTS_ON_STACK = 64, EPOLL_DELETE = 2 };

/* --- poll and select --------------------------------------------------------------------------------- */

int64_t sys_poll(GuestCpu *cpu, const uint64_t a[6]) {
  int timeout = (int)a[2];
  int64_t time[2] = {timeout / 1000, timeout % 1000 * 1000000};
  return linux_guest_call_list(linux_thread(cpu), __NR_ppoll, a[0], a[1], timeout < 0 ? 0 : (uint64_t)time, 0,
                               sizeof(uint64_t));
}

/* What a wait under a temporary mask ends with: a signal that came before the wait began is not under it. */
static int64_t after_wait(LinuxThread *thread, int64_t result) {
  if (result == LINUX_RESTART) thread->suspended = false;
  return result;
}

int64_t sys_ppoll(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t storage, mask;
  int error = linux_suspend_mask(thread, a[3], a[4], &storage, &mask);
  if (error) return error;
  return after_wait(thread, linux_guest_call_list(thread, __NR_ppoll, a[0], a[1], a[2], mask, sizeof storage));
}

/* The time left comes back in the guest's structure, as the kernel leaves it. */
int64_t sys_select(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t time[2];
  if (a[4]) {
    if (linux_copy_in(time, a[4], sizeof time)) return -EFAULT;
    if (time[0] < 0 || time[1] < 0) return -EINVAL;
    time[0] += time[1] / 1000000;
    time[1] = time[1] % 1000000 * 1000;
  }
  int64_t result = linux_guest_call_list(linux_thread(cpu), __NR_pselect6, a[0], a[1], a[2], a[3],
                                         a[4] ? (uint64_t)time : 0, 0);
  if (a[4] && result != LINUX_RESTART) {
    time[1] /= 1000;
    linux_copy_out(a[4], time, sizeof time);
  }
  return result;
}

int64_t sys_pselect6(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t given[2] = {0}, storage, host[2] = {0, sizeof storage};
  if (a[5] && linux_copy_in(given, a[5], sizeof given)) return -EFAULT;
  int error = linux_suspend_mask(thread, given[0], given[1], &storage, &host[0]);
  if (error) return error;
  return after_wait(thread, linux_guest_call_list(thread, __NR_pselect6, a[0], a[1], a[2], a[3], a[4],
                                                  host[0] ? (uint64_t)host : 0));
}

/* --- epoll ------------------------------------------------------------------------------------------- */

int64_t sys_epoll_create(GuestCpu *cpu, const uint64_t a[6]) {
  return (int)a[0] <= 0 ? -EINVAL : linux_guest_call_list(linux_thread(cpu), __NR_epoll_create1, 0);
}

int64_t sys_epoll_ctl(GuestCpu *cpu, const uint64_t a[6]) {
  PackedEvent packed = {0};
  if ((int)a[1] != EPOLL_DELETE && linux_copy_in(&packed, a[3], sizeof packed)) return -EFAULT;
  HostEvent event = {.events = packed.events, .data = packed.data};
  return linux_guest_call_list(linux_thread(cpu), __NR_epoll_ctl, a[0], a[1], a[2], (uint64_t)&event);
}

static int64_t give_events(uint64_t to, const HostEvent *events, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    PackedEvent packed = {events[i].events, events[i].data};
    if (linux_copy_out(to + (uint64_t)i * sizeof packed, &packed, sizeof packed)) return -EFAULT;
  }
  return count;
}

typedef struct EpollWait {
  uint64_t fd, events, timeout, mask, mask_size;
  int count;
  int64_t number; /* the host call: epoll_pwait or epoll_pwait2, which differ in the timeout */
} EpollWait;

static int64_t epoll_wait_for(LinuxThread *thread, const EpollWait *wait) {
  HostEvent on_stack[EVENTS_ON_STACK], *events = on_stack;
  uint64_t storage, mask;
  if (wait->count <= 0 || wait->count > INT32_MAX / (int)sizeof *events) return -EINVAL;
  int error = linux_suspend_mask(thread, wait->mask, wait->mask_size, &storage, &mask);
  if (error) return error;
  if (wait->count > EVENTS_ON_STACK) events = base_alloc((size_t)wait->count * sizeof *events);
  if (!events) return -ENOMEM;
  int64_t result = linux_guest_call_list(thread, wait->number, wait->fd, (uint64_t)events,
                                         (uint64_t)wait->count, wait->timeout, mask, sizeof storage);
  if (result > 0) result = give_events(wait->events, events, result);
  if (events != on_stack) base_free(events);
  return after_wait(thread, result);
}

int64_t sys_epoll_wait(GuestCpu *cpu, const uint64_t a[6]) {
  EpollWait wait = {a[0], a[1], a[3], 0, 0, (int)a[2], __NR_epoll_pwait};
  return epoll_wait_for(linux_thread(cpu), &wait);
}

int64_t sys_epoll_pwait(GuestCpu *cpu, const uint64_t a[6]) {
  EpollWait wait = {a[0], a[1], a[3], a[4], a[5], (int)a[2], __NR_epoll_pwait};
  return epoll_wait_for(linux_thread(cpu), &wait);
}

int64_t sys_epoll_pwait2(GuestCpu *cpu, const uint64_t a[6]) {
  EpollWait wait = {a[0], a[1], a[3], a[4], a[5], (int)a[2], __NR_epoll_pwait2};
  return epoll_wait_for(linux_thread(cpu), &wait);
}

int64_t sys_io_pgetevents(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t given[2] = {0}, storage, host[2] = {0, sizeof storage};
  if (a[5] && linux_copy_in(given, a[5], sizeof given)) return -EFAULT;
  int error = linux_suspend_mask(thread, given[0], given[1], &storage, &host[0]);
  if (error) return error;
  return after_wait(thread, linux_guest_call_list(thread, __NR_io_pgetevents, a[0], a[1], a[2], a[3], a[4],
                                                  host[0] ? (uint64_t)host : 0));
}

/* --- eventfd ----------------------------------------------------------------------------------------- */

int64_t sys_eventfd(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_eventfd2, a[0], 0);
}
