// Messages as written are read again, and no message, cut off or changed anywhere, is read beyond its bounds.
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus.h"

static const char object[] = "/org/freedesktop/systemd1/job/77";

// The bytes of a call with a number, an object and two texts.
static size_t write_message(uint8_t *to, size_t size) {
  int ends[2];
  cr_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  Bus bus = {.fd = ends[0]};
  BusCall call = {.destination = "a.b", .path = "/c", .interface = "d.e", .member = "JobRemoved", .signature = "uoss"};
  bus_put_u32(&call.body, 77);
  bus_put_string(&call.body, object);
  bus_put_string(&call.body, "unit");
  bus_put_string(&call.body, "");
  cr_assert(bus_send(&bus, &call) == 0);
  ssize_t got = read(ends[1], to, size);
  cr_assert(got > 0);
  close(ends[0]);
  close(ends[1]);
  return (size_t)got;
}

// What is read of it: 0, and the message, or an error.
static int receive(const uint8_t *bytes, size_t size, BusMessage *ret_message) {
  int ends[2];
  cr_assert(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  Bus bus = {.fd = ends[0]};
  cr_assert(write(ends[1], bytes, size) == (ssize_t)size);
  close(ends[1]);
  int r = bus_receive(&bus, ret_message);
  close(ends[0]);
  return r;
}

static void look_at(BusMessage *message) {
  (void)(strlen(message->member) + strlen(message->signature));
  bus_get_u32(&message->body);
  for (int i = 0; i < 4; i++) (void)strlen(bus_get_string(&message->body));
  bus_message_clear(message);
}

Test(bus, what_was_written_is_read) {
  uint8_t bytes[512];
  size_t size = write_message(bytes, sizeof bytes);
  BusMessage message;
  cr_assert(receive(bytes, size, &message) == 0);
  cr_expect_str_eq(message.member, "JobRemoved");
  cr_expect_str_eq(message.signature, "uoss");
  cr_expect(bus_get_u32(&message.body) == 77);
  cr_expect_str_eq(bus_get_string(&message.body), object);
  cr_expect_str_eq(bus_get_string(&message.body), "unit");
  cr_expect_str_eq(bus_get_string(&message.body), "");
  cr_expect(!message.body.failed && message.body.position == message.body.size);
  bus_get_u32(&message.body);
  cr_expect(message.body.failed);
  bus_message_clear(&message);
}

Test(bus, cut_off_and_changed) {
  uint8_t bytes[512], changed[512];
  size_t size = write_message(bytes, sizeof bytes);
  BusMessage message;
  for (size_t length = 1; length < size; length++) cr_expect(receive(bytes, length, &message) < 0);
  for (size_t at = 0; at < size; at++)
    for (int value = 0; value < 256; value += at < 16 ? 1 : 5) {
      memcpy(changed, bytes, size);
      changed[at] = (uint8_t)value;
      if (receive(changed, size, &message) == 0) look_at(&message);
    }
}
