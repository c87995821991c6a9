/* Regions of a store hang together: what the runtime finds by their tables is what their code does.
 *
 *   image-joined STORE
 *
 * Of every region: branches that lead inside it reach the entry of the address they are for, all others the trampoline for
 * links; at each entry the PC map tells the entry's address; loads of literals stay among the literals; and what is ascending
 * for the runtime's searches is so. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "a64/encode.h"
#include "image/image.h"

static uint64_t regions, inner, outer, entries_seen;

static _Noreturn void fail(const ImageRecord *record, const char *what, uint64_t where) {
  fprintf(stderr, "image-joined: region at 0x%x: %s (%lu)\n", record->entry, what, (unsigned long)where);
  exit(1);
}

static uint64_t target_word(const A64Tables *t, uint32_t at) {
  return at + (uint64_t)(a64_branch_distance(t->words[at]) / 4);
}

static uint32_t entry_word(const A64Tables *t, int64_t distance) {
  const A64TableEntry *entry = a64_entry_at(t, distance);
  return entry ? (uint32_t)entry->word : UINT32_MAX;
}

/* Where the code for an exit goes: a branch that is not taken in a detour leads there by itself (runtime/detour.c). */
static void check_exit(const ImageRecord *record, const A64Tables *t, uint32_t i) {
  const A64TableExit *exit = &t->exits[i];
  uint32_t word = t->words[exit->site];
  bool outward = i < t->outward_count;
  if (exit->site >= t->instruction_count || !a64_is_b_or_bl(word)) fail(record, "an exit is no branch", i);
  if (outward == (exit->kind == A64_EXIT_LOOP)) fail(record, "an exit of a loop is among those that lead out, or another behind them", i);
  if (target_word(t, exit->site) != t->link_veneer) fail(record, "an exit does not lead to be linked", i);
  if (outward && i && t->exits[i - 1].site >= exit->site) fail(record, "exits are not ascending", i);
  if (outward && entry_word(t, exit->distance) != UINT32_MAX) fail(record, "an exit leaves for an entry of its own region", i);
  outer += outward;
}

static void check_inner(const ImageRecord *record, const A64Tables *t, uint32_t i) {
  const A64TableInner *exit = &t->inner[i];
  inner++;
  if (exit->site >= t->instruction_count || !a64_is_b_or_bl(t->words[exit->site])) fail(record, "an inner exit is no branch", i);
  uint64_t to = target_word(t, exit->site);
  if (to != entry_word(t, a64_inner_distance(t, exit))) fail(record, "a branch leads to no entry", i);
  if (exit->branch != A64_NO_BRANCH && target_word(t, exit->branch) != to && target_word(t, exit->branch) != exit->site)
    fail(record, "a conditional branch leads to another address", i);
}

/* Instructions that make no code share their place with the next. */
static bool begins_at(const A64Tables *t, uint32_t offset, int64_t distance) {
  for (A64PcCursor at = a64_pc_map_begin(t); a64_pc_map_next(&at);)
    if (at.last.host_offset == offset && a64_guest_distance(at.last.guest_offset) == (uint64_t)distance) return true;
  return false;
}

static void check_entries(const ImageRecord *record, const A64Tables *t) {
  for (uint32_t i = 0; i < t->entry_count; i++) {
    const A64TableEntry *entry = &t->entries[i];
    if (i && t->entries[i - 1].distance >= entry->distance) fail(record, "entries are not ascending", i);
    if (entry->word >= t->instruction_count) fail(record, "an entry is no code", i);
    if (!begins_at(t, (uint32_t)entry->word * 4, entry->distance)) fail(record, "the PC map has another instruction at an entry", i);
    entries_seen++;
  }
}

static void check_parts(const ImageRecord *record, const ImageRegion *region) {
  uint32_t words = 0;
  for (uint32_t i = 0; i < record->part_count; i++) {
    const ImagePart *part = &region->parts[i];
    if (part->entry >= record->entry_count) fail(record, "a part begins with no entry", i);
    const A64TableEntry *entry = &region->tables.entries[part->entry];
    if (i ? entry->word <= words : entry->word != 0) fail(record, "parts are not ascending", i);
    words = entry->word;
    uint64_t start = record->entry + (uint64_t)(int64_t)entry->distance, end = start + part->length;
    bool compared = false;
    for (uint32_t k = 0; k < record->look_count; k++)
      compared |= start >= region->looks[k].address && end <= region->looks[k].address + (uint64_t)region->looks[k].length;
    if (!compared) fail(record, "a part's bytes are not among those compared", i);
  }
}

static void check_words(const ImageRecord *record, const A64Tables *t) {
  for (uint32_t i = 0; i < t->instruction_count; i++) {
    uint32_t to = i + (t->words[i] >> 5 & 0x7ffff);
    if (a64_is_load_literal(t->words[i]) && (to < t->instruction_count || to + 1 >= t->word_count || to & 1))
      fail(record, "a literal is not among the literals", i);
  }
  for (uint32_t i = 0; i < t->relocation_count; i++)
    if (t->relocations[i].kind != A64_RELOCATE_TRAMPOLINE || t->relocations[i].word >= t->instruction_count)
      fail(record, "a relocation that is none", i);
}

static void check_region(const ImageRegion *region) {
  const A64Tables *t = &region->tables;
  regions++;
  for (uint32_t i = 0; i < t->exit_count; i++) check_exit(region->record, t, i);
  for (uint32_t i = 0; i < t->inner_count; i++) check_inner(region->record, t, i);
  check_entries(region->record, t);
  check_parts(region->record, region);
  check_words(region->record, t);
}

/* At each of its entries the image has this region, or an earlier one. */
static void check_found(const CodeImage *image, const ImageRegion *region) {
  for (uint32_t i = 0; i < region->record->entry_count; i++) {
    const A64TableEntry *entry;
    uint64_t address = region->record->entry + (uint64_t)(int64_t)region->tables.entries[i].distance;
    const ImageRecord *found = image_find_record(image, address, &entry);
    if (!found) fail(region->record, "an entry is not found", address);
    if (found->entry + (uint64_t)(int64_t)entry->distance != address) fail(region->record, "another entry is found", address);
  }
}

static void check_image(const CodeImage *image) {
  for (uint32_t i = 0; i < image->row_count; i++) {
    ImageRegion region;
    const ImageRecord *record = image_record_of_row(image, i);
    if (!record || !image_read_region(image, record, &region)) {
      fprintf(stderr, "image-joined: no region in row %u\n", i);
      exit(1);
    }
    check_region(&region);
    check_found(image, &region);
  }
}

int main(int argc, char **argv) {
  struct stat status;
  ImageStore store;
  int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  const uint8_t *bytes = fd >= 0 && !fstat(fd, &status) ? mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  if (bytes == MAP_FAILED || !image_open_store(bytes, (uint64_t)status.st_size, &store))
    return fprintf(stderr, "usage: image-joined STORE\n"), 2;
  const ImageEntry *entries = (const void *)((const ImageHeader *)(const void *)bytes + 1);
  for (uint32_t i = 0; i < store.image_count; i++) {
    CodeImage image;
    if (!image_find_made(&store, entries[i].file, entries[i].target, &image)) return fprintf(stderr, "image-joined: an image is not found\n"), 1;
    check_image(&image);
  }
  printf("%lu regions, %lu entries: %lu exits lead inside, %lu outside\n", (unsigned long)regions, (unsigned long)entries_seen,
         (unsigned long)inner, (unsigned long)outer);
  return !regions || !inner;
}
