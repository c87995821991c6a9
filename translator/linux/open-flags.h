/* Open flags as x86-64 spells them (include/uapi/asm-generic/fcntl.h; x86 overrides none), and other
 * constants of the x86-64 ABI that differ from AArch64's. */
#ifndef STELE_LINUX_OPEN_FLAGS_H
#define STELE_LINUX_OPEN_FLAGS_H

enum {
  X86_O_ACCMODE = 03,
  X86_O_DIRECT = 040000,
  X86_O_LARGEFILE = 0100000,
  X86_O_DIRECTORY = 0200000,
  X86_O_NOFOLLOW = 0400000,
  ARM64_O_DIRECTORY = 040000,
  ARM64_O_NOFOLLOW = 0100000,
  ARM64_O_DIRECT = 0200000,
  ARM64_O_LARGEFILE = 0400000,
  O_CREATE = 0100, /* equal on both */
  O_TRUNCATE = 01000,
  O_NONBLOCKING = 04000,
  O_CLOSE_ON_EXEC = 02000000,
  O_PATH_ONLY = 010000000
};

#endif
