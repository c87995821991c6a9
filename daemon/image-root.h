// Layers of an image, checked already, become what machines have as their root: a directory where steled is root; and
// otherwise an erofs image, which can hold owners, set-uid programs and the like that a user's own files cannot.
// Every function may be called from any thread and may block.
#pragma once

#include <gio/gio.h>

typedef struct ImageRoot {
  const char *staging; // an OCI layout with one image, named 'image'; all is made in here
  guint64 bytes_max;   // of one file
  GCancellable *cancellable;
  gboolean (*tick)(gpointer user_data, GError **error); // ImageTool's
  gpointer user_data;
  gboolean has_init; // set by image_root_unpack(): there is an /sbin/init that can run
} ImageRoot;

// Whether roots are packed into erofs images here.
gboolean image_root_is_packed(void);

// Unpacks the layers by umoci and syncs. The directory's path, or NULL: ImageTool's errors, STELE_ERROR_STORAGE.
char *image_root_unpack(ImageRoot *root, GError **error);

// Makes an erofs image of what image_root_unpack() made, synced, and removes that. The image's path, or NULL.
char *image_root_pack(const ImageRoot *root, GError **error);

// Removes a directory with files of other owners of steled's user namespaces. FALSE also where steled is root.
gboolean image_root_remove(const char *path);
