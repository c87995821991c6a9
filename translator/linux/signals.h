/* Between signals.c and signal-frame.c. */
#ifndef STELE_LINUX_SIGNALS_H
#define STELE_LINUX_SIGNALS_H

#include "linux/linux.h"

#define SS_AUTODISARM_BIT (1u << 31)

/* Whether the guest runs on its alternate stack. */
bool linux_on_alternate_stack(const LinuxThread *thread);

/* sigaltstack() with a checked copy: 0, -EPERM while in use, -ENOMEM when too small, -EINVAL. */
int linux_set_alternate(LinuxThread *thread, const LinuxStack *stack);

/* Keeps a signal of a processor exception, unless one of its kind is there. Async-signal-safe. */
void linux_hold(LinuxHeld *held, const LinuxSiginfo *info);

/* Takes one of `wanted` (bit n - 1: signal n) out. */
bool linux_held_take(LinuxHeld *held, uint64_t wanted, LinuxSiginfo *ret_info);

uint64_t linux_held_set(const LinuxHeld *held);

/* An instruction fetch at cpu->rip has failed: whether that was an entry of the vsyscall page, and has been dealt with
 * (vsyscall.c). */
bool linux_vsyscall(GuestCpu *cpu);

#endif
