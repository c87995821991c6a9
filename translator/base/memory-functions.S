/* mem- and str-functions for a program without libc. General registers only: the guest's vector registers
 * live in the host's and survive every call into C. Standard prototypes, AAPCS64. */
  .text

.macro function name
  .globl \name
  .type \name, %function
  .balign 16
\name:
.endm

/* void *memcpy(void *to, const void *from, size_t length); memmove is the same but for direction. */
function memmove
  sub x3, x0, x1
  cmp x3, x2
  b.lo .Lbackward
function memcpy
  mov x3, x0
  cmp x2, #32
  b.lo .Lforward_16
  subs x2, x2, #64
  b.lo .Lforward_32
.Lforward_64:
  ldp x6, x7, [x1, #16]
  ldp x8, x9, [x1, #32]
  ldp x10, x11, [x1, #48]
  ldp x4, x5, [x1], #64
  stp x6, x7, [x3, #16]
  stp x8, x9, [x3, #32]
  stp x10, x11, [x3, #48]
  stp x4, x5, [x3], #64
  subs x2, x2, #64
  b.hs .Lforward_64
.Lforward_32:
  tbz x2, #5, .Lforward_16
  ldp x6, x7, [x1, #16]
  ldp x4, x5, [x1], #32
  stp x6, x7, [x3, #16]
  stp x4, x5, [x3], #32
.Lforward_16:
  tbz x2, #4, .Lforward_tail
  ldp x4, x5, [x1], #16
  stp x4, x5, [x3], #16
.Lforward_tail:
  tbz x2, #3, 1f
  ldr x4, [x1], #8
  str x4, [x3], #8
1:tbz x2, #2, 1f
  ldr w4, [x1], #4
  str w4, [x3], #4
1:tbz x2, #1, 1f
  ldrh w4, [x1], #2
  strh w4, [x3], #2
1:tbz x2, #0, 1f
  ldrb w4, [x1]
  strb w4, [x3]
1:ret
.Lbackward:
  add x3, x0, x2
  add x1, x1, x2
  subs x2, x2, #16
  b.lo .Lbackward_tail
1:ldp x4, x5, [x1, #-16]!
  stp x4, x5, [x3, #-16]!
  subs x2, x2, #16
  b.hs 1b
.Lbackward_tail:
  add x2, x2, #16
1:cbz x2, 2f
  ldrb w4, [x1, #-1]!
  strb w4, [x3, #-1]!
  sub x2, x2, #1
  b 1b
2:ret

/* void *memset(void *to, int byte, size_t length) */
function memset
  mov x3, x0
  and x1, x1, #0xff
  orr x1, x1, x1, lsl #8
  orr x1, x1, x1, lsl #16
  orr x1, x1, x1, lsl #32
  subs x2, x2, #32
  b.lo 2f
1:stp x1, x1, [x3], #16
  stp x1, x1, [x3], #16
  subs x2, x2, #32
  b.hs 1b
2:tbz x2, #4, 1f
  stp x1, x1, [x3], #16
1:tbz x2, #3, 1f
  str x1, [x3], #8
1:tbz x2, #2, 1f
  str w1, [x3], #4
1:tbz x2, #1, 1f
  strh w1, [x3], #2
1:tbz x2, #0, 1f
  strb w1, [x3]
1:ret

/* int memcmp(const void *a, const void *b, size_t length) */
function memcmp
  subs x2, x2, #32
  b.lo 4f
.Lcompare_32:
  ldp x7, x8, [x0, #16]
  ldp x9, x10, [x1, #16]
  ldp x3, x4, [x0], #32
  ldp x5, x6, [x1], #32
  cmp x3, x5
  ccmp x4, x6, #0, eq
  ccmp x7, x9, #0, eq
  ccmp x8, x10, #0, eq
  b.ne 6f
  subs x2, x2, #32
  b.hs .Lcompare_32
4:add x2, x2, #32
  subs x2, x2, #8
  b.lo 2f
.Lcompare_8:
  ldr x3, [x0], #8
  ldr x4, [x1], #8
  cmp x3, x4
  b.ne 5f
  subs x2, x2, #8
  b.hs .Lcompare_8
2:tbz x2, #2, 1f
  ldr w3, [x0], #4
  ldr w4, [x1], #4
  cmp w3, w4
  b.ne 7f
1:ands x2, x2, #3
  b.eq 3f
1:ldrb w3, [x0], #1
  ldrb w4, [x1], #1
  subs w5, w3, w4
  b.ne 8f
  subs x2, x2, #1
  b.ne 1b
3:mov w0, #0
  ret
6:sub x0, x0, #32
  sub x1, x1, #32
  mov x2, #24
  b .Lcompare_8
5:rev x3, x3
  rev x4, x4
  cmp x3, x4
  mov w0, #1
  cneg w0, w0, lo
  ret
7:rev w3, w3
  rev w4, w4
  cmp w3, w4
  mov w0, #1
  cneg w0, w0, lo
  ret
8:mov w0, w5
  ret

/* void *memchr(const void *bytes, int byte, size_t length) */
function memchr
  and w1, w1, #0xff
1:cbz x2, 2f
  ldrb w3, [x0], #1
  sub x2, x2, #1
  cmp w3, w1
  b.ne 1b
  sub x0, x0, #1
  ret
2:mov x0, #0
  ret

/* size_t strlen(const char *text) */
function strlen
  and x1, x0, #-8 /* words that are aligned lie in one page */
  ldr x2, [x1]
  lsl w3, w0, #3
  mov x4, #-1
  lsl x4, x4, x3
  orn x2, x2, x4 /* what is before the text is no zero */
  mov x5, #0x0101010101010101
1:sub x3, x2, x5
  bic x3, x3, x2
  ands x3, x3, #0x8080808080808080
  b.ne 2f
  ldr x2, [x1, #8]!
  b 1b
2:rbit x3, x3
  clz x3, x3
  add x1, x1, x3, lsr #3
  sub x0, x1, x0
  ret

/* size_t strnlen(const char *text, size_t limit) */
function strnlen
  mov x2, x0
1:cbz x1, 2f
  ldrb w3, [x2]
  cbz w3, 2f
  add x2, x2, #1
  sub x1, x1, #1
  b 1b
2:sub x0, x2, x0
  ret

/* int strcmp(const char *a, const char *b) */
function strcmp
1:ldrb w2, [x0], #1
  ldrb w3, [x1], #1
  cmp w2, w3
  b.ne 2f
  cbnz w2, 1b
2:sub w0, w2, w3
  ret

/* int strncmp(const char *a, const char *b, size_t limit) */
function strncmp
1:cbz x2, 3f
  sub x2, x2, #1
  ldrb w3, [x0], #1
  ldrb w4, [x1], #1
  cmp w3, w4
  b.ne 2f
  cbnz w3, 1b
2:sub w0, w3, w4
  ret
3:mov w0, #0
  ret

/* char *strchr(const char *text, int byte), char *strrchr(…) */
function strchr
  and w1, w1, #0xff
1:ldrb w2, [x0]
  cmp w2, w1
  b.eq 2f
  add x0, x0, #1
  cbnz w2, 1b
  mov x0, #0
2:ret

function strrchr
  and w1, w1, #0xff
  mov x3, #0
1:ldrb w2, [x0]
  cmp w2, w1
  csel x3, x0, x3, eq
  add x0, x0, #1
  cbnz w2, 1b
  mov x0, x3
  ret

  .section .note.GNU-stack, "", %progbits
