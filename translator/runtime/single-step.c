/* Single-stepping: with TF set in RFLAGS each instruction is followed by #DB (Intel SDM volume 3, 17.3.1.4).
 *
 * Theory of operation. A step is a region of one instruction with all flags, found in the block map under a key of its
 * own, so that no other code is ever linked to it. The thread executes a private copy of it, every way out of which
 * leads to the dispatcher (detour.c); repeated string instructions leave after each round (lift/string.c). Code that sets TF leaves by itself (LIFT_STEP). No trap follows what raised an exception, SYSCALL, for which Linux
 * masks TF, and loads of SS, which hold it off until the next instruction has been executed (LIFT_STEP_HELD). */
#include "runtime/single-step.h"

#include "runtime/layout.h"

uint64_t step_detour(RuntimeThread *thread, uint64_t host_pc) {
  uint32_t offset;
  const Region *region = detour_region_at(thread, host_pc, &offset);
  return detour_take(thread, region, offset, UINT32_MAX);
}

bool step_traps(const GuestCpu *cpu, unsigned reason) {
  bool left = reason == TRAMPOLINE_LINK || reason == TRAMPOLINE_RETURN || reason == TRAMPOLINE_INDIRECT;
  return left || (reason == TRAMPOLINE_RAISE && cpu->scratch[5] == LIFT_STEP);
}
