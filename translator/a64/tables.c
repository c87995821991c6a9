/* A boundary is two bytes where it is as usual: how many words the code has gone on (6 bits), how far the guest PC (8 bits,
 * signed), the form of the flags (2 bits). Otherwise the first six bits are ones, and the boundary as it is follows. */
#include "a64/tables.h"

#include <string.h>

#include "a64/encode.h"

enum { WORDS_BITS = 6, WHOLE = (1 << WORDS_BITS) - 1, GUEST_BITS = 8, FORM_SHIFT = WORDS_BITS + GUEST_BITS };

static const uint32_t distance_mask = (1u << 30) - 1;

static uint8_t *put_boundary(uint8_t *at, const A64PcMap *last, const A64PcMap *next) {
  uint32_t words = (next->host_offset - last->host_offset) / 4;
  uint32_t moved = (next->guest_offset - last->guest_offset + 128) & distance_mask; /* 128: not at all */
  if (words < WHOLE && moved < 1 << GUEST_BITS) {
    uint16_t both = (uint16_t)(words | moved << WORDS_BITS | next->guest_offset >> 30 << FORM_SHIFT);
    memcpy(at, &both, sizeof both);
    return at + sizeof both;
  }
  const uint16_t whole = WHOLE;
  memcpy(at, &whole, sizeof whole);
  memcpy(at + sizeof whole, next, sizeof *next);
  return at + sizeof whole + sizeof *next;
}

bool a64_pc_map_next(A64PcCursor *cursor) {
  uint16_t both;
  if (cursor->end - cursor->at < (int)sizeof both) return false;
  memcpy(&both, cursor->at, sizeof both);
  cursor->at += sizeof both;
  if ((both & WHOLE) != WHOLE) {
    uint32_t moved = (uint32_t)(both >> WORDS_BITS & ((1 << GUEST_BITS) - 1)) - 128;
    cursor->last.host_offset += (both & WHOLE) * 4u;
    cursor->last.guest_offset = ((cursor->last.guest_offset + moved) & distance_mask) | (uint32_t)both >> FORM_SHIFT << 30;
    return true;
  }
  if (cursor->end - cursor->at < (int)sizeof cursor->last) return false;
  memcpy(&cursor->last, cursor->at, sizeof cursor->last);
  cursor->at += sizeof cursor->last;
  return true;
}

static uint16_t make_pc_map(const A64Code *code, uint8_t *bytes) {
  static const A64PcMap start = {0, 0};
  uint8_t *at = bytes;
  for (uint32_t i = 0; i < code->pc_map_count; i++)
    at = put_boundary(at, i ? &code->pc_map[i - 1] : &start, &code->pc_map[i]);
  return (uint16_t)(at - bytes);
}

bool a64_make_tables(const A64Code *code, uint64_t guest_entry, A64TableRoom *room, A64Tables *ret_tables) {
  if (code->count > A64_TABLES_MAX_WORDS || code->relocation_count > sizeof room->relocations / sizeof *room->relocations)
    return false;
  for (uint32_t i = 0; i < code->exit_count; i++) {
    const A64Exit *exit = &code->exits[i];
    uint32_t branch = exit->branch == UINT32_MAX ? A64_NO_BRANCH : exit->branch / 4;
    room->exits[i] = (A64TableExit){(int64_t)(exit->guest_pc - guest_entry), exit->site / 4, branch, exit->kind};
  }
  for (uint32_t i = 0; i < code->entry_count; i++)
    room->entries[i] = (A64TableEntry){(int64_t)(code->entries[i].guest_pc - guest_entry), code->entries[i].host_offset / 4};
  for (uint32_t i = 0; i < code->relocation_count; i++) {
    const A64Relocation *r = &code->relocations[i];
    room->relocations[i] = (A64TableRelocation){(uint16_t)(r->offset / 4), r->kind, r->trampoline};
  }
  for (uint32_t i = 0; i < code->indirect_count; i++) room->indirect_checks[i] = (uint16_t)(code->indirect_checks[i] / 4);
  *ret_tables = (A64Tables){.word_count = (uint16_t)code->count, .instruction_count = (uint16_t)code->instruction_count,
                            .exit_count = (uint16_t)code->exit_count, .entry_count = (uint16_t)code->entry_count,
                            .relocation_count = (uint16_t)code->relocation_count,
                            .indirect_count = (uint16_t)code->indirect_count,
                            .pc_map_bytes = make_pc_map(code, room->pc_map), .exits = room->exits,
                            .entries = room->entries, .relocations = room->relocations, .words = code->words,
                            .indirect_checks = room->indirect_checks, .pc_map = room->pc_map};
  return true;
}

bool a64_relocate(uint32_t *words, const A64Tables *tables, const uint64_t trampolines[A64_TRAMPOLINE_COUNT],
                  uint64_t guest_bias) {
  const A64TableRelocation *end = tables->relocations + tables->relocation_count;
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
