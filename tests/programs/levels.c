/*
 * x86-64-v3 as software finds it: GCC's __builtin_cpu_supports, CPUID and AT_HWCAP2 agree, and what is offered works.
 * Build: dynamic static, -O2
 * Needs: avx avx2 fma bmi1 bmi2 f16c movbe abm xsave rdrand rdseed adx rdpid
 * With: STELE_CPU=x86-64-v3; STELE_CPU=x86-64-v3 STELE_CPU_VENDOR=AuthenticAMD
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>

#define SUPPORTS(name) printf("%s: %d\n", name, !!__builtin_cpu_supports(name))

static unsigned leaf(unsigned number, unsigned index, int word) {
  unsigned w[4] = {0};
  __get_cpuid_count(number, index, &w[0], &w[1], &w[2], &w[3]);
  return w[word];
}

__attribute__((target_clones("arch=x86-64-v3", "default"), noinline)) static uint64_t spread(uint64_t x) {
  uint64_t sum = 0;
  for (int i = 0; i < 64; i++) sum = sum * 31 + (uint64_t)__builtin_ctzll(x | 1ull << i) + (uint64_t)__builtin_popcountll(x >> i);
  return sum;
}

int main(void) {
  __builtin_cpu_init();
  SUPPORTS("x86-64-v2");
  SUPPORTS("x86-64-v3");
  SUPPORTS("avx");
  SUPPORTS("avx2");
  SUPPORTS("fma");
  SUPPORTS("bmi");
  SUPPORTS("bmi2");
  SUPPORTS("f16c");
  SUPPORTS("lzcnt");
  SUPPORTS("movbe");
  printf("OSXSAVE %u, ADX %u, RDSEED %u, RDPID %u\n", leaf(1, 0, 2) >> 27 & 1, leaf(7, 0, 1) >> 19 & 1,
         leaf(7, 0, 1) >> 18 & 1, leaf(7, 0, 2) >> 22 & 1);
  printf("FSGSBASE in CPUID and AT_HWCAP2 agree: %d\n",
         (leaf(7, 0, 1) & 1) == (getauxval(AT_HWCAP2) >> 1 & 1));
  printf("highest leaf reaches XSAVE's: %d\n", leaf(0, 0, 0) >= 0xd);
  printf("clones: %016lx\n", spread(0x123456789abcdef0));
  uint64_t random = 0, processor;
  unsigned char carry;
  __asm__ volatile("rdrand %0; setc %1" : "=r"(random), "=qm"(carry) : : "cc");
  printf("RDRAND: %d\n", carry);
  __asm__ volatile("rdpid %0" : "=r"(processor));
  printf("RDPID: %d\n", (processor & 0xfff) < 4096);
  return 0;
}
