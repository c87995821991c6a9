// See image-layer.h. Three stages, each fed by the one before: blob → inflated bytes → tar headers.
#include "image-layer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "errors.h"

#define BLOCK      512
#define LONG_MAX_  (1024 * 1024) // bytes of a pax header or a long name
#define CHUNK      (256 * 1024)
#define PAGE       4096
#define NAME_SHOWN 200

typedef struct Walk {
  ImageBudget *budget;
  GChecksum *unpacked;
  guint8 block[BLOCK];
  gsize filled;
  guint64 skip;     // bytes of content, padding included, still to pass over
  GString *special; // what a pax header or long name says, while it is read
  guint64 special_left;
  char special_type;
  char *path, *link; // said by it, for the next entry
  gboolean sized;    // ditto
  guint64 size;
  int zero_blocks;
} Walk;

// --- tar ------------------------------------------------------------------------------------------

// Octal digits, or base 256 where the first bit is set (GNU). FALSE: neither, or negative.
static gboolean read_number(const guint8 *field, gsize size, guint64 *ret_value) {
  guint64 value = 0;
  if (field[0] & 0x80) {
    if (field[0] != 0x80) return FALSE;
    for (gsize i = 1; i < size; i++) {
      if (value >> 56) return FALSE;
      value = value << 8 | field[i];
    }
    *ret_value = value;
    return value <= G_MAXINT64;
  }
  gsize i = 0;
  while (i < size && field[i] == ' ') i++;
  for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) value = value << 3 | (guint64)(field[i] - '0');
  *ret_value = value;
  return i == size || field[i] == 0 || field[i] == ' ';
}

static gboolean checksum_holds(const guint8 *block) {
  guint64 stored = 0, sum = 0;
  for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : block[i];
  return read_number(block + 148, 8, &stored) && stored == sum;
}

static char *header_path(const guint8 *block) {
  g_autofree char *name = g_strndup((const char *)block, 100), *prefix = g_strndup((const char *)block + 345, 155);
  gboolean ustar = memcmp(block + 257, "ustar\0", 6) == 0; // GNU's has a blank there, and no prefix
  return ustar && *prefix ? g_strconcat(prefix, "/", name, NULL) : g_steal_pointer(&name);
}

static gboolean leads_out(const char *path) {
  g_auto(GStrv) parts = g_strsplit(path, "/", -1);
  return g_strv_contains((const char *const *)parts, "..");
}

// A length, a blank, KEY=VALUE and a line feed, again and again.
static gboolean read_pax(Walk *walk, GError **error) {
  const char *at = walk->special->str, *end = at + walk->special->len;
  while (at < end) {
    char *after = NULL;
    guint64 length = g_ascii_isdigit(*at) ? g_ascii_strtoull(at, &after, 10) : 0;
    if (length < 5 || length > (guint64)(end - at) || *after != ' ' || at[length - 1] != '\n')
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a pax header in it is damaged");
    g_autofree char *record = g_strndup(after + 1, (gsize)(at + length - 1 - (after + 1)));
    char *value = strchr(record, '=');
    at += length;
    if (value == NULL) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a pax header in it is damaged");
    *value++ = 0;
    if (g_str_has_prefix(record, "GNU.sparse."))
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                          "it has a sparse file, whose size cannot be checked: make it without (tar without -S)");
    if (g_str_equal(record, "path")) g_free(walk->path), walk->path = g_strdup(value);
    if (g_str_equal(record, "linkpath")) g_free(walk->link), walk->link = g_strdup(value);
    if (g_str_equal(record, "size")) {
      walk->sized = TRUE;
      if (!g_ascii_string_to_unsigned(value, 10, 0, G_MAXINT64, &walk->size, NULL))
        return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a pax header in it has a size that is none");
    }
  }
  return TRUE;
}

static gboolean end_special(Walk *walk, GError **error) {
  gboolean good = TRUE;
  if (walk->special_type == 'x') good = read_pax(walk, error);
  if (walk->special_type == 'L') g_free(walk->path), walk->path = g_strdup(walk->special->str);
  if (walk->special_type == 'K') g_free(walk->link), walk->link = g_strdup(walk->special->str);
  g_string_free(walk->special, TRUE);
  walk->special = NULL;
  return good;
}

static gboolean spend(Walk *walk, const char *path, guint64 size, GError **error) {
  ImageBudget *budget = walk->budget;
  guint64 bytes = (size / PAGE + 1) * PAGE;
  g_autofree char *most = g_format_size_full(budget->bytes_max, G_FORMAT_SIZE_IEC_UNITS);
  if (bytes > budget->bytes && budget->of_disk) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE_FULL,
                "it unpacks to more than the %s that the disk has left; nothing of the image was kept: free some space "
                "and try again",
                most);
    return FALSE;
  }
  if (bytes > budget->bytes)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it unpacks to more than the %s that an image may, at %.*s",
                        most, NAME_SHOWN, path);
  if (budget->entries == 0)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it has more files than an image may");
  budget->bytes -= bytes;
  budget->entries--;
  return TRUE;
}

static gboolean check_entry(Walk *walk, char type, const char *path, guint64 size, GError **error) {
  g_autofree char *link = walk->link ? g_strdup(walk->link) : g_strndup((const char *)walk->block + 157, 100);
  if (*path == 0) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it has an entry without a name");
  if (leads_out(path))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it has the entry '%.*s', which leads out of the root",
                        NAME_SHOWN, path);
  if (type == '1' && leads_out(link))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                        "its entry '%.*s' is a hard link to '%.*s', which leads out of the root", NAME_SHOWN, path,
                        NAME_SHOWN, link);
  if (type == 'S')
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "'%.*s' in it is sparse, so that its size cannot be checked",
                        NAME_SHOWN, path);
  return spend(walk, path, size, error);
}

static gboolean on_header(Walk *walk, GError **error) {
  const guint8 *block = walk->block;
  char type = (char)block[156];
  guint64 size = 0;
  if (!checksum_holds(block))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                        "it is no tar archive, or damaged: a header's checksum is wrong");
  if (!read_number(block + 124, 12, &size))
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a header in it has a size that is none");
  if (strchr("xLK", type) && type) {
    if (size > LONG_MAX_) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a header in it is longer than 1 MiB");
    walk->special = g_string_new(NULL);
    walk->special_type = type;
    walk->special_left = size;
    walk->skip = (size + BLOCK - 1) / BLOCK * BLOCK;
    return size ? TRUE : end_special(walk, error);
  }
  if (type == 'g') { // of all that follow; nothing in it matters here, and nothing of it may
    if (size > LONG_MAX_) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "a header in it is longer than 1 MiB");
    walk->skip = (size + BLOCK - 1) / BLOCK * BLOCK;
    return TRUE;
  }
  if (walk->sized) size = walk->size;
  if (type && strchr("123456", type)) size = 0; // links, devices, directories, pipes have no content
  g_autofree char *path = walk->path ? g_strdup(walk->path) : header_path(block);
  gboolean good = check_entry(walk, type, path, size, error);
  walk->skip = (size + BLOCK - 1) / BLOCK * BLOCK;
  walk->sized = FALSE;
  g_clear_pointer(&walk->path, g_free);
  g_clear_pointer(&walk->link, g_free);
  return good;
}

static gboolean pass_content(Walk *walk, const guint8 *bytes, gsize count, GError **error) {
  walk->skip -= count;
  if (walk->special == NULL) return TRUE;
  gsize wanted = MIN(count, walk->special_left);
  g_string_append_len(walk->special, (const char *)bytes, (gssize)wanted);
  walk->special_left -= wanted;
  return walk->special_left || end_special(walk, error);
}

static gboolean on_block(Walk *walk, GError **error) {
  gboolean zero = TRUE;
  for (int i = 0; i < BLOCK && zero; i++) zero = walk->block[i] == 0;
  if (zero) return walk->zero_blocks++, TRUE;
  if (walk->zero_blocks == 1)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it is damaged: a block of zeros stands among its entries");
  return on_header(walk, error);
}

// Two blocks of zeros end an archive; what follows them is padding, which is hashed and no more.
static gboolean feed(Walk *walk, const guint8 *bytes, gsize count, GError **error) {
  g_checksum_update(walk->unpacked, bytes, (gssize)count);
  while (count > 0 && walk->zero_blocks < 2) {
    gsize used;
    if (walk->skip > 0) {
      used = MIN(count, walk->skip);
      if (!pass_content(walk, bytes, used, error)) return FALSE;
    } else {
      used = MIN(count, BLOCK - walk->filled);
      memcpy(walk->block + walk->filled, bytes, used);
      walk->filled += used;
      if (walk->filled == BLOCK) {
        walk->filled = 0;
        if (!on_block(walk, error)) return FALSE;
      }
    }
    bytes += used;
    count -= used;
  }
  return TRUE;
}

// --- gzip -----------------------------------------------------------------------------------------

typedef struct Inflater {
  z_stream stream;
  gboolean begun, ended; // ended: a member is complete, another may follow (RFC 1952, 2.2)
  guint8 *out;
} Inflater;

static gboolean inflate_chunk(Inflater *it, Walk *walk, guint8 *bytes, gsize count, GError **error) {
  it->stream.next_in = bytes;
  it->stream.avail_in = (uInt)count;
  while (it->stream.avail_in > 0 || it->stream.avail_out == 0) {
    if (it->ended && it->stream.avail_in == 0) return TRUE;
    if (it->ended && inflateReset(&it->stream) != Z_OK)
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its gzip data is damaged");
    it->ended = FALSE;
    it->stream.next_out = it->out;
    it->stream.avail_out = CHUNK;
    int r = inflate(&it->stream, Z_NO_FLUSH);
    if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
      return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its gzip data is damaged");
    if (!feed(walk, it->out, CHUNK - it->stream.avail_out, error)) return FALSE;
    it->ended = r == Z_STREAM_END;
    if (r == Z_BUF_ERROR) break;
  }
  return TRUE;
}

// --- the whole ------------------------------------------------------------------------------------

LayerCompression image_layer_compression(const char *media_type) {
  static const struct {
    const char *media_type;
    LayerCompression compression;
  } rows[] = {{"application/vnd.oci.image.layer.v1.tar", LAYER_PLAIN},
              {"application/vnd.oci.image.layer.v1.tar+gzip", LAYER_GZIP},
              {"application/vnd.oci.image.layer.v1.tar+zstd", LAYER_ZSTD},
              {"application/vnd.oci.image.layer.nondistributable.v1.tar", LAYER_PLAIN},
              {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LAYER_GZIP}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
    if (g_str_equal(rows[i].media_type, media_type)) return rows[i].compression;
  return LAYER_UNKNOWN;
}

static gboolean check_digest(GChecksum *sum, char **digest, const char *what, GError **error) {
  const char *got = g_checksum_get_string(sum), *expected = *digest;
  if (expected == NULL) *digest = g_strconcat("sha256:", got, NULL);
  if (expected == NULL) return TRUE;
  if (g_str_has_prefix(expected, "sha256:") && g_str_equal(expected + 7, got)) return TRUE;
  return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its %s has the digest sha256:%s, not %s", what, got, expected);
}

static gboolean read_blob(int fd, ImageLayer *layer, Walk *walk, GChecksum *packed, GCancellable *cancellable,
                          GError **error) {
  g_autofree guint8 *in = g_malloc(CHUNK), *out = g_malloc(CHUNK);
  Inflater inflater = {.out = out};
  gboolean gzip = image_layer_compression(layer->media_type) == LAYER_GZIP, good = TRUE;
  guint64 total = 0;
  if (gzip && inflateInit2(&inflater.stream, 15 + 16) != Z_OK)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "no memory");
  while (good) {
    ssize_t n = read(fd, in, CHUNK);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "cannot read a layer: %s", g_strerror(errno));
      good = FALSE;
    }
    if (n <= 0) break;
    total += (guint64)n;
    g_checksum_update(packed, in, n);
    if (g_cancellable_is_cancelled(cancellable)) {
      g_set_error(error, STELE_ERROR, STELE_ERROR_CANCELLED, "given up: what was fetched is kept for the next try");
      good = FALSE;
    } else {
      good = gzip ? inflate_chunk(&inflater, walk, in, (gsize)n, error) : feed(walk, in, (gsize)n, error);
    }
  }
  if (layer->digest == NULL) layer->size = total;
  if (good && total != layer->size)
    good = stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it has %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT,
                        total, layer->size);
  if (good && gzip && !inflater.ended)
    good = stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its gzip data ends too early");
  if (gzip) inflateEnd(&inflater.stream);
  return good;
}

gboolean image_layer_check(const char *file, ImageLayer *layer, ImageBudget *budget, GCancellable *cancellable,
                           GError **error) {
  Walk walk = {.budget = budget, .unpacked = g_checksum_new(G_CHECKSUM_SHA256)};
  g_autoptr(GChecksum) packed = g_checksum_new(G_CHECKSUM_SHA256);
  int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  gboolean good = fd >= 0 || stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it is missing (%s)", g_strerror(errno));
  if (good && image_layer_compression(layer->media_type) == LAYER_ZSTD)
    good = stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "it is compressed by zstd, and was not converted");
  good = good && read_blob(fd, layer, &walk, packed, cancellable, error) &&
         check_digest(packed, &layer->digest, "blob", error) &&
         check_digest(walk.unpacked, &layer->diff_id, "content", error);
  if (good && (walk.skip > 0 || walk.filled > 0 || walk.special))
    good = stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "its archive ends too early");
  if (fd >= 0) close(fd);
  if (walk.special) g_string_free(walk.special, TRUE);
  g_free(walk.path);
  g_free(walk.link);
  g_checksum_free(walk.unpacked);
  g_prefix_error(error, "the layer %s cannot be used: ", layer->digest ? layer->digest : "made of it");
  return good;
}
