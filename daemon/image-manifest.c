// See image-manifest.h.
#include "image-manifest.h"

#include <string.h>
#include "errors.h"
#include "json.h"

#define DOCUMENT_MAX (4 * 1024 * 1024)
#define LAYERS_MAX   127 // as many as overlayfs' users ever make

#define TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define TYPE_CONFIG   "application/vnd.oci.image.config.v1+json"

void image_config_clear(ImageConfig *config) {
  char **const lists[] = {config->entrypoint, config->cmd, config->env, config->ports, config->volumes};
  for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) g_strfreev(lists[i]);
  g_free(config->user);
  g_free(config->cwd);
  g_free(config->stop_signal);
  *config = (ImageConfig){NULL};
}

static void layer_free(gpointer data) {
  ImageLayer *layer = data;
  g_free(layer->media_type);
  g_free(layer->digest);
  g_free(layer->diff_id);
  g_free(layer);
}

void image_manifest_free(ImageManifest *manifest) {
  if (manifest == NULL) return;
  g_free(manifest->digest);
  g_free(manifest->config_digest);
  image_config_clear(&manifest->config);
  if (manifest->layers) g_ptr_array_unref(manifest->layers);
  g_free(manifest);
}

// --- documents ------------------------------------------------------------------------------------

typedef struct Document {
  char *text;
  JsonDocument json;
} Document;

static void document_clear(Document *document) {
  json_free(&document->json);
  g_free(document->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Document, document_clear)

static gboolean digest_is_well_formed(const char *digest) {
  return digest && g_str_has_prefix(digest, "sha256:") && strlen(digest) == 7 + 64 &&
         strspn(digest + 7, "0123456789abcdef") == 64;
}

static gboolean parse(Document *document, char *text, gsize size, const char *what, GError **error) {
  document->text = text;
  int r = json_parse(&document->json, text, size);
  if (r < 0)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s is %s", what, r == -E2BIG ? "too large" : "no JSON");
  return document->json.nodes[0].type == JSON_OBJECT ||
         stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s is no JSON object", what);
}

static gboolean load(Document *document, const char *path, const char *what, gsize *ret_size, GError **error) {
  char *text = NULL;
  g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, NULL);
  if (file == NULL) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s is missing", what);
  *ret_size = g_mapped_file_get_length(file);
  if (*ret_size > DOCUMENT_MAX)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s is larger than 4 MiB", what);
  text = g_malloc(*ret_size + 1);
  if (*ret_size) memcpy(text, g_mapped_file_get_contents(file), *ret_size);
  text[*ret_size] = 0;
  return parse(document, text, *ret_size, what, error);
}

static char *blob_path(const char *layout, const char *digest) {
  return g_build_filename(layout, "blobs", "sha256", digest + 7, NULL);
}

static gboolean load_blob(Document *document, const char *layout, const char *digest, const char *what,
                          GError **error) {
  gsize size = 0;
  if (!digest_is_well_formed(digest))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s has no digest of the form sha256:…", what);
  g_autofree char *path = blob_path(layout, digest);
  if (!load(document, path, what, &size, error)) return FALSE;
  g_autofree char *got = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guint8 *)document->text, size);
  return g_str_equal(got, digest + 7) ||
         stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s has the digest sha256:%s, not %s", what, got, digest);
}

static const JsonNode *member(const Document *document, const JsonNode *object, const char *name) {
  return json_member(&document->json, object ? object : document->json.nodes, name);
}

// NULL where there is none.
static char *dup_string(const Document *document, const JsonNode *object, const char *name) {
  char *text = NULL;
  const JsonNode *node = member(document, object, name);
  return node && json_get_string(&document->json, node, &text) == 0 ? text : NULL;
}

static char **dup_strings(const Document *document, const JsonNode *object, const char *name) {
  const JsonNode *array = member(document, object, name);
  if (array == NULL || array->type != JSON_ARRAY) return NULL;
  GPtrArray *strings = g_ptr_array_new();
  const JsonDocument *json = &document->json;
  for (const JsonNode *node = json_first(json, array); node; node = json_next(json, array, node)) {
    char *text = NULL;
    if (json_get_string(json, node, &text) == 0) g_ptr_array_add(strings, text);
  }
  g_ptr_array_add(strings, NULL);
  return (char **)g_ptr_array_free(strings, FALSE);
}

// The keys of an object (config.md, ExposedPorts and Volumes).
static char **dup_keys(const Document *document, const JsonNode *object, const char *name) {
  const JsonNode *set = member(document, object, name);
  if (set == NULL || set->type != JSON_OBJECT) return NULL;
  GPtrArray *keys = g_ptr_array_new();
  const JsonDocument *json = &document->json;
  const JsonNode *end = json->nodes + set->next;
  for (const JsonNode *key = set + 1; key < end; key = json->nodes + json->nodes[key - json->nodes + 1].next) {
    char *text = NULL;
    if (json_get_string(json, key, &text) == 0) g_ptr_array_add(keys, text);
  }
  g_ptr_array_add(keys, NULL);
  return (char **)g_ptr_array_free(keys, FALSE);
}

// --- reading --------------------------------------------------------------------------------------

static gboolean read_layer(ImageManifest *manifest, const Document *document, const JsonNode *node, GError **error) {
  ImageLayer *layer = g_new0(ImageLayer, 1);
  gint64 size = -1;
  g_ptr_array_add(manifest->layers, layer);
  layer->media_type = dup_string(document, node, "mediaType");
  layer->digest = dup_string(document, node, "digest");
  if (!digest_is_well_formed(layer->digest))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a layer has no digest of the form sha256:…");
  const JsonNode *number = member(document, node, "size");
  if (number == NULL || json_get_integer(&document->json, number, &size) < 0 || size < 0)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a layer has no size");
  layer->size = (guint64)size;
  if (layer->media_type && image_layer_compression(layer->media_type) != LAYER_UNKNOWN) return TRUE;
  return stele_refuse(
      error, STELE_ERROR_INVALID_IMAGE,
      "a layer is of the type %s, which cannot be unpacked: layers may be tar, or tar with gzip or zstd",
      layer->media_type ? layer->media_type : "(none)");
}

static gboolean read_layers(ImageManifest *manifest, const Document *document, GError **error) {
  const JsonNode *layers = member(document, NULL, "layers");
  if (layers == NULL || layers->type != JSON_ARRAY)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its manifest has no layers");
  for (const JsonNode *node = json_first(&document->json, layers); node;
       node = json_next(&document->json, layers, node)) {
    if (manifest->layers->len == LAYERS_MAX)
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it has more than %d layers", LAYERS_MAX);
    if (!read_layer(manifest, document, node, error)) return FALSE;
  }
  return TRUE;
}

static gboolean check_platform(const Document *document, GError **error) {
  g_autofree char *architecture = dup_string(document, NULL, "architecture"), *os = dup_string(document, NULL, "os");
  if (g_strcmp0(architecture, "amd64") == 0 && g_strcmp0(os, "linux") == 0) return TRUE;
  return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                      "it is for %s on %s: machines run x86-64 programs, so that it takes an image for linux/amd64",
                      os ? os : "an unnamed system", architecture ? architecture : "an unnamed processor");
}

static gboolean read_diff_ids(ImageManifest *manifest, const Document *document, GError **error) {
  const JsonNode *rootfs = member(document, NULL, "rootfs");
  g_auto(GStrv) ids = rootfs ? dup_strings(document, rootfs, "diff_ids") : NULL;
  if (ids == NULL || g_strv_length(ids) != manifest->layers->len)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                        "its configuration and its manifest do not have the same number of layers");
  for (guint i = 0; i < manifest->layers->len; i++) {
    if (!digest_is_well_formed(ids[i]))
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a layer has no diff ID of the form sha256:…");
    ((ImageLayer *)manifest->layers->pdata[i])->diff_id = g_strdup(ids[i]);
  }
  return TRUE;
}

static gboolean read_config(ImageManifest *manifest, const char *layout, GError **error) {
  g_auto(Document) document = {NULL};
  if (!load_blob(&document, layout, manifest->config_digest, "configuration", error)) return FALSE;
  if (!check_platform(&document, error) || !read_diff_ids(manifest, &document, error)) return FALSE;
  const JsonNode *config = member(&document, NULL, "config");
  if (config == NULL || config->type != JSON_OBJECT) return TRUE;
  manifest->config = (ImageConfig){.entrypoint = dup_strings(&document, config, "Entrypoint"),
                                   .cmd = dup_strings(&document, config, "Cmd"),
                                   .env = dup_strings(&document, config, "Env"),
                                   .ports = dup_keys(&document, config, "ExposedPorts"),
                                   .volumes = dup_keys(&document, config, "Volumes"),
                                   .user = dup_string(&document, config, "User"),
                                   .cwd = dup_string(&document, config, "WorkingDir"),
                                   .stop_signal = dup_string(&document, config, "StopSignal")};
  return TRUE;
}

static gboolean read_manifest(ImageManifest *manifest, const char *layout, GError **error) {
  g_auto(Document) document = {NULL};
  if (!load_blob(&document, layout, manifest->digest, "manifest", error)) return FALSE;
  const JsonNode *config = member(&document, NULL, "config");
  manifest->config_digest = config ? dup_string(&document, config, "digest") : NULL;
  return read_layers(manifest, &document, error) && read_config(manifest, layout, error);
}

ImageManifest *image_manifest_read(const char *layout, GError **error) {
  g_auto(Document) index = {NULL};
  g_autofree char *path = g_build_filename(layout, "index.json", NULL);
  g_autoptr(ImageManifest) manifest = g_new0(ImageManifest, 1);
  gsize size = 0;
  manifest->layers = g_ptr_array_new_with_free_func(layer_free);
  if (!load(&index, path, "index", &size, error)) return NULL;
  const JsonNode *manifests = member(&index, NULL, "manifests");
  const JsonNode *first = manifests ? json_first(&index.json, manifests) : NULL;
  manifest->digest = first ? dup_string(&index, first, "digest") : NULL;
  return read_manifest(manifest, layout, error) ? g_steal_pointer(&manifest) : NULL;
}

char *image_manifest_chain(const ImageManifest *manifest) {
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  for (guint i = 0; i < manifest->layers->len; i++) {
    const ImageLayer *layer = manifest->layers->pdata[i];
    g_checksum_update(sum, (const guint8 *)layer->diff_id, -1);
    g_checksum_update(sum, (const guint8 *)"\n", 1);
  }
  return g_strdup(g_checksum_get_string(sum));
}

// --- writing --------------------------------------------------------------------------------------

// Takes the text. The digest of a new blob, or NULL.
static char *write_blob(const char *layout, Buffer *json, gsize *ret_size, GError **error) {
  if (json->error) g_error("no memory");
  *ret_size = json->size;
  g_autofree char *hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guint8 *)json->data, json->size);
  g_autofree char *digest = g_strconcat("sha256:", hash, NULL), *path = blob_path(layout, digest);
  gboolean written = g_file_set_contents(path, (const char *)json->data, (gssize)json->size, error);
  buffer_clear(json);
  return written ? g_steal_pointer(&digest) : NULL;
}

static void put_descriptor(Buffer *json, const char *type, const char *digest, gsize size) {
  json_open(json, '{');
  json_member_string(json, "mediaType", type);
  json_member_string(json, "digest", digest);
  json_member_integer(json, "size", (gint64)size);
}

static char *write_config(const char *layout, const ImageLayer *layer, const ImageConfig *config, gsize *ret_size,
                          GError **error) {
  const char *const ids[] = {layer->diff_id, NULL};
  Buffer json = {0};
  json_open(&json, '{');
  json_member_string(&json, "architecture", "amd64");
  json_member_string(&json, "os", "linux");
  json_key(&json, "config");
  json_open(&json, '{');
  if (config->cmd) json_member_strings(&json, "Cmd", (const char *const *)config->cmd);
  if (config->env) json_member_strings(&json, "Env", (const char *const *)config->env);
  json_close(&json, '}');
  json_key(&json, "rootfs");
  json_open(&json, '{');
  json_member_string(&json, "type", "layers");
  json_member_strings(&json, "diff_ids", ids);
  json_close(&json, '}');
  json_close(&json, '}');
  return write_blob(layout, &json, ret_size, error);
}

static char *write_manifest(const char *layout, const ImageLayer *layer, const char *config, gsize config_size,
                            gsize *ret_size, GError **error) {
  Buffer json = {0};
  json_open(&json, '{');
  json_member_integer(&json, "schemaVersion", 2);
  json_member_string(&json, "mediaType", TYPE_MANIFEST);
  json_key(&json, "config");
  put_descriptor(&json, TYPE_CONFIG, config, config_size);
  json_close(&json, '}');
  json_key(&json, "layers");
  json_open(&json, '[');
  put_descriptor(&json, layer->media_type, layer->digest, layer->size);
  json_close(&json, '}');
  json_close(&json, ']');
  json_close(&json, '}');
  return write_blob(layout, &json, ret_size, error);
}

static gboolean write_index(const char *layout, const char *manifest, gsize size, GError **error) {
  g_autofree char *index = g_build_filename(layout, "index.json", NULL),
                  *mark = g_build_filename(layout, "oci-layout", NULL);
  Buffer json = {0};
  json_open(&json, '{');
  json_member_integer(&json, "schemaVersion", 2);
  json_key(&json, "manifests");
  json_open(&json, '[');
  put_descriptor(&json, TYPE_MANIFEST, manifest, size);
  json_key(&json, "annotations");
  json_open(&json, '{');
  json_member_string(&json, "org.opencontainers.image.ref.name", "image");
  json_close(&json, '}');
  json_close(&json, '}');
  json_close(&json, ']');
  json_close(&json, '}');
  if (json.error) g_error("no memory");
  gboolean written = g_file_set_contents(index, (const char *)json.data, (gssize)json.size, error) &&
                     g_file_set_contents(mark, "{\"imageLayoutVersion\":\"1.0.0\"}", -1, error);
  buffer_clear(&json);
  return written;
}

gboolean image_manifest_write(const char *layout, const ImageLayer *layer, const ImageConfig *config, GError **error) {
  gsize config_size = 0, size = 0;
  g_autofree char *config_digest = write_config(layout, layer, config, &config_size, error);
  g_autofree char *manifest =
      config_digest ? write_manifest(layout, layer, config_digest, config_size, &size, error) : NULL;
  return manifest && write_index(layout, manifest, size, error);
}
