/* Checksums and keys. The checksum is a polynomial of the words, in four strands so that a processor can work on all of
 * them at once, one multiplication a word: any one wrong word changes it, as the factor is odd, and so does their order. */
#include "image/image.h"

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t value) {
  value *= STEP;
  return value ^ value >> 29;
}

uint64_t image_checksum(const void *bytes, uint64_t length, uint64_t seed) {
  const uint64_t *words = bytes, *end = words + length / 8;
  uint64_t a = seed, b = length, c = 0, d = 0;
  for (; end - words >= 16; words += 16) {
    a = (((a * STEP + words[0]) * STEP + words[4]) * STEP + words[8]) * STEP + words[12];
    b = (((b * STEP + words[1]) * STEP + words[5]) * STEP + words[9]) * STEP + words[13];
    c = (((c * STEP + words[2]) * STEP + words[6]) * STEP + words[10]) * STEP + words[14];
    d = (((d * STEP + words[3]) * STEP + words[7]) * STEP + words[11]) * STEP + words[15];
  }
  for (; words < end; words++) a = a * STEP + *words;
  return mix(mix(mix(mix(a) + b) + c) + d);
}

uint64_t image_file_key(const void *head, uint64_t length, uint64_t file_size) {
  return image_checksum(head, length & ~UINT64_C(7), file_size);
}
