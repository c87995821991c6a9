/* What is kept of an emitted region: its words and tables, in few bytes and without addresses, so that they can be kept in
 * a file. Guest addresses are distances from the region's entry, places in the code are words. */
#ifndef STELE_A64_TABLES_H
#define STELE_A64_TABLES_H

#include "a64/emit.h"

enum { A64_TABLES_MAX_WORDS = 8190, A64_NO_BRANCH = 8191, A64_TABLES_ENTRY_BITS = 19, A64_PC_MAP_BYTES_MAX = 9 };

typedef union A64TableExit { /* A64Exit */
  struct {
    int64_t distance : 36;    /* of where it goes: 2 GiB and a little either way (Jcc, JMP and CALL have 32 bits) */
    uint64_t site : 13;
    uint64_t branch : 13;     /* or A64_NO_BRANCH */
    uint64_t kind : 2;        /* A64ExitKind */
  };
  uint64_t all;
} A64TableExit;

typedef union A64TableEntry { /* A64Entry */
  struct {
    int32_t distance : A64_TABLES_ENTRY_BITS; /* a region's instructions lie closer together than a function's */
    uint32_t word : 32 - A64_TABLES_ENTRY_BITS;
  };
  uint32_t all;
} A64TableEntry;

/* An exit of a joined region (aot/join.h) that leads to an entry of the same region: the branch at its site does. Only in a
 * detour it is one. */
typedef union A64TableInner {
  struct {
    uint32_t site : 13;
    uint32_t branch : 13; /* or A64_NO_BRANCH */
    uint32_t unused : 6;
  };
  uint32_t all;
} A64TableInner;

typedef union A64TableRelocation { /* A64Relocation */
  struct {
    uint16_t word;
    uint8_t kind, trampoline;
  };
  uint32_t all;
} A64TableRelocation;

/* A region. The arrays are the owner's; the counts stand by themselves where the arrays are yet to be placed. */
typedef struct A64Tables {
  uint16_t word_count, instruction_count; /* with and without the literals behind the code */
  uint16_t exit_count, inner_count, entry_count, relocation_count, indirect_count;
  uint16_t pc_map_count;  /* bytes; or rows of `whole_pc_map` */
  uint16_t address_count; /* the last literals: guest addresses, in no relocation, and not among `words` but in `addresses` */
  uint16_t link_veneer;   /* the word through which exits reach A64_TRAMPOLINE_LINK; 0: each leads there by itself */
  uint16_t outward_count; /* the first exits lead out of the region, and are in the order of their sites; 0: not known */
  const A64TableExit *exits;
  const A64TableInner *inner;
  const A64TableEntry *entries;
  const A64TableRelocation *relocations;
  const uint32_t *words;
  const int32_t *addresses; /* from where the region counts its guest addresses */
  const uint16_t *indirect_checks; /* of CBNZs that interruption turns into branches */
  const uint8_t *pc_map;           /* to be read by a64_pc_map_next(), unless `whole` */
  const A64PcMap *whole_pc_map;    /* A64Code's, which takes more room and less time to make */
} A64Tables;

/* Room for the tables of one region; the words stay where they were emitted. */
typedef struct A64TableRoom {
  A64TableExit exits[A64_MAX_EXITS];
  A64TableEntry entries[A64_MAX_ENTRIES];
  A64TableRelocation relocations[4096];
  uint16_t indirect_checks[A64_MAX_INDIRECT];
  uint8_t pc_map[A64_MAX_PC_MAP * A64_PC_MAP_BYTES_MAX];
} A64TableRoom;

/* The tables of emitted code whose entry is at `guest_entry`, in `room`, its PC map the one of `code`. False when the region
 * is too large for them. */
bool a64_make_tables(const A64Code *code, uint64_t guest_entry, A64TableRoom *room, A64Tables *ret_tables);

/* How many words are to be copied before a64_relocate(). */
static inline uint32_t a64_tables_own_words(const A64Tables *tables) { return tables->word_count - 2u * tables->address_count; }

/* Makes the PC map one of few bytes, in `room`. */
void a64_pack_pc_map(A64Tables *tables, A64TableRoom *room);

/* The boundaries of guest instructions, in the order of A64Code.pc_map. */
typedef struct A64PcCursor {
  const uint8_t *at, *end;
  const A64PcMap *whole, *whole_end; /* instead, where it is whole */
  A64PcMap last;
} A64PcCursor;

static inline A64PcCursor a64_pc_map_begin(const A64Tables *tables) {
  const A64PcMap *whole = tables->whole_pc_map;
  if (whole) return (A64PcCursor){.whole = whole, .whole_end = whole + tables->pc_map_count};
  return (A64PcCursor){.at = tables->pc_map, .end = tables->pc_map + tables->pc_map_count};
}

/* Moves to the next boundary, in cursor->last; false behind the last one. Stays within the map, whatever it is. */
bool a64_pc_map_next(A64PcCursor *cursor);

/* False where it is too far. */
static inline bool a64_make_entry(int64_t distance, uint32_t word, A64TableEntry *ret_entry) {
  const int64_t reach = INT64_C(1) << (A64_TABLES_ENTRY_BITS - 1);
  ret_entry->all = ((uint32_t)distance & ((1u << A64_TABLES_ENTRY_BITS) - 1)) | word << A64_TABLES_ENTRY_BITS;
  return distance >= -reach && distance < reach;
}

/* The entry at a distance from the region's, of ascending ones; NULL where there is none. */
static inline const A64TableEntry *a64_find_entry(const A64TableEntry *entries, unsigned count, int64_t distance) {
  unsigned low = 0, high = count;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (entries[middle].distance < distance) low = middle + 1;
    else high = middle;
  }
  return low < count && entries[low].distance == distance ? &entries[low] : NULL;
}

static inline const A64TableEntry *a64_entry_at(const A64Tables *tables, int64_t distance) {
  return a64_find_entry(tables->entries, tables->entry_count, distance);
}

/* The guest address that an inner exit is for, as a distance from the region's entry. (Of several at one place in the code,
 * which differ by instructions that make none, the first.) */
int64_t a64_inner_distance(const A64Tables *tables, const A64TableInner *inner);

/* A64PcMap.guest_offset as a signed distance. */
static inline uint64_t a64_guest_distance(uint32_t guest_offset) {
  return (uint64_t)((int64_t)((uint64_t)guest_offset << 34) >> 34);
}

/* Where an A64_EXIT_LOOP whose site is word `site` of `words` begins: with stores of upper halves before it, where there are
 * any. Before those stands the branch that ends other code. */
uint32_t a64_loop_exit(const uint32_t *words, uint32_t site);

/* Completes a copy of the tables' words at `words`, which will be executed there and has room for all of them, with trampolines
 * at the given host addresses and guest addresses moved by `guest_bias`. False when a trampoline is out of a branch's reach. */
bool a64_relocate(uint32_t *words, const A64Tables *tables, const uint64_t trampolines[A64_TRAMPOLINE_COUNT],
                  uint64_t guest_bias);

#endif
