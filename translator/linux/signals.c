/* Guest signals.
 *
 * Theory of operation. The host kernel does all the queueing: the guest's mask is the host's mask, ignored
 * and default dispositions are the host's, and for a signal the guest handles host_signal() is installed
 * with the guest's SA_RESTART. That handler only notes the signal in the thread (one, since it leaves with
 * all others blocked) and asks the runtime to come to linux_deliver_signals(), which builds the guest's
 * frame and applies the handler's mask, on which the next one arrives. A signal that meets a system call
 * before it took effect aborts it (guest-call.S), and the guest's instruction is executed again later.
 *
 * Exceptions: SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGTRAP are never blocked or defaulted on the host,
 * because generated code needs them. Where one is sent while the guest has it blocked, it is held (held.c), and goes to whom
 * it may concern (fetch.c). */
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "a64/decode.h"
#include "linux/linux.h"
#include "linux/signals.h"
#include "runtime/runtime.h"
#include "x87/x87.h"

#define BIT LINUX_BIT

enum {
  FLAG_NOCLDSTOP = 1,
  FLAG_NOCLDWAIT = 2,
  FLAG_SIGINFO = 4,
  FLAG_ONSTACK = 0x08000000,
  FLAG_RESTART = 0x10000000,
  FLAG_NODEFER = 0x40000000,
  FLAG_EXPOSE_TAGBITS = 0x800, /* si_addr with its top byte: a non-canonical address must look like one */
  MINIMAL_STACK = 2048, /* x86's MINSIGSTKSZ */
  STACK_DISABLED = 2,
  STACK_ON = 1,
  MAIN_STACK_SIZE = 128 * 1024,
  ESR_CONTEXT = 0x45535201, /* ESR_MAGIC */
  ESR_WRITE = 1 << 6        /* WnR of a data abort */
};
#define KERNEL_START UINT64_C(0xffff800000000000) /* of the canonical addresses that are the kernel's */
#define FLAG_RESETHAND UINT64_C(0x80000000)

static const int synchronous[LINUX_EXCEPTIONS] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
#define SYNCHRONOUS_MASK LINUX_EXCEPTION_SIGNALS
#define UNBLOCKABLE      (BIT(SIGKILL) | BIT(SIGSTOP))

static void host_signal(int signal, LinuxSiginfo *info, struct ucontext *context);
int linux_guarded_copy(void *to, const void *from, size_t length);

static bool is_synchronous(int signal) { return BIT(signal) & SYNCHRONOUS_MASK; }

/* --- masks ------------------------------------------------------------------------------------------- */

uint64_t linux_host_mask(uint64_t mask) { return mask & ~SYNCHRONOUS_MASK; }

static void set_host_mask(LinuxThread *thread, uint64_t mask) {
  if (thread->in_fault) memcpy(&((struct ucontext *)thread->fault_context)->uc_sigmask, &mask, sizeof mask);
  else host_call(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
}

void linux_set_mask(LinuxThread *thread, uint64_t mask) {
  thread->mask = mask & ~UNBLOCKABLE;
  set_host_mask(thread, linux_host_mask(thread->pending_signal ? ~UINT64_C(0) : thread->mask));
}

void linux_fetch_block(LinuxThread *thread, uint64_t signals) {
  set_host_mask(thread, linux_host_mask(thread->mask) | signals);
}

void linux_block_all(void) {
  uint64_t mask = linux_host_mask(~UINT64_C(0));
  host_call(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
}

void linux_unblock(LinuxThread *thread) { linux_set_mask(thread, thread->mask); }

int linux_suspend_mask(LinuxThread *thread, uint64_t address, uint64_t size, uint64_t *mask_storage,
                       uint64_t *ret_host) {
  *ret_host = 0;
  if (!address) return 0;
  if (size != sizeof(uint64_t)) return -EINVAL;
  int error = linux_copy_in(mask_storage, address, sizeof *mask_storage);
  if (error) return error;
  thread->suspend_mask = *mask_storage & ~UNBLOCKABLE;
  thread->suspended = true;
  *mask_storage = linux_host_mask(*mask_storage) | linux_fetches(thread);
  *ret_host = (uint64_t)mask_storage;
  return 0;
}

uint64_t linux_effective_mask(const LinuxThread *thread) {
  return thread->suspended ? thread->suspend_mask : thread->mask;
}

/* --- signals a program sends itself ---------------------------------------------------------------------- */

/* A process may give itself any si_code (rt_sigqueueinfo(2)), also those of faults, by which the handler would take the
 * signal for one of the kernel's. Such a code is sent as si_errno, which is not negative otherwise, under one that only glibc
 * has ever used: with that the kernel delivers all that it keeps of siginfo, the gap before the fields included, where
 * si_errno waits (a signalfd() shows 0 for it). qemu-aarch64 keeps neither: there the code is sent behind si_addr. */
enum { DISGUISE = -60 /* SI_ASYNCNL */ };
#define BEHIND_ADDRESS (UINT64_C(0x7374656c65) << 24)

void linux_siginfo_from_host(LinuxSiginfo *info) {
  uint64_t behind = info->field[1] ^ BEHIND_ADDRESS;
  if (!is_synchronous(info->signal) || info->code != DISGUISE) return;
  if (info->error < 0) {
    info->code = info->error & INT32_MAX;
    info->error = info->pad;
    info->pad = 0;
  } else if (behind <= UINT16_MAX && linux_is_emulated()) {
    info->code = (int32_t)behind;
    info->field[1] = 0;
  }
}

void linux_siginfo_disguise(LinuxSiginfo *info) {
  if (info->code < 0) return;
  if (linux_is_emulated()) {
    info->field[1] = BEHIND_ADDRESS | (uint16_t)info->code;
  } else {
    info->pad = info->error;
    info->error = INT32_MIN | info->code;
  }
  info->code = DISGUISE;
}

static void siginfo_to_host(LinuxSiginfo *info, int signal) {
  if (is_synchronous(signal) && info->code > 0) linux_siginfo_disguise(info);
}

int64_t sys_rt_sigqueueinfo(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxSiginfo info;
  if (linux_copy_in(&info, a[2], sizeof info)) return -EFAULT;
  if ((int)a[0] == (int)host_call(__NR_getpid)) siginfo_to_host(&info, (int)a[1]);
  return linux_guest_call_list(linux_thread(cpu), __NR_rt_sigqueueinfo, a[0], a[1], (uint64_t)&info);
}

/* SIGILL to a thread is the runtime's own signal too (runtime_hold_threads()); one to the process is in another queue, and
 * merges with none of those. */
static int64_t send_to_thread(GuestCpu *cpu, int64_t number, const uint64_t a[6], int tid, int signal) {
  if (signal != SIGILL) return linux_guest_call(linux_thread(cpu), number, a);
  runtime_hold_threads(tid);
  int64_t result = host_call(number, a[0], a[1], a[2], a[3]);
  runtime_release_threads();
  return result;
}

typedef struct Address {
  int tid, signal;
} Address;

static void address_signal(GuestCpu *cpu, void *argument) {
  const Address *address = argument;
  LinuxThread *thread = linux_thread(cpu);
  if (thread && thread->tid == address->tid)
    __atomic_or_fetch(&thread->addressed, BIT(address->signal), __ATOMIC_SEQ_CST);
}

int64_t sys_rt_tgsigqueueinfo(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxSiginfo info;
  if (linux_copy_in(&info, a[3], sizeof info)) return -EFAULT;
  if ((int)a[0] == (int)host_call(__NR_getpid)) siginfo_to_host(&info, (int)a[2]);
  const uint64_t host[6] = {a[0], a[1], a[2], (uint64_t)&info};
  Address address = {(int)a[1], (int)a[2]};
  if (is_synchronous((int)a[2])) {
    runtime_hold_threads(0);
    runtime_each_thread(address_signal, &address);
    runtime_release_threads();
  }
  return send_to_thread(cpu, __NR_rt_tgsigqueueinfo, host, (int)a[1], (int)a[2]);
}

int64_t sys_tkill(GuestCpu *cpu, const uint64_t a[6]) {
  return send_to_thread(cpu, __NR_tkill, a, (int)a[0], (int)a[1]);
}

int64_t sys_tgkill(GuestCpu *cpu, const uint64_t a[6]) {
  return send_to_thread(cpu, __NR_tgkill, a, (int)a[1], (int)a[2]);
}

/* --- dispositions ------------------------------------------------------------------------------------ */

static int64_t host_action(int signal, const LinuxAction *action, LinuxAction *ret_old) {
  return host_call(__NR_rt_sigaction, signal, action, ret_old, sizeof(uint64_t));
}

static int64_t install(int signal, const LinuxAction *guest) {
  LinuxAction host = {.handler = (uint64_t)host_signal,
                      .flags = FLAG_SIGINFO | FLAG_ONSTACK |
                               (guest->flags & (FLAG_NOCLDSTOP | FLAG_NOCLDWAIT | FLAG_RESTART)),
                      .mask = ~UINT64_C(0) & ~(BIT(SIGSEGV) | BIT(SIGBUS))};
  if (is_synchronous(signal)) host.flags |= FLAG_NODEFER | FLAG_EXPOSE_TAGBITS;
  else if (guest->handler <= 1) host.handler = guest->handler;
  return host_action(signal, &host, NULL);
}

void linux_signals_reinstall(LinuxThread *thread) {
  for (size_t i = 0; i < LINUX_EXCEPTIONS; i++)
    install(synchronous[i], &thread->handlers->action[synchronous[i]]);
}

/* What a signal not yet asked about was inherited as: only "ignored" outlives execve. */
static void learn(LinuxHandlers *handlers, int signal) {
  if (handlers->known & BIT(signal)) return;
  LinuxAction old = {0};
  host_action(signal, NULL, &old);
  handlers->action[signal].handler = old.handler == 1;
  handlers->known |= BIT(signal);
}

static LinuxAction get_action(LinuxThread *thread, int signal) {
  base_lock(&thread->handlers->lock);
  learn(thread->handlers, signal);
  LinuxAction action = thread->handlers->action[signal];
  base_unlock(&thread->handlers->lock);
  return action;
}

static int64_t set_action(LinuxThread *thread, int signal, const LinuxAction *action) {
  base_lock(&thread->handlers->lock);
  learn(thread->handlers, signal);
  int64_t result = install(signal, action);
  if (result >= 0) thread->handlers->action[signal] = *action;
  base_unlock(&thread->handlers->lock);
  return result;
}

int64_t sys_rt_sigaction(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  int signal = (int)a[0];
  LinuxAction action;
  if (a[3] != sizeof(uint64_t) || signal < 1 || signal > LINUX_SIGNALS) return -EINVAL;
  if (a[1] && linux_copy_in(&action, a[1], sizeof action)) return -EFAULT;
  if (a[1] && BIT(signal) & UNBLOCKABLE) return -EINVAL;
  LinuxAction old = get_action(thread, signal);
  if (a[1]) {
    action.mask &= ~UNBLOCKABLE;
    int64_t error = set_action(thread, signal, &action);
    if (error < 0) return error;
  }
  return a[2] ? linux_copy_out(a[2], &old, sizeof old) : 0;
}

void linux_signals_thread_stack(void *base, size_t size) {
  LinuxStack stack = {.address = (uint64_t)base, .size = size};
  host_call(__NR_sigaltstack, &stack, 0);
}

void linux_signals_init(LinuxThread *thread, uint64_t ignored) {
  static char main_stack[MAIN_STACK_SIZE] __attribute__((aligned(16)));
  uint64_t unblock = SYNCHRONOUS_MASK;
  linux_signals_thread_stack(main_stack, sizeof main_stack);
  for (size_t i = 0; i < LINUX_EXCEPTIONS; i++) {
    learn(thread->handlers, synchronous[i]);
    if (ignored & BIT(synchronous[i])) thread->handlers->action[synchronous[i]].handler = 1;
  }
  linux_signals_reinstall(thread);
  host_call(__NR_rt_sigprocmask, SIG_UNBLOCK, &unblock, &thread->mask, sizeof unblock);
}

/* What it ignores of the five cannot be the host's: other threads need them until the kernel has ended those, and this
 * one if the call fails. The program started by it is told (exec.c). */
void linux_signals_before_exec(LinuxThread *thread) {
  LinuxSiginfo info;
  if (!(thread->mask & SYNCHRONOUS_MASK)) return;
  set_host_mask(thread, thread->mask);
  while (linux_held_take(&thread->held, thread->mask, &info)) linux_requeue(thread, &info);
  while (linux_held_take(&thread->process->held, thread->mask, &info)) {
    siginfo_to_host(&info, info.signal);
    host_call(__NR_rt_sigqueueinfo, host_call(__NR_getpid), info.signal, &info);
  }
}

void linux_signals_after_failed_exec(LinuxThread *thread) {
  if (thread->mask & SYNCHRONOUS_MASK) linux_unblock(thread);
}

uint64_t linux_signals_ignored(LinuxThread *thread) {
  uint64_t ignored = 0;
  for (size_t i = 0; i < LINUX_EXCEPTIONS; i++)
    if (get_action(thread, synchronous[i]).handler == 1) ignored |= BIT(synchronous[i]);
  return ignored;
}

/* --- death ------------------------------------------------------------------------------------------- */

void linux_die(int signal) {
  LinuxAction fallback = {0};
  uint64_t mask = BIT(signal);
  runtime_write_stats();
  host_action(signal, &fallback, NULL);
  host_call(__NR_tgkill, host_call(__NR_getpid), host_call(__NR_gettid), signal);
  host_call(__NR_rt_sigprocmask, SIG_UNBLOCK, &mask, 0, sizeof mask);
  for (;;) host_call(__NR_exit_group, 128 + signal);
}

/* --- delivery ---------------------------------------------------------------------------------------- */

static bool ignored_by_default(int signal) {
  return BIT(signal) & (BIT(SIGCHLD) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCONT));
}

static bool stops_by_default(int signal) {
  return BIT(signal) & (BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU) | BIT(SIGSTOP));
}

static void act_by_default(int signal) {
  if (ignored_by_default(signal)) return;
  if (stops_by_default(signal)) host_call(__NR_kill, host_call(__NR_getpid), SIGSTOP);
  else linux_die(signal);
}

/* Runs the handler of `action`. A guest stack that cannot take the frame is a segmentation fault, of
 * which a second one is the end. */
static void enter(LinuxThread *thread, const LinuxSiginfo *info, const LinuxAction *action,
                  const LinuxFault *fault) {
  uint64_t mask = linux_effective_mask(thread) | action->mask;
  if (!(action->flags & FLAG_NODEFER)) mask |= BIT(info->signal);
  if (action->flags & FLAG_RESETHAND) set_action(thread, info->signal, &(LinuxAction){0});
  if (linux_strace_fd >= 0) linux_strace_signal(thread, info);
  if (linux_frame_build(thread, info, action, fault, thread->mask) < 0) {
    if (info->signal == SIGSEGV) linux_die(SIGSEGV);
    linux_raise_exception(thread->cpu, 13, 0, 0);
    return;
  }
  thread->suspended = false;
  linux_set_mask(thread, mask);
}

/* Gives a signal back to the kernel, which keeps it until the guest unblocks it. */
void linux_requeue(LinuxThread *thread, LinuxSiginfo *info) {
  siginfo_to_host(info, info->signal);
  host_call(__NR_rt_tgsigqueueinfo, host_call(__NR_getpid), thread->tid, info->signal, info);
}

/* Whether a signal was sent to this thread rather than to any of the process. */
static bool is_addressed(LinuxThread *thread, const LinuxSiginfo *info) {
  bool addressed = thread->addressed & BIT(info->signal);
  if (info->code == SI_QUEUE) __atomic_and_fetch(&thread->addressed, ~BIT(info->signal), __ATOMIC_SEQ_CST);
  return info->code == SI_TKILL || info->code > 0 || (addressed && info->code == SI_QUEUE);
}

void linux_keep(LinuxThread *thread, const LinuxSiginfo *info) {
  if (is_addressed(thread, info)) {
    linux_hold(&thread->held, info);
    return;
  }
  linux_hold(&thread->process->held, info);
  thread->sharing = true;
}

static void deliver(LinuxThread *thread, LinuxSiginfo *info) {
  if (linux_effective_mask(thread) & BIT(info->signal)) {
    if (is_synchronous(info->signal)) linux_keep(thread, info);
    else linux_requeue(thread, info);
    return;
  }
  LinuxAction action = get_action(thread, info->signal);
  if (action.handler == 0) act_by_default(info->signal);
  else if (action.handler != 1) enter(thread, info, &action, NULL);
}

static bool take_held(LinuxThread *thread, LinuxSiginfo *ret_info) {
  uint64_t open = ~linux_effective_mask(thread);
  return linux_held_take(&thread->held, open, ret_info) || linux_held_take(&thread->process->held, open, ret_info);
}

void linux_deliver_signals(GuestCpu *cpu) {
  LinuxThread *thread = linux_thread(cpu);
  LinuxSiginfo info;
  cpu->interrupt = 0;
  for (;;) {
    while (take_held(thread, &info)) deliver(thread, &info); /* these come before any other */
    if (!thread->pending_signal) break;
    info = thread->pending;
    uint64_t mask = thread->mask;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->pending_signal = 0; /* the host still has all blocked */
    deliver(thread, &info);
    if (thread->mask == mask) linux_set_mask(thread, mask); /* no handler entered: open up again */
  }
  if (thread->sharing) linux_share_out(thread);
}

/* --- exceptions -------------------------------------------------------------------------------------- */

/* x86 exception vectors as Linux reports them (arch/x86/kernel/traps.c). `at_rip`: si_addr is the
 * instruction. */
static const struct {
  uint8_t vector, signal;
  int16_t code;
  bool at_rip;
} exceptions[] = {
    {0, SIGFPE, FPE_INTDIV, true},
    {1, SIGTRAP, TRAP_TRACE, true},
    {3, SIGTRAP, SI_KERNEL, false},
    {4, SIGSEGV, SI_KERNEL, false},
    {5, SIGSEGV, SI_KERNEL, false},
    {6, SIGILL, ILL_ILLOPN, true},
    {12, SIGBUS, SI_KERNEL, false},
    {13, SIGSEGV, SI_KERNEL, false},
    {14, SIGSEGV, SEGV_MAPERR, false},
    {16, SIGFPE, 0, true},
    {17, SIGBUS, BUS_ADRALN, false},
    {19, SIGFPE, 0, true},
};

/* The code of a floating-point exception, from flags raised and not masked (IE DE ZE OE UE PE). */
static int float_code(unsigned raised) {
  if (raised & 1) return FPE_FLTINV;
  if (raised & 4) return FPE_FLTDIV;
  if (raised & 8) return FPE_FLTOVF;
  if (raised & 0x12) return FPE_FLTUND;
  return raised & 0x20 ? FPE_FLTRES : 0;
}

static int exception_code(const GuestCpu *cpu, int vector, int code, uint64_t address) {
  uint64_t end;
  if (vector == 14) return memory_map_query(address, &end) >= 0 ? SEGV_ACCERR : SEGV_MAPERR;
  if (vector == 16) return float_code(x87_status_word(&cpu->x87) & ~cpu->x87.control & 0x3f);
  if (vector == 19) return float_code(cpu->mxcsr & ~(cpu->mxcsr >> 7) & 0x3f);
  return code;
}

/* A fault cannot wait: blocked or ignored, it ends the process. */
static void force(LinuxThread *thread, const LinuxSiginfo *info, const LinuxFault *fault) {
  LinuxAction action = get_action(thread, info->signal);
  if (linux_strace_fd >= 0 && action.handler <= 1) linux_strace_signal(thread, info);
  if (action.handler <= 1 || thread->mask & BIT(info->signal)) linux_die(info->signal);
  enter(thread, info, &action, fault);
}

void linux_raise_exception(GuestCpu *cpu, int vector, uint64_t address, uint64_t error_code) {
  enum { PROTECTION = 1, FETCH = 0x10 };
  LinuxThread *thread = linux_thread(cpu);
  if (vector == 14 && error_code & FETCH && linux_vsyscall(cpu)) return;
  if (vector == 14 && error_code & FETCH && address >= MEMORY_GUEST_END && address < KERNEL_START)
    vector = 13, address = error_code = 0; /* not canonical */
  if (vector == 14 && address >= LINUX_TASK_END) error_code |= PROTECTION; /* tells nothing of the kernel's pages */
  for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++) {
    if (exceptions[i].vector != vector) continue;
    LinuxSiginfo info = {.signal = exceptions[i].signal,
                         .code = exception_code(cpu, vector, exceptions[i].code, address)};
    if (vector == 14 && error_code & RUNTIME_NO_PAGE) info.signal = SIGBUS, info.code = BUS_ADRERR;
    info.field[0] = exceptions[i].at_rip ? cpu->rip : vector == 14 ? address : 0;
    LinuxFault fault = {(uint64_t)vector, (uint32_t)error_code, vector == 14 ? address : 0};
    force(thread, &info, &fault);
    return;
  }
  base_panic("x86 exception %d has no signal", vector);
}

/* --- the host's handlers ----------------------------------------------------------------------------- */

static bool fault_writes(const struct ucontext *context) {
  const uint8_t *at = context->uc_mcontext.__reserved, *end = at + sizeof context->uc_mcontext.__reserved;
  while (at + sizeof(struct _aarch64_ctx) <= end) {
    const struct _aarch64_ctx *header = (const struct _aarch64_ctx *)at;
    if (!header->magic || header->size < sizeof *header) break;
    if (header->magic == ESR_CONTEXT) return ((const struct esr_context *)header)->esr & ESR_WRITE;
    at += header->size;
  }
  uint32_t instruction = 0; /* a kernel that gives no ESR; the PC itself may be what is wrong */
  linux_guarded_copy(&instruction, (const void *)context->uc_mcontext.pc, sizeof instruction);
  return a64_writes_memory(instruction);
}

/* A fault of the guest's own: its frame is built here, and returning goes to the handler. */
static void guest_fault(LinuxThread *thread, const LinuxSiginfo *info, struct ucontext *context,
                        bool write) {
  GuestCpu *cpu = thread->cpu;
  uint64_t address = info->field[0], end;
  thread->in_fault = true;
  thread->fault_context = context;
  if (info->signal == SIGSEGV && address >= MEMORY_GUEST_END && address < KERNEL_START) {
    linux_raise_exception(cpu, runtime_faulting_stack(cpu, address) ? 12 : 13, 0, 0); /* not canonical */
  } else if (info->signal == SIGSEGV) {
    int flags = memory_map_query(address, &end);
    bool present = flags >= 0 && flags & MEMORY_PROTECTION; /* a PROT_NONE page is not, to the processor */
    linux_raise_exception(cpu, 14, address, 4 | (write ? 2 : 0) | (present ? 1 : 0));
  } else {
    LinuxFault fault = {info->signal == SIGBUS ? 14 : info->signal == SIGILL ? 6 : info->signal == SIGFPE ? 0 : 1,
                        info->signal == SIGBUS ? (write ? 6 : 4) : 0, info->signal == SIGBUS ? address : 0};
    LinuxSiginfo copy = *info;
    if (info->signal != SIGBUS) copy.field[0] = cpu->rip;
    force(thread, &copy, &fault);
  }
  thread->in_fault = false;
  runtime_resume_after_fault(cpu, context);
}

static _Noreturn void our_fault(const LinuxSiginfo *info, const struct ucontext *context) {
  extern const char __ehdr_start[];
  base_panic("signal %d (code %d) at host PC 0x%lx (stele+0x%lx), address 0x%lx, LR stele+0x%lx", info->signal,
             info->code, (uint64_t)context->uc_mcontext.pc,
             (uint64_t)context->uc_mcontext.pc - (uint64_t)__ehdr_start, info->field[0],
             (uint64_t)context->uc_mcontext.regs[30] - (uint64_t)__ehdr_start);
}

static void host_fault(LinuxThread *thread, LinuxSiginfo *info, struct ucontext *context) {
  bool memory = info->signal == SIGSEGV || info->signal == SIGBUS;
  bool write = memory && fault_writes(context);
  uint64_t next;
  RuntimeHostFault fault = {info->signal, info->code, info->field[0]};
  RuntimeFault whose = runtime_host_fault(thread->cpu, context, &fault, write);
  info->signal = fault.signal;
  info->code = fault.code;
  info->field[0] = fault.address;
  switch (whose) {
  case RUNTIME_FAULT_RESOLVED: return;
  case RUNTIME_FAULT_GUEST:
    guest_fault(thread, info, context, write || (memory && runtime_faulting_write(thread->cpu)));
    return;
  case RUNTIME_FAULT_OURS: break;
  }
  if (!memory || !linux_access_fault(context->uc_mcontext.pc, &next)) our_fault(info, context);
  context->uc_mcontext.pc = next;
}

/* The program is to see nothing of a signal that was not for it: a call that has done nothing is made again. */
static void make_again(struct ucontext *context) {
  uint64_t next;
  if (linux_call_window(context->uc_mcontext.pc, &next) ||
      linux_call_interrupted(context->uc_mcontext.pc, context->uc_mcontext.regs[0], &next))
    context->uc_mcontext.pc = next;
}

static void come_out(LinuxThread *thread, struct ucontext *context) {
  uint64_t next;
  if (linux_call_window(context->uc_mcontext.pc, &next)) context->uc_mcontext.pc = next;
  else runtime_interrupt(thread->cpu, context);
}

static void note(LinuxThread *thread, LinuxSiginfo *info, struct ucontext *context) {
  uint64_t all = linux_host_mask(~UINT64_C(0)), next;
  memcpy(&context->uc_sigmask, &all, sizeof all);
  if (is_synchronous(info->signal) && (thread->pending_signal || thread->mask & BIT(info->signal))) {
    linux_keep(thread, info);
    if (thread->pending_signal) return;
    uint64_t mask = linux_host_mask(thread->mask) | thread->fetching;
    memcpy(&context->uc_sigmask, &mask, sizeof mask);
    if (linux_call_interrupted(context->uc_mcontext.pc, context->uc_mcontext.regs[0], &next))
      context->uc_mcontext.pc = next; /* blocked ones interrupt nothing */
    else if (thread->sharing)
      come_out(thread, context);
    return;
  }
  if (thread->pending_signal) { /* came in while the mask was being changed */
    linux_requeue(thread, info);
    return;
  }
  thread->pending = *info;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  thread->pending_signal = (uint32_t)info->signal;
  come_out(thread, context);
}

static void host_signal(int signal, LinuxSiginfo *info, struct ucontext *context) {
  GuestCpu *cpu = linux_current_cpu();
  if (signal == SIGILL && runtime_take_kick(cpu, info, context)) return;
  LinuxThread *thread = linux_thread(cpu);
  if (signal == SIGTRAP && runtime_take_notice(cpu, info, context)) {
    make_again(context);
    return;
  }
  if (is_synchronous(signal) && info->code > 0) {
    host_fault(thread, info, context);
    return;
  }
  linux_siginfo_from_host(info);
  note(thread, info, context);
}

/* --- system calls ------------------------------------------------------------------------------------ */

int64_t sys_rt_sigprocmask(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t set = 0, old = thread->mask;
  if (a[3] != sizeof set) return -EINVAL;
  if (a[1]) {
    if (linux_copy_in(&set, a[1], sizeof set)) return -EFAULT;
    switch ((int)a[0]) {
    case SIG_BLOCK: set |= old; break;
    case SIG_UNBLOCK: set = old & ~set; break;
    case SIG_SETMASK: break;
    default: return -EINVAL;
    }
    linux_set_mask(thread, set);
  }
  return a[2] ? linux_copy_out(a[2], &old, sizeof old) : 0;
}

int64_t sys_rt_sigpending(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t set = 0;
  if (a[1] > sizeof set) return -EINVAL;
  int64_t error = host_call(__NR_rt_sigpending, &set, sizeof set);
  set |= linux_held_set(&thread->held) | linux_held_set(&thread->process->held);
  return error < 0 ? error : linux_copy_out(a[0], &set, a[1]);
}

int64_t sys_rt_sigsuspend(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t mask, host;
  if (a[1] != sizeof mask) return -EINVAL;
  if (!a[0]) return -EFAULT;
  int error = linux_suspend_mask(thread, a[0], a[1], &mask, &host);
  if (error) return error;
  uint64_t held = linux_held_set(&thread->held) | linux_held_set(&thread->process->held);
  if (held & ~thread->suspend_mask) return -EINTR;
  int64_t result = linux_guest_call_list(thread, __NR_rt_sigsuspend, host, sizeof mask);
  if (result == LINUX_RESTART) thread->suspended = false;
  return result;
}

int64_t sys_rt_sigtimedwait(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  LinuxSiginfo info;
  uint64_t set;
  if (a[3] != sizeof set) return -EINVAL;
  if (linux_copy_in(&set, a[0], sizeof set)) return -EFAULT;
  if (!linux_held_take(&thread->held, set, &info) && !linux_held_take(&thread->process->held, set, &info)) {
    thread->wanted = set;
    int64_t result = linux_guest_call_list(thread, __NR_rt_sigtimedwait, (uint64_t)&set, (uint64_t)&info, a[2], a[3]);
    thread->wanted = 0;
    if (result <= 0) return result;
    if (runtime_is_notice(&info)) return LINUX_RESTART; /* it was not for the program */
    linux_siginfo_from_host(&info);
  }
  int error = a[1] ? linux_copy_out(a[1], &info, sizeof info) : 0;
  return error ? error : info.signal;
}

int64_t sys_signalfd4(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t set = 0;
  if (a[2] == sizeof set && linux_copy_in(&set, a[1], sizeof set)) return -EFAULT;
  int64_t result = linux_guest_call_list(thread, __NR_signalfd4, a[0], (uint64_t)&set, a[2], a[3]);
  if (result >= 0) __atomic_or_fetch(&thread->process->fetchable, set & SYNCHRONOUS_MASK, __ATOMIC_SEQ_CST);
  return result;
}

int64_t sys_signalfd(GuestCpu *cpu, const uint64_t a[6]) {
  return sys_signalfd4(cpu, (const uint64_t[6]){a[0], a[1], a[2], 0});
}

int linux_set_alternate(LinuxThread *thread, const LinuxStack *stack) {
  int32_t flags = stack->flags & ~(int32_t)SS_AUTODISARM_BIT;
  if (linux_on_alternate_stack(thread)) return -EPERM;
  if (flags != STACK_DISABLED && flags != STACK_ON && flags != 0) return -EINVAL;
  if (flags == STACK_DISABLED) {
    thread->alternate = (LinuxStack){.flags = STACK_DISABLED};
    return 0;
  }
  if (stack->size < MINIMAL_STACK) return -ENOMEM;
  thread->alternate = *stack;
  thread->alternate.flags &= (int32_t)SS_AUTODISARM_BIT;
  return 0;
}

int64_t sys_sigaltstack(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  LinuxStack old = thread->alternate, stack;
  if (!old.size) old.flags = STACK_DISABLED;
  else if (linux_on_alternate_stack(thread)) old.flags |= STACK_ON;
  if (a[0]) {
    if (linux_copy_in(&stack, a[0], sizeof stack)) return -EFAULT;
    int error = linux_set_alternate(thread, &stack);
    if (error) return error;
  }
  return a[1] ? linux_copy_out(a[1], &old, sizeof old) : 0;
}

/* With an empty set of descriptors nothing but a signal ends the wait. */
int64_t sys_pause(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_ppoll, 0, 0, 0, 0, 8);
}

int64_t sys_restart_syscall(GuestCpu *cpu, const uint64_t a[6]) { return -EINTR; }
