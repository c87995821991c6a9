/* Groups: vector instructions in a row whose arithmetic is checked for NaNs once, at the end.
 *
 * Results that differ from x86's set FPSR.IOC (float.c), and IOC is sticky, so one look at it covers
 * everything since it was last clear. Where it is set, the cold path puts the registers back as they were
 * when the group began and lifts the same instructions again, each result mended by the helper.
 *
 * So a group holds only instructions that can be done twice: they write XMM registers and nothing else, and
 * between them nothing is stored and no general register they read changes, but by a constant, which the
 * cold path takes back first. Registers are written as usual, for a
 * load in the group may fault and must find precise state; the value a register had before the group is
 * copied to a temporary when the group has read it and first writes it. What a fault inside a group may show
 * is a NaN of the wrong sign or payload made by one of the few instructions before it; with exact_flags
 * (region/region.h) a group is one instruction, and it cannot. */
#include "lift/vector/vex.h"

enum { NOT_GROUPED, PLAIN, ARITHMETIC };
enum { MAX_SAVED = 6 };

#define FORMS(op, kind) [X86_##op##PS] = kind, [X86_##op##PD] = kind, [X86_##op##SS] = kind, [X86_##op##SD] = kind
#define PACKED(op, kind) [X86_##op##PS] = kind, [X86_##op##PD] = kind

/* Instructions a group may hold when their destination is an XMM register; and those with VEX whose relatives they are,
 * of 128 bits. */
static const uint8_t kinds[X86_MNEMONIC_COUNT] = {
    FORMS(ADD, ARITHMETIC), FORMS(SUB, ARITHMETIC), FORMS(MUL, ARITHMETIC), FORMS(DIV, ARITHMETIC),
    FORMS(SQRT, ARITHMETIC), FORMS(MIN, PLAIN), FORMS(MAX, PLAIN), FORMS(CMP, PLAIN),
    FORMS(ROUND, PLAIN), PACKED(HADD, ARITHMETIC), PACKED(HSUB, ARITHMETIC),
    PACKED(ADDSUB, ARITHMETIC), PACKED(DP, ARITHMETIC), PACKED(AND, PLAIN), PACKED(ANDN, PLAIN),
    PACKED(OR, PLAIN), PACKED(XOR, PLAIN), PACKED(SHUF, PLAIN), PACKED(UNPCKL, PLAIN),
    PACKED(UNPCKH, PLAIN), PACKED(BLEND, PLAIN), PACKED(BLENDV, PLAIN), PACKED(MOVA, PLAIN),
    PACKED(MOVU, PLAIN), PACKED(MOVL, PLAIN), PACKED(MOVH, PLAIN),
    [X86_MOVSS] = PLAIN, [X86_MOVSD] = PLAIN, [X86_MOVD] = PLAIN, [X86_MOVQ] = PLAIN,
    [X86_MOVDQA] = PLAIN, [X86_MOVDQU] = PLAIN, [X86_MOVHLPS] = PLAIN, [X86_MOVLHPS] = PLAIN,
    [X86_MOVDDUP] = PLAIN, [X86_MOVSLDUP] = PLAIN, [X86_MOVSHDUP] = PLAIN,
    [X86_INSERTPS] = PLAIN, [X86_PXOR] = PLAIN, [X86_PAND] = PLAIN, [X86_POR] = PLAIN,
    [X86_PANDN] = PLAIN, [X86_PSHUFD] = PLAIN, [X86_PUNPCKLQDQ] = PLAIN, [X86_PUNPCKHQDQ] = PLAIN,
    [X86_PUNPCKLDQ] = PLAIN, [X86_PUNPCKHDQ] = PLAIN, [X86_PSLLDQ] = PLAIN, [X86_PSRLDQ] = PLAIN,
    [X86_CVTSI2SS] = PLAIN, [X86_CVTSI2SD] = PLAIN, [X86_CVTSS2SD] = PLAIN,
    [X86_CVTSD2SS] = PLAIN, [X86_CVTPS2PD] = PLAIN, [X86_CVTPD2PS] = PLAIN,
    [X86_CVTDQ2PS] = PLAIN, [X86_CVTDQ2PD] = PLAIN,
    PACKED(VMOVA, PLAIN), PACKED(VMOVU, PLAIN), PACKED(VMOVL, PLAIN), PACKED(VMOVH, PLAIN),
    [X86_VMOVSS] = PLAIN, [X86_VMOVSD] = PLAIN, [X86_VMOVDQA] = PLAIN, [X86_VMOVDQU] = PLAIN,
    [X86_VMOVHLPS] = PLAIN, [X86_VMOVLHPS] = PLAIN,
    [X86_VBROADCASTSS] = PLAIN, [X86_VBROADCASTSD] = PLAIN, [X86_VBROADCASTF128] = PLAIN,
};

static bool is_fma(const X86Insn *insn) { return lift_rows[insn->mnemonic].function == vex_lift_fma; }

static unsigned kind_of(const X86Insn *insn) {
  return is_fma(insn) ? ARITHMETIC : kinds[vex_relative(insn->mnemonic)];
}

static bool is_vex(const X86Insn *insn) { return insn->prefixes & X86_PREFIX_VEX; }

static bool is_groupable(const X86Insn *insn) {
  return kind_of(insn) != NOT_GROUPED && insn->operands[0].kind == X86_OPERAND_XMM &&
         insn->operands[1].kind != X86_OPERAND_MMX;
}

static bool is_wide(const X86Insn *insn) { return vex_is_wide(insn, 0) || vex_is_wide(insn, 1); }

bool vex_may_make_nans(const X86Insn *insn) { return is_wide(insn) && kind_of(insn) == ARITHMETIC; }

/* A register with itself, made zero whatever it was. */
static bool is_zeroing(const X86Insn *insn) {
  unsigned m = vex_relative(insn->mnemonic);
  const X86Operand *last = &insn->operands[is_vex(insn) ? 2 : 1], *first = last - 1;
  return (m == X86_XORPS || m == X86_XORPD || m == X86_PXOR) && last->kind == X86_OPERAND_XMM &&
         first->reg == last->reg;
}

/* XMM registers of which more than `bytes` bytes are read; with VEX even a scalar's result takes all of one. */
static uint16_t registers_read(const X86Insn *insn, unsigned bytes) {
  uint16_t mask = 0;
  if (is_zeroing(insn)) return 0;
  for (unsigned i = 0; i < insn->operand_count; i++) {
    const X86Operand *o = &insn->operands[i];
    if (o->kind == X86_OPERAND_XMM && o->access & X86_ACCESS_R && (o->size > bytes || is_vex(insn)))
      mask |= (uint16_t)(1u << o->reg);
  }
  return mask;
}

/* Those of which the upper half is read. */
static uint16_t registers_read_wide(const X86Insn *insn) {
  uint16_t mask = 0;
  if (is_zeroing(insn)) return 0;
  for (unsigned i = 0; i < insn->operand_count; i++)
    if (insn->operands[i].kind == X86_OPERAND_XMM && insn->operands[i].access & X86_ACCESS_R && vex_is_wide(insn, i))
      mask |= (uint16_t)(1u << insn->operands[i].reg);
  return mask;
}

/* --- General registers between ------------------------------------------------------------------ */

typedef enum Between {
  CLOSES,   /* not among vector instructions of a group */
  HARMLESS, /* may be done once: changes nothing the group reads */
  ADVANCES  /* adds a constant to a register the group reads */
} Between;

static uint16_t general_read(const X86Insn *insn) {
  uint32_t mask = 0;
  for (unsigned i = 1; i < insn->operand_count; i++) {
    const X86Operand *o = &insn->operands[i];
    if (o->kind == X86_OPERAND_GPR) mask |= 1u << o->reg;
    if (o->kind != X86_OPERAND_MEM) continue;
    if (insn->mem.base < 16) mask |= 1u << insn->mem.base;
    if (insn->mem.index < 16) mask |= 1u << insn->mem.index;
  }
  return (uint16_t)mask;
}

/* What is added to operand 0, a 64-bit register. False: something else happens to it. */
static bool constant_step(const X86Insn *insn, int64_t *ret_step) {
  const X86Operand *d = &insn->operands[0];
  bool immediate = insn->operand_count > 1 && insn->operands[1].kind == X86_OPERAND_IMM;
  if (d->size != 8) return false;
  switch (insn->mnemonic) {
  case X86_INC: *ret_step = 1; return true;
  case X86_DEC: *ret_step = -1; return true;
  case X86_ADD: *ret_step = insn->imm; return immediate;
  case X86_SUB: *ret_step = -(int64_t)(uint64_t)insn->imm; return immediate;
  case X86_LEA:
    *ret_step = insn->mem.disp;
    return insn->mem.base == d->reg && insn->mem.index == X86_NOREG &&
           !(insn->prefixes & X86_PREFIX_ADDR32);
  default: return false;
  }
}

static Between between(const LiftGroup *g, const X86Insn *insn) {
  int64_t step;
  const X86Operand *d = &insn->operands[0];
  switch (insn->mnemonic) {
  case X86_CMP: case X86_TEST: return HARMLESS;
  case X86_ADD: case X86_SUB: case X86_INC: case X86_DEC: case X86_LEA: case X86_MOV:
  case X86_MOVZX: case X86_MOVSX: case X86_MOVSXD: case X86_AND: case X86_OR: case X86_XOR:
  case X86_SHL: case X86_SHR: case X86_SAR: break;
  default: return CLOSES;
  }
  if (d->kind != X86_OPERAND_GPR) return CLOSES;
  if (insn->operand_count > 1 && insn->operands[1].kind > X86_OPERAND_IMM) return CLOSES;
  if (!(g->general >> d->reg & 1)) return HARMLESS;
  return constant_step(insn, &step) ? ADVANCES : CLOSES;
}

/* The rest of the register, even if known to be zero, may come from its old value. */
static bool writes_in_part(const X86Insn *insn) { return insn->operands[0].size < 16 && !is_vex(insn); }

/* --- Closing ------------------------------------------------------------------------------------ */

static void lift_again(Lift *l, const X86Insn *insn, uint64_t pc) {
  int64_t step;
  if (!is_groupable(insn)) {
    constant_step(insn, &step);
    ir_add_imm(&l->b, 8, lift_gpr(insn->operands[0].reg), lift_gpr(insn->operands[0].reg), step);
    return;
  }
  const LiftRow *row = &lift_rows[insn->mnemonic];
  l->pc = pc;
  l->next_pc = pc + insn->length;
  ir_mark(&l->b, IR_GUEST, pc, l->form, l->uppers.dirty);
  row->function(l, insn, row->argument);
}

static void take_back_steps(Lift *l) {
  const LiftGroup *g = &l->group;
  int64_t step;
  for (unsigned i = g->count; i-- > 0;) {
    if (is_groupable(g->insns[i])) continue;
    IrReg d = lift_gpr(g->insns[i]->operands[0].reg);
    constant_step(g->insns[i], &step);
    ir_add_imm(&l->b, 8, d, d, -(int64_t)(uint64_t)step);
  }
}

/* The cold path: everything again from the beginning of the group. */
static void replay(Lift *l) {
  LiftGroup *g = &l->group;
  LiftUppers uppers = l->uppers;
  uint64_t pc = l->pc, next_pc = l->next_pc;
  LiftVectors vectors = l->vectors;
  for (unsigned number = 0; number < 16; number++)
    if (g->saved >> number & 1)
      ir_vvv(&l->b, IR_MOV_16B, lift_xmm(number), (IrVec){g->save[number]}, (IrVec){g->save[number]});
  for (unsigned number = 0; number < 16; number++)
    if (g->saved_upper >> number & 1) ymm_write_upper(l, number, (IrVec){g->save_upper[number]});
  take_back_steps(l);
  l->scalars.valid = 0;
  l->uppers.valid = l->uppers.same = 0; /* those of before the group are in memory */
  if (g->fma) sse_clear_invalid(l, false);
  g->replay = true;
  l->vectors = g->vectors;
  for (unsigned i = 0; i < g->count; i++) lift_again(l, g->insns[i], g->pcs[i]);
  g->replay = false;
  l->scalars.valid = 0;
  sse_clear_invalid(l, true);
  l->vectors = vectors;
  l->uppers = uppers;
  l->uppers.same &= (uint16_t)~g->written;
  if (g->wide) l->uppers.valid &= (uint16_t)~g->written; /* mended ones are in memory alone */
  l->pc = pc;
  l->next_pc = next_pc;
}

/* When the last operation merges a scalar into a register that was saved for it and not written otherwise, the
 * merge can wait until after the check, and the register need not be saved. True: *ret_merge is to be
 * appended. */
static bool postpone_merge(Lift *l, IrInsn *ret_merge) {
  LiftGroup *g = &l->group;
  IrBuilder *b = &l->b;
  const IrInsn *last = &b->insns[b->count - 1];
  if (!g->last_save || (last->op != IR_INS_D && last->op != IR_INS_S)) return false;
  const IrInsn *save = &b->insns[g->last_save];
  if (save->reg[1] != last->reg[0] || last->reg[1] < IR_TEMP_FIRST) return false;
  for (const IrInsn *between = save + 1; between < last; between++)
    if (ir_op_info[between->op].kind[0] & IR_KIND_V && between->reg[0] == last->reg[0]) return false;
  *ret_merge = *last;
  g->saved &= (uint16_t)~(1u << save->reg[1]);
  b->count--;
  for (uint32_t i = g->last_save; i + 1 < b->count; i++) b->insns[i] = b->insns[i + 1];
  b->count--;
  return true;
}

static void close_group(Lift *l) {
  LiftGroup *g = &l->group;
  IrBuilder *b = &l->b;
  if (g->unchecked && !b->overflow) {
    vex_signal_pending(l, g->pending);
    IrInsn merge = {0};
    bool merge_later = postpone_merge(l, &merge);
    IrLabel cold = ir_label(b), done = ir_label(b);
    IrReg status = ir_temp(b);
    ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
    ir_tbnz(b, status, 0, cold);
    ir_cold_begin(b);
    ir_bind(b, cold);
    replay(l);
    ir_branch(b, done);
    ir_cold_end(b);
    l->settled = true;
    if (merge_later) ir_vv_raw(b, (IrOp)merge.op, (IrVec){merge.reg[0]}, (IrVec){merge.reg[1]}, (uint32_t)merge.imm);
    ir_bind_return(b, done);
  }
  g->count = 0;
  g->unchecked = false;
}

/* --- Opening and adding --------------------------------------------------------------------------- */

static void restart(Lift *l, const X86Insn *first) {
  if (is_fma(first)) vex_settle(l);
  lift_group_clear(&l->group);
  l->group.vectors = l->vectors;
  l->group.settled = l->settled;
}

static void save_register(Lift *l, unsigned number) {
  LiftGroup *g = &l->group;
  IrVec copy = sse_copy(l, lift_xmm(number));
  g->last_save = l->b.count - 1;
  g->save[number] = copy.id;
  g->saved |= (uint16_t)(1u << number);
  g->saves++;
  if (!(g->read_wide >> number & 1)) return;
  IrVec upper = ymm_upper(l, number);
  if (upper.id == a64_upper_home(number)) upper = sse_copy(l, upper);
  g->save_upper[number] = upper.id == number ? copy.id : upper.id;
  g->saved_upper |= (uint16_t)(1u << number);
  g->saves++;
  g->last_save = 0;
}

static void add_to_group(Lift *l, const X86Insn *insn) {
  LiftGroup *g = &l->group;
  g->general |= general_read(insn);
  g->insns[g->count] = insn;
  g->pcs[g->count++] = l->pc;
}

/* `insn` stands among the vector instructions of an open group. */
static void enter_between(Lift *l, const X86Insn *insn) {
  LiftGroup *g = &l->group;
  if (g->count == LIFT_GROUP_MAX) close_group(l);
  else if (between(g, insn) == ADVANCES) add_to_group(l, insn);
}

static void enter_group(Lift *l, const X86Insn *insn) {
  LiftGroup *g = &l->group;
  if (!is_groupable(insn)) {
    if (g->count) enter_between(l, insn);
    return;
  }
  uint16_t destination = (uint16_t)(1u << insn->operands[0].reg), read = registers_read(insn, 0);
  bool full = g->count == LIFT_GROUP_MAX || g->saves >= MAX_SAVED;
  bool mixed = (registers_read(insn, 4) & g->partial4) || (registers_read(insn, 8) & g->partial8) ||
               (is_wide(insn) && g->legacy) || (!is_vex(insn) && g->wide); /* SSE leaves upper halves alone */
  if (is_fma(insn) && !g->settled) mixed = true;
  if (g->count && (full || mixed)) close_group(l);
  if (g->count == 0) restart(l, insn);
  bool save = ((g->read | (read & ~g->written)) & ~g->written & ~g->saved & destination) != 0;
  if (save && !g->unchecked) { /* nothing to check yet: a group that begins here needs less */
    restart(l, insn);
    save = (read & destination) != 0;
    if (save && kind_of(insn) != ARITHMETIC) return;
  }
  if (!is_fma(insn)) vex_signal_pending(l, destination);
  g->read |= read & (uint16_t)~g->written;
  g->read_wide |= registers_read_wide(insn) & (uint16_t)~g->written;
  g->fma |= is_fma(insn);
  g->legacy |= !is_vex(insn);
  g->wide |= is_wide(insn);
  g->last_save = 0;
  if (save) save_register(l, insn->operands[0].reg);
  else if (!(g->written & destination) && writes_in_part(insn))
    *(insn->operands[0].size == 4 ? &g->partial4 : &g->partial8) |= destination;
  g->written |= destination;
  add_to_group(l, insn);
}

void lift_sse_enter(Lift *l, const X86Insn *insn) {
  enter_group(l, insn);
  l->sse_begin = l->b.count;
}

/* MOVAPS of a register and one operation on the copy, as two-operand instructions need them, are one operation
 * with three operands, of the copy's instruction: who begins at the other's would find no copy. */
static void forward_copy(Lift *l) {
  IrBuilder *b = &l->b;
  if (b->count != l->sse_begin + 1) return;
  IrInsn *insn = &b->insns[b->count - 1];
  const uint8_t *kind = ir_op_info[insn->op].kind;
  unsigned number = insn->reg[0];
  if (kind[0] != (IR_KIND_V | IR_KIND_D) || number >= 16) return;
  uint32_t at = b->count - 1;
  while (at > 0 && b->insns[at - 1].op == IR_GUEST) at--;
  const IrInsn *copy = &b->insns[at - 1];
  if (at == 0 || copy->op != IR_MOV_16B || copy->reg[0] != number) return;
  bool used = false;
  for (unsigned k = 1; k < 4; k++) {
    if (!(kind[k] & IR_KIND_V) || insn->reg[k] != number) continue;
    insn->reg[k] = copy->reg[1];
    used = true;
  }
  if (!used) return;
  ir_note_temps(insn);
  b->insns[at - 1] = *insn;
  b->count = at;
}

void lift_sse_leave(Lift *l, const X86Insn *next) {
  if (!l->b.overflow) forward_copy(l);
  if (!l->group.count) return;
  bool ends = !next || l->region->exact_flags || l->region->float_traps || (!is_groupable(next) && between(&l->group, next) == CLOSES);
  if (ends) close_group(l);
}
