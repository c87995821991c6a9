// See live-file.h. Parts stay where they are for ever: what is let go of leaves a hole.
#include "live-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct LivePart {
  uint64_t start, end;
  int fd;              // or -1:
  LiveIndex *page;     // this part's, or zeros
  uint64_t dropped_at; // 0: it is named
};

static uint64_t page_up(uint64_t offset) {
  return (offset + LIVE_PAGE - 1) & ~(uint64_t)(LIVE_PAGE - 1);
}

static int add_part(LiveFile *file, const LivePart *part) {
  if (file->part_count == file->part_capacity) {
    size_t capacity = file->part_capacity ? file->part_capacity * 2 : 16;
    LivePart *grown = realloc(file->parts, capacity * sizeof *grown);
    if (!grown) return -ENOMEM;
    file->parts = grown;
    file->part_capacity = capacity;
  }
  file->parts[file->part_count++] = *part;
  file->size = part->end;
  return 0;
}

int live_file_add(LiveFile *file, int store, unsigned long number) {
  struct stat status;
  LivePart part = {.start = page_up(file->size), .fd = store};
  int r = fstat(store, &status) < 0 ? -errno : 0;
  if (r == 0 && file->store_count == LIVE_STORES_MAX) r = -ENOSPC;
  if (r == 0) {
    part.end = part.start + (uint64_t)status.st_size;
    r = add_part(file, &part);
  }
  if (r < 0) {
    close(store);
    return r;
  }
  file->stores[file->store_count].place = (LiveStore){part.start, part.end};
  file->stores[file->store_count++].number = number;
  return 0;
}

int live_file_begin(LiveFile *file, int translator) {
  *file = (LiveFile){0};
  return live_file_add(file, translator, 0);
}

// The first part that ends behind `offset`.
static size_t first_behind(const LiveFile *file, uint64_t offset) {
  size_t low = 0, high = file->part_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (file->parts[middle].end <= offset)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void live_file_drop(LiveFile *file, unsigned long number, uint64_t now) {
  size_t kept = 0;
  for (size_t i = 0; i < file->store_count; i++) {
    const LiveStore *place = &file->stores[i].place;
    if (number != 0 && file->stores[i].number == number) {
      file->dropped += place->end - place->start;
      file->parts[first_behind(file, place->start)].dropped_at = now;
    } else {
      file->stores[kept++] = file->stores[i];
    }
  }
  file->store_count = kept;
}

static bool names(const LiveIndex *index, uint64_t start) {
  for (uint64_t i = 0; i < index->count; i++)
    if (index->stores[i].start == start) return true;
  return false;
}

// Whether a mapping that ends there needs the part.
static bool needs(const LiveFile *file, uint64_t end, const LivePart *part) {
  if (end <= part->start) return false;
  const LivePart *last = &file->parts[first_behind(file, end - 1)];
  return end > file->size || last->end != end || !last->page || names(last->page, part->start);
}

size_t live_file_unused(const LiveFile *file, uint64_t then, const uint64_t *ends, size_t count, uint64_t *ret_starts,
                        size_t max) {
  size_t unused = 0;
  for (size_t i = 0; i < file->part_count && unused < max; i++) {
    const LivePart *part = &file->parts[i];
    bool needed = !part->dropped_at || part->dropped_at >= then || part->fd < 0;
    for (size_t k = 0; k < count && !needed; k++) needed = needs(file, ends[k], part);
    if (!needed) ret_starts[unused++] = part->start;
  }
  return unused;
}

void live_file_release(LiveFile *file, uint64_t start) {
  size_t i = first_behind(file, start);
  LivePart *part = i < file->part_count ? &file->parts[i] : NULL;
  if (!part || part->start != start || !part->dropped_at || part->fd < 0) return;
  close(part->fd);
  part->fd = -1;
  file->dropped -= part->end - part->start;
}

int live_file_seal(LiveFile *file) {
  LivePart part = {.start = page_up(file->size), .fd = -1, .page = calloc(1, sizeof *part.page)};
  if (!part.page) return -ENOMEM;
  part.page->magic = LIVE_MAGIC;
  for (size_t i = file->store_count; i > 0; i--) part.page->stores[part.page->count++] = file->stores[i - 1].place;
  part.end = part.start + sizeof *part.page;
  int r = add_part(file, &part);
  if (r < 0) free(part.page);
  return r;
}

// The translator's share is cached where the file is that is read here: once is enough.
static ssize_t read_part(const LivePart *part, void *buffer, size_t size, uint64_t offset) {
  if (part->page) return memcpy(buffer, (const char *)part->page + offset, size), (ssize_t)size;
  if (part->fd < 0) return (ssize_t)size; // let go of: the buffer has zeros
  ssize_t got = pread(part->fd, buffer, size, (off_t)offset);
  if (got > 0) posix_fadvise(part->fd, (off_t)offset, (off_t)got, POSIX_FADV_DONTNEED);
  return got < 0 ? -errno : got;
}

ssize_t live_file_read(const LiveFile *file, void *buffer, size_t size, uint64_t offset) {
  if (offset >= file->size) return 0;
  if (size > file->size - offset) size = (size_t)(file->size - offset);
  memset(buffer, 0, size);
  size_t done = 0;
  for (size_t i = first_behind(file, offset); i < file->part_count && done < size; i++) {
    const LivePart *part = &file->parts[i];
    uint64_t at = offset + done;
    if (at < part->start) done = part->start - offset < size ? (size_t)(part->start - offset) : size;
    for (at = offset + done; done < size && at < part->end; at = offset + done) {
      size_t step = part->end - at < size - done ? (size_t)(part->end - at) : size - done;
      ssize_t got = read_part(part, (char *)buffer + done, step, at - part->start);
      if (got == -EINTR) continue;
      if (got <= 0) return done ? (ssize_t)done : got < 0 ? got : -EIO;
      done += (size_t)got;
    }
  }
  return (ssize_t)done;
}

void live_file_free(LiveFile *file) {
  for (size_t i = 0; i < file->part_count; i++) {
    if (file->parts[i].fd >= 0) close(file->parts[i].fd);
    free(file->parts[i].page);
  }
  free(file->parts);
  *file = (LiveFile){0};
}
