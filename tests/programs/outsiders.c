/*
 * Code that another process writes, through /proc/PID/mem or process_vm_writev(): in memory that the program may write,
 * in what it only executes, beside its own data, while a thread of it executes the code all the time, while it is
 * stopped, and in memory that both share. Who is written to notices nothing else: no call of it is cut short, no
 * execve() fails.
 * Build: static dynamic, -pthread
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "limits.h"

enum { PAGE = 4096, ROUNDS = 20, PATIENCE = 20 };

typedef int Function(void);

static struct { volatile int seen, stop; } * shared;
static uint8_t *code, *text; /* may be written; may not */
static int commands[2], answers[2];
static pid_t child;

static void fail(const char *what) {
  printf("%s: errno %d\n", what, errno);
  exit(1);
}

/* mov $value, %eax; ret */
static void make_constant(uint8_t at[6], int32_t value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, sizeof value);
  at[5] = 0xc3;
}

static int call(const uint8_t *at) {
  return ((Function *)(uintptr_t)at)();
}

static void make_code(void) {
  code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  text = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED || text == MAP_FAILED) fail("mmap");
  make_constant(code, -1);
  make_constant(text, -1);
  mprotect(text, PAGE, PROT_READ | PROT_EXEC);
}

/* --- Who is written to ---------------------------------------------------------------------------------- */

static void *spin(void *argument) {
  while (!shared->stop) shared->seen = call(code);
  return argument;
}

/* All signals are blocked, and whichever comes is fetched: none does. */
static int fetch_any(void) {
  const struct timespec time = {0, 300000000};
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  int fetched = sigtimedwait(&all, NULL, &time);
  if (fetched < 0) fetched = -errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return fetched < 0 && fetched != -EAGAIN ? fetched : fetched > 0 ? -1000 - fetched : call(text);
}

static void serve(void) {
  char command;
  int value = 0;
  pthread_t spinner;
  for (ssize_t got; (got = read(commands[0], &command, 1)) != 0;) {
    if (got < 0)
      value = -errno;
    else if (command == 'c')
      value = call(code);
    else if (command == 't')
      value = call(text);
    else if (command == 'd')
      value = ++code[PAGE - 1] > 0 ? call(code) : 0; /* data beside it */
    else if (command == 's')
      value = pthread_create(&spinner, NULL, spin, NULL);
    else if (command == 'f')
      value = fetch_any();
    else if (command == 'w') { /* waits for longer than it takes to be written to */
      struct timespec time = {0, 300000000}, rest = {0, 0};
      value = nanosleep(&time, &rest) ? -errno : call(text);
    }
    if (write(answers[1], &value, sizeof value) != sizeof value) break;
  }
  _exit(0);
}

static void begin(void) {
  if (pipe(commands) || pipe(answers)) fail("pipe");
  make_code();
  call(code), call(text);
  child = fork();
  if (child < 0) fail("fork");
  if (child) return;
  close(commands[1]);
  alarm(5 * PATIENCE);
  serve();
}

static void end(void) {
  int status;
  close(commands[1]), close(commands[0]), close(answers[0]), close(answers[1]);
  if (waitpid(child, &status, 0) != child) fail("waitpid");
  printf("ended with %x\n", status);
}

static void send_command(char command) {
  if (write(commands[1], &command, 1) != 1) fail("write");
}

static int answer(void) {
  int value;
  if (read(answers[0], &value, sizeof value) != sizeof value) fail("read");
  return value;
}

static int ask(char command) {
  send_command(command);
  return answer();
}

/* --- Who writes ------------------------------------------------------------------------------------------- */

static int memory;

static void open_memory(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
  memory = open(path, O_RDWR | O_CLOEXEC);
  if (memory < 0) fail("open");
}

typedef void Poke(uint8_t *at, int value);

static void poke_file(uint8_t *at, int value) {
  uint8_t bytes[6];
  make_constant(bytes, value);
  if (pwrite(memory, bytes, sizeof bytes, (off_t)(uintptr_t)at) != sizeof bytes) fail("pwrite");
}

static void poke_call(uint8_t *at, int value) {
  uint8_t bytes[6];
  struct iovec local = {bytes, sizeof bytes}, remote = {at, sizeof bytes};
  make_constant(bytes, value);
  if (process_vm_writev(child, &local, 1, &remote, 1, 0) != sizeof bytes) fail("process_vm_writev");
}

static void rounds(Poke *poke, uint8_t *at, char command) {
  int wrong = ask(command) != -1;
  for (int i = 1; i <= ROUNDS; i++) {
    poke(at, i);
    wrong += ask(command) != i;
    wrong += ask(command) != i;
  }
  printf("'%c': %d wrong\n", command, wrong);
}

/* A thread that executes it all the time without a call. */
static void spinning(Poke *poke) {
  int wrong = ask('s') != 0;
  for (int i = 1; i <= ROUNDS; i++) {
    poke(code, i);
    time_t until = time(NULL) + PATIENCE;
    while (shared->seen != i && time(NULL) < until) sched_yield();
    wrong += shared->seen != i;
  }
  shared->stop = 1;
  printf("spinning: %d wrong\n", wrong);
}

static void stopped(Poke *poke, uint8_t *at, char command) {
  int status, wrong = ask(command) != -1;
  for (int i = 1; i <= 3; i++) {
    kill(child, SIGSTOP);
    if (waitpid(child, &status, WUNTRACED) != child) fail("waitpid");
    poke(at, i);
    kill(child, SIGCONT);
    wrong += ask(command) != i;
  }
  printf("stopped: %d wrong\n", wrong);
}

static void waiting(Poke *poke, char command) {
  send_command(command);
  const struct timespec moment = {0, 50000000};
  nanosleep(&moment, NULL);
  open_memory(child);
  poke(text, 5);
  printf("waiting: %d\n", answer());
}

static void by_file(void) {
  begin(), open_memory(child);
  rounds(poke_file, code, 'c');
  close(memory), end();
  begin(), open_memory(child);
  rounds(poke_file, text, 't');
  rounds(poke_file, code, 'd');
  close(memory), end();
  begin(), open_memory(child);
  call(code);
  spinning(poke_file);
  close(memory), end();
  begin(), open_memory(child);
  stopped(poke_file, text, 't');
  close(memory), end();
  begin();
  ask('t');
  waiting(poke_file, 'w');
  close(memory), end();
  if (under_qemu_user()) return; /* it ends itself when such a signal comes while it is blocked */
  begin();
  ask('t');
  waiting(poke_file, 'f');
  close(memory), end();
}

static void by_call(void) {
  begin();
  rounds(poke_call, code, 'c');
  end();
  begin();
  rounds(poke_call, code, 'd');
  end();
  begin();
  spinning(poke_call);
  end();
  begin();
  uint8_t byte = 1;
  struct iovec local = {&byte, 1}, remote = {text, 1};
  printf("what it may not write: %zd", process_vm_writev(child, &local, 1, &remote, 1, 0));
  printf(" errno %d\n", errno);
  end();
}

/* The same memory under another number: a child that has not executed yet. */
static void from_vfork_child(void) {
  make_code();
  child = getpid();
  for (int i = 1; i <= 3; i++) {
    int before = call(code) + call(text), status;
    pid_t other = vfork();
    if (other == 0) {
      poke_call(code, i);
      open_memory(child);
      poke_file(text, 100 + i);
      close(memory);
      _exit(0);
    }
    waitpid(other, &status, 0);
    printf("from a child: %d, %d and %d\n", before, call(code), call(text));
  }
}

/* A descriptor of its own from before a fork, through which the child writes to its parent. */
static void inherited_descriptor(void) {
  int status;
  make_code();
  open_memory(getpid());
  for (int i = 1; i <= 3; i++) {
    int before = call(code) + call(text);
    pid_t writer = fork();
    if (writer == 0) {
      poke_file(code, i);
      poke_file(text, 100 + i);
      _exit(0);
    }
    waitpid(writer, &status, 0);
    printf("inherited: %d, %d and %d\n", before, call(code), call(text));
  }
  close(memory);
}

/* Written to while it executes programs. */
static void executing(const char *self) {
  enum { EXECUTIONS = 10 };
  int status = 0;
  pid_t target = fork();
  if (target == 0) {
    char number[16];
    snprintf(number, sizeof number, "%d", EXECUTIONS);
    execl(self, self, number, NULL);
    _exit(127);
  }
  child = target;
  while (waitpid(target, &status, WNOHANG) == 0) {
    char path[64], byte = 0;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)target);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && pwrite(fd, &byte, 1, 16) == 1) printf("written to page 0?\n");
    if (fd >= 0) close(fd);
    struct iovec local = {&byte, 1}, remote = {(void *)16, 1};
    if (process_vm_writev(target, &local, 1, &remote, 1, 0) == 1) printf("written to page 0?\n");
  }
  printf("executing: status %x\n", status);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (argc > 1) {
    char number[16];
    int left = atoi(argv[1]) - 1;
    snprintf(number, sizeof number, "%d", left);
    if (left > 0) execl("/proc/self/exe", argv[0], number, NULL);
    return left ? 1 : 42;
  }
  shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail("mmap");
  by_file();
  shared->stop = 0;
  inherited_descriptor();
  executing("/proc/self/exe");
  if (under_qemu_user()) return 0;
  by_call();
  from_vfork_child();
  return 0;
}
