/* The vsyscall page: gettimeofday, time and getcpu at fixed addresses, for programs from before the vDSO. As on a
 * kernel of today nothing is mapped there: a call of one of the three entries is emulated when its fetch fails
 * (arch/x86/entry/vsyscall/vsyscall_64.c), and the page cannot be read. */
#include "linux/linux.h"
#include "linux/signals.h"
#include "runtime/runtime.h"

enum { ENTRY_SIZE = 1024, USER_WRITE = 6 /* page-fault error code */ };

static const struct {
  uint16_t number;  /* of the system call */
  uint8_t pointers; /* how many arguments are */
} entries[] = {{96, 2}, {201, 1}, {309, 2}};

/* A pointer that is the kernel's is reported like a write there. */
static bool refuses_pointer(GuestCpu *cpu, const uint64_t argument[6], unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    if (argument[i] < MEMORY_GUEST_END) continue;
    linux_raise_exception(cpu, 14, argument[i], USER_WRITE);
    return true;
  }
  return false;
}

bool linux_vsyscall(GuestCpu *cpu) {
  uint64_t offset = cpu->rip - LINUX_VSYSCALL_PAGE, caller;
  const uint64_t argument[6] = {cpu->gpr[RDI], cpu->gpr[RSI], cpu->gpr[RDX]};
  if (offset % ENTRY_SIZE || offset / ENTRY_SIZE >= sizeof entries / sizeof *entries) return false;
  unsigned entry = (unsigned)(offset / ENTRY_SIZE);
  int64_t result = linux_copy_in(&caller, cpu->gpr[RSP], sizeof caller);
  if (result >= 0) {
    if (refuses_pointer(cpu, argument, entries[entry].pointers)) return true;
    result = linux_call_by_number(cpu, entries[entry].number, argument);
  }
  if (result == LINUX_RESTART) return true; /* the signal first, then the same again */
  if (result == -EFAULT) {
    linux_raise_exception(cpu, 13, 0, 0);
    return true;
  }
  cpu->gpr[RAX] = (uint64_t)result;
  cpu->gpr[RSP] += sizeof caller;
  cpu->rip = caller;
  return true;
}
