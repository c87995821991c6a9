// The translator's file that grows: what is where, and, where this machine lets us mount it, as the kernel gives it
// out. Programs that mapped it before keep what they have.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "live-file.h"
#include "live-fuse.h"

// A file without a name of `size` bytes, all `byte`.
static int filled(char byte, size_t size) {
  char path[] = "/tmp/live-test.XXXXXX", *bytes = malloc(size + 1);
  int fd = mkstemp(path);
  memset(bytes, byte, size);
  cr_assert(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
  unlink(path);
  free(bytes);
  return fd;
}

static LiveIndex index_of(const LiveFile *file) {
  LiveIndex index;
  cr_assert(live_file_read(file, &index, sizeof index, file->size - sizeof index) == sizeof index);
  cr_assert(index.magic == LIVE_MAGIC);
  return index;
}

static char byte_at(const LiveFile *file, uint64_t offset) {
  char byte = '?';
  cr_assert(live_file_read(file, &byte, 1, offset) == 1);
  return byte;
}

Test(live, file) {
  LiveFile file;
  cr_assert(live_file_begin(&file, filled('t', 5000)) == 0 && live_file_seal(&file) == 0);
  cr_expect(file.size == 8192 + LIVE_PAGE && index_of(&file).count == 1);
  cr_assert(live_file_add(&file, filled('a', 4096), 1) == 0 && live_file_add(&file, filled('b', 1), 2) == 0);
  cr_assert(live_file_seal(&file) == 0);
  LiveIndex index = index_of(&file);
  cr_assert(index.count == 3);
  cr_expect(index.stores[0].end - index.stores[0].start == 1 && byte_at(&file, index.stores[0].start) == 'b');
  cr_expect(index.stores[1].start == 8192 + LIVE_PAGE && byte_at(&file, index.stores[1].end - 1) == 'a');
  cr_expect(index.stores[2].start == 0 && index.stores[2].end == 5000);
  cr_expect(byte_at(&file, 4999) == 't' && byte_at(&file, 5000) == 0 && byte_at(&file, 8191) == 0);
  live_file_drop(&file, 1, 10);
  cr_assert(live_file_seal(&file) == 0);
  cr_expect(index_of(&file).count == 2 && file.dropped == 4096);
  cr_expect(byte_at(&file, index.stores[1].start) == 'a', "what was dropped is gone for who has it mapped");
  live_file_drop(&file, 0, 10);
  cr_expect(file.store_count == 2, "the translator itself was dropped");
  live_file_free(&file);
}

// Whatever is asked for is what one file of these bytes would give.
Test(live, reading) {
  LiveFile file;
  char whole[6 * LIVE_PAGE], part[sizeof whole];
  cr_assert(live_file_begin(&file, filled('t', 5000)) == 0 && live_file_add(&file, filled('a', 6000), 1) == 0);
  cr_assert(live_file_seal(&file) == 0 && file.size <= sizeof whole);
  cr_assert(live_file_read(&file, whole, sizeof whole, 0) == (ssize_t)file.size);
  for (uint64_t at = 0; at <= file.size; at += 997)
    for (size_t size = 1; size < sizeof part; size += 1499) {
      size_t expected = size < file.size - at ? size : (size_t)(file.size - at);
      cr_assert(live_file_read(&file, part, size, at) == (ssize_t)expected, "%zu bytes at %zu", size, (size_t)at);
      cr_assert(memcmp(part, whole + at, expected) == 0);
    }
  cr_expect(live_file_read(&file, part, 1, file.size) == 0 && live_file_read(&file, part, 1, UINT64_MAX) == 0);
  live_file_free(&file);
}

// What is let go of is what nobody has mapped by an index that names it, and no process can be about to.
Test(live, letting_go) {
  LiveFile file;
  uint64_t starts[4], ends[4];
  cr_assert(live_file_begin(&file, filled('t', 5000)) == 0 && live_file_add(&file, filled('a', 4096), 1) == 0);
  cr_assert(live_file_add(&file, filled('b', 4096), 2) == 0 && live_file_seal(&file) == 0);
  uint64_t both = file.size, a = file.stores[1].place.start;
  live_file_drop(&file, 1, 10);
  cr_assert(live_file_seal(&file) == 0);
  uint64_t b_only = file.size;
  cr_expect(live_file_unused(&file, 11, NULL, 0, starts, 4) == 1 && starts[0] == a);
  cr_expect(live_file_unused(&file, 10, NULL, 0, starts, 4) == 0, "dropped just now");
  ends[0] = b_only;
  cr_expect(live_file_unused(&file, 11, ends, 1, starts, 4) == 1, "mapped since");
  ends[1] = both;
  cr_expect(live_file_unused(&file, 11, ends, 2, starts, 4) == 0, "mapped before");
  ends[1] = a + 4096;
  cr_expect(live_file_unused(&file, 11, ends, 2, starts, 4) == 0, "mapped by itself");
  ends[1] = b_only + 4096;
  cr_expect(live_file_unused(&file, 11, ends, 2, starts, 4) == 0, "mapped beyond the end");
  ends[1] = a;
  cr_expect(live_file_unused(&file, 11, ends, 2, starts, 4) == 1, "mapped before its place");
  live_file_release(&file, file.stores[1].place.start);
  cr_expect(byte_at(&file, file.stores[1].place.start) == 'b', "what is named was let go of");
  live_file_release(&file, a);
  cr_expect(byte_at(&file, a) == 0 && file.dropped == 0 && byte_at(&file, a + 4096) == 'b');
  cr_expect(live_file_unused(&file, 11, NULL, 0, starts, 4) == 0);
  live_file_release(&file, a);
  cr_expect(file.dropped == 0);
  live_file_free(&file);
}

Test(live, full) {
  LiveFile file;
  cr_assert(live_file_begin(&file, filled('t', 100)) == 0);
  for (unsigned long i = 1; i < LIVE_STORES_MAX; i++) cr_assert(live_file_add(&file, filled('s', 10), i) == 0);
  cr_expect(live_file_add(&file, filled('s', 10), LIVE_STORES_MAX) == -ENOSPC);
  cr_expect(live_file_seal(&file) == 0 && index_of(&file).count == LIVE_STORES_MAX);
  live_file_free(&file);
}

// --- as the kernel gives it out ------------------------------------------------------------------------

static struct {
  LiveFile file;
  LiveServer *server;
  char directory[32], path[48];
  pthread_t thread;
  atomic_bool end, withheld; // withheld: hints are answered later
  atomic_int hints;
  pid_t process;
  LiveHint hint;
  uint64_t request;
} served;

static void on_hint(void *context, uint64_t request, pid_t process, const LiveHint *hint) {
  served.process = process;
  served.hint = *hint;
  served.request = request;
  atomic_fetch_add(&served.hints, 1);
  if (!served.withheld) live_server_answer(served.server, request);
}

static void *serve(void *ignored) {
  while (!served.end) {
    struct pollfd wait = {.fd = live_server_fd(served.server), .events = POLLIN};
    if (poll(&wait, 1, 50) == 1 && !live_server_run_once(served.server)) break;
  }
  return NULL;
}

// False where it cannot be mounted.
static bool begin(void) {
  strcpy(served.directory, "/tmp/live-mount.XXXXXX");
  cr_assert(mkdtemp(served.directory) != NULL);
  cr_assert(live_file_begin(&served.file, filled('t', 300000)) == 0 && live_file_seal(&served.file) == 0);
  served.server = live_server_new(served.directory, &served.file, on_hint, NULL);
  if (!served.server) return rmdir(served.directory), false;
  snprintf(served.path, sizeof served.path, "%s/" LIVE_NAME, served.directory);
  pthread_create(&served.thread, NULL, serve, NULL);
  return true;
}

static void end(void) {
  served.end = true;
  pthread_join(served.thread, NULL);
  umount2(served.directory, MNT_DETACH);
  live_server_free(served.server);
  live_file_free(&served.file);
  rmdir(served.directory);
}

static uint64_t size_of(int fd) {
  struct stat status;
  cr_assert(fstat(fd, &status) == 0);
  return (uint64_t)status.st_size;
}

Test(live, grows_under_readers) {
  if (!begin()) cr_skip_test("no FUSE here");
  int fd = open(served.path, O_RDONLY);
  cr_assert(fd >= 0);
  uint64_t before = size_of(fd);
  LiveIndex *old = mmap(NULL, LIVE_PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)(before - LIVE_PAGE)), now;
  cr_assert(old != MAP_FAILED && old->magic == LIVE_MAGIC && old->count == 1);
  char *text = mmap(NULL, 300000, PROT_READ, MAP_PRIVATE, fd, 0);
  cr_assert(text != MAP_FAILED && text[0] == 't');
  cr_assert(live_file_add(&served.file, filled('a', 9000), 1) == 0 && live_file_seal(&served.file) == 0);
  cr_expect(size_of(fd) == before, "the kernel was not told, and knows");
  live_server_grown(served.server);
  cr_assert(size_of(fd) == served.file.size && served.file.size > before);
  cr_assert(pread(fd, &now, sizeof now, (off_t)(served.file.size - sizeof now)) == sizeof now);
  cr_expect(now.magic == LIVE_MAGIC && now.count == 2 && now.stores[1].end == 300000);
  char byte = 0;
  cr_expect(pread(fd, &byte, 1, (off_t)now.stores[0].end - 1) == 1 && byte == 'a');
  cr_expect(old->count == 1 && text[299999] == 't', "what was mapped changed");
  cr_expect(open(served.path, O_RDWR) < 0, "it can be opened to be written");
  close(fd);
  end();
}

static void *withdraw(void *ignored) {
  while (!served.hints) usleep(1000);
  usleep(200000); // the ioctl() of the test is under way
  live_server_answer(served.server, served.request);
  return NULL;
}

Test(live, hints) {
  if (!begin()) cr_skip_test("no FUSE here");
  LiveHint hint = {.address = 0x7f1234567000, .file = 99};
  int fd = open(served.path, O_RDONLY);
  cr_assert(fd >= 0);
  cr_expect(ioctl(fd, LIVE_HINT, &hint) == 0, "a hint: %s", strerror(errno));
  cr_expect(served.hints == 1 && served.process == getpid() && memcmp(&served.hint, &hint, sizeof hint) == 0);
  cr_expect(ioctl(fd, _IOW('S', 0x55, LiveHint), &hint) < 0 && errno == ENOTTY);
  cr_expect(ioctl(fd, _IOW('S', 0x54, char), &hint) < 0 && errno == ENOTTY);
  served.hints = 0;
  served.withheld = true;
  pthread_t later;
  pthread_create(&later, NULL, withdraw, NULL);
  cr_expect(ioctl(fd, LIVE_HINT, &hint) == 0, "a hint that is answered late");
  pthread_join(later, NULL);
  close(fd);
  end();
}
