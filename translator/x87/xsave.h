/* Images of the extended state: x87, SSE and AVX registers, as XSAVE stores them and as they stand in signal frames
 * (Intel SDM volume 1, chapter 13; struct _xstate of arch/x86/include/uapi/asm/sigcontext.h). */
#ifndef STELE_X87_XSAVE_H
#define STELE_X87_XSAVE_H

#include "guest/state.h"

/* State components, as XCR0 has them: these, on a processor with AVX. */
enum { XSAVE_X87 = 1, XSAVE_SSE = 2, XSAVE_AVX = 4, XSAVE_ALL = 7 };

typedef struct FxImage { /* what FXSAVE64 stores (Intel SDM volume 1, 10.5.1) */
  uint8_t x87_head[24];
  uint32_t mxcsr, mxcsr_mask;
  uint8_t x87_registers[128];
  GuestVector xmm[16];
  uint64_t unused[12];
} FxImage;
_Static_assert(sizeof(FxImage) == 512, "architecture");

typedef struct XsaveImage {
  FxImage fx;
  uint64_t present;    /* XSTATE_BV: components that are not as after reset */
  uint64_t compaction; /* XCOMP_BV */
  uint64_t reserved[6];
  GuestVector upper[16];
} XsaveImage;
_Static_assert(sizeof(XsaveImage) == 832 && offsetof(XsaveImage, upper) == 576, "architecture");

enum { XSAVE_MXCSR_MASK = 0xffff };
#define XSAVE_COMPACT (UINT64_C(1) << 63) /* of XCOMP_BV */

/* The components that are not as after reset. */
uint64_t xsave_in_use(const GuestCpu *cpu);

/* The registers of x87 and SSE, and MXCSR, from a synchronised state and back. */
void xsave_get_fx(const GuestCpu *cpu, FxImage *image);
void xsave_set_fx(GuestCpu *cpu, const FxImage *image);

/* `components` := those of the image, or as after reset where it has them not. MXCSR stays. */
void xsave_set(GuestCpu *cpu, const XsaveImage *image, uint64_t components);

/* Whether the header is one XRSTOR takes (Intel SDM volume 1, 13.8.1, 13.8.2). */
bool xsave_header_is_right(const XsaveImage *image);

/* What generated code calls (lift/x87/xsave.c), with an area's address and GUEST_XSAVE_* in scratch[0]. XMM registers and
 * MXCSR are synchronised. */
void xsave_helper_save(GuestCpu *cpu, uint64_t address);
void xsave_helper_restore(GuestCpu *cpu, uint64_t address); /* scratch[1] := whether #GP is to be raised */
void xsave_helper_control(GuestCpu *cpu, uint64_t argument);

#endif
