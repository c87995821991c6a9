/*
 * Code that changes: a small JIT in writable and executable memory, patched between and during runs, in
 * pages that alternate between writable and executable, through a second mapping of the same memory (of a
 * file or without a name), by another thread, over page ends, by munmap and mmap of other code, and by read().
 * Build: dynamic static, -pthread
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>
#include "limits.h"

enum { PAGE = 4096 };
typedef int Function(int);

static uint8_t *map(int protection) {
  return mmap(NULL, 4 * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* mov eax, VALUE; add eax, edi; ret */
static void emit(uint8_t *at, int value) {
  uint8_t code[] = {0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3};
  memcpy(code + 1, &value, 4);
  memcpy(at, code, sizeof code);
}

static void rewriting(void) {
  uint8_t *code = map(PROT_READ | PROT_WRITE | PROT_EXEC);
  long sum = 0;
  for (int i = 0; i < 3000; i++) {
    emit(code, i);
    sum += ((Function *)code)(i);
  }
  printf("rewritten: %ld\n", sum);
  sum = 0;
  for (int i = 0; i < 3000; i++) {
    code[1] = i; /* one byte of an instruction that ran before */
    sum += ((Function *)code)(1);
  }
  printf("patched: %ld\n", sum);
  sum = 0;
  for (int i = 0; i < 500; i++) {
    uint8_t *at = code + PAGE - 1 - i % 7; /* across two pages */
    emit(at, i * 3);
    sum += ((Function *)at)(i);
    at[4] = 1;
    sum += ((Function *)at)(i) >> 16;
  }
  printf("across pages: %ld\n", sum);
}

static void alternating(void) {
  uint8_t *code = map(PROT_READ | PROT_WRITE);
  long sum = 0;
  for (int i = 0; i < 200; i++) {
    mprotect(code, PAGE, PROT_READ | PROT_WRITE);
    emit(code, i * 5);
    mprotect(code, PAGE, PROT_READ | PROT_EXEC);
    sum += ((Function *)code)(i);
  }
  printf("alternating: %ld\n", sum);
}

static void aliased(void) {
  int fd = memfd_create("code", 0);
  if (ftruncate(fd, PAGE)) return;
  uint8_t *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t *executable = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  long sum = 0;
  for (int i = 0; i < 200; i++) {
    emit(writable, i * 7);
    sum += ((Function *)executable)(i);
  }
  printf("aliased: %ld\n", sum);
}

/* The same memory at a second address without a file's name: mremap of an old size of 0, a segment attached twice. */
static void two_views(const char *name, uint8_t *executable, uint8_t *writable) {
  long sum = 0;
  for (int i = 0; i < 200; i++) {
    emit(writable + 64, i * 7);
    sum += ((Function *)(executable + 64))(i);
  }
  printf("%s: %ld\n", name, sum);
}

static void second_views(void) {
  enum { RWX = PROT_READ | PROT_WRITE | PROT_EXEC };
  uint8_t *first = mmap(NULL, 2 * PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *second, *third;
  emit(first + 64, 1);
  ((Function *)(first + 64))(1);
  if (!under_qemu_user()) {
    second = mremap(first, 0, 2 * PAGE, MREMAP_MAYMOVE);
    two_views("mapped again", first, second);
    two_views("the other way", second, first);
    third = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mremap(second + PAGE, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, third) == third)
      two_views("the second page", third, first + PAGE);
  }
  int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0700);
  first = shmat(id, NULL, SHM_EXEC);
  emit(first + 64, 1);
  ((Function *)(first + 64))(1);
  second = shmat(id, NULL, 0);
  two_views("attached twice", first, second);
  shmdt(second);
  shmctl(id, IPC_RMID, NULL);
}

static void replaced(void) {
  long sum = 0;
  uint8_t *code = map(PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int i = 0; i < 100; i++) {
    mmap(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    emit(code, i * 11);
    sum += ((Function *)code)(i);
    munmap(code, PAGE);
  }
  printf("replaced: %ld\n", sum);
  int ends[2];
  uint8_t bytes[8];
  if (pipe(ends)) return;
  mmap(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  for (int i = sum = 0; i < 100; i++) {
    emit(bytes, i * 13);
    if (write(ends[1], bytes, 8) != 8 || read(ends[0], code, 8) != 8) return;
    sum += ((Function *)code)(i);
  }
  printf("read into place: %ld\n", sum);
}

/* A loop that overwrites an instruction of its own body: the new one must run in the same pass. */
static void own_body(void) {
  static const uint8_t loop[] = {
      0x31, 0xc0,                   /*     xor eax, eax             */
      0xb9, 0x0a, 0x00, 0x00, 0x00, /*     mov ecx, 10              */
      0x88, 0x0d, 0x01, 0x00, 0x00, 0x00, /* 1: mov [rip + 1], cl: the immediate below */
      0xba, 0x00, 0x00, 0x00, 0x00, /*     mov edx, 0               */
      0x01, 0xd0,                   /*     add eax, edx             */
      0xff, 0xc9,                   /*     dec ecx                  */
      0x75, 0xef,                   /*     jnz 1b                   */
      0xc3};
  uint8_t *code = map(PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(code, loop, sizeof loop);
  int first = ((Function *)code)(0), second = ((Function *)code)(0);
  printf("own body: %d %d\n", first, second);
}

static uint8_t *shared_code;
static pthread_barrier_t step;

static void *writer(void *unused) {
  for (int i = 0; i < 100; i++) {
    emit(shared_code, i);
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
  }
  return NULL;
}

static void other_thread(void) {
  pthread_t thread;
  long sum = 0;
  shared_code = map(PROT_READ | PROT_WRITE | PROT_EXEC);
  pthread_barrier_init(&step, NULL, 2);
  pthread_create(&thread, NULL, writer, NULL);
  for (int i = 0; i < 100; i++) {
    pthread_barrier_wait(&step);
    sum += ((Function *)shared_code)(1);
    pthread_barrier_wait(&step);
  }
  pthread_join(thread, NULL);
  printf("written by another thread: %ld\n", sum);
}

/* Data beside code on the same page must stay cheap and right. */
static void data_beside_code(void) {
  uint8_t *page = map(PROT_READ | PROT_WRITE | PROT_EXEC);
  volatile int *counter = (int *)(page + 2048);
  long sum = 0;
  emit(page, 5);
  for (int i = 0; i < 20000; i++) {
    ++*counter;
    sum += ((Function *)page)(i & 15);
  }
  printf("data beside code: %d %ld\n", *counter, sum);
}

int main(void) {
  rewriting();
  alternating();
  aliased();
  second_views();
  replaced();
  own_body();
  other_thread();
  data_beside_code();
  return 0;
}
