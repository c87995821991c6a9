/*
 * Atomic operations of every width from several threads, misaligned and across cache lines too, 16 bytes at a
 * time, and litmus tests whose forbidden outcomes would show broken ordering. (TCG hides most such breakage;
 * on real ARM hardware these bite.)
 * Build: dynamic static, -pthread -mcx16 -Wno-cast-align
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 3, ROUNDS = 5000 };
static uint8_t arena[256] __attribute__((aligned(64)));
static pthread_barrier_t start;
static __uint128_t pair __attribute__((aligned(16)));

static void *add_everywhere(void *argument) {
  long me = (long)argument + 1;
  pthread_barrier_wait(&start);
  for (int i = 0; i < ROUNDS; i++) {
    __asm__ volatile("lock addq %1, %0" : "+m"(*(uint64_t *)(arena + 0)) : "r"(me));
    __asm__ volatile("lock addl %k1, %0" : "+m"(*(uint32_t *)(arena + 9)) : "r"(me));
    __asm__ volatile("lock addw %w1, %0" : "+m"(*(uint16_t *)(arena + 17)) : "r"(me));
    __asm__ volatile("lock addb %b1, %0" : "+m"(arena[21]) : "q"(me));
    __asm__ volatile("lock addq %1, %0" : "+m"(*(uint64_t *)(arena + 60)) : "r"(me)); /* two cache lines */
    __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(arena + 80)));
    __asm__ volatile("lock xorl %k1, %0" : "+m"(*(uint32_t *)(arena + 84)) : "r"(me << i % 20));
    uint64_t old = *(volatile uint64_t *)(arena + 96);
    while (!__atomic_compare_exchange_n((uint64_t *)(arena + 96), &old, old * 3 + 1 - old * 2, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
    }
    uint32_t one = 1;
    __asm__ volatile("lock xaddl %0, %1" : "+r"(one), "+m"(*(uint32_t *)(arena + 104)));
    __uint128_t expected = pair, next;
    do next = expected + ((__uint128_t)me << 64 | 1);
    while (!__sync_bool_compare_and_swap(&pair, expected, next) && (expected = pair, 1));
  }
  return NULL;
}

static void counters(void) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&start, NULL, THREADS);
  for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, add_everywhere, (void *)i);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 112; i++) printf("%02x%s", arena[i], i % 16 == 15 ? "\n" : "");
  printf("%lx %lx\n", (uint64_t)(pair >> 64), (uint64_t)pair);
}

static volatile int spin;
static long under_lock;

static void *spinning(void *unused) {
  for (int i = 0; i < ROUNDS; i++) {
    while (__sync_lock_test_and_set(&spin, 1)) sched_yield();
    under_lock++;
    spin = 0; /* a plain store releases on x86 */
  }
  return NULL;
}

static void locks(void) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, spinning, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("under lock: %ld\n", under_lock);
}

/* Message passing with plain stores and loads: flag seen, data must be. */
static volatile long data[ROUNDS + 1], ready;

static void *send(void *unused) {
  for (long i = 1; i <= ROUNDS; i++) {
    data[i] = i * 7;
    ready = i;
  }
  return NULL;
}

static void message_passing(void) {
  pthread_t thread;
  long wrong = 0, last = 0;
  pthread_create(&thread, NULL, send, NULL);
  while (last < ROUNDS) {
    long now = ready;
    for (; last < now; last++) wrong += data[last + 1] != (last + 1) * 7;
    sched_yield();
  }
  pthread_join(thread, NULL);
  printf("message passing: %ld wrong\n", wrong);
}

/* Store buffering with a full barrier between store and load: both reading 0 is forbidden. */
static volatile int x, y, read_x, read_y;

static void *other_half(void *unused) {
  for (int i = 0; i < 1000; i++) {
    pthread_barrier_wait(&start);
    y = 1;
    __asm__ volatile("mfence" ::: "memory");
    read_x = x;
    pthread_barrier_wait(&start);
  }
  return NULL;
}

static void store_buffering(void) {
  pthread_t thread;
  int forbidden = 0;
  pthread_barrier_init(&start, NULL, 2);
  pthread_create(&thread, NULL, other_half, NULL);
  for (int i = 0; i < 1000; i++) {
    x = y = 0;
    pthread_barrier_wait(&start);
    x = 1;
    __asm__ volatile("lock orl $0, (%%rsp)" ::: "memory");
    read_y = y;
    pthread_barrier_wait(&start);
    forbidden += read_x == 0 && read_y == 0;
  }
  pthread_join(thread, NULL);
  printf("store buffering: %d forbidden\n", forbidden);
}

static sigjmp_buf out;
static uintptr_t fault_address;
static int fault_code;

static void on_fault(int signal, siginfo_t *info, void *context) {
  fault_address = (uintptr_t)info->si_addr;
  fault_code = info->si_code;
  siglongjmp(out, signal);
}

/* A misaligned access over the end of what may be accessed faults where the second part begins, and has no effect. */
static void over_the_end(uint8_t *page) {
  static const char *const names[] = {"add", "xchg", "cmpxchg", "load", "store", "cmpxchg8b"};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  for (volatile int i = 0; i < 6; i++) {
    uint64_t *at = (uint64_t *)(page + 4096 - 3);
    int signal = sigsetjmp(out, 1);
    if (!signal) {
      uint64_t value = 5;
      if (i == 0) __asm__ volatile("lock addq $7, %0" : "+m"(*at));
      if (i == 1) __asm__ volatile("xchgq %1, %0" : "+m"(*at), "+r"(value));
      if (i == 2) __asm__ volatile("lock cmpxchgq %1, %0" : "+m"(*at) : "r"(value), "a"(page[4093]));
      if (i == 3) value = *(volatile uint64_t *)at;
      if (i == 4) *(volatile uint64_t *)at = value;
      if (i == 5) __asm__ volatile("lock cmpxchg8b %0" : "+m"(*at) : : "rax", "rdx", "cc", "memory");
    }
    printf("%s over the end: signal %d code %d, address %+ld, bytes %x %x %x\n", names[i], signal, fault_code,
           (long)(fault_address - (uintptr_t)page), page[4093], page[4094], page[4095]);
  }
}

/* The counter shares its page with the code that is run. */
static void beside_code(uint8_t *page) {
  static const uint8_t increment[] = {0xf0, 0x48, 0xff, 0x05, 0xf5, 0, 0, 0, 0xc3}; /* lock incq 0xf5(%rip); ret */
  memcpy(page + 256, increment, sizeof increment);
  for (int i = 0; i < 5; i++) ((void (*)(void))(page + 256))();
  printf("beside code: %lx\n", *(uint64_t *)(page + 256 + 8 + 0xf5));
}

static void misaligned_pair(uint8_t *page) {
  fault_address = 0;
  int signal = sigsetjmp(out, 1);
  if (!signal)
    __asm__ volatile("lock cmpxchg16b %0" : "+m"(*(__uint128_t *)(page + 8)) : : "rax", "rdx", "cc", "memory");
  printf("misaligned pair: signal %d, address %lx\n", signal, (long)fault_address);
}

static void misaligned(void) {
  uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(pages + 4096, 4096, PROT_NONE);
  beside_code(pages);
  over_the_end(pages);
  misaligned_pair(pages);
  int file = memfd_create("short", 0);
  uint8_t *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (ftruncate(file, 4096) == 0) over_the_end(mapped);
}

int main(void) {
  counters();
  locks();
  message_passing();
  store_buffering();
  misaligned();
  return 0;
}
