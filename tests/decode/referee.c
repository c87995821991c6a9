/* Ours against Zydis over byte strings: every opcode of every map with every ModRM byte under every
 * combination of the prefixes that matter, then random and mutated strings.
 *
 *   referee [STRINGS [SEED]]      STRINGS random byte strings (default one million)
 *
 * Prints each kind of disagreement once, with its count and the first byte string that shows it;
 * fails if there is any, if a listed deliberate difference never occurred, or if a mnemonic was
 * never met. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "differences.h"
#include "x86/decode.h"

enum { STRING = 32, KINDS = 4096 };

typedef struct Kind {
  char what[120];
  unsigned long count;
  uint8_t first[STRING];
} Kind;

static Kind kinds[KINDS];
static unsigned kind_count;
static unsigned long compared;
static uint64_t random_state;

static uint64_t random_next(void) { /* xorshift64* */
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 0x2545f4914f6cdd1d;
}

static void record(const Difference *difference, const uint8_t *bytes) {
  unsigned i = 0;
  while (i < kind_count && strcmp(kinds[i].what, difference->what)) i++;
  if (i == KINDS) return;
  if (i == kind_count) {
    kind_count++;
    strcpy(kinds[i].what, difference->what);
    memcpy(kinds[i].first, bytes, STRING);
  }
  kinds[i].count++;
}

/* What is made from the table of shapes is what is decoded without. */
static void try_by_shape(const uint8_t *bytes) {
  static X86Shape shapes[X86_SHAPES];
  X86Insn plain, shaped;
  X86DecodeStatus status = x86_decode(bytes, STRING, &plain);
  bool same = x86_decode_shaped(bytes, STRING, &shaped, shapes) == status && plain.length == shaped.length &&
              (status != X86_DECODE_OK || !memcmp(&plain, &shaped, sizeof plain));
  Difference difference = {ASPECT_LENGTH, "decoded by shape it is another"};
  if (!same) record(&difference, bytes);
}

static size_t try(const uint8_t *bytes) {
  Difference difference;
  size_t length = compare_decoders(bytes, STRING, &difference);
  compared++;
  try_by_shape(bytes);
  for (size_t i = length; i-- > 1 && i + 5 > length;) { /* numbers, mostly: the shape is known then */
    uint8_t changed[STRING];
    memcpy(changed, bytes, STRING);
    changed[i] ^= (uint8_t)(random_next() | 1);
    try_by_shape(changed);
  }
  if (difference.aspect) record(&difference, bytes);
  return length;
}

/* Prefix combinations under which every opcode is tried. */
static const char *const prefixes[] = {
    "",         "\x66",         "\xf3",     "\xf2",         "\x48",
    "\x66\x48", "\xf3\x48",     "\xf2\x48", "\x66\xf2",     "\xf3\x66\x4f",
    "\xf0",     "\x67\x64",     "\x45",     "\xf2\xf3",     "\xf3\xf2\x40",
    "\x48\x66", "\x2e\x66\x41", "\xf0\x48", "\x66\xf0\x44", "\x67\x45",
};

static const char *const escapes[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};

static void try_legacy(void) {
  for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++)
    for (size_t e = 0; e < 4; e++)
      for (unsigned opcode = 0; opcode < 256; opcode++)
        for (unsigned modrm = 0; modrm < 256; modrm++) {
          uint8_t bytes[STRING];
          for (unsigned i = 0; i < STRING; i += 8) *(uint64_t *)(bytes + i) = random_next();
          size_t at = 0;
          for (const char *c = prefixes[p]; *c; c++) bytes[at++] = *c;
          for (const char *c = escapes[e]; *c; c++) bytes[at++] = *c;
          bytes[at++] = opcode;
          bytes[at] = modrm;
          try(bytes);
        }
}

/* Three-byte VEX: every map, pp, W, L and opcode, with a few ModRM bytes. */
static void try_vex(void) {
  for (unsigned map = 0; map < 5; map++)
    for (unsigned low = 0; low < 16; low++)
      for (unsigned opcode = 0; opcode < 256; opcode++)
        for (unsigned form = 0; form < 48; form++) {
          uint8_t bytes[STRING];
          for (unsigned i = 0; i < STRING; i += 8) *(uint64_t *)(bytes + i) = random_next();
          unsigned vvvv = form & 1 ? 0x78 : random_next() & 0x78;
          bytes[0] = 0xc4;
          bytes[1] = (random_next() & 0xe0) | map;
          bytes[2] = (low & 8) << 4 | vvvv | (low & 7);
          bytes[3] = opcode;
          if (form < 16) bytes[4] |= 0xc0;
          if (form >= 40) bytes[4] = (bytes[4] & 0x38) | 0x44; /* with a SIB, as gathers need */
          try(bytes);
          bytes[1] = 0xc5; /* the same tail as a two-byte VEX */
          bytes[2] = (random_next() & 0x80) | vvvv | (low & 7);
          try(bytes + 1);
        }
}

/* Random strings, biased to prefixes and escapes, and mutations of the last that decoded. */
static void try_random(unsigned long strings) {
  static const uint8_t likely[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x48, 0x4f, 0x0f,
                                   0x0f, 0x38, 0x3a, 0x64, 0x65, 0x2e, 0x26, 0xc4, 0xc5};
  uint8_t bytes[STRING] = {0x90};
  for (unsigned long n = 0; n < strings; n++) {
    uint64_t choice = random_next();
    if (choice % 4) {
      for (unsigned i = 0; i < STRING; i += 8) *(uint64_t *)(bytes + i) = random_next();
      for (unsigned i = 0; i < (choice >> 8) % 17; i++)
        if (choice >> 16 & 1 << i) bytes[i] = likely[random_next() % sizeof likely];
    } else {
      bytes[(choice >> 8) % 8] ^= 1 << (choice >> 16) % 8;
    }
    try(bytes);
  }
}

static int by_count(const void *a, const void *b) {
  const Kind *x = a, *y = b;
  return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

int main(int argc, char **argv) {
  unsigned long strings = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000;
  random_state = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 0x9e3779b97f4a7c15;
  compare_setup();
  try_legacy();
  try_vex();
  try_random(strings);
  qsort(kinds, kind_count, sizeof kinds[0], by_count);
  for (unsigned i = 0; i < kind_count; i++) {
    printf("%8lu  %-70s", kinds[i].count, kinds[i].what);
    for (unsigned b = 0; b < 15; b++) printf(" %02x", kinds[i].first[b]);
    printf("\n");
  }
  printf("deliberate differences, and how often they were met:\n");
  unsigned stale = differences_report(), unmet = compare_report_unmet();
  if (stale) printf("%u listed differences never occurred\n", stale);
  printf("%lu byte strings compared, %u kinds of disagreement\n", compared, kind_count);
  return kind_count || stale || unmet;
}
