/*
 * Code that changes other than by a store to its own address: through another mapping of the same memory, through
 * files and descriptors, by another process; and code that was only looked at when its predecessor was translated.
 * Every change must be seen by the next call.
 * Build: static dynamic, -pthread
 */
#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "stress.h"

enum { RX = PROT_READ | PROT_EXEC, RW = PROT_READ | PROT_WRITE, RWX = PROT_READ | PROT_WRITE | PROT_EXEC };

static int stale;
static void expect(const void *code, int value) { stale += ((Function *)code)(1) != value + 1; }
static void report(void) { printf("stale: %d\n", stale); }

static int memory_file(int pages) {
  int fd = memfd_create("code", MFD_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(ftruncate(fd, (off_t)pages * PAGE) == 0);
  return fd;
}

static int disk_file(int pages) {
  char name[] = "stress-code-XXXXXX";
  int fd = mkstemp(name);
  CHECK(fd >= 0);
  unlink(name);
  CHECK(ftruncate(fd, (off_t)pages * PAGE) == 0);
  return fd;
}

static void *map_file(int fd, int pages, int protection, int flags) {
  void *at = mmap(NULL, (size_t)pages * PAGE, protection, flags, fd, 0);
  CHECK(at != MAP_FAILED);
  return at;
}

/* --- Another mapping --- */

static void segment(int rounds) {
  int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
  CHECK(id >= 0);
  uint8_t *writable = shmat(id, NULL, 0), *executable = shmat(id, NULL, SHM_EXEC | SHM_RDONLY);
  CHECK(writable != (void *)-1 && executable != (void *)-1);
  shmctl(id, IPC_RMID, NULL);
  for (int i = 0; i < rounds; i++) {
    put_adder(writable + i % 8 * 8, i);
    expect(executable + i % 8 * 8, i);
  }
  CHECK(shmdt(writable) == 0);
  writable = mremap(executable, PAGE, PAGE, 0); /* the same place: detaching the other must not lose it */
  CHECK(writable == executable);
  expect(executable + (rounds - 1) % 8 * 8, rounds - 1);
  report();
}

static void remapped(int rounds) { /* mremap with an old size of 0 doubles a shared mapping */
  uint8_t *first = mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(first != MAP_FAILED);
  uint8_t *second = mremap(first, 0, PAGE, MREMAP_MAYMOVE);
  CHECK(second != MAP_FAILED && second != first);
  for (int i = 0; i < rounds; i++) {
    put_adder(i % 2 ? first : second, i);
    expect(i % 3 ? first : second, i);
    expect(i % 3 ? second : first, i);
  }
  report();
}

static void file_twice(int rounds) {
  int fd = disk_file(2);
  uint8_t *writable = map_file(fd, 2, RW, MAP_SHARED), *executable = map_file(fd, 2, RX, MAP_SHARED);
  for (int i = 0; i < rounds; i++) {
    put_adder(writable + PAGE - 8 + i % 2 * 8, i);
    expect(executable + PAGE - 8 + i % 2 * 8, i);
  }
  report();
}

/* A private mapping shows the file's changes until it is written itself. */
static void private_of_file(int rounds) {
  int fd = memory_file(1);
  uint8_t *writable = map_file(fd, 1, RW, MAP_SHARED), *executable = map_file(fd, 1, RX, MAP_PRIVATE);
  for (int i = 0; i < rounds; i++) {
    put_adder(writable, i);
    expect(executable, i);
  }
  report();
}

/* The second mapping comes to be after the code has run. */
static void late_mapping(int rounds) {
  int fd = memory_file(1);
  uint8_t *executable = map_file(fd, 1, RX, MAP_SHARED);
  for (int i = 0; i < rounds; i++) {
    uint8_t *writable = map_file(fd, 1, RW, MAP_SHARED);
    put_adder(writable, i);
    expect(executable, i);
    put_adder(writable, i + 5);
    expect(executable, i + 5);
    munmap(writable, PAGE);
    expect(executable, i + 5);
  }
  report();
}

/* Mapped for reading first, made writable later. */
static void late_protection(int rounds) {
  int fd = memory_file(1);
  uint8_t *executable = map_file(fd, 1, RX, MAP_SHARED), *writable = map_file(fd, 1, PROT_READ, MAP_SHARED);
  for (int i = 0; i < rounds; i++) {
    mprotect(writable, PAGE, RW);
    put_adder(writable, i);
    expect(executable, i);
    mprotect(writable, PAGE, PROT_READ);
    expect(executable, i);
  }
  report();
}

/* Code that has run and is write-protected for that gets another mapping, and goes on being writable through both. */
static void written_twice(int rounds) {
  int fd = memory_file(1);
  uint8_t *first = map_file(fd, 1, RWX, MAP_SHARED);
  for (int i = 0; i < rounds; i++) {
    put_adder(first, i);
    expect(first, i);
    uint8_t *second = map_file(fd, 1, RW, MAP_SHARED);
    put_adder(first, i + 1);
    expect(first, i + 1);
    put_adder(second, i + 2);
    expect(first, i + 2);
    CHECK(pwrite(fd, first, 8, 0) == 8);
    put_adder(first, i + 3);
    expect(first, i + 3);
    munmap(second, PAGE);
  }
  report();
}

/* A file with a name, mapped through a descriptor for reading; then it is opened for writing, or was before. */
static void reopened(int rounds, bool before) {
  char name[] = "stress-code-XXXXXX";
  uint8_t word[8];
  int fd = mkstemp(name);
  CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
  if (!before) close(fd);
  int reading = open(name, O_RDONLY);
  CHECK(reading >= 0);
  uint8_t *code = map_file(reading, 1, RX, MAP_PRIVATE);
  close(reading);
  for (int i = 0; i < rounds; i++) {
    put_adder(word, i);
    if (!before) CHECK((fd = open(name, O_WRONLY)) >= 0);
    CHECK(pwrite(fd, word, 8, 0) == 8);
    if (!before) close(fd);
    expect(code, i);
  }
  unlink(name);
  report();
}
static void late_descriptor(int rounds) { reopened(rounds, false); }
static void named_file(int rounds) { reopened(rounds, true); }

/* --- Descriptors --- */

static void own_memory(int rounds) {
  int fd = open("/proc/self/mem", O_RDWR);
  CHECK(fd >= 0);
  uint8_t *writable = map_pages(1, RWX), *fixed = map_pages(1, RWX), word[8];
  put_adder(fixed, -1);
  mprotect(fixed, PAGE, RX); /* written all the same */
  for (int i = 0; i < rounds; i++) {
    put_adder(word, i);
    CHECK(pwrite(fd, word, 8, (off_t)(uintptr_t)writable) == 8);
    expect(writable, i);
    CHECK(pwrite(fd, word, 8, (off_t)(uintptr_t)fixed) == 8);
    expect(fixed, i);
    put_adder(word, i + 3);
    CHECK(lseek(fd, (off_t)(uintptr_t)fixed, SEEK_SET) == (off_t)(uintptr_t)fixed);
    CHECK(write(fd, word, 8) == 8);
    expect(fixed, i + 3);
    struct iovec part = {word, 8};
    put_adder(word, i + 4);
    CHECK(pwritev(fd, &part, 1, (off_t)(uintptr_t)fixed) == 8);
    expect(fixed, i + 4);
  }
  report();
}

/* By the path of the process' number and of its thread. */
static void memory_by_number(int rounds) {
  char path[64];
  uint8_t *code = map_pages(1, RWX), word[8];
  for (int i = 0; i < rounds; i++) {
    snprintf(path, sizeof path, i % 2 ? "/proc/%d/mem" : "/proc/self/task/%d/mem", getpid());
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    put_adder(word, i);
    CHECK(pwrite(fd, word, 8, (off_t)(uintptr_t)code) == 8);
    expect(code, i);
    close(fd);
  }
  report();
}

typedef void Put(int fd, const void *bytes, int round);

static void put_write(int fd, const void *bytes, int round) {
  (void)round;
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  CHECK(write(fd, bytes, 8) == 8);
}
static void put_pwrite(int fd, const void *bytes, int round) {
  (void)round;
  CHECK(pwrite(fd, bytes, 8, 0) == 8);
}
static void put_writev(int fd, const void *bytes, int round) {
  (void)round;
  struct iovec parts[] = {{(void *)bytes, 3}, {(uint8_t *)bytes + 3, 5}};
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  CHECK(writev(fd, parts, 2) == 8);
}
static void put_pwritev(int fd, const void *bytes, int round) {
  struct iovec parts[] = {{(void *)bytes, 3}, {(uint8_t *)bytes + 3, 5}};
  if (round % 2) CHECK(pwritev(fd, parts, 2, 0) == 8);
  else CHECK(pwritev2(fd, parts, 2, 0, 0) == 8);
}
static void put_truncate(int fd, const void *bytes, int round) {
  CHECK(ftruncate(fd, 0) == 0);
  CHECK(ftruncate(fd, 2 * PAGE) == 0);
  put_pwrite(fd, bytes, round);
}
static void put_splice(int fd, const void *bytes, int round) {
  int ends[2];
  loff_t offset = 0;
  (void)round;
  CHECK(pipe(ends) == 0);
  CHECK(write(ends[1], bytes, 8) == 8);
  CHECK(splice(ends[0], NULL, fd, &offset, 8, 0) == 8);
  close(ends[0]), close(ends[1]);
}
static int source_of(const void *bytes) {
  static int fd = -1;
  if (fd < 0) fd = disk_file(1);
  CHECK(pwrite(fd, bytes, 8, 0) == 8);
  return fd;
}
static void put_sendfile(int fd, const void *bytes, int round) {
  off_t offset = 0;
  (void)round;
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  CHECK(sendfile(fd, source_of(bytes), &offset, 8) == 8);
}
static void put_copy(int fd, const void *bytes, int round) {
  static int memory_source = -1; /* for files of memory, since it copies within one file system */
  loff_t from = 0, to = 0;
  (void)round;
  if (copy_file_range(source_of(bytes), &from, fd, &to, 8, 0) == 8) return;
  CHECK(errno == EXDEV);
  if (memory_source < 0) memory_source = memory_file(1);
  CHECK(pwrite(memory_source, bytes, 8, 0) == 8);
  CHECK(copy_file_range(memory_source, &from, fd, &to, 8, 0) == 8);
}
static void put_by_child(int fd, const void *bytes, int round) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    put_pwrite(fd, bytes, round);
    _exit(0);
  }
  expect_child(child, 0);
}
static void put_other_descriptor(int fd, const void *bytes, int round) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int other = open(path, round % 2 ? O_RDWR : O_WRONLY);
  CHECK(other >= 0);
  CHECK(write(other, bytes, 8) == 8);
  close(other);
}
static void put_duplicate(int fd, const void *bytes, int round) {
  int other = round % 2 ? dup(fd) : fcntl(fd, F_DUPFD, 100);
  put_pwrite(other, bytes, round);
  close(other);
}
static void put_hole(int fd, const void *bytes, int round) {
  CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) == 0);
  put_pwrite(fd, bytes, round);
}

/* All ways of mapping the file, each of which has run the code before. */
static void through_descriptor(Put *put, int rounds, bool on_disk) {
  int fd = on_disk ? disk_file(2) : memory_file(2);
  uint8_t *shared = map_file(fd, 2, RX, MAP_SHARED), *private = map_file(fd, 2, RX, MAP_PRIVATE);
  uint8_t *writable = map_file(fd, 2, RWX, MAP_SHARED), word[8];
  for (int i = 0; i < rounds; i++) {
    put_adder(word, i);
    put(fd, word, i);
    expect(shared, i);
    expect(private, i);
    expect(writable, i);
  }
  munmap(writable, 2 * PAGE);
  for (int i = 0; i < rounds; i++) { /* and with no writable mapping left */
    put_adder(word, i + 2);
    put(fd, word, i);
    expect(private, i + 2);
    expect(shared, i + 2);
  }
  report();
}

#define THROUGH(name) \
  static void name##_memory(int rounds) { through_descriptor(put_##name, rounds, false); } \
  static void name##_disk(int rounds) { through_descriptor(put_##name, rounds, true); }
THROUGH(write)
THROUGH(pwrite)
THROUGH(writev)
THROUGH(pwritev)
THROUGH(truncate)
THROUGH(splice)
THROUGH(sendfile)
THROUGH(copy)
THROUGH(by_child)
THROUGH(other_descriptor)
THROUGH(duplicate)
THROUGH(hole)

/* Zeros behind a shortened file: an immediate and the return become 0, though no byte was written there. */
static void cut(int rounds) {
  static const uint8_t adds[] = {0x8d, 0x87, 5, 0, 0, 0, 0x04, 1, 0x04, 2, 0xc3}; /* lea; add al, 1; add al, 2; ret */
  int fd = memory_file(1);
  uint8_t *executable = map_file(fd, 1, RX, MAP_SHARED);
  for (int i = 0; i < rounds; i++) {
    CHECK(pwrite(fd, adds, sizeof adds, 0) == sizeof adds);
    expect(executable, 8);
    CHECK(ftruncate(fd, 9) == 0);
    CHECK(ftruncate(fd, PAGE) == 0);
    CHECK(pwrite(fd, adds + 10, 1, 10) == 1);
    expect(executable, 6);
  }
  report();
}

/* pread into code, through a system call that writes memory as such. */
static void reads(int rounds) {
  int fd = disk_file(1);
  uint8_t *code = map_pages(2, RWX), word[8];
  uint8_t *across = code + PAGE - 4;
  for (int i = 0; i < rounds; i++) {
    struct iovec parts[] = {{across, 4}, {code + PAGE, 4}};
    put_adder(word, i);
    CHECK(pwrite(fd, word, 8, 0) == 8);
    CHECK(pread(fd, across, 8, 0) == 8);
    expect(across, i);
    put_adder(word, i + 1);
    CHECK(pwrite(fd, word, 8, 0) == 8);
    CHECK(preadv(fd, parts, 2, 0) == 8);
    expect(across, i + 1);
  }
  report();
}

static void vm_write(int rounds) { /* into itself */
  uint8_t *code = map_pages(1, RWX), word[8];
  for (int i = 0; i < rounds; i++) {
    struct iovec local = {word, 8}, remote = {code, 8};
    put_adder(word, i);
    CHECK(process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 8);
    expect(code, i);
  }
  report();
}

static void discard(int rounds) { /* MADV_DONTNEED brings the file's bytes back, or zeros */
  int fd = memory_file(1);
  uint8_t *code = map_file(fd, 1, RWX, MAP_PRIVATE), word[8];
  for (int i = 0; i < rounds; i++) {
    put_adder(word, i);
    CHECK(pwrite(fd, word, 8, 0) == 8);
    expect(code, i);
    put_adder(code, i + 1);
    expect(code, i + 1);
    CHECK(madvise(code, PAGE, MADV_DONTNEED) == 0);
    expect(code, i);
  }
  report();
}

/* --- Another process --- */

/* The child stores when told through a pipe and answers; the parent executes. */
static void other_process(int fd, int rounds, bool inherited) {
  int to[2], from[2];
  uint8_t *writable = inherited ? map_file(fd, 1, RW, MAP_SHARED) : NULL;
  uint8_t *executable = map_file(fd, 1, RX, MAP_SHARED);
  CHECK(pipe(to) == 0 && pipe(from) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int value;
    close(to[1]), close(from[0]);
    if (!inherited) writable = map_file(fd, 1, RW, MAP_SHARED);
    while (read(to[0], &value, 4) == 4) {
      put_adder(writable, value);
      CHECK(write(from[1], &value, 4) == 4);
    }
    _exit(0);
  }
  close(to[0]), close(from[1]);
  if (inherited) munmap(writable, PAGE);
  for (int i = 0; i < rounds; i++) {
    int answer;
    CHECK(write(to[1], &i, 4) == 4);
    CHECK(read(from[0], &answer, 4) == 4);
    expect(executable, i);
  }
  close(to[1]);
  expect_child(child, 0);
  report();
}
static void child_mapping(int rounds) { other_process(memory_file(1), rounds, false); }
static void child_inherited(int rounds) { other_process(memory_file(1), rounds, true); }
static void child_file(int rounds) { other_process(disk_file(1), rounds, false); }

static void pass_descriptor(int socket, int fd) {
  char space[CMSG_SPACE(sizeof fd)] = {0}, byte = 'f';
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  struct cmsghdr *control = CMSG_FIRSTHDR(&message);
  *control = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
  memcpy(CMSG_DATA(control), &fd, sizeof fd);
  CHECK(sendmsg(socket, &message, 0) == 1);
}

static int take_descriptor(int socket) {
  char space[CMSG_SPACE(sizeof(int))], byte;
  int fd;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  CHECK(recvmsg(socket, &message, 0) == 1);
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

/* The memory is made by the child, which keeps its writable mapping and passes the descriptor. */
static void passed(int rounds) {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int fd = memory_file(1), value;
    uint8_t *writable = map_file(fd, 1, RW, MAP_SHARED);
    close(ends[0]);
    pass_descriptor(ends[1], fd);
    close(fd);
    while (read(ends[1], &value, 4) == 4) {
      put_adder(writable, value);
      CHECK(write(ends[1], &value, 4) == 4);
    }
    _exit(0);
  }
  close(ends[1]);
  int fd = take_descriptor(ends[0]);
  uint8_t *executable = map_file(fd, 1, RX, MAP_SHARED);
  close(fd);
  for (int i = 0; i < rounds; i++) {
    int answer;
    CHECK(write(ends[0], &i, 4) == 4);
    CHECK(read(ends[0], &answer, 4) == 4);
    expect(executable, i);
  }
  close(ends[0]);
  expect_child(child, 0);
  report();
}

/* Anonymous shared memory over fork: the child stores into what its parent executes, told through the memory. */
static void inherited_anonymous(int rounds) {
  uint8_t *pages = mmap(NULL, 2 * PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED);
  volatile int *asked = (int *)(pages + PAGE), *done = asked + 16;
  put_adder(pages, 0);
  expect(pages, 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    for (int i = 1; i <= rounds; i++) {
      while (*asked != i) sched_yield();
      put_adder(pages, i);
      *done = i;
    }
    _exit(0);
  }
  for (int i = 1; i <= rounds; i++) {
    *asked = i;
    while (*done != i) sched_yield();
    serialise();
    expect(pages, i);
  }
  expect_child(child, 0);
  report();
}

/* --- Looked at, not translated --- */

/* A function that makes carry and leaves for `target`, whose first instruction decides whether that is needed:
 * first it makes its own, then it is replaced by one that asks for ours. */
static const uint8_t makes_carry[] = {0x31, 0xc0, 0x83, 0xc7, 0xff};       /* xor eax, eax; add edi, -1 */
static const uint8_t makes_own[] = {0x39, 0xff, 0x0f, 0x92, 0xc0, 0xc3};   /* cmp edi, edi; setc al; ret */
static const uint8_t asks_ours[] = {0x0f, 0x92, 0xc0, 0x90, 0x90, 0xc3};   /* setc al; nop; nop; ret */
static const uint8_t adds_ours[] = {0x83, 0xd0, 0x00, 0x90, 0x90, 0xc3};   /* adc eax, 0 … */
static const uint8_t pushes_ours[] = {0x9c, 0x58, 0x83, 0xe0, 0x01, 0xc3}; /* pushf; pop rax; and eax, 1; ret */

typedef void Leave(uint8_t *at, const uint8_t *target);

static void leave_jump(uint8_t *at, const uint8_t *target) {
  int32_t distance = (int32_t)(target - (at + 5));
  at[0] = 0xe9;
  memcpy(at + 1, &distance, 4);
}
static void leave_call(uint8_t *at, const uint8_t *target) { /* call; ret */
  leave_jump(at, target);
  at[0] = 0xe8;
  at[5] = 0xc3;
}
static void leave_branch(uint8_t *at, const uint8_t *target) { /* both ways of a branch lead there */
  int32_t distance = (int32_t)(target - (at + 6));
  at[0] = 0x0f, at[1] = 0x88; /* js */
  memcpy(at + 2, &distance, 4);
  leave_jump(at + 6, target);
}

/* The target: backwards on another page, where the region can't go on to; or forwards beyond its length. */
static void looked_at(Leave *leave, int rounds, bool backwards) {
  uint8_t *pages = map_pages(8, RWX);
  uint8_t *from = pages + 4 * PAGE + 64, *target = pages + (backwards ? 64 : 6 * PAGE + 64);
  const uint8_t *asking[] = {asks_ours, adds_ours, pushes_ours};
  memcpy(from, makes_carry, sizeof makes_carry);
  leave(from + sizeof makes_carry, target);
  for (int i = 0; i < rounds; i++) {
    memcpy(target, makes_own, sizeof makes_own);
    stale += ((Function *)from)(5) != 0;
    memcpy(target, asking[i % 3], 6);
    stale += ((Function *)from)(5) != 1; /* 5 + 0xffffffff carries */
    stale += ((Function *)from)(0) != 0;
    if (i % 4 == 3) { /* translate the first part anew, while the target needs nothing of it */
      memcpy(target, makes_own, sizeof makes_own);
      memcpy(from, makes_carry, sizeof makes_carry);
    }
  }
  report();
}

#define LOOKED(name) \
  static void name##_back(int rounds) { looked_at(leave_##name, rounds, true); } \
  static void name##_ahead(int rounds) { looked_at(leave_##name, rounds, false); }
LOOKED(jump)
LOOKED(call)
LOOKED(branch)

/* The same, where the target is replaced by a new mapping, and by a descriptor. */
static void looked_replaced(int rounds) {
  uint8_t *pages = map_pages(8, RWX);
  uint8_t *from = pages + 4 * PAGE, *target = pages;
  memcpy(from, makes_carry, sizeof makes_carry);
  leave_jump(from + sizeof makes_carry, target);
  int fd = memory_file(2);
  CHECK(pwrite(fd, makes_own, 6, 0) == 6 && pwrite(fd, asks_ours, 6, PAGE) == 6);
  for (int i = 0; i < rounds; i++) {
    CHECK(mmap(target, PAGE, RX, MAP_PRIVATE | MAP_FIXED, fd, 0) == target);
    stale += ((Function *)from)(5) != 0;
    CHECK(mmap(target, PAGE, RX, MAP_PRIVATE | MAP_FIXED, fd, PAGE) == target);
    stale += ((Function *)from)(5) != 1;
  }
  report();
}

#define BOTH(name, function) {name "-memory", function##_memory}, {name "-disk", function##_disk}
static const Case cases[] = {
    {"segment", segment}, {"remapped", remapped}, {"file-twice", file_twice}, {"private", private_of_file},
    {"late-mapping", late_mapping}, {"late-protection", late_protection}, {"own-memory", own_memory},
    {"memory-by-number", memory_by_number}, BOTH("write", write), BOTH("pwrite", pwrite), BOTH("writev", writev),
    BOTH("pwritev", pwritev), BOTH("truncate", truncate), BOTH("splice", splice), BOTH("sendfile", sendfile),
    BOTH("copy", copy), BOTH("by-child", by_child), BOTH("other-descriptor", other_descriptor),
    BOTH("duplicate", duplicate), BOTH("hole", hole), {"cut", cut}, {"reads", reads}, {"vm-write", vm_write},
    {"discard", discard}, {"child-mapping", child_mapping}, {"child-inherited", child_inherited},
    {"child-file", child_file}, {"passed", passed}, {"inherited-anonymous", inherited_anonymous},
    {"written-twice", written_twice}, {"late-descriptor", late_descriptor}, {"named-file", named_file},
    {"jump-back", jump_back}, {"jump-ahead", jump_ahead},
    {"call-back", call_back}, {"call-ahead", call_ahead}, {"branch-back", branch_back},
    {"branch-ahead", branch_ahead}, {"looked-replaced", looked_replaced}};
MAIN(cases)
