#include "aot/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/memory-map.h"

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

static bool read_program(Program *program, const char **ret_reason) {
  ElfError error = {0};
  uint64_t offset, size, head = program->size < IMAGE_HEAD_BYTES ? program->size : IMAGE_HEAD_BYTES;
  program->key = image_file_key(program->bytes, head, program->size);
  if (elf_check_header(program->bytes, program->size, program->size, &offset, &size, &error) < 0 ||
      elf_read_image(program->bytes, program->bytes + offset, program->size, &program->image, &error) < 0)
    return *ret_reason = error.reason, false;
  if (add_parts(program)) return true;
  return *ret_reason = "has no code, or is larger than 1 GiB", false;
}

bool program_open(const char *path, Program *ret_program, const char **ret_reason) {
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  *ret_program = (Program){0};
  if (fd < 0 || fstat(fd, &status)) {
    *ret_reason = strerror(errno);
    if (fd >= 0) close(fd);
    return false;
  }
  *ret_reason = "is not an ELF file";
  void *bytes = MAP_FAILED;
  if (S_ISREG(status.st_mode) && status.st_size >= 64)
    bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (bytes == MAP_FAILED) return false;
  ret_program->bytes = bytes;
  ret_program->size = (uint64_t)status.st_size;
  if (read_program(ret_program, ret_reason)) return true;
  program_close(ret_program);
  return false;
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
