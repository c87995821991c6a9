// Loads the initramfs' kernel modules, in the order of modules.txt (which is packed beside them).
#pragma once

#include <stddef.h>
#include "config.h"

// Loads the modules the userspace of this configuration needs. Returns 0, or the first negative errno of
// a module that is not optional, its name in `ret_name`. Modules that are built in or loaded already are
// fine.
int modules_load(const Config *config, char *ret_name, size_t name_size);

// Loads those that can come when the userspace runs; nothing fails without them.
void modules_load_later(void);
