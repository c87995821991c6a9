/*
 * A program that debugs itself: TF set by POPF, IRET and a handler's return gives a SIGTRAP after each instruction
 * that follows, in the order and with the addresses the processor gives them.
 * Build: static dynamic nopie, -pthread
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { TF = 0x100, RF = 0x10000, STATUS = 0x8d5, MOST = 64 };

typedef struct Stop {
  int32_t offset;
  int code, vector;
  uint32_t flags;
  uint64_t rax, rcx;
  int here;
} Stop;

static Stop stops[MOST];
static int count, stop_after, start_at_trap;
static uint64_t base;
static char buffer[256];

static void on_trap(int signal, siginfo_t *info, void *context) {
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  if (count < MOST)
    stops[count] = (Stop){(int32_t)((uint64_t)g[REG_RIP] - base), info->si_code, (int)g[REG_TRAPNO],
                          (uint32_t)g[REG_EFL], (uint64_t)g[REG_RAX], (uint64_t)g[REG_RCX],
                          (uint64_t)info->si_addr == (uint64_t)g[REG_RIP]};
  count++;
  if (start_at_trap) g[REG_EFL] |= TF, start_at_trap = 0;
  if (count == stop_after) g[REG_EFL] &= ~TF;
}

/* Between the rounds of a repeated instruction RF is pushed as 1 (SDM volume 3, 17.3.1.1), but not by every hypervisor
 * that comes in between: what is run natively says what the manual does. */
static int resumes(const Stop *s, int32_t last) {
  if (getenv("TEST_ORACLE") && s->offset == last) return 1;
  return (s->flags & RF) != 0;
}

static void print_stops(const char *text) {
  int32_t last = 0;
  printf("%s:", text);
  for (int i = 0; i < count && i < MOST; i++) {
    const Stop *s = &stops[i];
    printf(" %d", s->offset);
    if (s->code != TRAP_TRACE || s->vector != 1 || !s->here) printf("(code %d vector %d)", s->code, s->vector);
    printf("%s%s", s->flags & TF ? "" : "!", resumes(s, last) ? "r" : "");
    last = s->offset;
  }
  printf("\n");
  count = 0;
}

/* Offsets count from label 1, the first instruction that is stepped over. */
#define STEP(text)                                                                                            \
  do {                                                                                                        \
    __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; sub $256, %%rsp; mov $3, %%ecx; xor %%ebx, %%ebx;"  \
                     "mov %1, %%rdi; mov %1, %%rsi; pushf; orl $0x100, (%%rsp); popf;"                        \
                     "1: " text "; pushf; andl $~0x100, (%%rsp); popf; add $256, %%rsp"                       \
                     : "=m"(base)                                                                             \
                     : "r"(buffer)                                                                            \
                     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r11", "xmm0", "cc", "memory");              \
    print_stops(text);                                                                                        \
  } while (0)

__asm__(".pushsection .text; .p2align 4; function: nop; ret; .popsection");

static void instructions(void) {
  STEP("nop; nop; nop");
  STEP("add %%eax, %%ecx; cmp %%ebx, %%ecx; mov %%ecx, (%%rdi)");
  STEP("jmp 2f; nop; 2: nop");
  STEP("test %%ebx, %%ebx; jz 2f; nop; 2: nop");
  STEP("test %%ebx, %%ebx; jnz 2f; nop; 2: nop");
  STEP("call 3f; jmp 4f; 3: nop; ret; 4: nop");
  STEP("lea 3f(%%rip), %%rax; call *%%rax; jmp 4f; 3: nop; ret $0; 4: nop");
  STEP("lea 2f(%%rip), %%rax; jmp *%%rax; nop; 2: nop");
  STEP("2: dec %%ecx; jnz 2b; nop");
  STEP("2: nop; loop 2b; nop");
  STEP("push %%rax; pop %%rdx; xchg %%eax, %%edx");
  STEP("lock incl (%%rdi); movups (%%rdi), %%xmm0; nop");
  STEP("fld1; fadd %%st, %%st; fstp %%st");
  STEP("int3; nop");
  STEP("pushf; pop %%rax; shr $8, %%eax; and $1, %%eax; cmp $1, %%eax; je 2f; nop; 2: nop");
  STEP("pushf; popf; nop");
}

static void strings(void) {
  memset(buffer, 'a', sizeof buffer);
  STEP("rep movsb; nop");
  STEP("xor %%ecx, %%ecx; rep movsb; nop");
  STEP("mov $5, %%cl; mov $0x62626262, %%eax; rep stosl; nop"); /* no part of an address, which differs from run to run */
  STEP("movsb; lodsb; nop");
  STEP("mov $6, %%cl; repe cmpsb; nop");
  STEP("mov $6, %%cl; lea 1(%%rsi), %%rdi; movb $1, 3(%%rsi); repe cmpsb; nop");
  STEP("mov $6, %%cl; mov $1, %%al; repne scasb; nop");
}

/* System calls are stepped over as one with the instruction behind them; loads of SS, too. */
static void exceptions_to_the_rule(void) {
  STEP("mov $39, %%eax; syscall; nop; nop");
  STEP("mov $-1, %%eax; syscall; cmp %%eax, %%eax; nop");
  STEP("mov %%ss, %%eax; mov %%eax, %%ss; nop; nop");
  STEP("mov %%ds, %%eax; mov %%eax, %%ds; nop; nop");
  STEP("mov $39, %%eax; mov %%ss, %%ebx; mov %%ebx, %%ss; syscall; nop; nop");
}

static void iret(void) {
  __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; mov %%rsp, %%rbx; sub $256, %%rsp; pushq $0x2b; push %%rbx;"
                   "pushf; orl $0x100, (%%rsp); pushq $0x33; push %%rax; iretq; nop; 1: nop; nop; pushf;"
                   "andl $~0x100, (%%rsp); popf"
                   : "=m"(base)
                   :
                   : "rax", "rbx", "cc", "memory");
  print_stops("iretq");
}

/* TF from a handler, until one clears it: loops, flags and registers as they are after each instruction. */
static void from_a_handler(void) {
  uint64_t sum = 0;
  start_at_trap = 1;
  stop_after = 30;
  __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %1; mov $100, %%ecx; xor %%eax, %%eax; int3;"
                   "1: add %%rcx, %%rax; imul $3, %%rax, %%rax; sub $1, %%ecx; jnz 1b; mov %%rax, %0"
                   : "=m"(sum), "=m"(base)
                   :
                   : "rax", "rcx", "cc", "memory");
  for (int i = 0; i < count; i++)
    printf("%d: rax %llx, rcx %lld, flags %x\n", stops[i].offset, (long long)stops[i].rax, (long long)stops[i].rcx,
           stops[i].flags & (STATUS & ~0x10) & (stops[i].offset == 7 ? 0x801 : ~0u)); /* IMUL leaves the others open */
  printf("%d stops, %llx\n", count, (long long)sum);
  count = stop_after = 0;
}

/* --- Threads and faults -------------------------------------------------------------------------- */

static __thread uint64_t thread_stops;
static sigjmp_buf back;

static void on_thread_trap(int signal, siginfo_t *info, void *context) { thread_stops++; }

static void on_fault(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  printf("signal %d, TF %d, %lld left, %llu stops\n", signal, (g[REG_EFL] & TF) != 0, g[REG_RCX],
         (unsigned long long)thread_stops);
  siglongjmp(back, 1);
}

static void *step_alone(void *argument) {
  uint64_t rounds = (uint64_t)(uintptr_t)argument;
  __asm__ volatile("lea -128(%%rsp), %%rsp; pushf; orl $0x100, (%%rsp); popf; 1: call 2f; dec %0; jnz 1b;"
                   "jmp 3f; 2: nop; ret; 3: pushf; andl $~0x100, (%%rsp); popf; lea 128(%%rsp), %%rsp"
                   : "+r"(rounds)
                   :
                   : "cc", "memory");
  return (void *)(uintptr_t)thread_stops;
}

static void threads_and_faults(void) {
  struct sigaction action = {.sa_sigaction = on_thread_trap, .sa_flags = SA_SIGINFO};
  pthread_t threads[3];
  char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sigaction(SIGTRAP, &action, NULL);
  for (uint64_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, step_alone, (void *)(uintptr_t)(200 + i));
  for (int i = 0; i < 3; i++) {
    void *result;
    pthread_join(threads[i], &result);
    printf("thread %d: %lu stops\n", i, (unsigned long)(uintptr_t)result);
  }
  action.sa_sigaction = on_fault;
  sigaction(SIGSEGV, &action, NULL);
  munmap(pages + 4096, 4096);
  if (!sigsetjmp(back, 1))
    __asm__ volatile("mov $20, %%ecx; lea 4090(%0), %%rdi; pushf; orl $0x100, (%%rsp); popf; rep stosb"
                     :
                     : "r"(pages)
                     : "rcx", "rdi", "memory", "cc");
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
  sigaction(SIGTRAP, &action, NULL);
  instructions();
  strings();
  exceptions_to_the_rule();
  iret();
  from_a_handler();
  threads_and_faults();
  return 0;
}
