/* Unmasked floating-point exceptions of SSE and AVX (#XM; Intel SDM volume 1, 11.5). AArch64's own traps are optional, and
 * hardly any processor has them, so code checks for itself: once a program has unmasked one, all code is translated with
 * LiftRegion.float_traps, and then each instruction that may raise one begins without exception flags, and ends by looking
 * at those it has raised. Where one of them is unmasked, its destination gets back what it had, and it raises #XM.
 *
 * What differs from the processor: denormal operands do not show (lift/vector/state.c), results that are tiny but exact do
 * not underflow, PE, and OE and UE of other elements, may be set beside others, COMIS has written its flags, and memory that
 * VCVTPS2PH has written stays written. Before the first exception is unmasked all of it costs a test at LDMXCSR and its
 * like. */
#include "lift/internal.h"
#include "lift/vector/vex.h"

enum { VECTOR_FLOAT = 19 };

#define PACKED(name) [X86_##name##PS] = 1, [X86_##name##PD] = 1
#define EACH(name)   PACKED(name), [X86_##name##SS] = 1, [X86_##name##SD] = 1
#define BOTH(name)   EACH(name), EACH(V##name)
#define ORDERS(name) EACH(name##132), EACH(name##213), EACH(name##231)
#define WIDE(name)   [X86_##name] = 1, [X86_V##name] = 1

static const uint8_t may_raise[X86_MNEMONIC_COUNT] = {
    BOTH(ADD), BOTH(SUB), BOTH(MUL), BOTH(DIV), BOTH(MIN), BOTH(MAX), BOTH(SQRT), BOTH(CMP), BOTH(ROUND),
    PACKED(ADDSUB), PACKED(VADDSUB), PACKED(HADD), PACKED(VHADD), PACKED(HSUB), PACKED(VHSUB), PACKED(DP), PACKED(VDP),
    WIDE(COMISS), WIDE(COMISD), WIDE(UCOMISS), WIDE(UCOMISD),
    WIDE(CVTSI2SS), WIDE(CVTSI2SD), WIDE(CVTSS2SI), WIDE(CVTSD2SI), WIDE(CVTTSS2SI), WIDE(CVTTSD2SI), WIDE(CVTSS2SD),
    WIDE(CVTSD2SS), WIDE(CVTPS2PD), WIDE(CVTPD2PS), WIDE(CVTDQ2PS), WIDE(CVTPS2DQ), WIDE(CVTTPS2DQ), WIDE(CVTPD2DQ),
    WIDE(CVTTPD2DQ), [X86_CVTPI2PS] = 1, [X86_CVTPS2PI] = 1, [X86_CVTTPS2PI] = 1, [X86_CVTPD2PI] = 1,
    [X86_CVTTPD2PI] = 1, [X86_VCVTPS2PH] = 1, [X86_VCVTPH2PS] = 1,
    ORDERS(VFMADD), ORDERS(VFMSUB), ORDERS(VFNMADD), ORDERS(VFNMSUB),
    PACKED(VFMADDSUB132), PACKED(VFMADDSUB213), PACKED(VFMADDSUB231),
    PACKED(VFMSUBADD132), PACKED(VFMSUBADD213), PACKED(VFMSUBADD231),
};

bool lift_sse_may_trap(const X86Insn *insn) { return may_raise[insn->mnemonic]; }

static bool writes(const X86Insn *insn, X86OperandKind kind) {
  return insn->operands[0].kind == kind && insn->operands[0].access & X86_ACCESS_W;
}

/* VEX forms write all of their destination: the part of it that is not in its XMM register. */
static bool writes_upper(const X86Insn *insn) {
  return lift_rows[insn->mnemonic].extended && writes(insn, X86_OPERAND_XMM);
}

/* No exception that is unmasked now stands in FPSR: LDMXCSR and every way into code clear it. */
void lift_sse_trap_begin(Lift *l, const X86Insn *insn) {
  unsigned d = insn->operands[0].reg;
  if (writes(insn, X86_OPERAND_XMM)) ir_store_state_vector(&l->b, 16, lift_xmm(d), offsetof(GuestCpu, kept));
  if (writes_upper(insn)) ir_store_state_vector(&l->b, 16, ymm_upper(l, d), offsetof(GuestCpu, kept_upper));
  if (writes(insn, X86_OPERAND_GPR)) ir_store_state(&l->b, 8, lift_gpr(d), offsetof(GuestCpu, kept_register));
  ir_store_state(&l->b, 4, IR_ZERO, offsetof(GuestCpu, float_raised));
}

/* To where lift_raise() leaves it. */
static void restore_upper(Lift *l, unsigned number) {
  bool in_home = l->uppers.dirty >> number & 1;
  IrVec value = in_home ? ymm_home(number) : ir_vector_temp(&l->b);
  ir_load_state_vector(&l->b, 16, value, offsetof(GuestCpu, kept_upper));
  if (!in_home) ir_store_state_vector(&l->b, 16, value, ymm_upper_offset(number));
}

static void raise_float(Lift *l, const X86Insn *insn) {
  unsigned d = insn->operands[0].reg;
  if (writes(insn, X86_OPERAND_XMM)) ir_load_state_vector(&l->b, 16, lift_xmm(d), offsetof(GuestCpu, kept));
  if (writes_upper(insn)) restore_upper(l, d);
  if (writes(insn, X86_OPERAND_GPR)) ir_load_state(&l->b, 8, lift_gpr(d), offsetof(GuestCpu, kept_register));
  lift_raise(l, VECTOR_FLOAT);
}

void lift_sse_trap_end(Lift *l, const X86Insn *insn) {
  IrReg status = ir_temp(&l->b), other = ir_temp(&l->b);
  IrLabel raises = ir_label(&l->b);
  ir_emit(&l->b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_load_state(&l->b, 4, other, offsetof(GuestCpu, float_raised));
  ir_rrr(&l->b, IR_ORR, 4, status, status, other);
  ir_load_state(&l->b, 4, other, offsetof(GuestCpu, float_unmasked));
  ir_rrr(&l->b, IR_AND, 4, status, status, other);
  ir_cbnz(&l->b, 4, status, raises);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, raises);
  raise_float(l, insn);
  ir_cold_end(&l->b);
}

void lift_sse_mxcsr_loaded(Lift *l) {
  enum { MASKS = 0x1f80 };
  if (l->region->float_traps) return;
  lift_flags_canonical(l, l->live_flags);
  IrReg open = ir_temp(&l->b);
  IrLabel unmasked = ir_label(&l->b);
  ir_load_state(&l->b, 4, open, offsetof(GuestCpu, mxcsr));
  ir_logic_imm(&l->b, IR_EOR, 4, open, open, MASKS);
  ir_logic_imm(&l->b, IR_AND, 4, open, open, MASKS);
  ir_cbnz(&l->b, 4, open, unmasked);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, unmasked);
  lift_raise_at(l, LIFT_FLOAT_TRAPS, l->next_pc);
  ir_cold_end(&l->b);
}
