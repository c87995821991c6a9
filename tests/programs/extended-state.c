/*
 * YMM registers where something else than instructions sees them: signal frames, XSAVE areas, threads, system calls, the
 * ends of pages.
 * Build: dynamic static, -O1 -mavx2 -mfma -mxsave -mxsavec -pthread
 * Needs: avx2 fma xsave xsavec
 */
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { SOFTWARE = 464, HEADER = 512, UPPER = 576, MAGIC1 = 0x46505853, MAGIC2 = 0x46505845 };

static uint8_t *page; /* readable and writable; the one behind it is neither */
enum { PAGE = 4096 };

/* --- Signal frames ------------------------------------------------------------------------------ */

static enum { CHANGE, DROP, BREAK_MAGIC } what;
static int frame_is_right, handler_starts_clean;

static void on_signal(int number, siginfo_t *info, void *opaque) {
  __m256i upper;
  __asm__ volatile("vmovdqa %%ymm9, %0" : "=m"(upper));
  uint8_t *area = (uint8_t *)((ucontext_t *)opaque)->uc_mcontext.fpregs;
  uint32_t magic1, extended, size, magic2;
  uint64_t features, present;
  memcpy(&magic1, area + SOFTWARE, 4);
  memcpy(&extended, area + SOFTWARE + 4, 4);
  memcpy(&features, area + SOFTWARE + 8, 8);
  memcpy(&size, area + SOFTWARE + 16, 4);
  memcpy(&magic2, area + size, 4);
  memcpy(&present, area + HEADER, 8);
  frame_is_right = magic1 == MAGIC1 && magic2 == MAGIC2 && extended == size + 4 && size >= UPPER + 256 &&
                   (features & 7) == 7 && (present & 7) == 7 && ((ucontext_t *)opaque)->uc_flags & 1 &&
                   !((uintptr_t)area & 63);
  handler_starts_clean = _mm256_testz_si256(upper, upper);
  if (what == CHANGE) memset(area + UPPER + 16 * 9, 0x5a, 16);
  if (what == DROP) area[HEADER] &= ~4;
  if (what == BREAK_MAGIC) memset(area + size, 0, 4);
}

static void print(const char *name, __m256i value) {
  uint64_t words[4];
  memcpy(words, &value, sizeof words);
  printf("%s: %016lx %016lx %016lx %016lx\n", name, words[3], words[2], words[1], words[0]);
}

static __m256i over_signal(void) {
  __m256i value = _mm256_set_epi64x(4, 3, 2, 1);
  long pid = getpid(), result = 62; /* kill */
  __asm__ volatile("vmovdqa %0, %%ymm9; syscall; vmovdqa %%ymm9, %0"
                   : "+m"(value), "+a"(result)
                   : "D"(pid), "S"((long)SIGUSR1)
                   : "rcx", "r11", "memory", "xmm9");
  return value;
}

static void signals(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  static const char *const names[] = {"changed in the frame", "dropped from the frame", "without the second magic"};
  for (what = CHANGE; what <= BREAK_MAGIC; what++) {
    print(names[what], over_signal());
    printf("frame %s, handler starts %s\n", frame_is_right ? "right" : "wrong", handler_starts_clean ? "clean" : "dirty");
  }
}

/* Both halves of YMM0 and YMM1 count alike: whatever instruction of the loop a signal comes after, the frame shows them
 * alike. */
static volatile int interruptions, halves_differ;
extern const uint8_t counting_begins[], counting_ends[];

static void on_timer(int number, siginfo_t *info, void *opaque) {
  const uint8_t *area = (const uint8_t *)((ucontext_t *)opaque)->uc_mcontext.fpregs;
  uintptr_t pc = (uintptr_t)((ucontext_t *)opaque)->uc_mcontext.gregs[REG_RIP];
  if (pc < (uintptr_t)counting_begins || pc >= (uintptr_t)counting_ends) return;
  if (memcmp(area + UPPER, area + 160, 16) || memcmp(area + UPPER + 16, area + 176, 16)) halves_differ = 1;
  __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vpcmpeqd %%ymm1, %%ymm1, %%ymm1" ::: "xmm0", "xmm1");
  interruptions++;
}

static __attribute__((noinline, noclone)) void interrupted(void) {
  struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
  struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  __m256i one = _mm256_set1_epi32(1), first, second;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  __asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0; vpxor %%ymm1, %%ymm1, %%ymm1; vmovdqa %2, %%ymm2\n"
                   "counting_begins: 1: mov $1000, %%eax\n"
                   "2: vpaddd %%ymm2, %%ymm0, %%ymm0; vpaddd %%ymm0, %%ymm1, %%ymm1; vpermq $0x4e, %%ymm1, %%ymm1\n"
                   "vpsubd %%ymm2, %%ymm1, %%ymm1; vpslld $1, %%ymm1, %%ymm1; vpsrld $1, %%ymm1, %%ymm1; dec %%eax; jnz 2b\n"
                   "cmpl $100, %3; jb 1b; vmovdqa %%ymm0, %0; counting_ends: vmovdqa %%ymm1, %1"
                   : "=m"(first), "=m"(second)
                   : "m"(one), "m"(interruptions)
                   : "rax", "cc", "memory", "xmm0", "xmm1", "xmm2");
  setitimer(ITIMER_REAL, &never, NULL);
  printf("in signals the halves %s, after them they %s\n", halves_differ ? "differ" : "agree",
         memcmp(&first, (char *)&first + 16, 16) || memcmp(&second, (char *)&second + 16, 16) ? "differ" : "agree");
}

/* --- Loops -------------------------------------------------------------------------------------- */

static sigjmp_buf out_of_loop;

static void on_fault_in_loop(int number, siginfo_t *info, void *opaque) {
  const uint8_t *area = (const uint8_t *)((ucontext_t *)opaque)->uc_mcontext.fpregs;
  for (unsigned i = 0; i < 16; i++) {
    uint64_t words[4];
    memcpy(words, area + 160 + 16 * i, 16);
    memcpy(words + 2, area + UPPER + 16 * i, 16);
    printf("  ymm%u %016lx %016lx %016lx %016lx\n", i, words[3], words[2], words[1], words[0]);
  }
  siglongjmp(out_of_loop, 1);
}

/* All sixteen registers change in each round, up to the fault at the page's end; `access` is where it comes. */
#define RUN_INTO_END(name, access)                                                                                     \
  do {                                                                                                                 \
    printf(name ":\n");                                                                                                \
    for (int i = 0; i < PAGE; i++) page[i] = (uint8_t)(i * 37);                                                        \
    if (!sigsetjmp(out_of_loop, 1))                                                                                    \
      __asm__ volatile("vzeroall; vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vpabsd %%ymm0, %%ymm1\n"                            \
                       "1: vpaddd %%ymm1, %%ymm2, %%ymm2; vpaddd %%ymm2, %%ymm3, %%ymm3; vpslld $3, %%ymm3, %%ymm4\n"  \
                       "vpxor %%ymm4, %%ymm5, %%ymm5; vpermq $0x1b, %%ymm5, %%ymm6; vpsubd %%ymm6, %%ymm7, %%ymm7\n"   \
                       "vpaddd %%ymm3, %%ymm8, %%ymm8; vpaddw %%ymm8, %%ymm9, %%ymm9\n" access "\n"                   \
                       "vpshufd $0x4e, %%ymm9, %%ymm10; vpaddq %%ymm10, %%ymm11, %%ymm11; vpabsd %%ymm7, %%ymm12\n"    \
                       "vpxor %%ymm12, %%ymm13, %%ymm13; vpaddb %%ymm13, %%ymm14, %%ymm14\n"                           \
                       "vpaddd %%ymm14, %%ymm15, %%ymm15; add $32, %0; test %0, %0; jnz 1b"                            \
                       : "+r"(at)                                                                                      \
                       :                                                                                               \
                       : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",       \
                         "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                \
  } while (0)

static void faults_in_loops(void) {
  struct sigaction action = {.sa_sigaction = on_fault_in_loop, .sa_flags = SA_SIGINFO};
  static uint8_t *at;
  sigaction(SIGSEGV, &action, NULL);
  at = page + PAGE - 320;
  RUN_INTO_END("load", "vpaddd (%0), %%ymm9, %%ymm9");
  at = page + PAGE - 320;
  RUN_INTO_END("store", "vmovdqu %%ymm9, (%0)");
  at = page + PAGE - 320;
  RUN_INTO_END("gather", "vpcmpeqd %%ymm10, %%ymm10, %%ymm10; vpgatherdd %%ymm10, (%0, %%ymm1, 4), %%ymm8");
  at = page + PAGE - 320;
  RUN_INTO_END("narrow load", "vmovd (%0), %%xmm11; vpaddd %%ymm11, %%ymm9, %%ymm9");
}

/* A loop that stores into its own page, so that its translation dies in the middle of each round. */
extern const uint8_t storing_loop[], storing_loop_end[];
__asm__(".pushsection .text\n"
        "storing_loop: vpxor %ymm1, %ymm1, %ymm1; vpxor %ymm2, %ymm2, %ymm2; vpcmpeqd %ymm0, %ymm0, %ymm0\n"
        "1: vpsubd %ymm0, %ymm1, %ymm1; vpaddd %ymm1, %ymm2, %ymm2; vpermq $0x4e, %ymm2, %ymm2\n"
        "mov %esi, (%rdi)\n"
        "vpaddd %ymm1, %ymm2, %ymm2; vpslld $1, %ymm2, %ymm2; add $4, %rdi; dec %esi; jnz 1b\n"
        "vmovdqu %ymm2, (%rdx); ret; storing_loop_end: .popsection");

static void stores_into_code(void) {
  uint8_t *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(code, storing_loop, (size_t)(storing_loop_end - storing_loop));
  for (int round = 1; round < 40; round += 13) {
    __m256i result;
    ((void (*)(void *, int, void *))(uintptr_t)code)(code + 2048, round, &result);
    print("stored into its own page", result);
  }
}

/* --- CPUID and XSAVE ---------------------------------------------------------------------------- */

static void areas(void) {
  unsigned a, b, c, d;
  static uint8_t area[4096] __attribute__((aligned(64)));
  __cpuid_count(0xd, 0, a, b, c, d);
  printf("x87, SSE and AVX in XCR0: %d; an area has %s bytes\n", (a & 7) == 7 && (_xgetbv(0) & 7) == 7,
         b >= UPPER + 256 && c >= b ? "enough" : "too few");
  printf("a stack for signals %s\n", getauxval(51) >= b + 440 + 4 ? "holds it" : "is too small"); /* AT_MINSIGSTKSZ */
  __cpuid_count(0xd, 2, a, b, c, d);
  printf("AVX: %u bytes at %u\n", a, b);
  __m256i value = _mm256_set_epi64x(8, 7, 6, 5);
  __asm__ volatile("vmovdqa %0, %%ymm10; xsavec %1; vzeroall; xrstor %1; vmovdqa %%ymm10, %0"
                   : "+m"(value), "+m"(area)
                   : "a"(6), "d"(0)
                   : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  print("by XSAVEC and XRSTOR", value);
}

/* --- Threads and processes ------------------------------------------------------------------------ */

static void *in_thread(void *argument) {
  __m256i value = _mm256_set1_epi64x((long)argument), seen;
  for (int i = 0; i < 1000; i++) {
    __asm__ volatile("vmovdqa %1, %%ymm12; mov $24, %%eax; syscall; vmovdqa %%ymm12, %0" /* sched_yield */
                     : "=m"(seen)
                     : "m"(value)
                     : "rax", "rcx", "r11", "memory", "xmm12");
    if (memcmp(&seen, &value, sizeof seen)) return "lost";
  }
  return "kept";
}

static void others(void) {
  pthread_t threads[4];
  for (long i = 0; i < 4; i++) pthread_create(&threads[i], NULL, in_thread, (void *)(i + 1));
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(threads[i], &result);
    printf("thread %d: %s\n", i, (char *)result);
  }
  __m256i value = _mm256_set_epi64x(12, 11, 10, 9);
  long child = 57; /* fork */
  __asm__ volatile("vmovdqa %0, %%ymm13; syscall; vmovdqa %%ymm13, %0"
                   : "+m"(value), "+a"(child)
                   :
                   : "rcx", "r11", "memory", "xmm13");
  if (!child) _exit(memcmp(&value, &(__m256i){9, 10, 11, 12}, sizeof value) != 0);
  int status;
  waitpid((pid_t)child, &status, 0);
  printf("child: %d\n", status);
}

/* --- The ends of pages ----------------------------------------------------------------------------- */

static sigjmp_buf back;
static uintptr_t fault_address;

static void on_fault(int number, siginfo_t *info, void *context) {
  fault_address = (uintptr_t)info->si_addr;
  const uint8_t *area = (const uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;
  printf("ymm5 at the fault: %02x…%02x; ", area[UPPER + 16 * 5], area[160 + 16 * 5]);
  siglongjmp(back, 1);
}

#define TRY(name, code, at)                                                                                            \
  do {                                                                                                                 \
    memset(page, 0x11, PAGE);                                                                                          \
    __m256i kept = _mm256_set1_epi8(0x77), mask = _mm256_set_epi32(0, 0, 0, 0, -1, -1, -1, -1);                        \
    if (!sigsetjmp(back, 1)) {                                                                                         \
      __asm__ volatile("vmovdqa %2, %%ymm5; vmovdqa %3, %%ymm6; vpslld $2, %%ymm6, %%ymm7; " code                       \
                       "; vmovdqa %%ymm5, %0"                                                                          \
                       : "+m"(kept)                                                                                    \
                       : "r"(page + PAGE - (at)), "m"(kept), "m"(mask)                                                 \
                       : "memory", "xmm5", "xmm6", "xmm7");                                                            \
      print(name, kept);                                                                                               \
    } else {                                                                                                           \
      long at_byte = (long)(fault_address - (uintptr_t)page);                                                          \
      printf(name ": fault at %ld\n", strstr(name, "masked") ? at_byte & -PAGE : at_byte); /* any byte of a lane */     \
    }                                                                                                                  \
  } while (0)

static void page_ends(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  TRY("load of the last 32 bytes", "vmovdqu (%1), %%ymm5", 32);
  TRY("load across the end", "vmovdqu (%1), %%ymm5", 20);
  TRY("load across the end, into the lower half", "vmovdqu (%1), %%ymm5", 8);
  TRY("load behind the end", "vmovdqa (%1), %%ymm5", 0);
  TRY("addition across the end", "vpaddd (%1), %%ymm5, %%ymm5", 24);
  TRY("multiplication across the end", "vmulps (%1), %%ymm6, %%ymm5", 16);
  TRY("FMA across the end", "vfmadd231ps (%1), %%ymm6, %%ymm5", 16);
  TRY("store of the last 32 bytes", "vmovdqu %%ymm5, (%1)", 32);
  TRY("store behind the end", "vmovdqa %%ymm5, (%1)", 0);
  TRY("masked load up to the end", "vpmaskmovd (%1), %%ymm6, %%ymm5", 16);
  TRY("masked load across the end", "vpmaskmovd (%1), %%ymm6, %%ymm5", 8);
  TRY("masked store up to the end", "vpmaskmovd %%ymm5, %%ymm6, (%1)", 16);
  TRY("masked store across the end", "vpmaskmovd %%ymm5, %%ymm6, (%1)", 8);
  TRY("extraction across the end", "vextractf128 $1, %%ymm5, (%1)", 8);
  TRY("broadcast of the last bytes", "vbroadcastsd (%1), %%ymm5", 8);
  TRY("widening load of the last bytes", "vpmovzxbd (%1), %%ymm5", 8);
}

int main(void) {
  page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(page + PAGE, PAGE, PROT_NONE);
  signals();
  interrupted();
  faults_in_loops();
  stores_into_code();
  areas();
  others();
  page_ends();
  return 0;
}
