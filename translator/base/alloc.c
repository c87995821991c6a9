/* base_alloc(): size classes of powers of two (and the steps half-way between), each with a free list,
 * carved from chunks of pages; larger blocks are pages of their own. Every block is preceded by a header of 16 bytes
 * that says how to free it. One lock: allocation is rare in the translator's steady state. */
#include <string.h>

#include "base/base.h"
#include "base/window.h"

enum {
  CHUNK_SIZE = 256 * 1024,
  CLASS_COUNT = 24,          /* 32, 48, 64, 96, … */
  LARGEST_CLASS = 96 * 1024
};

typedef struct Header {
  uint64_t size;  /* of the block with its header */
  uint64_t class; /* CLASS_COUNT: pages of its own */
} Header;

typedef struct FreeBlock {
  Header header;
  struct FreeBlock *next;
} FreeBlock;

static BaseLock lock = {.rank = BASE_RANK_ALLOCATOR};
static FreeBlock *free_lists[CLASS_COUNT];
static char *chunk_at;
static size_t chunk_left;

static size_t class_size(unsigned class) { return (class & 1 ? (size_t)48 : 32) << (class / 2); }

static unsigned class_of(size_t size) {
  unsigned class = 0;
  while (class_size(class) < size) class++;
  return class;
}

/* Whoever is here may be killed at any instruction (BaseLock): bytes may be lost then, and none is given out twice. */
static Header *carve(unsigned class) {
  size_t size = class_size(class);
  if (chunk_left < size) {
    char *chunk = base_pages_alloc(CHUNK_SIZE);
    if (!chunk) return NULL;
    __atomic_store_n(&chunk_left, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&chunk_at, chunk, __ATOMIC_RELEASE);
    __atomic_store_n(&chunk_left, CHUNK_SIZE, __ATOMIC_RELEASE);
  }
  Header *block = (Header *)chunk_at;
  __atomic_store_n(&chunk_left, chunk_left - size, __ATOMIC_RELEASE);
  __atomic_store_n(&chunk_at, chunk_at + size, __ATOMIC_RELEASE);
  return block;
}

static void *alloc_class(unsigned class) {
  base_lock(&lock);
  Header *block = (Header *)free_lists[class];
  if (block) free_lists[class] = free_lists[class]->next;
  else block = carve(class);
  base_unlock(&lock);
  if (!block) return NULL;
  *block = (Header){class_size(class), class};
  return memset(block + 1, 0, class_size(class) - sizeof *block);
}

void *base_alloc(size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size += sizeof(Header);
  if (size <= LARGEST_CLASS) return alloc_class(class_of(size));
  Header *block = base_pages_alloc(size);
  if (!block) return NULL;
  *block = (Header){size, CLASS_COUNT};
  return block + 1;
}

void base_free(void *memory) {
  if (!memory) return;
  Header *block = (Header *)memory - 1;
  if (block->class == CLASS_COUNT) {
    base_pages_free(block, block->size);
    return;
  }
  FreeBlock *freed = (FreeBlock *)block;
  base_lock(&lock);
  freed->next = free_lists[block->class];
  free_lists[block->class] = freed;
  base_unlock(&lock);
}

void base_before_fork(void) {
  base_lock(&lock);
  base_window_lock();
}

void base_after_fork(void) {
  base_window_unlock();
  base_unlock(&lock);
}
