// The translator's directory as a disk: for machines of a steled that is not root's, where libvirt shares directories
// with guests for root alone (before 10.0). An erofs image of it is made once, below steled's state, and again when the
// translator has changed. Functions may be called from any thread and may block.
#pragma once

#include "host.h"
#include "hypervisor.h"

// Whether machines have it so.
gboolean translator_disk_is_used(const HostPaths *paths, const HypervisorFeatures *features);

// Where the image of a translator's directory is, as the directory is now, once translator_disk_make() has made it.
char *translator_disk_dup_path(const HostPaths *paths, const char *directory);

// Makes it unless it is there, and removes those of the directory's former contents; machines that run keep theirs.
// ImageTool's errors, STELE_ERROR_STORAGE.
gboolean translator_disk_make(const HostPaths *paths, const char *directory, GError **error);
