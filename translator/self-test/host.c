/* `stele --self-test`: what processor and kernel this is, as a report begins; the program that does the tests is part
 * of the image (image.S). */
#include "self-test/host.h"

#include <asm/errno.h>
#include <asm/hwcap.h>
#include <linux/auxvec.h>
#include <linux/fcntl.h>
#include <linux/utsname.h>

#include "base/base.h"
#include "base/host-call.h"
#include "base/print.h"

extern const uint8_t self_test_image[], self_test_image_end[];

typedef struct Feature {
  uint64_t bit;
  bool second; /* of AT_HWCAP2 */
  char name[12];
} Feature;

/* What the translator uses or would have to know of (Linux, Documentation/arch/arm64/elf_hwcaps.rst). */
static const Feature features[] = {
    {HWCAP_FP, false, "fp"},           {HWCAP_ASIMD, false, "asimd"},     {HWCAP_AES, false, "aes"},
    {HWCAP_PMULL, false, "pmull"},     {HWCAP_SHA1, false, "sha1"},       {HWCAP_SHA2, false, "sha2"},
    {HWCAP_CRC32, false, "crc32"},     {HWCAP_ATOMICS, false, "atomics"}, {HWCAP_CPUID, false, "cpuid"},
    {HWCAP_LRCPC, false, "lrcpc"},     {HWCAP_ILRCPC, false, "ilrcpc"},   {HWCAP_USCAT, false, "uscat"},
    {HWCAP_FLAGM, false, "flagm"},     {HWCAP_SVE, false, "sve"},         {HWCAP_DIT, false, "dit"},
    {HWCAP_PACA, false, "paca"},       {HWCAP2_FLAGM2, true, "flagm2"},   {HWCAP2_FRINT, true, "frint"},
    {HWCAP2_BTI, true, "bti"},         {HWCAP2_MTE, true, "mte"},         {HWCAP2_ECV, true, "ecv"},
    {HWCAP2_AFP, true, "afp"},
};

typedef struct Core {
  uint64_t implementer, part;
  char name[16];
} Core;

/* MIDR_EL1's implementer and part number (Arm ARM D19.2.98, and the cores' manuals). */
static const Core cores[] = {
    {0x41, 0xd03, "Cortex-A53"},  {0x41, 0xd05, "Cortex-A55"},  {0x41, 0xd07, "Cortex-A57"},  {0x41, 0xd08, "Cortex-A72"},
    {0x41, 0xd09, "Cortex-A73"},  {0x41, 0xd0a, "Cortex-A75"},  {0x41, 0xd0b, "Cortex-A76"},  {0x41, 0xd0c, "Neoverse-N1"},
    {0x41, 0xd0d, "Cortex-A77"},  {0x41, 0xd40, "Neoverse-V1"}, {0x41, 0xd41, "Cortex-A78"},  {0x41, 0xd44, "Cortex-X1"},
    {0x41, 0xd46, "Cortex-A510"}, {0x41, 0xd47, "Cortex-A710"}, {0x41, 0xd48, "Cortex-X2"},   {0x41, 0xd49, "Neoverse-N2"},
    {0x41, 0xd4f, "Neoverse-V2"}, {0xc0, 0xac3, "Ampere-1"},    {0xc0, 0xac4, "Ampere-1A"},
};

static void put_features(const SelfTestHost *host) {
  char text[512];
  BaseText t = base_text(text, sizeof text);
  for (size_t i = 0; i < sizeof features / sizeof *features; i++)
    if ((features[i].second ? host->hwcap2 : host->hwcap) & features[i].bit) base_text_printf(&t, " %s", features[i].name);
  base_print(1, "features:%s\n", text);
}

static const char *core_name(uint64_t midr) {
  for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
    if (cores[i].implementer == (midr >> 24 & 0xff) && cores[i].part == (midr >> 4 & 0xfff)) return cores[i].name;
  return "unknown to this report";
}

static uint64_t parse_hex(const char *text) {
  uint64_t value = 0;
  if (text[0] == '0' && text[1] == 'x') text += 2;
  for (; (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f'); text++)
    value = value << 4 | (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
  return value;
}

/* The main identification register of a core; 0 where it cannot be read. */
static uint64_t read_midr(unsigned number) {
  char path[96], text[32] = "";
  base_format(path, sizeof path, "/sys/devices/system/cpu/cpu%u/regs/identification/midr_el1", number);
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  host_call(__NR_read, fd, text, sizeof text - 1);
  host_call(__NR_close, fd);
  return parse_hex(text);
}

static void put_cores(void) {
  enum { MOST_CORES = 1024 };
  uint64_t last = 0;
  unsigned first = 0, kinds = 0, i = 0;
  for (; i < MOST_CORES; i++) {
    uint64_t midr = read_midr(i);
    if (midr == last) {
      if (midr) continue;
      break;
    }
    if (last) base_print(1, "cores %u-%u: MIDR 0x%lx, %s\n", first, i - 1, (unsigned long)last, core_name(last));
    if (!midr) break;
    last = midr;
    first = i;
    kinds++;
  }
  if (!kinds) base_print(1, "cores: MIDR cannot be read\n");
  if (kinds > 1) base_print(1, "cores: of different kinds; features are those all have\n");
}

void self_test_describe(const SelfTestHost *host) {
  struct new_utsname system = {0};
  host_call(__NR_uname, &system);
  base_print(1, "stele " STELE_VERSION " self-test\nkernel: %s %s %s\npage size: %lu\n", system.sysname, system.release,
             system.machine, (unsigned long)host->page_size);
  put_features(host);
  put_cores();
}

int64_t self_test_open(void) {
  size_t size = (size_t)(self_test_image_end - self_test_image), done = 0;
  int64_t fd = host_call(__NR_memfd_create, "self-test", 1 /* MFD_CLOEXEC */);
  while (fd >= 0 && done < size) {
    int64_t written = host_call(__NR_write, fd, self_test_image + done, size - done);
    if (written <= 0) return written ? written : -EIO;
    done += (size_t)written;
  }
  return fd;
}
