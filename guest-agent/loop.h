// The agent's event loop: file descriptors and one clock, over epoll. One event is taken at a time, so
// that a handler may free any source without leaving a stale event behind.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Source {
  int fd;
  void (*ready)(struct Source *source, uint32_t events); // EPOLL* events
  bool watched;
} Source;

// Opens the loop. Returns 0 or a negative errno.
int loop_open(void);

// Watches source->fd for `events` (also to change them). Returns 0 or a negative errno.
int loop_watch(Source *source, uint32_t events);

// Stops watching; harmless on a source that is not watched.
void loop_unwatch(Source *source);

// Waits at most `timeout_ms` (-1: for ever) for one event and handles it.
void loop_run_once(int timeout_ms);
