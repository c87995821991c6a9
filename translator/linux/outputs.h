/* Where a system call writes to guest memory.
 *
 * The kernel cannot write to pages that the runtime has write-protected, and a call that fails for that has lost what it
 * had taken (a child waited for, a datagram). So such pages are released before, for as long as the call lasts. */
#ifndef STELE_LINUX_OUTPUTS_H
#define STELE_LINUX_OUTPUTS_H

#include <stdint.h>

enum { LINUX_MAX_OUTPUTS = 32 };

typedef struct LinuxOutput {
  uint64_t start, length;
} LinuxOutput;

typedef struct LinuxOutputs {
  unsigned count;
  LinuxOutput range[LINUX_MAX_OUTPUTS];
} LinuxOutputs;

/* Where call `number` (the guest's) may write with these arguments, as far as the memory that says so can be read. */
void linux_outputs_find(unsigned number, const uint64_t argument[6], LinuxOutputs *ret_outputs);

void linux_outputs_begin(const LinuxOutputs *outputs);
void linux_outputs_end(const LinuxOutputs *outputs);

#endif
