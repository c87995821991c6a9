// What the host asked for on the kernel command line (guest-protocol.h, part 1), as a structure. Pure:
// text in, structure out.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "guest-protocol.h"

typedef enum RootKind { ROOT_UNSET, ROOT_VIRTIOFS, ROOT_DISK } RootKind;
typedef enum RootMode { ROOT_OVERLAY, ROOT_RW, ROOT_RO } RootMode;
typedef enum InitKind { INIT_SYSTEM, INIT_COMMAND, INIT_NONE } InitKind;

typedef struct ConfigShare {
  char tag[40], path[256];
  bool readonly;
} ConfigShare;

typedef struct Config {
  RootKind root_kind;
  char root_source[128]; // virtiofs tag, or block device under /dev
  char root_fstype[16];  // of a disk
  RootMode root_mode;
  char changes_device[64], changes_fstype[16]; // of the overlay's upper layer; empty: guest memory
  ConfigShare shares[STELE_SHARES_MAX];
  int share_count;
  InitKind init_kind;
  char init_path[256];                               // of the distribution's init
  bool all_units;                                    // none of systemd's units is masked for being of no use
  char hostname[65];                                 // empty: the root's own
  char translator_tag[64];                           // of a virtiofs share
  char translator_device[64], translator_fstype[16]; // or of a disk; empty: it is a share
  char cpu[32], cpu_vendor[32], memory_model[32];    // empty: the translator's defaults
  char command[STELE_COMMAND_LINE_MAX];              // JSON, decoded
} Config;

// Reads a kernel command line. Returns 0, or -EINVAL with a sentence for the console in `message`.
int config_parse(Config *ret_config, const char *command_line, char *message, size_t message_size);

// Decodes RFC 4648 base64, padded. Returns the number of bytes, or -EINVAL (also when they don't fit
// with a terminating NUL in `size`, or hold a NUL).
int config_decode_base64(const char *text, char *ret_bytes, size_t size);
