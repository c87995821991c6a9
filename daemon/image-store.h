// Images on the host, below steled's state directory:
//   images/blobs/sha256/   what was fetched, content-addressed: layers are there once, whichever images have them
//   images/roots/HASH/     unpacked layers, read-only to all machines; HASH stands for what the layers are
//   images/disks/HASH      images of disks; where steled is not root also unpacked layers, as erofs images
//   (image-root.h) images/records/ID      what an image is and how it wants to be run, a key file (g_key_file_new(3));
//   ID is the digest
//                          of its manifest
//   images/names/NAME      (escaped) its ID
//   images/staging/        what is being made; emptied when steled starts
// An image is there once its record is, which is written last and in one move. Every function may be called from any
// thread and may block.
#pragma once

#include <gio/gio.h>
#include "image-manifest.h"

typedef struct ImageStore ImageStore;

typedef struct ImageRecord {
  char *id;   // 64 hexadecimal digits
  char *path; // of the root directory or the disk
  gboolean disk;
  char *format, *fstype; // of a disk, as in <stele:rootfs>
  gboolean without_init; // known of a disk that was made here
  char *source;          // where it came from, for a person
  gint64 created;        // seconds since 1970, when it was taken in
  guint64 size;          // bytes it unpacked to
  char **blobs;          // digests
  char **names;          // only by image_store_find() and image_store_list()
  ImageConfig config;
} ImageRecord;

void image_record_free(ImageRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageRecord, image_record_free)

// Makes the directories and removes what an earlier steled left half done. bytes_max: what an image may unpack to, 0
// for the default of 64 GiB.
ImageStore *image_store_open(const char *directory, guint64 bytes_max, GError **error);
void image_store_close(ImageStore *store);

// The directory all is in.
const char *image_store_directory(const ImageStore *store);
// Bytes an image may have: as many as it was told, or as the disk has left above a reserve (*ret_of_disk, may be NULL).
guint64 image_store_bytes_left(const ImageStore *store, gboolean *ret_of_disk);

// A new directory to make an image in, an OCI layout whose blobs are the store's; ended by image_store_unstage().
char *image_store_stage(ImageStore *store, GError **error);
void image_store_unstage(ImageStore *store, char *staging);

// What is going on, for a person.
typedef void (*ImageSay)(const char *message, gpointer user_data);

// Takes in the image of the layout `staging`, checked and unpacked, under a name. A name that was another image's is
// moved.
ImageRecord *image_store_take(ImageStore *store, const char *staging, const char *name, const char *source,
                              GCancellable *cancellable, ImageSay say, gpointer user_data, GError **error);
// Ditto for an image of a disk, a file in the staging directory, which is moved.
ImageRecord *image_store_take_disk(ImageStore *store, const char *file, const char *digest, const char *format,
                                   const char *fstype, const char *name, const char *source, GError **error);

// By name (':latest' and Docker Hub's prefixes may be left out) or the beginning of an ID. STELE_ERROR_NO_SUCH_IMAGE.
ImageRecord *image_store_find(ImageStore *store, const char *name, GError **error);
// Of ImageRecord, sorted by name; free with g_ptr_array_unref().
GPtrArray *image_store_list(ImageStore *store, GError **error);

// Removes a name, and the image when that was its last. uses: the machines that use a path, one a line, or NULL.
// STELE_ERROR_WRONG_STATE when it is in use.
typedef char *(*ImageUses)(const char *path, gpointer user_data);
gboolean image_store_remove(ImageStore *store, const char *name, ImageUses uses, gpointer user_data, GError **error);
// Removes what no image has and no machine uses: blobs, roots and disks; with `unused` also images no machine uses.
// *ret_freed in bytes of blobs and disks.
gboolean image_store_prune(ImageStore *store, gboolean unused, ImageUses uses, gpointer user_data, guint64 *ret_freed,
                           GError **error);
