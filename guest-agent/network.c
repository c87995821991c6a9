// See network.h. Plain ioctls (netdevice(7)) suffice: one interface, one address, one route.
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"
#include "dhcp.h"

enum { DHCP_SERVER_PORT = 67, DHCP_CLIENT_PORT = 68, RETRY_MS = 500 };

typedef struct Interface {
  char name[IFNAMSIZ];
  uint8_t hardware_address[6];
  int socket; // for ioctls
} Interface;

static int set_up(int fd, const char *name) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) return -errno;
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

// The first Ethernet card. Numbers are given out from 1 on and this early none was given back.
static int find_interface(Interface *interface) {
  struct ifreq request = {.ifr_ifindex = 1};
  for (; ioctl(interface->socket, SIOCGIFNAME, &request) == 0; request.ifr_ifindex++) {
    int index = request.ifr_ifindex; // which shares its place with the address
    snprintf(interface->name, sizeof interface->name, "%s", request.ifr_name);
    bool ethernet =
        ioctl(interface->socket, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
    memcpy(interface->hardware_address, request.ifr_hwaddr.sa_data, sizeof interface->hardware_address);
    if (ethernet) return 0;
    request.ifr_ifindex = index;
  }
  return -ENODEV;
}

static int open_dhcp_socket(const Interface *interface) {
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(DHCP_CLIENT_PORT)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
  if (fd < 0) return -errno;
  if (setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface->name, (socklen_t)strlen(interface->name) + 1) < 0 ||
      bind(fd, (struct sockaddr *)&local, sizeof local) < 0) {
    int r = -errno;
    close(fd);
    return r;
  }
  return fd;
}

// Sends a message of `type` until a reply arrives or the time is up. Returns the reply's type.
static int ask(int fd, const Interface *interface, uint32_t transaction, DhcpType type, uint64_t deadline,
               DhcpLease *lease) {
  struct sockaddr_in server = {
      .sin_family = AF_INET, .sin_port = htons(DHCP_SERVER_PORT), .sin_addr.s_addr = htonl(INADDR_BROADCAST)};
  uint8_t message[DHCP_MESSAGE_MAX], reply[2048];
  size_t size = dhcp_write(message, type, transaction, interface->hardware_address, lease);
  for (uint64_t now, resend = 0; (now = agent_now_ms()) < deadline;) {
    if (now >= resend) { // a link that is not up yet refuses: tried again
      ssize_t ignored = sendto(fd, message, size, 0, (struct sockaddr *)&server, sizeof server);
      (void)ignored;
      resend = now + RETRY_MS;
    }
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, (int)(resend - now)) <= 0) continue;
    ssize_t got = recv(fd, reply, sizeof reply, 0);
    DhcpLease answer;
    int kind = got < 0 ? -EINVAL : dhcp_read(reply, (size_t)got, transaction, interface->hardware_address, &answer);
    if (kind != (type == DHCP_DISCOVER ? DHCP_OFFER : DHCP_ACK) && kind != DHCP_NAK) continue;
    *lease = answer;
    return kind;
  }
  return -ETIMEDOUT;
}

static int get_lease(const Interface *interface, DhcpLease *ret_lease) {
  uint64_t deadline = agent_now_ms() + NETWORK_TIMEOUT_MS;
  uint32_t transaction = 0;
  if (getrandom(&transaction, sizeof transaction, GRND_NONBLOCK) < 0) transaction = (uint32_t)deadline;
  int fd = open_dhcp_socket(interface);
  if (fd < 0) return fd;
  int r = ask(fd, interface, transaction, DHCP_DISCOVER, deadline, ret_lease);
  if (r == DHCP_OFFER) r = ask(fd, interface, transaction, DHCP_REQUEST, deadline, ret_lease);
  close(fd);
  return r == DHCP_ACK ? 0 : r < 0 ? r : -ECONNREFUSED;
}

static struct sockaddr inet_address(uint32_t address) {
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = address};
  struct sockaddr generic;
  memcpy(&generic, &inet, sizeof generic);
  return generic;
}

static int apply(const Interface *interface, const DhcpLease *lease) {
  struct ifreq request = {.ifr_addr = inet_address(lease->address)};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface->name);
  if (ioctl(interface->socket, SIOCSIFADDR, &request) < 0) return -errno;
  request.ifr_netmask = inet_address(lease->netmask);
  if (lease->netmask && ioctl(interface->socket, SIOCSIFNETMASK, &request) < 0) return -errno;
  struct rtentry route = {.rt_dst = inet_address(0),
                          .rt_genmask = inet_address(0),
                          .rt_gateway = inet_address(lease->router),
                          .rt_flags = RTF_UP | RTF_GATEWAY};
  return lease->router && ioctl(interface->socket, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

static void describe_nameservers(const DhcpLease *lease, char *text, size_t size) {
  size_t at = 0;
  for (int i = 0; i < DHCP_NAMESERVERS_MAX && lease->nameservers[i]; i++) {
    char address[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &lease->nameservers[i], address, sizeof address);
    at += (size_t)snprintf(text + at, size - at, "nameserver %s\n", address);
    if (at >= size) break;
  }
}

int network_up(char *ret_nameservers, size_t size) {
  Interface interface = {.socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  DhcpLease lease = {0};
  if (interface.socket < 0) return -errno;
  set_up(interface.socket, "lo");
  int r = find_interface(&interface);
  if (r == 0) r = set_up(interface.socket, interface.name);
  if (r == 0) r = get_lease(&interface, &lease);
  if (r == 0) r = apply(&interface, &lease);
  if (r == 0) describe_nameservers(&lease, ret_nameservers, size);
  close(interface.socket);
  return r;
}
