// Frames of the stream channel: the table of what each type may look like, and the parser that
// holds bytes from a hostile sender to it. See stream-frame.h.
#include "stream-frame.h"

#include <errno.h>
#include <string.h>

enum { FROM_HOST = 1, FROM_GUEST = 2, FROM_BOTH = 3 };

// What a frame of each type must look like: who may send it, whether it belongs to the channel
// (stream 0) or to a stream, and the bounds of its payload.
static const struct FrameRule {
  uint8_t senders;
  uint8_t on_channel;
  uint32_t length_min, length_max;
} frame_rules[] = {
    [STELE_FRAME_HELLO] = {FROM_BOTH, 1, STELE_NONCE_SIZE + 4, STELE_NONCE_SIZE + 4},
    [STELE_FRAME_STATUS] = {FROM_GUEST, 1, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_OPEN_EXEC] = {FROM_HOST, 0, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_OPENED] = {FROM_GUEST, 0, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_DATA] = {FROM_BOTH, 0, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_WINDOW] = {FROM_BOTH, 0, 8, 8},
    [STELE_FRAME_EOF] = {FROM_BOTH, 0, 1, 1},
    [STELE_FRAME_RESIZE] = {FROM_HOST, 0, 4, 4},
    [STELE_FRAME_SIGNAL] = {FROM_HOST, 0, 4, 4},
    [STELE_FRAME_EXIT] = {FROM_GUEST, 0, 8, 8},
    [STELE_FRAME_ERROR] = {FROM_GUEST, 0, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_CLOSE] = {FROM_HOST, 0, 0, 0},
    [STELE_FRAME_COMMAND] = {FROM_HOST, 0, 2, STELE_FRAME_PAYLOAD_MAX},
    [STELE_FRAME_REPLY] = {FROM_GUEST, 0, 2, STELE_FRAME_PAYLOAD_MAX},
};

uint16_t stele_get_u16(const uint8_t *bytes) {
  return (uint16_t)(bytes[0] | bytes[1] << 8);
}

uint32_t stele_get_u32(const uint8_t *bytes) {
  return stele_get_u16(bytes) | (uint32_t)stele_get_u16(bytes + 2) << 16;
}

void stele_put_u16(uint8_t *bytes, uint16_t value) {
  bytes[0] = (uint8_t)value;
  bytes[1] = (uint8_t)(value >> 8);
}

void stele_put_u32(uint8_t *bytes, uint32_t value) {
  stele_put_u16(bytes, (uint16_t)value);
  stele_put_u16(bytes + 2, (uint16_t)(value >> 16));
}

void stele_frame_write_header(uint8_t header[STELE_FRAME_HEADER_SIZE], SteleFrameType type, uint32_t stream,
                              uint32_t length) {
  header[0] = STELE_FRAME_VERSION;
  header[1] = (uint8_t)type;
  stele_put_u16(header + 2, 0);
  stele_put_u32(header + 4, stream);
  stele_put_u32(header + 8, length);
}

void stele_frame_parser_reset(SteleFrameParser *parser) {
  parser->start = parser->end = 0;
}

uint8_t *stele_frame_parser_space(SteleFrameParser *parser, size_t *ret_size) {
  size_t held = parser->end - parser->start;
  memmove(parser->buffer, parser->buffer + parser->start, held);
  parser->start = 0;
  parser->end = held;
  *ret_size = sizeof parser->buffer - held;
  return parser->buffer + held;
}

void stele_frame_parser_commit(SteleFrameParser *parser, size_t size) {
  size_t space = sizeof parser->buffer - parser->end;
  parser->end += size < space ? size : space;
}

static int check_header(const uint8_t *header, SteleFrameSender sender, SteleFrame *ret_frame) {
  if (header[0] != STELE_FRAME_VERSION || stele_get_u16(header + 2) != 0) return -EPROTO;
  if (header[1] >= sizeof frame_rules / sizeof *frame_rules) return -EPROTO;
  const struct FrameRule *rule = &frame_rules[header[1]];
  uint32_t stream = stele_get_u32(header + 4), length = stele_get_u32(header + 8);
  int allowed = sender == STELE_FROM_HOST ? FROM_HOST : FROM_GUEST;
  if (!(rule->senders & allowed)) return -EPROTO; // also the types without a row
  if (rule->on_channel != (stream == 0)) return -EPROTO;
  if (length < rule->length_min || length > rule->length_max) return -EPROTO;
  *ret_frame = (SteleFrame){.type = header[1], .stream = stream, .length = length};
  return 0;
}

int stele_frame_parser_next(SteleFrameParser *parser, SteleFrame *ret_frame) {
  while (parser->start < parser->end && parser->buffer[parser->start] == 0) parser->start++;
  size_t held = parser->end - parser->start;
  if (held < STELE_FRAME_HEADER_SIZE) return 0;
  const uint8_t *header = parser->buffer + parser->start;
  int r = check_header(header, parser->sender, ret_frame);
  if (r < 0) return r;
  if (held - STELE_FRAME_HEADER_SIZE < ret_frame->length) return 0;
  ret_frame->payload = header + STELE_FRAME_HEADER_SIZE;
  parser->start += STELE_FRAME_HEADER_SIZE + ret_frame->length;
  return 1;
}
