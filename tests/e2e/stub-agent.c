// A guest agent that misbehaves, as /init of a machine whose host side is under test. It says it is ready,
// and then does what stub= on the kernel command line says:
//   silent   never opens a channel
//   deaf     answers everything but does nothing when asked to shut down
//   mute     says that it is ready, and never answers a command
//   liar     answers with broken frames
//   flood    once ready it reads nothing any more and sends small frames as fast as it can
// AArch64, static, no more than the protocol needs; it is no example of an agent.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "stream-frame.h"

#define STATUS                                                                                                         \
  "{\"version\":\"stub\",\"protocol\":2,\"state\":\"ready\",\"message\":\"\",\"init\":\"system\","                     \
  "\"uptime-ms\":1000,\"ready-ms\":1000,\"translator\":{\"registered\":true,\"cpu\":\"\",\"memory-model\":\"\"}}"

static const char *mode = "silent";

static int open_port(const char *wanted) {
  char path[300], name[128];
  DIR *directory = opendir("/sys/class/virtio-ports");
  int found = -1;
  for (struct dirent *entry; directory && found < 0 && (entry = readdir(directory));) {
    snprintf(path, sizeof path, "/sys/class/virtio-ports/%.100s/name", entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    if (fgets(name, sizeof name, file)) name[strcspn(name, "\n")] = 0;
    fclose(file);
    snprintf(path, sizeof path, "/dev/%.100s", entry->d_name);
    if (strcmp(name, wanted) == 0) found = open(path, O_RDWR | O_NONBLOCK);
  }
  if (directory) closedir(directory);
  return found;
}

static void put(int fd, const void *bytes, size_t size) {
  ssize_t ignored = write(fd, bytes, size);
  (void)ignored;
}

static void send_frame(int fd, SteleFrameType type, uint32_t stream, const void *payload, uint32_t size) {
  uint8_t frame[STELE_FRAME_HEADER_SIZE + 1024];
  stele_frame_write_header(frame, type, stream, size);
  memcpy(frame + STELE_FRAME_HEADER_SIZE, payload, size);
  put(fd, frame, STELE_FRAME_HEADER_SIZE + size);
}

static void flood(int fd) {
  static uint8_t frames[4096];
  size_t size = 0;
  while (size + STELE_FRAME_HEADER_SIZE + 2 <= sizeof frames) {
    stele_frame_write_header(frames + size, STELE_FRAME_STATUS, 0, 2);
    memcpy(frames + size + STELE_FRAME_HEADER_SIZE, "{}", 2);
    size += STELE_FRAME_HEADER_SIZE + 2;
  }
  fcntl(fd, F_SETFL, 0); // blocking: whole frames
  for (;;) put(fd, frames, size);
}

static void greet(int fd, const SteleFrame *hello) {
  uint8_t payload[STELE_NONCE_SIZE + 4];
  memcpy(payload, hello->payload, STELE_NONCE_SIZE);
  stele_put_u32(payload + STELE_NONCE_SIZE, STELE_PROTOCOL_VERSION);
  send_frame(fd, STELE_FRAME_HELLO, 0, payload, sizeof payload);
  send_frame(fd, STELE_FRAME_STATUS, 0, STATUS, sizeof STATUS - 1);
  static const uint8_t broken[] = {STELE_FRAME_VERSION, 200, 0xff, 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 9, 9};
  if (strcmp(mode, "liar") == 0) put(fd, broken, sizeof broken);
  if (strcmp(mode, "flood") == 0) flood(fd);
}

static void handle(int fd, const SteleFrame *frame) {
  static const char done[] = "{\"return\":{}}";
  if (frame->type == STELE_FRAME_HELLO) greet(fd, frame);
  if (frame->type == STELE_FRAME_COMMAND && strcmp(mode, "mute") != 0)
    send_frame(fd, STELE_FRAME_REPLY, frame->stream, done, sizeof done - 1);
}

static void serve(int fd) {
  static SteleFrameParser parser = {.sender = STELE_FROM_HOST};
  SteleFrame frame;
  size_t space;
  uint8_t *to = stele_frame_parser_space(&parser, &space);
  ssize_t got = read(fd, to, space);
  if (got <= 0) return;
  stele_frame_parser_commit(&parser, (size_t)got);
  while (stele_frame_parser_next(&parser, &frame) > 0) handle(fd, &frame);
}

static void read_mode(void) {
  static char text[4096];
  FILE *file = fopen("/proc/cmdline", "r");
  if (!file || !fgets(text, sizeof text, file)) return;
  for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
    if (strncmp(word, "stub=", 5) == 0) mode = word + 5;
  fclose(file);
}

int main(void) {
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  read_mode();
  printf("stub-agent: %s\n", mode);
  fflush(stdout);
  int port = -1;
  for (;;) {
    if (strcmp(mode, "silent") != 0 && port < 0) port = open_port(STELE_STREAM_CHANNEL);
    struct pollfd polled = {port, POLLIN, 0};
    poll(&polled, 1, 100);
    if (polled.revents & POLLIN) serve(port);
    if (polled.revents & POLLHUP) usleep(20000); // no host yet: hung up without end
  }
}
