/* Translations that outlive their process: their format, and how they are found in it.
 *
 * A **store** is one file, or the end of one: translations of many files. A **code image** is the part of it made from
 * one file for one kind of processor and one memory model, with a copy of the file's code; a **record** in it is one
 * region: what the dispatcher would translate in several, up to a function's, put together (aot/join.h). All numbers are little endian, all parts aligned to 8 bytes.
 *
 *   what stands before | header | directory of images | images, and copies of the files' code | trailer
 *   image:   head with segments | buckets | rows: where records are | records
 *
 * Images of one file share its copy. Rows are in the order of their records' entries, and a bucket names the first of those
 * that may be entered in a stretch of code; which of them it is, the records' own entries tell.
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
  IMAGE_FORMAT = 3,
  IMAGE_HEAD_BYTES = 4096, /* of a file, that its key is made from */
  IMAGE_SEGMENTS_MAX = 16,
  IMAGE_BUCKET_BYTES = 128, /* of guest code */
  IMAGE_CANDIDATES_MAX = 32, /* rows that are looked at for an address: what files made to have more gain is nothing */
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
  uint64_t copies;       /* where in the store the copies of its segments begin */
} ImageEntry;

/* Where a part of the file belongs. */
typedef struct ImageSegment {
  uint64_t file_offset, size; /* page-aligned */
  uint64_t address;           /* from the image's base */
  uint64_t copy;              /* where its bytes stand among the copies */
} ImageSegment;

typedef struct ImageHead { /* of an image; buckets and rows follow, then records */
  uint32_t segment_count, row_count;
  uint32_t bucket_base, bucket_count; /* addresses in units of IMAGE_BUCKET_BYTES */
  ImageSegment segments[IMAGE_SEGMENTS_MAX];
} ImageHead;

typedef uint32_t ImageBucket; /* number of a row, or IMAGE_NO_ROW */
typedef uint32_t ImageRow;    /* where in the image a record is, in units of 8 bytes */
#define IMAGE_NO_ROW UINT32_MAX

typedef struct ImageLook { /* guest bytes that the translation depends on */
  uint32_t address, length;
} ImageLook;

/* What was translated at once: guest bytes [entry, entry + length). */
typedef struct ImagePart { /* ascending, also by where their code begins */
  uint16_t entry;  /* number of the record's entry that it begins with */
  uint16_t length;
} ImagePart;

/* A region. Behind it, in this order: entries and zeros up to 8 bytes, exits, looks, inner exits, parts, relocations, addresses,
 * words, indirect checks, pc_map. Entries are ascending. Addresses count from the image's base. The looks are all it was made from, ascending and apart. */
typedef struct ImageRecord {
  uint64_t checksum;      /* of the rest, and of the record's offset in the image */
  uint32_t entry;         /* from the image's base: that of its first part, from which its tables count */
  uint16_t size;          /* of all, in units of 8 bytes */
  uint16_t word_count, instruction_count, exit_count, inner_count, entry_count, relocation_count, indirect_count, pc_map_count,
      address_count, link_veneer, outward_count, look_count, part_count;
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
  const uint8_t *bytes, *copies;
  uint64_t size, copies_size; /* of the copies at most */
  const ImageHead *head;
  const ImageBucket *buckets;
  const ImageRow *rows;
  uint32_t bucket_base, bucket_count, row_count, segment_count;
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

/* Its directory, of image_count entries. */
static inline const ImageEntry *image_store_entries(const ImageStore *store) {
  return (const void *)((const ImageHeader *)(const void *)store->bytes + 1);
}

/* The image of a file that makes the most of the processor: made for features it has, and for the same memory order. False
 * when there is none. */
bool image_find(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image);

/* The image of a file made for just this target. False when there is none. */
bool image_find_made(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image);

/* The image's base when its file is mapped at `address` from `offset` on; false when no segment begins there. */
bool image_base(const CodeImage *image, uint64_t address, uint64_t offset, uint64_t *ret_base);

/* The record of a row, which is below row_count; NULL where it does not lie within the image, entries included. Nothing else of
 * it has been looked at. */
const ImageRecord *image_record_of_row(const CodeImage *image, uint32_t row);

/* Such a record of a region that can be entered at `address`, from the image's base, by *ret_entry; or NULL. */
const ImageRecord *image_find_record(const CodeImage *image, uint64_t address, const A64TableEntry **ret_entry);

/* The region of such a record; false unless all of it is as it was written. */
bool image_read_region(const CodeImage *image, const ImageRecord *record, ImageRegion *ret_region);

/* The image's copy of guest bytes [address, address + length), from its base; NULL where it has none. */
const uint8_t *image_bytes(const CodeImage *image, uint64_t address, uint64_t length);

/* How much room a record takes, in bytes; where its arrays are. Shared by who writes it and who reads it. */
uint64_t image_record_size(const ImageRecord *record);
ImageRegion image_region_at(const ImageRecord *record);
static inline const A64TableEntry *image_record_entries(const ImageRecord *record) { return (const void *)(record + 1); }
/* Where the rows begin in an image of so many buckets. */
uint64_t image_rows_offset(uint32_t bucket_count);

#endif
