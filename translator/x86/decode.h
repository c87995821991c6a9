/* The x86-64 decoder's output: one decoded instruction, everything lifting and analysis need to know
 * about it, and nothing about how it is executed.
 *
 * The facts come from instructions.tbl, one row an encoding; the generator beside it compiles the rows
 * into look-up data and into mnemonics.h. The decoder allocates nothing and touches no memory but the
 * bytes it is given. Source of the encodings: Intel SDM volume 2, AMD APM volume 3. */
#ifndef STELE_X86_DECODE_H
#define STELE_X86_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/mnemonics.h" /* generated: enum X86Mnemonic { X86_INVALID, X86_ADD, …, X86_MNEMONIC_COUNT } */

/* General registers by their encoding numbers. */
enum {
  X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
  X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15,
  X86_RIP = 16,    /* as a memory operand's base only */
  X86_NOREG = 0xff /* no base, no index, no segment override */
};

enum { X86_SEG_ES, X86_SEG_CS, X86_SEG_SS, X86_SEG_DS, X86_SEG_FS, X86_SEG_GS };

/* Status flags as liveness sees them. X86_F_LT stands for "SF != OF" where only that is wanted
 * (JL, JGE, and with ZF JLE, JG), so that a producer need not deliver SF and OF one by one. */
enum {
  X86_F_CF = 1 << 0,
  X86_F_PF = 1 << 1,
  X86_F_AF = 1 << 2,
  X86_F_ZF = 1 << 3,
  X86_F_SF = 1 << 4,
  X86_F_OF = 1 << 5,
  X86_F_LT = 1 << 6,
  X86_F_DF = 1 << 7,
  X86_F_STATUS = X86_F_CF | X86_F_PF | X86_F_AF | X86_F_ZF | X86_F_SF | X86_F_OF
};

typedef enum X86OperandKind {
  X86_OPERAND_NONE,
  X86_OPERAND_GPR,   /* reg 0-15; size 1, 2, 4 or 8 */
  X86_OPERAND_GPR8H, /* reg 0-3: AH, CH, DH, BH; size 1 */
  X86_OPERAND_MEM,   /* insn->mem; size is the bytes accessed (0: address only, as LEA, prefetch) */
  X86_OPERAND_IMM,   /* insn->imm; size is the operand size it extends to */
  X86_OPERAND_IMM2,  /* insn->imm2 (ENTER's second, INSERTQ's second) */
  X86_OPERAND_REL,   /* branch target: next PC + insn->imm */
  X86_OPERAND_XMM,   /* reg 0-15; size is the bytes used: 4, 8 or 16 (32 for YMM) */
  X86_OPERAND_MMX,   /* reg 0-7 */
  X86_OPERAND_ST,    /* x87 ST(reg) */
  X86_OPERAND_SEG,   /* X86_SEG_* */
  X86_OPERAND_CR,
  X86_OPERAND_DR
} X86OperandKind;

enum { X86_ACCESS_R = 1, X86_ACCESS_W = 2, X86_ACCESS_RW = 3 };

typedef struct X86Operand {
  uint8_t kind;   /* X86OperandKind */
  uint8_t reg;
  uint8_t size;   /* bytes */
  uint8_t access; /* X86_ACCESS_* */
} X86Operand;

typedef struct X86Mem {
  uint8_t base;    /* X86_RAX..X86_R15, X86_RIP or X86_NOREG */
  uint8_t index;   /* X86_RAX..X86_R15 or X86_NOREG */
  uint8_t scale;   /* log2: 0-3 */
  uint8_t segment; /* X86_SEG_FS, X86_SEG_GS or X86_NOREG: the other bases are zero in 64-bit mode.
                      Also of the implicit source of string instructions and XLAT; never for LEA */
  int64_t disp;    /* sign-extended; for base X86_RIP relative to the next instruction; 64 bits for moffs */
} X86Mem;

enum {
  X86_PREFIX_LOCK = 1,    /* F0 present and allowed here */
  X86_PREFIX_REP = 2,     /* the string instruction repeats: F3, or F2 where nothing is compared */
  X86_PREFIX_REPNE = 4,   /* SCAS and CMPS repeat while not equal: F2 */
  X86_PREFIX_ADDR32 = 8,  /* 67: addresses are truncated to 32 bits, repeat counts use ECX */
  X86_PREFIX_VSIB = 16,   /* not a prefix: mem.index is a vector register (gathers) */
  X86_PREFIX_VEX = 32     /* encoded with VEX: what is written of a vector register is zero above, up to 255 */
};

/* How control leaves the instruction. */
typedef enum X86Flow {
  X86_FLOW_NEXT,      /* falls through */
  X86_FLOW_JUMP,      /* JMP rel */
  X86_FLOW_JUMP_IND,  /* JMP r/m */
  X86_FLOW_COND,      /* Jcc, LOOPcc, JrCXZ */
  X86_FLOW_CALL,      /* CALL rel */
  X86_FLOW_CALL_IND,  /* CALL r/m */
  X86_FLOW_RET,       /* RET, RET imm16 */
  X86_FLOW_SYSTEM,    /* SYSCALL: comes back to the next instruction with everything possibly changed */
  X86_FLOW_TRAP       /* UD2, INT3, INT n, HLT and privileged instructions: raises a signal */
} X86Flow;

typedef struct X86Insn {
  uint16_t mnemonic; /* enum X86Mnemonic; conditions are not part of it: X86_JCC, X86_SETCC, X86_CMOVCC */
  uint8_t length;    /* bytes, 1-15 */
  uint8_t operand_count;
  uint8_t operand_size; /* effective operand size in bytes: 1, 2, 4, 8 */
  uint8_t prefixes;     /* X86_PREFIX_* */
  uint8_t condition;    /* low four bits of the opcode for JCC, SETCC, CMOVCC */
  uint8_t flow;         /* X86Flow */
  uint8_t flags_read;      /* X86_F_*: JL reads X86_F_LT alone, JLE X86_F_LT | X86_F_ZF */
  uint8_t flags_written;   /* defined results */
  uint8_t flags_undefined; /* left undefined by the manual (so also dead before) */
  uint8_t flags_maybe;     /* subset of written|undefined that keeps its old value in some cases
                              (shift by CL of zero, REP of zero iterations): never kills liveness */
  uint8_t flags_killed;    /* written whatever they were before */
  uint16_t imm2;
  X86Operand operands[4];  /* explicit operands in Intel order; implicit ones belong to the mnemonic */
  X86Mem mem;
  int64_t imm;             /* sign-extended as the instruction does (zero-extended for MOV r64, imm64's own) */
} X86Insn;

enum { X86_MAX_LENGTH = 15 };

typedef enum X86DecodeStatus {
  X86_DECODE_OK = 0,
  X86_DECODE_TRUNCATED, /* more than `available` bytes needed: fetch crosses into memory not readable */
  X86_DECODE_INVALID,   /* #UD; insn->length bytes were looked at */
  X86_DECODE_TOO_LONG   /* more than 15 bytes: #GP, which Linux reports as SIGSEGV */
} X86DecodeStatus;

/* Decodes one 64-bit-mode instruction from `bytes`, of which `available` (1 or more) are readable.
 * 15 or more bytes are never TRUNCATED. Fills all of *ret_insn when OK. Pure. */
X86DecodeStatus x86_decode(const uint8_t *bytes, size_t available, X86Insn *ret_insn);

/* Whether the access that the instruction makes at or about `address` is in the stack segment: its operand's base is RSP or
 * RBP, or it pushes or pops and the address is the stack's (Intel SDM volume 1, 3.7.4). Prefixes other than FS and GS do not
 * change that in 64-bit mode. Pure. */
bool x86_accesses_stack(const X86Insn *insn, uint64_t rsp, uint64_t rbp, uint64_t address);

/* What decoding has found out about the bytes before displacement and immediate, of which programs use few: the next
 * instruction that begins with the same ones is a copy with its own numbers. A table of them is the caller's, zeroed at
 * first; it depends on no memory. */
enum { X86_SHAPES = 4096 };
typedef struct X86Shape {
  uint64_t mask, bits; /* the bytes from the first on that it is; mask 0: none */
  X86Insn insn;        /* without the numbers */
  uint8_t at;          /* how many bytes those are */
  uint8_t displacement, immediate; /* bytes */
  bool immediate_signed;
} X86Shape;

/* By the first byte, how many of the first eight bytes' high bits lie behind those that choose a place in the table: they
 * go up to ModRM, mostly. */
extern const uint8_t x86_not_choosing[256];

static inline X86Shape *x86_shape_of(X86Shape shapes[X86_SHAPES], uint64_t first) {
  uint32_t chosen = (uint32_t)(first << x86_not_choosing[first & 0xff] >> 32);
  return &shapes[(chosen * UINT32_C(0x9e3779b1)) >> 20];
}
_Static_assert(X86_SHAPES == 1 << (32 - 20), "x86_shape_of()");

/* The instruction of that shape at `bytes`. */
static inline void x86_fill_in(const X86Shape *shape, const uint8_t *bytes, X86Insn *ret_insn) {
  *ret_insn = shape->insn;
  bytes += shape->at;
  if (shape->displacement == 1) {
    ret_insn->mem.disp = (int8_t)*bytes;
  } else if (shape->displacement) {
    int32_t displacement;
    __builtin_memcpy(&displacement, bytes, sizeof displacement);
    ret_insn->mem.disp = displacement;
  }
  if (!shape->immediate) return;
  uint32_t unused = 64 - 8 * shape->immediate;
  uint64_t high;
  __builtin_memcpy(&high, bytes + shape->displacement, sizeof high);
  high <<= unused;
  ret_insn->imm = shape->immediate_signed ? (int64_t)high >> unused : (int64_t)(high >> unused);
}

/* What x86_decode_shaped() does where the table doesn't help. */
X86DecodeStatus x86_decode_new_shape(const uint8_t *bytes, size_t available, X86Insn *ret_insn, X86Shape shapes[X86_SHAPES]);

/* x86_decode(), by the table where it can be. */
static inline X86DecodeStatus x86_decode_shaped(const uint8_t *bytes, size_t available, X86Insn *ret_insn,
                                                X86Shape shapes[X86_SHAPES]) {
  enum { READ = 2 * X86_MAX_LENGTH }; /* bytes, at most */
  uint64_t first;
  if (__builtin_expect(available >= READ, 1)) {
    __builtin_memcpy(&first, bytes, sizeof first);
    const X86Shape *shape = x86_shape_of(shapes, first);
    if (shape->mask && !((first ^ shape->bits) & shape->mask)) {
      x86_fill_in(shape, bytes, ret_insn);
      return X86_DECODE_OK;
    }
  }
  return x86_decode_new_shape(bytes, available, ret_insn, shapes);
}

#endif
