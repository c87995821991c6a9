// See port.h.
#include "port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"

static bool is_named(const char *entry, const char *name) {
  char path[300], found[128] = "";
  snprintf(path, sizeof path, PORTS "/%.200s/name", entry);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t size = read(fd, found, sizeof found - 1);
  close(fd);
  if (size > 0 && found[size - 1] == '\n') found[size - 1] = 0;
  return strcmp(found, name) == 0;
}

static int open_by_name(const char *name) {
  char path[300];
  DIR *directory = opendir(PORTS);
  int fd = -ENOENT;
  if (!directory) return -ENOENT;
  for (struct dirent *entry; fd == -ENOENT && (entry = readdir(directory));) {
    if (entry->d_name[0] == '.' || !is_named(entry->d_name, name)) continue;
    snprintf(path, sizeof path, "/dev/%.200s", entry->d_name);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) fd = -errno;
  }
  closedir(directory);
  return fd;
}

static void set_connected(Port *port, bool connected) {
  if (port->connected == connected) return;
  port->connected = connected;
  if (!connected) buffer_clear(&port->out);
  port->peer_changed(port);
}

void port_flush(Port *port) {
  size_t sent = 0;
  while (sent < port->out.size) {
    ssize_t written = write(port->source.fd, port->out.data + sent, port->out.size - sent);
    if (written <= 0) break; // full or no host: an edge will tell
    sent += (size_t)written;
  }
  buffer_consume(&port->out, sent);
}

static bool host_is_there(const Port *port) {
  struct pollfd state = {.fd = port->source.fd, .events = POLLIN};
  return poll(&state, 1, 0) >= 0 && !(state.revents & POLLHUP);
}

static void receive_all(Port *port) {
  static uint8_t bytes[65536];
  for (;;) {
    ssize_t got = read(port->source.fd, bytes, sizeof bytes);
    if (got <= 0) return;
    set_connected(port, true);
    port->receive(port, bytes, (size_t)got);
  }
}

static void on_ready(Source *source, uint32_t events) {
  Port *port = (Port *)source;
  if (!(events & EPOLLHUP)) set_connected(port, true);
  receive_all(port); // also what a host left that is gone by now
  if (!host_is_there(port)) set_connected(port, false);
  port_flush(port);
  if (port->drained) port->drained(port);
}

int port_open(Port *port) {
  int fd = open_by_name(port->name);
  if (fd < 0) return fd;
  port->source = (Source){.fd = fd, .ready = on_ready};
  port->out.limit = PORT_QUEUE_MAX;
  int r = loop_watch(&port->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  if (r < 0) {
    close(fd);
    port->source.fd = -1;
    return r;
  }
  on_ready(&port->source, host_is_there(port) ? 0 : EPOLLHUP);
  return 0;
}

int port_queue(Port *port, const void *bytes, size_t size) {
  if (port->source.fd < 0 || !port->connected) return 0;
  int r = buffer_append(&port->out, bytes, size);
  if (r < 0) {
    buffer_clear(&port->out);
    return r;
  }
  return 0;
}
