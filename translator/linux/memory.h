/* The rest of the memory calls' interface: what loading a program needs beside linux_map(). */
#ifndef STELE_LINUX_MEMORY_H
#define STELE_LINUX_MEMORY_H

#include <stdint.h>

/* Maps the first thread's stack at exactly `low`; -EEXIST when something is there. */
int64_t linux_map_stack(uint64_t low, uint64_t length, int protection);

#endif
