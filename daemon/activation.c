// See activation.h.
#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3 // SD_LISTEN_FDS_START of sd_listen_fds(3)
#define FDS_MAX  64

static int take_number(const char *variable) {
  const char *text = g_getenv(variable);
  guint64 number = 0;
  gboolean valid = text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &number, NULL);
  g_unsetenv(variable);
  return valid ? (int)number : -1;
}

// Its path, or NULL where it's no listening unix stream socket with one.
static char *path_of_listener(int fd) {
  struct sockaddr_un address = {0};
  socklen_t size = sizeof address;
  int type = 0, listens = 0;
  socklen_t type_size = sizeof type, listens_size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 || type != SOCK_STREAM ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_size) < 0 || !listens ||
      getsockname(fd, (struct sockaddr *)&address, &size) < 0 || address.sun_family != AF_UNIX || !address.sun_path[0])
    return NULL;
  return g_strndup(address.sun_path, sizeof address.sun_path);
}

int activation_take_socket(char **ret_path) {
  int pid = take_number("LISTEN_PID"), count = take_number("LISTEN_FDS"), taken = -1;
  g_unsetenv("LISTEN_FDNAMES");
  if (pid != getpid()) return -1;
  for (int fd = FIRST_FD; fd < FIRST_FD + MIN(count, FDS_MAX); fd++) {
    char *path = taken < 0 ? path_of_listener(fd) : NULL;
    if (path == NULL) {
      close(fd);
      continue;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    taken = fd;
    *ret_path = path;
  }
  return taken;
}

void activation_notify(const char *state) {
  const char *path = g_getenv("NOTIFY_SOCKET");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) return;
  memcpy(address.sun_path, path, strlen(path));
  if (path[0] == '@') address.sun_path[0] = 0; // an abstract name
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t size = (socklen_t)(G_STRUCT_OFFSET(struct sockaddr_un, sun_path) + strlen(path));
  if (fd < 0) return;
  if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
    g_warning("cannot tell the service manager '%s': %s", state, g_strerror(errno));
  close(fd);
}
