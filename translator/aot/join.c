#include "aot/join.h"

#include <stdlib.h>
#include <string.h>

#include "a64/encode.h"

enum {
  EXITS_MAX = 1024,
  ENTRIES_MAX = 1024,
  LOOKS_MAX = 1024,
  PARTS_MAX = 256,
  HELPERS_MAX = 1024,
  CHECKS_MAX = 1024,
  BOUNDARIES_MAX = A64_MAX_PC_MAP,
  LITERALS_MAX = JOIN_WORDS_MAX / 2,
  LOOKS_APART = 192, /* guest bytes between two looks that are not worth comparing apart */
  RECORD_MAX = UINT16_MAX * 8
};

typedef struct Literal {
  uint64_t value;
  bool guest_address;
  uint16_t word;
} Literal;

typedef struct Use { /* a word that leads to another one, whose place is known at the end */
  uint16_t at, to;   /* to: number of a literal; A64Trampoline */
} Use;

typedef struct Target {
  int64_t distance; /* from the region's entry */
  uint16_t word;
  bool begins; /* a piece */
} Target;

typedef struct Begun { /* a piece */
  int64_t distance;
  uint16_t word, length;
} Begun;

struct Joiner {
  uint64_t entry;
  bool full; /* something did not fit */
  uint32_t words[JOIN_WORDS_MAX];
  A64TableExit exits[EXITS_MAX];
  A64TableInner inner[EXITS_MAX];
  A64TableEntry entries[ENTRIES_MAX];
  Target targets[ENTRIES_MAX]; /* the entries, ascending */
  ImageLook looks[LOOKS_MAX];
  Begun begun[PARTS_MAX];
  ImagePart parts[PARTS_MAX];
  int32_t addresses[LITERALS_MAX];
  A64TableRelocation relocations[HELPERS_MAX];
  uint16_t checks[CHECKS_MAX];
  A64PcMap boundaries[BOUNDARIES_MAX];
  Literal literals[LITERALS_MAX];
  Use literal_uses[JOIN_WORDS_MAX], trampoline_uses[JOIN_WORDS_MAX];
  uint32_t word_count, exit_count, inner_count, entry_count, look_count, part_count, relocation_count, check_count, boundary_count,
      literal_count, literal_use_count, trampoline_use_count;
  uint32_t instruction_count, address_count, link_veneer, outward_count;
  A64TableRoom packed;
  uint64_t record[RECORD_MAX / 8];
};

Joiner *join_new(void) { return malloc(sizeof(Joiner)); }
void join_free(Joiner *j) { free(j); }

/* Whether `count` more fit behind `used` of `most`. */
static bool fits(Joiner *j, uint32_t used, uint32_t count, uint32_t most) {
  if (used + count > most) j->full = true;
  return !j->full;
}

/* --- Taking pieces ------------------------------------------------------------------------------------------------- */

static void use(Joiner *j, Use *uses, uint32_t *count, uint32_t at, uint32_t to) {
  if (fits(j, *count, 1, JOIN_WORDS_MAX)) uses[(*count)++] = (Use){(uint16_t)at, (uint16_t)to};
}

static uint32_t literal(Joiner *j, uint64_t value, bool guest_address) {
  uint32_t i = 0;
  while (i < j->literal_count && (j->literals[i].value != value || j->literals[i].guest_address != guest_address)) i++;
  if (i == j->literal_count && fits(j, i, 1, LITERALS_MAX)) j->literals[j->literal_count++] = (Literal){value, guest_address, 0};
  return i;
}

static bool is_guest_address(const A64Tables *t, uint32_t word) {
  for (uint32_t i = t->relocation_count; i-- > 0;)
    if (t->relocations[i].word == word) return t->relocations[i].kind == A64_RELOCATE_GUEST_ADDRESS;
  return false;
}

/* The code, its loads of literals to be completed. */
static void take_words(Joiner *j, const A64Tables *t) {
  uint32_t first = j->word_count;
  if (!fits(j, first, t->instruction_count, JOIN_WORDS_MAX)) return;
  for (uint32_t i = 0; i < t->instruction_count; i++) {
    uint32_t word = t->words[i];
    if (a64_is_load_literal(word)) {
      uint32_t at = i + (word >> 5 & 0x7ffff);
      uint64_t value = (uint64_t)t->words[at + 1] << 32 | t->words[at];
      use(j, j->literal_uses, &j->literal_use_count, first + i, literal(j, value, is_guest_address(t, at)));
    }
    j->words[first + i] = word;
  }
  j->word_count += t->instruction_count;
}

/* Helpers return to where they were called from, which a thread that is brought out on its way there would miss
 * (runtime/fault.c); the other trampolines lead to the dispatcher, and may be reached through a word that all share. */
static void take_branches_to_trampolines(Joiner *j, const A64Tables *t, uint32_t first) {
  for (uint32_t i = 0; i < t->relocation_count; i++) {
    A64TableRelocation r = t->relocations[i];
    if (r.kind != A64_RELOCATE_TRAMPOLINE) continue;
    r.word = (uint16_t)(r.word + first);
    if (r.trampoline != A64_TRAMPOLINE_HELPER) use(j, j->trampoline_uses, &j->trampoline_use_count, r.word, r.trampoline);
    else if (fits(j, j->relocation_count, 1, HELPERS_MAX)) j->relocations[j->relocation_count++] = r;
  }
}

static void take_tables(Joiner *j, const Piece *piece, uint32_t first) {
  const A64Tables *t = &piece->tables;
  int64_t moved = (int64_t)(piece->entry - j->entry);
  if (!fits(j, j->exit_count, t->exit_count, EXITS_MAX) || !fits(j, j->entry_count, t->entry_count, ENTRIES_MAX) ||
      !fits(j, j->check_count, t->indirect_count, CHECKS_MAX))
    return;
  for (uint32_t i = 0; i < t->exit_count; i++) {
    A64TableExit exit = t->exits[i];
    exit.distance += moved;
    exit.site += first;
    if (exit.branch != A64_NO_BRANCH) exit.branch += first;
    j->exits[j->exit_count++] = exit;
  }
  for (uint32_t i = 0; i < t->entry_count; i++) {
    const A64TableEntry entry = t->entries[i];
    j->targets[j->entry_count++] = (Target){entry.distance + moved, (uint16_t)(entry.word + first), entry.word == 0};
  }
  for (uint32_t i = 0; i < t->indirect_count; i++) j->checks[j->check_count++] = (uint16_t)(t->indirect_checks[i] + first);
}

static void take_boundaries(Joiner *j, const Piece *piece, uint32_t first) {
  const uint32_t distance_mask = (1u << 30) - 1;
  for (A64PcCursor at = a64_pc_map_begin(&piece->tables); a64_pc_map_next(&at) && fits(j, j->boundary_count, 1, BOUNDARIES_MAX);) {
    uint32_t guest = at.last.guest_offset, moved = (uint32_t)(piece->entry - j->entry);
    A64PcMap *boundary = &j->boundaries[j->boundary_count++];
    *boundary = at.last;
    boundary->host_offset += first * 4;
    boundary->guest_offset = ((guest + moved) & distance_mask) | (guest & ~distance_mask);
  }
}

static void take_look(Joiner *j, uint64_t address, uint64_t length) {
  if (fits(j, j->look_count, 1, LOOKS_MAX)) j->looks[j->look_count++] = (ImageLook){(uint32_t)address, (uint32_t)length};
}

static void take(Joiner *j, const Piece *piece) {
  uint32_t first = j->word_count;
  take_words(j, &piece->tables);
  take_branches_to_trampolines(j, &piece->tables, first);
  take_tables(j, piece, first);
  take_boundaries(j, piece, first);
  take_look(j, piece->entry, piece->length);
  for (unsigned i = 0; i < piece->look_count; i++) take_look(j, piece->looks[i].address, piece->looks[i].length);
  if (fits(j, j->part_count, 1, PARTS_MAX) && piece->length <= UINT16_MAX)
    j->begun[j->part_count++] =
        (Begun){(int64_t)(piece->entry - j->entry), (uint16_t)first, (uint16_t)piece->length};
  else j->full = true;
}

/* --- Putting them together ----------------------------------------------------------------------------------------- */

static int by_distance(const void *a, const void *b) {
  const Target *x = a, *y = b;
  if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
  if (x->begins != y->begins) return x->begins ? -1 : 1;
  return x->word < y->word ? -1 : x->word > y->word;
}

static const Target *target_at(const Joiner *j, int64_t distance) {
  uint32_t low = 0, high = j->entry_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (j->targets[middle].distance < distance) low = middle + 1;
    else high = middle;
  }
  return low < j->entry_count && j->targets[low].distance == distance ? &j->targets[low] : NULL;
}

/* Each once: of several at one address any serves, but parts are named by those they begin with. */
static void sort_entries(Joiner *j) {
  uint32_t kept = 0;
  qsort(j->targets, j->entry_count, sizeof *j->targets, by_distance);
  for (uint32_t i = 0; i < j->entry_count; i++)
    if (!kept || j->targets[kept - 1].distance != j->targets[i].distance) j->targets[kept++] = j->targets[i];
  j->entry_count = kept;
  for (uint32_t i = 0; i < kept; i++)
    if (!a64_make_entry(j->targets[i].distance, j->targets[i].word, &j->entries[i])) j->full = true;
}

static const Target *inner_target(const Joiner *j, const A64TableExit *exit) {
  return exit->kind == A64_EXIT_LOOP ? NULL : target_at(j, exit->distance);
}

/* Those of loops last. */
static int by_site(const void *a, const void *b) {
  const A64TableExit *x = a, *y = b;
  bool x_loops = x->kind == A64_EXIT_LOOP, y_loops = y->kind == A64_EXIT_LOOP;
  if (x_loops != y_loops) return x_loops ? 1 : -1;
  return x->site < y->site ? -1 : x->site > y->site;
}

/* The branch of an exit that leads inside goes there, as the runtime links exits (runtime/link.c). */
static void link_inside(Joiner *j, const A64TableExit *exit, const Target *target) {
  int64_t distance = ((int64_t)target->word - (int64_t)exit->site) * 4;
  j->words[exit->site] = exit->kind == A64_EXIT_CALL ? a64_bl(distance) : a64_b(distance);
  j->inner[j->inner_count++] = (A64TableInner){.site = (uint32_t)exit->site, .branch = (uint32_t)exit->branch};
  if (exit->branch == A64_NO_BRANCH) return;
  uint32_t direct = a64_retarget(j->words[exit->branch], ((int64_t)target->word - (int64_t)exit->branch) * 4);
  if (direct) j->words[exit->branch] = direct;
}

/* Exits that lead out come first, by their sites, then those of loops; the others are exits in detours alone. */
static void link_exits(Joiner *j) {
  uint32_t kept = 0;
  sort_entries(j);
  qsort(j->exits, j->exit_count, sizeof *j->exits, by_site);
  for (uint32_t i = 0; i < j->exit_count; i++) {
    const Target *target = inner_target(j, &j->exits[i]);
    if (target) link_inside(j, &j->exits[i], target);
    else j->exits[kept++] = j->exits[i];
  }
  j->exit_count = kept;
  for (j->outward_count = 0; j->outward_count < kept && j->exits[j->outward_count].kind != A64_EXIT_LOOP;) j->outward_count++;
}

static void name_parts(Joiner *j) {
  for (uint32_t i = 0; i < j->part_count; i++) {
    const Target *target = target_at(j, j->begun[i].distance);
    if (!target || target->word != j->begun[i].word) j->full = true; /* two begin at one address */
    else j->parts[i] = (ImagePart){(uint16_t)(target - j->targets), j->begun[i].length};
  }
}

/* One branch to each trampoline, and those to it that are left. */
static void add_veneers(Joiner *j) {
  uint32_t veneers[A64_TRAMPOLINE_COUNT] = {0};
  for (uint32_t i = 0; i < j->trampoline_use_count; i++) {
    const Use *u = &j->trampoline_uses[i];
    if (!veneers[u->to]) {
      if (!fits(j, j->word_count, 1, JOIN_WORDS_MAX) || !fits(j, j->relocation_count, 1, HELPERS_MAX)) return;
      veneers[u->to] = j->word_count;
      j->relocations[j->relocation_count++].all =
          j->word_count | A64_RELOCATE_TRAMPOLINE << 16 | (uint32_t)u->to << 24;
      j->words[j->word_count++] = a64_b(0);
    }
    j->words[u->at] = a64_with_distance(j->words[u->at], 0, 26, ((int64_t)veneers[u->to] - u->at) * 4);
  }
  j->link_veneer = veneers[A64_TRAMPOLINE_LINK];
}

static void put_literals(Joiner *j) {
  for (uint32_t i = 0; i < j->literal_count; i++) {
    Literal *l = &j->literals[i];
    if (l->guest_address || !fits(j, j->word_count, 2, JOIN_WORDS_MAX)) continue;
    l->word = (uint16_t)j->word_count;
    j->words[j->word_count++] = (uint32_t)l->value;
    j->words[j->word_count++] = (uint32_t)(l->value >> 32);
  }
}

/* Their words are the reader's to make; what is further from the image than code reaches is left to the process. */
static void put_addresses(Joiner *j) {
  for (uint32_t i = 0; i < j->literal_count; i++) {
    Literal *l = &j->literals[i];
    if (!l->guest_address || !fits(j, j->word_count, 2, JOIN_WORDS_MAX)) continue;
    int64_t address = (int64_t)l->value;
    if (address < INT32_MIN || address > INT32_MAX) j->full = true;
    l->word = (uint16_t)j->word_count;
    j->word_count += 2;
    j->addresses[j->address_count++] = (int32_t)address;
  }
}

static void add_literals(Joiner *j) {
  j->instruction_count = j->word_count;
  if (j->word_count & 1 && fits(j, j->word_count, 1, JOIN_WORDS_MAX)) j->words[j->word_count++] = 0;
  put_literals(j);
  put_addresses(j);
  for (uint32_t i = 0; i < j->literal_use_count; i++) {
    const Use *u = &j->literal_uses[i];
    const uint32_t field = 0x7ffffu << 5;
    uint32_t *word = &j->words[u->at];
    *word = (*word & ~field) | ((uint32_t)(j->literals[u->to].word - u->at) << 5 & field);
  }
}

static int by_address(const void *a, const void *b) {
  const ImageLook *x = a, *y = b;
  return x->address < y->address ? -1 : x->address > y->address;
}

static void merge_looks(Joiner *j) {
  uint32_t kept = 0;
  qsort(j->looks, j->look_count, sizeof *j->looks, by_address);
  for (uint32_t i = 0; i < j->look_count; i++) {
    ImageLook *last = kept ? &j->looks[kept - 1] : NULL, next = j->looks[i];
    uint32_t end = next.address + next.length;
    if (!last || next.address > last->address + last->length + LOOKS_APART) j->looks[kept++] = next;
    else if (end > last->address + last->length) last->length = end - last->address;
  }
  j->look_count = kept;
}

/* --- The record ---------------------------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *at, const void *data, size_t size) { return (uint8_t *)memcpy(at, data, size) + size; }

/* The arrays, in image_region_at()'s order. */
static const ImageRecord *write_record(Joiner *j) {
  A64Tables map = {.whole_pc_map = j->boundaries, .pc_map_count = (uint16_t)j->boundary_count};
  a64_pack_pc_map(&map, &j->packed);
  ImageRecord head = {.entry = (uint32_t)j->entry, .word_count = (uint16_t)j->word_count,
                      .instruction_count = (uint16_t)j->instruction_count, .exit_count = (uint16_t)j->exit_count,
                      .inner_count = (uint16_t)j->inner_count,
                      .entry_count = (uint16_t)j->entry_count, .relocation_count = (uint16_t)j->relocation_count,
                      .indirect_count = (uint16_t)j->check_count, .pc_map_count = map.pc_map_count,
                      .address_count = (uint16_t)j->address_count, .link_veneer = (uint16_t)j->link_veneer,
                      .outward_count = (uint16_t)j->outward_count,
                      .look_count = (uint16_t)j->look_count, .part_count = (uint16_t)j->part_count};
  uint64_t size = image_record_size(&head);
  if (size > RECORD_MAX) return NULL;
  head.size = (uint16_t)(size / 8);
  memset(j->record, 0, size);
  uint8_t *at = put((uint8_t *)j->record, &head, sizeof head);
  at = put(at, j->entries, j->entry_count * sizeof *j->entries) + (j->entry_count & 1) * sizeof *j->entries;
  at = put(at, j->exits, j->exit_count * sizeof *j->exits);
  at = put(at, j->looks, j->look_count * sizeof *j->looks);
  at = put(at, j->inner, j->inner_count * sizeof *j->inner);
  at = put(at, j->parts, j->part_count * sizeof *j->parts);
  at = put(at, j->relocations, j->relocation_count * sizeof *j->relocations);
  at = put(at, j->addresses, j->address_count * sizeof *j->addresses);
  at = put(at, j->words, (j->word_count - 2 * j->address_count) * sizeof *j->words);
  at = put(at, j->checks, j->check_count * sizeof *j->checks);
  put(at, map.pc_map, map.pc_map_count);
  return (const ImageRecord *)j->record;
}

const ImageRecord *join_pieces(Joiner *j, const Piece *const *pieces, size_t count) {
  j->entry = pieces[0]->entry;
  j->full = false;
  j->word_count = j->exit_count = j->entry_count = j->look_count = j->part_count = j->relocation_count = j->check_count = 0;
  j->inner_count = j->boundary_count = j->literal_count = j->literal_use_count = j->trampoline_use_count = j->address_count = 0;
  for (size_t i = 0; i < count && !j->full; i++) take(j, pieces[i]);
  if (j->full) return NULL;
  add_veneers(j); /* before exits lead elsewhere */
  link_exits(j);
  name_parts(j);
  add_literals(j);
  merge_looks(j);
  return j->full ? NULL : write_record(j);
}
