// The host's end of the stream channel: one channel, one session at a time, a queue of bytes to the guest, and who the
// frames of either way belong to: streams (agent-stream.c), commands, the guest itself. See agent-link.h.
#include "agent-link.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "agent-message.h"
#include "agent-stream.h"
#include "errors.h"
#include "stream-frame.h"

#define HELLO_SIZE  (STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE + 4)
#define HELLO_MATCH (STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE)

// The guest decides how fast it reads and how much it sends; these bound what that can do to us.
#define QUEUE_HIGH  (4 * STELE_FRAME_SIZE_MAX)  // queued bytes beyond which no more stdin is read
#define QUEUE_MAX   (64 * STELE_FRAME_SIZE_MAX) // and beyond which the link is broken
#define WAITING_MAX 4096                        // programs that wait for a place
#define TURN_COST   512                         // of work in one turn of the loop, a frame being at least 1
#define COST_OF(n)  (1 + (n) / 1024)            // of a frame or a read of n bytes

struct AgentLink {
  StreamCarrier carrier;
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
static gboolean fill_places(gpointer user_data);

// --- the link: sending ---------------------------------------------------------------------------

static void link_queue(AgentLink *link, SteleFrameType type, guint32 stream, const void *payload, guint32 size) {
  guint8 header[STELE_FRAME_HEADER_SIZE];
  stele_frame_write_header(header, type, stream, size);
  g_byte_array_append(link->queue, header, sizeof header);
  if (size) g_byte_array_append(link->queue, payload, size);
}

static void link_send(AgentLink *link, SteleFrameType type, guint32 stream, const void *payload, guint32 size) {
  if (link->broken) return;
  link_queue(link, type, stream, payload, size);
  link_flush(link);
  if (link->queue->len > QUEUE_MAX) link_break(link, "the guest agent does not read what it is sent");
}

// --- what carries streams ------------------------------------------------------------------------

static void carrier_send(StreamCarrier *carrier, SteleFrameType type, guint32 stream, const void *payload,
                         guint32 size) {
  link_send((AgentLink *)carrier, type, stream, payload, size);
}

static gboolean carrier_has_room(StreamCarrier *carrier) {
  return ((AgentLink *)carrier)->queue->len < QUEUE_HIGH;
}

static void look_for_places(AgentLink *link) {
  if (!g_queue_is_empty(&link->waiting) && link->places == 0)
    link->places = g_idle_add_full(G_PRIORITY_DEFAULT, fill_places, link, NULL);
}

static void carrier_detached(StreamCarrier *carrier, AgentStream *stream) {
  AgentLink *link = (AgentLink *)carrier;
  guint32 id = agent_stream_id(stream);
  if (id == 0)
    g_queue_remove(&link->waiting, stream);
  else
    g_hash_table_remove(link->streams, GUINT_TO_POINTER(id));
  look_for_places(link);
}

// --- the link: receiving -------------------------------------------------------------------------

static gboolean report_broken(gpointer user_data) {
  AgentLink *link = user_data;
  link->report = 0;
  link->handlers->ended(link->broken, link->user_data); // may free the link
  return G_SOURCE_REMOVE;
}

static void link_end_streams(AgentLink *link, const char *why) {
  g_autoptr(GList) streams = g_list_concat(g_hash_table_get_values(link->streams), g_list_copy(link->waiting.head));
  for (GList *item = streams; item; item = item->next) agent_stream_ref(item->data);
  for (GList *item = streams; item; item = item->next) {
    agent_stream_fail(item->data, STELE_ERROR_AGENT_UNAVAILABLE, why);
    agent_stream_unref(item->data);
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
  return stream ? agent_stream_take_frame(stream, frame) : NULL; // crossed with its end
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
  for (GList *item = streams; item; item = item->next) agent_stream_ref(item->data);
  for (GList *item = streams; item; item = item->next) {
    agent_stream_resume(item->data);
    agent_stream_unref(item->data);
  }
  look_for_places(link);
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
  link->carrier = (StreamCarrier){carrier_send, carrier_has_room, carrier_detached};
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

// --- programs ------------------------------------------------------------------------------------

static gboolean has_place(AgentLink *link) {
  return link->open && !link->broken && link->queue->len < QUEUE_HIGH &&
         g_hash_table_size(link->streams) < STELE_STREAMS_MAX;
}

static void start_next(AgentLink *link) {
  AgentStream *stream = agent_stream_ref(g_queue_pop_head(&link->waiting));
  guint32 id = link->next_id++;
  g_hash_table_insert(link->streams, GUINT_TO_POINTER(id), stream);
  if (!agent_stream_start(stream, id)) g_hash_table_remove(link->streams, GUINT_TO_POINTER(id));
  agent_stream_unref(stream);
}

static gboolean fill_places(gpointer user_data) {
  AgentLink *link = user_data;
  link->places = 0;
  while (!g_queue_is_empty(&link->waiting) && has_place(link)) start_next(link);
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
  AgentStream *stream = agent_stream_new(&link->carrier, request->tty, g_steal_pointer(&json), handlers, user_data);
  g_queue_push_tail(&link->waiting, stream);
  look_for_places(link);
  return stream;
}
