// A guest agent that misbehaves, as /init of a machine whose host side is under test. It says it is ready,
// and then does what stub= on the kernel command line says:
//   silent   never opens a channel
//   deaf     answers everything but does nothing when asked to shut down
//   mute     answers on the stream channel, never on the agent channel
//   liar     answers with broken frames and broken JSON
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

#define STATUS                                                                                          \
  "{\"version\":\"stub\",\"protocol\":1,\"state\":\"ready\",\"message\":\"\",\"init\":\"system\","             \
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

static void send_frame(int fd, SteleFrameType type, const void *payload, uint32_t size) {
  uint8_t frame[STELE_FRAME_HEADER_SIZE + 1024];
  stele_frame_write_header(frame, type, 0, size);
  memcpy(frame + STELE_FRAME_HEADER_SIZE, payload, size);
  put(fd, frame, STELE_FRAME_HEADER_SIZE + size);
}

static void greet(int fd, const SteleFrame *hello) {
  uint8_t payload[STELE_NONCE_SIZE + 4];
  memcpy(payload, hello->payload, STELE_NONCE_SIZE);
  stele_put_u32(payload + STELE_NONCE_SIZE, STELE_PROTOCOL_VERSION);
  send_frame(fd, STELE_FRAME_HELLO, payload, sizeof payload);
  send_frame(fd, STELE_FRAME_STATUS, STATUS, sizeof STATUS - 1);
  static const uint8_t broken[] = {STELE_FRAME_VERSION, 200, 0xff, 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 9, 9};
  if (strcmp(mode, "liar") == 0) put(fd, broken, sizeof broken);
}

static void serve_streams(int fd) {
  static SteleFrameParser parser = {.sender = STELE_FROM_HOST};
  SteleFrame frame;
  size_t space;
  uint8_t *to = stele_frame_parser_space(&parser, &space);
  ssize_t got = read(fd, to, space);
  if (got <= 0) return;
  stele_frame_parser_commit(&parser, (size_t)got);
  while (stele_frame_parser_next(&parser, &frame) > 0)
    if (frame.type == STELE_FRAME_HELLO) greet(fd, &frame);
}

// Every line is answered; an "id" of guest-sync is given back.
static void answer(int fd, const char *line) {
  char reply[sizeof STATUS + 64];
  const char *number = strstr(line, "\"id\"");
  if (strcmp(mode, "mute") == 0) return;
  if (strcmp(mode, "liar") == 0) snprintf(reply, sizeof reply, "{\"return\":[[[[{\"a\":\xff\n");
  else if (strstr(line, "guest-sync") && number)
    snprintf(reply, sizeof reply, "%s{\"return\":%lld}\n", strstr(line, "delimited") ? "\xff" : "",
             strtoll(number + 4 + strspn(number + 4, " :"), NULL, 10));
  else if (strstr(line, STELE_COMMAND_STATUS)) snprintf(reply, sizeof reply, "{\"return\":" STATUS "}\n");
  else snprintf(reply, sizeof reply, "{\"return\":{}}\n");
  put(fd, reply, strlen(reply));
}

static void serve_commands(int fd) {
  static char line[8192];
  static size_t length;
  char byte;
  while (read(fd, &byte, 1) == 1) {
    if (byte == '\n') line[length] = 0, answer(fd, line), length = 0;
    else if (length < sizeof line - 1) line[length++] = byte;
  }
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
  int commands = -1, streams = -1;
  for (;;) {
    if (strcmp(mode, "silent") != 0 && commands < 0) commands = open_port(STELE_AGENT_CHANNEL);
    if (strcmp(mode, "silent") != 0 && streams < 0) streams = open_port(STELE_STREAM_CHANNEL);
    struct pollfd ports[2] = {{commands, POLLIN, 0}, {streams, POLLIN, 0}};
    poll(ports, 2, 100);
    if (ports[0].revents & POLLIN) serve_commands(commands);
    if (ports[1].revents & POLLIN) serve_streams(streams);
    if ((ports[0].revents | ports[1].revents) & POLLHUP) usleep(20000); // no host yet: hung up without end
  }
}
