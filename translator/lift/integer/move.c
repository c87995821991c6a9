/* Data movement: MOV and its extending forms, LEA, the stack, XCHG, conditional moves and sets, sign
 * extensions, byte swaps. */
#include "lift/internal.h"

/* Whether there is nothing in the register but the operand's 1 or 2 bytes. */
static bool is_bare(const Lift *l, const X86Operand *o) {
  return o->kind == X86_OPERAND_GPR && lift_known_zero_extended(l, o->reg, o->size);
}

void lift_mov(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0], *s = &insn->operands[1];
  (void)argument;
  if (d->kind == X86_OPERAND_MEM) {
    IrReg value = s->kind == X86_OPERAND_IMM ? lift_read(l, insn, 1) : lift_read_raw(l, insn, 1);
    lift_write(l, insn, 0, value);
  } else if (s->kind == X86_OPERAND_MEM && (d->size >= 4 || is_bare(l, d))) {
    ir_load(&l->b, d->size, IR_EXTEND_ZERO, lift_gpr(d->reg), lift_address(l, insn, d->size));
  } else if (d->size >= 4 && s->kind == X86_OPERAND_IMM) {
    ir_const(&l->b, lift_gpr(d->reg), d->size == 4 ? (uint32_t)insn->imm : (uint64_t)insn->imm);
  } else {
    lift_write_register(l, d, lift_read_raw(l, insn, 1));
  }
}

void lift_movzx(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0], *s = &insn->operands[1];
  (void)argument;
  if (d->size < 4) {
    lift_write_register(l, d, lift_read(l, insn, 1));
  } else if (s->kind == X86_OPERAND_MEM) {
    ir_load(&l->b, s->size, IR_EXTEND_ZERO, lift_gpr(d->reg), lift_address(l, insn, s->size));
  } else {
    unsigned lsb = s->kind == X86_OPERAND_GPR8H ? 8 : 0;
    if (!lsb && lift_known_zero_extended(l, s->reg, s->size)) ir_mov(&l->b, 8, lift_gpr(d->reg), lift_gpr(s->reg));
    else ir_ubfx(&l->b, 4, lift_gpr(d->reg), lift_gpr(s->reg), lsb, s->size * 8u);
  }
}

/* MOVSX, MOVSXD. */
void lift_movsx(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0], *s = &insn->operands[1];
  (void)argument;
  if (d->size < 4 || s->size >= d->size) {
    lift_write_register(l, d, d->size < 4 ? lift_read_signed(l, insn, 1) : lift_read(l, insn, 1));
  } else if (s->kind == X86_OPERAND_MEM) {
    ir_load(&l->b, s->size, d->size == 8 ? IR_EXTEND_SIGN64 : IR_EXTEND_SIGN32, lift_gpr(d->reg),
            lift_address(l, insn, s->size));
  } else {
    unsigned lsb = s->kind == X86_OPERAND_GPR8H ? 8 : 0;
    ir_sbfx(&l->b, d->size, lift_gpr(d->reg), lift_gpr(s->reg), lsb, s->size * 8u);
  }
}

/* The last step of the address goes straight into the destination. */
void lift_lea(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Mem *mem = &insn->mem;
  const X86Operand *d = &insn->operands[0];
  (void)argument;
  IrReg home = lift_gpr(d->reg);
  bool simple = !(insn->prefixes & X86_PREFIX_ADDR32) && d->size >= 4;
  if (simple && mem->base == X86_RIP) {
    uint64_t address = l->next_pc + (uint64_t)mem->disp;
    ir_guest_address(&l->b, home, address);
    if (d->size == 4) ir_mov(&l->b, 4, home, home);
  } else if (simple && mem->base != X86_NOREG && mem->index == X86_NOREG) {
    ir_add_imm(&l->b, d->size, home, lift_gpr(mem->base), mem->disp);
  } else if (simple && mem->base != X86_NOREG) {
    IrReg sum = mem->disp ? ir_temp(&l->b) : home;
    ir_rrr_shift(&l->b, IR_ADD, d->size, sum, lift_gpr(mem->base), lift_gpr(mem->index), 0, mem->scale);
    if (mem->disp) ir_add_imm(&l->b, d->size, home, sum, mem->disp);
  } else if (simple && mem->index != X86_NOREG) {
    IrReg sum = mem->disp ? ir_temp(&l->b) : home;
    if (mem->scale) ir_lsl_imm(&l->b, d->size, sum, lift_gpr(mem->index), mem->scale);
    else ir_mov(&l->b, d->size, sum, lift_gpr(mem->index));
    if (mem->disp) ir_add_imm(&l->b, d->size, home, sum, mem->disp);
  } else {
    X86Insn plain = *insn;
    plain.mem.segment = X86_NOREG;
    lift_write_register(l, d, lift_address_register(l, &plain));
  }
}

/* --- The stack --------------------------------------------------------------------------------------- */

static IrReg stack(void) { return lift_gpr(X86_RSP); }

static void push_value(Lift *l, unsigned size, IrReg value) {
  if (size == 8 && value.id != X86_RSP) {
    ir_push(&l->b, value, lift_gpr(X86_RSP));
    return;
  }
  IrReg top = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, top, stack(), -(int64_t)size);
  ir_store(&l->b, size, value, lift_address_at(l, top, size));
  ir_mov(&l->b, 8, stack(), top);
}

void lift_push(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *o = &insn->operands[0];
  unsigned size = insn->operand_size;
  (void)argument;
  IrReg value;
  if (o->kind == X86_OPERAND_SEG) {
    value = ir_temp(&l->b);
    ir_load_state(&l->b, 2, value, offsetof(GuestCpu, segment) + 2u * o->reg);
  } else if (o->kind == X86_OPERAND_IMM) {
    value = insn->imm ? ir_temp(&l->b) : IR_ZERO;
    if (insn->imm) ir_const(&l->b, value, (uint64_t)insn->imm);
  } else {
    value = lift_read_raw(l, insn, 0);
  }
  push_value(l, size, value);
}

void lift_pop(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *o = &insn->operands[0];
  unsigned size = insn->operand_size;
  (void)argument;
  if (o->kind == X86_OPERAND_GPR && size == 8 && o->reg != X86_RSP) {
    ir_pop(&l->b, lift_gpr(o->reg), lift_gpr(X86_RSP));
    return;
  }
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, value, lift_address_at(l, stack(), size));
  if (o->kind == X86_OPERAND_MEM) {
    /* The address is computed with RSP already moved (Intel SDM, POP). */
    X86Insn moved = *insn;
    if (moved.mem.base == X86_RSP) moved.mem.disp += size;
    ir_store(&l->b, size, value, lift_address(l, &moved, size));
  }
  if (o->kind == X86_OPERAND_SEG) lift_load_segment(l, o->reg, value);
  ir_add_imm(&l->b, 8, stack(), stack(), size);
  if (o->kind == X86_OPERAND_GPR) lift_write_register(l, o, value);
}

void lift_leave(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrReg frame = lift_gpr(X86_RBP);
  if (insn->operand_size == 8) {
    IrReg value = ir_temp(&l->b);
    ir_load(&l->b, 8, IR_EXTEND_ZERO, value, lift_address_at(l, frame, 8));
    ir_add_imm(&l->b, 8, stack(), frame, 8);
    ir_mov(&l->b, 8, frame, value);
    return;
  }
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, 2, IR_EXTEND_ZERO, value, lift_address_at(l, frame, 2));
  ir_add_imm(&l->b, 8, stack(), frame, 2);
  ir_bfi(&l->b, 8, frame, value, 0, 16);
}

/* ENTER size, level: a display of `level` frame pointers is copied (Intel SDM, ENTER). */
void lift_enter(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operand_size, level = insn->imm2 & 31;
  (void)argument;
  IrReg top = ir_temp(&l->b), new_frame = ir_temp(&l->b), value = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, top, stack(), -(int64_t)size);
  ir_store(&l->b, size, lift_gpr(X86_RBP), lift_address_at(l, top, size));
  ir_mov(&l->b, 8, new_frame, top);
  for (unsigned i = 1; i < level; i++) {
    ir_load(&l->b, size, IR_EXTEND_ZERO, value, lift_address_offset(l, lift_gpr(X86_RBP), -(int64_t)(size * i), size));
    ir_add_imm(&l->b, 8, top, top, -(int64_t)size);
    ir_store(&l->b, size, value, lift_address_at(l, top, size));
  }
  if (level) {
    ir_add_imm(&l->b, 8, top, top, -(int64_t)size);
    ir_store(&l->b, size, new_frame, lift_address_at(l, top, size));
  }
  ir_add_imm(&l->b, 8, stack(), top, -(int64_t)(uint16_t)insn->imm);
  if (size == 8) ir_mov(&l->b, 8, lift_gpr(X86_RBP), new_frame);
  else ir_bfi(&l->b, 8, lift_gpr(X86_RBP), new_frame, 0, 16);
}

/* --- Exchange and conditions --------------------------------------------------------------------------- */

/* XCHG with memory is locked with or without the prefix. */
void lift_xchg(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *o = insn->operands;
  (void)argument;
  int memory = lift_is_memory(insn, 0) ? 0 : lift_is_memory(insn, 1) ? 1 : -1;
  if (memory >= 0) {
    IrReg old = ir_temp(&l->b), address = lift_address_register(l, insn);
    ir_atomic(&l->b, IR_ATOMIC_SWAP, o[0].size, old, address, lift_read_raw(l, insn, !memory));
    lift_write_register(l, &o[!memory], old);
    return;
  }
  IrReg first = lift_copy(l, lift_read_raw(l, insn, 0)), second = lift_copy(l, lift_read_raw(l, insn, 1));
  lift_write_register(l, &o[0], second);
  lift_write_register(l, &o[1], first);
}

void lift_setcc(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0];
  (void)argument;
  lift_write(l, insn, 0, lift_condition_value(l, insn->condition));
  if (is_bare(l, d)) l->b.insns[l->b.count - 1].cond = IR_MERGE_BARE;
}

/* The source is read, and may fault, whatever the condition; a 32-bit destination is always zero-extended. */
void lift_cmov(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0];
  (void)argument;
  IrReg source = lift_read_raw(l, insn, 1), home = lift_gpr(d->reg);
  LiftCondition c = lift_condition(l, insn->condition);
  unsigned size = d->size < 4 ? 4 : d->size;
  IrReg chosen = d->size < 4 ? ir_temp(&l->b) : home;
  if (!c.is_register) {
    ir_csel(&l->b, IR_CSEL, size, chosen, source, home, c.cond);
  } else {
    IrLabel keep = ir_label(&l->b);
    ir_mov(&l->b, size, chosen, home);
    if (c.inverted) ir_tbnz(&l->b, c.reg, 0, keep);
    else ir_tbz(&l->b, c.reg, 0, keep);
    ir_mov(&l->b, size, chosen, source);
    ir_bind(&l->b, keep);
  }
  if (d->size < 4) lift_write_register(l, d, chosen);
}

/* --- Extensions of the accumulator, byte order --------------------------------------------------------- */

/* CBW, CWDE, CDQE. */
void lift_extend_accumulator(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg rax = lift_gpr(X86_RAX);
  (void)insn;
  if (argument == 2) {
    IrReg value = ir_temp(&l->b);
    ir_sbfx(&l->b, 4, value, rax, 0, 8);
    ir_bfi(&l->b, 8, rax, value, 0, 16);
    return;
  }
  ir_sbfx(&l->b, argument, rax, rax, 0, argument * 4);
}

/* CWD, CDQ, CQO. */
void lift_extend_to_rdx(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg rax = lift_gpr(X86_RAX), rdx = lift_gpr(X86_RDX);
  (void)insn;
  if (argument == 2) {
    IrReg value = ir_temp(&l->b);
    ir_sbfx(&l->b, 4, value, rax, 15, 1);
    ir_bfi(&l->b, 8, rdx, value, 0, 16);
    return;
  }
  ir_asr_imm(&l->b, argument, rdx, rax, argument * 8 - 1);
}

static void swap_bytes(Lift *l, unsigned size, IrReg d, IrReg n) {
  if (size == 8) ir_rr(&l->b, IR_REV64, 8, d, n);
  else if (size == 4) ir_rr(&l->b, IR_REV32, 4, d, n);
  else ir_rr(&l->b, IR_REV16, 4, d, n);
}

/* BSWAP of 16 bits is undefined; hardware gives zero. */
void lift_bswap(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0];
  (void)argument;
  if (d->size < 4) ir_bfi(&l->b, 8, lift_gpr(d->reg), IR_ZERO, 0, 16);
  else swap_bytes(l, d->size, lift_gpr(d->reg), lift_gpr(d->reg));
}

void lift_movbe(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrReg value = ir_temp(&l->b);
  swap_bytes(l, insn->operands[0].size, value, lift_read_raw(l, insn, 1));
  lift_write(l, insn, 0, value);
}

/* XLAT: AL := [RBX + AL]. */
void lift_xlat(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrReg address = ir_temp(&l->b), value = ir_temp(&l->b);
  ir_ubfx(&l->b, 8, address, lift_gpr(X86_RAX), 0, 8);
  bool narrow = insn->prefixes & X86_PREFIX_ADDR32;
  ir_rrr(&l->b, IR_ADD, narrow ? 4 : 8, address, address, lift_gpr(X86_RBX));
  if (insn->mem.segment == X86_SEG_FS || insn->mem.segment == X86_SEG_GS) {
    IrReg base = ir_temp(&l->b);
    ir_load_state(&l->b, 8, base,
                  insn->mem.segment == X86_SEG_FS ? offsetof(GuestCpu, fs_base) : offsetof(GuestCpu, gs_base));
    ir_rrr(&l->b, IR_ADD, 8, address, address, base);
  }
  ir_load(&l->b, 1, IR_EXTEND_ZERO, value, lift_address_at(l, address, 1));
  ir_bfi(&l->b, 8, lift_gpr(X86_RAX), value, 0, 8);
}

void lift_mov_segment(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *d = &insn->operands[0], *s = &insn->operands[1];
  (void)argument;
  if (d->kind == X86_OPERAND_SEG) {
    lift_load_segment(l, d->reg, lift_copy(l, lift_read_raw(l, insn, 1)));
    if (d->reg == X86_SEG_SS && l->region->single_step) lift_raise_at(l, LIFT_STEP_HELD, l->next_pc);
    return;
  }
  IrReg value = ir_temp(&l->b);
  ir_load_state(&l->b, 2, value, offsetof(GuestCpu, segment) + 2u * s->reg);
  lift_write(l, insn, 0, value);
}

static bool is_special(const X86Operand *o) {
  return o->kind == X86_OPERAND_CR || o->kind == X86_OPERAND_DR;
}

/* MOV in all its encodings. */
void lift_mov_any(Lift *l, const X86Insn *insn, uint32_t argument) {
  const X86Operand *o = insn->operands;
  if (is_special(&o[0]) || is_special(&o[1])) lift_raise(l, 13);
  else if (o[0].kind == X86_OPERAND_SEG || o[1].kind == X86_OPERAND_SEG) lift_mov_segment(l, insn, argument);
  else lift_mov(l, insn, argument);
}
