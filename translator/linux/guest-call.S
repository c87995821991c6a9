/* System calls made for the guest, and copies to and from its memory: code whose addresses matter to the
 * host's signal handler.
 *
 * linux_guest_call_raw: between linux_window_start and linux_window_end the call has not taken effect. A
 * signal handler that finds the PC there sends it to linux_window_abort, so a signal can never arrive
 * between the look at pending_signal and a call that then blocks. The kernel itself sets the PC back to
 * the SVC when it would restart the call (SA_RESTART), which ends the same way: the guest's instruction is
 * executed again after its handler has run.
 *
 * The guarded functions touch guest memory; a fault between linux_guarded_start and linux_guarded_end
 * continues at linux_guarded_fault. They use no stack and do not change x30. */
  .text

.macro function name
  .globl \name
  .type \name, %function
\name:
.endm

/* int64_t linux_guest_call_raw(uint32_t *pending, int64_t number, const uint64_t argument[6]) */
  .balign 16
function linux_guest_call_raw
  mov x9, x0
  mov x8, x1
  mov x10, x2
  ldp x0, x1, [x10]
  ldp x2, x3, [x10, #16]
  ldp x4, x5, [x10, #32]
function linux_window_start
  ldr w9, [x9]
  cbnz w9, linux_window_abort
  svc #0
function linux_window_end
  ret
function linux_window_abort
  mov x0, #-512 /* LINUX_RESTART */
  ret

/* int linux_guarded_copy(void *to, const void *from, size_t length): 0 or -EFAULT */
  .balign 16
function linux_guarded_start
function linux_guarded_copy
  subs x2, x2, #32
  b.lo 2f
1:ldp x3, x4, [x1]
  ldp x5, x6, [x1, #16]
  add x1, x1, #32
  stp x3, x4, [x0]
  stp x5, x6, [x0, #16]
  add x0, x0, #32
  subs x2, x2, #32
  b.hs 1b
2:add x2, x2, #32
1:subs x2, x2, #8
  b.lo 2f
  ldr x3, [x1], #8
  str x3, [x0], #8
  b 1b
2:add x2, x2, #8
1:cbz x2, 2f
  ldrb w3, [x1], #1
  strb w3, [x0], #1
  sub x2, x2, #1
  b 1b
2:mov x0, #0
  ret

/* int linux_guarded_string(char *to, const char *from, size_t size): length, -ENAMETOOLONG or -EFAULT */
function linux_guarded_string
  mov x3, #0
1:cmp x3, x2
  b.hs 2f
  ldrb w4, [x1, x3]
  strb w4, [x0, x3]
  cbz w4, 3f
  add x3, x3, #1
  b 1b
2:mov x0, #-36
  ret
3:mov x0, x3
  ret

/* int linux_guarded_prefix(const char *text, const char *prefix): 1 when text starts with prefix */
function linux_guarded_prefix
1:ldrb w3, [x1], #1
  cbz w3, 2f
  ldrb w4, [x0], #1
  cmp w3, w4
  b.eq 1b
  mov x0, #0
  ret
2:mov x0, #1
  ret
function linux_guarded_end

function linux_guarded_fault
  mov x0, #-14
  ret

/* int64_t linux_clone_raw(uint64_t flags, void *stack, uint64_t parent_tid, void *tls, uint64_t child_tid,
 *                         void (*start)(void *), void *argument)
 * The child runs start(argument) on `stack` and never returns. */
  .balign 16
function linux_clone_raw
  mov x9, x5
  mov x10, x6
  mov x8, #220
  svc #0
  cbz x0, 1f
  ret
1:mov x29, #0
  mov x30, #0
  mov x0, x10
  br x9

/* int64_t linux_clone3_raw(void *arguments, size_t size, void (*start)(void *), void *argument) */
function linux_clone3_raw
  mov x9, x2
  mov x10, x3
  mov x8, #435
  svc #0
  cbz x0, 1f
  ret
1:cbz x9, 2f
  mov x29, #0
  mov x30, #0
  mov x0, x10
  br x9
2:ret

/* void linux_exit_raw(void *stack, size_t length, int status): unmaps the stack it runs on and exits. */
function linux_exit_raw
  mov w9, w2
  mov x8, #215
  svc #0
  mov w0, w9
  mov x8, #93
  svc #0
  brk #0

  .section .note.GNU-stack, "", %progbits
