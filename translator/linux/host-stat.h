/* struct stat as AArch64 has it and as x86-64 programs expect it (arch/x86/include/uapi/asm/stat.h). */
#ifndef STELE_LINUX_HOST_STAT_H
#define STELE_LINUX_HOST_STAT_H

#include <stdint.h>

typedef struct HostStat {
  uint64_t device, inode;
  uint32_t mode, links, uid, gid;
  uint64_t special_device, pad1;
  int64_t size;
  int32_t block_size, pad2;
  int64_t blocks;
  int64_t access_time, access_nanoseconds;
  int64_t modify_time, modify_nanoseconds;
  int64_t change_time, change_nanoseconds;
  uint32_t unused[2];
} HostStat;
_Static_assert(sizeof(HostStat) == 128, "kernel ABI");

typedef struct GuestStat {
  uint64_t device, inode, links;
  uint32_t mode, uid, gid, pad;
  uint64_t special_device;
  int64_t size, block_size, blocks;
  int64_t access_time, access_nanoseconds;
  int64_t modify_time, modify_nanoseconds;
  int64_t change_time, change_nanoseconds;
  int64_t unused[3];
} GuestStat;
_Static_assert(sizeof(GuestStat) == 144, "kernel ABI");

#endif
