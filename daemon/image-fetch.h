// Brings an image from where it is into the store: from a registry, an OCI layout, an archive, a tarball, a directory,
// a disk image, or made from Debian's archive. What can be interrupted and tried again is the blobs that are complete.
#pragma once

#include "image-store.h"

typedef struct ImageRequest {
  const char *source;   // see image_fetch()
  const char *name;     // or NULL: follows from the source
  const char *authfile; // of the caller's, for registries; or NULL
  guint stall;          // seconds a registry may send nothing; 0: 60
  gboolean insecure;    // the registry may be one without TLS, or with a certificate nobody knows
} ImageRequest;

// BLOCKING. source: an absolute path, whose kind is found out; debian:SUITE, made by mmdebstrap; oci:PATH[:TAG],
// oci-archive:PATH or docker-archive:PATH; or what a registry has, with or without docker://. STELE_ERROR_FETCH_FAILED,
// STELE_ERROR_INVALID_IMAGE, STELE_ERROR_CANCELLED, STELE_ERROR_STORAGE(_FULL), STELE_ERROR_UNSUPPORTED.
ImageRecord *image_fetch(ImageStore *store, const ImageRequest *request, GCancellable *cancellable, ImageSay say,
                         gpointer user_data, GError **error);
