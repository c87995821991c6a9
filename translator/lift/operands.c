/* Reading and writing x86 operands: registers of all widths, memory addresses, immediates.
 *
 * Addresses become what an AArch64 access of their size can hold: base + scaled 12-bit or signed 9-bit
 * offset, or base + index, shifted by the access size or not at all. In ordered memory models loads and
 * stores of general registers take a base alone, or with LRCPC2 a signed 9-bit offset. */
#include "lift/internal.h"

IrReg lift_copy(Lift *l, IrReg value) {
  if (value.id >= IR_TEMP_FIRST || value.id == A64_REG_ZERO) return value;
  IrReg copy = ir_temp(&l->b);
  ir_mov(&l->b, 8, copy, value);
  return copy;
}

/* --- Addresses ------------------------------------------------------------------------------------ */

static bool legal_offset(const Lift *l, int64_t disp, unsigned size) {
  if (l->ordered) return disp == 0 || (l->features & A64_HAS_LRCPC2 && disp >= -256 && disp < 256);
  if (disp >= -256 && disp < 256) return true;
  return disp >= 0 && !(disp & (size - 1)) && disp / size < 4096;
}

static bool writes_general(const IrInsn *insn, IrReg reg) {
  const uint8_t *kind = ir_op_info[insn->op].kind;
  for (unsigned k = 0; k < 4; k++)
    if (kind[k] & IR_KIND_G && kind[k] & IR_KIND_D && insn->reg[k] == reg.id) return true;
  return false;
}

enum { MOVED = 48 /* operations that may have been taken out of the list since, so that those behind stand earlier */ };

/* The index of the operation behind the one that made the sum; 0: it is not to be found. */
static uint32_t behind_making(const LiftSum *made, const IrBuilder *b) {
  uint32_t i = made->first < b->count ? made->first : b->count;
  for (unsigned left = MOVED; i > 0 && left; i--, left--)
    if (writes_general(&b->insns[i - 1], made->temp)) return i;
  return 0;
}

static bool writes_parts(const IrInsn *insn, const LiftSum *made) {
  return writes_general(insn, made->base) || (made->index.id != IR_NONE && writes_general(insn, made->index));
}

/* Whether what was made from its registers is still right. What has been looked at is not looked at again; code out of line
 * puts back what it changes. */
static bool still_right(LiftSum *made, const IrBuilder *b) {
  uint32_t i = behind_making(made, b);
  bool cold = false;
  if (!i) return false;
  made->first = i;
  if (made->looked_at > i + MOVED) i = made->looked_at - MOVED;
  made->looked_at = b->count;
  for (; i < b->count; i++) {
    const IrInsn *insn = &b->insns[i];
    if (insn->op == IR_COLD_BEGIN) cold = true;
    if (insn->op == IR_COLD_END) cold = false;
    bool helper = ir_op_info[insn->op].effects & IR_EFFECT_CL; /* which may write guest registers */
    if (!cold && (helper || writes_parts(insn, made))) return false;
  }
  return true;
}

static bool can_share(Lift *l, LiftSum *made, IrReg base, IrReg index, int64_t high) {
  enum { REACH = 12 };
  bool near = made->temp.id != IR_NONE && made->joins == l->b.joins && l->index - made->at <= REACH;
  return near && made->base.id == base.id && made->index.id == index.id && made->high == high && still_right(made, &l->b);
}

static void note_sum(const Lift *l, LiftSum *made, IrReg sum, IrReg base, IrReg index, int64_t high) {
  if (l->b.cold || base.id >= IR_TEMP_FIRST || (index.id != IR_NONE && index.id >= IR_TEMP_FIRST)) return;
  *made = (LiftSum){sum, base, index, high, l->index, l->b.joins, l->b.count, l->b.count};
}

/* base + high in a temporary, or in that of an access shortly before: one after the other they often are in one structure. */
static IrReg distant_base(Lift *l, IrReg base, int64_t high) {
  if (can_share(l, &l->distant, base, IR_NO_REG, high)) return l->distant.temp;
  IrReg sum = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, sum, base, high);
  note_sum(l, &l->distant, sum, base, IR_NO_REG, high);
  return sum;
}

IrAddress lift_address_offset(Lift *l, IrReg base, int64_t offset, unsigned size) {
  if (legal_offset(l, offset, size)) return (IrAddress){base, IR_NO_REG, 0, offset};
  int64_t low = offset & 4095, high = offset - low;
  if (high && ir_fits_add(high) && legal_offset(l, low, size))
    return (IrAddress){distant_base(l, base, high), IR_NO_REG, 0, low};
  IrReg sum = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, sum, base, offset);
  return (IrAddress){sum, IR_NO_REG, 0, 0};
}

IrAddress lift_address_at(Lift *l, IrReg base, unsigned size) {
  return lift_address_offset(l, base, 0, size);
}

static IrReg segment_base(Lift *l, unsigned segment) {
  IrReg base = ir_temp(&l->b);
  ir_load_state(&l->b, 8, base,
                segment == X86_SEG_FS ? offsetof(GuestCpu, fs_base) : offsetof(GuestCpu, gs_base));
  return base;
}

/* base + (index << scale) in a new temporary. */
static IrReg indexed(Lift *l, IrReg base, IrReg index, unsigned scale) {
  IrReg sum = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_ADD, 8, sum, base, index, 0, scale);
  return sum;
}

/* The same, or that of an access shortly before: they often are beside each other. */
static IrReg shared_index(Lift *l, IrReg base, IrReg index, unsigned scale) {
  if (can_share(l, &l->indexed, base, index, scale)) return l->indexed.temp;
  IrReg sum = indexed(l, base, index, scale);
  note_sum(l, &l->indexed, sum, base, index, scale);
  return sum;
}

static IrReg scaled_index(Lift *l, IrReg index, unsigned scale) {
  if (!scale) return index;
  IrReg shifted = ir_temp(&l->b);
  ir_lsl_imm(&l->b, 8, shifted, index, scale);
  return shifted;
}

/* Address truncated to 32 bits before the segment base is added. */
static IrReg address32(Lift *l, const X86Insn *insn) {
  const X86Mem *mem = &insn->mem;
  IrReg sum = ir_temp(&l->b);
  if (mem->base == X86_RIP) {
    ir_guest_address(&l->b, sum, (uint32_t)(l->next_pc + (uint64_t)mem->disp));
    return sum;
  }
  ir_const(&l->b, sum, (uint32_t)mem->disp);
  if (mem->base != X86_NOREG) ir_rrr(&l->b, IR_ADD, 4, sum, sum, lift_gpr(mem->base));
  if (mem->index != X86_NOREG)
    ir_rrr_shift(&l->b, IR_ADD, 4, sum, sum, lift_gpr(mem->index), 0, mem->scale);
  return sum;
}

/* An address relative to RIP, or where it is only accessed, one close by that was made not long ago and how far it is
 * from there. */
static IrReg guest_address(Lift *l, uint64_t address, bool access, int64_t *ret_distance) {
  enum { REACH = 12, NEAR = 4096 };
  LiftAddress *made = &l->address;
  int64_t distance = (int64_t)(address - made->address);
  bool fits = (distance >= -256 && distance < 256) || (distance >= 0 && distance < NEAR && !(distance & 7));
  *ret_distance = 0;
  if (access && made->temp.id != IR_NONE && made->joins == l->b.joins && l->index - made->index <= REACH && fits) {
    *ret_distance = distance;
    return made->temp;
  }
  IrReg temp = ir_temp(&l->b);
  ir_guest_address(&l->b, temp, address);
  if (access && !l->b.cold) *made = (LiftAddress){temp, address, l->index, l->b.joins};
  return temp;
}

/* The parts of an address before its displacement is placed: base may be absent (id IR_NONE). `access`: the address is
 * accessed and no more. */
static IrAddress address_parts(Lift *l, const X86Insn *insn, bool access) {
  const X86Mem *mem = &insn->mem;
  IrAddress a = {IR_NO_REG, IR_NO_REG, 0, mem->disp};
  if (mem->base == X86_RIP) {
    a.base = guest_address(l, l->next_pc + (uint64_t)mem->disp, access, &a.disp);
  } else if (mem->base != X86_NOREG) {
    a.base = lift_gpr(mem->base);
  }
  if (mem->index != X86_NOREG) {
    a.index = lift_gpr(mem->index);
    a.shift = mem->scale;
  }
  if (mem->segment != X86_NOREG) {
    IrReg base = segment_base(l, mem->segment);
    if (a.base.id != IR_NONE) {
      IrReg sum = ir_temp(&l->b);
      ir_rrr(&l->b, IR_ADD, 8, sum, base, a.base);
      base = sum;
    }
    a.base = base;
  }
  return a;
}

static IrAddress absolute(Lift *l, int64_t disp) {
  IrReg base = ir_temp(&l->b);
  ir_const(&l->b, base, (uint64_t)disp);
  return (IrAddress){base, IR_NO_REG, 0, 0};
}

static IrAddress place_indexed(Lift *l, IrAddress a, unsigned size) {
  bool shift_fits = a.shift == 0 || 1u << a.shift == size;
  if (a.base.id == IR_NONE && a.disp && !ir_fits_add(a.disp)) { /* a table at a fixed address */
    a.base = absolute(l, a.disp).base;
    a.disp = 0;
  }
  if (a.base.id == IR_NONE) return lift_address_offset(l, scaled_index(l, a.index, a.shift), a.disp, size);
  if (a.disp == 0 && shift_fits && !l->ordered) return a;
  return lift_address_offset(l, shared_index(l, a.base, a.index, a.shift), a.disp, size);
}

IrAddress lift_address(Lift *l, const X86Insn *insn, unsigned size) {
  if (insn->prefixes & X86_PREFIX_ADDR32) return lift_address_at(l, lift_address_register(l, insn), size);
  IrAddress a = address_parts(l, insn, true);
  if (a.index.id != IR_NONE) return place_indexed(l, a, size);
  if (a.base.id == IR_NONE) return absolute(l, a.disp);
  return lift_address_offset(l, a.base, a.disp, size);
}

IrAddress lift_vector_address(Lift *l, const X86Insn *insn, unsigned size) {
  bool ordered = l->ordered;
  l->ordered = false;
  IrAddress address = lift_address(l, insn, size);
  l->ordered = ordered;
  return address;
}

IrAddress lift_vector_offset(Lift *l, IrReg base, int64_t offset, unsigned size) {
  bool ordered = l->ordered;
  l->ordered = false;
  IrAddress address = lift_address_offset(l, base, offset, size);
  l->ordered = ordered;
  return address;
}

IrReg lift_address_register(Lift *l, const X86Insn *insn) {
  if (insn->prefixes & X86_PREFIX_ADDR32) {
    IrReg low = address32(l, insn);
    if (insn->mem.segment != X86_NOREG) ir_rrr(&l->b, IR_ADD, 8, low, low, segment_base(l, insn->mem.segment));
    return low;
  }
  IrAddress a = address_parts(l, insn, false);
  if (a.index.id != IR_NONE) {
    IrReg sum = a.base.id == IR_NONE ? scaled_index(l, a.index, a.shift) : indexed(l, a.base, a.index, a.shift);
    a.base = sum;
  }
  if (a.base.id == IR_NONE) return absolute(l, a.disp).base;
  if (a.disp == 0) return a.base;
  IrReg sum = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, sum, a.base, a.disp);
  return sum;
}

IrReg lift_indexed_base(Lift *l, const X86Insn *insn) {
  return shared_index(l, lift_gpr(insn->mem.base), lift_gpr(insn->mem.index), insn->mem.scale);
}

/* --- Values --------------------------------------------------------------------------------------- */

static IrReg load_operand(Lift *l, const X86Insn *insn, unsigned size, unsigned extend) {
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, size, extend, value, lift_address(l, insn, size));
  return value;
}

static IrReg immediate(Lift *l, uint64_t value, unsigned size) {
  if (size < 8) value &= (UINT64_C(1) << size * 8) - 1;
  if (value == 0) return IR_ZERO;
  IrReg reg = ir_temp(&l->b);
  ir_const(&l->b, reg, value);
  return reg;
}

IrReg lift_read_raw(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  if (o->kind == X86_OPERAND_GPR) return lift_gpr(o->reg);
  return lift_read(l, insn, operand);
}

IrReg lift_read(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  switch (o->kind) {
  case X86_OPERAND_GPR: {
    if (o->size >= 4 || lift_known_zero_extended(l, o->reg, o->size)) return lift_gpr(o->reg);
    IrReg low = ir_temp(&l->b);
    ir_ubfx(&l->b, 4, low, lift_gpr(o->reg), 0, o->size * 8u);
    return low;
  }
  case X86_OPERAND_GPR8H: {
    IrReg high = ir_temp(&l->b);
    ir_ubfx(&l->b, 4, high, lift_gpr(o->reg), 8, 8);
    return high;
  }
  case X86_OPERAND_MEM: return load_operand(l, insn, o->size, IR_EXTEND_ZERO);
  default: return immediate(l, (uint64_t)insn->imm, o->size);
  }
}

IrReg lift_read_signed(Lift *l, const X86Insn *insn, unsigned operand) {
  const X86Operand *o = &insn->operands[operand];
  if (o->kind == X86_OPERAND_MEM)
    return load_operand(l, insn, o->size, o->size == 8 ? IR_EXTEND_ZERO : IR_EXTEND_SIGN64);
  if (o->kind == X86_OPERAND_GPR && o->size == 8) return lift_gpr(o->reg);
  IrReg value = ir_temp(&l->b);
  if (o->kind == X86_OPERAND_GPR8H) ir_sbfx(&l->b, 8, value, lift_gpr(o->reg), 8, 8);
  else if (o->kind == X86_OPERAND_GPR) ir_sbfx(&l->b, 8, value, lift_gpr(o->reg), 0, o->size * 8u);
  else ir_const(&l->b, value, (uint64_t)insn->imm);
  return value;
}

void lift_write_register(Lift *l, const X86Operand *o, IrReg value) {
  IrReg home = lift_gpr(o->reg);
  if (o->kind == X86_OPERAND_GPR8H) ir_bfi(&l->b, 8, home, value, 8, 8);
  else if (o->size < 4) ir_bfi(&l->b, 8, home, value, 0, o->size * 8u);
  else ir_mov(&l->b, o->size, home, value);
}

void lift_write(Lift *l, const X86Insn *insn, unsigned operand, IrReg value) {
  const X86Operand *o = &insn->operands[operand];
  if (o->kind == X86_OPERAND_MEM) ir_store(&l->b, o->size, value, lift_address(l, insn, o->size));
  else lift_write_register(l, o, value);
}

IrVec lift_read_vector(Lift *l, const X86Insn *insn, unsigned operand, unsigned size) {
  const X86Operand *o = &insn->operands[operand];
  if (o->kind == X86_OPERAND_XMM) return lift_xmm(o->reg);
  IrVec value = ir_vector_temp(&l->b);
  ir_load_vector(&l->b, size, value, lift_vector_address(l, insn, size));
  return value;
}
