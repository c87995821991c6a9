/*
 * Jumps, calls and returns to where no program is: what is no canonical address faults at the instruction that goes
 * there, before it has pushed or popped, anything else where it leads (Intel SDM volume 2, JMP, CALL, RET; volume
 * 3, 6.15). Also to addresses that a translator might keep for itself, with and without code that was there before.
 * Build: static dynamic
 * With: ; STELE_FLAGS=exact; STELE_CODE_CACHE=1
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, ROUNDS = 3 };

static sigjmp_buf back;
static volatile uint64_t before, stack, target;
static size_t next;
static volatile int counted; /* not 0: faults are only counted */
static char alternate[65536];

static void on_fault(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  uint64_t rip = (uint64_t)g[REG_RIP];
  if (counted) {
    counted++;
    siglongjmp(back, 1);
  }
  printf("signal %d code %d, vector %d, error %x, address %lx, ", signal, info->si_code, (int)g[REG_TRAPNO],
         (unsigned)g[REG_ERR], (long)info->si_addr);
  if (rip == target)
    printf("there");
  else
    printf("%ld from the instruction, flags %x", (long)(rip - before), (unsigned)g[REG_EFL] & 0x8d5);
  printf(", stack %ld\n", (long)((uint64_t)g[REG_RSP] - stack));
  siglongjmp(back, 1);
}

/* Label 1 is what goes to `target`, which is in RAX and on the stack. */
#define TRY(text)                                                                                                      \
  do {                                                                                                                 \
    printf("%s to %lx: ", text, target);                                                                               \
    if (!sigsetjmp(back, 1))                                                                                           \
      __asm__ volatile(                                                                                                \
          "mov %2, %%rax; sub $256, %%rsp; push %%rax; lea 1f(%%rip), %%rcx; mov %%rcx, %0; mov %%rsp, %1;"            \
          "cmp $-128, %%al; 1: " text                                                                                  \
          : "=m"(before), "=m"(stack)                                                                                  \
          : "m"(target)                                                                                                \
          : "rax", "rcx", "cc", "memory");                                                                             \
  } while (0)

static const uint64_t targets[] = {
    0,
    1,
    16,
    UINT64_C(0x3fff),
    UINT64_C(0x7ffffffff000),
    UINT64_C(0x7fffffffffff),
    UINT64_C(0x800000000000),
    UINT64_C(0x1234567812345678),
    UINT64_C(0x0100000000400000),
    UINT64_C(0xff00000000400000),
    UINT64_C(0xffff7fffffffffff),
    UINT64_C(0xffff800000000000),
    UINT64_C(0xfffffffffffc0010),
    UINT64_C(0xffffffffffffc000),
    UINT64_C(0xfffffffffffffffe),
    UINT64_C(0xffffffffffffffff),
};

static void all(void) {
  for (next = 0; next < sizeof targets / sizeof *targets; next++) {
    target = targets[next];
    TRY("jmp *%%rax");
    TRY("jmp *(%%rsp)");
    TRY("call *%%rax");
    TRY("call *(%%rsp)");
    TRY("ret");
    TRY("ret $24");
    TRY("rep; ret");
  }
}

/* What such a return finds on the stack, but for its target, which is put there. */
#define TRY_FAR(text)                                                                                                  \
  do {                                                                                                                 \
    printf("%s to %lx: ", text, target);                                                                               \
    if (!sigsetjmp(back, 1))                                                                                           \
      __asm__ volatile("mov %%rsp, %%rcx; sub $256, %%rsp; mov %%ss, %%edx; push %%rdx; push %%rcx; pushf; "           \
                       "mov %%cs, %%edx; push %%rdx; push %2; lea 1f(%%rip), %%rcx; mov %%rcx, %0; "                   \
                       "mov %%rsp, %1; cmp %%rcx, %%rcx; 1: " text                                                     \
                       : "=m"(before), "=m"(stack)                                                                     \
                       : "r"(target)                                                                                   \
                       : "rcx", "rdx", "cc", "memory");                                                                \
  } while (0)

static void far(void) {
  for (next = 0; next < sizeof targets / sizeof *targets; next++) {
    target = targets[next];
    TRY_FAR("lretq");
    TRY_FAR("lretq $16");
    TRY_FAR("iretq");
  }
}

/* The same with TF set: no trap follows what faults (Intel SDM volume 3, 17.3.1.4). */
static volatile int steps;

static void on_step(int signal, siginfo_t *info, void *context) { steps++; }

static void stepping(void) {
  for (next = 0; next < sizeof targets / sizeof *targets; next++) {
    target = targets[next];
    steps = 0;
    TRY("pushf; orl $0x100, (%%rsp); popf; nop; jmp *%%rax");
    TRY("pushf; orl $0x100, (%%rsp); popf; nop; call *%%rax");
    TRY("pushf; orl $0x100, (%%rsp); popf; nop; ret");
    printf("%d steps\n", steps);
  }
}

/* Where a handler sends its thread. */
static void on_sent(int signal, siginfo_t *info, void *context) {
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)target;
}

static __attribute__((noipa)) void send(uint64_t address) {
  target = address;
  printf("sent to %lx: ", target);
  if (!sigsetjmp(back, 1)) raise(SIGUSR1);
}

/* One whose bits 46 to 0 are those of code. */
static __attribute__((noipa)) void go_near_code(uint64_t address) {
  target = address;
  if (!sigsetjmp(back, 1)) ((void (*)(void))(uintptr_t)address)();
  if (!sigsetjmp(back, 1)) raise(SIGUSR1);
}

static void not_here(void) { printf("it was executed\n"); }

static void sent(void) {
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) send(targets[i]);
  counted = 1;
  for (int bit = 47; bit < 64; bit++) go_near_code((uint64_t)(uintptr_t)not_here | UINT64_C(1) << bit);
  printf("%d of 34 near code\n", counted - 1);
  counted = 0;
}

/* Returns for which a call was predicted, and the return address is another one then. */
static void returns(void) {
  for (next = 0; next < sizeof targets / sizeof *targets; next++) {
    target = targets[next];
    TRY("call 2f; 2: mov %%rax, (%%rsp); lea 3f(%%rip), %%rcx; cmp $-128, %%al; 3: ret");
  }
}

/* Code that goes away leaves nothing behind where its addresses were kept. */
static void forgotten(uint64_t low_bits) {
  uint8_t *code = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t *at = (uint8_t *)(((uintptr_t)code & ~UINT64_C(0x3fff)) + 0x8000 + low_bits);
  int sum = 0;
  *at = 0xc3;
  for (int i = 0; i < 100; i++) ((void (*volatile)(void))(uintptr_t)at)(), sum++;
  munmap(code, 16 * PAGE);
  printf("called %d times\n", sum);
}

int main(void) {
  stack_t signal_stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  setvbuf(stdout, NULL, _IOLBF, 0);
  sigaltstack(&signal_stack, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  action.sa_sigaction = on_step;
  sigaction(SIGTRAP, &action, NULL);
  action.sa_sigaction = on_sent;
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < ROUNDS; i++) {
    all();
    far();
    stepping();
    sent();
    returns();
    forgotten(0x3fff);
    forgotten(0);
  }
  return 0;
}
