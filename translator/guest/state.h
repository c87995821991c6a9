/* The state of one guest thread as generated code, the runtime and the Linux layer share it.
 *
 * Generated code addresses this structure through host register x28 (A64_REG_CPU), so everything it
 * touches has a fixed offset, asserted below. While guest code runs, the registers live in host
 * registers (a64/registers.h); the copies here are current only in C code called by the runtime
 * ("synchronised"): linux_syscall(), fault and signal delivery, helpers. */
#ifndef STELE_GUEST_STATE_H
#define STELE_GUEST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

typedef struct GuestVector {
  uint64_t lane[2];
} __attribute__((aligned(16))) GuestVector;

/* One x87 register: 64-bit significand with explicit integer bit, sign and 15-bit exponent
 * (Intel SDM volume 1, 4.2.2). MMX registers are the significands of the physical registers. */
typedef struct GuestX87Register {
  uint64_t significand;
  uint16_t sign_exponent;
  uint16_t reserved[3]; /* zero: generated code loads and stores registers as pairs of 64 bits */
} __attribute__((aligned(16))) GuestX87Register;

/* Translated code addresses the register file by slot, with the slot of ST(0) known when it was
 * translated; a block entered with another top has the file rotated first (lift/x87/state.c). So slot s
 * holds physical register (s - rotation) & 7, and rotation is 0 whenever MMX instructions run. Code that
 * wants architectural values takes them from x87/x87.h. */
typedef struct GuestX87 {
  GuestX87Register reg[8]; /* slots: ST(i) is reg[(top + i) & 7] */
  uint16_t control;        /* FCW */
  uint16_t status;         /* FSW without TOP (bits 11-13) and C1 (bit 9): zero here; PE: also `inexact` */
  uint8_t valid;           /* bit s set: slot s is not empty */
  uint8_t top;             /* slot of ST(0), 0-7; GUEST_X87_PENDING while an unmasked exception waits */
  uint16_t opcode;         /* FOP */
  uint64_t instruction_pointer;
  uint64_t data_pointer;
  uint64_t transfer[3];   /* between lifted code and helpers; an environment takes the next four bytes too */
  uint32_t transfer_more;
  uint8_t rotation;
  uint8_t unusual;  /* 0 while FCW rounds to nearest and to 64 bits and masks PE: what inline code can do */
  uint64_t c1;      /* C1 is set in FSW where this is above 2^63: the rest that was rounded, or GUEST_X87_C1 */
  uint64_t inexact; /* not 0: PE is set in FSW, whatever `status` says */
} GuestX87;

#define GUEST_X87_C1 UINT64_MAX
static inline bool guest_x87_c1(const GuestX87 *x) { return x->c1 > UINT64_C(1) << 63; }

enum { GUEST_X87_PENDING = 0x80 };

/* One entry of the indirect-branch cache; a pair so that LDP fetches both. */
typedef struct GuestBranchCacheEntry {
  uint64_t guest_pc; /* guest_branch_cache_empty() where unused */
  uint64_t host_pc;
} GuestBranchCacheEntry;

enum {
  GUEST_BRANCH_CACHE_BITS = 14,
  GUEST_BRANCH_CACHE_SIZE = 1 << GUEST_BRANCH_CACHE_BITS
};
/* The cache is two tables, one behind the other: generated code looks in the first, by the low bits of the target; the
 * trampolines in the second, by bits that differ between targets of the same alignment. */
static inline uint32_t guest_branch_cache_first(uint64_t pc) { return pc & (GUEST_BRANCH_CACHE_SIZE - 1); }
static inline uint32_t guest_branch_cache_second(uint64_t pc) {
  return GUEST_BRANCH_CACHE_SIZE + ((pc ^ pc >> GUEST_BRANCH_CACHE_BITS) >> 4 & (GUEST_BRANCH_CACHE_SIZE - 1));
}

/* What an entry has that is to be found by nobody, whatever he jumps to: an address that is looked for elsewhere in both tables.
 * So in zeroed tables only the first entries are not empty. */
static inline uint64_t guest_branch_cache_empty(uint32_t entry) {
  return entry & (GUEST_BRANCH_CACHE_SIZE - 1) ? 0 : 1 << 4;
}

/* The same for a predicted return, where no address is safe: the one that fits this one, which somebody may go to, leads to a
 * trampoline. */
#define GUEST_NO_RETURN UINT64_C(0xffffffffffffffff)

typedef struct GuestCpu GuestCpu;
struct GuestCpu {
  uint64_t gpr[16]; /* by encoding number: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8-R15 */
  uint64_t rip;

  /* Status flags. `nzcv` has the layout of AArch64's NZCV register (N 31, Z 30, C 29, V 28) with SF,
   * ZF, !CF, OF: carry is kept inverted, as AArch64's SUBS leaves it. PF is the even parity of
   * flag_result's low byte; AF is bit 4 of flag_result ^ flag_aux. guest_flags_*() convert. */
  uint64_t nzcv;
  uint64_t flag_result;
  uint64_t flag_aux;
  int64_t direction; /* 1 or -1: DF as a step */
  uint64_t other_flags; /* the remaining RFLAGS bits a program can set: AC, ID, TF */

  uint64_t fs_base, gs_base;
  uint16_t segment[8]; /* selectors by X86_SEG_* */
  uint32_t mxcsr;      /* control bits; the exception bits here are those not still in host FPSR */
  uint32_t interrupt;  /* not 0: leave generated code at the next safe point (runtime_interrupt) */

  GuestX87 x87;
  GuestVector xmm[16];
  GuestVector operand[3]; /* between lifted vector code and helpers */

  /* Runtime's: generated code and trampolines. */
  uint64_t host_sp;      /* C stack of this thread while generated code runs */
  uint64_t shadow_sp;    /* return-address stack while C code runs */
  uint64_t shadow_base;  /* its empty position (highest address) */
  uint64_t shadow_limit; /* lowest usable address */
  uint64_t scratch[8];   /* trampolines' */
  GuestBranchCacheEntry *branch_cache;
  uint64_t exit_argument; /* from generated code to the dispatcher */
  uint64_t helper_return; /* while a helper runs: the host PC it returns to */
  uint64_t check_budget;  /* entries of checked code (lift/region.c) until it asks whether to go on so */
  uint64_t raise_error;   /* error code of the exception that is about to be raised; otherwise 0 */
  uint64_t second_budget; /* branches found in the second table of the cache until one goes to the first as well */

  GuestVector addend;    /* a third source beside operand[] */
  GuestVector upper[16]; /* bits 255:128 of YMM0-YMM15: here while generated code runs, too */

  uint64_t held_locks;  /* STELE_CHECK_LOCKS: see base_held_locks */
  void *runtime_thread; /* the runtime's own, opaque elsewhere */
  void *linux_thread;   /* the Linux layer's own, opaque elsewhere */
  uint32_t lock_name;   /* BASE_LOCK_NAME */

  /* Where exceptions of SSE are unmasked (lift/vector/traps.c). */
  GuestVector kept;        /* what the destination of an instruction that may raise one held: the low half of a vector, */
  GuestVector kept_upper;  /* its upper half, */
  uint64_t kept_register;  /* or a general register */
  uint32_t float_raised;   /* exceptions that helpers have raised for it, by their bits in FPSR */
  uint32_t float_unmasked; /* those that are unmasked in `mxcsr`, likewise */
};

_Static_assert(offsetof(GuestCpu, gpr) == 0, "generated code");
_Static_assert(offsetof(GuestCpu, x87.reg) % 16 == 0, "generated code uses LDR Q");
_Static_assert(offsetof(GuestCpu, x87.reg[7]) <= 504, "generated code uses LDP");
_Static_assert(offsetof(GuestCpu, xmm) % 16 == 0, "generated code uses LDR Q");
_Static_assert(offsetof(GuestCpu, upper) % 16 == 0, "generated code uses LDR Q");
_Static_assert(offsetof(GuestCpu, kept) % 16 == 0, "generated code uses LDR Q");
_Static_assert(offsetof(GuestCpu, lock_name) == BASE_LOCK_NAME, "locks are taken by it");
_Static_assert(offsetof(GuestCpu, exit_argument) < 4096, "generated code uses 12-bit offsets");

/* RFLAGS as the architecture shows them, from a synchronised state (bit 1 and IF set). */
uint64_t guest_flags_get(const GuestCpu *cpu);

/* Sets all status flags, DF and the other user-changeable bits from an RFLAGS value. */
void guest_flags_set(GuestCpu *cpu, uint64_t rflags);

/* Whether a byte has an even number of ones: PF of a result's low byte. */
bool guest_flags_even(uint8_t byte);

/* XSAVE, XSAVEOPT and XSAVEC; with REX.W. */
enum { GUEST_XSAVE_PLAIN, GUEST_XSAVE_OPTIMISED, GUEST_XSAVE_COMPACT, GUEST_XSAVE_WIDE = 4 };

/* MXCSR as the architecture shows it; the runtime merges host FPSR when it synchronises. */
enum { GUEST_MXCSR_DEFAULT = 0x1f80, GUEST_FCW_DEFAULT = 0x37f };

/* Registers, flags, MXCSR, x87 as after execve (everything zero, defaults set). */
void guest_cpu_reset(GuestCpu *cpu);

#endif
