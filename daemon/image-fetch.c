// See image-fetch.h. Each kind of source is a row of `kinds`: it makes the staging directory an OCI layout, which the
// store then checks and takes in; images of disks have no layers and go their own way.
#include "image-fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "image-manifest.h"
#include "image-tool.h"

#define STALL_SECONDS  60 // a registry that sends nothing for so long is given up
#define HEAD_BYTES     4096
#define DOCKER_ARCHIVE "docker-archive:"

typedef struct Fetch {
  ImageStore *store;
  const ImageRequest *request;
  char *staging;
  GCancellable *cancellable;
  ImageSay say;
  gpointer user_data;
  guint64 bytes_max;      // what this image may have
  guint64 seen, begun;    // bytes in the staging directory and its blobs, now and at first
  gint64 grown;           // when that grew last, monotonic
  const char *doing;      // the verb for progress
  gboolean from_registry; // may stall
} Fetch;

// --- watching a program fetch ---------------------------------------------------------------------

static guint64 directory_bytes(const char *path) {
  g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
  guint64 bytes = 0;
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *file = g_build_filename(path, entry, NULL);
    struct stat status;
    if (lstat(file, &status) == 0 && S_ISREG(status.st_mode)) bytes += (guint64)status.st_size;
  }
  return bytes;
}

static guint64 bytes_there(const Fetch *fetch) {
  g_autofree char *blobs = g_build_filename(fetch->staging, "blobs", "sha256", NULL);
  return directory_bytes(fetch->staging) + directory_bytes(blobs);
}

static gboolean on_tick(gpointer user_data, GError **error) {
  Fetch *fetch = user_data;
  guint64 bytes = bytes_there(fetch);
  gint64 now = g_get_monotonic_time();
  guint stall = fetch->request->stall ? fetch->request->stall : STALL_SECONDS;
  if (bytes != fetch->seen) fetch->grown = now;
  fetch->seen = bytes;
  guint64 fetched = bytes > fetch->begun ? bytes - fetch->begun : 0;
  g_autofree char *size = g_format_size_full(fetched, G_FORMAT_SIZE_IEC_UNITS),
                  *message = g_strdup_printf("%s: %s", fetch->doing, size);
  fetch->say(message, fetch->user_data);
  if (image_store_bytes_left(fetch->store, NULL) == 0)
    return stele_refuse(error, STELE_ERROR_STORAGE_FULL,
                        "the disk of %s is full; nothing half done was kept: free some space and try again",
                        image_store_directory(fetch->store));
  if (fetched > fetch->bytes_max)
    return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "%s is larger than an image may be", fetch->request->source);
  if (fetch->from_registry && now - fetch->grown > (gint64)stall * G_USEC_PER_SEC)
    return stele_refuse(error, STELE_ERROR_FETCH_FAILED,
                        "the registry of %s has sent nothing for %u s: try again later, what was fetched is kept",
                        fetch->request->source, stall);
  return TRUE;
}

static gboolean run_tool(Fetch *fetch, const char *const *argv, int output, gboolean network, gboolean host,
                         char **ret_output, GError **error) {
  ImageTool tool = {.argv = argv,
                    .writable = image_store_directory(fetch->store),
                    .output = output,
                    .file_max = fetch->bytes_max,
                    .network = network,
                    .host = host,
                    .cancellable = fetch->cancellable,
                    .tick = on_tick,
                    .user_data = fetch};
  fetch->grown = g_get_monotonic_time();
  return image_tool_run(&tool, ret_output, error);
}

// --- by skopeo ------------------------------------------------------------------------------------

#define NO_AMD64 "for architecture amd64" // "no image found in manifest list …", "… in image index …"

// What skopeo says is a log line with all it went through; what people ask about most is told in our words.
static void explain(Fetch *fetch, GError **error) {
  const char *words = (*error)->message, *source = fetch->request->source;
  if (!g_error_matches(*error, STELE_ERROR, STELE_ERROR_INVALID_IMAGE)) return;
  g_autofree char *message = NULL;
  if (strstr(words, NO_AMD64))
    message = g_strdup_printf(
        "%s has no image for linux/amd64, only for other processors: machines run x86-64 programs", source);
  else if (fetch->from_registry &&
           (strstr(words, "server gave HTTP response to HTTPS client") || strstr(words, "TLS handshake")))
    message = g_strdup_printf("the registry of %s speaks no TLS: allow that with --insecure, or in "
                              "/etc/containers/registries.conf",
                              source);
  else if (fetch->from_registry && (strstr(words, "unauthorized") || strstr(words, "authentication required")))
    message = g_strdup_printf("the registry of %s wants a login: 'skopeo login' or 'docker login' first", source);
  else if (fetch->from_registry && (strstr(words, "manifest unknown") || strstr(words, "name unknown")))
    message = g_strdup_printf("the registry has no %s: check its name and tag", source);
  else if (!fetch->from_registry)
    return;
  SteleError code = strstr(words, NO_AMD64) ? STELE_ERROR_INVALID_IMAGE : STELE_ERROR_FETCH_FAILED;
  GError *told = message ? g_error_new_literal(STELE_ERROR, code, message)
                         : g_error_new(STELE_ERROR, code, "cannot fetch %s: %s", source, words);
  g_error_free(*error);
  *error = told;
}

static gboolean copy_to(Fetch *fetch, const char *from, const char *layout, gboolean local, GError **error) {
  g_autofree char *to = g_strdup_printf("oci:%s:image", layout);
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  const char *const fixed[] = {"skopeo", "--tmpdir",      fetch->staging, "--override-arch",
                               "amd64",  "--override-os", "linux",        "copy"};
  for (gsize i = 0; i < G_N_ELEMENTS(fixed); i++) g_ptr_array_add(argv, (gpointer)fixed[i]);
  gboolean as_it_is = !local && !g_str_has_prefix(from, DOCKER_ARCHIVE);
  g_ptr_array_add(argv, as_it_is ? "--dest-oci-accept-uncompressed-layers" : "--dest-compress-format=gzip");
  if (fetch->request->authfile) g_ptr_array_add(argv, "--src-authfile");
  if (fetch->request->authfile) g_ptr_array_add(argv, (gpointer)fetch->request->authfile);
  if (fetch->request->insecure) g_ptr_array_add(argv, "--src-tls-verify=false");
  g_ptr_array_add(argv, (gpointer)from);
  g_ptr_array_add(argv, to);
  g_ptr_array_add(argv, NULL);
  gboolean network = fetch->from_registry && !local;
  if (run_tool(fetch, (const char *const *)argv->pdata, -1, network, FALSE, NULL, error)) return TRUE;
  explain(fetch, error);
  return FALSE;
}

// Moves what there is at `from` to the staging directory and its blobs.
static gboolean move_layout(Fetch *fetch, const char *from, GError **error) {
  g_autofree char *blobs = g_build_filename(from, "blobs", "sha256", NULL),
                  *index = g_build_filename(from, "index.json", NULL),
                  *mark = g_build_filename(from, "oci-layout", NULL);
  g_autoptr(GDir) entries = g_dir_open(blobs, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *blob = g_build_filename(blobs, entry, NULL),
                    *to = g_build_filename(fetch->staging, "blobs", "sha256", entry, NULL);
    if (g_rename(blob, to) < 0)
      return stele_refuse(error, STELE_ERROR_STORAGE, "cannot put in place %s: %s", to, g_strerror(errno));
  }
  g_autofree char *index_to = g_build_filename(fetch->staging, "index.json", NULL),
                  *mark_to = g_build_filename(fetch->staging, "oci-layout", NULL);
  if (g_rename(index, index_to) == 0 && g_rename(mark, mark_to) == 0) return TRUE;
  return stele_refuse(error, STELE_ERROR_STORAGE, "cannot put in place %s: %s", index_to, g_strerror(errno));
}

static gboolean has_zstd_layers(const char *layout) {
  g_autoptr(ImageManifest) manifest = image_manifest_read(layout, NULL); // the store says what is wrong with it
  for (guint i = 0; manifest && i < manifest->layers->len; i++) {
    const ImageLayer *layer = manifest->layers->pdata[i];
    if (image_layer_compression(layer->media_type) == LAYER_ZSTD) return TRUE;
  }
  return FALSE;
}

// Layers of docker's archives are plain, and skopeo (1.9) calls them gzip's in its manifest. It compresses them, but
// not one it finds at its destination: so it must not find any. Layers of zstd's, which umoci cannot unpack, become
// gzip's; the blobs that were fetched stay for the next try.
static gboolean copy_by_skopeo(Fetch *fetch, const char *from, GError **error) {
  g_autofree char *apart = g_build_filename(fetch->staging, "apart", NULL),
                  *fetched = g_strdup_printf("oci:%s:image", fetch->staging);
  if (g_str_has_prefix(from, DOCKER_ARCHIVE))
    return copy_to(fetch, from, apart, FALSE, error) && move_layout(fetch, apart, error);
  if (!copy_to(fetch, from, fetch->staging, FALSE, error)) return FALSE;
  if (!has_zstd_layers(fetch->staging)) return TRUE;
  fetch->doing = "compressing layers anew";
  if (copy_to(fetch, fetched, apart, TRUE, error)) return move_layout(fetch, apart, error);
  g_prefix_error(error, "%s: a layer that zstd compressed cannot be unpacked: ", fetch->request->source);
  return FALSE;
}

static gboolean from_registry(Fetch *fetch, GError **error) {
  const char *source = fetch->request->source;
  g_autofree char *from =
      g_str_has_prefix(source, "docker://") ? g_strdup(source) : g_strconcat("docker://", source, NULL);
  fetch->from_registry = TRUE;
  fetch->doing = "fetching";
  return copy_by_skopeo(fetch, from, error);
}

static gboolean from_transport(Fetch *fetch, GError **error) {
  return copy_by_skopeo(fetch, fetch->request->source, error);
}

static gboolean from_path_as(Fetch *fetch, const char *transport, GError **error) {
  g_autofree char *from = g_strconcat(transport, fetch->request->source, NULL);
  if (strchr(fetch->request->source, ':'))
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT,
                        "%s: a path with a colon cannot be told from one with a tag: rename it",
                        fetch->request->source);
  return copy_by_skopeo(fetch, from, error);
}

// --- of one layer, made here ----------------------------------------------------------------------

static int create_file(const char *path, GError **error) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) stele_refuse(error, STELE_ERROR_STORAGE, "cannot make %s: %s", path, g_strerror(errno));
  return fd;
}

// The layer's file becomes a blob, and the staging directory the layout of an image with it alone.
static gboolean make_layout(Fetch *fetch, const char *file, LayerCompression compression, const ImageConfig *config,
                            GError **error) {
  ImageLayer layer = {.media_type = g_strdup(compression == LAYER_GZIP ? "application/vnd.oci.image.layer.v1.tar+gzip"
                                                                       : "application/vnd.oci.image.layer.v1.tar")};
  ImageBudget budget = {.entries = G_MAXUINT64};
  budget.bytes = budget.bytes_max = image_store_bytes_left(fetch->store, &budget.of_disk);
  fetch->say("reading it", fetch->user_data);
  gboolean good = image_layer_check(file, &layer, &budget, fetch->cancellable, error);
  g_autofree char *blob = good ? g_build_filename(fetch->staging, "blobs", "sha256", layer.digest + 7, NULL) : NULL;
  if (good && g_rename(file, blob) < 0)
    good = stele_refuse(error, STELE_ERROR_STORAGE, "cannot put in place %s: %s", blob, g_strerror(errno));
  good = good && image_manifest_write(fetch->staging, &layer, config, error);
  g_free(layer.media_type);
  g_free(layer.digest);
  g_free(layer.diff_id);
  return good;
}

static gboolean run_into_layer(Fetch *fetch, const char *const *argv, gboolean host, const ImageConfig *config,
                               GError **error) {
  g_autofree char *file = g_build_filename(fetch->staging, "layer", NULL);
  int fd = create_file(file, error);
  if (fd < 0) return FALSE;
  gboolean good = run_tool(fetch, argv, fd, host, host, NULL, error);
  close(fd);
  return good && make_layout(fetch, file, LAYER_PLAIN, config, error);
}

static gboolean from_debian(Fetch *fetch, GError **error) {
  static char *cmd[] = {"bash", NULL},
              *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
  const ImageConfig config = {.cmd = cmd, .env = env};
  const char *suite = fetch->request->source + strlen("debian:");
  // The init is there for 'vmctl create'; programs that 'vmctl run' runs do not need it.
  const char *const argv[] = {"mmdebstrap",
                              "--quiet",
                              geteuid() == 0 ? "--mode=root" : "--mode=unshare",
                              "--architectures=amd64",
                              "--variant=minbase",
                              "--include=init,ca-certificates,iproute2",
                              suite,
                              "-",
                              NULL};
  fetch->doing = "making it of Debian's packages";
  return run_into_layer(fetch, argv, TRUE, &config, error);
}

// What is packed would grow while it is packed.
static gboolean holds_store(const Fetch *fetch) {
  char *directory = realpath(fetch->request->source, NULL),
       *store = realpath(image_store_directory(fetch->store), NULL);
  gsize length = directory ? strlen(directory) : 0;
  gboolean holds = store && length && strncmp(store, directory, length) == 0 &&
                   (length == 1 || store[length] == '/' || store[length] == 0);
  free(directory);
  free(store);
  return holds;
}

// Root's files have an owner that is not there in our user's namespace: they stay root's.
static gboolean is_foreign(const char *directory) {
  struct stat status;
  return geteuid() != 0 && stat(directory, &status) == 0 && status.st_uid == 0;
}

static gboolean from_directory(Fetch *fetch, GError **error) {
  const ImageConfig config = {NULL};
  gboolean foreign = is_foreign(fetch->request->source);
  if (holds_store(fetch))
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "%s cannot become an image: steled keeps its images in it",
                        fetch->request->source);
  const char *const argv[] = {"tar",
                              "-C",
                              fetch->request->source,
                              "--sort=name",
                              "--xattrs",
                              "--xattrs-include=*",
                              foreign ? "--owner=0" : "--numeric-owner",
                              foreign ? "--group=0" : "--numeric-owner",
                              "--warning=no-file-ignored",
                              "-cf",
                              "-",
                              ".",
                              NULL};
  fetch->doing = "packing";
  return run_into_layer(fetch, argv, FALSE, &config, error);
}

static gboolean from_tar_through(Fetch *fetch, const char *program, GError **error) {
  const ImageConfig config = {NULL};
  const char *const argv[] = {program, "-dc", "--", fetch->request->source, NULL};
  fetch->doing = "unpacking";
  return run_into_layer(fetch, argv, FALSE, &config, error);
}

// Copies, leaving holes where there are only zeros; *ret_digest is of the content.
static gboolean copy_file(Fetch *fetch, const char *to, char **ret_digest, GError **error) {
  static const guint8 zeros[65536];
  g_autofree guint8 *bytes = g_malloc(sizeof zeros);
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  const char *source = fetch->request->source;
  int from = open(source, O_RDONLY | O_CLOEXEC), fd = create_file(to, error), number = 0;
  guint64 size = 0;
  ssize_t n = 0;
  gboolean good =
      fd >= 0 && (from >= 0 || stele_refuse(error, STELE_ERROR_MISSING_FILE, "%s: %s", source, g_strerror(errno)));
  while (good && (n = read(from, bytes, sizeof zeros)) > 0) {
    g_checksum_update(sum, bytes, n);
    gboolean hole = n == sizeof zeros && memcmp(bytes, zeros, sizeof zeros) == 0;
    if (!hole && pwrite(fd, bytes, (gsize)n, (off_t)size) != n) number = errno ? errno : ENOSPC;
    size += (guint64)n;
    if (number) break;
    if (size % (16 << 20) < sizeof zeros) good = on_tick(fetch, error);
    if (good && g_cancellable_is_cancelled(fetch->cancellable))
      good = stele_refuse(error, STELE_ERROR_CANCELLED, "given up: nothing of it was kept");
  }
  if (good && n < 0) number = errno;
  if (good && number == 0 && ftruncate(fd, (off_t)size) < 0) number = errno;
  if (good && number)
    good = stele_refuse(error, number == ENOSPC ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE, "cannot copy %s: %s",
                        source, g_strerror(number));
  if (from >= 0) close(from);
  if (fd >= 0) close(fd);
  if (good) *ret_digest = g_strdup(g_checksum_get_string(sum));
  return good;
}

static gboolean from_tar(Fetch *fetch, LayerCompression compression, GError **error) {
  const ImageConfig config = {NULL};
  g_autofree char *file = g_build_filename(fetch->staging, "layer", NULL), *digest = NULL;
  fetch->doing = "copying";
  return copy_file(fetch, file, &digest, error) && make_layout(fetch, file, compression, &config, error);
}

// --- what a path is -------------------------------------------------------------------------------

typedef struct Head {
  guint8 bytes[HEAD_BYTES];
  gsize size;
} Head;

static gboolean has(const Head *head, gsize offset, const char *magic, gsize size) {
  return head->size >= offset + size && memcmp(head->bytes + offset, magic, size) == 0;
}

static gboolean read_head(const char *path, Head *ret_head, GError **error) {
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  ssize_t n = fd < 0 || fstat(fd, &status) < 0 ? -1
              : S_ISREG(status.st_mode)        ? read(fd, ret_head->bytes, HEAD_BYTES)
                                               : -2;
  int number = errno;
  if (fd >= 0) close(fd);
  if (n == -2) return stele_refuse(error, STELE_ERROR_INVALID_IMAGE, "%s is neither a file nor a directory", path);
  if (n < 0) return stele_refuse(error, STELE_ERROR_MISSING_FILE, "%s: %s", path, g_strerror(number));
  ret_head->size = (gsize)n;
  return TRUE;
}

// ext4(5), erofs' on-disk format, QEMU's qcow2 specification. NULL: none that a machine can have as its root.
static const char *disk_format(const Head *head, const char **ret_fstype) {
  *ret_fstype = has(head, 1024, "\xe2\xe1\xf5\xe0", 4) ? "erofs" : "ext4";
  if (has(head, 0, "QFI\xfb", 4)) return "qcow2";
  return has(head, 1024 + 56, "\x53\xef", 2) || has(head, 1024, "\xe2\xe1\xf5\xe0", 4) ? "raw" : NULL;
}

// A qcow2 image could name any file of the host as the one it stands on, and any as its data.
static gboolean check_qcow2(const Head *head, GError **error) {
  static const guint8 none[8];
  gboolean alone = head->size >= 80 && memcmp(head->bytes + 8, none, 8) == 0 &&
                   ((head->bytes[7] < 3 && head->bytes[7]) || (head->bytes[79] & 4) == 0);
  return alone || stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                               "it stands on another file: flatten it first (qemu-img convert -O qcow2)");
}

static ImageRecord *take_disk(Fetch *fetch, const char *name, const Head *head, GError **error) {
  const char *fstype, *format = disk_format(head, &fstype);
  g_autofree char *file = g_build_filename(fetch->staging, "disk", NULL), *digest = NULL;
  fetch->doing = "copying";
  if (g_str_equal(format, "qcow2") && !check_qcow2(head, error)) return NULL;
  if (!copy_file(fetch, file, &digest, error)) return NULL;
  return image_store_take_disk(fetch->store, file, digest, format, fstype, name, fetch->request->source, error);
}

// Whether an archive has that file at its top.
static gboolean archive_has(Fetch *fetch, const char *file) {
  g_autofree char *output = NULL, *dotted = g_strconcat("./", file, NULL);
  const char *const argv[] = {"tar", "-tf", fetch->request->source, "--no-wildcards", "--occurrence=1", file, NULL};
  return run_tool(fetch, argv, -1, FALSE, FALSE, &output, NULL) && output && *output;
}

static gboolean from_archive(Fetch *fetch, const Head *head, GError **error) {
  static const struct {
    const char *magic;
    gsize size;
    const char *program;
  } packers[] = {{"\xfd"
                  "7zXZ",
                  5, "xz"},
                 {"\x28\xb5\x2f\xfd", 4, "zstd"},
                 {"BZh", 3, "bzip2"}};
  fetch->doing = "looking into it";
  if (archive_has(fetch, "manifest.json")) return from_path_as(fetch, DOCKER_ARCHIVE, error);
  if (archive_has(fetch, "oci-layout")) return from_path_as(fetch, "oci-archive:", error);
  if (g_cancellable_is_cancelled(fetch->cancellable)) return stele_refuse(error, STELE_ERROR_CANCELLED, "given up");
  for (gsize i = 0; i < G_N_ELEMENTS(packers); i++)
    if (has(head, 0, packers[i].magic, packers[i].size)) return from_tar_through(fetch, packers[i].program, error);
  if (has(head, 0, "\x1f\x8b", 2)) return from_tar(fetch, LAYER_GZIP, error);
  if (has(head, 257, "ustar", 5)) return from_tar(fetch, LAYER_PLAIN, error);
  return stele_refuse(error, STELE_ERROR_INVALID_IMAGE,
                      "%s is no archive, no image of a disk with ext4 or erofs alone, and no qcow2 image",
                      fetch->request->source);
}

static gboolean from_path(Fetch *fetch, const Head *head, GError **error) {
  const char *path = fetch->request->source;
  g_autofree char *mark = g_build_filename(path, "oci-layout", NULL);
  if (!g_file_test(path, G_FILE_TEST_IS_DIR)) return from_archive(fetch, head, error);
  fetch->doing = "copying";
  return g_file_test(mark, G_FILE_TEST_EXISTS) ? from_path_as(fetch, "oci:", error) : from_directory(fetch, error);
}

// --- the whole ------------------------------------------------------------------------------------

static const struct {
  const char *prefix;
  gboolean (*fetch)(Fetch *fetch, GError **error);
} kinds[] = {{"debian:", from_debian},
             {"oci:", from_transport},
             {"oci-archive:", from_transport},
             {DOCKER_ARCHIVE, from_transport},
             {"", from_registry}};

// A registry's image has its reference, with the tag it gets without one; a file its name without endings.
static char *default_name(const char *source) {
  if (*source == '/') {
    g_autofree char *file = g_path_get_basename(source);
    file[strcspn(file, ".")] = 0;
    return g_strconcat(file, ":latest", NULL);
  }
  for (gsize i = 1; i + 1 < G_N_ELEMENTS(kinds); i++)
    if (g_str_has_prefix(source, kinds[i].prefix)) return default_name(source + strlen(kinds[i].prefix));
  const char *reference = g_str_has_prefix(source, "docker://") ? source + strlen("docker://") : source;
  const char *last = strrchr(reference, '/');
  gboolean tagged = strpbrk(last ? last : reference, ":@") != NULL;
  return g_strconcat(reference, tagged ? "" : ":latest", NULL);
}

static gboolean fetch_layout(Fetch *fetch, const Head *head, GError **error) {
  const char *source = fetch->request->source;
  fetch->doing = "copying";
  if (*source == '/') return from_path(fetch, head, error);
  gsize i = 0;
  while (!g_str_has_prefix(source, kinds[i].prefix)) i++;
  return kinds[i].fetch(fetch, error);
}

static gboolean check_source(const char *source, GError **error) {
  if (*source && *source != '-' && g_str_is_ascii(source) && strpbrk(source, " \t\n'\"\\") == NULL) return TRUE;
  if (*source == '/') return TRUE;
  return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "'%s' names no image", source);
}

static ImageRecord *fetch_and_take(Fetch *fetch, const char *name, GError **error) {
  const char *source = fetch->request->source, *ignored;
  Head head = {.size = 0};
  if (*source == '/' && !g_file_test(source, G_FILE_TEST_IS_DIR) && !read_head(source, &head, error)) return NULL;
  fetch->begun = fetch->seen = bytes_there(fetch);
  if (disk_format(&head, &ignored)) return take_disk(fetch, name, &head, error);
  if (!fetch_layout(fetch, &head, error)) return NULL;
  ImageRecord *record = image_store_take(fetch->store, fetch->staging, name, source, fetch->cancellable, fetch->say,
                                         fetch->user_data, error);
  if (record == NULL) g_prefix_error(error, "%s: ", source);
  return record;
}

ImageRecord *image_fetch(ImageStore *store, const ImageRequest *request, GCancellable *cancellable, ImageSay say,
                         gpointer user_data, GError **error) {
  Fetch fetch = {.store = store,
                 .request = request,
                 .cancellable = cancellable,
                 .say = say,
                 .user_data = user_data,
                 .bytes_max = image_store_bytes_left(store, NULL)};
  if (!check_source(request->source, error)) return NULL;
  g_autofree char *name = request->name ? g_strdup(request->name) : default_name(request->source);
  if (request->name && strpbrk(strrchr(name, '/') ? strrchr(name, '/') : name, ":@") == NULL) {
    char *tagged = g_strconcat(name, ":latest", NULL);
    g_free(name);
    name = tagged;
  }
  fetch.staging = image_store_stage(store, error);
  if (fetch.staging == NULL) return NULL;
  ImageRecord *record = fetch_and_take(&fetch, name, error);
  image_store_unstage(store, fetch.staging);
  return record;
}
