/* What the files lifting x87 share: the register stack as far as it is known while lifting.
 *
 * Stack positions become slots of the register file when code is lifted (guest/state.h): x87_begin() checks
 * once a block that ST(0) is where the lifter takes it to be, and has the file rotated otherwise. Which
 * slots are in use is remembered through the block, so that only the first look at a register costs a
 * test. Stack faults and unmasked exceptions go out of line and leave the region: what the lifter knows
 * never has to be unlearned. */
#ifndef STELE_LIFT_X87_LIFT_H
#define STELE_LIFT_X87_LIFT_H

#include "lift/internal.h"

/* Row arguments beside a helper number. */
enum {
  X87_POP = 1 << 16,
  X87_POP_TWICE = 2 << 16,
  X87_POPS_SHIFT = 16,
  X87_INTEGER = 1 << 18, /* the memory operand is an integer */
  X87_TWO_OPERANDS = 1 << 19,
  X87_CLEARS_C2 = 1 << 20, /* also where an operand is empty */
  X87_HELPER_MASK = 0xffff
};
static inline unsigned x87_pops(uint32_t argument) { return argument >> X87_POPS_SHIFT & 3; }
static inline LiftHelper x87_helper(uint32_t argument) { return (LiftHelper)(argument & X87_HELPER_MASK); }

/* Offset in GuestCpu of a field of the x87 state. */
#define X87_FIELD(field) (offsetof(GuestCpu, x87) + offsetof(GuestX87, field))
static inline size_t x87_slot_offset(unsigned slot) { return X87_FIELD(reg) + slot * sizeof(GuestX87Register); }
static inline size_t x87_exponent_offset(unsigned slot) {
  return x87_slot_offset(slot) + offsetof(GuestX87Register, sign_exponent);
}

/* Slot of ST(i); x87_begin() has been called. */
static inline unsigned x87_slot(const Lift *l, int i) { return (l->x87.top + (unsigned)i) & 7; }
/* A helper's argument: a slot as byte offset. */
static inline uint64_t x87_slot_argument(unsigned slot) { return (uint64_t)slot << 4; }

/* A waiting instruction that uses the stack begins: raises #MF when an unmasked exception waits, and makes
 * sure of the top. */
void x87_begin(Lift *l);
/* A waiting instruction that does not use the stack. */
void x87_wait(Lift *l);
/* Nothing is known any more; the next instruction takes ST(0) to be in slot `top`. */
void x87_forget(Lift *l, unsigned top);

/* FIP and FOP (and FDP, where `address` is not IR_NO_REG) of the instruction being lifted. Only ways that may
 * raise an exception call it: all three are right whenever an exception waits. Without one, FOP and FDP show an
 * earlier instruction, as CPUID says (leaf 7, EBX bit 6; SDM volume 1, 8.1.8 and 8.1.9), and FIP is brought up to
 * date by the last x87 instruction of a block or before one that stores it (x87_show_pointer); a fault of another
 * instruction in the middle of a block may show the FIP with which the block began. */
void x87_note(Lift *l, IrReg address);
/* FIP shows this instruction, unless another one follows before anybody looks; x87_begin() does it. */
void x87_show_pointer(Lift *l);

/* What x87_underflow does for an instruction whose operand is empty (x87/environment.c): a set of slots
 * that receive the default NaN, and these. */
enum {
  X87_FAULT_POPS_SHIFT = 8,
  X87_FAULT_COMPARES = 1 << 10,
  X87_FAULT_PUSHES = 1 << 11,
  X87_FAULT_REDUCES = 1 << 12,  /* clears C2 */
  X87_FAULT_MARKS = 1 << 14,    /* the set is marked as in use and receives nothing */
  X87_FAULT_EXCHANGES = 1 << 13 /* the NaN goes to empty ones of the set only, then the two change places */
};

/* Goes on when all `slots` (a set) are in use; out of line, x87_underflow with `argument` completes the instruction and
 * leaves the region. */
void x87_require(Lift *l, unsigned slots, uint64_t argument);
/* The same, but goes to `fault` when no exception waits then. */
void x87_require_or(Lift *l, unsigned slots, uint64_t argument, IrLabel fault);
/* The same for the slot a push is about to take, with one of the overflow helpers. */
void x87_require_room(Lift *l, LiftHelper overflow, uint64_t argument);

/* Moves the top and marks slots. */
void x87_push(Lift *l);
void x87_pop(Lift *l, unsigned count);
/* The same, written when the instruction has been lifted, or later where more of that kind follow (lift_x87_settle()). Code
 * out of line that calls a helper or leaves the region before that settles it first, and unsettles it to come back. */
void x87_push_later(Lift *l);
void x87_pop_later(Lift *l, unsigned count);
void x87_settle_aside(Lift *l);
void x87_unsettle_aside(Lift *l);
void x87_turn(Lift *l, int by); /* the top alone */
void x87_free_slot(Lift *l, unsigned slot);
void x87_fill_slot(Lift *l, unsigned slot); /* in use from now on */
/* Known to be in use from now on: emits nothing. */
void x87_know_valid(Lift *l, unsigned slot);

/* In cold code: leaves the region for the next instruction; if an exception waits, otherwise goes to `label`; if that or
 * where a slot of `claims` that is known to be ordinary is not, or FCW that is known to be usual, after a helper. */
void x87_leave(Lift *l);
void x87_leave_if_pending(Lift *l, IrLabel label);
void x87_rejoin(Lift *l, unsigned claims, IrLabel label);

/* In cold code: raises an exception at this instruction. */
void x87_raise(Lift *l, int vector);

LiftFunction lift_x87_load, lift_x87_load_integer, lift_x87_load_constant;

/* --- Arithmetic in place (lift/x87/inline.c) --- */

typedef struct X87Value {
  IrReg significand, sign_exponent;
  bool ordinary; /* normal and not near an end of the range (lift/x87/inline.c), as all that was float or double */
} X87Value;

/* In temporaries that may be used up; those that the instruction before has held, where it has. */
X87Value x87_load_slot(Lift *l, unsigned slot);
/* The sign and exponent have zeros above them. The temporaries are held for the next instruction: code out of line that
 * comes back has to make them, as x87_rejoin() does. */
void x87_store_slot(Lift *l, unsigned slot, X87Value v);
/* Whether the instruction before has left the slot's value held; and holds it, in the slot given, for the next one. */
bool x87_is_held(const Lift *l, unsigned slot);
void x87_hold(Lift *l, unsigned slot);
/* True where x87_inline() knows the operation of a helper's register form. */
bool x87_can_inline(LiftHelper helper);
/* Where code in place goes. */
typedef struct X87Ways {
  IrLabel slow;  /* to the helper, with nothing changed, NZCV apart */
  IrLabel leave; /* out of the region, with the slot written and C1 clear, but NZCV lost and the state not settled */
  bool source_stays; /* the source will be taken to be ordinary */
} X87Ways;
/* slot := d op s, both in temporaries that are used up; NZCV is destroyed. Falls out of it, or goes one of those ways.
 * From then on the slot is known to be ordinary, and FCW to be
 * usual. */
void x87_inline(Lift *l, LiftHelper helper, unsigned slot, X87Value d, X87Value s, X87Ways ways);
/* slot := slot + slot, likewise; NZCV stays. */
void x87_double_inline(Lift *l, unsigned slot, X87Ways ways);
/* The float or double (size 4, 8) in `bits`, which stays, with an exponent in the middle half of its range; all else to
 * `slow`. */
X87Value x87_value_of_bits(Lift *l, IrReg bits, unsigned size, IrLabel slow);
/* C := a >= b, Z := a == b; N and V mean nothing. */
void x87_compare_inline(Lift *l, X87Value a, X87Value b, IrLabel slow);
/* v rounded to float or double: its bits, what was cut off, and GuestX87.c1. Destroys NZCV. */
typedef struct X87Narrow {
  IrReg bits, rest, c1;
} X87Narrow;
X87Narrow x87_narrow_inline(Lift *l, X87Value v, unsigned size, IrLabel slow);
/* The same for integers of 2, 4 or 8 bytes: to nearest or, as FCW may say or with `truncate`, to zero. */
X87Narrow x87_integer_inline(Lift *l, X87Value v, unsigned size, bool truncate, IrLabel slow);
/* To `slow` unless each is in the middle half of the range, or known to be ordinary; unless FCW is as usual. */
void x87_require_middle(Lift *l, X87Value a, X87Value b, IrLabel slow);
void x87_require_usual(Lift *l, IrLabel slow);

/* False where the next instruction sets C1 before anybody looks. */
bool x87_c1_is_seen(const Lift *l);
/* C1 := 0; not where it is not seen. */
void x87_clear_c1(Lift *l);
/* The same for C1 := rest > 2^63; PE := 1 (rest is not 0). */
void x87_note_rounding(Lift *l, IrReg rest);

#endif
