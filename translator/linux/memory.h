/* The rest of the memory calls' interface: what loading a program needs beside linux_map(). */
#ifndef STELE_LINUX_MEMORY_H
#define STELE_LINUX_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "linux/host-stat.h"

/* Maps the first thread's stack at exactly `low`; -EEXIST when something is there. */
int64_t linux_map_stack(uint64_t low, uint64_t length, int protection);

/* A number for a file, by which the map of memory knows what is mapped (MemoryRange.object). */
uint64_t linux_memory_object(const HostStat *status);

/* Whether there is a mapping of it. */
bool linux_memory_is_mapped(uint64_t object);

/* The contents of memory, or of all that is mapped of an object, were changed otherwise than by the guest's stores. */
void linux_memory_changed(uint64_t start, uint64_t end);
void linux_memory_object_changed(uint64_t object);

/* From now on the object's mappings, or all shared ones, may be changed by others: code there is checked whenever it is
 * entered. */
void linux_memory_unwatch(uint64_t object);
void linux_memory_share(void);

#endif
