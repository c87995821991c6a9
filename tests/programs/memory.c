/*
 * Address space calls: anonymous, shared and file mappings, protection, remapping, fixed placement, brk, holes,
 * what /proc/self/maps says, and the errors.
 * Build: dynamic static static-pie
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static sigjmp_buf out;

static void on_fault(int signal) { siglongjmp(out, signal); }

static int faults(volatile char *at, int write) {
  int signal = sigsetjmp(out, 1);
  if (signal) return signal;
  if (write) *at = 1;
  else (void)*at;
  return 0;
}

static void *map(size_t size, int protection) {
  return mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void protection(void) {
  char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
  memset(p, 5, 4 * PAGE);
  mprotect(p + PAGE, PAGE, PROT_READ);
  mprotect(p + 2 * PAGE, PAGE, PROT_NONE);
  for (int i = 0; i < 4; i++)
    printf("page %d: read %d write %d\n", i, faults(p + i * PAGE, 0), faults(p + i * PAGE, 1));
  munmap(p + 3 * PAGE, PAGE);
  printf("unmapped: %d\n", faults(p + 3 * PAGE, 0));
  mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE);
  printf("kept: %d %d\n", p[PAGE], p[2 * PAGE]);
  printf("protect a hole: %s\n", mprotect(p + 3 * PAGE, PAGE, PROT_READ) ? strerror(errno) : "fine");
  munmap(p, 3 * PAGE);
}

/* A hole ends it, and what lies before is protected all the same. */
static void protection_of_holes(void) {
  char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
  munmap(p + 2 * PAGE, PAGE);
  printf("over a hole: %d", mprotect(p, 4 * PAGE, PROT_READ));
  printf(" errno %d, writes %d %d %d", errno, faults(p, 1), faults(p + PAGE, 1), faults(p + 3 * PAGE, 1));
  printf(", from a hole: %d", mprotect(p + 2 * PAGE, 2 * PAGE, PROT_NONE));
  printf(" errno %d, writes %d\n", errno, faults(p + 3 * PAGE, 1));
}

static void remapping(void) {
  char *p = map(2 * PAGE, PROT_READ | PROT_WRITE), *wall = map(PAGE, PROT_READ);
  strcpy(p, "moved");
  char *q = mremap(p, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
  q[63 * PAGE] = 9;
  printf("grown: %s %d\n", q, q[63 * PAGE]);
  q = mremap(q, 64 * PAGE, PAGE, 0);
  printf("shrunk: %s, beyond %d\n", q, faults(q + PAGE, 0));
  char *target = map(8 * PAGE, PROT_NONE);
  q = mremap(q, PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 2 * PAGE);
  printf("fixed: %d %s\n", q == target + 2 * PAGE, q);
  printf("in the way: %s\n", mremap(target, PAGE, 3 * PAGE, 0) == MAP_FAILED ? strerror(errno) : "fine");
  munmap(wall, PAGE);
}

static void placement(void) {
  char *p = map(16 * PAGE, PROT_NONE);
  char *q = mmap(p + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  printf("fixed: %d\n", q == p + 4 * PAGE);
  q = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  printf("no replace: %s\n", q == MAP_FAILED ? strerror(errno) : "fine");
  q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  printf("low: %d\n", (uintptr_t)q < 1ull << 32);
  q = mmap((void *)0x7ffffffff000, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  printf("beyond user space: %s\n", q == MAP_FAILED ? strerror(errno) : "fine");
  printf("nothing: %s\n",
         mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? strerror(errno) : "fine");
  printf("unaligned: %s\n", mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
                                ? strerror(errno)
                                : "fine");
  printf("below 2^47: %d\n", (uintptr_t)map(PAGE, PROT_READ) >> 47 == 0 && (uintptr_t)&p >> 47 == 0);
}

static void files(void) {
  char name[] = "/tmp/stele-memory-XXXXXX", back[8] = "";
  int fd = mkstemp(name);
  unlink(name);
  for (int i = 0; i < 3 * PAGE; i += 4)
    if (write(fd, &i, 4) != 4) return;
  int *shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE);
  private[1] = -1;
  shared[2] = 77;
  msync(shared, PAGE, MS_SYNC);
  printf("file: %d %d %d\n", shared[PAGE / 4 + 1], private[1], pread(fd, back, 4, 8) == 4 ? *(int *)back : -1);
  pid_t pid = fork();
  if (pid == 0) {
    shared[0] = 4242;
    private[0] = 1;
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  printf("after a child: %d %d\n", shared[0], private[0]);
  close(fd);
}

static void break_and_advice(void) {
  char *before = sbrk(0), *grown = sbrk(3 * PAGE);
  memset(grown, 1, 3 * PAGE);
  printf("brk: %d %d\n", grown == before, (char *)sbrk(0) == before + 3 * PAGE);
  sbrk(-3 * PAGE);
  char *p = map(8 * PAGE, PROT_READ | PROT_WRITE);
  unsigned char resident[8];
  memset(p, 3, 8 * PAGE);
  madvise(p + 2 * PAGE, 2 * PAGE, MADV_DONTNEED);
  printf("dropped: %d %d %d\n", p[0], p[2 * PAGE], p[4 * PAGE]);
  printf("mincore: %d %d\n", mincore(p, 8 * PAGE, resident), resident[7] & 1);
  printf("mincore of nothing: %s\n", mincore((void *)PAGE, PAGE, resident) ? strerror(errno) : "fine");
}

/* The protection that /proc/self/maps gives for an address. */
static const char *listed(const void *address) {
  static char protection[8];
  FILE *file = fopen("/proc/self/maps", "r");
  char line[512];
  strcpy(protection, "absent");
  while (fgets(line, sizeof line, file)) {
    unsigned long from, to;
    char text[5];
    if (sscanf(line, "%lx-%lx %4s", &from, &to, text) == 3 && (uintptr_t)address >= from && (uintptr_t)address < to)
      strcpy(protection, text);
  }
  fclose(file);
  return protection;
}

static void listing(void) {
  char *p = map(3 * PAGE, PROT_READ | PROT_WRITE);
  mprotect(p + PAGE, PAGE, PROT_READ | PROT_EXEC);
  mprotect(p + 2 * PAGE, PAGE, PROT_NONE);
  printf("maps: %s ", listed(p));
  printf("%s ", listed(p + PAGE));
  printf("%s ", listed(p + 2 * PAGE));
  printf("code %s ", listed((void *)listing));
  printf("stack %s\n", listed(&p));
}

int main(void) {
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  protection();
  protection_of_holes();
  remapping();
  placement();
  files();
  break_and_advice();
  listing();
  return 0;
}
