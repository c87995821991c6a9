/* Translations that outlive their process: their format, and how they are found in it.
 *
 * A **store** is one file, or the end of one: translations of many files. A **code image** is the part of it made from
 * one file for one kind of processor and one memory model, with a copy of the file's code; a **record** in it is one
 * region: what the dispatcher would translate in several, up to a function's, put together (aot/join.h). All numbers are little endian, all parts aligned to 8 bytes.
 *
 *   what stands before | header | directory of images | images | trailer
 *   image:   segments | buckets and index: entries by address | copies of the segments | records
 *
 * A reader trusts nothing: each access is within bounds, and a record has a checksum. That a record fits the guest code at
 * hand is not concluded from names, keys or dates, which only serve to find it: the guest's bytes are compared with the
 * image's copy when it is used. A store says what it is made of (IMAGE_BUILD): what another build of the translator made is not used. */
#ifndef STELE_IMAGE_IMAGE_H
#define STELE_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "a64/tables.h"

#define IMAGE_MAGIC UINT64_C(0x65726f74736c7473) /* "stlstore" */

enum {
  IMAGE_FORMAT = 2,
  IMAGE_HEAD_BYTES = 4096, /* of a file, that its key is made from */
  IMAGE_SEGMENTS_MAX = 16,
  IMAGE_BUCKET_BYTES = 64, /* of guest code */
  IMAGE_ADDRESS_BYTES = 1 << 30 /* guest addresses of an image lie so close together */
};

typedef struct ImageTrailer { /* the last bytes of the file */
  uint64_t magic;
  uint64_t offset, size; /* of the store in the file; the trailer is its end */
  uint64_t checksum;     /* of header and directory */
} ImageTrailer;

typedef struct ImageHeader {
  uint64_t magic;
  uint32_t format, image_count;
  uint64_t build[2]; /* IMAGE_BUILD */
} ImageHeader;

/* What code was made for, beside the bytes. */
typedef struct ImageTarget {
  uint32_t features; /* A64_HAS_*, of which a processor may have more */
  uint32_t ordered;  /* 0 or 1 */
} ImageTarget;

typedef struct ImageEntry { /* of the directory; ascending by key, then target */
  uint64_t file;       /* image_file_key() */
  ImageTarget target;
  uint64_t offset, size; /* of the image in the store */
} ImageEntry;

/* Where a part of the file belongs. */
typedef struct ImageSegment {
  uint64_t file_offset, size; /* page-aligned */
  uint64_t address;           /* from the image's base */
  uint64_t copy;              /* where its bytes stand in the image */
} ImageSegment;

typedef struct ImageHead { /* of an image; buckets and index follow, then records */
  uint32_t segment_count, index_count;
  uint32_t bucket_base, bucket_count; /* addresses in units of IMAGE_BUCKET_BYTES */
  ImageSegment segments[IMAGE_SEGMENTS_MAX];
} ImageHead;

/* A bucket is where in the index its addresses begin; one more stands for the end. */
typedef uint32_t ImageBucket;

/* Of an entry, by ascending address within its bucket: how far behind the bucket's beginning it is, and where in the image its
 * record is, in units of 8 bytes. */
typedef union ImageIndex {
  struct {
    uint32_t behind : 6; /* IMAGE_BUCKET_BYTES */
    uint32_t record : 26;
  };
  uint32_t all;
} ImageIndex;
#define IMAGE_RECORD_MAX (UINT32_MAX >> 6) /* what is further in an image is in no index */

typedef struct ImageLook { /* guest bytes that the translation depends on */
  uint32_t address, length;
} ImageLook;

/* What was translated at once: guest bytes [entry, entry + length). */
typedef struct ImagePart { /* ascending by word */
  uint32_t entry;  /* from the record's */
  uint16_t length;
  uint16_t word;   /* where its code begins */
} ImagePart;

/* A region. Behind it, in this order: exits, entries, looks, parts, relocations, words, indirect checks, pc_map. Entries are
 * ascending. Literals with guest addresses count them from the image's base. The looks are all it was made from, ascending and apart. */
typedef struct ImageRecord {
  uint64_t checksum;      /* of the rest, and of the record's offset in the image */
  uint32_t entry;         /* from the image's base: that of its first part, from which its tables count */
  uint16_t size;          /* of all, in units of 8 bytes */
  uint16_t word_count, instruction_count, exit_count, entry_count, relocation_count, indirect_count, pc_map_count,
      address_count, link_veneer, outward_count, look_count, part_count;
  uint16_t zero;
} ImageRecord;

/* The arrays of a record, in place. */
typedef struct ImageRegion {
  const ImageRecord *record;
  A64Tables tables;
  const ImageLook *looks;
  const ImagePart *parts;
} ImageRegion;

/* A store in memory; nothing of it is copied. */
typedef struct ImageStore {
  const uint8_t *bytes;
  uint64_t size;
  uint32_t image_count;
} ImageStore;

/* One image in it. */
typedef struct CodeImage {
  const uint8_t *bytes;
  uint64_t size;
  const ImageHead *head;
  const ImageBucket *buckets;
  const ImageIndex *index;
  uint32_t bucket_base, bucket_count, index_count, segment_count;
} CodeImage;

/* For bits that got lost, not against malice. `length` is a multiple of 8 bytes. */
uint64_t image_checksum(const void *bytes, uint64_t length, uint64_t seed);

/* The name a file goes by: its size and first IMAGE_HEAD_BYTES (`length` where it is shorter), which hold the build ID
 * that linkers write. */
uint64_t image_file_key(const void *head, uint64_t length, uint64_t file_size);

/* Finds the store in a file by its last bytes. False where it has none that is whole. */
bool image_read_trailer(const ImageTrailer *trailer, uint64_t file_size);

/* The store at `bytes`, with the trailer. False when it is damaged, of another format or of another build. */
bool image_open_store(const void *bytes, uint64_t size, ImageStore *ret_store);

/* The image of a file that makes the most of the processor: made for features it has, and for the same memory order. False
 * when there is none. */
bool image_find(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image);

/* The image of a file made for just this target. False when there is none. */
bool image_find_made(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image);

/* The image's base when its file is mapped at `address` from `offset` on; false when no segment begins there. */
bool image_base(const CodeImage *image, uint64_t address, uint64_t offset, uint64_t *ret_base);

/* The record that the index has for `address`, from the image's base, or NULL: it lies within the image, and has not been looked at. */
const ImageRecord *image_find_record(const CodeImage *image, uint64_t address);

/* The address that a row of the index is for, from the image's base; 0 where buckets are damaged. */
uint64_t image_indexed_address(const CodeImage *image, uint32_t row);

/* The region that can be entered at `address`, from the image's base. False when there is none, or it is damaged. */
bool image_find_region(const CodeImage *image, uint64_t address, ImageRegion *ret_region);

/* The image's copy of guest bytes [address, address + length), from its base; NULL where it has none. */
const uint8_t *image_bytes(const CodeImage *image, uint64_t address, uint64_t length);

/* How much room a record takes, in bytes; where its arrays are. Shared by who writes it and who reads it. */
uint64_t image_record_size(const ImageRecord *record);
/* Where the index begins in an image of so many buckets. */
uint64_t image_index_offset(uint32_t bucket_count);
ImageRegion image_region_at(const ImageRecord *record);

#endif
