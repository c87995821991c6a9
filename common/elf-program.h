// What an ELF file says of itself as a program: whom it is for, and which loader it asks for. The file may be
// anybody's: nothing in it is trusted, and nothing is followed. Layout: System V ABI, chapters 4 and 5.
#pragma once

#include <limits.h>
#include <stdint.h>

typedef enum ElfKind {
  ELF_NONE,       // no ELF file, or none of which the header could be read
  ELF_FOREIGN,    // for another machine (`machine`), or of another class or byte order
  ELF_NO_PROGRAM, // for x86-64, but an object or a core file
  ELF_DAMAGED,    // an x86-64 program with headers that cannot be
  ELF_PROGRAM,    // an x86-64 program
} ElfKind;

typedef struct ElfProgram {
  ElfKind kind;
  uint16_t machine;      // e_machine of ELF_FOREIGN; EM_NONE where the byte order is another
  char loader[PATH_MAX]; // of ELF_PROGRAM: PT_INTERP's path, "" for a static program
} ElfProgram;

// Reads what `fd`, open for reading, holds from its beginning; its position stays.
void elf_program_read(int fd, ElfProgram *ret_program);
