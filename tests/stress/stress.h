/*
 * What the stress programs share. Each is right natively and prints only what can't depend on time: a line a case
 * with counts that must come out exactly. `PROGRAM CASE ROUNDS` runs one case of the program's table; scenarios.tbl
 * has the cases and their rounds.
 */
#ifndef STELE_STRESS_H
#define STELE_STRESS_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

typedef struct Case {
  const char *name;
  void (*run)(int rounds);
} Case;

/* Ends the program, naming the line, where natively nothing can fail. */
#define CHECK(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      printf("%s:%d: not so: %s (errno %d)\n", __FILE_NAME__, __LINE__, #condition, errno);                  \
      fflush(stdout);                                                                                        \
      _exit(3);                                                                                              \
    }                                                                                                        \
  } while (0)

/* Ends the program with the status that leaves it out, where this host's kernel or rights don't allow it. */
#define NEEDS(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      printf("not permitted here: %s (errno %d)\n", #condition, errno);                                      \
      fflush(stdout);                                                                                        \
      _exit(77);                                                                                             \
    }                                                                                                        \
  } while (0)

typedef int Function(int);

static inline void *map_pages(int count, int protection) {
  void *at = mmap(NULL, (size_t)count * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(at != MAP_FAILED);
  return at;
}

/* Eight bytes: lea eax, [rdi + VALUE]; ret; padding. */
enum { ADDER_BYTES = 8 };
static inline void put_adder(void *at, int value) {
  uint8_t code[ADDER_BYTES] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3, 0xcc};
  memcpy(code + 2, &value, 4);
  memcpy(at, code, sizeof code);
  __asm__ volatile("" ::: "memory"); /* before whatever tells of it */
}

/* Eight bytes of an adder in one store, as code that others execute has to be written. */
static inline void store_adder(void *at, int value) {
  uint64_t word;
  put_adder(&word, value);
  __atomic_store_n((uint64_t *)at, word, __ATOMIC_SEQ_CST);
}

static inline void serialise(void) { /* Intel SDM 3A, 9.1.3: cross-modifying code */
  uint32_t a = 0, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

static inline pthread_t start(void *(*function)(void *), void *argument) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, function, argument) == 0);
  return thread;
}

/* Waits for a child, which must have ended with this status. */
static inline void expect_child(pid_t child, int status) {
  int got = -1;
  pid_t waited;
  while ((waited = waitpid(child, &got, 0)) < 0 && errno == EINTR) {}
  CHECK(waited == child);
  CHECK(got == status);
}

static inline void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  CHECK(sigaction(signal, &action, NULL) == 0);
}

/* 50,000 functions of the program's image, function(i)(x) is x + i: that return at once, that jump and branch back to
 * a common return, and that call a common leaf, so that every kind of exit has to be found by way of the runtime. The
 * detour by floating point is exact; it is there because its code is long. */
enum { IMAGE_FUNCTIONS = 50000, IMAGE_STRIDE = 32 };
#define IMAGE_DETOUR "cvtsi2sd %eax, %xmm1\n addsd %xmm1, %xmm1\n cvttsd2si %xmm1, %eax\n sar %eax\n"
#define DEFINE_IMAGE_FUNCTIONS                                                                               \
  __asm__(".pushsection .text\n"                                                                             \
          "image_leaf: mov %edi, %eax\n"                                                                     \
          "image_return: ret\n"                                                                              \
          ".p2align 12\n"                                                                                    \
          "image_functions:\n"                                                                               \
          ".set value, 0\n"                                                                                  \
          ".rept 12500\n"                                                                                    \
          "lea value(%rdi), %eax\n" IMAGE_DETOUR "ret\n .p2align 5\n"                                        \
          "lea value + 1(%rdi), %eax\n" IMAGE_DETOUR "jmp image_return\n .p2align 5\n"                       \
          "call image_leaf\n add $value + 2, %eax\n" IMAGE_DETOUR "ret\n .p2align 5\n"                       \
          "lea value + 3(%rdi), %eax\n" IMAGE_DETOUR "jnz image_return\n ret\n .p2align 5\n"                 \
          ".set value, value + 4\n"                                                                          \
          ".endr\n"                                                                                          \
          ".popsection\n");                                                                                  \
  extern uint8_t image_functions[] __attribute__((visibility("hidden")))
#define IMAGE_FUNCTION(index) ((Function *)(image_functions + (size_t)(index) * IMAGE_STRIDE))

static inline int run_case(const Case *cases, size_t count, int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (size_t i = 0; argc == 3 && i < count; i++)
    if (!strcmp(cases[i].name, argv[1])) {
      cases[i].run(atoi(argv[2]));
      printf("%s: ok\n", argv[1]);
      return 0;
    }
  fprintf(stderr, "usage: %s CASE ROUNDS\n", argv[0]);
  return 2;
}

#define MAIN(cases)                                                                                          \
  int main(int argc, char **argv) { return run_case(cases, sizeof(cases) / sizeof((cases)[0]), argc, argv); }

#endif
