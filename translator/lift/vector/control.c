/* String comparison, MXCSR, fences and cache control. */
#include "lift/vector/sse.h"

/* PCMPISTRI … PCMPESTRM. argument: SSE_STRING_EXPLICIT, SSE_STRING_MASK. */
void sse_lift_string_compare(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1);
  uint64_t what = argument | ((uint64_t)insn->imm & 0xff);
  if (insn->operand_size == 8) what |= SSE_STRING_WIDE;
  sse_store_operand(l, 0, lift_xmm(insn->operands[0].reg));
  sse_store_operand(l, 1, m);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_STRING, what);
  IrReg flags = ir_temp(&l->b);
  ir_load_state(&l->b, 8, flags, offsetof(GuestCpu, operand));
  if (argument & SSE_STRING_MASK) {
    sse_load_operand(l, 2, lift_xmm(0));
    sse_know_zero_above(l, 0, 16);
  }
  lift_flags_nzcv(l, flags);
}

/* LDMXCSR: bits beyond MXCSR's raise #GP on hardware and are dropped here. */
void sse_lift_ldmxcsr(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_plain_helper(l, LIFT_HELPER_SSE_LDMXCSR, lift_read(l, insn, 0));
  lift_sse_mxcsr_loaded(l);
}

void sse_lift_stmxcsr(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg value = ir_temp(&l->b);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_STMXCSR, 0);
  ir_load_state(&l->b, 4, value, offsetof(GuestCpu, mxcsr));
  lift_write(l, insn, 0, value);
}

/* MFENCE, LFENCE, SFENCE. argument: the barrier. Under x86's order only MFENCE orders ordinary accesses; the
 * others matter for streaming accesses, which are ordinary stores here. */
void sse_lift_fence(Lift *l, const X86Insn *insn, uint32_t argument) {
  ir_emit(&l->b, (IrOp)argument, 8, IR_NONE, IR_NONE, IR_NONE, 0);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: nothing is flushed, but they fault as loads of a byte do (SDM volume 2). */
void sse_lift_line(Lift *l, const X86Insn *insn, uint32_t argument) {
  ir_load(&l->b, 1, IR_EXTEND_ZERO, ir_temp(&l->b), lift_address(l, insn, 1));
}

/* Prefetches: hints. */
void sse_lift_nothing(Lift *l, const X86Insn *insn, uint32_t argument) {}
