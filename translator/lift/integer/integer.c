/* Integer arithmetic and logic: ADD to TEST, INC, DEC, NEG, NOT, and their locked forms.
 *
 * Register forms become one or two instructions. A TEST or CMP whose only reader is the conditional jump
 * right behind it is left to that jump (LiftFused). */
#include "lift/internal.h"

typedef enum Alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST } Alu;

static bool writes_destination(Alu op) { return op != ALU_CMP && op != ALU_TEST; }

static LiftSource source_operand(Lift *l, const X86Insn *insn, unsigned operand) {
  if (insn->operands[operand].kind == X86_OPERAND_IMM)
    return (LiftSource){.is_immediate = true, .immediate = insn->imm};
  return (LiftSource){.reg = lift_read_raw(l, insn, operand)};
}

/* The second operand as a register even when it is an immediate. */
static IrReg source_register(Lift *l, const X86Insn *insn, unsigned operand) {
  return lift_read_raw(l, insn, operand);
}

/* --- Fusing tests with the jump behind --------------------------------------------------------------- */

/* The conditional jump right behind this instruction when it is the only reader of its flags. */
static const X86Insn *only_reader(const Lift *l) {
  const RegionInsn *next = region_next(l->region, l->index);
  if (!next || next->insn.mnemonic != X86_JCC || next->live_after) return NULL;
  return &next->insn;
}

/* Condition pairs that ask for zero or for the sign once CF and OF are known to be 0. */
static bool asks_zero(unsigned condition) { return (condition >> 1) == 2 || (condition >> 1) == 3; }
static bool asks_sign(unsigned condition) { return (condition >> 1) == 4 || (condition >> 1) == 6; }

/* Whether 32 or 64 bits of the register are the value's own. */
static bool is_extended(const Lift *l, unsigned size, IrReg value) {
  if (size >= 4) return true;
  return value.id < A64_REG_EXIT0 &&
         (lift_known_zero_extended(l, value.id, size) || lift_known_sign_extended(l, value.id, size));
}

/* `value` is about to be tested (CF = OF = 0): leave it to the jump if that is all there is to it. */
static bool fuse_test(Lift *l, unsigned size, IrReg value) {
  const X86Insn *jump = only_reader(l);
  if (!jump) return false;
  if (asks_sign(jump->condition)) {
    l->fused = (LiftFused){.kind = FUSED_BIT, .bit = (uint8_t)(size * 8 - 1), .reg = value};
    return true;
  }
  if (!asks_zero(jump->condition) || !is_extended(l, size, value)) return false;
  l->fused = (LiftFused){.kind = FUSED_ZERO, .size = size < 4 ? 4 : (uint8_t)size, .reg = value};
  return true;
}

/* The same for the result of OR and XOR, which takes an instruction of its own to test; no flags are made then. */
static void fuse_result(Lift *l, Alu op, unsigned size, IrReg result) {
  if ((op == ALU_OR || op == ALU_XOR) && fuse_test(l, size, result)) l->live_flags = 0;
}

/* TEST with one bit. */
static bool fuse_bit(Lift *l, IrReg value, uint64_t mask) {
  const X86Insn *jump = only_reader(l);
  if (!jump || !asks_zero(jump->condition) || !mask || (mask & (mask - 1))) return false;
  l->fused = (LiftFused){
      .kind = FUSED_BIT, .bit = (uint8_t)__builtin_ctzll(mask), .even_if_clear = true, .reg = value};
  return true;
}

/* --- Four and eight bytes ---------------------------------------------------------------------------- */

static void alu_operate(Lift *l, Alu op, unsigned size, IrReg d, IrReg n, LiftSource source) {
  switch (op) {
  case ALU_ADD: lift_add(l, size, d, n, source); break;
  case ALU_SUB: lift_subtract(l, size, d, n, source); break;
  case ALU_CMP: lift_subtract(l, size, IR_ZERO, n, source); break;
  case ALU_AND: lift_logic(l, IR_AND, size, d, n, source); break;
  case ALU_OR: lift_logic(l, IR_ORR, size, d, n, source); break;
  case ALU_XOR: lift_logic(l, IR_EOR, size, d, n, source); break;
  case ALU_TEST: lift_logic(l, IR_AND, size, IR_ZERO, n, source); break;
  default: break;
  }
}

static bool same_register(const X86Insn *insn) {
  const X86Operand *o = insn->operands;
  return o[0].kind == X86_OPERAND_GPR && o[1].kind == X86_OPERAND_GPR && o[0].reg == o[1].reg;
}

/* XOR r, r and SUB r, r: zero whatever r was. */
static void zero_register(Lift *l, const X86Insn *insn) {
  IrReg zero = lift_gpr(insn->operands[0].reg);
  ir_const(&l->b, zero, 0);
  if (l->live_flags & LIVE_NZCV) {
    ir_rrr(&l->b, IR_SUBS, 4, IR_ZERO, zero, zero);
    l->form = FLAGS_CANONICAL;
  }
  if (l->live_flags & LIVE_PARITY) {
    ir_mov(&l->b, 4, LIFT_FLAG_RESULT, IR_ZERO);
    ir_mov(&l->b, 4, LIFT_FLAG_AUX, IR_ZERO);
  }
}

static bool try_fuse(Lift *l, Alu op, unsigned size, IrReg n, LiftSource source) {
  if (op == ALU_CMP && source.is_immediate && source.immediate == 0) return fuse_test(l, size, n);
  if (op != ALU_TEST) return false;
  if (!source.is_immediate) return source.reg.id == n.id && fuse_test(l, size, n);
  uint64_t mask = size == 8 ? (uint64_t)source.immediate : (uint64_t)source.immediate & ((UINT64_C(1) << size * 8) - 1);
  return fuse_bit(l, n, mask);
}

static void alu_wide(Lift *l, const X86Insn *insn, Alu op) {
  unsigned size = insn->operands[0].size;
  bool memory = lift_is_memory(insn, 0);
  IrAddress address = {0};
  IrReg n, d;
  if (memory) {
    address = lift_address(l, insn, size);
    n = d = ir_temp(&l->b);
    ir_load(&l->b, size, IR_EXTEND_ZERO, n, address);
    if (writes_destination(op)) d = ir_temp(&l->b);
  } else {
    n = d = lift_gpr(insn->operands[0].reg);
  }
  LiftSource source = source_operand(l, insn, 1);
  if (try_fuse(l, op, size, n, source)) return;
  fuse_result(l, op, size, d);
  alu_operate(l, op, size, d, n, source);
  if (memory && writes_destination(op)) ir_store(&l->b, size, d, address);
}

/* --- One and two bytes ------------------------------------------------------------------------------- */

/* Whether a register among the operands is known to be sign-extended, and no other is but by an instruction more. */
static bool signs_are_known(const Lift *l, const X86Insn *insn) {
  bool any = false;
  for (unsigned i = 0; i < 2; i++) {
    const X86Operand *o = &insn->operands[i];
    if (o->kind == X86_OPERAND_MEM || o->kind == X86_OPERAND_IMM) continue;
    if (o->kind != X86_OPERAND_GPR || !lift_known_sign_extended(l, o->reg, o->size)) return false;
    any = true;
  }
  return any;
}

/* An operand sign-extended to 32 bits. */
static IrReg read_word_signed(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  if (o->kind == X86_OPERAND_GPR && lift_known_sign_extended(l, o->reg, o->size)) return lift_gpr(o->reg);
  return lift_read_signed(l, insn, operand);
}

static void compare_signed(Lift *l, const X86Insn *insn) {
  IrReg n = read_word_signed(l, insn, 0);
  LiftSource source = {.is_immediate = true, .immediate = insn->imm};
  if (insn->operands[1].kind != X86_OPERAND_IMM) source = (LiftSource){.reg = read_word_signed(l, insn, 1)};
  lift_subtract(l, 4, IR_ZERO, n, source);
}

/* A comparison of which only equality or the unsigned order is asked needs no shifting up: it comes out the same of
 * values that are both zero-extended, or both sign-extended. */
static bool compare_zero_extended(Lift *l, const X86Insn *insn) {
  if (l->live_flags & ~(X86_F_ZF | X86_F_CF)) return false;
  if (signs_are_known(l, insn)) return compare_signed(l, insn), true;
  IrReg n = lift_read(l, insn, 0);
  unsigned bits = insn->operands[0].size * 8u;
  LiftSource source = {.is_immediate = true, .immediate = insn->imm & ((INT64_C(1) << bits) - 1)};
  if (insn->operands[1].kind != X86_OPERAND_IMM) source = (LiftSource){.reg = lift_read(l, insn, 1)};
  lift_subtract(l, 4, IR_ZERO, n, source);
  return true;
}

/* And one of which only the signed order or equality is asked is done on sign-extended values. */
static bool compare_sign_extended(Lift *l, const X86Insn *insn) {
  if (l->live_flags & ~(X86_F_ZF | X86_F_LT)) return false;
  compare_signed(l, insn);
  return true;
}

static IrReg logic_narrow(Lift *l, IrOp op, unsigned size, IrReg n, IrReg m) {
  IrReg result = ir_temp(&l->b);
  ir_rrr(&l->b, op, 4, result, n, m);
  lift_flags_logic(l, size, result);
  return result;
}

/* TEST with an immediate whose top bit is clear: the sign is 0, as in the 32-bit AND. */
static bool test_narrow_immediate(Lift *l, const X86Insn *insn, IrReg n, unsigned size) {
  if (insn->operands[1].kind != X86_OPERAND_IMM || (insn->imm >> (size * 8 - 1) & 1)) return false;
  lift_logic(l, IR_AND, 4, IR_ZERO, n, (LiftSource){.is_immediate = true, .immediate = insn->imm});
  return true;
}

static bool test_narrow(Lift *l, const X86Insn *insn, unsigned size) {
  IrReg n = lift_read_raw(l, insn, 0);
  bool immediate = insn->operands[1].kind == X86_OPERAND_IMM;
  if (immediate) {
    LiftSource source = {.is_immediate = true, .immediate = insn->imm};
    return try_fuse(l, ALU_TEST, size, n, source) || test_narrow_immediate(l, insn, n, size) ||
           (logic_narrow(l, IR_AND, size, n, source_register(l, insn, 1)), true);
  }
  if (same_register(insn)) {
    if (!fuse_test(l, size, n)) lift_flags_logic(l, size, n);
    return true;
  }
  logic_narrow(l, IR_AND, size, n, source_register(l, insn, 1));
  return true;
}

static IrReg alu_narrow_operate(Lift *l, Alu op, unsigned size, IrReg n, IrReg m) {
  switch (op) {
  case ALU_ADD: return lift_add_narrow(l, size, n, m);
  case ALU_SUB: return lift_subtract_narrow(l, size, n, m);
  case ALU_CMP: lift_compare_narrow(l, size, n, m); return IR_NO_REG;
  case ALU_OR: return logic_narrow(l, IR_ORR, size, n, m);
  case ALU_XOR: return logic_narrow(l, IR_EOR, size, n, m);
  default: return logic_narrow(l, IR_AND, size, n, m);
  }
}

/* CMP with zero, for a jump on equality or the sign. */
static bool fuse_narrow_zero(Lift *l, const X86Insn *insn, unsigned size) {
  const X86Insn *jump = only_reader(l);
  if (!jump || insn->operands[1].kind != X86_OPERAND_IMM || insn->imm != 0) return false;
  if (asks_sign(jump->condition)) return fuse_test(l, size, lift_read_raw(l, insn, 0));
  if (!asks_zero(jump->condition)) return false;
  l->fused = (LiftFused){.kind = FUSED_ZERO, .size = 4, .reg = lift_read(l, insn, 0)};
  return true;
}

/* A second operand that has nothing above its own bits, unless it takes an instruction to make it so. */
static bool read_bare(Lift *l, const X86Insn *insn, IrReg *ret_value) {
  const X86Operand *o = &insn->operands[1];
  if (o->kind != X86_OPERAND_MEM && (o->kind != X86_OPERAND_GPR || !lift_known_zero_extended(l, o->reg, o->size)))
    return false;
  *ret_value = lift_read(l, insn, 1);
  return true;
}

/* AND, OR and XOR of a register's low bytes that leave the others as they are. */
static bool logic_in_place(Lift *l, const X86Insn *insn, Alu op, unsigned size) {
  if (insn->operands[0].kind != X86_OPERAND_GPR) return false;
  IrReg home = lift_gpr(insn->operands[0].reg), m;
  uint64_t mask = (UINT64_C(1) << size * 8) - 1, immediate = (uint64_t)insn->imm & mask;
  IrOp operation = op == ALU_AND ? IR_AND : op == ALU_OR ? IR_ORR : IR_EOR;
  if (insn->operands[1].kind == X86_OPERAND_IMM) {
    ir_logic_imm(&l->b, operation, 8, home, home, op == ALU_AND ? immediate | ~mask : immediate);
  } else {
    if (op == ALU_AND || !read_bare(l, insn, &m)) return false;
    ir_rrr(&l->b, operation, 8, home, home, m);
  }
  lift_known_merged(l, insn->operands[0].reg, size);
  fuse_result(l, op, size, home);
  lift_flags_logic(l, size, home);
  return true;
}

static void alu_narrow(Lift *l, const X86Insn *insn, Alu op) {
  unsigned size = insn->operands[0].size;
  if ((op == ALU_AND || op == ALU_OR || op == ALU_XOR) && logic_in_place(l, insn, op, size)) return;
  if (op == ALU_CMP && fuse_narrow_zero(l, insn, size)) return;
  if (op == ALU_CMP && (compare_zero_extended(l, insn) || compare_sign_extended(l, insn))) return;
  if (op == ALU_TEST && test_narrow(l, insn, size)) return;
  IrAddress address = {0};
  IrReg n;
  if (lift_is_memory(insn, 0)) {
    address = lift_address(l, insn, size);
    n = ir_temp(&l->b);
    ir_load(&l->b, size, IR_EXTEND_ZERO, n, address);
  } else {
    n = lift_read_raw(l, insn, 0);
  }
  IrReg result = alu_narrow_operate(l, op, size, n, source_register(l, insn, 1));
  if (!writes_destination(op)) return;
  if (lift_is_memory(insn, 0)) ir_store(&l->b, size, result, address);
  else lift_write_register(l, &insn->operands[0], result);
}

/* --- With carry -------------------------------------------------------------------------------------- */

/* A store that faults must leave CF for the instruction's second try, so to memory the sum is made once
 * without flags before the store, and once with them after. */
static void alu_carry(Lift *l, const X86Insn *insn, bool subtract) {
  unsigned size = insn->operands[0].size;
  if (subtract && same_register(insn) && !(l->live_flags & ~X86_F_CF)) { /* 0 - CF, which stays as it is */
    lift_write_register(l, &insn->operands[0], lift_carry_mask(l, size < 8 ? 4 : 8));
    return;
  }
  if (!lift_is_memory(insn, 0)) {
    IrReg n = lift_read_raw(l, insn, 0), m = source_register(l, insn, 1);
    lift_write_register(l, &insn->operands[0], lift_add_carry(l, size, n, m, subtract));
    return;
  }
  IrAddress address = lift_address(l, insn, size);
  IrReg n = ir_temp(&l->b), m = source_register(l, insn, 1), sum = ir_temp(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, n, address);
  IrReg carry = lift_carry(l);
  unsigned width = size < 4 ? 4 : size;
  ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, width, sum, n, m);
  ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, width, sum, sum, carry);
  ir_store(&l->b, size, sum, address);
  lift_add_carry(l, size, n, m, subtract);
}

/* --- Locked ------------------------------------------------------------------------------------------ */

/* The flags of `old op m`, the result thrown away. */
static void flags_of(Lift *l, Alu op, unsigned size, IrReg old, IrReg m) {
  if (!(l->live_flags & X86_F_STATUS) && !(l->live_flags & X86_F_LT)) return;
  if (size < 4) {
    alu_narrow_operate(l, op, size, old, m);
    return;
  }
  IrReg result = ir_temp(&l->b);
  alu_operate(l, op, size, result, old, (LiftSource){.reg = m});
}

/* [address] := f([address]) by compare and swap, for what has no atomic instruction of its own. The
 * function computes the new value from `old`; flags are made afterwards from the final old value. */
static IrReg compare_and_swap_loop(Lift *l, unsigned size, IrReg address,
                                   IrReg (*update)(Lift *, unsigned, IrReg, IrReg), IrReg m) {
  IrLabel again = ir_label(&l->b);
  IrReg old = ir_temp(&l->b), seen = ir_temp(&l->b), differs = ir_temp(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, old, lift_address_at(l, address, size));
  ir_bind(&l->b, again);
  IrReg fresh = update(l, size, old, m);
  ir_mov(&l->b, 8, seen, old);
  ir_atomic(&l->b, IR_ATOMIC_CAS, size, seen, address, fresh);
  ir_rrr(&l->b, IR_EOR, 8, differs, seen, old);
  ir_mov(&l->b, 8, old, seen);
  ir_cbnz(&l->b, 8, differs, again);
  ir_loop_end(&l->b, again);
  /* `old` equals what was replaced. */
  return old;
}

static IrReg update_negate(Lift *l, unsigned size, IrReg old, IrReg m) {
  IrReg fresh = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUB, size < 4 ? 4 : size, fresh, IR_ZERO, old);
  (void)m;
  return fresh;
}

static IrReg update_add(Lift *l, unsigned size, IrReg old, IrReg m) {
  IrReg fresh = ir_temp(&l->b);
  ir_rrr(&l->b, IR_ADD, size < 4 ? 4 : size, fresh, old, m);
  return fresh;
}

static void alu_locked(Lift *l, const X86Insn *insn, Alu op) {
  unsigned size = insn->operands[0].size, width = size < 4 ? 4 : size;
  IrReg address = lift_address_register(l, insn), m = source_register(l, insn, 1);
  IrReg old = ir_temp(&l->b), operand = m;
  IrOp atomic = IR_ATOMIC_ADD;
  switch (op) {
  case ALU_OR: atomic = IR_ATOMIC_OR; break;
  case ALU_XOR: atomic = IR_ATOMIC_XOR; break;
  case ALU_AND:
    atomic = IR_ATOMIC_CLEAR;
    operand = ir_temp(&l->b);
    ir_rrr(&l->b, IR_ORN, width, operand, IR_ZERO, m);
    break;
  case ALU_SUB:
    operand = ir_temp(&l->b);
    ir_rrr(&l->b, IR_SUB, width, operand, IR_ZERO, m);
    break;
  case ALU_ADC:
  case ALU_SBB: {
    IrReg carry = lift_carry(l), sum = ir_temp(&l->b);
    ir_rrr(&l->b, IR_ADD, width, sum, m, carry);
    if (op == ALU_SBB) ir_rrr(&l->b, IR_SUB, width, sum, IR_ZERO, sum);
    old = compare_and_swap_loop(l, size, address, update_add, sum);
    lift_add_carry(l, size, old, m, op == ALU_SBB);
    return;
  }
  default: break;
  }
  ir_atomic(&l->b, atomic, size, old, address, operand);
  flags_of(l, op, size, old, m);
}

void lift_alu(Lift *l, const X86Insn *insn, uint32_t argument) {
  Alu op = (Alu)argument;
  if (insn->prefixes & X86_PREFIX_LOCK) alu_locked(l, insn, op);
  else if (op == ALU_ADC || op == ALU_SBB) alu_carry(l, insn, op == ALU_SBB);
  else if (insn->operands[0].size < 4) alu_narrow(l, insn, op);
  else if ((op == ALU_XOR || op == ALU_SUB) && same_register(insn)) zero_register(l, insn);
  else alu_wide(l, insn, op);
}

/* --- INC, DEC, NEG, NOT ------------------------------------------------------------------------------ */

static void increment(Lift *l, const X86Insn *insn, bool decrement) {
  unsigned size = insn->operands[0].size;
  bool memory = lift_is_memory(insn, 0);
  LiftSource one = {.is_immediate = true, .immediate = 1};
  IrAddress address = {0};
  IrReg n, d, one_register = IR_NO_REG;
  if (size < 4 || insn->prefixes & X86_PREFIX_LOCK) {
    one_register = ir_temp(&l->b);
    ir_const(&l->b, one_register, 1);
  }
  if (insn->prefixes & X86_PREFIX_LOCK) {
    IrReg base = lift_address_register(l, insn), step = one_register;
    if (decrement) {
      step = ir_temp(&l->b);
      ir_const(&l->b, step, UINT64_MAX);
    }
    n = ir_temp(&l->b);
    ir_atomic(&l->b, IR_ATOMIC_ADD, size, n, base, step);
    flags_of(l, decrement ? ALU_SUB : ALU_ADD, size, n, one_register);
    return;
  }
  if (memory) {
    address = lift_address(l, insn, size);
    n = ir_temp(&l->b);
    d = ir_temp(&l->b);
    ir_load(&l->b, size, IR_EXTEND_ZERO, n, address);
  } else {
    n = d = lift_read_raw(l, insn, 0);
  }
  if (size < 4)
    d = decrement ? lift_subtract_narrow(l, size, n, one_register) : lift_add_narrow(l, size, n, one_register);
  else if (decrement) lift_subtract(l, size, d, n, one);
  else lift_add(l, size, d, n, one);
  if (memory) ir_store(&l->b, size, d, address);
  else if (size < 4) lift_write_register(l, &insn->operands[0], d);
}

/* INC and DEC leave CF: where someone reads it later it is put aside and back, unless no other flag is asked for. */
void lift_increment(Lift *l, const X86Insn *insn, uint32_t decrement) {
  uint8_t live = l->live_flags;
  if (!(live & X86_F_CF)) {
    increment(l, insn, decrement);
  } else if (live == X86_F_CF) {
    l->live_flags = 0;
    increment(l, insn, decrement);
    l->live_flags = live;
  } else {
    IrReg carry = lift_carry_for(l, decrement ? FLAGS_CANONICAL : FLAGS_DIRECT);
    increment(l, insn, decrement);
    lift_flags_put_carry(l, carry, decrement ? FLAGS_CANONICAL : FLAGS_DIRECT);
  }
}

void lift_negate(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  (void)argument;
  if (insn->prefixes & X86_PREFIX_LOCK) {
    IrReg old = compare_and_swap_loop(l, size, lift_address_register(l, insn), update_negate, IR_ZERO);
    flags_of(l, ALU_SUB, size, IR_ZERO, old);
    return;
  }
  bool memory = lift_is_memory(insn, 0);
  IrAddress address = {0};
  IrReg n = memory ? ir_temp(&l->b) : lift_read_raw(l, insn, 0);
  if (memory) {
    address = lift_address(l, insn, size);
    ir_load(&l->b, size, IR_EXTEND_ZERO, n, address);
  }
  IrReg d = n;
  if (size < 4) d = lift_subtract_narrow(l, size, IR_ZERO, n);
  else lift_subtract(l, size, d, IR_ZERO, (LiftSource){.reg = n});
  if (memory) ir_store(&l->b, size, d, address);
  else if (size < 4) lift_write_register(l, &insn->operands[0], d);
}

void lift_not(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  (void)argument;
  if (insn->prefixes & X86_PREFIX_LOCK) {
    IrReg ones = ir_temp(&l->b);
    ir_const(&l->b, ones, UINT64_MAX);
    ir_atomic(&l->b, IR_ATOMIC_XOR, size, IR_ZERO, lift_address_register(l, insn), ones);
    return;
  }
  if (lift_is_memory(insn, 0)) {
    IrAddress address = lift_address(l, insn, size);
    IrReg value = ir_temp(&l->b);
    ir_load(&l->b, size, IR_EXTEND_ZERO, value, address);
    ir_rrr(&l->b, IR_ORN, size < 4 ? 4 : size, value, IR_ZERO, value);
    ir_store(&l->b, size, value, address);
    return;
  }
  IrReg n = lift_read_raw(l, insn, 0);
  if (size >= 4) {
    ir_rrr(&l->b, IR_ORN, size, n, IR_ZERO, n);
    return;
  }
  IrReg value = ir_temp(&l->b);
  ir_rrr(&l->b, IR_ORN, 4, value, IR_ZERO, n);
  lift_write_register(l, &insn->operands[0], value);
}

/* --- XADD, CMPXCHG ----------------------------------------------------------------------------------- */

void lift_xadd(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  (void)argument;
  IrReg m = lift_copy(l, lift_read(l, insn, 1));
  if (lift_is_memory(insn, 0)) {
    IrReg address = lift_address_register(l, insn), old = ir_temp(&l->b);
    if (insn->prefixes & X86_PREFIX_LOCK) {
      ir_atomic(&l->b, IR_ATOMIC_ADD, size, old, address, m);
    } else {
      IrReg sum = ir_temp(&l->b);
      ir_load(&l->b, size, IR_EXTEND_ZERO, old, lift_address_at(l, address, size));
      ir_rrr(&l->b, IR_ADD, size < 4 ? 4 : size, sum, old, m);
      ir_store(&l->b, size, sum, lift_address_at(l, address, size));
    }
    lift_write_register(l, &insn->operands[1], old);
    flags_of(l, ALU_ADD, size, old, m);
    return;
  }
  IrReg old = lift_copy(l, lift_read(l, insn, 0)), sum;
  if (size < 4) {
    sum = lift_add_narrow(l, size, old, m);
  } else {
    sum = ir_temp(&l->b);
    lift_add(l, size, sum, old, (LiftSource){.reg = m});
  }
  lift_write_register(l, &insn->operands[1], old);
  lift_write_register(l, &insn->operands[0], sum);
}

/* RAX := old where the comparison failed. For 4 bytes hardware also leaves the upper half of RAX alone when
 * it succeeded, which a write of the same low half with zeros above would not. */
static void set_accumulator(Lift *l, unsigned size, IrReg old, IrReg difference) {
  IrLabel equal = ir_label(&l->b);
  if (size == 4) {
    ir_cbz(&l->b, 4, difference, equal);
    ir_mov(&l->b, 4, lift_gpr(X86_RAX), old);
    ir_bind(&l->b, equal);
    return;
  }
  X86Operand accumulator = {X86_OPERAND_GPR, X86_RAX, (uint8_t)size, X86_ACCESS_RW};
  lift_write_register(l, &accumulator, old);
}

static IrReg difference_of(Lift *l, unsigned size, IrReg a, IrReg b) {
  IrReg difference = ir_temp(&l->b);
  ir_rrr(&l->b, IR_EOR, size == 8 ? 8 : 4, difference, a, b);
  if (size < 4) ir_ubfx(&l->b, 4, difference, difference, 0, size * 8);
  return difference;
}

/* Memory forms are always done atomically: an access pair that need not be may be. */
static void compare_exchange_memory(Lift *l, const X86Insn *insn, unsigned size) {
  IrReg address = lift_address_register(l, insn), old = ir_temp(&l->b), expected = ir_temp(&l->b);
  if (size < 4) ir_ubfx(&l->b, 4, expected, lift_gpr(X86_RAX), 0, size * 8);
  else ir_mov(&l->b, size, expected, lift_gpr(X86_RAX));
  ir_mov(&l->b, 8, old, expected);
  ir_atomic(&l->b, IR_ATOMIC_CAS, size, old, address, lift_read_raw(l, insn, 1));
  IrReg difference = difference_of(l, size, old, expected);
  flags_of(l, ALU_CMP, size, expected, old);
  set_accumulator(l, size, old, difference);
}

void lift_compare_exchange(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size;
  (void)argument;
  if (lift_is_memory(insn, 0)) {
    compare_exchange_memory(l, insn, size);
    return;
  }
  IrReg old = lift_copy(l, lift_read(l, insn, 0)), fresh = lift_copy(l, lift_read_raw(l, insn, 1));
  IrReg expected = ir_temp(&l->b);
  if (size < 4) ir_ubfx(&l->b, 4, expected, lift_gpr(X86_RAX), 0, size * 8);
  else ir_mov(&l->b, size, expected, lift_gpr(X86_RAX));
  IrReg difference = difference_of(l, size, old, expected);
  flags_of(l, ALU_CMP, size, expected, old);
  IrLabel differs = ir_label(&l->b), done = ir_label(&l->b);
  ir_cbnz(&l->b, 4 > size ? 4 : size, difference, differs);
  lift_write_register(l, &insn->operands[0], fresh);
  ir_branch(&l->b, done);
  ir_bind(&l->b, differs);
  X86Operand accumulator = {X86_OPERAND_GPR, X86_RAX, (uint8_t)size, X86_ACCESS_RW};
  lift_write_register(l, &accumulator, old);
  ir_bind(&l->b, done);
}
