// See machine-store.h. All paths are relative to one directory descriptor, so that a machine's
// name, which has no '/' in it, can never lead elsewhere.
#include "machine-store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "machine-config.h"

#define SUFFIX_DEFINITION ".xml"
#define SUFFIX_STATE      ".state"
#define SUFFIX_DRAFT      ".draft" // of a definition; a name may end in .xml, but no definition in this
#define STATE_LINE_MAX    256
#define STATE_RENAMED     "renamed"

struct MachineStore {
  int directory;
  char *path;
};

struct MachineDraft {
  MachineStore *store;
  char *name;
};

static gboolean fail(GError **error, int number, const char *what, MachineStore *store, const char *name) {
  gboolean full = number == ENOSPC || number == EDQUOT || number == EFBIG;
  g_set_error(error, STELE_ERROR, full ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE, "%s '%s' in %s: %s%s", what,
              name, store->path, g_strerror(number),
              full ? "; nothing was changed: free some space and try again" : "");
  return FALSE;
}

static char *file_name(const char *name, const char *suffix) {
  return g_strconcat(name, suffix, NULL);
}

static void remove_drafts(MachineStore *store) {
  int duplicate = fcntl(store->directory, F_DUPFD_CLOEXEC, 0);
  DIR *stream = duplicate < 0 ? NULL : fdopendir(duplicate);
  if (stream == NULL) return;
  for (struct dirent *entry; (entry = readdir(stream));)
    if (g_str_has_suffix(entry->d_name, SUFFIX_DRAFT)) unlinkat(store->directory, entry->d_name, 0);
  closedir(stream);
}

MachineStore *machine_store_open(const char *directory, GError **error) {
  g_autoptr(MachineStore) store = g_new0(MachineStore, 1);
  store->path = g_strdup(directory);
  store->directory = -1;
  if (g_mkdir_with_parents(directory, 0700) == 0)
    store->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (store->directory < 0) {
    fail(error, errno, "cannot open the store of", store, "machines");
    return NULL;
  }
  remove_drafts(store);
  return g_steal_pointer(&store);
}

void machine_store_close(MachineStore *store) {
  if (store == NULL) return;
  if (store->directory >= 0) close(store->directory);
  g_free(store->path);
  g_free(store);
}

// --- definitions ---------------------------------------------------------------------------------

static int write_whole(int fd, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t written = write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    bytes += written;
    size -= (size_t)written;
  }
  return 0;
}

MachineDraft *machine_store_write(MachineStore *store, const char *name, const char *xml, GError **error) {
  g_autofree char *draft = file_name(name, SUFFIX_DRAFT);
  int fd = openat(store->directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  int r = fd < 0 ? -errno : write_whole(fd, xml, strlen(xml));
  if (r == 0 && fsync(fd) < 0) r = -errno;
  if (fd >= 0 && close(fd) < 0 && r == 0) r = -errno;
  if (r < 0) {
    unlinkat(store->directory, draft, 0);
    fail(error, -r, "cannot write the definition of", store, name);
    return NULL;
  }
  MachineDraft *written = g_new0(MachineDraft, 1);
  *written = (MachineDraft){.store = store, .name = g_strdup(name)};
  return written;
}

static void draft_free(MachineDraft *draft) {
  g_free(draft->name);
  g_free(draft);
}

gboolean machine_draft_commit(MachineDraft *draft, GError **error) {
  MachineStore *store = draft->store;
  g_autofree char *from = file_name(draft->name, SUFFIX_DRAFT), *to = file_name(draft->name, SUFFIX_DEFINITION);
  gboolean done = renameat(store->directory, from, store->directory, to) == 0;
  if (!done) {
    fail(error, errno, "cannot put in place the definition of", store, draft->name);
    unlinkat(store->directory, from, 0);
  } else if (fsync(store->directory) < 0) {
    done = fail(error, errno, "cannot sync the definition of", store, draft->name);
  }
  draft_free(draft);
  return done;
}

void machine_draft_discard(MachineDraft *draft) {
  if (draft == NULL) return;
  g_autofree char *name = file_name(draft->name, SUFFIX_DRAFT);
  unlinkat(draft->store->directory, name, 0);
  draft_free(draft);
}

static int check_regular(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  return S_ISREG(status.st_mode) ? 0 : S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
}

static int read_whole(int fd, GString *text) {
  char part[4096];
  for (ssize_t got; (got = read(fd, part, sizeof part)) != 0;) {
    if (got > 0)
      g_string_append_len(text, part, got);
    else if (errno != EINTR)
      return -errno;
  }
  return 0;
}

// NULL and errno. What is no file is not waited for: nobody may ever write to a FIFO.
static char *read_file(MachineStore *store, const char *file) {
  g_autoptr(GString) text = g_string_new(NULL);
  int fd = openat(store->directory, file, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  int r = fd < 0 ? -errno : check_regular(fd);
  if (r == 0) r = read_whole(fd, text);
  if (fd >= 0) close(fd);
  errno = -r;
  return r == 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

char *machine_store_read(MachineStore *store, const char *name, GError **error) {
  g_autofree char *file = file_name(name, SUFFIX_DEFINITION);
  char *text = read_file(store, file);
  if (text == NULL) fail(error, errno, "cannot read the definition of", store, name);
  return text;
}

gboolean machine_store_remove(MachineStore *store, const char *name, GError **error) {
  g_autofree char *definition = file_name(name, SUFFIX_DEFINITION), *state = file_name(name, SUFFIX_STATE);
  if (unlinkat(store->directory, definition, 0) < 0 && errno != ENOENT)
    return fail(error, errno, "cannot remove the definition of", store, name);
  unlinkat(store->directory, state, 0);
  if (fsync(store->directory) < 0) return fail(error, errno, "cannot sync the removal of", store, name);
  return TRUE;
}

static gint compare_names(gconstpointer a, gconstpointer b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *machine_store_list(MachineStore *store, GError **error) {
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) directory = g_dir_open(store->path, 0, NULL);
  if (directory == NULL) {
    fail(error, errno, "cannot list the definitions of", store, "machines");
    return NULL;
  }
  for (const char *entry; (entry = g_dir_read_name(directory));) {
    if (!g_str_has_suffix(entry, SUFFIX_DEFINITION)) continue;
    g_autofree char *name = g_strndup(entry, strlen(entry) - strlen(SUFFIX_DEFINITION));
    if (machine_name_trouble(name) == NULL) g_ptr_array_add(names, g_steal_pointer(&name));
  }
  g_ptr_array_sort(names, compare_names);
  return g_steal_pointer(&names);
}

// --- the state line ------------------------------------------------------------------------------

void machine_store_note_state(MachineStore *store, const char *name, const char *state, const char *reason) {
  g_autofree char *file = file_name(name, SUFFIX_STATE), *line = g_strdup_printf("%s %s\n", state, reason);
  g_autofree char *path = g_build_filename(store->path, file, NULL);
  g_file_set_contents_full(path, line, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL);
}

gboolean machine_store_recall_state(MachineStore *store, const char *name, char **ret_state, char **ret_reason) {
  g_autofree char *file = file_name(name, SUFFIX_STATE), *line = read_file(store, file);
  if (line == NULL || strlen(line) > STATE_LINE_MAX) return FALSE;
  g_auto(GStrv) words = g_strsplit(g_strstrip(line), " ", -1);
  if (g_strv_length(words) != 2) return FALSE;
  *ret_state = g_strdup(words[0]);
  *ret_reason = g_strdup(words[1]);
  return TRUE;
}

void machine_store_note_rename(MachineStore *store, const char *name, const char *new_name) {
  machine_store_note_state(store, name, STATE_RENAMED, new_name);
}

gboolean machine_store_recall_rename(MachineStore *store, const char *name, gboolean *ret_complete) {
  g_autofree char *file = file_name(name, SUFFIX_STATE), *line = read_file(store, file);
  if (line == NULL || !g_str_has_prefix(line, STATE_RENAMED " ")) return FALSE;
  const char *new_name = g_strchomp(line) + strlen(STATE_RENAMED " ");
  if (machine_name_trouble(new_name)) return FALSE;
  g_autofree char *definition = file_name(new_name, SUFFIX_DEFINITION);
  *ret_complete = faccessat(store->directory, definition, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  return TRUE;
}
