/* Where the kernel enters stele. A static PIE has no loader to relocate it: x0 = the initial stack, x1 =
 * where the image starts, x2 = its dynamic section, and C does the rest (main.c). */
  .text
  .globl _start
  .type _start, %function
  .hidden _DYNAMIC
  .hidden __ehdr_start
_start:
  mov x29, #0
  mov x30, #0
  mov x0, sp
  adrp x1, __ehdr_start
  add x1, x1, #:lo12:__ehdr_start
  adrp x2, _DYNAMIC
  add x2, x2, #:lo12:_DYNAMIC
  and sp, x0, #-16
  bl stele_start
  brk #0

  .section .note.GNU-stack, "", %progbits
