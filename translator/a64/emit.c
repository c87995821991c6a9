/* IR operations to AArch64 words, in one forward pass.
 *
 * A scan before it finds each temporary's last use and whether it lives across a helper call; then
 * operations are emitted in order, a temporary taking a host register at its definition and giving it back
 * at its last use. Guest registers have fixed homes, so nothing is ever spilled: a guest instruction
 * needs few temporaries, and running out is reported, not handled. Cold code goes to a buffer of its own and is
 * appended at the end. */
#include "a64/emit.h"

#include <string.h>

#include "a64/encode.h"
#include "guest/state.h"

enum {
  MAX_FIXUPS = 8192,
  MAX_LITERALS = 2048,
  MAX_COLD_WORDS = 16384,
  NO_REGISTER = 0xff,
  RSP = 4 /* the guest's stack pointer, among IR registers */
};

#define X16 A64_X(A64_REG_EXIT0)
#define X17 A64_X(A64_REG_EXIT1)
#define X30 A64_X(A64_REG_LINK)
#define XZR A64_X(A64_REG_ZERO)

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

struct A64Emitter {
  const IrBuilder *b;
  const A64EmitOptions *options;
  A64Code *code;
  A64EmitStatus status;

  bool cold;
  uint32_t *at, *start, *limit; /* the buffer being written: of hot or of cold code */
  uint32_t *other_at;           /* how far the other one has come */

  A64PcMap *map_at, *map_limit; /* behind the hot rows of the PC map */
  uint32_t free_general, free_vector; /* host registers not taken by temporaries */
  uint64_t guest_entry;
  uint32_t guest_offset; /* A64PcMap.guest_offset */
  uint16_t uppers, uppers_before_cold; /* A64PcMap.uppers */
  bool asks_misaligned, misaligned; /* its ordered accesses may be (A64EmitOptions) */

  uint64_t literals_met; /* a bit for some of their bits each */
  uint32_t fixup_count, literal_count, literal_use_count, cold_map_count, next_label;

  uint8_t hosts[2 * IR_MAX_TEMPS];      /* host register of each temporary, general ones first (host_of()) */
  uint32_t kept[2][IR_MAX_TEMPS];       /* general, vector: index of the LOOP_END it lives until; where there are loops */
  uint16_t general_calls[IR_MAX_TEMPS]; /* 1 + helper calls before its first appearance; where there are calls */
  bool general_crosses[IR_MAX_TEMPS];   /* and whether it appears behind one more */
  uint32_t labels[IR_MAX_LABELS];
  uint64_t label_pc[IR_MAX_LABELS]; /* of labels bound by BLOCK */
  uint16_t label_uppers[IR_MAX_LABELS]; /* of those: A64PcMap.uppers there */
  uint16_t label_exit[IR_MAX_LABELS]; /* 1 + index of the exit a label stands directly before */
  Fixup fixups[MAX_FIXUPS];
  Literal literals[MAX_LITERALS];
  LiteralUse literal_uses[MAX_FIXUPS];
  uint32_t cold_words[MAX_COLD_WORDS];
  A64PcMap cold_map[A64_MAX_PC_MAP];
};
typedef A64Emitter Emitter;

size_t a64_emitter_size(void) { return sizeof(A64Emitter); }

/* --- Lifetimes ------------------------------------------------------------------------------------ */

static inline uint8_t *host_of(Emitter *e, unsigned kind, unsigned id) {
  return &e->hosts[id + (kind & IR_KIND_V) * (IR_MAX_TEMPS / IR_KIND_V)];
}

/* Whether this is, seen from the end, the first appearance of a temporary: its last. */
static inline bool note_appearance(Emitter *e, unsigned kind, unsigned id) {
  uint8_t *host = host_of(e, kind, id);
  if (*host == NO_REGISTER) return false;
  *host = NO_REGISTER;
  return true;
}

static IrInsn *head_of_loop(const Emitter *e, const IrInsn *end) {
  IrInsn *at = e->b->insns + (end - e->b->insns);
  while (at->op != IR_LABEL || at->imm != end->imm) at--;
  return at;
}

/* A local loop keeps alive what is used in it until its end, where that is released (release_loop()). */
static void keep_over_loop(Emitter *e, const IrInsn *end) {
  for (const IrInsn *insn = head_of_loop(e, end); insn < end; insn++)
    for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
      unsigned k = (unsigned)__builtin_ctz(temps), kind = ir_op_info[insn->op].kind[k], id = insn->reg[k];
      if (note_appearance(e, kind, id)) e->kept[kind & IR_KIND_V ? 1 : 0][id] = (uint32_t)(end - e->b->insns);
    }
}

static void find_last_use(Emitter *e, IrInsn *insn) {
  unsigned last = 0;
  for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
    unsigned k = (unsigned)__builtin_ctz(temps);
    if (note_appearance(e, ir_op_info[insn->op].kind[k], insn->reg[k])) last |= 1u << k;
  }
  insn->last = (uint8_t)last;
}

/* From the end, each operation is told which of its temporaries it is the last to use. Most have none, so that they are
 * looked at two by two. */
static void find_last_uses(Emitter *e) {
  IrInsn *const first = e->b->insns, *insn = first + e->b->count;
  if (e->b->has_loops) {
    while (insn-- != first) {
      if (insn->op == IR_LOOP_END) keep_over_loop(e, insn);
      find_last_use(e, insn);
    }
    return;
  }
  if (e->b->count % 2) find_last_use(e, --insn);
  for (; insn != first; insn -= 2) {
    if (!(insn[-1].temps | insn[-2].temps)) continue;
    find_last_use(e, &insn[-1]);
    find_last_use(e, &insn[-2]);
  }
}

/* Which general temporaries live across a helper call. */
static void find_crossings(Emitter *e) {
  const IrBuilder *b = e->b;
  unsigned calls = 1; /* 0: no appearance yet */
  memset(e->general_calls + IR_TEMP_FIRST, 0, (b->next_temp - IR_TEMP_FIRST) * sizeof *e->general_calls);
  for (const IrInsn *insn = b->insns, *end = insn + b->count; insn < end; insn++) {
    for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
      unsigned k = (unsigned)__builtin_ctz(temps), id = insn->reg[k];
      if (ir_op_info[insn->op].kind[k] & IR_KIND_V) continue;
      if (!e->general_calls[id]) e->general_calls[id] = (uint16_t)calls;
      if (e->general_calls[id] != calls) e->general_crosses[id] = true;
    }
    calls += insn->op == IR_HELPER || insn->op == IR_SYSCALL;
  }
}

/* A few, mostly, of an array of IR_MAX_TEMPS: a call of memset() would take longer. */
static inline void clear_hosts(uint8_t *hosts, unsigned count) {
  uint64_t none = 0;
  for (unsigned i = 0; i < count; i += sizeof none) __builtin_memcpy(hosts + IR_TEMP_FIRST + i, &none, sizeof none);
}
_Static_assert(IR_MAX_TEMPS % sizeof(uint64_t) == 0 && IR_TEMP_FIRST % sizeof(uint64_t) == 0, "clear_hosts()");

static void scan_lifetimes(Emitter *e) {
  const IrBuilder *b = e->b;
  unsigned general = b->next_temp - IR_TEMP_FIRST, vector = b->next_vector_temp - IR_TEMP_FIRST;
  clear_hosts(e->hosts, general);
  clear_hosts(e->hosts + IR_MAX_TEMPS, vector);
  if (b->has_loops) {
    memset(e->kept[0] + IR_TEMP_FIRST, 0, general * sizeof(uint32_t));
    memset(e->kept[1] + IR_TEMP_FIRST, 0, vector * sizeof(uint32_t));
  }
  find_last_uses(e);
  if (!b->has_calls) return;
  memset(e->general_crosses + IR_TEMP_FIRST, 0, general * sizeof(bool));
  find_crossings(e);
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
static A64Reg general(Emitter *e, unsigned id) {
  if (id < IR_TEMP_FIRST) return A64_X(id);
  uint8_t *host = host_of(e, IR_KIND_G, id);
  if (*host == NO_REGISTER) {
    uint32_t allowed = e->b->has_calls && e->general_crosses[id] ? ~A64_TEMPS_CALLER_SAVED : UINT32_MAX;
    *host = (uint8_t)take(e, &e->free_general, allowed);
  }
  return A64_X(*host);
}

static A64Vec vector(Emitter *e, unsigned id) {
  if (id < IR_TEMP_FIRST) return (A64Vec){id};
  uint8_t *host = host_of(e, IR_KIND_V, id);
  if (*host == NO_REGISTER) *host = (uint8_t)take(e, &e->free_vector, UINT32_MAX);
  return (A64Vec){*host};
}

static inline void release_operand(Emitter *e, unsigned kind, unsigned id) {
  uint32_t freed = 1u << *host_of(e, kind, id);
  if (kind & IR_KIND_V) e->free_vector |= freed;
  else e->free_general |= freed;
}

/* The operation's temporaries in `operands` (bit k: reg[k]). */
static inline void release_operands(Emitter *e, const IrInsn *insn, unsigned operands) {
  for (; operands; operands &= operands - 1) {
    unsigned k = (unsigned)__builtin_ctz(operands);
    release_operand(e, ir_op_info[insn->op].kind[k], insn->reg[k]);
  }
}

/* What a local loop has kept alive (keep_over_loop()) ends with it. */
static void release_loop(Emitter *e, const IrInsn *end) {
  for (const IrInsn *insn = head_of_loop(e, end); insn < end; insn++)
    for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
      unsigned k = (unsigned)__builtin_ctz(temps), kind = ir_op_info[insn->op].kind[k], id = insn->reg[k];
      if (e->kept[kind & IR_KIND_V ? 1 : 0][id] == (uint32_t)(end - e->b->insns)) release_operand(e, kind, id);
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

/* A word whose encoder may have refused. */
static inline void put_checked(Emitter *e, uint32_t word) {
  if (word) put(e, word);
  else e->status = A64_EMIT_UNENCODABLE;
}

/* Goes on writing out of line, or in line. */
static void set_cold(Emitter *e, bool cold) {
  if (e->cold == cold) return;
  uint32_t *at = e->at;
  e->cold = cold;
  e->at = e->other_at;
  e->other_at = at;
  e->start = cold ? e->cold_words : e->code->words;
  e->limit = e->start + (cold ? (uint32_t)MAX_COLD_WORDS : e->code->capacity);
}

static void put_branch(Emitter *e, uint32_t word, unsigned label) {
  if (e->fixup_count == MAX_FIXUPS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  e->fixups[e->fixup_count++] = (Fixup){position(e), (uint16_t)label};
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
  put(e, link ? a64_bl(0) : a64_b(0));
}

static void put_literal(Emitter *e, A64Reg host, uint64_t value, bool guest_address) {
  const uint64_t bit = UINT64_C(1) << ((value ^ value >> 6) & 63);
  unsigned i = e->literals_met & bit ? 0 : e->literal_count; /* mostly there is none such */
  e->literals_met |= bit;
  while (i < e->literal_count &&
         (e->literals[i].value != value || e->literals[i].guest_address != guest_address))
    i++;
  if (i == MAX_LITERALS || e->literal_use_count == MAX_FIXUPS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  if (i == e->literal_count) e->literals[e->literal_count++] = (Literal){value, guest_address};
  e->literal_uses[e->literal_use_count++] = (LiteralUse){position(e), (uint16_t)i};
  put(e, a64_load_literal(host, 0));
}

static void put_const(Emitter *e, A64Reg d, uint64_t value) {
  for (unsigned at = 0; at < 4; at++) {
    uint64_t field = UINT64_C(0xffff) << 16 * at;
    if ((value & ~field) == 0) {
      put(e, a64_movz(8, d, (uint32_t)(value >> 16 * at), at));
      return;
    }
    if (~value == (~value & field)) {
      put(e, a64_movn(8, d, (uint32_t)(~value >> 16 * at), at));
      return;
    }
    if (at < 2 && value <= UINT32_MAX && (~(uint32_t)value & ~(uint32_t)field) == 0) {
      put(e, a64_movn(4, d, ~(uint32_t)value >> 16 * at, at));
      return;
    }
  }
  uint32_t word = a64_mov_bitmask(8, d, value);
  if (!word && value <= UINT32_MAX) word = a64_mov_bitmask(4, d, value);
  if (word) put(e, word);
  else put_literal(e, d, value, false);
}

/* --- Guest memory --------------------------------------------------------------------------------- */

static A64Opc load_opc(const IrInsn *insn) {
  static const uint8_t opc[] = {
      [IR_EXTEND_ZERO] = A64_LOAD, [IR_EXTEND_SIGN64] = A64_LOAD_SIGN64, [IR_EXTEND_SIGN32] = A64_LOAD_SIGN32};
  return (A64Opc)opc[insn->cond];
}

static void put_plain_access(Emitter *e, const IrInsn *insn, A64Transfer transfer) {
  A64Reg n = general(e, insn->reg[1]);
  if (insn->reg[2] != IR_NONE) {
    put(e, a64_at_index(transfer, n, general(e, insn->reg[2]), insn->shift != 0));
    return;
  }
  uint32_t word = a64_at_scaled(transfer, n, insn->size, insn->imm);
  if (word) put(e, word);
  else put_checked(e, a64_at_unscaled(transfer, n, insn->imm));
}

/* Load-acquire (RCpc where the host has it) and store-release of general registers: base only, or with
 * LRCPC2 a 9-bit offset. */
static void put_ordered_load(Emitter *e, const IrInsn *insn, A64Reg t, A64Reg n) {
  if (e->options->features & A64_HAS_LRCPC2) {
    put_checked(e, a64_ordered_unscaled(insn->size, load_opc(insn), t, n, insn->imm));
    return;
  }
  put(e, e->options->features & A64_HAS_LRCPC ? a64_ldapr(insn->size, t, n) : a64_ldar(insn->size, t, n));
  if (insn->cond != IR_EXTEND_ZERO) put(e, a64_sign_extend(insn->cond == IR_EXTEND_SIGN64 ? 8 : 4, insn->size, t, t));
}

static void put_ordered_store(Emitter *e, const IrInsn *insn, A64Reg t, A64Reg n) {
  if (e->options->features & A64_HAS_LRCPC2)
    put_checked(e, a64_ordered_unscaled(insn->size, A64_STORE, t, n, insn->imm));
  else put(e, a64_stlr(insn->size, t, n));
}

static void emit_load(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  if (e->options->ordered && !e->misaligned) {
    put_ordered_load(e, insn, t, n);
    return;
  }
  put_plain_access(e, insn, a64_transfer(insn->size, load_opc(insn), t));
  if (e->options->ordered) put(e, A64_DMB_ISHLD);
}

static void emit_store(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  if (e->options->ordered && !e->misaligned) {
    put_ordered_store(e, insn, t, n);
    return;
  }
  if (e->options->ordered) put(e, A64_DMB_ISHST);
  put_plain_access(e, insn, a64_transfer(insn->size, A64_STORE, t));
}

/* What vector registers are spilled to and loaded from relative to RSP is private to its thread in the same way as what
 * is pushed (emit_push): others get to see it by a later store, which is ordered behind it. */
static bool is_private(const IrInsn *insn) { return insn->reg[1] == RSP && insn->reg[2] == IR_NONE; }

/* Every load is ordered before what follows, so that stores need only be kept in order among themselves. */
static void emit_load_vector(Emitter *e, const IrInsn *insn) {
  put_plain_access(e, insn, a64_transfer_vector(insn->size, A64_LOAD, vector(e, insn->reg[0])));
  if (e->options->ordered && !is_private(insn)) put(e, A64_DMB_ISHLD);
}

static void emit_store_vector(Emitter *e, const IrInsn *insn) {
  if (e->options->ordered && !is_private(insn)) put(e, A64_DMB_ISHST);
  put_plain_access(e, insn, a64_transfer_vector(insn->size, A64_STORE, vector(e, insn->reg[0])));
}

/* The base is moved by the access itself; by an instruction behind it where it is one that can't. */
static void put_moving(Emitter *e, const IrInsn *insn, A64Transfer transfer) {
  A64Reg n = general(e, insn->reg[1]);
  put_checked(e, insn->shift == IR_INDEX_PRE ? a64_at_pre(transfer, n, insn->imm) : a64_at_post(transfer, n, insn->imm));
}

static void emit_load_moving(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  if (e->options->ordered && !e->misaligned) {
    IrInsn load = *insn;
    if (insn->shift == IR_INDEX_POST) load.imm = 0;
    put_ordered_load(e, &load, t, n);
    put(e, a64_add_signed(8, n, n, (int32_t)insn->imm));
    return;
  }
  put_moving(e, insn, a64_transfer(insn->size, load_opc(insn), t));
  if (e->options->ordered) put(e, A64_DMB_ISHLD);
}

static void emit_load_vector_moving(Emitter *e, const IrInsn *insn) {
  put_moving(e, insn, a64_transfer_vector(insn->size, A64_LOAD, vector(e, insn->reg[0])));
  if (e->options->ordered && !is_private(insn)) put(e, A64_DMB_ISHLD);
}

/* Stack accesses only, which are private to their thread (see PUSH). */
static void emit_pair(Emitter *e, const IrInsn *insn, bool load) {
  static const uint8_t form[] = {
      [IR_INDEX_OFFSET] = A64_PAIR_OFFSET, [IR_INDEX_PRE] = A64_PAIR_PRE, [IR_INDEX_POST] = A64_PAIR_POST};
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]), t2 = general(e, insn->reg[2]);
  put_checked(e, a64_pair(load, (A64PairIndex)form[insn->cond], t, t2, n, insn->imm));
}

/* Pushes and pops are plain accesses in every memory model: the slots above and at RSP become visible to
 * others only through a later store of a pointer or value, which is ordered. */
static void emit_push(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  put_checked(e, a64_at_pre(a64_transfer(8, A64_STORE, t), n, insn->imm));
}

static void emit_pop(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), t = general(e, insn->reg[0]);
  put_checked(e, a64_at_post(a64_transfer(8, A64_LOAD, t), n, insn->imm));
}

/* --- Locked operations ---------------------------------------------------------------------------- */

static A64Atomic lse_operation(IrOp op) {
  switch (op) {
  case IR_ATOMIC_ADD: return A64_LDADD;
  case IR_ATOMIC_CLEAR: return A64_LDCLR;
  case IR_ATOMIC_XOR: return A64_LDEOR;
  case IR_ATOMIC_OR: return A64_LDSET;
  default: return A64_SWP;
  }
}

/* What operation and m make of the old value in x16, in x17; a swap needs nothing. */
static bool put_new_value(Emitter *e, IrOp op, unsigned size, A64Reg m) {
  switch (op) {
  case IR_ATOMIC_ADD: put(e, a64_add(size, X17, X16, m)); return true;
  case IR_ATOMIC_CLEAR: put(e, a64_bic(size, X17, X16, m)); return true;
  case IR_ATOMIC_XOR: put(e, a64_eor(size, X17, X16, m)); return true;
  case IR_ATOMIC_OR: put(e, a64_orr(size, X17, X16, m)); return true;
  default: return false;
  }
}

/* The same with exclusives: x16 the old value until it is safe to write d, x17 the new one and status.
 * a64_decode_locked() knows these loops. */
static void put_exclusive_loop(Emitter *e, const IrInsn *insn, A64Reg d, A64Reg n, A64Reg m) {
  unsigned size = insn->size, wide = size == 8 ? 8 : 4;
  put(e, a64_ldaxr(size, X16, n));
  if (insn->op == IR_ATOMIC_CAS) {
    put(e, a64_eor(wide, X17, X16, d));
    if (size < 4) put(e, a64_zero_extend(size, X17, X17));
    put(e, a64_cbnz(wide, X17, 3 * 4)); /* past the loop */
    put(e, a64_stlxr(size, X17, m, n));
    put(e, a64_cbnz(4, X17, size < 4 ? -5 * 4 : -4 * 4));
  } else {
    bool made = put_new_value(e, (IrOp)insn->op, wide, m);
    A64Reg status = made ? X30 : X17; /* must differ from STLXR's value */
    put(e, a64_stlxr(size, status, made ? X17 : m, n));
    put(e, a64_cbnz(4, status, made ? -3 * 4 : -2 * 4));
  }
  if (d.number != A64_REG_ZERO) put(e, a64_mov(wide, d, X16));
  put(e, A64_DMB_ISH); /* exclusives alone do not order later loads */
}

static void emit_atomic(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), m = general(e, insn->reg[2]);
  A64Reg d = insn->reg[0] == IR_NONE ? XZR : general(e, insn->reg[0]);
  if (!(e->options->features & A64_HAS_LSE)) put_exclusive_loop(e, insn, d, n, m);
  else if (insn->op == IR_ATOMIC_CAS) put(e, a64_compare_and_swap(insn->size, d, m, n));
  else put(e, a64_atomic(insn->size, lse_operation((IrOp)insn->op), m, d, n));
}

/* --- Leaving the region --------------------------------------------------------------------------- */

static void add_exit(Emitter *e, A64ExitKind kind, uint64_t target) {
  A64Code *code = e->code;
  if (code->exit_count == A64_MAX_EXITS) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  code->exits[code->exit_count++] = (A64Exit){.guest_pc = target, .site = position(e), .branch = UINT32_MAX, .kind = (uint8_t)kind};
}

static void add_indirect_check(Emitter *e, unsigned label) {
  A64Code *code = e->code;
  if (code->indirect_count == A64_MAX_INDIRECT) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  code->indirect_checks[code->indirect_count++] = position(e);
  put_branch(e, a64_cbnz(8, X16, 0), label);
}

static inline void emit_exit(Emitter *e, const IrInsn *insn) {
  uint32_t number = e->code->exit_count;
  add_exit(e, A64_EXIT_JUMP, (uint64_t)insn->imm);
  if (e->code->exit_count > number) e->code->exits[number].x87_top = insn->cond;
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
}

/* (guest return address, host return address) onto the return-address stack; the host address is that of the
 * word `ahead` words after the ADR. */
static void put_shadow_push(Emitter *e, A64Reg guest_return, unsigned ahead) {
  put(e, a64_adr(X16, ahead * 4));
  put(e, a64_pair(false, A64_PAIR_PRE, guest_return, X16, XZR, -16)); /* XZR: SP */
}

static void emit_call(Emitter *e, const IrInsn *insn) {
  put_shadow_push(e, general(e, insn->reg[1]), 3);
  add_exit(e, A64_EXIT_CALL, (uint64_t)insn->imm);
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
}

/* Out of line: the branch cache has not got the target, or the prediction was wrong. X30 is where the check leads to. */
static void put_miss(Emitter *e, unsigned label, A64Reg target, A64Trampoline trampoline) {
  bool was_cold = e->cold;
  set_cold(e, true);
  e->labels[label] = position(e);
  put(e, a64_adr(X30, 0));
  put(e, a64_mov(8, X17, target));
  put_trampoline(e, false, trampoline);
  set_cold(e, was_cold);
}

/* A label beyond the builder's own, for misses. */
static unsigned new_label(Emitter *e) {
  if (e->next_label >= IR_MAX_LABELS) {
    e->status = A64_EMIT_TOO_LARGE;
    return 0;
  }
  e->labels[e->next_label] = UNBOUND;
  return e->next_label++;
}

/* Five instructions on a hit: index, entry, compare, go (x30 holds the host target). The cache is aligned to its
 * size, so that its register is base and entry at once. */
static void put_branch_cache(Emitter *e, A64Reg target, uint32_t branch) {
  unsigned miss = new_label(e);
  put(e, a64_bfi(A64_X(A64_REG_BRANCH_CACHE), target, 4, GUEST_BRANCH_CACHE_BITS));
  put(e, a64_pair(true, A64_PAIR_OFFSET, X16, X30, A64_X(A64_REG_BRANCH_CACHE), 0));
  put(e, a64_sub(8, X16, X16, target));
  add_indirect_check(e, miss);
  put(e, branch);
  put_miss(e, miss, target, A64_TRAMPOLINE_INDIRECT);
}
_Static_assert(sizeof(GuestBranchCacheEntry) == 16, "BFI above");

static void emit_exit_indirect(Emitter *e, const IrInsn *insn) {
  put_branch_cache(e, general(e, insn->reg[1]), a64_br(X30));
}

/* rn: target, rm: guest return address. */
static void emit_call_indirect(Emitter *e, const IrInsn *insn) {
  put_shadow_push(e, general(e, insn->reg[2]), 7);
  put_branch_cache(e, general(e, insn->reg[1]), a64_blr(X30));
}

static void emit_return(Emitter *e, const IrInsn *insn) {
  A64Reg target = general(e, insn->reg[1]);
  unsigned miss = new_label(e);
  put(e, a64_pair(true, A64_PAIR_POST, X16, X30, XZR, 16)); /* XZR: SP */
  put(e, a64_sub(8, X16, X16, target));
  add_indirect_check(e, miss);
  put(e, a64_ret(X30));
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
  if (insn->reg[1] != IR_NONE) put(e, a64_mov(8, X17, general(e, insn->reg[1])));
  put_const(e, X16, (uint64_t)insn->imm);
  put_trampoline(e, true, A64_TRAMPOLINE_HELPER);
}

/* --- Control inside the region -------------------------------------------------------------------- */

/* Branches backward to a block may loop for ever: they can be retargeted to an exit of their own when the
 * thread has to come out (A64_EXIT_LOOP). */
static void emit_branch(Emitter *e, const IrInsn *insn, uint32_t word) {
  unsigned label = (unsigned)insn->imm;
  bool loop = e->labels[label] != UNBOUND && e->label_pc[label] && !e->cold;
  uint32_t branch = position(e);
  put_branch(e, word, label);
  if (!loop) return;
  set_cold(e, true);
  for (unsigned left = e->label_uppers[label]; left; left &= left - 1) {
    unsigned number = (unsigned)__builtin_ctz(left);
    put(e, a64_store_upper(number, a64_upper_home(number)));
  }
  add_exit(e, A64_EXIT_LOOP, e->label_pc[label]);
  if (e->status == A64_EMIT_OK) e->code->exits[e->code->exit_count - 1].branch = branch;
  put_trampoline(e, true, A64_TRAMPOLINE_LINK);
  set_cold(e, false);
}

static void bind(Emitter *e, const IrInsn *insn, unsigned label, uint64_t pc) {
  e->labels[label] = position(e);
  e->label_pc[label] = pc;
  e->label_uppers[label] = e->uppers;
  bool exits = insn + 1 < e->b->insns + e->b->count && insn[1].op == IR_EXIT;
  e->label_exit[label] = exits ? (uint16_t)(e->code->exit_count + 1) : 0;
}

/* The cold rows' host offsets count from the cold part's beginning until the parts are joined. */
static __attribute__((noinline)) void map_cold_pc(Emitter *e) {
  if (e->cold_map_count == A64_MAX_PC_MAP) e->status = A64_EMIT_TOO_LARGE;
  else e->cold_map[e->cold_map_count++] = (A64PcMap){(uint16_t)(written(e) * 4), e->uppers, e->guest_offset};
}

static inline __attribute__((always_inline)) void map_pc(Emitter *e, uint32_t offset, uint16_t uppers) {
  A64PcMap *row = e->map_at;
  if (__builtin_expect(e->cold, 0)) {
    map_cold_pc(e);
    return;
  }
  if (row == e->map_limit) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  const uint64_t host = (uint16_t)((uintptr_t)e->at - (uintptr_t)e->start);
  const uint64_t all = host | (uint32_t)uppers << 16 | (uint64_t)offset << 32;
  __builtin_memcpy(row, &all, sizeof all);
  e->map_at = row + 1;
}
_Static_assert(sizeof(A64PcMap) == 8 && offsetof(A64PcMap, uppers) == 2 && offsetof(A64PcMap, guest_offset) == 4, "map_pc()");

static void emit_block(Emitter *e, const IrInsn *insn) {
  bind(e, insn, insn->shift, (uint64_t)insn->imm);
  A64Code *code = e->code;
  if (!insn->cond) return;
  if (code->entry_count == A64_MAX_ENTRIES) e->status = A64_EMIT_TOO_LARGE;
  else code->entries[code->entry_count++] = (A64Entry){(uint64_t)insn->imm, position(e)};
}

static void emit_cold_exit(Emitter *e, const IrInsn *insn) {
  unsigned label = insn->shift;
  set_cold(e, true);
  map_cold_pc(e);
  e->labels[label] = position(e);
  e->label_pc[label] = 0;
  e->label_exit[label] = (uint16_t)(e->code->exit_count + 1);
  emit_exit(e, insn);
  set_cold(e, false);
}

static void emit_move(Emitter *e, const IrInsn *insn) {
  A64Reg n = general(e, insn->reg[1]), d = general(e, insn->reg[0]);
  if (insn->size == 4 || d.number != n.number) put(e, a64_mov(insn->size, d, n));
}

static void emit_constant(Emitter *e, const IrInsn *insn) {
  A64Reg d = general(e, insn->reg[0]);
  if (d.number != A64_REG_ZERO) put_const(e, d, (uint64_t)insn->imm);
}

/* --- One operation -------------------------------------------------------------------------------- */

static inline uint32_t place(Emitter *e, unsigned kind, unsigned id) {
  return kind & IR_KIND_V ? vector(e, id).number : general(e, id).number;
}

/* Sources are placed and released before the destination takes a register, so that it may reuse theirs. */
static uint32_t place_temporaries(Emitter *e, const IrInsn *insn, const IrOpInfo *info) {
  static const uint8_t field[4] = {0, 5, 16, 10};
  uint32_t word = 0;
  unsigned temps = insn->temps, made = 0, changed = 0; /* written alone; written at all */
  for (unsigned k = 0; k < 4; k++) {
    unsigned kind = info->kind[k], id = insn->reg[k];
    if (!(temps >> k & 1)) word |= (id & 31) << field[k];
    else if (kind & IR_KIND_U) word |= place(e, kind, id) << field[k];
    else made |= 1u << k;
    if (kind & IR_KIND_D) changed |= 1u << k;
  }
  release_operands(e, insn, insn->last & ~changed);
  for (unsigned left = made; left; left &= left - 1) {
    unsigned k = (unsigned)__builtin_ctz(left);
    word |= place(e, info->kind[k], insn->reg[k]) << field[k];
  }
  release_operands(e, insn, insn->last & changed);
  return word;
}

/* The registers of an operation without temporaries, each in its field; IR_NONE is 0 there. */
static inline uint32_t plain_registers(const IrInsn *insn) {
  uint64_t all;
  __builtin_memcpy(&all, insn->reg, sizeof all);
  return (uint32_t)((all & 31) | (all >> 16 & 31) << 5 | (all >> 32 & 31) << 16 | (all >> 48 & 31) << 10);
}
_Static_assert((IR_NONE & 31) == 0 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "plain_registers()");

static inline void begin_guest_instruction(Emitter *e, const IrInsn *insn) {
  const uint32_t offset = ((uint32_t)((uint64_t)insn->imm - e->guest_entry) & 0x3fffffffu) | (uint32_t)insn->cond << 30;
  const uint16_t uppers = insn->shift;
  e->guest_offset = offset;
  e->uppers = uppers;
  if (__builtin_expect(e->asks_misaligned, 0)) e->misaligned = e->options->is_misaligned((uint64_t)insn->imm);
  map_pc(e, offset, uppers);
}

static inline void emit_plain(Emitter *e, const IrInsn *insn) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  uint32_t word = info->encoding | (uint32_t)insn->imm;
  if (info->sf && insn->size == 8) word |= 1u << 31;
  put(e, word | (insn->temps ? place_temporaries(e, insn, info) : plain_registers(insn)));
}

static inline void emit_one(Emitter *e, const IrInsn *insn) {
  if (insn->op == IR_GUEST) { /* most often */
    begin_guest_instruction(e, insn);
    return;
  }
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
  case IR_LOAD_MOVING: emit_load_moving(e, insn); break;
  case IR_LOADV_MOVING: emit_load_vector_moving(e, insn); break;
  case IR_ATOMIC_ADD:
  case IR_ATOMIC_OR:
  case IR_ATOMIC_CLEAR:
  case IR_ATOMIC_XOR:
  case IR_ATOMIC_SWAP:
  case IR_ATOMIC_CAS: emit_atomic(e, insn); break;
  case IR_LABEL: bind(e, insn, (unsigned)insn->imm, 0); break;
  case IR_B: emit_branch(e, insn, a64_b(0)); break;
  case IR_BCOND: emit_branch(e, insn, a64_b_cond(insn->cond, 0)); break;
  case IR_CBZ: emit_branch(e, insn, a64_cbz(insn->size, general(e, insn->reg[1]), 0)); break;
  case IR_CBNZ: emit_branch(e, insn, a64_cbnz(insn->size, general(e, insn->reg[1]), 0)); break;
  case IR_TBZ: emit_branch(e, insn, a64_tbz(general(e, insn->reg[1]), insn->cond, 0)); break;
  case IR_TBNZ: emit_branch(e, insn, a64_tbnz(general(e, insn->reg[1]), insn->cond, 0)); break;
  case IR_COLD_BEGIN:
    set_cold(e, true);
    e->uppers_before_cold = e->uppers;
    map_cold_pc(e);
    break;
  case IR_COLD_END:
    set_cold(e, false);
    e->uppers = e->uppers_before_cold;
    break;
  case IR_UPPERS: e->uppers = (uint16_t)insn->imm; break;
  case IR_LOOP_END: release_loop(e, insn); break;
  case IR_BLOCK: emit_block(e, insn); break;
  case IR_EXIT: emit_exit(e, insn); break;
  case IR_COLD_EXIT: emit_cold_exit(e, insn); break;
  case IR_EXIT_IND: emit_exit_indirect(e, insn); break;
  case IR_CALL: emit_call(e, insn); break;
  case IR_CALL_IND: emit_call_indirect(e, insn); break;
  case IR_RETURN: emit_return(e, insn); break;
  case IR_SYSCALL: emit_syscall(e, insn); break;
  case IR_RAISE: emit_raise(e, insn); break;
  case IR_HELPER: emit_helper(e, insn); break;
  case IR_NOP: return;
  default: emit_plain(e, insn); return;
  }
  if (insn->temps) release_operands(e, insn, insn->last);
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
    if (e->literals[i].guest_address && code->relocation_count < code->relocation_capacity)
      code->relocations[code->relocation_count++] = (A64Relocation){written(e), A64_RELOCATE_GUEST_ADDRESS, 0};
    put(e, (uint32_t)e->literals[i].value);
    put(e, (uint32_t)(e->literals[i].value >> 32));
  }
  if (e->status != A64_EMIT_OK) return;
  for (unsigned i = 0; i < e->literal_use_count; i++) {
    uint32_t at = final_index(code, e->literal_uses[i].position);
    code->words[at] |= ((first + 2 * e->literal_uses[i].literal - at) & 0x7ffff) << 5;
  }
}

static void resolve_branches(Emitter *e) {
  A64Code *code = e->code;
  for (unsigned i = 0; i < e->fixup_count; i++) {
    uint32_t at = final_index(code, e->fixups[i].position);
    unsigned label = e->fixups[i].label;
    int64_t distance = ((int64_t)final_index(code, e->labels[label]) - at) * 4;
    uint32_t word = a64_retarget(code->words[at], distance);
    if (!word) e->status = A64_EMIT_TOO_LARGE;
    code->words[at] = word;
    unsigned exit = label < e->b->next_label ? e->label_exit[label] : 0;
    if (exit) code->exits[exit - 1].branch = code->exits[exit - 1].branch == UINT32_MAX ? at : UINT32_MAX - 1;
  }
}

static void join(Emitter *e) {
  A64Code *code = e->code;
  set_cold(e, false);
  code->hot_count = written(e);
  for (const uint32_t *word = e->cold_words; word < e->other_at; word++) put(e, *word);
  if (e->status != A64_EMIT_OK) return;
  for (uint32_t i = 0; i < code->exit_count; i++) {
    code->exits[i].site = final_index(code, code->exits[i].site) * 4;
    if (code->exits[i].kind == A64_EXIT_LOOP) code->exits[i].branch = final_index(code, code->exits[i].branch);
  }
  for (uint32_t i = 0; i < code->entry_count; i++)
    code->entries[i].host_offset = final_index(code, code->entries[i].host_offset) * 4;
  for (uint32_t i = 0; i < code->relocation_count; i++)
    code->relocations[i].word = final_index(code, code->relocations[i].word);
  for (uint32_t i = 0; i < code->indirect_count; i++)
    code->indirect_checks[i] = final_index(code, code->indirect_checks[i]) * 4;
  code->pc_map_count = code->cold_pc_map = (uint32_t)(e->map_at - code->pc_map);
  if (code->pc_map_count + e->cold_map_count > A64_MAX_PC_MAP) {
    e->status = A64_EMIT_TOO_LARGE;
    return;
  }
  for (uint32_t i = 0; i < e->cold_map_count; i++)
    code->pc_map[code->pc_map_count++] =
        (A64PcMap){(uint16_t)(e->cold_map[i].host_offset + code->hot_count * 4), e->cold_map[i].uppers,
                   e->cold_map[i].guest_offset};
  code->instruction_count = written(e);
  if (code->instruction_count > UINT16_MAX / 4) e->status = A64_EMIT_TOO_LARGE; /* for A64PcMap.host_offset */
  append_literals(e);
  if (e->status != A64_EMIT_OK) return;
  code->count = written(e);
  resolve_branches(e);
  for (uint32_t i = 0; i < code->exit_count; i++)
    if (code->exits[i].branch < UINT32_MAX - 1) code->exits[i].branch *= 4;
    else code->exits[i].branch = UINT32_MAX;
}

/* Some of them twice: a call of memset() would take longer. */
static inline void unbind_labels(Emitter *e, unsigned count) {
  const uint64_t two = (uint64_t)UNBOUND << 32 | UNBOUND;
  for (unsigned i = 0; i < count; i += 2) __builtin_memcpy(&e->labels[i], &two, sizeof two);
}
_Static_assert(IR_MAX_LABELS % 2 == 0, "unbind_labels()");

static void begin(Emitter *e, const IrBuilder *b, const A64EmitOptions *options, A64Code *code) {
  e->b = b;
  e->options = options;
  e->code = code;
  e->status = A64_EMIT_OK;
  e->cold = false;
  e->at = e->start = code->words;
  e->limit = code->words + code->capacity;
  e->other_at = e->cold_words;
  e->map_at = code->pc_map;
  e->map_limit = code->pc_map + A64_MAX_PC_MAP;
  e->free_general = A64_TEMPS;
  e->free_vector = A64_VECTOR_TEMPS & ~b->vector_homes;
  e->guest_entry = options->guest_entry;
  e->guest_offset = 0;
  e->uppers = 0;
  e->asks_misaligned = options->is_misaligned != NULL;
  e->misaligned = false;
  e->fixup_count = e->literal_count = e->literal_use_count = e->cold_map_count = 0;
  e->literals_met = 0;
  e->next_label = b->next_label;
  unbind_labels(e, b->next_label);
  code->count = code->exit_count = code->entry_count = code->indirect_count = 0;
  code->pc_map_count = code->relocation_count = 0;
}

A64EmitStatus a64_emit(A64Emitter *e, const IrBuilder *b, const A64EmitOptions *options, A64Code *code) {
  begin(e, b, options, code);
  scan_lifetimes(e);
  for (const IrInsn *insn = b->insns, *end = insn + b->count; insn < end; insn++) emit_one(e, insn);
  if (e->status == A64_EMIT_OK) join(e);
  return e->status;
}
