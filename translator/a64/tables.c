/* In a packed PC map a boundary is one byte where it is as usual: how many words the code has gone on (below WORDS), times
 * MOVES, and how far the guest PC (below MOVES); flags and upper halves are as they were. TO_FORM and a form before it change that of
 * the flags. FAR is followed by words (a byte) and the guest PC's move (two, signed); ANY by the boundary as it is. */
#include "a64/tables.h"

#include "a64/encode.h"
#include "base/base.h"

enum { WORDS = 15, MOVES = 16, TO_FORM = WORDS * MOVES, FAR = TO_FORM + 4, ANY, FORM_SHIFT = 30, FAR_BYTES = 3, ANY_BYTES = 8 };
_Static_assert(1 + ANY_BYTES == A64_PC_MAP_BYTES_MAX && 2 + FAR_BYTES <= A64_PC_MAP_BYTES_MAX, "a boundary's most bytes");

static const uint32_t distance_mask = (1u << FORM_SHIFT) - 1;

static void go_on(A64PcMap *last, uint32_t words, uint32_t moved) {
  last->host_offset = (uint16_t)(last->host_offset + words * 4);
  last->guest_offset = ((last->guest_offset + moved) & distance_mask) | (last->guest_offset & ~distance_mask);
}

static bool next_far(A64PcCursor *cursor) {
  const uint8_t *at = cursor->at;
  if (cursor->end - at < FAR_BYTES) return false;
  go_on(&cursor->last, at[0], (uint32_t)(int16_t)(at[1] | at[2] << 8));
  cursor->at += FAR_BYTES;
  return true;
}

static bool next_any(A64PcCursor *cursor) {
  const uint8_t *at = cursor->at;
  if (cursor->end - at < ANY_BYTES) return false;
  cursor->last = (A64PcMap){.host_offset = (uint16_t)(at[0] | at[1] << 8), .uppers = (uint16_t)(at[2] | at[3] << 8),
                            .guest_offset = at[4] | (uint32_t)at[5] << 8 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 24};
  cursor->at += ANY_BYTES;
  return true;
}

bool a64_pc_map_next(A64PcCursor *cursor) {
  if (cursor->whole != cursor->whole_end) {
    cursor->last = *cursor->whole++;
    return true;
  }
  while (cursor->at < cursor->end) {
    uint32_t token = *cursor->at++;
    if (token < TO_FORM) {
      go_on(&cursor->last, token / MOVES, token % MOVES);
      return true;
    }
    if (token == FAR) return next_far(cursor);
    if (token == ANY) return next_any(cursor);
    if (token > ANY) return false;
    cursor->last.guest_offset = (cursor->last.guest_offset & distance_mask) | (token - TO_FORM) << FORM_SHIFT;
  }
  return false;
}

static uint8_t *put_number(uint8_t *at, uint32_t number, unsigned bytes) {
  for (; bytes; bytes--, number >>= 8) *at++ = (uint8_t)number;
  return at;
}

static uint8_t *put_boundary(uint8_t *at, const A64PcMap *last, const A64PcMap *next) {
  int32_t words = (next->host_offset - last->host_offset) / 4;
  uint32_t moved = (next->guest_offset - last->guest_offset) & distance_mask, form = next->guest_offset >> FORM_SHIFT;
  int32_t signed_move = (int32_t)(moved << 2) >> 2;
  if (words < 0 || words > UINT8_MAX || signed_move < INT16_MIN || signed_move > INT16_MAX || next->uppers != last->uppers) {
    *at++ = ANY;
    return put_number(put_number(put_number(at, next->host_offset, 2), next->uppers, 2), next->guest_offset, 4);
  }
  if (form != last->guest_offset >> FORM_SHIFT) *at++ = (uint8_t)(TO_FORM + form);
  if (words < WORDS && moved < MOVES) {
    *at++ = (uint8_t)((uint32_t)words * MOVES + moved);
    return at;
  }
  *at++ = FAR;
  return put_number(put_number(at, (uint32_t)words, 1), moved, 2);
}

void a64_pack_pc_map(A64Tables *tables, A64TableRoom *room) {
  const A64PcMap first = {0}, *last = &first;
  uint8_t *at = room->pc_map;
  for (const A64PcMap *next = tables->whole_pc_map, *end = next + tables->pc_map_count; next < end; last = next++)
    at = put_boundary(at, last, next);
  tables->pc_map = room->pc_map;
  tables->pc_map_count = (uint16_t)(at - room->pc_map);
  tables->whole_pc_map = NULL;
}

bool a64_make_tables(const A64Code *code, uint64_t guest_entry, A64TableRoom *room, A64Tables *ret_tables) {
  if (code->count > A64_TABLES_MAX_WORDS || code->relocation_count > sizeof room->relocations / sizeof *room->relocations)
    return false;
  const uint32_t exits = code->exit_count, entries = code->entry_count, relocations = code->relocation_count;
  const uint32_t checks = code->indirect_count;
  for (uint32_t i = 0; i < exits; i++) {
    const A64Exit *exit = &code->exits[i];
    uint64_t branch = exit->branch == UINT32_MAX ? A64_NO_BRANCH : exit->branch / 4;
    uint64_t distance = (exit->guest_pc - guest_entry) & ((UINT64_C(1) << 36) - 1);
    room->exits[i].all = distance | (uint64_t)(exit->site / 4) << 36 | branch << 49 | (uint64_t)exit->kind << 62;
  }
  for (uint32_t i = 0; i < entries; i++)
    if (!a64_make_entry((int64_t)(code->entries[i].guest_pc - guest_entry), code->entries[i].host_offset / 4, &room->entries[i]))
      return false;
  const A64Relocation *from = code->relocations;
  for (uint32_t i = 0; i < relocations; i++)
    room->relocations[i].all = from[i].word | (uint32_t)from[i].kind << 16 | (uint32_t)from[i].trampoline << 24;
  for (uint32_t i = 0; i < checks; i++) room->indirect_checks[i] = (uint16_t)(code->indirect_checks[i] / 4);
  BASE_CLEAR(ret_tables);
  ret_tables->word_count = (uint16_t)code->count;
  ret_tables->instruction_count = (uint16_t)code->instruction_count;
  ret_tables->exit_count = (uint16_t)exits;
  ret_tables->entry_count = (uint16_t)entries;
  ret_tables->relocation_count = (uint16_t)relocations;
  ret_tables->indirect_count = (uint16_t)checks;
  ret_tables->pc_map_count = (uint16_t)code->pc_map_count;
  ret_tables->exits = room->exits;
  ret_tables->entries = room->entries;
  ret_tables->relocations = room->relocations;
  ret_tables->words = code->words;
  ret_tables->indirect_checks = room->indirect_checks;
  ret_tables->whole_pc_map = code->pc_map;
  return true;
}

uint32_t a64_loop_exit(const uint32_t *words, uint32_t site) {
  const uint32_t first = a64_store_upper(0, 0), last = a64_store_upper(15, 31); /* they differ in these fields alone */
  while (site && !((words[site - 1] - first) & ~(last - first))) site--;
  return site;
}

int64_t a64_inner_distance(const A64Tables *tables, const A64TableInner *inner) {
  int64_t word = inner->site + a64_branch_distance(tables->words[inner->site]) / 4;
  const A64TableEntry *entry = tables->entries, *last = entry + tables->entry_count - 1;
  while (entry < last && entry->word != word) entry++;
  return entry->distance;
}

static void put_addresses(uint32_t *words, const A64Tables *tables, uint64_t guest_bias) {
  const int32_t *end = tables->addresses + tables->address_count;
  uint32_t *at = words + a64_tables_own_words(tables);
  for (const int32_t *address = tables->addresses; address < end; address++, at += 2) {
    uint64_t value = guest_bias + (uint64_t)(int64_t)*address;
    __builtin_memcpy(at, &value, sizeof value);
  }
}

bool a64_relocate(uint32_t *words, const A64Tables *tables, const uint64_t trampolines[A64_TRAMPOLINE_COUNT],
                  uint64_t guest_bias) {
  const A64TableRelocation *end = tables->relocations + tables->relocation_count;
  put_addresses(words, tables, guest_bias);
  for (const A64TableRelocation *r = tables->relocations; r < end; r++) {
    uint32_t *word = &words[r->word];
    if (r->kind == A64_RELOCATE_GUEST_ADDRESS) {
      uint64_t value = ((uint64_t)word[1] << 32 | word[0]) + guest_bias;
      word[0] = (uint32_t)value;
      word[1] = (uint32_t)(value >> 32);
      continue;
    }
    *word = a64_with_distance(*word, 0, 26, (int64_t)(trampolines[r->trampoline] - (uint64_t)(uintptr_t)word)); /* B, BL */
    if (!*word) return false;
  }
  return true;
}
