// The link to a guest's agent, with a guest that this test plays on the other end of a socket: good manners, flow
// control, and each way a hostile guest can break the rules.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent-link.h"
#include "errors.h"
#include "stream-frame.h"

#define PATIENCE_MS 120000

// --- a byte channel over a socket ----------------------------------------------------------------

typedef struct SocketChannel {
  ByteChannel base;
  int fd;
  guint source;
  ByteChannelReady ready;
  gpointer user_data;
} SocketChannel;

static gssize result_of(gssize n) {
  return n < 0 ? -errno : n;
}

static gssize channel_read(ByteChannel *base, void *bytes, gsize size) {
  return result_of(read(((SocketChannel *)base)->fd, bytes, size));
}

static gssize channel_write(ByteChannel *base, const void *bytes, gsize size) {
  return result_of(send(((SocketChannel *)base)->fd, bytes, size, MSG_NOSIGNAL));
}

static gboolean on_ready(gint fd, GIOCondition condition, gpointer user_data) {
  SocketChannel *channel = user_data;
  channel->ready(&channel->base, condition, channel->user_data);
  return G_SOURCE_CONTINUE;
}

static void channel_watch(ByteChannel *base, GIOCondition conditions, ByteChannelReady ready, gpointer user_data) {
  SocketChannel *channel = (SocketChannel *)base;
  if (channel->source) g_source_remove(channel->source);
  channel->ready = ready;
  channel->user_data = user_data;
  channel->source = g_unix_fd_add(channel->fd, conditions | G_IO_HUP | G_IO_ERR, on_ready, channel);
}

static void channel_close(ByteChannel *base) {
  SocketChannel *channel = (SocketChannel *)base;
  if (channel->source) g_source_remove(channel->source);
  close(channel->fd);
  g_free(channel);
}

static const ByteChannelClass socket_class = {channel_read, channel_write, channel_watch, channel_close};

// --- the scene -----------------------------------------------------------------------------------

static int guest; // our end of the channel
static AgentLink *link_;
static SteleFrameParser host_frames;
static int statuses, opened, ended;
static char *link_ended, *last_state;
static int near_ends[3], near_count;
static GError *stream_error;
static gboolean signalled;
static guint value;

static void on_status(const AgentStatus *status, gpointer user_data) {
  statuses++;
  g_free(last_state);
  last_state = g_strdup(status->state);
}

static void on_link_ended(const char *why, gpointer user_data) {
  link_ended = g_strdup(why);
  g_clear_pointer(&link_, agent_link_free);
}

static const AgentLinkHandlers link_handlers = {on_status, on_link_ended};

static void on_opened(AgentStream *stream, const int *fds, int count, gpointer user_data) {
  opened++;
  near_count = count;
  memcpy(near_ends, fds, (size_t)count * sizeof *fds);
}

static void on_ended(AgentStream *stream, const AgentStreamResult *result, gpointer user_data) {
  ended++;
  signalled = result->signalled;
  value = result->value;
  g_clear_error(&stream_error);
  if (result->error) stream_error = g_error_copy(result->error);
}

static const AgentStreamHandlers stream_handlers = {on_opened, on_ended};

static void set_scene(void) {
  int pair[2];
  signal(SIGPIPE, SIG_IGN); // as steled does
  cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  guest = pair[1];
  SocketChannel *channel = g_new0(SocketChannel, 1);
  *channel = (SocketChannel){.base = {&socket_class}, .fd = pair[0]};
  host_frames.sender = STELE_FROM_HOST;
  link_ = agent_link_new(&channel->base, &link_handlers, NULL);
}

static void clear_scene(void) {
  g_clear_pointer(&link_, agent_link_free);
  close(guest);
}

TestSuite(agent_link, .init = set_scene, .fini = clear_scene, .timeout = 400);

// Runs the main loop until `done` says so.
static void run_until(gboolean (*done)(void)) {
  gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000;
  while (!done() && g_get_monotonic_time() < end)
    if (!g_main_context_iteration(NULL, FALSE)) g_usleep(200); // the other side is this thread too
  cr_assert(done(), "it did not happen in time");
}

// --- the guest -----------------------------------------------------------------------------------

static SteleFrame frame; // the last of the host's
static gboolean got_frame;

static gboolean next_host_frame(void) {
  size_t room;
  if (got_frame) return TRUE;
  int r = stele_frame_parser_next(&host_frames, &frame);
  cr_assert_geq(r, 0, "the host sent a bad frame");
  if (r == 1) return got_frame = TRUE;
  uint8_t *space = stele_frame_parser_space(&host_frames, &room);
  ssize_t n = read(guest, space, room);
  if (n > 0) stele_frame_parser_commit(&host_frames, (size_t)n);
  return FALSE;
}

static void expect_frame(SteleFrameType type) {
  got_frame = FALSE;
  run_until(next_host_frame);
  cr_assert_eq(frame.type, type, "frame %d instead of %d", frame.type, type);
}

static GByteArray *unsent;

static gboolean all_sent(void) {
  ssize_t n = send(guest, unsent->data, unsent->len, MSG_NOSIGNAL);
  if (n < 0 && errno == EPIPE) g_byte_array_set_size(unsent, 0); // the host hung up on us
  if (n > 0) g_byte_array_remove_range(unsent, 0, (guint)n);
  return unsent->len == 0;
}

static void send_bytes(const void *bytes, gsize size) {
  unsent = g_byte_array_new();
  g_byte_array_append(unsent, bytes, (guint)size);
  run_until(all_sent);
  g_byte_array_unref(unsent);
}

static void send_frame(SteleFrameType type, uint32_t stream, const void *payload, uint32_t size) {
  g_autofree uint8_t *bytes = g_malloc(STELE_FRAME_HEADER_SIZE + size);
  stele_frame_write_header(bytes, type, stream, size);
  if (size) memcpy(bytes + STELE_FRAME_HEADER_SIZE, payload, size);
  send_bytes(bytes, STELE_FRAME_HEADER_SIZE + size);
}

static void send_text(SteleFrameType type, uint32_t stream, const char *text) {
  send_frame(type, stream, text, (uint32_t)strlen(text));
}

static void send_exit(uint32_t stream, uint32_t kind, uint32_t number) {
  uint8_t payload[8];
  stele_put_u32(payload, kind);
  stele_put_u32(payload + 4, number);
  send_frame(STELE_FRAME_EXIT, stream, payload, sizeof payload);
}

static gboolean is_open(void) {
  return agent_link_is_open(link_);
}
static gboolean link_has_ended(void) {
  return link_ended != NULL;
}
static gboolean stream_has_opened(void) {
  return opened > 0;
}
static gboolean stream_has_ended(void) {
  return ended > 0;
}
static gboolean status_has_come(void) {
  return statuses == 1;
}

static void greet(void) {
  expect_frame(STELE_FRAME_HELLO);
  send_frame(STELE_FRAME_HELLO, 0, frame.payload, frame.length);
  run_until(is_open);
}

static AgentStream *start(gboolean tty) {
  static const char *const argv[] = {"cat", NULL}, *const env[] = {"A=B", NULL};
  AgentExecRequest request = {.argv = argv, .env = env, .tty = tty, .rows = 24, .columns = 80};
  AgentStream *stream = agent_link_exec(link_, &request, &stream_handlers, NULL, NULL);
  cr_assert_not_null(stream);
  expect_frame(STELE_FRAME_OPEN_EXEC);
  send_text(STELE_FRAME_OPENED, frame.stream, "{\"pid\":1}");
  run_until(stream_has_opened);
  return stream;
}

// --- good manners --------------------------------------------------------------------------------

Test(agent_link, session_through_garbage) {
  g_autofree uint8_t *garbage = g_malloc0(100000);
  for (int i = 0; i < 100000; i++) garbage[i] = (uint8_t)(i * 7919 >> 3);
  send_bytes(garbage, 100000); // what an earlier session left
  expect_frame(STELE_FRAME_HELLO);
  uint8_t answer[STELE_FRAME_HEADER_SIZE + STELE_NONCE_SIZE + 4];
  stele_frame_write_header(answer, STELE_FRAME_HELLO, 0, frame.length);
  memcpy(answer + STELE_FRAME_HEADER_SIZE, frame.payload, frame.length);
  for (size_t i = 0; i < sizeof answer; i++) send_bytes(answer + i, 1); // in the smallest pieces
  run_until(is_open);
  send_text(STELE_FRAME_STATUS, 0, "{\"state\":\"ready\"}");
  run_until(status_has_come);
  cr_expect_str_eq(last_state, "ready");
}

Test(agent_link, program_with_pipes) {
  greet();
  AgentStream *stream = start(FALSE);
  cr_expect_eq(near_count, 3);
  cr_assert_eq(write(near_ends[0], "input", 5), 5);
  close(near_ends[0]);
  expect_frame(STELE_FRAME_DATA);
  cr_expect_eq(frame.length, 6);
  cr_expect_arr_eq(frame.payload, "\0input", 6);
  expect_frame(STELE_FRAME_EOF);
  send_frame(STELE_FRAME_DATA, 1, "\1out", 4);
  send_frame(STELE_FRAME_DATA, 1, "\2err", 4);
  send_exit(1, STELE_EXIT_STATUS, 3);
  run_until(stream_has_ended);
  char text[8] = "";
  cr_expect_eq(read(near_ends[1], text, 8), 3);
  cr_expect_str_eq(text, "out");
  cr_expect_eq(read(near_ends[1], text, 8), 0, "and then the end");
  cr_expect_eq(read(near_ends[2], text, 8), 3);
  cr_expect(!signalled && value == 3 && stream_error == NULL);
  agent_stream_close(stream);
}

Test(agent_link, program_with_a_terminal) {
  greet();
  AgentStream *stream = start(TRUE);
  cr_expect_eq(near_count, 1);
  agent_stream_resize(stream, 50, 132);
  expect_frame(STELE_FRAME_RESIZE);
  cr_expect_eq(stele_get_u16(frame.payload), 50);
  agent_stream_signal(stream, 15);
  expect_frame(STELE_FRAME_SIGNAL);
  cr_expect_eq(stele_get_u32(frame.payload), 15);
  close(near_ends[0]); // the user's terminal goes away
  expect_frame(STELE_FRAME_CLOSE);
  cr_expect_eq(ended, 1);
  agent_stream_close(stream);
}

Test(agent_link, killed_by_a_signal) {
  greet();
  AgentStream *stream = start(FALSE);
  send_exit(1, STELE_EXIT_SIGNAL, 9);
  run_until(stream_has_ended);
  cr_expect(signalled && value == 9);
  agent_stream_close(stream);
}

Test(agent_link, program_that_cannot_be_started) {
  static const char *const argv[] = {"nothing", NULL};
  greet();
  AgentExecRequest request = {.argv = argv};
  AgentStream *stream = agent_link_exec(link_, &request, &stream_handlers, NULL, NULL);
  expect_frame(STELE_FRAME_OPEN_EXEC);
  send_text(STELE_FRAME_ERROR, 1, "{\"code\":\"not-found\",\"message\":\"no\\u001b[2J \\u202esuch\\u009b\"}");
  run_until(stream_has_ended);
  cr_assert(g_error_matches(stream_error, STELE_ERROR, STELE_ERROR_PROGRAM_NOT_FOUND));
  cr_expect_str_eq(stream_error->message, "no such");
  cr_expect_eq(opened, 0);
  agent_stream_close(stream);
}

Test(agent_link, a_request_that_is_too_large) {
  g_autofree char *large = g_strnfill(STELE_FRAME_PAYLOAD_MAX, 'x');
  const char *argv[] = {large, NULL};
  greet();
  AgentExecRequest request = {.argv = argv};
  g_autoptr(GError) error = NULL;
  cr_expect_null(agent_link_exec(link_, &request, &stream_handlers, NULL, &error));
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT));
}

Test(agent_link, closing_hangs_up) {
  greet();
  AgentStream *stream = start(FALSE);
  agent_stream_close(stream);
  expect_frame(STELE_FRAME_CLOSE);
  send_frame(STELE_FRAME_DATA, 1, "\1late", 5); // crossed on the way
  send_text(STELE_FRAME_STATUS, 0, "{\"state\":\"ready\"}");
  run_until(status_has_come);
  cr_expect_null(link_ended);
  cr_expect_eq(ended, 0);
}

Test(agent_link, reset_of_the_guest) {
  greet();
  AgentStream *stream = start(FALSE);
  agent_link_restart(link_);
  cr_expect_eq(ended, 1);
  cr_expect(g_error_matches(stream_error, STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE));
  agent_stream_close(stream);
  cr_expect_not(agent_link_is_open(link_));
  greet();
}

Test(agent_link, end_of_the_channel) {
  greet();
  AgentStream *stream = start(FALSE);
  shutdown(guest, SHUT_RDWR);
  run_until(link_has_ended);
  cr_expect_eq(ended, 1);
  agent_stream_close(stream);
}

// --- flow control --------------------------------------------------------------------------------

Test(agent_link, stdin_stops_when_credit_is_used_up) {
  greet();
  AgentStream *stream = start(FALSE);
  fcntl(near_ends[0], F_SETFL, O_NONBLOCK);
  uint8_t bytes[4096] = {0};
  gsize received = 0;
  while (received < STELE_STREAM_WINDOW) {
    while (write(near_ends[0], bytes, sizeof bytes) > 0) {
    }
    expect_frame(STELE_FRAME_DATA);
    received += frame.length - 1;
  }
  cr_expect_eq(received, STELE_STREAM_WINDOW);
  while (write(near_ends[0], bytes, sizeof bytes) > 0) {
  }
  while (g_main_context_iteration(NULL, FALSE)) {
  }
  got_frame = FALSE;
  cr_expect_not(next_host_frame() || next_host_frame(), "nothing without credit");
  uint8_t credit[8] = {STELE_CHANNEL_STDIN};
  stele_put_u32(credit + 4, 1000);
  send_frame(STELE_FRAME_WINDOW, 1, credit, sizeof credit);
  expect_frame(STELE_FRAME_DATA);
  cr_expect_eq(frame.length, 1001);
  agent_stream_close(stream);
}

#define MANY 24 // streams whose credit together is more than the link may queue

static void keep_stdin(AgentStream *stream, const int *fds, int count, gpointer user_data) {
  opened++;
  *(int *)user_data = fds[0];
  for (int i = 1; i < count; i++) close(fds[i]);
}

static gboolean many_have_opened(void) {
  return opened == MANY;
}

// What clients write stays with them as long as the guest reads nothing: it must not become a queue that ends the link.
Test(agent_link, stdin_waits_for_a_guest_that_reads) {
  static const AgentStreamHandlers handlers = {keep_stdin, on_ended};
  static const char *const argv[] = {"cat", NULL};
  static uint8_t bytes[65536];
  AgentStream *streams[MANY];
  AgentExecRequest request = {.argv = argv};
  int inputs[MANY];
  greet();
  for (int i = 0; i < MANY; i++) {
    cr_assert_not_null(streams[i] = agent_link_exec(link_, &request, &handlers, &inputs[i], NULL));
    expect_frame(STELE_FRAME_OPEN_EXEC);
    send_text(STELE_FRAME_OPENED, frame.stream, "{}");
  }
  run_until(many_have_opened);
  for (int i = 0; i < MANY; i++) fcntl(inputs[i], F_SETFL, O_NONBLOCK);
  for (int idle = 0; idle < 100 && !link_ended; idle++) {
    for (int i = 0; i < MANY; i++)
      if (write(inputs[i], bytes, sizeof bytes) > 0) idle = 0;
    while (g_main_context_iteration(NULL, FALSE)) {
    }
  }
  cr_expect_null(link_ended, "%s", link_ended);
  for (int i = 0; i < MANY; i++) {
    close(inputs[i]);
    agent_stream_close(streams[i]);
  }
}

static gsize read_back, returned;

static gboolean all_came_back(void) {
  char bytes[65536];
  ssize_t n = read(near_ends[1], bytes, sizeof bytes);
  if (n > 0) read_back += (gsize)n;
  got_frame = FALSE;
  if (next_host_frame() && frame.type == STELE_FRAME_WINDOW) returned += stele_get_u32(frame.payload + 4);
  cr_assert_leq(returned, read_back + 65536, "a pipe's worth at most is ahead");
  // What is less than a piece of credit is not given back yet.
  return returned > STELE_STREAM_WINDOW * 3 / 4 && read_back == STELE_STREAM_WINDOW;
}

Test(agent_link, credit_comes_back_only_for_what_was_read) {
  greet();
  AgentStream *stream = start(FALSE);
  g_autofree uint8_t *data = g_malloc0(STELE_FRAME_PAYLOAD_MAX);
  data[0] = STELE_CHANNEL_STDOUT;
  gsize sent = 0;
  while (sent < STELE_STREAM_WINDOW) { // all the credit; the client reads nothing
    gsize chunk = MIN(STELE_STREAM_WINDOW - sent, STELE_DATA_CHUNK_MAX);
    send_frame(STELE_FRAME_DATA, 1, data, (uint32_t)chunk + 1);
    sent += chunk;
  }
  while (g_main_context_iteration(NULL, FALSE)) {
  }
  fcntl(near_ends[1], F_SETFL, O_NONBLOCK);
  run_until(all_came_back);
  cr_expect_null(link_ended);
  agent_stream_close(stream);
}

Test(agent_link, a_reader_that_goes_is_reported) {
  greet();
  AgentStream *stream = start(FALSE);
  close(near_ends[1]);
  send_frame(STELE_FRAME_DATA, 1, "\1text", 5);
  expect_frame(STELE_FRAME_EOF);
  cr_expect_eq(frame.payload[0], STELE_CHANNEL_STDOUT);
  send_exit(1, STELE_EXIT_SIGNAL, 13);
  run_until(stream_has_ended);
  cr_expect(signalled && value == 13);
  agent_stream_close(stream);
}

static gsize total_read;

static gboolean has_read_all(void) {
  char bytes[10000];
  struct pollfd readable = {.fd = near_ends[1], .events = POLLIN};
  if (poll(&readable, 1, 0) == 1) total_read += (gsize)read(near_ends[1], bytes, sizeof bytes);
  return total_read == 240000;
}

Test(agent_link, the_end_waits_for_a_slow_reader) {
  greet();
  AgentStream *stream = start(FALSE);
  g_autofree uint8_t *data = g_malloc0(60001);
  data[0] = STELE_CHANNEL_STDOUT;
  for (int i = 0; i < 4; i++) send_frame(STELE_FRAME_DATA, 1, data, 60001);
  send_exit(1, STELE_EXIT_STATUS, 0);
  while (g_main_context_iteration(NULL, FALSE)) {
  }
  cr_expect_eq(ended, 0, "240,000 bytes do not fit a pipe");
  run_until(has_read_all);
  run_until(stream_has_ended);
  agent_stream_close(stream);
}

static gsize resident_bytes(void) {
  g_autofree char *text = NULL;
  cr_assert(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
  return (gsize)g_ascii_strtoull(strchr(text, ' '), NULL, 10) * (gsize)sysconf(_SC_PAGESIZE);
}

// Without allocating: sanitizers keep what was freed.
static void send_static(const uint8_t *bytes, gsize size) {
  for (gsize sent = 0; sent < size;) {
    ssize_t n = send(guest, bytes + sent, size - sent, MSG_NOSIGNAL);
    if (n > 0) sent += (gsize)n;
    g_main_context_iteration(NULL, FALSE);
  }
}

// The guest uses its credit up at once, so the client never has read all that is there for it.
Test(agent_link, a_reader_always_behind_costs_no_memory) {
  greet();
  AgentStream *stream = start(FALSE);
  static uint8_t data[STELE_FRAME_HEADER_SIZE + 1 + STELE_DATA_CHUNK_MAX], sink[16384];
  gsize credit = STELE_STREAM_WINDOW, got = 0, before = resident_bytes();
  stele_frame_write_header(data, STELE_FRAME_DATA, 1, 1 + STELE_DATA_CHUNK_MAX);
  data[STELE_FRAME_HEADER_SIZE] = STELE_CHANNEL_STDOUT;
  while (got < 64 * 1024 * 1024) {
    for (; credit >= STELE_DATA_CHUNK_MAX; credit -= STELE_DATA_CHUNK_MAX) send_static(data, sizeof data);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    ssize_t n = read(near_ends[1], sink, sizeof sink);
    cr_assert_gt(n, 0);
    got += (gsize)n;
    got_frame = FALSE;
    if (next_host_frame()) credit += stele_get_u32(frame.payload + 4);
  }
  cr_expect_lt(resident_bytes(), before + 16 * 1024 * 1024, "%zu bytes more", resident_bytes() - before);
  agent_stream_close(stream);
}

// --- more programs than the guest takes ----------------------------------------------------------

static int count_opened(void) {
  int count = 0;
  gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC / 4;
  while (g_get_monotonic_time() < end) {
    g_main_context_iteration(NULL, FALSE);
    got_frame = FALSE;
    if (next_host_frame() && frame.type == STELE_FRAME_OPEN_EXEC) count++;
  }
  return count;
}

Test(agent_link, programs_wait_for_a_place) {
  static const char *const argv[] = {"true", NULL};
  AgentStream *streams[STELE_STREAMS_MAX + 6];
  AgentExecRequest request = {.argv = argv};
  greet();
  for (size_t i = 0; i < G_N_ELEMENTS(streams); i++)
    cr_assert_not_null(streams[i] = agent_link_exec(link_, &request, &stream_handlers, NULL, NULL), "program %zu", i);
  cr_expect_eq(count_opened(), STELE_STREAMS_MAX);
  send_text(STELE_FRAME_ERROR, 3, "{}"); // one ends
  cr_expect_eq(count_opened(), 1);
  agent_stream_close(streams[5]); // one is hung up
  cr_expect_eq(count_opened(), 1);
  agent_stream_close(streams[STELE_STREAMS_MAX + 5]); // one does not wait any longer
  shutdown(guest, SHUT_RDWR);
  run_until(link_has_ended);
  cr_expect_eq(ended, STELE_STREAMS_MAX + 6 - 2, "who waits hears of the end too");
  for (size_t i = 0; i < G_N_ELEMENTS(streams) - 1; i++)
    if (i != 5) agent_stream_close(streams[i]);
}

#define WAITING_MAX 4096 // as in agent-link.c

Test(agent_link, not_any_number_waits) {
  static const char *const argv[] = {"true", NULL};
  static AgentStream *streams[WAITING_MAX];
  AgentExecRequest request = {.argv = argv};
  GError *error = NULL;
  for (int i = 0; i < WAITING_MAX; i++)
    cr_assert_not_null(streams[i] = agent_link_exec(link_, &request, &stream_handlers, NULL, NULL), "program %d", i);
  cr_expect_null(agent_link_exec(link_, &request, &stream_handlers, NULL, &error));
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_GUEST_ERROR));
  g_clear_error(&error);
  agent_stream_close(streams[7]);
  cr_expect_not_null(streams[7] = agent_link_exec(link_, &request, &stream_handlers, NULL, NULL),
                     "there is a place again");
  for (int i = 0; i < WAITING_MAX; i++) agent_stream_close(streams[i]);
}

// --- commands ------------------------------------------------------------------------------------

static int commands_done;
static GError *command_error;

static void on_command_done(const GError *error, gpointer user_data) {
  commands_done++;
  g_clear_error(&command_error);
  if (error) command_error = g_error_copy(error);
}

static gboolean command_is_done(void) {
  return commands_done > 0;
}

static uint32_t ask(guint seconds) {
  greet();
  agent_link_command(link_, "{\"execute\":\"guest-ping\"}", seconds, on_command_done, NULL);
  expect_frame(STELE_FRAME_COMMAND);
  cr_expect_eq(memcmp(frame.payload, "{\"execute\"", 10), 0);
  return frame.stream;
}

Test(agent_link, command_that_is_done) {
  send_text(STELE_FRAME_REPLY, ask(60), "{\"return\":{}}");
  run_until(command_is_done);
  cr_expect_null(command_error);
}

Test(agent_link, command_that_is_refused) {
  send_text(STELE_FRAME_REPLY, ask(60), "{\"error\":{\"class\":\"x\",\"desc\":\"not\\u001b[2J now\"}}");
  run_until(command_is_done);
  cr_assert(g_error_matches(command_error, STELE_ERROR, STELE_ERROR_GUEST_ERROR));
  cr_expect_not_null(strstr(command_error->message, "not now"), "%s", command_error->message);
}

Test(agent_link, command_nobody_answers) {
  uint32_t number = ask(1);
  run_until(command_is_done);
  cr_assert(g_error_matches(command_error, STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE));
  send_text(STELE_FRAME_REPLY, number, "{\"return\":{}}"); // too late, but no offence
  send_text(STELE_FRAME_STATUS, 0, "{\"state\":\"ready\"}");
  run_until(status_has_come);
  cr_expect_eq(commands_done, 1);
}

Test(agent_link, commands_end_with_the_link) {
  ask(60);
  shutdown(guest, SHUT_RDWR);
  run_until(command_is_done);
  cr_assert(g_error_matches(command_error, STELE_ERROR, STELE_ERROR_AGENT_UNAVAILABLE));
  run_until(link_has_ended);
}

// --- a hostile guest -----------------------------------------------------------------------------

// Each row is one frame sent in a session in which stream 1 is an open program with pipes (next is stream
// 2). All break a rule.
static const struct {
  const char *what;
  SteleFrameType type;
  uint32_t stream;
  uint8_t payload[9];
  uint32_t length;
} hostile[] = {
    {"greets again", STELE_FRAME_HELLO, 0, {0}, 20},
    {"status that is no JSON", STELE_FRAME_STATUS, 0, "nonsense", 8},
    {"data of a stream nobody opened", STELE_FRAME_DATA, 2, "\1x", 2},
    {"data on stdin", STELE_FRAME_DATA, 1, {0, 'x'}, 2},
    {"data on channel 3", STELE_FRAME_DATA, 1, "\3x", 2},
    {"data on channel 255", STELE_FRAME_DATA, 1, "\xffx", 2},
    {"credit for stdout", STELE_FRAME_WINDOW, 1, {1, 0, 0, 0, 1, 0, 0, 0}, 8},
    {"more credit than the window", STELE_FRAME_WINDOW, 1, {0, 0, 0, 0, 1, 0, 0, 0}, 8},
    {"credit that overflows", STELE_FRAME_WINDOW, 1, {0, 0, 0, 0, 255, 255, 255, 255}, 8},
    {"no credit", STELE_FRAME_WINDOW, 1, {0}, 8},
    {"end of channel 7", STELE_FRAME_EOF, 1, {7}, 1},
    {"opens twice", STELE_FRAME_OPENED, 1, "{}", 2},
    {"exit status 256", STELE_FRAME_EXIT, 1, {0, 0, 0, 0, 0, 1, 0, 0}, 8},
    {"signal 65", STELE_FRAME_EXIT, 1, {1, 0, 0, 0, 65, 0, 0, 0}, 8},
    {"exit of a third kind", STELE_FRAME_EXIT, 1, {2, 0, 0, 0, 0, 0, 0, 0}, 8},
    {"error that is no JSON", STELE_FRAME_ERROR, 1, "[", 2},
    {"answers a program as a command", STELE_FRAME_REPLY, 1, "{}", 2},
    {"answers a command nobody gave", STELE_FRAME_REPLY, 2, "{}", 2},
    {"a frame only hosts send", STELE_FRAME_OPEN_EXEC, 1, "{}", 2},
    {"no such type", 99, 1, "", 0},
};

Test(agent_link, hostile_frames_end_the_link) {
  for (size_t i = 0; i < G_N_ELEMENTS(hostile); i++) {
    if (i > 0) set_scene();
    memset(&host_frames, 0, sizeof host_frames);
    host_frames.sender = STELE_FROM_HOST;
    opened = ended = 0;
    greet();
    AgentStream *stream = start(FALSE);
    send_frame(hostile[i].type, hostile[i].stream, hostile[i].payload, hostile[i].length);
    run_until(link_has_ended);
    cr_expect(g_str_has_prefix(link_ended, "the guest agent broke its protocol"), "%s: %s", hostile[i].what,
              link_ended);
    cr_expect_eq(ended, 1, "%s", hostile[i].what);
    agent_stream_close(stream);
    g_clear_pointer(&link_ended, g_free);
    for (int n = 0; n < near_count; n++) close(near_ends[n]);
    close(guest);
  }
  set_scene();
}

Test(agent_link, more_than_the_credit_ends_the_link) {
  greet();
  AgentStream *stream = start(FALSE);
  g_autofree uint8_t *data = g_malloc0(STELE_FRAME_PAYLOAD_MAX);
  data[0] = STELE_CHANNEL_STDERR;
  for (int i = 0; i < 6 && !link_ended; i++)
    send_frame(STELE_FRAME_DATA, 1, data, STELE_FRAME_PAYLOAD_MAX); // nobody reads
  run_until(link_has_ended);
  cr_expect_not_null(strstr(link_ended, "credit"));
  agent_stream_close(stream);
}

// A guest that sends bytes one by one and reads nothing: what waits for it must not grow with what it sends.
Test(agent_link, small_frames_make_no_queue) {
  greet();
  AgentStream *stream = start(FALSE);
  char sink[65536];
  uint8_t frames[1000][STELE_FRAME_HEADER_SIZE + 2];
  for (int i = 0; i < 1000; i++) {
    stele_frame_write_header(frames[i], STELE_FRAME_DATA, 1, 2);
    memcpy(frames[i] + STELE_FRAME_HEADER_SIZE, "\1x", 2);
  }
  for (int round = 0; round < 100; round++) {
    send_bytes(frames, sizeof frames);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    cr_assert_gt(read(near_ends[1], sink, sizeof sink), 0);
  }
  int waiting = 0;
  for (ssize_t n; (n = read(guest, sink, sizeof sink)) > 0;) waiting += (int)n;
  cr_expect_leq(waiting, 100, "%d bytes were sent for 100,000", waiting);
  cr_expect_null(link_ended);
  agent_stream_close(stream);
}

Test(agent_link, who_does_not_read_is_let_go) {
  greet();
  AgentStream *stream = start(FALSE);
  for (int i = 0; i < 1000000 && !link_ended; i++) {
    agent_stream_signal(stream, 10);
    if (i % 1000 == 0) g_main_context_iteration(NULL, FALSE);
  }
  run_until(link_has_ended);
  cr_expect_not_null(strstr(link_ended, "does not read"), "%s", link_ended);
  agent_stream_close(stream);
}

// However much has arrived, a turn of the loop handles a part of it: others wait for it.
Test(agent_link, a_turn_is_bounded) {
  greet();
  static const char text[] = "{\"state\":\"ready\"}";
  static uint8_t frames[3000][STELE_FRAME_HEADER_SIZE + sizeof text - 1];
  for (int i = 0; i < 3000; i++) {
    stele_frame_write_header(frames[i], STELE_FRAME_STATUS, 0, sizeof text - 1);
    memcpy(frames[i] + STELE_FRAME_HEADER_SIZE, text, sizeof text - 1);
  }
  cr_assert_eq(send(guest, frames, sizeof frames, MSG_NOSIGNAL), (ssize_t)sizeof frames);
  int most = 0, before = 0;
  for (gint64 end = g_get_monotonic_time() + PATIENCE_MS * 1000; statuses < 3000 && g_get_monotonic_time() < end;) {
    g_main_context_iteration(NULL, FALSE);
    most = MAX(most, statuses - before);
    before = statuses;
  }
  cr_expect_eq(statuses, 3000);
  cr_expect_leq(most, 600, "%d frames in one turn", most);
}

Test(agent_link, another_version_is_named) {
  expect_frame(STELE_FRAME_HELLO);
  uint8_t answer[STELE_NONCE_SIZE + 4];
  memcpy(answer, frame.payload, sizeof answer);
  stele_put_u32(answer + STELE_NONCE_SIZE, 99);
  send_frame(STELE_FRAME_HELLO, 0, answer, sizeof answer);
  run_until(link_has_ended);
  cr_expect_not_null(strstr(link_ended, "version 99"));
}

Test(agent_link, random_bytes_in_a_session) {
  srandom(7);
  for (int round = 0; round < 200; round++) {
    if (round > 0) set_scene();
    memset(&host_frames, 0, sizeof host_frames);
    host_frames.sender = STELE_FROM_HOST;
    opened = ended = 0;
    greet();
    AgentStream *stream = start(round % 2);
    uint8_t bytes[300];
    for (int part = 0; part < 8 && !link_ended; part++) {
      uint32_t length = (uint32_t)random() % 40;
      for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)random();
      if (part < 6)
        send_frame((SteleFrameType)(1 + random() % 12), (uint32_t)random() % 3, bytes, length);
      else
        send_bytes(bytes, sizeof bytes);
      while (g_main_context_iteration(NULL, FALSE)) {
      }
    }
    agent_stream_close(stream);
    g_clear_pointer(&link_ended, g_free);
    g_clear_pointer(&link_, agent_link_free);
    for (int n = 0; n < near_count; n++) close(near_ends[n]);
    near_count = 0;
    close(guest);
  }
  set_scene();
}
