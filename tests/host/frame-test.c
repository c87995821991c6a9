// The frame parser: what it takes, what it refuses, and that no bytes make it read past what it holds.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "stream-frame.h"

static SteleFrameParser parser;

static void feed(const void *bytes, size_t size) {
  size_t room;
  uint8_t *space = stele_frame_parser_space(&parser, &room);
  cr_assert_geq(room, size);
  memcpy(space, bytes, size);
  stele_frame_parser_commit(&parser, size);
}

static void begin(SteleFrameSender sender) {
  memset(&parser, 0, sizeof parser);
  parser.sender = sender;
}

// One row a header: sender, header bytes, what the parser says once the whole frame is there.
static const struct {
  const char *what;
  SteleFrameSender sender;
  uint8_t version, type;
  uint16_t flags;
  uint32_t stream, length;
  int expected;
} headers[] = {
    {"exit of a stream", STELE_FROM_GUEST, 1, STELE_FRAME_EXIT, 0, 5, 8, 1},
    {"close has no payload", STELE_FROM_HOST, 1, STELE_FRAME_CLOSE, 0, 5, 0, 1},
    {"data of one byte", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 1, 2, 1},
    {"the longest data", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 1, STELE_FRAME_PAYLOAD_MAX, 1},
    {"highest stream", STELE_FROM_GUEST, 1, STELE_FRAME_EOF, 0, UINT32_MAX, 1, 1},
    {"unknown version", STELE_FROM_GUEST, 2, STELE_FRAME_EXIT, 0, 5, 8, -EPROTO},
    {"flags", STELE_FROM_GUEST, 1, STELE_FRAME_EXIT, 1, 5, 8, -EPROTO},
    {"type zero", STELE_FROM_GUEST, 1, 0, 0, 5, 8, -EPROTO},
    {"type beyond the table", STELE_FROM_GUEST, 1, STELE_FRAME_CLOSE + 1, 0, 5, 0, -EPROTO},
    {"highest type", STELE_FROM_GUEST, 1, 255, 0, 5, 0, -EPROTO},
    {"a guest does not open streams", STELE_FROM_GUEST, 1, STELE_FRAME_OPEN_EXEC, 0, 1, 2, -EPROTO},
    {"a guest does not close streams", STELE_FROM_GUEST, 1, STELE_FRAME_CLOSE, 0, 1, 0, -EPROTO},
    {"a host does not exit", STELE_FROM_HOST, 1, STELE_FRAME_EXIT, 0, 1, 8, -EPROTO},
    {"status belongs to the channel", STELE_FROM_GUEST, 1, STELE_FRAME_STATUS, 0, 1, 2, -EPROTO},
    {"data belongs to a stream", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 0, 2, -EPROTO},
    {"empty data", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 1, 1, -EPROTO},
    {"too long", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 1, STELE_FRAME_PAYLOAD_MAX + 1, -EPROTO},
    {"longest length", STELE_FROM_GUEST, 1, STELE_FRAME_DATA, 0, 1, UINT32_MAX, -EPROTO},
    {"short exit", STELE_FROM_GUEST, 1, STELE_FRAME_EXIT, 0, 1, 7, -EPROTO},
    {"long window", STELE_FROM_GUEST, 1, STELE_FRAME_WINDOW, 0, 1, 9, -EPROTO},
    {"hello with a short nonce", STELE_FROM_GUEST, 1, STELE_FRAME_HELLO, 0, 0, 16, -EPROTO},
};

Test(frame, rules) {
  static uint8_t bytes[STELE_FRAME_SIZE_MAX];
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
    SteleFrame frame;
    begin(headers[i].sender);
    stele_frame_write_header(bytes, headers[i].type, headers[i].stream, headers[i].length);
    bytes[0] = headers[i].version;
    stele_put_u16(bytes + 2, headers[i].flags);
    size_t size = STELE_FRAME_HEADER_SIZE + (headers[i].expected == 1 ? headers[i].length : 0);
    feed(bytes, size);
    cr_expect_eq(stele_frame_parser_next(&parser, &frame), headers[i].expected, "%s", headers[i].what);
    if (headers[i].expected != 1) continue;
    cr_expect_eq(frame.stream, headers[i].stream, "%s", headers[i].what);
    cr_expect_eq(frame.length, headers[i].length, "%s", headers[i].what);
    cr_expect_eq(stele_frame_parser_next(&parser, &frame), 0, "%s: nothing is left", headers[i].what);
  }
}

Test(frame, arrives_byte_by_byte_after_padding) {
  uint8_t bytes[5 + STELE_FRAME_HEADER_SIZE + 3] = {0};
  stele_frame_write_header(bytes + 5, STELE_FRAME_DATA, 9, 3);
  memcpy(bytes + 5 + STELE_FRAME_HEADER_SIZE, "\1ab", 3);
  SteleFrame frame;
  begin(STELE_FROM_GUEST);
  for (size_t i = 0; i + 1 < sizeof bytes; i++) {
    feed(bytes + i, 1);
    cr_assert_eq(stele_frame_parser_next(&parser, &frame), 0);
  }
  feed(bytes + sizeof bytes - 1, 1);
  cr_assert_eq(stele_frame_parser_next(&parser, &frame), 1);
  cr_assert_eq(frame.stream, 9);
  cr_assert_arr_eq(frame.payload, "\1ab", 3);
}

Test(frame, there_is_always_room_once_drained) {
  static uint8_t bytes[STELE_FRAME_SIZE_MAX];
  stele_frame_write_header(bytes, STELE_FRAME_DATA, 1, STELE_FRAME_PAYLOAD_MAX);
  begin(STELE_FROM_GUEST);
  feed(bytes, STELE_FRAME_SIZE_MAX - 1); // the longest rest a drained parser can hold
  SteleFrame frame;
  cr_assert_eq(stele_frame_parser_next(&parser, &frame), 0);
  size_t room;
  stele_frame_parser_space(&parser, &room);
  cr_assert_geq(room, STELE_FRAME_SIZE_MAX);
}

// Random bytes, half of them behind a plausible start, so that deeper checks are reached too.
Test(frame, garbage) {
  srandom(20260101);
  for (int round = 0; round < 20000; round++) {
    uint8_t bytes[512];
    size_t size = (size_t)random() % sizeof bytes;
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)random();
    if (round % 2 && size > 12)
      stele_frame_write_header(bytes, (SteleFrameType)(random() % 14), (uint32_t)random() % 3,
                               (uint32_t)random() % 600);
    begin(round % 3 ? STELE_FROM_GUEST : STELE_FROM_HOST);
    feed(bytes, size);
    SteleFrame frame;
    int r;
    uint32_t sum = 0;
    while ((r = stele_frame_parser_next(&parser, &frame)) == 1)
      for (uint32_t i = 0; i < frame.length; i++) sum += frame.payload[i]; // every byte handed out may be read
    cr_assert(r == 0 || r == -EPROTO, "%u", sum);
  }
}
