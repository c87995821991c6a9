/*
 * Memory operands of vector instructions that are not aligned: which raise #GP, with what registers, and which don't.
 * Build: static, -mavx
 * With: STELE_FLAGS=exact
 * Needs: avx
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static _Alignas(64) uint8_t memory[256];
static sigjmp_buf back;
static char seen[128];

static void note(int signal, siginfo_t *info, void *context) {
  const ucontext_t *user = context;
  uint64_t low;
  memcpy(&low, user->uc_mcontext.fpregs->_xmm[1].element, sizeof low);
  snprintf(seen, sizeof seen, "signal %d code %d address %p trap %lld error %lld rcx %llx xmm1 %lx flags %llx", signal,
           info->si_code, info->si_addr, user->uc_mcontext.gregs[REG_TRAPNO], user->uc_mcontext.gregs[REG_ERR],
           user->uc_mcontext.gregs[REG_RCX], low, user->uc_mcontext.gregs[REG_EFL] & 0x8d5);
  siglongjmp(back, 1);
}

typedef void Access(void *at);
#define ACCESS(name, text)                                                                                           \
  static void name(void *at) {                                                                                       \
    __asm__ volatile("mov $0x1234, %%ecx\n movq %%rcx, %%xmm1\n vpxor %%xmm2, %%xmm2, %%xmm2\n"                      \
                     "mov $7, %%eax\n mov $9, %%edx\n cmp $8, %%ecx\n" text                                          \
                     : : "D"(at), "S"(2L) : "rax", "rcx", "rdx", "xmm1", "xmm2", "xmm3", "cc", "memory");            \
  }
#define ACCESSES                                                                                                     \
  ROW(movaps_load, "movaps (%%rdi), %%xmm1")                                                                         \
  ROW(movaps_store, "movaps %%xmm1, (%%rdi)")                                                                        \
  ROW(movaps_indexed, "movaps -8(%%rdi,%%rsi,4), %%xmm1")                                                            \
  ROW(movapd_load, "movapd (%%rdi), %%xmm1")                                                                         \
  ROW(movdqa_store, "movdqa %%xmm1, 16(%%rdi)")                                                                      \
  ROW(movntps, "movntps %%xmm1, (%%rdi)")                                                                            \
  ROW(movntdq, "movntdq %%xmm1, (%%rdi)")                                                                            \
  ROW(movntdqa, "movntdqa (%%rdi), %%xmm1")                                                                          \
  ROW(movups_load, "movups (%%rdi), %%xmm1")                                                                         \
  ROW(movdqu_store, "movdqu %%xmm1, (%%rdi)")                                                                        \
  ROW(lddqu, "lddqu (%%rdi), %%xmm1")                                                                                \
  ROW(movq, "movq (%%rdi), %%xmm1")                                                                                  \
  ROW(movss, "movss (%%rdi), %%xmm1")                                                                                \
  ROW(movhps, "movhps (%%rdi), %%xmm1")                                                                              \
  ROW(movddup, "movddup (%%rdi), %%xmm1")                                                                            \
  ROW(movshdup, "movshdup (%%rdi), %%xmm1")                                                                          \
  ROW(addps, "addps (%%rdi), %%xmm1")                                                                                \
  ROW(addsd, "addsd (%%rdi), %%xmm1")                                                                                \
  ROW(paddd, "paddd (%%rdi), %%xmm1")                                                                                \
  ROW(pshufd, "pshufd $27, (%%rdi), %%xmm1")                                                                         \
  ROW(pmovzxbw, "pmovzxbw (%%rdi), %%xmm1")                                                                          \
  ROW(pcmpistri, "pcmpistri $0, (%%rdi), %%xmm1")                                                                    \
  ROW(pcmpestrm, "pcmpestrm $0, (%%rdi), %%xmm1")                                                                    \
  ROW(cvtdq2ps, "cvtdq2ps (%%rdi), %%xmm1")                                                                          \
  ROW(cvtdq2pd, "cvtdq2pd (%%rdi), %%xmm1")                                                                          \
  ROW(vmovaps, "vmovaps (%%rdi), %%xmm1")                                                                            \
  ROW(vmovaps_wide, "vmovaps (%%rdi), %%ymm3")                                                                       \
  ROW(vmovdqa_wide, "vmovdqa %%ymm3, (%%rdi)")                                                                       \
  ROW(vmovntps_wide, "vmovntps %%ymm3, (%%rdi)")                                                                     \
  ROW(vmovups_wide, "vmovups (%%rdi), %%ymm3")                                                                       \
  ROW(vaddps, "vaddps (%%rdi), %%xmm1, %%xmm1")                                                                      \
  ROW(vaddps_wide, "vaddps (%%rdi), %%ymm3, %%ymm3")
#define ROW ACCESS
ACCESSES
#undef ROW
#define ROW(name, text) {#name, name},
static const struct {
  const char *name;
  Access *access;
} accesses[] = {ACCESSES};

int main(void) {
  static const int offsets[] = {0, 1, 4, 8, 15, 16, 24, 32};
  struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  for (unsigned i = 0; i < sizeof accesses / sizeof *accesses; i++)
    for (unsigned k = 0; k < sizeof offsets / sizeof *offsets; k++) {
      strcpy(seen, "nothing");
      if (!sigsetjmp(back, 1)) accesses[i].access(memory + 64 + offsets[k]);
      printf("%s +%d: %s\n", accesses[i].name, offsets[k], seen);
    }
  return 0;
}
