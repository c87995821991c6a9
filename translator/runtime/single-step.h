/* What the dispatcher asks of single-stepping (single-step.c). */
#ifndef STELE_RUNTIME_SINGLE_STEP_H
#define STELE_RUNTIME_SINGLE_STEP_H

#include "runtime/internal.h"

/* Beside the guest PC, in the block map's keys: not a canonical address. */
#define STEP_KEY (UINT64_C(1) << 62)
static inline bool step_is_key(uint64_t key) { return key >> 62 == 1; }

/* Whether the next instruction is to be followed by a trap. */
static inline bool step_wanted(const GuestCpu *cpu) {
  enum { RFLAGS_TF = 1 << 8 };
  return __builtin_expect(cpu->other_flags & RFLAGS_TF, 0);
}

static inline uint64_t step_key(const GuestCpu *cpu) {
  return step_wanted(cpu) ? cpu->rip | STEP_KEY : cpu->rip;
}

/* Where the thread, which is IN_CODE, executes what stands at host_pc so that it comes out behind it. */
uint64_t step_detour(RuntimeThread *thread, uint64_t host_pc);

/* Whether the instruction has been executed and its trap is due, by what the thread came out for. */
bool step_traps(const GuestCpu *cpu, unsigned reason);

#endif
