// A layer of an image, looked at before anything is unpacked: its digests, how much it unpacks to, and that no name in
// it leads out of the root. What comes from a registry or a file is a stranger's, so nothing in it is believed: sizes
// are counted while they are read, and reading ends where the budget does (a few megabytes can unpack to terabytes).
// Formats: OCI image-spec, layer.md; ustar, pax and GNU tar (POSIX.1-2017, pax); gzip (RFC 1952).
#pragma once

#include <gio/gio.h>

typedef struct ImageLayer {
  char *media_type;
  char *digest;  // sha256:… of the blob; NULL: to be found out, as the others
  char *diff_id; // sha256:… of what it unpacks to
  guint64 size;  // of the blob, bytes; 0 where digest is NULL
} ImageLayer;

// What an image may still unpack to.
typedef struct ImageBudget {
  guint64 bytes, bytes_max; // on disk: a file counts in whole pages, a directory as one
  guint64 entries;
  gboolean of_disk; // bytes_max is what the disk has left: beyond it is STELE_ERROR_STORAGE_FULL
} ImageBudget;

// ZSTD: is to become one of the others first (image-fetch.c).
typedef enum LayerCompression { LAYER_PLAIN, LAYER_GZIP, LAYER_ZSTD, LAYER_UNKNOWN } LayerCompression;

// By the layer's media type.
LayerCompression image_layer_compression(const char *media_type);

// BLOCKING. Reads the blob `file` and checks it against what the manifest says, or says what a manifest is to say.
// STELE_ERROR_INVALID_IMAGE with the reason, STELE_ERROR_CANCELLED, STELE_ERROR_STORAGE.
gboolean image_layer_check(const char *file, ImageLayer *layer, ImageBudget *budget, GCancellable *cancellable,
                           GError **error);
