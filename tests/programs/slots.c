/*
 * Calls and jumps through addresses in memory that is protected and then changed all the same: made writable and written,
 * mapped anew, replaced by another mapping, advised away, in a child, by another thread. Each call must go where the
 * address says that is there at that time.
 * Build: dynamic static static-pie nopie, -pthread
 * With: STELE_MEMORY_MODEL=auto; STELE_FLAGS=exact
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static int first(int n) { return n + 1; }
static int second(int n) { return n * 2; }
static int third(int n) { return n - 3; }

/* In memory of the program's file, which the program writes as a loader would. */
static struct { int (*volatile function)(int); char rest[PAGE - sizeof(void *)]; } slot __attribute__((aligned(PAGE))) = {first, ""};

static int by_call(int n) {
  int result;
  __asm__ volatile("sub $128, %%rsp\n\tcall *%1\n\tadd $128, %%rsp" /* past the red zone */
                   : "=a"(result), "+m"(slot.function), "+D"(n) : : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
  return result;
}

__asm__(".text\nby_jump: endbr64\n\tjmp *slot_address(%rip)\n.local slot_address\n.set slot_address, slot\n");
int by_jump(int n);

static void show(const char *what) { printf("%s: %d %d\n", what, by_call(10), by_jump(10)); }

static void protect(int protection) {
  if (mprotect(&slot, PAGE, protection)) perror("mprotect");
}

static void become(int (*function)(int)) {
  protect(PROT_READ | PROT_WRITE);
  slot.function = function;
  protect(PROT_READ);
}

static void replaced_by(int (*function)(int)) {
  void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, &function, sizeof function);
  mprotect(page, PAGE, PROT_READ);
  if (mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, &slot) != (void *)&slot) perror("mremap");
}

static void mapped_anew(int (*function)(int)) {
  if (mmap(&slot, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != (void *)&slot) perror("mmap");
  slot.function = function;
  protect(PROT_READ);
}

/* Whoever reads memory that is shared sees it change without a call. */
static void shared(void) {
  int file = memfd_create("slot", 0);
  if (file < 0 || ftruncate(file, PAGE)) perror("memfd");
  void *view = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mmap(&slot, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) != (void *)&slot) perror("mmap");
  int (*functions[])(int) = {third, first, second};
  for (int i = 0; i < 3; i++) {
    memcpy(view, &functions[i], sizeof functions[i]);
    show("shared");
  }
  close(file);
}

static volatile int seen;

static void *watch(void *argument) {
  (void)argument;
  for (int result = 0; result != second(10); seen = result) result = by_call(10);
  return NULL;
}

static void by_another_thread(void) {
  pthread_t thread;
  mapped_anew(first);
  pthread_create(&thread, NULL, watch, NULL);
  while (seen != first(10)) sched_yield();
  become(second);
  pthread_join(thread, NULL);
  show("another thread");
}

static void in_a_child(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    become(third);
    show("child");
    exit(0);
  }
  waitpid(child, NULL, 0);
  show("parent");
}

int main(void) {
  for (int i = 0; i < 3; i++) show("written by the program");
  protect(PROT_READ);
  for (int i = 0; i < 3; i++) show("protected");
  become(second);
  for (int i = 0; i < 3; i++) show("changed");
  become(third);
  show("changed again");
  protect(PROT_READ | PROT_WRITE);
  slot.function = first;
  show("left writable");
  slot.function = second;
  show("written");
  protect(PROT_READ);
  show("protected again");
  in_a_child();
  replaced_by(first);
  show("replaced");
  mapped_anew(third);
  show("mapped anew");
  if (madvise(&slot, PAGE, MADV_NORMAL)) perror("madvise");
  show("advised");
  by_another_thread();
  shared();
  return 0;
}
