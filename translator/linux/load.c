/* Maps a program and its loader where the kernel would, and says in a sentence what is wrong with a file
 * that cannot be run. Reading the headers is guest/elf-loader.c's. */
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "guest/elf-loader.h"
#include "linux/host-stat.h"
#include "linux/linux.h"

/* Position-independent programs go to two thirds of the address space, as the kernel puts them
 * (ELF_ET_DYN_BASE in arch/x86/include/asm/elf.h), moved by up to 2^28 pages. */
#define PIE_BASE UINT64_C(0x555555554000)

typedef struct Message {
  char *text;
  size_t size;
} Message;

typedef struct Loading {
  int fd;
  const char *path;
  const Message *message;
  ElfImage image;
  uint64_t bias;
} Loading;

static int64_t read_all_at(int fd, void *buffer, size_t length, uint64_t offset) {
  size_t done = 0;
  while (done < length) {
    int64_t got = host_call(__NR_pread64, fd, (char *)buffer + done, length - done, offset + done);
    if (got < 0) return got;
    if (!got) break;
    done += (size_t)got;
  }
  return (int64_t)done;
}

static int fail(const Loading *loading, int error, const char *reason, uint64_t offset) {
  base_format(loading->message->text, loading->message->size, "%s %s (byte %lu of the file)",
              loading->path, reason, offset);
  return error;
}

static int read_headers(Loading *loading) {
  HostStat status;
  uint8_t header[64];
  ElfError error = {0};
  uint64_t offset, size;
  int64_t result = host_call(__NR_fstat, loading->fd, &status);
  if (result < 0) return fail(loading, (int)result, "cannot be examined", 0);
  int64_t length = read_all_at(loading->fd, header, sizeof header, 0);
  if (length < 0) return fail(loading, (int)length, "cannot be read", 0);
  result = elf_check_header(header, (size_t)length, (uint64_t)status.size, &offset, &size, &error);
  if (result < 0) return fail(loading, (int)result, error.reason, error.offset);
  uint8_t *headers = base_alloc(size);
  if (!headers) return fail(loading, -ENOMEM, "does not fit in memory", 0);
  if (read_all_at(loading->fd, headers, size, offset) != (int64_t)size)
    result = fail(loading, -EIO, "has program headers that cannot be read", offset);
  else if (elf_read_image(header, headers, (uint64_t)status.size, &loading->image, &error) < 0)
    result = fail(loading, -ENOEXEC, error.reason, error.offset);
  base_free(headers);
  return (int)result;
}

/* Takes the whole range of the image, so that its segments have their distances. */
static int reserve_image(Loading *loading, uint64_t hint) {
  const ElfImage *image = &loading->image;
  uint64_t length = image->high - image->low;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (!image->position_independent) {
    int64_t got = linux_map(image->low, length, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
    return got < 0 ? fail(loading, (int)got, "wants addresses that are taken", 0) : 0;
  }
  uint64_t slack = image->alignment > MEMORY_PAGE_SIZE ? image->alignment : 0;
  int64_t got = linux_map(hint & ~(image->alignment - 1), length + slack, PROT_NONE, flags, -1, 0);
  if (got < 0) return fail(loading, (int)got, "does not fit in the address space", 0);
  uint64_t start = ((uint64_t)got + slack) & ~(image->alignment - 1);
  if (start > (uint64_t)got) linux_unmap((uint64_t)got, start - (uint64_t)got);
  if (start + length < (uint64_t)got + length + slack)
    linux_unmap(start + length, (uint64_t)got + slack - start);
  loading->bias = start - image->low;
  return 0;
}

static int map_zeroes(uint64_t start, uint64_t end, uint32_t protection) {
  uint64_t page = (start + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
  uint64_t stop = (end + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
  if (page > start && protection & MEMORY_WRITE) {
    static const char zeroes[4096];
    int error = linux_copy_out(start, zeroes, page - start);
    if (error) return error;
  }
  if (stop <= page) return 0;
  int64_t got = linux_map(page, stop - page, (int)protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return got < 0 ? (int)got : 0;
}

static int map_segment(const Loading *loading, const ElfSegment *segment) {
  uint64_t start = loading->bias + segment->address, page = start & ~(MEMORY_PAGE_SIZE - 1);
  uint64_t in_page = start - page;
  if (!segment->file_size) return map_zeroes(page, start + segment->memory_size, segment->protection);
  int64_t got = linux_map(page, segment->file_size + in_page, (int)segment->protection,
                          MAP_PRIVATE | MAP_FIXED, loading->fd, segment->file_offset - in_page);
  if (got < 0) return (int)got;
  if (segment->memory_size == segment->file_size) return 0;
  return map_zeroes(start + segment->file_size, start + segment->memory_size, segment->protection);
}

static void unmap_holes(const Loading *loading) {
  const ElfImage *image = &loading->image;
  for (size_t i = 0; i + 1 < image->segment_count; i++) {
    const ElfSegment *segment = &image->segments[i];
    uint64_t hole = (segment->address + segment->memory_size + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
    uint64_t next = segment[1].address & ~(MEMORY_PAGE_SIZE - 1);
    if (next > hole) linux_unmap(loading->bias + hole, next - hole);
  }
}

static int map_image(Loading *loading, uint64_t hint) {
  int error = reserve_image(loading, hint);
  if (error) return error;
  for (size_t i = 0; i < loading->image.segment_count; i++) {
    error = map_segment(loading, &loading->image.segments[i]);
    if (error)
      return fail(loading, error, "has a segment that cannot be mapped",
                  loading->image.segments[i].file_offset);
  }
  unmap_holes(loading);
  return 0;
}

static int loader_missing(const Loading *program, const char *path, int error) {
  const Message *message = program->message;
  if (error == -ENOENT || error == -ENOTDIR)
    base_format(message->text, message->size,
                "the x86-64 loader %s is missing from this root: install libc6:amd64", path);
  else
    base_format(message->text, message->size, "the x86-64 loader %s of %s cannot be opened (error %d)",
                path, program->path, -error);
  return error;
}

static int load_interpreter(const Loading *program, LinuxLoaded *ret_loaded) {
  char path[LINUX_PATH_MAX + 1] = {0};
  const ElfImage *image = &program->image;
  if (read_all_at(program->fd, path, image->interpreter_size, image->interpreter_offset) !=
          (int64_t)image->interpreter_size ||
      path[image->interpreter_size - 1])
    return fail(program, -ENOEXEC, "names its loader badly", image->interpreter_offset);
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return loader_missing(program, path, (int)fd);
  Loading *loader = base_alloc(sizeof *loader);
  if (!loader) return -ENOMEM;
  *loader = (Loading){.fd = (int)fd, .path = path, .message = program->message};
  int error = read_headers(loader);
  if (!error) error = map_image(loader, 0);
  if (!error) {
    ret_loaded->loader_base = loader->bias;
    ret_loaded->loader_low = loader->bias + loader->image.low;
    ret_loaded->loader_high = loader->bias + loader->image.high;
    ret_loaded->entry = loader->bias + loader->image.entry;
  }
  host_call(__NR_close, fd);
  base_free(loader);
  return error;
}

static uint64_t random_pages(unsigned bits) {
  uint64_t random = 0;
  if (linux_program.randomize) host_call(__NR_getrandom, &random, sizeof random, 0);
  return (random & ((UINT64_C(1) << bits) - 1)) * MEMORY_PAGE_SIZE;
}

static int load_program(Loading *program, LinuxLoaded *ret_loaded) {
  int error = read_headers(program);
  if (!error) error = map_image(program, PIE_BASE + random_pages(28));
  if (error) return error;
  const ElfImage *image = &program->image;
  *ret_loaded = (LinuxLoaded){.entry = program->bias + image->entry,
                              .program_entry = program->bias + image->entry,
                              .program_headers = image->program_headers + program->bias,
                              .program_header_count = image->program_header_count,
                              .low = program->bias + image->low,
                              .high = program->bias + image->high,
                              .executable_stack = image->executable_stack,
                              .brk = program->bias + image->high + random_pages(13)};
  if (image->interpreter_size) return load_interpreter(program, ret_loaded);
  return 0;
}

int linux_load(int fd, const char *path, LinuxLoaded *ret_loaded, char *message, size_t message_size) {
  Message where = {message, message_size};
  Loading *program = base_alloc(sizeof *program);
  if (!program) return -ENOMEM;
  *program = (Loading){.fd = fd, .path = path, .message = &where};
  int error = load_program(program, ret_loaded);
  base_free(program);
  return error;
}

static int check_interpreter(const Loading *program) {
  char path[LINUX_PATH_MAX + 1] = {0};
  const ElfImage *image = &program->image;
  if (!image->interpreter_size) return 0;
  if (read_all_at(program->fd, path, image->interpreter_size, image->interpreter_offset) !=
      (int64_t)image->interpreter_size)
    return -ENOEXEC;
  return (int)host_call(__NR_faccessat, AT_FDCWD, path, 4 /* R_OK */);
}

int linux_examine(int fd, const char *path) {
  char text[256];
  Message where = {text, sizeof text};
  Loading *program = base_alloc(sizeof *program);
  if (!program) return -ENOMEM;
  *program = (Loading){.fd = fd, .path = path, .message = &where};
  int error = read_headers(program);
  if (!error) error = check_interpreter(program);
  base_free(program);
  return error;
}
