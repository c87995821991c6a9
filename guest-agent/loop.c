// See loop.h.
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>

static int epoll_fd = -1;

int loop_open(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  return epoll_fd < 0 ? -errno : 0;
}

int loop_watch(Source *source, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = source};
  int operation = source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (epoll_ctl(epoll_fd, operation, source->fd, &event) < 0) return -errno;
  source->watched = true;
  return 0;
}

void loop_unwatch(Source *source) {
  if (source->watched) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
  source->watched = false;
}

void loop_run_once(int timeout_ms) {
  struct epoll_event event;
  if (epoll_wait(epoll_fd, &event, 1, timeout_ms) != 1) return;
  Source *source = event.data.ptr;
  source->ready(source, event.events);
}
