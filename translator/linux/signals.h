/* Between signals.c, signal-frame.c, held.c and fetch.c. */
#ifndef STELE_LINUX_SIGNALS_H
#define STELE_LINUX_SIGNALS_H

#include "linux/linux.h"

#define SS_AUTODISARM_BIT (1u << 31)

/* A signal in a set of them, as the kernel has it. */
#define LINUX_BIT(signal) (UINT64_C(1) << ((signal) - 1))

/* Those that processor exceptions become. */
#define LINUX_EXCEPTION_SIGNALS \
  (LINUX_BIT(SIGSEGV) | LINUX_BIT(SIGBUS) | LINUX_BIT(SIGILL) | LINUX_BIT(SIGFPE) | LINUX_BIT(SIGTRAP))

/* The mask in force: the thread's, or that of its sigsuspend(), ppoll() and the like. */
uint64_t linux_effective_mask(const LinuxThread *thread);

/* Has the host block `signals` besides what it blocks for the guest. */
void linux_fetch_block(LinuxThread *thread, uint64_t signals);

/* Gives a signal back to the kernel for this thread, which keeps it until it is unblocked. */
void linux_requeue(LinuxThread *thread, LinuxSiginfo *info);

/* Makes a code that the kernel lets nobody send (0 and above) one that may be sent, for linux_siginfo_from_host() to find. */
void linux_siginfo_disguise(LinuxSiginfo *info);

/* Holds what this thread was given and has blocked, for itself or, if it was sent to the process, for the process, and has
 * it shared out at the thread's next safe point. Async-signal-safe. */
void linux_keep(LinuxThread *thread, const LinuxSiginfo *info);

/* Gives what is held for the process to threads that have it open or fetch it in the call they are in (fetch.c). Who opens a
 * signal, or makes such a call, looks for it after having said so, and here threads are looked at after it was put there:
 * one finds the other. */
void linux_share_out(LinuxThread *thread);

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
