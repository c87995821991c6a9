/* Checksums and keys: every step is a bijection of the state for a given word, so that one wrong word always shows. */
#include "image/image.h"

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t state, uint64_t word) {
  state = (state ^ word) * STEP;
  return state ^ state >> 29;
}

uint64_t image_checksum(const void *bytes, uint64_t length, uint64_t seed) {
  const uint64_t *words = bytes;
  uint64_t a = seed, b = ~seed, count = (length + 7) / 8;
  for (; count >= 2; words += 2, count -= 2) { /* two at a time: their multiplications overlap */
    a = mix(a, words[0]);
    b = mix(b, words[1]);
  }
  if (count) a = mix(a, *words);
  return mix(mix(a, b), length);
}

uint64_t image_file_key(const void *head, uint64_t length, uint64_t file_size) {
  return image_checksum(head, length & ~UINT64_C(7), file_size);
}
