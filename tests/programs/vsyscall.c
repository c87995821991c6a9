/*
 * The vsyscall page: its three entries by call and by jump, its row in /proc/self/maps, wrong pointers, other
 * addresses in it, and that nothing can be read there; faults at other addresses of the kernel's.
 * Build: static dynamic
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#define PAGE UINT64_C(0xffffffffff600000)

static sigjmp_buf back;
static int exact; /* kernels differ in what they report of a refused entry, but not in where */

static void on_fault(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  if (exact)
    printf("signal %d code %d address %lx error %x\n", signal, info->si_code, (long)info->si_addr, (int)g[REG_ERR]);
  else printf("signal %d, there %lx\n", signal, (long)g[REG_RIP] & ~0xfffL);
  siglongjmp(back, 1);
}

/* The result in the way of system calls; all other registers stay. */
static long call(uint64_t address, const void *first, const void *second) {
  long result = -1;
  if (sigsetjmp(back, 1)) return -1;
  __asm__ volatile("mov $0x1234567, %%ecx; mov $0x7654321, %%r11d; call *%1; cmp $0x1234567, %%rcx; jne 1f;"
                   "cmp $0x7654321, %%r11; je 2f; 1: ud2; 2:"
                   : "=&a"(result)
                   : "r"(address), "D"(first), "S"(second), "d"(0)
                   : "rcx", "r11", "cc", "memory");
  return result;
}

static void entries(void) {
  struct timeval now = {0}, from;
  time_t seconds = 0, result;
  unsigned processor = 12345, node = 12345;
  gettimeofday(&from, NULL);
  printf("gettimeofday %ld\n", call(PAGE, &now, NULL));
  printf("now %d\n", now.tv_sec - from.tv_sec >= 0 && now.tv_sec - from.tv_sec < 20);
  result = call(PAGE + 0x400, &seconds, NULL);
  printf("time %d, stored %d\n", result - from.tv_sec >= -1 && result - from.tv_sec < 20, result == seconds);
  result = call(PAGE + 0x400, NULL, NULL);
  printf("time %d\n", result - from.tv_sec >= -1 && result - from.tv_sec < 20);
  printf("getcpu %ld\n", call(PAGE + 0x800, &processor, &node));
  printf("processor %d, node %d\n", processor < 12345, node < 12345);
  __asm__ volatile("lea 1f(%%rip), %%rax; push %%rax; xor %%edi, %%edi; jmp *%1; ud2; 1:"
                   : "=&a"(result)
                   : "r"(PAGE + 0x400)
                   : "rcx", "rdi", "rsi", "r11", "cc", "memory");
  printf("by a jump %d\n", result - from.tv_sec >= -1 && result - from.tv_sec < 20);
}

static void read_at(uint64_t address) {
  printf("read %lx: ", (long)address);
  if (!sigsetjmp(back, 1)) printf("%d\n", *(volatile int *)address);
}

static void print_row(void) {
  static char line[4096];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps && fgets(line, sizeof line, maps)) {}
  printf("%s", line);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  if (getenv("TEST_NO_VSYSCALL")) return 0; /* the kernel of this host has none (vsyscall=none) */
  setvbuf(stdout, NULL, _IOLBF, 0);
  sigaction(SIGSEGV, &action, NULL);
  print_row();
  entries();
  call(PAGE, (void *)8, NULL);
  call(PAGE + 0x400, (void *)8, NULL);
  call(PAGE + 0x800, (void *)16, NULL);
  call(PAGE + 0x400, (void *)PAGE, NULL);
  call(PAGE + 0xc00, NULL, NULL);
  call(PAGE + 0x200, NULL, NULL);
  call(PAGE + 0x401, NULL, NULL);
  exact = 1;
  call(PAGE + 0x1000, NULL, NULL);
  call(UINT64_C(0xffffffff80000000), NULL, NULL);
  read_at(PAGE);
  read_at(PAGE + 0x400);
  read_at(UINT64_C(0xffffffff80000000));
  read_at(UINT64_C(0xffff800000000000));
  return 0;
}
