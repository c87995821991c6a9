/*
 * Processes made while other threads translate, map and protect memory: the child must find every lock free, and
 * the parent must not wait for itself.
 * Build: static dynamic, -pthread
 */
#include <sched.h>
#include <spawn.h>

#include "stress.h"

DEFINE_IMAGE_FUNCTIONS;

extern char **environ;
enum { THREADS = 3 };
static volatile bool stop;
static char self[4096];

/* Always new code: the image's functions first, then ones made for the purpose. */
static void *translate(void *argument) {
  long number = (long)argument, wrong = 0;
  uint8_t *page = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int i = 0; !stop; i++) {
    int index = (int)((i + number * 15000) % IMAGE_FUNCTIONS);
    wrong += IMAGE_FUNCTION(index)(1) != index + 1;
    if (i % 4) continue;
    uint8_t *at = page + i / 4 % 512 * 8;
    put_adder(at, i);
    wrong += ((Function *)at)(1) != i + 1;
  }
  return (void *)wrong;
}

/* The memory map's lock, taken by calls and, for protections of translated code, by translating. */
static void *remap(void *argument) {
  long number = (long)argument, wrong = 0;
  for (int i = 0; !stop; i++) {
    uint8_t *page = map_pages(2, PROT_READ | PROT_WRITE);
    put_adder(page, i);
    mprotect(page, PAGE, PROT_READ | PROT_EXEC);
    wrong += ((Function *)page)(2) != i + 2;
    int index = (int)((i + number * 15000) % IMAGE_FUNCTIONS);
    wrong += IMAGE_FUNCTION(index)(1) != index + 1;
    mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    put_adder(page, i + 1);
    wrong += ((Function *)page)(2) != i + 3;
    munmap(page, 2 * PAGE);
  }
  return (void *)wrong;
}

static void among(void *(*work)(void *), void (*one)(int), int rounds) {
  pthread_t threads[THREADS];
  long wrong = 0;
  stop = false;
  for (long i = 0; i < THREADS; i++) threads[i] = start(work, (void *)i);
  for (int i = 0; i < rounds; i++) one(i);
  stop = true;
  for (int i = 0; i < THREADS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    wrong += (long)result;
  }
  printf("%d processes, wrong: %ld\n", rounds, wrong);
}

/* The child translates, too, and changes code, before it ends. */
static int in_child(int round) {
  uint8_t *page = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  int wrong = 0;
  for (int i = 0; i < 20; i++) {
    int index = (round * 37 + i * 997) % IMAGE_FUNCTIONS;
    wrong += IMAGE_FUNCTION(index)(1) != index + 1;
    put_adder(page, i);
    wrong += ((Function *)page)(5) != i + 5;
  }
  mprotect(page, PAGE, PROT_READ);
  munmap(page, PAGE);
  return wrong;
}

static void exits(int round) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(in_child(round) ? 1 : 17);
  expect_child(child, 17 << 8);
}

static void executes(int round) {
  (void)round;
  char *arguments[] = {self, "child", "0", NULL};
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    execv(self, arguments);
    _exit(1);
  }
  expect_child(child, 23 << 8);
}

static void spawns(int round) {
  (void)round;
  char *arguments[] = {self, "child", "0", NULL};
  pid_t child;
  CHECK(posix_spawn(&child, self, NULL, NULL, arguments, environ) == 0);
  expect_child(child, 23 << 8);
}

static void opens(int round) {
  (void)round;
  char line[64] = "", command[4200];
  snprintf(command, sizeof command, "'%s' child 0", self);
  FILE *pipe = popen(command, "r");
  CHECK(pipe);
  CHECK(fgets(line, sizeof line, pipe) && !strcmp(line, "a child\n"));
  CHECK(pclose(pipe) == 23 << 8);
}

/* A call that fails when the program to be is already chosen; what this process ignores must not end its threads. */
static void fails_to_execute(int round) {
  (void)round;
  char *arguments[] = {self, NULL};
  CHECK(execv("/tmp", arguments) == -1 && errno == EACCES);
}

static void failing_exec(int rounds) {
  signal(SIGSEGV, SIG_IGN);
  among(translate, fails_to_execute, rounds);
}

/* Waits in the kernel until the child has gone, with a copy of the memory. */
static void waits(int round) {
  long child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
  CHECK(child >= 0);
  if (child == 0) _exit(in_child(round) ? 1 : 19);
  expect_child((pid_t)child, 19 << 8);
}

/* As above, but the child lives on for a while: whatever the parent holds, its other threads miss. */
static void lingers(int round) {
  (void)round;
  long child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
  CHECK(child >= 0);
  if (child == 0) {
    usleep(2000);
    char *arguments[] = {self, "child", "0", NULL};
    execv(self, arguments);
    _exit(1);
  }
  expect_child((pid_t)child, 23 << 8);
}

/* A child that makes a child with a thread of its own. */
static void *call_some(void *argument) { return (void *)(long)in_child((int)(long)argument); }

static void nests(int round) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    pthread_t thread = start(call_some, (void *)(long)round);
    exits(round);
    void *wrong;
    CHECK(pthread_join(thread, &wrong) == 0);
    _exit(wrong ? 1 : 29);
  }
  expect_child(child, 29 << 8);
}

/* A child must be open to signals: SIGTERM ends it, whatever its parent's threads were doing. */
static void terminates(int round) {
  (void)round;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0)
    for (int i = 0;; i++) IMAGE_FUNCTION(i % 3000)(1);
  CHECK(kill(child, SIGTERM) == 0);
  expect_child(child, SIGTERM);
}

/* Two threads fork at the same time. */
static void *fork_some(void *argument) {
  for (int i = 0; i < 3; i++) exits((int)(long)argument + i);
  return NULL;
}

static void forks_two(int round) {
  pthread_t other = start(fork_some, (void *)(long)(round * 3));
  fork_some((void *)(long)(round * 5));
  CHECK(pthread_join(other, NULL) == 0);
}

#define AMONG(name, one, work) \
  static void name(int rounds) { among(work, one, rounds); }
AMONG(fork_exit, exits, translate)
AMONG(fork_exec, executes, translate)
AMONG(spawn, spawns, translate)
AMONG(open_pipe, opens, translate)
AMONG(clone_vfork, waits, translate)
AMONG(clone_vfork_lingering, lingers, translate)
AMONG(nested, nests, translate)
AMONG(terminate, terminates, translate)
AMONG(two, forks_two, translate)
AMONG(mapping, exits, remap)
AMONG(mapping_vfork, waits, remap)
AMONG(mapping_exec, executes, remap)

static void child(int rounds) {
  (void)rounds;
  puts("a child");
  exit(23);
}

/* Processes that share this memory, translating, mapping and protecting all the time, killed wherever they are: what they
 * had taken or half-changed must stop nobody, and code of before and after must be right. They call nothing that knows of
 * threads, as they have this one's. */
static int shared_work(void *argument) {
  volatile long *rounds = argument;
  for (long round = 1;; round++) {
    uint8_t *pages = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int i = 0; i < 16; i++) {
      uint8_t *at = pages + i * 512;
      put_adder(at, (int)round + i);
      if (((Function *)at)(1) != (int)round + i + 1) _exit(1);
      put_adder(at, i);
      if (((Function *)at)(1) != i + 1) _exit(1);
    }
    mprotect(pages, PAGE, PROT_READ | PROT_EXEC);
    munmap(pages, 2 * PAGE);
    *rounds = round;
  }
}

static void killed_sharers(int rounds) {
  enum { STACK = 16 * PAGE };
  uint8_t *stack = map_pages(16, PROT_READ | PROT_WRITE), *kept = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  uint8_t *written = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  put_adder(kept, 77);
  for (int i = 0; i < rounds; i++) {
    volatile long done = 0;
    pid_t child = clone(shared_work, stack + STACK, CLONE_VM | SIGCHLD, (void *)&done);
    CHECK(child > 0);
    while (!done) sched_yield();
    for (int k = 0; k < 1 + i % 7; k++) {
      int index = (i * 97 + k * 13) % IMAGE_FUNCTIONS;
      CHECK(IMAGE_FUNCTION(index)(1) == index + 1);
    }
    CHECK(kill(child, SIGKILL) == 0);
    expect_child(child, SIGKILL);
    CHECK(((Function *)kept)(1) == 78);
    for (int k = 0; k < 4; k++) {
      uint8_t *fresh = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
      put_adder(fresh, i + k);
      CHECK(((Function *)fresh)(1) == i + k + 1);
      put_adder(written + k * 8, i);
      CHECK(((Function *)(written + k * 8))(2) == i + 2);
      CHECK(munmap(fresh, PAGE) == 0);
    }
  }
  printf("killed: %d\n", rounds);
}

static const Case cases[] = {{"exit", fork_exit}, {"exec", fork_exec}, {"spawn", spawn}, {"popen", open_pipe},
                             {"failing-exec", failing_exec},
                             {"clone-vfork", clone_vfork}, {"clone-vfork-lingering", clone_vfork_lingering},
                             {"nested", nested}, {"terminate", terminate}, {"two", two}, {"mapping", mapping},
                             {"mapping-vfork", mapping_vfork}, {"mapping-exec", mapping_exec},
                             {"killed-sharers", killed_sharers}, {"child", child}};

int main(int argc, char **argv) {
  CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
  return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
