// See qga.h. Framing, dispatch and the children that answer; the commands are in qga-commands.c. The
// protocol is QEMU's docs/interop/qemu-ga-ref: `guest-sync-delimited` is answered behind a 0xFF byte,
// and a 0xFF byte from the host starts a new message.
#include "qga.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "port.h"
#include "userspace.h"

enum { LINE_MAX = 1 << 20, REPLY_MAX = 8 << 20, JOBS_MAX = 8, JOB_TIMEOUT_MS = 30000 };

// A child that answers a command.
typedef struct Job {
  Source source; // first: cast back; the pipe its answer comes through
  const QgaCommand *command; // NULL: free
  pid_t pid;                 // 0 once reaped
  uint64_t deadline;         // monotonic ms
  Buffer answer;
  char id[64]; // the request's "id", as text
} Job;

static Agent *agent;
static Job jobs[JOBS_MAX];
static Buffer line = {.limit = LINE_MAX};
static Port port = {.source.fd = -1, .name = STELE_AGENT_CHANNEL};

// --- replies -------------------------------------------------------------------------------------------

static void send_reply(const char *name, const Buffer *value, const char *id) {
  Buffer reply = {.limit = REPLY_MAX + 256};
  buffer_printf(&reply, "{\"%s\":", name);
  buffer_append(&reply, value->data, value->size);
  if (*id) buffer_printf(&reply, ",\"id\":%s", id);
  buffer_append(&reply, "}\n", 2);
  if (!reply.error) {
    port_queue(&port, reply.data, reply.size);
    port_flush(&port);
  }
  buffer_clear(&reply);
}

static void send_error(const char *class, const char *description, const char *id) {
  Buffer value = {0};
  json_open(&value, '{');
  json_member_string(&value, "class", class);
  json_member_string(&value, "desc", description);
  json_close(&value, '}');
  if (!value.error) send_reply("error", &value, id);
  buffer_clear(&value);
}

static void send_result(const QgaCommand *command, int r, const Buffer *value, const char *id) {
  if (r == 0) r = value->error;
  if (r < 0) {
    send_error("GenericError", strerror(-r), id);
    return;
  }
  if (command->done) command->done();
  send_reply("return", value, id);
}

// --- children ------------------------------------------------------------------------------------------

static void free_job(Job *job) {
  loop_unwatch(&job->source);
  if (job->source.fd >= 0) close(job->source.fd);
  buffer_clear(&job->answer);
  job->command = NULL;
}

// The answer is the handler's result (an int) and the value's text; nothing at all if the child died.
static void finish_job(Job *job) {
  int r = -EIO;
  Buffer value = {0};
  if (job->answer.size >= sizeof r) {
    memcpy(&r, job->answer.data, sizeof r);
    value.data = job->answer.data + sizeof r;
    value.size = job->answer.size - sizeof r;
  }
  send_result(job->command, r, &value, job->id);
  free_job(job);
}

static void on_job_output(Source *source, uint32_t events) {
  Job *job = (Job *)source;
  uint8_t *to = buffer_reserve(&job->answer, 65536);
  ssize_t got = to ? read(source->fd, to, 65536) : 0;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) job->answer.size += (size_t)got;
  else finish_job(job);
}

static void write_all(int fd, const void *bytes, size_t size) {
  for (const uint8_t *at = bytes; size;) {
    ssize_t written = write(fd, at, size);
    if (written <= 0) _exit(EXIT_FAILURE);
    at += written;
    size -= (size_t)written;
  }
}

static void answer_and_exit(const QgaCommand *command, const JsonDocument *request, const JsonNode *arguments, int fd) {
  Buffer value = {.limit = REPLY_MAX};
  signal(SIGPIPE, SIG_DFL);
  int r = command->run(agent, request, arguments, &value);
  if (r == 0) r = value.error;
  write_all(fd, &r, sizeof r);
  if (r == 0) write_all(fd, value.data, value.size);
  _exit(EXIT_SUCCESS);
}

static Job *free_slot(void) {
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (!jobs[i].command) return &jobs[i];
  return NULL;
}

static void start_job(const QgaCommand *command, const JsonDocument *request, const JsonNode *arguments,
                      const char *id) {
  int pipe_fds[2];
  Job *job = free_slot();
  if (!job) return send_error("GenericError", "too many commands are being answered already", id);
  if (pipe2(pipe_fds, O_CLOEXEC) < 0) return send_error("GenericError", strerror(errno), id);
  pid_t pid = userspace_fork(agent);
  if (pid == 0) answer_and_exit(command, request, arguments, pipe_fds[1]);
  close(pipe_fds[1]);
  if (pid < 0) {
    close(pipe_fds[0]);
    return send_error("GenericError", pid == -EAGAIN ? "no userspace is running (yet)" : strerror(-pid), id);
  }
  *job = (Job){.source = {.fd = pipe_fds[0], .ready = on_job_output}, .command = command, .pid = pid,
               .deadline = agent_now_ms() + JOB_TIMEOUT_MS, .answer.limit = REPLY_MAX + 131072};
  strcpy(job->id, id);
  fcntl(job->source.fd, F_SETFL, O_NONBLOCK);
  loop_watch(&job->source, EPOLLIN);
}

bool qga_reaped(pid_t pid, int status) {
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (jobs[i].command && jobs[i].pid == pid) return jobs[i].pid = 0, true;
  return false;
}

int qga_expire(void) {
  uint64_t now = agent_now_ms(), nearest = UINT64_MAX;
  for (size_t i = 0; i < JOBS_MAX; i++) {
    Job *job = &jobs[i];
    if (job->command && job->deadline <= now) {
      if (job->pid) kill(job->pid, SIGKILL);
      send_error("GenericError", "the command took too long; a share may hang", job->id);
      free_job(job);
    } else if (job->command && job->deadline < nearest) {
      nearest = job->deadline;
    }
  }
  return nearest == UINT64_MAX ? -1 : (int)(nearest - now);
}

// --- requests ------------------------------------------------------------------------------------------

static void sync_delimited(const JsonDocument *request, const JsonNode *arguments, const char *id) {
  const JsonNode *token = json_member(request, arguments, "id");
  Buffer value = {0};
  int64_t number;
  int r = json_get_integer(request, token, &number);
  if (r == 0) {
    port_queue(&port, "\xff", 1);
    json_put_integer(&value, number);
  }
  send_result(&(QgaCommand){0}, r, &value, id);
  buffer_clear(&value);
}

static void run_here(const QgaCommand *command, const JsonDocument *request, const JsonNode *arguments,
                     const char *id) {
  Buffer value = {.limit = REPLY_MAX};
  int r = command->run(agent, request, arguments, &value);
  send_result(command, r, &value, id);
  buffer_clear(&value);
}

static const QgaCommand *find_command(const JsonDocument *request, const JsonNode *name) {
  for (const QgaCommand *command = qga_commands; command->name; command++)
    if (json_equals(request, name, command->name)) return command;
  return NULL;
}

static void copy_id(const JsonDocument *request, char *id, size_t size) {
  const JsonNode *node = json_member(request, request->nodes, "id");
  const char *text;
  size_t length;
  *id = 0;
  if (!node) return;
  json_get_text(request, node, &text, &length);
  if (length >= size || memchr(text, '\n', length)) return;
  memcpy(id, text, length);
  id[length] = 0;
}

static void handle_request(const JsonDocument *request) {
  const JsonNode *root = request->nodes, *name = json_member(request, root, "execute");
  const JsonNode *arguments = json_member(request, root, "arguments");
  char id[sizeof jobs->id];
  copy_id(request, id, sizeof id);
  if (!name || name->type != JSON_STRING) return send_error("GenericError", "no command in \"execute\"", id);
  if (json_equals(request, name, "guest-sync-delimited")) return sync_delimited(request, arguments, id);
  const QgaCommand *command = find_command(request, name);
  if (!command) return send_error("CommandNotFound", "The command has not been found", id);
  if (command->place == QGA_INSIDE) start_job(command, request, arguments, id);
  else run_here(command, request, arguments, id);
}

static bool is_blank(const Buffer *text) {
  for (size_t i = 0; i < text->size; i++)
    if (!strchr(" \t\r", text->data[i])) return false;
  return true;
}

static void handle_line(void) {
  JsonDocument request;
  if (line.error) return send_error("GenericError", "the request is too long", "");
  if (is_blank(&line)) return;
  int r = json_parse(&request, (const char *)line.data, line.size);
  if (r < 0) return send_error("GenericError", "Invalid JSON syntax", "");
  handle_request(&request);
  json_free(&request);
}

static void on_receive(Port *from, const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] == '\n') handle_line();
    if (bytes[i] == '\n' || bytes[i] == 0xff) buffer_clear(&line);
    else buffer_append(&line, &bytes[i], 1);
  }
}

static void on_peer_changed(Port *changed) { buffer_clear(&line); }

int qga_open(Agent *the_agent) {
  agent = the_agent;
  if (port.source.fd >= 0) return 0;
  port.receive = on_receive;
  port.peer_changed = on_peer_changed;
  return port_open(&port);
}
