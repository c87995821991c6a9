// See agent-stream.h. A stream has outlets and an inlet, each a file descriptor towards the client with what the guest
// may still send, or be sent, there.
#include "agent-stream.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent-message.h"
#include "errors.h"

#define CREDIT_MIN (STELE_STREAM_WINDOW / 4) // given back in pieces no smaller

// Output of the guest's program on its way to the client.
typedef struct Outlet {
  int fd; // -1: the client reads no more, or there is no such channel
  guint watch;
  GByteArray *pending;
  gsize passed;   // of pending, less than half of it
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
  StreamCarrier *carrier; // NULL once the guest knows it no more
  guint32 id;             // 0: waits to be started, with `request` to be sent then
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

static void stream_pump_in(AgentStream *stream);

// --- sending -------------------------------------------------------------------------------------

static void stream_send(AgentStream *stream, SteleFrameType type, const void *payload, guint32 size) {
  if (stream->carrier) stream->carrier->send(stream->carrier, type, stream->id, payload, size);
}

static void send_window(AgentStream *stream, SteleChannel channel, guint32 credit) {
  guint8 payload[8] = {(guint8)channel};
  stele_put_u32(payload + 4, credit);
  stream_send(stream, STELE_FRAME_WINDOW, payload, sizeof payload);
}

static void send_eof(AgentStream *stream, SteleChannel channel) {
  guint8 payload[1] = {(guint8)channel};
  stream_send(stream, STELE_FRAME_EOF, payload, sizeof payload);
}

// --- the end -------------------------------------------------------------------------------------

AgentStream *agent_stream_ref(AgentStream *stream) {
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

void agent_stream_unref(AgentStream *stream) {
  if (--stream->references > 0) return;
  stream_close_fds(stream);
  for (int i = 0; i < 2; i++) g_byte_array_unref(stream->outlets[i].pending);
  g_clear_error(&stream->error);
  g_free(stream->request);
  g_free(stream);
}

static void stream_detach(AgentStream *stream) {
  StreamCarrier *carrier = stream->carrier;
  stream->carrier = NULL;
  if (carrier) carrier->detached(carrier, stream);
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
  agent_stream_ref(stream);
  stream->exited = TRUE;
  stream->error = g_steal_pointer(&owned);
  stream->signalled = signalled;
  stream->value = value;
  stream_detach(stream);
  close_fd(&stream->inlet.fd, &stream->inlet.watch);
  stream_finish(stream);
  agent_stream_unref(stream);
}

static void stream_hang_up(AgentStream *stream) {
  stream_send(stream, STELE_FRAME_CLOSE, NULL, 0);
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

// What has been passed on goes once it is the larger part: a client that always is a little behind has as much kept for
// it as it has not read, not all it ever got.
static void outlet_forget_passed(Outlet *outlet) {
  if (outlet->passed < (outlet->pending->len + 1) / 2) return;
  g_byte_array_remove_range(outlet->pending, 0, (guint)outlet->passed);
  outlet->passed = 0;
}

static void outlet_flush(AgentStream *stream, Outlet *outlet) {
  agent_stream_ref(stream);
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
  outlet_forget_passed(outlet);
  if (outlet->pending->len == 0) {
    if (outlet->eof) close_fd(&outlet->fd, &outlet->watch);
  } else if (outlet->watch == 0) {
    outlet->watch = g_unix_fd_add(outlet->fd, G_IO_OUT | G_IO_ERR, on_outlet_ready, stream);
  }
  if (outlet->fd >= 0) outlet_give_credit(stream, outlet);
  stream_finish(stream);
  agent_stream_unref(stream);
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
  while (inlet->fd >= 0 && inlet->credit > 0 && stream->carrier && stream->carrier->has_room(stream->carrier)) {
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
    stream_send(stream, STELE_FRAME_DATA, payload, (guint32)n + 1);
  }
}

// --- frames from the guest -----------------------------------------------------------------------

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

const char *agent_stream_take_frame(AgentStream *stream, const SteleFrame *frame) {
  agent_stream_ref(stream);
  const char *broken_rule = on_stream_frame[frame->type](stream, frame);
  agent_stream_unref(stream);
  return broken_rule;
}

// --- life ----------------------------------------------------------------------------------------

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

AgentStream *agent_stream_new(StreamCarrier *carrier, gboolean tty, char *request, const AgentStreamHandlers *handlers,
                              gpointer user_data) {
  AgentStream *stream = g_new0(AgentStream, 1);
  stream->references = 1;
  stream->carrier = carrier;
  stream->tty = tty;
  stream->request = request;
  stream->handlers = handlers;
  stream->user_data = user_data;
  stream->inlet = (Inlet){.fd = -1, .credit = STELE_STREAM_WINDOW};
  for (int i = 0; i < 2; i++)
    stream->outlets[i] = (Outlet){.fd = -1, .window = STELE_STREAM_WINDOW, .pending = g_byte_array_new()};
  memset(stream->near_ends, -1, sizeof stream->near_ends);
  return stream;
}

guint32 agent_stream_id(const AgentStream *stream) {
  return stream->id;
}

void agent_stream_fail(AgentStream *stream, SteleError code, const char *why) {
  stream_exit(stream, g_error_new(STELE_ERROR, code, "%s", why), FALSE, 0);
}

void agent_stream_resume(AgentStream *stream) {
  if (stream->opened) stream_pump_in(stream);
}

// The pipes are made only now: those who wait cost no descriptors.
gboolean agent_stream_start(AgentStream *stream, guint32 id) {
  if (!(stream->tty ? make_terminal_fds(stream) : make_pipe_fds(stream))) {
    g_autofree char *why = g_strdup_printf("cannot make pipes: %s", g_strerror(errno));
    agent_stream_fail(stream, STELE_ERROR_GUEST_ERROR, why);
    return FALSE;
  }
  stream->id = id;
  g_autofree char *request = g_steal_pointer(&stream->request);
  stream_send(stream, STELE_FRAME_OPEN_EXEC, request, (guint32)strlen(request));
  return TRUE;
}

void agent_stream_signal(AgentStream *stream, guint signal) {
  if (stream->id == 0) return;
  guint8 payload[4];
  stele_put_u32(payload, signal);
  stream_send(stream, STELE_FRAME_SIGNAL, payload, sizeof payload);
}

void agent_stream_resize(AgentStream *stream, guint rows, guint columns) {
  if (stream->id == 0) return;
  guint8 payload[4];
  stele_put_u16(payload, (guint16)MIN(rows, G_MAXUINT16));
  stele_put_u16(payload + 2, (guint16)MIN(columns, G_MAXUINT16));
  stream_send(stream, STELE_FRAME_RESIZE, payload, sizeof payload);
}

void agent_stream_close(AgentStream *stream) {
  if (stream->id) stream_send(stream, STELE_FRAME_CLOSE, NULL, 0);
  stream->closed = TRUE;
  stream_detach(stream);
  stream_close_fds(stream);
  agent_stream_unref(stream);
}
