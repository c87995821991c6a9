/* The C functions SSE lifting calls (helpers.def), and what their arguments mean. Vectors pass through
 * GuestCpu.operand: sources in slots 0 and 1, the result in slot 2. All are pure integer C. */
#ifndef STELE_LIFT_SSE_HELPERS_H
#define STELE_LIFT_SSE_HELPERS_H

#include "guest/state.h"

/* Floating-point formats: packed or scalar, single or double. */
typedef enum SseFormat { SSE_PS, SSE_PD, SSE_SS, SSE_SD } SseFormat;

/* Chooses x86's NaN in the lanes of slot 2, the host's results of operands 0 and 1. argument: SseFormat. The host's flags
 * are the caller's. */
void sse_helper_nan(GuestCpu *cpu, uint64_t argument);

/* The same of multiplications with addition: slots 0 and 1 the multiplicands, GuestCpu.addend. argument: SseFormat. */
void sse_helper_fma_nan(GuestCpu *cpu, uint64_t argument);

/* Puts the integer indefinite into the lanes of slot 2 whose source lane in slot 0, already rounded to an integer,
 * is out of range. argument: source SseFormat | SSE_CONVERT_*. With SSE_CONVERT_PD_TO_32 the whole
 * conversion of two doubles to two 32-bit integers is done here; with SSE_CONVERT_PROBE lanes out of range become
 * zero in slot 1. */
enum { SSE_CONVERT_64 = 4, SSE_CONVERT_PD_TO_32 = 8, SSE_CONVERT_PROBE = 16 };
void sse_helper_convert(GuestCpu *cpu, uint64_t argument);

/* LDMXCSR of `argument`; STMXCSR: cpu->mxcsr becomes the whole value (the host's flags merged). */
void sse_helper_ldmxcsr(GuestCpu *cpu, uint64_t argument);
void sse_helper_stmxcsr(GuestCpu *cpu, uint64_t argument);

/* PCMPxSTRx of slots 0 and 1. argument: the immediate, with the bits below. Writes ECX or slot 2 (mask), and
 * operand[0].lane[0]: the flags as for lift_flags_nzcv(). */
enum { SSE_STRING_EXPLICIT = 0x100, SSE_STRING_WIDE = 0x200, SSE_STRING_MASK = 0x400 };
void sse_helper_string(GuestCpu *cpu, uint64_t argument);

/* For hosts without the instructions. AES: slot 0 state, slot 1 round key. */
typedef enum SseAes {
  SSE_AESENC, SSE_AESENCLAST, SSE_AESDEC, SSE_AESDECLAST, SSE_AESIMC, SSE_AESKEYGEN /* | imm << 8 */
} SseAes;
void sse_helper_aes(GuestCpu *cpu, uint64_t argument);
/* Carry-less product of the low halves of slots 0 and 1. */
void sse_helper_clmul(GuestCpu *cpu, uint64_t argument);
/* GFNI: in slot 0 bytes, elements of GF(2^8) modulo x^8 + x^4 + x^3 + x + 1; slot 1 factors, or matrices. */
typedef enum SseGalois {
  SSE_GALOIS_MULTIPLY, SSE_GALOIS_AFFINE, SSE_GALOIS_AFFINE_INVERSE /* | imm << 8: the constant added */
} SseGalois;
void sse_helper_galois(GuestCpu *cpu, uint64_t argument);
/* CRC32 step: operand[0].lane[0] the old value, lane[1] the data; argument: bytes. Result in lane[0]. */
void sse_helper_crc32(GuestCpu *cpu, uint64_t argument);

#endif
