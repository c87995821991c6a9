/* Safe access to guest memory: range checks here, the touching itself in guest-call.S, where the handler
 * of SIGSEGV and SIGBUS can recover. */
#include "linux/linux.h"

int linux_guarded_copy(void *to, const void *from, size_t length);
int linux_guarded_string(char *to, const char *from, size_t size);
extern const char linux_guarded_start[], linux_guarded_end[], linux_guarded_fault[];

static bool is_guest(uint64_t address, size_t length) {
  return length <= MEMORY_GUEST_END && address <= MEMORY_GUEST_END - length;
}

int linux_copy_in(void *to, uint64_t from, size_t length) {
  if (!length) return 0;
  return is_guest(from, length) ? linux_guarded_copy(to, (const void *)from, length) : -EFAULT;
}

int linux_copy_out(uint64_t to, const void *from, size_t length) {
  if (!length) return 0;
  return is_guest(to, length) ? linux_guarded_copy((void *)to, from, length) : -EFAULT;
}

int linux_copy_string(char *to, uint64_t from, size_t size) {
  return is_guest(from, 1) ? linux_guarded_string(to, (const char *)from, size) : -EFAULT;
}

bool linux_access_fault(uint64_t pc, uint64_t *ret_continue) {
  if (pc < (uint64_t)linux_guarded_start || pc >= (uint64_t)linux_guarded_end) return false;
  *ret_continue = (uint64_t)linux_guarded_fault;
  return true;
}
