/* The unit of translation: several basic blocks of guest code that lie close together, and what can be said of them
 * before anything is lifted.
 *
 * Decoding sweeps forward from the entry, over conditional branches and calls, and on to code that an
 * earlier branch of the region reaches; then blocks are found and the flags' liveness is computed over all
 * of them, so that each instruction is lifted knowing which flags anyone will read. */
#ifndef STELE_REGION_REGION_H
#define STELE_REGION_REGION_H

#include "x86/decode.h"

enum {
  REGION_MAX_INSNS = 256,
  REGION_NO_INSN = 0xffff,
  REGION_MAX_LOOKED = 16,
  REGION_MAX_RUNS = 128,
  REGION_MAX_SOURCES = 32,
  REGION_MET_BITS = 1 << 16
};

typedef struct RegionInsn {
  X86Insn insn;
  uint64_t pc;
  uint8_t decode;   /* X86DecodeStatus: when not OK, executing it raises an exception */
  uint8_t live_before, live_after; /* X86_F_* */
  bool adjacent;    /* the region's next instruction is the one that follows in memory */
  bool leader;      /* begins a basic block */
  bool entry;       /* a leader other regions and returns may enter */
  bool loop_head;       /* a leader some later instruction branches back to */
  uint8_t predecessors; /* of a leader, inside the region; saturates */
  uint16_t target;  /* index of a branch's target inside the region, or REGION_NO_INSN */
} RegionInsn;

/* Guest code readable for decoding: guest addresses [start, end), found at `bytes`. */
typedef struct RegionWindow {
  uint64_t start, end;
  const uint8_t *bytes;
  bool writable;  /* some of it may change by stores of this process */
  bool unwatched; /* some of it may change without anybody here noticing */
  bool anonymous; /* the memory it was made around belongs to no file: code that a program has made */
  bool recorded;  /* which bytes are looked at is to be kept to the byte (LiftRegion.runs) */
} RegionWindow;

typedef struct RegionRun {
  uint64_t start, end; /* guest addresses */
} RegionRun;

/* The caller's, zeroed at first, and used again from region to region. */
typedef struct LiftRegion {
  RegionWindow window;
  uint64_t entry;
  uint32_t count;
  bool single_step;    /* one instruction: repeated ones leave after each round */
  bool strict_flags;   /* flags survive calls and returns */
  bool exact_flags;    /* every instruction's flags are kept, read or not, and its NaNs made at once */
  bool float_traps;    /* instructions look whether they have raised an unmasked exception of SSE (lift/vector/traps.c) */
  bool checked;        /* the code compares its guest bytes with these whenever it is entered, and looks at no others */
  bool (*is_entry)(const void *context, uint64_t pc); /* whether the instruction there is to be an entry; NULL: as found */
  const void *entries; /* its context */
  /* Where it meets code that there is already, the region ends: bit pc % REGION_MET_BITS of `met` is set where meets(pc) may
   * say so. NULL: nowhere. */
  const uint64_t *met;
  bool (*meets)(uint64_t pc);
  uint64_t stop; /* nothing from there on is part of it; 0: as limits have it */
  /* The 8 bytes at a guest address, where they don't change without the region being given up, since they lie between
   * slot_lowest and slot_highest then, and are an address of code; NULL: nobody can tell. */
  bool (*read_slot)(uint64_t address, uint64_t *ret_value);
  bool return_reads_flags; /* set by region_analyse(): a call's continuation reads flags (see region.c) */
  uint64_t lowest, highest; /* guest bytes translated */
  uint64_t look_lowest, look_highest; /* all that lie between those the translation depends on */
  uint64_t slot_lowest, slot_highest; /* between which the slots lie whose contents it depends on; 0: there are none */
  uint8_t source_count; /* 0: not kept; there are more than fit, or the window's end has been met */
  RegionRun sources[REGION_MAX_SOURCES]; /* bytes translated, those between included, and looked at, where they may change */
  uint8_t look_count;
  uint64_t looked[REGION_MAX_LOOKED]; /* pages looked at beyond those translated, where the window is writable */
  uint16_t run_count;
  RegionRun runs[REGION_MAX_RUNS]; /* bytes looked at beyond those translated, where the window is recorded */
  uint16_t end_count, leader_count;
  uint16_t ends[REGION_MAX_INSNS + 1];    /* indices of those that transfer control, and of the last */
  uint16_t leaders[REGION_MAX_INSNS + 1]; /* indices, as they were found */
  RegionInsn insns[REGION_MAX_INSNS + 1];
  uint64_t bound[REGION_MAX_INSNS + 1]; /* of an indirect jump or call alone: where it goes as long as read_slot() says so; or 0 */
  X86Shape shapes[X86_SHAPES];
} LiftRegion;

/* Decodes the region at `entry` (within the window) of at most max_insns instructions; from half of that on it
 * ends at the next branch or call, as what lies behind is the less likely to be run. Up to its first branch, where
 * all is run, it may have max_straight instructions, and where that is more than max_insns and the last of them has VEX
 * twice as many: loops of hashes and ciphers are long, and take their upper halves round with them. The first instruction may be
 * undecodable; later ones end the region. */
void region_decode(LiftRegion *region, const RegionWindow *window, uint64_t entry, uint32_t max_insns,
                   uint32_t max_straight);

/* The index of the instruction at `pc`, or REGION_NO_INSN. */
uint16_t region_find(const LiftRegion *region, uint64_t pc);

/* Finds blocks and computes liveness. */
void region_analyse(LiftRegion *region);

/* Control comes back to the next instruction from outside the region. */
static inline bool region_returns_behind(const X86Insn *insn) {
  return insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_SYSTEM;
}

static inline bool region_ends_block(const X86Insn *insn) { return insn->flow != X86_FLOW_NEXT; }

/* Whether the block at `index` is entered from one place alone, inside the region. */
bool region_block_inherits(const LiftRegion *region, uint32_t index);

/* The instruction after the one at `index` when control certainly goes there; NULL otherwise. */
const RegionInsn *region_next(const LiftRegion *region, uint32_t index);

#endif
