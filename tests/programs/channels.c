/*
 * Descriptors that carry data: pipes, socket pairs with descriptors and credentials, TCP and UDP over loopback,
 * Unix sockets, epoll (level, edge, one-shot), eventfd, signalfd, select, splice, vectored and many-message
 * calls. struct epoll_event is packed on x86-64 alone, struct msghdr and stat differ too.
 * Build: dynamic static
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void pipes(void) {
  int ends[2], more[2], available = 0;
  char text[64] = "";
  if (pipe2(ends, O_NONBLOCK) || pipe(more)) return;
  printf("empty: %s\n", read(ends[0], text, 1) < 0 ? strerror(errno) : "data");
  struct iovec parts[] = {{"one ", 4}, {"two ", 4}, {"three", 5}};
  printf("writev: %zd\n", writev(ends[1], parts, 3));
  ioctl(ends[0], FIONREAD, &available);
  printf("available: %d, tee %zd", available, tee(ends[0], more[1], 64, 0));
  printf(", splice %zd\n", splice(ends[0], NULL, more[1], NULL, 4, 0));
  printf("read: %zd", read(more[0], text, sizeof text));
  printf(" %s\n", text);
  close(ends[0]);
  signal(SIGPIPE, SIG_IGN);
  printf("broken: %s\n", write(ends[1], "x", 1) < 0 ? strerror(errno) : "fine");
  printf("capacity: %d\n", fcntl(more[0], F_SETPIPE_SZ, 65536));
}

static void epolls(void) {
  int ends[2], fd = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
  struct epoll_event events[4], event = {EPOLLIN | EPOLLET, {.u64 = 0x1122334455667788}};
  uint64_t value = 3;
  if (pipe(ends)) return;
  epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event);
  event = (struct epoll_event){EPOLLIN, {.u64 = 0xaabbccddeeff0011}};
  epoll_ctl(fd, EPOLL_CTL_ADD, counter, &event);
  printf("again: %s\n", epoll_ctl(fd, EPOLL_CTL_ADD, counter, &event) ? strerror(errno) : "fine");
  printf("nothing: %d\n", epoll_wait(fd, events, 4, 0));
  if (write(ends[1], "abc", 3) != 3 || write(counter, &value, 8) != 8) return;
  int count = epoll_wait(fd, events, 4, 1000);
  uint64_t sum = 0;
  for (int i = 0; i < count; i++) sum += events[i].data.u64 ^ events[i].events;
  printf("both: %d %lx\n", count, sum);
  count = epoll_wait(fd, events, 4, 0);
  printf("edge gone: %d, level %lx\n", count, events[0].data.u64);
  int reads = 0;
  while (read(counter, &value, 8) == 8) reads++;
  printf("semaphore: %d of %lu\n", reads, value);
  event = (struct epoll_event){EPOLLOUT | EPOLLONESHOT, {.fd = 5}};
  epoll_ctl(fd, EPOLL_CTL_ADD, ends[1], &event);
  printf("one-shot: %d", epoll_wait(fd, events, 4, 0));
  printf(" then %d\n", epoll_wait(fd, events, 4, 0));
  sigset_t none;
  sigemptyset(&none);
  printf("epoll_pwait: %d\n", epoll_pwait(fd, events, 4, 0, &none));
}

static void signals(void) {
  sigset_t set;
  struct signalfd_siginfo info;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_NONBLOCK);
  sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 55});
  ssize_t size = read(fd, &info, sizeof info);
  printf("signalfd: %zd, signal %d, value %d, mine %d\n", size, info.ssi_signo, info.ssi_int,
         info.ssi_pid == (unsigned)getpid());
}

static void passing(void) {
  int ends[2], passed[2];
  char control[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))] = "", byte = 'p', text[8] = "";
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || pipe(passed)) return;
  setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
  struct iovec part = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(2 * sizeof(int))};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  *header = (struct cmsghdr){CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(header), passed, sizeof passed);
  printf("sendmsg: %zd\n", sendmsg(ends[0], &message, 0));
  message.msg_controllen = sizeof control;
  printf("recvmsg: %zd\n", recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC));
  for (header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    int received[2];
    struct ucred who;
    if (header->cmsg_type == SCM_RIGHTS) {
      memcpy(received, CMSG_DATA(header), sizeof received);
      if (write(received[1], "passed", 6) == 6 && read(passed[0], text, 6) == 6)
        printf("rights: %s, cloexec %d\n", text, fcntl(received[0], F_GETFD));
    } else {
      memcpy(&who, CMSG_DATA(header), sizeof who);
      printf("credentials: %d %d\n", who.pid == getpid(), who.uid == getuid());
    }
  }
}

static void internet(int type) {
  int listener = socket(AF_INET, type | SOCK_CLOEXEC, 0), client = socket(AF_INET, type, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
  socklen_t length = sizeof address, peer_length = sizeof peer;
  char text[256] = "", big[20000];
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  printf("bind: %d\n", bind(listener, (struct sockaddr *)&address, sizeof address));
  getsockname(listener, (struct sockaddr *)&address, &length);
  if (type == SOCK_STREAM) listen(listener, 5);
  printf("connect: %d\n", connect(client, (struct sockaddr *)&address, sizeof address));
  int server = type == SOCK_STREAM ? accept4(listener, (struct sockaddr *)&peer, &peer_length, SOCK_CLOEXEC) : listener;
  struct iovec parts[2] = {{"hello", 5}, {"world!", 6}};
  struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 1}},
                                {.msg_hdr = {.msg_iov = parts + 1, .msg_iovlen = 1}}};
  printf("sendmmsg: %d", sendmmsg(client, messages, 2, 0));
  printf(", lengths %u %u\n", messages[0].msg_len, messages[1].msg_len);
  ssize_t got = recv(server, text, 5, type == SOCK_STREAM ? MSG_WAITALL : 0);
  got += recv(server, text + 5, 6, type == SOCK_STREAM ? MSG_WAITALL : 0);
  printf("received %zd: %s\n", got, text);
  if (type == SOCK_STREAM) {
    memset(big, 'b', sizeof big);
    pid_t pid = fork();
    if (pid == 0) _exit(send(client, big, sizeof big, 0) != sizeof big);
    memset(big, 0, sizeof big);
    printf("big: %zd", recv(server, big, sizeof big, MSG_WAITALL));
    printf(" %c\n", big[19999]);
    waitpid(pid, NULL, 0);
    shutdown(client, SHUT_WR);
    printf("end: %zd\n", recv(server, big, 10, 0));
    int error = -1;
    length = sizeof error;
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &length);
    printf("error: %d", error);
    getsockopt(client, SOL_SOCKET, SO_TYPE, &error, &length);
    printf(", type %d\n", error);
    struct linger linger = {1, 2};
    printf("linger: %d\n", setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
  }
  struct timeval limit = {0, 20000};
  setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (type == SOCK_DGRAM) printf("time-out: %s\n", recv(server, text, 1, 0) < 0 ? strerror(errno) : "data");
  close(listener), close(client);
}

static void selecting(void) {
  int ends[2];
  fd_set readable;
  struct timeval limit = {0, 1000};
  if (pipe(ends)) return;
  FD_ZERO(&readable);
  FD_SET(ends[0], &readable);
  printf("select: %d\n", select(ends[0] + 1, &readable, NULL, NULL, &limit));
  if (write(ends[1], "x", 1) != 1) return;
  FD_SET(ends[0], &readable);
  printf("pselect: %d\n", pselect(ends[0] + 1, &readable, NULL, NULL, NULL, NULL));
  struct pollfd polled[2] = {{ends[0], POLLIN, 0}, {-1, POLLIN, 0}};
  printf("ppoll: %d", ppoll(polled, 2, NULL, NULL));
  printf(" %x\n", polled[0].revents);
  close(ends[1]);
  char byte;
  printf("%zd ", read(ends[0], &byte, 1));
  printf("poll: %d", poll(polled, 1, 0));
  printf(" %x\n", polled[0].revents);
}

static void unix_socket(void) {
  int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), client = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char text[32] = "";
  snprintf(address.sun_path + 1, 64, "stele-channels-%d", getpid()); /* abstract */
  socklen_t length = sizeof(sa_family_t) + 1 + strlen(address.sun_path + 1);
  bind(listener, (struct sockaddr *)&address, length);
  listen(listener, 1);
  printf("unix: %d\n", connect(client, (struct sockaddr *)&address, length));
  int server = accept(listener, NULL, NULL);
  send(server, "packet one", 10, 0);
  send(server, "two", 3, 0);
  printf("packets: %zd", recv(client, text, sizeof text, 0));
  printf(" %zd\n", recv(client, text, sizeof text, 0));
  struct ucred peer;
  length = sizeof peer;
  getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length);
  printf("peer: %d\n", peer.pid == getpid());
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  pipes();
  epolls();
  signals();
  passing();
  internet(SOCK_STREAM);
  internet(SOCK_DGRAM);
  selecting();
  unix_socket();
  return 0;
}
