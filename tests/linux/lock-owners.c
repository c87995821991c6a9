/* The translator's locks (translator/base/freestanding.c) where who holds one ends: it passes to who waits, and is
 * never taken from a thread that lives or whose number is not to be trusted. Threads of this program stand for processes
 * that share memory, as qemu-aarch64 has none. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

enum { THREADS = 6, ROUNDS = 300, DYING = 4, LASTING_US = 1000000 };

/* A static program's thread-local variables begin where the thread pointer points (Arm's ELF ABI, variant 1): the name is
 * in here. */
static _Thread_local struct {
  char bytes[2 * BASE_LOCK_NAME];
} room;

static BaseLock lock;
static int released; /* by the thread that took the lock first */
static unsigned long counter;

static void take_name(uint32_t name) {
  char *at = (char *)__builtin_thread_pointer() + BASE_LOCK_NAME;
  if (at < room.bytes || at + sizeof name > room.bytes + sizeof room.bytes) abort();
  *(volatile uint32_t *)at = name;
}

static uint32_t own_number(void) { return (uint32_t)syscall(SYS_gettid); }

static pthread_t start(void *(*body)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument)) abort();
  return thread;
}

/* Nothing of the thread goes on after it, as after SIGKILL. */
static _Noreturn void end_at_once(void) {
  for (;;) syscall(SYS_exit, 0);
}

static void *take_and_end(void *name) {
  take_name(name ? *(uint32_t *)name : own_number());
  base_lock(&lock);
  end_at_once();
}

static void *take_and_keep(void *taken) {
  take_name(own_number());
  base_lock(&lock);
  __atomic_store_n((bool *)taken, true, __ATOMIC_RELEASE);
  usleep(LASTING_US);
  released = 1;
  base_unlock(&lock);
  return NULL;
}

static void *wait_for_lock(void *unused) {
  take_name(own_number());
  base_lock(&lock);
  bool in_order = released;
  base_unlock(&lock);
  return in_order ? "" : NULL;
}

/* Every other round gives way to those who wait; some threads end in the middle of one. */
static void *count(void *number) {
  take_name(own_number());
  for (unsigned i = 0; i < ROUNDS; i++) {
    base_lock(&lock);
    unsigned long seen = counter;
    if (i % 2) sched_yield();
    *(volatile unsigned long *)&counter = seen + 1;
    if (*(int *)number < DYING && i == ROUNDS / 2) end_at_once();
    base_unlock(&lock);
  }
  return NULL;
}

static int report(const char *what, bool good) {
  printf("%s: %s\n", what, good ? "right" : "WRONG");
  return !good;
}

static int passes_on(void) {
  pthread_join(start(take_and_end, NULL), NULL);
  base_lock(&lock);
  base_unlock(&lock);
  return report("a lock whose owner has ended is passed on", lock.state == 0);
}

static int stays_with_the_living(void) {
  bool taken = false;
  released = 0;
  pthread_t owner = start(take_and_keep, &taken);
  while (!__atomic_load_n(&taken, __ATOMIC_ACQUIRE)) sched_yield();
  base_lock(&lock);
  bool in_order = released;
  base_unlock(&lock);
  pthread_join(owner, NULL);
  return report("a lock stays with who lives", in_order);
}

static int stays_with_the_unknown(void) {
  uint32_t unknown = BASE_LOCK_UNKNOWN;
  void *in_order;
  released = 0;
  pthread_join(start(take_and_end, &unknown), NULL);
  pthread_t waiter = start(wait_for_lock, NULL);
  usleep(LASTING_US);
  released = 1;
  base_unlock(&lock);
  pthread_join(waiter, &in_order);
  return report("a lock stays with who is not known", in_order != NULL);
}

static int excludes(void) {
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    threads[i] = start(count, &numbers[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  unsigned long wanted = (THREADS - DYING) * ROUNDS + DYING * (ROUNDS / 2 + 1);
  return report("one at a time, whoever ends", counter == wanted);
}

/* --- processes that end ------------------------------------------------------------------------------------ */

static void *wait_for_signal(void *unused) {
  while (true) pause();
  return NULL;
}

/* With `first_ends`, one of whose threads only another is left. */
static pid_t new_process(bool first_ends) {
  pid_t child = fork();
  if (child) return child;
  if (first_ends) {
    start(wait_for_signal, NULL);
    end_at_once();
  }
  wait_for_signal(NULL);
  return 0;
}

static char state_of(pid_t process) {
  char path[32], text[256] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  FILE *file = fopen(path, "r");
  if (!file || !fgets(text, sizeof text, file)) abort();
  fclose(file);
  const char *after_name = strrchr(text, ')');
  return after_name ? after_name[2] : 0;
}

/* A process whose first thread has ended looks like one that has ended itself. */
static int knows_the_dead(void) {
  siginfo_t info;
  pid_t living = new_process(false), rest = new_process(true);
  while (state_of(rest) != 'Z') sched_yield();
  int wrong = report("a process lives", !base_thread_has_ended(living)) |
              report("what is left of a process lives", !base_thread_has_ended(rest));
  kill(living, SIGKILL);
  kill(rest, SIGKILL);
  waitid(P_PID, (id_t)living, &info, WEXITED | WNOWAIT);
  waitid(P_PID, (id_t)rest, &info, WEXITED);
  wrong |= report("a process has ended that nobody has waited for", base_thread_has_ended(living)) |
           report("a process is gone", base_thread_has_ended(rest));
  waitid(P_PID, (id_t)living, &info, WEXITED);
  return wrong;
}

int main(void) {
  alarm(300); /* instead of waiting for ever */
  take_name(own_number());
  return passes_on() | stays_with_the_living() | stays_with_the_unknown() | excludes() | knows_the_dead();
}
