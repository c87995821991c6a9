// Programs that do the work on images: skopeo fetches, umoci unpacks, tar, mmdebstrap and mkfs.ext4 make. What they
// read comes from strangers, so each runs in a mount namespace where nothing but the image store can be written to, in
// a process group of its own, with limits, and ends with steled. Where steled is not root, they are root in a user
// namespace (user-namespace.h).
#pragma once

#include <gio/gio.h>

typedef struct ImageTool {
  const char *const *argv; // NULL-terminated; the program is looked up in PATH
  const char *writable;    // the one directory it may change, also its TMPDIR
  int output;              // descriptor for its standard output; -1: it is collected
  guint64 file_max;        // bytes a file may grow to; 0: no limit
  gboolean network;        // may use it
  gboolean host;           // the whole host stays writable to it: for what makes mounts of its own
  GCancellable *cancellable;
  // Called about twice a second; FALSE and error ends the program. May be NULL.
  gboolean (*tick)(gpointer user_data, GError **error);
  gpointer user_data;
} ImageTool;

// BLOCKING. Runs it to its end. FALSE and error when it could not run, was ended, or did not exit with 0: the message
// is then the end of what it printed on standard error. *ret_output, which may be NULL, is what it printed, at most 4
// MiB. STELE_ERROR_UNSUPPORTED: it is not installed, or cannot be confined; STELE_ERROR_CANCELLED;
// STELE_ERROR_STORAGE_FULL when its words say so; otherwise STELE_ERROR_INVALID_IMAGE.
gboolean image_tool_run(const ImageTool *tool, char **ret_output, GError **error);
