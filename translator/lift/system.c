/* What is neither arithmetic nor movement: CPUID, time, flags as data, hints, system registers, CMPXCHG8B/16B. */
#include "lift/internal.h"

/* --- Calling C -------------------------------------------------------------------------------------------- */

void lift_plain_helper(Lift *l, LiftHelper helper, IrReg argument) {
  ir_emit(&l->b, IR_HELPER, 8, IR_NONE, argument.id, IR_NONE, helper);
}

void lift_helper(Lift *l, LiftHelper helper, IrReg argument) {
  if (lift_flags_busy(l)) lift_flags_canonical(l, X86_F_STATUS);
  lift_plain_helper(l, helper, argument);
}

static IrReg argument_of(Lift *l, uint64_t value) {
  if (!value) return IR_ZERO;
  IrReg reg = ir_temp(&l->b);
  ir_const(&l->b, reg, value);
  return reg;
}

void lift_plain_helper_imm(Lift *l, LiftHelper helper, uint64_t argument) {
  lift_plain_helper(l, helper, argument_of(l, argument));
}
void lift_helper_imm(Lift *l, LiftHelper helper, uint64_t argument) {
  lift_helper(l, helper, argument_of(l, argument));
}

/* --- Hints, CPUID, time ----------------------------------------------------------------------------------- */

void lift_nop(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)l;
  (void)insn;
  (void)argument;
}

void lift_pause(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  ir_emit(&l->b, IR_YIELD, 8, IR_NONE, IR_NONE, IR_NONE, 0);
}

void lift_cpuid(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  IrReg pc = ir_temp(&l->b);
  ir_guest_address(&l->b, pc, l->pc);
  lift_helper(l, LIFT_HELPER_CPUID, pc);
}

/* The host's counter as the time-stamp counter: constant rate, as CPUID's invariant TSC promises. */
void lift_rdtsc(Lift *l, const X86Insn *insn, uint32_t with_processor) {
  (void)insn;
  IrReg ticks = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_CNTVCT, 8, ticks.id, IR_NONE, IR_NONE, 0);
  ir_mov(&l->b, 4, lift_gpr(X86_RAX), ticks);
  ir_lsr_imm(&l->b, 8, lift_gpr(X86_RDX), ticks, 32);
  if (with_processor) ir_const(&l->b, lift_gpr(X86_RCX), 0);
}

/* --- Flags as data ------------------------------------------------------------------------------------- */

static IrReg all_flags(Lift *l) {
  IrReg flags = ir_temp(&l->b);
  lift_flags_canonical(l, X86_F_STATUS);
  lift_plain_helper(l, LIFT_HELPER_GET_FLAGS, IR_ZERO);
  ir_load_state(&l->b, 8, flags, offsetof(GuestCpu, scratch));
  return flags;
}

void lift_pushf(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operand_size;
  IrReg flags = all_flags(l), top = ir_temp(&l->b);
  ir_add_imm(&l->b, 8, top, lift_gpr(X86_RSP), -(int64_t)size);
  ir_store(&l->b, size, flags, lift_address_at(l, top, size));
  ir_mov(&l->b, 8, lift_gpr(X86_RSP), top);
}

void lift_popf(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operand_size;
  IrReg flags = ir_temp(&l->b), stack = lift_gpr(X86_RSP);
  ir_load(&l->b, size, IR_EXTEND_ZERO, flags, lift_address_at(l, stack, size));
  ir_add_imm(&l->b, 8, stack, stack, size);
  ir_store_state(&l->b, 8, flags, offsetof(GuestCpu, scratch));
  lift_helper_imm(l, LIFT_HELPER_SET_FLAGS, size == 2 ? LIFT_FLAGS_POPF & 0xffff : LIFT_FLAGS_POPF);
  l->form = FLAGS_CANONICAL;
  IrReg next = ir_temp(&l->b);
  ir_guest_address(&l->b, next, l->next_pc);
  lift_step_if_asked(l, flags, next);
}

void lift_lahf(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  ir_bfi(&l->b, 8, lift_gpr(X86_RAX), all_flags(l), 8, 8);
}

/* OF is kept, so the present flags have to be in canonical form as well. */
void lift_sahf(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)insn;
  (void)argument;
  IrReg flags = ir_temp(&l->b);
  lift_flags_canonical(l, X86_F_STATUS);
  ir_ubfx(&l->b, 8, flags, lift_gpr(X86_RAX), 8, 8);
  ir_store_state(&l->b, 8, flags, offsetof(GuestCpu, scratch));
  IrReg mask = ir_temp(&l->b);
  ir_const(&l->b, mask, LIFT_FLAGS_SAHF);
  lift_plain_helper(l, LIFT_HELPER_SET_FLAGS, mask);
}

/* --- What UMIP hides ------------------------------------------------------------------------------------- */

/* SLDT, STR, SMSW: the value Linux shows a program in place of the real one. Memory gets 2 bytes. */
void lift_system_word(Lift *l, const X86Insn *insn, uint32_t shown) {
  IrReg value = ir_temp(&l->b);
  ir_const(&l->b, value, shown);
  lift_write(l, insn, 0, value);
}

/* SGDT, SIDT: limit 0 (2 bytes), then the base Linux shows; `base` is sign-extended. */
void lift_system_table(Lift *l, const X86Insn *insn, uint32_t base) {
  IrReg address = lift_address_register(l, insn), value = ir_temp(&l->b);
  ir_const(&l->b, value, (uint64_t)(int32_t)base);
  ir_store(&l->b, 2, IR_ZERO, lift_address_offset(l, address, 0, 2));
  ir_store(&l->b, 8, value, lift_address_offset(l, address, 2, 8));
}

/* --- CMPXCHG8B, CMPXCHG16B ------------------------------------------------------------------------------- */

/* The helper compares and swaps, updates RDX:RAX, and sets ZF in the synchronised flags. 16 bytes have to be
 * aligned (#GP). */
void lift_compare_exchange_pair(Lift *l, const X86Insn *insn, uint32_t wide) {
  enum { GENERAL_PROTECTION = 13 };
  IrReg address = lift_address_register(l, insn);
  if (wide) {
    IrReg misalignment = ir_temp(&l->b);
    ir_logic_imm(&l->b, IR_AND, 8, misalignment, address, 15);
    lift_raise_if_not_zero(l, 8, misalignment, GENERAL_PROTECTION);
  }
  lift_flags_canonical(l, l->live_flags & ~X86_F_ZF);
  lift_plain_helper(l, wide ? LIFT_HELPER_COMPARE_EXCHANGE_16 : LIFT_HELPER_COMPARE_EXCHANGE_8, address);
  l->form = FLAGS_CANONICAL;
}

void lift_check_canonical(Lift *l, IrReg address) {
  enum { GENERAL_PROTECTION = 13, ADDRESS_BITS = 48 };
  IrReg extended = ir_temp(&l->b), differs = ir_temp(&l->b);
  ir_sbfx(&l->b, 8, extended, address, 0, ADDRESS_BITS);
  ir_rrr(&l->b, IR_EOR, 8, differs, extended, address);
  lift_raise_if_not_zero(l, 8, differs, GENERAL_PROTECTION);
}

/* RDFSBASE to WRGSBASE. argument: bit 0 GS, bit 1 write. */
void lift_segment_base(Lift *l, const X86Insn *insn, uint32_t argument) {
  size_t offset = argument & 1 ? offsetof(GuestCpu, gs_base) : offsetof(GuestCpu, fs_base);
  unsigned size = insn->operands[0].size;
  IrReg home = lift_gpr(insn->operands[0].reg);
  if (!(argument & 2)) {
    ir_load_state(&l->b, size, home, offset);
    return;
  }
  IrReg value = ir_temp(&l->b);
  ir_mov(&l->b, size, value, home);
  if (size == 8) lift_check_canonical(l, value);
  ir_store_state(&l->b, 8, value, offset);
}
