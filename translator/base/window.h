/* The page allocator's lock, for alloc.c around fork. */
#ifndef STELE_BASE_WINDOW_H
#define STELE_BASE_WINDOW_H

void base_window_lock(void);
void base_window_unlock(void);

#endif
