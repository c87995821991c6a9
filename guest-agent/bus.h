// As much of D-Bus as it takes to call a method of the guest's systemd or of its login manager: one call at a time over
// a blocking socket, with a deadline. Used by children inside the userspace, never by the agent itself.
//
// Format: the D-Bus specification, "Type System", "Message Protocol" and "Authentication Protocol"; little endian. What
// comes back is read within its bounds, whoever sent it.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "buffer.h"

typedef struct Bus {
  int fd;
  uint32_t serial; // of the last call
} Bus;

// A message's body. Reading: `position` is in `bytes`, and `failed` is set by whatever is not there; what is read then
// is 0 or "".
typedef struct BusReader {
  const uint8_t *bytes;
  size_t size, position;
  bool failed;
} BusReader;

// A message that came. `signature` and `member` point into `data`.
typedef struct BusMessage {
  Buffer data;
  uint8_t type; // 2: reply, 3: error, 4: signal
  uint32_t reply_to;
  const char *member, *signature;
  BusReader body;
  int fd; // a descriptor that came along, or -1
} BusMessage;

typedef struct BusCall {
  const char *destination; // NULL: there is only one at the other end
  const char *path, *interface, *member, *signature;
  Buffer body;
} BusCall;

// Connects to the socket at a path and authenticates as this process' user. `seconds` is how long any later wait may
// take. 0, or a negative errno: -ENOENT and -ECONNREFUSED where nobody listens.
int bus_open(Bus *ret_bus, const char *path, unsigned seconds);
void bus_close(Bus *bus);

// Sends the call; its body is freed. 0, or a negative errno.
int bus_send(Bus *bus, BusCall *call);
// Waits for the next message. Freed with bus_message_clear().
int bus_receive(Bus *bus, BusMessage *ret_message);
void bus_message_clear(BusMessage *message);
// Sends the call and waits for its reply, passing over all else. -EIO: an error was the answer.
int bus_call(Bus *bus, BusCall *call, BusMessage *ret_reply);

// --- bodies --------------------------------------------------------------------------------------------

void bus_put_u32(Buffer *body, uint32_t value); // also BOOLEAN
void bus_put_u64(Buffer *body, uint64_t value);
void bus_put_string(Buffer *body, const char *text); // also OBJECT_PATH
void bus_put_signature(Buffer *body, const char *signature);
void bus_align(Buffer *body, size_t alignment); // 8 begins a structure

// An array: its length is filled in when it ends.
typedef struct BusArray {
  size_t length_at, start;
} BusArray;
BusArray bus_open_array(Buffer *body, size_t alignment);
void bus_close_array(Buffer *body, BusArray array);

uint32_t bus_get_u32(BusReader *reader);
const char *bus_get_string(BusReader *reader);
