/* Where code may begin. What is found wrongly costs room, what is missed is translated when it is executed. */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "aot/program.h"
#include "guest/memory-map.h"

enum { /* encodings of addresses (LSB core, 10.5.1) in the only form that linkers write */
  EH_FRAME_VERSION = 1,
  PCREL_SDATA4 = 0x1b,
  UDATA4 = 0x03,
  DATAREL_SDATA4 = 0x3b
};

typedef struct Seeds {
  const Program *program;
  void (*seed)(void *context, uint64_t address);
  void *context;
} Seeds;

static void offer(const Seeds *s, uint64_t file_address) {
  uint64_t address = file_address - s->program->base;
  if (program_code_at(s->program, address)) s->seed(s->context, address);
}

/* --- Symbols ---------------------------------------------------------------------------------------------------- */

static void offer_symbols(const Seeds *s, const ProgramSymbols *symbols) {
  for (uint64_t i = 0; i < symbols->count; i++) {
    Elf64_Sym symbol;
    memcpy(&symbol, symbols->bytes + i * sizeof symbol, sizeof symbol);
    unsigned type = ELF64_ST_TYPE(symbol.st_info);
    bool defined = symbol.st_shndx != SHN_UNDEF && symbol.st_shndx < SHN_LORESERVE;
    if (defined && (type == STT_FUNC || type == STT_NOTYPE || type == STT_GNU_IFUNC)) offer(s, symbol.st_value);
  }
}

/* --- The unwind table --------------------------------------------------------------------------------------------- */

uint64_t *program_functions(const Program *program, size_t *ret_count) {
  enum { HEAD = 12, ROW = 8 };
  static const uint8_t head[4] = {EH_FRAME_VERSION, PCREL_SDATA4, UDATA4, DATAREL_SDATA4};
  uint64_t address = program->unwind_address, size = program->unwind_size;
  *ret_count = 0;
  if (size < HEAD) return NULL;
  const uint8_t *bytes = program_bytes_at(program, address, size);
  if (!bytes || memcmp(bytes, head, sizeof head)) return NULL;
  uint32_t count;
  memcpy(&count, bytes + 8, sizeof count);
  if (count > (size - HEAD) / ROW) count = (uint32_t)((size - HEAD) / ROW);
  uint64_t *functions = malloc((count + 1) * sizeof *functions);
  if (!functions) return NULL;
  for (uint32_t i = 0; i < count; i++) {
    int32_t distance;
    memcpy(&distance, bytes + HEAD + (size_t)i * ROW, sizeof distance);
    functions[i] = address + (uint64_t)(int64_t)distance;
  }
  *ret_count = count;
  return functions;
}

static void offer_functions(const Seeds *s) {
  size_t count;
  uint64_t *functions = program_functions(s->program, &count);
  for (size_t i = 0; i < count; i++) offer(s, functions[i] + s->program->base);
  free(functions);
}

/* --- Data --------------------------------------------------------------------------------------------------------- */

static void offer_words(const Seeds *s, const ProgramPart *part) {
  for (uint64_t at = 0; at + 8 <= part->readable; at += 8) {
    uint64_t word;
    memcpy(&word, part->bytes + at, sizeof word);
    offer(s, word);
  }
}

void program_seeds(const Program *program, void (*seed)(void *context, uint64_t address), void *context) {
  Seeds s = {program, seed, context};
  offer(&s, program->image.entry);
  for (unsigned i = 0; i < 2; i++) offer_symbols(&s, &program->symbols[i]);
  offer_functions(&s);
  for (uint32_t i = 0; i < program->part_count; i++)
    if (!program->parts[i].executable) offer_words(&s, &program->parts[i]);
}
