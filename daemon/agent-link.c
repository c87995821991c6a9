// The host's end of the stream channel. Three layers, top to bottom: the link (one channel, one
// session at a time, a queue of bytes to the guest), its streams (one program each), and a stream's
// outlets and inlet (a file descriptor towards the client, and the credit that bounds what is
// between it and the guest). See agent-link.h.
#include "agent-link.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent-message.h"
#include "errors.h"
#include "stream-frame.h"

#define HELLO_SIZE  (STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE + 4)
#define HELLO_MATCH (STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE)

// The guest decides how fast it reads and how much it sends; these bound what that can do to us.
#define QUEUE_HIGH  (4 * STELE_FRAME_SIZE_MAX)  // queued bytes beyond which no more stdin is read
#define QUEUE_MAX   (64 * STELE_FRAME_SIZE_MAX) // and beyond which the link is broken
#define CREDIT_MIN  (STELE_STREAM_WINDOW / 4)   // given back in pieces no smaller
#define WAITING_MAX 4096                        // programs that wait for a place
#define TURN_COST   512                         // of work in one turn of the loop, a frame being at least 1
#define COST_OF(n)  (1 + (n) / 1024)            // of a frame or a read of n bytes

// Output of the guest's program on its way to the client.
typedef struct Outlet {
  int fd; // -1: the client reads no more, or there is no such channel
  guint watch;
  GByteArray *pending;
  gsize passed;   // of pending
  guint32 window; // credit the guest still has
  guint32 owed;   // bytes passed on and not yet given back
  gboolean present, eof;
} Outlet;

// Input of the client on its way to the guest's program.
typedef struct Inlet {
  int fd;
  guint watch;
  guint32 credit;
} Inlet;

struct AgentStream {
  int references;
  AgentLink *link; // NULL once the guest knows it no more
  guint32 id;      // 0: waits for a place, with `request` to be sent then
  char *request;
  gboolean tty, opened, exited, finished, closed;
  int near_ends[3];
  Inlet inlet;
  Outlet outlets[2]; // of channels 1 and 2
  GError *error;
  gboolean signalled;
  guint value;
  const AgentStreamHandlers *handlers;
  gpointer user_data;
};

struct AgentLink {
  ByteChannel *channel;
  const AgentLinkHandlers *handlers;
  gpointer user_data;
  gboolean open;            // HELLO was answered
  guint8 hello[HELLO_SIZE]; // what the answer must start with
  GByteArray *sought;       // tail of what was searched for it
  SteleFrameParser parser;
  GByteArray *queue;   // to the guest
  gsize sent;          // of queue
  GHashTable *streams; // id -> AgentStream
  GQueue waiting;      // AgentStreams
  guint32 next_id;
  GHashTable *commands;               // id -> AgentCommand
  char *broken;                       // why it is of no use
  guint report, resume, more, places; // idle sources
};

// A command the guest has not answered yet.
typedef struct AgentCommand {
  AgentLink *link;
  guint32 id;
  guint timeout;
  AgentCommandDone done;
  gpointer user_data;
} AgentCommand;

static void link_flush(AgentLink *link);
static void link_break(AgentLink *link, const char *why);
static void stream_pump_in(AgentStream *stream);

// --- the link: sending ---------------------------------------------------------------------------

static void link_queue(AgentLink *link, SteleFrameType type, guint32 stream, const void *payload, guint32 size) {
  guint8 header[STELE_FRAME_HEADER_SIZE];
  stele_frame_write_header(header, type, stream, size);
  g_byte_array_append(link->queue, header, sizeof header);
  if (size) g_byte_array_append(link->queue, payload, size);
}

static void link_send(AgentLink *link, SteleFrameType type, guint32 stream, const void *payload, guint32 size) {
  if (link == NULL || link->broken) return;
  link_queue(link, type, stream, payload, size);
  link_flush(link);
  if (link->queue->len > QUEUE_MAX) link_break(link, "the guest agent does not read what it is sent");
}

static void send_window(AgentStream *stream, SteleChannel channel, guint32 credit) {
  guint8 payload[8] = {(guint8)channel};
  stele_put_u32(payload + 4, credit);
  link_send(stream->link, STELE_FRAME_WINDOW, stream->id, payload, sizeof payload);
}

static void send_eof(AgentStream *stream, SteleChannel channel) {
  guint8 payload[1] = {(guint8)channel};
  link_send(stream->link, STELE_FRAME_EOF, stream->id, payload, sizeof payload);
}

// --- streams: their end --------------------------------------------------------------------------

static AgentStream *stream_ref(AgentStream *stream) {
  stream->references++;
  return stream;
}

static void close_fd(int *fd, guint *watch) {
  if (watch && *watch) g_source_remove(*watch);
  if (watch) *watch = 0;
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void stream_close_fds(AgentStream *stream) {
  close_fd(&stream->inlet.fd, &stream->inlet.watch);
  for (int i = 0; i < 2; i++) close_fd(&stream->outlets[i].fd, &stream->outlets[i].watch);
  for (int i = 0; i < 3; i++) close_fd(&stream->near_ends[i], NULL);
}

static void stream_unref(AgentStream *stream) {
  if (--stream->references > 0) return;
  stream_close_fds(stream);
  for (int i = 0; i < 2; i++) g_byte_array_unref(stream->outlets[i].pending);
  g_clear_error(&stream->error);
  g_free(stream->request);
  g_free(stream);
}

static gboolean fill_places(gpointer user_data);

// The guest knows the stream no more.
static void stream_detach(AgentStream *stream) {
  AgentLink *link = stream->link;
  stream->link = NULL;
  if (link == NULL) return;
  if (stream->id == 0)
    g_queue_remove(&link->waiting, stream);
  else
    g_hash_table_remove(link->streams, GUINT_TO_POINTER(stream->id));
  if (!g_queue_is_empty(&link->waiting) && link->places == 0)
    link->places = g_idle_add_full(G_PRIORITY_DEFAULT, fill_places, link, NULL);
}

static gboolean outlet_is_drained(const Outlet *outlet) {
  return outlet->fd < 0 || outlet->pending->len == outlet->passed;
}

// Reports the end as soon as the client has all output.
static void stream_finish(AgentStream *stream) {
  if (stream->finished || stream->closed || !stream->exited) return;
  if (!outlet_is_drained(&stream->outlets[0]) || !outlet_is_drained(&stream->outlets[1])) return;
  stream->finished = TRUE;
  stream_close_fds(stream);
  AgentStreamResult result = {.error = stream->error, .signalled = stream->signalled, .value = stream->value};
  stream->handlers->ended(stream, &result, stream->user_data);
}

static void stream_exit(AgentStream *stream, GError *error, gboolean signalled, guint value) {
  g_autoptr(GError) owned = error;
  if (stream->exited) return;
  stream_ref(stream);
  stream->exited = TRUE;
  stream->error = g_steal_pointer(&owned);
  stream->signalled = signalled;
  stream->value = value;
  stream_detach(stream);
  close_fd(&stream->inlet.fd, &stream->inlet.watch);
  stream_finish(stream);
  stream_unref(stream);
}

static void stream_hang_up(AgentStream *stream) {
  link_send(stream->link, STELE_FRAME_CLOSE, stream->id, NULL, 0);
  stream_exit(stream, g_error_new(STELE_ERROR, STELE_ERROR_GUEST_ERROR, "the terminal was hung up"), FALSE, 0);
}

// --- outlets: guest to client --------------------------------------------------------------------

static gboolean on_outlet_ready(gint fd, GIOCondition condition, gpointer user_data);

// The client reads no more: what is left is dropped, and the program gets SIGPIPE when it goes on
// writing.
static void outlet_abandon(AgentStream *stream, Outlet *outlet) {
  close_fd(&outlet->fd, &outlet->watch);
  g_byte_array_set_size(outlet->pending, 0);
  outlet->passed = 0;
  if (stream->tty)
    stream_hang_up(stream);
  else if (!outlet->eof && !stream->exited)
    send_eof(stream, (SteleChannel)(STELE_CHANNEL_STDOUT + (outlet - stream->outlets)));
}

static void outlet_give_credit(AgentStream *stream, Outlet *outlet) {
  if (outlet->owed < CREDIT_MIN || outlet->eof || stream->exited) return;
  outlet->window += outlet->owed;
  send_window(stream, (SteleChannel)(STELE_CHANNEL_STDOUT + (outlet - stream->outlets)), outlet->owed);
  outlet->owed = 0;
}

static void outlet_flush(AgentStream *stream, Outlet *outlet) {
  stream_ref(stream);
  while (outlet->fd >= 0 && outlet->passed < outlet->pending->len) {
    ssize_t n = write(outlet->fd, outlet->pending->data + outlet->passed, outlet->pending->len - outlet->passed);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) {
      outlet_abandon(stream, outlet);
      break;
    }
    outlet->passed += (gsize)n;
    outlet->owed += (guint32)n;
  }
  if (outlet->passed == outlet->pending->len) {
    g_byte_array_set_size(outlet->pending, 0);
    outlet->passed = 0;
    if (outlet->eof) close_fd(&outlet->fd, &outlet->watch);
  } else if (outlet->watch == 0) {
    outlet->watch = g_unix_fd_add(outlet->fd, G_IO_OUT | G_IO_ERR, on_outlet_ready, stream);
  }
  if (outlet->fd >= 0) outlet_give_credit(stream, outlet);
  stream_finish(stream);
  stream_unref(stream);
}

static gboolean on_outlet_ready(gint fd, GIOCondition condition, gpointer user_data) {
  AgentStream *stream = user_data;
  Outlet *outlet = &stream->outlets[fd == stream->outlets[0].fd ? 0 : 1];
  outlet->watch = 0;
  outlet_flush(stream, outlet);
  return G_SOURCE_REMOVE;
}

// --- the inlet: client to guest ------------------------------------------------------------------

static gboolean on_inlet_ready(gint fd, GIOCondition condition, gpointer user_data) {
  AgentStream *stream = user_data;
  stream->inlet.watch = 0;
  stream_pump_in(stream);
  return G_SOURCE_REMOVE;
}

static void inlet_end(AgentStream *stream) {
  close_fd(&stream->inlet.fd, &stream->inlet.watch);
  if (stream->tty)
    stream_hang_up(stream);
  else
    send_eof(stream, STELE_CHANNEL_STDIN);
}

// Reads as long as there is input, credit and room; whichever lacks calls this again when it comes.
static void stream_pump_in(AgentStream *stream) {
  Inlet *inlet = &stream->inlet;
  guint8 payload[STELE_FRAME_PAYLOAD_MAX] = {STELE_CHANNEL_STDIN};
  while (inlet->fd >= 0 && inlet->credit > 0 && stream->link && stream->link->queue->len < QUEUE_HIGH) {
    gsize most = MIN(inlet->credit, STELE_DATA_CHUNK_MAX);
    ssize_t n = read(inlet->fd, payload + 1, most);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      if (inlet->watch == 0)
        inlet->watch = g_unix_fd_add(inlet->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_inlet_ready, stream);
      return;
    }
    if (n <= 0) {
      inlet_end(stream);
      return;
    }
    inlet->credit -= (guint32)n;
    link_send(stream->link, STELE_FRAME_DATA, stream->id, payload, (guint32)n + 1);
  }
}

// --- streams: frames from the guest --------------------------------------------------------------

// Each returns what rule the frame breaks, or NULL.
static const char *on_opened(AgentStream *stream, const SteleFrame *frame) {
  if (stream->opened) return "it opened a stream twice";
  stream->opened = TRUE;
  int count = stream->tty ? 1 : 3, fds[3];
  memcpy(fds, stream->near_ends, sizeof fds);
  memset(stream->near_ends, -1, sizeof stream->near_ends);
  stream->handlers->opened(stream, fds, count, stream->user_data);
  stream_pump_in(stream);
  return NULL;
}

static const char *on_data(AgentStream *stream, const SteleFrame *frame) {
  guint channel = frame->payload[0], size = frame->length - 1;
  if (!stream->opened) return "data came before the stream was open";
  if (channel != STELE_CHANNEL_STDOUT && channel != STELE_CHANNEL_STDERR) return "data came on no output channel";
  Outlet *outlet = &stream->outlets[channel - STELE_CHANNEL_STDOUT];
  if (!outlet->present || outlet->eof) return "data came on a channel that is not open";
  if (size > outlet->window) return "it sent more than its credit";
  outlet->window -= size;
  if (outlet->fd < 0) return NULL;
  g_byte_array_append(outlet->pending, frame->payload + 1, size);
  outlet_flush(stream, outlet);
  return NULL;
}

static const char *on_window(AgentStream *stream, const SteleFrame *frame) {
  guint32 credit = stele_get_u32(frame->payload + 4);
  if (frame->payload[0] != STELE_CHANNEL_STDIN) return "it gave credit for a channel that is its own";
  if (credit == 0 || credit > STELE_STREAM_WINDOW - stream->inlet.credit) return "it gave too much credit";
  stream->inlet.credit += credit;
  stream_pump_in(stream);
  return NULL;
}

static const char *on_eof(AgentStream *stream, const SteleFrame *frame) {
  guint channel = frame->payload[0];
  if (channel > STELE_CHANNEL_STDERR) return "it ended a channel that does not exist";
  if (channel == STELE_CHANNEL_STDIN) {
    if (!stream->tty) close_fd(&stream->inlet.fd, &stream->inlet.watch);
    return NULL;
  }
  Outlet *outlet = &stream->outlets[channel - STELE_CHANNEL_STDOUT];
  outlet->eof = TRUE;
  outlet_flush(stream, outlet);
  return NULL;
}

static const char *on_exit_frame(AgentStream *stream, const SteleFrame *frame) {
  guint32 kind = stele_get_u32(frame->payload), value = stele_get_u32(frame->payload + 4);
  if (!stream->opened) return "a program ended before it ran";
  if (kind > STELE_EXIT_SIGNAL || value > (kind == STELE_EXIT_SIGNAL ? 64 : 255))
    return "an exit status is out of range";
  stream_exit(stream, NULL, kind == STELE_EXIT_SIGNAL, value);
  return NULL;
}

static const char *on_error(AgentStream *stream, const SteleFrame *frame) {
  GError *error = NULL;
  if (!agent_message_read_error((const char *)frame->payload, frame->length, &error))
    return "an error report is no JSON object";
  stream_exit(stream, error, FALSE, 0);
  return NULL;
}

static const char *(*const on_stream_frame[])(AgentStream *, const SteleFrame *) = {
    [STELE_FRAME_OPENED] = on_opened, [STELE_FRAME_DATA] = on_data,       [STELE_FRAME_WINDOW] = on_window,
    [STELE_FRAME_EOF] = on_eof,       [STELE_FRAME_EXIT] = on_exit_frame, [STELE_FRAME_ERROR] = on_error,
};

// --- the link: receiving -------------------------------------------------------------------------

static gboolean report_broken(gpointer user_data) {
  AgentLink *link = user_data;
  link->report = 0;
  link->handlers->ended(link->broken, link->user_data); // may free the link
  return G_SOURCE_REMOVE;
}

static void link_end_streams(AgentLink *link, const char *why) {
  g_autoptr(GList) streams = g_list_concat(g_hash_table_get_values(link->streams), g_list_copy(link->waiting.head));
  for (GList *item = streams; item; item = item->next) stream_ref(item->data);
  for (GList *item = streams; item; item = item->next) {
    stream_exit(item->data, g_error_new(STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "%s", why), FALSE, 0);
    stream_unref(item->data);
  }
}

static void command_finish(AgentCommand *command, const GError *error) {
  g_hash_table_remove(command->link->commands, GUINT_TO_POINTER(command->id));
  if (command->timeout) g_source_remove(command->timeout);
  command->done(error, command->user_data);
  g_free(command);
}

static void link_end_commands(AgentLink *link, const char *why) {
  g_autoptr(GError) error = g_error_new(STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "%s", why);
  g_autoptr(GList) commands = g_hash_table_get_values(link->commands);
  for (GList *item = commands; item; item = item->next) command_finish(item->data, error);
}

// The owner hears of it from the main loop, so that nothing here runs on a freed link.
static void link_break(AgentLink *link, const char *why) {
  if (link->broken) return;
  link->broken = g_strdup(why);
  link->open = FALSE;
  g_clear_pointer(&link->channel, byte_channel_close);
  link_end_streams(link, why);
  link_end_commands(link, why);
  link->report = g_idle_add(report_broken, link);
}

static const char *handle_channel_frame(AgentLink *link, const SteleFrame *frame) {
  if (frame->type != STELE_FRAME_STATUS) return "it greeted twice";
  AgentStatus status;
  if (!agent_message_read_status((const char *)frame->payload, frame->length, &status))
    return "its status is no JSON object";
  link->handlers->status(&status, link->user_data);
  agent_message_clear_status(&status);
  return NULL;
}

static const char *handle_reply(AgentLink *link, const SteleFrame *frame) {
  AgentCommand *command = g_hash_table_lookup(link->commands, GUINT_TO_POINTER(frame->stream));
  g_autoptr(GError) error = NULL;
  if (!agent_message_read_reply((const char *)frame->payload, frame->length, &error))
    return "its answer to a command is no JSON object";
  if (command) command_finish(command, error); // otherwise it came too late
  return NULL;
}

static const char *handle_frame(AgentLink *link, const SteleFrame *frame) {
  if (frame->stream == 0) return handle_channel_frame(link, frame);
  if (frame->stream >= link->next_id) return "it spoke of a stream nobody opened";
  AgentStream *stream = g_hash_table_lookup(link->streams, GUINT_TO_POINTER(frame->stream));
  if (stream && frame->type == STELE_FRAME_REPLY) return "it answered a program as a command";
  if (frame->type == STELE_FRAME_REPLY) return handle_reply(link, frame);
  if (stream == NULL) return NULL; // crossed with its end
  stream_ref(stream);
  const char *broken_rule = on_stream_frame[frame->type](stream, frame);
  stream_unref(stream);
  return broken_rule;
}

// Handles frames that have arrived until their cost is used up; what is left of it.
static int link_handle_frames(AgentLink *link, int cost) {
  SteleFrame frame;
  int r = 0;
  const char *broken_rule = NULL;
  while (cost > 0 && !link->broken && broken_rule == NULL &&
         (r = stele_frame_parser_next(&link->parser, &frame)) == 1) {
    cost -= (int)COST_OF(frame.length);
    broken_rule = handle_frame(link, &frame);
  }
  if (r < 0) broken_rule = "it sent something that is no frame";
  if (broken_rule == NULL || link->broken) return cost;
  g_autofree char *why = g_strdup_printf("the guest agent broke its protocol: %s", broken_rule);
  link_break(link, why);
  return 0;
}

// Looks for the answer to our HELLO in whatever the guest sends first, even across reads.
static void link_seek_hello(AgentLink *link, const guint8 *bytes, gsize size) {
  g_byte_array_append(link->sought, bytes, (guint)size);
  GByteArray *sought = link->sought;
  guint8 *found = memmem(sought->data, sought->len, link->hello, HELLO_MATCH);
  gsize kept = MIN(sought->len, HELLO_SIZE - 1);
  if (found == NULL || (gsize)(sought->data + sought->len - found) < HELLO_SIZE) {
    if (found) kept = (gsize)(sought->data + sought->len - found);
    g_byte_array_remove_range(sought, 0, (guint)(sought->len - kept));
    return;
  }
  guint32 version = stele_get_u32(found + HELLO_MATCH);
  if (version != STELE_PROTOCOL_VERSION) {
    g_autofree char *why = g_strdup_printf("the guest agent speaks version %u of the protocol, steled version %d: "
                                           "rebuild the guest image",
                                           version, STELE_PROTOCOL_VERSION);
    link_break(link, why);
    return;
  }
  link->open = TRUE;
  gsize room = 0, rest = (gsize)(sought->data + sought->len - (found + HELLO_SIZE));
  guint8 *space = stele_frame_parser_space(&link->parser, &room);
  memcpy(space, found + HELLO_SIZE, MIN(rest, room));
  stele_frame_parser_commit(&link->parser, MIN(rest, room));
  g_byte_array_set_size(sought, 0);
}

// One read: the bytes that came, 0 when there are none now.
static gsize link_read(AgentLink *link) {
  guint8 bytes[STELE_FRAME_SIZE_MAX];
  gsize room = sizeof bytes;
  guint8 *target = link->open ? stele_frame_parser_space(&link->parser, &room) : bytes;
  gssize n = link->channel->class->read(link->channel, target, room);
  if (n == -EAGAIN) return 0;
  if (n <= 0) {
    link_break(link, "the channel to the guest agent was closed");
    return 0;
  }
  if (link->open)
    stele_frame_parser_commit(&link->parser, (gsize)n);
  else
    link_seek_hello(link, bytes, (gsize)n);
  return (gsize)n;
}

static void link_watch(AgentLink *link);

static gboolean on_more(gpointer user_data);

// One turn of the loop for this guest; when it has more to say than that allows, the rest is for the next
// turn, after everybody else's.
static void link_take_turn(AgentLink *link) {
  int cost = TURN_COST;
  while (!link->broken) {
    cost = link_handle_frames(link, cost);
    if (cost <= 0 || link->broken) break;
    gsize got = link_read(link);
    if (got == 0) break;
    cost -= (int)COST_OF(got);
  }
  if (link->broken) return;
  if (cost <= 0 && link->more == 0) link->more = g_idle_add_full(G_PRIORITY_DEFAULT, on_more, link, NULL);
  link_watch(link);
}

static gboolean on_more(gpointer user_data) {
  AgentLink *link = user_data;
  link->more = 0;
  link_take_turn(link);
  return G_SOURCE_REMOVE;
}

static void on_channel(ByteChannel *channel, GIOCondition ready, gpointer user_data);

static void link_watch(AgentLink *link) {
  if (link->broken) return;
  GIOCondition conditions = (link->more ? 0 : G_IO_IN) | (link->sent < link->queue->len ? G_IO_OUT : 0);
  link->channel->class->watch(link->channel, conditions, on_channel, link);
}

// From the main loop, since reading an inlet may flush the queue again.
static gboolean resume_inlets(gpointer user_data) {
  AgentLink *link = user_data;
  link->resume = 0;
  g_autoptr(GList) streams = g_hash_table_get_values(link->streams);
  for (GList *item = streams; item; item = item->next) stream_ref(item->data);
  for (GList *item = streams; item; item = item->next) {
    AgentStream *stream = item->data;
    if (stream->opened) stream_pump_in(stream);
    stream_unref(stream);
  }
  if (!g_queue_is_empty(&link->waiting) && link->places == 0)
    link->places = g_idle_add_full(G_PRIORITY_DEFAULT, fill_places, link, NULL);
  return G_SOURCE_REMOVE;
}

static void link_flush(AgentLink *link) {
  gboolean was_full = link->queue->len >= QUEUE_HIGH;
  while (!link->broken && link->sent < link->queue->len) {
    gssize n =
        link->channel->class->write(link->channel, link->queue->data + link->sent, link->queue->len - link->sent);
    if (n == -EAGAIN) break;
    if (n <= 0) {
      link_break(link, "the channel to the guest agent was closed");
      return;
    }
    link->sent += (gsize)n;
  }
  g_byte_array_remove_range(link->queue, 0, (guint)link->sent);
  link->sent = 0;
  if (was_full && link->queue->len < QUEUE_HIGH && link->resume == 0) link->resume = g_idle_add(resume_inlets, link);
  link_watch(link);
}

static void on_channel(ByteChannel *channel, GIOCondition ready, gpointer user_data) {
  AgentLink *link = user_data;
  if (ready & G_IO_OUT) link_flush(link);
  if (link->more || link->broken) return;
  if (ready & (G_IO_IN | G_IO_HUP | G_IO_ERR)) link_take_turn(link);
  if (!link->broken && !link->more && !(ready & G_IO_IN) && ready & (G_IO_HUP | G_IO_ERR))
    link_break(link, "the channel to the guest agent was closed");
}

// --- the link: life ------------------------------------------------------------------------------

// Zeros complete what an earlier host left half sent; see "Session" in guest-protocol.h.
static void link_greet(AgentLink *link) {
  guint8 nonce[STELE_NONCE_SIZE];
  if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce) g_error("no random numbers: %s", g_strerror(errno));
  stele_frame_write_header(link->hello, STELE_FRAME_HELLO, 0, HELLO_SIZE - STELE_FRAME_HEADER_SIZE);
  memcpy(link->hello + STELE_FRAME_HEADER_SIZE, nonce, sizeof nonce);
  stele_put_u32(link->hello + HELLO_MATCH, STELE_PROTOCOL_VERSION);
  g_byte_array_set_size(link->queue, STELE_FRAME_SIZE_MAX);
  memset(link->queue->data, 0, link->queue->len);
  g_byte_array_append(link->queue, link->hello, sizeof link->hello);
  link->sent = 0;
  link_flush(link);
}

AgentLink *agent_link_new(ByteChannel *channel, const AgentLinkHandlers *handlers, gpointer user_data) {
  AgentLink *link = g_new0(AgentLink, 1);
  link->channel = channel;
  link->handlers = handlers;
  link->user_data = user_data;
  link->sought = g_byte_array_new();
  link->queue = g_byte_array_new();
  link->parser.sender = STELE_FROM_GUEST;
  link->streams = g_hash_table_new(NULL, NULL);
  link->commands = g_hash_table_new(NULL, NULL);
  link->next_id = 1;
  link_greet(link);
  return link;
}

void agent_link_restart(AgentLink *link) {
  if (link->broken) return;
  link_end_streams(link, "the guest was restarted");
  link_end_commands(link, "the guest was restarted");
  if (link->broken) return;
  link->open = FALSE;
  link->next_id = 1;
  stele_frame_parser_reset(&link->parser);
  g_byte_array_set_size(link->sought, 0);
  link_greet(link);
}

void agent_link_free(AgentLink *link) {
  if (link == NULL) return;
  g_clear_pointer(&link->channel, byte_channel_close);
  if (link->broken == NULL) link->broken = g_strdup("the machine has stopped");
  link_end_streams(link, "the machine has stopped");
  link_end_commands(link, "the machine has stopped");
  if (link->more) g_source_remove(link->more);
  if (link->report) g_source_remove(link->report);
  if (link->resume) g_source_remove(link->resume);
  if (link->places) g_source_remove(link->places);
  g_hash_table_unref(link->streams);
  g_hash_table_unref(link->commands);
  g_byte_array_unref(link->sought);
  g_byte_array_unref(link->queue);
  g_free(link->broken);
  g_free(link);
}

gboolean agent_link_is_open(AgentLink *link) {
  return link && link->open;
}

// What fits the channel is bounded, and the guest is gone: this ends.
void agent_link_drain(AgentLink *link) {
  while (!link->broken) {
    link_handle_frames(link, G_MAXINT);
    if (link->broken || link_read(link) == 0) break;
  }
}

// --- commands ------------------------------------------------------------------------------------

static gboolean on_command_late(gpointer user_data) {
  AgentCommand *command = user_data;
  g_autoptr(GError) error =
      g_error_new(STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "the guest's agent did not answer in time");
  command->timeout = 0;
  command_finish(command, error);
  return G_SOURCE_REMOVE;
}

static gboolean on_command_impossible(gpointer user_data) {
  AgentCommand *command = user_data;
  g_autoptr(GError) error =
      g_error_new(STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE, "the guest's agent does not answer");
  command->timeout = 0;
  command_finish(command, error);
  return G_SOURCE_REMOVE;
}

void agent_link_command(AgentLink *link, const char *json, guint seconds, AgentCommandDone done, gpointer user_data) {
  AgentCommand *command = g_new0(AgentCommand, 1);
  *command = (AgentCommand){.link = link, .id = link->next_id++, .done = done, .user_data = user_data};
  g_hash_table_insert(link->commands, GUINT_TO_POINTER(command->id), command);
  gboolean possible = link->open && !link->broken;
  command->timeout =
      possible ? g_timeout_add_seconds(seconds, on_command_late, command) : g_idle_add(on_command_impossible, command);
  if (possible) link_send(link, STELE_FRAME_COMMAND, command->id, json, (guint32)strlen(json));
}

// --- streams: life -------------------------------------------------------------------------------

static void set_nonblocking(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static gboolean make_terminal_fds(AgentStream *stream) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return FALSE;
  set_nonblocking(pair[0]);
  stream->near_ends[0] = pair[1];
  stream->outlets[0].fd = pair[0];
  stream->inlet.fd = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
  stream->outlets[0].present = TRUE;
  return stream->inlet.fd >= 0;
}

static gboolean make_pipe_fds(AgentStream *stream) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) < 0) return FALSE;
  set_nonblocking(in[0]);
  stream->inlet.fd = in[0];
  stream->near_ends[0] = in[1];
  for (int i = 0; i < 2; i++) {
    if (pipe2(out, O_CLOEXEC) < 0) return FALSE;
    set_nonblocking(out[1]);
    stream->outlets[i].fd = out[1];
    stream->outlets[i].present = TRUE;
    stream->near_ends[i + 1] = out[0];
  }
  return TRUE;
}

static AgentStream *stream_new(const AgentExecRequest *request, const AgentStreamHandlers *handlers,
                               gpointer user_data) {
  AgentStream *stream = g_new0(AgentStream, 1);
  stream->references = 1;
  stream->tty = request->tty;
  stream->handlers = handlers;
  stream->user_data = user_data;
  stream->inlet = (Inlet){.fd = -1, .credit = STELE_STREAM_WINDOW};
  for (int i = 0; i < 2; i++)
    stream->outlets[i] = (Outlet){.fd = -1, .window = STELE_STREAM_WINDOW, .pending = g_byte_array_new()};
  memset(stream->near_ends, -1, sizeof stream->near_ends);
  return stream;
}

static gboolean has_place(AgentLink *link) {
  return link->open && !link->broken && link->queue->len < QUEUE_HIGH &&
         g_hash_table_size(link->streams) < STELE_STREAMS_MAX;
}

// The pipes are made only now: those who wait cost no descriptors.
static void stream_start(AgentStream *stream) {
  AgentLink *link = stream->link;
  if (!(stream->tty ? make_terminal_fds(stream) : make_pipe_fds(stream))) {
    stream_exit(stream, g_error_new(STELE_ERROR, STELE_ERROR_GUEST_ERROR, "cannot make pipes: %s", g_strerror(errno)),
                FALSE, 0);
    return;
  }
  stream->id = link->next_id++;
  g_hash_table_insert(link->streams, GUINT_TO_POINTER(stream->id), stream);
  g_autofree char *request = g_steal_pointer(&stream->request);
  link_send(link, STELE_FRAME_OPEN_EXEC, stream->id, request, (guint32)strlen(request));
}

static gboolean fill_places(gpointer user_data) {
  AgentLink *link = user_data;
  link->places = 0;
  while (!g_queue_is_empty(&link->waiting) && has_place(link)) {
    AgentStream *stream = stream_ref(g_queue_pop_head(&link->waiting));
    stream_start(stream);
    stream_unref(stream);
  }
  return G_SOURCE_REMOVE;
}

AgentStream *agent_link_exec(AgentLink *link, const AgentExecRequest *request, const AgentStreamHandlers *handlers,
                             gpointer user_data, GError **error) {
  g_autofree char *json = agent_message_write_exec(request);
  if (json == NULL) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
                "arguments and environment take more than the %d bytes that can be passed", STELE_FRAME_PAYLOAD_MAX);
    return NULL;
  }
  if (link->broken || g_queue_get_length(&link->waiting) >= WAITING_MAX || link->next_id > G_MAXUINT32 - WAITING_MAX) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_GUEST_ERROR, "%s",
                link->broken ? link->broken : "too many programs were started in this machine: end some first");
    return NULL;
  }
  AgentStream *stream = stream_new(request, handlers, user_data);
  stream->link = link;
  stream->request = g_steal_pointer(&json);
  g_queue_push_tail(&link->waiting, stream);
  if (link->places == 0) link->places = g_idle_add_full(G_PRIORITY_DEFAULT, fill_places, link, NULL);
  return stream;
}

void agent_stream_signal(AgentStream *stream, guint signal) {
  if (stream->id == 0) return;
  guint8 payload[4];
  stele_put_u32(payload, signal);
  link_send(stream->link, STELE_FRAME_SIGNAL, stream->id, payload, sizeof payload);
}

void agent_stream_resize(AgentStream *stream, guint rows, guint columns) {
  if (stream->id == 0) return;
  guint8 payload[4];
  stele_put_u16(payload, (guint16)MIN(rows, G_MAXUINT16));
  stele_put_u16(payload + 2, (guint16)MIN(columns, G_MAXUINT16));
  link_send(stream->link, STELE_FRAME_RESIZE, stream->id, payload, sizeof payload);
}

void agent_stream_close(AgentStream *stream) {
  if (stream->link && stream->id) link_send(stream->link, STELE_FRAME_CLOSE, stream->id, NULL, 0);
  stream->closed = TRUE;
  stream_detach(stream);
  stream_close_fds(stream);
  stream_unref(stream);
}
