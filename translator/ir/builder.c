/* Appending IR operations. Each function here computes the raw fields of one kind of AArch64 instruction
 * from ordinary arguments, so that lifting never sees an encoding. */
#include "ir/ir.h"

#include "a64/immediates.h"

void ir_reset(IrBuilder *b) {
  b->count = 0;
  b->next_temp = b->next_vector_temp = IR_TEMP_FIRST;
  b->next_label = b->joins = b->stack_count = b->copy_count = b->move_count = b->merge_count = b->step_count = 0;
  b->overflow = b->cold = b->has_calls = b->has_loops = false;
  b->vector_homes = 0;
}

IrReg ir_temp(IrBuilder *b) {
  if (b->next_temp == IR_MAX_TEMPS - 1) b->overflow = true;
  else b->next_temp++;
  return (IrReg){(uint16_t)(b->next_temp - 1)};
}

IrVec ir_vector_temp(IrBuilder *b) {
  if (b->next_vector_temp == IR_MAX_TEMPS - 1) b->overflow = true;
  else b->next_vector_temp++;
  return (IrVec){(uint16_t)(b->next_vector_temp - 1)};
}

IrLabel ir_label(IrBuilder *b) {
  if (b->next_label == IR_MAX_LABELS - 1) b->overflow = true;
  else b->next_label++;
  return (IrLabel){(uint16_t)(b->next_label - 1)};
}

static inline IrInsn *append(IrBuilder *b, IrOp op, unsigned size, unsigned rd, unsigned rn, unsigned rm,
                             unsigned ra, int64_t imm) {
  if (b->count == IR_MAX_INSNS - 1) b->overflow = true;
  else b->count++;
  IrInsn *insn = &b->insns[b->count - 1];
  const uint64_t regs = rd | rn << 16 | (uint64_t)(rm | ra << 16) << 32;
  ir_put(insn, op | size << 16, regs, ir_temps_of(regs) << 16, imm);
  return insn;
}

IrInsn *ir_emit(IrBuilder *b, IrOp op, unsigned size, unsigned rd, unsigned rn, unsigned rm,
                int64_t imm) {
  if (op == IR_HELPER || op == IR_SYSCALL) b->has_calls = true;
  return append(b, op, size, rd, rn, rm, IR_NONE, imm);
}

void ir_rrr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m) {
  append(b, op, size, d.id, n.id, m.id, IR_NONE, 0);
}

void ir_rrr_shift(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, unsigned shift,
                  unsigned amount) {
  append(b, op, size, d.id, n.id, m.id, IR_NONE, (int64_t)(shift << 22 | amount << 10));
}

void ir_rrrr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, IrReg a) {
  append(b, op, size, d.id, n.id, m.id, a.id, 0);
}

void ir_rr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n) {
  append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, 0);
}

/* The operation to be appended copies one host register to another. */
static void note_copy(IrBuilder *b, unsigned d, unsigned n) {
  if (d < A64_REG_ZERO && n < A64_REG_ZERO && d != n && b->copy_count < IR_MAX_COPIES)
    b->copies[b->copy_count++] = (uint16_t)b->count;
}

void ir_mov(IrBuilder *b, unsigned size, IrReg d, IrReg n) {
  if (size == 8 && d.id == n.id) return;
  if (!ir_is_temp(n.id)) note_copy(b, d.id, n.id);
  else if (b->move_count < IR_MAX_MOVES) b->moves[b->move_count++] = (uint16_t)b->count;
  append(b, IR_MOV, size < 4 ? 4 : size, d.id, n.id, IR_NONE, IR_NONE, 0);
}

void ir_const(IrBuilder *b, IrReg d, uint64_t value) {
  append(b, IR_CONST, 8, d.id, IR_NONE, IR_NONE, IR_NONE, (int64_t)value);
}

void ir_guest_address(IrBuilder *b, IrReg d, uint64_t address) {
  append(b, IR_GUEST_ADDRESS, 8, d.id, IR_NONE, IR_NONE, IR_NONE, (int64_t)address);
}

bool ir_fits_add(int64_t value) {
  uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
  return magnitude < 4096 || (!(magnitude & 4095) && magnitude < 4096 << 12);
}

void ir_add_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, int64_t value) {
  if (value == 0) {
    ir_mov(b, size, d, n);
    return;
  }
  uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
  IrOp op = value < 0 ? IR_SUBI : IR_ADDI;
  if (magnitude < 4096) {
    if (d.id == n.id && d.id < 16 && b->step_count < IR_MAX_STEPS) b->steps[b->step_count++] = (uint16_t)b->count;
    append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, (int64_t)(magnitude << 10));
  } else if (magnitude < 4096 << 12) {
    bool two = magnitude & 4095;
    append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, (int64_t)((magnitude >> 12) << 10 | 1 << 22));
    if (two) append(b, op, size, d.id, d.id, IR_NONE, IR_NONE, (int64_t)((magnitude & 4095) << 10));
  } else {
    IrReg constant = ir_temp(b);
    ir_const(b, constant, size == 4 ? (uint32_t)value : (uint64_t)value);
    ir_rrr(b, IR_ADD, size, d, n, constant);
  }
}

static IrOp logic_immediate_op(IrOp op) {
  switch (op) {
  case IR_AND: return IR_ANDI;
  case IR_ANDS: return IR_ANDSI;
  case IR_ORR: return IR_ORRI;
  default: return IR_EORI;
  }
}

void ir_logic_imm(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, uint64_t value) {
  uint32_t field;
  if (a64_logical_immediate(value, size, &field)) {
    append(b, logic_immediate_op(op), size, d.id, n.id, IR_NONE, IR_NONE, field);
    return;
  }
  IrReg constant = ir_temp(b);
  ir_const(b, constant, size == 4 ? (uint32_t)value : value);
  ir_rrr(b, op, size, d, n, constant);
}

static void bitfield(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, unsigned immr,
                     unsigned imms) {
  unsigned n_bit = size == 8;
  append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, (int64_t)(n_bit << 22 | immr << 16 | imms << 10));
}

void ir_lsl_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount) {
  unsigned bits = size * 8;
  bitfield(b, IR_UBFM, size, d, n, (bits - amount) % bits, bits - 1 - amount);
}

void ir_lsr_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount) {
  bitfield(b, IR_UBFM, size, d, n, amount, size * 8 - 1);
}

void ir_asr_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount) {
  bitfield(b, IR_SBFM, size, d, n, amount, size * 8 - 1);
}

void ir_ror_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount) {
  ir_extr(b, size, d, n, n, amount);
}

void ir_ubfx(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width) {
  bitfield(b, IR_UBFM, size, d, n, lsb, lsb + width - 1);
}

void ir_sbfx(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width) {
  bitfield(b, IR_SBFM, size, d, n, lsb, lsb + width - 1);
}

static void note_merge(IrBuilder *b) {
  if (b->merge_count < IR_MAX_MOVES) b->merges[b->merge_count++] = (uint16_t)b->count;
}

void ir_bfi(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width) {
  unsigned bits = size * 8;
  note_merge(b);
  bitfield(b, IR_BFM, size, d, n, (bits - lsb) % bits, width - 1);
}

void ir_bfxil(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width) {
  note_merge(b);
  bitfield(b, IR_BFM, size, d, n, lsb, lsb + width - 1);
}

void ir_ubfiz(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width) {
  unsigned bits = size * 8;
  bitfield(b, IR_UBFM, size, d, n, (bits - lsb) % bits, width - 1);
}

void ir_extr(IrBuilder *b, unsigned size, IrReg d, IrReg n, IrReg m, unsigned lsb) {
  unsigned n_bit = size == 8;
  append(b, IR_EXTR, size, d.id, n.id, m.id, IR_NONE, (int64_t)(n_bit << 22 | lsb << 10));
}

void ir_csel(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, A64Condition cond) {
  append(b, op, size, d.id, n.id, m.id, IR_NONE, (int64_t)cond << 12);
}

void ir_cset(IrBuilder *b, unsigned size, IrReg d, A64Condition cond) {
  ir_csel(b, IR_CSINC, size, d, IR_ZERO, IR_ZERO, cond ^ 1);
}

void ir_ccmp(IrBuilder *b, unsigned size, IrReg n, IrReg m, unsigned nzcv, A64Condition cond) {
  append(b, IR_CCMP, size, IR_NONE, n.id, m.id, IR_NONE, (int64_t)cond << 12 | nzcv);
}

static unsigned log2_size(unsigned size) { return (unsigned)__builtin_ctz(size); }

void ir_load_state(IrBuilder *b, unsigned size, IrReg d, size_t offset) {
  static const uint16_t op[] = {IR_LDR8_STATE, IR_LDR16_STATE, IR_LDR32_STATE, IR_LDR64_STATE};
  append(b, op[log2_size(size)], size, d.id, A64_REG_CPU, IR_NONE, IR_NONE, (int64_t)(offset / size) << 10);
}

void ir_store_state(IrBuilder *b, unsigned size, IrReg value, size_t offset) {
  static const uint16_t op[] = {IR_STR8_STATE, IR_STR16_STATE, IR_STR32_STATE, IR_STR64_STATE};
  append(b, op[log2_size(size)], size, value.id, A64_REG_CPU, IR_NONE, IR_NONE,
         (int64_t)(offset / size) << 10);
}

void ir_load_state_pair(IrBuilder *b, IrReg first, IrReg second, size_t offset) {
  append(b, IR_LDP64_STATE, 8, first.id, A64_REG_CPU, IR_NONE, second.id, (int64_t)(offset / 8) << 15);
}

void ir_store_state_pair(IrBuilder *b, IrReg first, IrReg second, size_t offset) {
  append(b, IR_STP64_STATE, 8, first.id, A64_REG_CPU, IR_NONE, second.id, (int64_t)(offset / 8) << 15);
}

void ir_load_state_vector(IrBuilder *b, unsigned size, IrVec d, size_t offset) {
  append(b, size == 16 ? IR_LDRQ_STATE : IR_LDRD_STATE, size, d.id, A64_REG_CPU, IR_NONE, IR_NONE,
         (int64_t)(offset / size) << 10);
}

void ir_store_state_vector(IrBuilder *b, unsigned size, IrVec value, size_t offset) {
  append(b, size == 16 ? IR_STRQ_STATE : IR_STRD_STATE, size, value.id, A64_REG_CPU, IR_NONE, IR_NONE,
         (int64_t)(offset / size) << 10);
}

static void memory(IrBuilder *b, IrOp op, unsigned size, unsigned extend, unsigned value,
                   IrAddress address) {
  IrInsn *insn = append(b, op, size, value, address.base.id, address.index.id, IR_NONE, address.disp);
  insn->cond = (uint8_t)extend;
  insn->shift = (uint16_t)address.shift;
}

void ir_load(IrBuilder *b, unsigned size, unsigned extend, IrReg d, IrAddress address) {
  memory(b, IR_LOAD, size, extend, d.id, address);
}

void ir_store(IrBuilder *b, unsigned size, IrReg value, IrAddress address) {
  memory(b, IR_STORE, size, 0, value.id, address);
}

void ir_load_vector(IrBuilder *b, unsigned size, IrVec d, IrAddress address) {
  memory(b, IR_LOADV, size, 0, d.id, address);
}

void ir_store_vector(IrBuilder *b, unsigned size, IrVec value, IrAddress address) {
  memory(b, IR_STOREV, size, 0, value.id, address);
}

static void note_stack(IrBuilder *b) {
  if (b->stack_count < IR_MAX_STACK) b->stack[b->stack_count++] = (uint16_t)(b->count - 1);
}

void ir_push(IrBuilder *b, IrReg value, IrReg rsp) {
  append(b, IR_PUSH, 8, value.id, rsp.id, IR_NONE, IR_NONE, -8);
  note_stack(b);
}

void ir_pop(IrBuilder *b, IrReg d, IrReg rsp) {
  append(b, IR_POP, 8, d.id, rsp.id, IR_NONE, IR_NONE, 8);
  note_stack(b);
}

void ir_vector_pair(IrBuilder *b, IrOp op, IrVec low, IrVec high, IrReg base) {
  ir_vector_pair_at(b, op, low, high, base, 0);
}

void ir_vector_pair_at(IrBuilder *b, IrOp op, IrVec low, IrVec high, IrReg base, int64_t offset) {
  append(b, op, 16, low.id, base.id, IR_NONE, high.id, (offset / 16 & 0x7f) << 15);
}

void ir_atomic(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg base, IrReg operand) {
  append(b, op, size, d.id, base.id, operand.id, IR_NONE, 0);
}

void ir_vvv(IrBuilder *b, IrOp op, IrVec d, IrVec n, IrVec m) {
  if (op == IR_MOV_16B) note_copy(b, d.id, n.id);
  append(b, op, 16, d.id, n.id, m.id, IR_NONE, 0);
}

void ir_vvv_raw(IrBuilder *b, IrOp op, IrVec d, IrVec n, IrVec m, uint32_t raw) {
  append(b, op, 16, d.id, n.id, m.id, IR_NONE, raw);
}

void ir_vv(IrBuilder *b, IrOp op, IrVec d, IrVec n) { ir_vv_raw(b, op, d, n, 0); }

void ir_vv_raw(IrBuilder *b, IrOp op, IrVec d, IrVec n, uint32_t raw) {
  append(b, op, 16, d.id, n.id, IR_NONE, IR_NONE, raw);
}

void ir_v_raw(IrBuilder *b, IrOp op, IrVec d, uint32_t raw) {
  append(b, op, 16, d.id, IR_NONE, IR_NONE, IR_NONE, raw);
}

void ir_vr_raw(IrBuilder *b, IrOp op, unsigned size, IrVec d, IrReg n, uint32_t raw) {
  append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, raw);
}

void ir_rv_raw(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrVec n, uint32_t raw) {
  append(b, op, size, d.id, n.id, IR_NONE, IR_NONE, raw);
}

void ir_bind(IrBuilder *b, IrLabel label) {
  b->joins++;
  append(b, IR_LABEL, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, label.id);
}

void ir_bind_return(IrBuilder *b, IrLabel label) {
  uint16_t joins = b->joins;
  ir_bind(b, label);
  b->joins = joins;
}

void ir_branch(IrBuilder *b, IrLabel label) {
  append(b, IR_B, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, label.id);
}

void ir_branch_cond(IrBuilder *b, A64Condition cond, IrLabel label) {
  append(b, IR_BCOND, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, label.id)->cond = (uint8_t)cond;
}

void ir_cbz(IrBuilder *b, unsigned size, IrReg n, IrLabel label) {
  append(b, IR_CBZ, size, IR_NONE, n.id, IR_NONE, IR_NONE, label.id);
}

void ir_cbnz(IrBuilder *b, unsigned size, IrReg n, IrLabel label) {
  append(b, IR_CBNZ, size, IR_NONE, n.id, IR_NONE, IR_NONE, label.id);
}

void ir_tbz(IrBuilder *b, IrReg n, unsigned bit, IrLabel label) {
  append(b, IR_TBZ, 8, IR_NONE, n.id, IR_NONE, IR_NONE, label.id)->cond = (uint8_t)bit;
}

void ir_tbnz(IrBuilder *b, IrReg n, unsigned bit, IrLabel label) {
  append(b, IR_TBNZ, 8, IR_NONE, n.id, IR_NONE, IR_NONE, label.id)->cond = (uint8_t)bit;
}

void ir_cold_begin(IrBuilder *b) {
  b->cold = true;
  b->joins_in_line = b->joins;
  append(b, IR_COLD_BEGIN, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, 0);
}

void ir_cold_end(IrBuilder *b) {
  b->cold = false;
  b->joins = b->joins_in_line;
  append(b, IR_COLD_END, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, 0);
}

IrInsn *ir_cold_exit(IrBuilder *b, IrLabel label, uint64_t target) {
  IrInsn *exit = append(b, IR_COLD_EXIT, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, (int64_t)target);
  exit->shift = label.id;
  return exit;
}

void ir_loop_end(IrBuilder *b, IrLabel head) {
  b->has_loops = true;
  append(b, IR_LOOP_END, 8, IR_NONE, IR_NONE, IR_NONE, IR_NONE, head.id);
}
