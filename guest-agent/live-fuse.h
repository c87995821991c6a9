// A file system of one file, LIVE_NAME, served through /dev/fuse (Linux, include/uapi/linux/fuse.h): the file is a
// LiveFile, read by whoever may, and its LIVE_HINT is handed on. Processes of all namespaces come here, so a request is
// answered whatever else the server has to do, but for hints.
#pragma once

#include <stdbool.h>
#include "live-file.h"

#define LIVE_NAME "stele"

typedef struct LiveServer LiveServer;

// A process, by its number among the mounter's, asks for translations. `request` is to be answered by
// live_server_answer(), now or later.
typedef void (*LiveHintHandler)(void *context, uint64_t request, pid_t process, const LiveHint *hint);

// Mounts it at a directory. NULL with errno.
LiveServer *live_server_new(const char *directory, LiveFile *file, LiveHintHandler on_hint, void *context);

// What to wait for with poll(2), to be readable.
int live_server_fd(const LiveServer *server);

// Serves one request. False when the file system has been unmounted.
bool live_server_run_once(LiveServer *server);

void live_server_answer(LiveServer *server, uint64_t request);

// The file has grown.
void live_server_grown(LiveServer *server);

void live_server_free(LiveServer *server);
