// Reading and writing the frames of the stream channel (guest-protocol.h, part 3), for both ends of
// it. Knows the byte layout and the rules a frame must obey by itself (length, direction, stream
// number); knows nothing of sessions, streams or credit. No allocation, no library beyond memcpy.
#pragma once

#include <stddef.h>
#include "guest-protocol.h"

typedef enum SteleFrameSender { STELE_FROM_HOST, STELE_FROM_GUEST } SteleFrameSender;

typedef struct SteleFrame {
  SteleFrameType type;
  uint32_t stream;
  uint32_t length;        // of the payload
  const uint8_t *payload; // inside the parser's buffer: valid until the parser is written to again
} SteleFrame;

// Collects bytes and hands out whole frames. Zero-initialise, set `sender` to the side that is read
// from.
typedef struct SteleFrameParser {
  SteleFrameSender sender;
  size_t start, end; // unread bytes are buffer[start..end)
  uint8_t buffer[2 * STELE_FRAME_SIZE_MAX];
} SteleFrameParser;

// Forgets all bytes held, as at the start of a session.
void stele_frame_parser_reset(SteleFrameParser *parser);

// Where to read more bytes into, and how many fit; never none as long as the parser is drained by
// stele_frame_parser_next() until it returns 0. Invalidates payloads handed out.
uint8_t *stele_frame_parser_space(SteleFrameParser *parser, size_t *ret_size);

// Says that `size` bytes were put where stele_frame_parser_space() pointed.
void stele_frame_parser_commit(SteleFrameParser *parser, size_t size);

// Takes the next frame. 1: *ret_frame is filled in; 0: more bytes are needed; -EPROTO: the bytes
// are no frame this sender may send (unknown version, type or flags, a wrong length, direction or
// stream number): end the session.
int stele_frame_parser_next(SteleFrameParser *parser, SteleFrame *ret_frame);

// Writes the header of a frame whose payload of `length` bytes follows.
void stele_frame_write_header(uint8_t header[STELE_FRAME_HEADER_SIZE], SteleFrameType type, uint32_t stream,
                              uint32_t length);

// The little-endian integers inside payloads.
uint16_t stele_get_u16(const uint8_t *bytes);
uint32_t stele_get_u32(const uint8_t *bytes);
void stele_put_u16(uint8_t *bytes, uint16_t value);
void stele_put_u32(uint8_t *bytes, uint32_t value);
