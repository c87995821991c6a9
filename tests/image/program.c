/* What is translated ahead is a copy of a file: its owner may change it meanwhile.
 *
 *   image-program PROGRAM
 *
 * A copy of the program is opened, then overwritten, then cut to nothing: parts and seeds stay what they are of the program
 * itself. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aot/program.h"

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "image-program: %s\n", what);
  exit(1);
}

static void add_up(void *sum, uint64_t address) { *(uint64_t *)sum = *(uint64_t *)sum * 31 + address; }

static uint64_t seeds_of(const Program *program) {
  uint64_t sum = 0;
  program_seeds(program, add_up, &sum);
  return sum;
}

/* `with` writes all bytes of the file `to` anew, from those of `from`. */
static void write_as(int from, int to, uint8_t with) {
  static uint8_t buffer[1 << 16];
  off_t at = 0;
  for (ssize_t got; (got = pread(from, buffer, sizeof buffer, at)) > 0; at += got) {
    for (ssize_t i = 0; i < got; i++) buffer[i] ^= with;
    if (pwrite(to, buffer, (size_t)got, at) != got) fail("the copy cannot be written");
  }
}

static void compare(const Program *program, const Program *changed, const char *how) {
  if (program->part_count != changed->part_count) fail(how);
  for (uint32_t i = 0; i < program->part_count; i++) {
    const ProgramPart *part = &program->parts[i], *other = &changed->parts[i];
    if (part->readable != other->readable || memcmp(part->bytes, other->bytes, part->readable)) fail(how);
  }
  if (seeds_of(program) != seeds_of(changed)) fail(how);
}

int main(int argc, char **argv) {
  char path[] = "/tmp/image-program.XXXXXX";
  Program program, changed;
  const char *reason;
  int from = argc == 2 ? open(argv[1], O_RDONLY) : -1, to = mkstemp(path);
  if (from < 0 || to < 0) fail("usage: image-program PROGRAM");
  write_as(from, to, 0);
  bool opened = program_open(argv[1], &program, &reason) && program_open(path, &changed, &reason);
  unlink(path);
  if (!opened) fail(reason);
  compare(&program, &changed, "a copy is read as another program");
  write_as(from, to, 0xff);
  compare(&program, &changed, "a program that is overwritten changes while it is translated");
  if (ftruncate(to, 0)) fail("the copy cannot be cut");
  compare(&program, &changed, "a program that is cut changes while it is translated");
  printf("%u parts stay as they were\n", program.part_count);
  return seeds_of(&program) == 0;
}
