// Commands of the host: one JSON object each, answered by one. They come over two channels (guest-protocol.h, parts 2
// and 3), which this does not know; the form of requests and answers is the QEMU guest agent's.
//
// Commands that look at the userspace's files run in a child inside the userspace and answer when it is
// done, so that a share that hangs delays its own command only.
#pragma once

#include "agent.h"
#include "buffer.h"
#include "json.h"

enum { COMMAND_REPLY_MAX = 60 << 10 }; // an answer fits a frame

// Takes an answer, one JSON object without a new line. `number` is what commands_handle() was given.
typedef void (*CommandReply)(uint64_t number, const Buffer *answer);

// Answers the request, now or later.
void commands_handle(Agent *agent, const char *request, size_t size, CommandReply reply, uint64_t number);

// An answer of class GenericError.
void commands_refuse(const char *description, CommandReply reply, uint64_t number);

// A child was reaped; true: it answered a command.
bool commands_reaped(pid_t pid, int status);

// Kills children that have not answered in time. Returns the milliseconds until the next one is due, -1
// for none.
int commands_expire(void);

// A command's name, how it runs, and what answers it. A handler appends the value of "return" to `reply`
// and returns 0, or returns a negative errno for an error of class GenericError.
typedef enum CommandPlace {
  COMMAND_HERE,   // in the agent: must not block
  COMMAND_INSIDE, // in a child inside the userspace
} CommandPlace;

typedef enum CommandStage {
  COMMAND_BEGINS, // its child is about to be made
  COMMAND_DONE,   // it has succeeded; one that has not may have done a part of its work
} CommandStage;

typedef struct Command {
  const char *name;
  CommandPlace place;
  int (*run)(Agent *agent, const JsonDocument *request, const JsonNode *arguments, Buffer *reply);
  void (*note)(CommandStage stage); // in the agent, whatever the place; may be NULL
} Command;

// The table (command-table.c), ended by a row without a name.
extern const Command command_table[];

// Lets file systems go that have been held still for longer than they may be. Returns the milliseconds until it wants
// to be called again, -1 for never.
int command_table_expire(Agent *agent);
