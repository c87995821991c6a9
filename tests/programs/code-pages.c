/* Code on pages that change, where it doesn't change itself: what runtimes do that make code while they run. The results
 * are the same however often it is translated; that it is not is what the translator's counters say.
 *
 * Build: dynamic, -ldl -pthread
 * At most: regions 3000, checked-regions 12
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, FUNCTION = 64, FUNCTIONS = 24, ROUNDS = 50 };

static uint8_t *pages(size_t count, int protection) {
  uint8_t *at = mmap(NULL, count * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) exit(1);
  return at;
}

/* mov $value, %eax; ret */
static void write_constant(uint8_t *at, uint32_t value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, sizeof value);
  at[5] = 0xc3;
}

/* add $1, %edi; jmp target */
static void write_jump(uint8_t *at, const uint8_t *target) {
  int32_t distance = (int32_t)(target - (at + 8));
  memcpy(at, "\x83\xc7\x01\xe9", 4);
  memcpy(at + 4, &distance, sizeof distance);
}

static unsigned call(const uint8_t *at) { return ((unsigned (*)(int))(uintptr_t)at)(1); }

static unsigned call_all(const uint8_t *code) {
  unsigned sum = 0;
  for (unsigned i = 0; i < FUNCTIONS; i++) sum += call(code + i * FUNCTION);
  return sum;
}

static void write_all(uint8_t *code, unsigned value) {
  for (unsigned i = 0; i < FUNCTIONS; i++) write_constant(code + i * FUNCTION, value + i);
}

/* A page that is written all the time lies between code and where its jumps lead. */
static void between(void) {
  uint8_t *code = pages(3, PROT_READ | PROT_WRITE | PROT_EXEC), *busy = code + PAGE, *targets = busy + PAGE;
  volatile unsigned *data = (volatile unsigned *)(busy + PAGE / 2);
  unsigned sum = 0;
  write_all(targets, 1);
  write_constant(busy, 7);
  for (unsigned i = 0; i < 7 * ROUNDS; i++) { /* checked in the end */
    *data = i;
    sum += call(busy);
  }
  for (unsigned i = 0; i < FUNCTIONS; i++) {
    write_jump(code + i * FUNCTION, targets + i * FUNCTION);
    sum += *data;
  }
  printf("between: %u %u\n", sum, call_all(code));
}

/* Data is written beside code. */
static void beside(void) {
  uint8_t *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  volatile unsigned *data = (volatile unsigned *)(code + FUNCTIONS * FUNCTION);
  unsigned sum = 0;
  write_all(code, 1);
  for (unsigned i = 0; i < ROUNDS; i++) {
    *data = i;
    sum += call_all(code);
  }
  printf("beside: %u\n", sum);
}

/* One function is changed to and fro. */
static void versions(void) {
  uint8_t *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  unsigned sum = 0;
  write_all(code, 1);
  for (unsigned i = 0; i < ROUNDS; i++) {
    write_constant(code, i % 3);
    sum = sum * 3 + call_all(code);
  }
  printf("versions: %u\n", sum);
}

/* The page can be written or executed, never both. */
static void turns(void) {
  uint8_t *code = pages(1, PROT_READ | PROT_WRITE);
  unsigned sum = 0;
  write_all(code, 1);
  for (unsigned i = 0; i < ROUNDS; i++) {
    mprotect(code, PAGE, PROT_READ | PROT_WRITE);
    write_constant(code + (FUNCTIONS + i % 8) * FUNCTION, i);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    sum += call_all(code) + call(code + (FUNCTIONS + i % 8) * FUNCTION);
  }
  printf("turns: %u\n", sum);
}

/* A library is mapped to be read by all, too, as some programs map their images. */
static void mapped_twice(void) {
  char path[PATH_MAX];
  Dl_info libc;
  if (!dladdr((void *)(uintptr_t)strtol, &libc)) exit(1);
  snprintf(path, sizeof path, "%s", libc.dli_fname);
  snprintf(strrchr(path, '/'), 16, "/libm.so.6");
  int fd = open(path, O_RDONLY);
  if (fd < 0 || mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) exit(1);
  void *library = dlopen(path, RTLD_NOW);
  if (!library) exit(1);
  static const char *const names[] = {"cbrt", "j0", "j1", "y0", "lgamma", "erf", "erfc", "asinh", "log1p", "tgamma"};
  double sum = 0;
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
    double (*function)(double) = (double (*)(double))(uintptr_t)dlsym(library, names[i]);
    for (unsigned k = 1; function && k < 40; k++) sum += function(k * 0.75);
  }
  printf("mapped twice: %d\n", sum > 0);
}

static void *nothing(void *argument) { return argument; }

/* Code where a thread's stack was, on which its end was noted: nobody will write there any more. */
static void after_thread(void) {
  enum { STACK = 16 };
  uint8_t *stack = pages(STACK, PROT_READ | PROT_WRITE | PROT_EXEC);
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, STACK * PAGE);
  if (pthread_create(&thread, &attributes, nothing, NULL) || pthread_join(thread, NULL)) exit(1);
  munmap(stack, STACK * PAGE);
  if (mmap(stack, STACK * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
           0) != stack)
    exit(1);
  write_all(stack + (STACK - 1) * PAGE, 1);
  printf("after a thread: %u\n", call_all(stack + (STACK - 1) * PAGE));
}

int main(void) {
  between();
  beside();
  versions();
  turns();
  mapped_twice();
  after_thread();
  return 0;
}
