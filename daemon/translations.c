// See translations.h. A directory holds
//   stele   the translator with the store: root's, made under another name and renamed
//   info    what it was made from, and when it was used
//   work/   the unprivileged user's: what is being made, or was when it was cancelled
#include "translations.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "errors.h"
#include "guest-protocol.h"

#define INFO         "info"
#define WORK         "work"
#define STORE        "store"
#define GROUP        "translations"
#define NOBODY       65534
#define POLL_MS      200
#define TELL_MS      200
#define PATIENCE_MS  30000 // after SIGTERM, for what is done to be written
#define SAID_MAX     2000
#define EXIT_PARTIAL 3 // stele-aot(1)

static GMutex making;   // one at a time
static GMutex removing; // guards the next, and what is listed and removed
static char *at_work;   // directory that something is being made in, or NULL

static gboolean fail(GError **error, const char *what, const char *path) {
  SteleError code =
      errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE;
  g_set_error(error, STELE_ERROR, code, "cannot %s %s: %s", what, path, g_strerror(errno));
  return FALSE;
}

// --- names ---------------------------------------------------------------------------------------

static char *dup_home(const HostPaths *paths) {
  return g_build_filename(paths->root, "translations", NULL);
}

char *translations_dup_directory(const HostPaths *paths, const TranslationsWish *wish) {
  g_autofree char *what = g_strdup_printf("%s\n%s\n%s\n%s\n%u", wish->root, wish->translator, wish->ahead, wish->memory,
                                          wish->features),
                  *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, what, -1), *home = dup_home(paths);
  hash[16] = 0;
  return g_build_filename(home, hash, NULL);
}

// A translator that is replaced is another one, whatever its name.
static char *dup_identity(const char *path) {
  struct stat status;
  if (stat(path, &status) < 0) return g_strdup("");
  return g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT ".%09ld %" G_GUINT64_FORMAT, (gint64)status.st_size,
                         (gint64)status.st_mtim.tv_sec, status.st_mtim.tv_nsec, (guint64)status.st_ino);
}

static guint64 bytes_of(const char *path) {
  struct stat status;
  return lstat(path, &status) == 0 ? (guint64)status.st_blocks * 512 : 0;
}

// --- info ----------------------------------------------------------------------------------------

static GKeyFile *read_info(const char *directory) {
  g_autofree char *path = g_build_filename(directory, INFO, NULL);
  GKeyFile *info = g_key_file_new();
  g_key_file_load_from_file(info, path, G_KEY_FILE_NONE, NULL); // without one nothing is there
  return info;
}

static gboolean write_info(const char *directory, GKeyFile *info, GError **error) {
  g_autofree char *path = g_build_filename(directory, INFO, NULL);
  return g_key_file_save_to_file(info, path, error);
}

static gint64 now_in_seconds(void) {
  return g_get_real_time() / G_USEC_PER_SEC;
}

static gboolean note_made(const char *directory, const TranslationsWish *wish, guint files, GError **error) {
  g_autoptr(GKeyFile) info = g_key_file_new();
  g_autofree char *identity = dup_identity(wish->translator);
  g_key_file_set_string(info, GROUP, "root", wish->root);
  g_key_file_set_string(info, GROUP, "ahead", wish->ahead);
  g_key_file_set_string(info, GROUP, "memory", wish->memory);
  g_key_file_set_string(info, GROUP, "translator", identity);
  g_key_file_set_uint64(info, GROUP, "features", wish->features);
  g_key_file_set_uint64(info, GROUP, "files", files);
  g_key_file_set_int64(info, GROUP, "made", now_in_seconds());
  g_key_file_set_int64(info, GROUP, "used", now_in_seconds());
  return write_info(directory, info, error);
}

gboolean translations_are_there(const HostPaths *paths, const TranslationsWish *wish, gboolean use) {
  g_autofree char *directory = translations_dup_directory(paths, wish),
                  *file = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL);
  g_autoptr(GKeyFile) info = read_info(directory);
  g_autofree char *made_with = g_key_file_get_string(info, GROUP, "translator", NULL),
                  *identity = dup_identity(wish->translator);
  if (g_strcmp0(made_with, identity) != 0 || g_access(file, R_OK | X_OK) < 0) return FALSE;
  if (!use) return TRUE;
  g_key_file_set_int64(info, GROUP, "used", now_in_seconds());
  write_info(directory, info, NULL);
  return TRUE;
}

// --- the process ---------------------------------------------------------------------------------

// What stele-aot is given to open; -1: not there. It gets to them by their numbers, whoever may search the directories
// above.
typedef struct Given {
  int program, root, translator, work, before;
} Given;

static void close_given(Given *given) {
  const int all[] = {given->program, given->root, given->translator, given->work, given->before};
  for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
    if (all[i] >= 0) close(all[i]);
}

// Whom it runs as, where steled is root: the root's owner, or if that is root, too, nobody.
static uid_t user_for(int root) {
  struct stat status;
  if (geteuid() != 0) return geteuid();
  return fstat(root, &status) == 0 && status.st_uid != 0 ? status.st_uid : NOBODY;
}

static int open_or_say(const char *path, int flags, GError **error) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    g_set_error(error, STELE_ERROR, STELE_ERROR_MISSING_FILE, "%s: %s", path, g_strerror(errno));
  else if (fd < 0)
    fail(error, "open", path);
  return fd;
}

// What is being made, or was: in a directory whose user may have put anything there. It must be a file of that user's
// own, no link to one that he could not read. -1 with errno otherwise.
static int open_store(int work, struct stat *ret_status) {
  struct stat owner;
  int fd = openat(work, STORE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return -1;
  if (fstat(fd, ret_status) == 0 && fstat(work, &owner) == 0 && S_ISREG(ret_status->st_mode) &&
      ret_status->st_uid == owner.st_uid)
    return fd;
  close(fd);
  errno = EPERM;
  return -1;
}

static gboolean open_given(const HostPaths *paths, const TranslationsWish *wish, const char *directory, Given *ret,
                           GError **error) {
  g_autofree char *work = g_build_filename(directory, WORK, NULL),
                  *whole = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL);
  struct stat status;
  *ret = (Given){-1, -1, -1, -1, -1};
  ret->root = open_or_say(wish->root, O_RDONLY | O_DIRECTORY, error);
  if (ret->root < 0) return FALSE;
  uid_t user = user_for(ret->root);
  if (g_mkdir_with_parents(work, 0711) < 0 || chmod(work, 0700) < 0 || chown(work, user, (gid_t)-1) < 0)
    return fail(error, "make the directory", work);
  ret->work = open_or_say(work, O_RDONLY | O_DIRECTORY, error);
  ret->translator = ret->work < 0 ? -1 : open_or_say(wish->translator, O_RDONLY, error);
  ret->program = ret->translator < 0 ? -1 : open_or_say(paths->aot, O_RDONLY, error);
  ret->before = ret->work < 0 ? -1 : open_store(ret->work, &status);
  if (ret->before < 0) ret->before = open(whole, O_RDONLY | O_CLOEXEC);
  return ret->program >= 0;
}

// In the child of a process with threads: system calls alone.
static void drop_privileges(uid_t user, rlim_t most) {
  const struct rlimit none = {0, 0}, file = {most, most};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_FSIZE, &file);
  if (geteuid() == 0 && (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, user, user, user) < 0 ||
                         syscall(SYS_setresuid, user, user, user) < 0))
    _exit(127);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpriority(PRIO_PROCESS, 0, 10);
}

static void execute(const Given *given, char *const *argv, int out, uid_t user, rlim_t most) {
  static char *const environment[] = {"LC_ALL=C", NULL};
  const int kept[] = {given->root, given->translator, given->work, given->before};
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
    if (kept[i] >= 0) fcntl(kept[i], F_SETFD, 0);
  int null = open("/dev/null", O_RDONLY);
  if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(127);
  drop_privileges(user, most);
  syscall(SYS_execveat, given->program, "", argv, environment, 0x1000 /* AT_EMPTY_PATH */);
  _exit(127);
}

static char *dup_fd_path(int fd, const char *below) {
  return g_strdup_printf("/proc/self/fd/%d%s%s", fd, below ? "/" : "", below ? below : "");
}

static pid_t start(const HostPaths *paths, const TranslationsWish *wish, const Given *given, int *ret_out,
                   GError **error) {
  g_autofree char *root = dup_fd_path(given->root, NULL), *store = dup_fd_path(given->work, STORE),
                  *translator = dup_fd_path(given->translator, NULL), *before = dup_fd_path(given->before, NULL),
                  *features = g_strdup_printf("%u", wish->features);
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  const char *const always[] = {"stele-aot", "--quiet",    "--keep",   "--progress", "--features",   features,
                                "--memory",  wish->memory, "--output", store,        "--translator", translator};
  for (size_t i = 0; i < G_N_ELEMENTS(always); i++) g_ptr_array_add(argv, (char *)always[i]);
  if (g_str_equal(wish->ahead, "loaded")) g_ptr_array_add(argv, "--loaded");
  if (given->before >= 0) g_ptr_array_add(argv, "--reuse");
  if (given->before >= 0) g_ptr_array_add(argv, before);
  g_ptr_array_add(argv, root);
  g_ptr_array_add(argv, NULL);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return fail(error, "start", paths->aot), -1;
  uid_t user = user_for(given->root);
  pid_t child = fork();
  if (child == 0) execute(given, (char *const *)argv->pdata, ends[1], user, (rlim_t)paths->translations_limit);
  close(ends[1]);
  *ret_out = ends[0];
  if (child < 0) close(ends[0]), fail(error, "start", paths->aot);
  return child;
}

typedef struct Listening {
  TranslationsProgress progress;
  gpointer user_data;
  guint done, count;
  gboolean whole;       // the end has been told
  gint64 next;          // time at which progress is told again
  GString *line, *said; // said: what is no progress
} Listening;

// Now and then, however much is said, and once at the end.
static void tell_progress(Listening *l) {
  gint64 now = g_get_monotonic_time();
  gboolean end = l->done >= l->count && !l->whole;
  if (now < l->next && !end) return;
  l->whole |= end;
  l->next = now + TELL_MS * 1000;
  l->progress(l->done, l->count, l->user_data);
}

static void take_line(Listening *l) {
  if (sscanf(l->line->str, "%u %u", &l->done, &l->count) == 2)
    tell_progress(l);
  else if (l->said->len + l->line->len < SAID_MAX)
    g_string_append_printf(l->said, "%s%s", l->said->len ? "; " : "", l->line->str);
  g_string_truncate(l->line, 0);
}

static void take_bytes(Listening *l, const char *bytes, gssize size) {
  for (gssize i = 0; i < size; i++) {
    if (bytes[i] == '\n')
      take_line(l);
    else if (l->line->len < SAID_MAX)
      g_string_append_c(l->line, bytes[i]);
  }
}

// Until the process ends, or has closed its output, which is then its end. Its exit status, or -1.
static int listen_to(pid_t child, int out, GCancellable *cancellable, Listening *l) {
  gint64 asked = 0;
  int status = -1;
  for (gboolean open = TRUE; open;) {
    struct pollfd poller = {.fd = out, .events = POLLIN};
    char bytes[4096];
    gssize got = poll(&poller, 1, POLL_MS) > 0 ? read(out, bytes, sizeof bytes) : -1;
    if (got > 0) take_bytes(l, bytes, got);
    open = got != 0;
    gboolean cancelled = g_cancellable_is_cancelled(cancellable);
    if (cancelled && asked == 0) kill(child, SIGTERM), asked = g_get_monotonic_time();
    if (cancelled && g_get_monotonic_time() - asked > PATIENCE_MS * 1000) kill(child, SIGKILL);
  }
  kill(child, SIGKILL); // it changes nothing of one that is ending by itself
  if (l->line->len) take_line(l);
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static gboolean explain(int status, const Listening *l, GCancellable *cancellable, GError **error) {
  gboolean full = strstr(l->said->str, g_strerror(ENOSPC)) || strstr(l->said->str, g_strerror(EFBIG)) ||
                  strstr(l->said->str, g_strerror(EDQUOT));
  if (status == EXIT_PARTIAL || g_cancellable_is_cancelled(cancellable))
    g_set_error(error, STELE_ERROR, STELE_ERROR_CANCELLED,
                "translating was cancelled after %u of %u files: what is done is taken over the next time", l->done,
                l->count);
  else if (full)
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE_FULL,
                "there is no room for translations: 'vmctl cache prune' makes some; stele-aot says: %s", l->said->str);
  else
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "stele-aot failed (%d): %s", status, l->said->str);
  return FALSE;
}

static gboolean run(const HostPaths *paths, const TranslationsWish *wish, const Given *given, GCancellable *cancellable,
                    Listening *l, GError **error) {
  int out;
  pid_t child = start(paths, wish, given, &out, error);
  if (child < 0) return FALSE;
  int status = listen_to(child, out, cancellable, l);
  close(out);
  return status == 0 || explain(status, l, cancellable, error);
}

// --- making --------------------------------------------------------------------------------------

static gboolean copy(int from, int to, guint64 size) {
  g_autofree char *buffer = g_malloc(1 << 20);
  while (size) {
    gssize got = read(from, buffer, MIN(size, 1 << 20));
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO; // it has been cut
    if (got <= 0) return FALSE;
    for (gssize done = 0, wrote; done < got; done += wrote)
      if ((wrote = write(to, buffer + done, (gsize)(got - done))) < 0) return FALSE;
    size -= (guint64)got;
  }
  return fchmod(to, 0755) == 0 && fsync(to) == 0;
}

// A copy, of what it is now: whoever made it may have kept it open.
static gboolean publish(const HostPaths *paths, const char *directory, int work, GError **error) {
  g_autofree char *temporary = g_build_filename(directory, STELE_TRANSLATOR_FILE ".new", NULL),
                  *path = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL);
  struct stat status;
  int from = open_store(work, &status), to = -1;
  if (from >= 0 && (guint64)status.st_size > paths->translations_limit)
    errno = EFBIG;
  else if (from >= 0)
    to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  gboolean good = to >= 0 && copy(from, to, (guint64)status.st_size) && rename(temporary, path) == 0;
  if (!good) fail(error, "write", path);
  if (!good && to >= 0) unlink(temporary);
  if (to >= 0) close(to);
  if (from >= 0) close(from);
  return good;
}

static void remove_work(const char *directory, int work) {
  g_autofree char *path = g_build_filename(directory, WORK, NULL);
  unlinkat(work, STORE, 0);
  rmdir(path);
}

static gboolean make(const HostPaths *paths, const TranslationsWish *wish, const char *directory,
                     GCancellable *cancellable, Listening *l, GError **error) {
  Given given;
  gboolean good = open_given(paths, wish, directory, &given, error) &&
                  run(paths, wish, &given, cancellable, l, error) && publish(paths, directory, given.work, error) &&
                  note_made(directory, wish, l->count, error);
  if (good) remove_work(directory, given.work);
  close_given(&given);
  return good;
}

// Others take their turns.
static gboolean wait_for_turn(GCancellable *cancellable, GError **error) {
  while (!g_mutex_trylock(&making)) {
    g_usleep(POLL_MS * 1000);
    if (!g_cancellable_is_cancelled(cancellable)) continue;
    g_set_error(error, STELE_ERROR, STELE_ERROR_CANCELLED, "translating was cancelled before it began");
    return FALSE;
  }
  return TRUE;
}

static void note_at_work(const char *directory) {
  g_mutex_lock(&removing);
  g_free(at_work);
  at_work = g_strdup(directory);
  g_mutex_unlock(&removing);
}

gboolean translations_make(const HostPaths *paths, const TranslationsWish *wish, GHashTable *in_use,
                           GCancellable *cancellable, TranslationsProgress progress, gpointer user_data,
                           GVariant **ret_result, GError **error) {
  g_autofree char *directory = translations_dup_directory(paths, wish);
  Listening l = {.progress = progress, .user_data = user_data, .line = g_string_new(NULL), .said = g_string_new(NULL)};
  gboolean good = wait_for_turn(cancellable, error);
  if (good) {
    note_at_work(directory);
    good = (g_mkdir_with_parents(directory, 0711) == 0 || fail(error, "make the directory", directory)) &&
           make(paths, wish, directory, cancellable, &l, error);
    note_at_work(NULL);
    g_mutex_unlock(&making);
  }
  g_string_free(l.line, TRUE);
  g_string_free(l.said, TRUE);
  if (!good) return FALSE;
  g_autofree char *file = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL);
  if (ret_result) {
    g_auto(GVariantBuilder) result = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&result, "{sv}", "files", g_variant_new_uint32(l.count));
    g_variant_builder_add(&result, "{sv}", "bytes", g_variant_new_uint64(bytes_of(file)));
    *ret_result = g_variant_builder_end(&result);
  }
  g_hash_table_add(in_use, g_strdup(wish->root));
  g_variant_unref(g_variant_ref_sink(translations_prune(paths, paths->translations_limit, in_use)));
  return TRUE;
}

// --- what there is -------------------------------------------------------------------------------

typedef struct Entry {
  char *directory;
  GKeyFile *info;
  guint64 bytes;
  gint64 used;
  gboolean in_use;
} Entry;

static void entry_free(gpointer data) {
  Entry *entry = data;
  g_free(entry->directory);
  g_key_file_unref(entry->info);
  g_free(entry);
}

static guint64 all_bytes_of(const char *directory) {
  g_autofree char *file = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL),
                  *partial = g_build_filename(directory, WORK, STORE, NULL);
  return bytes_of(file) + bytes_of(partial);
}

static gint by_use(gconstpointer a, gconstpointer b) {
  const Entry *x = *(Entry *const *)a, *y = *(Entry *const *)b;
  return x->used < y->used ? -1 : x->used > y->used ? 1 : g_strcmp0(x->directory, y->directory);
}

// Those longest unused first.
static GPtrArray *list_entries(const HostPaths *paths, GHashTable *in_use) {
  GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);
  g_autofree char *home = dup_home(paths);
  g_autoptr(GDir) names = g_dir_open(home, 0, NULL);
  for (const char *name; names && (name = g_dir_read_name(names));) {
    Entry *entry = g_new0(Entry, 1);
    entry->directory = g_build_filename(home, name, NULL);
    entry->info = read_info(entry->directory);
    entry->bytes = all_bytes_of(entry->directory);
    entry->used = g_key_file_get_int64(entry->info, GROUP, "used", NULL);
    g_autofree char *root = g_key_file_get_string(entry->info, GROUP, "root", NULL);
    entry->in_use = (root && g_hash_table_contains(in_use, root)) || g_strcmp0(entry->directory, at_work) == 0;
    g_ptr_array_add(entries, entry);
  }
  g_ptr_array_sort(entries, by_use);
  return entries;
}

static guint64 sum(const GPtrArray *entries) {
  guint64 bytes = 0;
  for (guint i = 0; i < entries->len; i++) bytes += ((const Entry *)entries->pdata[i])->bytes;
  return bytes;
}

static GVariant *describe(const Entry *entry) {
  g_autofree char *root = g_key_file_get_string(entry->info, GROUP, "root", NULL),
                  *ahead = g_key_file_get_string(entry->info, GROUP, "ahead", NULL);
  GVariantBuilder row = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&row, "{sv}", "directory", g_variant_new_string(entry->directory));
  g_variant_builder_add(&row, "{sv}", "root", g_variant_new_string(root ? root : ""));
  g_variant_builder_add(&row, "{sv}", "ahead", g_variant_new_string(ahead ? ahead : ""));
  g_variant_builder_add(&row, "{sv}", "files",
                        g_variant_new_uint32((guint32)g_key_file_get_uint64(entry->info, GROUP, "files", NULL)));
  g_variant_builder_add(&row, "{sv}", "bytes", g_variant_new_uint64(entry->bytes));
  g_variant_builder_add(&row, "{sv}", "used", g_variant_new_int64(entry->used));
  g_variant_builder_add(&row, "{sv}", "in-use", g_variant_new_boolean(entry->in_use));
  return g_variant_builder_end(&row);
}

GVariant *translations_stats(const HostPaths *paths, GHashTable *in_use) {
  g_mutex_lock(&removing);
  g_autoptr(GPtrArray) entries = list_entries(paths, in_use);
  g_mutex_unlock(&removing);
  g_autofree char *home = dup_home(paths);
  GVariantBuilder result = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT),
                  rows = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));
  for (guint i = 0; i < entries->len; i++) g_variant_builder_add_value(&rows, describe(entries->pdata[i]));
  g_variant_builder_add(&result, "{sv}", "directory", g_variant_new_string(home));
  g_variant_builder_add(&result, "{sv}", "bytes", g_variant_new_uint64(sum(entries)));
  g_variant_builder_add(&result, "{sv}", "limit", g_variant_new_uint64(paths->translations_limit));
  g_variant_builder_add(&result, "{sv}", "roots", g_variant_builder_end(&rows));
  return g_variant_builder_end(&result);
}

// Machines that boot meanwhile hold the file open, or find it gone and start without.
static void remove_entry(const Entry *entry) {
  const char *const files[] = {INFO, STELE_TRANSLATOR_FILE, STELE_TRANSLATOR_FILE ".new", WORK "/" STORE};
  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *path = g_build_filename(entry->directory, files[i], NULL);
    unlink(path);
  }
  g_autofree char *work = g_build_filename(entry->directory, WORK, NULL);
  rmdir(work);
  rmdir(entry->directory);
}

GVariant *translations_prune(const HostPaths *paths, guint64 bytes, GHashTable *in_use) {
  g_mutex_lock(&removing);
  g_autoptr(GPtrArray) entries = list_entries(paths, in_use);
  guint64 left = sum(entries), freed = 0;
  guint removed = 0;
  for (guint i = 0; i < entries->len && left > bytes; i++) {
    const Entry *entry = entries->pdata[i];
    if (entry->in_use) continue;
    remove_entry(entry);
    left -= entry->bytes;
    freed += entry->bytes;
    removed++;
  }
  g_mutex_unlock(&removing);
  GVariantBuilder result = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&result, "{sv}", "removed", g_variant_new_uint32(removed));
  g_variant_builder_add(&result, "{sv}", "freed", g_variant_new_uint64(freed));
  g_variant_builder_add(&result, "{sv}", "bytes", g_variant_new_uint64(left));
  return g_variant_builder_end(&result);
}
