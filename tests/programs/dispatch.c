/*
 * Code that chooses by processor when it is compiled or linked: GCC's __builtin_cpu_supports and target_clones. These
 * believe the features only of vendors they know. What this processor may lack is not asked for; levels.c
 * does.
 * Build: dynamic static nopie
 * With: STELE_CPU_VENDOR=GenuineIntel; STELE_CPU_VENDOR=AuthenticAMD
 */
#include <stdint.h>
#include <stdio.h>

#define SUPPORTS(name) printf("%s: %d\n", name, !!__builtin_cpu_supports(name))

static const char *plain(void) { return "the plain one"; }
static const char *for_v2(void) { return "the one for x86-64-v2"; }

/* Called by the dynamic loader, or by the start code of a static program. */
static const char *(*choose(void))(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("x86-64-v2") ? for_v2 : plain;
}

static const char *chosen(void) __attribute__((ifunc("choose")));

__attribute__((target_clones("popcnt", "default"), noinline)) static int count_bits(const uint64_t *words, int count) {
  int sum = 0;
  for (int i = 0; i < count; i++) sum += __builtin_popcountll(words[i]);
  return sum;
}

int main(void) {
  static const uint64_t words[] = {0xff, 0x123456789abcdef0, 0, ~0ull};
  __builtin_cpu_init();
  SUPPORTS("x86-64");
  SUPPORTS("x86-64-v2");
  SUPPORTS("sse2");
  SUPPORTS("ssse3");
  SUPPORTS("sse4.2");
  SUPPORTS("popcnt");
  printf("chosen: %s, counted %d\n", chosen(), count_bits(words, 4));
  return 0;
}
