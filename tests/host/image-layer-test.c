// Layers as a stranger might make them: a tar of our own hand with every field at our choice. The end-to-end cases with
// whole images are in images.py.
#include <criterion/criterion.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "errors.h"
#include "image-layer.h"

#define PLAIN "application/vnd.oci.image.layer.v1.tar"

static void put_header(GString *tar, const char *name, char type, const char *size_field, const char *link) {
  guint8 block[512] = {0};
  guint64 sum = 0;
  memcpy(block, name, MIN(strlen(name), 100));
  memcpy(block + 124, size_field, 12);
  memset(block + 148, ' ', 8);
  block[156] = (guint8)type;
  memcpy(block + 157, link, MIN(strlen(link), 100));
  memcpy(block + 257,
         "ustar\0"
         "00",
         8);
  for (int i = 0; i < 512; i++) sum += block[i];
  g_snprintf((char *)block + 148, 8, "%06o", (unsigned)sum);
  g_string_append_len(tar, (char *)block, 512);
}

static GError *check(const GString *tar, ImageBudget *budget) {
  char path[] = "/tmp/stele-layer-XXXXXX";
  GError *error = NULL;
  int fd = g_mkstemp(path);
  cr_assert(fd >= 0 && write(fd, tar->str, tar->len) == (ssize_t)tar->len);
  close(fd);
  ImageLayer layer = {.media_type = (char *)PLAIN};
  gboolean good = image_layer_check(path, &layer, budget, NULL, &error);
  cr_expect_eq(good, error == NULL);
  if (good) cr_expect(g_str_has_prefix(layer.digest, "sha256:") && g_str_equal(layer.digest, layer.diff_id));
  g_unlink(path);
  g_free(layer.digest);
  g_free(layer.diff_id);
  return error;
}

// A row: an entry, whether blocks of content follow, and what the refusal says; NULL: it is taken.
static const struct {
  const char *name;
  char type;
  const char *size, *link;
  int blocks;
  const char *says;
} entries[] = {
    {"plain", '0', "00000001000", "", 1, NULL},
    {"old", 0, "00000000000", "", 0, NULL},
    {"dots..in..names/..x/x..", '0', "00000000000", "", 0, NULL},
    {"directory", '5', "00000001000", "", 0, NULL}, // the size of one means nothing
    {"symbolic", '2', "00000000000", "../../etc/passwd", 0, NULL},
    {"..", '5', "00000000000", "", 0, "leads out"},
    {"/../x", '0', "00000000000", "", 0, "leads out"},
    {"a/..", '0', "00000000000", "", 0, "leads out"},
    {"hard", '1', "00000000000", "a/../../b", 0, "leads out"},
    {"", '0', "00000000000", "", 0, "without a name"},
    {"letters", '0', "0000000x000", "", 0, "size that is none"},
    {"negative", '0', "\377\377\377\377\377\377\377\377\377\377\377\377", "", 0, "size that is none"},
    {"huge", '0', "\200\000\000\000\377\377\377\377\377\377\377\377", "", 0, "size that is none"},
    {"exbibyte", '0', "\200\000\000\000\020\000\000\000\000\000\000\000", "", 0, "unpacks to more"},
    {"sparse", 'S', "00000000000", "", 0, "sparse"},
    {"pax", 'x', "77777777777", "", 0, "longer than 1 MiB"},
    {"long", 'L', "77777777777", "", 0, "longer than 1 MiB"},
    {"cut", '0', "00000001001", "", 1, "ends too early"},
};

Test(image_layer, entries) {
  for (size_t i = 0; i < G_N_ELEMENTS(entries); i++) {
    g_autoptr(GString) tar = g_string_new(NULL);
    ImageBudget budget = {.bytes = 1 << 20, .bytes_max = 1 << 20, .entries = 10};
    put_header(tar, entries[i].name, entries[i].type, entries[i].size, entries[i].link);
    for (int k = 0; k < entries[i].blocks * 512; k++) g_string_append_c(tar, 'x');
    g_autoptr(GError) error = check(tar, &budget);
    if (entries[i].says)
      cr_expect(error && strstr(error->message, entries[i].says), "'%s': %s", entries[i].name,
                error ? error->message : "taken");
    else
      cr_expect_null(error, "'%s': %s", entries[i].name, error ? error->message : "");
  }
}

static void put_pax(GString *tar, const char *records) {
  g_autofree char *size = g_strdup_printf("%011o", (unsigned)strlen(records));
  gsize length = strlen(records);
  put_header(tar, "pax", 'x', size, "");
  g_string_append(tar, records);
  for (; length % 512; length++) g_string_append_c(tar, 0);
}

static const struct {
  const char *records, *says;
} headers[] = {
    {"14 path=hello\n", NULL},
    {"15 path=a/../b\n", "leads out"},
    {"19 linkpath=../../x\n", "damaged"}, // a length that is wrong
    {"20 linkpath=../../x\n", NULL},      // of a file, which has no use for it
    {"14 size=hello\n", "a size that is none"},
    {"29 size=18446744073709551615\n", "a size that is none"},
    {"99 path=hello\n", "damaged"},
    {"path=hello\n", "damaged"},
    {"30 GNU.sparse.realsize=123456\n", "sparse"},
};

Test(image_layer, pax_headers) {
  for (size_t i = 0; i < G_N_ELEMENTS(headers); i++) {
    g_autoptr(GString) tar = g_string_new(NULL);
    ImageBudget budget = {.bytes = 1 << 20, .bytes_max = 1 << 20, .entries = 10};
    put_pax(tar, headers[i].records);
    put_header(tar, "name", '0', "00000000000", "");
    g_autoptr(GError) error = check(tar, &budget);
    if (headers[i].says)
      cr_expect(error && strstr(error->message, headers[i].says), "'%s': %s", headers[i].records,
                error ? error->message : "taken");
    else
      cr_expect_null(error, "'%s': %s", headers[i].records, error ? error->message : "");
  }
}

// What is over the budget is the image's fault or the disk's, and is told apart.
Test(image_layer, budget) {
  for (int of_disk = 0; of_disk < 2; of_disk++) {
    g_autoptr(GString) tar = g_string_new(NULL);
    ImageBudget budget = {.bytes = 3 * 4096, .bytes_max = 3 * 4096, .entries = 10, .of_disk = of_disk};
    for (int i = 0; i < 4; i++) put_header(tar, "empty", '0', "00000000000", "");
    g_autoptr(GError) error = check(tar, &budget);
    cr_expect(g_error_matches(error, STELE_ERROR, of_disk ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_INVALID_IMAGE));
  }
}
