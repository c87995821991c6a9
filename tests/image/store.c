/* What a reader makes of a damaged store: nothing, or what was written.
 *
 *   image-store STORE ROUNDS SEED
 *
 * Each round flips a bit, cuts the end off, or swaps two pieces, and reads everything that can be found by the addresses the
 * whole store has. Whatever is given out must be what the whole store gives for the same file and address. The store is
 * read from memory that ends where it does, so that a byte read beyond is a fault. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image/image.h"

enum { PAGE = 4096, PIECE = 512 };

typedef struct Bytes {
  uint8_t *bytes;
  uint64_t size;
} Bytes;

static Bytes whole;
static ImageStore whole_store;
static const ImageEntry *entries;
static uint64_t random_state, given, refused;

static uint64_t next_random(uint64_t below) {
  random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
  return (random_state >> 24) % below;
}

static _Noreturn void fail(const char *what, uint64_t where) {
  fprintf(stderr, "image-store: %s (%lu)\n", what, (unsigned long)where);
  exit(1);
}

/* `size` bytes that end at the end of a page, with nothing behind it. */
static Bytes with_end(uint64_t size) {
  uint64_t room = (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
  uint8_t *pages = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + room, PAGE, PROT_NONE)) fail("no memory", size);
  return (Bytes){pages + room - size, size};
}

static void read_whole(const char *path) {
  struct stat status;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &status)) fail("the store cannot be read", 0);
  whole = with_end((uint64_t)status.st_size);
  if (fread(whole.bytes, 1, whole.size, file) != whole.size) fail("the store cannot be read", whole.size);
  fclose(file);
  const ImageTrailer *trailer = (const void *)(whole.bytes + whole.size - sizeof *trailer);
  if (!image_read_trailer(trailer, whole.size)) fail("the whole store has no trailer", 0);
  if (!image_open_store(whole.bytes + trailer->offset, trailer->size, &whole_store)) fail("the whole store is refused", 0);
  entries = (const void *)((const ImageHeader *)whole_store.bytes + 1);
}

/* --- What is given out ------------------------------------------------------------------------------------------- */

static bool same_array(const void *a, const void *b, size_t size) { return !size || !memcmp(a, b, size); }

static bool same_region(const ImageRegion *a, const ImageRegion *b) {
  const A64Tables *x = &a->tables, *y = &b->tables;
  return !memcmp(a->record, b->record, sizeof *a->record) && x->word_count == y->word_count &&
         same_array(x->words, y->words, a64_tables_own_words(x) * sizeof *x->words) &&
         same_array(a->record, b->record, b->record->size * UINT64_C(8));
}

static void compare_image(const CodeImage *image, const CodeImage *intact, unsigned step) {
  for (uint32_t i = (uint32_t)next_random(step); i < intact->row_count; i += step) {
    ImageRegion found, expected;
    const ImageRecord *record = image_record_of_row(intact, i);
    if (!record || !image_read_region(intact, record, &expected)) fail("the whole store lacks a region", i);
    const A64TableEntry *entry = &expected.tables.entries[next_random(record->entry_count)];
    uint64_t address = record->entry + (uint64_t)(int64_t)entry->distance;
    record = image_find_record(image, address, &entry);
    if (!record || !image_read_region(image, record, &found)) {
      refused++;
      continue;
    }
    if (found.record->entry + (uint64_t)(int64_t)entry->distance != address) fail("a region is found by another's address", address);
    /* Another region with the same entry is as good. */
    expected = image_region_at((const void *)(intact->bytes + ((const uint8_t *)found.record - image->bytes)));
    if (!same_region(&found, &expected)) fail("a region is not one that was written", address);
    given++;
  }
}

static void compare_store(const Bytes *damaged) {
  ImageStore store;
  ImageTrailer trailer;
  if (damaged->size < sizeof trailer) return;
  memcpy(&trailer, damaged->bytes + damaged->size - sizeof trailer, sizeof trailer);
  if (!image_read_trailer(&trailer, damaged->size) ||
      !image_open_store(damaged->bytes + trailer.offset, trailer.size, &store)) {
    refused++;
    return;
  }
  for (uint32_t i = 0; i < whole_store.image_count; i++) {
    CodeImage image, intact;
    if (!image_find(&whole_store, entries[i].file, entries[i].target, &intact)) fail("the whole store lacks an image", i);
    if (image_find(&store, entries[i].file, entries[i].target, &image)) compare_image(&image, &intact, 23);
  }
}

/* --- Damage ---------------------------------------------------------------------------------------------------------- */

static void flip(Bytes *b) {
  uint64_t bit = next_random(b->size * 8);
  b->bytes[bit / 8] ^= (uint8_t)(1u << (bit & 7));
  compare_store(b);
  b->bytes[bit / 8] ^= (uint8_t)(1u << (bit & 7));
}

static void swap(Bytes *b) {
  uint8_t keep[PIECE];
  uint8_t *x = b->bytes + next_random(b->size / PIECE) * PIECE;
  uint8_t *y = b->bytes + next_random(b->size / PIECE) * PIECE;
  for (int turn = 0; turn < 2; turn++) {
    memcpy(keep, x, PIECE);
    memcpy(x, y, PIECE);
    memcpy(y, keep, PIECE);
    if (!turn) compare_store(b);
  }
}

static void truncate_at(uint64_t size) {
  Bytes cut = with_end(size);
  memcpy(cut.bytes, whole.bytes, size);
  compare_store(&cut);
  uint64_t room = (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
  munmap(cut.bytes + size - room, room + PAGE);
}

/* Some bits of every record, the highest of each word among them: the checksum is to see each. */
static void flip_in_records(Bytes *b) {
  CodeImage intact, image;
  if (!image_find(&whole_store, entries[0].file, entries[0].target, &intact)) fail("the whole store lacks an image", 0);
  ImageStore store = {b->bytes + (whole_store.bytes - whole.bytes), whole_store.size, whole_store.image_count};
  for (uint32_t i = 0; i < intact.row_count; i++) {
    const ImageRecord *written = image_record_of_row(&intact, i);
    if (!written) fail("the whole store lacks a region", i);
    uint8_t *record = b->bytes + ((const uint8_t *)written - whole.bytes);
    for (unsigned turn = 0; turn < 8; turn++) {
      uint64_t bit = next_random(written->size * UINT64_C(64));
      if (turn & 1) bit |= 63;
      record[bit / 8] ^= (uint8_t)(1u << (bit & 7));
      ImageRegion wrong;
      const ImageRecord *found = NULL;
      if (image_find(&store, entries[0].file, entries[0].target, &image)) found = image_record_of_row(&image, i);
      if (found && image_read_region(&image, found, &wrong)) fail("a region with a wrong bit is given out", i);
      record[bit / 8] ^= (uint8_t)(1u << (bit & 7));
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage: image-store STORE ROUNDS SEED", 0);
  read_whole(argv[1]);
  uint64_t rounds = strtoull(argv[2], NULL, 10);
  random_state = strtoull(argv[3], NULL, 10);
  Bytes copy = with_end(whole.size);
  memcpy(copy.bytes, whole.bytes, whole.size);
  compare_store(&copy);
  if (refused || !given) fail("the whole store is not read as it was written", refused);
  flip_in_records(&copy);
  for (uint64_t i = 0; i < rounds; i++) {
    flip(&copy);
    swap(&copy);
    if (i % 10 == 0) truncate_at(next_random(whole.size));
  }
  printf("%lu rounds of damage: %lu regions as written, %lu refusals\n", (unsigned long)rounds, (unsigned long)given,
         (unsigned long)refused);
  return 0;
}
