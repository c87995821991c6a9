// See image-store.h.
#include "image-store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "errors.h"
#include "image-root.h"

#define BYTES_MAX_DEFAULT (64ull << 30)
#define RESERVE_BYTES     (64ull << 20) // left to the file system while images are made
#define ENTRIES_MAX       5000000
#define NAME_BYTES_MAX    200 // escaped it is a file name
#define ID_SHORTEST       6

struct ImageStore {
  char *directory, *blobs, *roots, *disks, *records, *names, *staging;
  guint64 bytes_max;
  GMutex lock; // over names, records and what is removed
  int staged;  // stagings that exist
};

void image_record_free(ImageRecord *record) {
  if (record == NULL) return;
  char *const strings[] = {record->id, record->path, record->format, record->fstype, record->source};
  for (gsize i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  g_strfreev(record->blobs);
  g_strfreev(record->names);
  image_config_clear(&record->config);
  g_free(record);
}

static gboolean fail(GError **error, const char *what, const char *path) {
  gboolean full = errno == ENOSPC || errno == EDQUOT;
  g_set_error(error, STELE_ERROR, full ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE, "cannot %s %s: %s%s", what,
              path, g_strerror(errno), full ? "; nothing of it was kept: free some space and try again" : "");
  return FALSE;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
  return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

// What belongs to other users of our user namespaces is beyond us.
static gboolean remove_tree(const char *path) {
  return nftw(path, remove_entry, 64, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT || image_root_remove(path);
}

static gboolean make_directory(const char *path, GError **error) {
  return g_mkdir_with_parents(path, 0700) == 0 || fail(error, "make the directory", path);
}

// --- opening --------------------------------------------------------------------------------------

static gboolean make_directories(ImageStore *store, GError **error) {
  char **const places[] = {&store->roots, &store->disks, &store->records, &store->names, &store->staging};
  static const char *const words[] = {"roots", "disks", "records", "names", "staging"};
  store->blobs = g_build_filename(store->directory, "blobs", "sha256", NULL);
  if (!make_directory(store->directory, error) || !make_directory(store->blobs, error)) return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
    *places[i] = g_build_filename(store->directory, words[i], NULL);
    if (!make_directory(*places[i], error)) return FALSE;
  }
  return TRUE;
}

// Roots hold set-uid programs and devices: nobody but root gets to them.
ImageStore *image_store_open(const char *directory, guint64 bytes_max, GError **error) {
  ImageStore *store = g_new0(ImageStore, 1);
  g_mutex_init(&store->lock);
  store->directory = g_strdup(directory);
  store->bytes_max = bytes_max ? bytes_max : BYTES_MAX_DEFAULT;
  g_autofree char *staging = g_build_filename(directory, "staging", NULL);
  remove_tree(staging);
  if (make_directories(store, error) && (chmod(directory, 0700) == 0 || fail(error, "close", directory))) return store;
  image_store_close(store);
  return NULL;
}

void image_store_close(ImageStore *store) {
  if (store == NULL) return;
  char *const strings[] = {store->directory, store->blobs, store->roots,  store->disks,
                           store->records,   store->names, store->staging};
  for (gsize i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  g_mutex_clear(&store->lock);
  g_free(store);
}

const char *image_store_directory(const ImageStore *store) {
  return store->directory;
}

guint64 image_store_bytes_left(const ImageStore *store, gboolean *ret_of_disk) {
  struct statvfs status;
  if (ret_of_disk) *ret_of_disk = FALSE;
  if (statvfs(store->directory, &status) < 0) return store->bytes_max;
  guint64 left = (guint64)status.f_bavail * status.f_frsize;
  left = left > RESERVE_BYTES ? left - RESERVE_BYTES : 0;
  if (ret_of_disk) *ret_of_disk = left < store->bytes_max;
  return MIN(store->bytes_max, left);
}

// --- staging --------------------------------------------------------------------------------------

char *image_store_stage(ImageStore *store, GError **error) {
  g_autofree char *staging = g_build_filename(store->staging, "XXXXXX", NULL), *blobs = NULL;
  if (g_mkdtemp(staging) == NULL) return fail(error, "make a directory in", store->staging), NULL;
  blobs = g_build_filename(staging, "blobs", NULL);
  if (symlink("../../blobs", blobs) < 0) {
    fail(error, "make the link", blobs);
    remove_tree(staging);
    return NULL;
  }
  g_atomic_int_inc(&store->staged);
  return g_steal_pointer(&staging);
}

void image_store_unstage(ImageStore *store, char *staging) {
  if (staging == NULL) return;
  remove_tree(staging);
  g_free(staging);
  g_atomic_int_add(&store->staged, -1);
}

// Written and synced elsewhere and moved: directories that are read for names never have half a file in them, nor one
// with a name of its own.
static gboolean put_file(ImageStore *store, const char *path, const char *text, GError **error) {
  g_autofree char *draft = g_build_filename(store->staging, "draft-XXXXXX", NULL);
  int fd = g_mkstemp_full(draft, O_WRONLY | O_CLOEXEC, 0600);
  size_t size = strlen(text);
  gboolean good = fd >= 0;
  if (good && write(fd, text, size) != (ssize_t)size) good = FALSE, errno = errno ? errno : ENOSPC;
  good = good && fsync(fd) == 0;
  int number = errno;
  if (fd >= 0) close(fd);
  errno = number;
  if (good && g_rename(draft, path) == 0) return TRUE;
  fail(error, "write", path);
  if (fd >= 0) g_unlink(draft);
  return FALSE;
}

// --- records --------------------------------------------------------------------------------------

static void put_list(GKeyFile *file, const char *key, char **list) {
  if (list) g_key_file_set_string_list(file, "config", key, (const char *const *)list, g_strv_length(list));
}

static void put_text(GKeyFile *file, const char *group, const char *key, const char *text) {
  if (text) g_key_file_set_string(file, group, key, text);
}

static gboolean write_record(ImageStore *store, const ImageRecord *record, GError **error) {
  g_autoptr(GKeyFile) file = g_key_file_new();
  g_autofree char *path = g_build_filename(store->records, record->id, NULL), *name = g_path_get_basename(record->path);
  put_text(file, "image", record->disk ? "disk" : "root", name);
  put_text(file, "image", "format", record->format);
  put_text(file, "image", "fstype", record->fstype);
  if (record->without_init) g_key_file_set_boolean(file, "image", "without-init", TRUE);
  put_text(file, "image", "source", record->source);
  g_key_file_set_int64(file, "image", "created", record->created);
  g_key_file_set_uint64(file, "image", "size", record->size);
  g_key_file_set_string_list(file, "image", "blobs", (const char *const *)record->blobs, g_strv_length(record->blobs));
  put_list(file, "entrypoint", record->config.entrypoint);
  put_list(file, "cmd", record->config.cmd);
  put_list(file, "env", record->config.env);
  put_list(file, "ports", record->config.ports);
  put_list(file, "volumes", record->config.volumes);
  put_text(file, "config", "user", record->config.user);
  put_text(file, "config", "cwd", record->config.cwd);
  put_text(file, "config", "stop-signal", record->config.stop_signal);
  g_autofree char *text = g_key_file_to_data(file, NULL, NULL);
  return put_file(store, path, text, error);
}

static char **get_list(GKeyFile *file, const char *key) {
  return g_key_file_get_string_list(file, "config", key, NULL, NULL);
}

static char *get_text(GKeyFile *file, const char *group, const char *key) {
  return g_key_file_get_string(file, group, key, NULL);
}

static ImageRecord *read_record(ImageStore *store, const char *id) {
  g_autoptr(GKeyFile) file = g_key_file_new();
  g_autofree char *path = g_build_filename(store->records, id, NULL);
  if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL)) return NULL;
  g_autofree char *root = get_text(file, "image", "root"), *disk = get_text(file, "image", "disk");
  if (root == NULL && disk == NULL) return NULL;
  ImageRecord *record = g_new0(ImageRecord, 1);
  *record = (ImageRecord){.id = g_strdup(id),
                          .path = disk ? g_build_filename(store->disks, disk, NULL)
                                       : g_build_filename(store->roots, root, NULL),
                          .disk = disk != NULL,
                          .format = get_text(file, "image", "format"),
                          .fstype = get_text(file, "image", "fstype"),
                          .without_init = g_key_file_get_boolean(file, "image", "without-init", NULL),
                          .source = get_text(file, "image", "source"),
                          .created = g_key_file_get_int64(file, "image", "created", NULL),
                          .size = g_key_file_get_uint64(file, "image", "size", NULL),
                          .blobs = g_key_file_get_string_list(file, "image", "blobs", NULL, NULL)};
  record->config = (ImageConfig){.entrypoint = get_list(file, "entrypoint"),
                                 .cmd = get_list(file, "cmd"),
                                 .env = get_list(file, "env"),
                                 .ports = get_list(file, "ports"),
                                 .volumes = get_list(file, "volumes"),
                                 .user = get_text(file, "config", "user"),
                                 .cwd = get_text(file, "config", "cwd"),
                                 .stop_signal = get_text(file, "config", "stop-signal")};
  return record;
}

// --- names ----------------------------------------------------------------------------------------

static char *name_path(ImageStore *store, const char *name) {
  g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
  return g_build_filename(store->names, escaped, NULL);
}

static char *read_name(ImageStore *store, const char *name) {
  g_autofree char *path = name_path(store, name), *id = NULL;
  if (*name == 0 || *name == '.' || !g_file_get_contents(path, &id, NULL, NULL)) return NULL;
  g_strchomp(id);
  return g_steal_pointer(&id);
}

static gboolean write_name(ImageStore *store, const char *name, const char *id, GError **error) {
  g_autofree char *path = name_path(store, name);
  return put_file(store, path, id, error);
}

static gboolean check_name(const char *name, GError **error) {
  gboolean good = *name && g_ascii_isalnum(*name) && strlen(name) <= NAME_BYTES_MAX;
  for (const char *c = name; *c; c++) good &= g_ascii_isalnum(*c) || strchr("._-/:@+", *c) != NULL;
  if (!good)
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
                "'%s' cannot be an image's name: letters, digits and ._-/:@+ can, at most %d of them", name,
                NAME_BYTES_MAX);
  return good;
}

// Calls each with the entries of a directory.
static void each_entry(const char *directory, void (*each)(ImageStore *, const char *, gpointer), ImageStore *store,
                       gpointer user_data) {
  g_autoptr(GDir) entries = g_dir_open(directory, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) each(store, entry, user_data);
}

typedef struct NameSearch {
  const char *id;
  GPtrArray *names;
} NameSearch;

static void collect_name(ImageStore *store, const char *entry, gpointer user_data) {
  NameSearch *search = user_data;
  g_autofree char *name = g_uri_unescape_string(entry, NULL), *id = name ? read_name(store, name) : NULL;
  if (id && g_str_equal(id, search->id)) g_ptr_array_add(search->names, g_steal_pointer(&name));
}

static gint compare_texts(gconstpointer a, gconstpointer b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void read_names(ImageStore *store, ImageRecord *record) {
  NameSearch search = {record->id, g_ptr_array_new()};
  each_entry(store->names, collect_name, store, &search);
  g_ptr_array_sort(search.names, compare_texts);
  g_ptr_array_add(search.names, NULL);
  record->names = (char **)g_ptr_array_free(search.names, FALSE);
}

// --- taking in ------------------------------------------------------------------------------------

typedef struct Taking {
  ImageStore *store;
  const char *staging;
  GCancellable *cancellable;
  ImageSay say;
  gpointer user_data;
  guint64 unpacked;
} Taking;

// A blob that is not what it is called is of no use to anybody: the next try fetches it anew.
static gboolean check_layers(Taking *it, const ImageManifest *manifest, GError **error) {
  ImageBudget budget = {.entries = ENTRIES_MAX};
  budget.bytes = image_store_bytes_left(it->store, &budget.of_disk);
  budget.bytes_max = budget.bytes;
  for (guint i = 0; i < manifest->layers->len; i++) {
    ImageLayer *layer = manifest->layers->pdata[i];
    g_autofree char *path = g_build_filename(it->store->blobs, layer->digest + 7, NULL),
                    *message = g_strdup_printf("checking layer %u of %u", i + 1, manifest->layers->len);
    it->say(message, it->user_data);
    GError *trouble = NULL;
    if (image_layer_check(path, layer, &budget, it->cancellable, &trouble)) continue;
    if (g_error_matches(trouble, STELE_ERROR, STELE_ERROR_INVALID_IMAGE)) g_unlink(path);
    g_propagate_error(error, trouble);
    return FALSE;
  }
  it->unpacked = budget.bytes_max - budget.bytes;
  return TRUE;
}

// What was counted may still be more than there is by now.
static gboolean on_unpack_tick(gpointer user_data, GError **error) {
  Taking *it = user_data;
  struct statvfs status;
  if (statvfs(it->store->directory, &status) < 0 || (guint64)status.f_bavail * status.f_frsize > RESERVE_BYTES / 4)
    return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE_FULL,
              "the disk of %s is full; nothing of the image was kept: free some space and try again",
              it->store->directory);
  return FALSE;
}

// As what the root is kept: a directory, or an image of a file system where only root can have directories like it.
static gboolean unpack(Taking *it, ImageRecord *record, GError **error) {
  g_autofree char *size = g_format_size_full(it->unpacked, G_FORMAT_SIZE_IEC_UNITS),
                  *message = g_strdup_printf("unpacking %s", size);
  ImageRoot root = {.staging = it->staging,
                    .bytes_max = it->store->bytes_max,
                    .cancellable = it->cancellable,
                    .tick = on_unpack_tick,
                    .user_data = it};
  it->say(message, it->user_data);
  g_autofree char *made = image_root_unpack(&root, error);
  if (made && record->disk) {
    record->without_init = !root.has_init;
    it->say("making an erofs image of it", it->user_data);
    char *image = image_root_pack(&root, error);
    g_free(made);
    made = image;
  }
  if (made == NULL) return FALSE;
  // Somebody else may have unpacked the same layers meanwhile.
  return g_rename(made, record->path) == 0 || g_file_test(record->path, G_FILE_TEST_EXISTS) ||
         fail(error, "put in place", record->path);
}

// Another image of the same layers has it already, and knows of it what unpacking tells.
static gboolean find_unpacked(ImageStore *store, ImageRecord *record) {
  if (!g_file_test(record->path, G_FILE_TEST_EXISTS)) return FALSE;
  if (!record->disk) return TRUE;
  g_autoptr(GPtrArray) records = image_store_list(store, NULL);
  for (guint i = 0; i < records->len; i++) {
    const ImageRecord *other = records->pdata[i];
    if (!g_str_equal(other->path, record->path)) continue;
    record->without_init = other->without_init;
    return TRUE;
  }
  return FALSE;
}

static char **dup_blobs(const ImageManifest *manifest) {
  GPtrArray *blobs = g_ptr_array_new();
  g_ptr_array_add(blobs, g_strdup(manifest->digest));
  g_ptr_array_add(blobs, g_strdup(manifest->config_digest));
  for (guint i = 0; i < manifest->layers->len; i++)
    g_ptr_array_add(blobs, g_strdup(((ImageLayer *)manifest->layers->pdata[i])->digest));
  g_ptr_array_add(blobs, NULL);
  return (char **)g_ptr_array_free(blobs, FALSE);
}

static ImageRecord *commit(ImageStore *store, ImageRecord *record, const char *name, GError **error) {
  g_mutex_lock(&store->lock);
  // Another name of the same layers may have been removed, and the root with it, since it was looked for.
  gboolean good = g_file_test(record->path, G_FILE_TEST_EXISTS) || fail(error, "find", record->path);
  good = good && write_record(store, record, error) && write_name(store, name, record->id, error);
  g_mutex_unlock(&store->lock);
  if (good) return record;
  image_record_free(record);
  return NULL;
}

ImageRecord *image_store_take(ImageStore *store, const char *staging, const char *name, const char *source,
                              GCancellable *cancellable, ImageSay say, gpointer user_data, GError **error) {
  Taking it = {store, staging, cancellable, say, user_data, 0};
  if (!check_name(name, error)) return NULL;
  g_autoptr(ImageManifest) manifest = image_manifest_read(staging, error);
  if (manifest == NULL) return NULL;
  g_autofree char *chain = image_manifest_chain(manifest);
  if (!check_layers(&it, manifest, error)) return NULL;
  gboolean disk = image_root_is_packed();
  g_autoptr(ImageRecord) record = g_new0(ImageRecord, 1);
  *record = (ImageRecord){.id = g_strdup(manifest->digest + 7),
                          .path = g_build_filename(disk ? store->disks : store->roots, chain, NULL),
                          .disk = disk,
                          .format = disk ? g_strdup("raw") : NULL,
                          .fstype = disk ? g_strdup("erofs") : NULL,
                          .source = g_strdup(source),
                          .created = g_get_real_time() / G_USEC_PER_SEC,
                          .size = it.unpacked,
                          .blobs = dup_blobs(manifest),
                          .config = manifest->config};
  manifest->config = (ImageConfig){NULL};
  if (!find_unpacked(store, record) && !unpack(&it, record, error)) return NULL;
  return commit(store, g_steal_pointer(&record), name, error);
}

ImageRecord *image_store_take_disk(ImageStore *store, const char *file, const char *digest, const char *format,
                                   const char *fstype, const char *name, const char *source, GError **error) {
  struct stat status;
  if (!check_name(name, error)) return NULL;
  g_autofree char *path = g_build_filename(store->disks, digest, NULL);
  if (stat(file, &status) < 0 || g_rename(file, path) < 0) {
    fail(error, "put in place", path);
    return NULL;
  }
  ImageRecord *record = g_new0(ImageRecord, 1);
  *record = (ImageRecord){.id = g_strdup(digest),
                          .path = g_steal_pointer(&path),
                          .disk = TRUE,
                          .format = g_strdup(format),
                          .fstype = g_strdup(fstype),
                          .source = g_strdup(source),
                          .created = g_get_real_time() / G_USEC_PER_SEC,
                          .size = (guint64)status.st_blocks * 512,
                          .blobs = g_new0(char *, 1)};
  return commit(store, record, name, error);
}

// --- finding --------------------------------------------------------------------------------------

// The name as it is stored.
static char *find_name(ImageStore *store, const char *name) {
  static const char *const prefixes[] = {"", "docker.io/", "docker.io/library/"};
  static const char *const suffixes[] = {"", ":latest"};
  for (gsize i = 0; i < G_N_ELEMENTS(prefixes) * G_N_ELEMENTS(suffixes); i++) {
    char *full = g_strconcat(prefixes[i / 2], name, suffixes[i % 2], NULL);
    g_autofree char *id = read_name(store, full);
    if (id) return full;
    g_free(full);
  }
  return NULL;
}

typedef struct IdSearch {
  const char *beginning;
  char *id;
  guint found;
} IdSearch;

static void match_id(ImageStore *store, const char *entry, gpointer user_data) {
  IdSearch *search = user_data;
  if (!g_str_has_prefix(entry, search->beginning)) return;
  search->found++;
  g_free(search->id);
  search->id = g_strdup(entry);
}

static char *find_id_by_beginning(ImageStore *store, const char *name) {
  IdSearch search = {g_str_has_prefix(name, "sha256:") ? name + 7 : name, NULL, 0};
  if (strlen(search.beginning) >= ID_SHORTEST &&
      strspn(search.beginning, "0123456789abcdef") == strlen(search.beginning))
    each_entry(store->records, match_id, store, &search);
  if (search.found == 1) return search.id;
  g_free(search.id);
  return NULL;
}

ImageRecord *image_store_find(ImageStore *store, const char *name, GError **error) {
  g_autofree char *full = find_name(store, name), *id = full ? read_name(store, full) : NULL;
  if (id == NULL) id = find_id_by_beginning(store, name);
  ImageRecord *record = id ? read_record(store, id) : NULL;
  if (record)
    read_names(store, record);
  else
    g_set_error(error, STELE_ERROR, STELE_ERROR_NO_SUCH_IMAGE,
                "there is no image '%s': 'vmctl image list' shows what there is, 'vmctl image pull' fetches one", name);
  return record;
}

static void add_record(ImageStore *store, const char *entry, gpointer user_data) {
  ImageRecord *record = read_record(store, entry);
  if (record == NULL) return;
  read_names(store, record);
  g_ptr_array_add(user_data, record);
}

static gint compare_records(gconstpointer a, gconstpointer b) {
  const ImageRecord *first = *(ImageRecord *const *)a, *second = *(ImageRecord *const *)b;
  int by_name = g_strcmp0(first->names[0], second->names[0]);
  return by_name ? by_name : strcmp(first->id, second->id);
}

GPtrArray *image_store_list(ImageStore *store, GError **error) {
  GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)image_record_free);
  each_entry(store->records, add_record, store, records);
  g_ptr_array_sort(records, compare_records);
  return records;
}

// --- removing -------------------------------------------------------------------------------------

static gboolean path_is_shared(ImageStore *store, const ImageRecord *record) {
  g_autoptr(GPtrArray) records = image_store_list(store, NULL);
  for (guint i = 0; i < records->len; i++) {
    const ImageRecord *other = records->pdata[i];
    if (!g_str_equal(other->id, record->id) && g_str_equal(other->path, record->path)) return TRUE;
  }
  return FALSE;
}

// The record goes first: a root without one is what prune takes away.
static gboolean remove_image(ImageStore *store, const ImageRecord *record, ImageUses uses, gpointer user_data,
                             GError **error) {
  gboolean shared = path_is_shared(store, record);
  g_autofree char *users = shared ? NULL : uses(record->path, user_data),
                  *path = g_build_filename(store->records, record->id, NULL);
  if (users) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "the image is the root of %s: 'vmctl undefine' that first",
                users);
    return FALSE;
  }
  for (char **name = record->names; *name; name++) {
    g_autofree char *file = name_path(store, *name);
    g_unlink(file);
  }
  if (g_unlink(path) < 0 && errno != ENOENT) return fail(error, "remove", path);
  return shared || remove_tree(record->path) || fail(error, "remove", record->path);
}

gboolean image_store_remove(ImageStore *store, const char *name, ImageUses uses, gpointer user_data, GError **error) {
  g_mutex_lock(&store->lock);
  g_autoptr(ImageRecord) record = image_store_find(store, name, error);
  gboolean good = record != NULL;
  g_autofree char *full = good ? find_name(store, name) : NULL;
  if (good && full && g_strv_length(record->names) > 1) {
    g_autofree char *file = name_path(store, full);
    good = g_unlink(file) == 0 || fail(error, "remove", file);
  } else if (good) {
    good = remove_image(store, record, uses, user_data, error);
  }
  g_mutex_unlock(&store->lock);
  return good;
}

typedef struct Pruning {
  GHashTable *kept; // names of files
  ImageUses uses;
  gpointer user_data;
  const char *directory;
  guint64 freed;
} Pruning;

static void prune_entry(ImageStore *store, const char *entry, gpointer user_data) {
  Pruning *it = user_data;
  struct stat status;
  g_autofree char *path = g_build_filename(it->directory, entry, NULL),
                  *users = g_hash_table_contains(it->kept, entry) ? NULL : it->uses(path, it->user_data);
  if (g_hash_table_contains(it->kept, entry) || users) return;
  if (lstat(path, &status) == 0 && S_ISREG(status.st_mode)) it->freed += (guint64)status.st_blocks * 512;
  remove_tree(path);
}

static void keep_of(GHashTable *kept, const ImageRecord *record) {
  g_hash_table_add(kept, g_path_get_basename(record->path));
  for (char **blob = record->blobs; blob && *blob; blob++)
    if (strlen(*blob) > 7) g_hash_table_add(kept, g_strdup(*blob + 7));
}

gboolean image_store_prune(ImageStore *store, gboolean unused, ImageUses uses, gpointer user_data, guint64 *ret_freed,
                           GError **error) {
  g_autoptr(GHashTable) kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  Pruning it = {.kept = kept, .uses = uses, .user_data = user_data};
  const char *const places[] = {store->blobs, store->roots, store->disks};
  g_mutex_lock(&store->lock);
  g_autoptr(GPtrArray) records = image_store_list(store, NULL);
  for (guint i = 0; i < records->len; i++) {
    g_autofree char *users = unused ? uses(((ImageRecord *)records->pdata[i])->path, user_data) : NULL;
    if (!unused || users || !remove_image(store, records->pdata[i], uses, user_data, NULL))
      keep_of(kept, records->pdata[i]);
  }
  gboolean idle = g_atomic_int_get(&store->staged) == 0;
  for (gsize i = 0; idle && i < G_N_ELEMENTS(places); i++) {
    it.directory = places[i];
    each_entry(places[i], prune_entry, store, &it);
  }
  g_mutex_unlock(&store->lock);
  *ret_freed = it.freed;
  if (!idle)
    g_set_error(error, STELE_ERROR, STELE_ERROR_WRONG_STATE,
                "an image is just being fetched: try again when it is there");
  return idle;
}
