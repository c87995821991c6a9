/* FCOM, FUCOM, FCOMI, FUCOMI, FTST, FXAM. */
#include "x87/float.h"

/* Condition codes of a comparison (SDM table 8-6). */
enum { GREATER = 0, LESS = X87_C0, EQUAL = X87_C3, UNORDERED = X87_C3 | X87_C2 | X87_C0 };

static inline unsigned order_normal(uint64_t a, uint32_t ase, uint64_t b, uint32_t bse) {
  if ((ase ^ bse) & X87_SIGN) return ase & X87_SIGN ? LESS : GREATER;
  if (ase == bse && a == b) return EQUAL;
  bool below = ase != bse ? ase < bse : a < b;
  return below != ((ase & X87_SIGN) != 0) ? LESS : GREATER;
}

/* Neither is a NaN. */
static unsigned order_numbers(const X87Number *a, const X87Number *b) {
  bool a_zero = a->class == X87_ZERO, b_zero = b->class == X87_ZERO;
  if (a_zero && b_zero) return EQUAL;
  if (a_zero) return b->sign ? GREATER : LESS;
  if (b_zero || a->sign != b->sign) return a->sign ? LESS : GREATER;
  if (a->exponent == b->exponent && a->significand == b->significand) return EQUAL;
  bool below = a->exponent != b->exponent ? a->exponent < b->exponent : a->significand < b->significand;
  return below != (a->sign != 0) ? LESS : GREATER;
}

/* The order of any two values with its exceptions. An unmasked exception keeps the instruction from
 * popping, not from setting the conditions. */
static __attribute__((noinline)) unsigned order_slow(GuestX87 *x, const X87Number *a, const X87Number *b,
                                                bool quiet, uint64_t argument) {
  unsigned flags = 0, order = UNORDERED;
  if (a->class >= X87_QNAN || b->class >= X87_QNAN) {
    if (!quiet || a->class > X87_QNAN || b->class > X87_QNAN) flags = X87_IE;
  } else {
    if (a->class == X87_DENORMAL || b->class == X87_DENORMAL) flags = X87_DE;
    order = order_numbers(a, b);
  }
  if (flags) x87_raise_before(x, flags, argument);
  return order;
}

static void set_conditions(GuestX87 *x, unsigned order) {
  x87_set_c1(x, 0);
  x->status = (uint16_t)((x->status & ~X87_CONDITIONS) | order);
}

static inline unsigned register_order(GuestX87 *x, uint64_t argument, bool quiet) {
  const GuestX87Register *a = x87_destination(x, argument), *b = x87_source(x, argument);
  if (X87_LIKELY(x87_is_normal(a->significand, a->sign_exponent) &&
                 x87_is_normal(b->significand, b->sign_exponent)))
    return order_normal(a->significand, a->sign_exponent, b->significand, b->sign_exponent);
  X87Number an = x87_unpack(a->significand, a->sign_exponent);
  X87Number bn = x87_unpack(b->significand, b->sign_exponent);
  return order_slow(x, &an, &bn, quiet, argument);
}

void x87_fcom(GuestCpu *cpu, uint64_t argument) {
  set_conditions(&cpu->x87, register_order(&cpu->x87, argument, false));
}

void x87_fucom(GuestCpu *cpu, uint64_t argument) {
  set_conditions(&cpu->x87, register_order(&cpu->x87, argument, true));
}

/* NZCV as AArch64's FCMP leaves it, which is the form in which lifted code takes it (transfer[0]). C1
 * stays as it is. */
static void set_flags(GuestX87 *x, unsigned order) {
  enum { N = 8, Z = 4, C = 2, V = 1 };
  unsigned nzcv = order == LESS ? N : order == EQUAL ? Z | C : order == GREATER ? C : C | V;
  x->transfer[0] = (uint64_t)nzcv << 28;
}

void x87_fcomi(GuestCpu *cpu, uint64_t argument) {
  set_flags(&cpu->x87, register_order(&cpu->x87, argument, false));
}

void x87_fucomi(GuestCpu *cpu, uint64_t argument) {
  set_flags(&cpu->x87, register_order(&cpu->x87, argument, true));
}

/* ST(0) with a value from memory. The pop has not been done yet: it may follow a memory operand only. */
static void compare_number(GuestX87 *x, const X87Number *m) {
  const GuestX87Register *st = x87_st(x, 0);
  X87Number n = x87_unpack(st->significand, st->sign_exponent);
  if (X87_LIKELY(n.class == X87_NORMAL && m->class == X87_NORMAL))
    set_conditions(x, order_numbers(&n, m));
  else
    set_conditions(x, order_slow(x, &n, m, false, 0));
}

void x87_fcom_m32(GuestCpu *cpu, uint64_t bits) {
  X87Number m = x87_unpack_float((uint32_t)bits);
  compare_number(&cpu->x87, &m);
}

void x87_fcom_m64(GuestCpu *cpu, uint64_t bits) {
  X87Number m = x87_unpack_double(bits);
  compare_number(&cpu->x87, &m);
}

void x87_fcom_int(GuestCpu *cpu, uint64_t value) {
  X87Number m = x87_unpack_integer((int64_t)value);
  compare_number(&cpu->x87, &m);
}

void x87_ftst(GuestCpu *cpu, uint64_t argument) {
  X87Number zero = {0, 0, 0, X87_ZERO};
  compare_number(&cpu->x87, &zero);
}

void x87_fxam(GuestCpu *cpu, uint64_t argument) {
  static const uint16_t conditions[] = {
      [X87_ZERO] = X87_C3,     [X87_NORMAL] = X87_C2, [X87_DENORMAL] = X87_C3 | X87_C2,
      [X87_INFINITY] = X87_C2 | X87_C0, [X87_QNAN] = X87_C0, [X87_SNAN] = X87_C0, [X87_UNSUPPORTED] = 0,
  };
  GuestX87 *x = &cpu->x87;
  const GuestX87Register *st = x87_st(x, 0);
  bool empty = !(x->valid >> (x->top & 7) & 1);
  unsigned code = empty ? X87_C3 | X87_C0
                        : conditions[x87_unpack(st->significand, st->sign_exponent).class];
  x->status = (uint16_t)((x->status & ~X87_CONDITIONS) | code);
  x87_set_c1(x, st->sign_exponent >> 15);
}
