/* STELE_STRACE: one line a system call, with names, strings shown and results, in strace's manner. Lines
 * are written in one piece, so threads and processes that share the log do not mix theirs. */
#include <linux/fcntl.h>

#include "base/print.h"
#include "linux/linux.h"

enum { LOG_DESCRIPTOR = 1000, SHOWN = 48, LINE = 2048 };

int linux_strace_fd = -1;

void linux_strace_init(const char *setting) {
  if (!setting || !*setting || !strcmp(setting, "0")) return;
  int64_t fd = !strcmp(setting, "1") ? host_call(__NR_fcntl, 2, F_DUPFD_CLOEXEC, LOG_DESCRIPTOR)
                                     : host_call(__NR_openat, AT_FDCWD, setting,
                                                 O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    base_print(2, "stele: STELE_STRACE: cannot write to %s (error %d)\n", setting, (int)-fd);
    return;
  }
  int64_t high = host_call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, LOG_DESCRIPTOR); /* out of the guest's way */
  if (high >= 0) host_call(__NR_close, fd);
  linux_strace_fd = (int)(high >= 0 ? high : fd);
}

typedef struct Name {
  uint64_t value;
  const char *name;
} Name;

static const Name open_names[] = {{01, "WRONLY"},        {02, "RDWR"},         {0100, "CREAT"},
                                  {0200, "EXCL"},        {0400, "NOCTTY"},     {01000, "TRUNC"},
                                  {02000, "APPEND"},     {04000, "NONBLOCK"},  {040000, "DIRECT"},
                                  {0100000, "LARGEFILE"}, {0200000, "DIRECTORY"}, {0400000, "NOFOLLOW"},
                                  {02000000, "CLOEXEC"}, {010000000, "PATH"},  {0, NULL}};
static const Name protection_names[] = {{1, "READ"}, {2, "WRITE"}, {4, "EXEC"}, {0, NULL}};
static const Name map_names[] = {{1, "SHARED"},      {2, "PRIVATE"},     {0x10, "FIXED"},     {0x20, "ANONYMOUS"},
                                 {0x40, "32BIT"},    {0x100, "GROWSDOWN"}, {0x800, "DENYWRITE"}, {0x4000, "NORESERVE"},
                                 {0x8000, "POPULATE"}, {0x20000, "STACK"}, {0x40000, "HUGETLB"},
                                 {0x100000, "FIXED_NOREPLACE"},
                                 {0, NULL}};
static const Name clone_names[] = {{0x100, "VM"},          {0x200, "FS"},          {0x400, "FILES"},
                                   {0x800, "SIGHAND"},     {0x1000, "PIDFD"},      {0x4000, "VFORK"},
                                   {0x8000, "PARENT"},     {0x10000, "THREAD"},    {0x20000, "NEWNS"},
                                   {0x40000, "SYSVSEM"},   {0x80000, "SETTLS"},    {0x100000, "PARENT_SETTID"},
                                   {0x200000, "CHILD_CLEARTID"}, {0x1000000, "CHILD_SETTID"},
                                   {0x2000000, "NEWCGROUP"}, {0x4000000, "NEWUTS"}, {0x8000000, "NEWIPC"},
                                   {0x10000000, "NEWUSER"}, {0x20000000, "NEWPID"}, {0x40000000, "NEWNET"},
                                   {0, NULL}};

static void put_names(BaseText *line, const Name *names, uint64_t value, const char *zero) {
  bool any = false;
  for (; names->name; names++) {
    if (!(value & names->value)) continue;
    base_text_printf(line, "%s%s", any ? "|" : "", names->name);
    value &= ~names->value;
    any = true;
  }
  if (value || !any) base_text_printf(line, value ? "%s0x%lx" : "%s", any ? "|" : any || value ? "" : zero, value);
}

static const char *const signal_names[] = {
    "0",     "HUP",  "INT",    "QUIT", "ILL",  "TRAP", "ABRT", "BUS",  "FPE",  "KILL",   "USR1",
    "SEGV",  "USR2", "PIPE",   "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN",
    "TTOU",  "URG",  "XCPU",   "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",  "SYS"};

static void put_signal(BaseText *line, uint64_t signal) {
  if (signal < sizeof signal_names / sizeof *signal_names)
    base_text_printf(line, signal ? "SIG%s" : "%s", signal_names[signal]);
  else base_text_printf(line, "SIGRT_%lu", signal - 32);
}

static void put_bytes(BaseText *line, const char *bytes, size_t length, bool cut) {
  base_text_printf(line, "\"");
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c == '\n') base_text_printf(line, "\\n");
    else if (c == '"' || c == '\\') base_text_printf(line, "\\%c", c);
    else if (c < 32 || c > 126) base_text_printf(line, "\\x%02x", c);
    else base_text_printf(line, "%c", c);
  }
  base_text_printf(line, cut ? "\"..." : "\"");
}

static void put_string(BaseText *line, uint64_t address) {
  char text[LINUX_PATH_MAX];
  int length = linux_copy_string(text, address, sizeof text);
  if (length < 0) base_text_printf(line, address ? "0x%lx" : "NULL", address);
  else put_bytes(line, text, (size_t)length, false);
}

static void put_data(BaseText *line, uint64_t address, uint64_t length) {
  char bytes[SHOWN];
  size_t shown = length < SHOWN ? length : SHOWN;
  if (linux_copy_in(bytes, address, shown)) base_text_printf(line, "0x%lx", address);
  else put_bytes(line, bytes, shown, shown < length);
}

static void put_vector(BaseText *line, uint64_t address) {
  uint64_t item = 0;
  base_text_printf(line, "[");
  for (int i = 0; i < 32 && address; i++, address += sizeof item) {
    if (linux_copy_in(&item, address, sizeof item) || !item) break;
    if (i) base_text_printf(line, ", ");
    put_string(line, item);
  }
  base_text_printf(line, "]");
}

static void put_argument(BaseText *line, char kind, const uint64_t *argument) {
  switch (kind) {
  case 'd':
  case 'f': base_text_printf(line, "%d", (int)*argument); break;
  case 'a': base_text_printf(line, (int)*argument == AT_FDCWD ? "AT_FDCWD" : "%d", (int)*argument); break;
  case 'u': base_text_printf(line, "%lu", *argument); break;
  case 'o': base_text_printf(line, "0%lo", *argument); break;
  case 's': put_string(line, *argument); break;
  case 'w': put_data(line, argument[0], argument[1]); break;
  case 'v': put_vector(line, *argument); break;
  case 'O': put_names(line, open_names, *argument & 0xffffffff, "RDONLY"); break;
  case 'P': put_names(line, protection_names, *argument, "NONE"); break;
  case 'M': put_names(line, map_names, *argument, "0"); break;
  case 'C':
    put_names(line, clone_names, *argument & ~UINT64_C(0xff), "0");
    base_text_printf(line, "|");
    put_signal(line, *argument & 0xff);
    break;
  case 'S': put_signal(line, *argument); break;
  default: base_text_printf(line, *argument ? "0x%lx" : "0", *argument); break;
  }
}

static void put_call(BaseText *line, LinuxThread *thread, unsigned number, const uint64_t argument[6]) {
  const char *arguments = "xxxxxx", *name = linux_syscall_name(number, &arguments);
  base_text_printf(line, "%d ", thread->tid);
  if (name) base_text_printf(line, "%s(", name);
  else base_text_printf(line, "syscall_%u(", number);
  for (int i = 0; i < 6 && arguments[i]; i++) {
    if (i) base_text_printf(line, ", ");
    put_argument(line, arguments[i], &argument[i]);
  }
  base_text_printf(line, ")");
}

static void write_line(BaseText *line, char *data) {
  size_t length = line->length < LINE - 1 ? line->length : LINE - 2;
  data[length++] = '\n';
  host_call(__NR_write, linux_strace_fd, data, length);
}

/* Calls that may not come back, or replace what they were given, are shown before they are made. */
static bool shown_first(unsigned number) {
  return number == 59 || number == 322 || number == 60 || number == 231 || number == 15;
}

void linux_strace_enter(LinuxThread *thread, unsigned number, const uint64_t argument[6]) {
  char data[LINE];
  if (!shown_first(number)) return;
  BaseText line = base_text(data, sizeof data);
  put_call(&line, thread, number, argument);
  write_line(&line, data);
}

static const struct {
  int number;
  const char *name;
} errors[] = {{1, "EPERM"},    {2, "ENOENT"},  {3, "ESRCH"},   {4, "EINTR"},   {5, "EIO"},      {6, "ENXIO"},
              {7, "E2BIG"},    {8, "ENOEXEC"}, {9, "EBADF"},   {10, "ECHILD"}, {11, "EAGAIN"},  {12, "ENOMEM"},
              {13, "EACCES"},  {14, "EFAULT"}, {16, "EBUSY"},  {17, "EEXIST"}, {18, "EXDEV"},   {19, "ENODEV"},
              {20, "ENOTDIR"}, {21, "EISDIR"}, {22, "EINVAL"}, {24, "EMFILE"}, {25, "ENOTTY"},  {27, "EFBIG"},
              {28, "ENOSPC"},  {29, "ESPIPE"}, {30, "EROFS"},  {32, "EPIPE"},  {34, "ERANGE"},  {36, "ENAMETOOLONG"},
              {38, "ENOSYS"},  {39, "ENOTEMPTY"}, {40, "ELOOP"}, {61, "ENODATA"}, {95, "EOPNOTSUPP"},
              {110, "ETIMEDOUT"}, {111, "ECONNREFUSED"}, {115, "EINPROGRESS"}};

static void put_result(BaseText *line, int64_t result) {
  if (result == LINUX_RESTART) {
    base_text_printf(line, " = ? (a signal comes first)");
  } else if (result >= -4095 && result < 0) {
    base_text_printf(line, " = -1 error %d", (int)-result);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
      if (errors[i].number == -result) base_text_printf(line, " (%s)", errors[i].name);
  } else if (result == LINUX_STATE_SET) {
    base_text_printf(line, " = ?");
  } else {
    base_text_printf(line, (uint64_t)result >= 1000000 ? " = 0x%lx" : " = %ld", result);
  }
}

void linux_strace_leave(LinuxThread *thread, unsigned number, const uint64_t argument[6], int64_t result) {
  char data[LINE];
  BaseText line = base_text(data, sizeof data);
  if (shown_first(number) && (result == LINUX_STATE_SET || result == LINUX_RESTART)) return;
  put_call(&line, thread, number, argument);
  put_result(&line, result);
  write_line(&line, data);
}

void linux_strace_signal(LinuxThread *thread, const LinuxSiginfo *info) {
  char data[LINE];
  BaseText line = base_text(data, sizeof data);
  base_text_printf(&line, "%d --- ", thread->tid);
  put_signal(&line, (uint64_t)info->signal);
  base_text_printf(&line, " code %d, value 0x%lx, rip 0x%lx ---", info->code, info->field[0], thread->cpu->rip);
  write_line(&line, data);
}
