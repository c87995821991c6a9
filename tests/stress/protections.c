/*
 * Memory that is unmapped, protected or mapped over while other threads run in it and translate from it: whoever runs
 * there gets the fault the processor gives, at its address, or the right function, and protections end as asked.
 * Build: static dynamic, -pthread
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <ucontext.h>

#include "stress.h"

enum { RUNNERS = 3, RX = PROT_READ | PROT_EXEC, RW = PROT_READ | PROT_WRITE, RWX = PROT_READ | PROT_WRITE | PROT_EXEC };

static uint8_t *pages;
static volatile bool stop;
static volatile int begun;
static int wrong_faults, faults_seen;

/* Per thread: where a faulting call goes back to. */
static __thread sigjmp_buf back;
static __thread volatile bool calling;

static void fault(int signal, siginfo_t *info, void *context) {
  ucontext_t *user = context;
  uint64_t rip = (uint64_t)user->uc_mcontext.gregs[REG_RIP], low = (uint64_t)pages, high = low + 4 * PAGE;
  uint64_t address = (uint64_t)info->si_addr;
  bool ours = signal == SIGSEGV && address >= low && address < high && info->si_code > 0;
  if (!calling || !ours || (rip >= low && rip < high && address != rip && address / PAGE != rip / PAGE + 1))
    __atomic_add_fetch(&wrong_faults, 1, __ATOMIC_SEQ_CST);
  if (!calling) _exit(4);
  __atomic_add_fetch(&faults_seen, 1, __ATOMIC_SEQ_CST);
  siglongjmp(back, 1);
}

/* The function's result, or -1 where calling it faulted. */
static int try_call(void *function, int value) {
  if (sigsetjmp(back, 1)) {
    calling = false;
    return -1;
  }
  calling = true;
  int result = ((Function *)function)(value);
  calling = false;
  return result;
}

/* Calls all over the pages: slot i gives 1000 + i, or faults, and nothing else. */
static void *run(void *argument) {
  long wrong = 0;
  unsigned slot = (unsigned)(long)argument * 97;
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  while (!stop) {
    slot = (slot + 61) % (4 * PAGE / 8);
    int result = try_call(pages + slot * 8, 5);
    wrong += result != -1 && result != 1005 + (int)slot;
  }
  return (void *)wrong;
}

static void fill(uint8_t *at) {
  for (int i = 0; i < 4 * PAGE / 8; i++) put_adder(at + i * 8, 1000 + i);
}

static int code_file;

static void while_running(void (*change)(int), int rounds) {
  pthread_t threads[RUNNERS];
  long wrong = 0;
  handle(SIGSEGV, fault, 0);
  handle(SIGBUS, fault, 0);
  handle(SIGILL, fault, 0);
  handle(SIGTRAP, fault, 0);
  code_file = memfd_create("code", 0);
  uint8_t *bytes = map_pages(4, RW);
  fill(bytes);
  CHECK(write(code_file, bytes, 4 * PAGE) == 4 * PAGE);
  pages = map_pages(4, RWX);
  fill(pages);
  for (long i = 0; i < RUNNERS; i++) threads[i] = start(run, (void *)i);
  while (begun != RUNNERS) sched_yield();
  for (int i = 0; i < rounds; i++) change(i);
  stop = true;
  for (int i = 0; i < RUNNERS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    wrong += (long)result;
  }
  printf("wrong: %ld, wrong faults: %d\n", wrong, wrong_faults);
}

static void let_run(void) { usleep(200); }

/* Away and back with the same contents, from the file: the functions are right whenever they are there. */
static void unmap(int round) {
  uint8_t *at = pages + round % 4 * PAGE;
  CHECK(munmap(at, PAGE) == 0);
  let_run();
  CHECK(mmap(at, PAGE, RX, MAP_PRIVATE | MAP_FIXED, code_file, round % 4 * PAGE) == at);
  let_run();
}

static void map_over(int round) {
  uint8_t *at = pages + round % 4 * PAGE;
  int protection = round % 3 == 0 ? RX : round % 3 == 1 ? RWX : PROT_NONE;
  CHECK(mmap(at, PAGE, protection, MAP_PRIVATE | MAP_FIXED, code_file, round % 4 * PAGE) == at);
  let_run();
}

static void protect(int round) {
  static const int kinds[] = {PROT_NONE, RX, RW, RWX, PROT_READ, RX};
  uint8_t *at = pages + round % 4 * PAGE;
  CHECK(mprotect(at, PAGE, kinds[round % 6]) == 0);
  let_run();
  CHECK(mprotect(pages, 4 * PAGE, round % 2 ? RX : RWX) == 0);
  let_run();
}

static void unmapping(int rounds) { while_running(unmap, rounds); }
static void mapping_over(int rounds) { while_running(map_over, rounds); }

static void expect_access(bool write, bool fails) {
  volatile uint8_t *at = pages + 100;
  if (sigsetjmp(back, 1)) {
    calling = false;
    CHECK(fails);
    return;
  }
  calling = true;
  uint8_t value = *at;
  if (write) *at = value;
  calling = false;
  CHECK(!fails);
}

/* After the storm the pages are what was asked for last. */
static void protecting(int rounds) {
  while_running(protect, rounds);
  mprotect(pages, 4 * PAGE, PROT_NONE);
  CHECK(try_call(pages, 1) == -1);
  expect_access(false, true);
  mprotect(pages, 4 * PAGE, RX);
  CHECK(try_call(pages, 1) == 1001);
  expect_access(false, false);
  expect_access(true, true);
  mprotect(pages, 4 * PAGE, RW);
  expect_access(true, false);
  CHECK(try_call(pages, 1) == -1);
  mprotect(pages, 4 * PAGE, RWX);
  CHECK(try_call(pages, 1) == 1001);
  expect_access(true, false);
  mprotect(pages, 4 * PAGE, PROT_READ);
  expect_access(true, true);
  CHECK(try_call(pages, 1) == -1);
}

/* One thread writes and protects, another calls what is there: every protection that it asked for holds for it, while
 * the other's translating protects the page, too. */
static void *call_first(void *unused) {
  (void)unused;
  while (!stop) try_call(pages, 1);
  return NULL;
}
static void ends_as_asked(int rounds) {
  handle(SIGSEGV, fault, 0);
  pages = map_pages(4, RWX);
  put_adder(pages, 0);
  pthread_t other = start(call_first, NULL);
  for (int i = 0; i < rounds; i++) {
    CHECK(mprotect(pages, PAGE, RWX) == 0);
    store_adder(pages, i); /* writable whatever the other does */
    expect_access(true, false);
    CHECK(mprotect(pages, PAGE, RX) == 0);
    expect_access(true, true);
    CHECK(mprotect(pages, PAGE, RW) == 0);
    expect_access(true, false);
    CHECK(try_call(pages, 1) == -1);
    CHECK(mprotect(pages, PAGE, RX) == 0);
    CHECK(try_call(pages, 1) == i + 1);
  }
  stop = true;
  CHECK(pthread_join(other, NULL) == 0);
}

/* Code at the end of what is mapped: translating looks no further, and running further faults at the page. */
static void at_the_end(int rounds) {
  handle(SIGSEGV, fault, 0);
  pages = map_pages(4, RWX);
  uint8_t *last = pages + PAGE - 8;
  for (int i = 0; i < rounds; i++) {
    put_adder(last, i);
    CHECK(i % 2 ? mprotect(pages + PAGE, PAGE, PROT_NONE) == 0 : munmap(pages + PAGE, PAGE) == 0);
    CHECK(try_call(last, 1) == i + 1);
    memset(last, 0x90, 8);
    CHECK(try_call(last, 1) == -1);
    CHECK(mmap(pages + PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == pages + PAGE);
    pages[PAGE] = 0xc3;
    (void)((Function *)last)(1); /* now it goes on into the new page and returns */
  }
  printf("faults: %d, wrong: %d\n", faults_seen, wrong_faults);
}

/* The same while another thread takes the neighbour away and brings it back: never more than a fault of the second
 * page's. */
static void *take_neighbour(void *unused) {
  (void)unused;
  while (!stop) {
    CHECK(mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    sched_yield();
    CHECK(mprotect(pages + PAGE, PAGE, RX) == 0);
    sched_yield();
    CHECK(munmap(pages + PAGE, PAGE) == 0);
    CHECK(mmap(pages + PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == pages + PAGE);
  }
  return NULL;
}
static void neighbour(int rounds) {
  handle(SIGSEGV, fault, 0);
  pages = map_pages(4, RWX);
  pthread_t other = start(take_neighbour, NULL);
  for (int i = 0; i < rounds; i++) {
    uint8_t *at = pages + PAGE - 8 - i % 64 * 8;
    put_adder(at, i);
    CHECK(((Function *)at)(1) == i + 1);
  }
  stop = true;
  CHECK(pthread_join(other, NULL) == 0);
  printf("faults: %d\n", faults_seen);
}

/* A misaligned exchange over the end of the first page while the second comes and goes: it faults there or is done. */
static int try_exchange(uint64_t *at) {
  uint64_t old = *(uint8_t *)at;
  if (sigsetjmp(back, 1)) {
    calling = false;
    return -1;
  }
  calling = true;
  __asm__ volatile("lock cmpxchg8b %0" : "+m"(*at), "+a"(old) : "b"(1), "c"(2), "d"(0) : "cc", "memory");
  calling = false;
  return 0;
}
static void *keep_exchanging(void *argument) {
  uint64_t *at = (uint64_t *)(pages + PAGE - 1 - (long)argument);
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  while (!stop) try_exchange(at);
  return NULL;
}
static void exchanging(int rounds) {
  pthread_t threads[RUNNERS];
  handle(SIGSEGV, fault, 0);
  pages = map_pages(4, RW);
  for (long i = 0; i < RUNNERS; i++) threads[i] = start(keep_exchanging, (void *)i);
  while (begun != RUNNERS) sched_yield();
  for (int i = 0; i < rounds; i++) {
    CHECK(mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    CHECK(mprotect(pages + PAGE, PAGE, RW) == 0);
    if (i % 4 == 0) sched_yield();
  }
  stop = true;
  for (int i = 0; i < RUNNERS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  printf("wrong faults: %d\n", wrong_faults);
}

/* A thread reads code pages as data by system calls and copies while others translate and protections change. */
static void *copy_code(void *unused) {
  uint8_t copy[PAGE];
  long wrong = 0;
  (void)unused;
  while (!stop) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    ssize_t written = write(ends[1], pages + PAGE, PAGE);
    wrong += written != PAGE || read(ends[0], copy, PAGE) != PAGE || memcmp(copy, pages + PAGE, PAGE);
    close(ends[0]), close(ends[1]);
  }
  return (void *)wrong;
}
static void *call_second(void *unused) {
  long wrong = 0;
  (void)unused;
  for (unsigned i = 0; !stop; i++) {
    unsigned slot = PAGE / 8 + i * 61 % (PAGE / 8);
    wrong += ((Function *)(pages + slot * 8))(3) != 1003 + (int)slot;
  }
  return (void *)wrong;
}
static void copying(int rounds) {
  void *result;
  long wrong = 0;
  pages = map_pages(4, RWX);
  fill(pages);
  pthread_t copier = start(copy_code, NULL), caller = start(call_second, NULL);
  for (int i = 0; i < rounds; i++) {
    CHECK(mprotect(pages + PAGE, PAGE, i % 2 ? RX : RWX) == 0);
    sched_yield();
  }
  stop = true;
  CHECK(pthread_join(copier, &result) == 0);
  wrong += (long)result;
  CHECK(pthread_join(caller, &result) == 0);
  printf("wrong: %ld\n", wrong + (long)result);
}

static const Case cases[] = {{"unmapping", unmapping}, {"mapping-over", mapping_over}, {"protecting", protecting},
                             {"ends-as-asked", ends_as_asked}, {"at-the-end", at_the_end}, {"neighbour", neighbour},
                             {"exchanging", exchanging},
                             {"copying", copying}};
MAIN(cases)
