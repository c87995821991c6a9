/* The x87 register stack while lifting: where ST(0) is, which registers are in use, what waits. */
#include "lift/x87/x87.h"

#define PENDING_BIT 7 /* of top */

/* `valid` and `top` are one halfword: valid in its low byte. */
_Static_assert(offsetof(GuestX87, top) == offsetof(GuestX87, valid) + 1, "pushes change both at once");
_Static_assert(X87_FIELD(valid) % 2 == 0, "halfword access");
_Static_assert(X87_FIELD(inexact) == X87_FIELD(c1) + 8 && X87_FIELD(inexact) <= 504, "stored as a pair");

static IrReg load_field(Lift *l, unsigned size, size_t offset) {
  IrReg value = ir_temp(&l->b);
  ir_load_state(&l->b, size, value, offset);
  return value;
}

/* --- Calls and exceptions, with the flags in whatever form they are ------------------------------- */

void x87_raise(Lift *l, int vector) {
  uint8_t form = l->form;
  lift_flags_canonical(l, X86_F_STATUS);
  lift_raise(l, vector);
  l->form = form;
}

/* --- Exceptions that wait ------------------------------------------------------------------------- */

enum { VECTOR_MF = 16 };

/* `top`: a register holding that field. Raises #MF out of line when its pending bit is set. */
static void raise_if_pending(Lift *l, IrReg top) {
  IrLabel raise = ir_label(&l->b), on = ir_label(&l->b);
  ir_tbnz(&l->b, top, PENDING_BIT, raise);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, raise);
  x87_raise(l, VECTOR_MF);
  ir_branch(&l->b, on);
  ir_cold_end(&l->b);
  ir_bind(&l->b, on);
  l->x87.maybe_pending = false;
}

void x87_wait(Lift *l) {
  if (l->x87.known && !l->x87.maybe_pending) return;
  raise_if_pending(l, load_field(l, 1, X87_FIELD(top)));
  l->x87.maybe_pending = false;
}

void x87_leave(Lift *l) {
  uint8_t form = l->form;
  lift_flags_canonical(l, l->live_flags);
  lift_exit(l, l->next_pc);
  l->form = form;
}

void x87_leave_if_pending(Lift *l, IrLabel label) {
  IrReg top = load_field(l, 1, X87_FIELD(top));
  ir_tbz(&l->b, top, PENDING_BIT, label);
  x87_leave(l);
}

/* --- The top -------------------------------------------------------------------------------------- */

LiftX87Passed lift_x87_passed(const Lift *l) {
  const LiftX87 *x = &l->x87;
  return (LiftX87Passed){x->top, x->valid, x->empty, x->ordinary, x->known, x->usual, x->maybe_pending, x->mmx};
}

static LiftX87 as_passed(LiftX87Passed p) {
  return (LiftX87){.known = p.known, .top = p.top, .valid = p.valid, .empty = p.empty, .ordinary = p.ordinary, .usual = p.usual,
                   .maybe_pending = p.maybe_pending, .mmx = p.mmx};
}

/* A block with one way in goes on with what is known there. Others agree on the slot of ST(0) where one leads to the other: a
 * forward branch leaves word for its target, falling through hands on where it is. After a call the stack is empty, or has a
 * result. */
void lift_x87_block(Lift *l) {
  const RegionInsn *here = &l->region->insns[l->index];
  LiftBlock *block = &l->blocks[l->index];
  LiftX87 old = l->x87;
  l->x87 = (LiftX87){0};
  if (l->index > 0 && (old.known || old.guessed)) {
    const RegionInsn *before = here - 1;
    if (before->target != REGION_NO_INSN && before->target >= l->index && !l->blocks[before->target].x87_top)
      l->blocks[before->target].x87_top = old.top + 1;
    bool falls_through = before->insn.flow == X86_FLOW_NEXT || before->insn.flow == X86_FLOW_COND;
    if (falls_through && before->pc + before->insn.length == here->pc && !block->x87_top)
      block->x87_top = old.top + 1;
  }
  if (block->form_known && block->x87.known) {
    l->x87 = as_passed(block->x87);
    return;
  }
  if (!block->x87_top) return;
  l->x87.top = block->x87_top - 1;
  l->x87.guessed = true;
}

/* With nothing else to go by: an instruction that pushes finds the stack empty, another one value. */
static unsigned guess_top(const Lift *l) {
  const LiftRow *row = &lift_rows[l->region->insns[l->index].insn.mnemonic];
  bool pushes = row->function == lift_x87_load || row->function == lift_x87_load_integer ||
                row->function == lift_x87_load_constant;
  return pushes ? 0 : 7;
}

static void find_top(Lift *l) {
  if (!l->x87.known && !l->x87.guessed) l->x87.top = (uint8_t)guess_top(l);
  if (l->x87.known) {
    x87_wait(l);
    return;
  }
  IrLabel elsewhere = ir_label(&l->b), raise = ir_label(&l->b), on = ir_label(&l->b);
  IrReg top = load_field(l, 1, X87_FIELD(top)), difference = top;
  if (l->x87.top) {
    difference = ir_temp(&l->b);
    ir_add_imm(&l->b, 4, difference, top, -(int64_t)l->x87.top);
  }
  ir_cbnz(&l->b, 4, difference, elsewhere);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, elsewhere);
  ir_tbnz(&l->b, top, PENDING_BIT, raise);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_ROTATE, l->x87.top);
  ir_branch(&l->b, on);
  ir_bind(&l->b, raise);
  x87_raise(l, VECTOR_MF);
  ir_branch(&l->b, on);
  ir_cold_end(&l->b);
  ir_bind(&l->b, on);
  l->x87.known = true;
  l->x87.valid = l->x87.empty = l->x87.ordinary = 0;
  l->x87.maybe_pending = false;
}

/* Whether an instruction leaves its address in FIP: all but the control ones (SDM volume 1, 8.1.8). */
static bool sets_pointer(const X86Insn *insn) {
  static const bool has_row[X86_MNEMONIC_COUNT] = {
#define LIFT(mnemonic, function, argument) [X86_##mnemonic] = true,
#include "lift/x87/x87.def"
#undef LIFT
  };
  switch (insn->mnemonic) {
  case X86_FNSTCW:
  case X86_FLDCW:
  case X86_FNSTSW:
  case X86_FNCLEX:
  case X86_FNINIT:
  case X86_FLDENV:
  case X86_FRSTOR:
  case X86_FWAIT:
  case X86_FXSAVE:
  case X86_FXRSTOR:
  case X86_EMMS: return false;
  default: return has_row[insn->mnemonic];
  }
}

/* Whether this is the block's last instruction to set FIP before something may look at it. */
static bool pointer_is_seen(const Lift *l) {
  const RegionInsn *insns = l->region->insns;
  for (uint32_t i = l->index + 1; i < l->region->count; i++) {
    const X86Insn *insn = &insns[i].insn;
    if (insns[i].leader || insn->mnemonic == X86_FNSTENV || insn->mnemonic == X86_FNSAVE ||
        insn->mnemonic == X86_FXSAVE || insn->mnemonic == X86_XSAVE || insn->mnemonic == X86_XSAVEC ||
        insn->mnemonic == X86_XSAVEOPT)
      return true;
    if (sets_pointer(insn)) return false;
  }
  return true;
}

void x87_show_pointer(Lift *l) {
  if (!pointer_is_seen(l)) return;
  IrReg pc = ir_temp(&l->b);
  ir_guest_address(&l->b, pc, l->pc);
  ir_store_state(&l->b, 8, pc, X87_FIELD(instruction_pointer));
}

void x87_begin(Lift *l) {
  l->x87.mmx = false;
  find_top(l);
  x87_show_pointer(l);
}

void x87_forget(Lift *l, unsigned top) {
  l->x87 = (LiftX87){.top = (uint8_t)top, .guessed = true};
}

/* Whether the instruction that certainly follows works on registers in place: it can neither fault nor look at the state
 * before it has brought that up to date, and sets C1 whatever comes of it. */
static bool is_chained(const Lift *l) {
  const RegionInsn *next = region_next(l->region, l->index);
  if (!next) return false;
  const X86Insn *insn = &next->insn;
  switch (insn->mnemonic) {
  case X86_FADD:
  case X86_FMUL:
  case X86_FSUB:
  case X86_FSUBR:
  case X86_FDIV:
  case X86_FDIVR: return !lift_is_memory(insn, 1);
  case X86_FLD:
  case X86_FST:
  case X86_FSTP: return !lift_is_memory(insn, 0);
  case X86_FADDP:
  case X86_FMULP:
  case X86_FSUBP:
  case X86_FSUBRP:
  case X86_FDIVP:
  case X86_FDIVRP:
  case X86_FXCH:
  case X86_FCHS:
  case X86_FABS:
  case X86_FLD1:
  case X86_FLDZ: return true;
  default: return false;
  }
}

/* The halfword is added to, since both sides of each change are known to the lifter. */
static void add_to_state(Lift *l, int change) {
  IrReg state = load_field(l, 2, X87_FIELD(valid));
  ir_add_imm(&l->b, 4, state, state, change);
  ir_store_state(&l->b, 2, state, X87_FIELD(valid));
}

static void settle(Lift *l) {
  if (l->x87.owed && l->x87.valid + l->x87.empty == 0xff) { /* everything is known: no need to look */
    IrReg value = ir_temp(&l->b);
    ir_const(&l->b, value, l->x87.valid | (uint64_t)l->x87.top << 8);
    ir_store_state(&l->b, 2, value, X87_FIELD(valid));
  } else if (l->x87.owed) {
    add_to_state(l, l->x87.owed);
  }
  l->x87.owed = 0;
}

void lift_x87_settle(Lift *l) {
  if (!is_chained(l)) settle(l);
}

void x87_settle_aside(Lift *l) {
  if (l->x87.owed) add_to_state(l, l->x87.owed);
}

void x87_unsettle_aside(Lift *l) {
  if (l->x87.owed) add_to_state(l, -l->x87.owed);
}

static void mark(Lift *l, unsigned slot, bool in_use) {
  uint8_t bit = (uint8_t)(1 << slot);
  l->x87.valid = (uint8_t)((l->x87.valid & ~bit) | (in_use ? bit : 0));
  l->x87.empty = (uint8_t)((l->x87.empty & ~bit) | (in_use ? 0 : bit));
}

void x87_know_valid(Lift *l, unsigned slot) {
  mark(l, slot, true);
}

void x87_turn(Lift *l, int by) {
  int old = l->x87.top;
  l->x87.top = (uint8_t)x87_slot(l, by);
  l->x87.owed += (l->x87.top - old) * 256;
  settle(l);
}

void x87_push_later(Lift *l) {
  unsigned old = l->x87.top, new = x87_slot(l, -1);
  l->x87.top = (uint8_t)new;
  l->x87.ordinary &= (uint8_t)~(1u << new);
  mark(l, new, true);
  l->x87.owed += (1 << new) + ((int)new - (int)old) * 256;
}

void x87_pop_later(Lift *l, unsigned count) {
  int old = l->x87.top;
  for (; count; count--) {
    l->x87.owed -= 1 << l->x87.top;
    mark(l, l->x87.top, false);
    l->x87.top = (uint8_t)x87_slot(l, 1);
  }
  l->x87.owed += (l->x87.top - old) * 256;
}

void x87_push(Lift *l) {
  x87_push_later(l);
  settle(l);
}

void x87_pop(Lift *l, unsigned count) {
  x87_pop_later(l, count);
  settle(l);
}

void x87_free_slot(Lift *l, unsigned slot) {
  IrReg valid = load_field(l, 1, X87_FIELD(valid));
  mark(l, slot, false);
  ir_logic_imm(&l->b, IR_AND, 4, valid, valid, 0xffu & ~(1u << slot));
  ir_store_state(&l->b, 1, valid, X87_FIELD(valid));
}

void x87_fill_slot(Lift *l, unsigned slot) {
  if (l->x87.valid >> slot & 1) return;
  if (l->x87.empty >> slot & 1) {
    l->x87.owed += 1 << slot;
    mark(l, slot, true);
    return;
  }
  settle(l);
  IrReg valid = load_field(l, 1, X87_FIELD(valid));
  mark(l, slot, true);
  ir_logic_imm(&l->b, IR_ORR, 4, valid, valid, 1u << slot);
  ir_store_state(&l->b, 1, valid, X87_FIELD(valid));
}

/* --- Stack faults --------------------------------------------------------------------------------- */

/* Branches to `fault` when a slot is not as wanted; true where there was anything to test. */
static bool test_slots(Lift *l, unsigned slots, bool in_use, IrLabel fault) {
  slots &= ~(unsigned)(in_use ? l->x87.valid : l->x87.empty);
  if (!slots) return false;
  if (slots & (l->x87.valid | l->x87.empty)) settle(l); /* it is not as wanted, whatever memory says */
  IrReg valid = load_field(l, 1, X87_FIELD(valid));
  for (unsigned slot = 0; slot < 8; slot++) {
    if (!(slots >> slot & 1)) continue;
    if (in_use) ir_tbz(&l->b, valid, slot, fault);
    else ir_tbnz(&l->b, valid, slot, fault);
  }
  return true;
}

/* `on`: where to go when no exception waits; NULL: out of the region, too. */
static void fault_block(Lift *l, IrLabel fault, LiftHelper helper, uint64_t argument, const IrLabel *on) {
  ir_cold_begin(&l->b);
  ir_bind(&l->b, fault);
  x87_settle_aside(l);
  x87_note(l, IR_NO_REG);
  lift_plain_helper_imm(l, helper, argument);
  if (on) x87_leave_if_pending(l, *on);
  else x87_leave(l);
  ir_cold_end(&l->b);
}

static void require(Lift *l, unsigned slots, uint64_t argument, const IrLabel *on) {
  IrLabel fault = ir_label(&l->b);
  if (!test_slots(l, slots, true, fault)) return;
  fault_block(l, fault, LIFT_HELPER_X87_UNDERFLOW, argument, on);
  l->x87.valid |= (uint8_t)slots;
  l->x87.empty &= (uint8_t)~slots;
}

void x87_require(Lift *l, unsigned slots, uint64_t argument) { require(l, slots, argument, NULL); }

void x87_require_or(Lift *l, unsigned slots, uint64_t argument, IrLabel fault) { require(l, slots, argument, &fault); }

void x87_require_room(Lift *l, LiftHelper overflow, uint64_t argument) {
  IrLabel fault = ir_label(&l->b);
  unsigned slot = x87_slot(l, -1);
  if (!test_slots(l, 1u << slot, false, fault)) return;
  fault_block(l, fault, overflow, argument, NULL);
  mark(l, slot, false);
}

/* --- Pointers and conditions ---------------------------------------------------------------------- */

/* The opcode's low three bits and ModRM (SDM volume 1, 8.1.9), from the guest's bytes. */
static unsigned last_opcode(const Lift *l) {
  const RegionWindow *window = &l->region->window;
  const uint8_t *bytes = window->bytes + (l->pc - window->start);
  while ((*bytes & 0xf8) != 0xd8) bytes++; /* prefixes */
  return (unsigned)(bytes[0] & 7) << 8 | bytes[1];
}

void x87_note(Lift *l, IrReg address) {
  IrReg pc = ir_temp(&l->b), opcode = ir_temp(&l->b);
  ir_guest_address(&l->b, pc, l->pc);
  ir_store_state(&l->b, 8, pc, X87_FIELD(instruction_pointer));
  ir_const(&l->b, opcode, last_opcode(l));
  ir_store_state(&l->b, 2, opcode, X87_FIELD(opcode));
  if (address.id != IR_NONE) ir_store_state(&l->b, 8, address, X87_FIELD(data_pointer));
}

bool x87_c1_is_seen(const Lift *l) { return !is_chained(l); }

void x87_clear_c1(Lift *l) {
  if (x87_c1_is_seen(l)) ir_store_state(&l->b, 8, IR_ZERO, X87_FIELD(c1));
}

void x87_note_rounding(Lift *l, IrReg rest) {
  if (x87_c1_is_seen(l)) ir_store_state_pair(&l->b, rest, rest, X87_FIELD(c1));
  else ir_store_state(&l->b, 8, rest, X87_FIELD(inexact));
}

/* --- MMX ------------------------------------------------------------------------------------------ */

void lift_x87_enter_mmx(Lift *l) {
  if (l->x87.mmx) return;
  IrLabel enter = ir_label(&l->b), raise = ir_label(&l->b), on = ir_label(&l->b);
  IrReg state = load_field(l, 2, X87_FIELD(valid)), rotation = load_field(l, 1, X87_FIELD(rotation));
  IrReg other = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_EOR, 4, other, state, 0xff);
  ir_rrr(&l->b, IR_ORR, 4, other, other, rotation);
  ir_cbnz(&l->b, 4, other, enter);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, enter);
  ir_tbnz(&l->b, state, PENDING_BIT + 8, raise);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_ENTER_MMX, 0);
  ir_branch(&l->b, on);
  ir_bind(&l->b, raise);
  x87_raise(l, VECTOR_MF);
  ir_branch(&l->b, on);
  ir_cold_end(&l->b);
  ir_bind(&l->b, on);
  l->x87 = (LiftX87){.known = true, .valid = 0xff, .mmx = true};
}
