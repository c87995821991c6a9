/* Far jumps, calls and returns, IRET, loads of segment registers, and looking at descriptors.
 *
 * All of it is rare, so selectors are checked by a helper (guest/segments.h), with the flags in canonical form
 * throughout. The only code segment is the present one, and only the bases of FS and GS matter: loading a selector
 * makes them 0. */
#include "lift/internal.h"

#include "guest/segments.h"

static IrReg load_scratch(Lift *l, unsigned index) {
  IrReg value = ir_temp(&l->b);
  ir_load_state(&l->b, 8, value, offsetof(GuestCpu, scratch) + 8u * index);
  return value;
}

/* The low half of `selector`, above it what it is wanted for. */
static IrReg helper_argument(Lift *l, IrReg selector, unsigned use) {
  IrReg argument = ir_temp(&l->b), high = ir_temp(&l->b);
  ir_ubfx(&l->b, 8, argument, selector, 0, 16);
  ir_const(&l->b, high, use);
  ir_bfi(&l->b, 8, argument, high, 16, 8);
  return argument;
}

/* #GP(selector) where it may not be used so. */
static void check(Lift *l, IrReg selector, LiftSelectorUse use) {
  lift_plain_helper(l, LIFT_HELPER_CHECK_SELECTOR, helper_argument(l, selector, use));
  lift_raise_if_not_zero(l, 8, load_scratch(l, 1), 13);
}

/* --- Loads of segment registers ------------------------------------------------------------------- */

void lift_load_segment(Lift *l, unsigned segment, IrReg selector) {
  lift_flags_canonical(l, X86_F_STATUS);
  check(l, selector, segment == X86_SEG_SS ? LIFT_SELECTOR_STACK : LIFT_SELECTOR_DATA);
  ir_store_state(&l->b, 2, selector, offsetof(GuestCpu, segment) + 2u * segment);
  if (segment == X86_SEG_FS) ir_store_state(&l->b, 8, IR_ZERO, offsetof(GuestCpu, fs_base));
  if (segment == X86_SEG_GS) ir_store_state(&l->b, 8, IR_ZERO, offsetof(GuestCpu, gs_base));
}

/* A far pointer in memory: the offset, and the selector behind it. */
static IrReg read_far(Lift *l, const X86Insn *insn, unsigned operand, IrReg *ret_selector) {
  unsigned size = insn->operands[operand].size - 2;
  IrReg base = lift_address_register(l, insn), offset = ir_temp(&l->b);
  *ret_selector = ir_temp(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, offset, lift_address_offset(l, base, 0, size));
  ir_load(&l->b, 2, IR_EXTEND_ZERO, *ret_selector, lift_address_offset(l, base, size, 2));
  return offset;
}

/* LSS, LFS, LGS */
void lift_load_far(Lift *l, const X86Insn *insn, uint32_t segment) {
  IrReg selector, offset = read_far(l, insn, 1, &selector);
  lift_load_segment(l, segment, selector);
  lift_write(l, insn, 0, offset);
}

/* --- Transfers ------------------------------------------------------------------------------------ */

/* #GP(0) before anything is changed where the target, of `size` bytes, is no address that a page could have. */
static void check_target(Lift *l, unsigned size, IrReg target) {
  IrReg high = ir_temp(&l->b);
  if (size < 8) return;
  ir_lsr_imm(&l->b, 8, high, target, 47);
  ir_add_imm(&l->b, 8, high, high, 1);
  ir_ubfx(&l->b, 8, high, high, 1, 16); /* of 0 and of 17 ones that is 0 */
  lift_raise_if_not_zero(l, 8, high, 13);
}

static void go(Lift *l, IrReg target) {
  ir_emit(&l->b, IR_EXIT_IND, 8, IR_NONE, target.id, IR_NONE, 0);
}

void lift_jump_far(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  lift_flags_canonical(l, X86_F_STATUS);
  IrReg selector, target = read_far(l, insn, 0, &selector);
  check(l, selector, LIFT_SELECTOR_JUMP);
  check_target(l, insn->operand_size, target);
  go(l, target);
}

void lift_call_far(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operand_size;
  lift_flags_canonical(l, X86_F_STATUS);
  IrReg selector, target = read_far(l, insn, 0, &selector), top = ir_temp(&l->b), value = ir_temp(&l->b);
  check(l, selector, LIFT_SELECTOR_JUMP);
  check_target(l, size, target);
  ir_add_imm(&l->b, 8, top, lift_gpr(X86_RSP), -2 * (int64_t)size);
  ir_const(&l->b, value, GUEST_SELECTOR_CODE);
  ir_store(&l->b, size, value, lift_address_offset(l, top, size, size));
  ir_guest_address(&l->b, value, l->next_pc);
  ir_store(&l->b, size, value, lift_address_offset(l, top, 0, size));
  ir_mov(&l->b, 8, lift_gpr(X86_RSP), top);
  go(l, target);
}

/* What a return finds on the stack: the n-th value of the operand's size. */
static IrReg stacked(Lift *l, unsigned size, unsigned n) {
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, value, lift_address_offset(l, lift_gpr(X86_RSP), n * size, size));
  return value;
}

void lift_return_far(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operand_size;
  uint16_t more = insn->operand_count ? (uint16_t)insn->imm : 0;
  lift_flags_canonical(l, X86_F_STATUS);
  IrReg target = stacked(l, size, 0);
  check(l, stacked(l, size, 1), LIFT_SELECTOR_RETURN);
  check_target(l, size, target);
  ir_add_imm(&l->b, 8, lift_gpr(X86_RSP), lift_gpr(X86_RSP), 2 * (int64_t)size + more);
  go(l, target);
}

/* IRET in 64-bit mode pops all five, whatever the size: RIP, CS, RFLAGS, RSP, SS (Intel SDM volume 2, IRET). */
void lift_iret(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  unsigned size = insn->operand_size;
  lift_flags_canonical(l, X86_F_STATUS);
  IrReg target = stacked(l, size, 0), flags = stacked(l, size, 2), top = stacked(l, size, 3);
  check(l, stacked(l, size, 1), LIFT_SELECTOR_RETURN);
  check(l, stacked(l, size, 4), LIFT_SELECTOR_STACK);
  check_target(l, size, target);
  ir_mov(&l->b, 8, lift_gpr(X86_RSP), top);
  ir_store_state(&l->b, 8, flags, offsetof(GuestCpu, scratch));
  lift_helper_imm(l, LIFT_HELPER_SET_FLAGS, size == 2 ? LIFT_FLAGS_POPF & 0xffff : LIFT_FLAGS_POPF);
  l->form = FLAGS_CANONICAL;
  lift_step_if_asked(l, flags, target);
  go(l, target);
}

/* --- LAR, LSL, VERR, VERW --------------------------------------------------------------------------- */

/* `question`: LiftSelectorUse. ZF says whether the segment is accessible, and so; the other flags stay. */
void lift_describe(Lift *l, const X86Insn *insn, uint32_t question) {
  bool gives_value = insn->operand_count == 2;
  lift_flags_canonical(l, X86_F_STATUS);
  IrReg selector = lift_read(l, insn, gives_value ? 1 : 0);
  lift_plain_helper(l, LIFT_HELPER_DESCRIBE_SELECTOR, helper_argument(l, selector, question));
  IrReg accessible = load_scratch(l, 1);
  if (gives_value) {
    IrLabel skip = ir_label(&l->b);
    IrReg value = load_scratch(l, 0);
    ir_cbz(&l->b, 8, accessible, skip);
    lift_write(l, insn, 0, value);
    ir_bind(&l->b, skip);
  }
  IrReg nzcv = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  ir_bfi(&l->b, 8, nzcv, accessible, 30, 1);
  ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
}
