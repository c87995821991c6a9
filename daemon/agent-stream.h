// One program in a guest as the host sees it: its descriptors towards the client, and the credit that bounds what is
// between them and the guest. What carries it, a link (agent-link.c), is known here as a few functions only; clients of
// the link use agent-link.h.
#pragma once

#include "agent-link.h"
#include "errors.h"
#include "stream-frame.h"

typedef struct StreamCarrier StreamCarrier;
struct StreamCarrier {
  void (*send)(StreamCarrier *carrier, SteleFrameType type, guint32 stream, const void *payload, guint32 size);
  // Whether more input may be queued to the guest; agent_stream_resume() when it may again.
  gboolean (*has_room)(StreamCarrier *carrier);
  // The guest does not know the stream, or no more: the carrier forgets it. May drop no reference.
  void (*detached)(StreamCarrier *carrier, AgentStream *stream);
};

// A stream that waits to be started. request: the payload of OPEN_EXEC, which it takes. One reference, the caller's.
AgentStream *agent_stream_new(StreamCarrier *carrier, gboolean tty, char *request, const AgentStreamHandlers *handlers,
                              gpointer user_data);
AgentStream *agent_stream_ref(AgentStream *stream);
void agent_stream_unref(AgentStream *stream);

// Its number at the guest, 0 before it is started.
guint32 agent_stream_id(const AgentStream *stream);

// Makes its descriptors and asks the guest for the program. FALSE: it has ended for want of descriptors.
gboolean agent_stream_start(AgentStream *stream, guint32 id);

// Ends it for a reason of ours.
void agent_stream_fail(AgentStream *stream, SteleError code, const char *why);

// Goes on reading input.
void agent_stream_resume(AgentStream *stream);

// Takes a frame of the guest's; the rule it breaks, or NULL.
const char *agent_stream_take_frame(AgentStream *stream, const SteleFrame *frame);
