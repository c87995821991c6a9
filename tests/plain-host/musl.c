// A static program of another C library than glibc: its heap, threads, time, names of users, and a child.
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 2000 };

static void* allocate(void* argument) {
  size_t sum = 0;
  for (size_t i = 1; i <= ROUNDS; i++) {
    unsigned char* block = calloc(i, 1);
    if (!block) return NULL;
    memset(block, 1, i);
    sum += block[i - 1];
    free(block);
  }
  *(size_t*)argument = sum;
  return argument;
}

int main(void) {
  pthread_t threads[THREADS];
  size_t sums[THREADS] = {0}, total = 0;
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, allocate, &sums[i])) return 2;
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    total += sums[i];
  }
  struct timespec now;
  struct passwd* root = getpwuid(0);
  int status = 0;
  pid_t child = fork();
  if (child == 0) _exit(7);
  if (child < 0 || waitpid(child, &status, 0) != child) return 3;
  printf("musl %zu %s %d %d\n", total, root ? root->pw_name : "nobody", clock_gettime(CLOCK_REALTIME, &now), WEXITSTATUS(status));
  return 0;
}
