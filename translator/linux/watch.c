/* Code that changes through descriptors: files that are mapped, memfds, /proc/PID/mem, process_vm_writev().
 *
 * Two kinds of mapped files are told apart (memory.c asks at each mapping). A memfd that this process made and nobody
 * else can have is watched: stores to its mappings are noticed by the runtime, and the calls below tell of what is
 * written through its descriptors. That keeps a just-in-time compiler fast that maps its code twice. Every other file
 * that somebody may write while it is mapped is not watched: code from it is checked whenever it is entered. A file
 * becomes one of those when this process opens it for writing, or has it open so when it maps it: ordinary writes cost
 * one comparison.
 *
 * Memfds are the process' own until it forks or sends descriptors away. One that a program it executes would inherit
 * isn't; that a duplicate of the descriptor is inherited through vfork() and execve(), or that another process takes it
 * by pidfd_getfd() or /proc/PID/fd, is not noticed.
 *
 * Memory of other processes that this one writes, by /proc/PID/mem or process_vm_writev(), is theirs to look at: those that
 * are translated, too, are told before (outside.c). What a native process writes to ours is not noticed. */
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>

#include "linux/linux.h"
#include "linux/memory.h"
#include "linux/open-flags.h"
#include "linux/outputs.h"
#include "linux/outside.h"
#include "linux/watch.h"
#include "runtime/runtime.h"

enum { OWN_FILES = 64, CLOSED_ON_EXEC = 1 /* MFD_CLOEXEC */, VECTORS = 1024 /* UIO_MAXIOV */, PATH = 256 };

static struct {
  uint64_t own[OWN_FILES]; /* objects; 0: free */
  bool has_own, own_mapped;
  bool memory_opened; /* a descriptor of /proc/PID/mem has been opened for writing */
} watch;

static bool flag(const bool *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

static void set_flag(bool *at, bool value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }

static uint64_t object_of(int64_t fd) {
  HostStat status;
  return host_call(__NR_fstat, fd, &status) < 0 ? 0 : linux_memory_object(&status);
}

/* --- Memfds of our own --------------------------------------------------------------------------------- */

static bool is_own(uint64_t object) {
  for (unsigned i = 0; flag(&watch.has_own) && object && i < OWN_FILES; i++)
    if (__atomic_load_n(&watch.own[i], __ATOMIC_ACQUIRE) == object) return true;
  return false;
}

bool linux_watch_is_own(uint64_t object) {
  if (!is_own(object)) return false;
  set_flag(&watch.own_mapped, true);
  return true;
}

void linux_watch_forget(void) {
  for (unsigned i = 0; flag(&watch.has_own) && i < OWN_FILES; i++)
    __atomic_store_n(&watch.own[i], 0, __ATOMIC_RELEASE);
  set_flag(&watch.has_own, false);
  set_flag(&watch.own_mapped, false);
}

/* Where there is no place the memfd is none of ours: right, but slower. */
static void add_own(uint64_t object) {
  set_flag(&watch.has_own, true);
  for (unsigned i = 0; i < OWN_FILES; i++) {
    uint64_t old = __atomic_load_n(&watch.own[i], __ATOMIC_ACQUIRE);
    if (old && linux_memory_is_mapped(old)) continue;
    if (__atomic_compare_exchange_n(&watch.own[i], &old, object, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
  }
}

int64_t sys_memfd_create(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t fd = linux_guest_call(linux_thread(cpu), __NR_memfd_create, a);
  if (fd >= 0 && a[1] & CLOSED_ON_EXEC) add_own(object_of(fd));
  return fd;
}

/* Whether control data of sendmsg() holds descriptors (cmsg(3)). */
static bool passes_descriptors(uint64_t control, uint64_t length) {
  struct {
    uint64_t length;
    int32_t level, type;
  } header;
  enum { SOCKET_LEVEL = 1, RIGHTS = 1 };
  for (uint64_t at = 0; at + sizeof header <= length; at += (header.length + 7) & ~UINT64_C(7)) {
    if (linux_copy_in(&header, control + at, sizeof header) || header.length < sizeof header) return false;
    if (header.level == SOCKET_LEVEL && header.type == RIGHTS) return true;
    if (header.length > length) return false;
  }
  return false;
}

static void before_message(uint64_t message) {
  enum { CONTROL = 4 }; /* msg_control and msg_controllen: words of struct msghdr */
  uint64_t word[6];
  if (linux_copy_in(word, message, sizeof word) == 0 && passes_descriptors(word[CONTROL], word[CONTROL + 1]))
    linux_memory_share();
}

int64_t sys_sendmsg(GuestCpu *cpu, const uint64_t a[6]) {
  if (flag(&watch.has_own)) before_message(a[1]);
  return linux_guest_call(linux_thread(cpu), __NR_sendmsg, a);
}

int64_t sys_sendmmsg(GuestCpu *cpu, const uint64_t a[6]) {
  enum { SIZE = 64 };
  for (uint64_t i = 0; i < (uint32_t)a[2] && i < VECTORS && flag(&watch.has_own); i++) before_message(a[1] + i * SIZE);
  return linux_guest_call(linux_thread(cpu), __NR_sendmmsg, a);
}

/* --- /proc/PID/mem --------------------------------------------------------------------------------------- */

/* Whether the descriptor is one of /proc/PID/mem, and then the path of that process' directory. */
static bool is_memory(int64_t fd, char ret_process[PATH]) {
  struct statfs file_system;
  char link[32];
  if (host_call(__NR_fstatfs, fd, &file_system) < 0 || file_system.f_type != PROC_SUPER_MAGIC) return false;
  base_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
  int64_t length = host_call(__NR_readlinkat, AT_FDCWD, link, ret_process, PATH - 1);
  if (length <= 0) return false;
  ret_process[length] = '\0';
  char *name = strrchr(ret_process, '/');
  if (!name || strcmp(name, "/mem")) return false;
  *name = '\0';
  name = strrchr(ret_process, '/');
  if (name && name - ret_process >= 5 && !strncmp(name - 5, "/task", 5)) name[-5] = '\0';
  return true;
}

/* Whether writes to memory through such a descriptor are writes to our own; if not, whose it is has been told. */
static bool is_own_memory(const char *process) {
  char own[32];
  base_format(own, sizeof own, "/proc/%d", (int)host_call(__NR_getpid));
  return !strcmp(process, own) || linux_outside_tell(process, RUNTIME_OUTSIDE_ALL) == OUTSIDE_OWN;
}

/* Memory that a call writes without the guest's addresses among its outputs. */
static void write_begin(uint64_t start, uint64_t length) {
  if (start < MEMORY_GUEST_END && length <= MEMORY_GUEST_END - start) runtime_write_begin(start, length);
}

static void write_end(uint64_t start, uint64_t length) {
  if (start >= MEMORY_GUEST_END || length > MEMORY_GUEST_END - start) return;
  runtime_write_end(start, length);
  linux_memory_changed(start, start + length);
}

/* --- Calls that write to descriptors ------------------------------------------------------------------------ */

/* What a call writes of /proc/PID/mem. */
typedef enum WriteForm { NO_MEMORY, BYTES, BYTES_AT, VECTORS_HERE, VECTORS_AT } WriteForm;

static uint64_t vectors_length(uint64_t vectors, uint64_t count) {
  uint64_t vector[2], length = 0;
  for (uint64_t i = 0; i < count && i < VECTORS; i++)
    if (linux_copy_in(vector, vectors + i * sizeof vector, sizeof vector) == 0) length += vector[1];
  return length;
}

static int64_t write_memory(LinuxThread *thread, int64_t number, const uint64_t a[6], WriteForm form) {
  enum { CURRENT = 1 };
  bool vectors = form == VECTORS_HERE || form == VECTORS_AT;
  bool here = form == BYTES || form == VECTORS_HERE || a[3] == UINT64_MAX; /* pwritev2's -1 */
  uint64_t start = here ? (uint64_t)host_call(__NR_lseek, a[0], 0, CURRENT) : a[3];
  uint64_t length = vectors ? vectors_length(a[1], a[2]) : a[2];
  write_begin(start, length);
  int64_t result = linux_guest_call(thread, number, a);
  write_end(start, length);
  return result;
}

static int64_t write_call(GuestCpu *cpu, int64_t number, const uint64_t a[6], uint64_t fd, WriteForm form) {
  LinuxThread *thread = linux_thread(cpu);
  char process[PATH];
  bool memory = form != NO_MEMORY && flag(&watch.memory_opened) && is_memory((int)fd, process);
  if (memory && is_own_memory(process)) return write_memory(thread, number, a, form);
  int64_t result = linux_guest_call(thread, number, a);
  if (!flag(&watch.own_mapped)) return result;
  uint64_t object = object_of((int)fd);
  if (is_own(object)) linux_memory_object_changed(object);
  return result;
}

#define WRITE_CALL(name, fd, form) \
  int64_t sys_##name(GuestCpu *cpu, const uint64_t a[6]) { return write_call(cpu, __NR_##name, a, fd, form); }

WRITE_CALL(write, a[0], BYTES)
WRITE_CALL(pwrite64, a[0], BYTES_AT)
WRITE_CALL(writev, a[0], VECTORS_HERE)
WRITE_CALL(pwritev, a[0], VECTORS_AT)
WRITE_CALL(pwritev2, a[0], VECTORS_AT)
WRITE_CALL(ftruncate, a[0], NO_MEMORY)
WRITE_CALL(fallocate, a[0], NO_MEMORY)
WRITE_CALL(sendfile, a[0], NO_MEMORY)
WRITE_CALL(splice, a[2], NO_MEMORY)
WRITE_CALL(copy_file_range, a[2], NO_MEMORY)

/* Where a request reads to is written when the kernel has it, and nobody need ask whether it has: completions are found in
 * memory, too. */
static void expect_reads(const uint64_t a[6]) {
  enum { SUBMIT = 209 /* x86-64's io_submit */ };
  for (uint64_t i = 0; i < a[1] && i < VECTORS; i++) {
    LinuxOutputs outputs;
    const uint64_t one[6] = {a[0], 1, a[2] + i * sizeof(uint64_t)};
    linux_outputs_find(SUBMIT, one, &outputs);
    for (unsigned k = 0; k < outputs.count; k++) runtime_write_expected(outputs.range[k].start, outputs.range[k].length);
  }
}

/* Files of memory are written before the call returns. */
int64_t sys_io_submit(GuestCpu *cpu, const uint64_t a[6]) {
  expect_reads(a);
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_io_submit, a);
  for (unsigned i = 0; flag(&watch.own_mapped) && i < OWN_FILES; i++)
    linux_memory_object_changed(__atomic_load_n(&watch.own[i], __ATOMIC_ACQUIRE));
  return result;
}

int64_t sys_truncate(GuestCpu *cpu, const uint64_t a[6]) {
  HostStat status;
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_truncate, a);
  if (result == 0 && host_call(__NR_newfstatat, AT_FDCWD, a[0], &status, 0) == 0)
    linux_memory_object_changed(linux_memory_object(&status));
  return result;
}

void linux_watch_opened(int64_t fd, uint64_t flags) {
  char process[PATH];
  if (fd < 0 || flags & O_PATH_ONLY || !(flags & (X86_O_ACCMODE | O_TRUNCATE))) return;
  uint64_t object = object_of(fd);
  if (is_own(object)) {
    if (flags & O_TRUNCATE) linux_memory_object_changed(object);
  } else if (linux_memory_is_mapped(object)) {
    linux_memory_unwatch(object);
  } else if (is_memory(fd, process)) {
    set_flag(&watch.memory_opened, true);
    is_own_memory(process); /* also for who will have the descriptor from this process */
  }
}

/* Whether a descriptor of this process refers to the file and may write it. */
static bool can_write(int fd, uint64_t object) {
  int64_t flags = host_call(__NR_fcntl, fd, F_GETFL);
  return flags > 0 && flags & X86_O_ACCMODE && !(flags & O_PATH_ONLY) && object_of(fd) == object;
}

static int number_of(const char *name) {
  int number = *name >= '0' && *name <= '9' ? 0 : -1;
  for (; number >= 0 && *name >= '0' && *name <= '9'; name++) number = number * 10 + (*name - '0');
  return number;
}

bool linux_watch_may_write(uint64_t object) {
  enum { LENGTH_AT = 16, NAME_AT = 19 }; /* in struct linux_dirent64 */
  _Alignas(8) char entries[2048];
  int64_t folder = host_call(__NR_openat, AT_FDCWD, "/proc/self/fd", ARM64_O_DIRECTORY | O_CLOEXEC, 0), got;
  bool found = false;
  if (folder < 0) return false;
  while (!found && (got = host_call(__NR_getdents64, folder, entries, sizeof entries)) > 0)
    for (int64_t at = 0; at < got && !found; at += *(const uint16_t *)(entries + at + LENGTH_AT)) {
      int fd = number_of(entries + at + NAME_AT);
      found = fd >= 0 && can_write(fd, object);
    }
  host_call(__NR_close, folder);
  return found;
}

/* --- process_vm_writev ---------------------------------------------------------------------------------------- */

static bool is_own_process(uint64_t pid) {
  char path[48];
  base_format(path, sizeof path, "/proc/self/task/%d", (int)pid);
  return (int)pid == (int)host_call(__NR_getpid) || host_call(__NR_faccessat, AT_FDCWD, path, 0) == 0;
}

static void each_vector(uint64_t vectors, uint64_t count, void (*visit)(uint64_t start, uint64_t length)) {
  uint64_t vector[2];
  for (uint64_t i = 0; i < count && i < VECTORS; i++)
    if (linux_copy_in(vector, vectors + i * sizeof vector, sizeof vector) == 0) visit(vector[0], vector[1]);
}

int64_t sys_process_vm_writev(GuestCpu *cpu, const uint64_t a[6]) {
  bool own = is_own_process(a[0]) || linux_outside_tell_process((int)a[0], RUNTIME_OUTSIDE_WRITABLE) == OUTSIDE_OWN;
  if (own) each_vector(a[3], a[4], write_begin);
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_process_vm_writev, a);
  if (own) each_vector(a[3], a[4], write_end);
  return result;
}
