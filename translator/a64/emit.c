/* IR operations to AArch64 words, in one forward pass.
 *
 * A scan before it finds each temporary's last use and whether it lives across a helper call; then
 * operations are emitted in order, a temporary taking a host register at its definition and giving it back
 * at its last use. Guest registers have fixed homes, so nothing is ever spilled: a guest instruction
 * needs few temporaries, and running out is reported, not handled. Cold code goes to a buffer of its own and is
 * appended at the end. Encodings: Arm ARM C4.1 and C6.2. */
#include "a64/emit.h"

#include <string.h>

#include "a64/immediates.h"
#include "guest/state.h"

enum {
  MAX_FIXUPS = 8192,
  MAX_LITERALS = 2048,
  MAX_COLD_WORDS = 16384,
  NO_REGISTER = 0xff,
  X16 = A64_REG_EXIT0,
  X17 = A64_REG_EXIT1,
  X30 = A64_REG_LINK
};

/* Positions are word indexes; cold positions have this bit until the parts are joined. */
#define COLD_BIT 0x80000000u
#define UNBOUND 0xffffffffu

typedef struct Fixup {
  uint32_t position;
  uint16_t label;
} Fixup;

typedef struct LiteralUse {
  uint32_t position;
  uint16_t literal;
} LiteralUse;

typedef struct Literal {
  uint64_t value;
  bool guest_address;
} Literal;

typedef struct Emitter {
  const IrBuilder *b;
  const A64EmitOptions *options;
  A64Code *code;
  A64EmitStatus status;

  bool cold;
  uint32_t *at, *start, *limit; /* the buffer being written: of hot or of cold code */
  uint32_t *other_at;           /* how far the other one has come */
  uint32_t index; /* of the IR operation being emitted */

  uint32_t free_general, free_vector; /* host registers not taken by temporaries */
  uint64_t guest_pc;
  uint8_t flag_form;
  bool asks_misaligned, misaligned; /* its ordered accesses may be (A64EmitOptions) */

  uint32_t fixup_count, literal_count, literal_use_count, cold_map_count, next_label;
} Emitter;

/* Scratch of the one translation under way (translation is serialised by its callers). */
static struct {
  uint8_t general[IR_MAX_TEMPS], vector[IR_MAX_TEMPS];          /* host register of each temporary */
  uint32_t general_last[IR_MAX_TEMPS], vector_last[IR_MAX_TEMPS]; /* index of the last use */
  uint16_t general_calls[IR_MAX_TEMPS]; /* helper calls before the definition */
  bool general_crosses[IR_MAX_TEMPS];
  uint32_t labels[IR_MAX_LABELS];
  uint32_t label_index[IR_MAX_LABELS];
  uint64_t label_pc[IR_MAX_LABELS]; /* of labels bound by BLOCK */
  uint16_t label_exit[IR_MAX_LABELS]; /* 1 + index of the exit a label stands directly before */
  Fixup fixups[MAX_FIXUPS];
  Literal literals[MAX_LITERALS];
  LiteralUse literal_uses[MAX_FIXUPS];
  uint32_t cold[MAX_COLD_WORDS];
  A64PcMap cold_map[A64_MAX_PC_MAP];
} s;

/* --- Lifetimes ------------------------------------------------------------------------------------ */

static void scan_operand(uint32_t i, unsigned kind, unsigned id, unsigned calls) {
  if (kind & IR_KIND_V) {
    s.vector_last[id] = i;
    return;
  }
  if (s.general[id] == 0) { /* first appearance */
    s.general[id] = 1;
    s.general_calls[id] = (uint16_t)calls;
  }
  if (s.general_calls[id] != calls) s.general_crosses[id] = true;
  s.general_last[id] = i;
}

/* A local loop keeps alive what was made before it and is used in it. */
static void extend_over_loop(const IrBuilder *b, uint32_t head, uint32_t end) {
  for (uint32_t i = head; i < end; i++) {
    const IrInsn *insn = &b->insns[i];
    for (unsigned k = 0; k < 4; k++) {
      unsigned id = insn->reg[k], kind = ir_op_info[insn->op].kind[k];
      if (!(insn->temps >> k & 1)) continue;
      uint32_t *last = kind & IR_KIND_V ? &s.vector_last[id] : &s.general_last[id];
      if (*last < end) *last = end;
    }
  }
}

static void scan_lifetimes(const IrBuilder *b) {
  memset(s.general + IR_TEMP_FIRST, 0, b->next_temp - IR_TEMP_FIRST);
  memset(s.general_crosses + IR_TEMP_FIRST, 0, (b->next_temp - IR_TEMP_FIRST) * sizeof(bool));
  unsigned calls = 0;
  const IrInsn *insn = b->insns;
  for (uint32_t i = 0, count = b->count; i < count; i++, insn++) {
    if (insn->op == IR_GUEST) continue;
    for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
      unsigned k = (unsigned)__builtin_ctz(temps);
      scan_operand(i, ir_op_info[insn->op].kind[k], insn->reg[k], calls);
    }
    switch (insn->op) {
    case IR_HELPER:
    case IR_SYSCALL: calls++; break;
    case IR_LABEL: s.label_index[insn->imm] = i; break;
    case IR_LOOP_END: extend_over_loop(b, s.label_index[insn->imm], i); break;
    default: break;
    }
  }
  memset(s.general + IR_TEMP_FIRST, NO_REGISTER, b->next_temp - IR_TEMP_FIRST);
  memset(s.vector + IR_TEMP_FIRST, NO_REGISTER, b->next_vector_temp - IR_TEMP_FIRST);
}

static unsigned take(Emitter *e, uint32_t *free_set, uint32_t allowed) {
  uint32_t candidates = *free_set & allowed;
  if (!candidates) {
    e->status = A64_EMIT_OUT_OF_REGISTERS;
    return 0;
  }
  unsigned host = (unsigned)__builtin_ctz(candidates);
  *free_set &= ~(1u << host);
  return host;
}

/* Host register of an IR general register, assigned at its first appearance. */
static unsigned general(Emitter *e, unsigned id) {
  if (id < IR_TEMP_FIRST) return id;
  if (s.general[id] == NO_REGISTER) {
    uint32_t allowed = s.general_crosses[id] ? ~A64_TEMPS_CALLER_SAVED : UINT32_MAX;
    s.general[id] = (uint8_t)take(e, &e->free_general, allowed);
  }
  return s.general[id];
}

static unsigned vector(Emitter *e, unsigned id) {
  if (id < IR_TEMP_FIRST) return id;
  if (s.vector[id] == NO_REGISTER) s.vector[id] = (uint8_t)take(e, &e->free_vector, UINT32_MAX);
  return s.vector[id];
}

static void release_operand(Emitter *e, unsigned kind, unsigned id) {
  if (kind & IR_KIND_V) {
    if (s.vector_last[id] == e->index) e->free_vector |= 1u << s.vector[id];
  } else if (s.general_last[id] == e->index) {
    e->free_general |= 1u << s.general[id];
  }
}

/* Those of an operation's temporaries whose kind has, of D and U, just `access`. */
static void release_operands(Emitter *e, const IrInsn *insn, unsigned mask, unsigned access) {
  for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
    unsigned k = (unsigned)__builtin_ctz(temps), kind = ir_op_info[insn->op].kind[k];
    if ((kind & mask) == access) release_operand(e, kind, insn->reg[k]);
  }
}

/* What a local loop has kept alive (extend_over_loop) ends with it. */
static void release_loop(Emitter *e, const IrInsn *end) {
  for (uint32_t i = s.label_index[end->imm]; i < e->index; i++) {
    release_operands(e, &e->b->insns[i], 0, 0);
  }
}

/* --- Words ---------------------------------------------------------------------------------------- */

/* Words in the buffer being written. */
static inline uint32_t written(const Emitter *e) { return (uint32_t)(e->at - e->start); }

static uint32_t position(const Emitter *e) { return e->cold ? written(e) | COLD_BIT : written(e); }

static inline void put(Emitter *e, uint32_t word) {
  if (e->at < e->limit) *e->at++ = word;
  else e->status = A64_EMIT_TOO_LARGE;
}

/* Goes on writing out of line, or in line. */
static void set_cold(Emitter *e, bool cold) {
  if (e->cold == cold) return;
  uint32_t *at = e->at;
  e->cold = cold;
  e->at = e->other_at;
  e->other_at = at;
  e->start = cold ? s.cold : e->code->words;
  e->limit = e->start + (cold ? (uint32_t)MAX_COLD_WORDS : e->code->capacity);
}

static void put_branch(Emitter *e, uint32_t word, unsigned label) {
  if (e->fixup_count == MAX_FIXUPS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  s.fixups[e->fixup_count++] = (Fixup){position(e), (uint16_t)label};
  put(e, word);
}

static void put_trampoline(Emitter *e, bool link, A64Trampoline trampoline) {
  A64Code *code = e->code;
  if (code->relocation_count == code->relocation_capacity) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  code->relocations[code->relocation_count++] =
      (A64Relocation){position(e), A64_RELOCATE_TRAMPOLINE, (uint8_t)trampoline};
  put(e, link ? 0x94000000u : 0x14000000u);
}

static void put_literal(Emitter *e, unsigned host, uint64_t value, bool guest_address) {
  unsigned i = 0;
  while (i < e->literal_count &&
         (s.literals[i].value != value || s.literals[i].guest_address != guest_address))
    i++;
  if (i == MAX_LITERALS || e->literal_use_count == MAX_FIXUPS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  if (i == e->literal_count) s.literals[e->literal_count++] = (Literal){value, guest_address};
  s.literal_uses[e->literal_use_count++] = (LiteralUse){position(e), (uint16_t)i};
  put(e, 0x58000000u | host);
}

/* ORR Xd, XZR, Xm or its 32-bit form. */
static void put_mov(Emitter *e, unsigned size, unsigned d, unsigned n) {
  put(e, (size == 8 ? 0xaa0003e0u : 0x2a0003e0u) | n << 16 | d);
}

static void put_const(Emitter *e, unsigned d, uint64_t value) {
  for (unsigned hw = 0; hw < 4; hw++) {
    uint64_t rest = value & ~(UINT64_C(0xffff) << 16 * hw);
    if (rest == 0) {
      put(e, 0xd2800000u | hw << 21 | (uint32_t)(value >> 16 * hw & 0xffff) << 5 | d);
      return;
    }
    if (~value == (~value & UINT64_C(0xffff) << 16 * hw)) {
      put(e, 0x92800000u | hw << 21 | (uint32_t)(~value >> 16 * hw & 0xffff) << 5 | d);
      return;
    }
    if (hw < 2 && value <= UINT32_MAX && (~(uint32_t)value & ~(0xffffu << 16 * hw)) == 0) {
      put(e, 0x12800000u | hw << 21 | (~(uint32_t)value >> 16 * hw & 0xffff) << 5 | d);
      return;
    }
  }
  uint32_t field;
  if (a64_logical_immediate(value, 8, &field)) put(e, 0xb2000000u | field | A64_REG_ZERO << 5 | d);
  else if (value <= UINT32_MAX && a64_logical_immediate(value, 4, &field))
    put(e, 0x32000000u | field | A64_REG_ZERO << 5 | d);
  else put_literal(e, d, value, false);
}

/* --- Guest memory --------------------------------------------------------------------------------- */

static unsigned log2_size(unsigned size) { return (unsigned)__builtin_ctz(size); }

/* size and opc fields of load/store, general or vector, in the unscaled form's place. */
static uint32_t load_store_base(const IrInsn *insn, bool load, bool is_vector) {
  unsigned log2 = log2_size(insn->size);
  if (is_vector) {
    uint32_t opc = (insn->size == 16 ? 2u : 0u) | load;
    return 0x3c000000u | (log2 & 3) << 30 | opc << 22;
  }
  static const uint8_t load_opc[] = {[IR_EXTEND_ZERO] = 1, [IR_EXTEND_SIGN64] = 2, [IR_EXTEND_SIGN32] = 3};
  return 0x38000000u | log2 << 30 | (uint32_t)(load ? load_opc[insn->cond] : 0) << 22;
}

static void put_plain_access(Emitter *e, const IrInsn *insn, uint32_t base, unsigned t, unsigned n) {
  unsigned log2 = log2_size(insn->size);
  base |= n << 5 | t;
  if (insn->reg[2] != IR_NONE) {
    put(e, base | 0x00206800u | (insn->shift ? 1u << 12 : 0) | general(e, insn->reg[2]) << 16);
  } else if (insn->imm >= 0 && !(insn->imm & (insn->size - 1)) && insn->imm >> log2 < 4096) {
    put(e, base | 0x01000000u | (uint32_t)(insn->imm >> log2) << 10);
  } else {
    put(e, base | ((uint32_t)insn->imm & 0x1ff) << 12);
  }
}

/* Load-acquire (RCpc where the host has it) and store-release of general registers: base only, or with
 * LRCPC2 a 9-bit offset. */
static void put_ordered_load(Emitter *e, const IrInsn *insn, unsigned t, unsigned n) {
  unsigned log2 = log2_size(insn->size);
  static const uint8_t opc[] = {[IR_EXTEND_ZERO] = 1, [IR_EXTEND_SIGN64] = 2, [IR_EXTEND_SIGN32] = 3};
  if (e->options->features & A64_HAS_LRCPC2) {
    put(e, 0x19000000u | log2 << 30 | (uint32_t)opc[insn->cond] << 22 | ((uint32_t)insn->imm & 0x1ff) << 12 |
               n << 5 | t);
    return;
  }
  put(e, (e->options->features & A64_HAS_LRCPC ? 0x38bfc000u : 0x08dffc00u) | log2 << 30 | n << 5 | t);
  if (insn->cond == IR_EXTEND_SIGN64) put(e, 0x93400000u | (insn->size * 8 - 1) << 10 | t << 5 | t);
  else if (insn->cond == IR_EXTEND_SIGN32) put(e, 0x13000000u | (insn->size * 8 - 1) << 10 | t << 5 | t);
}

static void put_ordered_store(Emitter *e, const IrInsn *insn, unsigned t, unsigned n) {
  unsigned log2 = log2_size(insn->size);
  if (e->options->features & A64_HAS_LRCPC2)
    put(e, 0x19000000u | log2 << 30 | ((uint32_t)insn->imm & 0x1ff) << 12 | n << 5 | t);
  else put(e, 0x089ffc00u | log2 << 30 | n << 5 | t);
}

static void emit_load(Emitter *e, const IrInsn *insn) {
  unsigned n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  if (e->options->ordered && !e->misaligned) {
    put_ordered_load(e, insn, t, n);
    return;
  }
  put_plain_access(e, insn, load_store_base(insn, true, false), t, n);
  if (e->options->ordered) put(e, 0xd50339bfu); /* DMB ISHLD */
}

static void emit_store(Emitter *e, const IrInsn *insn) {
  unsigned n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  if (e->options->ordered && !e->misaligned) {
    put_ordered_store(e, insn, t, n);
    return;
  }
  if (e->options->ordered) put(e, 0xd5033bbfu); /* DMB ISH */
  put_plain_access(e, insn, load_store_base(insn, false, false), t, n);
}

static void emit_load_vector(Emitter *e, const IrInsn *insn) {
  put_plain_access(e, insn, load_store_base(insn, true, true), vector(e, insn->reg[0]), general(e, insn->reg[1]));
  if (e->options->ordered) put(e, 0xd50339bfu); /* DMB ISHLD */
}

static void emit_store_vector(Emitter *e, const IrInsn *insn) {
  if (e->options->ordered) put(e, 0xd5033bbfu); /* DMB ISH */
  put_plain_access(e, insn, load_store_base(insn, false, true), vector(e, insn->reg[0]),
                   general(e, insn->reg[1]));
}

/* LDP/STP of 64-bit registers. Stack accesses only, which are private to their thread (see PUSH). */
static void emit_pair(Emitter *e, const IrInsn *insn, bool load) {
  static const uint32_t form[] = {
      [IR_INDEX_OFFSET] = 0xa9000000u, [IR_INDEX_PRE] = 0xa9800000u, [IR_INDEX_POST] = 0xa8800000u};
  unsigned n = general(e, insn->reg[1]), t = general(e, insn->reg[0]), t2 = general(e, insn->reg[2]);
  put(e, form[insn->cond] | (load ? 1u << 22 : 0) | ((uint32_t)(insn->imm / 8) & 0x7f) << 15 | t2 << 10 |
             n << 5 | t);
}

/* Pushes and pops are plain accesses in every memory model: the slots above and at RSP become visible to
 * others only through a later store of a pointer or value, which is ordered. */
static void emit_push(Emitter *e, const IrInsn *insn) {
  put(e, 0xf8000c00u | ((uint32_t)insn->imm & 0x1ff) << 12 | general(e, insn->reg[1]) << 5 |
             general(e, insn->reg[0]));
}

static void emit_pop(Emitter *e, const IrInsn *insn) {
  put(e, 0xf8400400u | ((uint32_t)insn->imm & 0x1ff) << 12 | general(e, insn->reg[1]) << 5 |
             general(e, insn->reg[0]));
}

/* --- Locked operations ---------------------------------------------------------------------------- */

/* LSE encodings, acquire and release, by operation. */
static uint32_t lse_base(IrOp op) {
  switch (op) {
  case IR_ATOMIC_ADD: return 0x38e00000u;
  case IR_ATOMIC_CLEAR: return 0x38e01000u;
  case IR_ATOMIC_XOR: return 0x38e02000u;
  case IR_ATOMIC_OR: return 0x38e03000u;
  case IR_ATOMIC_SWAP: return 0x38e08000u;
  default: return 0x08e0fc00u; /* CASAL */
  }
}

/* The same with exclusives: x16 the old value until it is safe to write d, x17 the new one and status. */
static void put_exclusive_loop(Emitter *e, const IrInsn *insn, unsigned d, unsigned n, unsigned m) {
  uint32_t size = log2_size(insn->size) << 30, sf = insn->size == 8 ? 1u << 31 : 0;
  put(e, 0x085ffc00u | size | n << 5 | X16); /* LDAXR x16, [n] */
  unsigned value = X17;
  switch ((IrOp)insn->op) {
  case IR_ATOMIC_ADD: put(e, 0x0b000000u | sf | m << 16 | X16 << 5 | X17); break;
  case IR_ATOMIC_CLEAR: put(e, 0x0a200000u | sf | m << 16 | X16 << 5 | X17); break;
  case IR_ATOMIC_XOR: put(e, 0x4a000000u | sf | m << 16 | X16 << 5 | X17); break;
  case IR_ATOMIC_OR: put(e, 0x2a000000u | sf | m << 16 | X16 << 5 | X17); break;
  default: value = m; break;
  }
  if (insn->op == IR_ATOMIC_CAS) {
    put(e, 0x4a000000u | sf | d << 16 | X16 << 5 | X17); /* EOR x17, x16, d */
    if (insn->size < 4) put(e, 0x53000000u | (insn->size * 8 - 1) << 10 | X17 << 5 | X17);
    put(e, (sf | 0x35000000u) | 3 << 5 | X17); /* CBNZ x17, past the loop */
    put(e, 0x0800fc00u | size | X17 << 16 | n << 5 | value);
    put(e, 0x35000000u | ((uint32_t)(insn->size < 4 ? -5 : -4) & 0x7ffff) << 5 | X17);
  } else {
    bool needs_status = value == X17;
    unsigned status = needs_status ? X30 : X17; /* must differ from STLXR's value */
    put(e, 0x0800fc00u | size | status << 16 | n << 5 | value);
    put(e, 0x35000000u | ((uint32_t)(needs_status ? -3 : -2) & 0x7ffff) << 5 | status);
  }
  if (d != A64_REG_ZERO) put_mov(e, insn->size == 8 ? 8 : 4, d, X16);
  put(e, 0xd5033bbfu); /* DMB ISH: exclusives alone do not order later loads */
}

static void emit_atomic(Emitter *e, const IrInsn *insn) {
  unsigned n = general(e, insn->reg[1]), m = general(e, insn->reg[2]);
  unsigned d = insn->reg[0] == IR_NONE ? A64_REG_ZERO : general(e, insn->reg[0]);
  if (!(e->options->features & A64_HAS_LSE)) {
    put_exclusive_loop(e, insn, d, n, m);
    return;
  }
  uint32_t word = lse_base(insn->op) | log2_size(insn->size) << 30 | n << 5;
  put(e, insn->op == IR_ATOMIC_CAS ? word | d << 16 | m : word | m << 16 | d);
}

/* --- Leaving the region --------------------------------------------------------------------------- */

static void add_exit(Emitter *e, A64ExitKind kind, uint64_t target) {
  A64Code *code = e->code;
  if (code->exit_count == A64_MAX_EXITS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  code->exits[code->exit_count++] = (A64Exit){target, position(e), UINT32_MAX, (uint8_t)kind};
}

static void add_indirect_check(Emitter *e, unsigned label) {
  A64Code *code = e->code;
  if (code->indirect_count == A64_MAX_INDIRECT) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  code->indirect_checks[code->indirect_count++] = position(e);
  put_branch(e, 0xb5000000u | X16, label); /* CBNZ x16 */
}

static void emit_exit(Emitter *e, const IrInsn *insn) {
  add_exit(e, A64_EXIT_JUMP, (uint64_t)insn->imm);
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
}

/* (guest return address, host return address) onto the return-address stack; the host address is that of the
 * word `ahead` words after the ADR. */
static void put_shadow_push(Emitter *e, unsigned guest_return, unsigned ahead) {
  put(e, 0x10000000u | (ahead * 4 >> 2) << 5 | X16);                 /* ADR x16 */
  put(e, 0xa9bf0000u | X16 << 10 | A64_REG_ZERO << 5 | guest_return); /* STP return, x16, [sp, #-16]! */
}

static void emit_call(Emitter *e, const IrInsn *insn) {
  put_shadow_push(e, general(e, insn->reg[1]), 3);
  add_exit(e, A64_EXIT_CALL, (uint64_t)insn->imm);
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
}

/* Out of line: the branch cache has not got the target, or the prediction was wrong. */
static void put_miss(Emitter *e, unsigned label, unsigned target, A64Trampoline trampoline) {
  bool was_cold = e->cold;
  set_cold(e, true);
  s.labels[label] = position(e);
  put_mov(e, 8, X17, target);
  put_trampoline(e, false, trampoline);
  set_cold(e, was_cold);
}

/* A label beyond the builder's own, for misses. */
static unsigned new_label(Emitter *e) {
  if (e->next_label >= IR_MAX_LABELS) {
    e->status = A64_EMIT_TOO_LARGE;
    return 0;
  }
  s.labels[e->next_label] = UNBOUND;
  return e->next_label++;
}

/* Five instructions on a hit: index, entry, compare, go (x30 holds the host target). The cache is aligned to its
 * size, so that its register is base and entry at once. */
static void put_branch_cache(Emitter *e, unsigned target, uint32_t branch) {
  unsigned miss = new_label(e);
  /* BFI x25, target, #4 */
  put(e, 0xb37c0000u | (GUEST_BRANCH_CACHE_BITS - 1) << 10 | target << 5 | A64_REG_BRANCH_CACHE);
  put(e, 0xa9400000u | X30 << 10 | A64_REG_BRANCH_CACHE << 5 | X16); /* LDP x16, x30, [x25] */
  put(e, 0xcb000000u | target << 16 | X16 << 5 | X16);
  add_indirect_check(e, miss);
  put(e, branch | X30 << 5);
  put_miss(e, miss, target, A64_TRAMPOLINE_INDIRECT);
}
_Static_assert(sizeof(GuestBranchCacheEntry) == 16, "BFI above");

static void emit_exit_indirect(Emitter *e, const IrInsn *insn) {
  put_branch_cache(e, general(e, insn->reg[1]), 0xd61f0000u);
}

/* rn: target, rm: guest return address. */
static void emit_call_indirect(Emitter *e, const IrInsn *insn) {
  put_shadow_push(e, general(e, insn->reg[2]), 7);
  put_branch_cache(e, general(e, insn->reg[1]), 0xd63f0000u);
}

static void emit_return(Emitter *e, const IrInsn *insn) {
  unsigned target = general(e, insn->reg[1]), miss = new_label(e);
  put(e, 0xa8c10000u | X30 << 10 | A64_REG_ZERO << 5 | X16); /* LDP x16, x30, [sp], #16 */
  put(e, 0xcb000000u | target << 16 | X16 << 5 | X16);
  add_indirect_check(e, miss);
  put(e, 0xd65f03c0u); /* RET */
  put_miss(e, miss, target, A64_TRAMPOLINE_RETURN);
}

static void emit_syscall(Emitter *e, const IrInsn *insn) {
  put_literal(e, X17, (uint64_t)insn->imm, true);
  put_trampoline(e, true, A64_TRAMPOLINE_SYSCALL);
}

static void emit_raise(Emitter *e, const IrInsn *insn) {
  put_literal(e, X17, (uint64_t)insn->imm, true);
  put_const(e, X16, insn->cond);
  put_trampoline(e, true, A64_TRAMPOLINE_RAISE);
}

static void emit_helper(Emitter *e, const IrInsn *insn) {
  if (insn->reg[1] != IR_NONE) put_mov(e, 8, X17, general(e, insn->reg[1]));
  put_const(e, X16, (uint64_t)insn->imm);
  put_trampoline(e, true, A64_TRAMPOLINE_HELPER);
}

/* --- Control inside the region -------------------------------------------------------------------- */

/* Branches backward to a block may loop for ever: they can be retargeted to an exit of their own when the
 * thread has to come out (A64_EXIT_LOOP). */
static void emit_branch(Emitter *e, const IrInsn *insn, uint32_t word) {
  unsigned label = (unsigned)insn->imm;
  bool loop = s.labels[label] != UNBOUND && s.label_pc[label] && !e->cold;
  uint32_t branch = position(e);
  put_branch(e, word, label);
  if (!loop) return;
  set_cold(e, true);
  add_exit(e, A64_EXIT_LOOP, s.label_pc[label]);
  if (e->status == A64_EMIT_OK) e->code->exits[e->code->exit_count - 1].branch = branch;
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
  set_cold(e, false);
}

static void bind(Emitter *e, unsigned label, uint64_t pc) {
  s.labels[label] = position(e);
  s.label_pc[label] = pc;
  s.label_exit[label] = 0;
  const IrInsn *next = &e->b->insns[e->index + 1];
  if (e->index + 1 < e->b->count && next->op == IR_EXIT)
    s.label_exit[label] = (uint16_t)(e->code->exit_count + 1);
}

static void map_pc(Emitter *e) {
  A64Code *code = e->code;
  uint32_t guest = (uint32_t)(e->guest_pc - e->options->guest_entry) & 0x3fffffffu;
  guest |= (uint32_t)e->flag_form << 30;
  if (code->pc_map_count + e->cold_map_count >= A64_MAX_PC_MAP) e->status = A64_EMIT_TOO_LARGE;
  else if (e->cold) s.cold_map[e->cold_map_count++] = (A64PcMap){written(e), guest};
  else code->pc_map[code->pc_map_count++] = (A64PcMap){written(e) * 4, guest};
}

static void emit_block(Emitter *e, const IrInsn *insn) {
  bind(e, insn->shift, (uint64_t)insn->imm);
  A64Code *code = e->code;
  if (!insn->cond) return;
  if (code->entry_count == A64_MAX_ENTRIES) e->status = A64_EMIT_TOO_LARGE;
  else code->entries[code->entry_count++] = (A64Entry){(uint64_t)insn->imm, written(e) * 4};
}

static void emit_move(Emitter *e, const IrInsn *insn) {
  unsigned n = general(e, insn->reg[1]), d = general(e, insn->reg[0]);
  if (insn->size == 4 || d != n) put_mov(e, insn->size, d, n);
}

static void emit_constant(Emitter *e, const IrInsn *insn) {
  unsigned d = general(e, insn->reg[0]);
  if (d != A64_REG_ZERO) put_const(e, d, (uint64_t)insn->imm);
}

static uint32_t test_bit(const Emitter *e, const IrInsn *insn, uint32_t base, unsigned t) {
  (void)e;
  return base | (uint32_t)(insn->cond & 0x20) << 26 | (uint32_t)(insn->cond & 0x1f) << 19 | t;
}

static void emit_pseudo(Emitter *e, const IrInsn *insn) {
  uint32_t sf = insn->size == 8 ? 1u << 31 : 0;
  switch ((IrOp)insn->op) {
  case IR_MOV: emit_move(e, insn); break;
  case IR_CONST: emit_constant(e, insn); break;
  case IR_GUEST_ADDRESS: put_literal(e, general(e, insn->reg[0]), (uint64_t)insn->imm, true); break;
  case IR_LOAD: emit_load(e, insn); break;
  case IR_STORE: emit_store(e, insn); break;
  case IR_LOADV: emit_load_vector(e, insn); break;
  case IR_STOREV: emit_store_vector(e, insn); break;
  case IR_LOAD_PAIR: emit_pair(e, insn, true); break;
  case IR_STORE_PAIR: emit_pair(e, insn, false); break;
  case IR_PUSH: emit_push(e, insn); break;
  case IR_POP: emit_pop(e, insn); break;
  case IR_ATOMIC_ADD:
  case IR_ATOMIC_OR:
  case IR_ATOMIC_CLEAR:
  case IR_ATOMIC_XOR:
  case IR_ATOMIC_SWAP:
  case IR_ATOMIC_CAS: emit_atomic(e, insn); break;
  case IR_LABEL: bind(e, (unsigned)insn->imm, 0); break;
  case IR_B: emit_branch(e, insn, 0x14000000u); break;
  case IR_BCOND: emit_branch(e, insn, 0x54000000u | insn->cond); break;
  case IR_CBZ: emit_branch(e, insn, sf | 0x34000000u | general(e, insn->reg[1])); break;
  case IR_CBNZ: emit_branch(e, insn, sf | 0x35000000u | general(e, insn->reg[1])); break;
  case IR_TBZ: emit_branch(e, insn, test_bit(e, insn, 0x36000000u, general(e, insn->reg[1]))); break;
  case IR_TBNZ: emit_branch(e, insn, test_bit(e, insn, 0x37000000u, general(e, insn->reg[1]))); break;
  case IR_COLD_BEGIN:
    set_cold(e, true);
    map_pc(e);
    break;
  case IR_COLD_END: set_cold(e, false); break;
  case IR_LOOP_END: release_loop(e, insn); break;
  case IR_BLOCK: emit_block(e, insn); break;
  case IR_EXIT: emit_exit(e, insn); break;
  case IR_EXIT_IND: emit_exit_indirect(e, insn); break;
  case IR_CALL: emit_call(e, insn); break;
  case IR_CALL_IND: emit_call_indirect(e, insn); break;
  case IR_RETURN: emit_return(e, insn); break;
  case IR_SYSCALL: emit_syscall(e, insn); break;
  case IR_RAISE: emit_raise(e, insn); break;
  case IR_HELPER: emit_helper(e, insn); break;
  default: break;
  }
}

/* --- One operation -------------------------------------------------------------------------------- */

/* A host register's number, or 0 where there is no operand. */
static uint32_t plain(unsigned id) { return id < IR_TEMP_FIRST ? id : 0; }

/* Sources are placed and released before the destination takes a register, so that it may reuse theirs. */
static uint32_t place_temporaries(Emitter *e, const IrInsn *insn, const IrOpInfo *info) {
  static const uint8_t field[4] = {0, 5, 16, 10};
  uint32_t word = 0;
  for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
    unsigned k = (unsigned)__builtin_ctz(temps), kind = info->kind[k], id = insn->reg[k];
    if (kind & IR_KIND_U) word |= (kind & IR_KIND_V ? vector(e, id) : general(e, id)) << field[k];
  }
  release_operands(e, insn, IR_KIND_U | IR_KIND_D, IR_KIND_U);
  for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
    unsigned k = (unsigned)__builtin_ctz(temps), kind = info->kind[k], id = insn->reg[k];
    if ((kind & (IR_KIND_U | IR_KIND_D)) == IR_KIND_D)
      word |= (kind & IR_KIND_V ? vector(e, id) : general(e, id)) << field[k];
  }
  release_operands(e, insn, IR_KIND_D, IR_KIND_D);
  return word;
}

static void begin_guest_instruction(Emitter *e, const IrInsn *insn) {
  e->guest_pc = (uint64_t)insn->imm;
  e->flag_form = insn->cond;
  if (e->asks_misaligned) e->misaligned = e->options->is_misaligned(e->guest_pc);
  map_pc(e);
}

static void emit_one(Emitter *e, const IrInsn *insn) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  if (info->pseudo) {
    if (insn->op == IR_GUEST) {
      begin_guest_instruction(e, insn);
      return;
    }
    emit_pseudo(e, insn);
    if (insn->temps) release_operands(e, insn, 0, 0);
    return;
  }
  uint32_t word = info->encoding | (uint32_t)insn->imm | plain(insn->reg[0]) | plain(insn->reg[1]) << 5 |
                  plain(insn->reg[2]) << 16 | plain(insn->reg[3]) << 10;
  if (info->sf && insn->size == 8) word |= 1u << 31;
  if (insn->temps) word |= place_temporaries(e, insn, info);
  put(e, word);
}

/* --- Joining hot code, cold code and literals ------------------------------------------------------- */

static uint32_t final_index(const A64Code *code, uint32_t at) {
  return at & COLD_BIT ? code->hot_count + (at & ~COLD_BIT) : at;
}

static void append_literals(Emitter *e) {
  A64Code *code = e->code;
  if (written(e) & 1 && e->literal_count) put(e, 0);
  uint32_t first = written(e);
  for (unsigned i = 0; i < e->literal_count; i++) {
    if (s.literals[i].guest_address && code->relocation_count < code->relocation_capacity)
      code->relocations[code->relocation_count++] = (A64Relocation){written(e), A64_RELOCATE_GUEST_ADDRESS, 0};
    put(e, (uint32_t)s.literals[i].value);
    put(e, (uint32_t)(s.literals[i].value >> 32));
  }
  if (e->status != A64_EMIT_OK) return;
  for (unsigned i = 0; i < e->literal_use_count; i++) {
    uint32_t at = final_index(code, s.literal_uses[i].position);
    code->words[at] |= ((first + 2 * s.literal_uses[i].literal - at) & 0x7ffff) << 5;
  }
}

static void resolve_branches(Emitter *e) {
  A64Code *code = e->code;
  for (unsigned i = 0; i < e->fixup_count; i++) {
    uint32_t at = final_index(code, s.fixups[i].position);
    unsigned label = s.fixups[i].label;
    int64_t distance = ((int64_t)final_index(code, s.labels[label]) - at) * 4;
    uint32_t word = a64_retarget(code->words[at], distance);
    if (!word) e->status = A64_EMIT_TOO_LARGE;
    code->words[at] = word;
    unsigned exit = label < e->b->next_label ? s.label_exit[label] : 0;
    if (exit) code->exits[exit - 1].branch = code->exits[exit - 1].branch == UINT32_MAX ? at : UINT32_MAX - 1;
  }
}

static void join(Emitter *e) {
  A64Code *code = e->code;
  set_cold(e, false);
  code->hot_count = written(e);
  for (const uint32_t *word = s.cold; word < e->other_at; word++) put(e, *word);
  if (e->status != A64_EMIT_OK) return;
  for (uint32_t i = 0; i < code->exit_count; i++) {
    code->exits[i].site = final_index(code, code->exits[i].site) * 4;
    if (code->exits[i].kind == A64_EXIT_LOOP) code->exits[i].branch = final_index(code, code->exits[i].branch);
  }
  for (uint32_t i = 0; i < code->relocation_count; i++)
    code->relocations[i].offset = final_index(code, code->relocations[i].offset);
  for (uint32_t i = 0; i < code->indirect_count; i++)
    code->indirect_checks[i] = final_index(code, code->indirect_checks[i]) * 4;
  code->cold_pc_map = code->pc_map_count;
  for (uint32_t i = 0; i < e->cold_map_count; i++)
    code->pc_map[code->pc_map_count++] =
        (A64PcMap){(s.cold_map[i].host_offset + code->hot_count) * 4, s.cold_map[i].guest_offset};
  code->instruction_count = written(e);
  append_literals(e);
  if (e->status != A64_EMIT_OK) return;
  code->count = written(e);
  resolve_branches(e);
  for (uint32_t i = 0; i < code->exit_count; i++)
    if (code->exits[i].branch < UINT32_MAX - 1) code->exits[i].branch *= 4;
    else code->exits[i].branch = UINT32_MAX;
  for (uint32_t i = 0; i < code->relocation_count; i++) code->relocations[i].offset *= 4;
}

A64EmitStatus a64_emit(const IrBuilder *b, const A64EmitOptions *options, A64Code *code) {
  Emitter e = {.b = b, .options = options, .code = code, .free_general = A64_TEMPS,
               .free_vector = A64_VECTOR_TEMPS,
               .asks_misaligned = options->is_misaligned != NULL, .next_label = b->next_label, .at = code->words, .start = code->words,
               .limit = code->words + code->capacity, .other_at = s.cold};
  code->count = code->exit_count = code->entry_count = code->indirect_count = 0;
  code->pc_map_count = code->relocation_count = 0;
  memset(s.labels, 0xff, b->next_label * sizeof *s.labels); /* UNBOUND */
  scan_lifetimes(b);
  for (const IrInsn *insn = b->insns, *end = insn + b->count; insn < end && e.status == A64_EMIT_OK; insn++) {
    emit_one(&e, insn);
    e.index++;
  }
  if (e.status == A64_EMIT_OK) join(&e);
  return e.status;
}

/* --- Branch instructions in place ------------------------------------------------------------------ */

/* The immediate field of a branch: first bit and width (Arm ARM C4.1.65). */
static void branch_field(uint32_t word, unsigned *ret_lsb, unsigned *ret_width) {
  *ret_lsb = 5;
  if ((word & 0x7c000000u) == 0x14000000u) {
    *ret_lsb = 0;
    *ret_width = 26;
  } else if ((word & 0x7e000000u) == 0x36000000u) {
    *ret_width = 14;
  } else {
    *ret_width = 19;
  }
}

static inline uint32_t set_branch_field(uint32_t word, unsigned lsb, unsigned width, int64_t distance) {
  int64_t words = distance >> 2, limit = INT64_C(1) << (width - 1);
  if ((uint64_t)(words + limit) >= (uint64_t)limit * 2) return 0;
  uint32_t mask = ((1u << width) - 1) << lsb;
  return (word & ~mask) | ((uint32_t)words << lsb & mask);
}

uint32_t a64_retarget(uint32_t word, int64_t distance) {
  unsigned lsb, width;
  branch_field(word, &lsb, &width);
  return set_branch_field(word, lsb, width, distance);
}

int64_t a64_branch_distance(uint32_t word) {
  unsigned lsb, width;
  branch_field(word, &lsb, &width);
  return (int64_t)((uint64_t)(word >> lsb) << (64 - width)) >> (64 - width) << 2;
}

bool a64_relocate(A64Code *code, uint64_t host_base, const uint64_t trampolines[A64_TRAMPOLINE_COUNT],
                  uint64_t guest_bias) {
  for (uint32_t i = 0; i < code->relocation_count; i++) {
    const A64Relocation *r = &code->relocations[i];
    uint32_t *word = &code->words[r->offset / 4];
    if (r->kind == A64_RELOCATE_GUEST_ADDRESS) {
      uint64_t value = ((uint64_t)word[1] << 32 | word[0]) + guest_bias;
      word[0] = (uint32_t)value;
      word[1] = (uint32_t)(value >> 32);
      continue;
    }
    *word = set_branch_field(*word, 0, 26, (int64_t)(trampolines[r->trampoline] - (host_base + r->offset))); /* B, BL */
    if (!*word) return false;
  }
  return true;
}
