/*
 * Futexes under their library names and by hand: priority inheritance, robust mutexes whose owner died,
 * process-shared ones, wait with a bit set, requeue, time-outs, and restarts by signals.
 * Build: dynamic static, -pthread
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "limits.h"

static int futex(uint32_t *word, int operation, uint32_t value, const void *timeout, uint32_t *word2, uint32_t value3) {
  return syscall(SYS_futex, word, operation, value, timeout, word2, value3);
}

typedef struct Shared {
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  uint32_t word, other;
  int value;
} Shared;

static Shared *make_shared(int robust, int inherit) {
  Shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t mutex;
  pthread_condattr_t condition;
  pthread_mutexattr_init(&mutex);
  pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
  if (robust) pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
  if (inherit) pthread_mutexattr_setprotocol(&mutex, PTHREAD_PRIO_INHERIT);
  pthread_condattr_init(&condition);
  pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
  printf("init: %d", pthread_mutex_init(&shared->mutex, &mutex));
  printf(" %d\n", pthread_cond_init(&shared->condition, &condition));
  fflush(stdout);
  return shared;
}

static void owner_dies(int inherit) {
  if (under_qemu_user()) return;
  Shared *shared = make_shared(1, inherit);
  pid_t pid = fork();
  if (pid == 0) {
    pthread_mutex_lock(&shared->mutex);
    shared->value = 5;
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  int error = pthread_mutex_lock(&shared->mutex);
  printf("owner died: %s, value %d\n", strerror(error), shared->value);
  printf("consistent: %d", pthread_mutex_consistent(&shared->mutex));
  printf(" %d", pthread_mutex_unlock(&shared->mutex));
  printf(" %d\n", pthread_mutex_lock(&shared->mutex));
}

static void between_processes(void) {
  Shared *shared = make_shared(0, 0);
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0; i < 100; i++) {
      pthread_mutex_lock(&shared->mutex);
      while (shared->value % 2 == 0) pthread_cond_wait(&shared->condition, &shared->mutex);
      shared->value++;
      pthread_cond_signal(&shared->condition);
      pthread_mutex_unlock(&shared->mutex);
    }
    _exit(0);
  }
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&shared->mutex);
    while (shared->value % 2 == 1) pthread_cond_wait(&shared->condition, &shared->mutex);
    shared->value++;
    pthread_cond_signal(&shared->condition);
    pthread_mutex_unlock(&shared->mutex);
  }
  waitpid(pid, NULL, 0);
  printf("ping-pong: %d\n", shared->value);
}

static pthread_mutex_t inheriting;
static long counted;

static void *count(void *unused) {
  for (int i = 0; i < 500; i++) {
    pthread_mutex_lock(&inheriting);
    counted++;
    pthread_mutex_unlock(&inheriting);
  }
  return NULL;
}

static void inheritance(void) {
  pthread_mutexattr_t attributes;
  pthread_t threads[3];
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  printf("PI mutex: %d\n", pthread_mutex_init(&inheriting, &attributes));
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, count, NULL);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  printf("counted: %ld\n", counted);
}

static uint32_t word, second;
static int finished;

static void *wait_on_word(void *bits) {
  int result;
  do result = futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, (uint32_t)(uintptr_t)bits);
  while (result == -1 && errno == EINTR);
  __atomic_fetch_add(&finished, result == 0, __ATOMIC_SEQ_CST);
  return NULL;
}

static void by_hand(void) {
  struct timespec short_time = {.tv_nsec = 5000000};
  pthread_t threads[3];
  printf("other value: %s\n", futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0) ? strerror(errno) : "woken");
  printf("time-out: %s\n", futex(&word, FUTEX_WAIT, 0, &short_time, NULL, 0) ? strerror(errno) : "woken");
  printf("nobody: %d\n", futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
  printf("misaligned: %s\n",
         futex((uint32_t *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0) ? strerror(errno) : "woken");
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, wait_on_word, (void *)1);
  /* Nobody wakes `word`: whoever comes back was moved to `second` first. */
  while (__atomic_load_n(&finished, __ATOMIC_SEQ_CST) < 3) {
    futex(&word, FUTEX_CMP_REQUEUE, 0, (void *)3, &second, 0);
    futex(&second, FUTEX_WAKE, 3, NULL, NULL, 0);
    sched_yield();
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  printf("requeued and woken: %d\n", finished);
  pthread_create(&threads[0], NULL, wait_on_word, (void *)2);
  int wrong_bits = futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 4);
  while (futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 2) == 0) sched_yield();
  pthread_join(threads[0], NULL);
  printf("bit set: %d by other bits\n", wrong_bits);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  owner_dies(0);
  owner_dies(1);
  between_processes();
  inheritance();
  by_hand();
  return 0;
}
