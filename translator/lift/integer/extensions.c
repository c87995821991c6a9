/* BMI1, BMI2, ADX, RDRAND, RDSEED, RDPID: general registers only, encoded with VEX where they have three operands.
 *
 * They are executed whatever level CPUID offers, as a processor does whose hypervisor hides a feature. */
#include "lift/internal.h"

/* 1 where `value` is zero, else 0; NZCV is kept. IR_NO_REG where nobody reads CF. */
static IrReg carry_if_zero(Lift *l, unsigned size, IrReg value) {
  if (!(l->live_flags & X86_F_CF)) return IR_NO_REG;
  IrReg carry = ir_temp(&l->b);
  ir_rr(&l->b, IR_CLZ, size, carry, value);
  ir_lsr_imm(&l->b, size, carry, carry, size == 8 ? 6 : 5);
  return carry;
}

void lift_andn(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg m = lift_read(l, insn, 2), n = lift_read(l, insn, 1), d = lift_gpr(insn->operands[0].reg);
  ir_rrr(&l->b, IR_BIC, size, d, m, n);
  lift_flags_logic(l, size, d);
}

/* BLSR, BLSMSK, BLSI: x & (x - 1), x ^ (x - 1), x & -x. argument: 0, 1, 2. CF tells of a source of zero, BLSI's of
 * another. */
void lift_lowest_bit(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { RESET, MASK, ISOLATE };
  unsigned size = insn->operands[0].size;
  IrReg value = lift_read(l, insn, 1), other = ir_temp(&l->b), d = lift_gpr(insn->operands[0].reg);
  IrReg carry = carry_if_zero(l, size, value);
  if (argument == ISOLATE && carry.id != IR_NONE) ir_logic_imm(&l->b, IR_EOR, 4, carry, carry, 1);
  if (argument == ISOLATE) ir_rrr(&l->b, IR_SUB, size, other, IR_ZERO, value);
  else ir_add_imm(&l->b, size, other, value, -1);
  ir_rrr(&l->b, argument == MASK ? IR_EOR : IR_AND, size, d, value, other);
  lift_flags_result(l, size, d, carry, IR_NO_REG);
}

/* `value` without its bits from `count` (0-255) on. NZCV := count compared with the number of bits. */
static IrReg low_bits(Lift *l, unsigned size, IrReg value, IrReg count) {
  IrReg ones = ir_temp(&l->b), low = ir_temp(&l->b);
  ir_const(&l->b, ones, UINT64_MAX);
  ir_rrr(&l->b, IR_LSLV, size, ones, ones, count);
  ir_rrr(&l->b, IR_BIC, size, low, value, ones);
  ir_emit(&l->b, IR_SUBSI, 4, A64_REG_ZERO, count.id, IR_NONE, (int64_t)(size * 8) << 10);
  ir_csel(&l->b, IR_CSEL, size, low, low, value, A64_CC);
  return low;
}

void lift_bzhi(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg value = lift_read(l, insn, 1), count = ir_temp(&l->b), carry = IR_NO_REG;
  ir_ubfx(&l->b, 4, count, lift_gpr(insn->operands[2].reg), 0, 8);
  IrReg low = low_bits(l, size, value, count);
  if (l->live_flags & X86_F_CF) {
    carry = ir_temp(&l->b);
    ir_cset(&l->b, 4, carry, A64_CS);
  }
  lift_write_register(l, &insn->operands[0], low);
  lift_flags_result(l, size, low, carry, IR_NO_REG);
}

/* BEXTR: from bit control[7:0] on, control[15:8] bits. */
void lift_bextr(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg control = lift_gpr(insn->operands[2].reg), value = lift_read(l, insn, 1);
  IrReg start = ir_temp(&l->b), count = ir_temp(&l->b), shifted = ir_temp(&l->b);
  ir_ubfx(&l->b, 4, start, control, 0, 8);
  ir_ubfx(&l->b, 4, count, control, 8, 8);
  ir_rrr(&l->b, IR_LSRV, size, shifted, value, start);
  ir_emit(&l->b, IR_SUBSI, 4, A64_REG_ZERO, start.id, IR_NONE, (int64_t)(size * 8) << 10);
  ir_csel(&l->b, IR_CSEL, size, shifted, shifted, IR_ZERO, A64_CC);
  IrReg low = low_bits(l, size, shifted, count);
  lift_write_register(l, &insn->operands[0], low);
  lift_flags_logic(l, size, low);
}

/* The helper takes value and mask in scratch[0] and [1] and leaves the result in [0]. argument: the helper. */
void lift_bit_deposit(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  IrReg mask = lift_read(l, insn, 2), narrow = ir_temp(&l->b), result = ir_temp(&l->b);
  ir_mov(&l->b, size, narrow, mask);
  ir_store_state(&l->b, 8, lift_read(l, insn, 1), offsetof(GuestCpu, scratch[0]));
  ir_store_state(&l->b, 8, narrow, offsetof(GuestCpu, scratch[1]));
  lift_plain_helper_imm(l, (LiftHelper)argument, 0);
  ir_load_state(&l->b, size, result, offsetof(GuestCpu, scratch[0]));
  lift_write_register(l, &insn->operands[0], result);
}

/* MULX: RDX times the source; where both destinations are one register it gets the upper half. */
void lift_mulx(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg high = lift_gpr(insn->operands[0].reg), low = lift_gpr(insn->operands[1].reg);
  IrReg m = lift_read(l, insn, 2), product = ir_temp(&l->b);
  if (size == 4) {
    ir_rrr(&l->b, IR_UMULL, 8, product, lift_gpr(X86_RDX), m);
    ir_mov(&l->b, 4, low, product);
    ir_lsr_imm(&l->b, 8, high, product, 32);
    return;
  }
  ir_rrr(&l->b, IR_UMULH, 8, product, lift_gpr(X86_RDX), m);
  if (low.id != high.id) ir_rrrr(&l->b, IR_MADD, 8, low, lift_gpr(X86_RDX), m, IR_ZERO);
  ir_mov(&l->b, 8, high, product);
}

/* SHLX, SARX, SHRX: both sides take the count modulo the size. argument: the operation. */
void lift_shift_by(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg value = lift_read(l, insn, 1);
  ir_rrr(&l->b, (IrOp)argument, insn->operands[0].size, lift_gpr(insn->operands[0].reg), value,
         lift_gpr(insn->operands[2].reg));
}

void lift_rorx(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg value = lift_read(l, insn, 1);
  ir_ror_imm(&l->b, size, lift_gpr(insn->operands[0].reg), value, (unsigned)insn->imm & (size * 8 - 1));
}

/* n + m + carry, and the carry out of it as 0 or 1; NZCV is kept. */
static IrReg add_by_hand(Lift *l, unsigned size, IrReg n, IrReg m, IrReg carry, IrReg *ret_carry) {
  IrReg sum = ir_temp(&l->b), either = ir_temp(&l->b), both = ir_temp(&l->b);
  ir_rrr(&l->b, IR_ADD, size, sum, n, m);
  ir_rrr(&l->b, IR_ADD, size, sum, sum, carry);
  ir_rrr(&l->b, IR_ORR, size, either, n, m);
  ir_rrr(&l->b, IR_BIC, size, either, either, sum);
  ir_rrr(&l->b, IR_AND, size, both, n, m);
  ir_rrr(&l->b, IR_ORR, size, both, both, either);
  ir_lsr_imm(&l->b, size, both, both, size * 8 - 1);
  *ret_carry = both;
  return sum;
}

/* ADCS in a form where C is CF, with the other flags put back from before: RMIF inserts those in its mask. */
static void put_flags(Lift *l, IrReg nzcv, unsigned rotate, unsigned mask) {
  ir_emit(&l->b, IR_RMIF, 8, IR_NONE, nzcv.id, IR_NONE, (int64_t)rotate << 15 | mask);
}

static IrReg flags_now(Lift *l) {
  IrReg nzcv = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  return nzcv;
}

enum { NZCV_AT = 28, C_AT = 29, V_AT = 28, MASK_N = 8, MASK_Z = 4, MASK_C = 2, MASK_V = 1 };

/* Whether C may be exchanged for V and back: then CF has to be C, not its inverse. */
static bool can_swap_flags(Lift *l) {
  if (!(l->features & A64_HAS_FLAGM) || l->form == FLAGS_FCMP) return false;
  if (l->form == FLAGS_CANONICAL) ir_emit(&l->b, IR_CFINV, 4, IR_NONE, IR_NONE, IR_NONE, 0);
  l->form = FLAGS_DIRECT;
  return true;
}

/* ADCX: only CF changes. Where nobody reads the others it is ADC. */
void lift_adcx(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg m = lift_read(l, insn, 1), n = lift_gpr(insn->operands[0].reg), carry;
  if (!(l->live_flags & ~(X86_F_CF | X86_F_DF))) {
    lift_write_register(l, &insn->operands[0], lift_add_carry(l, size, n, m, false));
  } else if (can_swap_flags(l)) {
    IrReg before = flags_now(l);
    ir_rrr(&l->b, IR_ADCS, size, n, n, m);
    put_flags(l, before, NZCV_AT, MASK_N | MASK_Z | MASK_V);
  } else {
    IrReg sum = add_by_hand(l, size, n, m, lift_carry(l), &carry);
    lift_write_register(l, &insn->operands[0], sum);
    lift_flags_set_carry(l, carry, IR_NO_REG);
  }
}

/* ADOX: the same with OF. */
void lift_adox(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { OVERFLOW = 0 };
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg m = lift_read(l, insn, 1), n = lift_gpr(insn->operands[0].reg), carry;
  if (can_swap_flags(l)) {
    IrReg before = flags_now(l);
    put_flags(l, before, V_AT - 1, MASK_C); /* V as C */
    ir_rrr(&l->b, IR_ADCS, size, n, n, m);
    put_flags(l, flags_now(l), C_AT, MASK_V); /* C as V */
    put_flags(l, before, NZCV_AT, MASK_N | MASK_Z | MASK_C);
    return;
  }
  IrReg sum = add_by_hand(l, size, n, m, lift_condition_value(l, OVERFLOW), &carry);
  lift_write_register(l, &insn->operands[0], sum);
  lift_flags_set_overflow(l, carry);
}

/* RDRAND, RDSEED: never without a number (CF). */
void lift_random(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrReg value = ir_temp(&l->b);
  lift_plain_helper_imm(l, LIFT_HELPER_RANDOM, 0);
  ir_load_state(&l->b, 8, value, offsetof(GuestCpu, scratch[0]));
  lift_write_register(l, &insn->operands[0], value);
  lift_flags_nzcv(l, IR_ZERO); /* C clear: CF set */
}

void lift_rdpid(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  lift_plain_helper_imm(l, LIFT_HELPER_PROCESSOR, 0);
  ir_load_state(&l->b, 8, lift_gpr(insn->operands[0].reg), offsetof(GuestCpu, scratch[0]));
}
