/* Operands of vector instructions: reading, writing, and what is known of the registers' upper parts. */
#include "lift/vector/sse.h"

IrVec sse_source(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  if (l->vex.active) return l->vex.source[operand];
  if (o->kind == X86_OPERAND_MMX) return lift_read_mmx(l, o->reg);
  return lift_read_vector(l, insn, operand, o->size);
}

IrVec sse_result(Lift *l, const X86Insn *insn) {
  if (l->vex.active) return l->vex.result = ir_vector_temp(&l->b);
  if (insn->operands[0].kind == X86_OPERAND_MMX) return ir_vector_temp(&l->b);
  unsigned number = insn->operands[0].reg;
  sse_know_zero_above(l, number, 16);
  return lift_xmm(number);
}

IrVec sse_changed(Lift *l, const X86Insn *insn) {
  return l->vex.active ? l->vex.result = sse_copy(l, l->vex.source[0]) : sse_result(l, insn);
}

void sse_finish(Lift *l, const X86Insn *insn, IrVec result) {
  if (l->vex.active) l->vex.result = result;
  else if (insn->operands[0].kind == X86_OPERAND_MMX) lift_write_mmx(l, insn->operands[0].reg, result);
}

void sse_know_zero_above(Lift *l, unsigned number, unsigned bytes) {
  if (l->vex.active) {
    l->vex.zero_above = (uint8_t)bytes;
    return;
  }
  uint16_t bit = (uint16_t)(1u << number);
  sse_forget_scalar(l, number);
  l->vectors.zero_above4 &= (uint16_t)~bit;
  l->vectors.zero_above8 &= (uint16_t)~bit;
  if (bytes <= 4) l->vectors.zero_above4 |= bit;
  if (bytes <= 8) l->vectors.zero_above8 |= bit;
}

bool sse_is_zero_above(const Lift *l, unsigned number, unsigned bytes) {
  return (bytes == 4 ? l->vectors.zero_above4 : l->vectors.zero_above8) >> number & 1;
}

unsigned sse_original(const Lift *l, unsigned number) {
  enum { REACH = 12 };
  const IrBuilder *b = &l->b;
  uint32_t written = 0; /* since */
  for (uint32_t i = b->count; i > 0 && b->count - i < REACH; i--) {
    const IrInsn *insn = &b->insns[i - 1];
    const uint8_t *kind = ir_op_info[insn->op].kind;
    if (insn->op == IR_GUEST) continue;
    if (ir_op_info[insn->op].effects & (IR_EFFECT_SB | IR_EFFECT_CT | IR_EFFECT_CL)) return number;
    for (unsigned k = 0; k < 4; k++) {
      if (!(kind[k] & IR_KIND_V) || !(kind[k] & IR_KIND_D) || insn->reg[k] >= IR_TEMP_FIRST) continue;
      written |= 1u << insn->reg[k];
    }
    if (!(written >> number & 1)) continue;
    bool copied = insn->op == IR_MOV_16B && insn->reg[0] == number && insn->reg[1] < 16;
    return copied && !(written >> insn->reg[1] & 1) ? insn->reg[1] : number;
  }
  return number;
}

/* Index of the operation that began making temporary `value`, if nothing stands after it but operations
 * that change the temporary without reading register `number`; -1 otherwise. */
static int64_t making_of(const IrBuilder *b, IrVec value, unsigned number) {
  for (int64_t i = (int64_t)b->count - 1; i >= 0; i--) {
    const IrInsn *insn = &b->insns[i];
    const uint8_t *kind = ir_op_info[insn->op].kind;
    if (!(kind[0] & IR_KIND_V) || !(kind[0] & IR_KIND_D) || insn->reg[0] != value.id) return -1;
    if (kind[3] & IR_KIND_D) return -1; /* a pair of loads may fault after its first */
    if (!(kind[0] & IR_KIND_U)) return i;
    if ((kind[1] & IR_KIND_V && insn->reg[1] == number) ||
        (kind[2] & IR_KIND_V && insn->reg[2] == number))
      return -1;
  }
  return -1;
}

/* Has the operations from `first` make `number` instead of their temporary. */
static void make_in_place(IrBuilder *b, uint32_t first, unsigned number) {
  for (uint32_t i = first; i < b->count; i++) {
    IrInsn *insn = &b->insns[i];
    unsigned made = insn->reg[0];
    insn->reg[0] = (uint16_t)number;
    for (unsigned k = 1; i > first && k < 4; k++)
      if (ir_op_info[insn->op].kind[k] & IR_KIND_V && insn->reg[k] == made) insn->reg[k] = (uint16_t)number;
    ir_note_temps(insn);
  }
  const IrInsn *move = &b->insns[first];
  if (move->op != IR_MOV_16B || move->reg[1] != number) return;
  for (uint32_t i = first; i + 1 < b->count; i++) b->insns[i] = b->insns[i + 1];
  b->count--;
}

/* Makes temporary `value` register `number` from the start, where that is possible. */
static bool write_in_place(Lift *l, unsigned number, IrVec value) {
  int64_t first = value.id >= IR_TEMP_FIRST ? making_of(&l->b, value, number) : -1;
  if (first >= 0) make_in_place(&l->b, (uint32_t)first, number);
  return first >= 0;
}

void sse_write(Lift *l, unsigned number, IrVec value) {
  if (l->vex.active) {
    l->vex.result = value;
    return;
  }
  sse_know_zero_above(l, number, 16);
  if (value.id != number && !write_in_place(l, number, value))
    ir_vvv(&l->b, IR_MOV_16B, lift_xmm(number), value, value);
}

IrVec sse_scalar_target(Lift *l, unsigned number, unsigned bytes) {
  if (l->vex.active) return ir_vector_temp(&l->b);
  return sse_is_zero_above(l, number, bytes) ? lift_xmm(number) : ir_vector_temp(&l->b);
}

enum { MAX_SCALARS = 6 }; /* that may stay in temporaries, of which there are sixteen */

void sse_forget_scalar(Lift *l, unsigned number) {
  l->scalars.valid &= (uint16_t)~(1u << number);
  l->uppers.same &= (uint16_t)~(1u << number);
  if (l->shuffle.number == number) l->shuffle.mask.id = IR_NONE;
}

/* The operation that merged the scalar register `number` holds, or NULL. */
static IrInsn *merge_of(Lift *l, unsigned number, unsigned bytes) {
  LiftScalars *s = &l->scalars;
  if (!(s->valid >> number & 1) || s->merge[number] >= l->b.count) return NULL;
  IrInsn *merge = &l->b.insns[s->merge[number]];
  bool same = merge->op == (bytes == 4 ? IR_INS_S : IR_INS_D) && merge->imm == 0;
  return same && merge->reg[0] == number && merge->reg[1] == s->temp[number] ? merge : NULL;
}

static bool looks_at(const IrInsn *insn, unsigned number) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  if (insn->op == IR_GUEST) return false;
  if (info->effects & (IR_EFFECT_LD | IR_EFFECT_ST | IR_EFFECT_SB | IR_EFFECT_CT | IR_EFFECT_CL)) return true;
  for (unsigned k = 0; k < 4; k++)
    if (info->kind[k] & IR_KIND_V && info->kind[k] & IR_KIND_U && insn->reg[k] == number) return true;
  return false;
}

/* Takes back the last merge into the register, unless something has looked at it or may fault since. */
static void drop_merge(Lift *l, unsigned number, unsigned bytes) {
  IrBuilder *b = &l->b;
  const IrInsn *merge = merge_of(l, number, bytes);
  if (!merge) return;
  uint32_t at = (uint32_t)(merge - b->insns);
  for (uint32_t i = at + 1; i < b->count; i++)
    if (looks_at(&b->insns[i], number)) return;
  for (uint32_t i = at; i + 1 < b->count; i++) b->insns[i] = b->insns[i + 1];
  b->count--;
  if (l->sse_begin > at) l->sse_begin--;
  if (l->group.last_save > at) l->group.last_save--;
}

/* Not __builtin_popcount(): libgcc's uses v0, which is a guest register. */
static unsigned count_bits(unsigned mask) {
  unsigned count = 0;
  for (; mask; mask &= mask - 1) count++;
  return count;
}

void sse_merge_scalar(Lift *l, unsigned number, unsigned bytes, IrVec value) {
  if (l->vex.active) {
    l->vex.result = value;
    l->vex.dirty_above = true;
    return;
  }
  drop_merge(l, number, bytes);
  ir_vv_raw(&l->b, bytes == 4 ? IR_INS_S : IR_INS_D, lift_xmm(number), value, 0);
  sse_forget_scalar(l, number);
  if (bytes == 8) l->vectors.zero_above4 &= (uint16_t)~(1u << number);
  if (value.id < IR_TEMP_FIRST || l->b.overflow) return;
  if (count_bits(l->scalars.valid) >= MAX_SCALARS) l->scalars.valid = 0;
  l->scalars.valid |= (uint16_t)(1u << number);
  l->scalars.temp[number] = value.id;
  l->scalars.merge[number] = l->b.count - 1;
}

IrVec sse_scalar_source(Lift *l, const X86Insn *insn, unsigned operand, unsigned bytes) {
  const X86Operand *o = &insn->operands[operand];
  if (l->vex.active || o->kind != X86_OPERAND_XMM) return sse_source(l, insn, operand);
  return merge_of(l, o->reg, bytes) ? (IrVec){l->scalars.temp[o->reg]} : lift_xmm(o->reg);
}

void sse_write_scalar(Lift *l, unsigned number, unsigned bytes, IrVec value) {
  if (l->vex.active) {
    l->vex.result = value;
    return;
  }
  bool made = value.id == number; /* in the register itself, as sse_scalar_target() allowed */
  if (!made && !sse_is_zero_above(l, number, bytes)) {
    sse_merge_scalar(l, number, bytes, value);
    return;
  }
  sse_forget_scalar(l, number);
  if (!made && !write_in_place(l, number, value))
    ir_vv(&l->b, bytes == 4 ? IR_FMOV_S : IR_FMOV_D, lift_xmm(number), value);
  if (bytes == 8) l->vectors.zero_above4 &= (uint16_t)~(1u << number);
}

IrVec sse_vv_raw(Lift *l, IrOp op, IrVec n, uint32_t raw) {
  IrVec d = ir_vector_temp(&l->b);
  ir_vv_raw(&l->b, op, d, n, raw);
  return d;
}

IrVec sse_vv(Lift *l, IrOp op, IrVec n) { return sse_vv_raw(l, op, n, 0); }

IrVec sse_vvv_raw(Lift *l, IrOp op, IrVec n, IrVec m, uint32_t raw) {
  IrVec d = ir_vector_temp(&l->b);
  ir_vvv_raw(&l->b, op, d, n, m, raw);
  return d;
}

IrVec sse_vvv(Lift *l, IrOp op, IrVec n, IrVec m) { return sse_vvv_raw(l, op, n, m, 0); }

IrVec sse_copy(Lift *l, IrVec value) { return sse_vvv(l, IR_MOV_16B, value, value); }

/* Bits of `value` gathered for MOVI_2D if every byte is 0 or 0xff; -1 otherwise. */
static int byte_mask(uint64_t value) {
  unsigned mask = 0;
  for (unsigned i = 0; i < 8; i++) {
    unsigned byte = value >> (8 * i) & 0xff;
    if (byte != 0 && byte != 0xff) return -1;
    if (byte) mask |= 1u << i;
  }
  return (int)mask;
}

IrVec sse_const64(Lift *l, uint64_t value) {
  IrReg bits = ir_temp(&l->b);
  IrVec d = ir_vector_temp(&l->b);
  ir_const(&l->b, bits, value);
  ir_vr_raw(&l->b, IR_FMOV_DX, 8, d, bits, 0);
  return d;
}

IrVec sse_const128(Lift *l, uint64_t low, uint64_t high) {
  IrVec d = ir_vector_temp(&l->b);
  if (low == high && byte_mask(low) >= 0) {
    ir_v_raw(&l->b, IR_MOVI_2D, d, ir_imm8((unsigned)byte_mask(low)));
    return d;
  }
  IrReg bits = ir_temp(&l->b);
  ir_const(&l->b, bits, low);
  if (low == high) {
    ir_vr_raw(&l->b, IR_DUP_2DG, 8, d, bits, 0);
    return d;
  }
  IrReg upper = ir_temp(&l->b);
  ir_const(&l->b, upper, high);
  ir_vr_raw(&l->b, IR_FMOV_DX, 8, d, bits, 0);
  ir_vr_raw(&l->b, IR_INS_DG, 8, d, upper, ir_lane(8, 1));
  return d;
}

void sse_store_operand(Lift *l, unsigned slot, IrVec value) {
  ir_store_state_vector(&l->b, 16, value, offsetof(GuestCpu, operand) + 16 * slot);
}

void sse_load_operand(Lift *l, unsigned slot, IrVec d) {
  ir_load_state_vector(&l->b, 16, d, offsetof(GuestCpu, operand) + 16 * slot);
}

/* MMX registers are the significands of the x87 registers; writing one sets its exponent to ones
 * (Intel SDM volume 1, 9.2.1). */
static size_t mmx_offset(unsigned number) {
  return offsetof(GuestCpu, x87.reg) + sizeof(GuestX87Register) * number;
}

IrVec lift_read_mmx(Lift *l, unsigned number) {
  lift_x87_enter_mmx(l);
  IrVec d = ir_vector_temp(&l->b);
  ir_load_state_vector(&l->b, 8, d, mmx_offset(number) + offsetof(GuestX87Register, significand));
  return d;
}

void lift_write_mmx(Lift *l, unsigned number, IrVec value) {
  lift_x87_enter_mmx(l);
  ir_store_state_vector(&l->b, 8, value,
                        mmx_offset(number) + offsetof(GuestX87Register, significand));
  IrReg ones = ir_temp(&l->b);
  ir_const(&l->b, ones, 0xffff);
  ir_store_state(&l->b, 2, ones, mmx_offset(number) + offsetof(GuestX87Register, sign_exponent));
}
