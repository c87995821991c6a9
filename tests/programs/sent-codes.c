/*
 * Signals of processor exceptions that a program sends itself with the si_code that the kernel gives them, or any
 * other: all that was sent arrives, at once or after it was blocked, in a handler or by sigwaitinfo().
 * Build: static
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "limits.h"

enum {
  FIELDS = 4
}; /* what the kernel keeps of siginfo_t behind its first 16 bytes, in words (struct kernel_siginfo) */

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
/* qemu-aarch64 keeps 16 bits of a code, no si_errno, and one word that is not the translator's. */
static const int codes[] = {1, 2, 3, 4, 6, 9, 100, SI_KERNEL, 0x3fff, 0x4000, 0x12345, 0x7fffffff, -1, -6, -60};
static int code_count = sizeof codes / sizeof *codes, fields = FIELDS;
static siginfo_t got;

static void handler(int signal, siginfo_t *info, void *context) {
  got = *info;
}

static void show(const char *how, const siginfo_t *sent) {
  uint64_t word[FIELDS], expected[FIELDS];
  memcpy(word, (char *)&got + 16, sizeof word);
  memcpy(expected, (const char *)sent + 16, sizeof expected);
  int same = 0;
  for (int i = 0; i < fields; i++) same += word[i] == expected[i];
  printf(" %s %d %x %d %d", how, got.si_signo, got.si_code, got.si_errno, same);
  memset(&got, 0, sizeof got);
}

static void send(const siginfo_t *sent, int to_thread) {
  long error = to_thread ? syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sent->si_signo, sent)
                         : syscall(SYS_rt_sigqueueinfo, getpid(), sent->si_signo, sent);
  if (error) printf(" error");
}

static void try(int signal, int code, int to_thread) {
  siginfo_t sent = {.si_signo = signal, .si_errno = under_qemu_user() ? 0 : 7, .si_code = code};
  const uint64_t word[FIELDS] = {UINT64_C(0x123456789abc), UINT64_C(0xfedcba9876543210), 0x1111222233334444, 5};
  sigset_t set;
  memcpy((char *)&sent + 16, word, sizeof word);
  sigemptyset(&set), sigaddset(&set, signal);
  printf("%d code %x:", signal, code);
  send(&sent, to_thread);
  show("at once", &sent);
  sigprocmask(SIG_BLOCK, &set, NULL);
  send(&sent, to_thread);
  show("blocked", &sent);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  show("opened", &sent);
  sigprocmask(SIG_BLOCK, &set, NULL);
  send(&sent, to_thread);
  memset(&got, 0, sizeof got);
  sigwaitinfo(&set, &got);
  show("waited for", &sent);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  printf("\n");
}

int main(void) {
  if (under_qemu_user()) fields = 1;
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(signals[i], &action, NULL);
    for (int k = 0; k < code_count; k++)
      for (int to_thread = 0; to_thread < 2; to_thread++)
        if (!under_qemu_user() || codes[k] < 0x8000) try(signals[i], codes[k], to_thread);
  }
  return 0;
}
