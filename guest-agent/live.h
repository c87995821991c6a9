// Translations made in this machine. A process of its own, the keeper, gives out the translator's file in the place of
// the share's (live-fuse.h) and has translated what processes run that nobody has translated yet (translations.h).
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "config.h"

// Starts the keeper, and puts its file at the place of the share's. Of a machine whose share has no stele-aot, or whose
// kernel no FUSE, everything stays as it is: 0. After the root has been mounted, before the translator is registered.
int live_start(const Config *config, char *message, size_t message_size);

// Whether the process was the keeper. Then the share's file is back in its place, and is to be registered again.
bool live_reaped(pid_t pid);

// Ends it, before file systems are unmounted.
void live_stop(void);
