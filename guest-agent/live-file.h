// The translator's file that grows (common/live-translator.h), put together from files: which bytes of it are where. It
// knows neither who reads it nor who makes the stores.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "live-translator.h"

typedef struct LivePart LivePart;

typedef struct LiveFile {
  uint64_t size;
  LivePart *parts; // ascending; between them are zeros
  size_t part_count, part_capacity;
  struct {
    LiveStore place;
    unsigned long number;
  } stores[LIVE_STORES_MAX]; // the oldest first
  size_t store_count;
  uint64_t dropped; // bytes of stores that the index no longer names
} LiveFile;

// Begins with the translator's own file, which may have a store. 0, or a negative errno. The descriptor is the file's
// from here on.
int live_file_begin(LiveFile *file, int translator);

// Puts the file `store` behind the rest, under a number by which it can be dropped. The descriptor is the file's from
// here on. -ENOSPC: there are LIVE_STORES_MAX.
int live_file_add(LiveFile *file, int store, unsigned long number);

// From the next index on it is not named any more; who has it mapped keeps it. `now` is any clock's time.
void live_file_drop(LiveFile *file, unsigned long number, uint64_t now);

// Stores that were dropped before `then` and that no index names that is still mapped: where they begin, at most `max`.
// `ends` are where mappings of the file end; one that is no index's may be of anything before it.
size_t live_file_unused(const LiveFile *file, uint64_t then, const uint64_t *ends, size_t count, uint64_t *ret_starts,
                        size_t max);

// Lets go of such a store: there are zeros then.
void live_file_release(LiveFile *file, uint64_t start);

// Ends the file with an index of what there is now.
int live_file_seal(LiveFile *file);

// As pread(2), but that it reads all there is. What cannot be read is an error only if nothing comes before it.
ssize_t live_file_read(const LiveFile *file, void *buffer, size_t size, uint64_t offset);

void live_file_free(LiveFile *file);
