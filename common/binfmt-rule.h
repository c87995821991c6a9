// The rule by which the kernel hands x86-64 programs to the translator (Linux,
// Documentation/admin-guide/binfmt-misc.rst), for the agent in a machine and for a host without one.
#pragma once

#define BINFMT_RULE_NAME "stele-x86_64"
#define BINFMT_MISC      "/proc/sys/fs/binfmt_misc"

// Fields of the ELF header (elf(5)) that tell an x86-64 program: magic, 64 bit, little endian, version;
// EXEC or DYN; machine 62. The ABI bytes and the padding may be anything. The kernel undoes the escapes.
#define BINFMT_ANY8 "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"
#define BINFMT_MAGIC                                                                                                   \
  "\\x7f"                                                                                                              \
  "ELF\\x02\\x01\\x01\\x00" BINFMT_ANY8 "\\x02\\x00\\x3e\\x00"
#define BINFMT_MASK "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00" BINFMT_ANY8 "\\xfe\\xff\\xff\\xff"

// P: argv[0] is kept; O: the program is handed over open, so that it need not be readable; C: its set-uid bits count;
// F: the interpreter is opened now, so that chroots and containers need nothing inside.
#define BINFMT_FLAGS "POCF"

#define BINFMT_RULE(interpreter)                                                                                       \
  ":" BINFMT_RULE_NAME ":M::" BINFMT_MAGIC ":" BINFMT_MASK ":" interpreter ":" BINFMT_FLAGS
