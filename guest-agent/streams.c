// See streams.h. A session is what lies between two HELLOs; a stream is one program. Frames are built
// and checked here; bytes to frames is stream-frame.c's, running the program is program.c's.
//
// Reading from a program stops while the host gives no credit or does not take what is queued, so that
// the queue is bounded; a source that must wait is unwatched, since a hung-up pipe is always ready.
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "commands.h"
#include "loop.h"
#include "port.h"
#include "program.h"
#include "stream-frame.h"
#include "userspace.h"

enum {
  QUEUE_HIGH = 512 << 10,                 // queued output at which programs are no longer read
  CREDIT_BATCH = STELE_STREAM_WINDOW / 4, // consumed input worth a WINDOW frame
  UNLIMITED = INT32_MAX,
};

struct Stream;

// One of a program's outputs.
typedef struct Output {
  Source source; // first: cast back
  struct Stream *stream;
  uint8_t channel;
  uint32_t credit;
  int32_t drain; // bytes still to be sent once the program has ended
} Output;

// A program's standard input.
typedef struct Input {
  Source source; // first: cast back
  struct Stream *stream;
  Buffer pending;    // received, not yet taken by the program
  uint32_t window;   // what the host may still send
  uint32_t consumed; // to be given back by a WINDOW frame
  bool ended;        // the host sent EOF
} Input;

typedef struct Stream {
  uint32_t id; // 0: free
  pid_t pid;   // in our numbering; 0 once reaped
  pid_t pid_inside;
  bool tty, opened, reaped;
  int status;
  Source report; // of the program's start
  int session;   // its login session's descriptor (program.h), or -1
  Input input;
  Output outputs[2];
} Stream;

static Agent *agent;
static Stream streams[STELE_STREAMS_MAX];
static bool session, synchronised;
static uint32_t session_number, last_id;
static SteleFrameParser parser = {.sender = STELE_FROM_HOST};
static Port port = {.source.fd = -1, .name = STELE_STREAM_CHANNEL};

static void end_session(void);

// --- sending -------------------------------------------------------------------------------------------

static void send_parts(SteleFrameType type, uint32_t id, const void *head, uint32_t head_size, const void *body,
                       uint32_t body_size) {
  uint8_t header[STELE_FRAME_HEADER_SIZE];
  stele_frame_write_header(header, type, id, head_size + body_size);
  if (port_queue(&port, header, sizeof header) < 0 || port_queue(&port, head, head_size) < 0 ||
      port_queue(&port, body, body_size) < 0)
    return end_session();
  port_flush(&port);
}

static void send_json(SteleFrameType type, uint32_t id, Buffer *json) {
  if (!json->error && json->size <= STELE_FRAME_PAYLOAD_MAX)
    send_parts(type, id, json->data, (uint32_t)json->size, NULL, 0);
  buffer_clear(json);
}

static void send_error(uint32_t id, const char *code, const char *message) {
  Buffer json = {0};
  json_open(&json, '{');
  json_member_string(&json, "code", code);
  json_member_string(&json, "message", message);
  json_close(&json, '}');
  send_json(STELE_FRAME_ERROR, id, &json);
}

void streams_send_status(void) {
  Buffer json = {0};
  if (!session) return;
  agent_describe_status(agent, &json);
  send_json(STELE_FRAME_STATUS, 0, &json);
}

// --- a stream's life -----------------------------------------------------------------------------------

static void close_source(Source *source) {
  loop_unwatch(source);
  if (source->fd >= 0) close(source->fd);
  source->fd = -1;
}

static void free_stream(Stream *stream) {
  // With a terminal, input and output are two descriptors of the same master.
  close_source(&stream->report);
  close_source(&stream->input.source);
  close_source(&stream->outputs[0].source);
  close_source(&stream->outputs[1].source);
  buffer_clear(&stream->input.pending);
  if (stream->session >= 0) close(stream->session);
  stream->id = 0;
}

static void hang_up(Stream *stream) {
  if (stream->pid) kill(-stream->pid, SIGHUP);
  free_stream(stream);
}

static void end_session(void) {
  for (size_t i = 0; i < STELE_STREAMS_MAX; i++)
    if (streams[i].id) hang_up(&streams[i]);
  session = synchronised = false;
  last_id = 0;
}

static void send_exit(Stream *stream) {
  uint8_t payload[8];
  bool signalled = WIFSIGNALED(stream->status);
  stele_put_u32(payload, signalled ? STELE_EXIT_SIGNAL : STELE_EXIT_STATUS);
  stele_put_u32(payload + 4, (uint32_t)(signalled ? WTERMSIG(stream->status) : WEXITSTATUS(stream->status)));
  uint32_t id = stream->id;
  free_stream(stream);
  send_parts(STELE_FRAME_EXIT, id, payload, sizeof payload, NULL, 0);
}

static void finish_if_done(Stream *stream) {
  if (stream->id && stream->opened && stream->reaped && stream->outputs[0].source.fd < 0 &&
      stream->outputs[1].source.fd < 0)
    send_exit(stream);
}

// --- output: program -> host ---------------------------------------------------------------------------

static void end_output(Output *output) {
  close_source(&output->source);
  send_parts(STELE_FRAME_EOF, output->stream->id, &output->channel, 1, NULL, 0);
}

// Sends one chunk; false: nothing more to read now.
static bool pump_chunk(Output *output) {
  static uint8_t bytes[STELE_DATA_CHUNK_MAX];
  size_t most = output->credit < sizeof bytes ? output->credit : sizeof bytes;
  if (output->drain < (int64_t)most) most = (size_t)output->drain;
  ssize_t got = most ? read(output->source.fd, bytes, most) : 0;
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN && !output->stream->reaped) return false;
  if (got <= 0) return end_output(output), false; // also EIO: a terminal all have closed
  output->credit -= (uint32_t)got;
  if (output->drain != UNLIMITED) output->drain -= (int32_t)got;
  send_parts(STELE_FRAME_DATA, output->stream->id, &output->channel, 1, bytes, (uint32_t)got);
  return output->stream->id != 0; // sending may have ended the session
}

static void pump_output(Output *output) {
  Stream *stream = output->stream;
  while (stream->id && output->source.fd >= 0 && output->credit && port.out.size < QUEUE_HIGH)
    if (!pump_chunk(output)) break;
  if (stream->id && output->source.fd >= 0) {
    if (output->credit && port.out.size < QUEUE_HIGH)
      loop_watch(&output->source, EPOLLIN);
    else
      loop_unwatch(&output->source);
  }
  finish_if_done(stream);
}

static void on_output(Source *source, uint32_t events) {
  pump_output((Output *)source);
}

static void pump_all(Port *drained) {
  for (size_t i = 0; i < STELE_STREAMS_MAX; i++)
    for (int k = 0; k < 2; k++)
      if (streams[i].id && streams[i].opened && streams[i].outputs[k].source.fd >= 0)
        pump_output(&streams[i].outputs[k]);
}

// --- input: host -> program ----------------------------------------------------------------------------

static void give_credit_back(Input *input) {
  uint8_t payload[8] = {STELE_CHANNEL_STDIN};
  if (!input->consumed || (input->consumed < CREDIT_BATCH && input->pending.size)) return;
  stele_put_u32(payload + 4, input->consumed);
  input->window += input->consumed;
  input->consumed = 0;
  send_parts(STELE_FRAME_WINDOW, input->stream->id, payload, sizeof payload, NULL, 0);
}

// A program that closed its input, or never reads it: what comes is dropped.
static void drop_input(Input *input) {
  input->consumed += (uint32_t)input->pending.size;
  buffer_clear(&input->pending);
  close_source(&input->source);
}

static void end_input(Input *input) {
  static const char end_of_file = 4; // ^D, what a terminal's user would type
  if (input->stream->tty) {
    ssize_t ignored = write(input->source.fd, &end_of_file, 1);
    (void)ignored;
  }
  close_source(&input->source);
}

static void flush_input(Input *input) {
  while (input->source.fd >= 0 && input->pending.size) {
    ssize_t written = write(input->source.fd, input->pending.data, input->pending.size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) break;
    if (written < 0) {
      drop_input(input);
      break;
    }
    buffer_consume(&input->pending, (size_t)written);
    input->consumed += (uint32_t)written;
  }
  if (input->source.fd >= 0 && input->ended && !input->pending.size) end_input(input);
  if (input->source.fd >= 0 && input->pending.size)
    loop_watch(&input->source, EPOLLOUT);
  else
    loop_unwatch(&input->source);
  give_credit_back(input);
}

static void on_input(Source *source, uint32_t events) {
  flush_input((Input *)source);
}

// --- starting a program --------------------------------------------------------------------------------

static const char *error_code(int error) {
  switch (error) {
  case ENOENT:
  case ENOTDIR:
    return STELE_STREAM_ERROR_NOT_FOUND;
  case EACCES:
  case EPERM:
    return STELE_STREAM_ERROR_DENIED;
  case ENOEXEC:
    return STELE_STREAM_ERROR_FORMAT;
  case EINVAL:
  case E2BIG:
    return STELE_STREAM_ERROR_INVALID;
  case EAGAIN:
    return STELE_STREAM_ERROR_BUSY;
  default:
    return STELE_STREAM_ERROR_FAILED;
  }
}

static void refuse(Stream *stream, int error, const char *message) {
  uint32_t id = stream->id;
  free_stream(stream);
  send_error(id, error_code(error), message);
}

static void announce(Stream *stream) {
  Buffer json = {0};
  json_open(&json, '{');
  json_member_integer(&json, "pid", stream->pid_inside);
  json_close(&json, '}');
  stream->opened = true;
  send_json(STELE_FRAME_OPENED, stream->id, &json);
  if (stream->id) pump_output(&stream->outputs[0]);
  if (stream->id && stream->outputs[1].source.fd >= 0) pump_output(&stream->outputs[1]);
  if (stream->id) flush_input(&stream->input);
}

static ssize_t receive_report(Stream *stream, ProgramReport *report) {
  union {
    struct cmsghdr header; // for the alignment
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = {report, sizeof *report};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(stream->report.fd, &message, MSG_CMSG_CLOEXEC);
  struct cmsghdr *descriptor = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (descriptor && descriptor->cmsg_type == SCM_RIGHTS && stream->session < 0)
    memcpy(&stream->session, CMSG_DATA(descriptor), sizeof stream->session);
  return got;
}

static void read_report(Stream *stream) {
  ProgramReport report;
  for (;;) {
    ssize_t got = receive_report(stream, &report);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got != (ssize_t)sizeof report) break;
    stream->pid_inside = report.pid;
    if (report.error) {
      report.message[sizeof report.message - 1] = 0;
      return refuse(stream, report.error, report.message);
    }
  }
  close_source(&stream->report);
  if (stream->pid_inside)
    announce(stream);
  else
    refuse(stream, EIO, "the userspace could not be entered");
}

static void on_report(Source *source, uint32_t events) {
  read_report((Stream *)((char *)source - offsetof(Stream, report)));
}

// The ends of a program's streams: `theirs` are its descriptors 0, 1 and 2, `ours` what we hold of them.
typedef struct Ends {
  int theirs[3], ours[3];
} Ends;

static void close_ends(int fds[3]) {
  for (int i = 0; i < 3; i++)
    if (fds[i] >= 0) close(fds[i]);
}

static int open_pipes(Ends *ends) {
  for (int i = 0; i < 3; i++) {
    int both[2];
    if (pipe2(both, O_CLOEXEC) < 0) return -errno;
    ends->ours[i] = both[i == 0];
    ends->theirs[i] = both[i != 0];
    fcntl(ends->ours[i], F_SETFL, O_NONBLOCK);
  }
  return 0;
}

static int open_terminal(const ProgramRequest *request, Ends *ends) {
  struct winsize size = {.ws_row = request->rows ? request->rows : 24,
                         .ws_col = request->columns ? request->columns : 80};
  int unlocked = 0, master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (master < 0) return -errno;
  ends->ours[0] = master;
  ends->ours[1] = fcntl(master, F_DUPFD_CLOEXEC, 0);
  if (ends->ours[1] < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCSWINSZ, &size) < 0)
    return -errno;
  return 0;
}

// In the child, inside the userspace: the terminal by the name it has there, so that ttyname(3) works.
static int enter_terminal(int master) {
  char path[32];
  int number;
  if (ioctl(master, TIOCGPTN, &number) < 0) return -errno;
  snprintf(path, sizeof path, "/dev/pts/%d", number);
  int fd = open(path, O_RDWR | O_NOCTTY);
  if (fd < 0) fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
  if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) < 0) return -errno;
  for (int i = 0; i < 3; i++)
    if (dup2(fd, i) < 0) return -errno;
  if (fd > 2) close(fd);
  return 0;
}

static void run_child(const ProgramRequest *request, const Ends *ends, int report_fd) {
  setsid();
  if (request->tty) {
    if (enter_terminal(ends->ours[0]) < 0) _exit(EXIT_FAILURE);
  } else {
    for (int i = 0; i < 3; i++)
      if (dup2(ends->theirs[i], i) < 0) _exit(EXIT_FAILURE);
  }
  program_exec(request, report_fd);
}

static void adopt(Stream *stream, const ProgramRequest *request, const Ends *ends, int report_fd) {
  stream->tty = request->tty;
  stream->report = (Source){.fd = report_fd, .ready = on_report};
  stream->input =
      (Input){.source = {.fd = ends->ours[0], .ready = on_input}, .stream = stream, .window = STELE_STREAM_WINDOW};
  for (int i = 0; i < 2; i++)
    stream->outputs[i] = (Output){.source = {.fd = ends->ours[i + 1], .ready = on_output},
                                  .stream = stream,
                                  .channel = (uint8_t)(STELE_CHANNEL_STDOUT + i),
                                  .credit = STELE_STREAM_WINDOW,
                                  .drain = UNLIMITED};
  fcntl(report_fd, F_SETFL, O_NONBLOCK);
  loop_watch(&stream->report, EPOLLIN);
}

static int start_program(Stream *stream, const ProgramRequest *request) {
  Ends ends = {{-1, -1, -1}, {-1, -1, -1}};
  int report[2] = {-1, -1};
  int r = request->tty ? open_terminal(request, &ends) : open_pipes(&ends);
  if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0) r = -errno;
  pid_t pid = r == 0 ? userspace_fork(agent) : r;
  if (pid == 0) {
    close(report[0]);
    run_child(request, &ends, report[1]);
  }
  if (report[1] >= 0) close(report[1]);
  close_ends(ends.theirs);
  if (pid < 0) {
    close_ends(ends.ours);
    if (report[0] >= 0) close(report[0]);
    return pid;
  }
  stream->pid = pid;
  adopt(stream, request, &ends, report[0]);
  return 0;
}

static Stream *new_stream(uint32_t id) {
  for (size_t i = 0; i < STELE_STREAMS_MAX; i++) {
    if (streams[i].id) continue;
    streams[i] = (Stream){.id = id,
                          .session = -1,
                          .report.fd = -1,
                          .input.source.fd = -1,
                          .outputs = {{.source.fd = -1}, {.source.fd = -1}}};
    return &streams[i];
  }
  return NULL;
}

static int open_exec(const SteleFrame *frame) {
  ProgramRequest request;
  if (frame->stream <= last_id) return -EPROTO;
  last_id = frame->stream;
  Stream *stream = new_stream(frame->stream);
  if (!stream) return send_error(frame->stream, STELE_STREAM_ERROR_BUSY, "too many programs run already"), 0;
  int r = program_parse(&request, (const char *)frame->payload, frame->length);
  if (r == 0) r = start_program(stream, &request);
  program_free(&request);
  if (r == -EINVAL || r == -E2BIG)
    refuse(stream, -r, "the request is no JSON object of the documented shape");
  else if (r == -ESRCH)
    refuse(stream, EAGAIN, "no userspace is running (yet)");
  else if (r == -EAGAIN)
    refuse(stream, EAGAIN, "the machine has as many processes as its kernel allows: end some first");
  else if (r < 0)
    refuse(stream, -r, strerror(-r));
  return 0;
}

// --- commands ------------------------------------------------------------------------------------------

// `number` is the session's, then the command's: an answer for a session that is over goes nowhere.
static void send_reply(uint64_t number, const Buffer *answer) {
  if (session && number >> 32 == session_number && answer->size <= STELE_FRAME_PAYLOAD_MAX)
    send_parts(STELE_FRAME_REPLY, (uint32_t)number, answer->data, (uint32_t)answer->size, NULL, 0);
}

static int take_command(const SteleFrame *frame) {
  if (frame->stream <= last_id) return -EPROTO;
  last_id = frame->stream;
  commands_handle(agent, (const char *)frame->payload, frame->length, send_reply,
                  (uint64_t)session_number << 32 | frame->stream);
  return 0;
}

// --- frames --------------------------------------------------------------------------------------------

static int on_data(Stream *stream, const SteleFrame *frame) {
  Input *input = &stream->input;
  uint32_t size = frame->length - 1;
  if (frame->payload[0] != STELE_CHANNEL_STDIN || input->ended || size > input->window) return -EPROTO;
  input->window -= size;
  if (input->source.fd < 0) {
    input->consumed += size;
    give_credit_back(input);
    return 0;
  }
  if (buffer_append(&input->pending, frame->payload + 1, size) < 0) drop_input(input);
  if (stream->opened) flush_input(input);
  return 0;
}

static int on_window(Stream *stream, const SteleFrame *frame) {
  uint32_t channel = frame->payload[0], credit = stele_get_u32(frame->payload + 4);
  if (channel != STELE_CHANNEL_STDOUT && channel != STELE_CHANNEL_STDERR) return -EPROTO;
  Output *output = &stream->outputs[channel - STELE_CHANNEL_STDOUT];
  if (credit == 0 || credit > STELE_STREAM_WINDOW - output->credit) return -EPROTO;
  output->credit += credit;
  if (stream->opened && output->source.fd >= 0) pump_output(output);
  return 0;
}

// Nobody reads this output any more: the program gets SIGPIPE when it goes on writing.
static int abandon_output(Stream *stream, uint32_t channel) {
  if (channel > STELE_CHANNEL_STDERR) return -EPROTO;
  if (stream->opened && !stream->tty) close_source(&stream->outputs[channel - STELE_CHANNEL_STDOUT].source);
  finish_if_done(stream);
  return 0;
}

static int on_eof(Stream *stream, const SteleFrame *frame) {
  if (frame->payload[0] != STELE_CHANNEL_STDIN) return abandon_output(stream, frame->payload[0]);
  stream->input.ended = true;
  if (stream->opened && stream->input.source.fd >= 0) flush_input(&stream->input);
  return 0;
}

static int on_resize(Stream *stream, const SteleFrame *frame) {
  struct winsize size = {.ws_row = stele_get_u16(frame->payload), .ws_col = stele_get_u16(frame->payload + 2)};
  if (stream->tty && stream->outputs[0].source.fd >= 0) ioctl(stream->outputs[0].source.fd, TIOCSWINSZ, &size);
  return 0;
}

static int on_signal(Stream *stream, const SteleFrame *frame) {
  uint32_t signal = stele_get_u32(frame->payload);
  if (signal < 1 || signal > 64) return -EPROTO;
  if (stream->pid) kill(-stream->pid, (int)signal);
  return 0;
}

static int on_close(Stream *stream, const SteleFrame *frame) {
  return hang_up(stream), 0;
}

static int on_hello(const SteleFrame *frame) {
  uint8_t version[4];
  end_session();
  buffer_clear(&port.out);
  session_number++;
  session = synchronised = true;
  stele_put_u32(version, STELE_PROTOCOL_VERSION);
  send_parts(STELE_FRAME_HELLO, 0, frame->payload, STELE_NONCE_SIZE, version, sizeof version);
  streams_send_status();
  return 0;
}

static int (*const stream_handlers[])(Stream *stream, const SteleFrame *frame) = {
    [STELE_FRAME_DATA] = on_data,     [STELE_FRAME_WINDOW] = on_window, [STELE_FRAME_EOF] = on_eof,
    [STELE_FRAME_RESIZE] = on_resize, [STELE_FRAME_SIGNAL] = on_signal, [STELE_FRAME_CLOSE] = on_close,
};

static Stream *find_stream(uint32_t id) {
  for (size_t i = 0; i < STELE_STREAMS_MAX; i++)
    if (streams[i].id == id) return &streams[i];
  return NULL;
}

static int handle_frame(const SteleFrame *frame) {
  if (frame->type == STELE_FRAME_HELLO) return on_hello(frame);
  if (!session) return -EPROTO;
  if (frame->type == STELE_FRAME_OPEN_EXEC) return open_exec(frame);
  if (frame->type == STELE_FRAME_COMMAND) return take_command(frame);
  if (frame->type >= sizeof stream_handlers / sizeof *stream_handlers || !stream_handlers[frame->type]) return -EPROTO;
  Stream *stream = find_stream(frame->stream);
  if (stream) return stream_handlers[frame->type](stream, frame);
  return frame->stream <= last_id ? 0 : -EPROTO; // it has ended, the frame crossed that on the wire
}

// After an error: drops bytes up to the next zero, where padding may begin.
static void skip_to_padding(void) {
  while (parser.start < parser.end && parser.buffer[parser.start] != 0) parser.start++;
}

// A greeting nobody asked for tells the host that it has to open a new session.
static void report_broken_session(void) {
  static const uint8_t greeting[STELE_NONCE_SIZE + 4];
  if (session) send_parts(STELE_FRAME_HELLO, 0, greeting, STELE_NONCE_SIZE, greeting + STELE_NONCE_SIZE, 4);
}

static void handle_input(void) {
  SteleFrame frame;
  for (;;) {
    if (!synchronised) skip_to_padding();
    int r = stele_frame_parser_next(&parser, &frame);
    if (r == 0) return;
    if (r > 0 && !synchronised && frame.type != STELE_FRAME_HELLO) continue;
    if (r > 0) r = handle_frame(&frame);
    if (r == 0) continue;
    report_broken_session();
    end_session();
    if (parser.start < parser.end) parser.start++;
  }
}

static void on_receive(Port *from, const uint8_t *bytes, size_t size) {
  while (size) {
    size_t space;
    uint8_t *to = stele_frame_parser_space(&parser, &space);
    if (space > size) space = size;
    memcpy(to, bytes, space);
    stele_frame_parser_commit(&parser, space);
    handle_input();
    bytes += space;
    size -= space;
  }
}

static void on_peer_changed(Port *changed) {
  if (changed->connected) return;
  end_session();
  stele_frame_parser_reset(&parser);
}

// --- outside -------------------------------------------------------------------------------------------

int streams_open(Agent *the_agent) {
  agent = the_agent;
  if (port.source.fd >= 0) return 0;
  port.receive = on_receive;
  port.peer_changed = on_peer_changed;
  port.drained = pump_all;
  return port_open(&port);
}

// What the program had written by its end is still to be sent. A pipe tells how much that is; a terminal
// is read until it is empty.
static void note_drain(Output *output) {
  int available = 0;
  if (output->source.fd < 0 || output->stream->tty) return;
  output->drain = ioctl(output->source.fd, FIONREAD, &available) == 0 ? available : 0;
}

bool streams_reaped(pid_t pid, int status) {
  for (size_t i = 0; i < STELE_STREAMS_MAX; i++) {
    Stream *stream = &streams[i];
    if (!stream->id || stream->pid != pid) continue;
    stream->pid = 0;
    stream->reaped = true;
    stream->status = status;
    note_drain(&stream->outputs[0]);
    note_drain(&stream->outputs[1]);
    if (!stream->opened) read_report(stream);
    pump_all(NULL);
    finish_if_done(stream); // its outputs may have ended before it did
    return true;
  }
  return false;
}
