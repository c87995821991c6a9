/* base.h on the bare kernel, for `stele`: page allocation in a window of addresses outside the guest's
 * space, a lock on futexes, output and panic. */
#include <asm/signal.h>
#include <linux/mman.h>
#include <linux/futex.h>
#include <asm/poll.h>

#include "base/base.h"
#include "base/host-call.h"
#include "base/window.h"

bool (*base_panic_guest_rip)(uint64_t *ret_rip);
uint64_t *(*base_held_locks)(void);
void (*base_lock_inherited)(const BaseLock *lock);

/* A guest address is below 2^47. A kernel with 48-bit addresses leaves everything above to us; where
 * addresses end at 2^47 (qemu-aarch64 on an x86-64 host) the window lies in the middle of nowhere. */
enum { WINDOW_BITS = 38 };
static const uint64_t window_candidates[] = {
    UINT64_C(0x800000000000), UINT64_C(0x300000000000), UINT64_C(0x200000000000),
    UINT64_C(0x100000000000)};

static BaseLock window_lock = {.rank = BASE_RANK_WINDOW};
static uint64_t window_start, window_next;

static int64_t map_at(uint64_t address, size_t length) {
  int64_t got = host_call(__NR_mmap, address, length, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got < 0 || (uint64_t)got == address) return got;
  host_call(__NR_munmap, got, length); /* a kernel that took the address for a hint */
  return -17;                          /* EEXIST */
}

/* Where in a candidate's neighbourhood the window begins is nobody's to guess: it holds code and pointers to it. Not
 * where the process is started without randomisation (setarch -R), so that what is counted can be repeated. */
static uint64_t random_distance(uint64_t candidate) {
  enum { ADDR_NO_RANDOMIZE = 0x0040000 };
  uint64_t random = 0, room = candidate >= UINT64_C(1) << 47 ? UINT64_C(1) << 46 : UINT64_C(1) << 40;
  if (host_call(__NR_personality, 0xffffffff) & ADDR_NO_RANDOMIZE) return 0;
  host_call(__NR_getrandom, &random, sizeof random, 0);
  return random & (room - 1) & ~UINT64_C(4095);
}

static int64_t map_in_window(size_t length) {
  if (window_start) {
    int64_t got = map_at(window_next, length);
    if (got >= 0) window_next += length;
    return got;
  }
  for (size_t i = 0; i < sizeof window_candidates / sizeof *window_candidates; i++) {
    uint64_t start = window_candidates[i] + random_distance(window_candidates[i]);
    int64_t got = map_at(start, length);
    if (got < 0) continue;
    window_start = start;
    window_next = start + length;
    return got;
  }
  return -12; /* ENOMEM */
}

void *base_pages_alloc(size_t length) {
  length = (length + 4095) & ~(size_t)4095;
  base_lock(&window_lock);
  int64_t got = map_in_window(length);
  /* The window never reuses addresses, so a long life can exhaust it: then any place will do. */
  if (got < 0 || window_next - window_start > UINT64_C(1) << WINDOW_BITS)
    got = got >= 0 ? got
                   : host_call(__NR_mmap, 0, length, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  base_unlock(&window_lock);
  return got < 0 ? NULL : (void *)got;
}

void base_pages_free(void *pages, size_t length) {
  length = (length + 4095) & ~(size_t)4095;
  host_call(__NR_munmap, pages, length);
  base_lock(&window_lock);
  if ((uint64_t)pages + length == window_next) window_next -= length; /* the last one: take it back */
  base_unlock(&window_lock);
}

void base_window_lock(void) { base_lock(&window_lock); }

void base_window_unlock(void) { base_unlock(&window_lock); }

void base_window(uint64_t *ret_start, uint64_t *ret_end) {
  *ret_start = window_start;
  *ret_end = window_start + (UINT64_C(1) << WINDOW_BITS);
}

#ifdef STELE_CHECK_LOCKS

/* A lock may be taken while only ones of lower rank are held. */
static void note_taken(const BaseLock *lock) {
  uint64_t *held = base_held_locks ? base_held_locks() : NULL;
  uint64_t bit = UINT64_C(1) << lock->rank;
  if (!held) return;
  if (!lock->rank || *held >= bit)
    base_panic("lock of rank %u taken while 0x%lx are held", lock->rank, (unsigned long)*held);
  *held |= bit;
}

static void note_given(const BaseLock *lock) {
  uint64_t *held = base_held_locks ? base_held_locks() : NULL;
  if (held) *held &= ~(UINT64_C(1) << lock->rank);
}

#else

static void note_taken(const BaseLock *lock) { (void)lock; }
static void note_given(const BaseLock *lock) { (void)lock; }

#endif

/* Not by /proc, which may be another namespace's. A descriptor of the process tells of one that nobody has waited for yet:
 * it is readable when all its threads have ended (pidfd_open(2)). */
bool base_thread_has_ended(int tid) {
  enum { NO_SUCH_PROCESS = -3 };
  const int64_t now[2] = {0, 0};
  if (host_call(__NR_tkill, tid, 0) == NO_SUCH_PROCESS) return true;
  struct pollfd process = {(int)host_call(__NR_pidfd_open, tid, 0), POLLIN, 0};
  if (process.fd < 0) return false; /* not a first thread: what is left of such a one is alive */
  int64_t readable = host_call(__NR_ppoll, &process, 1, now, 0, 0);
  host_call(__NR_close, process.fd);
  return readable > 0;
}

static uint32_t own_name(void) {
  const char *thread;
  __asm__ volatile("mrs %0, tpidr_el0" : "=r"(thread));
  return thread ? *(const uint32_t *)(thread + BASE_LOCK_NAME) : BASE_LOCK_UNKNOWN;
}

static bool exchange(BaseLock *lock, uint32_t expected, uint32_t state) {
  return __atomic_compare_exchange_n(&lock->state, &expected, state, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* Sleeps while the lock's state is `state`; true where that has lasted. */
static bool sleep_on(const BaseLock *lock, uint32_t state) {
  enum { TIMED_OUT = -110 };
  const int64_t limit[2] = {0, 200 * 1000000};
  return host_call(__NR_futex, &lock->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, state, limit, 0, 0) == TIMED_OUT;
}

static bool is_abandoned(uint32_t state, uint32_t own) {
  uint32_t owner = state & ~BASE_LOCK_WAITED;
  return owner != BASE_LOCK_UNKNOWN && own != BASE_LOCK_UNKNOWN && base_thread_has_ended((int)owner);
}

/* Others may be asleep: whoever gets the lock here will wake one of them. That who was woken may have been killed before it
 * took the lock, so nobody sleeps for good. */
static void await(BaseLock *lock, uint32_t own) {
  for (;;) {
    uint32_t seen = __atomic_load_n(&lock->state, __ATOMIC_RELAXED), waited = seen | BASE_LOCK_WAITED;
    if (!seen && exchange(lock, 0, own | BASE_LOCK_WAITED)) return;
    if (!seen || (seen != waited && !exchange(lock, seen, waited))) continue;
    if (!sleep_on(lock, waited) || !is_abandoned(waited, own) || !exchange(lock, waited, own | BASE_LOCK_WAITED)) continue;
    if (base_lock_inherited) base_lock_inherited(lock);
    return;
  }
}

void base_lock(BaseLock *lock) {
  uint32_t own = own_name();
  note_taken(lock);
  if (!exchange(lock, 0, own)) await(lock, own);
}

void base_unlock(BaseLock *lock) {
  note_given(lock);
  if (__atomic_exchange_n(&lock->state, 0, __ATOMIC_RELEASE) & BASE_LOCK_WAITED)
    host_call(__NR_futex, &lock->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0);
}

static void print_list(int fd, const char *format, va_list arguments) {
  char text[4096];
  size_t length = base_format_list(text, sizeof text, format, arguments);
  if (length >= sizeof text) length = sizeof text - 1;
  host_call(__NR_write, fd, text, length);
}

void base_print(int fd, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print_list(fd, format, arguments);
  va_end(arguments);
}

/* Dies by SIGABRT's default action: the guest's handlers must not see our error as theirs. */
static _Noreturn void die(void) {
  struct {
    uint64_t handler, flags, restorer, mask;
  } action = {0};
  uint64_t mask = UINT64_C(1) << (SIGABRT - 1);
  host_call(__NR_rt_sigaction, SIGABRT, &action, 0, 8);
  host_call(__NR_rt_sigprocmask, SIG_UNBLOCK, &mask, 0, 8);
  host_call(__NR_tgkill, host_call(__NR_getpid), host_call(__NR_gettid), SIGABRT);
  for (;;) host_call(__NR_exit_group, 134);
}

void base_panic(const char *format, ...) {
  uint64_t rip = 0;
  va_list arguments;
  va_start(arguments, format);
  char text[2048];
  base_format_list(text, sizeof text, format, arguments);
  va_end(arguments);
  if (base_panic_guest_rip && base_panic_guest_rip(&rip))
    base_print(2, "stele: internal error: %s\nstele: the guest was at RIP 0x%lx; STELE_DUMP=%lx shows the "
               "code there, STELE_STRACE=1 its system calls\n", text, rip, rip);
  else
    base_print(2, "stele: internal error: %s\n", text);
  die();
}
