/* Putting pieces together: what the dispatcher would translate, place, link and check one by one costs a process less as
 * one. A piece is a translated region as the pipeline makes it. Those of one function become one region: branches
 * between them lead straight to their targets, they share what leads to trampolines and their literals, and what tells of
 * exits stays as it is, so that a thread can be brought out of it by a copy. */
#ifndef STELE_AOT_JOIN_H
#define STELE_AOT_JOIN_H

#include "image/image.h"

enum { JOIN_WORDS_MAX = 4096 /* a region's, so that a detour holds a copy (runtime/detour.c) */ };

typedef struct Piece {
  uint64_t entry;  /* from the image's base */
  uint32_t length; /* guest bytes translated */
  uint16_t look_count;
  const ImageLook *looks; /* beyond those */
  A64Tables tables;
} Piece;

/* Room for joining; some hundred kilobytes. */
typedef struct Joiner Joiner;
Joiner *join_new(void);
void join_free(Joiner *joiner);

/* Joins pieces of ascending entries to one region. Its record, without a checksum, is good until the next call; NULL where
 * they don't fit into one. */
const ImageRecord *join_pieces(Joiner *joiner, const Piece *const *pieces, size_t count);

#endif
