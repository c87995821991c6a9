/* The intermediate representation: AArch64-shaped three-address operations over registers.
 *
 * A register number below 32 is the host register of that number, so guest registers are simply x0-x15
 * and v0-v15 (a64/registers.h); numbers from IR_TEMP_FIRST up are temporaries, local to a basic block,
 * given host registers when code is emitted. General and vector registers are numbered separately and
 * have distinct C types.
 *
 * Guest registers are written in program order and never before the last access of the guest
 * instruction that may fault, so that at every faulting access the host registers hold the precise
 * guest state of the instruction's beginning. Lifting keeps this rule, the passes preserve it. */
#ifndef STELE_IR_IR_H
#define STELE_IR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "a64/registers.h"

typedef enum IrOp {
#define IR_A64(name, ...) IR_##name,
#define IR_PSEUDO(name, ...) IR_##name,
#include "ir/ops.def"
#include "ir/ops-vector.def"
#undef IR_A64
#undef IR_PSEUDO
  IR_OP_COUNT
} IrOp;

typedef struct IrReg { uint16_t id; } IrReg; /* general */
typedef struct IrVec { uint16_t id; } IrVec; /* vector */
typedef struct IrLabel { uint16_t id; } IrLabel;

enum {
  IR_TEMP_FIRST = 32,
  IR_NONE = 0xffe0, /* no register in this field; its low five bits are 0, as in an encoding without one */
  IR_MAX_TEMPS = 4096,
  IR_MAX_INSNS = 16384,
  IR_MAX_LABELS = 2048,
  IR_MAX_STACK = 128,
  IR_MAX_COPIES = 64,
  IR_MAX_MOVES = 512,
  IR_MAX_STEPS = 64
};

#define IR_ZERO ((IrReg){A64_REG_ZERO})
#define IR_CPU ((IrReg){A64_REG_CPU})
#define IR_VECTOR_ZERO ((IrVec){A64_VREG_ZERO})
#define IR_NO_REG ((IrReg){IR_NONE})

/* How LOAD widens. */
enum { IR_EXTEND_ZERO, IR_EXTEND_SIGN32, IR_EXTEND_SIGN64 };
/* Of a BFM: all bits of rd that it keeps are zero. */
enum { IR_MERGE_BARE = 1 };
/* Addressing of pairs. */
enum { IR_INDEX_OFFSET, IR_INDEX_PRE, IR_INDEX_POST };

/* Operand kinds and effects of an operation (ops.def). */
enum { IR_KIND_N = 0, IR_KIND_G = 1, IR_KIND_V = 2, IR_KIND_D = 4, IR_KIND_U = 8 };
enum {
  IR_EFFECT_RF = 1, IR_EFFECT_WF = 2, IR_EFFECT_LD = 4, IR_EFFECT_ST = 8,
  IR_EFFECT_SB = 16, IR_EFFECT_CT = 32, IR_EFFECT_CL = 64
};

typedef struct IrOpInfo {
  uint32_t encoding;
  uint8_t sf;
  uint8_t kind[4]; /* rd, rn, rm, ra: IR_KIND_* */
  uint8_t effects;
  bool pseudo;
} __attribute__((aligned(16))) IrOpInfo; /* the size makes indexing a shift */

extern const IrOpInfo ir_op_info[IR_OP_COUNT];
const char *ir_op_text(IrOp op);

typedef struct IrInsn {
  uint16_t op;
  uint8_t size;  /* bytes operated on: 4 or 8 for IR_A64 with sf; 1-16 for memory */
  uint8_t cond;  /* condition, extension, bit number, vector: by operation */
  uint16_t reg[4]; /* rd, rn, rm, ra */
  uint16_t shift;  /* LOAD/STORE: left shift of the index register; BLOCK: label */
  uint8_t temps;   /* bit k: reg[k] is a temporary (ir_note_temps) */
  uint8_t last;    /* of those: which are not used any more afterwards (a64/emit.c finds out) */
  int64_t imm;
} IrInsn;

static inline unsigned ir_is_temp(unsigned id) { return (uint16_t)(id - IR_TEMP_FIRST) < IR_NONE - IR_TEMP_FIRST; }

/* Leaves out an operation; its place in the list stays. */
static inline void ir_make_nop(IrInsn *insn) {
  *insn = (IrInsn){.op = IR_NOP, .size = 8, .reg = {IR_NONE, IR_NONE, IR_NONE, IR_NONE}};
}

/* Which of the four fields of IrInsn.reg, as one word, name temporaries: all at once, as every operation is asked for. */
static inline unsigned ir_temps_of(uint64_t regs) {
  const uint64_t each = UINT64_C(0x0001000100010001), top = each << 15;
  uint64_t temps = ((regs & ~top) + each * (0x8000 - IR_TEMP_FIRST)) & ~regs & top;
  temps >>= 15;
  temps |= temps >> 15;
  return (unsigned)(temps | temps >> 30) & 15;
}
_Static_assert(IR_MAX_TEMPS <= 0x8000 && IR_NONE >= 0x8000 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ir_temps_of()");

/* To be called after changing an operation's registers. */
static inline void ir_note_temps(IrInsn *insn) {
  uint64_t regs;
  __builtin_memcpy(&regs, insn->reg, sizeof regs);
  insn->temps = (uint8_t)ir_temps_of(regs);
}

/* All of an operation in four stores: op, size, cond; reg; shift, temps, last; imm. */
static inline void ir_put(IrInsn *insn, uint32_t head, uint64_t regs, uint32_t tail, int64_t imm) {
  __builtin_memcpy(insn, &head, sizeof head);
  __builtin_memcpy(insn->reg, &regs, sizeof regs);
  __builtin_memcpy(&insn->shift, &tail, sizeof tail);
  insn->imm = imm;
}
_Static_assert(offsetof(IrInsn, size) == 2 && offsetof(IrInsn, cond) == 3 && offsetof(IrInsn, reg) == 4 &&
                   offsetof(IrInsn, temps) == offsetof(IrInsn, shift) + 2 && offsetof(IrInsn, last) == offsetof(IrInsn, temps) + 1,
               "ir_put()");

typedef struct IrBuilder {
  IrInsn *insns; /* IR_MAX_INSNS, owned by the caller */
  uint32_t count;
  uint16_t next_temp, next_vector_temp, next_label;
  bool overflow; /* some limit was reached: the region must be made smaller */
  /* What the passes would otherwise have to search all operations for. */
  bool has_calls, has_loops;  /* HELPER or SYSCALL; LOOP_END */
  uint16_t joins; /* blocks and labels so far in line: where it is the same, what was made before is there */
  uint16_t joins_in_line;
  bool cold;      /* between COLD_BEGIN and COLD_END */
  uint32_t vector_homes; /* host registers beyond the guest's own that the region has a fixed use for: no temporaries */
  uint16_t stack_count, copy_count, move_count, merge_count, step_count;
  uint16_t stack[IR_MAX_STACK]; /* positions of the first PUSHes and POPs */
  uint16_t copies[IR_MAX_COPIES]; /* positions of the first moves between host registers */
  uint16_t moves[IR_MAX_MOVES];   /* positions of the first MOVs of temporaries, ascending */
  uint16_t merges[IR_MAX_MOVES];  /* positions of the first BFMs */
  uint16_t steps[IR_MAX_STEPS];   /* positions of the first ADDIs and SUBIs to guest registers themselves */
} IrBuilder;

void ir_reset(IrBuilder *b);

/* New temporaries and labels. */
IrReg ir_temp(IrBuilder *b);
IrVec ir_vector_temp(IrBuilder *b);
IrLabel ir_label(IrBuilder *b);

/* Appends any operation; register fields are plain numbers, IR_NONE where absent. */
IrInsn *ir_emit(IrBuilder *b, IrOp op, unsigned size, unsigned rd, unsigned rn, unsigned rm, int64_t imm);

/* GUEST or BLOCK: where guest instructions and basic blocks begin; cond and shift as ops.def says. */
static inline void ir_mark(IrBuilder *b, IrOp op, uint64_t guest_pc, unsigned cond, unsigned shift) {
  if (op == IR_BLOCK) b->joins++;
  if (b->count == IR_MAX_INSNS - 1) b->overflow = true;
  else b->count++;
  const uint64_t none = UINT64_C(0x0001000100010001) * IR_NONE;
  ir_put(&b->insns[b->count - 1], op | 8 << 16 | cond << 24, none, shift, (int64_t)guest_pc);
}

/* --- Integer operations (size 4 or 8) --- */
void ir_rrr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m);
/* With the second source shifted: shift 0 LSL, 1 LSR, 2 ASR, 3 ROR (logical operations only). */
void ir_rrr_shift(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, unsigned shift, unsigned amount);
void ir_rrrr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, IrReg a);
void ir_rr(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n);
void ir_mov(IrBuilder *b, unsigned size, IrReg d, IrReg n);
void ir_const(IrBuilder *b, IrReg d, uint64_t value);
void ir_guest_address(IrBuilder *b, IrReg d, uint64_t address);
/* d := n + value by the shortest sequence; value any 64-bit number. */
void ir_add_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, int64_t value);
/* True when ADDI/SUBI can hold `value` (as its absolute value). */
bool ir_fits_add(int64_t value);
/* op is IR_AND, IR_ANDS, IR_ORR or IR_EOR; uses the immediate form when it exists. */
void ir_logic_imm(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, uint64_t value);
void ir_lsl_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount);
void ir_lsr_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount);
void ir_asr_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount);
void ir_ror_imm(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned amount);
/* Bit fields: lsb and width as in UBFX, SBFX, BFI, BFXIL, UBFIZ. */
void ir_ubfx(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width);
void ir_sbfx(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width);
void ir_bfi(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width);
void ir_bfxil(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width);
void ir_ubfiz(IrBuilder *b, unsigned size, IrReg d, IrReg n, unsigned lsb, unsigned width);
void ir_extr(IrBuilder *b, unsigned size, IrReg d, IrReg n, IrReg m, unsigned lsb);
void ir_csel(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg n, IrReg m, A64Condition cond);
void ir_cset(IrBuilder *b, unsigned size, IrReg d, A64Condition cond);
void ir_ccmp(IrBuilder *b, unsigned size, IrReg n, IrReg m, unsigned nzcv, A64Condition cond);

/* --- Fields of GuestCpu (offset in bytes, a multiple of size) --- */
void ir_load_state(IrBuilder *b, unsigned size, IrReg d, size_t offset);
void ir_store_state(IrBuilder *b, unsigned size, IrReg value, size_t offset);
/* Two words of 64 bits; the offset is below 512. */
void ir_load_state_pair(IrBuilder *b, IrReg first, IrReg second, size_t offset);
void ir_store_state_pair(IrBuilder *b, IrReg first, IrReg second, size_t offset);
void ir_load_state_vector(IrBuilder *b, unsigned size, IrVec d, size_t offset);
void ir_store_state_vector(IrBuilder *b, unsigned size, IrVec value, size_t offset);

/* --- Guest memory --- */
typedef struct IrAddress {
  IrReg base;
  IrReg index;    /* IR_NO_REG for none; then disp counts, otherwise disp is 0 */
  unsigned shift; /* of index: 0 or log2 of the access size */
  int64_t disp;
} IrAddress;

void ir_load(IrBuilder *b, unsigned size, unsigned extend, IrReg d, IrAddress address);
void ir_store(IrBuilder *b, unsigned size, IrReg value, IrAddress address);
void ir_load_vector(IrBuilder *b, unsigned size, IrVec d, IrAddress address);
void ir_store_vector(IrBuilder *b, unsigned size, IrVec value, IrAddress address);
/* [rsp] with RSP moved by 8, before the store and after the load. */
void ir_push(IrBuilder *b, IrReg value, IrReg rsp);
void ir_pop(IrBuilder *b, IrReg d, IrReg rsp);
/* 32 bytes at `base`, both or neither where the access faults. op is IR_LDP_Q or IR_STP_Q. */
void ir_vector_pair(IrBuilder *b, IrOp op, IrVec low, IrVec high, IrReg base);
/* The same at `base` + offset, a multiple of 16 from -1024 to 1008. */
void ir_vector_pair_at(IrBuilder *b, IrOp op, IrVec low, IrVec high, IrReg base, int64_t offset);
/* Locked operations; base only. */
void ir_atomic(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrReg base, IrReg operand);

/* --- Vector operations: rows of ops-vector.def; raw: remaining fields in place --- */
void ir_vvv(IrBuilder *b, IrOp op, IrVec d, IrVec n, IrVec m);
void ir_vvv_raw(IrBuilder *b, IrOp op, IrVec d, IrVec n, IrVec m, uint32_t raw);
void ir_vv(IrBuilder *b, IrOp op, IrVec d, IrVec n);
void ir_vv_raw(IrBuilder *b, IrOp op, IrVec d, IrVec n, uint32_t raw);
void ir_v_raw(IrBuilder *b, IrOp op, IrVec d, uint32_t raw);                    /* MOVI */
/* FMOV, INS, DUP, SCVTF from a general register. */
void ir_vr_raw(IrBuilder *b, IrOp op, unsigned size, IrVec d, IrReg n, uint32_t raw);
/* UMOV, FMOV, FCVTZS to a general register. */
void ir_rv_raw(IrBuilder *b, IrOp op, unsigned size, IrReg d, IrVec n, uint32_t raw);

/* --- Control inside a guest instruction --- */
void ir_bind(IrBuilder *b, IrLabel label);
void ir_branch(IrBuilder *b, IrLabel label);
void ir_branch_cond(IrBuilder *b, A64Condition cond, IrLabel label);
void ir_cbz(IrBuilder *b, unsigned size, IrReg n, IrLabel label);
void ir_cbnz(IrBuilder *b, unsigned size, IrReg n, IrLabel label);
void ir_tbz(IrBuilder *b, IrReg n, unsigned bit, IrLabel label);
void ir_tbnz(IrBuilder *b, IrReg n, unsigned bit, IrLabel label);
/* What stands between goes out of line; written directly after the branch to the label it begins with,
 * and ends with a branch back to a label bound directly after COLD_END. */
void ir_cold_begin(IrBuilder *b);
void ir_cold_end(IrBuilder *b);
/* Binds the label out of line, where an exit to the guest PC stands; directly after the branch there. */
IrInsn *ir_cold_exit(IrBuilder *b, IrLabel label, uint64_t target);
/* Binds the label that only the cold code just ended branches back to: what was made before it is there as before. */
void ir_bind_return(IrBuilder *b, IrLabel label);
/* After the backward branch of a local loop: keeps temporaries used in the loop alive through it. */
void ir_loop_end(IrBuilder *b, IrLabel head);

/* Checks operand kinds and register numbers; returns NULL or what is wrong (static text). */
const char *ir_verify(const IrBuilder *b);

/* One operation as text. Returns the length it would have had. */
int ir_format(const IrInsn *insn, char *text, size_t size);

#endif
