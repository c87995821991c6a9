/* Permutations: unpack, pack, shuffle, align, blend, extend.
 *
 * AArch64 has no shuffle with immediate lanes; most immediates that compilers use are one of its fixed
 * permutations, most others two of them. Those are found by trying: a permutation of four lanes is eight
 * bits, as x86 writes it. */
#include "lift/vector/sse.h"

typedef struct Permutation {
  uint8_t control; /* lane i of the result is lane control >> 2i & 3 of the source */
  uint16_t op[2];  /* on doublewords; on the four halfwords of the low half */
  uint16_t field;  /* lane or byte position, in doublewords; 0xff: none */
  bool unary;
} Permutation;

/* With both sources the same register. */
static const Permutation permutations[] = {
    {0xe4, {IR_MOV_16B, IR_MOV_16B}, 0xff, false}, /* must be first: no change */
    {0x4e, {IR_EXT_16B, 0}, 2, false},
    {0x39, {IR_EXT_16B, 0}, 1, false},
    {0x93, {IR_EXT_16B, 0}, 3, false},
    {0x00, {IR_DUP_4S, IR_DUP_8H}, 0, true},
    {0x55, {IR_DUP_4S, IR_DUP_8H}, 1, true},
    {0xaa, {IR_DUP_4S, IR_DUP_8H}, 2, true},
    {0xff, {IR_DUP_4S, IR_DUP_8H}, 3, true},
    {0xb1, {IR_REV64_4S, IR_REV32_8H}, 0xff, true},
    {0x1b, {0, IR_REV64_8H}, 0xff, true},
    {0x50, {IR_ZIP1_4S, IR_ZIP1_8H}, 0xff, false},
    {0xfa, {IR_ZIP2_4S, IR_ZIP2_4H}, 0xff, false},
    {0x88, {IR_UZP1_4S, IR_UZP1_4H}, 0xff, false},
    {0xdd, {IR_UZP2_4S, IR_UZP2_4H}, 0xff, false},
    {0xa0, {IR_TRN1_4S, IR_TRN1_8H}, 0xff, false},
    {0xf5, {IR_TRN2_4S, IR_TRN2_8H}, 0xff, false},
    {0x44, {IR_DUP_2D, IR_DUP_4S}, 0, true},
    {0xee, {IR_DUP_2D, IR_DUP_4S}, 1, true},
};
enum { PERMUTATIONS = sizeof permutations / sizeof permutations[0], NOT_FOUND = 0xffff };

static unsigned lane_of(unsigned control, unsigned i) { return control >> (2 * i) & 3; }

/* Applies permutation p to `value`; bytes: 4 or 2 of a lane. */
static IrVec apply(Lift *l, unsigned p, IrVec value, unsigned bytes) {
  const Permutation *row = &permutations[p];
  if (p == 0) return value;
  IrOp op = (IrOp)row->op[bytes == 2];
  unsigned lane_bytes = row->control == 0x44 || row->control == 0xee ? 2 * bytes : bytes;
  if (row->unary)
    return sse_vv_raw(l, op, value, row->field == 0xff ? 0 : ir_lane(lane_bytes, row->field));
  return sse_vvv_raw(l, op, value, value, row->field == 0xff ? 0 : ir_ext(row->field * 4));
}

static unsigned compose(unsigned first, unsigned then) {
  unsigned control = 0;
  for (unsigned i = 0; i < 4; i++) control |= lane_of(first, lane_of(then, i)) << (2 * i);
  return control;
}

/* Lanes in `mask` (two bits a lane) that must agree. */
static bool agrees(unsigned a, unsigned b, unsigned mask) { return ((a ^ b) & mask) == 0; }

static unsigned find_one(unsigned control, unsigned mask, unsigned bytes) {
  for (unsigned p = 0; p < PERMUTATIONS; p++)
    if (permutations[p].op[bytes == 2] && agrees(permutations[p].control, control, mask)) return p;
  return NOT_FOUND;
}

/* Two permutations whose composition agrees: first | then << 8. */
static unsigned find_two(unsigned control, unsigned mask, unsigned bytes) {
  for (unsigned p = 1; p < PERMUTATIONS; p++)
    for (unsigned q = 1; q < PERMUTATIONS; q++)
      if (permutations[p].op[bytes == 2] && permutations[q].op[bytes == 2] &&
          agrees(compose(permutations[p].control, permutations[q].control), control, mask))
        return p | q << 8;
  return NOT_FOUND;
}

/* The permutation with the most lanes right, of those in `mask`. */
static unsigned find_nearest(unsigned control, unsigned mask, unsigned bytes) {
  unsigned best = 0, best_right = 0;
  for (unsigned p = 0; p < PERMUTATIONS; p++) {
    unsigned right = 0;
    for (unsigned i = 0; i < 4; i++)
      right += (mask >> (2 * i) & 3) && lane_of(permutations[p].control, i) == lane_of(control, i);
    if (!permutations[p].op[bytes == 2] || right <= best_right) continue;
    best = p;
    best_right = right;
  }
  return best;
}

/* A vector whose lanes in `mask` are those of `value` that `control` names. */
static IrVec shuffle_some(Lift *l, IrVec value, unsigned control, unsigned mask, unsigned bytes) {
  unsigned found = find_one(control, mask, bytes);
  if (found != NOT_FOUND) return apply(l, found, value, bytes);
  found = find_two(control, mask, bytes);
  if (found != NOT_FOUND) return apply(l, found >> 8, apply(l, found & 0xff, value, bytes), bytes);
  unsigned nearest = find_nearest(control, mask, bytes), made = permutations[nearest].control;
  IrVec d = nearest ? apply(l, nearest, value, bytes) : sse_copy(l, value);
  for (unsigned i = 0; i < 4; i++) {
    unsigned wanted = lane_of(control, i), from = 0;
    if (!(mask >> (2 * i) & 3) || lane_of(made, i) == wanted) continue;
    while (from < 4 && lane_of(made, from) != wanted) from++;
    bool own = from < 4; /* the lane stands in the result already */
    ir_vv_raw(&l->b, bytes == 2 ? IR_INS_H : IR_INS_S, d, own ? d : value,
              ir_lanes(bytes, i, own ? from : wanted));
    made = (made & ~(3u << (2 * i))) | wanted << (2 * i);
  }
  return d;
}

IrVec sse_shuffle4(Lift *l, IrVec value, unsigned control, unsigned bytes) {
  return shuffle_some(l, value, control & 0xff, 0xff, bytes);
}

void sse_lift_pshufd(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_shuffle4(l, sse_source(l, insn, 1), (unsigned)insn->imm, 4);
  sse_write(l, insn->operands[0].reg, value);
}

void sse_lift_pshufw(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_shuffle4(l, sse_source(l, insn, 1), (unsigned)insn->imm, 2);
  lift_write_mmx(l, insn->operands[0].reg, value);
}

/* PSHUFLW, PSHUFHW: the halfwords of one half; the other is copied. argument: the half. */
void sse_lift_pshuf_half(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec source = sse_source(l, insn, 1), half = source;
  if (argument) half = sse_vv_raw(l, IR_DUP_D, source, ir_lane(8, 1));
  half = sse_shuffle4(l, half, (unsigned)insn->imm, 2);
  unsigned number = insn->operands[0].reg;
  bool in_place = source.id == number;
  IrVec d = in_place ? source : sse_copy(l, source);
  if (half.id != d.id || argument) ir_vv_raw(&l->b, IR_INS_D, d, half, ir_lanes(8, argument, 0));
  sse_write(l, number, d);
}

/* Where the lanes of two pairs, already in place in a half of their registers, are joined. */
static IrVec join_pairs(Lift *l, IrVec a, bool a_high, IrVec b, bool b_high) {
  if (!a_high && !b_high) return sse_vvv(l, IR_ZIP1_2D, a, b);
  if (a_high && b_high) return sse_vvv(l, IR_ZIP2_2D, a, b);
  if (a_high) return sse_vvv_raw(l, IR_EXT_16B, a, b, ir_ext(8));
  IrVec d = sse_copy(l, a);
  ir_vv_raw(&l->b, IR_INS_D, d, b, ir_lanes(8, 1, 1));
  return d;
}

/* A pair of lanes (4 bits of control) brought to a half of a register; tells which. */
static IrVec place_pair(Lift *l, IrVec value, unsigned pair, bool *ret_high) {
  unsigned low = find_one(pair, 0x0f, 4), high = find_one(pair << 4, 0xf0, 4);
  *ret_high = low == NOT_FOUND ? high != NOT_FOUND : high == 0;
  if (*ret_high) return apply(l, high, value, 4);
  return shuffle_some(l, value, pair, 0x0f, 4);
}

/* Two-operand code copies a register to shuffle it with itself. */
static bool same_lanes(const Lift *l, IrVec n, IrVec m) {
  if (n.id == m.id) return true;
  return !l->vex.active && n.id < 16 && m.id < 16 && sse_original(l, n.id) == sse_original(l, m.id);
}

/* SHUFPS: two lanes of the destination, then two of the source. */
void sse_lift_shufps(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned imm = (unsigned)insn->imm & 0xff, number = insn->operands[0].reg;
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  if (same_lanes(l, n, m)) {
    sse_write(l, number, sse_shuffle4(l, m, imm, 4));
  } else if (imm == 0xe4) {
    ir_vv_raw(&l->b, IR_INS_D, sse_changed(l, insn), m, ir_lanes(8, 1, 1));
  } else if (imm == 0x88 || imm == 0xdd) {
    ir_vvv(&l->b, imm == 0x88 ? IR_UZP1_4S : IR_UZP2_4S, sse_result(l, insn), n, m);
  } else {
    bool n_high, m_high;
    n = place_pair(l, n, imm & 15, &n_high);
    m = place_pair(l, m, imm >> 4, &m_high);
    sse_write(l, number, join_pairs(l, n, n_high, m, m_high));
  }
}

void sse_lift_shufpd(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec d = (insn->imm & 3) == 2 ? sse_changed(l, insn) : sse_result(l, insn);
  switch (insn->imm & 3) {
  case 0: ir_vvv(&l->b, IR_ZIP1_2D, d, n, m); break;
  case 1: ir_vvv_raw(&l->b, IR_EXT_16B, d, n, m, ir_ext(8)); break;
  case 2: ir_vv_raw(&l->b, IR_INS_D, d, m, ir_lanes(8, 1, 1)); break;
  default: ir_vvv(&l->b, IR_ZIP2_2D, d, n, m); break;
  }
}

/* PSHUFB: TBL gives zero for indices of 16 and more; bits 6:4 are to be ignored. */
static IrVec shuffle_bits(Lift *l, bool mmx) {
  LiftShuffle *s = &l->shuffle;
  bool keep = !mmx && !l->group.replay; /* what a cold path makes, the others do not have */
  if (keep && s->bits.id != IR_NONE) return s->bits;
  IrVec bits = ir_vector_temp(&l->b);
  ir_v_raw(&l->b, IR_MOVI_16B, bits, ir_imm8(mmx ? 0x87 : 0x8f));
  if (keep) s->bits = bits;
  return bits;
}

static IrVec shuffle_mask(Lift *l, const X86Insn *insn) {
  const X86Operand *o = &insn->operands[1];
  LiftShuffle *s = &l->shuffle;
  IrVec m = sse_source(l, insn, 1);
  bool home = l->vex.active ? m.id < 16 : o->kind == X86_OPERAND_XMM, keep = home && !l->group.replay;
  if (keep && s->mask.id != IR_NONE && s->number == m.id) return s->mask;
  IrVec mask = sse_vvv(l, IR_AND_16B, shuffle_bits(l, sse_is_mmx(insn, 0)), m);
  if (keep) {
    s->mask = mask;
    s->number = (uint8_t)m.id;
  }
  return mask;
}

void sse_lift_pshufb(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec mask = shuffle_mask(l, insn), n = sse_source(l, insn, 0);
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, IR_TBL_16B, d, n, mask);
  sse_finish(l, insn, d);
}

/* PALIGNR: bytes `imm` and up of destination:source. */
void sse_lift_palignr(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned imm = (unsigned)insn->imm & 0xff, width = sse_is_mmx(insn, 0) ? 8 : 16;
  IrVec low = sse_source(l, insn, 1), high = sse_source(l, insn, 0);
  if (imm >= 2 * width) {
    low = high = IR_VECTOR_ZERO;
    imm = 0;
  } else if (imm >= width) {
    low = high;
    high = IR_VECTOR_ZERO;
    imm -= width;
  }
  if (width == 8) low = sse_vvv(l, IR_ZIP1_2D, low, high);
  IrVec d = sse_result(l, insn);
  ir_vvv_raw(&l->b, IR_EXT_16B, d, low, width == 8 ? low : high, ir_ext(imm));
  sse_finish(l, insn, d);
}

/* PACKSSWB …: argument: the narrowing operation; the one of the upper half in the high part. */
void sse_lift_pack(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrOp low = (IrOp)sse_low(argument), high = (IrOp)sse_high(argument);
  if (sse_is_mmx(insn, 0)) {
    IrVec both = sse_vvv(l, IR_ZIP1_2D, n, m);
    lift_write_mmx(l, insn->operands[0].reg, sse_vv(l, low, both));
    return;
  }
  IrVec d = m.id == n.id ? ir_vector_temp(&l->b) : sse_result(l, insn);
  ir_vv(&l->b, low, d, n);
  ir_vv(&l->b, high, d, m);
  sse_write(l, insn->operands[0].reg, d);
}

/* Blends by immediate: lanes of the source where the bit is set. argument: bytes of a lane. */
void sse_lift_blend(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint16_t op[] = {[2] = IR_INS_H, [4] = IR_INS_S, [8] = IR_INS_D};
  unsigned lanes = 16 / argument, mask = (unsigned)insn->imm & ((1u << lanes) - 1);
  unsigned bytes = argument;
  IrVec m = sse_source(l, insn, 1);
  if (mask == (1u << lanes) - 1) {
    sse_write(l, insn->operands[0].reg, m);
    return;
  }
  IrVec d = sse_changed(l, insn);
  while (bytes < 8) { /* pairs of lanes alike are one lane of twice the size */
    unsigned wide = 0;
    bool paired = true;
    for (unsigned i = 0; i < 16 / bytes; i += 2) {
      unsigned pair = mask >> i & 3;
      paired &= pair == 0 || pair == 3;
      wide |= (pair & 1) << (i / 2);
    }
    if (!paired) break;
    mask = wide;
    bytes *= 2;
  }
  for (unsigned i = 0; i < 16 / bytes; i++)
    if (mask >> i & 1) ir_vv_raw(&l->b, (IrOp)op[bytes], d, m, ir_lanes(bytes, i, i));
}

/* BLENDVPS, BLENDVPD, PBLENDVB: by the signs of XMM0, or of a fourth operand. argument: the shift that spreads them, bits. */
void sse_lift_blendv(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned bits = sse_high(argument);
  IrVec m = sse_source(l, insn, 1);
  IrVec signs = l->vex.active ? l->vex.source[2] : lift_xmm(0);
  IrVec mask = sse_vv_raw(l, (IrOp)sse_low(argument), signs, ir_shift_right(bits, bits - 1));
  ir_vvv(&l->b, IR_BIT_16B, sse_changed(l, insn), m, mask);
}

/* PMOVSX, PMOVZX: argument: the first extension; the number of doublings in the high part. The rows of
 * SXTL and UXTL stand in ops-vector.def as 8H, 8H upper, 4S, 4S upper, 2D. */
void sse_lift_extend(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_source(l, insn, 1);
  unsigned op = sse_low(argument), steps = sse_high(argument);
  for (; steps > 1; steps--, op += IR_SXTL_4S - IR_SXTL_8H) value = sse_vv(l, (IrOp)op, value);
  ir_vv(&l->b, (IrOp)op, sse_result(l, insn), value);
}
