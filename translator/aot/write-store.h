/* Writing a store (image/image.h). */
#ifndef STELE_AOT_WRITE_STORE_H
#define STELE_AOT_WRITE_STORE_H

#include "image/image.h"

typedef struct StoreWriter StoreWriter;

/* Begins a store that will be the file `path`, behind a copy of the file `front` (without a store it may have) unless that
 * is NULL. What is at `path` stays until writer_finish(). NULL with errno on failure. */
StoreWriter *writer_begin(const char *path, const char *front);

/* Adds the copy of a file's code for images that follow; its number is in *ret_copy. Thread-safe. False with errno on failure. */
bool writer_add_copy(StoreWriter *writer, const void *bytes, uint64_t size, size_t *ret_copy);

/* Adds an image that compares with copy number `copy`; thread-safe. Of several of one file and target the one of the smallest
 * `content` counts. False with errno on failure. */
bool writer_add(StoreWriter *writer, const ImageEntry *name, uint64_t content, size_t copy, const void *image);

/* Completes the file and puts it in its place. The same images make the same bytes, in whatever order they came. False
 * with errno on failure. Frees the writer. */
bool writer_finish(StoreWriter *writer);

/* Leaves everything as it was. Frees the writer. */
void writer_abandon(StoreWriter *writer);

#endif
