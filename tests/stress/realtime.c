/*
 * Threads that never give the processor away, and faults that another thread has to serve: nothing in the translator
 * may wait by yielding, or touch the program's memory while it holds what the server needs.
 * Build: static dynamic, -pthread
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "stress.h"

DEFINE_IMAGE_FUNCTIONS;

static void *translate(void *argument) {
  long wrong = 0;
  for (int i = 0; i < (int)(long)argument; i++) wrong += IMAGE_FUNCTION(i)(1) != i + 1;
  return (void *)wrong;
}

static void on_one_processor(void) {
  cpu_set_t set;
  CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
  int first = 0;
  while (!CPU_ISSET(first, &set)) first++;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static pthread_t start_fifo(void *(*function)(void *), void *argument, int priority) {
  pthread_attr_t attributes;
  pthread_t thread;
  struct sched_param parameters = {.sched_priority = priority};
  pthread_attr_init(&attributes);
  pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
  pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
  pthread_attr_setschedparam(&attributes, &parameters);
  int failed = pthread_create(&thread, &attributes, function, argument);
  NEEDS(failed != EPERM);
  CHECK(failed == 0);
  return thread;
}

/* Two at high priority and an ordinary one, on one processor, all translating the same code. */
static void fifo(int rounds) {
  void *result;
  long wrong = 0;
  on_one_processor();
  pthread_t ordinary = start(translate, (void *)(long)rounds);
  pthread_t high = start_fifo(translate, (void *)(long)rounds, 10);
  pthread_t higher = start_fifo(translate, (void *)(long)rounds, 20);
  pthread_t all[] = {ordinary, high, higher};
  for (int i = 0; i < 3; i++) {
    CHECK(pthread_join(all[i], &result) == 0);
    wrong += (long)result;
  }
  printf("wrong: %ld\n", wrong);
}

/* Code changed by the high one in a page where the ordinary one stands. */
static uint8_t *code;
static volatile bool stop;
static void *call_changed(void *unused) {
  long wrong = 0;
  (void)unused;
  while (!stop) {
    int value = ((Function *)code)(0);
    wrong += value < 0 || value > 1000000;
  }
  return (void *)wrong;
}
static void *change(void *argument) {
  long wrong = 0;
  for (int i = 0; i < (int)(long)argument; i++) {
    store_adder(code, i);
    wrong += ((Function *)code)(0) != i;
    if (i % 8 == 0) usleep(100);
  }
  return (void *)wrong;
}
static void fifo_changes(int rounds) {
  void *result, *other;
  on_one_processor();
  code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  put_adder(code, 0);
  pthread_t ordinary = start(call_changed, NULL), high = start_fifo(change, (void *)(long)rounds, 10);
  CHECK(pthread_join(high, &result) == 0);
  stop = true;
  CHECK(pthread_join(ordinary, &other) == 0);
  printf("wrong: %ld\n", (long)result + (long)other);
}

/* --- Faults served by another thread --- */

static int user_faults;
static volatile int served;

/* Serves each missing page with functions, after having translated some code itself and mapped memory. */
static void *serve(void *argument) {
  uint8_t *source = map_pages(1, PROT_READ | PROT_WRITE);
  long count = (long)argument, wrong = 0;
  for (int i = 0; i < PAGE / 8; i++) put_adder(source + i * 8, i);
  for (long done = 0; done < count; done++) {
    struct uffd_msg message;
    struct pollfd wait = {user_faults, POLLIN, 0};
    CHECK(poll(&wait, 1, -1) == 1);
    CHECK(read(user_faults, &message, sizeof message) == sizeof message);
    CHECK(message.event == UFFD_EVENT_PAGEFAULT);
    for (int i = 0; i < 20; i++) {
      int index = (int)((done * 20 + i) % IMAGE_FUNCTIONS);
      wrong += IMAGE_FUNCTION(index)(1) != index + 1;
    }
    munmap(map_pages(1, PROT_READ), PAGE);
    served++;
    struct uffdio_copy copy = {.dst = message.arg.pagefault.address & ~(uint64_t)(PAGE - 1), .src = (uint64_t)source,
                               .len = PAGE};
    CHECK(ioctl(user_faults, UFFDIO_COPY, &copy) == 0);
  }
  munmap(source, PAGE);
  return (void *)wrong;
}

static uint8_t *register_missing(int count) {
  struct uffdio_api api = {.api = UFFD_API};
  user_faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  NEEDS(user_faults >= 0);
  CHECK(ioctl(user_faults, UFFDIO_API, &api) == 0);
  uint8_t *missing = map_pages(count, PROT_READ | PROT_WRITE | PROT_EXEC);
  struct uffdio_register range = {.range = {(uint64_t)missing, (uint64_t)count * PAGE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
  CHECK(ioctl(user_faults, UFFDIO_REGISTER, &range) == 0);
  return missing;
}

/* Data that the code reads. */
static void served_data(int rounds) {
  uint8_t *missing = register_missing(rounds);
  void *result;
  long wrong = 0;
  pthread_t server = start(serve, (void *)(long)rounds);
  for (int i = 0; i < rounds; i++) wrong += missing[i * PAGE + 16] != 0x8d;
  CHECK(pthread_join(server, &result) == 0);
  printf("wrong: %ld, served: %d\n", wrong + (long)result, served);
}

/* Code that is translated: reading it faults in the translator. */
static void served_code(int rounds) {
  uint8_t *missing = register_missing(rounds);
  void *result;
  long wrong = 0;
  pthread_t server = start(serve, (void *)(long)rounds);
  for (int i = 0; i < rounds; i++) wrong += ((Function *)(missing + i * PAGE + 64))(5) != 13;
  CHECK(pthread_join(server, &result) == 0);
  printf("wrong: %ld, served: %d\n", wrong + (long)result, served);
}

static const Case cases[] = {{"fifo", fifo}, {"fifo-changes", fifo_changes}, {"served-data", served_data},
                             {"served-code", served_code}};
MAIN(cases)
