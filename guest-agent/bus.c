// See bus.h.
#include "bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
  METHOD_CALL = 1,
  METHOD_RETURN = 2,
  ERROR = 3,
  FIXED_HEADER = 16, // with the length of the array of header fields
  MESSAGE_MAX = 1 << 20,
  FIELD_PATH = 1,
  FIELD_INTERFACE = 2,
  FIELD_MEMBER = 3,
  FIELD_REPLY_SERIAL = 5,
  FIELD_DESTINATION = 6,
  FIELD_SIGNATURE = 8,
};

// --- writing -------------------------------------------------------------------------------------------

void bus_align(Buffer *body, size_t alignment) {
  static const uint8_t zeros[8];
  buffer_append(body, zeros, -body->size & (alignment - 1));
}

void bus_put_u32(Buffer *body, uint32_t value) {
  bus_align(body, 4);
  buffer_append(body, &value, sizeof value);
}

void bus_put_u64(Buffer *body, uint64_t value) {
  bus_align(body, 8);
  buffer_append(body, &value, sizeof value);
}

void bus_put_string(Buffer *body, const char *text) {
  bus_put_u32(body, (uint32_t)strlen(text));
  buffer_append(body, text, strlen(text) + 1);
}

void bus_put_signature(Buffer *body, const char *signature) {
  uint8_t length = (uint8_t)strlen(signature);
  buffer_append(body, &length, 1);
  buffer_append(body, signature, (size_t)length + 1);
}

BusArray bus_open_array(Buffer *body, size_t alignment) {
  bus_put_u32(body, 0);
  BusArray array = {.length_at = body->size - 4};
  bus_align(body, alignment);
  array.start = body->size;
  return array;
}

void bus_close_array(Buffer *body, BusArray array) {
  uint32_t length = (uint32_t)(body->size - array.start);
  if (!body->error) memcpy(body->data + array.length_at, &length, sizeof length);
}

static void put_field(Buffer *header, uint8_t code, const char *type, const char *text) {
  if (!text || !*text) return;
  bus_align(header, 8);
  buffer_append(header, &code, 1);
  bus_put_signature(header, type);
  if (*type == 'g')
    bus_put_signature(header, text);
  else
    bus_put_string(header, text);
}

static void put_header(Buffer *message, const BusCall *call, uint32_t serial) {
  const uint8_t start[] = {'l', METHOD_CALL, 0, 1};
  buffer_append(message, start, sizeof start);
  bus_put_u32(message, (uint32_t)call->body.size);
  bus_put_u32(message, serial);
  BusArray fields = bus_open_array(message, 8);
  put_field(message, FIELD_PATH, "o", call->path);
  put_field(message, FIELD_DESTINATION, "s", call->destination);
  put_field(message, FIELD_INTERFACE, "s", call->interface);
  put_field(message, FIELD_MEMBER, "s", call->member);
  put_field(message, FIELD_SIGNATURE, "g", call->signature);
  bus_close_array(message, fields);
  bus_align(message, 8);
}

// --- reading -------------------------------------------------------------------------------------------

static const uint8_t *take(BusReader *reader, size_t alignment, size_t size) {
  static const uint8_t nothing[8];
  size_t start = (reader->position + alignment - 1) & ~(alignment - 1);
  if (reader->failed || start > reader->size || size > reader->size - start) {
    reader->failed = true;
    return nothing;
  }
  reader->position = start + size;
  return reader->bytes + start;
}

uint32_t bus_get_u32(BusReader *reader) {
  uint32_t value;
  memcpy(&value, take(reader, 4, sizeof value), sizeof value);
  return value;
}

static const char *get_text(BusReader *reader, size_t length) {
  const uint8_t *text = length < MESSAGE_MAX ? take(reader, 1, length + 1) : NULL;
  if (!text || reader->failed || text[length] != 0) return reader->failed = true, "";
  return (const char *)text;
}

const char *bus_get_string(BusReader *reader) {
  return get_text(reader, bus_get_u32(reader));
}

static const char *get_signature(BusReader *reader) {
  return get_text(reader, *take(reader, 1, 1));
}

static void read_fields(BusMessage *message, BusReader *fields) {
  while (!fields->failed && fields->position < fields->size) {
    uint8_t code = *take(fields, 8, 1);
    const char *type = get_signature(fields);
    if (strcmp(type, "u") == 0) {
      uint32_t value = bus_get_u32(fields);
      if (code == FIELD_REPLY_SERIAL) message->reply_to = value;
    } else {
      const char *text = strcmp(type, "g") == 0 ? get_signature(fields) : bus_get_string(fields);
      if (code == FIELD_MEMBER) message->member = text;
      if (code == FIELD_SIGNATURE) message->signature = text;
    }
  }
}

// --- the connection ------------------------------------------------------------------------------------

static int send_all(int fd, const void *bytes, size_t size) {
  for (const uint8_t *at = bytes; size;) {
    ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -errno;
    at += sent;
    size -= (size_t)sent;
  }
  return 0;
}

static void keep_descriptor(struct msghdr *header, int *descriptor) {
  for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      if (*descriptor >= 0) close(*descriptor);
      *descriptor = fd;
    }
  }
}

static int receive_all(int fd, void *bytes, size_t size, int *descriptor) {
  for (uint8_t *at = bytes; size;) {
    union {
      struct cmsghdr header; // for the alignment
      char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec part = {at, size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? -errno : -EPIPE;
    keep_descriptor(&message, descriptor);
    at += got;
    size -= (size_t)got;
  }
  return 0;
}

// A line of the authentication, without its end.
static int receive_line(int fd, char *line, size_t size) {
  int none = -1;
  for (size_t length = 0; length < size; length++) {
    int r = receive_all(fd, line + length, 1, &none);
    if (r < 0) return r;
    if (line[length] != '\n') continue;
    line[length] = 0;
    return 0;
  }
  return -EPROTO;
}

static int authenticate(int fd) {
  char identity[32], request[128], line[256];
  int length = snprintf(identity, sizeof identity, "%u", (unsigned)geteuid());
  size_t used = 0;
  request[used++] = 0;
  used += (size_t)sprintf(request + used, "AUTH EXTERNAL ");
  for (int i = 0; i < length; i++) used += (size_t)sprintf(request + used, "%02x", identity[i]);
  used += (size_t)sprintf(request + used, "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
  int r = send_all(fd, request, used);
  if (r == 0) r = receive_line(fd, line, sizeof line);
  if (r == 0 && strncmp(line, "OK ", 3) != 0) return -EACCES;
  return r == 0 ? receive_line(fd, line, sizeof line) : r;
}

int bus_open(Bus *ret_bus, const char *path, unsigned seconds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval patience = {.tv_sec = seconds};
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  *ret_bus = (Bus){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (ret_bus->fd < 0) return -errno;
  setsockopt(ret_bus->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(ret_bus->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  int r = connect(ret_bus->fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
  if (r == 0) r = authenticate(ret_bus->fd);
  if (r < 0) bus_close(ret_bus);
  return r;
}

void bus_close(Bus *bus) {
  if (bus->fd >= 0) close(bus->fd);
  bus->fd = -1;
}

int bus_send(Bus *bus, BusCall *call) {
  Buffer message = {0};
  put_header(&message, call, ++bus->serial);
  buffer_append(&message, call->body.data, call->body.size);
  int r = call->body.error ? call->body.error : message.error;
  if (r == 0) r = send_all(bus->fd, message.data, message.size);
  buffer_clear(&message);
  buffer_clear(&call->body);
  return r;
}

static int receive_message(Bus *bus, BusMessage *message) {
  uint8_t fixed[FIXED_HEADER];
  uint32_t body_size, fields_size;
  int r = receive_all(bus->fd, fixed, sizeof fixed, &message->fd);
  if (r < 0) return r;
  memcpy(&body_size, fixed + 4, sizeof body_size);
  memcpy(&fields_size, fixed + 12, sizeof fields_size);
  if (fixed[0] != 'l' || body_size > MESSAGE_MAX || fields_size > MESSAGE_MAX) return -EPROTO;
  size_t fields_end = FIXED_HEADER + fields_size, padded = (fields_end + 7) & ~(size_t)7;
  uint8_t *to = buffer_reserve(&message->data, padded + body_size);
  if (!to) return message->data.error;
  memcpy(to, fixed, sizeof fixed);
  r = receive_all(bus->fd, to + FIXED_HEADER, padded + body_size - FIXED_HEADER, &message->fd);
  if (r < 0) return r;
  message->type = fixed[1];
  message->body = (BusReader){.bytes = to + padded, .size = body_size};
  BusReader fields = {.bytes = to, .size = fields_end, .position = FIXED_HEADER};
  read_fields(message, &fields);
  return fields.failed ? -EPROTO : 0;
}

int bus_receive(Bus *bus, BusMessage *ret_message) {
  *ret_message = (BusMessage){.fd = -1, .member = "", .signature = ""};
  int r = receive_message(bus, ret_message);
  if (r < 0) bus_message_clear(ret_message);
  return r;
}

void bus_message_clear(BusMessage *message) {
  buffer_clear(&message->data);
  if (message->fd >= 0) close(message->fd);
  message->fd = -1;
}

int bus_call(Bus *bus, BusCall *call, BusMessage *ret_reply) {
  int r = bus_send(bus, call);
  if (r < 0) return r;
  for (;;) {
    r = bus_receive(bus, ret_reply);
    if (r < 0) return r;
    if (ret_reply->reply_to == bus->serial && ret_reply->type == METHOD_RETURN) return 0;
    bool refused = ret_reply->reply_to == bus->serial && ret_reply->type == ERROR;
    bus_message_clear(ret_reply);
    if (refused) return -EIO;
  }
}
