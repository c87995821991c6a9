// See pump.h. One buffer a direction; a direction reads only while its buffer is empty, so a slow
// reader stops a quick writer instead of filling memory.
#include "pump.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_SIZE 65536
#define TURN_ROUNDS 8 // in one turn of the loop: neither side can keep it from others

typedef struct Buffer {
  gsize start, end;
  guint8 bytes[BUFFER_SIZE];
} Buffer;

typedef struct Pump {
  ByteChannel *channel;
  int fd;
  guint watch;
  gboolean ended;
  Buffer to_fd, to_channel;
} Pump;

static void pump_run(Pump *pump);

static gssize fd_result(gssize n) {
  return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
}

// Moves what it can; TRUE when something moved.
static gboolean fill(Pump *pump, Buffer *buffer, gboolean from_channel) {
  if (buffer->start < buffer->end) return FALSE;
  gssize n = from_channel ? pump->channel->class->read(pump->channel, buffer->bytes, BUFFER_SIZE)
                          : fd_result(read(pump->fd, buffer->bytes, BUFFER_SIZE));
  if (n == 0 || (n < 0 && n != -EAGAIN)) pump->ended = TRUE;
  buffer->start = 0;
  buffer->end = n > 0 ? (gsize)n : 0;
  return n > 0;
}

static gboolean empty(Pump *pump, Buffer *buffer, gboolean to_channel) {
  gsize size = buffer->end - buffer->start;
  if (size == 0) return FALSE;
  guint8 *bytes = buffer->bytes + buffer->start;
  gssize n =
      to_channel ? pump->channel->class->write(pump->channel, bytes, size) : fd_result(write(pump->fd, bytes, size));
  if (n < 0 && n != -EAGAIN) pump->ended = TRUE;
  if (n > 0) buffer->start += (gsize)n;
  return n > 0;
}

static gboolean on_fd(gint fd, GIOCondition condition, gpointer user_data) {
  Pump *pump = user_data;
  pump->watch = 0;
  pump_run(pump);
  return G_SOURCE_REMOVE;
}

static void on_channel(ByteChannel *channel, GIOCondition ready, gpointer user_data) {
  pump_run(user_data);
}

static void pump_free(Pump *pump) {
  if (pump->watch) g_source_remove(pump->watch);
  byte_channel_close(pump->channel);
  close(pump->fd);
  g_free(pump);
}

static void pump_watch(Pump *pump) {
  gboolean fd_full = pump->to_fd.start < pump->to_fd.end, channel_full = pump->to_channel.start < pump->to_channel.end;
  if (pump->watch) g_source_remove(pump->watch);
  pump->watch =
      g_unix_fd_add(pump->fd, (channel_full ? 0 : G_IO_IN) | (fd_full ? G_IO_OUT : 0) | G_IO_HUP, on_fd, pump);
  GIOCondition conditions = (fd_full ? 0 : G_IO_IN) | (channel_full ? G_IO_OUT : 0);
  pump->channel->class->watch(pump->channel, conditions, on_channel, pump);
}

static void pump_run(Pump *pump) {
  gboolean moved = TRUE;
  for (int i = 0; i < TURN_ROUNDS && moved && !pump->ended; i++) {
    moved = fill(pump, &pump->to_fd, TRUE);
    moved |= empty(pump, &pump->to_fd, FALSE);
    moved |= fill(pump, &pump->to_channel, FALSE);
    moved |= empty(pump, &pump->to_channel, TRUE);
  }
  if (pump->ended)
    pump_free(pump);
  else
    pump_watch(pump);
}

void pump_start(ByteChannel *channel, int fd) {
  Pump *pump = g_new0(Pump, 1);
  pump->channel = channel;
  pump->fd = fd;
  pump_run(pump);
}
