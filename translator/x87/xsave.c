/* Images of the extended state (xsave.h), and what XSAVE and its kin do with them. The instructions' helpers touch guest
 * memory, and a fault there is the instruction's: the guest's state changes when all has been read. */
#include "x87/xsave.h"

#include <string.h>

#include "x87/x87.h"

enum { MXCSR_AT = 24, MXCSR_BYTES = 8, REGISTERS_AT = 32 };

static bool any(const void *data, size_t size) {
  const uint64_t *words = data;
  for (size_t i = 0; i < size / sizeof *words; i++)
    if (words[i]) return true;
  return false;
}

uint64_t xsave_in_use(const GuestCpu *cpu) {
  const GuestX87 *x = &cpu->x87;
  uint64_t components = 0;
  bool reset = x->control == GUEST_FCW_DEFAULT && !x87_status_word(x) && !x->valid && !x->instruction_pointer &&
               !x->data_pointer && !x->opcode;
  for (unsigned i = 0; reset && i < 8; i++) reset = !x->reg[i].significand && !x->reg[i].sign_exponent;
  if (!reset) components |= XSAVE_X87;
  if (any(cpu->xmm, sizeof cpu->xmm)) components |= XSAVE_SSE;
  if (any(cpu->upper, sizeof cpu->upper)) components |= XSAVE_AVX;
  return components;
}

void xsave_get_fx(const GuestCpu *cpu, FxImage *image) {
  memset(image, 0, sizeof *image);
  x87_fxsave_image(&cpu->x87, image);
  image->mxcsr = cpu->mxcsr;
  image->mxcsr_mask = XSAVE_MXCSR_MASK;
  memcpy(image->xmm, cpu->xmm, sizeof image->xmm);
}

void xsave_set_fx(GuestCpu *cpu, const FxImage *image) {
  x87_fxrstor_image(&cpu->x87, image);
  cpu->mxcsr = image->mxcsr & XSAVE_MXCSR_MASK;
  memcpy(cpu->xmm, image->xmm, sizeof image->xmm);
}

void xsave_set(GuestCpu *cpu, const XsaveImage *image, uint64_t components) {
  static const XsaveImage empty;
  uint64_t present = image->present & components;
  if (present & XSAVE_X87) {
    x87_fxrstor_image(&cpu->x87, image);
  } else if (components & XSAVE_X87) {
    memset(&cpu->x87, 0, sizeof cpu->x87);
    x87_init(&cpu->x87);
  }
  if (components & XSAVE_SSE)
    memcpy(cpu->xmm, (present & XSAVE_SSE ? image : &empty)->fx.xmm, sizeof cpu->xmm);
  if (components & XSAVE_AVX)
    memcpy(cpu->upper, (present & XSAVE_AVX ? image : &empty)->upper, sizeof cpu->upper);
}

/* --- XSAVE, XSAVEOPT, XSAVEC --------------------------------------------------------------------------- */

/* EDX:EAX, of what there is. */
static uint64_t requested(const GuestCpu *cpu) { return (uint32_t)cpu->gpr[0] & XSAVE_ALL; }

/* Without REX.W pointers have 32 bits, and a selector of 0 (as FXSAVE). */
static void narrow_pointers(FxImage *image) {
  memset(image->x87_head + 12, 0, 4);
  memset(image->x87_head + 20, 0, 4);
}

/* Those of the legacy region's fields that `components` names, and MXCSR if asked. */
static void store_legacy(uint8_t *to, const FxImage *fx, uint64_t components, bool mxcsr) {
  const uint8_t *from = (const uint8_t *)fx;
  if (components & XSAVE_X87) {
    memcpy(to, from, MXCSR_AT);
    memcpy(to + REGISTERS_AT, from + REGISTERS_AT, sizeof fx->x87_registers);
  }
  if (mxcsr) memcpy(to + MXCSR_AT, from + MXCSR_AT, MXCSR_BYTES);
  if (components & XSAVE_SSE) memcpy(to + offsetof(FxImage, xmm), fx->xmm, sizeof fx->xmm);
}

void xsave_helper_save(GuestCpu *cpu, uint64_t address) {
  XsaveImage *to = (XsaveImage *)(uintptr_t)address;
  unsigned kind = (unsigned)cpu->scratch[0];
  uint64_t components = requested(cpu), in_use = xsave_in_use(cpu) & components, stored = components;
  FxImage fx;
  xsave_get_fx(cpu, &fx);
  if (!(kind & GUEST_XSAVE_WIDE)) narrow_pointers(&fx);
  kind &= ~(unsigned)GUEST_XSAVE_WIDE;
  bool mxcsr = components & (XSAVE_SSE | XSAVE_AVX);
  if (kind == GUEST_XSAVE_COMPACT) { /* MXCSR belongs to SSE alone */
    if (components & XSAVE_SSE && cpu->mxcsr != GUEST_MXCSR_DEFAULT) in_use |= XSAVE_SSE;
    mxcsr = in_use & XSAVE_SSE;
  }
  if (kind != GUEST_XSAVE_PLAIN) stored = in_use;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  store_legacy((uint8_t *)to, &fx, stored, mxcsr);
  if (stored & XSAVE_AVX) memcpy(to->upper, cpu->upper, sizeof to->upper);
  if (kind == GUEST_XSAVE_COMPACT) {
    to->present = in_use;
    to->compaction = XSAVE_COMPACT | components;
  } else {
    to->present = (to->present & ~components) | in_use;
  }
}

/* --- XRSTOR ----------------------------------------------------------------------------------------- */

bool xsave_header_is_right(const XsaveImage *image) {
  if (image->compaction & XSAVE_COMPACT) {
    uint64_t held = image->compaction & ~XSAVE_COMPACT;
    return !(held & ~(uint64_t)XSAVE_ALL) && !(image->present & ~held) && !any(image->reserved, sizeof image->reserved);
  }
  return !(image->present & ~(uint64_t)XSAVE_ALL) && !image->compaction && !image->reserved[0];
}

/* The part of the area that is going to be looked at. */
static void read_area(XsaveImage *image, uint64_t address, uint64_t components) {
  const XsaveImage *from = (const XsaveImage *)(uintptr_t)address;
  memcpy(&image->present, &from->present, offsetof(XsaveImage, upper) - offsetof(XsaveImage, present));
  memcpy(&image->fx, &from->fx, offsetof(FxImage, unused));
  if (components & image->present & XSAVE_AVX) memcpy(image->upper, from->upper, sizeof image->upper);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void xsave_helper_restore(GuestCpu *cpu, uint64_t address) {
  uint64_t components = requested(cpu);
  XsaveImage image;
  read_area(&image, address, components);
  bool compact = image.compaction & XSAVE_COMPACT;
  bool loads = compact ? components & image.present & XSAVE_SSE : components & (XSAVE_SSE | XSAVE_AVX);
  cpu->scratch[1] = !xsave_header_is_right(&image) || (loads && image.fx.mxcsr & ~(uint32_t)XSAVE_MXCSR_MASK);
  if (cpu->scratch[1]) return;
  if (!(cpu->scratch[0] & GUEST_XSAVE_WIDE)) narrow_pointers(&image.fx);
  xsave_set(cpu, &image, components);
  if (loads) cpu->mxcsr = image.fx.mxcsr;
  else if (compact && components & XSAVE_SSE) cpu->mxcsr = GUEST_MXCSR_DEFAULT;
}

/* XGETBV: XCR0, or what of it is in use. scratch[1] := 1 for another register. */
void xsave_helper_control(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  uint32_t number = (uint32_t)cpu->gpr[1];
  cpu->scratch[1] = number > 1;
  cpu->scratch[0] = number ? xsave_in_use(cpu) : XSAVE_ALL;
}
