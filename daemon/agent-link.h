// The stream channel to a guest's agent: sessions, programs started in the guest, their data and
// credit. The protocol is part 3 of common/guest-protocol.h. Everything that comes in is hostile: a
// broken rule ends the link, memory held for the guest is bounded by the credit it was given.
//
// All on the main loop. Knows bytes and file descriptors; nothing of libvirt, D-Bus or machines.
#pragma once

#include "byte-channel.h"

typedef struct AgentLink AgentLink;
typedef struct AgentStream AgentStream;

// What the guest says of itself (STELE_FRAME_STATUS); what it leaves out is "", 0 or FALSE. Texts
// are short and may be shown.
typedef struct AgentStatus {
  char *version, *state, *message;
  gint64 ready_ms;
  gboolean command_ended; // of init=command
  gboolean command_signalled;
  guint command_value; // its exit status, or the signal that killed it
} AgentStatus;

// None of these may free the link, but `ended`.
typedef struct AgentLinkHandlers {
  void (*status)(const AgentStatus *status, gpointer user_data);
  // The link is of no further use; all its streams have ended. Not called for agent_link_free().
  void (*ended)(const char *why, gpointer user_data);
} AgentLinkHandlers;

// Takes the channel and opens a session; streams can be opened at once.
AgentLink *agent_link_new(ByteChannel *channel, const AgentLinkHandlers *handlers, gpointer user_data);
// Ends all streams.
void agent_link_free(AgentLink *link);
// The guest was reset: streams end, and a session with its new agent is opened.
void agent_link_restart(AgentLink *link);
// Whether the guest's agent has answered in this session.
gboolean agent_link_is_open(AgentLink *link);
// Handles what has already arrived, before the channel goes away.
void agent_link_drain(AgentLink *link);

// Gives the guest's agent a command of its table, e.g. {"execute":"guest-set-time"}. `done` is called once,
// later: error is NULL when the guest did it; STELE_ERROR_GUEST_ERROR when it refuses,
// STELE_ERROR_AGENT_UNAVAILABLE when it does not answer within `seconds` or the link ends before.
typedef void (*AgentCommandDone)(const GError *error, gpointer user_data);
void agent_link_command(AgentLink *link, const char *json, guint seconds, AgentCommandDone done, gpointer user_data);

typedef struct AgentStreamResult {
  const GError *error; // or NULL, and then:
  gboolean signalled;  // value is the signal, otherwise the exit status
  guint value;
} AgentStreamResult;

typedef struct AgentStreamHandlers {
  // The program runs. fds are the near ends, the callee's to close: stdin, stdout, stderr, or one
  // terminal.
  void (*opened)(AgentStream *stream, const int *fds, int count, gpointer user_data);
  // Called once, after all output was passed on; without `opened` before it when the program could
  // not be started.
  void (*ended)(AgentStream *stream, const AgentStreamResult *result, gpointer user_data);
} AgentStreamHandlers;

// Starts a program. argv may be empty: the user's login shell. cwd and user may be NULL. The stream
// is the caller's reference. NULL with STELE_ERROR_INVALID_ARGUMENT when the request is too large
// for the protocol, or STELE_ERROR_GUEST_ERROR when too many programs wait: beyond STELE_STREAMS_MAX at once
// each waits for the end of another.
typedef struct AgentExecRequest {
  const char *const *argv, *const *env;
  const char *cwd, *user;
  gboolean tty;
  guint rows, columns;
} AgentExecRequest;
AgentStream *agent_link_exec(AgentLink *link, const AgentExecRequest *request, const AgentStreamHandlers *handlers,
                             gpointer user_data, GError **error);

// Without effect once the program has ended.
void agent_stream_signal(AgentStream *stream, guint signal);
void agent_stream_resize(AgentStream *stream, guint rows, guint columns);
// Hangs up, and drops the caller's reference; `ended` is not called any more.
void agent_stream_close(AgentStream *stream);
