/* Conversions between MXCSR and FPCR, FPSR: the bits of each. */
#include "lift/vector/state.h"

enum {
  MXCSR_IE = 1 << 0, MXCSR_DE = 1 << 1, MXCSR_ZE = 1 << 2, MXCSR_OE = 1 << 3, MXCSR_UE = 1 << 4,
  MXCSR_PE = 1 << 5, MXCSR_DAZ = 1 << 6, MXCSR_FTZ = 1 << 15, MXCSR_RC_SHIFT = 13,
  FPCR_FZ = 1 << 24, FPCR_RMODE_SHIFT = 22, FPSR_IDC = 7
};

/* FPSR bit → MXCSR bit. */
static const struct { uint8_t fpsr_bit, mxcsr; } flags[] = {
    {0, MXCSR_IE}, {1, MXCSR_ZE}, {2, MXCSR_OE}, {3, MXCSR_UE}, {4, MXCSR_PE}, {FPSR_IDC, MXCSR_DE},
};

uint64_t sse_fpcr_from_mxcsr(uint32_t mxcsr) {
  unsigned rc = mxcsr >> MXCSR_RC_SHIFT & 3;
  unsigned mode = (rc & 1) << 1 | rc >> 1; /* down 1, up 2 on x86; up 1, down 2 on AArch64 */
  uint64_t fpcr = (uint64_t)mode << FPCR_RMODE_SHIFT;
  return mxcsr & (MXCSR_DAZ | MXCSR_FTZ) ? fpcr | FPCR_FZ : fpcr;
}

/* FPSR.IDC tells of operands that were taken for zeros (Arm ARM, A1.5.3), MXCSR.DE of those that were not (Intel SDM volume
 * 1, 4.9.1.2 and 10.2.3.4): it is right only where results alone are flushed. */
uint32_t sse_mxcsr_from_fpsr(uint32_t mxcsr, uint64_t fpsr) {
  if (mxcsr & MXCSR_DAZ) fpsr &= ~(UINT64_C(1) << FPSR_IDC);
  for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (fpsr >> flags[i].fpsr_bit & 1) mxcsr |= flags[i].mxcsr;
  return mxcsr;
}

uint32_t sse_fpsr_unmasked(uint32_t mxcsr) {
  enum { MASKS_SHIFT = 7 };
  uint32_t unmasked = 0;
  for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
    if (flags[i].fpsr_bit != FPSR_IDC && !(mxcsr >> MASKS_SHIFT & flags[i].mxcsr)) unmasked |= 1u << flags[i].fpsr_bit;
  return unmasked;
}

#ifdef __aarch64__
void sse_write_fpcr(uint64_t value) { __asm__ volatile("msr fpcr, %0" ::"r"(value)); }
void sse_write_fpsr(uint64_t value) { __asm__ volatile("msr fpsr, %0" ::"r"(value)); }
uint64_t sse_read_fpsr(void) {
  uint64_t value;
  __asm__ volatile("mrs %0, fpsr" : "=r"(value));
  return value;
}
#else
void sse_write_fpcr(uint64_t value) { (void)value; }
void sse_write_fpsr(uint64_t value) { (void)value; }
uint64_t sse_read_fpsr(void) { return 0; }
#endif
