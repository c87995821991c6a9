/* Images of a store that was made before, of files that are what they were. */
#ifndef STELE_AOT_REUSE_H
#define STELE_AOT_REUSE_H

#include "aot/program.h"

/* Maps the store in the file, which nobody may shorten meanwhile. False where it has none, or another build's. For good. */
bool reuse_open(const char *path, ImageStore *ret_store);

/* The image that was made of this very file for the target, whole; NULL where there is none. */
const uint8_t *reuse_find(const ImageStore *store, const Program *program, ImageTarget target, uint64_t *ret_size);

/* Whether all records of an image are as they were written. */
bool reuse_is_whole(const CodeImage *image);

#endif
