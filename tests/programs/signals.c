/*
 * Signals as a program sends and receives them: siginfo, masks, alternate stacks, nesting, restart and
 * interruption, real-time queues, waiting for signals, one-shot handlers, per-thread signals.
 * Build: dynamic static, -pthread
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

static volatile sig_atomic_t seen, depth, deepest, last_code, last_value, on_alternate;
static char alternate[65536];

static void note(int signal, siginfo_t *info, void *context) {
  seen = signal;
  last_code = info->si_code;
  last_value = info->si_value.sival_int;
  on_alternate = (char *)&signal > alternate && (char *)&signal < alternate + sizeof alternate;
}

static void install(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, NULL);
}

static void basics(void) {
  install(SIGUSR1, note, 0);
  raise(SIGUSR1);
  printf("raise: %d, code %d\n", seen, last_code);
  kill(getpid(), SIGUSR1);
  printf("kill: %d, code %d\n", seen, last_code);
  sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711});
  printf("sigqueue: %d, code %d, value %d\n", seen, last_code, last_value);
  install(SIGUSR2, note, SA_RESETHAND);
  raise(SIGUSR2);
  struct sigaction now;
  sigaction(SIGUSR2, NULL, &now);
  printf("one-shot: %d, then default: %d\n", seen, now.sa_handler == SIG_DFL);
}

static void masks(void) {
  sigset_t set, old, pending;
  install(SIGUSR1, note, 0);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  seen = 0;
  raise(SIGUSR1);
  sigpending(&pending);
  printf("blocked: seen %d, pending %d\n", seen, sigismember(&pending, SIGUSR1));
  sigprocmask(SIG_SETMASK, &old, NULL);
  printf("unblocked: seen %d\n", seen);
  sigprocmask(SIG_BLOCK, &set, &old);
  raise(SIGUSR1);
  seen = 0;
  sigsuspend(&old);
  printf("sigsuspend: seen %d, errno %s\n", seen, strerror(errno));
  sigprocmask(SIG_SETMASK, &old, NULL);
}

static void stacks(void) {
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
  sigaltstack(&stack, NULL);
  install(SIGUSR1, note, SA_ONSTACK);
  raise(SIGUSR1);
  printf("on the alternate stack: %d\n", on_alternate);
  install(SIGUSR1, note, 0);
  raise(SIGUSR1);
  printf("without the flag: %d\n", on_alternate);
  sigaltstack(NULL, &old);
  printf("registered: %d, flags %d\n", old.ss_sp == alternate, old.ss_flags);
}

static void nest(int signal, siginfo_t *info, void *context) {
  static int left;
  left = deepest == 0 ? 5 : left - 1;
  if (++depth > deepest) deepest = depth;
  if (left > 1) raise(signal);
  depth--;
}

static void nesting(void) {
  install(SIGUSR1, nest, SA_NODEFER);
  raise(SIGUSR1);
  printf("nested with NODEFER: %d deep\n", deepest);
  deepest = depth = 0;
  install(SIGUSR1, nest, 0);
  raise(SIGUSR1);
  printf("without: %d deep at a time\n", deepest);
}

static int order[16], ordered;

static void note_order(int signal, siginfo_t *info, void *context) {
  order[ordered++] = (signal - SIGRTMIN) * 100 + info->si_value.sival_int;
}

static void real_time(void) {
  sigset_t set, old;
  sigemptyset(&set);
  for (int i = 0; i < 3; i++) {
    install(SIGRTMIN + i, note_order, 0);
    sigaddset(&set, SIGRTMIN + i);
  }
  int highest = under_qemu_user() ? SIGRTMAX - 2 : SIGRTMAX;
  sigaddset(&set, highest);
  sigprocmask(SIG_BLOCK, &set, &old);
  for (int i = 5; i >= 0; i--) sigqueue(getpid(), SIGRTMIN + i % 3, (union sigval){.sival_int = i});
  sigqueue(getpid(), highest, (union sigval){.sival_int = 99});
  siginfo_t info;
  sigset_t last;
  sigemptyset(&last);
  sigaddset(&last, highest);
  int got = sigwaitinfo(&last, &info);
  printf("sigwaitinfo: %d, value %d\n", got == highest, info.si_value.sival_int);
  sigprocmask(SIG_SETMASK, &old, NULL);
  printf("queued:");
  for (int i = 0; i < ordered; i++) printf(" %d", order[i]);
  struct timespec none = {0};
  printf("\nnothing left: %s\n", sigtimedwait(&set, NULL, &none) < 0 ? strerror(errno) : "something");
}

static int handled[2];

static void note_and_tell(int signal, siginfo_t *info, void *context) {
  seen = signal;
  if (write(handled[1], "h", 1) != 1) _exit(1);
}

/* Waits until a process sleeps in a system call. */
static void wait_until_sleeping(pid_t pid) {
  char path[64], state[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  for (;;) {
    FILE *file = fopen(path, "r");
    if (!file || !fgets(state, sizeof state, file)) _exit(1);
    fclose(file);
    if (strrchr(state, ')')[2] == 'S') return;
    sched_yield();
  }
}

/* Reads from a pipe while a child signals, then writes: the read is restarted or interrupted. */
static void interrupted_read(int flags) {
  int data[2], go[2];
  char byte = 0;
  if (pipe(data) || pipe(go) || pipe(handled)) return;
  install(SIGUSR1, note_and_tell, flags);
  seen = 0;
  pid_t pid = fork();
  if (pid == 0) {
    if (read(go[0], &byte, 1) != 1) _exit(1);
    wait_until_sleeping(getppid());
    kill(getppid(), SIGUSR1);
    if (read(handled[0], &byte, 1) != 1) _exit(1);
    _exit(write(data[1], "x", 1) != 1);
  }
  if (write(go[1], "g", 1) != 1) return;
  ssize_t got = read(data[0], &byte, 1);
  printf("read with%s SA_RESTART: %zd %s, seen %d\n", flags & SA_RESTART ? "" : "out", got,
         got < 0 ? strerror(errno) : "", seen);
  waitpid(pid, NULL, 0);
  for (int i = 0; i < 2; i++) close(data[i]), close(go[i]), close(handled[i]);
}

static void *thread_waits(void *argument) {
  sigset_t *set = argument;
  int signal = 0;
  sigwait(set, &signal);
  return (void *)(intptr_t)signal;
}

static void threads(void) {
  sigset_t set;
  pthread_t thread;
  void *signal;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_create(&thread, NULL, thread_waits, &set);
  pthread_kill(thread, SIGTERM);
  pthread_join(thread, &signal);
  printf("sigwait in a thread: %d\n", (int)(intptr_t)signal);
}

static void children(void) {
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  kill(pid, SIGSTOP);
  waitpid(pid, &status, WUNTRACED);
  printf("stopped: %d\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  kill(pid, SIGCONT);
  waitpid(pid, &status, WCONTINUED);
  printf("continued: %d\n", WIFCONTINUED(status));
  kill(pid, SIGHUP);
  waitpid(pid, &status, 0);
  printf("ended by: %d\n", WTERMSIG(status));
  siginfo_t info;
  if ((pid = fork()) == 0) _exit(17);
  waitid(P_PID, pid, &info, WEXITED);
  printf("waitid: code %d, status %d\n", info.si_code, info.si_status);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  basics();
  masks();
  stacks();
  nesting();
  real_time();
  interrupted_read(SA_RESTART);
  interrupted_read(0);
  threads();
  children();
  return 0;
}
