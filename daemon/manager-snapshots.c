// Requests about snapshots: copies of what a stopped machine has changed, STATE/snapshots/UUID/NAME.img, made whole or
// not at all. A file system that can share blocks between files (reflinks) makes one in no time. See manager-private.h.
#include "manager-private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "image-tool.h"

#define ENDING         ".img"
#define DRAFT          ".draft" // of a copy; no name begins so
#define NAME_BYTES_MAX 64

typedef struct SnapshotRequest {
  char *place, *changes; // the machine's directory of snapshots, its disk
  char *path, *draft;    // of the snapshot; of what is being copied
  char *name;
} SnapshotRequest;

static void snapshot_request_free(gpointer data) {
  SnapshotRequest *request = data;
  char *const strings[] = {request->place, request->changes, request->path, request->draft, request->name};
  for (gsize i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  g_free(request);
}

static char *dup_place(Manager *manager, const char *uuid) {
  return g_build_filename(manager->paths->root, "snapshots", uuid, NULL);
}

char *machine_dup_own_changes(Machine *machine) {
  const char *changes = machine->config ? machine->config->changes : NULL;
  g_autofree char *file = g_strconcat(machine->uuid, ".img", NULL),
                  *own = g_build_filename(machine->manager->paths->changes, file, NULL);
  return changes && g_str_equal(changes, own) ? g_steal_pointer(&own) : NULL;
}

// --- copying --------------------------------------------------------------------------------------

static gboolean fail(Job *job, const char *what, const char *path) {
  gboolean full = errno == ENOSPC || errno == EDQUOT;
  g_set_error(&job->error, STELE_ERROR, full ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE, "cannot %s %s: %s", what,
              path, g_strerror(errno));
  return FALSE;
}

static gboolean sync_file(Job *job, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  gboolean synced = fd >= 0 && fsync(fd) == 0;
  if (!synced) fail(job, "sync", path);
  if (fd >= 0) close(fd);
  return synced;
}

// What is at `to` afterwards is the old or the new, whole.
static void copy(Job *job, const char *from, const char *to) {
  const SnapshotRequest *request = job->data;
  const char *const argv[] = {"cp", "--reflink=auto", "--sparse=always", "--", from, request->draft, NULL};
  ImageTool tool = {.argv = argv, .writable = request->place, .output = -1};
  if (image_tool_run(&tool, NULL, &job->error) && sync_file(job, request->draft) && g_rename(request->draft, to) < 0)
    fail(job, "put in place", to);
  if (job->error) g_unlink(request->draft);
}

// --- create, restore, remove ----------------------------------------------------------------------

static void refuse_unknown(Job *job) {
  const SnapshotRequest *request = job->data;
  g_set_error(&job->error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
              "'%s' has no snapshot '%s': 'vmctl snapshot %s list' shows what there is", job->name, request->name,
              job->name);
}

static void work_create(Job *job) {
  const SnapshotRequest *request = job->data;
  if (g_mkdir_with_parents(request->place, 0700) < 0) {
    fail(job, "make the directory", request->place);
    return;
  }
  if (g_file_test(request->path, G_FILE_TEST_EXISTS))
    g_set_error(&job->error, STELE_ERROR, STELE_ERROR_NAME_TAKEN,
                "'%s' has a snapshot '%s' already: choose another name, or remove it", job->name, request->name);
  else
    copy(job, request->changes, request->path);
  g_rmdir(request->place); // if nothing came of the first
}

static void work_restore(Job *job) {
  const SnapshotRequest *request = job->data;
  if (g_file_test(request->path, G_FILE_TEST_EXISTS))
    copy(job, request->path, request->changes);
  else
    refuse_unknown(job);
}

static void work_remove(Job *job) {
  const SnapshotRequest *request = job->data;
  if (g_unlink(request->path) < 0 && errno == ENOENT)
    refuse_unknown(job);
  else if (g_access(request->path, F_OK) == 0)
    fail(job, "remove", request->path);
  g_rmdir(request->place); // with the last
}

static void finish(Job *job) {
  job->machine->changing = FALSE;
  job_reply(job);
}

static gboolean check_name(const char *name, GError **error) {
  gboolean good = g_ascii_isalnum(*name) && strlen(name) <= NAME_BYTES_MAX;
  for (const char *c = name; *c; c++) good &= g_ascii_isalnum(*c) || strchr("._-", *c) != NULL;
  return good || stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT,
                              "'%s' cannot be a snapshot's name: letters, digits and ._- can, at most %d of them", name,
                              NAME_BYTES_MAX);
}

static gboolean check_machine(Machine *machine, GError **error) {
  g_autofree char *changes = machine_dup_own_changes(machine);
  if (changes == NULL)
    return stele_refuse(error, STELE_ERROR_UNSUPPORTED,
                        "'%s' has no disk of its own with what it changed: snapshots are of machines whose changes "
                        "last, as 'vmctl create' and 'vmctl run' make them",
                        machine->name);
  if (machine->changing)
    return stele_refuse(error, STELE_ERROR_WRONG_STATE, "machine '%s' is just being changed", machine->name);
  if (machine->life.state != MACHINE_STOPPED)
    return stele_refuse(error, STELE_ERROR_WRONG_STATE,
                        "'%s' is %s, and what it has in memory would be missing from its disk: 'vmctl shutdown' it "
                        "first",
                        machine->name, machine_state_name(machine->life.state));
  return TRUE;
}

static void request_snapshot(Manager *manager, const char *name, const char *snapshot, void (*work)(Job *),
                             ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine == NULL || !check_name(snapshot, &error) || !check_machine(machine, &error)) {
    request_refuse(done, user_data, error);
    return;
  }
  Job *job = job_new(manager, machine, work, finish, done, user_data);
  SnapshotRequest *request = g_new0(SnapshotRequest, 1);
  g_autofree char *file = g_strconcat(snapshot, ENDING, NULL);
  request->name = g_strdup(snapshot);
  request->place = dup_place(manager, machine->uuid);
  request->changes = machine_dup_own_changes(machine);
  request->path = g_build_filename(request->place, file, NULL);
  request->draft = g_build_filename(request->place, DRAFT, NULL);
  job->data = request;
  job->free_data = snapshot_request_free;
  machine->changing = TRUE;
  job_run(job);
}

void manager_create_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                             gpointer user_data) {
  request_snapshot(manager, name, snapshot, work_create, done, user_data);
}

void manager_restore_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                              gpointer user_data) {
  request_snapshot(manager, name, snapshot, work_restore, done, user_data);
}

void manager_remove_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                             gpointer user_data) {
  request_snapshot(manager, name, snapshot, work_remove, done, user_data);
}

// --- list -----------------------------------------------------------------------------------------

typedef struct Snapshot {
  char *name;
  struct stat status;
} Snapshot;

static void snapshot_free(gpointer data) {
  g_free(((Snapshot *)data)->name);
  g_free(data);
}

static gint compare(gconstpointer a, gconstpointer b) {
  const Snapshot *first = *(Snapshot *const *)a, *second = *(Snapshot *const *)b;
  const struct timespec *one = &first->status.st_mtim, *other = &second->status.st_mtim;
  if (one->tv_sec != other->tv_sec) return one->tv_sec < other->tv_sec ? -1 : 1;
  if (one->tv_nsec != other->tv_nsec) return one->tv_nsec < other->tv_nsec ? -1 : 1;
  return strcmp(first->name, second->name);
}

static GPtrArray *read_snapshots(const char *place) {
  GPtrArray *found = g_ptr_array_new_with_free_func(snapshot_free);
  g_autoptr(GDir) entries = g_dir_open(place, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *path = g_build_filename(place, entry, NULL);
    struct stat status;
    if (!g_str_has_suffix(entry, ENDING) || lstat(path, &status) < 0 || !S_ISREG(status.st_mode)) continue;
    Snapshot *snapshot = g_new(Snapshot, 1);
    *snapshot = (Snapshot){g_strndup(entry, strlen(entry) - strlen(ENDING)), status};
    g_ptr_array_add(found, snapshot);
  }
  g_ptr_array_sort(found, compare);
  return found;
}

static void work_list(Job *job) {
  g_autofree char *place = dup_place(job->manager, job->text);
  g_autoptr(GPtrArray) found = read_snapshots(place);
  GVariantBuilder list;
  g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
  for (guint i = 0; i < found->len; i++) {
    const Snapshot *snapshot = found->pdata[i];
    g_variant_builder_open(&list, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&list, "{sv}", "name", g_variant_new_string(snapshot->name));
    g_variant_builder_add(&list, "{sv}", "created", g_variant_new_int64(snapshot->status.st_mtim.tv_sec));
    g_variant_builder_add(&list, "{sv}", "size", g_variant_new_uint64((guint64)snapshot->status.st_blocks * 512));
    g_variant_builder_close(&list);
  }
  job->result = g_variant_builder_end(&list);
}

void manager_list_snapshots(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  Machine *machine = request_find(manager, name, done, user_data);
  if (machine == NULL) return;
  Job *job = job_new(manager, machine, work_list, NULL, done, user_data);
  job->text = g_strdup(machine->uuid);
  job_run(job);
}

// --- with the machine -----------------------------------------------------------------------------

void manager_forget_snapshots(Manager *manager, const char *uuid) {
  g_autofree char *place = dup_place(manager, uuid);
  g_autoptr(GDir) entries = g_dir_open(place, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *path = g_build_filename(place, entry, NULL);
    g_unlink(path);
  }
  g_rmdir(place);
}
