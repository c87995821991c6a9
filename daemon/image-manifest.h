// What an OCI layout says about its image: index → manifest → configuration, each checked against the digest it is
// named by, and the other way round for an image made here. Formats: OCI image-spec 1.0 (image-layout.md, manifest.md,
// config.md). Knows nothing of the store.
#pragma once

#include <gio/gio.h>
#include "image-layer.h"

typedef struct ImageConfig { // any may be NULL
  char **entrypoint, **cmd, **env, **ports, **volumes;
  char *user, *cwd, *stop_signal;
} ImageConfig;

typedef struct ImageManifest {
  char *digest, *config_digest; // sha256:…
  ImageConfig config;
  GPtrArray *layers; // of ImageLayer, the lowest first
} ImageManifest;

void image_config_clear(ImageConfig *config);
void image_manifest_free(ImageManifest *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageManifest, image_manifest_free)

// BLOCKING. Reads the one image of the layout. STELE_ERROR_INVALID_IMAGE: damaged, for another processor or system, or
// of a kind that cannot be used, with the reason.
ImageManifest *image_manifest_read(const char *layout, GError **error);

// BLOCKING. Makes `layout`, which has the directory blobs/sha256, one of an image with this single layer, whose blob
// is there already.
gboolean image_manifest_write(const char *layout, const ImageLayer *layer, const ImageConfig *config, GError **error);

// The digest that stands for what the layers unpack to, as 64 hexadecimal digits: of their diff IDs in order.
char *image_manifest_chain(const ImageManifest *manifest);
