// See elf-program.h.
#include "elf-program.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { HEADERS_MAX = 128 }; // program headers looked at

static bool read_at(int fd, void *bytes, size_t size, uint64_t offset) {
  return offset <= INT64_MAX && pread(fd, bytes, size, (off_t)offset) == (ssize_t)size;
}

// A path of at least a letter, with its end.
static bool read_loader(int fd, const Elf64_Phdr *segment, char ret_loader[PATH_MAX]) {
  uint64_t length = segment->p_filesz;
  if (length >= 2 && length <= PATH_MAX && read_at(fd, ret_loader, length, segment->p_offset) &&
      !ret_loader[length - 1])
    return true;
  ret_loader[0] = 0;
  return false;
}

static ElfKind read_segments(int fd, const Elf64_Ehdr *header, char ret_loader[PATH_MAX]) {
  Elf64_Phdr segments[HEADERS_MAX];
  bool loads = false;
  if (header->e_phentsize != sizeof *segments || header->e_phnum == 0 || header->e_phnum > HEADERS_MAX)
    return ELF_DAMAGED;
  if (!read_at(fd, segments, header->e_phnum * sizeof *segments, header->e_phoff)) return ELF_DAMAGED;
  for (int i = 0; i < header->e_phnum; i++) {
    loads |= segments[i].p_type == PT_LOAD;
    if (segments[i].p_type == PT_INTERP) return read_loader(fd, &segments[i], ret_loader) ? ELF_PROGRAM : ELF_DAMAGED;
  }
  return loads ? ELF_PROGRAM : ELF_DAMAGED;
}

void elf_program_read(int fd, ElfProgram *ret_program) {
  Elf64_Ehdr header;
  *ret_program = (ElfProgram){.kind = ELF_NONE};
  if (!read_at(fd, &header, sizeof header, 0) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return;
  bool little = header.e_ident[EI_DATA] == ELFDATA2LSB;
  if (!little || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64) {
    ret_program->kind = ELF_FOREIGN;
    ret_program->machine = little ? header.e_machine : EM_NONE;
  } else if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    ret_program->kind = ELF_NO_PROGRAM;
  } else {
    ret_program->kind = read_segments(fd, &header, ret_program->loader);
  }
}
