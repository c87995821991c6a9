/* Between the runtime's two files of fault handling. */
#ifndef STELE_RUNTIME_FAULT_H
#define STELE_RUNTIME_FAULT_H

#include "runtime/internal.h"

typedef enum Misaligned {
  MISALIGNED_NOT,  /* not an ordered or locked access in generated code, or what faulted is the memory behind it */
  MISALIGNED_DONE, /* carried out */
  MISALIGNED_FAULT /* the guest has no such access to all of the memory */
} Misaligned;

/* A SIGBUS at an ordered or locked access in generated code that is misaligned. `context` is the host's struct
 * ucontext. *ret_fault is set for MISALIGNED_FAULT: the address the processor would report. */
Misaligned misaligned_access(RuntimeThread *thread, void *context, uint64_t *ret_fault);

#endif
