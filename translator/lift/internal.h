/* What the integer and control lifting share among themselves, beyond lift.h. */
#ifndef STELE_LIFT_INTERNAL_H
#define STELE_LIFT_INTERNAL_H

#include "lift/lift.h"

#define LIFT_FLAG_RESULT ((IrReg){A64_REG_FLAG_RESULT})
#define LIFT_FLAG_AUX ((IrReg){A64_REG_FLAG_AUX})

enum {
  LIVE_NZCV = X86_F_CF | X86_F_ZF | X86_F_SF | X86_F_OF | X86_F_LT,
  LIVE_PARITY = X86_F_PF | X86_F_AF /* what flag_result and flag_aux hold */
};

/* RFLAGS bits that POPF (CF PF AF ZF SF TF DF OF NT AC ID; IF stays) and SAHF change. */
enum { LIFT_FLAGS_POPF = 0x244dd5, LIFT_FLAGS_SAHF = 0xd5 };

/* What Linux answers to SLDT, STR, SMSW, SGDT and SIDT where UMIP makes them trap
 * (arch/x86/kernel/umip.c): no LDT, the task selector, CR0 as in any program (PE MP ET NE WP AM PG), and
 * bases no program can look behind. */
enum {
  LIFT_SYSTEM_LDT = 0,
  LIFT_SYSTEM_TASK = 0x40,
  LIFT_SYSTEM_MACHINE_STATUS = (int32_t)0x80050033,
  LIFT_SYSTEM_GDT = (int32_t)0xfffe0000,
  LIFT_SYSTEM_IDT = (int32_t)0xffff0000
};

/* What a selector is checked for, and what LAR, LSL, VERR and VERW ask (runtime/helpers.c). */
typedef enum LiftSelectorUse {
  LIFT_SELECTOR_DATA,
  LIFT_SELECTOR_STACK,
  LIFT_SELECTOR_JUMP,
  LIFT_SELECTOR_RETURN,
  LIFT_SELECTOR_RIGHTS,
  LIFT_SELECTOR_LIMIT,
  LIFT_SELECTOR_READ,
  LIFT_SELECTOR_WRITE
} LiftSelectorUse;

/* --- Operands --- */

/* As lift_read(), but the bits above the operand's size are arbitrary. */
IrReg lift_read_raw(Lift *l, const X86Insn *insn, unsigned operand);
IrReg lift_read_signed(Lift *l, const X86Insn *insn, unsigned operand); /* sign-extended to 64 bits */
/* Writes the low `size` bytes of `value` to general register `kind`/`reg` as x86 does. */
void lift_write_register(Lift *l, const X86Operand *operand, IrReg value);
IrAddress lift_address_at(Lift *l, IrReg base, unsigned size);
static inline bool lift_is_memory(const X86Insn *insn, unsigned operand) {
  return insn->operands[operand].kind == X86_OPERAND_MEM;
}
/* A copy of a value that may be a guest register about to change. */
IrReg lift_copy(Lift *l, IrReg value);

/* --- Flags --- */

/* The second source of an addition or logic operation. */
typedef struct LiftSource {
  bool is_immediate;
  int64_t immediate; /* sign-extended */
  IrReg reg;
} LiftSource;

/* d := n op source on 4 or 8 bytes, with the flags that are live. d may be IR_ZERO to compare or test. */
void lift_add(Lift *l, unsigned size, IrReg d, IrReg n, LiftSource source);
void lift_subtract(Lift *l, unsigned size, IrReg d, IrReg n, LiftSource source);
void lift_logic(Lift *l, IrOp op, unsigned size, IrReg d, IrReg n, LiftSource source);
/* The same on 1 or 2 bytes: n and source as raw registers; returns the result, bits above undefined. */
IrReg lift_add_narrow(Lift *l, unsigned size, IrReg n, IrReg m);
IrReg lift_subtract_narrow(Lift *l, unsigned size, IrReg n, IrReg m);
/* Flags of n - m alone. */
void lift_compare_narrow(Lift *l, unsigned size, IrReg n, IrReg m);
/* With carry, all sizes; result in a temporary. */
IrReg lift_add_carry(Lift *l, unsigned size, IrReg n, IrReg m, bool subtract);
/* SF, ZF, PF of `value` (raw bits above `size`), CF = OF = 0, AF undefined. */
void lift_flags_logic(Lift *l, unsigned size, IrReg value);
/* SF, ZF, PF of `value`, and CF and OF from registers holding 0 or 1 (IR_NO_REG: 0). */
void lift_flags_result(Lift *l, unsigned size, IrReg value, IrReg carry, IrReg overflow);
/* Replaces CF alone (a register holding 0 or 1) and, unless IR_NO_REG, OF; the others stay. */
void lift_flags_set_carry(Lift *l, IrReg carry, IrReg overflow);
/* Replaces OF alone. */
void lift_flags_set_overflow(Lift *l, IrReg overflow);
/* CF as 0 or 1 in a new temporary. NZCV is kept. */
IrReg lift_carry(Lift *l);
/* 0 or, where CF is set, `size` (4 or 8) bytes of ones in a new temporary. NZCV is kept. */
IrReg lift_carry_mask(Lift *l, unsigned size);
/* CF as the C that it is in `form` (FLAGS_CANONICAL or FLAGS_DIRECT); and making it CF again, the others in any of
 * these two forms now. */
IrReg lift_carry_for(Lift *l, FlagForm form);
void lift_flags_put_carry(Lift *l, IrReg carry, FlagForm form);

/* Brings the flags into canonical form as far as `needed` (X86_F_*) asks. */
void lift_flags_canonical(Lift *l, uint8_t needed);
/* Whether that takes no operation. */
bool lift_flags_are_canonical(const Lift *l, uint8_t needed);

/* An x86 condition (0-15) on the present flags: a host condition, or bit 0 of a register. */
typedef struct LiftCondition {
  bool is_register;
  bool inverted; /* register form: true when the bit is clear */
  A64Condition cond;
  IrReg reg;
} LiftCondition;
LiftCondition lift_condition(Lift *l, unsigned condition);
/* The condition as 0 or 1. */
IrReg lift_condition_value(Lift *l, unsigned condition);

/* --- Control --- */

/* RFLAGS have just been loaded from `flags`: leaves the region if TF was among them, to go on at `target`. */
void lift_step_if_asked(Lift *l, IrReg flags, IrReg target);

/* Loads `selector` (a temporary) into a segment register, or raises #GP. */
void lift_load_segment(Lift *l, unsigned segment, IrReg selector);

void lift_exit(Lift *l, uint64_t target);
void lift_undecodable(Lift *l, X86DecodeStatus status);
/* Tells the block at `index` the flags' form where it takes that over (region_block_inherits()). */
void lift_pass_form(Lift *l, uint32_t index);

#endif
