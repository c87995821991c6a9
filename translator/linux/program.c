/* The guest program as a whole: where its stack lies and what the kernel would have put there (psABI for
 * x86-64, 3.4.1): strings, environment, arguments, auxiliary vector. The vector is made here from what we
 * know; nothing of the host's is handed on unseen. */
#include <elf.h>
#include <linux/mman.h>
#include <linux/resource.h>

#include "linux/linux.h"
#include "linux/memory.h"

LinuxProgram linux_program;

enum { AT_MINSIGSTKSZ_X86 = 51 };

#define STACK_TOP     UINT64_C(0x7ffffffff000)
#define STACK_DEFAULT UINT64_C(0x800000)
#define STACK_MAX     UINT64_C(0x40000000)
#define STACK_ENDLESS UINT64_C(0x10000000) /* what "unlimited" gets */

static uint64_t stack_size(uint64_t strings) {
  struct rlimit64 limit = {STACK_DEFAULT, 0};
  host_call(__NR_prlimit64, 0, RLIMIT_STACK, 0, &limit);
  uint64_t size = limit.rlim_cur == ~UINT64_C(0) ? STACK_ENDLESS : limit.rlim_cur;
  if (size > STACK_MAX) size = STACK_MAX;
  if (size < strings + (UINT64_C(1) << 17)) size = strings + (UINT64_C(1) << 17);
  return (size + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
}

static uint64_t strings_size(char *const *list) {
  uint64_t size = 0;
  for (; *list; list++) size += strlen(*list) + 1 + sizeof(uint64_t);
  return size;
}

int64_t linux_program_stack(char *const *argv, char *const *envp) {
  uint64_t size = stack_size(strings_size(argv) + strings_size(envp)), random = 0;
  if (linux_program.randomize) host_call(__NR_getrandom, &random, sizeof random, 0);
  uint64_t top = STACK_TOP - ((random & 0x3fffff) << 12);
  int64_t got = -ENOMEM;
  for (; top > STACK_TOP / 2; top -= UINT64_C(1) << 33) {
    got = linux_map_stack(top - size, size, PROT_READ | PROT_WRITE);
    if (got >= 0) break;
  }
  if (got < 0) return got;
  linux_program.stack_low = top - size;
  linux_program.stack_high = top;
  linux_memory_init(top - size, linux_program.randomize);
  return 0;
}

/* --- contents ----------------------------------------------------------------------------------------- */

static char *put_strings(char *at, char *const *list, uint64_t *pointers) {
  for (; *list; list++) {
    size_t length = strlen(*list) + 1;
    memcpy(at, *list, length);
    *pointers++ = (uint64_t)at;
    at += length;
  }
  *pointers = 0;
  return at;
}

static size_t count(char *const *list) {
  size_t n = 0;
  while (list[n]) n++;
  return n;
}

static uint64_t host_value(const uint64_t *host_auxv, uint64_t type) {
  for (; host_auxv[0] != AT_NULL; host_auxv += 2)
    if (host_auxv[0] == type) return host_auxv[1];
  return 0;
}

typedef struct Strings {
  uint64_t platform, random, execfn;
} Strings;

static size_t fill_auxv(uint64_t *to, const LinuxLoaded *loaded, const Strings *strings,
                        const uint64_t *host_auxv) {
  const uint64_t rows[][2] = {
      {AT_MINSIGSTKSZ_X86, linux_frame_size()},
      {AT_HWCAP, linux_identity_hwcap()},
      {AT_PAGESZ, MEMORY_PAGE_SIZE},
      {AT_CLKTCK, 100},
      {AT_PHDR, loaded->program_headers},
      {AT_PHENT, sizeof(Elf64_Phdr)},
      {AT_PHNUM, loaded->program_header_count},
      {AT_BASE, loaded->loader_base},
      {AT_FLAGS, 0},
      {AT_ENTRY, loaded->program_entry},
      {AT_UID, host_value(host_auxv, AT_UID)},
      {AT_EUID, host_value(host_auxv, AT_EUID)},
      {AT_GID, host_value(host_auxv, AT_GID)},
      {AT_EGID, host_value(host_auxv, AT_EGID)},
      {AT_SECURE, host_value(host_auxv, AT_SECURE)},
      {AT_RANDOM, strings->random},
      {AT_HWCAP2, linux_identity_hwcap2()},
      {AT_EXECFN, strings->execfn},
      {AT_PLATFORM, strings->platform},
      {AT_NULL, 0},
  };
  if (to) memcpy(to, rows, sizeof rows);
  return sizeof rows;
}

static uint64_t put_small_strings(uint64_t at, Strings *strings, const uint64_t *host_auxv) {
  at = (at - 16) & ~UINT64_C(15);
  strings->random = at;
  const void *random = (const void *)host_value(host_auxv, AT_RANDOM);
  if (random) memcpy((void *)at, random, 16);
  else host_call(__NR_getrandom, at, 16, 0);
  at -= 16;
  strings->platform = at;
  memcpy((void *)at, "x86_64", 7);
  return at;
}

int64_t linux_build_stack(const LinuxLoaded *loaded, char *const *argv, char *const *envp,
                          const char *execfn, const uint64_t *host_auxv) {
  size_t argc = count(argv), envc = count(envp), execfn_size = strlen(execfn) + 1;
  uint64_t text = strings_size(argv) + strings_size(envp) - (argc + envc) * sizeof(uint64_t);
  uint64_t end = linux_program.stack_high - sizeof(uint64_t), start = end - execfn_size - text;
  Strings strings = {.execfn = end - execfn_size};
  memcpy((void *)strings.execfn, execfn, execfn_size);
  uint64_t at = put_small_strings(start, &strings, host_auxv);
  size_t auxv_size = fill_auxv(NULL, loaded, &strings, host_auxv);
  at -= (1 + argc + 1 + envc + 1) * sizeof(uint64_t) + auxv_size;
  at &= ~UINT64_C(15);
  uint64_t *stack = (uint64_t *)at, *environment = stack + 1 + argc + 1;
  stack[0] = argc;
  linux_program.argv_start = start;
  linux_program.argv_end = (uint64_t)put_strings((char *)start, argv, stack + 1);
  linux_program.envp_start = linux_program.argv_end;
  linux_program.envp_end = (uint64_t)put_strings((char *)linux_program.envp_start, envp, environment);
  fill_auxv(environment + envc + 1, loaded, &strings, host_auxv);
  linux_program.auxv_size = auxv_size;
  memcpy(linux_program.auxv, environment + envc + 1, auxv_size);
  return (int64_t)at;
}
