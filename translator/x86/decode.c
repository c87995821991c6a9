/* Bytes to X86Insn, by the look-up data that generate.py makes of instructions.tbl.
 *
 * Every block of guest code passes through here once, so the path is short: prefixes in a loop that
 * an instruction without any leaves at once, one look-up an opcode map, a selector node or two
 * where ModRM or a mandatory prefix extends the opcode, then the row's operands from templates.
 * Nothing is checked byte by byte: with DECODE_WINDOW bytes readable no instruction can run over,
 * and the rare decode near the end of readable memory works on a padded copy.
 *
 * Must not know what instructions do, nor any operating system. Freestanding; no data with
 * addresses. Where Intel and AMD differ (66 before a near branch, SYSENTER, LOCK on MOV CR) Intel
 * is followed. Sources: Intel SDM volume 2, chapter 2 (formats) and appendix A; AMD APM volume 3,
 * chapter 1. */
#include "x86/decode.h"

/* How an operand is made. Its kind is register_kind, or memory_kind where ModRM says memory; the
 * register number is a field of the encoding, masked, or `fixed`. Sizes index operand_sizes. */
typedef struct OperandTemplate {
  uint8_t register_kind, memory_kind;
  uint8_t field, mask, fixed;
  uint8_t register_size, memory_size;
  uint8_t access;
} OperandTemplate;

typedef struct FlagEffects {
  uint8_t read, written, undefined, maybe;
} FlagEffects;

typedef struct Row {
  uint16_t mnemonic;
  uint16_t attributes; /* ROW_* */
  uint8_t operands[4]; /* indices of operand_templates */
  uint8_t operand_count;
  uint8_t flags; /* index of flag_effects */
  uint8_t feature;
  uint8_t flow;
  uint8_t immediate; /* IMMEDIATE_* */
} Row;

/* A node of `nodes` is the index of a row (0: no instruction), SPECIAL_* above NODE_SPECIAL
 * (prefixes and escapes, in the one-byte map only), or with NODE_SELECT a selector: SELECT_* in
 * bits 12 to 14, half the index of its first child in bits 0 to 11. The maps' roots come first, 256
 * nodes each. */
#include "decode-data.h"

enum { NODE_SPECIAL = 0x7f00, NODE_SELECT = 0x8000 };
enum { MAP_0F = 256, MAP_0F38 = 512, MAP_0F3A = 768, MAP_VEX = 1024 };
enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8, REX_PRESENT = 0x40 };
enum { MANDATORY_NONE, MANDATORY_66, MANDATORY_F3, MANDATORY_F2 }; /* order of VEX.pp */
enum { WIDTH_16, WIDTH_32, WIDTH_64, WIDTH_L1 = 3 };               /* columns of operand_sizes */

enum {
  LONGEST_INSTRUCTION = 15,
  /* 15 bytes of prefixes, then the longest rest: opcode and escapes, ModRM, SIB, displacement,
     immediate. */
  DECODE_WINDOW = 32
};

/* What the encoding has said so far. Lives in registers: every helper is inlined into
 * decode_window(). */
typedef struct Decoding {
  const uint8_t *start, *at;
  uint32_t root;    /* index in `nodes` of the opcode's root */
  uint8_t rex;      /* REX, or VEX's bits in the same places; 0 if absent */
  uint8_t repeat;   /* MANDATORY_F3 or MANDATORY_F2, the later one; 0 */
  uint8_t segment;  /* X86_SEG_FS, X86_SEG_GS or X86_NOREG */
  uint8_t selected; /* mandatory prefix: MANDATORY_* */
  uint8_t vvvv, vector_length, opcode;
  bool operand16, address32, lock, vex;
} Decoding;

static inline uint16_t read_u16(const uint8_t *at) {
  uint16_t value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

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
  if (d->rex | d->repeat | d->operand16 | d->lock) return X86_DECODE_INVALID;
  uint8_t first = *d->at++;
  uint8_t map = 1, second = first;
  d->rex = (~first >> 5) & REX_R;
  if (three_bytes) {
    second = *d->at++;
    map = first & 31;
    d->rex = ((~first >> 5) & (REX_R | REX_X | REX_B)) | ((second >> 4) & REX_W);
  }
  if (map < 1 || map > 3) return X86_DECODE_INVALID;
  d->vex = true;
  d->vvvv = (~second >> 3) & 15;
  d->vector_length = (second >> 2) & 1;
  d->selected = second & 3;
  d->opcode = *d->at++;
  d->root = MAP_VEX + (map - 1u) * 256 + d->opcode;
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

/* Prefixes and escapes up to the opcode. A REX counts only directly before the opcode. */
static inline X86DecodeStatus decode_prefixes(Decoding *d) {
  for (;;) {
    d->opcode = *d->at++;
    uint32_t special = nodes[d->opcode] - (uint32_t)NODE_SPECIAL;
    if (__builtin_expect(special >= 0x100, 1)) {
      d->root = d->opcode;
      break;
    }
    if (special == SPECIAL_REX) {
      d->rex = d->opcode;
    } else if (special == SPECIAL_0F) {
      decode_escape(d);
      break;
    } else if (special >= SPECIAL_VEX2) {
      return special == SPECIAL_EVEX ? X86_DECODE_INVALID : decode_vex(d, special == SPECIAL_VEX3);
    } else {
      d->rex = 0;
      switch (special) {
      case SPECIAL_66:
        d->operand16 = true;
        break;
      case SPECIAL_67:
        d->address32 = true;
        break;
      case SPECIAL_F0:
        d->lock = true;
        break;
      case SPECIAL_F2:
        d->repeat = MANDATORY_F2;
        break;
      case SPECIAL_F3:
        d->repeat = MANDATORY_F3;
        break;
      case SPECIAL_FS:
        d->segment = X86_SEG_FS;
        break;
      case SPECIAL_GS:
        d->segment = X86_SEG_GS;
        break;
      default:
        break; /* ES, CS, SS and DS have no effect in 64-bit mode */
      }
    }
    if (d->at - d->start >= LONGEST_INSTRUCTION) return X86_DECODE_TOO_LONG;
  }
  d->selected = d->repeat ? d->repeat : d->operand16;
  return X86_DECODE_OK;
}

static inline uint32_t select_child(const Decoding *d, uint32_t kind) {
  uint8_t modrm = *d->at;
  switch (kind) {
  case SELECT_PREFIX:
    return d->selected;
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
    return d->rex & REX_W ? WIDTH_64 : d->operand16 ? WIDTH_16 : WIDTH_32;
  }
}

/* ModRM's memory forms (SDM volume 2, tables 2-2 and 2-3), up to and including the displacement. */
static inline void decode_memory(Decoding *d, uint8_t modrm, X86Mem *mem) {
  uint8_t mod = modrm >> 6, rm = modrm & 7;
  mem->segment = d->segment;
  if (rm == 4) {
    uint8_t sib = *d->at++;
    uint8_t index = ((sib >> 3) & 7) | (d->rex & REX_X) << 2;
    rm = sib & 7;
    mem->scale = sib >> 6;
    if (index != X86_RSP) mem->index = index;
    if (rm != 5 || mod != 0) mem->base = rm | (d->rex & REX_B) << 3;
  } else if (rm == 5 && mod == 0) {
    mem->base = X86_RIP;
  } else {
    mem->base = rm | (d->rex & REX_B) << 3;
  }
  if (mod == 1) {
    mem->disp = (int8_t)*d->at++;
  } else if (mod == 2 || rm == 5) { /* here rm == 5 means "no base" or RIP; mod 1 is gone */
    mem->disp = (int32_t)read_u32(d->at);
    d->at += 4;
  }
}

static inline void decode_immediate(Decoding *d, uint8_t kind, uint32_t width, X86Insn *insn) {
  const uint8_t *at = d->at;
  switch (kind) {
  case IMMEDIATE_NONE:
    break;
  case IMMEDIATE_S8:
    insn->imm = (int8_t)*at;
    d->at += 1;
    break;
  case IMMEDIATE_U8:
    insn->imm = *at;
    d->at += 1;
    break;
  case IMMEDIATE_U16:
    insn->imm = read_u16(at);
    d->at += 2;
    break;
  case IMMEDIATE_FULL:
    if (width == WIDTH_64) {
      insn->imm = (int64_t)read_u64(at);
      d->at += 8;
      break;
    } /* fall through */
  case IMMEDIATE_S16_32:
    insn->imm = width == WIDTH_16 ? (int16_t)read_u16(at) : (int32_t)read_u32(at);
    d->at += width == WIDTH_16 ? 2 : 4;
    break;
  case IMMEDIATE_U16_U8:
    insn->imm = read_u16(at);
    insn->imm2 = at[2];
    d->at += 3;
    break;
  case IMMEDIATE_U8_U8:
    insn->imm = at[0];
    insn->imm2 = at[1];
    d->at += 2;
    break;
  case IMMEDIATE_ADDRESS:
    insn->mem.segment = d->segment;
    insn->mem.disp = (int64_t)(d->address32 ? read_u32(at) : read_u64(at));
    d->at += d->address32 ? 4 : 8;
    break;
  case IMMEDIATE_ONE:
    insn->imm = 1;
    break;
  default:
    insn->imm = *at;
    d->at += 1;
    break; /* IMMEDIATE_IS4: a register in the high half */
  }
}

static inline void decode_operands(const Decoding *d, const Row *row, uint8_t modrm, uint32_t width,
                                   X86Insn *insn) {
  const uint8_t fields[] = {
      [FIELD_ZERO] = 0,
      [FIELD_REG] = ((modrm >> 3) & 7) | (d->rex & REX_R) << 1,
      [FIELD_RM] = (modrm & 7) | (d->rex & REX_B) << 3,
      [FIELD_OPCODE] = (d->opcode & 7) | (d->rex & REX_B) << 3,
      [FIELD_VVVV] = d->vvvv,
      [FIELD_IS4] = (uint8_t)insn->imm >> 4,
  };
  uint32_t column = width + (d->vector_length ? WIDTH_L1 : 0);
  for (unsigned i = 0; i < row->operand_count; i++) {
    const OperandTemplate *template = &operand_templates[row->operands[i]];
    X86Operand *operand = &insn->operands[i];
    operand->access = template->access;
    if (modrm < 0xc0 && template->memory_kind != template->register_kind) {
      operand->kind = X86_OPERAND_MEM;
      operand->size = operand_sizes[template->memory_size][column];
      continue;
    }
    uint8_t reg = (fields[template->field] & template->mask) + template->fixed;
    operand->kind = template->register_kind;
    operand->size = operand_sizes[template->register_size][column];
    if (operand->size == 1 && operand->kind == X86_OPERAND_GPR && !d->rex && reg >= 4) {
      operand->kind = X86_OPERAND_GPR8H;
      reg -= 4;
    }
    operand->reg = reg;
  }
}

/* Flags a condition reads, by the low four bits of the opcode (SDM volume 1, appendix B). */
static const uint8_t condition_reads[16] = {
    X86_F_OF,
    X86_F_OF,
    X86_F_CF,
    X86_F_CF,
    X86_F_ZF,
    X86_F_ZF,
    X86_F_CF | X86_F_ZF,
    X86_F_CF | X86_F_ZF,
    X86_F_SF,
    X86_F_SF,
    X86_F_PF,
    X86_F_PF,
    X86_F_LT,
    X86_F_LT,
    X86_F_LT | X86_F_ZF,
    X86_F_LT | X86_F_ZF,
};

static inline void decode_flags(const Row *row, uint8_t opcode, X86Insn *insn) {
  const FlagEffects *effects = &flag_effects[row->flags];
  insn->flags_read = effects->read;
  insn->flags_written = effects->written;
  insn->flags_undefined = effects->undefined;
  insn->flags_maybe = effects->maybe;
  if (row->attributes & ROW_COND) {
    insn->condition = opcode & 15;
    insn->flags_read = condition_reads[opcode & 15];
  } else if (row->attributes & ROW_COUNT) {
    /* Shifts by an immediate: by 0 changes nothing, by 1 defines OF. */
    uint8_t count = insn->imm & (insn->operand_size == 8 ? 63 : 31);
    if (count == 0) {
      insn->flags_written = insn->flags_undefined = insn->flags_read = 0;
    } else if (count == 1) {
      insn->flags_written |= X86_F_OF;
      insn->flags_undefined &= ~X86_F_OF;
    }
  } else if (row->attributes & ROW_STRING && insn->prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE)) {
    insn->flags_maybe = insn->flags_written; /* no iteration leaves them as they are */
  }
}

/* The last say: registers that do not exist, LOCK where it is not allowed (SDM volume 2, LOCK). */
static inline bool is_allowed(const Decoding *d, const Row *row, const X86Insn *insn) {
  if (d->lock && !(row->attributes & ROW_LOCK && insn->operands[0].kind == X86_OPERAND_MEM))
    return false;
  if (d->vex && !(row->attributes & ROW_VVVV) && d->vvvv) return false;
  if (!(row->attributes & ROW_CHECK)) return true;
  for (unsigned i = 0; i < row->operand_count; i++) {
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

static inline uint32_t effective_width(const Decoding *d, uint16_t attributes) {
  if (d->rex & REX_W) return WIDTH_64;
  if (d->operand16 && !(attributes & ROW_IGNORE66)) return WIDTH_16;
  return attributes & ROW_DEFAULT64 ? WIDTH_64 : WIDTH_32;
}

static inline uint8_t effective_size(uint32_t width, uint16_t attributes) {
  if (attributes & ROW_BYTE) return 1;
  return attributes & ROW_CAP32 && width == WIDTH_64 ? 4 : 2u << width;
}

static inline uint8_t reported_prefixes(const Decoding *d, const Row *row) {
  uint8_t prefixes = (d->lock ? X86_PREFIX_LOCK : 0) | (d->address32 ? X86_PREFIX_ADDR32 : 0) |
                     (row->attributes & ROW_VSIB ? X86_PREFIX_VSIB : 0);
  if (row->attributes & ROW_STRING && d->repeat) {
    /* F2 repeats the instructions that compare nothing just as F3 does. */
    bool compares = flag_effects[row->flags].written;
    prefixes |= d->repeat == MANDATORY_F2 && compares ? X86_PREFIX_REPNE : X86_PREFIX_REP;
  }
  return prefixes;
}

/* Decodes at `bytes`, of which DECODE_WINDOW are readable. Sets ret_insn->length in any case, to
 * the bytes looked at where there is no instruction. */
static inline X86DecodeStatus decode_window(const uint8_t *bytes, X86Insn *ret_insn) {
  Decoding decoding = {.start = bytes, .at = bytes, .segment = X86_NOREG}, *d = &decoding;
  X86Insn *insn = ret_insn;
  *insn = (X86Insn){.length = LONGEST_INSTRUCTION};
  insn->mem.base = insn->mem.index = insn->mem.segment = X86_NOREG;

  X86DecodeStatus status = decode_prefixes(d);
  if (status == X86_DECODE_TOO_LONG) return status;
  insn->length = d->at - d->start;
  if (status) return status;

  uint32_t node = nodes[d->root];
  while (node & NODE_SELECT) {
    insn->length = d->at - d->start + 1;
    node = nodes[(node & 0xfff) * 2 + select_child(d, (node >> 12) & 7)];
  }
  if (node == 0) return X86_DECODE_INVALID;

  const Row *row = &rows[node];
  uint32_t width = effective_width(d, row->attributes);
  uint8_t modrm = 0xc0;
  if (row->attributes & ROW_MODRM) {
    modrm = *d->at++ | (row->attributes & ROW_ANYMOD ? 0xc0 : 0);
    if (modrm < 0xc0) decode_memory(d, modrm, &insn->mem);
  }
  insn->mnemonic = row->mnemonic;
  insn->operand_count = row->operand_count;
  insn->operand_size = effective_size(width, row->attributes);
  insn->prefixes = reported_prefixes(d, row);
  insn->flow = row->flow;
  insn->feature = row->feature;
  decode_immediate(d, row->immediate, width, insn);
  decode_operands(d, row, modrm, width, insn);
  decode_flags(row, d->opcode, insn);

  size_t length = d->at - d->start;
  insn->length = length < LONGEST_INSTRUCTION ? length : LONGEST_INSTRUCTION;
  if (length > LONGEST_INSTRUCTION) return X86_DECODE_TOO_LONG;
  return is_allowed(d, row, insn) ? X86_DECODE_OK : X86_DECODE_INVALID;
}

/* Near the end of what is readable: decodes a copy, padded with zeros. */
static X86DecodeStatus __attribute__((noinline, cold))
decode_at_end(const uint8_t *bytes, size_t available, X86Insn *ret_insn) {
  uint8_t window[DECODE_WINDOW] = {0};
  for (size_t i = 0; i < available; i++) window[i] = bytes[i];
  X86DecodeStatus status = decode_window(window, ret_insn);
  return ret_insn->length > available ? X86_DECODE_TRUNCATED : status;
}

X86DecodeStatus x86_decode(const uint8_t *bytes, size_t available, X86Insn *ret_insn) {
  if (available < DECODE_WINDOW) return decode_at_end(bytes, available, ret_insn);
  return decode_window(bytes, ret_insn);
}
