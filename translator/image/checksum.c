/* Checksums and keys. The checksum is Fletcher's, of words (J. G. Fletcher, "An Arithmetic Checksum for Serial
 * Transmissions", 1982): a sum, which any one wrong word changes, and a sum of sums, which depends on their order. They are
 * put together so that what changes both by the same does not go unseen. */
#include "image/image.h"

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t value) {
  value *= STEP;
  return value ^ value >> 29;
}

uint64_t image_checksum(const void *bytes, uint64_t length, uint64_t seed) {
  const uint64_t *words = bytes, *end = words + length / 8;
  uint64_t sum = seed ^ length, sums = 0;
  for (; end - words >= 4; words += 4) {
    sums += sum += words[0];
    sums += sum += words[1];
    sums += sum += words[2];
    sums += sum += words[3];
  }
  for (; words < end; words++) sums += sum += *words;
  return mix(mix(sum)) ^ sums;
}

uint64_t image_file_key(const void *head, uint64_t length, uint64_t file_size) {
  const uint64_t *words = head, *end = words + length / 8;
  uint64_t key = file_size;
  for (; words < end; words++) key = mix(key ^ *words);
  return key;
}
