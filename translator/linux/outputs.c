/* See outputs.h. The rows tell, for each call that writes through a pointer, which argument that is and how much may
 * be written (the manual pages of section 2; structures as the x86-64 kernel lays them out). */
#include "linux/outputs.h"

#include "linux/linux.h"
#include "runtime/runtime.h"

enum { MAX_ROWS = 4 };

typedef enum Extent {
  NOTHING,
  BYTES,   /* `value` bytes */
  LENGTH,  /* as many bytes as argument `value` says */
  TIMES,   /* `unit` bytes, as often as argument `value` says */
  BUFFERS, /* struct iovec, as many as argument `value` says */
  ADDRESS, /* as many bytes as the int behind argument `value` says, and that int */
  MESSAGE, /* struct msghdr */
  MESSAGES, /* struct mmsghdr, as many as argument `value` says */
  REQUESTS, /* pointers to struct iocb, as many as argument `value` says */
  CONTROL  /* ioctl: as many bytes as the command says (argument `value`), or a few */
} Extent;

typedef struct Row {
  uint8_t argument, extent;
  uint16_t value, unit;
} Row;

/* Guest call numbers by name. */
enum {
#define SAME(number, name, arguments) GUEST_##name = number,
#define CALL(number, name, arguments) GUEST_##name = number,
#define NONE(number, name)            GUEST_##name = number,
#include "linux/syscalls.def"
#undef SAME
#undef CALL
#undef NONE
  GUEST_CALLS = 512
};

enum {
  STAT = 144, STATX = 256, STATFS = 120, RUSAGE = 144, SIGINFO = 128, TIMESPEC = 16, ITIMER = 32, POLLFD = 8,
  EPOLL_EVENT = 12, AIO_EVENT = 32, FD_SET = 128, IPC_STATUS = 128, UNKNOWN_IOCTL = 256
};

static const Row rows[GUEST_CALLS][MAX_ROWS] = {
#define OUT(name, ...) [GUEST_##name] = {__VA_ARGS__},
    OUT(read, {1, LENGTH, 2})
    OUT(pread64, {1, LENGTH, 2})
    OUT(readv, {1, BUFFERS, 2})
    OUT(preadv, {1, BUFFERS, 2})
    OUT(preadv2, {1, BUFFERS, 2})
    OUT(process_vm_readv, {1, BUFFERS, 2})
    OUT(vmsplice, {1, BUFFERS, 2}) /* from a pipe's reading end */
    OUT(move_pages, {4, TIMES, 1, 4})
    OUT(recvfrom, {1, LENGTH, 2}, {4, ADDRESS, 5})
    OUT(recvmsg, {1, MESSAGE})
    OUT(recvmmsg, {1, MESSAGES, 2}, {4, BYTES, TIMESPEC})
    OUT(sendmmsg, {1, MESSAGES, 2})
    OUT(accept, {1, ADDRESS, 2})
    OUT(accept4, {1, ADDRESS, 2})
    OUT(getsockname, {1, ADDRESS, 2})
    OUT(getpeername, {1, ADDRESS, 2})
    OUT(getsockopt, {3, ADDRESS, 4})
    OUT(socketpair, {3, BYTES, 8})
    OUT(pipe, {0, BYTES, 8})
    OUT(pipe2, {0, BYTES, 8})
    OUT(wait4, {1, BYTES, 4}, {3, BYTES, RUSAGE})
    OUT(waitid, {2, BYTES, SIGINFO}, {4, BYTES, RUSAGE})
    OUT(rt_sigpending, {0, LENGTH, 1})
    OUT(rt_sigaction, {2, BYTES, 32})
    OUT(rt_sigprocmask, {2, BYTES, 8})
    OUT(rt_sigtimedwait, {1, BYTES, SIGINFO})
    OUT(sigaltstack, {1, BYTES, 24})
    OUT(stat, {1, BYTES, STAT})
    OUT(lstat, {1, BYTES, STAT})
    OUT(fstat, {1, BYTES, STAT})
    OUT(newfstatat, {2, BYTES, STAT})
    OUT(statx, {4, BYTES, STATX})
    OUT(statfs, {1, BYTES, STATFS})
    OUT(fstatfs, {1, BYTES, STATFS})
    OUT(ustat, {1, BYTES, 32})
    OUT(getdents, {1, LENGTH, 2})
    OUT(getdents64, {1, LENGTH, 2})
    OUT(getcwd, {0, LENGTH, 1})
    OUT(readlink, {1, LENGTH, 2})
    OUT(readlinkat, {2, LENGTH, 3})
    OUT(getxattr, {2, LENGTH, 3})
    OUT(lgetxattr, {2, LENGTH, 3})
    OUT(fgetxattr, {2, LENGTH, 3})
    OUT(listxattr, {1, LENGTH, 2})
    OUT(llistxattr, {1, LENGTH, 2})
    OUT(flistxattr, {1, LENGTH, 2})
    OUT(name_to_handle_at, {2, BYTES, 136}, {3, BYTES, 4})
    OUT(poll, {0, TIMES, 1, POLLFD})
    OUT(ppoll, {0, TIMES, 1, POLLFD}, {2, BYTES, TIMESPEC})
    OUT(select, {1, BYTES, FD_SET}, {2, BYTES, FD_SET}, {3, BYTES, FD_SET}, {4, BYTES, TIMESPEC})
    OUT(pselect6, {1, BYTES, FD_SET}, {2, BYTES, FD_SET}, {3, BYTES, FD_SET}, {4, BYTES, TIMESPEC})
    OUT(epoll_wait, {1, TIMES, 2, EPOLL_EVENT})
    OUT(epoll_pwait, {1, TIMES, 2, EPOLL_EVENT})
    OUT(epoll_pwait2, {1, TIMES, 2, EPOLL_EVENT})
    OUT(nanosleep, {1, BYTES, TIMESPEC})
    OUT(clock_nanosleep, {3, BYTES, TIMESPEC})
    OUT(clock_gettime, {1, BYTES, TIMESPEC})
    OUT(clock_getres, {1, BYTES, TIMESPEC})
    OUT(clock_adjtime, {1, BYTES, 208})
    OUT(adjtimex, {0, BYTES, 208})
    OUT(gettimeofday, {0, BYTES, 16}, {1, BYTES, 8})
    OUT(time, {0, BYTES, 8})
    OUT(times, {0, BYTES, 32})
    OUT(getitimer, {1, BYTES, ITIMER})
    OUT(setitimer, {2, BYTES, ITIMER})
    OUT(timer_create, {2, BYTES, 4})
    OUT(timer_gettime, {1, BYTES, ITIMER})
    OUT(timer_settime, {3, BYTES, ITIMER})
    OUT(timerfd_gettime, {1, BYTES, ITIMER})
    OUT(timerfd_settime, {3, BYTES, ITIMER})
    OUT(getrusage, {1, BYTES, RUSAGE})
    OUT(getrlimit, {1, BYTES, 16})
    OUT(prlimit64, {3, BYTES, 16})
    OUT(sysinfo, {0, BYTES, 112})
    OUT(uname, {0, BYTES, 390})
    OUT(syslog, {1, LENGTH, 2})
    OUT(ioctl, {2, CONTROL, 1})
    OUT(fcntl, {2, BYTES, 32})
    OUT(getrandom, {0, LENGTH, 1})
    OUT(msgrcv, {1, LENGTH, 2}, {1, BYTES, 8})
    OUT(msgctl, {2, BYTES, IPC_STATUS})
    OUT(semctl, {3, BYTES, IPC_STATUS})
    OUT(shmctl, {2, BYTES, IPC_STATUS})
    OUT(mq_timedreceive, {1, LENGTH, 2}, {3, BYTES, 4})
    OUT(mq_getsetattr, {2, BYTES, 64})
    OUT(io_setup, {1, BYTES, 8})
    OUT(io_submit, {2, REQUESTS, 1})
    OUT(io_getevents, {3, TIMES, 2, AIO_EVENT})
    OUT(io_pgetevents, {3, TIMES, 2, AIO_EVENT})
    OUT(sendfile, {2, BYTES, 8})
    OUT(splice, {1, BYTES, 8}, {3, BYTES, 8})
    OUT(copy_file_range, {1, BYTES, 8}, {3, BYTES, 8})
    OUT(getresuid, {0, BYTES, 4}, {1, BYTES, 4}, {2, BYTES, 4})
    OUT(getresgid, {0, BYTES, 4}, {1, BYTES, 4}, {2, BYTES, 4})
    OUT(getgroups, {1, TIMES, 0, 4})
    OUT(capget, {0, BYTES, 8}, {1, BYTES, 24})
    OUT(getcpu, {0, BYTES, 4}, {1, BYTES, 4})
    OUT(sched_getaffinity, {2, LENGTH, 1})
    OUT(sched_getparam, {1, BYTES, 4})
    OUT(sched_getattr, {1, LENGTH, 2})
    OUT(sched_rr_get_interval, {1, BYTES, TIMESPEC})
    OUT(get_mempolicy, {0, BYTES, 4}, {1, BYTES, 128})
    OUT(mincore, {2, LENGTH, 1}) /* more than it needs */
    OUT(prctl, {1, BYTES, 128})
    OUT(arch_prctl, {1, BYTES, 8})
    OUT(get_robust_list, {1, BYTES, 8}, {2, BYTES, 8})
    OUT(futex, {0, BYTES, 4}, {4, BYTES, 4})
#undef OUT
};

/* --- Extents ------------------------------------------------------------------------------------------------ */

/* Where there are more than there is room for, the last one spans all of the rest, and what lies between them. */
static void extend(LinuxOutput *last, uint64_t start, uint64_t end) {
  uint64_t last_end = last->start + last->length;
  if (start < last->start) last->start = start;
  last->length = (end > last_end ? end : last_end) - last->start;
}

static void add(LinuxOutputs *outputs, uint64_t start, uint64_t length) {
  if (!start || !length || start >= MEMORY_GUEST_END) return;
  if (length > MEMORY_GUEST_END - start) length = MEMORY_GUEST_END - start;
  if (outputs->count == LINUX_MAX_OUTPUTS) extend(&outputs->range[LINUX_MAX_OUTPUTS - 1], start, start + length);
  else outputs->range[outputs->count++] = (LinuxOutput){start, length};
}

enum { MOST_BUFFERS = 1024 }; /* UIO_MAXIOV, and the most messages that the kernel takes at once */

static void add_buffers(LinuxOutputs *outputs, uint64_t vectors, uint64_t count) {
  uint64_t vector[2];
  for (uint64_t i = 0; i < count && i < MOST_BUFFERS; i++)
    if (linux_copy_in(vector, vectors + i * sizeof vector, sizeof vector) == 0) add(outputs, vector[0], vector[1]);
}

static void add_address(LinuxOutputs *outputs, uint64_t start, uint64_t length_at) {
  uint32_t length;
  if (!length_at || linux_copy_in(&length, length_at, sizeof length)) return;
  add(outputs, start, length);
  add(outputs, length_at, sizeof length);
}

/* recvmsg(2): name, buffers, control data, and the lengths in the structure itself. */
static void add_message(LinuxOutputs *outputs, uint64_t at) {
  struct {
    uint64_t name;
    uint32_t name_length, pad;
    uint64_t vectors, vector_count, control, control_length;
    uint32_t flags, pad_end;
  } message;
  if (linux_copy_in(&message, at, sizeof message)) return;
  add(outputs, at, sizeof message);
  add(outputs, message.name, message.name_length);
  add(outputs, message.control, message.control_length);
  add_buffers(outputs, message.vectors, message.vector_count);
}

static void add_messages(LinuxOutputs *outputs, uint64_t at, uint64_t count) {
  enum { SIZE = 64 };
  add(outputs, at, (count < MOST_BUFFERS ? count : MOST_BUFFERS) * SIZE);
  for (uint64_t i = 0; i < count && i < MOST_BUFFERS; i++) add_message(outputs, at + i * SIZE);
}

/* io_submit(2): the memory of reads. The kernel carries out most before the call returns. */
static void add_requests(LinuxOutputs *outputs, uint64_t pointers, uint64_t count) {
  enum { READ = 0, READ_VECTORS = 7 }; /* IOCB_CMD_PREAD, IOCB_CMD_PREADV */
  struct {
    uint64_t data;
    uint32_t key, rw_flags;
    uint16_t operation;
    int16_t priority;
    uint32_t fd;
    uint64_t buffer, length, rest[3];
  } request;
  uint64_t at;
  for (uint64_t i = 0; i < count && i < MOST_BUFFERS; i++) {
    if (linux_copy_in(&at, pointers + i * sizeof at, sizeof at)) return;
    if (linux_copy_in(&request, at, sizeof request)) return;
    if (request.operation == READ) add(outputs, request.buffer, request.length);
    if (request.operation == READ_VECTORS) add_buffers(outputs, request.buffer, request.length);
  }
}

/* _IOC_SIZE (include/uapi/asm-generic/ioctl.h); old commands do not say. */
static uint64_t ioctl_size(uint64_t command) {
  uint64_t size = command >> 16 & 0x3fff;
  return size ? size : UNKNOWN_IOCTL;
}

static void add_row(LinuxOutputs *outputs, const Row *row, const uint64_t a[6]) {
  uint64_t start = a[row->argument];
  switch ((Extent)row->extent) {
  case NOTHING: break;
  case BYTES: add(outputs, start, row->value); break;
  case LENGTH: add(outputs, start, a[row->value]); break;
  case TIMES: add(outputs, start, (uint32_t)a[row->value] * (uint64_t)row->unit); break;
  case BUFFERS: add_buffers(outputs, start, a[row->value]); break;
  case ADDRESS: add_address(outputs, start, a[row->value]); break;
  case MESSAGE: add_message(outputs, start); break;
  case MESSAGES: add_messages(outputs, start, a[row->value]); break;
  case REQUESTS: add_requests(outputs, start, a[row->value]); break;
  case CONTROL: add(outputs, start, ioctl_size(a[row->value])); break;
  }
}

void linux_outputs_find(unsigned number, const uint64_t argument[6], LinuxOutputs *ret_outputs) {
  ret_outputs->count = 0;
  if (number >= GUEST_CALLS) return;
  for (unsigned i = 0; i < MAX_ROWS; i++) add_row(ret_outputs, &rows[number][i], argument);
}

void linux_outputs_begin(const LinuxOutputs *outputs) {
  for (unsigned i = 0; i < outputs->count; i++) runtime_write_begin(outputs->range[i].start, outputs->range[i].length);
}

void linux_outputs_end(const LinuxOutputs *outputs) {
  for (unsigned i = 0; i < outputs->count; i++) runtime_write_end(outputs->range[i].start, outputs->range[i].length);
}
