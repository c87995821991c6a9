/* The host registers' roles in generated code. Everything that emits code, saves state or reads a host
 * signal context takes them from here.
 *
 *   x0-x15    guest RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8-R15 (by encoding number)
 *   x16, x17  scratch of single emitted operations, of exits and trampolines; never live between
 *             IR operations. At indirect exits x17 holds the guest target.
 *   x18-x24, x29  temporaries of the register allocator (x18 does not survive helper calls)
 *   x30       scratch like x16 and x17, and the link register of trampoline calls
 *   x25       this thread's indirect-branch cache
 *   x26, x27  flag_aux and flag_result (guest/state.h)
 *   x28       GuestCpu
 *   sp        the return-address stack: pairs (guest return address, host return address)
 *   v0-v15    guest XMM0-XMM15;  v16-v30 temporaries, of which some hold upper halves of YMM registers (below)
 *   NZCV      guest SF ZF !CF OF where live
 */
#ifndef STELE_A64_REGISTERS_H
#define STELE_A64_REGISTERS_H

enum {
  A64_REG_EXIT0 = 16,
  A64_REG_EXIT1 = 17, /* guest PC at indirect exits */
  A64_REG_SITE = 23, /* while a target is looked for: what A64_REG_LINK was before */
  A64_REG_BRANCH_CACHE = 25, /* some entry of it: aligned to its size */
  A64_REG_FLAG_AUX = 26,
  A64_REG_FLAG_RESULT = 27,
  A64_REG_CPU = 28,
  A64_REG_LINK = 30,
  A64_REG_ZERO = 31,
  A64_VREG_TEMP_FIRST = 16,
  A64_VREG_ZERO = 31 /* zeros wherever generated code runs */
};

/* Registers the allocator may give to integer temporaries, and those of them a helper call destroys. */
#define A64_TEMPS 0x21fc0000u
#define A64_TEMPS_CALLER_SAVED 0x00040000u
#define A64_VECTOR_TEMPS 0x7fff0000u

/* The host register that may hold the upper half of guest YMM register `number` within a region, in place of
 * GuestCpu.upper. Which do is the region's choice, told at every guest instruction (A64PcMap.uppers); of registers with
 * the same one, one may. */
enum { A64_UPPER_HOMES = 13 };
static inline unsigned a64_upper_home(unsigned number) { return 30 - number % A64_UPPER_HOMES; }

typedef enum A64Condition {
  A64_EQ, A64_NE, A64_CS, A64_CC, A64_MI, A64_PL, A64_VS, A64_VC,
  A64_HI, A64_LS, A64_GE, A64_LT, A64_GT, A64_LE, A64_AL
} A64Condition;

/* Optional host CPU features the emitter may use, from AT_HWCAP/AT_HWCAP2. */
enum {
  A64_HAS_LSE = 1 << 0,
  A64_HAS_LRCPC = 1 << 1,
  A64_HAS_LRCPC2 = 1 << 2,
  A64_HAS_FLAGM = 1 << 3,
  A64_HAS_FLAGM2 = 1 << 4,
  A64_HAS_FRINT = 1 << 5, /* FRINT32/FRINT64 */
  A64_HAS_CRC32 = 1 << 6,
  A64_HAS_AES = 1 << 7,
  A64_HAS_PMULL = 1 << 8,
  A64_HAS_SHA2 = 1 << 9,
  A64_HAS_AFP = 1 << 10,
  A64_HAS_LSE2 = 1 << 11,
  A64_HAS_SHA1 = 1 << 12
};

#endif
