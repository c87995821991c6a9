/* Code made for one address is the code made for another, moved: what a code image relies on.
 *
 *   image-moved PROGRAM
 *
 * Regions of a program, from its seeds on, are translated as if its base were 0 and elsewhere, for several processors and
 * both memory orders; words, once completed for a place, and tables must be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a64/registers.h"
#include "aot/program.h"
#include "guest/memory-map.h"
#include "pipeline/pipeline.h"

enum { MOST = 20000 };

typedef struct Copy {
  A64Tables tables;
  uint32_t *words;
  A64TableRoom room;
} Copy;

static Pipeline *pipeline;
static Program program;
static uint64_t regions;
static Copy here, there;
static uint64_t trampolines[A64_TRAMPOLINE_COUNT];

static bool translate_at(uint64_t base, uint64_t address, const PipelineTarget *target, Copy *copy) {
  const ProgramPart *part = program_code_at(&program, address);
  uint64_t pc = base + address;
  RegionWindow window = {.start = base + part->start, .end = base + part->start + part->readable, .bytes = part->bytes};
  pipeline_analyse(pipeline, &window, pc, PIPELINE_INSNS, PIPELINE_STRAIGHT);
  if (pipeline->region.insns[0].decode != X86_DECODE_OK) return false;
  if (pipeline_generate(pipeline, target) != A64_EMIT_OK) return false;
  a64_make_tables(&pipeline->code, pc, &copy->room, &copy->tables);
  a64_pack_pc_map(&copy->tables, &copy->room);
  memcpy(copy->words, pipeline->tables.words, pipeline->tables.word_count * sizeof *copy->words);
  return true;
}

static _Noreturn void differs(uint64_t address, const char *what) {
  fprintf(stderr, "image-moved: region at 0x%lx: %s depend on where it is\n", (unsigned long)address, what);
  exit(1);
}

/* The words as they would be executed at one place, for a base `bias` further. */
static void complete(Copy *copy, uint64_t bias) {
  static uint32_t place[A64_TABLES_MAX_WORDS + 2];
  for (unsigned i = 0; i < A64_TRAMPOLINE_COUNT; i++) trampolines[i] = (uint64_t)(uintptr_t)place + 4 * i;
  memcpy(place, copy->words, copy->tables.word_count * sizeof *place);
  if (!a64_relocate(place, &copy->tables, trampolines, bias)) differs(0, "trampolines");
  memcpy(copy->words, place, copy->tables.word_count * sizeof *place);
}

static void compare(uint64_t address) {
  const A64Tables *a = &here.tables, *b = &there.tables;
  if (a->word_count != b->word_count || memcmp(here.words, there.words, a->word_count * sizeof *here.words))
    differs(address, "words");
  if (a->exit_count != b->exit_count || memcmp(a->exits, b->exits, a->exit_count * sizeof *a->exits))
    differs(address, "exits");
  if (a->entry_count != b->entry_count || memcmp(a->entries, b->entries, a->entry_count * sizeof *a->entries))
    differs(address, "entries");
  if (a->pc_map_count != b->pc_map_count || memcmp(a->pc_map, b->pc_map, a->pc_map_count * sizeof *a->pc_map)) differs(address, "the PC map");
}

static void check(void *ignored, uint64_t address) {
  static const PipelineTarget targets[] = {
      {.features = 0}, {.features = UINT32_MAX}, {.features = 0, .ordered = true}, {.features = UINT32_MAX, .ordered = true}};
  static const uint64_t bases[] = {UINT64_C(0x400000), UINT64_C(0x555555554000), UINT64_C(0x7ffff7dd5000)};
  (void)ignored;
  if (regions++ >= MOST) return;
  const PipelineTarget *target = &targets[regions % 4];
  uint64_t base = bases[regions % 3];
  if (!translate_at(0, address, target, &here)) return;
  if (!translate_at(base, address, target, &there)) differs(address, "whether it can be translated");
  complete(&here, base);
  complete(&there, 0);
  compare(address);
}

int main(int argc, char **argv) {
  const char *reason;
  pipeline = pipeline_new();
  here.words = calloc(A64_TABLES_MAX_WORDS + 2, sizeof(uint32_t));
  there.words = calloc(A64_TABLES_MAX_WORDS + 2, sizeof(uint32_t));
  if (argc != 2 || !pipeline || !here.words || !there.words) return fprintf(stderr, "usage: image-moved PROGRAM\n"), 2;
  if (!program_open(argv[1], &program, &reason)) return fprintf(stderr, "%s %s\n", argv[1], reason), 1;
  program_seeds(&program, check, NULL);
  printf("%lu regions are the same wherever they are\n", (unsigned long)(regions < MOST ? regions : MOST));
  return regions == 0;
}
