// The mounts the agent makes: a table for its own initramfs, one for the x86-64 root, and the record of
// all of them for the host's `stele-mounts`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "buffer.h"
#include "config.h"

// Where the root is put together before the userspace moves into it.
#define NEW_ROOT "/newroot"

// Mounts what the agent itself needs. A fatal row's failure returns its errno, `*ret_where` the row's
// mount point.
int mounts_early(const char **ret_where);

// Mounts what an x86-64 userspace expects below NEW_ROOT; runs in the userspace's own namespaces.
int mounts_userspace(InitKind init, const char **ret_where);

// Records what mounts_userspace() mounted; for the agent, which did not do it itself.
void mounts_note_userspace(InitKind init);

// mount(2), recorded. Creates the mount point where it can.
int mounts_add(const char *source, const char *target, const char *type, unsigned long flags,
               const char *options);

// Appends the record as the JSON array of `stele-mounts`. Mount points are named as the userspace sees
// them.
void mounts_describe(Buffer *buffer);
