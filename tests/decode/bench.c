/* Executed instructions per decode over the code of a real program: a linear sweep over an ELF
 * file's executable segment, stepped through one machine instruction at a time, so the count is
 * exact.
 *
 *   bench ELF [INSTRUCTIONS [LIMIT]]   decodes that many (default 5000), spread over the code;
 * fails when the mean exceeds LIMIT bench --sweep ELF                  decodes all of it once and
 * prints how much was no instruction, for measuring from outside, as under qemu-aarch64 */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "x86/decode.h"

typedef struct Code {
  const uint8_t *bytes;
  size_t size;
} Code;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static Code load_code(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status)) die(path);
  const uint8_t *file = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (file == MAP_FAILED) die(path);
  close(fd);
  const Elf64_Ehdr *header = (const void *)file;
  const Elf64_Phdr *segments = (const void *)(file + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; i++)
    if (segments[i].p_type == PT_LOAD && segments[i].p_flags & PF_X)
      return (Code){file + segments[i].p_offset, segments[i].p_filesz};
  fprintf(stderr, "%s: no code\n", path);
  exit(1);
}

/* Decodes up to `count` instructions from each of `parts` places. */
static unsigned long sweep(Code code, unsigned long count, unsigned parts, unsigned long *ret_bad) {
  unsigned long decoded = 0, bad = 0;
  for (unsigned part = 0; part < parts; part++) {
    size_t at = code.size / parts * part;
    for (unsigned long n = 0; n < count && at + 64 < code.size; n++) {
      X86Insn insn;
      bool ok = x86_decode(code.bytes + at, code.size - at, &insn) == X86_DECODE_OK;
      at += ok ? insn.length : 1;
      bad += !ok;
      decoded++;
    }
  }
  *ret_bad = bad;
  return decoded;
}

#ifdef __x86_64__
/* Runs sweep() in a child between two stops and counts its steps. */
static unsigned long count_steps(Code code, unsigned long count) {
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    unsigned long bad;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    sweep(code, count / 50, 50, &bad);
    raise(SIGSTOP);
    _exit(0);
  }
  unsigned long steps = 0;
  int status;
  waitpid(child, &status, 0);
  do {
    ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
    waitpid(child, &status, 0);
    steps++;
  } while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
  ptrace(PTRACE_CONT, child, NULL, NULL);
  waitpid(child, &status, 0);
  return steps;
}

static int measure(Code code, unsigned long count, double limit) {
  unsigned long with = count_steps(code, count), without = count_steps(code, 0);
  double mean = (double)(with - without) / (count / 50 * 50);
  printf("%.1f executed instructions a decode, the loop's own included\n", mean);
  if (limit > 0 && mean > limit) {
    printf("more than %.0f\n", limit);
    return 1;
  }
  return 0;
}
#else
static int measure(Code code, unsigned long count, double limit) {
  fprintf(stderr, "bench: stepping is for x86-64 hosts; use --sweep\n");
  return 1;
}
#endif

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--sweep") == 0) {
    unsigned long bad, decoded = sweep(load_code(argv[2]), ~0ul, 1, &bad);
    printf("%lu decodes, %lu no instruction\n", decoded, bad);
    return 0;
  }
  if (argc < 2) {
    fprintf(stderr, "usage: bench ELF [INSTRUCTIONS [LIMIT]] | bench --sweep ELF\n");
    return 2;
  }
  return measure(load_code(argv[1]), argc > 2 ? strtoul(argv[2], NULL, 0) : 5000,
                 argc > 3 ? strtod(argv[3], NULL) : 0);
}
