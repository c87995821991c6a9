/* The decoder at the edges: bytes that end where readable memory ends, the 15-byte limit, and text
 * that does not fit its buffer.
 *
 *   boundaries [STRINGS]      random byte strings to cut at every length (default 100000) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "x86/format.h"

enum { STRING = 16 };

static unsigned long checks, failures;
static uint8_t *edge; /* first byte after the readable page */

static void check(bool ok, const char *what, const uint8_t *bytes, size_t available) {
  checks++;
  if (ok) return;
  if (failures++ > 20) return;
  printf("%s with %zu bytes of", what, available);
  for (unsigned i = 0; i < STRING; i++) printf(" %02x", bytes[i]);
  printf("\n");
}

static void make_edge(void) {
  uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + 4096, 4096, PROT_NONE)) {
    perror("boundaries: mmap");
    exit(1);
  }
  edge = pages + 4096;
}

/* Decodes the first `available` bytes with nothing readable behind them. */
static X86DecodeStatus decode_at_edge(const uint8_t *bytes, size_t available, X86Insn *ret_insn) {
  memcpy(edge - available, bytes, available);
  return x86_decode(edge - available, available, ret_insn);
}

/* Cut anywhere, a string is TRUNCATED as long as it could become the instruction it is, and then
 * exactly that instruction. */
static void cut_everywhere(const uint8_t *bytes) {
  uint8_t padded[64] = {0};
  memcpy(padded, bytes, STRING);
  X86Insn whole, part;
  X86DecodeStatus status = x86_decode(padded, sizeof padded, &whole);
  for (size_t available = 1; available <= STRING; available++) {
    X86DecodeStatus cut = decode_at_edge(bytes, available, &part);
    if (available < whole.length) {
      check(cut == X86_DECODE_TRUNCATED ||
                (cut == X86_DECODE_INVALID && status == X86_DECODE_INVALID),
            "neither truncated nor invalid", bytes, available);
    } else {
      check(cut == status, "another outcome", bytes, available);
      if (status == X86_DECODE_OK)
        check(memcmp(&part, &whole, sizeof part) == 0, "another instruction", bytes, available);
    }
    check(available < 15 || cut != X86_DECODE_TRUNCATED, "truncated", bytes, available);
  }
}

static void limit_of_fifteen(void) {
  uint8_t bytes[64];
  X86Insn insn;
  memset(bytes, 0x66, sizeof bytes);
  check(x86_decode(bytes, 64, &insn) == X86_DECODE_TOO_LONG, "prefixes alone", bytes, 64);
  bytes[14] = 0x90;
  check(x86_decode(bytes, 64, &insn) == X86_DECODE_OK && insn.length == 15, "15 bytes", bytes, 64);
  check(decode_at_edge(bytes, 15, &insn) == X86_DECODE_OK && insn.length == 15, "15 bytes", bytes,
        15);
  memcpy(bytes, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x05\x00\x00", 17);
  check(x86_decode(bytes, 64, &insn) == X86_DECODE_TOO_LONG, "17 bytes", bytes, 64);
  check(decode_at_edge(bytes, 15, &insn) == X86_DECODE_TOO_LONG, "17 bytes", bytes, 15);
  check(decode_at_edge(bytes, 14, &insn) == X86_DECODE_TRUNCATED, "17 bytes", bytes, 14);
}

/* Text cut to any size is the beginning of the whole text, terminated, and reports the whole
 * length. */
static void cut_text(const X86Insn *insn, const uint8_t *bytes) {
  char whole[200], part[200];
  int length = x86_format(insn, 0x7ffff7fc1000, whole, sizeof whole);
  check(length > 0 && (size_t)length == strlen(whole), "text length", bytes, STRING);
  for (int size = 1; size <= length + 1; size++) {
    memset(part, '#', sizeof part);
    int reported = x86_format(insn, 0x7ffff7fc1000, part, size);
    check(reported == length && (int)strlen(part) == size - 1 && part[size] == '#' &&
              strncmp(part, whole, size - 1) == 0,
          "cut text", bytes, size);
  }
}

int main(int argc, char **argv) {
  unsigned long strings = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
  make_edge();
  limit_of_fifteen();
  srandom(20240607);
  for (unsigned long n = 0; n < strings; n++) {
    static const uint8_t likely[] = {0x66, 0xf0, 0xf2, 0xf3, 0x48, 0x0f,
                                     0x0f, 0x38, 0x3a, 0xc4, 0xc5};
    uint8_t bytes[64] = {0};
    for (unsigned i = 0; i < STRING; i++)
      bytes[i] = random() % 4 || i > 4 ? random() : likely[random() % sizeof likely];
    cut_everywhere(bytes);
    X86Insn insn;
    if (n % 16 == 0 && x86_decode(bytes, sizeof bytes, &insn) == X86_DECODE_OK)
      cut_text(&insn, bytes);
  }
  printf("%lu checks, %lu failures\n", checks, failures);
  return failures != 0;
}
