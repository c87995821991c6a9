/* What processor the guest believes it runs on: CPUID and /proc/cpuinfo from the same rows, so they cannot
 * disagree. A feature is listed when the translator implements it, and then by both.
 *
 * The one difference: /proc/cpuinfo and CPUID's hypervisor leaf name VirtualStele, CPUID's leaf 0 a vendor whose
 * features compiled-in dispatchers believe (GCC's __cpu_model, glibc's loader take an unknown one for a processor
 * with none). Family and model are those of a processor of the vendor that has what we offer, and no more: GCC's
 * arch= dispatch goes by them, not by features.
 *
 * Leaf layouts: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; names of flags:
 * arch/x86/include/asm/cpufeatures.h. */
#include <linux/fcntl.h>

#include "linux/linux.h"
#include "runtime/runtime.h"
#include "x87/xsave.h"

enum {
  LEAF1_EDX, LEAF1_ECX, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX, XSAVE_EAX, EXTENDED_EDX, EXTENDED_ECX, POWER_EDX, WORDS
};

enum { V2 = LINUX_CPU_V2, V3 = LINUX_CPU_V3 };
enum { AMD_ONLY = 1 << LINUX_CPU_AMD };
enum { HOST_SHA1 = 1 << 5, HOST_SHA2 = 1 << 6 }; /* AT_HWCAP */

/* In the order /proc/cpuinfo lists them. */
static const struct {
  uint8_t word, bit;
  const char *name;    /* NULL: not in /proc/cpuinfo */
  uint8_t level;       /* offered from this one on: it came with it or later */
  uint64_t host_hwcap; /* offered only on a host with all of these AT_HWCAP bits */
  unsigned vendors;    /* which leaves there are: listed for these alone (1 << LinuxCpuVendor), 0: for all */
} features[] = {
    {LEAF1_EDX, 0, "fpu"},          {LEAF1_EDX, 2, "de"},        {LEAF1_EDX, 3, "pse"},
    {LEAF1_EDX, 4, "tsc"},          {LEAF1_EDX, 5, "msr"},       {LEAF1_EDX, 6, "pae"},
    {LEAF1_EDX, 8, "cx8"},          {LEAF1_EDX, 9, "apic"},      {LEAF1_EDX, 13, "pge"},
    {LEAF1_EDX, 15, "cmov"},        {LEAF1_EDX, 16, "pat"},      {LEAF1_EDX, 17, "pse36"},
    {LEAF1_EDX, 19, "clflush"},     {LEAF1_EDX, 23, "mmx"},      {LEAF1_EDX, 24, "fxsr"},
    {LEAF1_EDX, 25, "sse"},         {LEAF1_EDX, 26, "sse2"},     {EXTENDED_EDX, 11, "syscall"},
    {EXTENDED_EDX, 20, "nx"},       {EXTENDED_EDX, 29, "lm"},    {POWER_EDX, 8, "constant_tsc"},
    {LEAF1_ECX, 0, "pni", V2}, {LEAF1_ECX, 1, "pclmulqdq", V2}, {LEAF1_ECX, 9, "ssse3", V2},
    {LEAF1_ECX, 12, "fma", V3}, {LEAF1_ECX, 13, "cx16", V2}, {LEAF1_ECX, 19, "sse4_1", V2},
    {LEAF1_ECX, 20, "sse4_2", V2}, {LEAF1_ECX, 22, "movbe", V3}, {LEAF1_ECX, 23, "popcnt", V2},
    {LEAF1_ECX, 25, "aes", V2}, {LEAF1_ECX, 26, "xsave", V3}, {LEAF1_ECX, 27, NULL, V3}, /* OSXSAVE */
    {LEAF1_ECX, 28, "avx", V3}, {LEAF1_ECX, 29, "f16c", V3}, {LEAF1_ECX, 30, "rdrand", V3},
    {LEAF1_ECX, 31, "hypervisor"},
    {EXTENDED_ECX, 0, "lahf_lm", V2}, {EXTENDED_ECX, 1, "cmp_legacy", .vendors = AMD_ONLY},
    {EXTENDED_ECX, 5, "abm", V3}, {EXTENDED_ECX, 22, "topoext", .vendors = AMD_ONLY},
    {LEAF7_EBX, 0, "fsgsbase", V3}, {LEAF7_EBX, 3, "bmi1", V3}, {LEAF7_EBX, 5, "avx2", V3}, {LEAF7_EBX, 8, "bmi2", V3},
    {LEAF7_EBX, 18, "rdseed", V3}, {LEAF7_EBX, 19, "adx", V3}, {LEAF7_EBX, 23, "clflushopt", V3},
    {LEAF7_EBX, 24, "clwb", V3}, {LEAF7_EBX, 29, "sha_ni", V2, HOST_SHA1 | HOST_SHA2},
    {XSAVE_EAX, 0, "xsaveopt", V3}, {XSAVE_EAX, 1, "xsavec", V3}, {XSAVE_EAX, 2, "xgetbv1", V3},
    {LEAF7_ECX, 8, "gfni", V3}, {LEAF7_ECX, 9, "vaes", V3}, {LEAF7_ECX, 10, "vpclmulqdq", V3},
    {LEAF7_ECX, 22, "rdpid", V3}, {LEAF7_EDX, 14, "serialize", V3},
};

static const char real_vendor[] = "VirtualStele"; /* CPUID has room for exactly twelve letters */
static const char default_model[] = "VirtualStele x86-64 Processor @ 2.00GHz";

typedef struct Signature {
  uint16_t family, model, stepping;
} Signature;

/* By vendor, and by level as LinuxCpuLevel counts. */
static const struct {
  const char *name;
  Signature signature[LINUX_CPU_LEVELS];
} vendors[] = {
    /* Pentium 4 with Intel 64; Westmere; Haswell */
    [LINUX_CPU_INTEL] = {"GenuineIntel", {{15, 4, 3}, {6, 44, 2}, {6, 60, 3}}},
    /* Opteron; after Excavator, no product; a family without products of AMD's own, as those with AVX2 all have
     * instructions that are not offered */
    [LINUX_CPU_AMD] = {"AuthenticAMD", {{15, 65, 2}, {0x15, 0x80, 0}, {0x18, 0, 0}}},
    [LINUX_CPU_OWN] = {real_vendor, {{6, 15, 1}, {6, 15, 1}, {6, 15, 1}}},
};

int linux_identity_vendor(const char *name) {
  for (size_t i = 0; i < sizeof vendors / sizeof *vendors; i++)
    if (!strcmp(name, vendors[i].name)) return (int)i;
  return -EINVAL;
}

enum {
  X87_POINTERS = 1 << 6 | 1 << 13, /* leaf 7, EBX: FOP and FDP of exceptions alone; FCS and FDS are 0 */
  HIGHEST_LEAF = 0xb,
  HIGHEST_LEAF_XSAVE = 0xd,
  HYPERVISOR_LEAF = 0x40000000,
  HIGHEST_EXTENDED = 0x80000008,
  HIGHEST_EXTENDED_AMD = 0x8000001e,
  LINE_SIZE = 64,
  L1_KIB = 32,
  L2_KIB = 1024,
  L1_WAYS = 8,
  CACHE_DESCRIPTORS = 0x7c302c, /* leaf 2's names for these: level 1 data 2CH, instructions 30H, level 2 7CH */
  L2_WAYS = 8,
  PHYSICAL_BITS = 40,
  VIRTUAL_BITS = 48,
  CPUS_MAX = 4096
};

static const char *model_name(void) {
  return linux_program.cpu_model ? linux_program.cpu_model : default_model;
}

static bool has_xsave(void) { return linux_program.cpu_level >= LINUX_CPU_V3; }

static uint32_t highest_leaf(void) { return has_xsave() ? HIGHEST_LEAF_XSAVE : HIGHEST_LEAF; }

static bool is_amd(void) { return linux_program.cpu_vendor == LINUX_CPU_AMD; }

static Signature signature(void) { return vendors[linux_program.cpu_vendor].signature[linux_program.cpu_level]; }

static bool offered(size_t i) {
  if (features[i].vendors && !(features[i].vendors >> linux_program.cpu_vendor & 1)) return false;
  return linux_program.cpu_level >= features[i].level &&
         (linux_program.host_hwcap & features[i].host_hwcap) == features[i].host_hwcap;
}

static uint32_t feature_word(unsigned word) {
  uint32_t value = 0;
  for (size_t i = 0; i < sizeof features / sizeof *features; i++)
    if (features[i].word == word && offered(i)) value |= UINT32_C(1) << features[i].bit;
  return value;
}

uint32_t linux_identity_hwcap(void) { return feature_word(LEAF1_EDX); }

uint32_t linux_identity_hwcap2(void) {
  enum { HWCAP2_FSGSBASE = 1 << 1 };
  return feature_word(LEAF7_EBX) & 1 ? HWCAP2_FSGSBASE : 0;
}

/* --- processors -------------------------------------------------------------------------------------- */

/* The numbers of the processors online ("0-3,6"), from the kernel's own list. */
static size_t online_cpus(uint16_t *numbers, size_t room) {
  char text[1024];
  size_t count = 0;
  int64_t fd = host_call(__NR_openat, AT_FDCWD, "/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
  int64_t length = fd >= 0 ? host_call(__NR_read, fd, text, sizeof text - 1) : 0;
  if (fd >= 0) host_call(__NR_close, fd);
  text[length > 0 ? length : 0] = '\0';
  for (const char *at = text; *at >= '0' && *at <= '9';) {
    unsigned first = 0, last;
    for (; *at >= '0' && *at <= '9'; at++) first = first * 10 + (unsigned)(*at - '0');
    last = first;
    if (*at == '-')
      for (last = 0, at++; *at >= '0' && *at <= '9'; at++) last = last * 10 + (unsigned)(*at - '0');
    for (; first <= last && count < room; first++) numbers[count++] = (uint16_t)first;
    if (*at == ',') at++;
  }
  if (!count) numbers[count++] = 0; /* no /sys: at least this one */
  return count;
}

static unsigned cpu_count(void) {
  static unsigned count;
  uint16_t numbers[CPUS_MAX];
  if (!count) count = (unsigned)online_cpus(numbers, CPUS_MAX);
  return count;
}

static unsigned current_cpu(void) {
  unsigned cpu = 0;
  host_call(__NR_getcpu, &cpu, 0, 0);
  return cpu;
}

/* --- CPUID ------------------------------------------------------------------------------------------- */

typedef struct Leaf {
  uint32_t eax, ebx, ecx, edx;
} Leaf;

static uint32_t text_word(const char *text, unsigned index) {
  uint32_t word = 0;
  size_t length = strlen(text);
  for (unsigned i = 0; i < 4; i++)
    if (index * 4 + i < length) word |= (uint32_t)(uint8_t)text[index * 4 + i] << (8 * i);
  return word;
}

static unsigned log2_up(unsigned value) {
  unsigned bits = 0;
  while (1u << bits < value) bits++;
  return bits;
}

static Leaf name_leaf(uint32_t eax, const char *name) {
  return (Leaf){eax, text_word(name, 0), text_word(name, 1), text_word(name, 2)};
}

/* EAX of leaf 1: families from 15 on and models from 16 on go on in the extended fields. */
static uint32_t signature_word(void) {
  Signature s = signature();
  uint32_t family = s.family < 15 ? s.family : 15;
  return (uint32_t)(s.family - family) << 20 | (uint32_t)(s.model >> 4) << 16 | family << 8 |
         (uint32_t)(s.model & 15) << 4 | s.stepping;
}

/* Leaf 4 of Intel's, 8000001DH of AMD's: one entry a cache; type 1 data, 2 instructions, 3 both. */
static Leaf cache_leaf(uint32_t index) {
  static const struct {
    uint8_t type, level, ways;
    uint16_t kib;
  } caches[] = {{1, 1, L1_WAYS, L1_KIB}, {2, 1, L1_WAYS, L1_KIB}, {3, 2, L2_WAYS, L2_KIB}};
  if (index >= sizeof caches / sizeof *caches) return (Leaf){0};
  uint32_t sets = caches[index].kib * 1024u / LINE_SIZE / caches[index].ways;
  uint32_t cores = is_amd() ? 0 : ((1u << log2_up(cpu_count())) - 1) << 26;
  return (Leaf){.eax = caches[index].type | (uint32_t)caches[index].level << 5 | 1u << 8 | cores,
                .ebx = (LINE_SIZE - 1) | (uint32_t)(caches[index].ways - 1) << 22,
                .ecx = sets - 1};
}

/* Leaf 0BH: one thread a core, all cores in one package. */
static Leaf topology_leaf(uint32_t index) {
  Leaf leaf = {.ecx = index, .edx = current_cpu()};
  if (index == 0) leaf = (Leaf){0, 1, 1 << 8, leaf.edx};
  if (index == 1) leaf = (Leaf){log2_up(cpu_count()), cpu_count(), 1 | 2 << 8, leaf.edx};
  return leaf;
}

/* Leaf 0DH: the components of the extended state, where they stand and how large an area is. */
static Leaf xsave_leaf(uint32_t index) {
  enum { AVX_COMPONENT = 2 };
  if (!has_xsave()) return (Leaf){0};
  if (index == 0) return (Leaf){XSAVE_ALL, sizeof(XsaveImage), sizeof(XsaveImage), 0};
  if (index == 1) return (Leaf){feature_word(XSAVE_EAX), sizeof(XsaveImage), 0, 0};
  if (index != AVX_COMPONENT) return (Leaf){0};
  return (Leaf){sizeof((XsaveImage *)0)->upper, offsetof(XsaveImage, upper), 0, 0};
}

static Leaf basic_leaf(uint32_t leaf, uint32_t index) {
  switch (leaf) {
  case 0: {
    Leaf name = name_leaf(highest_leaf(), vendors[linux_program.cpu_vendor].name);
    return (Leaf){name.eax, name.ebx, name.edx, name.ecx};
  }
  case 1: {
    unsigned cpus = cpu_count() < 255 ? cpu_count() : 255;
    uint32_t many = cpus > 1 ? 1u << 28 : 0; /* HTT: EBX's count of processors is valid */
    return (Leaf){signature_word(), (current_cpu() & 255) << 24 | cpus << 16 | LINE_SIZE / 8 << 8,
                  feature_word(LEAF1_ECX), feature_word(LEAF1_EDX) | many};
  }
  case 2: return is_amd() ? (Leaf){0} : (Leaf){CACHE_DESCRIPTORS << 8 | 1, 0, 0, 0};
  case 4: return is_amd() ? (Leaf){0} : cache_leaf(index);
  case 7:
    if (index) return (Leaf){0};
    return (Leaf){0, feature_word(LEAF7_EBX) | X87_POINTERS, feature_word(LEAF7_ECX), feature_word(LEAF7_EDX)};
  case 0xb: return topology_leaf(index);
  case 0xd: return xsave_leaf(index);
  case HYPERVISOR_LEAF: return name_leaf(HYPERVISOR_LEAF, real_vendor);
  default: return (Leaf){0};
  }
}

/* What only AMD's extended leaves tell: the level 1 caches (data, instructions), caches one by one, topology. */
static Leaf amd_leaf(uint32_t leaf, uint32_t index) {
  const uint32_t level1 = (uint32_t)L1_KIB << 24 | L1_WAYS << 16 | 1 << 8 | LINE_SIZE;
  switch (leaf) {
  case 0x80000005: return (Leaf){.ecx = level1, .edx = level1};
  case 0x8000001d: return cache_leaf(index);
  case 0x8000001e: return (Leaf){.eax = current_cpu(), .ebx = current_cpu() & 255};
  default: return (Leaf){0};
  }
}

static Leaf extended_leaf(uint32_t leaf, uint32_t index) {
  const char *model = model_name();
  switch (leaf) {
  case 0x80000000: {
    Leaf name = is_amd() ? basic_leaf(0, 0) : (Leaf){0};
    return (Leaf){is_amd() ? HIGHEST_EXTENDED_AMD : HIGHEST_EXTENDED, name.ebx, name.ecx, name.edx};
  }
  case 0x80000001:
    return (Leaf){is_amd() ? signature_word() : 0, 0, feature_word(EXTENDED_ECX), feature_word(EXTENDED_EDX)};
  case 0x80000002:
  case 0x80000003:
  case 0x80000004: {
    unsigned at = (leaf - 0x80000002) * 4;
    return (Leaf){text_word(model, at), text_word(model, at + 1), text_word(model, at + 2),
                  text_word(model, at + 3)};
  }
  case 0x80000006: return (Leaf){0, 0, L2_KIB << 16 | 6 << 12 | LINE_SIZE, 0}; /* 6: 8 ways */
  case 0x80000007: return (Leaf){0, 0, 0, feature_word(POWER_EDX)};
  case 0x80000008: {
    uint32_t cores = is_amd() ? log2_up(cpu_count()) << 12 | ((cpu_count() - 1) & 255) : 0;
    return (Leaf){VIRTUAL_BITS << 8 | PHYSICAL_BITS, 0, cores, 0};
  }
  default: return is_amd() ? amd_leaf(leaf, index) : (Leaf){0};
  }
}

void linux_cpuid(GuestCpu *cpu) {
  uint32_t number = (uint32_t)cpu->gpr[RAX], index = (uint32_t)cpu->gpr[RCX];
  Leaf leaf = number & 0x80000000 ? extended_leaf(number, index) : basic_leaf(number, index);
  cpu->gpr[RAX] = leaf.eax;
  cpu->gpr[RBX] = leaf.ebx;
  cpu->gpr[RCX] = leaf.ecx;
  cpu->gpr[RDX] = leaf.edx;
}

/* --- /proc/cpuinfo ----------------------------------------------------------------------------------- */

/* The clock in a name like "… @ 2.40GHz" in units of 10 MHz; 200 where there is none. */
static unsigned clock_of(const char *model) {
  const char *at = strchr(model, '@');
  unsigned value = 0, decimals = 0;
  bool point = false;
  for (at = at ? at + 1 : ""; *at == ' ' || *at == '.' || (*at >= '0' && *at <= '9'); at++) {
    if (*at == '.') point = true;
    if (*at < '0' || (point && decimals == 2)) continue;
    value = value * 10 + (unsigned)(*at - '0');
    decimals += point;
  }
  for (; value && decimals < 2; decimals++) value *= 10;
  return value ? value : 200;
}

static size_t format_flags(char *to, size_t size) {
  size_t length = 0;
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
    if (!offered(i) || !features[i].name) continue;
    length += base_format(to + length, size - length, "%s%s", i ? " " : "", features[i].name);
    if (features[i].word == LEAF1_EDX && features[i].bit == 26 && cpu_count() > 1)
      length += base_format(to + length, size - length, " ht");
  }
  return length;
}

static size_t format_cpu(char *to, size_t size, unsigned number, unsigned index, const char *flags) {
  unsigned clock = clock_of(model_name());
  return base_format(to, size,
                     "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %.48s\n"
                     "stepping\t: %u\nmicrocode\t: 0x1\ncpu MHz\t\t: %u.000\ncache size\t: %u KB\nphysical id\t: 0\n"
                     "siblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\napicid\t\t: %u\ninitial apicid\t: %u\n"
                     "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\nwp\t\t: yes\nflags\t\t: %s\nbugs\t\t:\n"
                     "bogomips\t: %u.00\nclflush size\t: %u\ncache_alignment\t: %u\n"
                     "address sizes\t: %u bits physical, %u bits virtual\npower management:\n\n",
                     number, real_vendor, signature().family, signature().model, model_name(), signature().stepping,
                     clock * 10, L2_KIB, cpu_count(), index, cpu_count(), number, number, highest_leaf(), flags,
                     clock * 20, LINE_SIZE, LINE_SIZE, PHYSICAL_BITS, VIRTUAL_BITS);
}

int linux_identity_cpuinfo(int fd) {
  char flags[1024], text[4096];
  uint16_t numbers[CPUS_MAX];
  size_t count = online_cpus(numbers, CPUS_MAX);
  format_flags(flags, sizeof flags);
  for (size_t i = 0; i < count; i++) {
    size_t length = format_cpu(text, sizeof text, numbers[i], (unsigned)i, flags);
    int64_t done = host_call(__NR_write, fd, text, length);
    if (done < 0) return (int)done;
  }
  return 0;
}
