/* base.h on the host's libc, for unit tests. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"

bool (*base_panic_guest_rip)(uint64_t *ret_rip);

void *base_alloc(size_t size) { return calloc(1, size ? size : 1); }

void base_free(void *block) { free(block); }

void *base_pages_alloc(size_t length) {
  void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

void base_pages_free(void *pages, size_t length) { munmap(pages, length); }

void base_window(uint64_t *ret_start, uint64_t *ret_end) { *ret_start = *ret_end = 0; }

void base_before_fork(void) {}

void base_after_fork(void) {}

void base_print(int fd, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vdprintf(fd, format, arguments);
  va_end(arguments);
}

void base_lock(BaseLock *lock) {
  while (__atomic_exchange_n(&lock->state, 1, __ATOMIC_ACQUIRE)) sched_yield();
}

void base_unlock(BaseLock *lock) { __atomic_store_n(&lock->state, 0, __ATOMIC_RELEASE); }

void base_panic(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("stele: internal error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}
