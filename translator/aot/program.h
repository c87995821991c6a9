/* An x86-64 ELF file whose code is to be translated: what of it is mapped where. */
#ifndef STELE_AOT_PROGRAM_H
#define STELE_AOT_PROGRAM_H

#include "guest/elf-loader.h"
#include "image/image.h"

/* A part of the file as it is mapped, addresses counted from the image's base. */
typedef struct ProgramPart {
  uint64_t start, end; /* page-aligned */
  uint64_t file_offset;
  const uint8_t *bytes; /* readable for end - start, but for what lies beyond the file's last page */
  uint64_t readable;
  bool executable, writable;
} ProgramPart;

typedef struct ProgramSymbols {
  const uint8_t *bytes; /* Elf64_Sym, of any alignment */
  uint64_t count;
} ProgramSymbols;

typedef struct Program {
  const uint8_t *bytes; /* room for the whole file; headers, parts and symbols are there, the rest is zeros */
  uint64_t size;
  uint64_t key;   /* image_file_key() */
  uint64_t content; /* tells files of one key apart */
  uint64_t base;  /* address in the file that the image counts from */
  ElfImage image;
  uint64_t unwind_address, unwind_size; /* of .eh_frame_hdr, anywhere; 0 bytes when there is none */
  ProgramSymbols symbols[2]; /* all, dynamic ones; of no count where there are none */
  uint32_t part_count;
  ProgramPart parts[ELF_SEGMENTS_MAX];
} Program;

/* Copies a file as it is now. False when it is no x86-64 program with code, or cannot be read: *ret_reason then says why, a
 * sentence's end. program_close() gives it back. */
bool program_open(const char *path, Program *ret_program, const char **ret_reason);
void program_close(Program *program);

/* The executable part that holds the address; NULL when none does. */
const ProgramPart *program_code_at(const Program *program, uint64_t address);

/* The part that holds [address, address + length), executable or not. */
const uint8_t *program_bytes_at(const Program *program, uint64_t address, uint64_t length);

/* Calls seed(context, address) for what may be the beginning of code: entry, symbols, functions of the unwind table, and
 * every aligned word of data that is an address of code (tables of functions, relocations). In an order that depends on
 * the file alone; the same address may come several times. */
void program_seeds(const Program *program, void (*seed)(void *context, uint64_t address), void *context);

/* The beginnings of functions by the unwind table (.eh_frame_hdr), ascending; NULL and 0 when it has none. Freed by the
 * caller. */
uint64_t *program_functions(const Program *program, size_t *ret_count);

#endif
