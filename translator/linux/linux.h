/* The Linux layer's own state and tools, shared by its files: what a guest thread and a guest process are
 * beside their registers, how guest memory is touched safely, and how system calls are made for the guest.
 *
 * The layer knows no instruction; it sees registers through guest/state.h and the rest of the translator
 * through runtime/runtime.h. Every function returns a negative errno on failure unless it says otherwise. */
#ifndef STELE_LINUX_LINUX_H
#define STELE_LINUX_LINUX_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"
#include "base/host-call.h"
#include "guest/memory-map.h"
#include "guest/state.h"

enum {
  RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15
};

enum { LINUX_PATH_MAX = 4096, LINUX_SIGNALS = 64 };

/* Results of a system call that never reach the guest. */
enum {
  LINUX_RESTART = -512, /* a signal came first: deliver it, then execute the instruction again */
  LINUX_STATE_SET = -600 /* the call has set all of the guest's registers itself */
};

/* A guest signal's disposition; the layout is the x86-64 kernel's struct sigaction. */
typedef struct LinuxAction {
  uint64_t handler; /* 0 SIG_DFL, 1 SIG_IGN */
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
} LinuxAction;

/* siginfo_t, equal on both architectures (include/uapi/asm-generic/siginfo.h). */
typedef struct LinuxSiginfo {
  int32_t signal, error, code, pad;
  uint64_t field[14];
} LinuxSiginfo;
_Static_assert(sizeof(LinuxSiginfo) == 128, "kernel ABI");

/* stack_t, equal on both architectures. */
typedef struct LinuxStack {
  uint64_t address;
  int32_t flags, pad;
  uint64_t size;
} LinuxStack;

/* What threads that share signal handlers share (CLONE_SIGHAND). */
typedef struct LinuxHandlers {
  BaseLock lock;
  uint32_t users;
  uint64_t known; /* signals whose inherited disposition has been asked for */
  LinuxAction action[LINUX_SIGNALS + 1]; /* by signal number */
} LinuxHandlers;

enum { LINUX_EXCEPTIONS = 5 }; /* signals that processor exceptions become */

/* Those of them that were sent while the guest has them blocked (held.c). */
typedef struct LinuxHeld {
  uint32_t count, state[LINUX_EXCEPTIONS];
  LinuxSiginfo info[LINUX_EXCEPTIONS];
} LinuxHeld;

/* What threads of one process share (CLONE_THREAD). */
typedef struct LinuxProcess {
  uint32_t users;
  uint64_t fetchable; /* of those signals, the ones a signalfd() was made for; bit n - 1: signal n */
  LinuxHeld held;     /* sent to the process */
} LinuxProcess;

/* A guest thread, beside its registers. */
typedef struct LinuxThread {
  /* One asynchronous signal taken by the host handler and not yet given to the guest; while it is here,
   * the host has all others blocked for this thread. First: linux/guest-call.S reads it. */
  uint32_t pending_signal;
  LinuxSiginfo pending;
  LinuxHeld held;     /* sent to the thread */
  LinuxProcess *process;
  bool sharing;       /* has taken one that was sent to the process, and is to see who wants it */
  uint64_t wanted;    /* the set of sigtimedwait() */
  uint64_t fetching;  /* exceptions' signals that the host has blocked for the time of a call that may fetch them */
  int64_t fetch_number;       /* that call: the host's number, */
  uint64_t fetch_argument[6]; /* and what it was made with */
  bool ending;        /* is given no signals any more */
  uint64_t addressed; /* such signals that are on their way to this thread by rt_tgsigqueueinfo() */

  GuestCpu *cpu;
  LinuxHandlers *handlers;
  int tid;
  uint64_t mask;         /* the guest's signal mask */
  uint64_t suspend_mask; /* in force during sigsuspend, ppoll and the like, where `suspended` */
  bool suspended;
  bool in_fault;            /* in the host handler of a synchronous fault: fault_context is its context */
  void *fault_context;
  LinuxStack alternate; /* the guest's alternate signal stack */
  uint64_t clear_tid;   /* where the kernel writes 0 and wakes when the thread ends; 0: nowhere */
  uint64_t set_tid;     /* a new thread's: where the kernel has written its number */
  uint64_t robust_list; /* head of the list of locks the kernel releases then */
  struct LinuxThread *copied_from; /* a vfork child's that has a copy of memory: its parent */
  void *stack;       /* host stacks of a thread we made; NULL for the first one */
  void *exec_memory; /* what an execve under way has allocated: a vfork parent frees it */
} LinuxThread;

static inline LinuxThread *linux_thread(GuestCpu *cpu) { return cpu->linux_thread; }

/* The calling thread's state, or NULL before there is one. */
static inline GuestCpu *linux_current_cpu(void) {
  GuestCpu *cpu;
  __asm__("mrs %0, tpidr_el0" : "=r"(cpu));
  return cpu;
}

/* --- Guest memory (guest-access.c) ------------------------------------------------------------------
 * Addresses are the guest's and may be wrong: -EFAULT then, as the kernel would say. */

int linux_copy_in(void *to, uint64_t from, size_t length);
int linux_copy_out(uint64_t to, const void *from, size_t length);

/* A zero-terminated string; its length, -EFAULT, or -ENAMETOOLONG when it does not fit `size`. */
int linux_copy_string(char *to, uint64_t from, size_t size);

/* Whether a fault at host PC `pc` happened in one of the above, and where to go on then. */
bool linux_access_fault(uint64_t pc, uint64_t *ret_continue);

/* --- Host calls for the guest (guest-call.S, syscalls.c) -------------------------------------------- */

/* The host's system call `number` with the guest's arguments; LINUX_RESTART when a signal came before it
 * began. */
int64_t linux_guest_call(LinuxThread *thread, int64_t number, const uint64_t argument[6]);

/* The same with the arguments spelled out. */
#define linux_guest_call_list(thread, number, ...)                                                   \
  linux_guest_call(thread, number, (const uint64_t[6]){__VA_ARGS__})

/* Whether `pc` is inside the window before a guest call's SVC takes effect, and where to go to give up. */
bool linux_call_window(uint64_t pc, uint64_t *ret_abort);

/* Whether a signal has ended a guest call that did nothing (EINTR), of which the handler's context `pc`, `result` tell, and
 * where to go so that it is made again. */
bool linux_call_interrupted(uint64_t pc, uint64_t result, uint64_t *ret_again);

/* The guest's system call `number`, wherever it comes from: the result, nothing else. */
int64_t linux_call_by_number(GuestCpu *cpu, uint64_t number, const uint64_t argument[6]);

/* No program has memory from here on (TASK_SIZE_MAX of arch/x86/include/asm/page_64.h). */
#define LINUX_TASK_END (MEMORY_GUEST_END - MEMORY_PAGE_SIZE)

/* Where the vsyscall page would be (vsyscall.c). */
#define LINUX_VSYSCALL_PAGE UINT64_C(0xffffffffff600000)

/* Undoes what sending a signal to oneself does to siginfo, of one the host has delivered (signals.c). */
void linux_siginfo_from_host(LinuxSiginfo *info);

/* A handler of the table in syscalls.def: the arguments are RDI, RSI, RDX, R10, R8, R9. */
typedef int64_t LinuxSyscall(GuestCpu *cpu, const uint64_t argument[6]);

/* --- Memory (memory.c) ------------------------------------------------------------------------------ */

/* Where new mappings are looked for first; set once at start. */
void linux_memory_init(uint64_t stack_low, bool randomize);

/* mmap for the guest: as the system call, with guest protections. The address or a negative errno. */
int64_t linux_map(uint64_t address, uint64_t length, int protection, int flags, int fd,
                  uint64_t offset);
int64_t linux_unmap(uint64_t address, uint64_t length);
int64_t linux_protect(uint64_t address, uint64_t length, int protection);

/* The break starts at `address` (page-aligned). */
void linux_brk_init(uint64_t address);

/* Around a fork that copies memory. The child does without the code of what its parent keeps from it (madvise(2)). */
void linux_memory_before_fork(void);
void linux_memory_after_fork(bool in_child);

/* --- Files (files.c) -------------------------------------------------------------------------------- */

/* Open flags between x86-64's and AArch64's values; the exchange is its own inverse. */
uint64_t linux_open_flags(uint64_t flags);

/* --- Signals (signals.c) ---------------------------------------------------------------------------- */

/* Installs the host handlers of synchronous faults and reads the dispositions and mask inherited. `ignored`: what
 * linux_signals_ignored() said where another translated program executed this one. */
void linux_signals_init(LinuxThread *thread, uint64_t ignored);

/* A thread's alternate host stack, on the thread itself. */
void linux_signals_thread_stack(void *base, size_t size);

/* Makes `mask` the guest's and applies it to the host, as far as faults we need allow. */
void linux_set_mask(LinuxThread *thread, uint64_t mask);

/* A copy of `mask` for temporary use by the host (ppoll and the like). */
uint64_t linux_host_mask(uint64_t mask);

/* A temporary mask at a guest address for ppoll and the like: *ret_mask is the host's form, and the thread
 * is marked suspended with it until the next delivery. `address` 0: *ret_host is 0. */
int linux_suspend_mask(LinuxThread *thread, uint64_t address, uint64_t size, uint64_t *mask_storage,
                       uint64_t *ret_host);

/* The signals of processor exceptions that a host call made now may fetch, by sigtimedwait() or from a signalfd(), or 0: then
 * around it the host blocks them as the guest does, and its kernel has those that are held for this thread or for such a
 * call (fetch.c). */
uint64_t linux_fetches(const LinuxThread *thread);
void linux_fetch_begin(LinuxThread *thread, uint64_t signals, int64_t number, const uint64_t argument[6]);
void linux_fetch_end(LinuxThread *thread);

/* What such a call has read into the guest's memory from a signalfd() gets the si_code it was sent with, and loses what was
 * not for the program. What the call returns then; LINUX_RESTART when nothing is left. */
int64_t linux_fetched(int64_t number, const uint64_t argument[6], int64_t result);

/* The calling thread is about to end: all signals are blocked, and those it has for the process go to others. */
void linux_signals_thread_ends(LinuxThread *thread);

/* Whether linux_deliver_signals() may have something to do. */
static inline bool linux_signals_wait(const LinuxThread *thread) {
  return thread->pending_signal || __atomic_load_n(&thread->held.count, __ATOMIC_SEQ_CST) ||
         __atomic_load_n(&thread->process->held.count, __ATOMIC_SEQ_CST);
}

/* Blocks every signal on the host, for a stretch that must not be interrupted; the guest's mask is applied
 * again by linux_unblock(). */
void linux_block_all(void);
void linux_unblock(LinuxThread *thread);

/* Around execve: the mask that survives it, of which a part is only ours otherwise. */
void linux_signals_before_exec(LinuxThread *thread);
void linux_signals_after_failed_exec(LinuxThread *thread);

/* The signals of processor exceptions that the guest ignores (bit n - 1: signal n), which the host never does. */
uint64_t linux_signals_ignored(LinuxThread *thread);

/* The option by which a program executed by a translated one is told of those, in hexadecimal: not a user's. */
#define LINUX_IGNORED_OPTION "STELE_IGNORED="

/* In a child whose kernel-side handlers were all reset (CLONE_CLEAR_SIGHAND). */
void linux_signals_reinstall(LinuxThread *thread);

/* Kills the process by `signal`'s default action. */
_Noreturn void linux_die(int signal);

/* The size of the largest signal frame (AT_MINSIGSTKSZ). */
uint64_t linux_frame_size(void);

/* --- Signal frames (signal-frame.c) ----------------------------------------------------------------- */

typedef struct LinuxFault {
  uint64_t vector, error_code, address; /* trapno, err, cr2 of the frame */
} LinuxFault;

/* Builds the frame for `info` and points the guest at the handler. -EFAULT when the stack is bad. */
int linux_frame_build(LinuxThread *thread, const LinuxSiginfo *info, const LinuxAction *action,
                      const LinuxFault *fault, uint64_t saved_mask);

/* --- Threads and processes (process.c) -------------------------------------------------------------- */

/* A thread's state around `cpu`, with what it shares: NULL for the first thread's. NULL when out of memory. */
LinuxThread *linux_thread_new(GuestCpu *cpu, LinuxHandlers *handlers, LinuxProcess *process);
void linux_set_current(GuestCpu *cpu);

/* --- The program (program.c, load.c, main.c) -------------------------------------------------------- */

/* What CPUID offers: the x86-64 psABI's micro-architecture levels, each with what of its time is implemented besides.
 * What is not offered is there all the same, as on a processor whose hypervisor hides it; but for AVX and XSAVE, whose
 * state an operating system has to enable: below x86-64-v3 they raise #UD. */
typedef enum LinuxCpuLevel { LINUX_CPU_BASELINE, LINUX_CPU_V2, LINUX_CPU_V3, LINUX_CPU_LEVELS } LinuxCpuLevel;

/* Whose name CPUID's leaf 0 gives: one that software knows, or our own. */
typedef enum LinuxCpuVendor { LINUX_CPU_INTEL, LINUX_CPU_AMD, LINUX_CPU_OWN } LinuxCpuVendor;

typedef struct LinuxProgram {
  char exe[LINUX_PATH_MAX];  /* resolved path of the guest's executable: /proc/self/exe */
  int exe_fd;                /* open on it where that path leads nowhere (deleted, a memfd), else -1 */
  uint64_t exe_device, exe_inode;
  char self[LINUX_PATH_MAX]; /* resolved path of stele */
  uint64_t argv_start, argv_end; /* the strings on the guest's stack */
  uint64_t envp_start, envp_end;
  uint64_t stack_low, stack_high; /* the first thread's stack */
  uint8_t auxv[512];              /* as the guest got it */
  size_t auxv_size;
  bool kernel_knows;      /* the kernel was told where these are, and answers for /proc/PID/… */
  bool by_binfmt;         /* the kernel started us: it will start our children too */
  bool randomize;
  char *const *options;   /* STELE_… settings to hand to children, NULL-terminated */
  const char *exec_wrapper; /* STELE_EXEC_WRAPPER */
  LinuxCpuLevel cpu_level;
  LinuxCpuVendor cpu_vendor;
  const char *cpu_model;  /* the processor's name, NULL for the default */
  uint64_t pid_namespace; /* STELE_PID_NAMESPACE: inode of the one to be told as the first, or 0 */
  uint64_t host_hwcap, host_hwcap2;
} LinuxProgram;
extern LinuxProgram linux_program;

/* Whether the translator itself runs under an emulator of user programs, qemu-aarch64, which does some of what a kernel does
 * in its own way: it is put in front of stele for other programs then. */
static inline bool linux_is_emulated(void) { return linux_program.exec_wrapper != NULL; }

/* What loading a program yields. */
typedef struct LinuxLoaded {
  uint64_t entry;            /* first instruction: the loader's, where there is one */
  uint64_t program_entry;    /* AT_ENTRY */
  uint64_t program_headers;  /* AT_PHDR */
  uint64_t program_header_count;
  uint64_t loader_base;      /* AT_BASE */
  uint64_t loader_low, loader_high; /* its image; 0: there is none */
  uint64_t low, high;        /* the program's image */
  bool executable_stack;
  uint64_t brk;
} LinuxLoaded;

/* Maps the program open as `fd` and its loader. On failure the negative errno and in `message` a sentence
 * that says what, which file and where. */
int linux_load(int fd, const char *path, LinuxLoaded *ret_loaded, char *message, size_t message_size);

/* Whether linux_load() would accept the file as far as its headers and its loader's existence tell. */
int linux_examine(int fd, const char *path);

/* Maps the first stack, large enough for `argv` and `envp`, and says where other mappings go. */
int64_t linux_program_stack(char *const *argv, char *const *envp);

/* Fills the guest's first stack; RSP on success. */
int64_t linux_build_stack(const LinuxLoaded *loaded, char *const *argv, char *const *envp,
                          const char *execfn, const uint64_t *host_auxv);

/* A "#!" line: the interpreter and its one optional argument, terminated in place in `text`, which holds the
 * first `length` bytes of the file and has room for one more. -ENOEXEC when it is none. */
int linux_script_parse(char *text, size_t length, char **ret_interpreter, char **ret_argument);

/* --- procfs (procfs.c) ------------------------------------------------------------------------------ */

/* A path argument at a guest address: the address itself, or, where the path names something the guest
 * must see otherwise (/proc/self/exe), the replacement in `buffer`. */
uint64_t linux_path(uint64_t guest_path, char buffer[LINUX_PATH_MAX]);

/* Whether this program's file has no name, and is open as linux_program.exe_fd instead. */
bool linux_exe_is_nameless(void);

/* Whether the path names the running program through /proc. */
bool linux_path_is_exe(const char *path);

/* Whether the path ends in /proc/PID/exe of a translated process (`follow`: or in links that lead there), and then the
 * path of the program it runs. `target` may be `path`. */
bool linux_procfs_exe(int dirfd, const char *path, bool follow, char target[LINUX_PATH_MAX]);

/* Whether that is the translator's own file: a call that has come to it may have followed such a link. */
bool linux_procfs_is_translator(uint64_t device, uint64_t inode);

/* `fd` was just opened for reading from the path at `guest_path`, which starts at `dirfd`: the descriptor to
 * give the guest, which may be one with generated content instead (fd is closed then). */
int64_t linux_procfs_opened(int64_t fd, int dirfd, uint64_t guest_path, uint64_t flags);

/* A link's text for readlink, where it differs from the host's: its length, 0 where it does not differ. */
int linux_procfs_readlink(int dirfd, uint64_t guest_path, char target[LINUX_PATH_MAX]);

/* --- namespaces.c -------------------------------------------------------------------------------------- */

/* What a program is told as a file's inode number: the number itself, unless it is LinuxProgram.pid_namespace's. */
uint64_t linux_namespace_inode(uint64_t device, uint64_t inode);

/* The same, in the guest's struct statx at `to`, and in a link's text of `length` bytes there. 0, or -EFAULT. */
int linux_namespace_statx(uint64_t to);
int linux_namespace_link(uint64_t to, size_t length);

/* An entry of a folder, as getdents64() gives it: struct linux_dirent64 (include/linux/dirent.h). */
typedef struct LinuxEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length; /* of the entry, to where the next one is */
  uint8_t type;    /* DT_*, readdir(3) */
  char name[];
} LinuxEntry;

/* Whether the folder whose entries begin like that may be a /proc/PID/map_files. */
bool linux_procfs_may_be_files(const void *entries, uint64_t length);

/* Takes from `entries`, which the open folder `fd` has given, those that are the translator's own if that is a
 * /proc/PID/map_files; the length of the rest. */
uint64_t linux_procfs_files(int fd, void *entries, uint64_t length);

/* --- identity (identity.c) -------------------------------------------------------------------------- */

/* The text of /proc/cpuinfo, appended to the file `fd`. */
int linux_identity_cpuinfo(int fd);

/* The LinuxCpuVendor with a name of CPUID's leaf 0; -EINVAL for names that aren't offered. */
int linux_identity_vendor(const char *name);

/* CPUID.1:EDX, which is AT_HWCAP. */
uint32_t linux_identity_hwcap(void);
uint32_t linux_identity_hwcap2(void); /* AT_HWCAP2 */

/* --- strace (strace.c) ------------------------------------------------------------------------------ */

extern int linux_strace_fd; /* -1: off */
void linux_strace_init(const char *setting);
void linux_strace_enter(LinuxThread *thread, unsigned number, const uint64_t argument[6]);
void linux_strace_leave(LinuxThread *thread, unsigned number, const uint64_t argument[6], int64_t result);
void linux_strace_signal(LinuxThread *thread, const LinuxSiginfo *info);

/* The table's view of a call, for strace: NULL for unknown numbers. */
const char *linux_syscall_name(unsigned number, const char **ret_arguments);

#endif
