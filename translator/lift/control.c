/* Control flow: jumps, calls, returns, loops, and leaving a region.
 *
 * Before control goes to a block that several places lead to, or out of the region, the flags someone
 * there may read are brought into canonical form. A block with a single way in takes the form over. */
#include "lift/internal.h"

static const RegionInsn *current(const Lift *l) { return &l->region->insns[l->index]; }

static bool next_is_adjacent(const Lift *l) {
  const RegionInsn *r = current(l);
  return l->index + 1 < l->region->count && r[1].pc == l->next_pc;
}

/* 1 + slot of ST(0), or 0. */
static uint8_t x87_slot(const Lift *l) { return l->x87.known || l->x87.guessed ? l->x87.top + 1 : 0; }

void lift_exit(Lift *l, uint64_t target) {
  lift_uppers_leave(l);
  ir_emit(&l->b, IR_EXIT, 8, IR_NONE, IR_NONE, IR_NONE, (int64_t)target)->cond = x87_slot(l);
}

/* --- Conditional branches ------------------------------------------------------------------------------ */

/* Whether the block at `index` may find the flags in any form: it is told which, or reads none. */
static bool takes_any_form(const Lift *l, uint32_t index) {
  return region_block_inherits(l->region, index) || !l->region->insns[index].live_before;
}

/* Whether both ways may find the flags in any form. */
static bool form_is_free(const Lift *l) {
  const RegionInsn *r = current(l);
  return r->target != REGION_NO_INSN && takes_any_form(l, r->target) && next_is_adjacent(l) &&
         takes_any_form(l, l->index + 1);
}

/* Whether the flags can be brought into canonical form out of line, on the way out of the region alone. */
static bool settles_at_exit(const Lift *l) {
  return current(l)->target == REGION_NO_INSN && next_is_adjacent(l) && takes_any_form(l, l->index + 1);
}

/* The block at `index` takes the form over. Where JP or JNP has found that FCMP's operands were ordered, all flags
 * but SF are canonical already. */
static void pass_form(Lift *l, uint32_t index, bool no_parity) {
  const RegionInsn *r = current(l);
  uint8_t form = l->form;
  bool ordered = r->insn.mnemonic == X86_JCC && r->insn.condition == (no_parity ? 10 : 11);
  if (form == FLAGS_FCMP && ordered &&
      !(l->region->insns[index].live_before & (X86_F_SF | X86_F_LT | X86_F_PF | X86_F_AF)))
    l->form = FLAGS_CANONICAL;
  lift_pass_form(l, index);
  l->form = form;
}

static void settle_flags(Lift *l, uint8_t read) {
  const RegionInsn *r = current(l);
  if (r->live_after && !form_is_free(l) && !settles_at_exit(l)) lift_flags_canonical(l, r->live_after | read);
}

/* Where the branch goes: a block's label, or one of an exit still to be placed, or of what has to be done on the way to the
 * block. A loop's way back has that done in line, since nothing but its branch may leave when the thread has to come out. */
static IrLabel taken_label(Lift *l) {
  const RegionInsn *r = current(l);
  if (r->target == REGION_NO_INSN) return ir_label(&l->b);
  if (r->target <= l->index) lift_uppers_settle(l, r->target);
  else if (lift_uppers_differ(l, r->target)) return ir_label(&l->b);
  return (IrLabel){l->blocks[r->target].label};
}

/* Out of line, on the way to a block inside the region: what is known stays. */
static void settle_on_the_way(Lift *l, IrLabel taken) {
  LiftUppers uppers = l->uppers;
  uint32_t target = current(l)->target;
  ir_cold_begin(&l->b);
  ir_bind(&l->b, taken);
  lift_uppers_settle(l, target);
  ir_branch(&l->b, (IrLabel){l->blocks[target].label});
  ir_cold_end(&l->b);
  l->uppers = uppers;
}

static void exit_out_of_line(Lift *l, IrLabel taken, uint64_t target) {
  const RegionInsn *r = current(l);
  bool settles = settles_at_exit(l) && !lift_flags_are_canonical(l, r->live_after);
  if (!settles && !l->uppers.dirty) {
    ir_cold_exit(&l->b, taken, target)->cond = x87_slot(l);
    return;
  }
  ir_cold_begin(&l->b);
  ir_bind(&l->b, taken);
  uint8_t form = l->form;
  if (settles) lift_flags_canonical(l, r->live_after);
  lift_exit(l, target);
  l->form = form;
  ir_cold_end(&l->b);
}

/* After the branch: the taken exit out of line, and the fall-through. */
static void finish_branch(Lift *l, IrLabel taken) {
  const RegionInsn *r = current(l);
  if (r->target != REGION_NO_INSN) {
    if (r->target > l->index) pass_form(l, r->target, false);
    if (taken.id != l->blocks[r->target].label) settle_on_the_way(l, taken);
  } else {
    exit_out_of_line(l, taken, l->next_pc + (uint64_t)r->insn.imm);
  }
  if (next_is_adjacent(l)) {
    pass_form(l, l->index + 1, true);
    lift_uppers_settle(l, l->index + 1);
  } else {
    lift_exit(l, l->next_pc);
  }
}

static void branch_fused(Lift *l, unsigned condition, IrLabel taken) {
  LiftFused f = l->fused;
  bool odd = condition & 1;
  l->fused.kind = FUSED_NONE;
  if (f.kind == FUSED_ZERO) {
    if (odd) ir_cbnz(&l->b, f.size, f.reg, taken);
    else ir_cbz(&l->b, f.size, f.reg, taken);
  } else if (f.even_if_clear != odd) {
    ir_tbz(&l->b, f.reg, f.bit, taken);
  } else {
    ir_tbnz(&l->b, f.reg, f.bit, taken);
  }
}

void lift_jcc(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrLabel taken = taken_label(l);
  if (l->fused.kind != FUSED_NONE) {
    branch_fused(l, insn->condition, taken);
  } else {
    settle_flags(l, insn->flags_read);
    LiftCondition c = lift_condition(l, insn->condition);
    if (!c.is_register) ir_branch_cond(&l->b, c.cond, taken);
    else if (c.inverted) ir_tbz(&l->b, c.reg, 0, taken);
    else ir_tbnz(&l->b, c.reg, 0, taken);
  }
  finish_branch(l, taken);
}

/* LOOP, LOOPE, LOOPNE, JRCXZ: argument 0 JRCXZ, 1 LOOP, 2 LOOPE, 3 LOOPNE. None changes a flag. */
void lift_loop(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { JRCXZ, LOOP, LOOPE };
  l->known = 0; /* RCX changes before blocks are told what is known */
  unsigned size = insn->prefixes & X86_PREFIX_ADDR32 ? 4 : 8;
  IrReg rcx = lift_gpr(X86_RCX);
  IrLabel taken = taken_label(l);
  settle_flags(l, insn->flags_read);
  if (argument != JRCXZ) ir_add_imm(&l->b, size, rcx, rcx, -1);
  if (argument == JRCXZ) {
    ir_cbz(&l->b, size, rcx, taken);
  } else if (argument == LOOP) {
    ir_cbnz(&l->b, size, rcx, taken);
  } else {
    IrReg go = lift_condition_value(l, argument == LOOPE ? 4 : 5);
    IrLabel stop = ir_label(&l->b);
    ir_cbz(&l->b, 4, go, stop);
    ir_cbnz(&l->b, size, rcx, taken);
    ir_bind(&l->b, stop);
  }
  finish_branch(l, taken);
}

/* --- Jumps, calls, returns ------------------------------------------------------------------------------- */

void lift_jmp(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  const RegionInsn *r = current(l);
  uint64_t bound = insn->flow == X86_FLOW_JUMP_IND ? l->region->bound[l->index] : 0;
  if (bound) {
    lift_flags_canonical(l, l->live_flags);
    lift_exit(l, bound);
  } else if (insn->flow == X86_FLOW_JUMP_IND) {
    IrReg target = lift_read(l, insn, 0);
    lift_flags_canonical(l, l->live_flags);
    lift_uppers_leave(l);
    ir_emit(&l->b, IR_EXIT_IND, 8, IR_NONE, target.id, IR_NONE, 0);
  } else if (r->target == REGION_NO_INSN) {
    lift_flags_canonical(l, l->live_flags);
    lift_exit(l, l->next_pc + (uint64_t)insn->imm);
  } else {
    if (!region_block_inherits(l->region, r->target)) lift_flags_canonical(l, l->live_flags);
    if (r->target > l->index) pass_form(l, r->target, false);
    lift_uppers_settle(l, r->target);
    if (r->target != l->index + 1) ir_branch(&l->b, (IrLabel){l->blocks[r->target].label});
  }
}

static IrReg push_return_address(Lift *l) {
  IrReg address = ir_temp(&l->b);
  ir_guest_address(&l->b, address, l->next_pc);
  ir_push(&l->b, address, lift_gpr(X86_RSP));
  return address;
}

void lift_call(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  uint64_t bound = insn->flow == X86_FLOW_CALL_IND ? l->region->bound[l->index] : 0;
  if (insn->flow == X86_FLOW_CALL_IND && !bound) {
    IrReg target = lift_read(l, insn, 0);
    if (target.id == X86_RSP) target = lift_copy(l, target);
    lift_flags_canonical(l, l->live_flags);
    IrReg address = push_return_address(l);
    lift_uppers_forget(l);
    ir_emit(&l->b, IR_CALL_IND, 8, IR_NONE, target.id, address.id, 0);
  } else {
    lift_flags_canonical(l, l->live_flags);
    IrReg address = push_return_address(l);
    lift_uppers_forget(l);
    ir_emit(&l->b, IR_CALL, 8, IR_NONE, address.id, IR_NONE, (int64_t)(bound ? bound : l->next_pc + (uint64_t)insn->imm));
  }
  if (!next_is_adjacent(l)) lift_exit(l, l->next_pc);
}

void lift_ret(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  IrReg target = ir_temp(&l->b), stack = lift_gpr(X86_RSP);
  lift_flags_canonical(l, l->live_flags);
  ir_pop(&l->b, target, lift_gpr(X86_RSP));
  if (insn->operand_count) ir_add_imm(&l->b, 8, stack, stack, (uint16_t)insn->imm);
  lift_uppers_leave(l);
  ir_emit(&l->b, IR_RETURN, 8, IR_NONE, target.id, IR_NONE, 0);
}

/* --- System calls, exceptions ------------------------------------------------------------------------------ */

void lift_syscall(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  lift_flags_canonical(l, X86_F_STATUS);
  lift_uppers_forget(l);
  ir_emit(&l->b, IR_SYSCALL, 8, IR_NONE, IR_NONE, IR_NONE, (int64_t)l->next_pc);
  l->form = FLAGS_CANONICAL;
}

void lift_raise_at(Lift *l, int vector, uint64_t pc) {
  lift_uppers_leave(l);
  ir_emit(&l->b, IR_RAISE, 8, IR_NONE, IR_NONE, IR_NONE, (int64_t)pc)->cond = (uint8_t)vector;
}

void lift_raise(Lift *l, int vector) { lift_raise_at(l, vector, l->pc); }

static void raise_out_of_line(Lift *l, IrLabel label, int vector) {
  ir_cold_begin(&l->b);
  ir_bind(&l->b, label);
  lift_raise(l, vector);
  ir_cold_end(&l->b);
}

void lift_raise_if_zero(Lift *l, unsigned size, IrReg value, int vector) {
  IrLabel label = ir_label(&l->b);
  ir_cbz(&l->b, size, value, label);
  raise_out_of_line(l, label, vector);
}

void lift_raise_if_not_zero(Lift *l, unsigned size, IrReg value, int vector) {
  IrLabel label = ir_label(&l->b);
  ir_cbnz(&l->b, size, value, label);
  raise_out_of_line(l, label, vector);
}

void lift_undefined(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  lift_flags_canonical(l, X86_F_STATUS);
  lift_raise(l, 6);
}

/* More than 15 bytes are #GP (Intel SDM volume 3, 6.15). */
void lift_undecodable(Lift *l, X86DecodeStatus status) {
  static const uint8_t vector[] = {
      [X86_DECODE_TRUNCATED] = 14, [X86_DECODE_INVALID] = 6, [X86_DECODE_TOO_LONG] = 13};
  lift_flags_canonical(l, X86_F_STATUS);
  lift_raise(l, vector[status]);
}

/* argument: vector. Traps (INT3, INT1) report the next instruction, faults this one. */
void lift_trap(Lift *l, const X86Insn *insn, uint32_t vector) {
  (void)insn;
  lift_flags_canonical(l, X86_F_STATUS);
  lift_raise_at(l, (int)vector, vector == 3 || vector == 1 ? l->next_pc : l->pc);
}

void lift_step_if_asked(Lift *l, IrReg flags, IrReg target) {
  enum { TF_BIT = 8 };
  IrLabel step = ir_label(&l->b);
  ir_tbnz(&l->b, flags, TF_BIT, step);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, step);
  ir_store_state(&l->b, 8, target, offsetof(GuestCpu, raise_error));
  lift_raise(l, LIFT_STEP);
  ir_cold_end(&l->b);
}

/* INT n: gates that programs may use are those of 3 and 4; otherwise #GP with the vector, and bit 1 for the IDT
 * (SDM volume 3, 6.13). */
void lift_interrupt(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  enum { IN_IDT = 2 };
  unsigned vector = insn->imm & 0xff;
  bool open = vector == 3 || vector == 4;
  lift_flags_canonical(l, X86_F_STATUS);
  if (!open) {
    IrReg error = ir_temp(&l->b);
    ir_const(&l->b, error, vector << 3 | IN_IDT);
    ir_store_state(&l->b, 8, error, offsetof(GuestCpu, raise_error));
  }
  lift_raise_at(l, open ? (int)vector : 13, open ? l->next_pc : l->pc);
}
