// A virtio-serial port: found by its name, read and written without blocking, with a queue for output.
//
// A port without a host peer is always "hung up" to poll(2), so ports are watched edge-triggered: the
// kernel wakes us when the host comes and goes, and nothing spins in between.
#pragma once

#include "buffer.h"
#include "loop.h"

enum { PORT_QUEUE_MAX = 8 << 20 };

typedef struct Port {
  Source source; // first: a Source is cast back to its Port
  const char *name;
  bool connected;
  Buffer out;
  // Input has arrived in bytes.
  void (*receive)(struct Port *port, const uint8_t *bytes, size_t size);
  // The host came or went; on going, queued output was dropped.
  void (*peer_changed)(struct Port *port);
  // Queued output has become less; may be NULL.
  void (*drained)(struct Port *port);
} Port;

// Finds and opens the port by its name and watches it. Returns 0; -ENOENT: there is no such port (yet).
int port_open(Port *port);

// Queues bytes. What does not fit the queue's bound drops the whole queue (the other end is not reading)
// and is -E2BIG; without a host the bytes are dropped.
int port_queue(Port *port, const void *bytes, size_t size);

// Sends of the queue what the host takes now; the rest follows by itself.
void port_flush(Port *port);
