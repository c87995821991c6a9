/* ELF headers to a list of segments (ELF-64 object file format; psABI for x86-64, chapter 5). The input is
 * hostile: every offset, size and sum is checked before use, and a refusal names the offending field. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "guest/elf-loader.h"
#include "guest/memory-map.h"

static int refuse(ElfError *ret_error, const char *reason, uint64_t offset) {
  *ret_error = (ElfError){reason, offset};
  return -ENOEXEC;
}

static const char *machine_refusal(uint16_t machine) {
  switch (machine) {
  case EM_386: return "is a 32-bit x86 program; only x86-64 programs run here";
  case EM_AARCH64: return "is an AArch64 program, not an x86-64 one";
  default: return "is for another processor, not x86-64";
  }
}

int elf_check_header(const uint8_t *bytes, size_t length, uint64_t file_size, uint64_t *ret_offset,
                     uint64_t *ret_size, ElfError *ret_error) {
  Elf64_Ehdr header;
  if (length < SELFMAG || memcmp(bytes, ELFMAG, SELFMAG)) return refuse(ret_error, "is not an ELF file", 0);
  if (length < sizeof header) return refuse(ret_error, "ends inside its ELF header", length);
  memcpy(&header, bytes, sizeof header);
  if (header.e_machine != EM_X86_64)
    return refuse(ret_error, machine_refusal(header.e_machine), offsetof(Elf64_Ehdr, e_machine));
  if (header.e_ident[EI_CLASS] != ELFCLASS64)
    return refuse(ret_error, "is an x32 program; only 64-bit programs run here", EI_CLASS);
  if (header.e_ident[EI_DATA] != ELFDATA2LSB) return refuse(ret_error, "is not little-endian", EI_DATA);
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return refuse(ret_error, "is neither an executable nor a shared object", offsetof(Elf64_Ehdr, e_type));
  if (header.e_phentsize != sizeof(Elf64_Phdr))
    return refuse(ret_error, "has program headers of a wrong size", offsetof(Elf64_Ehdr, e_phentsize));
  uint64_t size = (uint64_t)header.e_phnum * sizeof(Elf64_Phdr);
  if (!size || size > ELF_HEADERS_MAX)
    return refuse(ret_error, "has no program headers, or too many", offsetof(Elf64_Ehdr, e_phnum));
  if (header.e_phoff > file_size || size > file_size - header.e_phoff)
    return refuse(ret_error, "has program headers beyond its end", offsetof(Elf64_Ehdr, e_phoff));
  *ret_offset = header.e_phoff;
  *ret_size = size;
  return 0;
}

static uint64_t page_down(uint64_t address) { return address & ~(MEMORY_PAGE_SIZE - 1); }
static uint64_t page_up(uint64_t address) { return page_down(address + MEMORY_PAGE_SIZE - 1); }

static int add_segment(ElfImage *image, const Elf64_Phdr *segment, uint64_t file_size, uint64_t at,
                       ElfError *ret_error) {
  if (!segment->p_memsz) return 0;
  if (image->segment_count == ELF_SEGMENTS_MAX) return refuse(ret_error, "has too many segments", at);
  if (segment->p_filesz > segment->p_memsz)
    return refuse(ret_error, "has a segment larger in the file than in memory", at);
  if (segment->p_memsz > MEMORY_GUEST_END || segment->p_vaddr > MEMORY_GUEST_END - segment->p_memsz)
    return refuse(ret_error, "has a segment outside the address space", at);
  if (segment->p_filesz && (segment->p_offset > file_size || segment->p_filesz > file_size - segment->p_offset))
    return refuse(ret_error, "is truncated: a segment lies beyond its end", at);
  if (segment->p_filesz && (segment->p_vaddr ^ segment->p_offset) & (MEMORY_PAGE_SIZE - 1))
    return refuse(ret_error, "has a segment whose address and offset disagree within the page", at);
  if (image->segment_count) {
    const ElfSegment *last = &image->segments[image->segment_count - 1];
    if (segment->p_vaddr < last->address + last->memory_size)
      return refuse(ret_error, "has segments that overlap or are out of order", at);
  }
  ElfSegment *added = &image->segments[image->segment_count++];
  *added = (ElfSegment){.address = segment->p_vaddr,
                        .memory_size = segment->p_memsz,
                        .file_offset = segment->p_offset,
                        .file_size = segment->p_filesz,
                        .protection = (segment->p_flags & PF_R ? MEMORY_READ : 0) |
                                      (segment->p_flags & PF_W ? MEMORY_WRITE : 0) |
                                      (segment->p_flags & PF_X ? MEMORY_EXEC : 0)};
  if (segment->p_align > image->alignment && !(segment->p_align & (segment->p_align - 1)) &&
      segment->p_align <= UINT64_C(1) << 30)
    image->alignment = segment->p_align;
  return 0;
}

static void find_program_headers(ElfImage *image, uint64_t offset) {
  for (size_t i = 0; i < image->segment_count; i++) {
    const ElfSegment *segment = &image->segments[i];
    if (offset >= segment->file_offset && offset - segment->file_offset < segment->file_size)
      image->program_headers = segment->address + (offset - segment->file_offset);
  }
}

int elf_read_image(const uint8_t *header_bytes, const uint8_t *program_headers, uint64_t file_size,
                   ElfImage *image, ElfError *ret_error) {
  Elf64_Ehdr header;
  memcpy(&header, header_bytes, sizeof header);
  *image = (ElfImage){.position_independent = header.e_type == ET_DYN,
                      .entry = header.e_entry,
                      .program_header_count = header.e_phnum,
                      .alignment = MEMORY_PAGE_SIZE};
  for (unsigned i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    uint64_t at = header.e_phoff + i * sizeof segment;
    memcpy(&segment, program_headers + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_GNU_STACK) image->executable_stack = segment.p_flags & PF_X;
    if (segment.p_type == PT_INTERP) {
      if (segment.p_filesz < 2 || segment.p_filesz > 4096 || segment.p_offset > file_size ||
          segment.p_filesz > file_size - segment.p_offset)
        return refuse(ret_error, "names its loader in a segment of impossible size or place", at);
      image->interpreter_offset = segment.p_offset;
      image->interpreter_size = segment.p_filesz;
    }
    if (segment.p_type != PT_LOAD) continue;
    int error = add_segment(image, &segment, file_size, at, ret_error);
    if (error) return error;
  }
  if (!image->segment_count) return refuse(ret_error, "has nothing to load", offsetof(Elf64_Ehdr, e_phnum));
  const ElfSegment *last = &image->segments[image->segment_count - 1];
  image->low = page_down(image->segments[0].address);
  image->high = page_up(last->address + last->memory_size);
  if (!image->position_independent && image->low < 65536)
    return refuse(ret_error, "wants to be loaded at the zero page", header.e_phoff);
  find_program_headers(image, header.e_phoff);
  return 0;
}
