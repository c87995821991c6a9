/* Host signals in generated code: the runtime's own (writes to guest code, the return-address stack's end),
 * the guest's faults with their precise state, and getting a thread out of generated code.
 *
 * The precise state is at hand: guest registers have fixed homes, and the region's map tells the guest
 * instruction of any host address. Everything here runs in a signal handler. */
#include "a64/encode.h"
#include "runtime/internal.h"

#include <string.h>

#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "guest/memory-map.h"
#include "lift/vector/state.h"
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

void fault_take_uppers(GuestCpu *cpu, const void *opaque, const Region *region, uint32_t offset) {
  const struct ucontext *context = opaque;
  for (unsigned left = region_uppers_at(region, offset); left; left &= left - 1) {
    const struct fpsimd_context *fp = find_fpsimd(context);
    unsigned number = (unsigned)__builtin_ctz(left);
    if (!fp) base_panic("a signal frame without vector registers");
    memcpy(&cpu->upper[number], &fp->vregs[a64_upper_home(number)], sizeof cpu->upper[number]);
  }
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
  const RuntimeThread *thread = runtime_thread_of(cpu);
  if (thread->state != THREAD_IN_CODE) return false;
  uint32_t offset;
  unsigned form = FLAGS_CANONICAL;
  const Region *region = detour_region_at(thread, host->pc, &offset);
  if (region) {
    cpu->rip = region_pc_at(region, offset, &form);
    take_general(cpu, host, form);
    fault_take_uppers(cpu, context, region, offset);
  } else if (cpu->helper_return) {
    region = detour_region_at(thread, cpu->helper_return, &offset);
    if (!region) return false;
    cpu->rip = region_pc_at(region, offset - 4, &form);
    fault_take_uppers(cpu, context, region, offset - 4);
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

/* The region the thread is in, by itself or by a helper it calls, and the last offset in it that was begun. */
static const Region *region_of_thread(const RuntimeThread *thread, uint64_t host_pc, uint32_t *ret_offset) {
  const Region *region = detour_region_at(thread, host_pc, ret_offset);
  if (region || !thread->cpu->helper_return) return region;
  region = detour_region_at(thread, thread->cpu->helper_return, ret_offset);
  *ret_offset -= 4;
  return region;
}

/* The region is dead since the store that is under way: it is left at the next guest instruction. No instruction that stores
 * changes a YMM register, so upper halves are then what they are now. */
static void leave_after_store(RuntimeThread *thread, struct ucontext *context, const Region *region, uint32_t offset) {
  struct sigcontext *host = &context->uc_mcontext;
  fault_take_uppers(thread->cpu, context, region, offset);
  if (thread->cpu->helper_return) thread->cpu->helper_return = detour_take(thread, region, offset + 4, offset);
  else host->pc = detour_take(thread, region, offset, offset);
}

/* A store to a page with translations. Returns into them that this thread has predicted are forgotten here, as it may
 * go on in code. */
static bool handle_code_write(RuntimeThread *thread, struct ucontext *context, uint64_t address) {
  GuestCpu *cpu = thread->cpu;
  uint64_t end;
  int flags = memory_map_query(address, &end);
  if (flags < 0 || !(flags & MEMORY_WRITE)) return false;
  struct sigcontext *host = &context->uc_mcontext;
  bool in_code = thread->state == THREAD_IN_CODE;
  uint32_t offset = 0;
  const Region *region = in_code ? region_of_thread(thread, host->pc, &offset) : NULL;
  uint64_t *shadow_sp = region && !cpu->helper_return ? (uint64_t *)&host->sp : &cpu->shadow_sp;
  base_lock(&runtime.lock);
  uint64_t deaths = runtime.deaths;
  bool ours = pages_handle_write(thread, address);
  if (region && deaths != runtime.deaths) *shadow_sp = thread_forget_returns(thread, *shadow_sp);
  bool dead = region && region->dead;
  base_unlock(&runtime.lock);
  if (ours && dead) leave_after_store(thread, context, region, offset);
  return ours;
}

static bool shadow_stack_full(GuestCpu *cpu, struct ucontext *context, uint64_t address) {
  if (cpu->shadow_limit - address > SHADOW_GUARD || address >= cpu->shadow_limit) return false;
  context->uc_mcontext.sp = cpu->shadow_base; /* old predictions are given up; the push is done again */
  return true;
}

/* C code that was ready for it touched memory that is not there. */
static bool guarded(RuntimeThread *thread, struct sigcontext *host, const RuntimeHostFault *fault) {
  GuardFrame *frame = thread->guard;
  if (!frame || cache_contains(host->pc)) return false;
  thread->guard = NULL;
  thread->guard_fault = *fault;
  host->regs[0] = (uint64_t)(uintptr_t)frame;
  host->pc = (uint64_t)(uintptr_t)runtime_guard_fault;
  return true;
}

bool guard_call(RuntimeThread *thread, void (*function)(void *), void *argument) {
  GuardFrame frame, *outer = thread->guard;
  thread->guard = &frame;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  int done = runtime_guard_call(&frame, function, argument);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  thread->guard = outer;
  return done;
}

/* Where checked code compares its bytes, before its first instruction: to the guest that is the fetch. */
static bool fetches(const RuntimeThread *thread, uint64_t host_pc) {
  uint32_t offset;
  const Region *region = detour_region_at(thread, host_pc, &offset);
  if (!region || !region->checked) return false;
  A64PcCursor at = a64_pc_map_begin(&region->tables);
  return a64_pc_map_next(&at) && a64_pc_map_next(&at) && offset < at.last.host_offset;
}

RuntimeFault runtime_host_fault(GuestCpu *cpu, void *opaque, RuntimeHostFault *fault, bool write) {
  struct ucontext *context = opaque;
  RuntimeThread *thread = runtime_thread_of(cpu);
  if (fault->signal == SIGSEGV_NUMBER) {
    if (shadow_stack_full(cpu, context, fault->address)) return RUNTIME_FAULT_RESOLVED;
    if (write && handle_code_write(thread, context, fault->address)) return RUNTIME_FAULT_RESOLVED;
  }
  if (fault->signal == SIGBUS_NUMBER && misaligned_access(thread, context, fault)) return RUNTIME_FAULT_RESOLVED;
  if (guarded(thread, &context->uc_mcontext, fault)) return RUNTIME_FAULT_RESOLVED;
  if (!synchronise_from(cpu, context)) return RUNTIME_FAULT_OURS;
  if (fetches(thread, context->uc_mcontext.pc)) fault->address = cpu->rip;
  runtime_recover_flags(cpu, cpu->helper_return ? cpu->helper_return - 4 : context->uc_mcontext.pc);
  return RUNTIME_FAULT_GUEST;
}

typedef struct FaultingInsn {
  uint64_t pc, available;
  X86Insn insn;
  X86DecodeStatus status;
} FaultingInsn;

static void decode_faulting(void *argument) {
  FaultingInsn *f = argument;
  f->status = x86_decode((const uint8_t *)(uintptr_t)f->pc, f->available, &f->insn);
}

/* The instruction at RIP. False where there is none any more: its page may be what has gone. */
static bool faulting_insn(const GuestCpu *cpu, X86Insn *ret_insn) {
  uint64_t end;
  if (memory_map_query(cpu->rip, &end) < 0) return false;
  FaultingInsn f = {.pc = cpu->rip, .available = end - cpu->rip};
  if (!guard_call(runtime_thread_of(cpu), decode_faulting, &f) || f.status != X86_DECODE_OK) return false;
  *ret_insn = f.insn;
  return true;
}

bool runtime_faulting_write(const GuestCpu *cpu) {
  X86Insn insn;
  if (!faulting_insn(cpu, &insn)) return false;
  for (unsigned i = 0; i < insn.operand_count; i++)
    if (insn.operands[i].kind == X86_OPERAND_MEM && insn.operands[i].access & X86_ACCESS_W) return true;
  return false;
}

bool runtime_faulting_stack(const GuestCpu *cpu, uint64_t address) {
  X86Insn insn;
  return faulting_insn(cpu, &insn) && x86_accesses_stack(&insn, cpu->gpr[X86_RSP], cpu->gpr[X86_RBP], address);
}

/* --- Branches to where nothing can be ----------------------------------------------------------------------- */

/* The CBNZ that leads to where an indirect branch or a return has missed, as an offset of the region's code. */
static bool find_check(const Region *region, uint32_t miss, uint32_t *ret_offset) {
  const A64Tables *tables = &region->tables;
  for (unsigned i = 0; i < tables->indirect_count; i++) {
    *ret_offset = tables->indirect_checks[i] * 4u;
    if (*ret_offset + (uint64_t)a64_branch_distance(region->code[*ret_offset / 4]) == miss) return true;
  }
  return false;
}

/* The target is looked at before anything is pushed or popped (Intel SDM volume 2, CALL and RET). */
static void take_back(GuestCpu *cpu, const X86Insn *insn) {
  if (insn->flow == X86_FLOW_CALL_IND) cpu->gpr[X86_RSP] += 8;
  if (insn->flow == X86_FLOW_RET) cpu->gpr[X86_RSP] -= 8 + (insn->operand_count ? (uint16_t)insn->imm : 0);
}

bool fault_at_branch(RuntimeThread *thread) {
  GuestCpu *cpu = thread->cpu;
  uint32_t miss, check;
  unsigned form;
  X86Insn insn;
  const Region *region = detour_region_at(thread, cpu->exit_argument, &miss);
  if (!region || !find_check(region, miss, &check)) return false;
  uint64_t target = cpu->rip;
  cpu->rip = region_pc_at(region, check, &form);
  if (faulting_insn(cpu, &insn)) {
    take_back(cpu, &insn);
    runtime_recover_flags(cpu, (uint64_t)(uintptr_t)(region->code + check / 4));
    return true;
  }
  cpu->rip = target;
  return false;
}

/* --- Getting a thread out --------------------------------------------------------------------------------- */

/* A host PC in a region, as the same place in a detour; 0 when it is in none. */
static uint64_t detour_from(RuntimeThread *thread, uint64_t host_pc) {
  uint32_t offset;
  const Region *region = detour_region_at(thread, host_pc, &offset);
  return region ? detour_take(thread, region, offset, UINT32_MAX) : 0;
}

/* Where the second table of the branch cache is looked in: the thread goes on to the dispatcher from there. */
static bool leave_second(struct sigcontext *host) {
  uint64_t at = host->pc - (uint64_t)(uintptr_t)runtime.cache + (uint64_t)(uintptr_t)runtime_trampolines_start;
  if (at < (uint64_t)(uintptr_t)runtime_second_indirect || at >= (uint64_t)(uintptr_t)runtime_second_end) return false;
  bool first = at == (uint64_t)(uintptr_t)runtime_second_indirect || at == (uint64_t)(uintptr_t)runtime_second_return;
  if (!first) host->regs[A64_REG_LINK] = host->regs[A64_REG_SITE];
  host->pc = at < (uint64_t)(uintptr_t)runtime_second_return ? runtime.miss_indirect : runtime.miss_return;
  return true;
}

static bool in_helper_trampoline(uint64_t host_pc, uint64_t *ret_source_pc) {
  uint64_t start = (uint64_t)(uintptr_t)runtime_trampolines_start;
  *ret_source_pc = host_pc - (uint64_t)(uintptr_t)runtime.cache + start;
  return *ret_source_pc >= (uint64_t)(uintptr_t)runtime_trampoline_helper &&
         *ret_source_pc < (uint64_t)(uintptr_t)runtime_helper_end;
}

/* In a helper, or on the way into or out of one. */
static bool interrupt_helper(RuntimeThread *thread, struct sigcontext *host) {
  uint64_t at, *returns_to = &thread->cpu->helper_return;
  bool trampoline = in_helper_trampoline(host->pc, &at);
  if (trampoline && (at < (uint64_t)(uintptr_t)runtime_helper_stored || at >= (uint64_t)(uintptr_t)runtime_helper_loaded))
    returns_to = (uint64_t *)&host->regs[A64_REG_LINK];
  else if (!*returns_to) return false;
  uint64_t moved = detour_from(thread, *returns_to);
  if (moved) *returns_to = moved;
  return moved != 0;
}

/* False in C code of a thread that may go on in generated code: the dispatcher will look at cpu->interrupt, but the
 * handler of a fault will not. */
bool thread_bring_out(RuntimeThread *thread, void *opaque) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  __atomic_store_n(&thread->cpu->interrupt, 1, __ATOMIC_SEQ_CST);
  if (thread->state != THREAD_IN_CODE) return true;
  if (host->pc >= (uint64_t)(uintptr_t)runtime_enter_check && host->pc < (uint64_t)(uintptr_t)runtime_enter_go) {
    host->pc = (uint64_t)(uintptr_t)runtime_enter_stop;
    return true;
  }
  uint64_t moved = detour_from(thread, host->pc);
  if (moved) host->pc = moved;
  return moved || leave_second(host) || interrupt_helper(thread, host) || cache_contains(host->pc);
}

/* A kick, which handlers of faults have blocked, comes as soon as one returns. */
void runtime_interrupt(GuestCpu *cpu, void *context) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  if (!thread_bring_out(thread, context)) thread_kick(thread);
}
