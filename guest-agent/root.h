// Puts the x86-64 root together at NEW_ROOT (mounts.h) from a virtiofs directory or a disk image, as an
// overlay, read-write or read-only.
#pragma once

#include <stddef.h>
#include "config.h"

// Where the overlay's writable layer is mounted: guest memory, or the disk for changes.
#define ROOT_LAYERS "/run/root-layers"

// Mounts the root. Returns 0, or a negative errno with a sentence for the console in `message`: what
// failed, and what to do.
int root_mount(const Config *config, char *message, size_t message_size);

// Where the init stands inside the root, symbolic links followed within it; -ENOENT if nowhere.
int root_resolve(const char *path, char *ret_path, size_t size);
