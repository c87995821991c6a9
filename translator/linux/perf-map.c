/* Code that a process makes as it runs has no file in which perf(1) would find names. It looks for them in /tmp/perf-PID.map:
 * lines of address, size and name (Linux tools/perf/Documentation/jit-interface.txt). A region's name is the guest function's,
 * by the symbols of its file, and the file's; without symbols the file's and an offset; and the guest's address where code belongs to
 * no file.
 *
 * Files are anybody's: every number in one is looked at before it is used, and symbols are read, not mapped, since a mapped
 * file may be cut. All of it is under the runtime's lock, but for linux_perf_mapped(), which is told what linux_perf_code() asks. */
#include "linux/perf-map.h"

#include <elf.h>
#include <linux/fcntl.h>

#include "base/print.h"
#include "linux/linux.h"
#include "runtime/runtime.h"

enum { FILES_MAX = 256, SEGMENTS_MAX = 16, SECTIONS_MAX = 256, NAME_MAX = 64 };
#define SYMBOL_BYTES_MAX (UINT64_C(64) << 20)

typedef struct Symbol {
  uint64_t address, size; /* as the file counts */
  const char *name;
} Symbol;

typedef struct MappedCode {
  uint64_t start, end, address; /* guest addresses; `start` as the file counts */
  uint64_t offset;
  char path[256], name[NAME_MAX]; /* name: without folders */
  bool read;
  Symbol *symbols; /* ascending */
  uint64_t symbol_count;
} MappedCode;

static BaseLock lock = {.rank = BASE_RANK_MAP}; /* which code is mapped is told outside the runtime's lock */
static MappedCode *mapped[FILES_MAX];
static unsigned mapped_count;
static bool begun;

void linux_perf_map_begin(void) { begun = true; }

void linux_perf_mapped(int fd, uint64_t start, uint64_t length, uint64_t offset) {
  if (!begun) return;
  char link[32];
  MappedCode *code = base_alloc(sizeof *code);
  if (!code) return;
  *code = (MappedCode){.start = start, .end = start + length, .address = offset, .offset = offset};
  base_format(link, sizeof link, "/proc/self/fd/%d", fd);
  host_call(__NR_readlinkat, AT_FDCWD, link, code->path, sizeof code->path - 1);
  const char *slash = code->path;
  for (const char *at = code->path; *at; at++)
    if (*at == '/') slash = at + 1;
  base_format(code->name, sizeof code->name, "%s", slash);
  base_lock(&lock);
  unsigned i = 0; /* in the place of what was mapped there */
  while (i < mapped_count && (mapped[i]->end <= code->start || mapped[i]->start >= code->end)) i++;
  if (i < FILES_MAX) mapped[i] = code;
  if (i == mapped_count && i < FILES_MAX) mapped_count++;
  base_unlock(&lock);
}

/* --- Symbols -------------------------------------------------------------------------------------------------------- */

static bool read_at(int fd, void *to, uint64_t size, uint64_t offset) {
  return host_call(__NR_pread64, fd, to, size, offset) == (int64_t)size;
}

/* A section's bytes, with a zero behind; NULL where there are none, or too many. */
static char *read_section(int fd, const Elf64_Shdr *section) {
  if (!section->sh_size || section->sh_size > SYMBOL_BYTES_MAX) return NULL;
  char *bytes = base_pages_alloc(section->sh_size + 1);
  if (bytes && read_at(fd, bytes, section->sh_size, section->sh_offset)) return bytes;
  if (bytes) base_pages_free(bytes, section->sh_size + 1);
  return NULL;
}

/* The functions among the symbols of a table, behind those there are. */
static void take_symbols(MappedCode *code, const Elf64_Sym *from, uint64_t count, const char *names, uint64_t names_size) {
  for (uint64_t i = 0; i < count; i++) {
    unsigned type = ELF64_ST_TYPE(from[i].st_info);
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || !from[i].st_value || from[i].st_name >= names_size) continue;
    code->symbols[code->symbol_count++] = (Symbol){from[i].st_value, from[i].st_size, names + from[i].st_name};
  }
}

static void sift(Symbol *symbols, uint64_t root, uint64_t count) {
  for (uint64_t child; (child = 2 * root + 1) < count; root = child) {
    if (child + 1 < count && symbols[child].address < symbols[child + 1].address) child++;
    if (symbols[root].address >= symbols[child].address) return;
    Symbol moved = symbols[root];
    symbols[root] = symbols[child];
    symbols[child] = moved;
  }
}

static void sort(Symbol *symbols, uint64_t count) {
  for (uint64_t i = count / 2; i-- > 0;) sift(symbols, i, count);
  for (uint64_t left = count; left > 1;) {
    Symbol last = symbols[--left];
    symbols[left] = symbols[0];
    symbols[0] = last;
    sift(symbols, 0, left);
  }
}

/* All symbols where the file has them, otherwise those of dynamic linking. */
static const Elf64_Shdr *choose_table(const Elf64_Shdr *sections, unsigned count) {
  const Elf64_Shdr *best = NULL;
  for (unsigned i = 0; i < count; i++) {
    bool better = sections[i].sh_type == SHT_SYMTAB || (sections[i].sh_type == SHT_DYNSYM && !best);
    if (better && sections[i].sh_link < count) best = &sections[i];
  }
  return best;
}

static void read_symbols(MappedCode *code, int fd, const Elf64_Ehdr *header) {
  static Elf64_Shdr sections[SECTIONS_MAX];
  unsigned count = header->e_shnum < SECTIONS_MAX ? header->e_shnum : SECTIONS_MAX;
  if (header->e_shentsize != sizeof *sections || !read_at(fd, sections, count * sizeof *sections, header->e_shoff)) return;
  const Elf64_Shdr *table = choose_table(sections, count);
  if (!table) return;
  const Elf64_Shdr *strings = &sections[table->sh_link];
  char *symbols = read_section(fd, table), *names = symbols ? read_section(fd, strings) : NULL;
  uint64_t symbol_count = table->sh_size / sizeof(Elf64_Sym);
  if (names) code->symbols = base_pages_alloc(symbol_count * sizeof *code->symbols);
  if (code->symbols) { /* the names stay */
    take_symbols(code, (const void *)symbols, symbol_count, names, strings->sh_size);
    sort(code->symbols, code->symbol_count);
  }
  if (symbols) base_pages_free(symbols, table->sh_size + 1);
}

/* Where the file counts the mapping's beginning. */
static void read_address(MappedCode *code, int fd, const Elf64_Ehdr *header) {
  Elf64_Phdr segments[SEGMENTS_MAX];
  unsigned count = header->e_phnum < SEGMENTS_MAX ? header->e_phnum : SEGMENTS_MAX;
  if (header->e_phentsize != sizeof *segments || !read_at(fd, segments, count * sizeof *segments, header->e_phoff)) return;
  for (unsigned i = 0; i < count; i++) {
    uint64_t behind = segments[i].p_offset - code->offset; /* a mapping begins at a page, a segment perhaps in it */
    if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X) || behind >= code->end - code->start) continue;
    code->address = segments[i].p_vaddr - behind;
    return;
  }
}

static void read_file(MappedCode *code) {
  Elf64_Ehdr header;
  code->read = true;
  int64_t fd = host_call(__NR_openat, AT_FDCWD, code->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return;
  if (read_at((int)fd, &header, sizeof header, 0) && !memcmp(header.e_ident, ELFMAG, SELFMAG)) {
    read_address(code, (int)fd, &header);
    read_symbols(code, (int)fd, &header);
  }
  host_call(__NR_close, fd);
}

/* --- Lines ---------------------------------------------------------------------------------------------------------- */

/* The last function that begins at or before an address, if it reaches there. Sizes of assembler's functions may be 0. */
static const Symbol *symbol_at(const MappedCode *code, uint64_t address) {
  uint64_t low = 0, high = code->symbol_count;
  while (low < high) {
    uint64_t middle = (low + high) / 2;
    if (code->symbols[middle].address <= address) low = middle + 1;
    else high = middle;
  }
  const Symbol *symbol = low ? &code->symbols[low - 1] : NULL;
  return symbol && (!symbol->size || address - symbol->address < symbol->size) ? symbol : NULL;
}

static void put_name(BaseText *line, uint64_t guest_pc) {
  MappedCode *code = NULL;
  for (unsigned i = 0; i < mapped_count && !code; i++)
    if (guest_pc >= mapped[i]->start && guest_pc < mapped[i]->end) code = mapped[i];
  if (!code) {
    base_text_printf(line, "0x%lx", (unsigned long)guest_pc);
    return;
  }
  if (!code->read) read_file(code);
  const Symbol *symbol = symbol_at(code, guest_pc - code->start + code->address);
  if (symbol) base_text_printf(line, "%.100s@%s", symbol->name, code->name);
  else base_text_printf(line, "%s+0x%lx", code->name, (unsigned long)(guest_pc - code->start + code->address));
}

/* What a name has of others' making stays on its line. */
static void keep_printable(char *line, uint64_t length) {
  for (uint64_t i = 0; i < length; i++)
    if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) line[i] = '?';
}

void linux_perf_code(uint64_t code, uint64_t size, uint64_t guest_pc) {
  char path[40], data[256];
  BaseText line = base_text(data, sizeof data - 1);
  base_text_printf(&line, "%lx %lx ", (unsigned long)code, (unsigned long)size);
  base_lock(&lock);
  put_name(&line, guest_pc);
  base_unlock(&lock);
  uint64_t length = line.length < sizeof data - 2 ? line.length : sizeof data - 2;
  keep_printable(data, length);
  data[length++] = '\n';
  base_format(path, sizeof path, "/tmp/perf-%d.map", (int)host_call(__NR_getpid));
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (fd < 0) return;
  host_call(__NR_write, fd, data, length);
  host_call(__NR_close, fd);
}
