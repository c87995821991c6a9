/* Numbers shared by C and the assembler trampolines; runtime.c asserts that they match GuestCpu. */
#ifndef STELE_RUNTIME_LAYOUT_H
#define STELE_RUNTIME_LAYOUT_H

#define CPU_GPR           0
#define CPU_NZCV          136
#define CPU_FLAG_RESULT   144
#define CPU_INTERRUPT     212
#define CPU_XMM           432
#define CPU_HOST_SP       736
#define CPU_SHADOW_SP     744
#define CPU_SCRATCH       768
#define CPU_SHADOW_BASE   752
#define CPU_BRANCH_CACHE  832
#define CPU_EXIT_ARGUMENT 840
#define CPU_HELPER_RETURN 848
#define CPU_SECOND_BUDGET 872

/* A64Trampoline's numbers, and leaving for a signal found on the way in. */
#define TRAMPOLINE_LINK        0
#define TRAMPOLINE_INDIRECT    1
#define TRAMPOLINE_RETURN      2
#define TRAMPOLINE_SYSCALL     3
#define TRAMPOLINE_RAISE       4
#define TRAMPOLINE_INTERRUPTED 6
#define TRAMPOLINE_RESUMED     7
#define TRAMPOLINE_REASONS     8

/* The branch cache's two tables lie one behind the other (guest/state.h). */
#define BRANCH_CACHE_BITS      14
#define BRANCH_CACHE_TABLE     0x40000

#endif
