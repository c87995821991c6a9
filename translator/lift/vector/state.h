/* MXCSR and its AArch64 counterparts FPCR and FPSR (Intel SDM volume 1, 10.2.3; Arm ARM C5.2.7, C5.2.8).
 *
 * Known differences: FPCR.FZ flushes denormal operands and results alike, so DAZ or FTZ alone give both; the
 * denormal-operand flag DE is only noticed while flushing; AArch64 detects tininess before rounding
 * (UE may be set where x86's is not, for results that round up to the least normal number). */
#ifndef STELE_LIFT_SSE_STATE_H
#define STELE_LIFT_SSE_STATE_H

#include <stdint.h>

/* FPCR for a thread whose MXCSR is `mxcsr`: at thread start, after signal returns, after FXRSTOR. */
uint64_t sse_fpcr_from_mxcsr(uint32_t mxcsr);

/* The bits in FPSR of the exceptions that `mxcsr` leaves unmasked: GuestCpu.float_unmasked. */
uint32_t sse_fpsr_unmasked(uint32_t mxcsr);

/* `mxcsr` with the exception flags that are set in `fpsr` added. Whoever stores the result in cpu->mxcsr clears
 * FPSR, or not: flags only accumulate. */
uint32_t sse_mxcsr_from_fpsr(uint32_t mxcsr, uint64_t fpsr);

/* Bits of MXCSR that exist; LDMXCSR of others raises #GP on hardware. */
enum { SSE_MXCSR_MASK = 0xffff };

/* This thread's FPCR and FPSR, on AArch64; elsewhere nothing and zero. */
void sse_write_fpcr(uint64_t value);
uint64_t sse_read_fpsr(void);
void sse_write_fpsr(uint64_t value);

#endif
