/* Lifting: one decoded x86 instruction to IR operations.
 *
 * Each mnemonic has a row (integer.def, sse.def, x87.def …: LIFT(MNEMONIC, function, argument)) naming the
 * function that lifts it. A lift function
 *   - writes a guest register (x0-x15, v0-v15) only after the instruction's last operation that may
 *     fault, so that faults are precise;
 *   - delivers exactly the flags in l->live_flags (liveness has been computed), by the functions below;
 *   - clobbers NZCV only through those functions, or between lift_flags_save() and _restore(), or
 *     freely when it writes all live flags itself afterwards.
 * Unsupported forms call lift_undefined(), which raises #UD at run time. */
#ifndef STELE_LIFT_LIFT_H
#define STELE_LIFT_LIFT_H

#include "guest/state.h"
#include "ir/ir.h"
#include "region/region.h"
#include "x86/decode.h"

/* Where the guest's flags are while a block is lifted. */
typedef enum FlagForm {
  FLAGS_CANONICAL, /* NZCV = SF ZF !CF OF */
  FLAGS_DIRECT,    /* NZCV = SF ZF CF OF: after additions, logic */
  FLAGS_FCMP,      /* NZCV as FCMP leaves it: after UCOMISD; PF is V */
  FLAGS_LOGIC      /* as DIRECT with C and V known to be 0 */
} FlagForm;

/* What is known of the x87 stack while a block is lifted (lift/x87/state.c). */
typedef struct LiftX87 {
  bool known;         /* `top` has been checked in this block; otherwise it is a guess */
  bool guessed;       /* a block before this one says so; otherwise its first instruction has to */
  uint8_t top;        /* slot of ST(0) */
  uint8_t valid;      /* slots known not to be empty */
  uint8_t empty;      /* slots known to be empty */
  uint8_t ordinary;   /* slots known to hold what code in place works on (lift/x87/inline.c) */
  bool usual;         /* GuestX87.unusual is known to be 0 */
  uint8_t held;       /* 1 + a slot whose value is in temporaries, too, for the instruction after `held_index`; 0: none */
  IrReg held_significand, held_sign_exponent;
  uint32_t held_index;
  int owed;           /* what GuestX87's valid and top, one halfword, lack: changes made by instructions before */
  bool maybe_pending; /* an unmasked exception may have come up since it was last looked for */
  bool mmx;           /* the registers are known to be in MMX use: rotation 0, top 0, all valid */
} LiftX87;

/* What of it the next block is told where it has no other way in. */
typedef struct LiftX87Passed {
  uint8_t top, valid, empty, ordinary;
  bool known, usual, maybe_pending, mmx;
} LiftX87Passed;

/* XMM registers whose upper part is known to be zero at this point of the block (bit n: XMMn), as after a
 * MOVSD load: scalar results then need no merging. lift/vector/sse.c keeps it. */
typedef struct LiftVectors {
  uint16_t zero_above4, zero_above8; /* bytes 4-15, bytes 8-15 */
  uint16_t zero_above16;             /* YMM registers' upper halves (lift/vector/ymm.c) */
} LiftVectors;

/* Upper halves of YMM registers (bit n: of YMMn): which have homes in host registers in this region, and what is known of
 * them (lift/vector/uppers.c); and of the others, which live in GuestCpu.upper, the temporaries that hold them as well and
 * are not changed. */
typedef struct LiftUppers {
  bool planned;    /* `homes` have been given out, perhaps none */
  bool wanted;     /* something asked for one before: the region is to be lifted again */
  uint16_t homes;
  uint16_t loaded; /* of those: the home holds the value */
  uint16_t dirty;  /* of `loaded`: GuestCpu.upper does not */
  uint16_t valid;
  uint16_t same;   /* equal to the lower half, as after a broadcast, which serves for it */
  uint16_t stored; /* store[n] is known */
  uint16_t temp[16];
  uint32_t used[16], store[16]; /* IR index: when last used; of the last store */
} LiftUppers;

/* A half of a VEX instruction while the function of its SSE relative lifts it (lift/vector/vex.c). */
typedef struct LiftVex {
  bool active;
  IrVec source[3]; /* first and second, and the mask of a blend; not to be written */
  IrVec result;
  uint8_t zero_above; /* bytes of the result above which it is known to be zero; 16 otherwise */
  bool dirty_above;   /* above a scalar result stands anything, not zeros */
} LiftVex;

/* Scalars just merged into XMM registers: the temporaries they came from, and the merging operations, which
 * are not needed when another one follows before anybody looks (lift/vector/sse.c). */
typedef struct LiftScalars {
  uint16_t valid;     /* bit n: XMMn */
  uint16_t temp[16];
  uint32_t merge[16]; /* IR index */
} LiftScalars;

/* Temporaries that PSHUFBs have left in this block, or IR_NONE: the bits of a mask that count, and those of the mask in
 * XMM register `number` as long as nothing writes that. */
typedef struct LiftShuffle {
  IrVec bits, mask;
  uint8_t number;
} LiftShuffle;

/* A test whose only reader is the conditional jump right behind it: no flags are made, the jump looks
 * at the register itself (CBZ, TBZ). */
typedef enum LiftFusedKind { FUSED_NONE, FUSED_ZERO, FUSED_BIT } LiftFusedKind;
typedef struct LiftFused {
  uint8_t kind; /* LiftFusedKind */
  uint8_t size, bit;
  bool even_if_clear; /* FUSED_BIT: the condition with an even number holds when the bit is clear */
  IrReg reg;
} LiftFused;

/* What is known of a general register, and used where instructions of 8 and 16 bits read it. */
typedef enum LiftKnown {
  KNOWN_NOTHING,
  KNOWN_ZERO,                   /* it is 0 */
  KNOWN_ZERO8, KNOWN_ZERO16,    /* all bits above the lowest 8 or 16 are 0 */
  KNOWN_SIGN8, KNOWN_SIGN16,    /* bits 8 or 16 to 31 are copies of the bit below */
  KNOWN_RAX_SIGN32, KNOWN_RAX_SIGN64 /* of RDX: copies of bit 31 in its lower half, of bit 63 in all of it, of RAX */
} LiftKnown;

/* Floating-point instructions in a row whose NaNs are checked once, after the last (lift/vector/group.c). */
enum { LIFT_GROUP_MAX = 24 };
typedef struct LiftGroup {
  uint8_t count;      /* instructions; 0: no group is open */
  uint8_t saves;      /* registers in save[] and save_upper[] */
  bool unchecked;     /* an arithmetic result has not been checked */
  bool replay;        /* the cold path is being lifted: check each result at once */
  bool fma;           /* it has instructions that set the host's invalid flag unduly, and began with that clear */
  bool settled;       /* it began with that clear */
  bool legacy, wide;  /* it has instructions without VEX; with 256 bits: never both */
  uint16_t read;      /* registers whose values from before the group are read */
  uint16_t read_wide; /* of those: upper halves, too */
  uint16_t written, saved, saved_upper; /* registers written, kept in save[] and save_upper[] */
  uint16_t partial4, partial8; /* registers of which only the low bytes were written at first */
  uint16_t general;   /* general registers read: addresses, sources */
  uint16_t pending, pending_wide; /* registers with results of FMA that have not been looked at; with 256 bits */
  uint32_t last_save; /* IR index of the move into the temporary made for the last instruction, or 0 */
  LiftVectors vectors; /* known where the group begins */
  /* From here on: nothing that counts by itself, and that would have to be cleared. */
  uint16_t save[16], save_upper[16]; /* vector temporaries */
  uint8_t pending_format[16];        /* SseFormat */
  const X86Insn *insns[LIFT_GROUP_MAX];
  uint64_t pcs[LIFT_GROUP_MAX];
} LiftGroup;

/* SHA256RNDS2 does four rounds for two (lift/vector/sha.c): the result of the one at `index` of the region (0: none), and
 * the state behind it as AArch64 orders it, to go on from while nothing else writes the two registers. */
typedef struct LiftSha {
  uint32_t index;
  uint32_t done; /* index of the instruction that ended these rounds; 0: no state */
  uint8_t abef, cdgh;
  IrVec abcd, efgh;
} LiftSha;

/* A guest address made in a temporary for an access relative to RIP, which those to addresses close by can use while
 * no path joins (IrBuilder.joins). */
typedef struct LiftAddress {
  IrReg temp; /* IR_NONE in a new region */
  uint64_t address;
  uint32_t index; /* of the instruction */
  uint16_t joins;
} LiftAddress;

/* A sum of a guest register and a multiple of 4096, or of two guest registers, in a temporary, which accesses shortly behind
 * can use as long as the registers do not change and no path joins. */
typedef struct LiftSum {
  IrReg temp; /* IR_NONE in a new region */
  IrReg base, index;
  int64_t high; /* what is added; how far the index is shifted */
  uint32_t at; /* index of the instruction */
  uint16_t joins;
  uint32_t first, looked_at; /* IR indices: behind its making; up to where the registers are known not to change */
} LiftSum;

/* What a basic block is told by those lifted before it; by the index of its first instruction. */
typedef struct LiftBlock {
  uint16_t label;
  uint8_t entry_form;   /* FlagForm at its beginning */
  uint8_t x87_top;      /* 1 + the slot that a block branching here leaves ST(0) in; 0: none has yet */
  bool form_known;      /* entry_form and vectors were inherited from the only predecessor */
  LiftVectors vectors;
  LiftX87Passed x87;    /* as the vectors */
  uint64_t known;       /* Lift.known at its beginning, as the vectors */
  uint16_t uppers_loaded, uppers_dirty; /* LiftUppers at its beginning; of several ways in all have to see to it */
} LiftBlock;

typedef struct Lift Lift;
struct Lift {
  IrBuilder b;
  uint64_t pc, next_pc;  /* of the instruction being lifted and of the one after */
  uint32_t features;     /* A64_HAS_* */
  bool ordered;          /* memory accesses keep x86 order */
  bool extended;         /* XCR0 has AVX: its state and instructions are there */
  uint8_t live_flags;    /* X86_F_*: wanted after this instruction */
  uint8_t form;          /* FlagForm now */
  uint32_t index;        /* of the instruction in the region */
  LiftFused fused;
  uint64_t known;        /* LiftKnown of the general registers, RAX in the lowest four bits (lift/integer/known.c) */
  LiftAddress address;
  LiftSum distant, indexed;
  uint32_t sse_begin;    /* IR index where the instruction's operations begin */
  LiftScalars scalars;
  LiftShuffle shuffle;
  LiftUppers uppers;
  bool settled;      /* the host's invalid flag is clear; not known where a block begins */
  LiftVex vex;
  LiftSha sha;           /* zero where a region begins */
  LiftGroup group; /* zero where a region begins */
  LiftVectors vectors; /* zero where a block begins: lift_sse_block() */
  LiftX87 x87; /* zero where a region begins; lift_x87_block() where a block begins */
  const LiftRegion *region; /* control flow around the instruction */
  uint8_t homes_left_out; /* of the A64_UPPER_HOMES that upper halves may have: others need the registers */
  uint8_t entry_x87_top; /* LiftBlock.x87_top of the entry; 0: not known */
  LiftBlock blocks[REGION_MAX_INSNS + 1];
};

/* Lifts all of a region, decoded and analysed, into l->b. l's features, memory model and `extended` are set. */
void lift_region(Lift *l, const LiftRegion *region);

typedef void LiftFunction(Lift *l, const X86Insn *insn, uint32_t argument);

/* --- Operands (lift/operands.c) --- */

/* The guest address of a memory operand, legal for an access of `size` bytes in the region's memory
 * model. lift_address_register() gives it as one register (for LEA-like uses, atomics, several accesses);
 * it may be a guest register itself: copy before writing guest registers. */
IrAddress lift_address(Lift *l, const X86Insn *insn, unsigned size);
IrReg lift_address_register(Lift *l, const X86Insn *insn);
/* Base plus index of an address that has both and no segment, without its displacement; not to be changed. */
IrReg lift_indexed_base(Lift *l, const X86Insn *insn);
/* The same for an access of a vector register, which barriers order, so that any address will do. */
IrAddress lift_vector_address(Lift *l, const X86Insn *insn, unsigned size);
IrAddress lift_vector_offset(Lift *l, IrReg base, int64_t offset, unsigned size);
/* The same address `offset` bytes further. */
IrAddress lift_address_offset(Lift *l, IrReg base, int64_t offset, unsigned size);

static inline IrReg lift_gpr(unsigned number) { return (IrReg){(uint16_t)number}; }
static inline IrVec lift_xmm(unsigned number) { return (IrVec){(uint16_t)number}; }

/* Value of an integer operand (register, memory, immediate), zero-extended to 64 bits when its size is
 * below 4. It may be the guest register itself: one of 4 bytes, whose upper half must not be read, or of 8, or of 1 or
 * 2 where it is known to be extended. */
IrReg lift_read(Lift *l, const X86Insn *insn, unsigned operand);
/* Writes an integer operand by x86's rules: 4 bytes zero-extend, 1 and 2 merge, memory is stored. */
void lift_write(Lift *l, const X86Insn *insn, unsigned operand, IrReg value);

/* XMM or memory operand as a vector register: 16 bytes, or the low `size` bytes with zeros above when it
 * comes from memory (from a register: the whole register, unchanged). */
IrVec lift_read_vector(Lift *l, const X86Insn *insn, unsigned operand, unsigned size);

/* --- Flags (lift/flags.c) --- */

/* NZCV has just been set by FCMP of the operands of (U)COMISS/SD: all six status flags are defined. */
void lift_flags_fcmp(Lift *l);
/* Sets SF, ZF, CF, OF from bits 31, 30, 29 (inverted carry: 1 means CF = 0), 28 of `nzcv`, PF and AF to 0;
 * only what is live costs anything. */
void lift_flags_nzcv(Lift *l, IrReg nzcv);
/* ZF := (value == 0), CF := carry (a register holding 0 or 1; IR_NO_REG: 0), SF OF PF AF := 0. */
void lift_flags_zero_carry(Lift *l, unsigned size, IrReg value, IrReg carry);
/* NZCV kept across operations that destroy it; nothing is emitted where no flag is live. */
IrReg lift_flags_save(Lift *l);
void lift_flags_restore(Lift *l, IrReg saved);
/* True when NZCV holds flags someone still reads (before or after this instruction). */
bool lift_flags_busy(const Lift *l);

/* --- Leaving (lift/control.c) --- */
void lift_undefined(Lift *l, const X86Insn *insn, uint32_t argument);
/* Raises exception `vector` at this instruction when `condition` holds (out of line). */
/* Beside the processor's exceptions: checked code has found its bytes changed; or has found them the same as often as
 * GuestCpu.check_budget said; TF has been set, to go on at GuestCpu.raise_error; no trap follows this instruction;
 * an exception of SSE has been unmasked for the first time. */
enum { LIFT_CODE_CHANGED = 0xf0, LIFT_CODE_STABLE = 0xf1, LIFT_STEP = 0xf2, LIFT_STEP_HELD = 0xf3, LIFT_FLOAT_TRAPS = 0xf4 };
void lift_raise_if_zero(Lift *l, unsigned size, IrReg value, int vector);
void lift_raise_if_not_zero(Lift *l, unsigned size, IrReg value, int vector);
/* #GP(0) where the address is not canonical: bits 63 to 47 are not all the same (Intel SDM volume 1, 3.3.7.1). */
void lift_check_canonical(Lift *l, IrReg address);
void lift_raise(Lift *l, int vector);
/* The same, reporting `pc`. */
void lift_raise_at(Lift *l, int vector, uint64_t pc);

/* Calls the C function of helpers.def's row with (cpu, argument). Guest general registers and flags are
 * synchronised before and reloaded after; vector registers are untouched by C code and not synchronised:
 * store them with ir_store_state_vector() where the helper wants them, and reload what it changed.
 * Temporaries survive. */
typedef enum LiftHelper {
#define HELPER(name, function) LIFT_HELPER_##name,
#include "lift/helpers.def"
#undef HELPER
  LIFT_HELPER_COUNT
} LiftHelper;
void lift_helper(Lift *l, LiftHelper helper, IrReg argument);
void lift_helper_imm(Lift *l, LiftHelper helper, uint64_t argument);
/* The same for a helper that looks at no flags: they keep their form, as they must in a cold path that comes back. */
void lift_plain_helper(Lift *l, LiftHelper helper, IrReg argument);
void lift_plain_helper_imm(Lift *l, LiftHelper helper, uint64_t argument);

static inline LiftKnown lift_known(const Lift *l, unsigned reg) { return (LiftKnown)(l->known >> 4 * reg & 15); }
/* Whether the register is its lowest `size` (1 or 2) bytes zero-extended to 64 bits, or sign-extended to 32. */
bool lift_known_zero_extended(const Lift *l, unsigned reg, unsigned size);
bool lift_known_sign_extended(const Lift *l, unsigned reg, unsigned size);
/* The lowest `size` bytes have been written, those above are what they were. */
void lift_known_merged(Lift *l, unsigned reg, unsigned size);
/* The instruction has been lifted: what is known behind it. */
void lift_known_after(Lift *l, const X86Insn *insn);

/* The basic block at l->index begins: nothing is known of the x87 stack but a guess. */
void lift_x87_block(Lift *l);
/* What a block is told that the one being lifted leads to (LiftBlock.x87). */
LiftX87Passed lift_x87_passed(const Lift *l);

/* After an instruction that has left l->x87.owed: brings the state up to date unless one of the same kind follows. */
void lift_x87_settle(Lift *l);

/* Before an instruction with MMX operands: the x87 registers become MMX ones (rotation and top 0, all valid;
 * Intel SDM volume 1, 9.5). Costs nothing where l->x87.mmx. lift/x87/state.c. */
void lift_x87_enter_mmx(Lift *l);

/* Around the lifting of every instruction: lift_sse_enter() before, lift_sse_leave() after it with the instruction
 * that certainly follows, NULL if none does. They open and close groups. */
void lift_sse_enter(Lift *l, const X86Insn *insn);
void lift_sse_leave(Lift *l, const X86Insn *next);

/* Unmasked exceptions of SSE (lift/vector/traps.c): whether the instruction is to look whether it has raised one, and
 * around it; and behind every instruction that loads MXCSR. */
bool lift_sse_may_trap(const X86Insn *insn);
static inline bool lift_sse_traps(const Lift *l, const X86Insn *insn) {
  return l->region->float_traps && lift_sse_may_trap(insn);
}
void lift_sse_trap_begin(Lift *l, const X86Insn *insn);
void lift_sse_trap_end(Lift *l, const X86Insn *insn);
void lift_sse_mxcsr_loaded(Lift *l);

/* --- Upper halves in registers (lift/vector/uppers.c) --- */

/* Chooses which upper halves of the region's YMM registers have homes, and what each block may expect to find there. */
void lift_uppers_plan(Lift *l);
/* The basic block at l->index begins, in place of the mark BLOCK: what is known there, and a way in from outside. */
void lift_uppers_begin_block(Lift *l, const LiftBlock *block);
/* Before control leaves the region: GuestCpu.upper becomes what it should be. What is known stays. */
void lift_uppers_store(Lift *l);
static inline void lift_uppers_leave(Lift *l) {
  if (l->uppers.dirty) lift_uppers_store(l);
}
/* The same, and whatever follows may have changed them, or looks at them in memory. */
void lift_uppers_forget(Lift *l);
/* Before control goes to the block at `index`, which several ways lead to: they become what it expects. */
void lift_uppers_convert(Lift *l, uint32_t index);
static inline void lift_uppers_settle(Lift *l, uint32_t index) {
  if (l->uppers.homes) lift_uppers_convert(l, index);
}
/* Whether that takes any operation. */
bool lift_uppers_differ(const Lift *l, uint32_t index);

static inline void lift_group_clear(LiftGroup *group) { __builtin_memset(group, 0, offsetof(LiftGroup, save)); }

/* A region begins: no group is open, no rounds have been done. */
static inline void lift_sse_region(Lift *l) {
  lift_group_clear(&l->group);
  l->vex.active = false;
  l->sha = (LiftSha){0};
}

/* A basic block begins: nothing is known of the vector registers. */
static inline void lift_sse_block(Lift *l) {
  l->vectors = (LiftVectors){0};
  l->scalars.valid = 0;
  l->uppers.loaded = l->uppers.dirty = l->uppers.valid = l->uppers.same = l->uppers.stored = 0;
  l->settled = false;
  l->shuffle = (LiftShuffle){{IR_NONE}, {IR_NONE}, 0};
}

/* The row of a mnemonic; function NULL where it cannot be lifted. */
typedef struct LiftRow {
  LiftFunction *function;
  uint32_t argument;
  bool extended; /* #UD unless Lift.extended */
} LiftRow;
extern const LiftRow lift_rows[X86_MNEMONIC_COUNT];

#endif
