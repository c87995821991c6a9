/*
 * POSIX threads: creation, joining, results, mutexes, condition variables, barriers, thread-local storage,
 * once, read-write locks, cancellation with clean-up, detached threads, many short-lived threads.
 * Build: dynamic static, -pthread
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

enum { WORKERS = 4, ROUNDS = 2000, ITEMS = 500 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static long guarded, atomic_sum;
static __thread long mine = 7;
static __thread char buffer[100] = "each thread has its own";

static void *count(void *argument) {
  for (int i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&lock);
    guarded += (intptr_t)argument;
    pthread_mutex_unlock(&lock);
    __atomic_fetch_add(&atomic_sum, i, __ATOMIC_SEQ_CST);
    mine += i;
  }
  buffer[0] = 'E';
  return (void *)mine;
}

static void counting(void) {
  pthread_t threads[WORKERS];
  for (intptr_t i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, count, (void *)i);
  for (int i = 0; i < WORKERS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    printf("thread %d: %ld\n", i, (long)result);
  }
  printf("guarded %ld, atomic %ld, mine %ld, %s\n", guarded, atomic_sum, mine, buffer);
}

static int queue[8], head, tail;

static void *produce(void *unused) {
  for (int i = 1; i <= ITEMS; i++) {
    pthread_mutex_lock(&lock);
    while (tail - head == 8) pthread_cond_wait(&not_full, &lock);
    queue[tail++ % 8] = i;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void *consume(void *unused) {
  long sum = 0;
  for (int i = 0; i < ITEMS; i++) {
    pthread_mutex_lock(&lock);
    while (tail == head) pthread_cond_wait(&not_empty, &lock);
    sum += (long)queue[head++ % 8] * (i + 1);
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&lock);
  }
  return (void *)sum;
}

static void queueing(void) {
  pthread_t producer, consumer;
  void *sum;
  pthread_create(&consumer, NULL, consume, NULL);
  pthread_create(&producer, NULL, produce, NULL);
  pthread_join(producer, NULL);
  pthread_join(consumer, &sum);
  printf("queue: %ld\n", (long)sum);
}

static pthread_barrier_t barrier;
static int phases[WORKERS][3];

static void *phase(void *argument) {
  intptr_t me = (intptr_t)argument;
  for (int p = 0; p < 3; p++) {
    phases[me][p] = p + 1;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < WORKERS; i++)
      if (phases[i][p] != p + 1) return (void *)1;
  }
  return NULL;
}

static void barriers(void) {
  pthread_t threads[WORKERS];
  long late = 0;
  pthread_barrier_init(&barrier, NULL, WORKERS);
  for (intptr_t i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, phase, (void *)i);
  for (int i = 0; i < WORKERS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    late += (long)result;
  }
  printf("barrier: %ld late\n", late);
}

static void cleaned(void *what) { printf("clean-up of %s\n", (char *)what); }

static sem_t started;

static void *wait_for_cancel(void *unused) {
  pthread_cleanup_push(cleaned, "outer");
  pthread_cleanup_push(cleaned, "inner");
  sem_post(&started);
  for (;;) pause();
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return NULL;
}

static void cancellation(void) {
  pthread_t thread;
  void *result;
  sem_init(&started, 0, 0);
  pthread_create(&thread, NULL, wait_for_cancel, NULL);
  sem_wait(&started);
  int error = pthread_cancel(thread);
  pthread_join(thread, &result);
  printf("cancel: %d\n", error);
  printf("cancelled: %d\n", result == PTHREAD_CANCELED);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static void run_once(void) { printf("once\n"); }

static void *short_lived(void *argument) {
  pthread_once(&once, run_once);
  pthread_setspecific(key, argument);
  pthread_exit((char *)pthread_getspecific(key) + 1);
}

static void many(void) {
  long sum = 0;
  pthread_key_create(&key, NULL);
  for (intptr_t i = 0; i < 200; i++) {
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, short_lived, (void *)i)) printf("create failed\n");
    pthread_join(thread, &result);
    sum += (long)result;
  }
  printf("short-lived: %ld\n", sum);
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static long pair[2];

static void *read_pairs(void *unused) {
  long torn = 0;
  for (int i = 0; i < ROUNDS; i++) {
    pthread_rwlock_rdlock(&rwlock);
    torn += pair[0] != pair[1];
    pthread_rwlock_unlock(&rwlock);
  }
  return (void *)torn;
}

static void readers(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, read_pairs, NULL);
  for (int i = 0; i < ROUNDS; i++) {
    pthread_rwlock_wrlock(&rwlock);
    pair[0]++, pair[1]++;
    pthread_rwlock_unlock(&rwlock);
  }
  for (int i = 0; i < 2; i++) {
    void *torn;
    pthread_join(threads[i], &torn);
    printf("reader: %ld torn\n", (long)torn);
  }
}

int main(void) {
  counting();
  queueing();
  barriers();
  cancellation();
  many();
  readers();
  return 0;
}
