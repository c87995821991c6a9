/* Bytes to X86Insn, by the look-up data that generate.py makes of instructions.tbl.
 *
 * Every block of guest code passes through here once, so the path is short: prefixes in a loop that
 * an instruction without any leaves at once, one look-up an opcode map, a selector node or two
 * where ModRM or a mandatory prefix extends the opcode, then a row that holds most of X86Insn
 * ready-made and operand templates that lack only a register number. Nothing is checked byte by
 * byte: with DECODE_WINDOW bytes readable no instruction can run over, and the rare decode near the
 * end of readable memory works on a padded copy. What few instructions need stands apart, in
 * decode_special().
 *
 * Programs use few forms of instructions, and what one is depends on its bytes up to ModRM and SIB alone, but for the
 * numbers behind them. x86_decode_shaped() remembers forms (X86Shape), and is done in some 38 instructions where it
 * knows one: four times of five in /bin/true (tests/bench/profile).
 *
 * Otherwise a decode takes 177 executed AArch64 instructions, the mean over /bin/true of Debian 12, and on x86-64
 * 215 over bash. Counted, with some 20 of the measuring loop, by
 *   qemu-aarch64 -singlestep -d exec,nochain -D trace decode-bench --sweep /bin/true   (cross-built)
 *   build/host/tests/decode/decode-bench /bin/bash 5000
 *
 * Must not know what instructions do, nor any operating system. Freestanding; no data with
 * addresses. Where Intel and AMD differ (66 before a near branch, SYSENTER, LOCK on MOV CR,
 * register forms of PREFETCH) Intel is followed. Sources: Intel SDM volume 2, chapter 2 (formats)
 * and appendix A; AMD APM volume 3, chapter 1. */
#include "x86/decode.h"

/* Columns of operand size: 16, 32 and 64 bits; the same again for VEX.L = 1. */
enum { WIDTH_16, WIDTH_32, WIDTH_64, WIDTH_L1, WIDTHS = 6 };

/* An operand without its register: X86Operand as a word, by form (register, memory) and column. In
 * the place of `reg` stands the shift that brings the register's lane down; bits 28-31 are added to
 * it. */
typedef struct OperandTemplate {
  uint32_t words[16]; /* 2 * WIDTHS used; the size makes indexing a shift */
} OperandTemplate;

#define OPERAND(kind, lane, size, access, fixed)                                                   \
  ((kind) | (lane) << 8 | (size) << 16 | (access) << 24 | (uint32_t)(fixed) << 28)
enum { OPERAND_LANE = 0x3f00, OPERAND_FIXED = 28 };
#define OPERAND_MASK 0x03ff00ffu

typedef struct Row {
  uint64_t head;            /* the first eight bytes of X86Insn but for length and operand_size */
  uint32_t flags;           /* flags_read to flags_maybe */
  uint32_t operands;        /* indices of operand_templates, a byte each, first operand lowest */
  uint16_t attributes;      /* ROW_* */
  uint16_t immediate_sizes; /* bytes by column, a nibble each */
  uint16_t operand_sizes;   /* bytes by column, a nibble each */
  uint8_t widths;           /* column by (REX.W, 66), two bits each */
  uint8_t immediate_kind;   /* IMMEDIATE_* */
} __attribute__((aligned(32))) Row; /* the size makes indexing a shift */

#define HEAD(mnemonic, operand_count, prefixes, condition, flow)                                   \
  ((mnemonic) | (uint64_t)(operand_count) << 24 | (uint64_t)(prefixes) << 40 |                     \
   (uint64_t)(condition) << 48 | (uint64_t)(flow) << 56)
#define FLAGS(read, written, undefined, maybe)                                                     \
  ((read) | (written) << 8 | (undefined) << 16 | (maybe) << 24)
enum { HEAD_LENGTH = 16, HEAD_OPERAND_SIZE = 32 };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words stand for structs");
_Static_assert(offsetof(X86Insn, length) == 2 && offsetof(X86Insn, operand_count) == 3 &&
                   offsetof(X86Insn, operand_size) == 4 && offsetof(X86Insn, prefixes) == 5 &&
                   offsetof(X86Insn, condition) == 6 && offsetof(X86Insn, flow) == 7,
               "Row.head");
_Static_assert(offsetof(X86Insn, flags_read) == 8 && offsetof(X86Insn, flags_written) == 9 &&
                   offsetof(X86Insn, flags_undefined) == 10 && offsetof(X86Insn, flags_maybe) == 11,
               "Row.flags");
_Static_assert(sizeof(X86Operand) == 4 && offsetof(X86Operand, reg) == 1 &&
                   offsetof(X86Operand, size) == 2 && offsetof(X86Operand, access) == 3,
               "OPERAND");

/* A node of `nodes` is the index of a row (0: no instruction), SPECIAL_* above NODE_SPECIAL
 * (prefixes and escapes, in the one-byte map only), or with NODE_SELECT a selector: SELECT_* in
 * bits 12 to 14, half the index of its first child in bits 0 to 11. The maps' roots come first, 256
 * nodes each. */
#include "decode-data.h"

enum { NODE_SPECIAL = 0x7f00, NODE_SELECT = 0x8000 };
enum { MAP_0F = 256, MAP_0F38 = 512, MAP_0F3A = 768, MAP_VEX = 1024 };
enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };
enum {
  SEEN_66 = 1,
  SEEN_67 = 2,
  SEEN_LOCK = 4,
  SEEN_VEX = 8,
  SEEN_F2 = 16,
  SEEN_F3 = 32,
  SEEN_SEGMENT = 64
};
enum { MANDATORY_NONE, MANDATORY_66, MANDATORY_F3, MANDATORY_F2 }; /* order of VEX.pp */

enum {
  LONGEST_INSTRUCTION = 15,
  /* 15 bytes up to the opcode, then the longest rest: escapes, ModRM, SIB, displacement, eight
   * bytes read for an immediate of any size. */
  DECODE_WINDOW = 32
};

/* What the encoding has said so far. Lives in registers: every helper is inlined into
 * decode_window(). */
typedef struct Decoding {
  const uint8_t *at;
  uint32_t root;   /* index in `nodes` of the opcode's root */
  uint32_t seen;   /* SEEN_*; of F2 and F3 the later one */
  uint32_t rex;    /* REX, or VEX's bits in the same places; 0 if absent */
  uint32_t opcode; /* last byte of the opcode */
  uint32_t vvvv, vector_length;
  uint32_t segment; /* X86_SEG_FS or X86_SEG_GS, the later one, where SEEN_SEGMENT */
  uint32_t displacement; /* bytes */
} Decoding;

static inline uint32_t read_u32(const uint8_t *at) {
  uint32_t value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

static inline uint64_t read_u64(const uint8_t *at) {
  uint64_t value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

/* VEX takes the place of REX, mandatory prefixes and escape bytes, and bears none of them before
 * it. */
static inline X86DecodeStatus decode_vex(Decoding *d, bool three_bytes) {
  static const uint8_t mandatory[4] = {0, SEEN_66, SEEN_F3, SEEN_F2};
  if (d->rex || d->seen & ~(SEEN_67 | SEEN_SEGMENT)) return X86_DECODE_INVALID;
  uint32_t first = *d->at++;
  uint32_t map = 1, second = first;
  d->rex = (~first >> 5) & REX_R;
  if (three_bytes) {
    second = *d->at++;
    map = first & 31;
    d->rex = ((~first >> 5) & (REX_R | REX_X | REX_B)) | ((second >> 4) & REX_W);
  }
  if (map < 1 || map > 3) return X86_DECODE_INVALID;
  d->seen |= SEEN_VEX | mandatory[second & 3];
  d->vvvv = (~second >> 3) & 15;
  d->vector_length = (second >> 2) & 1;
  d->opcode = *d->at++;
  d->root = MAP_VEX + (map - 1) * 256 + d->opcode;
  return X86_DECODE_OK;
}

static inline void decode_escape(Decoding *d) {
  uint32_t map = MAP_0F;
  d->opcode = *d->at++;
  if (d->opcode == 0x38 || d->opcode == 0x3a) {
    map = d->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
    d->opcode = *d->at++;
  }
  d->root = map + d->opcode;
}

static inline void note_prefix(Decoding *d, uint32_t special) {
  switch (special) {
  case SPECIAL_66:
    d->seen |= SEEN_66;
    break;
  case SPECIAL_67:
    d->seen |= SEEN_67;
    break;
  case SPECIAL_F0:
    d->seen |= SEEN_LOCK;
    break;
  case SPECIAL_F2:
    d->seen = (d->seen & ~SEEN_F3) | SEEN_F2;
    break;
  case SPECIAL_F3:
    d->seen = (d->seen & ~SEEN_F2) | SEEN_F3;
    break;
  case SPECIAL_FS:
    d->segment = X86_SEG_FS;
    d->seen |= SEEN_SEGMENT;
    break;
  case SPECIAL_GS:
    d->segment = X86_SEG_GS;
    d->seen |= SEEN_SEGMENT;
    break;
  default:
    break; /* ES, CS, SS and DS have no effect in 64-bit mode */
  }
}

/* Prefixes and escapes up to the opcode. A REX counts only directly before the opcode. */
static inline X86DecodeStatus decode_prefixes(Decoding *d) {
  const uint8_t *start = d->at;
  do {
    d->opcode = *d->at++;
    uint32_t special = nodes[d->opcode] - (uint32_t)NODE_SPECIAL;
    if (special >= 0x100) {
      d->root = d->opcode;
      return X86_DECODE_OK;
    }
    if (special == SPECIAL_REX) {
      d->rex = d->opcode;
      continue;
    }
    if (special == SPECIAL_0F) {
      decode_escape(d);
      return X86_DECODE_OK;
    }
    if (special >= SPECIAL_VEX2)
      return special == SPECIAL_EVEX ? X86_DECODE_INVALID : decode_vex(d, special == SPECIAL_VEX3);
    d->rex = 0;
    note_prefix(d, special);
  } while (d->at - start < LONGEST_INSTRUCTION);
  return X86_DECODE_TOO_LONG;
}

static inline uint32_t size_index(const Decoding *d) {
  return (d->rex & REX_W) >> 2 | (d->seen & SEEN_66);
}

static inline uint32_t select_child(const Decoding *d, uint32_t kind) {
  uint32_t modrm = *d->at;
  switch (kind) {
  case SELECT_PREFIX:
    if (d->seen & (SEEN_F2 | SEEN_F3)) return d->seen & SEEN_F3 ? MANDATORY_F3 : MANDATORY_F2;
    return d->seen & SEEN_66;
  case SELECT_MOD:
    return modrm >= 0xc0;
  case SELECT_REG:
    return (modrm >> 3) & 7;
  case SELECT_RM:
    return modrm & 7;
  case SELECT_W:
    return (d->rex & REX_W) != 0;
  case SELECT_L:
    return d->vector_length;
  case SELECT_B:
    return d->rex & REX_B;
  default:
    return d->rex & REX_W ? WIDTH_64 : d->seen & SEEN_66 ? WIDTH_16 : WIDTH_32;
  }
}

/* ModRM's memory forms (SDM volume 2, tables 2-2 and 2-3), up to and including the displacement. */
static inline void decode_memory(Decoding *d, uint32_t modrm, X86Mem *mem) {
  uint32_t rm = modrm & 7, base = rm | (d->rex & REX_B) << 3, index = X86_NOREG, scale = 0;
  bool wide = modrm >= 0x80; /* a displacement of 32 bits; mod 1 has one of 8 */
  if (rm == 4) {
    uint32_t sib = *d->at++;
    index = ((sib >> 3) & 7) | (d->rex & REX_X) << 2;
    if (index == X86_RSP) index = X86_NOREG;
    scale = sib >> 6;
    rm = sib & 7;
    base = rm | (d->rex & REX_B) << 3;
    if (rm == 5 && modrm < 0x40) wide = true, base = X86_NOREG;
  } else if (rm == 5 && modrm < 0x40) {
    wide = true, base = X86_RIP;
  }
  *mem = (X86Mem){base, index, scale, X86_NOREG, 0};
  if (wide) {
    mem->disp = (int32_t)read_u32(d->at);
    d->at += 4;
    d->displacement = 4;
  } else if (modrm >= 0x40) {
    mem->disp = (int8_t)*d->at++;
    d->displacement = 1;
  }
}

/* Immediates that are no plain number: two in one, an address, a constant, a register. `insn->imm`
 * holds the bytes, zero-extended. */
static inline void decode_odd_immediate(Decoding *d, uint32_t kind, X86Insn *insn) {
  switch (kind) {
  case IMMEDIATE_U16_U8:
    insn->imm2 = insn->imm >> 16;
    insn->imm &= 0xffff;
    break;
  case IMMEDIATE_U8_U8:
    insn->imm2 = insn->imm >> 8;
    insn->imm &= 0xff;
    break;
  case IMMEDIATE_ADDRESS:
    insn->mem.disp = d->seen & SEEN_67 ? insn->imm & 0xffffffff : insn->imm;
    insn->imm = 0;
    if (d->seen & SEEN_67) d->at -= 4;
    break;
  case IMMEDIATE_ONE:
    insn->imm = 1;
    break;
  default:
    break; /* IMMEDIATE_IS4: operands read its high half */
  }
}

static inline void decode_immediate(Decoding *d, const Row *row, uint32_t width, X86Insn *insn) {
  uint32_t bytes = (row->immediate_sizes >> width * 4) & 15;
  if (bytes) {
    uint32_t unused = 64 - 8 * bytes;
    uint64_t high = read_u64(d->at) << unused;
    insn->imm = row->immediate_kind == IMMEDIATE_SIGNED ? (int64_t)high >> unused
                                                        : (int64_t)(high >> unused);
    d->at += bytes;
  }
  if (row->immediate_kind > IMMEDIATE_UNSIGNED) decode_odd_immediate(d, row->immediate_kind, insn);
}

/* Register numbers, eight bits each, at the shifts operand templates name (LANES of generate.py):
 * none, ModRM.reg, ModRM.rm, opcode, VEX.vvvv, ModRM.reg and .rm without REX, immediate. */
static inline uint64_t register_lanes(const Decoding *d, uint32_t modrm, const X86Insn *insn) {
  uint64_t fields = (modrm & 0x38) << 5 | (modrm & 7) << 16;
  uint64_t rex = (d->rex & REX_R) << 9 | (d->rex & REX_B) * (1u << 19 | 1u << 27);
  return fields << 32 | fields | rex | (d->opcode & 7) << 24 | (uint64_t)d->vvvv << 32 |
         (uint64_t)(insn->imm & 0xf0) << 52;
}

static inline void decode_operands(uint32_t list, uint64_t lanes, uint32_t column, X86Insn *insn) {
  for (X86Operand *operand = insn->operands; list; list >>= 8, operand++) {
    uint32_t word = operand_templates[list & 0xff].words[column];
    uint32_t reg = (uint8_t)(lanes >> ((word & OPERAND_LANE) >> 8)) + (word >> OPERAND_FIXED);
    word = (word & OPERAND_MASK) | reg << 8;
    __builtin_memcpy(operand, &word, sizeof word);
  }
}

/* AH, CH, DH and BH, where numbers 4 to 7 of byte registers mean these for want of a REX. */
static void name_high_bytes(X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++) {
    X86Operand *operand = &insn->operands[i];
    if (operand->kind != X86_OPERAND_GPR || operand->size != 1 || operand->reg < 4) continue;
    operand->kind = X86_OPERAND_GPR8H;
    operand->reg -= 4;
  }
}

/* Shifts by an immediate: by 0 changes nothing, by 1 defines OF. */
static void refine_shift_flags(X86Insn *insn) {
  uint32_t count = insn->imm & (insn->operand_size == 8 ? 63 : 31);
  if (count == 0) {
    insn->flags_written = insn->flags_undefined = insn->flags_read = 0;
  } else if (count == 1) {
    insn->flags_written |= X86_F_OF;
    insn->flags_undefined &= ~X86_F_OF;
  }
}

/* F2 repeats the instructions that compare nothing just as F3 does. No iteration leaves the flags
 * alone. */
static void note_repeat(uint32_t seen, X86Insn *insn) {
  if (!(seen & (SEEN_F2 | SEEN_F3))) return;
  bool compares = insn->flags_written & X86_F_ZF;
  insn->prefixes |= compares && seen & SEEN_F2 ? X86_PREFIX_REPNE : X86_PREFIX_REP;
  insn->flags_maybe = insn->flags_written;
}

/* Gathers: the index register is a vector, where number 4 is one like others. Destination, mask and
 * index must differ (SDM volume 2, 2.3.12). */
static bool index_by_vector(X86Insn *insn) {
  if (insn->mem.index == X86_NOREG) insn->mem.index = 4;
  uint32_t destination = insn->operands[0].reg, mask = insn->operands[2].reg,
           index = insn->mem.index;
  return destination != mask && destination != index && mask != index;
}

/* Whether the segment, control and debug registers named exist and can be written. */
static bool registers_exist(const X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++) {
    const X86Operand *operand = &insn->operands[i];
    switch (operand->kind) {
    case X86_OPERAND_SEG:
      if (operand->reg > X86_SEG_GS) return false;
      if (operand->reg == X86_SEG_CS && operand->access & X86_ACCESS_W) return false;
      break;
    case X86_OPERAND_CR:
      if (operand->reg > 8 || !(1u << operand->reg & 0x11d)) return false; /* 0, 2, 3, 4, 8 */
      break;
    case X86_OPERAND_DR:
      if (operand->reg > 7) return false;
      break;
    default:
      break;
    }
  }
  return true;
}

/* What only some instructions need. False where there is no instruction after all; LOCK is allowed
 * only before rows that say so, with a memory destination (SDM volume 2, LOCK). */
static bool __attribute__((noinline))
decode_special(uint32_t seen, uint32_t rex, uint32_t vvvv, const Row *row, X86Insn *insn) {
  if (row->attributes & ROW_BYTE_REGISTER && !rex) name_high_bytes(insn);
  if (row->attributes & ROW_COUNT) refine_shift_flags(insn);
  if (row->attributes & ROW_STRING) note_repeat(seen, insn);
  if (seen & SEEN_67) insn->prefixes |= X86_PREFIX_ADDR32;
  if (seen & SEEN_LOCK) {
    insn->prefixes |= X86_PREFIX_LOCK;
    if (!(row->attributes & ROW_LOCK) || insn->operands[0].kind != X86_OPERAND_MEM) return false;
  }
  if (vvvv && !(row->attributes & ROW_VVVV)) return false;
  if (insn->prefixes & X86_PREFIX_VSIB) return index_by_vector(insn);
  return !(row->attributes & ROW_CHECK) || registers_exist(insn);
}

/* Of flags, those that are another whatever they were; "SF != OF" is known anew when both are. */
static inline uint32_t killed(const X86Insn *insn) {
  uint32_t flags = (insn->flags_written | insn->flags_undefined) & ~insn->flags_maybe;
  return (flags & (X86_F_SF | X86_F_OF)) == (X86_F_SF | X86_F_OF) ? flags | X86_F_LT : flags;
}

/* In pieces the compiler stores inline: a call of memset() would be a tenth of a decode. */
static inline void clear(X86Insn *insn) {
  enum { PIECE = 16 };
  uint8_t *at = (uint8_t *)insn;
#pragma GCC unroll 8
  for (size_t i = 0; i < sizeof *insn / PIECE; i++) __builtin_memset(at + i * PIECE, 0, PIECE);
  __builtin_memset(at + sizeof *insn / PIECE * PIECE, 0, sizeof *insn % PIECE);
}

/* Whether an instruction is its shape and plain numbers, and then that shape. */
static inline void keep_shape(const Decoding *d, const Row *row, uint32_t width, const uint8_t *bytes, const X86Insn *insn,
                              X86Shape *shape) {
  uint32_t immediate = (row->immediate_sizes >> width * 4) & 15;
  uint32_t at = insn->length - d->displacement - immediate;
  if (row->attributes & ROW_COUNT || row->immediate_kind > IMMEDIATE_UNSIGNED || at > sizeof shape->bits) return;
  uint64_t mask = ~UINT64_C(0) >> (64 - 8 * at);
  __atomic_store_n(&shape->mask, 0, __ATOMIC_RELAXED);
  __atomic_signal_fence(__ATOMIC_SEQ_CST); /* none, should this process be killed here while others share the table */
  shape->bits = read_u64(bytes) & mask;
  shape->insn = *insn;
  shape->at = (uint8_t)at;
  shape->displacement = (uint8_t)d->displacement;
  shape->immediate = (uint8_t)immediate;
  shape->immediate_signed = row->immediate_kind == IMMEDIATE_SIGNED;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  __atomic_store_n(&shape->mask, mask, __ATOMIC_RELAXED);
}

/* Decodes at `bytes`, of which DECODE_WINDOW are readable. Sets ret_insn->length in any case, to
 * the bytes looked at where there is no instruction. */
static inline X86DecodeStatus decode_window(const uint8_t *bytes, X86Insn *ret_insn, X86Shape *shape) {
  Decoding decoding = {.at = bytes}, *d = &decoding;
  X86Insn *insn = ret_insn;
  clear(insn);
  insn->length = LONGEST_INSTRUCTION;
  insn->mem.base = insn->mem.index = insn->mem.segment = X86_NOREG;

  X86DecodeStatus status = decode_prefixes(d);
  if (status == X86_DECODE_TOO_LONG) return status;
  uint32_t node = status ? 0 : nodes[d->root], peeked = 0;
  while (node & NODE_SELECT) {
    peeked = 1;
    node = nodes[(node & 0xfff) * 2 + select_child(d, (node >> 12) & 7)];
  }
  if (node == 0) {
    insn->length = d->at - bytes + peeked;
    return X86_DECODE_INVALID;
  }

  const Row *row = &rows[node];
  uint32_t width = (row->widths >> size_index(d) * 2) & 3;
  uint32_t column = width + d->vector_length * WIDTH_L1, modrm = 0;
  if (row->attributes & ROW_MODRM) {
    modrm = *d->at++ | (row->attributes & ROW_ANYMOD ? 0xc0 : 0);
    if (modrm < 0xc0) {
      column += WIDTHS;
      decode_memory(d, modrm, &insn->mem);
    }
  }
  decode_immediate(d, row, width, insn);
  decode_operands(row->operands, register_lanes(d, modrm, insn), column, insn);

  uint64_t length = d->at - bytes;
  if (length > LONGEST_INSTRUCTION) return X86_DECODE_TOO_LONG;
  uint64_t operand_size = (row->operand_sizes >> width * 4) & 15;
  uint64_t head = row->head | length << HEAD_LENGTH | operand_size << HEAD_OPERAND_SIZE;
  __builtin_memcpy(insn, &head, sizeof head);
  __builtin_memcpy(&insn->flags_read, &row->flags, sizeof row->flags);
  if ((row->attributes & ROW_SPECIAL || d->seen & (SEEN_67 | SEEN_LOCK | SEEN_VEX)) &&
      !decode_special(d->seen, d->rex, d->vvvv, row, insn))
    return X86_DECODE_INVALID;
  if (d->seen & SEEN_SEGMENT && insn->mnemonic != X86_LEA) insn->mem.segment = d->segment;
  insn->flags_killed = killed(insn);
  if (shape) keep_shape(d, row, width, bytes, insn, shape);
  return X86_DECODE_OK;
}

/* Near the end of what is readable: decodes a copy, padded with zeros. */
static X86DecodeStatus __attribute__((noinline, cold))
decode_at_end(const uint8_t *bytes, size_t available, X86Insn *ret_insn) {
  uint8_t window[DECODE_WINDOW] = {0};
  for (size_t i = 0; i < available; i++) window[i] = bytes[i];
  X86DecodeStatus status = decode_window(window, ret_insn, NULL);
  return ret_insn->length > available ? X86_DECODE_TRUNCATED : status;
}

X86DecodeStatus x86_decode(const uint8_t *bytes, size_t available, X86Insn *ret_insn) {
  if (available < DECODE_WINDOW) return decode_at_end(bytes, available, ret_insn);
  return decode_window(bytes, ret_insn, NULL);
}

/* --- By shape --------------------------------------------------------------------------------------- */

/* From a copy: bytes that change meanwhile must not become a shape that never was. */
X86DecodeStatus x86_decode_new_shape(const uint8_t *bytes, size_t available, X86Insn *ret_insn, X86Shape shapes[X86_SHAPES]) {
  if (available < DECODE_WINDOW) return decode_at_end(bytes, available, ret_insn);
  uint8_t copy[DECODE_WINDOW];
  __builtin_memcpy(copy, bytes, sizeof copy);
  __asm__ volatile("" ::: "memory"); /* it is what is read from here on */
  return decode_window(copy, ret_insn, x86_shape_of(shapes, read_u64(copy)));
}
