// Registrations as the kernel prints them: which ones take x86-64 programs, so that none is shadowed unasked.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "binfmt/entry.h"
#include "common/binfmt-rule.h"

#define MAGIC_X86_64  "7f454c4602010100000000000000000002003e00"
#define MAGIC_AARCH64 "7f454c460201010000000000000000000200b700"
#define MASK_LOOSE    "fffffffffffefe00fffffffffffffffffeffffff" // as Debian's qemu-user has it

static const struct {
  const char *name, *text;
  bool parsed, takes;
} cases[] = {
    {"qemu",
     "enabled\ninterpreter /usr/bin/qemu-x86_64-static\nflags: OCF\noffset 0\nmagic " MAGIC_X86_64 "\nmask " MASK_LOOSE
     "\n",
     true, true},
    {"no mask", "enabled\ninterpreter /x\nflags: \noffset 0\nmagic " MAGIC_X86_64 "\n", true, true},
    {"machine alone", "enabled\ninterpreter /x\nflags: P\noffset 18\nmagic 3e00\n", true, true},
    {"any ELF", "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f454c46\n", true, true},
    {"position independent alone",
     "enabled\ninterpreter /x\nflags: \noffset 0\nmagic 7f454c4602010100000000000000000003003e00\n", true, true},
    {"disabled", "disabled\ninterpreter /x\nflags: F\noffset 0\nmagic " MAGIC_X86_64 "\n", true, false},
    {"another processor", "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic " MAGIC_AARCH64 "\nmask " MASK_LOOSE "\n",
     true, false},
    {"i386", "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f454c4601010100000000000000000002000300\n", true,
     false},
    {"extension", "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n", true, false},
    {"at the end of what is compared", "enabled\ninterpreter /x\nflags: \noffset 255\nmagic 00\n", true, true},
    {"beyond", "enabled\ninterpreter /x\nflags: \noffset 255\nmagic 0000\n", false, false},
    {"offset too large", "enabled\ninterpreter /x\nflags: \noffset 99999999999999999999\nmagic 7f\n", false, false},
    {"no magic", "enabled\ninterpreter /x\nflags: \noffset 0\nmagic \n", false, false},
    {"status", "enabled\n", false, false},
    {"nothing", "", false, false},
};

Test(binfmt, registrations) {
  static BinfmtEntry entry;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    bool parsed = binfmt_entry_parse(cases[i].text, &entry);
    cr_expect_eq(parsed, cases[i].parsed, "%s: parsed", cases[i].name);
    if (parsed) cr_expect_eq(binfmt_entry_takes_x86_64(&entry), cases[i].takes, "%s: takes", cases[i].name);
  }
}

Test(binfmt, fields) {
  static BinfmtEntry entry;
  cr_assert(binfmt_entry_parse(
      "enabled\ninterpreter /usr/bin/stele\nflags: POCF\noffset 0\nmagic 7f454c46\nmask ff00ffff\n", &entry));
  cr_expect_str_eq(entry.interpreter, "/usr/bin/stele");
  cr_expect_str_eq(entry.flags, "POCF");
  cr_expect_eq(entry.length, 4);
  cr_expect_eq(entry.mask[1], 0);
}

// What we register is what the kernel then prints, and takes such programs.
static void as_printed(const char *escaped, char *ret_hex) {
  for (; *escaped; ret_hex += 2) {
    if (*escaped == '\\') {
      memcpy(ret_hex, escaped + 2, 2);
      escaped += 4;
    } else {
      sprintf(ret_hex, "%02x", *escaped++);
    }
  }
  *ret_hex = 0;
}

Test(binfmt, own_rule) {
  static BinfmtEntry entry;
  char magic[128], mask[128], text[512];
  as_printed(BINFMT_MAGIC, magic);
  as_printed(BINFMT_MASK, mask);
  cr_expect_str_eq(magic, MAGIC_X86_64);
  snprintf(text, sizeof text,
           "enabled\ninterpreter /usr/bin/stele\nflags: " BINFMT_FLAGS "\noffset 0\nmagic %s\nmask %s\n", magic, mask);
  cr_assert(binfmt_entry_parse(text, &entry));
  cr_expect(binfmt_entry_takes_x86_64(&entry));
  entry.magic[18] = 0xb7; // AArch64
  cr_expect(!binfmt_entry_takes_x86_64(&entry));
}
