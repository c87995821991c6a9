/* x87 control instructions: control and status words, environments, FXSAVE and FXRSTOR.
 *
 * Stores to memory come before changes of state, and a load of several words touches all of them before
 * the state changes, so that faults are precise. */
#include "lift/x87/x87.h"

static IrReg load_field(Lift *l, unsigned size, size_t offset) {
  IrReg value = ir_temp(&l->b);
  ir_load_state(&l->b, size, value, offset);
  return value;
}

/* FNOP, FWAIT */
void lift_x87_wait(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_wait(l);
  if (insn->mnemonic == X86_FNOP) x87_show_pointer(l);
}

/* --- Words ---------------------------------------------------------------------------------------- */

/* FNSTCW */
void lift_x87_store_control(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_write(l, insn, 0, load_field(l, 2, X87_FIELD(control)));
}

/* FLDCW. Unless it masks everything, what it unmasks may be set in FSW already: then an exception waits at
 * once. */
void lift_x87_load_control(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { FIELDS = 0x1f3f, ALWAYS = 0x40, MASKS = 0x3f, RC_PC = 0xf00, USUAL = 0x300 };
  IrLabel unmasks = ir_label(&l->b), on = ir_label(&l->b);
  x87_wait(l);
  l->x87.usual = false;
  IrReg control = lift_read(l, insn, 0), value = ir_temp(&l->b), masked = ir_temp(&l->b);
  ir_const(&l->b, value, FIELDS);
  ir_rrr(&l->b, IR_AND, 4, value, control, value);
  ir_logic_imm(&l->b, IR_ORR, 4, value, value, ALWAYS);
  ir_logic_imm(&l->b, IR_AND, 4, masked, value, MASKS);
  ir_logic_imm(&l->b, IR_EOR, 4, masked, masked, MASKS);
  ir_cbnz(&l->b, 4, masked, unmasks);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, unmasks);
  lift_plain_helper(l, LIFT_HELPER_X87_FLDCW, value);
  x87_leave_if_pending(l, on);
  ir_cold_end(&l->b);
  ir_store_state(&l->b, 2, value, X87_FIELD(control));
  ir_logic_imm(&l->b, IR_AND, 4, value, value, RC_PC);
  ir_logic_imm(&l->b, IR_EOR, 4, value, value, USUAL);
  ir_lsr_imm(&l->b, 4, value, value, 8); /* the difference from what is usual fits a byte */
  ir_store_state(&l->b, 1, value, X87_FIELD(unusual));
  ir_bind(&l->b, on);
}

/* FNSTSW: FSW from its parts. */
enum { PE_BIT = 5 };
void lift_x87_store_status(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg status = load_field(l, 2, X87_FIELD(status)), top = load_field(l, 1, X87_FIELD(top));
  IrReg rotation = load_field(l, 1, X87_FIELD(rotation)), c1 = load_field(l, 8, X87_FIELD(c1)), below = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUB, 4, top, top, rotation);
  ir_bfi(&l->b, 4, status, top, 11, 3);
  ir_add_imm(&l->b, 8, below, c1, -1);
  ir_rrr(&l->b, IR_AND, 8, c1, c1, below); /* bit 63 where it is above 2^63 */
  ir_lsr_imm(&l->b, 8, c1, c1, 63);
  ir_bfi(&l->b, 4, status, c1, 9, 1);
  IrReg inexact = load_field(l, 8, X87_FIELD(inexact)), negative = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUB, 8, negative, IR_ZERO, inexact);
  ir_rrr(&l->b, IR_ORR, 8, inexact, inexact, negative); /* bit 63 unless it is 0 */
  ir_lsr_imm(&l->b, 8, inexact, inexact, 63);
  ir_rrr_shift(&l->b, IR_ORR, 4, status, status, inexact, 0, PE_BIT);
  lift_write(l, insn, 0, status);
}

/* FNCLEX */
void lift_x87_clear_exceptions(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FNCLEX, 0);
  x87_forget(l, l->x87.top);
}

/* FNINIT */
void lift_x87_initialise(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FNINIT, 0);
  l->x87 = (LiftX87){.known = true, .empty = 0xff};
}

/* EMMS */
void lift_x87_empty_mmx(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_x87_enter_mmx(l);
  ir_store_state(&l->b, 1, IR_ZERO, X87_FIELD(valid));
  l->x87 = (LiftX87){.known = true, .empty = 0xff};
}

/* --- Environments --------------------------------------------------------------------------------- */

enum {
  ENVIRONMENT_16 = 14,
  ENVIRONMENT_32 = 28,
  REGISTER_SIZE = 10,
  FXSAVE_REGISTERS = 32,
  FXSAVE_XMM = 160,
  FXSAVE_MXCSR = 24
};

static bool is_16(const X86Insn *insn) { return insn->operand_size == 2; }
static unsigned environment_size(const X86Insn *insn) { return is_16(insn) ? ENVIRONMENT_16 : ENVIRONMENT_32; }

/* transfer[] to or from memory, `size` bytes, a multiple of 2. */
static void move_transfer(Lift *l, IrReg base, unsigned size, bool to_memory) {
  IrReg value = ir_temp(&l->b);
  for (unsigned offset = 0; offset < size;) {
    unsigned rest = size - offset, bytes = rest >= 8 ? 8 : rest >= 4 ? 4 : 2;
    IrAddress address = lift_address_offset(l, base, offset, bytes);
    if (to_memory) {
      ir_load_state(&l->b, bytes, value, X87_FIELD(transfer) + offset);
      ir_store(&l->b, bytes, value, address);
    } else {
      ir_load(&l->b, bytes, IR_EXTEND_ZERO, value, address);
      ir_store_state(&l->b, bytes, value, X87_FIELD(transfer) + offset);
    }
    offset += bytes;
  }
}

/* Touches the first and last byte of an area that is about to be read. */
static void probe(Lift *l, IrReg base, unsigned size) {
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, 1, IR_EXTEND_ZERO, value, lift_address_offset(l, base, 0, 1));
  ir_load(&l->b, 1, IR_EXTEND_ZERO, value, lift_address_offset(l, base, size - 1, 1));
}

/* FNSTENV */
void lift_x87_store_environment(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FNSTENV, is_16(insn));
  move_transfer(l, lift_address_register(l, insn), environment_size(insn), true);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_MASK_ALL, 0);
  x87_forget(l, l->x87.top);
}

/* FLDENV */
void lift_x87_load_environment(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_wait(l);
  move_transfer(l, lift_address_register(l, insn), environment_size(insn), false);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FLDENV, is_16(insn));
  x87_forget(l, 0);
}

/* ST(0)-ST(7) to or from memory, `stride` apart; ST(0) is in slot 0 (the helper before has seen to it). */
static void move_registers(Lift *l, IrReg base, unsigned offset, unsigned stride, bool to_memory) {
  IrReg value = ir_temp(&l->b);
  for (unsigned i = 0; i < 8; i++, offset += stride) {
    for (unsigned part = 0; part < 2; part++) {
      unsigned size = part ? (stride == 16 && to_memory ? 8 : 2) : 8;
      size_t field = part ? x87_exponent_offset(i) : x87_slot_offset(i);
      IrAddress address = lift_address_offset(l, base, offset + part * 8, size);
      if (to_memory) {
        ir_load_state(&l->b, size, value, field);
        ir_store(&l->b, size, value, address);
      } else {
        ir_load(&l->b, size, IR_EXTEND_ZERO, value, address);
        ir_store_state(&l->b, size, value, field);
      }
    }
  }
}

/* FNSAVE */
void lift_x87_save(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FNSAVE, is_16(insn));
  IrReg base = lift_address_register(l, insn);
  move_transfer(l, base, environment_size(insn), true);
  move_registers(l, base, environment_size(insn), REGISTER_SIZE, true);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FNINIT, 0);
  l->x87 = (LiftX87){.known = true, .empty = 0xff};
}

/* FRSTOR */
void lift_x87_restore(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_wait(l);
  IrReg base = lift_address_register(l, insn);
  probe(l, base, environment_size(insn) + 8 * REGISTER_SIZE);
  move_transfer(l, base, environment_size(insn), false);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FRSTOR, is_16(insn));
  move_registers(l, base, environment_size(insn), REGISTER_SIZE, false);
  x87_forget(l, 0);
}

/* --- FXSAVE, FXRSTOR ------------------------------------------------------------------------------ */

/* #GP for an area that is not 16-byte aligned. */
static void require_alignment(Lift *l, IrReg base) {
  IrReg low = ir_temp(&l->b);
  IrLabel raise = ir_label(&l->b), on = ir_label(&l->b);
  ir_logic_imm(&l->b, IR_AND, 8, low, base, 15);
  ir_cbnz(&l->b, 8, low, raise);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, raise);
  x87_raise(l, 13);
  ir_branch(&l->b, on);
  ir_cold_end(&l->b);
  ir_bind(&l->b, on);
}

static void move_xmm(Lift *l, IrReg base, bool to_memory) {
  for (unsigned i = 0; i < 16; i++) {
    IrAddress address = lift_address_offset(l, base, FXSAVE_XMM + i * 16, 16);
    if (to_memory) ir_store_vector(&l->b, 16, lift_xmm(i), address);
    else ir_load_vector(&l->b, 16, lift_xmm(i), address);
  }
}

/* FXSAVE. Without REX.W the pointers are 32 bits and a selector of 0. */
void lift_x87_fxsave(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg base = lift_copy(l, lift_address_register(l, insn));
  require_alignment(l, base);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FXSAVE, 0);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_STMXCSR, 0);
  IrReg value = ir_temp(&l->b);
  for (unsigned i = 0; i < 3; i++) {
    unsigned size = i && insn->operand_size != 8 ? 4 : 8;
    ir_load_state(&l->b, size, value, X87_FIELD(transfer) + i * 8);
    ir_store(&l->b, 8, value, lift_address_offset(l, base, i * 8, 8));
  }
  ir_load_state(&l->b, 4, value, offsetof(GuestCpu, mxcsr));
  ir_logic_imm(&l->b, IR_ORR, 8, value, value, UINT64_C(0xffff) << 32); /* MXCSR_MASK */
  ir_store(&l->b, 8, value, lift_address_offset(l, base, FXSAVE_MXCSR, 8));
  move_registers(l, base, FXSAVE_REGISTERS, 16, true);
  move_xmm(l, base, true);
  x87_forget(l, 0);
}

/* FXRSTOR */
void lift_x87_fxrstor(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrReg base = lift_copy(l, lift_address_register(l, insn)), mxcsr = ir_temp(&l->b);
  x87_wait(l);
  require_alignment(l, base);
  probe(l, base, FXSAVE_XMM + 16 * 16);
  ir_load(&l->b, 4, IR_EXTEND_ZERO, mxcsr, lift_address_offset(l, base, FXSAVE_MXCSR, 4));
  move_transfer(l, base, FXSAVE_MXCSR, false);
  lift_plain_helper(l, LIFT_HELPER_SSE_LDMXCSR, mxcsr);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FXRSTOR, 0);
  move_registers(l, base, FXSAVE_REGISTERS, 16, false);
  move_xmm(l, base, false);
  x87_forget(l, 0);
  lift_sse_block(l);
  lift_sse_mxcsr_loaded(l);
}
