/* STELE_PERF_MAP: names for translated code, for perf(1) on the host or in the machine. */
#ifndef STELE_LINUX_PERF_MAP_H
#define STELE_LINUX_PERF_MAP_H

#include <stdint.h>

/* From now on what is mapped executable is noted: once, before the program is loaded. linux_perf_code() is for the runtime. */
void linux_perf_map_begin(void);

/* The file has been mapped executable at [start, start + length) from `offset` on. The mappings' lock is held. */
void linux_perf_mapped(int fd, uint64_t start, uint64_t length, uint64_t offset);

#endif
