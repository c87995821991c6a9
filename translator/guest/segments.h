/* The segment descriptors a 64-bit program can name, as Linux's GDT has them on x86-64
 * (arch/x86/include/asm/segment.h, arch/x86/kernel/cpu/common.c): user data, user code, and the one whose limit
 * tells the processor's number. There is no LDT, the thread-local ones are empty, the kernel's are out of reach, and
 * the code segment of 32-bit programs is absent, as in a kernel without them. */
#ifndef STELE_GUEST_SEGMENTS_H
#define STELE_GUEST_SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>

enum {
  GUEST_SELECTOR_DATA = 0x2b,
  GUEST_SELECTOR_CODE = 0x33,
  GUEST_SELECTOR_PROCESSOR = 0x7b,
  GUEST_SELECTOR_FINE = -1 /* instead of #GP's error code */
};

typedef struct GuestDescriptor {
  uint16_t selector; /* with RPL 3 */
  bool writable, executable;
  uint32_t rights;   /* what LAR gives */
} GuestDescriptor;

/* The accessible segment a selector of any RPL names, or NULL. */
const GuestDescriptor *guest_descriptor(uint16_t selector);

/* Whether a selector may be loaded into DS, ES, FS or GS, or SS: GUEST_SELECTOR_FINE or #GP's error code. */
int guest_check_data(uint16_t selector, bool stack);

/* The same for CS, by a far jump or call, or a return (RETF, IRET), which keeps the RPL. */
int guest_check_code(uint16_t selector, bool returns);

#endif
