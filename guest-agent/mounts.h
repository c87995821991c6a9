// The mounts the agent makes: a table for its own initramfs, one for the x86-64 root.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "config.h"

// Where the root is put together before the userspace moves into it.
#define NEW_ROOT "/newroot"

// Mounts what the agent itself needs. A fatal row's failure returns its errno, `*ret_where` the row's
// mount point.
int mounts_early(const char **ret_where);

// Mounts what an x86-64 userspace expects below NEW_ROOT; runs in the userspace's own namespaces.
int mounts_userspace(InitKind init, const char **ret_where);

// mount(2). Creates the mount point where it can.
int mounts_add(const char *source, const char *target, const char *type, unsigned long flags, const char *options);
