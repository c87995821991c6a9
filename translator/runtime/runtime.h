/* What the Linux layer may ask of the runtime, and what the runtime asks of the Linux layer.
 *
 * The runtime owns translated code: code cache, dispatch, linking, self-modifying code. It knows
 * nothing of system calls or signal frames. Everything here is async-signal-safe unless said. */
#ifndef STELE_RUNTIME_H
#define STELE_RUNTIME_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/state.h"

typedef enum RuntimeMemoryModel {
  RUNTIME_MEMORY_AUTO,    /* plain accesses until memory can be shared, then as TSO */
  RUNTIME_MEMORY_TSO,     /* ordered from the start */
  RUNTIME_MEMORY_RELAXED  /* never ordered, but for locked instructions and fences */
} RuntimeMemoryModel;

typedef struct RuntimeOptions {
  RuntimeMemoryModel memory_model;
  uint64_t hwcap, hwcap2;  /* AT_HWCAP, AT_HWCAP2 of the host */
  uint64_t code_cache_size; /* bytes; 0: default */
  bool avx;                /* XCR0 has AVX; otherwise its instructions raise #UD */
  bool exact_flags;        /* keep flags nobody reads, too, for handlers and debuggers */
  const char *dump;        /* STELE_DUMP: NULL, "all", or a guest address in hexadecimal */
  const char *stats_path;  /* STELE_STATS: written at exit; NULL for none */
  bool perf_map;           /* STELE_PERF_MAP: linux_perf_code() wants to know of all code */
} RuntimeOptions;

/* What generated code makes use of (A64_HAS_*) on a processor with these AT_HWCAP and AT_HWCAP2. */
uint32_t runtime_features(uint64_t hwcap, uint64_t hwcap2);

/* Maps the code cache and emits the trampolines. Once, before any thread runs. Negative errno on
 * failure. Not async-signal-safe. */
int runtime_init(const RuntimeOptions *options);

/* Allocates the state of a new guest thread with its shadow stack and branch cache; registers are those
 * of `like` or, where NULL, as after execve. NULL when out of memory. Freed by runtime_thread_free(),
 * which must not be called by the thread itself while on its shadow stack (it never is in C code). */
GuestCpu *runtime_thread_new(const GuestCpu *like);
void runtime_thread_free(GuestCpu *cpu);

/* Runs guest code from the synchronised state of `cpu` on the current C stack, for as long as the thread
 * lives. System calls go to linux_syscall(), and so on below. */
_Noreturn void runtime_run(GuestCpu *cpu);

/* Around a fork that copies memory: before it, then in the parent, or in the child (where only the calling
 * thread is left). In between, no thread is in the middle of a translation. */
void runtime_before_fork(void);
void runtime_after_fork_in_parent(void);
void runtime_after_fork(GuestCpu *cpu);

/* Guest memory [start, start+length) has been unmapped, remapped, or had its protection changed (also:
 * its contents replaced otherwise than by a guest store). Translations made from it are dropped in all
 * threads. Call after the change took effect and before the system call returns to the guest. */
void runtime_memory_changed(uint64_t start, uint64_t length);

/* To be called when MXCSR has been loaded, with the thread OUTSIDE: where it leaves an exception of SSE unmasked, the first
 * time all code is translated again, to look for such. */
void runtime_float_traps(const GuestCpu *cpu);

/* From now on other threads or processes may see this process' memory: in RUNTIME_MEMORY_AUTO all code
 * is translated again with ordered accesses. Cheap when it already is. Call before the thread, shared
 * writable mapping, shm segment or io_uring comes to be. */
void runtime_memory_shared(void);

/* The same in two steps, for a change by the host kernel (mmap, mprotect, munmap, …) of memory that code may have been
 * translated from: the runtime neither translates from it nor changes its protection in between. */
void runtime_change_begin(void);
void runtime_change_end(uint64_t start, uint64_t length);

/* Several threads are going to run guest code at once. Call before the first is created. */
void runtime_concurrent(void);

/* Around a system call that writes to guest memory [start, start+length): pages there that the runtime had
 * write-protected, to notice changed code, are released, and stay so in between. */
void runtime_write_begin(uint64_t start, uint64_t length);
void runtime_write_end(uint64_t start, uint64_t length);
/* A system call is going to be made by which the kernel may write there at any time from now on, until the memory is mapped or
 * protected anew: code there is checked whenever it is entered. */
void runtime_write_expected(uint64_t start, uint64_t length);
/* Whether there has been code the guest can write: otherwise the first two need not be called. */
bool runtime_has_writable_code(void);

typedef enum RuntimeFault {
  RUNTIME_FAULT_RESOLVED, /* return from the host handler, execution goes on */
  RUNTIME_FAULT_GUEST,    /* the guest's own fault: cpu holds the precise state, cpu->rip the instruction */
  RUNTIME_FAULT_OURS      /* not in generated code, and not caused by the runtime's own protections */
} RuntimeFault;

/* What the host's kernel says of a fault: si_signo, si_code, si_addr. */
typedef struct RuntimeHostFault {
  int32_t signal, code;
  uint64_t address;
} RuntimeHostFault;

/* First thing in the host handler of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP. `context` is the host ucontext_t, `write`
 * whether the access was a store (ESR). SIGBUS for a misaligned access becomes the fault that x86 has there instead: none
 * for the alignment, but perhaps one of the memory. */
RuntimeFault runtime_host_fault(GuestCpu *cpu, void *context, RuntimeHostFault *fault, bool write);

/* Whether the instruction at cpu->rip, which has just faulted, writes its memory operand: then even its load
 * counts as a write in the page-fault error code, as hardware asks for write access at once. */
bool runtime_faulting_write(const GuestCpu *cpu);
/* Whether what it accessed at `address`, which is not canonical, is in the stack segment: then it is #SS and not #GP (Intel
 * SDM volume 3, 6.15). */
bool runtime_faulting_stack(const GuestCpu *cpu, uint64_t address);

/* After RUNTIME_FAULT_GUEST: changes the host context so that returning from the handler continues the
 * guest from the (meanwhile changed) state in `cpu`, on the thread's C stack. */
void runtime_resume_after_fault(GuestCpu *cpu, void *context);

/* From a host handler of an asynchronous signal that has been queued for the guest: makes the thread
 * come to linux_deliver_signals() soon, also when `context` was inside generated code. */
void runtime_interrupt(GuestCpu *cpu, void *context);

/* Between the two no thread comes, goes or is kicked, and no kick is on its way to thread `tid` (0: to whichever), to which the
 * guest's SIGILL may be sent then: the kernel would take both for one, and the guest's would be lost. The runtime's lock. */
void runtime_hold_threads(int tid);
void runtime_release_threads(void);

/* Calls `visit` for each thread's state, between the two. */
void runtime_each_thread(void (*visit)(GuestCpu *cpu, void *argument), void *argument);

/* In the host handler of SIGILL: whether the signal is one by which the runtime brings a thread out of generated code;
 * it has been dealt with then. `siginfo` is the host's. */
bool runtime_take_kick(GuestCpu *cpu, const void *siginfo, void *context);

/* What other processes are known to write of this one's memory otherwise than by mappings that are shared with it. */
typedef enum RuntimeOutside {
  RUNTIME_OUTSIDE_NOTHING,
  RUNTIME_OUTSIDE_WRITABLE, /* what the guest may write: process_vm_writev(2) */
  RUNTIME_OUTSIDE_ALL       /* its code, too: /proc/PID/mem, proc(5) */
} RuntimeOutside;

/* Where another process of the same build's tells that (runtime/outside.c, linux/outside.c). It has first to say in `teller`
 * that it is going to send a signal, and sends none to who is `deaf` then. */
typedef struct RuntimeMailbox {
  uint64_t self;    /* its own address once the signal is understood: SIGTRAP, queued with this for a value */
  uint32_t wanted;  /* a RuntimeOutside, which never shrinks; written by others */
  uint32_t applied; /* what of that translated code reckons with */
  uint32_t teller;  /* not 0: a signal may be sent yet; written by others */
  uint32_t deaf;    /* 1: the process is about to execute another program */
  uint64_t nonce;   /* others find out by it whether two processes have the same memory */
  int32_t owner;    /* the first process that has this memory, in its own namespace */
} RuntimeMailbox;
extern RuntimeMailbox runtime_mailbox;

/* Whether a signal, of which `siginfo` is the host's, is such a one. */
bool runtime_is_notice(const void *siginfo);

/* In the host handler of SIGTRAP: the same; it has been dealt with then. */
bool runtime_take_notice(GuestCpu *cpu, const void *siginfo, void *context);

/* Around execve(), by which no such signal may be on its way: the new program would be killed by it. */
void runtime_exec_begin(void);
void runtime_exec_failed(void);

/* True when the host PC lies in generated code or a trampoline. */
bool runtime_is_generated_code(uint64_t host_pc);

/* Translations made before (image/image.h), which stay mapped for good: code is taken from there where it can be, of several
 * stores from the one named first that has the file. Nothing happens when they are not this build's, or there are
 * RUNTIME_STORES_MAX already. Before any thread runs. */
enum { RUNTIME_STORES_MAX = 32 };
void runtime_use_store(const void *bytes, uint64_t size);
/* Whether a store has code of a file, by its image_file_key(), as it is translated now; whether this process could use it. */
bool runtime_has_image(uint64_t file);
bool runtime_takes_images(void);

/* The program's loader lies in [start, end) and is going to enter the program at `program_entry`. Before any thread runs. */
void runtime_loader(uint64_t start, uint64_t end, uint64_t program_entry);

/* A file is mapped executable at [start, start + length), from `offset` on; `file` is its image_file_key(). */
void runtime_file_mapped(uint64_t file, uint64_t start, uint64_t length, uint64_t offset);

/* Writes STELE_STATS; the Linux layer calls it before exit_group. */
void runtime_write_stats(void);

/* --- Provided by the Linux layer ------------------------------------------------------------------ */

/* SYSCALL was executed: cpu is synchronised, cpu->rip is the next instruction. The result goes to
 * cpu->gpr[RAX]; the layer sets RCX and R11 as the instruction does. May change everything in cpu. */
void linux_syscall(GuestCpu *cpu);

/* A safe point with cpu->interrupt set: delivers what is deliverable and clears cpu->interrupt first. */
void linux_deliver_signals(GuestCpu *cpu);

/* Beside the processor's bits of a page fault's error code: the page is mapped, and the host has none for it, as behind the
 * end of a mapped file (SIGBUS). */
#define RUNTIME_NO_PAGE (UINT64_C(1) << 32)

/* The instruction at cpu->rip raises a hardware exception. Builds the guest's signal frame or ends the
 * process. `vector` is the x86 exception (0 #DE, 1 #DB, 3 #BP, 4 #OF, 6 #UD, 13 #GP, 14 #PF, 16 #MF,
 * 17 #AC, 19 #XM), `address` the faulting address for #PF (si_addr), `error_code` as in ucontext, with RUNTIME_NO_PAGE; of
 * #DB, which has none, 1 where a repeated instruction goes on afterwards. */
void linux_raise_exception(GuestCpu *cpu, int vector, uint64_t address, uint64_t error_code);

/* There is code for a guest function, or a part of one, at [code, code + size). The runtime's lock is held. */
void linux_perf_code(uint64_t code, uint64_t size, uint64_t guest_pc);

/* Answers CPUID at cpu->rip from EAX, ECX in the synchronised state into EAX, EBX, ECX, EDX. */
void linux_cpuid(GuestCpu *cpu);

#endif
