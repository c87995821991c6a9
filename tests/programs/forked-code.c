/* Code in memory that a fork takes away from the child (MADV_DONTFORK) or gives it as zeros (MADV_WIPEONFORK): the child
 * executes what it has there, as do its own children, and the parent what it had.
 *
 * Build: static dynamic, -mno-red-zone
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

enum { PAGE = 4096, PAGES = 3, PROTECTION = PROT_READ | PROT_WRITE | PROT_EXEC };

static sigjmp_buf out;
static uint8_t *faulted_at;

static void on_fault(int signal, siginfo_t *info, void *context) {
  faulted_at = info->si_addr;
  siglongjmp(out, signal);
}

/* mov $value, %eax; ret */
static void write_constant(uint8_t *at, uint32_t value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, sizeof value);
  at[5] = 0xc3;
}

/* With RAX 0, so that zeros, which are add %al, (%rax), fault at once. */
static int call(const uint8_t *at) {
  uint64_t result = 0;
  __asm__ volatile("call *%1" : "+a"(result) : "r"(at) : "memory");
  return (int)result;
}

static void try_call(const char *who, const uint8_t *code, unsigned page) {
  const uint8_t *at = code + page * PAGE;
  if (sigsetjmp(out, 1))
    printf("%s: page %u faults at %s\n", who, page,
           faulted_at == at ? "itself" : !faulted_at ? "zero" : "another address");
  else
    printf("%s: page %u has %d\n", who, page, call(at));
}

static void try_all(const char *who, const uint8_t *code) {
  for (unsigned page = 0; page < PAGES; page++) try_call(who, code, page);
}

static uint8_t *new_code(int sharing) {
  uint8_t *code = mmap(NULL, PAGES * PAGE, PROTECTION, sharing | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) exit(1);
  for (unsigned page = 0; page < PAGES; page++) write_constant(code + page * PAGE, 10 + page);
  for (unsigned page = 0; page < PAGES; page++) call(code + page * PAGE);
  return code;
}

/* Runs `inner` in a child. */
static void in_child(void (*inner)(uint8_t *code), uint8_t *code) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    inner(code);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  if (status) printf("a child ended with %#x\n", status);
}

static void as_it_is(uint8_t *code) { try_all("child", code); }

/* Wiping is inherited. */
static void wiped(uint8_t *code) {
  try_all("child", code);
  write_constant(code + PAGE, 77);
  try_call("child, written", code, 1);
  in_child(as_it_is, code);
  try_call("child, afterwards", code, 1);
}

/* Where there is nothing the child can map anew. */
static void taken(uint8_t *code) {
  try_all("child", code);
  int fixed = under_qemu_user() ? MAP_FIXED : MAP_FIXED_NOREPLACE; /* it believes that there is something */
  uint8_t *fresh = mmap(code + PAGE, PAGE, PROTECTION, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
  printf("mapped anew: %d\n", fresh == code + PAGE);
  if (fresh != code + PAGE) return;
  write_constant(fresh, 88);
  try_call("child, mapped", code, 1);
  in_child(as_it_is, code);
}

static int advise(uint8_t *at, size_t length, int advice) { return madvise(at, length, advice) ? errno : 0; }

static void undone(int advice, int undo, const char *name) {
  uint8_t *code = new_code(MAP_PRIVATE);
  int error = advise(code, PAGES * PAGE, advice), second = advise(code + PAGE, PAGE, undo);
  printf("%s, undone for page 1: %d %d\n", name, error, second);
  in_child(as_it_is, code);
}

static void errors(void) {
  uint8_t *shared = new_code(MAP_SHARED), *holed = new_code(MAP_PRIVATE);
  munmap(holed + PAGE, PAGE);
  printf("shared memory is not wiped: %d\n", advise(shared, PAGES * PAGE, MADV_WIPEONFORK));
  in_child(as_it_is, shared);
  printf("over a hole: %d\n", advise(holed, PAGES * PAGE, MADV_DONTFORK));
  in_child(as_it_is, holed);
  printf("shared, not for the child: %d\n", advise(shared + PAGE, PAGE, MADV_DONTFORK));
  in_child(as_it_is, shared);
  try_all("parent", shared);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  uint8_t *code = new_code(MAP_PRIVATE);
  printf("taken: %d\n", advise(code + PAGE, PAGE, MADV_DONTFORK));
  in_child(taken, code);
  try_all("parent", code);
  if (under_qemu_user()) return 0; /* it knows no such advice */
  code = new_code(MAP_PRIVATE);
  printf("wiped: %d\n", advise(code + PAGE, PAGE, MADV_WIPEONFORK));
  in_child(wiped, code);
  try_all("parent", code);
  undone(MADV_WIPEONFORK, MADV_KEEPONFORK, "wiped");
  undone(MADV_DONTFORK, MADV_DOFORK, "taken");
  errors();
  return 0;
}
