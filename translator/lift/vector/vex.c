/* VEX forms by the functions of their SSE relatives: sources are read first, each half is computed, NaNs are looked at,
 * and the result is written last.
 *
 * Of 128 bits they are members of groups as SSE's are (group.c). A 256-bit one checks its NaNs by itself: out of line both
 * halves are made again from their sources, which are still there. */
#include "lift/vector/vex.h"

unsigned vex_relative(unsigned mnemonic) {
  const LiftRow *row = &lift_rows[mnemonic];
  return row->function == vex_lift ? row->argument & 0xffff : mnemonic;
}

static VexShape shape_of(uint32_t argument) { return (VexShape)(argument >> 16 & 0xff); }

/* Bytes of the one lane the result has; 0 where it is a whole vector. */
static unsigned scalar_bytes(VexShape shape) {
  if (shape == VEX_SCALAR4 || shape == VEX_GENERAL4) return 4;
  return shape == VEX_SCALAR8 || shape == VEX_GENERAL8 ? 8 : 0;
}

static bool has_first(VexShape shape) {
  return shape != VEX_UNARY && shape != VEX_SELF && shape != VEX_WIDEN && shape != VEX_NARROW;
}

/* --- NaNs ----------------------------------------------------------------------------------------- */

static void replay(Lift *l, const X86Insn *insn, unsigned halves, VexMake *make, const void *context, VexPair result) {
  l->group.replay = true;
  VexPair again = make(l, insn, context);
  l->group.replay = false;
  for (unsigned k = 0; k < halves; k++) ir_vvv(&l->b, IR_MOV_16B, result.half[k], again.half[k], again.half[k]);
  sse_clear_invalid(l, true);
}

VexPair vex_checked(Lift *l, const X86Insn *insn, unsigned halves, VexMake *make, const void *context) {
  IrBuilder *b = &l->b;
  bool grouped = l->group.count || l->group.replay;
  VexPair result = make(l, insn, context);
  if (grouped || !l->group.unchecked) return result;
  l->group.unchecked = false;
  IrLabel cold = ir_label(b), done = ir_label(b);
  IrReg status = ir_temp(b);
  ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_tbnz(b, status, 0, cold);
  ir_cold_begin(b);
  ir_bind(b, cold);
  replay(l, insn, halves, make, context, result);
  ir_branch(b, done);
  ir_cold_end(b);
  ir_bind_return(b, done);
  l->settled = true;
  return result;
}

/* --- Halves --------------------------------------------------------------------------------------- */

/* An instruction ready to be lifted by its relative: rewritten to its operands, with the sources read. */
typedef struct Form {
  X86Insn insn;
  const LiftRow *row;
  uint8_t imm_shift;
  bool wide;
  VexPair source[3];
  LiftVex done; /* of the lower half */
} Form;

static IrVec lift_half(Lift *l, Form *f, unsigned k) {
  X86Insn insn = f->insn;
  if (k) insn.imm >>= f->imm_shift;
  l->vex = (LiftVex){.active = true, .zero_above = 16, .result = {IR_NONE},
                     .source = {f->source[0].half[k], f->source[1].half[k], f->source[2].half[k]}};
  f->row->function(l, &insn, f->row->argument);
  l->vex.active = false;
  if (!k) f->done = l->vex;
  return l->vex.result;
}

/* The lower one last, so that it can be made where it belongs. */
static VexPair make_halves(Lift *l, const X86Insn *insn, const void *context) {
  Form *f = (Form *)context;
  VexPair result = {{{IR_NONE}, IR_VECTOR_ZERO}};
  if (f->wide) result.half[1] = lift_half(l, f, 1);
  result.half[0] = lift_half(l, f, 0);
  return result;
}

/* --- Sources -------------------------------------------------------------------------------------- */

static VexPair read_scalar(Lift *l, const X86Insn *insn, unsigned operand, unsigned bytes) {
  return (VexPair){{sse_scalar_source(l, insn, operand, bytes), IR_VECTOR_ZERO}};
}

/* Lanes for each half, from half of the source's bytes each. */
static VexPair read_narrow(Lift *l, const X86Insn *insn, bool wide) {
  unsigned size = insn->operands[1].size;
  IrVec value = lift_read_vector(l, insn, 1, size);
  IrVec rest = wide ? sse_vvv_raw(l, IR_EXT_16B, value, value, ir_ext(size / 2)) : IR_VECTOR_ZERO;
  return (VexPair){{value, rest}};
}

static void read_second(Lift *l, const X86Insn *insn, Form *f, VexShape shape, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  switch (shape) {
  case VEX_SCALAR4:
  case VEX_SCALAR8: f->source[1] = read_scalar(l, insn, operand, o->size); break;
  case VEX_WIDEN: f->source[1] = read_narrow(l, insn, f->wide); break;
  case VEX_GENERAL4:
  case VEX_GENERAL8:
  case VEX_INSERT: break;
  case VEX_SHIFT:
    if (o->kind == X86_OPERAND_IMM) break;
    f->source[1].half[0] = f->source[1].half[1] = lift_read_vector(l, insn, operand, 16);
    break;
  default: f->source[1] = vex_read(l, insn, operand); break;
  }
}

static void read_sources(Lift *l, const X86Insn *insn, Form *f, VexShape shape) {
  unsigned second = has_first(shape) ? 2 : 1, bytes = scalar_bytes(shape);
  f->insn.operands[1] = insn->operands[second];
  f->insn.operand_count = 2;
  read_second(l, insn, f, shape, second);
  if (bytes) f->source[0] = read_scalar(l, insn, 1, bytes);
  else if (has_first(shape)) f->source[0] = vex_read(l, insn, 1);
  if (shape == VEX_SELF) f->source[0] = f->source[1];
  if (shape == VEX_BLEND) f->source[2] = vex_read(l, insn, 3);
}

/* --- Results -------------------------------------------------------------------------------------- */

/* Bytes from which on XMM register `number` is known to be zero, or 16. */
static unsigned zero_above(const Lift *l, unsigned number) {
  return sse_is_zero_above(l, number, 4) ? 4 : sse_is_zero_above(l, number, 8) ? 8 : 16;
}

static void write_scalar(Lift *l, const X86Insn *insn, const LiftVex *done, unsigned bytes) {
  unsigned d = insn->operands[0].reg, n = insn->operands[1].reg;
  IrVec value = done->result;
  if (d != n) {
    unsigned zero = zero_above(l, n);
    if (value.id == d) value = sse_copy(l, value);
    ir_vvv(&l->b, IR_MOV_16B, lift_xmm(d), lift_xmm(n), lift_xmm(n));
    sse_know_zero_above(l, d, zero);
  }
  if (done->dirty_above || value.id < IR_TEMP_FIRST) sse_merge_scalar(l, d, bytes, value);
  else sse_write_scalar(l, d, bytes, value);
  ymm_zero_upper(l, d);
}

static void write_vector(Lift *l, const X86Insn *insn, const Form *f, VexPair result) {
  vex_write(l, insn, result);
  if (f->done.zero_above < 16) sse_know_zero_above(l, insn->operands[0].reg, f->done.zero_above);
}

static void lift_same(Lift *l, const X86Insn *insn, const LiftRow *row) {
  row->function(l, insn, row->argument);
  const X86Operand *d = &insn->operands[0];
  if (d->kind == X86_OPERAND_XMM && d->access & X86_ACCESS_W) ymm_zero_upper(l, d->reg);
}

/* VPXOR, VPSUB … of a register with itself. */
static bool makes_zero(const X86Insn *insn, const LiftRow *row) {
  const X86Operand *n = &insn->operands[1], *m = &insn->operands[2];
  return row->function == sse_lift_zeroing && m->kind == X86_OPERAND_XMM && n->reg == m->reg;
}

static void write_zero(Lift *l, unsigned number) {
  ir_v_raw(&l->b, IR_MOVI_2D, lift_xmm(number), 0);
  sse_know_zero_above(l, number, 4);
  ymm_zero_upper(l, number);
}

void vex_lift(Lift *l, const X86Insn *insn, uint32_t argument) {
  VexShape shape = shape_of(argument);
  Form f = {.insn = *insn, .row = &lift_rows[argument & 0xffff], .imm_shift = (uint8_t)(argument >> 24)};
  if (shape == VEX_SAME) {
    lift_same(l, insn, f.row);
    return;
  }
  if (makes_zero(insn, f.row)) {
    write_zero(l, insn->operands[0].reg);
    return;
  }
  f.wide = vex_is_wide(insn, shape == VEX_NARROW);
  read_sources(l, insn, &f, shape);
  VexPair result = vex_checked(l, insn, f.wide ? 2 : 1, make_halves, &f);
  if (scalar_bytes(shape)) {
    write_scalar(l, insn, &f.done, scalar_bytes(shape));
    return;
  }
  if (shape == VEX_NARROW && f.wide) {
    result.half[0] = sse_vvv(l, IR_ZIP1_2D, result.half[0], result.half[1]);
    f.done.zero_above = 16;
  }
  write_vector(l, insn, &f, result);
}

/* VMOVSS, VMOVSD: loads and stores; or the lowest lane of one register with the rest of another. argument: bytes. */
void vex_lift_move_scalar(Lift *l, const X86Insn *insn, uint32_t bytes) {
  if (insn->operand_count < 3) {
    sse_lift_move_scalar(l, insn, bytes);
    if (!sse_is_memory(insn, 0)) ymm_zero_upper(l, insn->operands[0].reg);
    return;
  }
  LiftVex done = {.result = sse_scalar_source(l, insn, 2, bytes), .dirty_above = true};
  write_scalar(l, insn, &done, bytes);
}

/* VMOVLPS, VMOVHLPS …: as the relative stores; or loads, with the other half of another register. argument: the
 * relative. */
void vex_lift_move_half(Lift *l, const X86Insn *insn, uint32_t relative) {
  bool stores = insn->operand_count < 3;
  vex_lift(l, insn, VEX_ARGUMENT(relative, stores ? VEX_SAME : VEX_BINARY, 0));
}
