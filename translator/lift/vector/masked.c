/* AVX and AVX2 memory accesses under a mask: lane by lane, those whose mask has its sign set; and masks made of signs. */
#include "lift/vector/vex.h"

/* Lane `i`, of `bytes`, as a general register. */
static IrReg lane(Lift *l, VexPair value, unsigned bytes, unsigned i) {
  unsigned per = 16 / bytes;
  IrReg d = ir_temp(&l->b);
  ir_rv_raw(&l->b, bytes == 8 ? IR_UMOV_D : IR_UMOV_S, bytes, d, value.half[i / per], ir_lane(bytes, i % per));
  return d;
}

/* --- VMASKMOV, VPMASKMOV -------------------------------------------------------------------------- */

/* The address of lane i; branches to `skip` where the mask leaves it out. */
static IrAddress wanted_lane(Lift *l, VexPair mask, unsigned bytes, unsigned i, IrReg base, IrLabel skip) {
  ir_tbz(&l->b, lane(l, mask, bytes, i), bytes * 8 - 1, skip);
  return lift_address_offset(l, base, i * bytes, bytes);
}

static void load_lanes(Lift *l, const X86Insn *insn, unsigned bytes, unsigned lanes) {
  IrBuilder *b = &l->b;
  VexPair mask = vex_read(l, insn, 1), d;
  IrReg base = lift_address_register(l, insn);
  for (unsigned k = 0; k < 2; k++) {
    d.half[k] = ir_vector_temp(b);
    ir_v_raw(b, IR_MOVI_2D, d.half[k], 0);
  }
  for (unsigned i = 0; i < lanes; i++) {
    IrLabel skip = ir_label(b);
    IrReg value = ir_temp(b);
    IrAddress address = wanted_lane(l, mask, bytes, i, base, skip);
    ir_load(b, bytes, IR_EXTEND_ZERO, value, address);
    ir_vr_raw(b, bytes == 8 ? IR_INS_DG : IR_INS_SG, bytes, d.half[i * bytes / 16], value,
              ir_lane(bytes, i & (16 / bytes - 1)));
    ir_bind(b, skip);
  }
  vex_write(l, insn, d);
}

/* All is looked at before anything is stored: what cannot be read cannot be written. */
static void store_lanes(Lift *l, const X86Insn *insn, unsigned bytes, unsigned lanes) {
  IrBuilder *b = &l->b;
  VexPair value = vex_read(l, insn, 2), mask = vex_read(l, insn, 1);
  IrReg base = lift_address_register(l, insn);
  for (unsigned pass = 0; pass < 2; pass++) {
    for (unsigned i = 0; i < lanes; i++) {
      IrLabel skip = ir_label(b);
      IrAddress address = wanted_lane(l, mask, bytes, i, base, skip);
      if (pass) ir_store(b, bytes, lane(l, value, bytes, i), address);
      else ir_load(b, bytes, IR_EXTEND_ZERO, ir_temp(b), address);
      ir_bind(b, skip);
    }
  }
}

/* argument: bytes of a lane. */
void vex_lift_mask_move(Lift *l, const X86Insn *insn, uint32_t bytes) {
  unsigned lanes = insn->operands[1].size / bytes;
  if (sse_is_memory(insn, 0)) store_lanes(l, insn, bytes, lanes);
  else load_lanes(l, insn, bytes, lanes);
}

/* --- Gathers -------------------------------------------------------------------------------------- */

/* Registers of a gather; the index's lanes have `index_bytes`, the data's `bytes`. */
typedef struct Gather {
  unsigned destination, mask, bytes, index_bytes;
  IrReg base; /* with the displacement; without the segment's where addresses have 32 bits */
  IrReg segment;
} Gather;

static size_t upper_lane(unsigned number, unsigned bytes, unsigned i) {
  return offsetof(GuestCpu, upper) + 16 * number + i * bytes - 16;
}

/* Lane `i` of a YMM register as it stands. */
static IrReg register_lane(Lift *l, unsigned number, unsigned bytes, unsigned i) {
  IrReg value = ir_temp(&l->b);
  if (i * bytes < 16)
    ir_rv_raw(&l->b, bytes == 8 ? IR_UMOV_D : IR_UMOV_S, bytes, value, lift_xmm(number), ir_lane(bytes, i));
  else ir_load_state(&l->b, bytes, value, upper_lane(number, bytes, i));
  return value;
}

static void write_lane(Lift *l, unsigned number, unsigned bytes, unsigned i, IrReg value) {
  if (i * bytes < 16)
    ir_vr_raw(&l->b, bytes == 8 ? IR_INS_DG : IR_INS_SG, bytes, lift_xmm(number), value, ir_lane(bytes, i));
  else ir_store_state(&l->b, bytes, value, upper_lane(number, bytes, i));
}

static IrReg gather_address(Lift *l, const X86Insn *insn, const Gather *g, unsigned i) {
  IrBuilder *b = &l->b;
  IrReg index = register_lane(l, insn->mem.index, g->index_bytes, i), address = ir_temp(b);
  if (g->index_bytes == 4) ir_sbfx(b, 8, index, index, 0, 32);
  bool narrow = insn->prefixes & X86_PREFIX_ADDR32;
  ir_rrr_shift(b, IR_ADD, narrow ? 4 : 8, address, g->base, index, 0, insn->mem.scale);
  if (g->segment.id != IR_NONE) ir_rrr(b, IR_ADD, 8, address, address, g->segment);
  return address;
}

static Gather begin_gather(Lift *l, const X86Insn *insn, uint32_t argument) {
  Gather g = {.destination = insn->operands[0].reg, .mask = insn->operands[2].reg, .bytes = argument & 0xff,
              .index_bytes = argument >> 8, .segment = IR_NO_REG};
  X86Insn base = *insn;
  base.mem.index = X86_NOREG;
  base.mem.scale = 0;
  base.mem.segment = X86_NOREG;
  g.base = lift_address_register(l, &base);
  if (insn->mem.segment != X86_NOREG) {
    g.segment = ir_temp(&l->b);
    ir_load_state(&l->b, 8, g.segment,
                  insn->mem.segment == X86_SEG_FS ? offsetof(GuestCpu, fs_base) : offsetof(GuestCpu, gs_base));
  }
  return g;
}

/* Each lane of the mask becomes all its sign, lanes beyond those of the data included where the index has them; zero
 * above. */
static void spread_mask(Lift *l, const Gather *g, bool wide) {
  IrOp op = g->bytes == 8 ? IR_CMLT0_2D : IR_CMLT0_4S;
  IrVec upper = wide ? ymm_upper(l, g->mask) : IR_VECTOR_ZERO;
  ir_vv(&l->b, op, lift_xmm(g->mask), lift_xmm(g->mask));
  sse_know_zero_above(l, g->mask, 16);
  if (!wide) ymm_zero_upper(l, g->mask);
  else if (upper.id != A64_VREG_ZERO) ymm_write_upper(l, g->mask, sse_vv(l, op, upper));
}

/* A gather may fault at any lane: those before are in the destination and their masks are clear, so that executing it
 * again goes on there (Intel SDM volume 2, VPGATHERDD). argument: bytes of a lane, and of an index's lane. */
void vex_lift_gather(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  Gather g = begin_gather(l, insn, argument);
  unsigned size = insn->operands[0].size, lanes = size / g.bytes;
  ymm_forget_register(l, insn->mem.index);
  ymm_forget_register(l, g.destination);
  ymm_forget_register(l, g.mask);
  if (l->uppers.homes) ir_mark(b, IR_GUEST, l->pc, l->form, l->uppers.dirty); /* for faults: they are in memory now */
  spread_mask(l, &g, lanes * (g.bytes > g.index_bytes ? g.bytes : g.index_bytes) == 32);
  ymm_forget_register(l, g.destination);
  ymm_forget_register(l, g.mask);
  for (unsigned i = 0; i < lanes; i++) {
    IrLabel skip = ir_label(b);
    IrReg value = ir_temp(b);
    ir_tbz(b, register_lane(l, g.mask, g.bytes, i), g.bytes * 8 - 1, skip);
    IrReg address = gather_address(l, insn, &g, i);
    ir_load(b, g.bytes, IR_EXTEND_ZERO, value, lift_address_offset(l, address, 0, g.bytes));
    write_lane(l, g.destination, g.bytes, i, value);
    write_lane(l, g.mask, g.bytes, i, IR_ZERO);
    ir_bind(b, skip);
  }
  if (size == 8) ir_vv(b, IR_FMOV_D, lift_xmm(g.destination), lift_xmm(g.destination));
  if (size < 32) ymm_zero_upper(l, g.destination);
  ir_v_raw(b, IR_MOVI_2D, lift_xmm(g.mask), 0);
  sse_know_zero_above(l, g.mask, 4);
  ymm_zero_upper(l, g.mask);
}

/* --- Signs as masks ------------------------------------------------------------------------------- */

/* Whether each byte of vector register `id` is known to be all zeros or all ones before the operation at `at`: comparisons of
 * this block have made it, or bitwise operations, minima or maxima of such, as many as `depth` of them one after another. */
static bool is_byte_mask(const IrBuilder *b, uint32_t at, unsigned id, unsigned depth) {
  enum { REACH = 64 };
  if (id == A64_VREG_ZERO) return true;
  for (uint32_t i = at, end = at > REACH ? at - REACH : 0; i-- > end;) {
    const IrInsn *insn = &b->insns[i];
    switch ((IrOp)insn->op) {
    case IR_BLOCK: case IR_LABEL: case IR_COLD_BEGIN: case IR_COLD_END: case IR_COLD_EXIT: case IR_HELPER: return false;
    default: break;
    }
    const uint8_t *kind = ir_op_info[insn->op].kind;
    bool second = kind[3] & IR_KIND_V && kind[3] & IR_KIND_D && insn->reg[3] == id; /* of a pair of loads */
    if (second) return false;
    if (!(kind[0] & IR_KIND_V) || !(kind[0] & IR_KIND_D) || insn->reg[0] != id) continue;
    switch ((IrOp)insn->op) {
    case IR_CMEQ_16B: case IR_CMEQ_8H: case IR_CMEQ_4S: case IR_CMEQ_2D:
    case IR_CMGT_16B: case IR_CMGT_8H: case IR_CMGT_4S: case IR_CMGT_2D: return true;
    case IR_MOV_16B: return is_byte_mask(b, i, insn->reg[1], depth);
    case IR_ORR_16B: case IR_AND_16B: case IR_EOR_16B: case IR_UMIN_16B: case IR_UMAX_16B:
      return depth && is_byte_mask(b, i, insn->reg[1], depth - 1) && is_byte_mask(b, i, insn->reg[2], depth - 1);
    default: return false;
    }
  }
  return false;
}

/* Each byte as ones where it has its sign set. */
static IrVec spread_signs(Lift *l, IrVec value) {
  enum { DEPTH = 3 };
  return is_byte_mask(&l->b, l->b.count, value.id, DEPTH) ? value : sse_vv(l, IR_CMLT0_16B, value);
}

/* VPMOVMSKB: each byte keeps the bit of its place; sums of neighbours, three times, gather eight. */
static void gather_signs(Lift *l, IrReg d, VexPair value) {
  const uint64_t places = UINT64_C(0x8040201008040201);
  IrVec place = sse_const128(l, places, places), half[2];
  for (unsigned k = 0; k < 2; k++)
    half[k] = sse_vvv(l, IR_AND_16B, spread_signs(l, value.half[k]), place);
  IrVec sum = sse_vvv(l, IR_ADDP_16B, half[0], half[1]);
  for (unsigned i = 0; i < 2; i++) ir_vvv(&l->b, IR_ADDP_16B, sum, sum, sum);
  ir_rv_raw(&l->b, IR_FMOV_WS, 4, d, sum, 0);
}

/* VMOVMSKPS, VMOVMSKPD, VPMOVMSKB: of 256 bits the relative's results for each half, the upper's above the lower's.
 * argument: bytes of a lane. */
void vex_lift_signs(Lift *l, const X86Insn *insn, uint32_t bytes) {
  unsigned relative = bytes == 1 ? X86_PMOVMSKB : bytes == 4 ? X86_MOVMSKPS : X86_MOVMSKPD;
  const LiftRow *row = &lift_rows[relative];
  IrReg d = lift_gpr(insn->operands[0].reg), low = ir_temp(&l->b);
  if (!vex_is_wide(insn, 1)) {
    row->function(l, insn, row->argument);
    return;
  }
  VexPair value = vex_read(l, insn, 1);
  if (bytes == 1) {
    gather_signs(l, d, value);
    return;
  }
  l->vex = (LiftVex){.active = true};
  for (unsigned k = 0; k < 2; k++) {
    l->vex.source[1] = value.half[k];
    row->function(l, insn, row->argument);
    if (!k) ir_mov(&l->b, 4, low, d);
  }
  l->vex.active = false;
  ir_rrr_shift(&l->b, IR_ORR, 4, d, low, d, 0, 16 / bytes);
}

/* --- VPTEST, VTESTPS, VTESTPD --------------------------------------------------------------------- */

static IrReg any_bit(Lift *l, IrVec value) {
  IrVec folded = sse_vvv(l, IR_UMAXP_4S, value, value);
  IrReg bits = ir_temp(&l->b);
  ir_rv_raw(&l->b, IR_FMOV_XD, 8, bits, folded, 0);
  return bits;
}

/* Of both halves: bits of m that n has as well (AND), or that it has not (BIC). */
static IrReg test_halves(Lift *l, IrOp op, VexPair m, VexPair n, bool wide) {
  IrVec bits = sse_vvv(l, op, m.half[0], n.half[0]);
  if (wide) bits = sse_vvv(l, IR_ORR_16B, bits, sse_vvv(l, op, m.half[1], n.half[1]));
  return any_bit(l, bits);
}

/* ZF: no bit in common; CF: the second operand has none that the first has not. argument: 0, or of lanes of so many
 * bytes the signs alone. */
void vex_lift_test(Lift *l, const X86Insn *insn, uint32_t bytes) {
  bool wide = vex_is_wide(insn, 0);
  VexPair m = vex_read(l, insn, 1), n = vex_read(l, insn, 0);
  if (bytes) {
    uint64_t signs = bytes == 8 ? UINT64_C(1) << 63 : UINT64_C(0x8000000080000000);
    IrVec mask = sse_const128(l, signs, signs);
    for (unsigned k = 0; k < 1u + wide; k++) m.half[k] = sse_vvv(l, IR_AND_16B, m.half[k], mask);
  }
  IrReg common = test_halves(l, IR_AND_16B, m, n, wide), carry = IR_NO_REG;
  if (l->live_flags & X86_F_CF) {
    carry = ir_temp(&l->b);
    ir_rr(&l->b, IR_CLZ, 8, carry, test_halves(l, IR_BIC_16B, m, n, wide));
    ir_lsr_imm(&l->b, 8, carry, carry, 6);
  }
  lift_flags_zero_carry(l, 8, common, carry);
}

/* --- VPCMPISTRI … --------------------------------------------------------------------------------- */

/* As the relative, which is the argument; a mask goes to XMM0. */
void vex_lift_string_compare(Lift *l, const X86Insn *insn, uint32_t relative) {
  const LiftRow *row = &lift_rows[relative];
  row->function(l, insn, row->argument);
  if (row->argument & SSE_STRING_MASK) ymm_zero_upper(l, 0);
}
