/* Reads the headers of an x86-64 ELF executable or shared object and says what is to be mapped where. It
 * checks everything it is told by the file, and maps nothing itself: linux/load.c does. */
#ifndef STELE_GUEST_ELF_LOADER_H
#define STELE_GUEST_ELF_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ELF_SEGMENTS_MAX = 64, ELF_HEADERS_MAX = 64 * 1024 };

typedef struct ElfSegment {
  uint64_t address;     /* as in the file; add the load bias */
  uint64_t memory_size; /* of which file_size bytes come from the file, the rest is zero */
  uint64_t file_offset, file_size;
  uint32_t protection; /* PROT_* as in MEMORY_READ, MEMORY_WRITE, MEMORY_EXEC */
} ElfSegment;

typedef struct ElfImage {
  bool position_independent; /* ET_DYN */
  bool executable_stack;     /* PT_GNU_STACK says so; on x86-64 an absent one says no (arch/x86, asm/elf.h) */
  uint64_t entry;
  uint64_t program_headers; /* address in memory; 0 when not loaded */
  uint16_t program_header_count;
  uint64_t low, high; /* page-aligned extent of all segments */
  uint64_t alignment; /* of the whole, at least a page */
  uint64_t interpreter_offset, interpreter_size; /* in the file; size 0: none */
  size_t segment_count;
  ElfSegment segments[ELF_SEGMENTS_MAX];
} ElfImage;

/* Why a file was refused: a sentence's end ("is an ARM executable") and where in the file. */
typedef struct ElfError {
  const char *reason;
  uint64_t offset;
} ElfError;

/* The program headers' place in the file, from its first bytes (64 are needed): 0, or -ENOEXEC with
 * *ret_error saying why this is not an x86-64 executable. */
int elf_check_header(const uint8_t *bytes, size_t length, uint64_t file_size, uint64_t *ret_offset,
                     uint64_t *ret_size, ElfError *ret_error);

/* Fills *ret_image from the first bytes and the program headers. 0, or -ENOEXEC with *ret_error. */
int elf_read_image(const uint8_t *header, const uint8_t *program_headers, uint64_t file_size,
                   ElfImage *ret_image, ElfError *ret_error);

#endif
