/*
 * Code that the kernel reads from a file by itself, some time after a call that asked for it (io_submit(2)): until it
 * says that it is done the old or the new may be executed, and from then on the new.
 * Build: static
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "limits.h"

enum { PAGE = 4096, ROUNDS = 200 };

static uint8_t *code;

static int call(void) {
  return ((int (*)(void))(uintptr_t)code)();
}

/* A file whose page i is code that returns i: mov $value, %eax; ret. It has no name; without O_DIRECT reads are not
 * late. */
static int make_file(void) {
  char name[] = "late-writes-XXXXXX";
  static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
  int fd = mkstemp(name);
  if (fd < 0) exit(1);
  for (uint32_t i = 0; i <= ROUNDS; i++) {
    page[0] = 0xb8, page[5] = 0xc3;
    memcpy(page + 1, &i, sizeof i);
    if (pwrite(fd, page, PAGE, (off_t)i * PAGE) != PAGE) exit(1);
  }
  int direct = open(name, O_RDONLY | O_DIRECT);
  unlink(name);
  return direct >= 0 && pread(direct, page, PAGE, 0) == PAGE ? direct : fd;
}

static int round_of(aio_context_t context, int fd, int value) {
  struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD,
                         .aio_fildes = (uint32_t)fd,
                         .aio_buf = (uint64_t)(uintptr_t)code,
                         .aio_nbytes = PAGE,
                         .aio_offset = (int64_t)value * PAGE};
  struct iocb *list[] = {&request};
  struct io_event event;
  struct timespec none = {0, 0};
  int wrong = 0;
  if (syscall(SYS_io_submit, context, 1L, list) != 1) exit(1);
  for (int done = 0; !done;) {
    int result = call();
    wrong += result != value && result != value - 1;
    done = (int)syscall(SYS_io_getevents, context, 0L, 1L, &event, &none);
  }
  return wrong + (event.res != PAGE) + (call() != value) + (call() != value);
}

/* The page's protection, whether it has data beside its code, and whether there was code in it before. */
static void rounds(const char *what, int before) {
  aio_context_t context = 0;
  int wrong = 0, fd = make_file();
  code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED || pread(fd, code, PAGE, 0) != PAGE || syscall(SYS_io_setup, 8, &context)) exit(1);
  if (before) call();
  for (int i = 1; i <= ROUNDS; i++) wrong += round_of(context, fd, i);
  printf("%s: %d wrong\n", what, wrong);
  syscall(SYS_io_destroy, context);
  munmap(code, PAGE);
  close(fd);
}

int main(void) {
  if (under_qemu_user()) return 0;
  rounds("fresh", 0);
  rounds("executed before", 1);
  return 0;
}
