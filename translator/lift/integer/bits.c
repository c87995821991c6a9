/* Bit tests and scans, POPCNT and the BMI counts. */
#include "lift/internal.h"

typedef enum BitOp { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT } BitOp;

static void change_bit(Lift *l, BitOp op, unsigned size, IrReg d, IrReg value, IrReg mask) {
  static const uint16_t ops[] = {[BIT_SET] = IR_ORR, [BIT_RESET] = IR_BIC, [BIT_COMPLEMENT] = IR_EOR};
  ir_rrr(&l->b, (IrOp)ops[op], size < 4 ? 4 : size, d, value, mask);
}

/* The byte address and bit number of a bit string's element: a register index reaches beyond the operand. */
static IrReg bit_string_address(Lift *l, const X86Insn *insn, unsigned size, IrReg index) {
  IrReg base = lift_address_register(l, insn), offset = ir_temp(&l->b), address = ir_temp(&l->b);
  unsigned log2 = (unsigned)__builtin_ctz(size);
  IrReg extended = index;
  if (size < 8) {
    extended = ir_temp(&l->b);
    ir_sbfx(&l->b, 8, extended, index, 0, size * 8);
  }
  ir_asr_imm(&l->b, 8, offset, extended, 3 + log2);
  ir_rrr_shift(&l->b, IR_ADD, 8, address, base, offset, 0, log2);
  return address;
}

static IrReg bit_mask(Lift *l, unsigned size, IrReg number) {
  IrReg one = ir_temp(&l->b), mask = ir_temp(&l->b);
  ir_const(&l->b, one, 1);
  ir_rrr(&l->b, IR_LSLV, size == 8 ? 8 : 4, mask, one, number);
  return mask;
}

/* CF := bit `number` (a register, modulo the size, or a constant) of value. */
static void carry_from_bit(Lift *l, unsigned size, IrReg value, IrReg number, int constant) {
  if (!(l->live_flags & X86_F_CF)) return;
  IrReg bit = ir_temp(&l->b);
  if (constant >= 0) {
    ir_ubfx(&l->b, 8, bit, value, (unsigned)constant, 1);
  } else {
    ir_rrr(&l->b, IR_LSRV, size == 8 ? 8 : 4, bit, value, number);
    ir_logic_imm(&l->b, IR_AND, 4, bit, bit, 1);
  }
  lift_flags_set_carry(l, bit, IR_NO_REG);
}

/* BTS, BTR, BTC of a constant bit of a whole register. */
static void change_constant_bit(Lift *l, BitOp op, unsigned size, IrReg home, unsigned number) {
  uint64_t mask = UINT64_C(1) << number;
  if (op == BIT_RESET) mask = ~mask;
  ir_logic_imm(&l->b, op == BIT_SET ? IR_ORR : op == BIT_RESET ? IR_AND : IR_EOR, size, home, home,
               size == 4 ? (uint32_t)mask : mask);
}

/* Bit `number` of `value`, read by nothing but the jump on CF behind BT. */
static bool fuse_bit_test(Lift *l, IrReg value, unsigned number) {
  const RegionInsn *next = region_next(l->region, l->index);
  if (!next || next->insn.mnemonic != X86_JCC || next->live_after || next->insn.condition >> 1 != 1) return false;
  l->fused = (LiftFused){.kind = FUSED_BIT, .bit = (uint8_t)number, .reg = value};
  return true;
}

static void bit_register(Lift *l, const X86Insn *insn, BitOp op, unsigned size) {
  IrReg home = lift_gpr(insn->operands[0].reg);
  bool constant = insn->operands[1].kind == X86_OPERAND_IMM;
  unsigned fixed = (unsigned)insn->imm & (size * 8 - 1);
  if (op == BIT_TEST && constant && fuse_bit_test(l, home, fixed)) return;
  IrReg number = IR_NO_REG;
  if (!constant) {
    number = ir_temp(&l->b);
    if (op == BIT_TEST && size >= 4 && fuse_bit_test(l, number, 0)) {
      ir_rrr(&l->b, IR_LSRV, size, number, home, lift_gpr(insn->operands[1].reg)); /* modulo the size */
      return;
    }
    ir_logic_imm(&l->b, IR_AND, 4, number, lift_gpr(insn->operands[1].reg), size * 8 - 1);
  }
  IrReg before = op == BIT_TEST || !(l->live_flags & X86_F_CF) ? home : lift_copy(l, home);
  if (op != BIT_TEST && constant && size >= 4) {
    change_constant_bit(l, op, size, home, fixed);
  } else if (op != BIT_TEST) {
    IrReg mask;
    if (constant) {
      mask = ir_temp(&l->b);
      ir_const(&l->b, mask, UINT64_C(1) << fixed);
    } else {
      mask = bit_mask(l, size, number);
    }
    IrReg result = size < 4 ? ir_temp(&l->b) : home;
    change_bit(l, op, size, result, home, mask);
    if (size < 4) lift_write_register(l, &insn->operands[0], result);
  }
  carry_from_bit(l, size, before, number, constant ? (int)fixed : -1);
}

static void bit_memory(Lift *l, const X86Insn *insn, BitOp op, unsigned size) {
  bool constant = insn->operands[1].kind == X86_OPERAND_IMM;
  unsigned fixed = (unsigned)insn->imm & (size * 8 - 1);
  IrReg number = IR_NO_REG, address, mask, value = ir_temp(&l->b);
  if (constant) {
    address = lift_address_register(l, insn);
    mask = ir_temp(&l->b);
    ir_const(&l->b, mask, UINT64_C(1) << fixed);
  } else {
    IrReg index = lift_gpr(insn->operands[1].reg);
    address = bit_string_address(l, insn, size, index);
    number = ir_temp(&l->b);
    ir_logic_imm(&l->b, IR_AND, 4, number, index, size * 8 - 1);
    mask = bit_mask(l, size, number);
  }
  if (insn->prefixes & X86_PREFIX_LOCK && op != BIT_TEST) {
    static const uint16_t atomics[] = {
        [BIT_SET] = IR_ATOMIC_OR, [BIT_RESET] = IR_ATOMIC_CLEAR, [BIT_COMPLEMENT] = IR_ATOMIC_XOR};
    ir_atomic(&l->b, (IrOp)atomics[op], size, value, address, mask);
  } else {
    ir_load(&l->b, size, IR_EXTEND_ZERO, value, lift_address_at(l, address, size));
    if (op != BIT_TEST) {
      IrReg result = ir_temp(&l->b);
      change_bit(l, op, size, result, value, mask);
      ir_store(&l->b, size, result, lift_address_at(l, address, size));
    }
  }
  carry_from_bit(l, size, value, number, constant ? (int)fixed : -1);
}

void lift_bit_test(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  if (lift_is_memory(insn, 0)) bit_memory(l, insn, (BitOp)argument, size);
  else bit_register(l, insn, (BitOp)argument, size);
}

/* --- Scans and counts -------------------------------------------------------------------------------- */

/* The number of zeros below the lowest (TZCNT) or above the highest set bit; `size` * 8 for none. */
static IrReg count_zeros(Lift *l, unsigned size, IrReg value, bool trailing) {
  unsigned width = size == 8 ? 8 : 4;
  IrReg count = ir_temp(&l->b);
  if (trailing) {
    IrReg reversed = ir_temp(&l->b);
    if (size == 2) { /* a stop bit above the operand */
      ir_logic_imm(&l->b, IR_ORR, 4, reversed, value, 0x10000);
      value = reversed;
    }
    ir_rr(&l->b, IR_RBIT, width, reversed, value);
    ir_rr(&l->b, IR_CLZ, width, count, reversed);
    return count;
  }
  ir_rr(&l->b, IR_CLZ, width, count, value);
  if (size == 2) ir_add_imm(&l->b, 4, count, count, -16);
  return count;
}

/* BSF and BSR leave the destination alone when the source is zero (AMD APM; Intel documents it as undefined
 * and does the same). ZF tells. */
void lift_bit_scan(Lift *l, const X86Insn *insn, uint32_t reverse) {
  unsigned size = insn->operands[0].size;
  IrReg value = lift_copy(l, lift_read(l, insn, 1));
  IrLabel none = ir_label(&l->b);
  IrReg count = count_zeros(l, size, value, !reverse);
  if (reverse) ir_logic_imm(&l->b, IR_EOR, 4, count, count, size * 8 - 1); /* highest bit's number */
  ir_cbz(&l->b, size == 8 ? 8 : 4, value, none);
  lift_write_register(l, &insn->operands[0], count);
  ir_bind(&l->b, none);
  lift_flags_logic(l, size, value);
}

/* TZCNT, LZCNT: CF := source is zero, ZF := count is zero. */
void lift_zero_count(Lift *l, const X86Insn *insn, uint32_t trailing) {
  unsigned size = insn->operands[0].size;
  IrReg value = lift_read(l, insn, 1);
  IrReg count = count_zeros(l, size, value, trailing);
  lift_write_register(l, &insn->operands[0], count);
  IrReg carry = IR_NO_REG;
  if (l->live_flags & X86_F_CF) {
    carry = ir_temp(&l->b); /* the count reaches the width: one bit beyond the index bits */
    ir_ubfx(&l->b, 4, carry, count, 3 + (unsigned)__builtin_ctz(size), 1);
  }
  lift_flags_result(l, size, count, carry, IR_NO_REG);
}

void lift_popcnt(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operands[0].size;
  IrReg value = lift_read(l, insn, 1), count = ir_temp(&l->b);
  if (size < 8 && insn->operands[1].kind == X86_OPERAND_GPR && size == 4) {
    IrReg low = ir_temp(&l->b);
    ir_mov(&l->b, 4, low, value);
    value = low;
  }
  IrVec v = ir_vector_temp(&l->b);
  ir_vr_raw(&l->b, IR_FMOV_DX, 8, v, value, 0);
  ir_vv(&l->b, IR_CNT_16B, v, v);
  ir_vv(&l->b, IR_ADDV_16B, v, v);
  ir_rv_raw(&l->b, IR_FMOV_XD, 8, count, v, 0);
  lift_write_register(l, &insn->operands[0], count);
  lift_flags_zero_carry(l, 4, count, IR_NO_REG);
}

/* --- Flag instructions ------------------------------------------------------------------------------- */

/* CLC, STC, CMC. */
void lift_carry_flag(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  if (!(l->live_flags & X86_F_CF)) return;
  IrReg carry = argument == 2 ? lift_carry(l) : ir_temp(&l->b);
  if (argument == 2) ir_logic_imm(&l->b, IR_EOR, 4, carry, carry, 1);
  else ir_const(&l->b, carry, argument);
  lift_flags_set_carry(l, carry, IR_NO_REG);
}

void lift_direction(Lift *l, const X86Insn *insn, uint32_t backward) {
  (void)insn;
  IrReg step = ir_temp(&l->b);
  ir_const(&l->b, step, backward ? UINT64_MAX : 1);
  ir_store_state(&l->b, 8, step, offsetof(GuestCpu, direction));
}
