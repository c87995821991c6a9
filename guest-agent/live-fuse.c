// See live-fuse.h. Opening asks nobody (ENOSYS to OPEN: fuse(4) "no_open"), names and sizes are the kernel's to keep
// until it is told of a change, and pages stay as they are (FUSE_EXPLICIT_INVAL_DATA): a program's start costs no
// request but for the pages that no other has wanted yet.
#include "live-fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
  TRANSLATOR_NODE = FUSE_ROOT_ID + 1,
  READ_MAX = 1 << 20, // bytes of a request
  PAGES_MAX = READ_MAX / LIVE_PAGE,
  REQUEST_MAX = FUSE_MIN_READ_BUFFER + LIVE_PAGE, // as large as the kernel asks for with our max_write
};
#define FOR_EVER UINT64_C(1000000000) // seconds

struct LiveServer {
  int fd;
  LiveFile *file;
  LiveHintHandler on_hint;
  void *context;
  struct stat status; // of the translator's file
  time_t made;        // the file's time
  union {
    struct fuse_in_header header;
    char bytes[REQUEST_MAX];
  } request;
  char data[READ_MAX];
};

static void send_reply(LiveServer *s, uint64_t unique, int error, const void *data, size_t size) {
  struct fuse_out_header header = {.len = (uint32_t)(sizeof header + size), .error = error, .unique = unique};
  struct iovec parts[] = {{&header, sizeof header}, {(void *)data, size}};
  ssize_t ignored = writev(s->fd, parts, size ? 2 : 1); // ENOENT: who asked was killed
  (void)ignored;
}

static void refuse(LiveServer *s, int error) {
  send_reply(s, s->request.header.unique, error, NULL, 0);
}

static void reply(LiveServer *s, const void *data, size_t size) {
  send_reply(s, s->request.header.unique, 0, data, size);
}

static struct fuse_attr attributes_of(const LiveServer *s, uint64_t node) {
  struct fuse_attr attributes = {.ino = node, .nlink = 1, .blksize = LIVE_PAGE};
  attributes.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0755;
  attributes.size = node == FUSE_ROOT_ID ? 0 : s->file->size;
  attributes.blocks = attributes.size / 512;
  attributes.mtime = attributes.ctime = attributes.atime = (uint64_t)s->made;
  return attributes;
}

static void on_init(LiveServer *s, const struct fuse_init_in *in) {
  struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                              .minor = 31,
                              .max_readahead = in->max_readahead,
                              .max_write = LIVE_PAGE,
                              .time_gran = 1000000000,
                              .max_pages = PAGES_MAX,
                              .max_background = 64,
                              .congestion_threshold = 48};
  out.flags = in->flags &
              (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA | FUSE_PARALLEL_DIROPS);
  reply(s, &out, sizeof out);
}

static void on_lookup(LiveServer *s, const char *name) {
  if (s->request.header.nodeid != FUSE_ROOT_ID || strcmp(name, LIVE_NAME) != 0) return refuse(s, -ENOENT);
  struct fuse_entry_out out = {.nodeid = TRANSLATOR_NODE, .entry_valid = FOR_EVER, .attr_valid = FOR_EVER};
  out.attr = attributes_of(s, TRANSLATOR_NODE);
  reply(s, &out, sizeof out);
}

static void on_attributes(LiveServer *s) {
  struct fuse_attr_out out = {.attr_valid = FOR_EVER, .attr = attributes_of(s, s->request.header.nodeid)};
  reply(s, &out, sizeof out);
}

static void on_read(LiveServer *s, const struct fuse_read_in *in) {
  size_t size = in->size < READ_MAX ? in->size : READ_MAX;
  ssize_t got =
      s->request.header.nodeid == TRANSLATOR_NODE ? live_file_read(s->file, s->data, size, in->offset) : -EISDIR;
  if (got < 0)
    refuse(s, (int)got);
  else
    reply(s, s->data, (size_t)got);
}

static void on_ioctl(LiveServer *s, const struct fuse_ioctl_in *in, size_t size) {
  LiveHint hint;
  if (in->cmd != LIVE_HINT || in->in_size != sizeof hint || size < sizeof *in + sizeof hint ||
      s->request.header.nodeid != TRANSLATOR_NODE)
    return refuse(s, -ENOTTY);
  memcpy(&hint, in + 1, sizeof hint);
  s->on_hint(s->context, s->request.header.unique, (pid_t)s->request.header.pid, &hint);
}

static void on_statfs(LiveServer *s) {
  struct fuse_statfs_out out = {.st = {.bsize = LIVE_PAGE, .frsize = LIVE_PAGE, .namelen = NAME_MAX, .files = 1}};
  out.st.blocks = s->file->size / LIVE_PAGE;
  reply(s, &out, sizeof out);
}

// `size` bytes, of which the header was read; what the kernel sends is of the lengths it says.
static void serve(LiveServer *s, size_t size) {
  void *in = &s->request.header + 1;
  switch (s->request.header.opcode) {
  case FUSE_INIT:
    return on_init(s, in);
  case FUSE_LOOKUP:
    return on_lookup(s, in);
  case FUSE_GETATTR:
    return on_attributes(s);
  case FUSE_READ:
    return on_read(s, in);
  case FUSE_IOCTL:
    return on_ioctl(s, in, size - sizeof s->request.header);
  case FUSE_STATFS:
    return on_statfs(s);
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
  case FUSE_INTERRUPT:
    return; // without an answer
  default:
    return refuse(s, -ENOSYS);
  }
}

bool live_server_run_once(LiveServer *s) {
  ssize_t got = read(s->fd, &s->request, sizeof s->request);
  if (got >= (ssize_t)sizeof s->request.header) serve(s, (size_t)got);
  return got >= 0 || errno != ENODEV;
}

void live_server_answer(LiveServer *s, uint64_t request) {
  struct fuse_ioctl_out out = {0};
  send_reply(s, request, 0, &out, sizeof out);
}

void live_server_grown(LiveServer *s) {
  struct {
    struct fuse_out_header header;
    struct fuse_notify_inval_inode_out inode;
  } note = {.header = {.len = sizeof note, .error = FUSE_NOTIFY_INVAL_INODE},
            .inode = {.ino = TRANSLATOR_NODE, .off = -1}}; // no page of it
  ssize_t ignored = write(s->fd, &note, sizeof note);      // ENOENT: the kernel doesn't know it yet
  (void)ignored;
}

int live_server_fd(const LiveServer *s) {
  return s->fd;
}

LiveServer *live_server_new(const char *directory, LiveFile *file, LiveHintHandler on_hint, void *context) {
  char options[128];
  LiveServer *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->file = file;
  s->on_hint = on_hint;
  s->context = context;
  s->made = time(NULL);
  s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", s->fd);
  if (s->fd >= 0 && mount("stele", directory, "fuse.stele", MS_RDONLY | MS_NODEV, options) == 0) return s;
  int error = errno;
  live_server_free(s);
  errno = error;
  return NULL;
}

void live_server_free(LiveServer *s) {
  if (s->fd >= 0) close(s->fd);
  free(s);
}
