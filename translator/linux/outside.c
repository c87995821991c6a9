/* Telling another translated process that this one is about to write its memory (runtime/outside.c is the other side).
 *
 * Both run the same file, so what the other's mailbox is to its image it is here, too; where that image is, its list of
 * mappings says. The mailbox is written through /proc/PID/mem, which the kernel allows to who may write the rest, and
 * what is found there is believed only as far as it concerns that process. Processes of other translators' builds are
 * told nothing, and native ones need not be. */
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/fcntl.h>

#include "linux/linux.h"
#include "linux/open-flags.h"
#include "linux/outside.h"
#include "linux/procfs.h"

enum { LOOK_NS = 50000, LOOKS = 1000, PID_BITS = 22 /* PID_MAX_LIMIT (include/linux/threads.h) */, LINE = 64 };

typedef struct Peer {
  int directory, memory; /* /proc/PID and its mem */
  uint64_t at;           /* of its mailbox */
} Peer;

#define FIELD(peer, name) ((peer)->at + __builtin_offsetof(RuntimeMailbox, name))

static bool read_mailbox(const Peer *peer, RuntimeMailbox *ret_mailbox) {
  return host_call(__NR_pread64, peer->memory, ret_mailbox, sizeof *ret_mailbox, peer->at) == sizeof *ret_mailbox;
}

static bool write_word(const Peer *peer, uint64_t at, uint32_t value) {
  return host_call(__NR_pwrite64, peer->memory, &value, sizeof value, at) == sizeof value;
}

/* Whether the mailbox there is our own: another process' that has the same memory (CLONE_VM). */
static bool is_own_memory(const Peer *peer) {
  static uint64_t last;
  uint64_t nonce = __atomic_add_fetch(&last, 2, __ATOMIC_RELAXED) | (uint64_t)host_call(__NR_gettid) << 32;
  if (host_call(__NR_pwrite64, peer->memory, &nonce, sizeof nonce, FIELD(peer, nonce)) != sizeof nonce) return false;
  return __atomic_load_n(&runtime_mailbox.nonce, __ATOMIC_SEQ_CST) == nonce;
}

/* pidfd_send_signal(2) takes the directory of a process for one, whatever numbers the namespace has that it is seen in.
 */
static void send_signal(const Peer *peer, uint64_t mailbox) {
  LinuxSiginfo info = {.signal = SIGTRAP, .code = SI_QUEUE, .field = {0, mailbox}};
  host_call(__NR_pidfd_send_signal, peer->directory, SIGTRAP, &info, 0);
}

/* The signal is sent only to who has said afterwards that it is not about to execute another program. */
static void notify(const Peer *peer) {
  RuntimeMailbox mailbox;
  write_word(peer, FIELD(peer, teller), 1);
  if (read_mailbox(peer, &mailbox) && mailbox.self && !mailbox.deaf) send_signal(peer, mailbox.self);
  write_word(peer, FIELD(peer, teller), 0);
}

/* By its first thread; proc(5), /proc/PID/stat. */
static bool is_stopped(const Peer *peer) {
  char text[256];
  int64_t file = host_call(__NR_openat, peer->directory, "stat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return true; /* it has ended */
  int64_t length = host_call(__NR_read, file, text, sizeof text - 1);
  host_call(__NR_close, file);
  text[length > 0 ? length : 0] = '\0';
  const char *state = strrchr(text, ')');
  return !state || !state[1] || state[2] == 'T' || state[2] == 't';
}

/* Until the other's pages are released and its threads out of old code; one that is stopped will do that first when it
 * goes on. */
static void await_application(const Peer *peer, uint32_t wanted) {
  const int64_t pause[2] = {0, LOOK_NS};
  RuntimeMailbox mailbox;
  for (unsigned i = 0; i < LOOKS && read_mailbox(peer, &mailbox) && mailbox.self && mailbox.applied < wanted; i++) {
    if (is_stopped(peer)) return;
    host_call(__NR_nanosleep, pause, 0);
  }
}

static OutsideTold tell_peer(const Peer *peer, RuntimeOutside what) {
  RuntimeMailbox mailbox;
  if (!read_mailbox(peer, &mailbox)) return OUTSIDE_NOT_TOLD;
  if (mailbox.wanted >= what && mailbox.applied >= what) return OUTSIDE_TOLD;
  if (is_own_memory(peer)) return OUTSIDE_OWN;
  if (mailbox.wanted < what && !write_word(peer, FIELD(peer, wanted), what)) return OUTSIDE_NOT_TOLD;
  notify(peer);
  await_application(peer, what);
  return OUTSIDE_TOLD;
}

static OutsideTold tell_process(int directory, RuntimeOutside what, uint64_t *ret_mailbox) {
  extern const char __ehdr_start[];
  Peer peer = {.directory = directory};
  uint64_t base = procfs_translator_base(directory);
  if (!base) return OUTSIDE_NOT_TOLD;
  peer.at = base + ((uint64_t)&runtime_mailbox - (uint64_t)__ehdr_start);
  int64_t memory = host_call(__NR_openat, directory, "mem", O_RDWR | O_CLOEXEC);
  if (memory < 0) return OUTSIDE_NOT_TOLD;
  peer.memory = (int)memory;
  OutsideTold told = tell_peer(&peer, what);
  host_call(__NR_close, memory);
  *ret_mailbox = told == OUTSIDE_TOLD ? peer.at : 0;
  return told;
}

static OutsideTold tell(const char *path, RuntimeOutside what, uint64_t *ret_mailbox) {
  *ret_mailbox = 0;
  int64_t directory = host_call(__NR_openat, AT_FDCWD, path, ARM64_O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return OUTSIDE_NOT_TOLD;
  OutsideTold told = tell_process((int)directory, what, ret_mailbox);
  host_call(__NR_close, directory);
  return told;
}

OutsideTold linux_outside_tell(const char *path, RuntimeOutside what) {
  uint64_t ignored;
  return tell(path, what, &ignored);
}

/* --- By number, again and again ------------------------------------------------------------------------------- */

/* The last process told, and where its mailbox is, which is aligned so that both fit. */
static uint64_t last_told;

static bool was_told(int pid, RuntimeOutside what) {
  uint64_t last = __atomic_load_n(&last_told, __ATOMIC_RELAXED), at = last >> PID_BITS << 6;
  RuntimeMailbox mailbox;
  uint64_t here[2] = {(uint64_t)&mailbox, sizeof mailbox}, there[2] = {at, sizeof mailbox};
  if (!at || (int)(last & ((1u << PID_BITS) - 1)) != pid) return false;
  return host_call(__NR_process_vm_readv, pid, here, 1, there, 1, 0) == sizeof mailbox && mailbox.self == at &&
         mailbox.wanted >= what && mailbox.applied >= what;
}

OutsideTold linux_outside_tell_process(int pid, RuntimeOutside what) {
  char path[LINE];
  uint64_t mailbox;
  if (was_told(pid, what)) return OUTSIDE_TOLD;
  base_format(path, sizeof path, "/proc/%d", pid);
  OutsideTold told = tell(path, what, &mailbox);
  if (mailbox) __atomic_store_n(&last_told, mailbox >> 6 << PID_BITS | (uint32_t)pid, __ATOMIC_RELAXED);
  return told;
}
