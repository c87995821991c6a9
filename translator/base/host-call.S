/* int64_t host_call6(int64_t number, uint64_t a, …, uint64_t f): one system call of the host kernel. */
  .text
  .globl host_call6
  .type host_call6, %function
  .balign 16
host_call6:
  mov x8, x0
  mov x0, x1
  mov x1, x2
  mov x2, x3
  mov x3, x4
  mov x4, x5
  mov x5, x6
  svc #0
  ret

  .section .note.GNU-stack, "", %progbits
