// See qga.h. Lines in, lines out; what they say is for commands.h. The protocol is QEMU's docs/interop/qemu-ga-ref:
// `guest-sync-delimited` is answered behind a 0xFF byte, and a 0xFF byte from the host starts a new message.
#include "qga.h"

#include <string.h>
#include "commands.h"
#include "port.h"

enum { LINE_MAX = 1 << 20 };

static Agent *agent;
static Buffer line = {.limit = LINE_MAX};
static Port port = {.source.fd = -1, .name = STELE_AGENT_CHANNEL};

static void send_line(uint64_t number, const Buffer *answer) {
  port_queue(&port, answer->data, answer->size);
  port_queue(&port, "\n", 1);
  port_flush(&port);
}

static bool is_blank(const Buffer *text) {
  for (size_t i = 0; i < text->size; i++)
    if (!strchr(" \t\r", text->data[i])) return false;
  return true;
}

static bool wants_delimiter(const Buffer *text) {
  JsonDocument request;
  if (json_parse(&request, (const char *)text->data, text->size) < 0) return false;
  bool wants = json_equals(&request, json_member(&request, request.nodes, "execute"), "guest-sync-delimited");
  json_free(&request);
  return wants;
}

static void handle_line(void) {
  if (line.error) return commands_refuse("the request is too long", send_line, 0);
  if (is_blank(&line)) return;
  if (wants_delimiter(&line)) port_queue(&port, "\xff", 1);
  commands_handle(agent, (const char *)line.data, line.size, send_line, 0);
}

static void on_receive(Port *from, const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] == '\n') handle_line();
    if (bytes[i] == '\n' || bytes[i] == 0xff)
      buffer_clear(&line);
    else
      buffer_append(&line, &bytes[i], 1);
  }
}

static void on_peer_changed(Port *changed) {
  buffer_clear(&line);
}

int qga_open(Agent *the_agent) {
  agent = the_agent;
  if (port.source.fd >= 0) return 0;
  port.receive = on_receive;
  port.peer_changed = on_peer_changed;
  return port_open(&port);
}
