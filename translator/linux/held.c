/* Signals of processor exceptions that were sent while the guest has them blocked.
 *
 * The host never blocks the five, as generated code needs them, so its kernel does not keep them pending: we do, one of
 * a kind as the kernel does below SIGRTMIN, for a thread or for the process. They are put here by signal handlers, on any
 * thread, and taken outside of those; so a place has a state, of which the upper bits count its uses: what was read while
 * it stayed the same is whole. */
#include <asm/signal.h>

#include "linux/linux.h"
#include "linux/signals.h"

enum { EMPTY, WRITING, FULL, STATES = 3, NEXT_USE = 4 };

/* In the order in which they are delivered (next_signal() of kernel/signal.c). */
static const int exceptions[LINUX_EXCEPTIONS] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};

static unsigned place_of(int signal) {
  unsigned i = 0;
  while (exceptions[i] != signal) i++;
  return i;
}

static uint64_t bit_of(unsigned place) { return UINT64_C(1) << (exceptions[place] - 1); }

void linux_hold(LinuxHeld *held, const LinuxSiginfo *info) {
  unsigned i = place_of(info->signal);
  uint32_t state = __atomic_load_n(&held->state[i], __ATOMIC_SEQ_CST);
  if ((state & STATES) != EMPTY) return;
  if (!__atomic_compare_exchange_n(&held->state[i], &state, state + WRITING, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    return;
  held->info[i] = *info;
  __atomic_store_n(&held->state[i], state + FULL, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&held->count, 1, __ATOMIC_SEQ_CST);
}

static bool take_place(LinuxHeld *held, unsigned i, LinuxSiginfo *ret_info) {
  uint32_t state = __atomic_load_n(&held->state[i], __ATOMIC_SEQ_CST);
  while ((state & STATES) == FULL) {
    *ret_info = held->info[i];
    uint32_t next = state - FULL + NEXT_USE;
    if (!__atomic_compare_exchange_n(&held->state[i], &state, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
    __atomic_sub_fetch(&held->count, 1, __ATOMIC_SEQ_CST);
    return true;
  }
  return false;
}

bool linux_held_take(LinuxHeld *held, uint64_t wanted, LinuxSiginfo *ret_info) {
  for (unsigned i = 0; i < LINUX_EXCEPTIONS; i++)
    if (wanted & bit_of(i) && take_place(held, i, ret_info)) return true;
  return false;
}

uint64_t linux_held_set(const LinuxHeld *held) {
  uint64_t set = 0;
  for (unsigned i = 0; i < LINUX_EXCEPTIONS; i++)
    if ((__atomic_load_n(&held->state[i], __ATOMIC_SEQ_CST) & STATES) == FULL) set |= bit_of(i);
  return set;
}
