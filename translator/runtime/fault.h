/* Between the runtime's two files of fault handling. */
#ifndef STELE_RUNTIME_FAULT_H
#define STELE_RUNTIME_FAULT_H

#include "runtime/internal.h"

/* A SIGBUS: whether it was one of an ordered or locked access in generated code that is misaligned, and that access has
 * been carried out. `context` is the host's struct ucontext. Where the memory does not allow the access, *fault becomes
 * what the processor would report. */
bool misaligned_access(RuntimeThread *thread, void *context, RuntimeHostFault *fault);

/* Has cpu->upper take the upper halves of YMM registers that are in host registers alone at this place of the region.
 * `context` is the host's struct ucontext. */
void fault_take_uppers(GuestCpu *cpu, const void *context, const Region *region, uint32_t offset);

#endif
