// Makes the kernel run x86-64 programs: mounts the translator's share and registers it with
// binfmt_misc.
#pragma once

#include <stddef.h>
#include "config.h"

// Mounts the share with the configured tag, or the configured disk, read-only, at STELE_SHARE_MOUNT_POINT, and checks
// that the translator in it can be what the kernel is to run. Returns 0, or a negative errno with a sentence for the
// console in `message`.
int translator_mount(const Config *config, char *message, size_t message_size);

// Registers x86-64 ELF files with the kernel, flags POCF. What was registered before no longer is.
int translator_register(char *message, size_t message_size);
