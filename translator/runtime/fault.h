/* Between the runtime's two files of fault handling. */
#ifndef STELE_RUNTIME_FAULT_H
#define STELE_RUNTIME_FAULT_H

#include <stdbool.h>

/* A SIGBUS at an ordered or locked access in generated code that is misaligned: carried out or replaced.
 * `context` is the host's struct ucontext. False when it is something else. */
bool misaligned_access(void *context);

#endif
