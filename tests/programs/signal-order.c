/*
 * The order of signals that wait when they are unblocked: those of processor exceptions come first, and lower numbers before
 * higher ones (next_signal() of kernel/signal.c); what is sent to a thread before what is sent to the process. Each handler's
 * frame lies on that of the one delivered before, so the last one runs first.
 * Build: static dynamic
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int signals[] = {SIGSEGV, SIGTRAP, SIGHUP, SIGFPE, SIGUSR1, SIGBUS, SIGILL, SIGTERM, 36};
static int order[64], count;

static void on_signal(int signal, siginfo_t *info, void *context) {
  if (count < 64) order[count++] = signal;
}

static void print_order(const char *what) {
  printf("%s:", what);
  for (int i = 0; i < count; i++) printf(" %d", order[i]);
  printf("\n");
  count = 0;
}

static void send_all(int from, int step) {
  int n = sizeof signals / sizeof *signals;
  for (int i = 0; i < n; i++) {
    int signal = signals[(from + i * step) % n];
    syscall(SYS_tgkill, getpid(), gettid(), signal);
  }
}

int main(void) {
  sigset_t all, none, some, old;
  sigfillset(&all);
  sigemptyset(&none);
  for (int masked = 0; masked < 2; masked++) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    if (masked) sigfillset(&action.sa_mask); /* then one after the other, and the first runs first */
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    for (int round = 0; round < 4; round++) {
      static const int steps[] = {1, 2, 4, 5};
      sigprocmask(SIG_SETMASK, &all, &old);
      send_all(round, steps[round]);
      sigprocmask(SIG_SETMASK, &none, NULL);
      print_order("unblocked");
      sigprocmask(SIG_SETMASK, &all, NULL);
      send_all(round, steps[round]);
      sigsuspend(&none);
      print_order("suspended");
      sigprocmask(SIG_SETMASK, &none, NULL);
      print_order("and then");
      sigprocmask(SIG_SETMASK, &all, NULL);
      send_all(round, steps[round]);
      sigemptyset(&some);
      sigaddset(&some, SIGSEGV), sigaddset(&some, SIGHUP), sigaddset(&some, SIGBUS);
      sigprocmask(SIG_UNBLOCK, &some, NULL);
      print_order("some");
      siginfo_t info;
      printf("fetched:");
      sigemptyset(&some);
      sigaddset(&some, SIGTRAP), sigaddset(&some, SIGILL), sigaddset(&some, SIGFPE);
      for (int i = 0; i < 3; i++) printf(" %d", sigwaitinfo(&some, &info));
      printf("\n");
      sigprocmask(SIG_SETMASK, &none, NULL);
      print_order("the others");
    }
  }
  return 0;
}
