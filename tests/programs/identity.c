/*
 * What a program can find out about its machine must hold together: CPUID, /proc/cpuinfo, uname, the auxiliary
 * vector, /proc/self and the processor count. Values that may differ from the host's are compared with one
 * another and only the verdicts are printed; the native run's own verdicts about its processor don't count.
 * Build: dynamic static nopie static-pie
 */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "cpuid.h"
#include "limits.h"

/* The value of the first line of /proc/cpuinfo with a name; how often it occurs. */
static int cpuinfo(const char *path, const char *name, char value[8192]) {
  FILE *file = fopen(path, "r");
  char line[8192];
  int count = 0;
  value[0] = 0;
  while (file && fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (!colon || strncmp(line, name, strlen(name)) || !strchr(" \t:", line[strlen(name)])) continue;
    if (count++ == 0) strcpy(value, colon[1] ? colon + 2 : ""), value[strcspn(value, "\n")] = 0;
  }
  if (file) fclose(file);
  return count;
}

static int has_flag(const char *flags, const char *flag) {
  char list[8300], word[64];
  snprintf(list, sizeof list, " %s ", flags);
  snprintf(word, sizeof word, " %s ", flag);
  return strstr(list, word) != NULL;
}

static void flags_agree(void) {
  static const struct { const char *name; int edx, bit; } flags[] = {
      {"fpu", 1, 0}, {"tsc", 1, 4}, {"cx8", 1, 8}, {"cmov", 1, 15}, {"mmx", 1, 23}, {"fxsr", 1, 24}, {"sse", 1, 25},
      {"sse2", 1, 26}, {"pni", 0, 0}, {"pclmulqdq", 0, 1}, {"ssse3", 0, 9}, {"fma", 0, 12}, {"cx16", 0, 13},
      {"sse4_1", 0, 19}, {"sse4_2", 0, 20}, {"movbe", 0, 22}, {"popcnt", 0, 23}, {"aes", 0, 25}, {"avx", 0, 28},
      {"f16c", 0, 29}, {"rdrand", 0, 30}, {"hypervisor", 0, 31}};
  static const char *const level_2[] = {"cx16",   "lahf_lm", "popcnt", "pni", "sse4_1",
                                        "sse4_2", "ssse3",   "cmov",   "lm",  "syscall"};
  char text[8192];
  unsigned eax, ebx, ecx, edx;
  cpuinfo("/proc/cpuinfo", "flags", text);
  __cpuid(1, eax, ebx, ecx, edx);
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (!as_promised(has_flag(text, flags[i].name) == (int)((flags[i].edx ? edx : ecx) >> flags[i].bit & 1)))
      printf("flag %s: CPUID and /proc/cpuinfo differ\n", flags[i].name);
  for (size_t i = 0; i < sizeof level_2 / sizeof *level_2; i++)
    if (!as_promised(has_flag(text, level_2[i]))) printf("flag %s is missing\n", level_2[i]);
  printf("flags compared\n");
}

static void processor(void) {
  char host[13], text[8192], other[8192];
  unsigned model[12], eax, ebx, ecx, edx;
  cpuid_host(host);
  int count = cpuinfo("/proc/cpuinfo", "processor", text);
  cpuinfo("/proc/cpuinfo", "vendor_id", text);
  printf("hypervisor agrees: %d\n", as_promised(!strcmp(host, text)));
  for (int i = 0; i < 3; i++)
    __cpuid(0x80000002 + i, model[4 * i], model[4 * i + 1], model[4 * i + 2], model[4 * i + 3]);
  cpuinfo("/proc/cpuinfo", "model name", text);
  printf("model agrees: %d\n", as_promised(!strncmp((char *)model, text, strlen(text)) && strlen(text) > 3));
  __cpuid(1, eax, ebx, ecx, edx);
  unsigned family = (eax >> 8 & 15) + ((eax >> 8 & 15) == 15 ? eax >> 20 & 255 : 0);
  cpuinfo("/proc/cpuinfo", "cpu family", text);
  printf("family agrees: %d\n", as_promised(family == (unsigned)atoi(text)));
  printf("processors agree: %d %d\n", as_promised(count == sysconf(_SC_NPROCESSORS_ONLN)),
         as_promised(count <= sysconf(_SC_NPROCESSORS_CONF)));
  /* By another name and relative to a directory it is the same file. */
  int fd = open("/proc", O_RDONLY | O_DIRECTORY), file = openat(fd, "cpuinfo", O_RDONLY);
  ssize_t length = read(file, text, 30), again;
  again = read(open("/proc/self/root/proc/../proc/cpuinfo", O_RDONLY), other, 30);
  printf("other names: %d\n", length == again && !memcmp(text, other, length) && !memcmp(text, "processor", 9));
  lseek(file, 0, SEEK_SET);
  printf("seek: %d\n", read(file, text, 30) == length && !memcmp(text, other, length));
  printf("siblings: %d\n", as_promised(cpuinfo("/proc/cpuinfo", "siblings", text) == count));
}

static void kernel(void) {
  struct utsname name;
  uname(&name);
  printf("machine: %s, system %s\n", name.machine, name.sysname);
  printf("hostname: %d\n", name.nodename[0] != 0);
}

static void auxiliary(char **environment) {
  printf("platform: %s, page %ld, clock %ld\n", (char *)getauxval(AT_PLATFORM), getauxval(AT_PAGESZ),
         getauxval(AT_CLKTCK));
  printf("secure: %ld, random %d, uid %d\n", getauxval(AT_SECURE), getauxval(AT_RANDOM) != 0,
         getauxval(AT_UID) == getuid());
  const Elf64_Phdr *headers = (void *)getauxval(AT_PHDR);
  printf("headers: %ld bytes, first type %d\n", getauxval(AT_PHENT),
         headers[0].p_type == PT_PHDR || headers[0].p_type == PT_LOAD);
  printf("entry in text: %d\n", getauxval(AT_ENTRY) != 0);
  while (*environment) environment++;
  int entries = 0;
  for (Elf64_auxv_t *entry = (void *)(environment + 1); entry->a_type != AT_NULL; entry++) entries++;
  printf("auxv entries: %d\n", entries > 15);
  char raw[1024];
  ssize_t size = read(open("/proc/self/auxv", O_RDONLY), raw, sizeof raw);
  printf("/proc/self/auxv: %d\n", size == (entries + 1) * 16 && !memcmp(raw, environment + 1, size));
}

static void self(int argc, char **argv) {
  char exe[4096] = "", by_hand[4096] = "", text[4096], stat[4096] = "";
  printf("argc %d, argv[0] %s\n", argc, strrchr(argv[0], '/') + 1);
  ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
  printf("exe is argv[0]: %d\n", length > 0 && realpath(argv[0], by_hand) && !strcmp(exe, by_hand));
  snprintf(text, sizeof text, "/proc/%d/exe", getpid());
  length = readlinkat(AT_FDCWD, text, by_hand, 10);
  printf("by pid, cut off: %zd %d\n", length, !strncmp(exe, by_hand, 10));
  printf("AT_EXECFN: %d\n", !strcmp((char *)getauxval(AT_EXECFN), argv[0]));
  length = read(open("/proc/self/cmdline", O_RDONLY), text, sizeof text);
  printf("cmdline: %d\n", length == (ssize_t)strlen(argv[0]) + 1 && !strcmp(text, argv[0]));
  length = read(open("/proc/self/comm", O_RDONLY), text, sizeof text);
  printf("comm: %.*s", (int)length, text);
  length = read(open("/proc/self/environ", O_RDONLY), text, sizeof text);
  printf("environ has no wrapper: %d\n",
         length >= 0 && !memmem(text, length, "STELE_EXEC", 10) && !getenv("STELE_EXEC_WRAPPER"));
  length = read(open("/proc/self/stat", O_RDONLY), stat, sizeof stat - 1);
  printf("stat: %d\n", atoi(stat) == getpid() && strchr(stat, '(') != NULL);
  char magic[4] = "";
  printf("exe opens as itself: %d", read(open("/proc/self/exe", O_RDONLY), text, 20) == 20);
  memcpy(magic, text, 4);
  printf(" %d machine %d\n", !memcmp(magic, "\177ELF", 4), text[18]);
}

int main(int argc, char **argv, char **environment) {
  processor();
  flags_agree();
  kernel();
  auxiliary(environment);
  self(argc, argv);
  return 0;
}
