// A library for QEMU's process (LD_PRELOAD) that keeps a guest's user-mode network off the host's loopback.
//
// libslirp makes the guest's connections from QEMU's process, and to the host itself at 10.0.2.2, which becomes
// 127.0.0.1: databases and debuggers that trust everybody on their machine would trust guests. QEMU has no option
// against it but to cut the network altogether. So connect(2) and sendto(2) as libslirp calls them refuse loopback
// addresses. QEMU's own connections (storage, migration) are not looked at, unless its libslirp is built in and cannot
// be told apart. One thing passes: the host's name server, if that is on loopback, since the guest's is forwarded to
// it.
//
// steled checks after each start that this is in QEMU's process, and ends the machine otherwise.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define EXPORTED __attribute__((visibility("default")))
#define DNS_PORT 53

static int (*real_connect)(int, const struct sockaddr *, socklen_t);
static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);

__attribute__((constructor)) static void find_real(void) {
  *(void **)&real_connect = dlsym(RTLD_NEXT, "connect");
  *(void **)&real_sendto = dlsym(RTLD_NEXT, "sendto");
}

static bool is_slirp(const char *path) {
  return path && strstr(path, "libslirp");
}

static int note_slirp(struct dl_phdr_info *object, size_t size, void *found) {
  if (is_slirp(object->dlpi_name)) *(bool *)found = true;
  return 0;
}

static bool called_by_slirp(void *caller) {
  Dl_info object;
  bool apart = false;
  if (dladdr(caller, &object) && is_slirp(object.dli_fname)) return true;
  dl_iterate_phdr(note_slirp, &apart);
  return !apart;
}

// What Linux routes to the host itself without a network: 127/8, and the unspecified address (ip(7)).
static bool is_loopback4(struct in_addr address) {
  uint32_t host = ntohl(address.s_addr);
  return host >> 24 == 127 || host == INADDR_ANY;
}

static bool is_loopback(const struct sockaddr *to, socklen_t size) {
  if (!to || size < sizeof(struct sockaddr_in)) return false;
  if (to->sa_family == AF_INET) return is_loopback4(((const struct sockaddr_in *)to)->sin_addr);
  if (to->sa_family != AF_INET6 || size < sizeof(struct sockaddr_in6)) return false;
  const struct in6_addr *address = &((const struct sockaddr_in6 *)to)->sin6_addr;
  struct in_addr mapped;
  memcpy(&mapped, &address->s6_addr[12], sizeof mapped);
  return IN6_IS_ADDR_LOOPBACK(address) || IN6_IS_ADDR_UNSPECIFIED(address) ||
         ((IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address)) && is_loopback4(mapped));
}

// Looked up each time, as libslirp does: the file changes with the host's network.
static bool is_name_server(const struct sockaddr *to) {
  char line[256], name[64], text[INET6_ADDRSTRLEN] = "";
  bool v6 = to->sa_family == AF_INET6, found = false;
  const void *address = v6 ? (const void *)&((const struct sockaddr_in6 *)to)->sin6_addr
                           : (const void *)&((const struct sockaddr_in *)to)->sin_addr;
  in_port_t port = v6 ? ((const struct sockaddr_in6 *)to)->sin6_port : ((const struct sockaddr_in *)to)->sin_port;
  if (ntohs(port) != DNS_PORT || !inet_ntop(to->sa_family, address, text, sizeof text)) return false;
  FILE *file = fopen("/etc/resolv.conf", "re");
  while (file && !found && fgets(line, sizeof line, file))
    found = sscanf(line, "nameserver %63s", name) == 1 && strcmp(name, text) == 0;
  if (file) fclose(file);
  return found;
}

static bool refuses(const struct sockaddr *to, socklen_t size, void *caller) {
  return is_loopback(to, size) && called_by_slirp(caller) && !is_name_server(to);
}

EXPORTED int connect(int fd, const struct sockaddr *to, socklen_t size) {
  if (!refuses(to, size, __builtin_return_address(0))) return real_connect(fd, to, size);
  errno = ECONNREFUSED;
  return -1;
}

EXPORTED ssize_t sendto(int fd, const void *bytes, size_t count, int flags, const struct sockaddr *to, socklen_t size) {
  if (!refuses(to, size, __builtin_return_address(0))) return real_sendto(fd, bytes, count, flags, to, size);
  errno = ECONNREFUSED;
  return -1;
}
