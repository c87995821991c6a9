/* Translations made before (image/image.h): where they are found, and for which files. */
#ifndef STELE_LINUX_STORE_H
#define STELE_LINUX_STORE_H

#include <stdint.h>

#include "linux/host-stat.h"

/* Finds the store at the end of the file `path`, or where that is NULL of the translator's own. Where there is none, or it
 * is not to be trusted or of another build, everything is translated as it is executed. Once, before the program is loaded. */
void linux_store_open(const char *path);

/* The name by which the kernel lists a store that is not in the translator's own file; "" where there is none. */
const char *linux_store_name(void);

/* The file has been mapped executable at [start, start + length) from `offset` on. The mappings' lock is held. */
void linux_store_mapped(int fd, const HostStat *status, uint64_t start, uint64_t length, uint64_t offset);

#endif
