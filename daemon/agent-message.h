// What a guest's agent says in JSON, read into structs, and the other way round. Everything read here is hostile: the
// reader (common/json.h) is strict and bounded, a member of a wrong type counts as missing, texts for people are cut
// and cleaned. Pure; knows nothing of links and streams.
#pragma once

#include "agent-link.h"

// Each of these three reads one JSON object: FALSE when it is none, and nothing is to be freed then.

// Clear with agent_message_clear_status().
gboolean agent_message_read_status(const char *json, gsize size, AgentStatus *ret_status);
void agent_message_clear_status(AgentStatus *status);

// The error a stream or its start ended with.
gboolean agent_message_read_error(const char *json, gsize size, GError **ret_error);

// The answer to a command; *ret_error is NULL when it was done.
gboolean agent_message_read_reply(const char *json, gsize size, GError **ret_error);

// The payload of OPEN_EXEC; NULL when it is larger than a frame may be.
char *agent_message_write_exec(const AgentExecRequest *request);
