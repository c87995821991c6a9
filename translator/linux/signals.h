/* Between signals.c and signal-frame.c. */
#ifndef STELE_LINUX_SIGNALS_H
#define STELE_LINUX_SIGNALS_H

#include "linux/linux.h"

#define SS_AUTODISARM_BIT (1u << 31)

/* Whether the guest runs on its alternate stack. */
bool linux_on_alternate_stack(const LinuxThread *thread);

/* sigaltstack() with a checked copy: 0, -EPERM while in use, -ENOMEM when too small, -EINVAL. */
int linux_set_alternate(LinuxThread *thread, const LinuxStack *stack);

/* An instruction fetch at cpu->rip has failed: whether that was an entry of the vsyscall page, and has been dealt with
 * (vsyscall.c). */
bool linux_vsyscall(GuestCpu *cpu);

#endif
