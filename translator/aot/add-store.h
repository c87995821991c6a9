/* Stores put together. */
#ifndef STELE_AOT_ADD_STORE_H
#define STELE_AOT_ADD_STORE_H

#include "aot/write-store.h"

/* Adds all images of the store in the file that are whole, if it has one and that is this build's. Of several of one file and
 * target the one of the smallest `rank` counts. False with errno when the file cannot be read, or the writer fails. */
bool add_store(StoreWriter *writer, const char *path, uint64_t rank);

#endif
