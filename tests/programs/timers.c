/*
 * Clocks and timers: the vDSO's calls agree with the system calls, time moves on, sleeps last, interval timers,
 * POSIX timers by signal and thread, timerfd, time-outs of waits.
 * Build: dynamic static, -pthread
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { alarms++; }

static int64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void clocks(void) {
  static const clockid_t all[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
                                  CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    struct timespec direct, resolution;
    int64_t before = nanoseconds(all[i]);
    syscall(SYS_clock_gettime, all[i], &direct);
    int64_t between = direct.tv_sec * 1000000000ll + direct.tv_nsec, after = nanoseconds(all[i]);
    printf("clock %zu: in order %d, resolution %d\n", i, before <= between && between <= after,
           clock_getres(all[i], &resolution));
  }
  struct timeval now;
  int64_t earlier = nanoseconds(CLOCK_REALTIME_COARSE), seconds = time(NULL);
  gettimeofday(&now, NULL);
  int64_t between = now.tv_sec * 1000000000ll + now.tv_usec * 1000ll;
  printf("time: %d, gettimeofday: %d\n", seconds >= earlier / 1000000000 && seconds <= now.tv_sec,
         earlier <= between + 999 && between <= nanoseconds(CLOCK_REALTIME));
  printf("bad clock: %s\n", clock_gettime(99, &(struct timespec){0}) ? strerror(errno) : "fine");
  struct tm tm;
  time_t fixed = 1700000000;
  char text[64];
  strftime(text, sizeof text, "%F %T", gmtime_r(&fixed, &tm));
  printf("calendar: %s\n", text);
}

static void sleeps(void) {
  int64_t start = nanoseconds(CLOCK_MONOTONIC);
  nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
  int64_t slept = nanoseconds(CLOCK_MONOTONIC) - start;
  printf("slept at least 30 ms: %d\n", slept >= 30000000);
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += 20000000;
  if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
  printf("until: %d\n", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
  printf("passed: %d\n", nanoseconds(CLOCK_MONOTONIC) >= until.tv_sec * 1000000000ll + until.tv_nsec);
}

static void interval(void) {
  struct itimerval timer = {{0, 5000}, {0, 5000}}, left;
  signal(SIGALRM, on_alarm);
  setitimer(ITIMER_REAL, &timer, NULL);
  while (alarms < 5) pause();
  getitimer(ITIMER_REAL, &left);
  printf("interval: %d alarms, period %ld\n", alarms >= 5, (long)left.it_interval.tv_usec);
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  printf("alarm: %u", alarm(1000));
  printf(" %d\n", alarm(0) > 100);
  timer = (struct itimerval){{1, 0}, {1, 0}}; /* again and again: the first may come before the sleep begins */
  setitimer(ITIMER_REAL, &timer, NULL);
  struct timespec left_over = {0};
  printf("interrupted sleep: %s", nanosleep(&(struct timespec){.tv_sec = 5000}, &left_over) ? strerror(errno) : "no");
  printf(", left %d\n", left_over.tv_sec > 1000 && left_over.tv_sec < 5000);
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  timer.it_value.tv_usec = 20000;
  signal(SIGVTALRM, on_alarm);
  alarms = 0;
  setitimer(ITIMER_VIRTUAL, &timer, NULL);
  for (volatile long i = 0; !alarms; i++) {}
  printf("virtual: %d\n", alarms);
}

static sem_t fired;
static void in_thread(union sigval value) {
  alarms = value.sival_int;
  sem_post(&fired);
}
static void with_info(int signal, siginfo_t *info, void *context) {
  alarms = info->si_value.sival_int * 10 + (info->si_code == SI_TIMER);
}

static void posix_timers(void) {
  timer_t timer;
  struct itimerspec soon = {.it_value.tv_nsec = 5000000};
  struct sigaction action = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO};
  sigset_t blocked, old;
  sigaction(SIGUSR1, &action, NULL);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, &old);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
  timer_create(CLOCK_MONOTONIC, &event, &timer);
  timer_settime(timer, 0, &soon, NULL);
  sigsuspend(&old);
  printf("timer by signal: %d\n", alarms);
  timer_delete(timer);
  sem_init(&fired, 0, 0);
  struct sigevent thread = {
      .sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_thread, .sigev_value.sival_int = 9};
  timer_create(CLOCK_MONOTONIC, &thread, &timer);
  timer_settime(timer, 0, &soon, NULL);
  while (sem_wait(&fired) && errno == EINTR) {}
  printf("timer by thread: %d\n", alarms);
  timer_delete(timer);
}

static void descriptors(void) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec often = {{0, 2000000}, {0, 2000000}};
  uint64_t count = 0, total = 0;
  printf("not yet: %s\n", read(fd, &count, 8) < 0 ? strerror(errno) : "ready");
  timerfd_settime(fd, 0, &often, NULL);
  while (total < 5) {
    struct pollfd poll_for = {fd, POLLIN, 0};
    poll(&poll_for, 1, -1);
    if (read(fd, &count, 8) == 8) total += count;
  }
  printf("timerfd: %d\n", total >= 5);
}

static void time_outs(void) {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t never = PTHREAD_COND_INITIALIZER;
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec -= 1;
  pthread_mutex_lock(&lock);
  printf("condition: %s\n", strerror(pthread_cond_timedwait(&never, &lock, &until)));
  printf("semaphore: %s\n", sem_timedwait(&fired, &until) ? strerror(errno) : "fine");
  printf("poll: %d\n", poll(NULL, 0, 10));
}

int main(void) {
  clocks();
  sleeps();
  interval();
  posix_timers();
  descriptors();
  time_outs();
  return 0;
}
