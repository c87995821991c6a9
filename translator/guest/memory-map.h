/* The guest's view of its address space: which pages are mapped and with what protection the guest
 * asked for. The host's protection may differ (execute is never given; write may be withheld to notice
 * self-modifying code). Kept by the Linux layer's memory system calls, read by the translator before it
 * fetches instructions. Thread-safe; readers may be in a signal handler. */
#ifndef STELE_GUEST_MEMORY_MAP_H
#define STELE_GUEST_MEMORY_MAP_H

#include <stdbool.h>
#include <stdint.h>

enum {
  MEMORY_READ = 1, /* as PROT_READ, PROT_WRITE, PROT_EXEC */
  MEMORY_WRITE = 2,
  MEMORY_EXEC = 4,
  MEMORY_SHARED = 8 /* MAP_SHARED: another mapping or process may change it unseen */
};

#define MEMORY_PAGE_SIZE UINT64_C(4096)
#define MEMORY_GUEST_END (UINT64_C(1) << 47) /* guest mappings stay below */

/* The protection (MEMORY_* bits) of the page at `address`, and in *ret_end the first address after it
 * where protection changes. Negative (-EFAULT) when not mapped. */
int memory_map_query(uint64_t address, uint64_t *ret_end);

#endif
