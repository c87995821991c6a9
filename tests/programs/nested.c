/*
 * Nested functions whose address is taken: GCC writes a trampoline for each on the stack, which the linker therefore
 * marks executable. In recursion, out of several depths at once, through qsort, by longjmp, in threads and after fork.
 * Build: dynamic static nopie, -pthread
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int Callback(int);

static __attribute__((noinline)) int call(Callback *callback, int argument) { return callback(argument) + 1; }

static __attribute__((noinline)) int sum_to(int n, Callback *outer) {
  int mine(int x) { return x + n; }
  if (n == 0) return outer(1000);
  return call(mine, n) + sum_to(n - 1, n % 2 ? mine : outer);
}

static int identity(int x) { return x; }

static void sorting(void) {
  int numbers[200], comparisons = 0;
  for (int i = 0; i < 200; i++) numbers[i] = i * 7919 % 200;
  int by_value(const void *a, const void *b) {
    comparisons++;
    return *(const int *)a - *(const int *)b;
  }
  qsort(numbers, 200, sizeof *numbers, by_value);
  int wrong = 0;
  for (int i = 0; i < 200; i++) wrong += numbers[i] != i;
  printf("sorted: %d wrong, comparisons %d\n", wrong, comparisons > 200);
}

/* The innermost leaves all levels at once, by a label of the outermost. */
static int leaving(int levels) {
  __label__ out;
  int passed = 0;
  void leave(int level) {
    passed = level;
    goto out;
  }
  __attribute__((noinline)) void descend(int level, void (*at_the_end)(int)) {
    char room[100];
    memset(room, level, sizeof room);
    if (level == levels) at_the_end(level);
    descend(level + 1, at_the_end);
    __asm__ volatile("" : : "r"(room) : "memory");
  }
  descend(0, leave);
out:
  return passed;
}

static void *in_thread(void *argument) {
  intptr_t base = (intptr_t)argument;
  int add(int x) { return x + (int)base; }
  long sum = 0;
  for (int i = 0; i < 1000; i++) sum += call(add, i);
  return (void *)sum;
}

int main(void) {
  pthread_t threads[3];
  int factor = 3;
  int times(int x) { return x * factor; }
  printf("called: %d\n", call(times, 14));
  factor = 5;
  printf("and with another variable: %d\n", call(times, 14));
  printf("recursion: %d\n", sum_to(40, identity));
  sorting();
  printf("left from level %d\n", leaving(30));
  for (intptr_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, in_thread, (void *)i);
  for (int i = 0; i < 3; i++) {
    void *sum;
    pthread_join(threads[i], &sum);
    printf("thread %d: %ld\n", i, (long)sum);
  }
  pid_t pid = fork();
  if (pid == 0) _exit(call(times, 4));
  int status = 0;
  waitpid(pid, &status, 0);
  printf("child: %d\n", WEXITSTATUS(status));
  return 0;
}
