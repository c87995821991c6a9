// The agent channel: the QEMU guest agent's protocol (one JSON object a line) and Stele's commands.
//
// Commands that look at the userspace's files run in a child inside the userspace and answer when it is
// done, so that a share that hangs delays its own command only.
#pragma once

#include "agent.h"
#include "buffer.h"
#include "json.h"

// Opens the channel's port when it exists; called again when a device appears. Returns 0 or -ENOENT.
int qga_open(Agent *agent);

// Appends the `stele-status` object.
void qga_describe_status(const Agent *agent, Buffer *json);

// A child was reaped; true: it answered a command.
bool qga_reaped(pid_t pid, int status);

// Kills children that have not answered in time. Returns the milliseconds until the next one is due, -1
// for none.
int qga_expire(void);

// A command's name, how it runs, and what answers it. A handler appends the value of "return" to `reply`
// and returns 0, or returns a negative errno for an error of class GenericError.
typedef enum QgaPlace {
  QGA_HERE,   // in the agent: must not block
  QGA_INSIDE, // in a child inside the userspace
} QgaPlace;

typedef struct QgaCommand {
  const char *name;
  QgaPlace place;
  int (*run)(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply);
  void (*done)(void); // after success, in the agent; may be NULL
} QgaCommand;

// The table (qga-commands.c), ended by a row without a name.
extern const QgaCommand qga_commands[];
