/* `stele PROGRAM ARGS…`: runs one x86-64 Linux program. Started by the kernel through binfmt_misc (the
 * program is then open as AT_EXECFD), by a person, or by stele itself for a child program (linux/exec.c).
 *
 * There is no C library: stele_start() gets the bare stack from start.S, relocates the image before
 * anything else is touched, and goes through the start order, which is the list in run(). */
#include <elf.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

#include "binfmt/binfmt.h"
#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/perf-map.h"
#include "linux/store.h"
#include "runtime/runtime.h"
#include "self-test/host.h"

enum { EXIT_USAGE = 2, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127, SCRIPT_TEXT = 256, SCRIPT_DEPTH = 5, NAMELESS_PROGRAM_FD = 880 };

static const char usage[] =
    "usage: stele [OPTIONS] PROGRAM [ARGUMENTS...]\n"
    "       stele install-binfmt [--force] [--transient] | remove-binfmt | status\n"
    "Runs an x86-64 Linux program on an AArch64 kernel, or has the kernel run all of them so (see stele(1)).\n"
    "\n"
    "  --argv0 NAME    what the program finds as argv[0]; default: PROGRAM\n"
    "  --execfn NAME   what it finds as AT_EXECFN; default: PROGRAM\n"
    "  --fd NUMBER     the program is open as this descriptor; PROGRAM only names it\n"
    "  --stats         write counters to standard error at exit, as STELE_STATS does to a file\n"
    "  --self-test     tests memory order, atomics, changing code, signals and arithmetic on this machine, in\n"
    "                  about a minute; --self-test=quick does little of each. 1 when something is wrong\n"
    "  --features      print what of this processor translated code makes use of, as stele-aot takes it\n"
    "  --help, --version\n"
    "\n"
    "Settings, as environment variables (the program does not see them):\n"
    "  STELE_STRACE=1|FILE        log system calls and signals to standard error or a file\n"
    "  STELE_DUMP=all|ADDRESS     show guest code, its intermediate form and the code made of it\n"
    "  STELE_STATS=FILE           write counters at exit\n"
    "  STELE_PERF_MAP=1           name translated code for perf in /tmp/perf-PID.map\n"
    "  STELE_MEMORY_MODEL=auto|tso|relaxed\n"
    "  STELE_FLAGS=exact          keep status flags nothing reads, too, for signal handlers that look, and\n"
    "                             refuse misaligned operands of MOVAPS and the like (slower)\n"
    "  STELE_CODE_CACHE=MIB       room for translated code, 1 to 127 (96)\n"
    "  STELE_STORE=FILE           translations made by stele-aot (those in stele's own file); /dev/null: none\n"
    "  STELE_CPU=x86-64|x86-64-v2|x86-64-v3\n"
    "                             what CPUID and /proc/cpuinfo offer (x86-64-v3)\n"
    "  STELE_CPU_VENDOR=GenuineIntel|AuthenticAMD|VirtualStele\n"
    "                             the maker that CPUID names (programs trust few names; see stele(1))\n"
    "  STELE_CPU_MODEL=NAME       the processor's name in /proc/cpuinfo and CPUID\n"
    "  STELE_PID_NAMESPACE=NUMBER the PID namespace told to be the first (stele-agent sets it)\n"
    "  STELE_EXEC_WRAPPER=WORDS   put in front of stele when the program starts another\n";

/* What the command line and the kernel say about the program to run. */
typedef struct Invocation {
  const char *path, *argv0, *execfn;
  char **rest;    /* the arguments after argv[0] */
  int fd;         /* -1: open `path` */
  bool stats;     /* counters to standard error at exit */
} Invocation;

typedef struct Start {
  char **argv, **envp;
  const uint64_t *auxv;
  int argc;
} Start;

static _Noreturn void quit(int status) {
  for (;;) host_call(__NR_exit_group, status);
}

static _Noreturn void fail(int status, const char *format, ...) {
  char text[2 * LINUX_PATH_MAX];
  va_list arguments;
  va_start(arguments, format);
  base_format_list(text, sizeof text, format, arguments);
  va_end(arguments);
  base_print(2, "stele: %s\n", text);
  quit(status);
}

static uint64_t auxv_value(const Start *start, uint64_t type, uint64_t otherwise) {
  for (const uint64_t *entry = start->auxv; entry[0] != AT_NULL; entry += 2)
    if (entry[0] == type) return entry[1];
  return otherwise;
}

/* --- settings ----------------------------------------------------------------------------------------- */

static const char *setting(char *const *options, const char *name) {
  size_t length = strlen(name);
  for (; *options; options++)
    if (!strncmp(*options, name, length) && (*options)[length] == '=') return *options + length + 1;
  return NULL;
}

/* What the machine is: STELE_CPU, STELE_CPU_VENDOR, STELE_CPU_MODEL, STELE_PID_NAMESPACE. */
static bool describes_machine(const char *option) {
  return !strncmp(option, "STELE_CPU=", 10) || !strncmp(option, "STELE_CPU_", 10) ||
         !strncmp(option, "STELE_PID_NAMESPACE=", 20);
}

static uint64_t parse_hex(const char *text) {
  uint64_t value = 0;
  for (; (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f'); text++)
    value = value * 16 + (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
  return value;
}

/* Takes the STELE_… variables out of the environment. A set-uid program's starter is trusted with what
 * the machine is told to be alone: others name files to write, or weaken the order of memory. What the starter ignores
 * goes with this one program, as it does natively: its children are told what that one ignores. */
static char **take_options(Start *start, uint64_t *ret_ignored) {
  size_t count = 0, kept = 0;
  for (char **at = start->envp; *at; at++) count += !strncmp(*at, "STELE_", 6);
  char **options = base_alloc((count + 1) * sizeof *options);
  if (!options) fail(EXIT_CANNOT_RUN, "out of memory");
  bool trusted = !auxv_value(start, AT_SECURE, 0);
  size_t ignored_length = strlen(LINUX_IGNORED_OPTION);
  count = 0;
  for (char **at = start->envp; *at; at++) {
    if (strncmp(*at, "STELE_", 6)) start->envp[kept++] = *at;
    else if (!strncmp(*at, LINUX_IGNORED_OPTION, ignored_length)) *ret_ignored = parse_hex(*at + ignored_length);
    else if (trusted || describes_machine(*at)) options[count++] = *at;
  }
  start->envp[kept] = NULL;
  return options;
}

/* In bytes; 0 for the default. A branch reaches 128 MiB, the most a cache can have. */
static uint64_t code_cache_size(const char *text) {
  uint64_t mebibytes = 0;
  if (!text) return 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9' && mebibytes < 1000; at++) mebibytes = mebibytes * 10 + (uint64_t)(*at - '0');
  if (*at || mebibytes < 1 || mebibytes > 127)
    fail(EXIT_USAGE, "STELE_CODE_CACHE is '%s'; it can be a number of MiB from 1 to 127", text);
  return mebibytes << 20;
}

static uint64_t pid_namespace(const char *text) {
  uint64_t number = 0;
  for (; text && *text >= '0' && *text <= '9' && number <= UINT32_MAX; text++) number = number * 10 + (uint64_t)(*text - '0');
  if (text && (*text || number > UINT32_MAX))
    fail(EXIT_USAGE, "STELE_PID_NAMESPACE is to be the number that 'stat -L -c %%i /proc/PID/ns/pid' prints");
  return number;
}

static LinuxCpuLevel cpu_level(const char *name) {
  if (!name || !strcmp(name, "x86-64-v3")) return LINUX_CPU_V3;
  if (!strcmp(name, "x86-64-v2")) return LINUX_CPU_V2;
  if (!strcmp(name, "x86-64")) return LINUX_CPU_BASELINE;
  fail(EXIT_USAGE, "STELE_CPU is '%s'; it can be x86-64, x86-64-v2 or x86-64-v3 (AVX-512 is not translated)", name);
}

static LinuxCpuVendor cpu_vendor(const char *name) {
  int vendor = name ? linux_identity_vendor(name) : LINUX_CPU_INTEL;
  if (vendor >= 0) return (LinuxCpuVendor)vendor;
  fail(EXIT_USAGE, "STELE_CPU_VENDOR is '%s'; it can be GenuineIntel, AuthenticAMD or VirtualStele", name);
}

static RuntimeMemoryModel memory_model(const char *name) {
  if (!name || !strcmp(name, "auto")) return RUNTIME_MEMORY_AUTO;
  if (!strcmp(name, "tso")) return RUNTIME_MEMORY_TSO;
  if (!strcmp(name, "relaxed")) return RUNTIME_MEMORY_RELAXED;
  fail(EXIT_USAGE, "STELE_MEMORY_MODEL is '%s'; it can be auto, tso or relaxed", name);
}

static bool exact_flags(const char *text) {
  if (text && strcmp(text, "exact")) fail(EXIT_USAGE, "STELE_FLAGS is '%s'; it can be exact", text);
  return text != NULL;
}

static void start_runtime(const Start *start, bool stats) {
  char *const *options = linux_program.options;
  RuntimeOptions runtime = {.code_cache_size = code_cache_size(setting(options, "STELE_CODE_CACHE")),
                            .memory_model = memory_model(setting(options, "STELE_MEMORY_MODEL")),
                            .avx = linux_program.cpu_level >= LINUX_CPU_V3,
                            .exact_flags = exact_flags(setting(options, "STELE_FLAGS")),
                            .hwcap = auxv_value(start, AT_HWCAP, 0),
                            .hwcap2 = auxv_value(start, AT_HWCAP2, 0),
                            .dump = setting(options, "STELE_DUMP"),
                            .stats_path = stats ? "/proc/self/fd/2" : setting(options, "STELE_STATS"),
                            .perf_map = setting(options, "STELE_PERF_MAP") != NULL};
  if (runtime.perf_map) linux_perf_map_begin();
  int error = runtime_init(&runtime);
  if (error) fail(EXIT_CANNOT_RUN, "cannot map the code cache (error %d)", -error);
  linux_store_open(setting(options, "STELE_STORE"));
}

/* --- the command line --------------------------------------------------------------------------------- */

static Invocation binfmt_invocation(const Start *start, int fd) {
  if (start->argc < 2) fail(EXIT_USAGE, "started by binfmt_misc without a program");
  bool keeps_argv0 = auxv_value(start, AT_FLAGS, 0) & 1; /* AT_FLAGS_PRESERVE_ARGV0 */
  Invocation invocation = {.path = start->argv[1], .execfn = start->argv[1], .fd = fd};
  invocation.rest = start->argv + 2;
  invocation.argv0 = start->argv[1];
  if (keeps_argv0 && start->argc > 2) invocation.argv0 = *invocation.rest++;
  invocation.execfn = (const char *)auxv_value(start, AT_EXECFN, (uint64_t)invocation.path);
  return invocation;
}

static int parse_number(const char *text) {
  int value = 0;
  for (; *text >= '0' && *text <= '9' && value < 100000000; text++) value = value * 10 + (*text - '0');
  if (*text) fail(EXIT_USAGE, "'%s' is not a descriptor's number", text);
  return value;
}

static Invocation self_test_invocation(const Start *start, bool quick) {
  static char quick_argument[] = "quick";
  static char *all[] = {NULL}, *little[] = {quick_argument, NULL};
  SelfTestHost host = {auxv_value(start, AT_HWCAP, 0), auxv_value(start, AT_HWCAP2, 0), auxv_value(start, AT_PAGESZ, 0)};
  self_test_describe(&host);
  int64_t fd = self_test_open();
  if (fd < 0) fail(EXIT_CANNOT_RUN, "no memory for the self-test's program (error %d)", (int)-fd);
  return (Invocation){"self-test", "self-test", "self-test", quick ? little : all, (int)fd};
}

static Invocation parse_command_line(const Start *start) {
  Invocation invocation = {.fd = -1};
  char **at = start->argc > 0 ? start->argv + 1 : start->argv;
  for (; *at && !strncmp(*at, "--", 2); at++) {
    const char *option = *at;
    if (!strcmp(option, "--")) {
      at++;
      break;
    }
    if (!strcmp(option, "--help")) {
      host_call(__NR_write, 1, usage, sizeof usage - 1);
      quit(0);
    }
    if (!strcmp(option, "--version")) {
      base_print(1, "stele %s\n", STELE_VERSION);
      quit(0);
    }
    if (!strcmp(option, "--features")) {
      base_print(1, "0x%x\n", runtime_features(auxv_value(start, AT_HWCAP, 0), auxv_value(start, AT_HWCAP2, 0)));
      quit(0);
    }
    if (!strcmp(option, "--stats")) {
      invocation.stats = true;
      continue;
    }
    if (!strcmp(option, "--self-test")) return self_test_invocation(start, false);
    if (!strcmp(option, "--self-test=quick")) return self_test_invocation(start, true);
    if (!at[1]) fail(EXIT_USAGE, "option %s needs a value, or is unknown; try --help", option);
    if (!strcmp(option, "--argv0")) invocation.argv0 = *++at;
    else if (!strcmp(option, "--execfn")) invocation.execfn = *++at;
    else if (!strcmp(option, "--fd")) invocation.fd = parse_number(*++at);
    else fail(EXIT_USAGE, "unknown option %s; try --help", option);
  }
  if (!*at) fail(EXIT_USAGE, "which program? Try --help");
  if (at == start->argv + 1 && binfmt_is_command(*at)) quit(binfmt_run(at, auxv_value(start, AT_PAGESZ, 0)));
  invocation.path = *at;
  invocation.rest = at + 1;
  if (!invocation.argv0) invocation.argv0 = invocation.path;
  return invocation;
}

/* --- finding the program ------------------------------------------------------------------------------ */

static int64_t open_file(const char *path) {
  return host_call(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
}

/* A name without a slash is looked up in PATH, as a shell does. */
static int64_t open_in_path(const Start *start, Invocation *invocation) {
  static char candidate[LINUX_PATH_MAX];
  const char *path = setting(start->envp, "PATH");
  for (; path && *path; path += *path == ':') {
    const char *end = strchr(path, ':');
    int length = end ? (int)(end - path) : (int)strlen(path);
    base_format(candidate, sizeof candidate, "%.*s/%s", length, path, invocation->path);
    path += length;
    if (host_call(__NR_faccessat, AT_FDCWD, candidate, 1 /* X_OK */) < 0) continue;
    invocation->path = candidate;
    return open_file(candidate);
  }
  return open_file(invocation->path);
}

static int64_t open_program(const Start *start, Invocation *invocation) {
  bool search = !strchr(invocation->path, '/');
  int64_t fd = search ? open_in_path(start, invocation) : open_file(invocation->path);
  if (fd == -ENOENT) fail(EXIT_NOT_FOUND, "%s: there is no such file", invocation->path);
  if (fd < 0) fail(EXIT_CANNOT_RUN, "%s: cannot be opened (error %d)", invocation->path, (int)-fd);
  return fd;
}

/* A script: its interpreter becomes the program and the script the argument. */
static bool follow_script(Invocation *invocation, char *text) {
  int64_t length = host_call(__NR_pread64, invocation->fd, text, SCRIPT_TEXT, 0);
  char *interpreter, *argument;
  if (length < 0 || linux_script_parse(text, (size_t)length, &interpreter, &argument)) return false;
  size_t count = 0;
  while (invocation->rest[count]) count++;
  char **rest = base_alloc((count + 3) * sizeof *rest), **at = rest;
  if (!rest) fail(EXIT_CANNOT_RUN, "out of memory");
  if (argument) *at++ = argument;
  *at++ = (char *)invocation->path;
  memcpy(at, invocation->rest, (count + 1) * sizeof *at);
  host_call(__NR_close, invocation->fd);
  *invocation = (Invocation){interpreter, interpreter, invocation->execfn, rest, -1};
  return true;
}

static void find_program(const Start *start, Invocation *invocation) {
  if (invocation->fd < 0) invocation->fd = (int)open_program(start, invocation);
  if (!invocation->execfn) invocation->execfn = invocation->path;
  for (unsigned depth = 0; depth < SCRIPT_DEPTH; depth++) {
    char *text = base_alloc(SCRIPT_TEXT + 1); /* stays: the new arguments point into it */
    if (!text || !follow_script(invocation, text)) return;
    invocation->fd = (int)open_program(start, invocation);
  }
}

static void read_link(const char *link, char *ret_target, const char *otherwise) {
  int64_t length = host_call(__NR_readlinkat, AT_FDCWD, link, ret_target, LINUX_PATH_MAX - 1);
  if (length > 0) ret_target[length] = '\0';
  else base_format(ret_target, LINUX_PATH_MAX, "%s", otherwise);
}

static void name_program(const Start *start, const Invocation *invocation) {
  char link[32];
  base_format(link, sizeof link, "/proc/self/fd/%d", invocation->fd);
  read_link(link, linux_program.exe, invocation->path);
  read_link("/proc/self/exe", linux_program.self, start->argv[0] ? start->argv[0] : "stele");
  const char *name = invocation->execfn, *slash = strrchr(name, '/');
  bool by_descriptor = !strncmp(name, "/dev/fd/", 8) && slash == name + 7; /* then it is called as its file is */
  if (by_descriptor) slash = strrchr(name = linux_program.exe, '/');
  if (!linux_program.by_binfmt) host_call(__NR_prctl, PR_SET_NAME, slash ? slash + 1 : name);
}

/* Whether the name leads to the program: not so when its file is deleted or on a mount that has no place any more. */
static bool is_named(const HostStat *program) {
  HostStat status;
  return program->links && host_call(__NR_newfstatat, AT_FDCWD, linux_program.exe, &status, 0) == 0 &&
         status.device == program->device && status.inode == program->inode;
}

/* A program without a name (container run times execute themselves from a memfd, or from a read-only mount that they
 * have taken away again) can only be reached through a descriptor. It stands where the program's own do not get; one
 * who closes it finds the exe gone. */
static void keep_or_close_program(int fd) {
  HostStat status;
  linux_program.exe_fd = -1;
  if (host_call(__NR_fstat, fd, &status) == 0 && !is_named(&status)) {
    linux_program.exe_fd = (int)host_call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, NAMELESS_PROGRAM_FD);
    linux_program.exe_device = status.device;
    linux_program.exe_inode = status.inode;
  }
  host_call(__NR_close, fd);
}

/* --- running ------------------------------------------------------------------------------------------ */

/* Tells the kernel where the guest's arguments and environment are, so that /proc/PID/cmdline and environ
 * are the program's for every reader. A kernel that refuses leaves them ours; nothing else depends on it. */
static void tell_kernel(const LinuxLoaded *loaded, uint64_t stack) {
  struct prctl_mm_map map = {.start_code = loaded->low,
                             .end_code = loaded->high,
                             .start_data = loaded->low,
                             .end_data = loaded->high,
                             .start_brk = loaded->brk,
                             .brk = loaded->brk,
                             .start_stack = stack,
                             .arg_start = linux_program.argv_start,
                             .arg_end = linux_program.argv_end,
                             .env_start = linux_program.envp_start,
                             .env_end = linux_program.envp_end,
                             .auxv = (void *)linux_program.auxv,
                             .auxv_size = (uint32_t)linux_program.auxv_size,
                             .exe_fd = (uint32_t)-1};
  linux_program.kernel_knows =
      host_call(__NR_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0;
}

static uint64_t load(const Start *start, const Invocation *invocation, uint64_t *ret_entry) {
  static char message[2 * LINUX_PATH_MAX];
  size_t count = 0;
  while (invocation->rest[count]) count++;
  char **argv = base_alloc((count + 2) * sizeof *argv);
  if (!argv) fail(EXIT_CANNOT_RUN, "out of memory");
  argv[0] = (char *)invocation->argv0;
  memcpy(argv + 1, invocation->rest, (count + 1) * sizeof *argv);
  LinuxLoaded loaded;
  if (linux_program_stack(argv, start->envp) < 0)
    fail(EXIT_CANNOT_RUN, "cannot map the program's stack: the limit may be too high for the memory here");
  int error = linux_load(invocation->fd, invocation->path, &loaded, message, sizeof message);
  if (error) fail(error == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "%s", message);
  keep_or_close_program(invocation->fd);
  linux_brk_init(loaded.brk);
  if (loaded.executable_stack)
    linux_protect(linux_program.stack_low, linux_program.stack_high - linux_program.stack_low,
                  MEMORY_READ | MEMORY_WRITE | MEMORY_EXEC);
  int64_t stack = linux_build_stack(&loaded, argv, start->envp, invocation->execfn, start->auxv);
  tell_kernel(&loaded, (uint64_t)stack);
  base_free(argv);
  runtime_loader(loaded.loader_low, loaded.loader_high, loaded.program_entry);
  *ret_entry = loaded.entry;
  return (uint64_t)stack;
}

/* x86-64 programs map, protect and lay out files by pages of 4 KiB, which a kernel with larger ones can't do. */
static void check_page_size(const Start *start) {
  uint64_t size = auxv_value(start, AT_PAGESZ, MEMORY_PAGE_SIZE);
  if (size != MEMORY_PAGE_SIZE)
    fail(EXIT_CANNOT_RUN, "this kernel has pages of %lu KiB and x86-64 programs need 4 KiB: run them in a machine "
                          "(vmctl, steled), whose guest kernel has such pages, or boot a kernel that has",
         size / 1024);
}

static bool guest_rip(uint64_t *ret_rip) {
  GuestCpu *cpu = linux_current_cpu();
  if (cpu) *ret_rip = cpu->rip;
  return cpu != NULL;
}

static uint64_t *held_locks(void) {
  GuestCpu *cpu = linux_current_cpu();
  return cpu ? &cpu->held_locks : NULL;
}

static _Noreturn void run(Start *start) {
  base_panic_guest_rip = guest_rip;
  base_held_locks = held_locks;
  uint64_t ignored = 0;
  linux_program.options = take_options(start, &ignored);
  linux_program.exec_wrapper = setting(linux_program.options, "STELE_EXEC_WRAPPER");
  linux_program.cpu_level = cpu_level(setting(linux_program.options, "STELE_CPU"));
  linux_program.cpu_vendor = cpu_vendor(setting(linux_program.options, "STELE_CPU_VENDOR"));
  linux_program.cpu_model = setting(linux_program.options, "STELE_CPU_MODEL");
  linux_program.pid_namespace = pid_namespace(setting(linux_program.options, "STELE_PID_NAMESPACE"));
  linux_program.host_hwcap = auxv_value(start, AT_HWCAP, 0);
  linux_program.host_hwcap2 = auxv_value(start, AT_HWCAP2, 0);
  linux_program.randomize =
      !(host_call(__NR_personality, 0xffffffff) & 0x0040000 /* ADDR_NO_RANDOMIZE */);
  uint64_t execfd = auxv_value(start, AT_EXECFD, ~UINT64_C(0));
  linux_program.by_binfmt = execfd != ~UINT64_C(0);
  Invocation invocation =
      linux_program.by_binfmt ? binfmt_invocation(start, (int)execfd) : parse_command_line(start);
  check_page_size(start);
  find_program(start, &invocation);
  name_program(start, &invocation);
  linux_strace_init(setting(linux_program.options, "STELE_STRACE"));
  start_runtime(start, invocation.stats);
  uint64_t entry, stack = load(start, &invocation, &entry);
  GuestCpu *cpu = runtime_thread_new(NULL);
  LinuxThread *thread = cpu ? linux_thread_new(cpu, NULL, NULL) : NULL;
  if (!thread) fail(EXIT_CANNOT_RUN, "out of memory");
  linux_set_current(cpu);
  linux_signals_init(thread, ignored);
  cpu->rip = entry;
  cpu->gpr[RSP] = stack;
  runtime_run(cpu);
}

/* --- relocation --------------------------------------------------------------------------------------- */

/* Adds the load address to the words the linker listed (R_AARCH64_RELATIVE; ELF for the Arm 64-bit
 * architecture, 5.7.13). Nothing that needs a relocation may be used before. */
static void relocate(uint64_t base, const Elf64_Dyn *dynamic) {
  const Elf64_Rela *relocation = NULL;
  uint64_t size = 0;
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    if (dynamic->d_tag == DT_RELA) relocation = (const Elf64_Rela *)(base + dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_RELASZ) size = dynamic->d_un.d_val;
  }
  for (; size >= sizeof *relocation; size -= sizeof *relocation, relocation++)
    if (ELF64_R_TYPE(relocation->r_info) == R_AARCH64_RELATIVE)
      *(uint64_t *)(base + relocation->r_offset) = base + (uint64_t)relocation->r_addend;
}

_Noreturn void stele_start(uint64_t *stack, uint64_t base, const Elf64_Dyn *dynamic) {
  relocate(base, dynamic);
  Start start = {.argc = (int)stack[0], .argv = (char **)(stack + 1)};
  start.envp = start.argv + start.argc + 1;
  char **end = start.envp;
  while (*end) end++;
  start.auxv = (const uint64_t *)(end + 1);
  run(&start);
}
