/*
 * Selectors, as Linux's GDT has them: far jumps, calls and returns within the code segment, loads of segment
 * registers, IRET, LAR, LSL, VERR, VERW; the error codes of what is refused.
 * Build: static nopie
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static uint64_t stack_before;

static void on_fault(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  printf("signal %d code %d, vector %d, error %04x, address %lx, same stack %d\n", signal, info->si_code,
         (int)g[REG_TRAPNO], (unsigned)g[REG_ERR], (long)info->si_addr, (uint64_t)g[REG_RSP] == stack_before);
  siglongjmp(back, 1);
}

/* --- far transfers ------------------------------------------------------------------------------- */

/* Offset and selector in memory. */
typedef struct __attribute__((packed)) Far32 { uint32_t offset; uint16_t selector; } Far32;

static int arrived;
static uint64_t pushed[2];

/* The program is linked below 4 GiB, so that 32 bits reach all of it. */
__attribute__((noinline)) static void jump32(uint16_t selector) {
  static Far32 far;
  far.selector = selector;
  printf("jump %02x: ", selector);
  arrived = 0;
  if (!sigsetjmp(back, 1)) {
    __asm__ volatile("movl $1f, %0; mov %%rsp, %1; ljmp *%0; ud2; .p2align 4; 1: movl $1, %2; mov %%cs, %3"
                     : "+m"(far), "=m"(stack_before), "=m"(arrived), "=m"(pushed[0]));
    printf("arrived %d, cs %02x\n", arrived, (unsigned)pushed[0] & 0xffff);
  }
}

__attribute__((noinline)) static void call32(uint16_t selector) {
  static Far32 far; /* not found by the stack pointer, which moves */
  far.selector = selector;
  printf("call %02x: ", selector);
  if (!sigsetjmp(back, 1)) {
    int right;
    __asm__ volatile("mov %%rsp, %%rbx; sub $128, %%rsp; movl $1f, %0; mov %%rsp, %2; lcall *%0; 3: jmp 2f; ud2;"
                     ".p2align 4; 1: mov (%%rsp), %%rax; mov %%rax, %3; xor %1, %1; cmpl $3b, (%%rsp); sete %b1; lretl;"
                     "2: cmp %%rsp, %2; sete %%al; movzbl %%al, %%eax; shl %%eax; or %%eax, %1; mov %%rbx, %%rsp"
                     : "+m"(far), "=&r"(right), "=m"(stack_before), "=m"(pushed[0])
                     :
                     : "rax", "rbx", "cc", "memory");
    printf("right %d, cs %02x\n", right, (unsigned)(pushed[0] >> 32) & 0xffff);
  }
}

/* Returns. The text pushes; label 1 is the target. */
#define RETURN(name, cs, push, instruction)                                                                    \
  do {                                                                                                        \
    printf("%s %02x: ", name, cs);                                                                            \
    if (!sigsetjmp(back, 1)) {                                                                                \
      int popped;                                                                                             \
      __asm__ volatile("mov %%rsp, %%rbx; sub $128, %%rsp; mov %%rsp, %%rcx; " push "; mov %%rsp, %1; " instruction \
                       "; ud2; .p2align 4; 1: sub %%rsp, %%rcx; mov %%ecx, %0; mov %%rbx, %%rsp"               \
                       : "=r"(popped), "=m"(stack_before)                                                     \
                       : "d"((uint64_t)(cs))                                                                  \
                       : "rax", "rbx", "rcx", "cc", "memory");                                                \
      printf("returned, stack %d\n", popped);                                                                 \
    }                                                                                                         \
  } while (0)

#define PUSH8 "push %%rdx; push $1f"
#define PUSH4 "sub $8, %%rsp; movl $1f, (%%rsp); mov %%edx, 4(%%rsp)"

/* JMP with operand size 8: to code at low and high addresses, made so that a processor that takes REX.W for
 * nothing (AMD's) gets there too. */
static void wide_jump(void) {
  static const uint8_t code[] = {0xc7, 0x05, 6, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xe0}; /* movl $1, word; jmp *%rax */
  uint64_t high = UINT64_C(0x3300000000) + 0x20000000, low = 0x20000000;
  uint8_t *pages[2] = {(uint8_t *)high, (uint8_t *)low};
  int ready = 1;
  for (int i = 0; i < 2; i++) {
    ready &= mmap(pages[i], 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
             (void *)pages[i];
    if (ready) memcpy(pages[i], code, sizeof code);
  }
  struct __attribute__((packed)) { uint64_t offset; uint16_t selector; } far = {high, 0x33};
  printf("wide jump: ");
  __asm__ volatile("lea 1f(%%rip), %%rax; rex.w; ljmp *%0; ud2; 1: nop" : : "m"(far) : "rax", "memory");
  printf("ready %d, arrived %d\n", ready, *(int *)(high + 16) | *(int *)(low + 16));
}

__attribute__((noinline)) static void returns(uint16_t selector) {
  RETURN("lret", selector, PUSH4, "lretl");
  RETURN("lret $16", selector, PUSH4, "lretl $16");
  RETURN("lretq", selector, PUSH8, "lretq");
  RETURN("lretq $8", selector, PUSH8, "lretq $8");
}

static void transfers(void) {
  static const uint16_t selectors[] = {0x33, 0x30, 0x32, 0, 3, 0x2b, 0x10, 0x13, 0x18,
                                       0x40, 0x63, 0x7b, 0x83, 0x37, 0xfffb};
  for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
    jump32(selectors[i]);
    call32(selectors[i]);
    returns(selectors[i]);
  }
  wide_jump();
}

/* --- segment registers --------------------------------------------------------------------------- */

#define LOAD(name, value)                                                                                     \
  do {                                                                                                        \
    uint16_t old, now;                                                                                        \
    printf("%s %02x: ", #name, (unsigned)(value));                                                            \
    if (!sigsetjmp(back, 1)) {                                                                                \
      __asm__ volatile("mov %%" #name ", %w0" : "=r"(old));                                                   \
      __asm__ volatile("mov %%rsp, %1; mov %w2, %%" #name "; mov %%" #name ", %w0; mov %w3, %%" #name           \
                       : "=&r"(now), "=m"(stack_before)                                                       \
                       : "r"(value), "r"(old));                                                               \
      printf("holds %02x\n", now);                                                                            \
    }                                                                                                         \
  } while (0)

/* Not 0x23, the code segment of 32-bit programs: kernels without them have none. */
static const uint16_t loaded[] = {0,    1,    3,    0x2b, 0x28, 0x2a, 0x33, 0x30, 0x10, 0x18,
                                  0x1b, 0x38, 0x40, 0x50, 0x63, 0x7b, 0x78, 0x83, 0x4,  0x7,  0xf,  0xffff};

__attribute__((noinline)) static void loads(uint16_t selector) {
  LOAD(ds, selector);
  LOAD(es, selector);
  LOAD(gs, selector);
  LOAD(ss, selector);
}

static void other_loads(void) {
  /* What follows a load of SS is not kept from being executed; POP and the far loads check alike. */
  uint64_t value = 0x2b;
  uint16_t now;
  __asm__ volatile("push %1; popq %%gs; mov %%gs, %w0" : "=r"(now) : "r"(value));
  printf("popped %02x\n", now);
  printf("popping: ");
  if (!sigsetjmp(back, 1)) {
    value = 0x43;
    __asm__ volatile("push %1; mov %%rsp, %0; popq %%gs" : "=m"(stack_before) : "r"(value));
  }
  Far32 far = {0x12345678, 0x2b};
  uint32_t offset;
  __asm__ volatile("lgs %2, %0; mov %%gs, %w1" : "=r"(offset), "=r"(now) : "m"(far));
  printf("lgs %x, %02x\n", offset, now);
  __asm__ volatile("lss %2, %0; mov %%ss, %w1" : "=r"(offset), "=r"(now) : "m"(far));
  printf("lss %x, %02x\n", offset, now);
  far.selector = 0x33;
  printf("lss: ");
  if (!sigsetjmp(back, 1)) {
    __asm__ volatile("mov %%rsp, %1; lss %2, %0" : "=r"(offset), "=m"(stack_before) : "m"(far));
    printf("loaded\n");
  }
  __asm__ volatile("mov %w0, %%gs" : : "r"(0));
}

/* --- IRET ---------------------------------------------------------------------------------------- */

__attribute__((noinline)) static void interrupt_return(uint64_t cs, uint64_t ss) {
  printf("iretq %02lx %02lx: ", cs, ss);
  if (!sigsetjmp(back, 1)) {
    uint16_t now;
    __asm__ volatile("mov %%rsp, %%rbx; sub $128, %%rsp; push %2; push %%rbx; pushf; push %1; push $1f; mov %%rsp, %3;"
                     "iretq; ud2; 1: mov %%ss, %0"
                     : "=a"(now)
                     : "r"(cs), "r"(ss), "m"(stack_before)
                     : "rbx", "cc", "memory");
    printf("returned, ss %02x\n", now);
  }
}

static void narrow_interrupt_return(void) {
  uint32_t *low = mmap((void *)0x30000000, 8192, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  uint64_t result;
  printf("iretl: ");
  __asm__ volatile("mov %%rsp, %%rbx; mov %1, %%rsp; movl $1f, (%%rsp); movl $0x33, 4(%%rsp); movl $0x8d7, 8(%%rsp);"
                   "lea 64(%%rsp), %%eax; mov %%eax, 12(%%rsp); movl $0x2b, 16(%%rsp); iretl; ud2;"
                   "1: pushf; pop %0; sub %1, %%rsp; mov %%rsp, %%rax; mov %%rbx, %%rsp; shl $32, %%rax; or %%rax, %0"
                   : "=&r"(result)
                   : "r"(low)
                   : "rax", "rbx", "cc", "memory");
  printf("flags and stack %lx\n", result & ~UINT64_C(0x200));
}

/* --- LAR, LSL, VERR, VERW ------------------------------------------------------------------------- */

static void inspect(uint16_t selector) {
  uint64_t rights = 0x1111111111111111, limit = rights;
  uint32_t rights32 = 0x22222222;
  uint16_t rights16 = 0x3333, limit16 = rights16;
  uint8_t z[6];
  __asm__ volatile("lar %q3, %0; setz %1; lsl %q3, %2"
                   : "+r"(rights), "=m"(z[0]), "+r"(limit) : "r"((uint64_t)selector) : "cc");
  __asm__ volatile("lar %k2, %0; setz %1" : "+r"(rights32), "=m"(z[1]) : "r"((uint64_t)selector) : "cc");
  __asm__ volatile("lar %w2, %0; setz %1" : "+r"(rights16), "=m"(z[2]) : "m"(selector) : "cc");
  __asm__ volatile("lsl %w2, %0; setz %1" : "+r"(limit16), "=m"(z[3]) : "m"(selector) : "cc");
  __asm__ volatile("stc; verr %1; setz %0" : "=m"(z[4]) : "m"(selector) : "cc");
  __asm__ volatile("stc; verw %w1; setz %0" : "=m"(z[5]) : "r"((uint32_t)selector) : "cc");
  rights &= ~UINT64_C(0xf0000), rights32 &= ~UINT32_C(0xf0000); /* undefined */
  if (selector >> 3 == 15) limit = limit16 = 0; /* the processor's number */
  printf("%02x: %lx %x %x, %lx %x, ", selector, rights, z[1] ? rights32 : 0, rights16, limit, limit16);
  for (int i = 0; i < 6; i++) printf("%d", z[i]);
  uint64_t flags;
  __asm__ volatile("mov $0x8d7, %0; push %0; popf; verr %1; pushf; pop %0" : "=&r"(flags) : "m"(selector) : "cc");
  printf(" %lx\n", flags & 0x8d5);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  transfers();
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) loads(loaded[i]);
  other_loads();
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) interrupt_return(loaded[i], 0x2b);
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) interrupt_return(0x33, loaded[i]);
  narrow_interrupt_return();
  for (size_t i = 0; i < sizeof loaded / sizeof *loaded; i++) inspect(loaded[i]);
  return 0;
}
