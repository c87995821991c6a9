/* The translator's mem- and str-functions (translator/base/memory-functions.S), each length at each alignment, beside loops
 * over bytes; texts end where memory does. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void *our_memcpy(void *to, const void *from, size_t length);
void *our_memmove(void *to, const void *from, size_t length);
void *our_memset(void *to, int byte, size_t length);
int our_memcmp(const void *a, const void *b, size_t length);
size_t our_strlen(const char *text);

enum { ROOM = 512, LONGEST = 200, ALIGNMENTS = 17, PAGE = 4096 };

static uint8_t expected[ROOM], got[ROOM], source[ROOM];

static void fail(const char *function, size_t length, size_t to, size_t from) {
  printf("%s: wrong with length %zu, alignments %zu and %zu\n", function, length, to, from);
  exit(1);
}

static void fill(void) {
  for (size_t i = 0; i < ROOM; i++) {
    source[i] = (uint8_t)(i * 7 + i / 256 + 1);
    expected[i] = got[i] = (uint8_t)(i * 13 + 5);
  }
}

static bool differ(void) {
  for (size_t i = 0; i < ROOM; i++)
    if (expected[i] != got[i]) return true;
  return false;
}

static void check_copy(size_t length, size_t to, size_t from) {
  fill();
  for (size_t i = 0; i < length; i++) expected[to + i] = source[from + i];
  if (our_memcpy(got + to, source + from, length) != got + to || differ()) fail("memcpy", length, to, from);
  fill();
  for (size_t i = 0; i < length; i++) expected[to + i] = 0xa5;
  if (our_memset(got + to, 0x1a5, length) != got + to || differ()) fail("memset", length, to, from);
}

/* Within one array, in both directions and by any distance. */
static void check_move(size_t length, size_t to, size_t from) {
  uint8_t between[LONGEST];
  fill();
  for (size_t i = 0; i < length; i++) between[i] = expected[from + i];
  for (size_t i = 0; i < length; i++) expected[to + i] = between[i];
  if (our_memmove(got + to, got + from, length) != got + to || differ()) fail("memmove", length, to, from);
}

static int sign(int value) { return (value > 0) - (value < 0); }

static void check_compare(size_t length, size_t a, size_t b) {
  fill();
  for (size_t i = 0; i < length; i++) got[a + i] = source[b + i];
  if (our_memcmp(got + a, source + b, length)) fail("memcmp", length, a, b);
  for (size_t i = 0; i < length; i++) {
    uint8_t *at = &got[a + i], same = *at, behind = i + 1 < length ? got[a + i + 1] : 0;
    *at = (uint8_t)(same + 1);
    if (i + 1 < length) got[a + i + 1] = (uint8_t)~behind; /* which is not to decide */
    if (sign(our_memcmp(got + a, source + b, length)) != (same == UINT8_MAX ? -1 : 1)) fail("memcmp", i, a, b);
    *at = same;
    if (i + 1 < length) got[a + i + 1] = behind;
  }
}

/* At the end of readable memory, each byte but zero before the end of the text. */
static void check_length(char *end, size_t length, size_t behind) {
  char *text = end - behind - 1 - length;
  text[-1] = 0;
  for (size_t i = 0; i < length; i++) text[i] = (char)(i % 255 + 1);
  for (size_t i = length; i <= length + behind; i++) text[i] = 0;
  if (our_strlen(text) != length) fail("strlen", length, behind, 0);
}

int main(void) {
  char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_NONE)) return 1;
  for (size_t length = 0; length <= LONGEST; length++)
    for (size_t to = 0; to < ALIGNMENTS; to++) {
      check_copy(length, to, (to * 5 + length) % ALIGNMENTS);
      check_compare(length, to, (to * 3 + length) % ALIGNMENTS);
      check_length(pages + PAGE, length, to);
      for (size_t from = 0; from < ROOM - LONGEST; from += 1 + length / 8) check_move(length, 100 + to, from);
    }
  puts("memory functions: all right");
  return 0;
}
