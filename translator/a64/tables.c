/* A boundary is one number where it is as usual: how many words the code has gone on (6 bits), how far the guest PC (8 bits,
 * signed), the form of the flags (2 bits), upper halves where they were. Otherwise the first six bits are ones, and the
 * boundary as it is follows. */
#include "a64/tables.h"

#include "a64/encode.h"

enum { WORDS_BITS = 6, WHOLE = (1 << WORDS_BITS) - 1, GUEST_BITS = 8, FORM_SHIFT = WORDS_BITS + GUEST_BITS };

static const uint32_t distance_mask = (1u << 30) - 1;

bool a64_pc_map_next(A64PcCursor *cursor) {
  if (cursor->whole != cursor->whole_end) {
    cursor->last = *cursor->whole++;
    return true;
  }
  if (cursor->at == cursor->end) return false;
  uint32_t all = *cursor->at++;
  A64PcMap *last = &cursor->last;
  if ((all & WHOLE) != WHOLE) {
    uint32_t moved = (all >> WORDS_BITS & ((1 << GUEST_BITS) - 1)) - 128;
    last->host_offset = (uint16_t)(last->host_offset + (all & WHOLE) * 4);
    last->guest_offset = ((last->guest_offset + moved) & distance_mask) | all >> FORM_SHIFT << 30;
    return true;
  }
  if (cursor->end - cursor->at < 4) return false;
  last->host_offset = cursor->at[0];
  last->uppers = cursor->at[1];
  last->guest_offset = cursor->at[2] | (uint32_t)cursor->at[3] << 16;
  cursor->at += 4;
  return true;
}

void a64_pack_pc_map(A64Tables *tables, A64TableRoom *room) {
  uint32_t host = 0, guest = 0, uppers = 0;
  uint16_t *at = room->pc_map;
  for (const A64PcMap *next = tables->whole_pc_map, *end = next + tables->pc_map_count; next < end; next++) {
    uint32_t words = (next->host_offset - host) / 4;
    uint32_t moved = (next->guest_offset - guest + 128) & distance_mask; /* 128: not at all */
    host = next->host_offset;
    guest = next->guest_offset;
    if (words < WHOLE && moved < 1 << GUEST_BITS && next->uppers == uppers) {
      *at++ = (uint16_t)(words | moved << WORDS_BITS | guest >> 30 << FORM_SHIFT);
      continue;
    }
    uppers = next->uppers;
    at[0] = WHOLE;
    at[1] = (uint16_t)host;
    at[2] = (uint16_t)uppers;
    at[3] = (uint16_t)guest;
    at[4] = (uint16_t)(guest >> 16);
    at += 5;
  }
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
    room->relocations[i].all = from[i].offset / 4 | (uint32_t)from[i].kind << 16 | (uint32_t)from[i].trampoline << 24;
  for (uint32_t i = 0; i < checks; i++) room->indirect_checks[i] = (uint16_t)(code->indirect_checks[i] / 4);
  *ret_tables = (A64Tables){.word_count = (uint16_t)code->count, .instruction_count = (uint16_t)code->instruction_count,
                            .exit_count = (uint16_t)exits, .entry_count = (uint16_t)entries,
                            .relocation_count = (uint16_t)relocations,
                            .indirect_count = (uint16_t)checks,
                            .pc_map_count = (uint16_t)code->pc_map_count, .exits = room->exits,
                            .entries = room->entries, .relocations = room->relocations, .words = code->words,
                            .indirect_checks = room->indirect_checks, .whole_pc_map = code->pc_map};
  return true;
}

uint32_t a64_loop_exit(const uint32_t *words, uint32_t site) {
  const uint32_t first = a64_store_upper(0, 0), last = a64_store_upper(15, 31); /* they differ in these fields alone */
  while (site && !((words[site - 1] - first) & ~(last - first))) site--;
  return site;
}

static void move_addresses(uint32_t *words, const A64Tables *tables, uint64_t guest_bias) {
  uint32_t *end = words + tables->word_count;
  for (uint32_t *at = end - 2 * tables->address_count; at < end; at += 2) {
    uint64_t value = ((uint64_t)at[1] << 32 | at[0]) + guest_bias;
    at[0] = (uint32_t)value;
    at[1] = (uint32_t)(value >> 32);
  }
}

bool a64_relocate(uint32_t *words, const A64Tables *tables, const uint64_t trampolines[A64_TRAMPOLINE_COUNT],
                  uint64_t guest_bias) {
  const A64TableRelocation *end = tables->relocations + tables->relocation_count;
  move_addresses(words, tables, guest_bias);
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
