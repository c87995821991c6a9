/* XSAVE and its kin: helpers move all of the extended state (x87/xsave.h); here vector registers and MXCSR are
 * synchronised for them. */
#include "lift/x87/x87.h"

enum { GENERAL_PROTECTION = 13, AREA_ALIGNMENT = 64 };

static size_t xmm_offset(unsigned number) { return offsetof(GuestCpu, xmm) + 16 * number; }

/* Flags become as an exception shows them. */
static void synchronise(Lift *l) {
  lift_flags_canonical(l, X86_F_STATUS);
  lift_uppers_forget(l);
  for (unsigned i = 0; i < 16; i++) ir_store_state_vector(&l->b, 16, lift_xmm(i), xmm_offset(i));
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_STMXCSR, 0);
}

/* Raises #GP if the last helper has found something wrong. */
static void check(Lift *l) {
  IrReg wrong = ir_temp(&l->b);
  ir_load_state(&l->b, 8, wrong, offsetof(GuestCpu, scratch[1]));
  lift_raise_if_not_zero(l, 8, wrong, GENERAL_PROTECTION);
}

/* The area's address, which has to be aligned; the kind for the helper in scratch[0]. */
static IrReg area(Lift *l, const X86Insn *insn, uint32_t kind) {
  IrReg base = lift_copy(l, lift_address_register(l, insn)), low = ir_temp(&l->b), what = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_AND, 8, low, base, AREA_ALIGNMENT - 1);
  lift_raise_if_not_zero(l, 8, low, GENERAL_PROTECTION);
  ir_const(&l->b, what, kind | (insn->operand_size == 8 ? GUEST_XSAVE_WIDE : 0));
  ir_store_state(&l->b, 8, what, offsetof(GuestCpu, scratch[0]));
  return base;
}

/* XSAVE, XSAVEOPT, XSAVEC. argument: GUEST_XSAVE_*. */
void lift_xsave(Lift *l, const X86Insn *insn, uint32_t kind) {
  synchronise(l);
  lift_plain_helper(l, LIFT_HELPER_XSAVE, area(l, insn, kind));
}

void lift_xrstor(Lift *l, const X86Insn *insn, uint32_t argument) {
  synchronise(l); /* components that are not restored come back */
  lift_plain_helper(l, LIFT_HELPER_XRSTOR, area(l, insn, 0));
  check(l);
  IrReg mxcsr = ir_temp(&l->b);
  ir_load_state(&l->b, 4, mxcsr, offsetof(GuestCpu, mxcsr));
  lift_plain_helper(l, LIFT_HELPER_SSE_LDMXCSR, mxcsr);
  for (unsigned i = 0; i < 16; i++) ir_load_state_vector(&l->b, 16, lift_xmm(i), xmm_offset(i));
  x87_forget(l, 0);
  lift_sse_block(l);
  lift_sse_mxcsr_loaded(l);
}

void lift_xgetbv(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg value = ir_temp(&l->b);
  synchronise(l);
  lift_plain_helper_imm(l, LIFT_HELPER_XGETBV, 0);
  check(l);
  ir_load_state(&l->b, 4, value, offsetof(GuestCpu, scratch[0]));
  ir_mov(&l->b, 4, lift_gpr(X86_RAX), value);
  ir_mov(&l->b, 4, lift_gpr(X86_RDX), IR_ZERO);
}
