/*
 * System calls write their results into a page that also holds code that has run. What such a call consumes (a child,
 * a datagram, a signal, a counter's value, a connection) must be consumed once, and what it reports must be right.
 * Build: static dynamic, -pthread
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>

#include "stress.h"

/* Two pages: each begins and ends with a function, and between them is room for results. */
static uint8_t *pages;
static int calls;

/* Both functions of both pages have run since anything wrote there. */
static void *armed(int offset) {
  for (int i = 0; i < 2; i++)
    for (int end = 0; end < 2; end++) {
      uint8_t *at = pages + i * PAGE + end * (PAGE - 8);
      CHECK(((Function *)at)(calls) == calls + 11 + i);
    }
  calls++;
  return pages + offset;
}

enum { ROOM = 1024 };
#define RESULT(type) ((type *)armed(ROOM))

static void prepare(void) {
  pages = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int i = 0; i < 2; i++) {
    put_adder(pages + i * PAGE, 11 + i);
    put_adder(pages + i * PAGE + PAGE - 8, 11 + i);
  }
}

static pid_t child_with(int status) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(status);
  return child;
}

static void wait_status(int round) {
  int *status;
  pid_t child = child_with(round % 100);
  status = RESULT(int);
  CHECK(waitpid(child, status, 0) == child);
  CHECK(*status == round % 100 << 8);
  child = child_with(7);
  status = RESULT(int);
  struct rusage *usage = (struct rusage *)(pages + PAGE + ROOM);
  CHECK(wait4(child, status, 0, usage) == child && *status == 7 << 8);
  CHECK(usage->ru_maxrss > 0);
}

static void wait_info(int round) {
  pid_t child = child_with(round % 50);
  siginfo_t *info = RESULT(siginfo_t);
  CHECK(waitid(P_PID, (id_t)child, info, WEXITED) == 0);
  CHECK(info->si_pid == child && info->si_status == round % 50);
  CHECK(waitpid(child, NULL, 0) == -1 && errno == ECHILD);
}

static void pipe_read(int round) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  CHECK(write(ends[1], &round, 4) == 4);
  int *value = RESULT(int);
  CHECK(read(ends[0], value, 4) == 4 && *value == round);
  int left;
  CHECK(ioctl(ends[0], FIONREAD, &left) == 0 && left == 0);
  close(ends[0]), close(ends[1]);
}

static void pipe_ends(int round) {
  (void)round;
  int *ends = RESULT(int);
  CHECK(pipe(ends) == 0);
  CHECK(ends[0] == 3 && ends[1] == 4);
  close(3), close(4);
  ends = RESULT(int);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  CHECK(ends[0] == 3 && ends[1] == 4);
  close(3), close(4);
}

static void event_counter(int round) {
  int fd = eventfd((unsigned)round + 1, 0);
  uint64_t *value = RESULT(uint64_t);
  CHECK(read(fd, value, 8) == 8 && *value == (uint64_t)round + 1);
  close(fd);
  fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
  value = RESULT(uint64_t);
  CHECK(read(fd, value, 8) == 8 && *value == 1);
  value = RESULT(uint64_t);
  CHECK(read(fd, value, 8) == 8 && *value == 1);
  value = RESULT(uint64_t);
  CHECK(read(fd, value, 8) == -1 && errno == EAGAIN);
  close(fd);
}

static void timer_counter(int round) {
  (void)round;
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  struct itimerspec soon = {{0, 0}, {0, 100000}};
  struct itimerspec *old = RESULT(struct itimerspec);
  CHECK(timerfd_settime(fd, 0, &soon, old) == 0 && old->it_value.tv_nsec == 0);
  uint64_t *value = RESULT(uint64_t);
  CHECK(read(fd, value, 8) == 8 && *value == 1);
  struct itimerspec *current = RESULT(struct itimerspec);
  memset(current, 1, sizeof *current);
  current = RESULT(struct itimerspec);
  CHECK(timerfd_gettime(fd, current) == 0 && current->it_value.tv_nsec == 0);
  close(fd);
}

static sigset_t only(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  return set;
}

static void signal_descriptor(int round) {
  sigset_t set = only(SIGRTMIN + 4);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  int fd = signalfd(-1, &set, SFD_NONBLOCK);
  for (int i = 0; i < 3; i++) CHECK(sigqueue(getpid(), SIGRTMIN + 4, (union sigval){.sival_int = round + i}) == 0);
  for (int i = 0; i < 3; i++) {
    struct signalfd_siginfo *info = RESULT(struct signalfd_siginfo);
    CHECK(read(fd, info, sizeof *info) == sizeof *info);
    CHECK(info->ssi_int == round + i);
  }
  CHECK(read(fd, pages + ROOM, 128) == -1 && errno == EAGAIN);
  close(fd);
}

static void signal_wait(int round) {
  sigset_t set = only(SIGRTMIN + 5);
  struct timespec soon = {0, 0};
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
  for (int i = 0; i < 3; i++) CHECK(sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = round + i}) == 0);
  for (int i = 0; i < 3; i++) {
    siginfo_t *info = RESULT(siginfo_t);
    CHECK(sigtimedwait(&set, info, &soon) == SIGRTMIN + 5);
    CHECK(info->si_value.sival_int == round + i && info->si_code == SI_QUEUE);
  }
  CHECK(sigtimedwait(&set, RESULT(siginfo_t), &soon) == -1 && errno == EAGAIN);
}

static void signal_state(int round) {
  sigset_t set = only(SIGUSR2), *old;
  struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART}, *before;
  before = RESULT(struct sigaction);
  CHECK(sigaction(SIGUSR1, &action, before) == 0);
  action.sa_handler = SIG_DFL;
  before = RESULT(struct sigaction);
  CHECK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, before, 8) == 0);
  CHECK(*(void **)before == (void *)SIG_IGN);
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  old = RESULT(sigset_t);
  CHECK(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, old, 8) == 0 && sigismember(old, SIGUSR2) == 1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  raise(SIGUSR2);
  old = RESULT(sigset_t);
  CHECK(syscall(SYS_rt_sigpending, old, 8) == 0 && sigismember(old, SIGUSR2) == 1);
  siginfo_t info;
  CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
  stack_t stack = {.ss_sp = pages, .ss_size = 65536, .ss_flags = 0}, *old_stack;
  CHECK(sigaltstack(&stack, NULL) == 0);
  stack.ss_flags = SS_DISABLE;
  old_stack = RESULT(stack_t);
  CHECK(sigaltstack(&stack, old_stack) == 0 && old_stack->ss_size == 65536 && old_stack->ss_sp == pages);
  (void)round;
}

static void watch(int round) {
  char name[32];
  int fd = inotify_init1(IN_NONBLOCK);
  NEEDS(fd >= 0);
  CHECK(mkdir("watched", 0700) == 0);
  CHECK(inotify_add_watch(fd, "watched", IN_CREATE) >= 0);
  snprintf(name, sizeof name, "watched/%d", round);
  int file = open(name, O_CREAT | O_WRONLY, 0600);
  CHECK(file >= 0);
  close(file);
  struct inotify_event *event = RESULT(struct inotify_event);
  CHECK(read(fd, event, 256) >= (ssize_t)sizeof *event);
  CHECK(event->mask == IN_CREATE && !strcmp(event->name, name + 8));
  CHECK(read(fd, pages + ROOM, 256) == -1 && errno == EAGAIN);
  unlink(name), rmdir("watched");
  close(fd);
}

static void datagrams(int round) {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends) == 0);
  for (int i = 0; i < 4; i++) {
    int value = round * 10 + i;
    CHECK(send(ends[1], &value, 4, 0) == 4);
  }
  int *value = RESULT(int);
  CHECK(recv(ends[0], value, 4, 0) == 4 && *value == round * 10);
  value = RESULT(int);
  CHECK(read(ends[0], value, 4) == 4 && *value == round * 10 + 1);
  value = RESULT(int);
  struct iovec part = {value, 4};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  CHECK(recvmsg(ends[0], &message, 0) == 4 && *value == round * 10 + 2);
  struct mmsghdr *many = RESULT(struct mmsghdr);
  *many = (struct mmsghdr){.msg_hdr = {.msg_iov = (struct iovec *)(many + 1), .msg_iovlen = 1}};
  *(struct iovec *)(many + 1) = (struct iovec){pages + PAGE + ROOM, 4};
  many = RESULT(struct mmsghdr);
  CHECK(recvmmsg(ends[0], many, 1, 0, NULL) == 1 && many->msg_len == 4);
  CHECK(*(int *)(pages + PAGE + ROOM) == round * 10 + 3);
  CHECK(recv(ends[0], pages + ROOM, 4, 0) == -1 && errno == EAGAIN);
  close(ends[0]), close(ends[1]);
}

/* A message's header, its control data and its bytes, all on pages with code; one descriptor comes of it. */
static void control_data(int round) {
  int ends[2], passed = open("/dev/null", O_RDONLY);
  char space[CMSG_SPACE(sizeof passed)] = {0};
  struct iovec part = {&round, 4};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
  *control = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof passed)};
  memcpy(CMSG_DATA(control), &passed, sizeof passed);
  CHECK(sendmsg(ends[1], &message, 0) == 4);
  struct msghdr *taken = RESULT(struct msghdr);
  struct iovec *place = (struct iovec *)(taken + 1);
  *place = (struct iovec){pages + PAGE + ROOM, 4};
  *taken = (struct msghdr){.msg_iov = place, .msg_iovlen = 1, .msg_control = pages + PAGE + 2 * ROOM,
                           .msg_controllen = 64};
  taken = RESULT(struct msghdr);
  CHECK(recvmsg(ends[0], taken, 0) == 4);
  CHECK(*(int *)(pages + PAGE + ROOM) == round);
  CHECK(taken->msg_controllen == CMSG_SPACE(sizeof passed));
  int got;
  memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(taken)), sizeof got);
  CHECK(got == 6); /* the lowest one free: nothing was passed twice */
  close(got), close(passed), close(ends[0]), close(ends[1]);
}

static void connections(int round) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  int server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "stress-%d-%d", getpid(), round);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  CHECK(bind(server, (struct sockaddr *)&name, size) == 0 && listen(server, 4) == 0);
  CHECK(connect(client, (struct sockaddr *)&name, size) == 0);
  socklen_t *given = RESULT(socklen_t);
  struct sockaddr_un *address = (struct sockaddr_un *)(pages + PAGE + ROOM);
  *given = sizeof *address;
  given = RESULT(socklen_t);
  int accepted = accept(server, (struct sockaddr *)address, given);
  CHECK(accepted >= 0 && address->sun_family == AF_UNIX && *given == 2);
  CHECK(accept(server, NULL, NULL) == -1 && errno == EAGAIN);
  *given = sizeof *address;
  given = RESULT(socklen_t);
  CHECK(getsockname(server, (struct sockaddr *)address, given) == 0);
  CHECK(*given == size && !memcmp(address, &name, size));
  *given = sizeof *address;
  given = RESULT(socklen_t);
  CHECK(getpeername(client, (struct sockaddr *)address, given) == 0 && *given == size);
  int *option = (int *)(pages + PAGE + ROOM);
  *given = sizeof *option;
  given = RESULT(socklen_t);
  CHECK(getsockopt(server, SOL_SOCKET, SO_ACCEPTCONN, option, given) == 0 && *option == 1 && *given == 4);
  close(accepted), close(client), close(server);
}

/* A sender's address beside the datagram. */
static void senders(int round) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof here;
  int server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
  NEEDS(server >= 0 && bind(server, (struct sockaddr *)&here, sizeof here) == 0);
  CHECK(getsockname(server, (struct sockaddr *)&here, &size) == 0);
  CHECK(sendto(client, &round, 4, 0, (struct sockaddr *)&here, sizeof here) == 4);
  socklen_t *given = RESULT(socklen_t);
  struct sockaddr_in *from = (struct sockaddr_in *)(given + 1);
  *given = sizeof *from;
  int value = -1;
  given = RESULT(socklen_t);
  CHECK(recvfrom(server, &value, 4, 0, (struct sockaddr *)from, given) == 4 && value == round);
  CHECK(*given == sizeof *from && from->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  CHECK(recv(server, &value, 4, 0) == -1 && errno == EAGAIN);
  close(server), close(client);
}

static void readiness(int round) {
  int ends[2], epoll = epoll_create1(0);
  CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = (uint64_t)round};
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
  struct epoll_event *seen = RESULT(struct epoll_event);
  CHECK(epoll_wait(epoll, seen, 4, 0) == 1 && seen->data.u64 == (uint64_t)round);
  CHECK(epoll_wait(epoll, RESULT(struct epoll_event), 4, 0) == 0); /* an edge is told once */
  struct pollfd *polled = RESULT(struct pollfd);
  *polled = (struct pollfd){.fd = ends[0], .events = POLLIN};
  polled = RESULT(struct pollfd);
  CHECK(poll(polled, 1, 0) == 1 && polled->revents == POLLIN);
  fd_set *set = RESULT(fd_set);
  FD_ZERO(set);
  FD_SET(ends[0], set);
  FD_SET(ends[1], set);
  struct timeval *wait = (struct timeval *)(set + 1);
  *wait = (struct timeval){0, 0};
  set = RESULT(fd_set);
  CHECK(select(ends[1] + 1, set, NULL, NULL, wait) == 1 && FD_ISSET(ends[0], set) && !FD_ISSET(ends[1], set));
  close(ends[0]), close(ends[1]), close(epoll);
}

/* --- Threads: what the kernel writes when they come and go --- */

typedef struct ThreadWords {
  volatile int parent, child, done;
} ThreadWords;

static ThreadWords *thread_words;
static volatile int thread_mode, child_saw, thread_begun;

static int thread_body(void *unused) {
  (void)unused;
  child_saw = thread_words->child; /* set before the child runs */
  if (thread_mode == 1) syscall(SYS_set_tid_address, &thread_words->child);
  thread_begun = 1;
  while (thread_begun != 2) sched_yield();
  syscall(SYS_exit, 0);
  return 0;
}

static void wait_for_zero(volatile int *word, int value) {
  while (*word == value) syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

/* clone's three words, each on a page whose code has run; the last is how a join waits. */
static void thread_ids(int round) {
  int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  uint8_t *stack = map_pages(16, PROT_READ | PROT_WRITE);
  uint64_t area[512] = {0}, *tls = area + 256;
  thread_mode = round % 2;
  thread_begun = 0;
  thread_words = RESULT(ThreadWords);
  thread_words->parent = thread_words->child = -1;
  thread_words = RESULT(ThreadWords);
  flags |= CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_SETTLS;
  if (thread_mode == 0) flags |= CLONE_CHILD_CLEARTID;
  memcpy(tls, __builtin_thread_pointer(), 512); /* the stack protector's word */
  tls[0] = tls[2] = (uint64_t)tls;
  int tid = clone(thread_body, stack + 16 * PAGE, flags, NULL, &thread_words->parent, tls, &thread_words->child);
  CHECK(tid > 0);
  CHECK(thread_words->parent == tid);
  while (!thread_begun) sched_yield();
  CHECK(child_saw == tid);
  (void)armed(0);
  thread_begun = 2;
  wait_for_zero(&thread_words->child, tid);
  CHECK(thread_words->child == 0);
  munmap(stack, 16 * PAGE);
}

static void fork_id(int round) {
  (void)round;
  int *words = RESULT(int);
  words[0] = words[1] = -1;
  words = RESULT(int);
  long child = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, &words[1], 0);
  CHECK(child >= 0);
  if (child == 0) _exit(words[1] == getpid() ? 31 : 1);
  CHECK(words[1] == -1);
  expect_child((pid_t)child, 31 << 8);
}

static void fork_parent_id(int round) {
  (void)round;
  int *word = RESULT(int);
  *word = -1;
  word = RESULT(int);
  long child = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, word, 0, 0);
  CHECK(child >= 0);
  if (child == 0) _exit(31);
  CHECK(*word == child);
  expect_child((pid_t)child, 31 << 8);
}

/* --- Futexes --- */

static void *unlock_later(void *argument) {
  int *word = argument;
  CHECK(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
  CHECK((*word & FUTEX_TID_MASK) == gettid());
  (void)armed(0);
  CHECK(syscall(SYS_futex, word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
  return NULL;
}

static void futex_words(int round) {
  int *word = RESULT(int), other = 0;
  word[0] = round;
  word = RESULT(int);
  int operation = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, round);
  CHECK(syscall(SYS_futex, &other, FUTEX_WAKE_OP, 1, 1, word, operation) == 0);
  CHECK(*word == round + 5);
  *word = 0;
  word = RESULT(int);
  CHECK(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
  CHECK(*word == gettid());
  pthread_t waiter = start(unlock_later, word);
  while (!(*word & (int)FUTEX_WAITERS)) sched_yield();
  (void)armed(0);
  CHECK(syscall(SYS_futex, word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
  CHECK(pthread_join(waiter, NULL) == 0);
  CHECK(*word == 0 || *word == (int)FUTEX_WAITERS);
}

/* A mutex that survives its owner, in memory beside code. */
static void *die_owning(void *argument) {
  CHECK(pthread_mutex_lock(argument) == 0);
  (void)armed(0);
  return NULL;
}
static void robust(int round) {
  (void)round;
  pthread_mutexattr_t attributes;
  pthread_mutex_t *mutex = RESULT(pthread_mutex_t);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  CHECK(pthread_mutex_init(mutex, &attributes) == 0);
  CHECK(pthread_join(start(die_owning, mutex), NULL) == 0);
  CHECK(pthread_mutex_lock(mutex) == EOWNERDEAD);
  CHECK(pthread_mutex_consistent(mutex) == 0);
  CHECK(pthread_mutex_unlock(mutex) == 0);
}

/* --- Time --- */

static void interrupt(int signal, siginfo_t *info, void *context) { (void)signal, (void)info, (void)context; }

static void remaining(int round) {
  (void)round;
  struct itimerval soon = {{0, 20000}, {0, 2000}}, never = {0}; /* again, if the first came before the sleep */
  struct timespec wait = {100, 0}, *left = RESULT(struct timespec);
  handle(SIGALRM, interrupt, 0);
  setitimer(ITIMER_REAL, &soon, NULL);
  CHECK(nanosleep(&wait, left) == -1 && errno == EINTR);
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(left->tv_sec == 99);
  left = RESULT(struct timespec);
  setitimer(ITIMER_REAL, &soon, NULL);
  CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, left) == EINTR);
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(left->tv_sec == 99);
}

static void clocks(int round) {
  struct timespec *now = RESULT(struct timespec);
  CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, now) == 0 && now->tv_sec + now->tv_nsec > 0);
  now = RESULT(struct timespec);
  CHECK(clock_getres(CLOCK_MONOTONIC, now) == 0 && now->tv_sec == 0);
  struct timeval *wall = RESULT(struct timeval);
  CHECK(syscall(SYS_gettimeofday, wall, NULL) == 0 && wall->tv_sec > 1000000000);
  time_t *seconds = RESULT(time_t);
  CHECK(syscall(SYS_time, seconds) == *seconds && *seconds > 1000000000);
  struct tms *used = RESULT(struct tms);
  CHECK(times(used) != -1);
  struct itimerval next = {{0, 0}, {1000, 0}}, none = {{0, 0}, {0, 0}}, *old;
  setitimer(ITIMER_VIRTUAL, &next, NULL);
  old = RESULT(struct itimerval);
  CHECK(setitimer(ITIMER_VIRTUAL, &none, old) == 0 && old->it_value.tv_sec >= 999);
  (void)round;
}

/* --- Files and the system --- */

static void file_facts(int round) {
  struct stat *facts = RESULT(struct stat);
  CHECK(stat("/dev/null", facts) == 0 && S_ISCHR(facts->st_mode));
  struct statx *more = RESULT(struct statx);
  CHECK(statx(AT_FDCWD, "/dev/null", 0, STATX_TYPE, more) == 0 && S_ISCHR(more->stx_mode));
  struct utsname *name = RESULT(struct utsname);
  CHECK(uname(name) == 0 && !strcmp(name->machine, "x86_64"));
  struct rlimit *limit = RESULT(struct rlimit);
  CHECK(getrlimit(RLIMIT_CORE, limit) == 0);
  limit = RESULT(struct rlimit);
  CHECK(prlimit(0, RLIMIT_NOFILE, NULL, limit) == 0 && limit->rlim_cur > 3);
  char *path = RESULT(char);
  CHECK(readlink("/proc/self/fd/0", path, 100) > 0);
  path = RESULT(char);
  CHECK(syscall(SYS_getcwd, path, 1000) > 0 && path[0] == '/');
  cpu_set_t *set = RESULT(cpu_set_t);
  CHECK(sched_getaffinity(0, sizeof *set, set) == 0 && CPU_COUNT(set) > 0);
  unsigned *ids = RESULT(unsigned);
  CHECK(syscall(SYS_getresuid, ids, ids + 1, ids + 2) == 0 && ids[0] == getuid() && ids[2] == getuid());
  unsigned *cpu = RESULT(unsigned);
  CHECK(syscall(SYS_getcpu, cpu, cpu + 1, NULL) == 0);
  (void)round;
}

static void randomness(int round) {
  (void)round;
  uint64_t *bytes = RESULT(uint64_t);
  memset(bytes, 0, 64);
  bytes = RESULT(uint64_t);
  CHECK(getrandom(bytes, 64, 0) == 64 && (bytes[0] | bytes[1]) && (bytes[6] | bytes[7]));
}

static void left_to_read(int round) {
  int ends[2];
  CHECK(pipe(ends) == 0 && write(ends[1], pages, (size_t)round % 50 + 1) > 0);
  int *left = RESULT(int);
  CHECK(ioctl(ends[0], FIONREAD, left) == 0 && *left == round % 50 + 1);
  close(ends[0]), close(ends[1]);
}

static void offsets(int round) {
  (void)round;
  int ends[2], fd = memfd_create("numbers", 0);
  char seen[64];
  CHECK(write(fd, "0123456789abcdefghij", 20) == 20 && pipe(ends) == 0);
  off_t *offset = RESULT(off_t);
  *offset = 4;
  offset = RESULT(off_t);
  CHECK(sendfile(ends[1], fd, offset, 6) == 6 && *offset == 10);
  offset = RESULT(off_t);
  CHECK(splice(fd, offset, ends[1], NULL, 5, 0) == 5 && *offset == 15);
  CHECK(read(ends[0], seen, sizeof seen) == 11 && !memcmp(seen, "456789abcde", 11));
  int copy = memfd_create("copy", 0);
  offset[0] = 2, offset[1] = 0;
  offset = RESULT(off_t);
  CHECK(copy_file_range(fd, offset, copy, offset + 1, 3, 0) == 3 && offset[0] == 5 && offset[1] == 3);
  CHECK(pread(copy, seen, 8, 0) == 3 && !memcmp(seen, "234", 3));
  close(ends[0]), close(ends[1]), close(fd), close(copy);
}

/* One read that ends in the second page, and one in parts on both. */
static void across(int round) {
  int ends[2];
  uint8_t bytes[ROOM];
  memset(bytes, round, sizeof bytes);
  CHECK(pipe(ends) == 0 && write(ends[1], bytes, ROOM) == ROOM);
  CHECK(write(ends[1], bytes, ROOM) == ROOM);
  uint8_t *first = armed(PAGE - ROOM - 8), *second = pages + PAGE + 8;
  struct iovec parts[] = {{first, ROOM / 2}, {second, ROOM / 2}};
  CHECK(readv(ends[0], parts, 2) == ROOM && first[5] == (uint8_t)round && second[ROOM / 2 - 1] == (uint8_t)round);
  uint8_t function[16]; /* the read goes over two functions, which it gives back as they were */
  uint8_t *over = armed(PAGE - 8);
  memcpy(function, over, 16);
  CHECK(read(ends[0], bytes, ROOM) == ROOM && write(ends[1], function, 16) == 16);
  CHECK(read(ends[0], armed(PAGE - 8), 16) == 16);
  (void)armed(0);
  close(ends[0]), close(ends[1]);
}

/* More buffers than one would expect, the last one beside code. */
static void many_buffers(int round) {
  enum { BUFFERS = 100 };
  int ends[2];
  uint8_t bytes[BUFFERS];
  struct iovec parts[BUFFERS];
  memset(bytes, round, sizeof bytes);
  CHECK(pipe(ends) == 0 && write(ends[1], bytes, BUFFERS) == BUFFERS);
  for (int i = 0; i < BUFFERS; i++) parts[i] = (struct iovec){bytes + i, 1};
  uint8_t *last = armed(ROOM);
  parts[BUFFERS - 1].iov_base = last;
  *bytes = (uint8_t)~round;
  CHECK(readv(ends[0], parts, BUFFERS) == BUFFERS && *last == (uint8_t)round && *bytes == (uint8_t)round);
  CHECK(write(ends[1], bytes, BUFFERS) == BUFFERS);
  struct iovec part = {armed(ROOM), BUFFERS};
  CHECK(vmsplice(ends[0], &part, 1, 0) == BUFFERS && last[BUFFERS - 1] == (uint8_t)round);
  close(ends[0]), close(ends[1]);
}

static void messages(int round) {
  int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  NEEDS(id >= 0);
  struct {
    long type;
    int value;
  } sent = {1, round}, *got;
  CHECK(msgsnd(id, &sent, 4, 0) == 0);
  got = armed(ROOM);
  CHECK(msgrcv(id, got, 4, 0, IPC_NOWAIT) == 4 && got->value == round);
  CHECK(msgrcv(id, got, 4, 0, IPC_NOWAIT) == -1 && errno == ENOMSG);
  struct msqid_ds *facts = RESULT(struct msqid_ds);
  CHECK(msgctl(id, IPC_STAT, facts) == 0 && facts->msg_qnum == 0);
  CHECK(msgctl(id, IPC_RMID, NULL) == 0);
}

static void queues(int round) {
  char name[32];
  snprintf(name, sizeof name, "/stress-%d", getpid());
  struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 64};
  struct timespec long_ago = {0, 0};
  mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
  NEEDS(queue >= 0);
  mq_unlink(name);
  CHECK(mq_send(queue, (char *)&round, 4, 3) == 0);
  struct mq_attr *facts = RESULT(struct mq_attr);
  CHECK(mq_getattr(queue, facts) == 0 && facts->mq_curmsgs == 1);
  int *value = RESULT(int);
  unsigned *priority = (unsigned *)(pages + PAGE + ROOM);
  CHECK(mq_timedreceive(queue, (char *)value, 64, priority, &long_ago) == 4);
  CHECK(*value == round && *priority == 3);
  CHECK(mq_timedreceive(queue, (char *)value, 64, NULL, &long_ago) == -1 && errno == ETIMEDOUT);
  mq_close(queue);
}

static void asynchronous(int round) {
  aio_context_t context = 0;
  NEEDS(syscall(SYS_io_setup, 4, &context) == 0);
  int fd = memfd_create("aio", 0);
  CHECK(write(fd, &round, 4) == 4);
  int *value = RESULT(int);
  struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)fd, .aio_buf = (uint64_t)value,
                       .aio_nbytes = 4, .aio_data = 77}, *list[] = {&block};
  CHECK(syscall(SYS_io_submit, context, 1, list) == 1);
  struct io_event *event = (struct io_event *)armed(PAGE + ROOM);
  CHECK(syscall(SYS_io_getevents, context, 1, 1, event, NULL) == 1);
  CHECK(event->data == 77 && event->res == 4 && *value == round);
  struct timespec none = {0, 0};
  CHECK(syscall(SYS_io_getevents, context, 0, 1, armed(PAGE + ROOM), &none) == 0);
  CHECK(syscall(SYS_io_destroy, context) == 0);
  close(fd);
}

typedef struct Row {
  const char *name;
  void (*once)(int round);
} Row;

static const Row rows[] = {
    {"wait-status", wait_status}, {"wait-info", wait_info}, {"pipe-read", pipe_read}, {"pipe-ends", pipe_ends},
    {"event-counter", event_counter}, {"timer-counter", timer_counter}, {"signal-descriptor", signal_descriptor},
    {"signal-wait", signal_wait}, {"signal-state", signal_state}, {"watch", watch}, {"datagrams", datagrams},
    {"control-data", control_data}, {"connections", connections}, {"senders", senders}, {"readiness", readiness},
    {"thread-ids", thread_ids}, {"fork-id", fork_id},
    {"fork-parent-id", fork_parent_id}, {"futex-words", futex_words}, {"robust", robust},
    {"remaining", remaining}, {"clocks", clocks}, {"file-facts", file_facts}, {"randomness", randomness},
    {"left-to-read", left_to_read}, {"offsets", offsets}, {"across", across}, {"many-buffers", many_buffers}, {"messages", messages},
    {"queues", queues}, {"asynchronous", asynchronous}};

int main(int argc, char **argv) {
  prepare();
  for (size_t i = 0; argc == 3 && i < sizeof rows / sizeof *rows; i++)
    if (!strcmp(rows[i].name, argv[1])) {
      for (int round = 0; round < atoi(argv[2]); round++) rows[i].once(round);
      printf("%s: ok\n", argv[1]);
      return 0;
    }
  fprintf(stderr, "usage: %s CASE ROUNDS\n", argv[0]);
  return 2;
}
