#include "aot/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/memory-map.h"

enum { HOLES_ANYHOW = 1 << 20, MOST_HOLES = 16 /* of so many pages, one has to be there */ };
#define SYMBOL_BYTES_MAX (UINT64_C(256) << 20) /* of a table that is looked at */

static uint64_t page_down(uint64_t address) { return address & ~(MEMORY_PAGE_SIZE - 1); }
static uint64_t page_up(uint64_t address) { return page_down(address + MEMORY_PAGE_SIZE - 1); }

static bool add_parts(Program *program) {
  const ElfImage *image = &program->image;
  bool any = false;
  program->base = image->low;
  for (size_t i = 0; i < image->segment_count; i++) {
    const ElfSegment *segment = &image->segments[i];
    uint64_t start = page_down(segment->address), in_page = segment->address - start;
    if (!segment->file_size || segment->file_offset < in_page) continue;
    ProgramPart part = {.start = start - program->base, .end = page_up(segment->address + segment->file_size) - program->base,
                        .file_offset = segment->file_offset - in_page, .executable = segment->protection & MEMORY_EXEC,
                        .writable = segment->protection & MEMORY_WRITE};
    part.bytes = program->bytes + part.file_offset;
    part.readable = page_up(program->size) - part.file_offset;
    if (part.readable > part.end - part.start) part.readable = part.end - part.start;
    any |= part.executable;
    program->parts[program->part_count++] = part;
  }
  return any && image->high - image->low < IMAGE_ADDRESS_BYTES;
}

/* --- The file's bytes ------------------------------------------------------------------------------------------------ */

/* A copy, since the file is somebody's who may change it meanwhile: what is translated and what the image says it was
 * translated from are to be the same, what was checked stays as it was, and the file's end may not come nearer. It stands
 * in pages where the file's would be, and only what is asked for is read: a file with holes costs no more than its code. */
typedef struct Source {
  Program *program;
  int fd;
  const char *reason; /* why not, a sentence's end */
} Source;

static bool refuse(Source *s, const char *reason) { return s->reason = reason, false; }

/* [offset, offset + size), which lies in the file as it was when it was opened. */
static bool copy_bytes(Source *s, uint64_t offset, uint64_t size) {
  for (uint64_t done = 0; done < size;) {
    ssize_t got = pread(s->fd, (uint8_t *)s->program->bytes + offset + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return refuse(s, strerror(errno));
    if (got == 0) return refuse(s, "was cut while it was read");
    done += (uint64_t)got;
  }
  return true;
}

/* How much of a part the file has. */
static uint64_t length_of(const Program *program, const ProgramPart *part) {
  uint64_t left = program->size - part->file_offset;
  return part->readable < left ? part->readable : left;
}

/* How much of [start, end) is no hole, by file systems that tell (lseek(2)); all of it by others. */
static uint64_t data_in(int fd, uint64_t start, uint64_t end) {
  uint64_t sum = 0;
  while (start < end) {
    off_t data = lseek(fd, (off_t)start, SEEK_DATA), hole;
    if (data < 0) return errno == ENXIO ? sum : sum + (end - start);
    if ((uint64_t)data >= end) return sum;
    hole = lseek(fd, data, SEEK_HOLE);
    start = hole > data && (uint64_t)hole < end ? (uint64_t)hole : end;
    sum += start - (uint64_t)data;
  }
  return sum;
}

/* A file with holes of a GiB costs its owner a page, and would cost us several GiB. */
static bool is_mostly_holes(const Source *s) {
  uint64_t length = 0, data = 0;
  for (uint32_t i = 0; i < s->program->part_count; i++) {
    const ProgramPart *part = &s->program->parts[i];
    length += length_of(s->program, part);
    data += data_in(s->fd, part->file_offset, part->file_offset + length_of(s->program, part));
  }
  return length > HOLES_ANYHOW && data < length / MOST_HOLES;
}

static bool copy_parts(Source *s) {
  if (is_mostly_holes(s)) return refuse(s, "is mostly holes");
  for (uint32_t i = 0; i < s->program->part_count; i++) {
    const ProgramPart *part = &s->program->parts[i];
    uint64_t length = length_of(s->program, part);
    if (!copy_bytes(s, part->file_offset, length)) return false;
    s->program->content = image_checksum(part->bytes, length & ~UINT64_C(7), s->program->content);
  }
  return true;
}

static bool in_file(const Program *program, uint64_t offset, uint64_t size) {
  return offset <= program->size && size <= program->size - offset;
}

/* Of each kind a file has one at most (gABI, "Sections"); what more there is, is no linker's. */
static bool copy_symbols(Source *s, const Elf64_Ehdr *header) {
  Program *program = s->program;
  uint64_t sections = (uint64_t)header->e_shnum * sizeof(Elf64_Shdr);
  if (header->e_shentsize != sizeof(Elf64_Shdr) || !in_file(program, header->e_shoff, sections)) return true;
  if (!copy_bytes(s, header->e_shoff, sections)) return false;
  bool copied = true;
  for (unsigned i = 0; i < header->e_shnum && copied; i++) {
    Elf64_Shdr section;
    memcpy(&section, program->bytes + header->e_shoff + i * sizeof section, sizeof section);
    if (section.sh_type != SHT_SYMTAB && section.sh_type != SHT_DYNSYM) continue;
    ProgramSymbols *symbols = &program->symbols[section.sh_type == SHT_DYNSYM];
    if (symbols->count || section.sh_size > SYMBOL_BYTES_MAX || !in_file(program, section.sh_offset, section.sh_size))
      continue;
    *symbols = (ProgramSymbols){program->bytes + section.sh_offset, section.sh_size / sizeof(Elf64_Sym)};
    copied = copy_bytes(s, section.sh_offset, section.sh_size);
  }
  return copied;
}

static void find_unwind_table(Program *program, const Elf64_Ehdr *header) {
  for (unsigned i = 0; i < header->e_phnum && !program->unwind_size; i++) {
    Elf64_Phdr segment;
    memcpy(&segment, program->bytes + header->e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_GNU_EH_FRAME) continue;
    program->unwind_address = segment.p_vaddr - program->image.low;
    program->unwind_size = segment.p_memsz;
  }
}

/* What is copied may be copied again, as part of something else, and be another thing then: headers are looked at before
 * that. */
static bool read_program(Source *s) {
  Program *program = s->program;
  Elf64_Ehdr header;
  ElfError error = {0};
  uint64_t offset, size, head = program->size < IMAGE_HEAD_BYTES ? program->size : IMAGE_HEAD_BYTES;
  if (!copy_bytes(s, 0, head)) return false;
  program->key = image_file_key(program->bytes, head, program->size);
  memcpy(&header, program->bytes, sizeof header);
  if (elf_check_header((const uint8_t *)&header, sizeof header, program->size, &offset, &size, &error) < 0)
    return refuse(s, error.reason);
  if (!copy_bytes(s, offset, size)) return false;
  if (elf_read_image((const uint8_t *)&header, program->bytes + offset, program->size, &program->image, &error) < 0)
    return refuse(s, error.reason);
  if (!add_parts(program)) return refuse(s, "has no code, or is larger than 1 GiB");
  find_unwind_table(program, &header);
  return copy_parts(s) && copy_symbols(s, &header);
}

static bool read_file(Source *s) {
  struct stat status;
  if (fstat(s->fd, &status)) return refuse(s, strerror(errno));
  if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof(Elf64_Ehdr)) return refuse(s, "is not an ELF file");
  void *room = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return refuse(s, strerror(errno));
  s->program->bytes = room;
  s->program->size = (uint64_t)status.st_size;
  if (read_program(s)) return true;
  program_close(s->program);
  return false;
}

bool program_open(const char *path, Program *ret_program, const char **ret_reason) {
  *ret_program = (Program){0};
  Source source = {.program = ret_program, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  bool done = source.fd >= 0 ? read_file(&source) : refuse(&source, strerror(errno));
  if (source.fd >= 0) close(source.fd);
  *ret_reason = source.reason;
  return done;
}

void program_close(Program *program) {
  if (program->bytes) munmap((void *)program->bytes, program->size);
  program->bytes = NULL;
}

const ProgramPart *program_code_at(const Program *program, uint64_t address) {
  for (uint32_t i = 0; i < program->part_count; i++) {
    const ProgramPart *part = &program->parts[i];
    if (part->executable && address >= part->start && address < part->start + part->readable) return part;
  }
  return NULL;
}

const uint8_t *program_bytes_at(const Program *program, uint64_t address, uint64_t length) {
  for (uint32_t i = 0; i < program->part_count; i++) {
    const ProgramPart *part = &program->parts[i];
    if (address >= part->start && address < part->start + part->readable &&
        length <= part->start + part->readable - address)
      return part->bytes + (address - part->start);
  }
  return NULL;
}
