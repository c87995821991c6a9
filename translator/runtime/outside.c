/* Writes to the guest's memory from outside: by another process, through its /proc/PID/mem or process_vm_writev().
 *
 * Neither faults nor a call of ours tells of them. Where the writer is a translated program, too, its translator writes
 * here before it has the kernel write there (linux/outside.c), in the same way: it may write all of this process'
 * memory anyhow, so it is trusted with nothing new. From then on code that such writes can change is translated so that
 * it compares its bytes whenever it is entered, as code of other memory that others may change.
 *
 * What is wanted is a word that only grows. Dispatchers look at it; and as threads may run for long without one, the
 * writer sends a SIGTRAP, which is never blocked, and whichever thread takes that comes out and brings the others out.
 */
#include "runtime/internal.h"

#include <asm/siginfo.h>
#include <asm/signal.h>

#include "base/host-call.h"

enum { WAIT_NS = 100000, WAITS = 2000 /* of who may have been killed meanwhile */ };

RuntimeMailbox runtime_mailbox __attribute__((aligned(64))); /* linux/outside.c packs its address */

void outside_ready(int process) {
  runtime_mailbox.owner = process;
  __atomic_store_n(&runtime_mailbox.self, (uint64_t)(uintptr_t)&runtime_mailbox, __ATOMIC_RELEASE);
}

void outside_after_fork(int process) {
  runtime_mailbox.owner = process;
  runtime_mailbox.teller = runtime_mailbox.deaf = 0;
}

bool outside_apply(RuntimeThread *thread) {
  uint32_t wanted = __atomic_load_n(&runtime_mailbox.wanted, __ATOMIC_ACQUIRE);
  if (wanted == runtime_mailbox.applied) return false;
  translate_forget_windows();
  runtime_flush(thread);
  __atomic_store_n(&runtime_mailbox.applied, wanted, __ATOMIC_RELEASE);
  return true;
}

bool outside_may_write(bool writable) {
  return runtime_mailbox.wanted == RUNTIME_OUTSIDE_ALL || (runtime_mailbox.wanted && writable);
}

static bool has_news(void) {
  return __atomic_load_n(&runtime_mailbox.wanted, __ATOMIC_ACQUIRE) != runtime_mailbox.applied;
}

/* Where RLIMIT_SIGPENDING is used up it comes without what was sent with it, as if from process 0. */
bool runtime_is_notice(const void *siginfo) {
  const struct siginfo *info = siginfo;
  if (info->si_signo != SIGTRAP) return false;
  if (info->si_code == SI_QUEUE) return info->si_ptr == &runtime_mailbox;
  return info->si_code == SI_USER && !info->si_pid && has_news();
}

bool runtime_take_notice(GuestCpu *cpu, const void *siginfo, void *context) {
  if (!runtime_is_notice(siginfo)) return false;
  runtime_interrupt(cpu, context);
  return true;
}

/* A signal that is on its way would be the new program's, which has no handler yet. Blocked and opened again it is seen
 * by this thread, whichever the kernel had chosen for it. */
void runtime_exec_begin(void) {
  const int64_t pause[2] = {0, WAIT_NS};
  const uint64_t trap = UINT64_C(1) << (SIGTRAP - 1);
  if ((int)host_call(__NR_getpid) != runtime_mailbox.owner) return; /* a vfork child: nobody knows it by this memory */
  __atomic_store_n(&runtime_mailbox.deaf, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&runtime_mailbox.wanted, __ATOMIC_SEQ_CST)) return;
  for (unsigned i = 0; i < WAITS && __atomic_load_n(&runtime_mailbox.teller, __ATOMIC_SEQ_CST); i++)
    host_call(__NR_nanosleep, pause, 0);
  host_call(__NR_rt_sigprocmask, SIG_BLOCK, &trap, 0, sizeof trap);
  host_call(__NR_rt_sigprocmask, SIG_UNBLOCK, &trap, 0, sizeof trap);
}

void runtime_exec_failed(void) {
  __atomic_store_n(&runtime_mailbox.deaf, 0, __ATOMIC_SEQ_CST);
}
