/*
 * Every signal arrives, once, soon: threads in one loop of every kind are each sent real-time signals, the next one
 * when the last has been handled, and a run of queued ones with values. Signals of processor exceptions that a program
 * sends itself are its own, and a default action ends a process that spins.
 * Build: static dynamic, -pthread
 */
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

#include "stress.h"

enum { THREADS = 3 };
static volatile int stop;
static int handled[THREADS], begun;
static __thread int own_number = -1;

static sem_t arrived; /* posted by every handler: whoever waits needs no processor for it */

static void count(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info, (void)context;
  __atomic_add_fetch(&handled[own_number], 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
}

static void wait_until(const int *counter, int wanted) {
  while (__atomic_load_n(counter, __ATOMIC_SEQ_CST) < wanted) sem_wait(&arrived);
}

/* --- Loops: every one runs until `stop`, in a region of its own that all threads share --- */

static uint8_t memory[THREADS][PAGE] __attribute__((aligned(64)));

static void loop_plain(int number) {
  (void)number;
  __asm__ volatile("1: add $1, %%eax\n cmpl $0, %0\n je 1b" ::"m"(stop) : "eax", "cc");
}
static void loop_pause(int number) {
  (void)number;
  while (!stop) __asm__ volatile("pause");
}
static void loop_misaligned(int number) {
  uint8_t *at = memory[number] + 61; /* over a cache line's end: ordered accesses fault there */
  __asm__ volatile("1: mov (%0), %%rax\n add $1, %%rax\n mov %%rax, (%0)\n movl 5(%0), %%ecx\n movw %%cx, 30(%0)\n"
                   "cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop) : "rax", "rcx", "cc", "memory");
}
static void loop_locked(int number) {
  uint8_t *at = memory[number] + 61;
  __asm__ volatile("1: lock addq $1, (%0)\n lock xaddl %%eax, 7(%0)\n cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop)
                   : "rax", "cc", "memory");
}
static void loop_x87(int number) {
  (void)number;
  __asm__ volatile("1: fld1\n fsin\n fptan\n fstp %%st\n fld1\n fpatan\n fstp %%st\n cmpl $0, %0\n je 1b" ::"m"(stop)
                   : "st", "st(1)", "cc");
}
static void loop_cpuid(int number) {
  (void)number;
  __asm__ volatile("1: xor %%eax, %%eax\n xor %%ecx, %%ecx\n cpuid\n cmpl $0, %0\n je 1b" ::"m"(stop)
                   : "eax", "ebx", "ecx", "edx", "cc");
}
static void loop_divide(int number) {
  (void)number;
  __asm__ volatile("1: mov $1, %%edx\n mov $12345, %%eax\n mov $77777, %%ecx\n div %%rcx\n mov $-1, %%rdx\n"
                   "mov $-99999, %%rax\n idiv %%rcx\n cmpl $0, %0\n je 1b" ::"m"(stop) : "rax", "rcx", "rdx", "cc");
}
static void loop_wide_exchange(int number) {
  uint8_t *at = memory[number] + 128;
  __asm__ volatile("1: mov (%0), %%rax\n mov 8(%0), %%rdx\n lea 1(%%rax), %%rbx\n mov %%rdx, %%rcx\n"
                   "lock cmpxchg16b (%0)\n cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop)
                   : "rax", "rbx", "rcx", "rdx", "cc", "memory");
}
static void loop_flags(int number) {
  (void)number;
  __asm__ volatile("1: sub $128, %%rsp\n add $77, %%al\n pushfq\n pop %%rcx\n push %%rcx\n popfq\n lahf\n sahf\n"
                   "add $128, %%rsp\n cmpl $0, %0\n je 1b" ::"m"(stop) : "rax", "rcx", "cc", "memory");
}
static void loop_move_string(int number) {
  uint8_t *at = memory[number];
  __asm__ volatile("1: mov %0, %%rdi\n lea 1024(%0), %%rsi\n mov $700, %%ecx\n rep movsb\n mov %0, %%rdi\n"
                   "mov $60, %%ecx\n rep stosq\n cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop)
                   : "rax", "rcx", "rsi", "rdi", "cc", "memory");
}
static void loop_compare_string(int number) {
  uint8_t *at = memory[number];
  __asm__ volatile("1: mov %0, %%rdi\n lea 1024(%0), %%rsi\n mov $700, %%ecx\n repe cmpsb\n mov %0, %%rdi\n"
                   "mov $700, %%ecx\n mov $5, %%al\n repne scasb\n cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop)
                   : "rax", "rcx", "rsi", "rdi", "cc", "memory");
}
/* Both halves of YMM0 and YMM2 count alike; whoever is brought out of the loop takes upper halves along. */
static void loop_uppers(int number) {
  uint64_t halves[8] = {0};
  if (!__builtin_cpu_supports("avx2")) {
    loop_plain(number);
    return;
  }
  __asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n vpxor %%ymm2, %%ymm2, %%ymm2\n vpcmpeqd %%ymm1, %%ymm1, %%ymm1\n"
                   "1: vpsubd %%ymm1, %%ymm0, %%ymm0\n vpaddd %%ymm0, %%ymm2, %%ymm2\n vpermq $0x4e, %%ymm2, %%ymm2\n"
                   "cmpl $0, %1\n je 1b\n vmovdqu %%ymm0, %0\n vmovdqu %%ymm2, 32%0\n vzeroupper"
                   : "=m"(halves) : "m"(stop) : "cc", "memory", "xmm0", "xmm1", "xmm2");
  CHECK(halves[0] && !memcmp(halves, halves + 2, 16) && !memcmp(halves + 4, halves + 6, 16));
}
static __attribute__((noinline)) int add_one(int value) {
  __asm__ volatile("");
  return value + 1;
}
static __attribute__((noinline)) int add_two(int value) {
  __asm__ volatile("");
  return value + 2;
}
static void loop_indirect(int number) {
  Function *volatile functions[] = {add_one, add_two};
  for (int i = 0; !stop; i++) number = functions[i & 1](number);
}
static __attribute__((noinline)) int nested(int depth) { return depth ? nested(depth - 1) + 1 : 0; }
static void loop_returns(int number) {
  while (!stop) number += nested(20);
}
static void loop_calls(int number) {
  while (!stop) number = add_two(add_one(number));
}
static void loop_system_calls(int number) {
  while (!stop) number += (int)syscall(SYS_getppid);
}
static void loop_vectors(int number) { /* ordered, also where an element spans lines */
  uint8_t *at = memory[number] + 57;
  __asm__ volatile("1: movdqu (%0), %%xmm0\n paddd %%xmm0, %%xmm0\n movdqu %%xmm0, 64(%0)\n movups 3(%0), %%xmm1\n"
                   "mulps %%xmm1, %%xmm0\n cvttps2dq %%xmm0, %%xmm0\n cmpl $0, %1\n je 1b" ::"r"(at), "m"(stop)
                   : "xmm0", "xmm1", "cc", "memory");
}

typedef void Loop(int number);
typedef struct Runner {
  Loop *loop;
  int number;
} Runner;

static void *run_loop(void *argument) {
  Runner *runner = argument;
  own_number = runner->number;
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
  runner->loop(runner->number);
  return NULL;
}

static pthread_t threads[THREADS];
static Runner runners[THREADS];

static void start_loops(Loop *loop) {
  stop = begun = 0;
  memset(handled, 0, sizeof handled);
  for (int i = 0; i < THREADS; i++) {
    runners[i] = (Runner){loop, i};
    threads[i] = start(run_loop, &runners[i]);
  }
  wait_until(&begun, THREADS);
}

static void stop_loops(void) {
  stop = 1;
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void wait_for(int number, int wanted) { wait_until(&handled[number], wanted); }

/* One at a time in turn, all at once, and queued ones: every single one must have been handled. */
static void in_loop(Loop *loop, int rounds) {
  int wanted = 0;
  handle(SIGRTMIN + 2, count, SA_RESTART);
  start_loops(loop);
  for (int i = 0; i < rounds; i++) {
    wanted++;
    for (int t = 0; t < THREADS; t++) {
      CHECK(pthread_kill(threads[t], SIGRTMIN + 2) == 0);
      if (i % 2) wait_for(t, wanted);
    }
    for (int t = 0; t < THREADS; t++) wait_for(t, wanted);
    if (i % 10) continue;
    for (int t = 0; t < THREADS; t++)
      for (int k = 0; k < 5; k++)
        CHECK(pthread_sigqueue(threads[t], SIGRTMIN + 2, (union sigval){.sival_int = k}) == 0);
    wanted += 5;
    for (int t = 0; t < THREADS; t++) wait_for(t, wanted);
  }
  stop_loops();
  for (int t = 0; t < THREADS; t++) printf("handled beyond what was sent: %d\n", handled[t] - wanted);
}

#define IN_LOOP(name) static void signals_##name(int rounds) { in_loop(loop_##name, rounds); }
IN_LOOP(plain)
IN_LOOP(pause)
IN_LOOP(misaligned)
IN_LOOP(locked)
IN_LOOP(x87)
IN_LOOP(cpuid)
IN_LOOP(divide)
IN_LOOP(wide_exchange)
IN_LOOP(flags)
IN_LOOP(move_string)
IN_LOOP(compare_string)
IN_LOOP(indirect)
IN_LOOP(returns)
IN_LOOP(calls)
IN_LOOP(system_calls)
IN_LOOP(vectors)
IN_LOOP(uppers)

/* --- Timers of every thread: each ticks as often as asked --- */

static volatile int ticks[THREADS];
static void tick(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  ticks[info->si_value.sival_int]++;
}

static pid_t tids[THREADS];
static void *run_timed(void *argument) {
  Runner *runner = argument;
  own_number = runner->number;
  tids[own_number] = gettid();
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
  runner->loop(runner->number);
  return NULL;
}

static void timers(int rounds) {
  timer_t timer[THREADS];
  handle(SIGRTMIN + 3, tick, SA_RESTART);
  stop = begun = 0;
  for (int i = 0; i < THREADS; i++) {
    runners[i] = (Runner){i == 0 ? loop_plain : i == 1 ? loop_x87 : loop_indirect, i};
    threads[i] = start(run_timed, &runners[i]);
  }
  wait_until(&begun, THREADS);
  for (int i = 0; i < THREADS; i++) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = i};
    event._sigev_un._tid = tids[i];
    struct itimerspec often = {{0, 2000000}, {0, 2000000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer[i]) == 0);
    CHECK(timer_settime(timer[i], 0, &often, NULL) == 0);
  }
  for (int i = 0; i < THREADS; i++)
    while (ticks[i] < rounds) usleep(1000);
  for (int i = 0; i < THREADS; i++) timer_delete(timer[i]);
  stop_loops();
  printf("all timers ticked %d times\n", rounds);
}

/* --- To the process: whichever thread has it open --- */

static int for_process;
static void count_for_process(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info, (void)context;
  __atomic_add_fetch(&for_process, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
}

static void process_wide(int rounds) {
  sigset_t set;
  handle(SIGUSR1, count_for_process, SA_RESTART);
  start_loops(loop_plain);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  for (int i = 0; i < rounds; i++) {
    CHECK(kill(getpid(), SIGUSR1) == 0);
    wait_until(&for_process, i + 1);
  }
  stop_loops();
  printf("handled: %d\n", for_process);
}

/* --- A default action ends a process whose threads spin --- */

static Loop *const ending[] = {loop_plain, loop_pause, loop_misaligned, loop_x87, loop_cpuid, loop_move_string,
                               loop_indirect, loop_returns, loop_locked, loop_flags};
static const int enders[] = {SIGTERM, SIGUSR2, SIGHUP, SIGALRM, SIGKILL};

static void terminate(int rounds) {
  for (int i = 0; i < rounds; i++) {
    int ready[2], ender = enders[i % 5];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      start_loops(ending[i % 10]);
      CHECK(write(ready[1], "r", 1) == 1);
      ending[i % 10](0);
      _exit(1);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    CHECK(kill(child, ender) == 0);
    expect_child(child, ender);
    close(ready[0]), close(ready[1]);
  }
  printf("%d ended\n", rounds);
}

/* --- Signals of processor exceptions, sent --- */

static const int exceptions[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
static volatile int seen_signal, seen_code, seen_value, seen_count;
static void *volatile seen_address;

static void note(int signal, siginfo_t *info, void *context) {
  (void)context;
  seen_signal = signal;
  seen_code = info->si_code;
  seen_value = info->si_value.sival_int;
  seen_address = info->si_addr;
  seen_count++;
}

static void expect_note(int signal, int code, int count) {
  CHECK(seen_signal == signal);
  CHECK(seen_code == code);
  CHECK(seen_count == count);
}

static void sent_exceptions(int rounds) {
  int expected = 0;
  for (int i = 0; i < 5; i++) handle(exceptions[i], note, 0);
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < 5; i++) {
      int signal = exceptions[i];
      siginfo_t info = {.si_signo = signal};
      CHECK(kill(getpid(), signal) == 0);
      expect_note(signal, SI_USER, ++expected);
      CHECK(syscall(SYS_tgkill, getpid(), gettid(), signal) == 0);
      expect_note(signal, SI_TKILL, ++expected);
      info.si_code = SI_QUEUE;
      info.si_pid = getpid();
      info.si_value.sival_int = round + i;
      CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), signal, &info) == 0);
      expect_note(signal, SI_QUEUE, ++expected);
      CHECK(seen_value == round + i);
    }
  printf("delivered: %d\n", expected);
}

/* As the kernel's own would look: si_code > 0, which a process may send itself. */
static void sent_as_faults_of(int first, int end, int rounds) {
  int expected = 0;
  for (int i = first; i < end; i++) handle(exceptions[i], note, 0);
  for (int round = 0; round < rounds; round++)
    for (int i = first; i < end; i++)
      for (int code = 1; code <= 2; code++) {
        siginfo_t info = {.si_signo = exceptions[i], .si_code = code};
        info.si_addr = (void *)(0x1230 + (uint64_t)round);
        CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), exceptions[i], &info) == 0);
        expect_note(exceptions[i], code, ++expected);
        CHECK(seen_address == info.si_addr);
        CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), exceptions[i], &info) == 0);
        expect_note(exceptions[i], code, ++expected);
        CHECK(seen_address == info.si_addr);
      }
  printf("delivered: %d\n", expected);
}
static void sent_as_access(int rounds) { sent_as_faults_of(0, 2, rounds); }
static void sent_as_faults(int rounds) { sent_as_faults_of(2, 5, rounds); }

/* While blocked they wait, can be fetched, and come when open. */
static void blocked_exceptions(int rounds) {
  int expected = 0;
  sigset_t set, pending;
  for (int i = 0; i < 5; i++) handle(exceptions[i], note, 0);
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < 5; i++) {
      siginfo_t info;
      struct timespec soon = {0, 0};
      sigemptyset(&set);
      sigaddset(&set, exceptions[i]);
      CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
      CHECK(kill(getpid(), exceptions[i]) == 0);
      CHECK(seen_count == expected);
      CHECK(sigpending(&pending) == 0 && sigismember(&pending, exceptions[i]) == 1);
      CHECK(sigwaitinfo(&set, &info) == exceptions[i]);
      CHECK(info.si_code == SI_USER && info.si_pid == getpid());
      CHECK(sigtimedwait(&set, &info, &soon) == -1 && errno == EAGAIN);
      CHECK(raise(exceptions[i]) == 0);
      CHECK(seen_count == expected);
      CHECK(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
      expect_note(exceptions[i], SI_TKILL, ++expected);
    }
  printf("delivered: %d\n", expected);
}

/* Sent to a process whose threads have all blocked it but one, or of which one fetches it. */
static void block(const int *signals, int count) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
  CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}
static volatile int fetched, expected_signal;
static sem_t next_signal;
static void *fetch_all(void *unused) {
  (void)unused;
  for (;;) {
    CHECK(sem_wait(&next_signal) == 0);
    if (!expected_signal) return NULL;
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, expected_signal);
    CHECK(sigwaitinfo(&set, &info) == expected_signal);
    CHECK(info.si_code == SI_USER && info.si_pid == getpid());
    fetched++;
    sem_post(&arrived);
  }
}
static void wait_for_count(volatile int *count, int value) {
  while (*count < value) CHECK(sem_wait(&arrived) == 0 || errno == EINTR);
}
static void fetched_exceptions(int rounds) {
  int count = 0;
  block(exceptions, 5);
  CHECK(sem_init(&next_signal, 0, 0) == 0);
  pthread_t fetcher = start(fetch_all, NULL);
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < 5; i++) {
      expected_signal = exceptions[i];
      if (round % 2) CHECK(kill(getpid(), expected_signal) == 0);
      sem_post(&next_signal);
      if (round % 2 == 0) CHECK(kill(getpid(), expected_signal) == 0);
      wait_for_count(&fetched, ++count);
    }
  expected_signal = 0;
  sem_post(&next_signal);
  CHECK(pthread_join(fetcher, NULL) == 0);
  printf("fetched: %d\n", fetched);
}

static void note_and_post(int signal, siginfo_t *info, void *context) {
  note(signal, info, context);
  sem_post(&arrived);
}
static void *wait_open(void *unused) {
  (void)unused;
  sigset_t none;
  sigemptyset(&none);
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
  __atomic_store_n(&begun, 1, __ATOMIC_SEQ_CST);
  while (!stop) usleep(100);
  return NULL;
}
static void passed_exceptions(int rounds) {
  int count = 0;
  for (int i = 0; i < 5; i++) handle(exceptions[i], note_and_post, SA_RESTART);
  block(exceptions, 5);
  pthread_t open = start(wait_open, NULL);
  while (!__atomic_load_n(&begun, __ATOMIC_SEQ_CST)) sched_yield();
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < 5; i++) {
      CHECK(kill(getpid(), exceptions[i]) == 0);
      wait_for_count(&seen_count, ++count);
      expect_note(exceptions[i], SI_USER, count);
    }
  stop = 1;
  CHECK(pthread_join(open, NULL) == 0);
  printf("passed on: %d\n", count);
}

/* Read from a descriptor: held before it is asked, and sent while it is waited for, by this thread and by another. */
static void *send_one(void *argument) {
  usleep(1000);
  CHECK(kill(getpid(), (int)(long)argument) == 0);
  return NULL;
}
static void read_exceptions(int rounds) {
  int count = 0;
  sigset_t set, pending;
  sigemptyset(&set);
  for (int i = 0; i < 5; i++) sigaddset(&set, exceptions[i]);
  block(exceptions, 5);
  int descriptor = signalfd(-1, &set, SFD_CLOEXEC);
  CHECK(descriptor >= 0);
  for (int round = 0; round < rounds; round++)
    for (int i = 0; i < 5; i++) {
      struct signalfd_siginfo info;
      struct pollfd poller = {descriptor, POLLIN, 0};
      pthread_t sender = 0;
      CHECK(poll(&poller, 1, 0) == 0);
      if (round % 2) sender = start(send_one, (void *)(long)exceptions[i]);
      else CHECK(kill(getpid(), exceptions[i]) == 0);
      if (!(round & 2)) CHECK(poll(&poller, 1, -1) == 1 && poller.revents == POLLIN);
      if (round == 0) CHECK(sigpending(&pending) == 0 && sigismember(&pending, exceptions[i]));
      CHECK(read(descriptor, &info, sizeof info) == sizeof info);
      CHECK((int)info.ssi_signo == exceptions[i] && (pid_t)info.ssi_pid == getpid());
      CHECK(info.ssi_code == SI_USER);
      if (sender) CHECK(pthread_join(sender, NULL) == 0);
      count++;
    }
  printf("read: %d\n", count);
}

/* The same beside threads that are in other calls, all with the signals blocked: waiting for what never comes, and ending
 * one after the other. None of them may keep a signal that was sent to the process, or take it along. */
static void *wait_in_read(void *argument) {
  char byte;
  CHECK(read(*(int *)argument, &byte, 1) == 0);
  return NULL;
}
static void *wait_in_poll(void *argument) {
  struct pollfd poller = {*(int *)argument, POLLIN, 0};
  CHECK(poll(&poller, 1, -1) == 1 && poller.revents == POLLHUP);
  return NULL;
}
static void *wait_in_epoll(void *argument) {
  struct epoll_event event = {.events = EPOLLIN};
  int set = epoll_create1(EPOLL_CLOEXEC);
  CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, *(int *)argument, &event) == 0);
  CHECK(epoll_wait(set, &event, 1, -1) == 1 && event.events == EPOLLHUP);
  CHECK(close(set) == 0);
  return NULL;
}
static void *end_at_once(void *unused) { return unused; }
static void *end_many(void *unused) {
  while (!stop) CHECK(pthread_join(start(end_at_once, NULL), NULL) == 0);
  return unused;
}
static void *send_all(void *argument) {
  for (int sending = 0; sending < *(int *)argument; sending++) {
    CHECK(sem_wait(&next_signal) == 0);
    if (sending % 3 == 0) usleep(300);
    CHECK(kill(getpid(), exceptions[sending % 5]) == 0);
  }
  return NULL;
}
typedef void Receive(int descriptor, struct signalfd_siginfo *info);
static void receive_by_read(int descriptor, struct signalfd_siginfo *info) {
  CHECK(read(descriptor, info, sizeof *info) == sizeof *info);
}
static void receive_by_select(int descriptor, struct signalfd_siginfo *info) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(descriptor, &set);
  CHECK(select(descriptor + 1, &set, NULL, NULL, NULL) == 1);
  receive_by_read(descriptor, info);
}
static void receive_by_epoll(int descriptor, struct signalfd_siginfo *info) { /* one of the other, to make it hard */
  struct epoll_event event = {.events = EPOLLIN};
  int inner = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(EPOLL_CLOEXEC);
  struct iovec parts[2] = {{info, 8}, {(char *)info + 8, sizeof *info - 8}};
  CHECK(epoll_ctl(inner, EPOLL_CTL_ADD, descriptor, &event) == 0);
  CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event) == 0);
  CHECK(epoll_wait(outer, &event, 1, -1) == 1);
  close(inner), close(outer);
  if (readv(descriptor, parts, 2) < 0) receive_by_read(descriptor, info); /* (kernels before 6.10 want it in one) */
}
static void read_exceptions_beside(int rounds) {
  static Receive *const ways[] = {receive_by_read, receive_by_select, receive_by_epoll};
  static void *(*const waiting[])(void *) = {wait_in_read, wait_in_poll, wait_in_epoll};
  pthread_t waiters[3];
  int ends[2], count = rounds * 5;
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < 5; i++) sigaddset(&set, exceptions[i]);
  block(exceptions, 5);
  int descriptor = signalfd(-1, &set, SFD_CLOEXEC);
  CHECK(descriptor >= 0 && pipe(ends) == 0 && sem_init(&next_signal, 0, 0) == 0);
  for (int i = 0; i < 3; i++) waiters[i] = start(waiting[i], &ends[0]);
  pthread_t ending = start(end_many, NULL), sender = start(send_all, &count);
  for (int i = 0; i < count; i++) {
    struct signalfd_siginfo info;
    sem_post(&next_signal);
    for (volatile int wait = 0; wait < i % 7 * 200; wait++) {}
    ways[i % 3](descriptor, &info);
    CHECK((int)info.ssi_signo == exceptions[i % 5] && (pid_t)info.ssi_pid == getpid());
    CHECK(info.ssi_code == SI_USER && info.ssi_uid == getuid() && info.ssi_ptr == 0 && info.ssi_int == 0);
  }
  stop = 1;
  close(ends[1]);
  for (int i = 0; i < 3; i++) CHECK(pthread_join(waiters[i], NULL) == 0);
  CHECK(pthread_join(ending, NULL) == 0 && pthread_join(sender, NULL) == 0);
  printf("read: %d\n", count);
}

/* Faults of a program's own, between sent ones, with another thread sending. (Not the same signal: the kernel keeps
 * one of a kind, so that a fault on its way would swallow a sent one.) */
static int *volatile nowhere;
static volatile int faults;
static int sent;
static void skip_load(int signal, siginfo_t *info, void *context) {
  ucontext_t *user = context;
  (void)signal;
  CHECK(info->si_code == SEGV_MAPERR && info->si_addr == nowhere);
  user->uc_mcontext.gregs[REG_RIP] += 2; /* mov eax, [rcx] */
  faults++;
}
static void count_sent(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info, (void)context;
  __atomic_add_fetch(&sent, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
}
static pthread_t faulting;
static void *send_faults(void *argument) {
  int rounds = *(int *)argument;
  for (int i = 1; i <= rounds; i++) {
    CHECK(pthread_kill(faulting, exceptions[1 + i % 4]) == 0);
    wait_until(&sent, i);
  }
  stop = 1;
  return NULL;
}
static void mixed_exceptions(int rounds) {
  int own = 0;
  handle(SIGSEGV, skip_load, SA_RESTART);
  for (int i = 1; i < 5; i++) handle(exceptions[i], count_sent, SA_RESTART);
  faulting = pthread_self();
  pthread_t sender = start(send_faults, &rounds);
  while (!stop) {
    __asm__ volatile(".byte 0x8b, 0x01" ::"c"(nowhere) : "eax", "memory");
    own++;
  }
  CHECK(pthread_join(sender, NULL) == 0);
  CHECK(own == faults);
  printf("sent: %d\n", sent);
}

static void *spin_numbered(void *argument) {
  own_number = (int)(long)argument;
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
  while (!stop) {}
  return NULL;
}

static void throw_away(uint8_t *code) {
  CHECK(mmap(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code);
}

static void kill_all(const pthread_t threads[THREADS], int round) {
  (void)round;
  for (int i = 0; i < THREADS; i++) CHECK(pthread_kill(threads[i], SIGILL) == 0);
}

static void queue_to_all(const pthread_t threads[THREADS], int round) {
  union sigval value = {.sival_int = round};
  for (int i = 0; i < THREADS; i++) CHECK(pthread_sigqueue(threads[i], SIGILL, value) == 0);
}

/* Threads that spin are sent SIGILL while code is thrown away, for which the translator has them come out. */
static void illegal_by(void (*send)(const pthread_t[THREADS], int), int rounds) {
  pthread_t threads[THREADS];
  long sum = 0;
  handle(SIGILL, count, SA_RESTART);
  for (long i = 0; i < THREADS; i++) threads[i] = start(spin_numbered, (void *)i);
  wait_until(&begun, THREADS);
  uint8_t *code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int r = 1; r <= rounds; r++) {
    put_adder(code, r);
    sum += ((Function *)code)(1) - r;
    if (r % 2) throw_away(code);
    send(threads, r);
    if (r % 2 == 0) throw_away(code);
    for (int i = 0; i < THREADS; i++) wait_until(&handled[i], r);
  }
  stop = 1;
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  printf("handled: %d, sum: %ld\n", handled[0], sum);
}

static void illegal(int rounds) { illegal_by(kill_all, rounds); }
static void illegal_queued(int rounds) { illegal_by(queue_to_all, rounds); }

/* No signal can be queued with what belongs to it, and code is thrown away under threads that spin. */
static void queue_full(int rounds) {
  struct rlimit none = {0, 0};
  pthread_t threads[THREADS];
  long sum = 0;
  CHECK(setrlimit(RLIMIT_SIGPENDING, &none) == 0);
  for (long i = 0; i < THREADS; i++) threads[i] = start(spin_numbered, (void *)i);
  wait_until(&begun, THREADS);
  uint8_t *code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int r = 1; r <= rounds; r++) {
    put_adder(code, r);
    sum += ((Function *)code)(1) - r;
    throw_away(code);
  }
  stop = 1;
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  printf("sum: %ld\n", sum);
}

static const Case cases[] = {
    {"plain", signals_plain}, {"pause", signals_pause}, {"misaligned", signals_misaligned},
    {"locked", signals_locked}, {"x87", signals_x87}, {"cpuid", signals_cpuid}, {"divide", signals_divide},
    {"wide-exchange", signals_wide_exchange}, {"flags", signals_flags}, {"move-string", signals_move_string},
    {"compare-string", signals_compare_string}, {"indirect", signals_indirect}, {"returns", signals_returns},
    {"calls", signals_calls}, {"system-calls", signals_system_calls}, {"vectors", signals_vectors},
    {"uppers", signals_uppers},
    {"timers", timers}, {"process-wide", process_wide}, {"terminate", terminate},
    {"sent-exceptions", sent_exceptions}, {"sent-as-faults", sent_as_faults},
    {"sent-as-access", sent_as_access},
    {"blocked-exceptions", blocked_exceptions}, {"mixed-exceptions", mixed_exceptions},
    {"fetched-exceptions", fetched_exceptions}, {"passed-exceptions", passed_exceptions},
    {"read-exceptions", read_exceptions}, {"read-exceptions-beside", read_exceptions_beside},
    {"illegal", illegal}, {"illegal-queued", illegal_queued}, {"queue-full", queue_full}};
MAIN(cases)
