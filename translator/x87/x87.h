/* x87 floating point in software: 80-bit extended values on general registers alone.
 *
 * Everything works on the guest's x87 state in memory (guest/state.h) and is pure integer C: no libc, no
 * host floating point, the same results on every host; tests/x87 runs it beside a real x87. Generated
 * code calls the functions of lift/x87/helpers.def; this header is for other C code. The state's register
 * file may be rotated and FSW is kept in parts, so architectural values are asked for here. */
#ifndef STELE_X87_H
#define STELE_X87_H

#include "guest/state.h"

/* FSW with TOP and C1. */
uint16_t x87_status_word(const GuestX87 *x);

/* FTW as FNSTENV stores it: two bits a physical register. */
uint16_t x87_tag_word(const GuestX87 *x);

/* The x87 fields of an FXSAVE image of 512 bytes (64-bit form): bytes 0-23 and 32-159 are written; MXCSR
 * (24-31) and the XMM registers (160-415) are the caller's. */
void x87_fxsave_image(const GuestX87 *x, void *image);

/* The reverse. Every bit pattern is accepted, as FXRSTOR does. */
void x87_fxrstor_image(GuestX87 *x, const void *image);

/* As FNINIT leaves it. Register contents stay. */
void x87_init(GuestX87 *x);

#endif
