// The translator's file in a machine, as the agent gives it out (guest-agent/live.h): the file of the translator's
// share, with the host's store behind it, then stores that were made in this machine, and at the end a page that says
// where they are. It grows while programs run from it, and what the index names that they found does not change under
// them.
//
//   the share's file | zeros up to a page | store | zeros up to a page | store | … | LiveIndex
//
// A program that maps a file nobody has translations of says so by an ioctl() on this file, which it reaches as
// /proc/self/exe from every namespace. What it says is a hint: it names an address, and the agent looks for itself
// which file is mapped there.
#ifndef STELE_COMMON_LIVE_TRANSLATOR_H
#define STELE_COMMON_LIVE_TRANSLATOR_H

#include <linux/ioctl.h>
#include <stdint.h>

#define LIVE_MAGIC UINT64_C(0x786469766c6c7473) /* "stllvidx" */

enum { LIVE_PAGE = 4096, LIVE_STORES_MAX = 32 };

// A file with a store at its end, as it stands in this one: bytes [start, end), start at a page.
typedef struct LiveStore {
  uint64_t start, end;
} LiveStore;

// The last page of the file, which begins at a page. The newest store comes first. Who uses stores maps the file once,
// from its beginning to the end of the index: by that the agent knows which stores are in use.
typedef struct LiveIndex {
  uint64_t count;
  LiveStore stores[LIVE_STORES_MAX];
  uint8_t zeros[LIVE_PAGE - 16 - LIVE_STORES_MAX * sizeof(LiveStore)];
  uint64_t magic;
} LiveIndex;
_Static_assert(sizeof(LiveIndex) == LIVE_PAGE, "a page of the file");

// A file is mapped at `address` of the calling process whose translations are wanted; `file` is the name it goes by in
// stores (image_file_key()), which spares the agent a look where it knows that it has no use.
typedef struct LiveHint {
  uint64_t address, file;
} LiveHint;

// Comes back when the agent has taken the file down, or does not want to: 0. ENOTTY from any other file.
#define LIVE_HINT _IOW('S', 0x54, LiveHint)

#endif
