/* From guest bytes to AArch64 words, for one region: decode, find blocks and live flags, lift, optimise, emit. Pure: what
 * comes out depends on the bytes and on what is asked for alone, so that it can be made anywhere and kept. */
#ifndef STELE_PIPELINE_PIPELINE_H
#define STELE_PIPELINE_PIPELINE_H

#include "a64/tables.h"
#include "lift/lift.h"
#include "region/region.h"

enum {
  PIPELINE_INSNS = 32, /* a region's usual limits (region_decode()) */
  PIPELINE_STRAIGHT = 96,
  PIPELINE_WINDOW_BEFORE = 4, /* pages before the entry's that loops may reach back into */
  PIPELINE_WINDOW_AFTER = 64, /* pages from the entry's on that are looked at */
  PIPELINE_CODE_BYTES = 16 << 10 /* the most one region's code takes */
};

/* What one translation needs while it goes on. Its results stand in `region`, `lift`, `code` and `tables` until the next one. */
typedef struct Pipeline {
  Lift lift;
  LiftRegion region; /* its settings (strict_flags …) are the caller's */
  A64Code code;
  A64Emitter *emitter;
  A64Tables tables; /* of the region, in: */
  A64TableRoom table_room;
} Pipeline;

/* NULL when out of memory. Never freed: a process keeps its few. */
Pipeline *pipeline_new(void);

/* What is asked for beside the bytes. */
typedef struct PipelineTarget {
  uint32_t features; /* A64_HAS_* */
  bool ordered;      /* accesses keep x86's order */
  bool hasty;        /* what is executed a few times: the passes over the IR are left out */
  bool without_avx;  /* AVX and XSAVE raise #UD (Lift.extended) */
  unsigned x87_top;  /* 1 + the slot of ST(0) that the entry is met with (guest/state.h); 0: not known */
  bool (*is_misaligned)(uint64_t guest_pc); /* A64EmitOptions */
} PipelineTarget;

/* Forms the region at `pc`, by region_decode()'s limits. Reads the window's bytes. */
void pipeline_analyse(Pipeline *p, const RegionWindow *window, uint64_t pc, uint32_t max_insns, uint32_t max_straight);

/* Translates it. When the region is too large in any respect (A64_EMIT_TOO_LARGE, A64_EMIT_OUT_OF_REGISTERS) it is to be
 * formed again with half its instructions. */
A64EmitStatus pipeline_generate(Pipeline *p, const PipelineTarget *target);

#endif
