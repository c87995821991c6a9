/* What is known of the bits that general registers have above a byte or a word that was put into them: compilers load
 * bytes with MOVZX and MOVSX and go on with instructions of 8 bits, whose operands then need no extension of their own.
 *
 * Four bits a register (LiftKnown) in Lift.known. It follows from explicit operands alone, and only through
 * instructions named here: after any other nothing is known. */
#include "lift/internal.h"

static uint64_t field(unsigned reg, LiftKnown known) {
  return (uint64_t)known << 4 * reg;
}

static void set(Lift *l, unsigned reg, LiftKnown known) {
  l->known = (l->known & ~field(reg, (LiftKnown)15)) | field(reg, known);
  if (reg != X86_RAX) return;
  LiftKnown rdx = lift_known(l, X86_RDX);
  if (rdx == KNOWN_RAX_SIGN32 || rdx == KNOWN_RAX_SIGN64) l->known &= ~field(X86_RDX, (LiftKnown)15);
}

bool lift_known_zero_extended(const Lift *l, unsigned reg, unsigned size) {
  LiftKnown known = lift_known(l, reg);
  return known == KNOWN_ZERO || known == KNOWN_ZERO8 || (known == KNOWN_ZERO16 && size >= 2);
}

bool lift_known_sign_extended(const Lift *l, unsigned reg, unsigned size) {
  LiftKnown known = lift_known(l, reg);
  return known == KNOWN_ZERO || known == KNOWN_SIGN8 || (size >= 2 && (known == KNOWN_SIGN16 || known == KNOWN_ZERO8));
}

static LiftKnown of_value(uint64_t value) {
  if (value == 0) return KNOWN_ZERO;
  if (value <= UINT8_MAX) return KNOWN_ZERO8;
  return value <= UINT16_MAX ? KNOWN_ZERO16 : KNOWN_NOTHING;
}

static bool is_zero_extended(LiftKnown known) {
  return known == KNOWN_ZERO || known == KNOWN_ZERO8 || known == KNOWN_ZERO16;
}

/* Of two zero-extended values the one that has more bits. */
static LiftKnown wider(LiftKnown a, LiftKnown b) {
  if (!is_zero_extended(a) || !is_zero_extended(b)) return KNOWN_NOTHING;
  return a == KNOWN_ZERO || b == KNOWN_ZERO16 ? b : a;
}

/* The low bytes are another value's now, those above stay. */
static LiftKnown after_merge(LiftKnown before, unsigned size) {
  if (!is_zero_extended(before)) return KNOWN_NOTHING;
  return size == 1 && before != KNOWN_ZERO16 ? KNOWN_ZERO8 : KNOWN_ZERO16;
}

static LiftKnown source_known(const Lift *l, const X86Insn *insn) {
  const X86Operand *s = &insn->operands[1];
  if (s->kind == X86_OPERAND_IMM) return of_value(s->size == 4 ? (uint32_t)insn->imm : (uint64_t)insn->imm);
  LiftKnown known = s->kind == X86_OPERAND_GPR ? lift_known(l, s->reg) : KNOWN_NOTHING;
  return known == KNOWN_RAX_SIGN32 || known == KNOWN_RAX_SIGN64 ? KNOWN_NOTHING : known; /* said of RDX alone */
}

/* AND: no bits that either operand lacks. */
static LiftKnown after_and(LiftKnown before, LiftKnown source) {
  if (!is_zero_extended(before)) return is_zero_extended(source) ? source : KNOWN_NOTHING;
  if (!is_zero_extended(source)) return before;
  return wider(before, source) == before ? source : before;
}

static LiftKnown after_shift_right(LiftKnown before, const X86Insn *insn) {
  if (insn->operands[1].kind != X86_OPERAND_IMM) return KNOWN_NOTHING;
  unsigned bits = insn->operands[0].size * 8u, left = bits - ((unsigned)insn->imm & (bits - 1));
  if (is_zero_extended(before)) return before;
  return left <= 8 ? KNOWN_ZERO8 : left <= 16 ? KNOWN_ZERO16 : KNOWN_NOTHING;
}

/* What 4 or 8 bytes in a register are after an instruction that writes no other. */
static LiftKnown after_wide(const Lift *l, const X86Insn *insn) {
  const X86Operand *o = insn->operands;
  LiftKnown before = lift_known(l, o[0].reg);
  bool same = o[1].kind == X86_OPERAND_GPR && o[1].reg == o[0].reg;
  switch (insn->mnemonic) {
  case X86_MOVZX:
    return after_and(o[1].size == 1 ? KNOWN_ZERO8 : KNOWN_ZERO16, source_known(l, insn));
  case X86_MOVSX:
    return o[1].size == 1 ? KNOWN_SIGN8 : KNOWN_SIGN16;
  case X86_MOV:
    return source_known(l, insn);
  case X86_AND:
    return after_and(before, source_known(l, insn));
  case X86_SHR:
    return after_shift_right(before, insn);
  case X86_OR:
    return wider(before, source_known(l, insn));
  case X86_XOR:
    return same ? KNOWN_ZERO : wider(before, source_known(l, insn));
  case X86_SUB:
    return same ? KNOWN_ZERO : KNOWN_NOTHING;
  default:
    return KNOWN_NOTHING;
  }
}

/* FIRST: the instruction writes no general register but its first operand, if that is one it writes, and perhaps RSP,
 * of which nothing is noted. MAKES: something may be known behind it of which nothing was before. KEEPS: what is known
 * of 4 or 8 bytes that it writes is after_wide()'s to say; otherwise nothing is. */
enum { FIRST = 1, MAKES = 2, KEEPS = 4 };
static const uint8_t kinds[X86_MNEMONIC_COUNT] = {[X86_MOV] = FIRST | MAKES | KEEPS,
                                                  [X86_MOVZX] = FIRST | MAKES | KEEPS,
                                                  [X86_MOVSX] = FIRST | MAKES | KEEPS,
                                                  [X86_AND] = FIRST | MAKES | KEEPS,
                                                  [X86_XOR] = FIRST | MAKES | KEEPS,
                                                  [X86_SUB] = FIRST | MAKES | KEEPS,
                                                  [X86_SHR] = FIRST | MAKES | KEEPS,
                                                  [X86_CDQ] = MAKES,
                                                  [X86_CQO] = MAKES,
                                                  [X86_MOVSXD] = FIRST,
                                                  [X86_LEA] = FIRST,
                                                  [X86_ADD] = FIRST,
                                                  [X86_ADC] = FIRST,
                                                  [X86_SBB] = FIRST,
                                                  [X86_OR] = FIRST | KEEPS,
                                                  [X86_CMP] = FIRST,
                                                  [X86_TEST] = FIRST,
                                                  [X86_INC] = FIRST,
                                                  [X86_DEC] = FIRST,
                                                  [X86_NEG] = FIRST,
                                                  [X86_NOT] = FIRST,
                                                  [X86_SHL] = FIRST,
                                                  [X86_SAR] = FIRST,
                                                  [X86_ROL] = FIRST,
                                                  [X86_ROR] = FIRST,
                                                  [X86_SETCC] = FIRST,
                                                  [X86_CMOVCC] = FIRST,
                                                  [X86_BT] = FIRST,
                                                  [X86_BSWAP] = FIRST,
                                                  [X86_NOP] = FIRST,
                                                  [X86_JCC] = FIRST,
                                                  [X86_JMP] = FIRST,
                                                  [X86_PUSH] = FIRST,
                                                  [X86_POP] = FIRST};

/* IMUL, but for the form that writes RDX and RAX. */
static bool multiplies_first(const X86Insn *insn) {
  return insn->mnemonic == X86_IMUL && insn->operand_count > 1;
}

void lift_known_merged(Lift *l, unsigned reg, unsigned size) {
  set(l, reg, after_merge(lift_known(l, reg), size));
}

static void extend_to_rdx(Lift *l, LiftKnown sign) {
  set(l, X86_RDX, lift_known(l, X86_RAX) == KNOWN_ZERO ? KNOWN_ZERO : sign);
}

/* Of an instruction that writes its first operand alone. */
static void after_first(Lift *l, const X86Insn *insn, unsigned kind) {
  const X86Operand *d = &insn->operands[0];
  if (!(d->access & X86_ACCESS_W) || (d->kind != X86_OPERAND_GPR && d->kind != X86_OPERAND_GPR8H)) return;
  LiftKnown known = KNOWN_NOTHING;
  if (d->kind == X86_OPERAND_GPR && d->reg != X86_RSP) {
    if (d->size < 4)
      known = after_merge(lift_known(l, d->reg), d->size);
    else if (kind & KEEPS)
      known = after_wide(l, insn);
  }
  set(l, d->reg, known);
}

static __attribute__((noinline)) void change(Lift *l, const X86Insn *insn, unsigned kind) {
  if (kind & FIRST || multiplies_first(insn))
    after_first(l, insn, kind);
  else if (insn->mnemonic == X86_CDQ)
    extend_to_rdx(l, KNOWN_RAX_SIGN32);
  else if (insn->mnemonic == X86_CQO)
    extend_to_rdx(l, KNOWN_RAX_SIGN64);
  else if (insn->mnemonic == X86_CDQE || insn->mnemonic == X86_CWDE)
    set(l, X86_RAX, KNOWN_NOTHING);
  else
    l->known = 0;
}

void lift_known_after(Lift *l, const X86Insn *insn) {
  unsigned kind = kinds[insn->mnemonic];
  bool loads = insn->mnemonic == X86_MOV && insn->operands[1].kind == X86_OPERAND_MEM;
  if (l->known || (kind & MAKES && !loads)) change(l, insn, kind);
}
