/* The guest's view of its address space: which pages are mapped and with what protection the guest
 * asked for. The host's protection may differ (execute is never given; write may be withheld to notice
 * self-modifying code). Kept by the Linux layer's memory system calls, read by the translator before it
 * fetches instructions. Thread-safe; readers may be in the handler of a synchronous fault. */
#ifndef STELE_GUEST_MEMORY_MAP_H
#define STELE_GUEST_MEMORY_MAP_H

#include <stdbool.h>
#include <stdint.h>

enum {
  MEMORY_READ = 1, /* as PROT_READ, PROT_WRITE, PROT_EXEC */
  MEMORY_WRITE = 2,
  MEMORY_EXEC = 4,
  MEMORY_SHARED = 8, /* MAP_SHARED: another mapping or process may change it unseen */
  MEMORY_STACK = 16, /* the first thread's stack */
  MEMORY_BRK = 32,   /* the break's heap */
  MEMORY_SEALED = 64, /* mseal(): the mapping may not be changed */
  MEMORY_UNWATCHED = 128, /* others may change its contents without anybody here noticing */
  MEMORY_GROWS = 256, /* MAP_GROWSDOWN, the first stack: the kernel may have extended it below its start, unseen */
  MEMORY_DONTFORK = 512,    /* MADV_DONTFORK: a forked child has nothing there */
  MEMORY_WIPEONFORK = 1024, /* MADV_WIPEONFORK: a forked child has zeros there */
  MEMORY_CONSTANT = 2048    /* code has been made that takes its contents for constant: calls that change them tell */
};

#define MEMORY_PROTECTION (MEMORY_READ | MEMORY_WRITE | MEMORY_EXEC)

#define MEMORY_PAGE_SIZE UINT64_C(4096)
#define MEMORY_GUARD_GAP (256 * MEMORY_PAGE_SIZE) /* below what grows nothing is placed: stack_guard_gap of Linux */
#define MEMORY_GUEST_END (UINT64_C(1) << 47) /* guest mappings stay below */

typedef struct MemoryRange {
  uint64_t start, end; /* page-aligned, end exclusive */
  uint32_t flags;      /* MEMORY_* */
  uint64_t object;     /* what is mapped, a number for each file, segment, …; 0: private memory without a file */
  uint64_t offset;     /* of `start` in the object */
} MemoryRange;

/* The protection (MEMORY_* bits) of the page at `address`, and in *ret_end the first address after it
 * where protection changes. Negative (-EFAULT) when not mapped. */
int memory_map_query(uint64_t address, uint64_t *ret_end);

/* The first range that ends above `address`; false when there is none. */
bool memory_map_next(uint64_t address, MemoryRange *ret_range);

/* All MEMORY_* bits that occur anywhere in [start, end). */
uint32_t memory_map_any(uint64_t start, uint64_t end);

/* True when every page of [start, end) is mapped. */
bool memory_map_covers(uint64_t start, uint64_t end);

/* True when any page of [start, end) is mapped. */
bool memory_map_overlaps(uint64_t start, uint64_t end);

/* [start, end) is now mapped with `flags`, whatever was there. */
void memory_map_set(uint64_t start, uint64_t end, uint32_t flags);

/* The same for a mapping of `object` from `offset` on. */
void memory_map_set_object(uint64_t start, uint64_t end, uint32_t flags, uint64_t object, uint64_t offset);

/* Another address above `after` where a shared mapping shows the page behind the mapped page `address`; 0: none. Start
 * with after = 0. */
uint64_t memory_map_next_alias(uint64_t address, uint64_t after);

/* The first range that ends above `address`, shows `object` and has one of `flags`. */
bool memory_map_next_view(uint64_t object, uint32_t flags, uint64_t address, MemoryRange *ret_range);

/* Every mapped page of [start, end): flags = (flags & ~clear) | set. */
void memory_map_change(uint64_t start, uint64_t end, uint32_t clear, uint32_t set);

/* [start, end) is not mapped any more. */
void memory_map_clear(uint64_t start, uint64_t end);

/* The highest free address range of `length` bytes, aligned to `alignment` (a power of two, at least a page),
 * that lies within [low, high). 0 when there is none. */
uint64_t memory_map_find_gap(uint64_t length, uint64_t alignment, uint64_t low, uint64_t high);

/* Around a fork that copies memory: the child must not inherit a lock held by a thread it lacks. */
void memory_map_before_fork(void);
void memory_map_after_fork(void);

#endif
