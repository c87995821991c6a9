/*
 * Programs with wrong headers, as whoever owns a file may give them to stele-aot, for a number of seconds: each is opened,
 * its seeds and functions are asked for, and some are translated. Nothing may crash or overrun (build it with sanitizers);
 * to be refused is a fine answer.
 *
 *   fuzz-program SECONDS SEED FILE
 *
 * Each is FILE with a few numbers changed: most in its header, program headers, section headers and unwind table, to values
 * at which sums overflow or places just miss; some are cut. A sanitizer's report comes with the seed, which alone with 0
 * seconds repeats it.
 */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "aot/translate.h"

enum { TRANSLATED = 32 /* one in so many, which takes as long as so many */ };

static uint8_t *original, *changed;
static size_t size;
static Elf64_Ehdr header;
static Elf64_Phdr unwind;
static uint64_t random_state, seed;

static uint64_t below(uint64_t limit) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return (z ^ (z >> 31)) % limit;
}

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "fuzz-program: %s\n", what);
  exit(2);
}

static void read_original(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(path);
  size = (size_t)ftell(file);
  original = malloc(size);
  changed = malloc(size);
  rewind(file);
  if (size < sizeof header || !original || !changed || fread(original, 1, size, file) != size) fail(path);
  fclose(file);
  memcpy(&header, original, sizeof header);
  for (unsigned i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    memcpy(&segment, original + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_GNU_EH_FRAME) unwind = segment;
  }
}

static uint64_t interesting(void) {
  const uint64_t numbers[] = {0,           1,           4095,         4096,     4097,           size - 1,           size,
                              size + 1,    INT32_MAX,   UINT32_MAX,   1u << 30, (1u << 30) - 1, UINT64_C(1) << 47,
                              INT64_MAX,   INT64_MIN,   UINT64_MAX,   UINT64_MAX - 4095};
  return numbers[below(sizeof numbers / sizeof *numbers)];
}

static uint64_t place(void) {
  switch (below(6)) {
  case 0: return below(sizeof header);
  case 1:
  case 2: return header.e_phoff + below((uint64_t)header.e_phnum * sizeof(Elf64_Phdr));
  case 3: return header.e_shoff + below((uint64_t)header.e_shnum * sizeof(Elf64_Shdr) + 1);
  case 4: return unwind.p_offset + below(unwind.p_filesz + 1);
  default: return below(size);
  }
}

static size_t change(void) {
  memcpy(changed, original, size);
  for (uint64_t n = 1 + below(4); n > 0; n--) {
    uint64_t at = place() & ~UINT64_C(3), number = interesting(), wide = below(2) ? 8 : 4;
    if (below(3) == 0) number = below(256), wide = 1;
    if (at + wide <= size) memcpy(changed + at, &number, wide);
  }
  return below(16) ? size : below(size);
}

static void write_all(int fd, size_t length) {
  if (ftruncate(fd, 0) || pwrite(fd, changed, length, 0) != (ssize_t)length) fail("the program cannot be written");
}

static void add_up(void *sum, uint64_t address) { *(uint64_t *)sum += address; }

/* Whether it was taken for a program. */
static bool open_it(Pipeline *pipeline, const char *path) {
  Program program;
  const char *reason;
  uint64_t sum = 0;
  if (!program_open(path, &program, &reason)) {
    if (!reason || !*reason) fail("refused without a reason");
    return false;
  }
  program_seeds(&program, add_up, &sum);
  if (below(TRANSLATED) == 0) {
    AotImage image;
    if (aot_translate(pipeline, &program, (ImageTarget){(uint32_t)below(UINT32_MAX), (uint32_t)below(2)}, &image))
      free(image.bytes);
  }
  program_close(&program);
  return true;
}

/* The handler of what ends a sanitized program. */
static void tell_seed(int number) {
  fprintf(stderr, "fuzz-program: seed %llu\n", (unsigned long long)seed);
  signal(number, SIG_DFL);
  raise(number);
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: fuzz-program SECONDS SEED FILE\n"), 2;
  time_t end = time(NULL) + atol(argv[1]);
  uint64_t count = 0, opened = 0;
  char path[32];
  seed = strtoull(argv[2], NULL, 0);
  signal(SIGABRT, tell_seed);
  read_original(argv[3]);
  Pipeline *pipeline = pipeline_new();
  int fd = memfd_create("program", MFD_CLOEXEC);
  if (!pipeline || fd < 0) fail("no memory");
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  do {
    random_state = seed;
    write_all(fd, change());
    opened += open_it(pipeline, path);
    seed++;
    count++;
  } while (time(NULL) < end);
  printf("%llu programs with wrong headers, %llu opened\n", (unsigned long long)count, (unsigned long long)opened);
  return 0;
}
