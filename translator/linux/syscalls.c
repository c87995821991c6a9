/* From the guest's SYSCALL instruction to the row of syscalls.def and back. */
#include "linux/linux.h"
#include "linux/outputs.h"
#include "runtime/runtime.h"

/* Numbers newer than the headers we may be built with; from 424 on they are the same everywhere
 * (include/uapi/asm-generic/unistd.h). */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#ifndef __NR_futex_wake
#define __NR_futex_wake    454
#define __NR_futex_wait    455
#define __NR_futex_requeue 456
#endif
#ifndef __NR_statmount
#define __NR_statmount         457
#define __NR_listmount         458
#define __NR_lsm_get_self_attr 459
#define __NR_lsm_set_self_attr 460
#define __NR_lsm_list_modules  461
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif
#ifndef __NR_set_mempolicy_home_node
#define __NR_set_mempolicy_home_node 450
#endif

#define SAME(number, name, arguments)
#define CALL(number, name, arguments) LinuxSyscall sys_##name;
#define NONE(number, name)
#include "linux/syscalls.def"
#undef SAME
#undef CALL
#undef NONE

static int64_t none(GuestCpu *cpu, const uint64_t a[6]) { return -ENOSYS; }

typedef struct Row {
  const char *name, *arguments;
  LinuxSyscall *call; /* NULL: the host's `number` as it is */
  int64_t number;
} Row;

static const Row rows[] = {
#define SAME(number, name, arguments) [number] = {#name, arguments, NULL, __NR_##name},
#define CALL(number, name, arguments) [number] = {#name, arguments, sys_##name, 0},
#define NONE(number, name)            [number] = {#name, "", none, 0},
#include "linux/syscalls.def"
#undef SAME
#undef CALL
#undef NONE
};

enum { ROWS = sizeof rows / sizeof *rows };

const char *linux_syscall_name(unsigned number, const char **ret_arguments) {
  if (number >= ROWS) return NULL;
  *ret_arguments = rows[number].arguments;
  return rows[number].name;
}

int64_t linux_guest_call_raw(uint32_t *pending, int64_t number, const uint64_t argument[6]);
extern const char linux_window_start[], linux_window_end[], linux_window_abort[];

int64_t linux_guest_call(LinuxThread *thread, int64_t number, const uint64_t argument[6]) {
  uint64_t fetches = linux_fetches(thread);
  if (!fetches) return linux_guest_call_raw(&thread->pending_signal, number, argument);
  linux_fetch_begin(thread, fetches, number, argument);
  int64_t result = linux_guest_call_raw(&thread->pending_signal, number, argument);
  linux_fetch_end(thread);
  return result > 0 ? linux_fetched(number, argument, result) : result;
}

bool linux_call_window(uint64_t pc, uint64_t *ret_abort) {
  if (pc < (uint64_t)linux_window_start || pc >= (uint64_t)linux_window_end) return false;
  *ret_abort = (uint64_t)linux_window_abort;
  return true;
}

bool linux_call_interrupted(uint64_t pc, uint64_t result, uint64_t *ret_again) {
  if (pc != (uint64_t)linux_window_end || result != (uint64_t)-EINTR) return false;
  *ret_again = (uint64_t)linux_window_abort;
  return true;
}

int64_t linux_call_by_number(GuestCpu *cpu, uint64_t number, const uint64_t argument[6]) {
  if (number >= ROWS || !rows[number].name) return -ENOSYS;
  const Row *row = &rows[number];
  return row->call ? row->call(cpu, argument) : linux_guest_call(linux_thread(cpu), row->number, argument);
}

/* The call may write to pages from which code was translated. */
static int64_t dispatch_writing(GuestCpu *cpu, uint64_t number, const uint64_t argument[6]) {
  LinuxOutputs outputs;
  linux_outputs_find((unsigned)number, argument, &outputs);
  linux_outputs_begin(&outputs);
  int64_t result = linux_call_by_number(cpu, number, argument);
  linux_outputs_end(&outputs);
  return result;
}

void linux_syscall(GuestCpu *cpu) {
  LinuxThread *thread = linux_thread(cpu);
  uint64_t number = cpu->gpr[RAX];
  const uint64_t argument[6] = {cpu->gpr[RDI], cpu->gpr[RSI], cpu->gpr[RDX],
                                cpu->gpr[R10], cpu->gpr[R8],  cpu->gpr[R9]};
  cpu->gpr[RCX] = cpu->rip;
  cpu->gpr[R11] = guest_flags_get(cpu);
  int64_t result = LINUX_RESTART;
  if (linux_strace_fd >= 0) linux_strace_enter(thread, (unsigned)number, argument);
  if (!thread->pending_signal)
    result = runtime_has_writable_code() && number < ROWS ? dispatch_writing(cpu, number, argument)
                                                          : linux_call_by_number(cpu, number, argument);
  if (linux_strace_fd >= 0) linux_strace_leave(thread, (unsigned)number, argument, result);
  if (result == LINUX_RESTART) cpu->rip -= 2; /* back to the SYSCALL; RAX still holds the number */
  else if (result != LINUX_STATE_SET) cpu->gpr[RAX] = (uint64_t)result;
  if (linux_signals_wait(thread)) linux_deliver_signals(cpu);
  thread->suspended = false;
}
