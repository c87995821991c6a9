// What container engines of the root find prepared. Of a process in the userspace's root, before its init runs.
//
// Storage: engines keep images in overlays of their own, whose upper layers cannot be on an overlay. Where the root is
// one, they get a file system of guest memory, which is where the root's changes are, too. What a root brings along
// stays.
//
// Settings: podman gives every container a seccomp profile, whether the kernel has seccomp or not, and none is
// had while the translator cannot translate filters (docker looks first). So podman is told that containers
// are "unconfined", unless the root's administrator has said something about it. The setting is a file of the
// userspace's /run, bound over an empty one, so that of a root which is written to nothing stays behind but that.
#pragma once

#include "config.h"

// 0, or a negative errno: podman's setting could not be put in its place.
int containers_prepare(const Config *config);
