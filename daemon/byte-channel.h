// A non-blocking, two-way stream of bytes on the main loop. hypervisor.c makes them from libvirt
// streams, tests from sockets; agent-link.c and console.c use them without knowing which.
#pragma once

#include <glib.h>

typedef struct ByteChannel ByteChannel;

// `ready` holds what became possible: G_IO_IN, G_IO_OUT; G_IO_HUP or G_IO_ERR when the other side
// has gone.
typedef void (*ByteChannelReady)(ByteChannel *channel, GIOCondition ready, gpointer user_data);

typedef struct ByteChannelClass {
  // Bytes read; 0 at the end; -EAGAIN when there are none now; another negative errno.
  gssize (*read)(ByteChannel *channel, void *bytes, gsize size);
  // Bytes taken, -EAGAIN, or another negative errno.
  gssize (*write)(ByteChannel *channel, const void *bytes, gsize size);
  // Calls `ready` while one of `conditions` holds (level triggered); 0 conditions: only about the
  // end.
  void (*watch)(ByteChannel *channel, GIOCondition conditions, ByteChannelReady ready, gpointer user_data);
  // Ends it; `ready` is not called any more.
  void (*close)(ByteChannel *channel);
} ByteChannelClass;

struct ByteChannel {
  const ByteChannelClass *class;
};

static inline void byte_channel_close(ByteChannel *channel) {
  if (channel) channel->class->close(channel);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ByteChannel, byte_channel_close)
