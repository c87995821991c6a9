/* AArch64 words to text.
 *
 * The rows of ops.def and ops-vector.def say which machine operations there are and what their operands
 * are; the table of forms below adds what rows do not tell: which bits of a class of encodings hold
 * immediates, and how those are written. Loads, stores, branches and literals, which the emitter makes from
 * pseudo-operations, are forms without rows. Only for people to read: nothing here is quick. Encodings and
 * aliases: Arm ARM C4.1, C6.2, C7.2. */
#include "a64/disassemble.h"

#include <stdbool.h>

#include "base/print.h"
#include "ir/ir.h"

typedef struct Word {
  BaseText t;
  uint32_t bits;
  uint64_t address;
  unsigned size;  /* of general registers: 4 or 8, by bit 31 */
  const char *row_text; /* of the row, or NULL */
  const IrOpInfo *row;
} Word;

typedef void Printer(Word *w);

/* Encodings with (word & mask) == value. `immediate`: the bits of a row of this form that imm carries. */
typedef struct Form {
  uint32_t mask, value, immediate;
  Printer *print;
} Form;

/* --- Fields and operands -------------------------------------------------------------------------- */

#define PUT(...) base_text_printf(&w->t, __VA_ARGS__)

static unsigned field(const Word *w, unsigned lsb, unsigned width) { return w->bits >> lsb & ((1u << width) - 1); }

static int64_t signed_field(const Word *w, unsigned lsb, unsigned width) {
  return (int64_t)((uint64_t)field(w, lsb, width) << (64 - width)) >> (64 - width);
}

enum { RD = 0, RN = 5, RA = 10, RM = 16 }; /* lowest bits of register fields */

static unsigned reg(const Word *w, unsigned at) { return field(w, at, 5); }
static bool is_zero(const Word *w, unsigned at) { return reg(w, at) == 31; }

static void put_general(Word *w, unsigned size, unsigned number) {
  char letter = size == 8 ? 'x' : 'w';
  if (number == 31) PUT("%czr", letter);
  else PUT("%c%u", letter, number);
}

/* Where register 31 is the stack pointer. */
static void put_pointer(Word *w, unsigned size, unsigned number) {
  if (number == 31) PUT("%s", size == 8 ? "sp" : "wsp");
  else put_general(w, size, number);
}

/* ", " and the register in the field. */
static void put_next(Word *w, unsigned size, unsigned at) {
  PUT(", ");
  put_general(w, size, reg(w, at));
}

static void put_first(Word *w, const char *name, unsigned size, unsigned at) {
  PUT("%s ", name);
  put_general(w, size, reg(w, at));
}

static const char condition_names[16][3] = {"eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc",
                                            "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"};

static void put_shift(Word *w) {
  static const char names[4][4] = {"lsl", "lsr", "asr", "ror"};
  unsigned kind = field(w, 22, 2), amount = field(w, 10, 6);
  if (kind || amount) PUT(", %s #%u", names[kind], amount);
}

/* Value of a bitmask immediate (Arm ARM J1, DecodeBitMasks). */
static uint64_t logic_value(const Word *w) {
  unsigned imms = field(w, 10, 6), immr = field(w, 16, 6), bits = 64;
  if (!field(w, 22, 1))
    for (bits = 32; bits > 2 && imms & bits; bits /= 2) {}
  unsigned ones = (imms & (bits - 1)) + 1, rotation = immr & (bits - 1);
  uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1, value = (UINT64_C(1) << ones) - 1;
  if (ones == 64) value = UINT64_MAX;
  if (rotation) value = (value >> rotation | value << (bits - rotation)) & mask;
  for (; bits < 64; bits *= 2) value |= value << bits;
  return w->size == 8 ? value : (uint32_t)value;
}

/* --- Integer data processing ---------------------------------------------------------------------- */

/* Bits 30 and 29 select the operation: ADD ADDS SUB SUBS, and AND ORR EOR ANDS. */
enum { ADDS = 1, SUB = 2, SUBS = 3, ORR = 1, ANDS = 3 };
static unsigned operation(const Word *w) { return field(w, 29, 2); }

/* rd, rn, rm with a shift: additions, and logic with bit 21 inverting rm. */
static void print_shifted(Word *w) {
  bool addition = field(w, 24, 1), inverted = !addition && field(w, 21, 1);
  unsigned which = operation(w);
  const char *name = w->row_text;
  bool no_d = false, no_n = false;
  if (is_zero(w, RD) && addition && which & 1) no_d = true, name = which == SUBS ? "cmp" : "cmn";
  else if (is_zero(w, RD) && which == ANDS && !addition && !inverted) no_d = true, name = "tst";
  else if (is_zero(w, RN) && addition && which & SUB) no_n = true, name = which == SUBS ? "negs" : "neg";
  else if (is_zero(w, RN) && !addition && which == ORR && inverted) no_n = true, name = "mvn";
  else if (is_zero(w, RN) && !addition && which == ORR && !(w->bits & 0x00c0fc00)) no_n = true, name = "mov";
  put_first(w, name, w->size, no_d ? RN : RD);
  if (!no_d && !no_n) put_next(w, w->size, RN);
  put_next(w, w->size, RM);
  put_shift(w);
}

static void print_extended(Word *w) {
  static const char names[8][5] = {"uxtb", "uxth", "uxtw", "uxtx", "sxtb", "sxth", "sxtw", "sxtx"};
  unsigned option = field(w, 13, 3), amount = field(w, 10, 3);
  bool plain = option == (w->size == 8 ? 3 : 2) && (is_zero(w, RD) || is_zero(w, RN));
  PUT("%s ", w->row_text);
  put_pointer(w, w->size, reg(w, RD));
  PUT(", ");
  put_pointer(w, w->size, reg(w, RN));
  put_next(w, (option & 3) == 3 ? 8 : 4, RM);
  if (!plain) PUT(", %s", names[option]);
  else if (amount) PUT(", lsl");
  if (amount) PUT(" #%u", amount);
}

static void print_add_immediate(Word *w) {
  unsigned which = operation(w), value = field(w, 10, 12);
  bool sets = which & 1, pointers = is_zero(w, RD) || is_zero(w, RN);
  if (sets && is_zero(w, RD)) {
    PUT("%s ", which == SUBS ? "cmp" : "cmn");
  } else {
    bool move = !which && !value && pointers;
    PUT("%s ", move ? "mov" : w->row_text);
    if (sets) put_general(w, w->size, reg(w, RD));
    else put_pointer(w, w->size, reg(w, RD));
    PUT(", ");
    if (move) {
      put_pointer(w, w->size, reg(w, RN));
      return;
    }
  }
  put_pointer(w, w->size, reg(w, RN));
  PUT(", #0x%x%s", value, field(w, 22, 1) ? ", lsl #12" : "");
}

/* Whether MOVZ or MOVN can make the value: then it is not written MOV where ORR makes it. */
static bool is_wide_move(const Word *w, uint64_t value) {
  uint64_t mask = w->size == 8 ? UINT64_MAX : UINT32_MAX;
  for (unsigned shift = 0; shift < w->size * 8; shift += 16)
    if (!(value & ~(UINT64_C(0xffff) << shift)) || !(~value & mask & ~(UINT64_C(0xffff) << shift))) return true;
  return false;
}

static void print_logic_immediate(Word *w) {
  unsigned which = operation(w);
  uint64_t value = logic_value(w);
  if (which == ANDS && is_zero(w, RD)) {
    put_first(w, "tst", w->size, RN);
  } else {
    bool move = which == ORR && is_zero(w, RN) && !is_wide_move(w, value);
    PUT("%s ", move ? "mov" : w->row_text);
    if (which == ANDS) put_general(w, w->size, reg(w, RD));
    else put_pointer(w, w->size, reg(w, RD));
    if (!move) put_next(w, w->size, RN);
  }
  PUT(", #0x%lx", (unsigned long)value);
}

static void print_move_wide(Word *w) {
  unsigned which = operation(w), shift = field(w, 21, 2) * 16;
  uint64_t value = (uint64_t)field(w, 5, 16) << shift;
  bool other = which == 0 && w->size == 4 && field(w, 5, 16) == 0xffff; /* MOV of it is a MOVZ */
  if (which == 3 || other || (!field(w, 5, 16) && shift)) {
    put_first(w, w->row_text, w->size, RD);
    PUT(", #0x%x", field(w, 5, 16));
    if (shift) PUT(", lsl #%u", shift);
    return;
  }
  if (which == 0) value = w->size == 8 ? ~value : (uint32_t)~value;
  put_first(w, "mov", w->size, RD);
  PUT(", #0x%lx", (unsigned long)value);
}

/* SBFM, BFM, UBFM by their many aliases. */
static void put_bitfield(Word *w, const char *name, unsigned source_size, int lsb, int width) {
  put_first(w, name, w->size, RD);
  if (name[2] != 'c') put_next(w, source_size, RN); /* BFC has no source */
  if (lsb >= 0) PUT(", #%d", lsb);
  if (width >= 0) PUT(", #%d", width);
}

static const char *extension_name(const Word *w, unsigned which, unsigned last) {
  if (which == 0) return last == 7 ? "sxtb" : last == 15 ? "sxth" : last == 31 && w->size == 8 ? "sxtw" : NULL;
  if (w->size == 8) return NULL;
  return last == 7 ? "uxtb" : last == 15 ? "uxth" : NULL;
}

static void print_bitfield(Word *w) {
  static const char inserts[3][6] = {"sbfiz", "bfi", "ubfiz"}, extracts[3][6] = {"sbfx", "bfxil", "ubfx"};
  unsigned which = operation(w), bits = w->size * 8, first = field(w, 16, 6), last = field(w, 10, 6);
  const char *extension = which != 1 && first == 0 ? extension_name(w, which, last) : NULL;
  if (which == 2 && last + 1 == first) put_bitfield(w, "lsl", w->size, (int)(bits - first), -1);
  else if (which != 1 && last == bits - 1) put_bitfield(w, which ? "lsr" : "asr", w->size, (int)first, -1);
  else if (extension) put_bitfield(w, extension, 4, -1, -1);
  else if (last < first && which == 1 && is_zero(w, RN))
    put_bitfield(w, "bfc", w->size, (int)(bits - first), (int)last + 1);
  else if (last < first) put_bitfield(w, inserts[which], w->size, (int)(bits - first), (int)last + 1);
  else put_bitfield(w, extracts[which], w->size, (int)first, (int)(last - first) + 1);
}

static void print_extract(Word *w) {
  bool rotate = reg(w, RN) == reg(w, RM);
  put_first(w, rotate ? "ror" : "extr", w->size, RD);
  put_next(w, w->size, RN);
  if (!rotate) put_next(w, w->size, RM);
  PUT(", #%u", field(w, 10, 6));
}

static void print_carry(Word *w) {
  bool negate = operation(w) & SUB && is_zero(w, RN);
  put_first(w, negate ? operation(w) & 1 ? "ngcs" : "ngc" : w->row_text, w->size, RD);
  if (!negate) put_next(w, w->size, RN);
  put_next(w, w->size, RM);
}

/* LSLV and its like go by the names of the immediate forms. */
static void print_variable_shift(Word *w) {
  PUT("%.3s ", w->row_text);
  put_general(w, w->size, reg(w, RD));
  put_next(w, w->size, RN);
  put_next(w, w->size, RM);
}

static void print_crc(Word *w) {
  put_first(w, w->row_text, 4, RD);
  put_next(w, 4, RN);
  put_next(w, w->size, RM);
}

/* MADD, MSUB; the long forms (bits 21-23 other than 0) come without an addend. */
static void print_multiply(Word *w) {
  unsigned kind = field(w, 21, 3), source = kind == 1 || kind == 5 ? 4 : w->size;
  bool no_addend = is_zero(w, RA), subtract = field(w, 15, 1);
  put_first(w, kind || !no_addend ? w->row_text : subtract ? "mneg" : "mul", w->size, RD);
  put_next(w, source, RN);
  put_next(w, source, RM);
  if (!no_addend) put_next(w, w->size, RA);
}

/* REV32's 32-bit form is REV. */
static void print_reverse(Word *w) {
  put_first(w, w->size == 4 ? "rev" : w->row_text, w->size, RD);
  put_next(w, w->size, RN);
}

static void print_select(Word *w) {
  static const char both_zero[4][6] = {"", "cset", "csetm", ""}, same[4][5] = {"", "cinc", "cinv", "cneg"};
  unsigned which = field(w, 30, 1) << 1 | field(w, 10, 1), condition = field(w, 12, 4);
  bool alike = reg(w, RN) == reg(w, RM) && condition < 14 && which;
  bool zero = alike && is_zero(w, RN) && both_zero[which][0];
  put_first(w, zero ? both_zero[which] : alike ? same[which] : w->row_text, w->size, RD);
  if (!zero) put_next(w, w->size, RN);
  if (!alike) put_next(w, w->size, RM);
  PUT(", %s", condition_names[alike ? condition ^ 1 : condition]);
}

static void print_conditional_compare(Word *w) {
  put_first(w, w->row_text, w->size, RN);
  if (field(w, 11, 1)) PUT(", #0x%x", field(w, 16, 5));
  else put_next(w, w->size, RM);
  PUT(", #0x%x, %s", field(w, 0, 4), condition_names[field(w, 12, 4)]);
}

static void print_rmif(Word *w) {
  put_first(w, w->row_text, 8, RN);
  PUT(", #%u, #%u", field(w, 15, 6), field(w, 0, 4));
}

/* The row's text is "mrs NAME,". */
static void print_system_register(Word *w) {
  const char *name = w->row_text + 4;
  int length = 0;
  while (name[length] != ',') length++;
  const char *suffix = name[0] == 'c' ? "_el0" : ""; /* cntvct */
  if (field(w, 21, 1)) {
    put_first(w, "mrs", 8, RD);
    PUT(", %.*s%s", length, name, suffix);
  } else {
    PUT("msr %.*s%s", length, name, suffix);
    put_next(w, 8, RD);
  }
}

/* --- Memory --------------------------------------------------------------------------------------- */

static void put_base(Word *w) {
  PUT(", [");
  put_pointer(w, 8, reg(w, RN));
}

static void put_offset(Word *w, int64_t offset) {
  put_base(w);
  if (offset) PUT(", #%ld", (long)offset);
  PUT("]");
}

static const char narrow_suffix[4][2] = {"b", "h", "", ""};

/* Mnemonic and register of a load or store: size in bits 30-31, direction and extension in 22-23, vector in 26.
 * Returns log2 of the bytes. */
static unsigned put_access(Word *w, const char *load, const char *store) {
  unsigned log2 = field(w, 30, 2), opc = field(w, 22, 2);
  if (field(w, 26, 1)) {
    log2 = opc & 2 ? 4 : log2;
    PUT("%s %c%u", opc & 1 ? load : store, "bhsdq"[log2], reg(w, RD));
    return log2;
  }
  PUT("%s%s%s ", opc ? load : store, opc & 2 ? "s" : "", opc & 2 && log2 == 2 ? "w" : narrow_suffix[log2]);
  put_general(w, opc == 2 || log2 == 3 ? 8 : 4, reg(w, RD));
  return log2;
}

static void print_scaled(Word *w) {
  unsigned log2 = put_access(w, "ldr", "str");
  put_offset(w, (int64_t)field(w, 10, 12) << log2);
}

static void print_unscaled(Word *w) {
  put_access(w, "ldur", "stur");
  put_offset(w, signed_field(w, 12, 9));
}

static void print_ordered_unscaled(Word *w) {
  put_access(w, "ldapur", "stlur");
  put_offset(w, signed_field(w, 12, 9));
}

static void print_post_indexed(Word *w) {
  put_access(w, "ldr", "str");
  put_base(w);
  PUT("], #%ld", (long)signed_field(w, 12, 9));
}

static void print_pre_indexed(Word *w) {
  put_access(w, "ldr", "str");
  put_base(w);
  PUT(", #%ld]!", (long)signed_field(w, 12, 9));
}

static void print_register_offset(Word *w) {
  static const char names[8][5] = {"", "", "uxtw", "lsl", "", "", "sxtw", "sxtx"};
  unsigned log2 = put_access(w, "ldr", "str"), option = field(w, 13, 3), scaled = field(w, 12, 1);
  put_base(w);
  put_next(w, option & 1 ? 8 : 4, RM);
  if (option != 3 || scaled) PUT(", %s", names[option]);
  if (scaled) PUT(" #%u", log2);
  PUT("]");
}

static void print_pair(Word *w) {
  bool vectors = field(w, 26, 1);
  unsigned size = vectors ? 4u << field(w, 30, 2) : w->size;
  int64_t offset = signed_field(w, 15, 7) * size;
  PUT("%s ", field(w, 22, 1) ? "ldp" : "stp");
  if (vectors) {
    char letter = "sdq"[field(w, 30, 2)];
    PUT("%c%u, %c%u", letter, reg(w, RD), letter, reg(w, RA));
  } else {
    put_general(w, size, reg(w, RD));
    put_next(w, size, RA);
  }
  unsigned index = field(w, 23, 2);
  if (index == 2) put_offset(w, offset);
  else put_base(w);
  if (index == 1) PUT("], #%ld", (long)offset);
  else if (index == 3) PUT(", #%ld]!", (long)offset);
}

static void print_literal(Word *w) {
  PUT("ldr ");
  put_general(w, field(w, 30, 1) ? 8 : 4, reg(w, RD));
  PUT(", 0x%lx", (unsigned long)(w->address + (uint64_t)signed_field(w, 5, 19) * 4));
}

/* LDAR, LDAPR, LDAXR, STLR: one register and the base. */
static void put_exclusive(Word *w, const char *name) {
  unsigned log2 = field(w, 30, 2);
  PUT("%s%s ", name, narrow_suffix[log2]);
  put_general(w, log2 == 3 ? 8 : 4, reg(w, RD));
  put_offset(w, 0);
}

static void print_acquire(Word *w) { put_exclusive(w, field(w, 22, 1) ? "ldar" : "stlr"); }
static void print_acquire_pc(Word *w) { put_exclusive(w, "ldapr"); }
static void print_load_exclusive(Word *w) { put_exclusive(w, "ldaxr"); }

static void print_store_exclusive(Word *w) {
  unsigned log2 = field(w, 30, 2);
  PUT("stlxr%s ", narrow_suffix[log2]);
  put_general(w, 4, reg(w, RM));
  put_next(w, log2 == 3 ? 8 : 4, RD);
  put_offset(w, 0);
}

static void put_atomic(Word *w, const char *name, bool acquire, bool release) {
  unsigned log2 = field(w, 30, 2), size = log2 == 3 ? 8 : 4;
  PUT("%s%s%s%s ", name, acquire ? "a" : "", release ? "l" : "", narrow_suffix[log2]);
  put_general(w, size, reg(w, RM));
  put_next(w, size, RD);
  put_offset(w, 0);
}

static void print_atomic(Word *w) {
  static const char names[8][7] = {"ldadd", "ldclr", "ldeor", "ldset", "ldsmax", "ldsmin", "ldumax", "ldumin"};
  put_atomic(w, field(w, 15, 1) ? "swp" : names[field(w, 12, 3)], field(w, 23, 1), field(w, 22, 1));
}

static void print_compare_and_swap(Word *w) { put_atomic(w, "cas", field(w, 22, 1), field(w, 15, 1)); }

/* --- Branches ------------------------------------------------------------------------------------- */

static void put_target(Word *w, unsigned width, unsigned lsb) {
  PUT("0x%lx", (unsigned long)(w->address + (uint64_t)signed_field(w, lsb, width) * 4));
}

static void print_branch(Word *w) {
  PUT("%s ", field(w, 31, 1) ? "bl" : "b");
  put_target(w, 26, 0);
}

static void print_conditional(Word *w) {
  PUT("b.%s ", condition_names[field(w, 0, 4)]);
  put_target(w, 19, 5);
}

static void print_compare_branch(Word *w) {
  put_first(w, field(w, 24, 1) ? "cbnz" : "cbz", w->size, RD);
  PUT(", ");
  put_target(w, 19, 5);
}

static void print_test_branch(Word *w) {
  put_first(w, field(w, 24, 1) ? "tbnz" : "tbz", w->size, RD);
  PUT(", #%u, ", field(w, 31, 1) << 5 | field(w, 19, 5));
  put_target(w, 14, 5);
}

static void print_branch_register(Word *w) {
  static const char names[4][4] = {"br", "blr", "ret", ""};
  if (field(w, 21, 2) == 2 && reg(w, RN) == 30) PUT("ret");
  else put_first(w, names[field(w, 21, 2)], 8, RN);
}

static void print_adr(Word *w) {
  int64_t distance = (int64_t)((uint64_t)signed_field(w, 5, 19) << 2 | field(w, 29, 2));
  put_first(w, "adr", 8, RD);
  PUT(", 0x%lx", (unsigned long)(w->address + (uint64_t)distance));
}

/* --- Vectors -------------------------------------------------------------------------------------- */

/* The word of the row's text that says how operand `index` (0, 1, …) is arranged: the last goes for the rest. */
static const char *arrangement(const Word *w, unsigned index, int *ret_length) {
  const char *text = w->row_text, *found = NULL;
  int length = 0;
  while (*text && *text != ' ') text++;
  for (unsigned i = 0; *text == ' ' && i <= index; i++) {
    found = ++text;
    for (length = 0; *text && *text != ' '; length++) text++;
  }
  *ret_length = length;
  return found;
}

static void put_mnemonic(Word *w) {
  int length = 0;
  while (w->row_text[length] && w->row_text[length] != ' ') length++;
  PUT("%.*s ", length, w->row_text);
}

/* v1.16b, d1, w1 */
static void put_arranged(Word *w, unsigned index, unsigned number) {
  int length;
  const char *text = arrangement(w, index, &length);
  if (!text) put_general(w, w->size, number);
  else if (*text == 'w' || *text == 'x') put_general(w, *text == 'x' || (w->row->sf && w->size == 8) ? 8 : 4, number);
  else if (*text >= '0' && *text <= '9') PUT("v%u.%.*s", number, length, text);
  else PUT("%c%u", *text, number);
}

/* All operands the row has, in order. */
static void put_operands(Word *w) {
  static const uint8_t at[4] = {RD, RN, RM, RA};
  unsigned index = 0;
  for (unsigned i = 0; i < 4; i++) {
    if (w->row->kind[i] == IR_KIND_N) continue;
    if (index) PUT(", ");
    put_arranged(w, index++, reg(w, at[i]));
  }
}

static void print_row(Word *w) {
  const uint8_t *kind = w->row->kind;
  if (!(kind[0] | kind[1] | kind[2] | kind[3])) {
    PUT("%s", w->row_text);
    return;
  }
  put_mnemonic(w);
  put_operands(w);
}

static void print_move_vector(Word *w) {
  bool move = reg(w, RN) == reg(w, RM);
  PUT("%s v%u.16b, v%u.16b", move ? "mov" : "orr", reg(w, RD), reg(w, RN));
  if (!move) PUT(", v%u.16b", reg(w, RM));
}

static void print_compare_zero(Word *w) {
  print_row(w);
  PUT(", #0");
}

static void print_vector_select(Word *w) {
  print_row(w);
  PUT(", %s", condition_names[field(w, 12, 4)]);
}

static void print_vector_compare(Word *w) {
  print_row(w);
  PUT(", #0x%x, %s", field(w, 0, 4), condition_names[field(w, 12, 4)]);
}

static void print_ext(Word *w) {
  print_row(w);
  PUT(", #%u", field(w, 11, 4));
}

static void print_table(Word *w) {
  PUT("tbl v%u.16b, {v%u.16b}, v%u.16b", reg(w, RD), reg(w, RN), reg(w, RM));
}

static unsigned highest_bit(unsigned value) { return 31 - (unsigned)__builtin_clz(value); }

/* SHL and SLI shift left, all others right; immh's highest bit is the lane's size. */
static void print_vector_shift(Word *w) {
  unsigned value = field(w, 16, 7), bits = 8u << (highest_bit(value) - 3);
  bool left = field(w, 11, 5) == 10;
  print_row(w);
  PUT(", #%u", left ? value - bits : 2 * bits - value);
}

/* INS, DUP, UMOV: imm5 is size and lane of the one element, INS of an element has its source's lane in imm4. */
static void print_copy(Word *w) {
  unsigned imm5 = field(w, 16, 5), log2 = (unsigned)__builtin_ctz(imm5 | 16), lane = imm5 >> (log2 + 1);
  bool into_lane = (w->row->kind[0] & IR_KIND_U) != 0, from_vector = (w->row->kind[1] & IR_KIND_V) != 0;
  put_mnemonic(w);
  if (into_lane) PUT("v%u.%c[%u]", reg(w, RD), "bhsd"[log2], lane);
  else put_arranged(w, 0, reg(w, RD));
  PUT(", ");
  if (!from_vector) put_arranged(w, 1, reg(w, RN));
  else PUT("v%u.%c[%u]", reg(w, RN), "bhsd"[log2], into_lane ? field(w, 11, 4) >> log2 : lane);
}

/* The 8-bit floating-point immediate: (16 + low four bits) / 16 * 2^-3 … 2^4. */
static void put_float(Word *w, unsigned imm8) {
  unsigned in_128ths = (16 + (imm8 & 15)) << ((imm8 >> 4 & 7) ^ 4);
  unsigned fraction = in_128ths % 128;
  PUT(", #%s%u.", imm8 & 0x80 ? "-" : "", in_128ths / 128);
  do {
    fraction *= 10;
    PUT("%u", fraction / 128);
    fraction %= 128;
  } while (fraction);
}

static void print_vector_immediate(Word *w) {
  unsigned imm8 = field(w, 16, 3) << 5 | field(w, 5, 5), mode = field(w, 12, 4);
  print_row(w);
  if (mode == 15) {
    put_float(w, imm8);
  } else if (mode == 14 && field(w, 29, 1)) {
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
      if (imm8 >> i & 1) value |= UINT64_C(0xff) << 8 * i;
    PUT(", #0x%lx", (unsigned long)value);
  } else {
    unsigned shift = mode == 14 ? 0 : mode & 8 ? (mode & 2) * 4 : (mode & 6) * 4;
    PUT(", #0x%x", imm8);
    if (shift) PUT(", lsl #%u", shift);
  }
}

/* --- Forms ---------------------------------------------------------------------------------------- */

/* In `immediate`: the bits below the highest set one, or above the lowest set one, of the row's own field at 16. */
#define BELOW_HIGHEST (1u << 31)
#define ABOVE_LOWEST (1u << 30)

/* What the emitter makes of pseudo-operations, and the fields of GuestCpu: no row needed. */
static const Form rowless[] = {
    {0x3b000000, 0x39000000, 0, print_scaled},
    {0x3b200c00, 0x38000000, 0, print_unscaled},
    {0x3b200c00, 0x38000400, 0, print_post_indexed},
    {0x3b200c00, 0x38000c00, 0, print_pre_indexed},
    {0x3b200c00, 0x38200800, 0, print_register_offset},
    {0x3f200c00, 0x19000000, 0, print_ordered_unscaled},
    {0x7e000000, 0x28000000, 0, print_pair},
    {0x3e000000, 0x2c000000, 0, print_pair},
    {0xbf000000, 0x18000000, 0, print_literal},
    {0x3fbffc00, 0x089ffc00, 0, print_acquire},
    {0x3ffffc00, 0x38bfc000, 0, print_acquire_pc},
    {0x3ffffc00, 0x085ffc00, 0, print_load_exclusive},
    {0x3fe0fc00, 0x0800fc00, 0, print_store_exclusive},
    {0x3f200c00, 0x38200000, 0, print_atomic},
    {0x3fa07c00, 0x08a07c00, 0, print_compare_and_swap},
    {0x7c000000, 0x14000000, 0, print_branch},
    {0xff000010, 0x54000000, 0, print_conditional},
    {0x7e000000, 0x34000000, 0, print_compare_branch},
    {0x7e000000, 0x36000000, 0, print_test_branch},
    {0xff9ffc1f, 0xd61f0000, 0, print_branch_register},
    {0x9f000000, 0x10000000, 0, print_adr},
    {0},
};

/* How a row's words are written: the first that matches counts. */
static const Form row_forms[] = {
    {0x1f200000, 0x0b000000, 0x00c0fc00, print_shifted},
    {0x1fe00000, 0x0b200000, 0x0000fc00, print_extended},
    {0x1f000000, 0x0a000000, 0x00c0fc00, print_shifted},
    {0x1f800000, 0x11000000, 0x007ffc00, print_add_immediate},
    {0x1f800000, 0x12000000, 0x007ffc00, print_logic_immediate},
    {0x1f800000, 0x12800000, 0x007fffe0, print_move_wide},
    {0x1f800000, 0x13000000, 0x007ffc00, print_bitfield},
    {0x1fa00000, 0x13800000, 0x0040fc00, print_extract},
    {0xffe07c10, 0xba000400, 0x001f800f, print_rmif},
    {0x1fe0fc00, 0x1a000000, 0, print_carry},
    {0x1fe00800, 0x1a400000, 0x0000f00f, print_conditional_compare},
    {0x1fe00800, 0x1a400800, 0x001ff00f, print_conditional_compare},
    {0x1fe00000, 0x1a800000, 0x0000f000, print_select},
    {0x7fe0f000, 0x1ac02000, 0, print_variable_shift},
    {0x7fe0f000, 0x1ac05000, 0, print_crc},
    {0x7ffffc00, 0x5ac00800, 0, print_reverse},
    {0x7f000000, 0x1b000000, 0, print_multiply},
    {0xffd00000, 0xd5100000, 0, print_system_register},
    {0xff200c00, 0x1e200400, 0x0000f00f, print_vector_compare},
    {0xff200c00, 0x1e200c00, 0x0000f000, print_vector_select},
    {0xffe0fc00, 0x4ea01c00, 0, print_move_vector},
    {0xbfe08400, 0x2e000000, 0x00007800, print_ext},
    {0xbfe0fc00, 0x0e000000, 0, print_table},
    {0x9f3ffc00, 0x0e208800, 0, print_compare_zero},
    {0x9f3ffc00, 0x0e209800, 0, print_compare_zero},
    {0xbf3ffc00, 0x0e20a800, 0, print_compare_zero},
    {0x9ff80400, 0x0f000400, 0x000703e0, print_vector_immediate},
    {0x9f80fc00, 0x0f00a400, 0, print_row}, /* SXTL, UXTL: shifts by 0 */
    {0x9f800400, 0x0f000400, BELOW_HIGHEST, print_vector_shift},
    {0xffe0fc00, 0x5e000400, ABOVE_LOWEST, print_copy},
    {0xffe08400, 0x6e000400, ABOVE_LOWEST | 0x00007800, print_copy},
    {0xbfe08400, 0x0e000400, ABOVE_LOWEST, print_copy},
    {0, 0, 0, print_row},
};

/* The last form of a table matches everything. */
static const Form *find_form(const Form *form, uint32_t word) {
  while ((word & form->mask) != form->value) form++;
  return form;
}

/* The bits of a row's encoding that are the same in all its words. */
static uint32_t fixed_bits(const IrOpInfo *row) {
  static const uint8_t at[4] = {RD, RN, RM, RA};
  uint32_t immediate = find_form(row_forms, row->encoding)->immediate, lanes = row->encoding >> 16 & 0x7f;
  uint32_t variable = immediate & ~(BELOW_HIGHEST | ABOVE_LOWEST);
  if (immediate & BELOW_HIGHEST) variable |= ((1u << highest_bit(lanes)) - 1) << 16;
  if (immediate & ABOVE_LOWEST) variable |= (0x1fu & ~(lanes ^ (lanes - 1))) << 16;
  for (unsigned i = 0; i < 4; i++)
    if (row->kind[i] != IR_KIND_N) variable |= 31u << at[i];
  if (row->sf) variable |= 1u << 31;
  return ~variable;
}

/* The row a word belongs to, or NULL. */
static const IrOpInfo *find_row(uint32_t word) {
  enum { GROUP = 15 << 25 }; /* what kind of instruction (Arm ARM C4.1): no operand is in there */
  for (unsigned op = 0; op < IR_OP_COUNT; op++) {
    const IrOpInfo *row = &ir_op_info[op];
    if (row->pseudo || (row->encoding ^ word) & GROUP) continue;
    if (!((row->encoding ^ word) & fixed_bits(row))) return row;
  }
  return NULL;
}

static void print_word(Word *w) { PUT(".word 0x%08x", w->bits); }

int a64_disassemble(uint32_t word, uint64_t address, char *text, size_t size) {
  Word w = {.t = base_text(text, size), .bits = word, .address = address, .size = word >> 31 ? 8 : 4};
  Printer *print = find_form(rowless, word)->print;
  if (!print) {
    w.row = find_row(word);
    print = w.row ? find_form(row_forms, word)->print : print_word;
    w.row_text = w.row ? ir_op_text((IrOp)(w.row - ir_op_info)) : NULL;
  }
  print(&w);
  return (int)w.t.length;
}
