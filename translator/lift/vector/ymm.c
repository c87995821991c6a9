/* YMM registers: upper halves, whole operands, moves. */
#include "lift/vector/vex.h"

enum { MAX_UPPERS = 8 }; /* that may stay in temporaries, of which there are fifteen, less homes and what a group has saved */

/* The one that was used longest ago goes. */
static void make_room(LiftUppers *u, unsigned most) {
  unsigned count = 0, oldest = 16;
  for (unsigned number = 0; number < 16; number++) {
    if (!(u->valid >> number & 1)) continue;
    count++;
    if (oldest == 16 || u->used[number] < u->used[oldest]) oldest = number;
  }
  if (count >= most) u->valid &= (uint16_t)~(1u << oldest);
}

static unsigned most_uppers(const Lift *l) {
  unsigned taken = l->group.saves < MAX_UPPERS - 2u ? l->group.saves : MAX_UPPERS - 2u;
  for (unsigned homes = l->uppers.homes; homes; homes &= homes - 1) taken++;
  return taken < MAX_UPPERS - 1u ? MAX_UPPERS - taken : 1;
}

static void keep(Lift *l, unsigned number, IrVec value) {
  LiftUppers *u = &l->uppers;
  unsigned most = most_uppers(l);
  if (number > 15) __builtin_unreachable(); /* or the compiler takes a register's own number for one beyond */
  u->valid &= (uint16_t)~(1u << number);
  if (value.id < IR_TEMP_FIRST || l->b.cold || l->b.overflow || !most) return;
  make_room(u, most);
  u->valid |= (uint16_t)(1u << number);
  u->temp[number] = value.id;
  u->used[number] = l->b.count;
}

/* --- Homes ---------------------------------------------------------------------------------------- */

/* The region is lifted again with homes when the first 256 bits are met: most regions have none, and plan nothing. */
static bool has_home(Lift *l, unsigned number) {
  if (!l->uppers.planned) l->uppers.wanted = l->b.overflow = true;
  return l->uppers.homes >> number & 1;
}

static IrVec load(Lift *l, unsigned number) {
  IrVec value = ir_vector_temp(&l->b);
  ir_load_state_vector(&l->b, 16, value, ymm_upper_offset(number));
  return value;
}

static IrVec home_value(Lift *l, unsigned number) {
  IrVec home = ymm_home(number);
  if (l->uppers.loaded >> number & 1) return home;
  if (l->b.cold) return load(l, number); /* in line it stays unloaded */
  ir_load_state_vector(&l->b, 16, home, ymm_upper_offset(number));
  l->uppers.loaded |= (uint16_t)(1u << number);
  return home;
}

static bool names(const IrInsn *insn, unsigned id, unsigned access) {
  for (unsigned k = 0; k < 4; k++)
    if (ir_op_info[insn->op].kind[k] & IR_KIND_V && ir_op_info[insn->op].kind[k] & access && insn->reg[k] == id) return true;
  return false;
}

/* The first of this guest instruction's operations on temporary `value`, if all from there on may make `home` instead; -1
 * otherwise. */
static int64_t making_of_home(const IrBuilder *b, IrVec value, IrVec home) {
  for (int64_t i = (int64_t)b->count - 1; i >= 0; i--) {
    const IrInsn *insn = &b->insns[i];
    if (ir_op_info[insn->op].effects & ~(IR_EFFECT_RF | IR_EFFECT_WF)) return -1;
    if (names(insn, home.id, IR_KIND_D)) return -1;
    if (names(insn, value.id, IR_KIND_D) && !names(insn, value.id, IR_KIND_U)) return i;
    if (names(insn, home.id, IR_KIND_U)) return -1;
  }
  return -1;
}

/* Has temporary `value` made in the home from the start, where that is possible. */
static bool make_home(Lift *l, IrVec value, IrVec home) {
  IrBuilder *b = &l->b;
  int64_t first = value.id >= IR_TEMP_FIRST && !b->overflow ? making_of_home(b, value, home) : -1;
  if (first < 0) return false;
  for (uint32_t i = (uint32_t)first; i < b->count; i++) {
    IrInsn *insn = &b->insns[i];
    for (unsigned k = 0; k < 4; k++)
      if (ir_op_info[insn->op].kind[k] & IR_KIND_V && insn->reg[k] == value.id) insn->reg[k] = home.id;
    ir_note_temps(insn);
  }
  IrInsn *move = &b->insns[first];
  if (move->op == IR_MOV_16B && move->reg[1] == home.id) ir_make_nop(move);
  for (unsigned number = 0; number < 16; number++)
    if (l->uppers.temp[number] == value.id) l->uppers.valid &= (uint16_t)~(1u << number);
  return true;
}

static void write_home(Lift *l, unsigned number, IrVec value) {
  IrVec home = ymm_home(number);
  if (value.id != home.id && !make_home(l, value, home)) ir_vvv(&l->b, IR_MOV_16B, home, value, value);
  l->uppers.loaded |= (uint16_t)(1u << number);
  l->uppers.dirty |= (uint16_t)(1u << number);
  l->uppers.same &= (uint16_t)~(1u << number);
}

/* --- Reading -------------------------------------------------------------------------------------- */

IrVec ymm_upper(Lift *l, unsigned number) {
  if (l->vectors.zero_above16 >> number & 1) return IR_VECTOR_ZERO;
  if (l->uppers.same >> number & 1) return lift_xmm(number);
  if (has_home(l, number)) return home_value(l, number);
  if (l->uppers.valid >> number & 1) {
    l->uppers.used[number] = l->b.count;
    return (IrVec){l->uppers.temp[number]};
  }
  IrVec value = load(l, number);
  keep(l, number, value);
  return value;
}

/* --- Writing -------------------------------------------------------------------------------------- */

/* Whether an operation may show the register stored by `store`, or lead to where it is seen. */
static bool looks_at(const IrInsn *insn, const IrInsn *store) {
  uint8_t effects = ir_op_info[insn->op].effects;
  if (insn->op == IR_GUEST || insn->op == IR_STRQ_STATE) return false;
  if (insn->op == IR_LDRQ_STATE) return insn->imm == store->imm;
  return effects & (IR_EFFECT_LD | IR_EFFECT_ST | IR_EFFECT_SB | IR_EFFECT_CT | IR_EFFECT_CL);
}

/* Takes back the last store of a register that is about to be stored again, unless somebody may have seen it. */
static void drop_store(Lift *l, unsigned number) {
  IrBuilder *b = &l->b;
  uint32_t at = l->uppers.store[number];
  if (!(l->uppers.stored >> number & 1) || at >= b->count || b->cold || b->overflow) return;
  IrInsn *store = &b->insns[at];
  if (store->op != IR_STRQ_STATE || store->imm != (int64_t)(ymm_upper_offset(number) / 16) << 10) return;
  for (const IrInsn *insn = store + 1; insn < b->insns + b->count; insn++)
    if (looks_at(insn, store)) return;
  ir_make_nop(store);
}

static void store_upper(Lift *l, unsigned number, IrVec value) {
  LiftUppers *u = &l->uppers;
  drop_store(l, number);
  u->same &= (uint16_t)~(1u << number);
  ir_store_state_vector(&l->b, 16, value, ymm_upper_offset(number));
  if (l->b.cold) return;
  u->stored |= (uint16_t)(1u << number);
  u->store[number] = l->b.count - 1;
}

void ymm_write_upper(Lift *l, unsigned number, IrVec value) {
  if (value.id == A64_VREG_ZERO) {
    ymm_zero_upper(l, number);
    return;
  }
  l->vectors.zero_above16 &= (uint16_t)~(1u << number);
  if (has_home(l, number)) {
    write_home(l, number, value);
    return;
  }
  store_upper(l, number, value);
  keep(l, number, value);
}

void ymm_spread(Lift *l, unsigned number) {
  ymm_write_upper(l, number, lift_xmm(number));
  if (!l->b.cold) l->uppers.same |= (uint16_t)(1u << number);
}

/* What is in registers does not count any more. */
static void leave_home(Lift *l, unsigned number) {
  l->uppers.valid &= (uint16_t)~(1u << number);
  l->uppers.loaded &= (uint16_t)~(1u << number);
  l->uppers.dirty &= (uint16_t)~(1u << number);
}

void ymm_zero_upper(Lift *l, unsigned number) {
  if (l->vectors.zero_above16 >> number & 1) return;
  store_upper(l, number, IR_VECTOR_ZERO);
  l->vectors.zero_above16 |= (uint16_t)(1u << number);
  leave_home(l, number);
}

void ymm_forget_register(Lift *l, unsigned number) {
  if (l->uppers.dirty >> number & 1) ir_store_state_vector(&l->b, 16, ymm_home(number), ymm_upper_offset(number));
  l->vectors.zero_above16 &= (uint16_t)~(1u << number);
  leave_home(l, number);
  l->uppers.same &= (uint16_t)~(1u << number);
}

/* VZEROUPPER, VZEROALL. argument: 1 for all. */
void vex_lift_zero(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { PAIR_SCALE = 15 };
  IrReg base = IR_NO_REG;
  for (unsigned number = 0; argument && number < 16; number++) {
    ir_v_raw(&l->b, IR_MOVI_2D, lift_xmm(number), 0);
    sse_know_zero_above(l, number, 4);
  }
  for (unsigned number = 0; number < 16; number += 2) {
    unsigned both = l->vectors.zero_above16 >> number & 3;
    if (both == 3) continue;
    if (both) {
      ymm_zero_upper(l, number);
      ymm_zero_upper(l, number + 1);
      continue;
    }
    if (base.id == IR_NONE) {
      base = ir_temp(&l->b);
      ir_add_imm(&l->b, 8, base, IR_CPU, (int64_t)ymm_upper_offset(0));
    }
    IrInsn *store = ir_emit(&l->b, IR_STPQ_STATE, 16, A64_VREG_ZERO, base.id, IR_NONE, (int64_t)number << PAIR_SCALE);
    store->reg[3] = A64_VREG_ZERO;
  }
  l->vectors.zero_above16 = 0xffff;
  l->uppers.loaded = l->uppers.dirty = l->uppers.valid = l->uppers.same = 0;
}

/* --- Memory --------------------------------------------------------------------------------------- */

/* A register, or two, and a displacement. */
static bool is_plain(const X86Insn *insn) {
  return insn->mem.base < 16 && insn->mem.segment == X86_NOREG && !(insn->prefixes & X86_PREFIX_ADDR32);
}

/* Pairs: their fault is that of the lowest byte that cannot be had. What a store over the end of a mapping has written
 * before it faults is the processor's choice, as of 16 bytes: nothing as a rule, half of it under QEMU. */
static IrReg pair_address(Lift *l, const X86Insn *insn, int64_t *ret_offset) {
  enum { REACH = 1024 };
  const X86Mem *mem = &insn->mem;
  bool plain = is_plain(insn);
  *ret_offset = 0;
  if (!plain || mem->disp < -REACH || mem->disp >= REACH || mem->disp & 15) return lift_address_register(l, insn);
  *ret_offset = mem->disp;
  return mem->index == X86_NOREG ? lift_gpr(mem->base) : lift_indexed_base(l, insn);
}

/* Whether accesses at `base` are to be ordered: those relative to RSP are not, as in a64/emit.c. */
static bool is_shared(const Lift *l, IrReg base) { return l->ordered && base.id != X86_RSP; }

VexPair vex_load(Lift *l, const X86Insn *insn) {
  int64_t offset;
  IrReg base = pair_address(l, insn, &offset);
  VexPair value = {{ir_vector_temp(&l->b), ir_vector_temp(&l->b)}};
  ir_vector_pair_at(&l->b, IR_LDP_Q, value.half[0], value.half[1], base, offset);
  if (is_shared(l, base)) ir_emit(&l->b, IR_DMB_ISHLD, 8, IR_NONE, IR_NONE, IR_NONE, 0);
  return value;
}

void vex_store(Lift *l, const X86Insn *insn, VexPair value) {
  int64_t offset;
  IrReg base = pair_address(l, insn, &offset);
  if (is_shared(l, base)) ir_emit(&l->b, IR_DMB_ISHST, 8, IR_NONE, IR_NONE, IR_NONE, 0);
  ir_vector_pair_at(&l->b, IR_STP_Q, value.half[0], value.half[1], base, offset);
}

/* --- Whole operands ------------------------------------------------------------------------------- */

VexPair vex_read(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  if (o->size < 32) return (VexPair){{lift_read_vector(l, insn, operand, o->size), IR_VECTOR_ZERO}};
  if (o->kind == X86_OPERAND_MEM) return vex_load(l, insn);
  return (VexPair){{lift_xmm(o->reg), ymm_upper(l, o->reg)}};
}

/* An upper half that has just been loaded may be loaded into the register instead: then no temporary holds it. */
static void forget_temporary(Lift *l, IrVec value) {
  if (value.id < IR_TEMP_FIRST || !l->b.count || l->b.insns[l->b.count - 1].reg[0] != value.id) return;
  for (unsigned number = 0; number < 16; number++)
    if (l->uppers.temp[number] == value.id) l->uppers.valid &= (uint16_t)~(1u << number);
}

void vex_write(Lift *l, const X86Insn *insn, VexPair value) {
  unsigned number = insn->operands[0].reg;
  if (value.half[1].id == number && value.half[0].id != number) value.half[1] = sse_copy(l, value.half[1]);
  forget_temporary(l, value.half[0]);
  sse_write(l, number, value.half[0]);
  if (value.half[1].id == value.half[0].id) value.half[1] = lift_xmm(number); /* the temporary may have become it */
  if (vex_is_wide(insn, 0)) ymm_write_upper(l, number, value.half[1]);
  else ymm_zero_upper(l, number);
}

/* --- Moves ---------------------------------------------------------------------------------------- */

/* Not made in place: a load that faults must not have changed the register. */
static void write_loaded(Lift *l, unsigned number, VexPair value) {
  sse_know_zero_above(l, number, 16);
  ir_vvv(&l->b, IR_MOV_16B, lift_xmm(number), value.half[0], value.half[0]);
  ymm_write_upper(l, number, value.half[1]);
}

/* Loads of what is aligned, and so on one page: when the lower half could be had, the upper can, and they go where they
 * belong at once. */
static bool loads_aligned(const Lift *l, const X86Insn *insn) {
  unsigned m = insn->mnemonic;
  bool on_stack = insn->mem.base == X86_RSP && insn->mem.index == X86_NOREG;
  return (!l->ordered || on_stack) && (m == X86_VMOVAPS || m == X86_VMOVAPD || m == X86_VMOVDQA);
}

static void load_aligned(Lift *l, const X86Insn *insn) {
  unsigned number = insn->operands[0].reg;
  IrAddress low;
  if (insn->mem.index == X86_NOREG) low = lift_vector_address(l, insn, 16);
  else if (is_plain(insn)) low = lift_vector_offset(l, lift_indexed_base(l, insn), insn->mem.disp, 16);
  else low = (IrAddress){lift_address_register(l, insn), IR_NO_REG, 0, 0};
  IrAddress high = lift_vector_offset(l, low.base, low.disp + 16, 16);
  IrVec upper = has_home(l, number) ? ymm_home(number) : ir_vector_temp(&l->b);
  sse_know_zero_above(l, number, 16);
  ir_load_vector(&l->b, 16, lift_xmm(number), low);
  ir_load_vector(&l->b, 16, upper, high);
  ymm_write_upper(l, number, upper);
}

/* VMOVAPS, VMOVDQU, VMOVNTPS, VLDDQU … */
void vex_lift_move(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned from = insn->operands[1].reg;
  if (!vex_is_wide(insn, 0)) {
    sse_lift_move(l, insn, 0);
    if (!sse_is_memory(insn, 0)) ymm_zero_upper(l, insn->operands[0].reg);
  } else if (sse_is_memory(insn, 0)) {
    vex_store(l, insn, (VexPair){{lift_xmm(from), ymm_upper(l, from)}});
  } else if (sse_is_memory(insn, 1) && loads_aligned(l, insn)) {
    load_aligned(l, insn);
  } else if (sse_is_memory(insn, 1)) {
    write_loaded(l, insn->operands[0].reg, vex_load(l, insn));
  } else {
    IrVec upper = ymm_upper(l, from);
    sse_lift_move(l, insn, 0);
    ymm_write_upper(l, insn->operands[0].reg, upper);
  }
}
