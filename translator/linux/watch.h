/* Changes of mapped files and of memory through descriptors (watch.c). */
#ifndef STELE_LINUX_WATCH_H
#define STELE_LINUX_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/* `fd` has just been opened with x86-64's `flags`. */
void linux_watch_opened(int64_t fd, uint64_t flags);

/* Whether all that changes the object, a memfd, goes through this process: then it is noticed. */
bool linux_watch_is_own(uint64_t object);

/* Whether this process has the file open for writing. */
bool linux_watch_may_write(uint64_t object);

/* Other processes are going to have the descriptors too. */
void linux_watch_forget(void);

#endif
