/* Between generated code and C.
 *
 * runtime_enter(cpu, host_pc) loads the guest's registers and goes to generated code; the code comes back
 * through one of the trampolines, which save the guest's registers into GuestCpu and make runtime_enter()
 * return the trampoline's number. Vector registers are not touched here: C code has no use for them (all of it
 * is compiled for general registers only), so they stay the guest's.
 *
 * The trampolines are copied to the beginning of the code cache, where generated code can branch to them;
 * they are position independent and find C through GuestCpu. Offsets are checked by
 * runtime/layout.h's assertions. */
#include "runtime/layout.h"

        .text

/* Saves what generated code holds in general registers and NZCV. Destroys x0, x1. */
        .macro  save_guest
        stp     x0, x1, [x28, #CPU_GPR + 0]
        stp     x2, x3, [x28, #CPU_GPR + 16]
        stp     x4, x5, [x28, #CPU_GPR + 32]
        stp     x6, x7, [x28, #CPU_GPR + 48]
        stp     x8, x9, [x28, #CPU_GPR + 64]
        stp     x10, x11, [x28, #CPU_GPR + 80]
        stp     x12, x13, [x28, #CPU_GPR + 96]
        stp     x14, x15, [x28, #CPU_GPR + 112]
        mrs     x0, nzcv
        str     x0, [x28, #CPU_NZCV]
        stp     x27, x26, [x28, #CPU_FLAG_RESULT]
        .endm

        .macro  load_guest
        ldp     x27, x26, [x28, #CPU_FLAG_RESULT]
        ldr     x0, [x28, #CPU_NZCV]
        msr     nzcv, x0
        ldp     x0, x1, [x28, #CPU_GPR + 0]
        ldp     x2, x3, [x28, #CPU_GPR + 16]
        ldp     x4, x5, [x28, #CPU_GPR + 32]
        ldp     x6, x7, [x28, #CPU_GPR + 48]
        ldp     x8, x9, [x28, #CPU_GPR + 64]
        ldp     x10, x11, [x28, #CPU_GPR + 80]
        ldp     x12, x13, [x28, #CPU_GPR + 96]
        ldp     x14, x15, [x28, #CPU_GPR + 112]
        .endm

/* unsigned runtime_enter(GuestCpu *cpu, uint64_t host_pc) */
        .global runtime_enter
        .hidden runtime_enter
        .type   runtime_enter, %function
runtime_enter:
        stp     x29, x30, [sp, #-96]!
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        mov     x28, x0
        mov     x17, x1
        mov     x16, sp
        str     x16, [x28, #CPU_HOST_SP]
        ldr     x16, [x28, #CPU_SHADOW_SP]
        mov     sp, x16
        ldr     x25, [x28, #CPU_BRANCH_CACHE]
        movi    v31.2d, #0
        load_guest
        /* A signal that arrives between the test and the branch finds the PC here and sends it back
         * (runtime_interrupt). */
        .global runtime_enter_check, runtime_enter_go
        .hidden runtime_enter_check, runtime_enter_go
runtime_enter_check:
        ldr     w16, [x28, #CPU_INTERRUPT]
        cbnz    w16, runtime_enter_stop
        br      x17
runtime_enter_go:
        .global runtime_enter_stop
        .hidden runtime_enter_stop
runtime_enter_stop:
        save_guest
        mov     x16, sp
        str     x16, [x28, #CPU_SHADOW_SP]
        mov     w0, #TRAMPOLINE_INTERRUPTED
        ldr     x16, [x28, #CPU_HOST_SP]
        mov     sp, x16
        b       runtime_leave
        .size   runtime_enter, . - runtime_enter

/* With sp the C stack and w0 the reason: returns from runtime_enter(). Host signal handlers send threads here
 * with a synchronised state (runtime_resume_after_fault). */
        .global runtime_leave
        .hidden runtime_leave
        .type   runtime_leave, %function
runtime_leave:
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     x29, x30, [sp], #96
        ret
        .size   runtime_leave, . - runtime_leave

/* --- Copied to the code cache ------------------------------------------------------------------- */

        .global runtime_trampolines_start, runtime_trampolines_end
        .hidden runtime_trampolines_start, runtime_trampolines_end
        .balign 16
runtime_trampolines_start:

        .macro  leave_trampoline name, number
        .global runtime_trampoline_\name
        .hidden runtime_trampoline_\name
runtime_trampoline_\name:
        save_guest
        mov     w0, #\number
        b       leave_common
        .endm

        leave_trampoline link, TRAMPOLINE_LINK
        leave_trampoline indirect, TRAMPOLINE_INDIRECT
        leave_trampoline return, TRAMPOLINE_RETURN

/* Where indirect branches and returns go at first that have not found their target, x17. The second table of the branch
 * cache is indexed by bits in which aligned targets differ; now and then one that is found there goes the long way, which
 * enters it in the first: the first is where the busiest of those that share an entry should be. x16 is 0 where it has the target, and x30 its code.
 * x23 keeps x30, by which the instruction is found if its target is no address (runtime.c). */
        .macro  look_in_second
        eor     x16, x17, x17, lsr #BRANCH_CACHE_BITS
        ubfx    x16, x16, #4, #BRANCH_CACHE_BITS
        and     x30, x25, #~(2 * BRANCH_CACHE_TABLE - 1)
        add     x30, x30, #BRANCH_CACHE_TABLE
        add     x30, x30, x16, lsl #4
        ldp     x16, x30, [x30]
        sub     x16, x16, x17
        .endm

/* A thread that is to come out is sent on to the dispatcher from here, with x17 as it is (thread_bring_out()). */
        .global runtime_second_indirect, runtime_second_return, runtime_second_end
        .hidden runtime_second_indirect, runtime_second_return, runtime_second_end
runtime_second_indirect:
        mov     x23, x30
        look_in_second
        cbnz    x16, 5f
        ldr     x16, [x28, #CPU_SECOND_BUDGET]
        sub     x16, x16, #1
        str     x16, [x28, #CPU_SECOND_BUDGET]
        cbz     x16, 5f
        br      x30
5:      mov     x30, x23
        b       runtime_trampoline_indirect

/* A return that went elsewhere than the newest call that was predicted. That call's entry has been popped: either
 * one further up is this return's, as after longjmp(); or it is still wanted, as after a return that was used as a
 * jump. */
runtime_second_return:
        mov     x23, x30
        bfi     x25, x17, #4, #BRANCH_CACHE_BITS
        ldp     x16, x30, [x25]
        sub     x16, x16, x17
        cbz     x16, 1f
        look_in_second
        cbnz    x16, 5f
1:      mov     x19, sp
        ldr     x20, [x28, #CPU_SHADOW_BASE]
        mov     w21, #16
2:      sub     x22, x19, x20
        tbz     x22, #63, 3f
        ldr     x22, [x19], #16
        sub     x22, x22, x17
        cbz     x22, 4f
        sub     w21, w21, #1
        cbnz    w21, 2b
3:      mov     x19, sp
        sub     x22, x20, x19
        sub     x19, x19, #16
        tbz     x22, #63, 4f
        mov     x19, x20
4:      mov     sp, x19
        br      x30
5:      mov     x30, x23
        b       runtime_trampoline_return
runtime_second_end:

/* Where a return goes that fits what is no prediction. */
        .global runtime_no_return
        .hidden runtime_no_return
runtime_no_return:
        mov     x17, #-1
        b       runtime_trampoline_return

        leave_trampoline syscall, TRAMPOLINE_SYSCALL
        leave_trampoline raise, TRAMPOLINE_RAISE

leave_common:
        str     x16, [x28, #CPU_SCRATCH + 40]
        str     x17, [x28, #CPU_SCRATCH + 48]
        str     x30, [x28, #CPU_EXIT_ARGUMENT]
        mov     x16, sp
        str     x16, [x28, #CPU_SHADOW_SP]
        ldr     x16, [x28, #CPU_HOST_SP]
        mov     sp, x16
        ldr     x16, runtime_trampoline_addresses
        br      x16

/* x16 helper number, x17 argument. CPU_HELPER_RETURN is not 0 while the helper runs: faults in it are the
 * guest instruction's. A thread to be brought out finds where the helper returns to in x30 before runtime_helper_stored
 * and from runtime_helper_loaded on, and in CPU_HELPER_RETURN in between (runtime_interrupt()). */
        .global runtime_trampoline_helper
        .hidden runtime_trampoline_helper
runtime_trampoline_helper:
        save_guest
        str     x30, [x28, #CPU_HELPER_RETURN]
        .global runtime_helper_stored, runtime_helper_loaded, runtime_helper_end
        .hidden runtime_helper_stored, runtime_helper_loaded, runtime_helper_end
runtime_helper_stored:
        ldr     x9, runtime_trampoline_addresses + 8
        ldr     w10, [x9, w16, uxtw #2]
        add     x9, x9, w10, sxtw
        mov     x10, sp
        str     x10, [x28, #CPU_SHADOW_SP]
        ldr     x11, [x28, #CPU_HOST_SP]
        mov     sp, x11
        mov     x0, x28
        mov     x1, x17
        blr     x9
        ldr     x16, [x28, #CPU_SHADOW_SP]
        mov     sp, x16
        ldr     x30, [x28, #CPU_HELPER_RETURN]
runtime_helper_loaded:
        str     xzr, [x28, #CPU_HELPER_RETURN]
        load_guest
        ret
runtime_helper_end:
        /* Where C begins: runtime_leave(), runtime_helper_table. Filled in where the trampolines are copied to. */
        .balign 8
        .global runtime_trampoline_addresses
        .hidden runtime_trampoline_addresses
runtime_trampoline_addresses:
        .quad   0, 0
        .balign 16
runtime_trampolines_end:

/* Helper addresses as distances from the table: no relocations. */
        .section .rodata
        .balign 8
        .global runtime_helper_table
        .hidden runtime_helper_table
runtime_helper_table:
#define HELPER(name, function) .hidden function; .word function - runtime_helper_table;
#include "lift/helpers.def"
#undef HELPER

/* --- Vector registers ----------------------------------------------------------------------------- */

        .text
/* void runtime_save_vectors(GuestCpu *cpu), void runtime_load_vectors(const GuestCpu *cpu) */
        .global runtime_save_vectors
        .hidden runtime_save_vectors
runtime_save_vectors:
        add     x1, x0, #CPU_XMM
        stp     q0, q1, [x1]
        stp     q2, q3, [x1, #32]
        stp     q4, q5, [x1, #64]
        stp     q6, q7, [x1, #96]
        stp     q8, q9, [x1, #128]
        stp     q10, q11, [x1, #160]
        stp     q12, q13, [x1, #192]
        stp     q14, q15, [x1, #224]
        ret
        .global runtime_load_vectors
        .hidden runtime_load_vectors
runtime_load_vectors:
        add     x1, x0, #CPU_XMM
        ldp     q0, q1, [x1]
        ldp     q2, q3, [x1, #32]
        ldp     q4, q5, [x1, #64]
        ldp     q6, q7, [x1, #96]
        ldp     q8, q9, [x1, #128]
        ldp     q10, q11, [x1, #160]
        ldp     q12, q13, [x1, #192]
        ldp     q14, q15, [x1, #224]
        ret

/* --- Guarded calls ---------------------------------------------------------------------------------- */

/* int runtime_guard_call(GuardFrame *frame, void (*function)(void *), void *argument) */
        .global runtime_guard_call
        .hidden runtime_guard_call
        .type   runtime_guard_call, %function
runtime_guard_call:
        stp     x19, x20, [x0]
        stp     x21, x22, [x0, #16]
        stp     x23, x24, [x0, #32]
        stp     x25, x26, [x0, #48]
        stp     x27, x28, [x0, #64]
        stp     x29, x30, [x0, #80]
        mov     x16, sp
        str     x16, [x0, #96]
        mov     x19, x0
        mov     x0, x2
        blr     x1
        ldp     x29, x30, [x19, #80]
        mov     x0, x19
        ldr     x19, [x0]
        mov     w0, #1
        ret
/* The fault handler goes here with x0 the frame. */
        .global runtime_guard_fault
        .hidden runtime_guard_fault
runtime_guard_fault:
        ldp     x19, x20, [x0]
        ldp     x21, x22, [x0, #16]
        ldp     x23, x24, [x0, #32]
        ldp     x25, x26, [x0, #48]
        ldp     x27, x28, [x0, #64]
        ldp     x29, x30, [x0, #80]
        ldr     x16, [x0, #96]
        mov     sp, x16
        mov     w0, #0
        ret
        .size   runtime_guard_call, . - runtime_guard_call

        .section .note.GNU-stack, "", %progbits
