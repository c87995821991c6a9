/*
 * The way into a generated case and out of it (harness.c). The case owns every register, the stack pointer
 * included, so states are loaded and stored through absolute addresses: the harness is linked low and
 * position dependent. case_in and case_out are laid out as harness.c's State.
 */
  .intel_syntax noprefix
  .text
  .globl _start, enter_case, case_done, case_faulted, signal_return
_start:
  mov rdi, [rsp]
  and rsp, -16
  call harness_main

enter_case:
  push rbx
  push rbp
  push r12
  push r13
  push r14
  push r15
  mov [saved_rsp], rsp
  fxrstor [case_in + 160]
  cmp dword ptr [case_ymm], 0
  je 1f
  .set n, 0
  .irp ymm, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vinsertf128 ymm\ymm, ymm\ymm, [case_in + 672 + n], 1
  .set n, n + 16
  .endr
1:
  push qword ptr [case_in + 128]
  popf
  mov rax, [case_in]
  mov rcx, [case_in + 8]
  mov rdx, [case_in + 16]
  mov rbx, [case_in + 24]
  mov rsp, [case_in + 32]
  mov rbp, [case_in + 40]
  mov rsi, [case_in + 48]
  mov rdi, [case_in + 56]
  mov r8, [case_in + 64]
  mov r9, [case_in + 72]
  mov r10, [case_in + 80]
  mov r11, [case_in + 88]
  mov r12, [case_in + 96]
  mov r13, [case_in + 104]
  mov r14, [case_in + 112]
  mov r15, [case_in + 120]
  jmp [case_in + 136]

case_done:
  mov [case_out], rax
  mov [case_out + 8], rcx
  mov [case_out + 16], rdx
  mov [case_out + 24], rbx
  mov [case_out + 32], rsp
  mov [case_out + 40], rbp
  mov [case_out + 48], rsi
  mov [case_out + 56], rdi
  mov [case_out + 64], r8
  mov [case_out + 72], r9
  mov [case_out + 80], r10
  mov [case_out + 88], r11
  mov [case_out + 96], r12
  mov [case_out + 104], r13
  mov [case_out + 112], r14
  mov [case_out + 120], r15
  mov rsp, [saved_rsp]
  pushf
  pop qword ptr [case_out + 128]
  fxsave [case_out + 160]
  cmp dword ptr [case_ymm], 0
  je case_faulted
  .set n, 0
  .irp ymm, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vextractf128 [case_out + 672 + n], ymm\ymm, 1
  .set n, n + 16
  .endr
  vzeroupper
case_faulted:
  mov rsp, [saved_rsp]
  cld
  fninit
  ldmxcsr [default_mxcsr]
  pop r15
  pop r14
  pop r13
  pop r12
  pop rbp
  pop rbx
  ret

/* The area of XSAVE at rbx, cleared; and with what differs by processor made the same: the fields of x87 beyond its
 * control word, XSTATE_BV, whose bits may be set though their state is as after reset, and MXCSR, which is stored or not
 * with that. */
  .globl zero_area, tidy_area
zero_area:
  push rax
  push rcx
  push rdi
  mov rdi, rbx
  xor eax, eax
  mov ecx, 832 / 8
  rep stosq
  pop rdi
  pop rcx
  pop rax
  ret
tidy_area:
  mov qword ptr [rbx + 24], 0
  and qword ptr [rbx + 512], -8
  mov dword ptr [rbx + 2], 0
  mov qword ptr [rbx + 6], 0
  mov qword ptr [rbx + 14], 0
  mov word ptr [rbx + 22], 0
  ret

  .globl on_alarm
on_alarm:
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  pcmpeqd xmm\number, xmm\number
  .endr
  cmp dword ptr [case_ymm], 0
  je 1f
  .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vpcmpeqd ymm\number, ymm\number, ymm\number
  .endr
1:
  ret

signal_return:
  mov eax, 15
  syscall

  .data
  .balign 8
saved_rsp: .quad 0
default_mxcsr: .long 0x1f80
  .section .note.GNU-stack, "", @progbits
