/* Threads and processes: clone in all its forms, exit, and what a process may ask about itself.
 *
 * A new thread gets its own GuestCpu, host stack and alternate signal stack, and TPIDR_EL0 (as the host's
 * "TLS") points at its GuestCpu. Everything else about clone is the host kernel's own work with the
 * guest's own addresses. A vfork child runs in the parent's memory on a state of its own, freed by the
 * parent, which the kernel suspends until the child has exited or executed another program. */
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/mman.h>

#include "linux/linux.h"
#include "runtime/runtime.h"

enum {
  ALTERNATE_STACK = 128 * 1024,
  GUARD = 4096,
  C_STACK = 256 * 1024,
  STACKS = ALTERNATE_STACK + GUARD + C_STACK,
  X86_PR_SET_TSC = 26,
  ARCH_SET_GS = 0x1001,
  ARCH_SET_FS = 0x1002,
  ARCH_GET_FS = 0x1003,
  ARCH_GET_GS = 0x1004,
  ARCH_GET_CPUID = 0x1011,
  ARCH_SET_CPUID = 0x1012
};

typedef struct CloneRequest {
  struct clone_args args; /* the guest's, as clone3 takes them */
  size_t size;            /* of args, as far as the guest gave them; 0: the old clone */
} CloneRequest;

int64_t linux_clone_raw(uint64_t flags, void *stack, uint64_t parent_tid, void *tls, uint64_t child_tid,
                        void (*start)(void *), void *argument);
int64_t linux_clone3_raw(void *arguments, size_t size, void (*start)(void *), void *argument);
_Noreturn void linux_exit_raw(void *stack, size_t length, int status);

/* --- thread state ------------------------------------------------------------------------------------ */

void linux_set_current(GuestCpu *cpu) { __asm__ volatile("msr tpidr_el0, %0" : : "r"(cpu) : "memory"); }

static LinuxHandlers *share_handlers(LinuxHandlers *handlers) {
  __atomic_add_fetch(&handlers->users, 1, __ATOMIC_RELAXED);
  return handlers;
}

static LinuxHandlers *copy_handlers(LinuxHandlers *handlers) {
  LinuxHandlers *copy = base_alloc(sizeof *copy);
  if (!copy) return NULL;
  if (handlers) {
    base_lock(&handlers->lock);
    *copy = *handlers;
    base_unlock(&handlers->lock);
  }
  copy->lock = (BaseLock){.rank = BASE_RANK_HANDLERS};
  copy->users = 1;
  return copy;
}

static void drop_handlers(LinuxHandlers *handlers) {
  if (!__atomic_sub_fetch(&handlers->users, 1, __ATOMIC_ACQ_REL)) base_free(handlers);
}

static LinuxProcess *new_process(void) {
  LinuxProcess *process = base_alloc(sizeof *process);
  if (process) process->users = 1;
  return process;
}

static LinuxProcess *share_process(LinuxProcess *process) {
  __atomic_add_fetch(&process->users, 1, __ATOMIC_RELAXED);
  return process;
}

static void drop_process(LinuxProcess *process) {
  if (!__atomic_sub_fetch(&process->users, 1, __ATOMIC_ACQ_REL)) base_free(process);
}

LinuxThread *linux_thread_new(GuestCpu *cpu, LinuxHandlers *handlers, LinuxProcess *process) {
  LinuxThread *thread = base_alloc(sizeof *thread);
  if (!thread) return NULL;
  thread->cpu = cpu;
  thread->tid = (int)host_call(__NR_gettid);
  thread->handlers = handlers ? handlers : copy_handlers(NULL);
  thread->process = process ? process : new_process();
  cpu->linux_thread = thread;
  return thread->handlers && thread->process ? thread : NULL;
}

static void thread_free(LinuxThread *thread) {
  drop_handlers(thread->handlers);
  drop_process(thread->process);
  runtime_thread_free(thread->cpu);
  base_free(thread);
}

/* --- clone ------------------------------------------------------------------------------------------- */

/* The state a child in the same memory starts with. */
static LinuxThread *child_new(LinuxThread *parent, const struct clone_args *args) {
  GuestCpu *cpu = runtime_thread_new(parent->cpu);
  char *stacks = cpu ? base_pages_alloc(STACKS) : NULL;
  bool shares = args->flags & CLONE_SIGHAND;
  LinuxHandlers *handlers =
      stacks ? (shares ? share_handlers(parent->handlers) : copy_handlers(parent->handlers)) : NULL;
  LinuxProcess *process = args->flags & CLONE_THREAD ? share_process(parent->process) : new_process();
  LinuxThread *thread = handlers && process ? linux_thread_new(cpu, handlers, process) : NULL;
  if (!thread) {
    if (process) drop_process(process);
    if (handlers) drop_handlers(handlers);
    if (stacks) base_pages_free(stacks, STACKS);
    if (cpu) runtime_thread_free(cpu);
    return NULL;
  }
  host_call(__NR_mprotect, stacks + ALTERNATE_STACK, GUARD, PROT_NONE);
  thread->stack = stacks;
  thread->mask = parent->mask;
  if (!(args->flags & CLONE_VM) || args->flags & CLONE_VFORK) thread->alternate = parent->alternate;
  cpu->gpr[RAX] = 0;
  if (args->stack) cpu->gpr[RSP] = args->stack + args->stack_size;
  if (args->flags & CLONE_SETTLS) cpu->fs_base = args->tls;
  if (args->flags & CLONE_CHILD_CLEARTID) thread->clear_tid = args->child_tid;
  if (args->flags & CLONE_CHILD_SETTID) thread->set_tid = args->child_tid;
  return thread;
}

static void child_free(LinuxThread *thread) {
  base_free(thread->exec_memory); /* a vfork child that became another program left this */
  base_pages_free(thread->stack, STACKS);
  thread_free(thread);
}

/* In the order of locks (ARCHITECTURE.md): the child gets memory in which nobody is in the middle of anything. */
static void before_fork(LinuxThread *thread) {
  base_lock(&thread->handlers->lock);
  linux_memory_before_fork();
  runtime_before_fork();
  memory_map_before_fork();
  base_before_fork();
}

/* `child`: in the child, its state. */
static void after_fork(LinuxThread *thread, GuestCpu *child) {
  base_after_fork();
  memory_map_after_fork();
  if (child) runtime_after_fork(child);
  else runtime_after_fork_in_parent();
  linux_memory_after_fork(child != NULL);
  base_unlock(&thread->handlers->lock);
}

/* A child's first C code, on its own stack with everything blocked. */
static void child_start(void *argument) {
  LinuxThread *thread = argument;
  linux_set_current(thread->cpu);
  if (thread->copied_from) after_fork(thread->copied_from, thread->cpu);
  thread->tid = (int)host_call(__NR_gettid);
  if (thread->set_tid) runtime_write_end(thread->set_tid, sizeof(int));
  linux_signals_thread_stack(thread->stack, ALTERNATE_STACK);
  linux_unblock(thread);
  runtime_run(thread->cpu);
}

/* CLONE_CLEAR_SIGHAND: handlers become the default; what is ignored stays so (clone(2)). */
static void clear_handlers(LinuxThread *thread) {
  enum { IGNORE = 1 };
  LinuxAction *action = thread->handlers->action;
  for (size_t i = 0; i < sizeof thread->handlers->action / sizeof *action; i++)
    action[i] = (LinuxAction){.handler = action[i].handler == IGNORE ? IGNORE : 0};
  linux_signals_reinstall(thread);
}

static void cleared_child_start(void *argument) {
  clear_handlers(argument);
  child_start(argument);
}

static int64_t clone_host(const CloneRequest *request, LinuxThread *child) {
  struct clone_args args = request->args;
  char *stacks = child->stack;
  bool clears = args.flags & CLONE_CLEAR_SIGHAND;
  void (*start)(void *) = clears ? cleared_child_start : child_start;
  args.flags |= CLONE_SETTLS;
  args.tls = (uint64_t)child->cpu;
  if (!request->size)
    return linux_clone_raw(args.flags | args.exit_signal, stacks + STACKS, args.parent_tid, child->cpu,
                           args.child_tid, start, child);
  args.stack = (uint64_t)stacks + ALTERNATE_STACK + GUARD;
  args.stack_size = C_STACK;
  return linux_clone3_raw(&args, request->size, start, child);
}

/* The child shares our memory: a thread, or a vfork child. */
static int64_t clone_shared(LinuxThread *thread, const CloneRequest *request) {
  bool waits = request->args.flags & CLONE_VFORK;
  if (!waits) {
    runtime_memory_shared();
    runtime_concurrent();
  }
  LinuxThread *child = child_new(thread, &request->args);
  if (!child) return -EAGAIN;
  linux_block_all();
  bool copies = waits && linux_is_emulated(); /* a vfork child has a copy there: not one in which locks are held */
  if (copies) {
    child->copied_from = thread;
    before_fork(thread);
  }
  int64_t result = thread->pending_signal ? LINUX_RESTART : clone_host(request, child);
  if (copies) after_fork(thread, NULL);
  if (result < 0 || waits) child_free(child);
  linux_unblock(thread);
  return result;
}

static void fork_child(LinuxThread *thread, const struct clone_args *args) {
  GuestCpu *cpu = thread->cpu;
  thread->tid = (int)host_call(__NR_gettid);
  thread->handlers->users = 1;
  thread->held = thread->process->held = (LinuxHeld){0}; /* what is pending is the parent's */
  thread->process->users = 1;
  thread->clear_tid = args->flags & CLONE_CHILD_CLEARTID ? args->child_tid : 0;
  thread->robust_list = 0;
  if (args->flags & CLONE_CLEAR_SIGHAND) clear_handlers(thread);
  if (args->stack) cpu->gpr[RSP] = args->stack + args->stack_size;
  if (args->flags & CLONE_SETTLS) cpu->fs_base = args->tls;
}

/* A parent that waits for a child with memory of its own (CLONE_VFORK without CLONE_VM): it must not do so in clone(),
 * with all locks held. The child has the writing end of a pipe until it ends or executes a program. */
typedef struct ForkWait {
  int end[2];
} ForkWait;

static int64_t fork_wait_begin(ForkWait *wait) {
  enum { HIGH = 500 }; /* a program's own descriptors are the lowest free ones */
  int64_t error = host_call(__NR_pipe2, wait->end, O_CLOEXEC);
  for (unsigned i = 0; error >= 0 && i < 2; i++) {
    int64_t high = host_call(__NR_fcntl, wait->end[i], F_DUPFD_CLOEXEC, HIGH);
    if (high < 0) continue;
    host_call(__NR_close, wait->end[i]);
    wait->end[i] = (int)high;
  }
  return error;
}

/* As in the kernel, only what kills ends the wait early. */
static void fork_wait_end(const ForkWait *wait, bool child, bool forked) {
  char nothing;
  host_call(__NR_close, wait->end[child ? 0 : 1]);
  if (child) return;
  while (forked && host_call(__NR_read, wait->end[0], &nothing, 1) == -EINTR) {}
  host_call(__NR_close, wait->end[0]);
}

static int64_t clone_and_lock(LinuxThread *thread, const CloneRequest *request, struct clone_args *args) {
  before_fork(thread);
  int64_t result = request->size
                       ? linux_clone3_raw(args, request->size, NULL, NULL)
                       : host_call(__NR_clone, args->flags | args->exit_signal, 0, args->parent_tid, 0, args->child_tid);
  after_fork(thread, result == 0 ? thread->cpu : NULL);
  return result;
}

/* The child gets a copy of our memory, this stack included, and goes on here. */
static int64_t clone_copied(LinuxThread *thread, const CloneRequest *request) {
  struct clone_args args = request->args;
  bool waits = args.flags & CLONE_VFORK;
  ForkWait wait;
  args.flags &= ~(uint64_t)(CLONE_SETTLS | CLONE_VFORK); /* the host's "TLS" stays our GuestCpu */
  args.stack = args.stack_size = args.tls = 0;
  linux_block_all();
  if (thread->pending_signal) {
    linux_unblock(thread);
    return LINUX_RESTART;
  }
  int64_t result = waits ? fork_wait_begin(&wait) : 0;
  if (result < 0) {
    linux_unblock(thread);
    return result;
  }
  result = clone_and_lock(thread, request, &args);
  if (waits) fork_wait_end(&wait, result == 0, result > 0);
  if (result == 0) fork_child(thread, &request->args);
  linux_unblock(thread);
  return result;
}

/* Numbers that the kernel writes to the guest's memory: in the parent, and in a child that shares it once that runs,
 * which then ends this for itself. */
typedef struct CloneOutput {
  uint64_t flag, address;
  bool in_child;
} CloneOutput;

static void clone_outputs(const struct clone_args *args, CloneOutput ret_outputs[3]) {
  bool old_call = args->flags & CLONE_PIDFD && !args->pidfd; /* puts the descriptor at parent_tid */
  ret_outputs[0] = (CloneOutput){CLONE_PARENT_SETTID | CLONE_PIDFD, args->parent_tid, false};
  ret_outputs[1] = (CloneOutput){CLONE_PIDFD, old_call ? 0 : args->pidfd, false};
  ret_outputs[2] = (CloneOutput){CLONE_CHILD_SETTID, args->child_tid, true};
}

static int64_t clone_any(GuestCpu *cpu, const CloneRequest *request) {
  LinuxThread *thread = linux_thread(cpu);
  const struct clone_args args = request->args;
  bool shared = args.flags & CLONE_VM;
  CloneOutput outputs[3];
  clone_outputs(&args, outputs);
  for (unsigned i = 0; i < 3; i++)
    if (args.flags & outputs[i].flag && outputs[i].address) runtime_write_begin(outputs[i].address, sizeof(int));
  int64_t result = shared ? clone_shared(thread, request) : clone_copied(thread, request);
  for (unsigned i = 0; i < 3; i++)
    if (args.flags & outputs[i].flag && outputs[i].address && !(shared && outputs[i].in_child && result > 0))
      runtime_write_end(outputs[i].address, sizeof(int));
  return result;
}

/* x86-64: flags, stack, parent_tid, child_tid, tls; AArch64 has the last two the other way round. */
int64_t sys_clone(GuestCpu *cpu, const uint64_t a[6]) {
  CloneRequest request = {.args = {.flags = a[0] & ~(uint64_t)CSIGNAL & 0xffffffff,
                                   .exit_signal = a[0] & CSIGNAL,
                                   .stack = a[1],
                                   .parent_tid = a[2],
                                   .child_tid = a[3],
                                   .tls = a[4]}};
  return clone_any(cpu, &request);
}

/* 0 where all that a later kernel's structure has more is unset; -E2BIG, -EFAULT (copy_struct_from_user()). */
static int check_rest(uint64_t at, uint64_t end) {
  for (uint8_t byte; at < end; at++) {
    if (linux_copy_in(&byte, at, sizeof byte)) return -EFAULT;
    if (byte) return -E2BIG;
  }
  return 0;
}

int64_t sys_clone3(GuestCpu *cpu, const uint64_t a[6]) {
  CloneRequest request = {.size = a[1] < sizeof request.args ? a[1] : sizeof request.args};
  const struct clone_args *args = &request.args;
  if (a[1] < CLONE_ARGS_SIZE_VER0) return -EINVAL;
  if (a[1] > MEMORY_PAGE_SIZE) return -E2BIG;
  int error = check_rest(a[0] + request.size, a[0] + a[1]);
  if (error) return error;
  if (linux_copy_in(&request.args, a[0], request.size)) return -EFAULT;
  if (!args->stack != !args->stack_size) return -EINVAL;
  if (args->stack > MEMORY_GUEST_END || args->stack_size > MEMORY_GUEST_END - args->stack) return -EINVAL;
  return clone_any(cpu, &request);
}

int64_t sys_fork(GuestCpu *cpu, const uint64_t a[6]) {
  CloneRequest request = {.args = {.exit_signal = 17 /* SIGCHLD */}};
  return clone_any(cpu, &request);
}

int64_t sys_vfork(GuestCpu *cpu, const uint64_t a[6]) {
  CloneRequest request = {.args = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = 17}};
  return clone_any(cpu, &request);
}

/* --- what the kernel writes when a thread ends ----------------------------------------------------------- */

int64_t sys_set_tid_address(GuestCpu *cpu, const uint64_t a[6]) {
  linux_thread(cpu)->clear_tid = a[0];
  return linux_guest_call(linux_thread(cpu), __NR_set_tid_address, a);
}

int64_t sys_set_robust_list(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_set_robust_list, a);
  if (result >= 0) linux_thread(cpu)->robust_list = a[0];
  return result;
}

/* Pages that are about to be written stay released: nobody is left to take them back. */
static void release_at_end(uint64_t address) {
  uint64_t end;
  if (address && memory_map_query(address, &end) >= 0) runtime_write_begin(address, sizeof(uint32_t));
}

/* struct robust_list_head (include/uapi/linux/futex.h): first entry, distance of an entry's lock, lock being taken. The
 * kernel follows no more of them either. */
static void release_robust_list(uint64_t head_at) {
  enum { LIMIT = 2048 };
  uint64_t head[3], entry;
  if (!head_at || linux_copy_in(head, head_at, sizeof head)) return;
  if (head[2]) release_at_end((head[2] & ~UINT64_C(1)) + head[1]);
  entry = head[0];
  for (unsigned i = 0; i < LIMIT && (entry & ~UINT64_C(1)) != head_at; i++) {
    uint64_t at = entry & ~UINT64_C(1);
    release_at_end(at + head[1]);
    if (linux_copy_in(&entry, at, sizeof entry)) return;
  }
}

static void release_for_end(const LinuxThread *thread) {
  if (!runtime_has_writable_code()) return;
  release_at_end(thread->clear_tid);
  release_robust_list(thread->robust_list);
}

/* --- exit -------------------------------------------------------------------------------------------- */

int64_t sys_exit(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  char *stack = thread->stack;
  int status = (int)a[0];
  LinuxStack disabled = {.flags = 2};
  linux_signals_thread_ends(thread);
  release_for_end(thread);
  /* A vfork child's state is its parent's to free; the first thread's stack is the kernel's. */
  if (!stack || thread->tid == (int)host_call(__NR_getpid)) {
    if (!stack) runtime_write_stats();
    for (;;) host_call(__NR_exit, status);
  }
  host_call(__NR_sigaltstack, &disabled, 0);
  linux_set_current(NULL); /* no signal comes any more */
  thread_free(thread);
  linux_exit_raw(stack, STACKS, status);
}

int64_t sys_exit_group(GuestCpu *cpu, const uint64_t a[6]) {
  release_for_end(linux_thread(cpu));
  runtime_write_stats();
  for (;;) host_call(__NR_exit_group, a[0]);
}

/* --- questions about itself -------------------------------------------------------------------------- */

int64_t sys_getpgrp(GuestCpu *cpu, const uint64_t a[6]) { return host_call(__NR_getpgid, 0); }

int64_t sys_arch_prctl(GuestCpu *cpu, const uint64_t a[6]) {
  switch (a[0]) {
  case ARCH_SET_FS:
  case ARCH_SET_GS:
    if (a[1] >= LINUX_TASK_END) return -EPERM;
    *(a[0] == ARCH_SET_FS ? &cpu->fs_base : &cpu->gs_base) = a[1];
    return 0;
  case ARCH_GET_FS: return linux_copy_out(a[1], &cpu->fs_base, sizeof cpu->fs_base);
  case ARCH_GET_GS: return linux_copy_out(a[1], &cpu->gs_base, sizeof cpu->gs_base);
  case ARCH_GET_CPUID: return 1;
  case ARCH_SET_CPUID: return a[1] ? 0 : -ENODEV;
  default: return -EINVAL;
  }
}

/* prctl options that are AArch64's own, or speak of x86 state that is not the host's to know. */
int64_t sys_prctl(GuestCpu *cpu, const uint64_t a[6]) {
  switch ((int)a[0]) {
  case PR_GET_TSC: {
    int enabled = PR_TSC_ENABLE;
    return linux_copy_out(a[1], &enabled, sizeof enabled);
  }
  case PR_SET_TSC: return a[1] == PR_TSC_ENABLE ? 0 : -EINVAL;
  case 65: /* PR_SET_MDWE: held, it would deny the translator its own code cache; systemd then asks for a filter */
  case 66: /* PR_GET_MDWE */
  case PR_GET_SECCOMP: /* as a kernel without seccomp: filters would see the host's calls (see also procfs.c) */
  case PR_SET_SECCOMP:
  case PR_SVE_SET_VL:
  case PR_SVE_GET_VL:
  case PR_PAC_RESET_KEYS:
  case PR_PAC_SET_ENABLED_KEYS:
  case PR_PAC_GET_ENABLED_KEYS:
  case PR_SET_TAGGED_ADDR_CTRL:
  case PR_GET_TAGGED_ADDR_CTRL:
  case 63: /* PR_SME_SET_VL */
  case 64: /* PR_SME_GET_VL */
  case 0x6d4d444c: /* PR_SET_MEM_MODEL: ours to use */
  case 0x4d4d444c: /* PR_GET_MEM_MODEL */
    return -EINVAL;
  case PR_SET_MM: /* addresses are the guest's own; the executable's file would be stele's */
    if (a[1] == PR_SET_MM_EXE_FILE) return -EBUSY;
    return linux_guest_call(linux_thread(cpu), __NR_prctl, a);
  default: return linux_guest_call(linux_thread(cpu), __NR_prctl, a);
  }
}

int64_t sys_uname(GuestCpu *cpu, const uint64_t a[6]) {
  char names[6][65]; /* struct new_utsname; the fifth is the machine */
  int64_t error = host_call(__NR_uname, names);
  if (error < 0) return error;
  memset(names[4], 0, sizeof names[4]);
  memcpy(names[4], "x86_64", 7);
  return linux_copy_out(a[0], names, sizeof names);
}

int64_t sys_alarm(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t timer[4] = {0, 0, (int64_t)(uint32_t)a[0], 0}, old[4] = {0};
  int64_t error = host_call(__NR_setitimer, 0 /* ITIMER_REAL */, timer, old);
  if (error < 0) return error;
  return old[2] + (old[3] >= 500000 || (!old[2] && old[3])); /* rounded, but never down to "none" */
}

/* Ports are behind a device tree here: no process may touch them. */
int64_t sys_iopl(GuestCpu *cpu, const uint64_t a[6]) {
  return (uint32_t)a[0] > 3 ? -EINVAL : a[0] ? -EPERM : 0;
}

int64_t sys_ioperm(GuestCpu *cpu, const uint64_t a[6]) { return -EPERM; }

/* As a kernel built without 16-bit segments. */
int64_t sys_modify_ldt(GuestCpu *cpu, const uint64_t a[6]) { return -ENOSYS; }

/* As on a processor without CET. */
int64_t sys_map_shadow_stack(GuestCpu *cpu, const uint64_t a[6]) { return -EOPNOTSUPP; }

/* Registers and code the host would show are not the guest's: refused, as a security policy would. */
int64_t sys_ptrace(GuestCpu *cpu, const uint64_t a[6]) { return -EPERM; }
