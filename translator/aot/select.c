/* Files are anybody's: of each only its headers and the names it has for libraries are read here, within bounds. */
#include "aot/select.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADERS_MAX = 64, DYNAMIC_MAX = 4096 /* entries */, NEEDED_MAX = 512, NAME_MAX_BYTES = 256, LINKS_MAX = 8 };

typedef struct File {
  char *path;
  char **needed; /* names of libraries and of the loader */
  size_t needed_count;
  bool program, wanted;
} File;

/* A name by which a library may be looked for: a file's own, or a link's. */
typedef struct Name {
  char *name, *leads_to; /* leads_to: the file name that a link leads to, or NULL */
  size_t file;           /* number of a file */
  bool followed;
} Name;

typedef struct Finder {
  File *files;
  size_t file_count, file_capacity;
  Name *names; /* by name, once all are known */
  size_t name_count, name_capacity;
  size_t *pending;
  size_t pending_count;
  bool loaded, failed;
} Finder;

/* One more, zeroed; NULL when out of memory. */
static void *one_more(void **array, size_t *count, size_t *capacity, size_t size) {
  if (*count == *capacity) {
    size_t more = *capacity ? *capacity * 2 : 1024;
    void *grown = realloc(*array, more * size);
    if (!grown) return NULL;
    *array = grown;
    *capacity = more;
  }
  return memset((char *)*array + (*count)++ * size, 0, size);
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* --- What a file needs ----------------------------------------------------------------------------------------------- */

typedef struct Headers {
  int fd;
  Elf64_Ehdr head;
  Elf64_Phdr parts[HEADERS_MAX];
} Headers;

static bool read_at(int fd, void *to, size_t size, uint64_t offset) {
  return offset <= INT64_MAX && pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

static bool read_headers(const char *path, Headers *h) {
  h->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (h->fd < 0) return false;
  const Elf64_Ehdr *e = &h->head;
  bool good = read_at(h->fd, &h->head, sizeof h->head, 0) && !memcmp(e->e_ident, ELFMAG, SELFMAG) &&
              e->e_ident[EI_CLASS] == ELFCLASS64 && e->e_ident[EI_DATA] == ELFDATA2LSB && e->e_machine == EM_X86_64 &&
              (e->e_type == ET_EXEC || e->e_type == ET_DYN) && e->e_phentsize == sizeof *h->parts && e->e_phnum &&
              e->e_phnum <= HEADERS_MAX && read_at(h->fd, h->parts, e->e_phnum * sizeof *h->parts, e->e_phoff);
  if (!good) close(h->fd);
  return good;
}

static const Elf64_Phdr *find_part(const Headers *h, uint32_t type) {
  for (unsigned i = 0; i < h->head.e_phnum; i++)
    if (h->parts[i].p_type == type) return &h->parts[i];
  return NULL;
}

/* Where in the file an address is. */
static bool file_offset(const Headers *h, uint64_t address, uint64_t *ret_offset) {
  for (unsigned i = 0; i < h->head.e_phnum; i++) {
    const Elf64_Phdr *p = &h->parts[i];
    if (p->p_type != PT_LOAD || address < p->p_vaddr || address - p->p_vaddr >= p->p_filesz) continue;
    *ret_offset = p->p_offset + (address - p->p_vaddr);
    return true;
  }
  return false;
}

static bool add_needed(Finder *f, File *file, const char *path) {
  char **grown = file->needed_count < NEEDED_MAX ? realloc(file->needed, (file->needed_count + 1) * sizeof *grown) : NULL;
  char *copy = grown ? strdup(last_part(path)) : NULL;
  if (grown) file->needed = grown;
  if (copy) file->needed[file->needed_count++] = copy;
  else if (file->needed_count < NEEDED_MAX) f->failed = true;
  return copy != NULL;
}

/* The string at an offset of the file; false where it is too long for a library's name. */
static bool read_name(int fd, uint64_t offset, char name[NAME_MAX_BYTES]) {
  ssize_t got = offset <= INT64_MAX ? pread(fd, name, NAME_MAX_BYTES, (off_t)offset) : -1;
  return got > 0 && memchr(name, 0, (size_t)got);
}

/* What the dynamic section says: the libraries, and whether a file that names no loader is a program. */
static void read_dynamic(Finder *f, const Headers *h, File *file) {
  const Elf64_Phdr *part = find_part(h, PT_DYNAMIC);
  uint64_t count = part ? part->p_filesz / sizeof(Elf64_Dyn) : 0, strings = 0;
  if (count > DYNAMIC_MAX) count = DYNAMIC_MAX;
  Elf64_Dyn *entries = count ? malloc(count * sizeof *entries) : NULL;
  if (!entries || !read_at(h->fd, entries, count * sizeof *entries, part->p_offset)) count = 0;
  bool have_strings = false;
  for (uint64_t i = 0; i < count && entries[i].d_tag != DT_NULL; i++) {
    if (entries[i].d_tag == DT_STRTAB) have_strings = file_offset(h, entries[i].d_un.d_ptr, &strings);
    if (entries[i].d_tag == DT_FLAGS_1 && entries[i].d_un.d_val & DF_1_PIE) file->program = true;
  }
  for (uint64_t i = 0; have_strings && i < count && entries[i].d_tag != DT_NULL; i++) {
    char name[NAME_MAX_BYTES];
    if (entries[i].d_tag != DT_NEEDED || !read_name(h->fd, strings + entries[i].d_un.d_val, name)) continue;
    if (!add_needed(f, file, name)) break;
  }
  free(entries);
}

/* False where the file is no program or library. */
static bool read_needs(Finder *f, File *file) {
  Headers h;
  char name[NAME_MAX_BYTES];
  if (!read_headers(file->path, &h)) return false;
  const Elf64_Phdr *loader = find_part(&h, PT_INTERP);
  file->program = loader || h.head.e_type == ET_EXEC;
  if (loader && read_name(h.fd, loader->p_offset, name)) add_needed(f, file, name);
  read_dynamic(f, &h, file);
  close(h.fd);
  return true;
}

/* --- What leads to a file -------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) { return strcmp(((const Name *)a)->name, ((const Name *)b)->name); }

static void want(Finder *f, size_t file) {
  if (f->files[file].wanted) return;
  f->files[file].wanted = true;
  f->pending[f->pending_count++] = file;
}

/* All files of that name: which one the loader takes depends on folders that it may be told of when it runs. */
static void want_name(Finder *f, const char *name, unsigned links) {
  size_t low = 0, high = f->name_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (strcmp(f->names[middle].name, name) < 0) low = middle + 1;
    else high = middle;
  }
  for (; low < f->name_count && !strcmp(f->names[low].name, name); low++) {
    Name *n = &f->names[low];
    if (!n->followed && !n->leads_to) want(f, n->file);
    bool follow = !n->followed && n->leads_to && links;
    n->followed = true;
    if (follow) want_name(f, n->leads_to, links - 1);
  }
}

static void follow_needs(Finder *f) {
  f->pending = calloc(f->file_count + 1, sizeof *f->pending);
  if (!f->pending) {
    f->failed = true;
    return;
  }
  if (f->name_count) qsort(f->names, f->name_count, sizeof *f->names, by_name);
  for (size_t i = 0; i < f->file_count; i++)
    if (f->files[i].program) want(f, i);
  for (size_t at = 0; at < f->pending_count; at++) {
    const File *file = &f->files[f->pending[at]];
    for (size_t i = 0; i < file->needed_count; i++) want_name(f, file->needed[i], LINKS_MAX);
  }
}

/* --- The walk -------------------------------------------------------------------------------------------------------- */

static Name *add_name(Finder *f, const char *name) {
  Name *added = one_more((void **)&f->names, &f->name_count, &f->name_capacity, sizeof *added);
  if (added) added->name = strdup(name);
  if (!added || !added->name) f->failed = true;
  return f->failed ? NULL : added;
}

static void add_file(Finder *f, const char *path) {
  File *file = one_more((void **)&f->files, &f->file_count, &f->file_capacity, sizeof *file);
  if (file) file->path = strdup(path);
  if (!file || !file->path) {
    f->failed = true;
    return;
  }
  file->wanted = !f->loaded;
  if (!f->loaded) return;
  if (!read_needs(f, file)) {
    free(file->path);
    f->file_count--;
    return;
  }
  Name *name = add_name(f, last_part(path));
  if (name) name->file = f->file_count - 1;
}

static void add_link(Finder *f, const FTSENT *entry) {
  char target[4096];
  ssize_t size = readlink(entry->fts_accpath, target, sizeof target - 1);
  if (size <= 0) return;
  target[size] = 0;
  Name *name = add_name(f, entry->fts_name);
  if (name && !(name->leads_to = strdup(last_part(target)))) f->failed = true;
}

/* 0, or the errno of what was named. */
static int add_entry(Finder *f, const FTSENT *entry) {
  bool unreadable = entry->fts_info == FTS_NS || entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR;
  if (unreadable) fprintf(stderr, "stele-aot: %s: %s\n", entry->fts_path, strerror(entry->fts_errno));
  if (unreadable && !entry->fts_level) return entry->fts_errno;
  if (entry->fts_info == FTS_F) add_file(f, entry->fts_path);
  if (entry->fts_info == FTS_SL && f->loaded) add_link(f, entry);
  return f->failed ? ENOMEM : 0;
}

static int walk(Finder *f, char *const *names) {
  FTS *fts = fts_open(names, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
  if (!fts) return errno;
  int error = 0;
  while (!error) {
    errno = 0;
    const FTSENT *entry = fts_read(fts);
    if (!entry) {
      error = errno; /* 0: that was all */
      break;
    }
    error = add_entry(f, entry);
  }
  fts_close(fts);
  return error;
}

static void free_finder(Finder *f) {
  for (size_t i = 0; i < f->file_count; i++) {
    for (size_t k = 0; k < f->files[i].needed_count; k++) free(f->files[i].needed[k]);
    free(f->files[i].needed);
    free(f->files[i].path);
  }
  for (size_t i = 0; i < f->name_count; i++) {
    free(f->names[i].name);
    free(f->names[i].leads_to);
  }
  free(f->files);
  free(f->names);
  free(f->pending);
}

int select_files(char *const *names, bool loaded, Selection *ret_selection) {
  Finder f = {.loaded = loaded};
  int error = walk(&f, names);
  *ret_selection = (Selection){0};
  if (!error && loaded) follow_needs(&f);
  if (!error && !f.failed) ret_selection->paths = calloc(f.file_count + 1, sizeof *ret_selection->paths);
  for (size_t i = 0; ret_selection->paths && i < f.file_count; i++) {
    if (!f.files[i].wanted) continue;
    ret_selection->paths[ret_selection->count++] = f.files[i].path;
    f.files[i].path = NULL;
  }
  free_finder(&f);
  return error ? error : ret_selection->paths ? 0 : ENOMEM;
}

void selection_free(Selection *selection) {
  for (size_t i = 0; i < selection->count; i++) free(selection->paths[i]);
  free(selection->paths);
  *selection = (Selection){0};
}
