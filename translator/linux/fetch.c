/* Signals of processor exceptions that a program fetches, by sigtimedwait() or from a signalfd(), and what was sent to the
 * process while the thread that the kernel chose has it blocked.
 *
 * The kernel delivers one for the process to any thread whose host mask is open, and code needs the five open. So such a
 * signal is held for the process (held.c), until a thread opens it or makes a call that would fetch it: then it goes to that
 * thread alone. Around calls of a process that may fetch the host blocks them as the guest does, and what is held is in the
 * kernel's hands meanwhile.
 *
 * To whom it goes is found under the runtime's lock, and what a thread is waiting in changes under that lock, too. So a
 * signal that is given to a thread for its call is fetched by it, or comes back when the call ends (linux_fetch_end()), and
 * none is given to a thread that ends (linux_signals_thread_ends()). */
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <linux/fcntl.h>

#include "linux/linux.h"
#include "linux/signals.h"
#include "runtime/runtime.h"

enum { NESTED_MAX = 5, /* epoll's own limit: fs/eventpoll.c, EP_MAX_NESTS + 1 */
       POLLED_MAX = 1024, LINE = 160 };

/* --- What a call waits for ------------------------------------------------------------------------------ */

typedef enum Chance { NEVER, PERHAPS, SURELY } Chance;

/* A file of /proc by lines, of which what is behind their first LINE - 1 characters is left out. */
typedef struct Lines {
  int64_t fd, got, at;
  char line[LINE], buffer[512];
} Lines;

static bool next_line(Lines *lines) {
  size_t length = 0;
  for (;; lines->at++) {
    if (lines->at == lines->got) {
      lines->at = 0;
      lines->got = host_call(__NR_read, lines->fd, lines->buffer, sizeof lines->buffer);
      if (lines->got <= 0) return false;
    }
    char c = lines->buffer[lines->at];
    if (c == '\n') break;
    if (length + 1 < LINE) lines->line[length++] = c;
  }
  lines->at++;
  lines->line[length] = '\0';
  return true;
}

static uint64_t parse(const char *text, unsigned base) {
  uint64_t value = 0;
  while (*text == ' ' || *text == '\t') text++;
  for (;; text++) {
    unsigned digit = *text >= '0' && *text <= '9' ? (unsigned)(*text - '0')
                     : *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a') + 10 : 16;
    if (digit >= base) return value;
    value = value * base + digit;
  }
}

/* Whether a descriptor of thread `tid` tells of the signal: a signalfd, or a set of descriptors with one (proc(5),
 * /proc/PID/fdinfo). */
static Chance tells(int tid, uint64_t descriptor, uint64_t bit, unsigned depth) {
  static const char mask[] = "sigmask:", target[] = "tfd:";
  char path[64];
  Chance chance = NEVER;
  Lines lines = {0};
  base_format(path, sizeof path, "/proc/self/task/%d/fdinfo", tid);
  int64_t folder = host_call(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (folder < 0) return PERHAPS; /* a root without /proc */
  base_format(path, sizeof path, "%d", (int)descriptor);
  lines.fd = host_call(__NR_openat, folder, path, O_RDONLY | O_CLOEXEC, 0);
  host_call(__NR_close, folder);
  if (lines.fd < 0) return NEVER;
  while (chance == NEVER && next_line(&lines)) {
    if (!strncmp(lines.line, mask, sizeof mask - 1))
      chance = parse(lines.line + sizeof mask - 1, 16) & bit ? SURELY : NEVER;
    else if (!strncmp(lines.line, target, sizeof target - 1) && depth)
      chance = tells(tid, parse(lines.line + sizeof target - 1, 10), bit, depth - 1);
  }
  host_call(__NR_close, lines.fd);
  return chance;
}

static Chance polled(const LinuxThread *thread, uint64_t bit) {
  enum { READABLE = 1 }; /* POLLIN */
  struct {
    int32_t fd;
    int16_t events, happened;
  } one;
  const uint64_t *a = thread->fetch_argument;
  for (uint64_t i = 0; i < a[1]; i++) {
    if (i == POLLED_MAX || linux_copy_in(&one, a[0] + i * sizeof one, sizeof one)) return PERHAPS;
    if (one.fd < 0 || !(one.events & READABLE)) continue;
    Chance chance = tells(thread->tid, (uint64_t)one.fd, bit, NESTED_MAX);
    if (chance != NEVER) return chance;
  }
  return NEVER;
}

static Chance selected(const LinuxThread *thread, uint64_t bit) {
  const uint64_t *a = thread->fetch_argument;
  for (uint64_t i = 0; a[1] && i < a[0]; i += 64) {
    uint64_t set;
    if (i == POLLED_MAX || linux_copy_in(&set, a[1] + i / 8, sizeof set)) return PERHAPS;
    for (; set; set &= set - 1) {
      uint64_t fd = i + (uint64_t)__builtin_ctzll(set);
      Chance chance = fd < a[0] ? tells(thread->tid, fd, bit, NESTED_MAX) : NEVER;
      if (chance != NEVER) return chance;
    }
  }
  return NEVER;
}

/* Whether the call that a thread is in fetches this signal or tells of it. */
static Chance call_fetches(const LinuxThread *thread, uint64_t bit) {
  if (!(thread->fetching & bit)) return NEVER;
  switch (thread->fetch_number) {
  case __NR_rt_sigtimedwait: return thread->wanted & bit ? SURELY : NEVER;
  case __NR_read:
  case __NR_readv: return tells(thread->tid, thread->fetch_argument[0], bit, 0);
  case __NR_epoll_pwait:
  case __NR_epoll_pwait2: return tells(thread->tid, thread->fetch_argument[0], bit, NESTED_MAX);
  case __NR_ppoll: return polled(thread, bit);
  case __NR_pselect6: return selected(thread, bit);
  case __NR_io_uring_enter: return PERHAPS;
  default: return NEVER;
  }
}

/* --- Giving ----------------------------------------------------------------------------------------------- */

typedef struct Search {
  const LinuxProcess *process;
  uint64_t bit;
  int open, surely, perhaps; /* numbers of threads that have the signal open, or are fetching it; 0: none */
} Search;

static void look_at(GuestCpu *cpu, void *argument) {
  Search *search = argument;
  const LinuxThread *thread = linux_thread(cpu);
  if (!thread || thread->process != search->process || thread->ending || search->open) return;
  if (!(linux_effective_mask(thread) & search->bit)) search->open = thread->tid;
  if (search->open || search->surely) return;
  Chance chance = call_fetches(thread, search->bit);
  if (chance == SURELY) search->surely = thread->tid;
  else if (chance == PERHAPS) search->perhaps = thread->tid;
}

/* The thread that one for the process is for; 0: none yet. Threads are held. */
static int receiver(const LinuxProcess *process, int signal) {
  Search search = {.process = process, .bit = LINUX_BIT(signal)};
  runtime_each_thread(look_at, &search);
  return search.open ? search.open : search.surely ? search.surely : search.perhaps;
}

static void give(LinuxProcess *process, int tid, int signal) {
  LinuxSiginfo held, sent;
  if (!linux_held_take(&process->held, LINUX_BIT(signal), &held)) return;
  sent = held;
  linux_siginfo_disguise(&sent); /* the kernel lets nobody say to another thread that kill() was called */
  if (host_call(__NR_rt_tgsigqueueinfo, host_call(__NR_getpid), tid, signal, &sent) < 0) linux_hold(&process->held, &held);
}

/* SIGILL to a thread is the runtime's own signal too. */
static void give_one(LinuxProcess *process, int signal) {
  int tid = 0;
  for (;;) {
    runtime_hold_threads(tid);
    int found = receiver(process, signal);
    if (found && (found == tid || signal != SIGILL)) give(process, found, signal);
    runtime_release_threads();
    if (!found || found == tid || signal != SIGILL) return;
    tid = found;
  }
}

void linux_share_out(LinuxThread *thread) {
  LinuxProcess *process = thread->process;
  thread->sharing = false;
  for (int signal = 1; signal < LINUX_SIGNALS; signal++)
    if (linux_held_set(&process->held) & LINUX_BIT(signal)) give_one(process, signal);
}

/* The kernel drops what waits for a thread that ends, also what we gave it for the process. */
void linux_signals_thread_ends(LinuxThread *thread) {
  const int64_t at_once[2] = {0, 0};
  uint64_t all = ~UINT64_C(0), exceptions = LINUX_EXCEPTION_SIGNALS;
  LinuxSiginfo info, notice = {0};
  host_call(__NR_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
  runtime_hold_threads(0);
  thread->ending = true;
  runtime_release_threads();
  while (host_call(__NR_rt_sigtimedwait, &exceptions, &info, at_once, sizeof exceptions) > 0) {
    if (runtime_is_notice(&info)) {
      notice = info;
      continue;
    }
    linux_siginfo_from_host(&info);
    linux_keep(thread, &info);
  }
  if (notice.signal) host_call(__NR_rt_sigqueueinfo, host_call(__NR_getpid), notice.signal, &notice); /* to another thread */
  linux_share_out(thread);
}

/* --- Around calls ------------------------------------------------------------------------------------------ */

uint64_t linux_fetches(const LinuxThread *thread) {
  uint64_t any = thread->wanted | thread->process->fetchable;
  return any ? any & linux_effective_mask(thread) & LINUX_EXCEPTION_SIGNALS : 0;
}

static void set_fetching(LinuxThread *thread, uint64_t signals) {
  runtime_hold_threads(0);
  __atomic_store_n(&thread->fetching, signals, __ATOMIC_SEQ_CST);
  runtime_release_threads();
}

void linux_fetch_begin(LinuxThread *thread, uint64_t signals, int64_t number, const uint64_t argument[6]) {
  LinuxSiginfo info;
  thread->fetch_number = number;
  memcpy(thread->fetch_argument, argument, sizeof thread->fetch_argument);
  set_fetching(thread, signals);
  if (thread->pending_signal) return; /* the call will not be made */
  linux_fetch_block(thread, signals);
  while (linux_held_take(&thread->held, signals, &info)) linux_requeue(thread, &info);
  if (linux_held_set(&thread->process->held) & signals) linux_share_out(thread); /* perhaps to this call */
}

/* struct signalfd_siginfo (include/uapi/linux/signalfd.h), as far as it matters. */
typedef struct Read {
  uint32_t signal;
  int32_t error, code;
  uint32_t process, user;
  int32_t fd;
  uint32_t timer, band, overrun, trap;
  int32_t status, value;
  uint64_t pointer, user_time, system_time, address;
  uint8_t rest[128 - 80];
} Read;
_Static_assert(sizeof(Read) == 128, "kernel ABI");

/* The part of a read()'s or readv()'s buffers from `offset` on, into or out of `read`. */
static int copy(int64_t number, const uint64_t argument[6], uint64_t offset, Read *read, bool out) {
  uint64_t single[2] = {argument[1], UINT64_MAX}, part[2], done = 0;
  for (uint64_t i = 0; done < sizeof *read && (number == __NR_readv ? i < argument[2] : i < 1); i++) {
    if (number != __NR_readv) memcpy(part, single, sizeof part);
    else if (linux_copy_in(part, argument[1] + i * sizeof part, sizeof part)) return -EFAULT;
    if (offset >= part[1]) {
      offset -= part[1];
      continue;
    }
    uint64_t length = part[1] - offset < sizeof *read - done ? part[1] - offset : sizeof *read - done;
    char *at = (char *)read + done;
    int error = out ? linux_copy_out(part[0] + offset, at, length) : linux_copy_in(at, part[0] + offset, length);
    if (error) return error;
    done += length;
    offset = 0;
  }
  return done == sizeof *read ? 0 : -EFAULT;
}

/* What linux_siginfo_from_host() does, for what came from a signalfd; whether it did anything. */
static bool restore(Read *read) {
  if (!read->signal || read->signal > LINUX_SIGNALS) return false;
  LinuxSiginfo info = {.signal = (int32_t)read->signal, .error = read->error, .code = read->code,
                       .field = {read->process | (uint64_t)read->user << 32, read->pointer}};
  linux_siginfo_from_host(&info);
  if (info.code == read->code) return false;
  read->error = info.error;
  read->code = info.code;
  read->pointer = 0;
  read->value = 0;
  if (info.code <= 0) return true;
  read->address = info.field[0];
  read->process = read->user = 0;
  return true;
}

static bool is_notice(const Read *read) {
  LinuxSiginfo info = {.signal = (int32_t)read->signal, .code = read->code,
                       .field = {read->process | (uint64_t)read->user << 32, read->pointer}};
  return runtime_is_notice(&info);
}

int64_t linux_fetched(int64_t number, const uint64_t argument[6], int64_t result) {
  Read read;
  uint64_t kept = 0, length = (uint64_t)result;
  if ((number != __NR_read && number != __NR_readv) || length % sizeof read) return result; /* from no signalfd */
  for (uint64_t at = 0; at < length; at += sizeof read) {
    if (copy(number, argument, at, &read, false)) return result;
    if (is_notice(&read)) continue;
    if (restore(&read) || kept < at) copy(number, argument, kept, &read, true);
    kept += sizeof read;
  }
  return kept ? (int64_t)kept : LINUX_RESTART;
}

/* What was not fetched comes back as soon as it is open. */
void linux_fetch_end(LinuxThread *thread) {
  set_fetching(thread, 0);
  linux_unblock(thread);
}
