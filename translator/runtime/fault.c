/* Host signals in generated code: the runtime's own (writes to guest code, the return-address stack's end),
 * the guest's faults with their precise state, and getting a thread out of generated code.
 *
 * The precise state is at hand: guest registers have fixed homes, and the region's map tells the guest
 * instruction of any host address. Everything here runs in a signal handler. */
#include "runtime/internal.h"

#include <string.h>

#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "guest/memory-map.h"
#include "lift/sse-state.h"
#include "runtime/fault.h"
#include "runtime/layout.h"

enum { SIGBUS_NUMBER = 7, SIGSEGV_NUMBER = 11, SHADOW_GUARD = 4096 };

/* --- Synchronising from a host context -------------------------------------------------------------- */

static const struct fpsimd_context *find_fpsimd(const struct ucontext *context) {
  const uint8_t *record = context->uc_mcontext.__reserved, *end = record + sizeof context->uc_mcontext.__reserved;
  while (record + sizeof(struct _aarch64_ctx) <= end) {
    struct _aarch64_ctx head;
    memcpy(&head, record, sizeof head);
    if (head.magic == FPSIMD_MAGIC) return (const struct fpsimd_context *)record;
    if (!head.magic || head.size < sizeof head) break;
    record += head.size;
  }
  return NULL;
}

static void take_vectors(GuestCpu *cpu, const struct ucontext *context) {
  const struct fpsimd_context *fp = find_fpsimd(context);
  if (!fp) base_panic("a signal frame without vector registers");
  memcpy(cpu->xmm, fp->vregs, sizeof cpu->xmm);
  cpu->mxcsr = sse_mxcsr_from_fpsr(cpu->mxcsr, fp->fpsr);
}

static void take_general(GuestCpu *cpu, const struct sigcontext *host, unsigned form) {
  for (unsigned i = 0; i < 16; i++) cpu->gpr[i] = host->regs[i];
  cpu->nzcv = host->pstate & UINT64_C(0xf0000000);
  cpu->flag_result = host->regs[A64_REG_FLAG_RESULT];
  cpu->flag_aux = host->regs[A64_REG_FLAG_AUX];
  runtime_canonical_flags(cpu, form);
  cpu->shadow_sp = host->sp;
}

/* Fills cpu with the state before the guest instruction at the context's PC. False when the PC is neither in
 * a region nor in a helper called from one. */
static bool synchronise_from(GuestCpu *cpu, const struct ucontext *context) {
  const struct sigcontext *host = &context->uc_mcontext;
  const Region *region = cache_find_region(host->pc);
  unsigned form = FLAGS_CANONICAL;
  if (region) {
    cpu->rip = runtime_pc_of_host(region, host->pc, &form);
    take_general(cpu, host, form);
  } else if (cpu->helper_return) {
    region = cache_find_region(cpu->helper_return);
    if (!region) return false;
    cpu->rip = runtime_pc_of_host(region, cpu->helper_return - 4, &form);
  } else {
    return false;
  }
  take_vectors(cpu, context);
  return true;
}

void runtime_resume_after_fault(GuestCpu *cpu, void *opaque) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  cpu->helper_return = 0;
  host->regs[0] = TRAMPOLINE_RESUMED;
  host->sp = cpu->host_sp;
  host->pc = (uint64_t)(uintptr_t)runtime_leave;
}

/* --- The runtime's own faults --------------------------------------------------------------------------- */

/* A store to a page with translations. The lock may be held by a thread that waits for this one to leave
 * generated code: mark it as waiting, and if code was thrown away meanwhile, leave. */
static bool handle_code_write(GuestCpu *cpu, struct ucontext *context, uint64_t address) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  uint32_t generation = runtime_generation();
  bool in_code = __atomic_load_n(&thread->in_code, __ATOMIC_SEQ_CST);
  bool synchronised = in_code && synchronise_from(cpu, context);
  uint64_t shadow_sp = cpu->shadow_sp;
  if (in_code) __atomic_store_n(&thread->in_code, 2, __ATOMIC_SEQ_CST);
  base_lock(&runtime.lock);
  bool ours = pages_handle_write(address);
  Region *region = ours ? cache_find_region(context->uc_mcontext.pc) : NULL;
  if (region && region->dead) link_stop_at_boundaries(region, context->uc_mcontext.pc);
  bool stale = generation != runtime_generation();
  if (in_code) __atomic_store_n(&thread->in_code, 1, __ATOMIC_SEQ_CST);
  base_unlock(&runtime.lock);
  if (!stale) cpu->shadow_sp = shadow_sp;
  if (ours && stale && synchronised) runtime_resume_after_fault(cpu, context);
  return ours;
}

static bool shadow_stack_full(GuestCpu *cpu, struct ucontext *context, uint64_t address) {
  if (cpu->shadow_limit - address > SHADOW_GUARD || address >= cpu->shadow_limit) return false;
  context->uc_mcontext.sp = cpu->shadow_base; /* old predictions are given up; the push is done again */
  return true;
}

RuntimeFault runtime_host_fault(GuestCpu *cpu, void *opaque, int32_t *signal, uint64_t *address, bool write) {
  struct ucontext *context = opaque;
  if (*signal == SIGSEGV_NUMBER) {
    if (shadow_stack_full(cpu, context, *address)) return RUNTIME_FAULT_RESOLVED;
    if (write && handle_code_write(cpu, context, *address)) return RUNTIME_FAULT_RESOLVED;
  }
  if (*signal == SIGBUS_NUMBER) {
    Misaligned misaligned = misaligned_access(context, address);
    if (misaligned == MISALIGNED_DONE) return RUNTIME_FAULT_RESOLVED;
    if (misaligned == MISALIGNED_FAULT) *signal = SIGSEGV_NUMBER;
  }
  if (!synchronise_from(cpu, context)) return RUNTIME_FAULT_OURS;
  runtime_recover_flags(cpu, cpu->helper_return ? cpu->helper_return - 4 : context->uc_mcontext.pc);
  return RUNTIME_FAULT_GUEST;
}

bool runtime_faulting_write(const GuestCpu *cpu) {
  X86Insn insn;
  uint64_t end;
  if (memory_map_query(cpu->rip, &end) < 0) return false;
  if (x86_decode((const uint8_t *)(uintptr_t)cpu->rip, end - cpu->rip, &insn) != X86_DECODE_OK) return false;
  for (unsigned i = 0; i < insn.operand_count; i++)
    if (insn.operands[i].kind == X86_OPERAND_MEM && insn.operands[i].access & X86_ACCESS_W) return true;
  return false;
}

/* --- Getting a thread out --------------------------------------------------------------------------------- */

void runtime_interrupt(GuestCpu *cpu, void *opaque) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  RuntimeThread *thread = runtime_thread_of(cpu);
  __atomic_store_n(&cpu->interrupt, 1, __ATOMIC_SEQ_CST);
  if (!thread->in_code) return;
  if (host->pc >= (uint64_t)(uintptr_t)runtime_enter_check && host->pc < (uint64_t)(uintptr_t)runtime_enter_go) {
    host->pc = (uint64_t)(uintptr_t)runtime_enter_stop;
    return;
  }
  Region *region = cache_find_region(host->pc);
  if (!region && cpu->helper_return) region = cache_find_region(cpu->helper_return);
  if (!region) return; /* in the runtime, which looks at cpu->interrupt before it enters code again */
  link_open(region);
  thread->interrupted = region;
}
