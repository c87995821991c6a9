// See commands.h. Dispatch, and the children that answer; the commands are in command-table.c.
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "loop.h"
#include "userspace.h"

enum { JOBS_MAX = 8, JOB_TIMEOUT_MS = 30000, ID_MAX = 64 };

// Where an answer goes, and what it repeats of the request.
typedef struct Asker {
  CommandReply reply;
  uint64_t number;
  char id[ID_MAX]; // the request's "id", as text
} Asker;

// A child that answers a command.
typedef struct Job {
  Source source;          // first: cast back; the pipe its answer comes through
  const Command *command; // NULL: free
  pid_t pid;              // 0 once reaped
  uint64_t deadline;      // monotonic ms
  Buffer answer;
  Asker asker;
} Job;

static Job jobs[JOBS_MAX];

// --- answers -------------------------------------------------------------------------------------------

static void send_answer(const Asker *asker, const char *name, const Buffer *value) {
  Buffer answer = {.limit = COMMAND_REPLY_MAX + 256};
  buffer_printf(&answer, "{\"%s\":", name);
  buffer_append(&answer, value->data, value->size);
  if (*asker->id) buffer_printf(&answer, ",\"id\":%s", asker->id);
  buffer_append(&answer, "}", 1);
  if (!answer.error) asker->reply(asker->number, &answer);
  buffer_clear(&answer);
}

static void send_error(const Asker *asker, const char *class, const char *description) {
  Buffer value = {0};
  json_open(&value, '{');
  json_member_string(&value, "class", class);
  json_member_string(&value, "desc", description);
  json_close(&value, '}');
  if (!value.error) send_answer(asker, "error", &value);
  buffer_clear(&value);
}

static void send_result(const Asker *asker, const Command *command, int r, const Buffer *value) {
  if (r == 0) r = value->error;
  if (r < 0) {
    send_error(asker, "GenericError", strerror(-r));
    return;
  }
  if (command->note) command->note(COMMAND_DONE);
  send_answer(asker, "return", value);
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
  send_result(&job->asker, job->command, r, &value);
  free_job(job);
}

static void on_job_output(Source *source, uint32_t events) {
  Job *job = (Job *)source;
  uint8_t *to = buffer_reserve(&job->answer, 65536);
  ssize_t got = to ? read(source->fd, to, 65536) : 0;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0)
    job->answer.size += (size_t)got;
  else
    finish_job(job);
}

static void write_or_exit(int fd, const void *bytes, size_t size) {
  for (const uint8_t *at = bytes; size;) {
    ssize_t written = write(fd, at, size);
    if (written <= 0) _exit(EXIT_FAILURE);
    at += written;
    size -= (size_t)written;
  }
}

static void answer_and_exit(Agent *agent, const Command *command, const JsonDocument *request,
                            const JsonNode *arguments, int fd) {
  Buffer value = {.limit = COMMAND_REPLY_MAX};
  signal(SIGPIPE, SIG_DFL);
  int r = command->run(agent, request, arguments, &value);
  if (r == 0) r = value.error;
  write_or_exit(fd, &r, sizeof r);
  if (r == 0) write_or_exit(fd, value.data, value.size);
  _exit(EXIT_SUCCESS);
}

static Job *free_slot(void) {
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (!jobs[i].command) return &jobs[i];
  return NULL;
}

static void start_job(Agent *agent, const Command *command, const JsonDocument *request, const JsonNode *arguments,
                      const Asker *asker) {
  int pipe_fds[2];
  Job *job = free_slot();
  if (!job) return send_error(asker, "GenericError", "too many commands are being answered already");
  if (pipe2(pipe_fds, O_CLOEXEC) < 0) return send_error(asker, "GenericError", strerror(errno));
  if (command->note) command->note(COMMAND_BEGINS);
  pid_t pid = userspace_fork(agent);
  if (pid == 0) answer_and_exit(agent, command, request, arguments, pipe_fds[1]);
  close(pipe_fds[1]);
  if (pid < 0) {
    close(pipe_fds[0]);
    return send_error(asker, "GenericError", pid == -ESRCH ? "no userspace is running (yet)" : strerror(-pid));
  }
  *job = (Job){.source = {.fd = pipe_fds[0], .ready = on_job_output},
               .command = command,
               .pid = pid,
               .deadline = agent_now_ms() + JOB_TIMEOUT_MS,
               .answer.limit = COMMAND_REPLY_MAX + 131072,
               .asker = *asker};
  fcntl(job->source.fd, F_SETFL, O_NONBLOCK);
  loop_watch(&job->source, EPOLLIN);
}

bool commands_reaped(pid_t pid, int status) {
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (jobs[i].command && jobs[i].pid == pid) return jobs[i].pid = 0, true;
  return false;
}

int commands_expire(void) {
  uint64_t now = agent_now_ms(), nearest = UINT64_MAX;
  for (size_t i = 0; i < JOBS_MAX; i++) {
    Job *job = &jobs[i];
    if (job->command && job->deadline <= now) {
      if (job->pid) kill(job->pid, SIGKILL);
      send_error(&job->asker, "GenericError", "the command took too long; a share may hang");
      free_job(job);
    } else if (job->command && job->deadline < nearest) {
      nearest = job->deadline;
    }
  }
  return nearest == UINT64_MAX ? -1 : (int)(nearest - now);
}

// --- requests ------------------------------------------------------------------------------------------

static void run_here(Agent *agent, const Command *command, const JsonDocument *request, const JsonNode *arguments,
                     const Asker *asker) {
  Buffer value = {.limit = COMMAND_REPLY_MAX};
  int r = command->run(agent, request, arguments, &value);
  send_result(asker, command, r, &value);
  buffer_clear(&value);
}

static const Command *find_command(const JsonDocument *request, const JsonNode *name) {
  for (const Command *command = command_table; command->name; command++)
    if (json_equals(request, name, command->name)) return command;
  return NULL;
}

static void copy_id(const JsonDocument *request, char id[ID_MAX]) {
  const JsonNode *node = json_member(request, request->nodes, "id");
  const char *text;
  size_t length;
  if (!node) return;
  json_get_text(request, node, &text, &length);
  if (length >= ID_MAX || memchr(text, '\n', length)) return;
  memcpy(id, text, length);
  id[length] = 0;
}

static void handle_request(Agent *agent, const JsonDocument *request, Asker *asker) {
  const JsonNode *root = request->nodes, *name = json_member(request, root, "execute");
  const JsonNode *arguments = json_member(request, root, "arguments");
  copy_id(request, asker->id);
  if (!name || name->type != JSON_STRING) return send_error(asker, "GenericError", "no command in \"execute\"");
  const Command *command = find_command(request, name);
  if (!command) return send_error(asker, "CommandNotFound", "The command has not been found");
  if (command->place == COMMAND_INSIDE)
    start_job(agent, command, request, arguments, asker);
  else
    run_here(agent, command, request, arguments, asker);
}

void commands_refuse(const char *description, CommandReply reply, uint64_t number) {
  send_error(&(Asker){reply, number, ""}, "GenericError", description);
}

void commands_handle(Agent *agent, const char *text, size_t size, CommandReply reply, uint64_t number) {
  JsonDocument request;
  Asker asker = {reply, number, ""};
  if (json_parse(&request, text, size) < 0) return commands_refuse("Invalid JSON syntax", reply, number);
  handle_request(agent, &request, &asker);
  json_free(&request);
}
