// Opening files of a root that is not the process's own, without leaving it.
#pragma once

// As openat(2) of `path` below the directory `root`, with O_CLOEXEC: absolute names and links, and "..", stay in the
// root; links of /proc are not followed. Returns a descriptor, or -1 with errno.
int open_inside(int root, const char *path, int flags);
