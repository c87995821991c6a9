/*
 * The C library's string and memory functions, chosen by CPUID and full of vector code and page-end tricks,
 * against results computed byte by byte: every offset and length up to a limit, up to the end of a page.
 * Build: dynamic static, -fno-builtin
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <wchar.h>

enum { PAGE = 4096 };
static char *edge; /* the last byte before a page that cannot be read */
static uint32_t state = 12345;
static unsigned wrong;

static unsigned next(unsigned limit) {
  state = state * 1664525 + 1013904223;
  return (state >> 8) % limit;
}

static void expect(const char *what, long got, long wanted, unsigned size) {
  if (got != wanted && wrong++ < 10) printf("%s of %u: %ld, not %ld\n", what, size, got, wanted);
}

static int sign(int value) { return (value > 0) - (value < 0); }

static void searching(unsigned size) {
  char *s = edge - size;
  for (unsigned i = 0; i < size; i++) s[i] = 'a' + next(20);
  *edge = 0;
  unsigned at = next(size + 1);
  expect("strlen", strlen(s), size, size);
  expect("strnlen", strnlen(s, at), at, size);
  char kept = s[at];
  if (at < size) s[at] = '#';
  expect("memchr", (char *)memchr(s, '#', size) - s, at < size ? at : -(long)(intptr_t)s, size);
  expect("strchrnul", strchrnul(s, '#') - s, at, size);
  expect("strrchr", strrchr(s, '#') - s, at < size ? at : -(long)(intptr_t)s, size);
  expect("strcspn", strcspn(s, "#!?"), at, size);
  expect("strspn", strspn(s, "abcdefghijklmnopqrstuvwxyz"), at, size);
  expect("rawmemchr", (char *)rawmemchr(s, 0) - s, size, size);
  if (at < size && at + 1 <= size) {
    char needle[8] = "#";
    if (at + 1 < size) needle[1] = s[at + 1];
    expect("strstr", strstr(s, needle) - s, at, size);
  }
  s[at] = kept;
}

static void comparing(unsigned size) {
  char *a = edge - size, *b = malloc(size + 1);
  memcpy(b, a, size);
  b[size] = *edge = 0;
  unsigned at = size ? next(size) : 0;
  expect("equal", memcmp(a, b, size) | strcmp(a, b) | strncmp(a, b, size) | strcasecmp(a, b), 0, size);
  if (size) b[at] ^= 4;
  int wanted = size ? sign((uint8_t)a[at] - (uint8_t)b[at]) : 0;
  expect("memcmp", sign(memcmp(a, b, size)), wanted, size);
  expect("strcmp", sign(strcmp(a, b)), wanted, size);
  expect("strncmp", sign(strncmp(a, b, at)), 0, size);
  expect("strcasecmp", sign(strcasecmp(a, b)), wanted, size);
  free(b);
}

static void moving(unsigned size) {
  static char area[4 * PAGE], copy[4 * PAGE];
  unsigned from = next(200), to = next(200);
  for (unsigned i = 0; i < size + 400; i++) area[i] = copy[i] = next(256);
  for (unsigned i = 0; i < size; i++) copy[to + i] = area[from + i];
  memmove(area + to, area + from, size);
  expect("memmove", memcmp(area, copy, size + 400), 0, size);
  memset(area + from, 'q', size);
  long sum = 0;
  for (unsigned i = 0; i < size; i++) sum += area[from + i];
  expect("memset", sum, (long)size * 'q', size);
  memcpy(copy, area + from, size);
  expect("memcpy", memcmp(copy, area + from, size), 0, size);
  area[from + size] = 0;
  expect("stpcpy", stpcpy(copy, area + from) - copy, size, size);
  strncpy(edge - size, area + from, size);
  expect("strncpy", memcmp(edge - size, area + from, size), 0, size);
}

static void wide(unsigned size) {
  wchar_t *s = (wchar_t *)(edge + 1) - (size + 1);
  for (unsigned i = 0; i < size; i++) s[i] = 0x100 + next(50);
  s[size] = 0;
  expect("wcslen", wcslen(s), size, size);
  unsigned at = next(size + 1);
  if (at < size) s[at] = L'#';
  expect("wmemchr", wmemchr(s, L'#', size) ? wmemchr(s, L'#', size) - s : -1, at < size ? (long)at : -1, size);
}

static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int main(void) {
  char *pages = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(pages + 4 * PAGE, PAGE, PROT_NONE);
  edge = pages + 4 * PAGE - 1;
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned size = 0; size < 320; size++) searching(size), comparing(size), moving(size), wide(size);
    for (unsigned i = 0; i < 20; i++) {
      unsigned size = 320 + next(2 * PAGE);
      searching(size), comparing(size), moving(size), wide(size / 4);
    }
  }
  int numbers[2000];
  for (int i = 0; i < 2000; i++) numbers[i] = next(100000);
  qsort(numbers, 2000, sizeof *numbers, by_value);
  for (int i = 1; i < 2000; i++) expect("qsort", numbers[i - 1] <= numbers[i], 1, i);
  printf("%u wrong, %d %d\n", wrong, numbers[0], numbers[1999]);
  return wrong != 0;
}
