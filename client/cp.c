// vmctl cp: files and directories between here and a machine, with their modes, owners' numbers and times, as a tar
// stream through a program in the guest, which may be BusyBox's tar: names are changed at this end. A file goes under
// the name it is to have; a directory that is to have another name sends what is in it. As cp(1) has it, a destination
// that is a directory takes the source into itself.
#include "vmctl.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "terminal.h"

#define COMPLAINT_MAX 4000

// The guest's side, with the path as $1: its output is the stream, or its input.
#define GUEST_IS_DIRECTORY "test -d \"$1\""
#define GUEST_UNPACK       "mkdir -p -- \"$1\" && exec tar -xpf - -C \"$1\""
#define GUEST_PACK_INSIDE  "exec tar -cf - -C \"$1\" ."
#define GUEST_PACK         "exec tar -cf - -C \"$1\" \"./$2\""

typedef struct Place {
  const char *machine; // NULL: here
  const char *path;
  char *name; // what machine points to
} Place;

static Place read_place(const char *text) {
  const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
  if (colon == NULL || colon == text || (slash && slash < colon)) return (Place){.path = text};
  char *name = g_strndup(text, (gsize)(colon - text));
  return (Place){.machine = name, .path = colon[1] ? colon + 1 : ".", .name = name};
}

// --- programs at both ends ------------------------------------------------------------------------

typedef struct Guest {
  guint64 stream;
  int in, out, err;
} Guest;

static gboolean guest_start(Session *session, const char *machine, const char *const *argv, Guest *ret_guest,
                            GError **error) {
  g_autoptr(GUnixFDList) list = NULL;
  GVariant *options = g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0);
  g_autoptr(GVariant) result =
      session_call_with_fds(session, "Exec", g_variant_new("(s^as@a{sv})", machine, argv, options), &list, error);
  if (result == NULL || list == NULL) return FALSE;
  int count = 0;
  g_autofree int *fds = g_unix_fd_list_steal_fds(list, &count);
  *ret_guest = (Guest){.in = fds[0], .out = fds[1], .err = fds[2]};
  g_variant_get(result, "(tah)", &ret_guest->stream, NULL);
  return TRUE;
}

static gpointer read_complaint(gpointer user_data) {
  int fd = GPOINTER_TO_INT(user_data);
  GString *text = g_string_new(NULL);
  char bytes[4096];
  for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR);)
    if (n > 0 && text->len < COMPLAINT_MAX) g_string_append_len(text, bytes, n);
  close(fd);
  return g_string_free(text, FALSE);
}

// The program's status; -1 and error: it is not known.
static int guest_end(Session *session, const Guest *guest, GError **error) {
  g_autoptr(GVariant) end = session_call(session, "ExecWait", g_variant_new("(t)", guest->stream), error);
  gboolean signalled;
  guint value;
  if (end == NULL) return -1;
  g_variant_get(end, "(bu)", &signalled, &value);
  return signalled ? 128 + (int)value : (int)value;
}

typedef struct Transfer {
  Session *session;
  const char *what;
  int from, to;
  guint64 bytes;
} Transfer;

static void show(const Transfer *transfer, gboolean last) {
  if (!isatty(STDERR_FILENO) || transfer->session->json) return;
  g_autofree char *size = g_format_size_full(transfer->bytes, G_FORMAT_SIZE_IEC_UNITS),
                  *what = printable(transfer->what);
  g_printerr("\r\033[K%s%s%s", last ? "" : what, last ? "" : ": ", last ? "" : size);
}

// Runs on a thread of its own, while the main one awaits the end of the program.
static gpointer copy_stream(gpointer user_data) {
  Transfer *transfer = user_data;
  char bytes[65536];
  gint64 shown = g_get_monotonic_time();
  for (ssize_t n; (n = read(transfer->from, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR);) {
    if (n <= 0) continue;
    if (!write_all(transfer->to, bytes, (gsize)n)) break;
    transfer->bytes += (guint64)n;
    if (g_get_monotonic_time() - shown < G_USEC_PER_SEC / 2) continue;
    shown = g_get_monotonic_time();
    show(transfer, FALSE);
  }
  close(transfer->from);
  close(transfer->to);
  show(transfer, TRUE);
  return NULL;
}

static gboolean local_start(const char *const *argv, gboolean reads, GPid *ret_pid, int *ret_fd, GError **error) {
  GSpawnFlags flags = G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD;
  return g_spawn_async_with_pipes(NULL, (char **)argv, NULL, flags, NULL, NULL, ret_pid, reads ? ret_fd : NULL,
                                  reads ? NULL : ret_fd, NULL, error);
}

static int local_end(GPid pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// One tar to the other; to_guest says which way. Returns the exit code.
static int transfer(Session *session, const char *machine, const char *const *guest_argv, const char *const *local_argv,
                    gboolean to_guest, const char *what) {
  GError *error = NULL;
  Guest guest;
  GPid pid;
  int fd = -1;
  if (!local_start(local_argv, !to_guest, &pid, &fd, &error)) return session_fail(session, error);
  if (!guest_start(session, machine, guest_argv, &guest, &error)) {
    close(fd);
    local_end(pid);
    return session_fail(session, error);
  }
  session->quiet = TRUE;
  Transfer copy = {session, what, to_guest ? fd : guest.out, to_guest ? guest.in : fd, 0};
  close(to_guest ? guest.out : guest.in);
  GThread *complaint = g_thread_new("stderr", read_complaint, GINT_TO_POINTER(guest.err)),
          *copying = g_thread_new("copy", copy_stream, &copy);
  int there = guest_end(session, &guest, &error);
  g_thread_join(copying);
  g_autofree char *words = g_thread_join(complaint);
  int here = local_end(pid);
  session->quiet = FALSE;
  if (there < 0) return session_fail(session, error);
  if (there == 0 && here == 0) return EXIT_OK;
  g_autofree char *message =
      there ? g_strdup_printf("cp: in '%s': %s", machine, *g_strstrip(words) ? words : "tar failed")
            : g_strdup("cp: tar failed here");
  print_error(session, NULL, EXIT_OTHER, message);
  return EXIT_OTHER;
}

// --- names ----------------------------------------------------------------------------------------

// For tar --transform: every name becomes this one.
static char *rename_to(const char *name) {
  g_autoptr(GString) text = g_string_new("flags=r;s|.*|");
  for (const char *c = name; *c; c++) {
    if (strchr("|&\\", *c)) g_string_append_c(text, '\\');
    g_string_append_c(text, *c);
  }
  g_string_append_c(text, '|');
  return g_string_free(g_steal_pointer(&text), FALSE);
}

static int guest_test(Session *session, const char *machine, const char *path, GError **error) {
  const char *const argv[] = {"sh", "-c", GUEST_IS_DIRECTORY, "sh", path, NULL};
  Guest guest;
  if (!guest_start(session, machine, argv, &guest, error)) return -1;
  close(guest.in);
  close(guest.out);
  close(guest.err);
  int status = guest_end(session, &guest, error);
  return status < 0 ? -1 : status == 0;
}

static int is_directory(Session *session, const Place *place, GError **error) {
  if (place->machine) return guest_test(session, place->machine, place->path, error);
  return g_file_test(place->path, G_FILE_TEST_IS_DIR);
}

// Where it goes: *ret_directory is the directory to unpack in, *ret_name what a file is called there.
static void place_at(const char *source, gboolean directory, const char *to, gboolean into, char **ret_directory,
                     char **ret_name) {
  g_autofree char *base = g_path_get_basename(source);
  gboolean named = into && !g_str_equal(base, ".") && !g_str_equal(base, "..") && !g_str_equal(base, "/");
  g_autofree char *target = named ? g_build_filename(to, base, NULL) : g_strdup(to);
  *ret_directory = directory ? g_strdup(target) : g_path_get_dirname(target);
  *ret_name = g_path_get_basename(target);
}

static int copy_to_guest(Session *session, const Place *from, const Place *to) {
  GError *error = NULL;
  gboolean directory = g_file_test(from->path, G_FILE_TEST_IS_DIR);
  int into = is_directory(session, to, &error);
  if (into < 0) return session_fail(session, error);
  g_autofree char *target = NULL, *name = NULL, *parent = g_path_get_dirname(from->path),
                  *base = g_path_get_basename(from->path);
  place_at(from->path, directory, to->path, into, &target, &name);
  g_autofree char *renaming = rename_to(name);
  const char *const whole[] = {"tar", "-C", from->path, "-cf", "-", ".", NULL},
                    *const one[] = {"tar",         "-C",     parent, "-cf", "-", "--no-unquote",
                                    "--transform", renaming, "--",   base,  NULL},
                    *const there[] = {"sh", "-c", GUEST_UNPACK, "sh", target, NULL};
  return transfer(session, to->machine, there, directory ? whole : one, TRUE, from->path);
}

static int copy_from_guest(Session *session, const Place *from, const Place *to) {
  GError *error = NULL;
  int directory = is_directory(session, from, &error), into = g_file_test(to->path, G_FILE_TEST_IS_DIR);
  if (directory < 0) return session_fail(session, error);
  g_autofree char *target = NULL, *name = NULL, *parent = g_path_get_dirname(from->path),
                  *base = g_path_get_basename(from->path);
  place_at(from->path, directory, to->path, into, &target, &name);
  g_autofree char *renaming = rename_to(name);
  if (g_mkdir_with_parents(target, 0777) < 0) {
    g_set_error(&error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", target, g_strerror(errno));
    return session_fail(session, error);
  }
  const char *const whole[] = {"sh", "-c", GUEST_PACK_INSIDE, "sh", from->path, NULL}, *const one[] = {"sh",       "-c",
                                                                                                       GUEST_PACK, "sh",
                                                                                                       parent,     base,
                                                                                                       NULL},
                    *const here[] = {"tar", "-xpf", "-", "--no-same-owner", "-C", target, NULL},
                    *const here_as[] = {"tar", "-xpf", "-", "--no-same-owner", "--transform", renaming,
                                        "-C",  target, NULL};
  return transfer(session, from->machine, directory ? whole : one, directory ? here : here_as, FALSE, from->path);
}

static int run_cp(Session *session, int argc, char **argv) {
  Place from = read_place(argv[0]), to = read_place(argv[1]);
  int code = EXIT_USAGE;
  struct stat status;
  if ((from.machine == NULL) == (to.machine == NULL))
    print_error(session, NULL, EXIT_USAGE, "cp: one of the two is NAME:PATH, the other a path here");
  else if (to.machine && lstat(from.path, &status) < 0)
    print_error(session, NULL, EXIT_USAGE, "cp: there is no such file here");
  else
    code = to.machine ? copy_to_guest(session, &from, &to) : copy_from_guest(session, &from, &to);
  g_free(from.name);
  g_free(to.name);
  return code;
}

const Command command_cp = {"cp",
                            "PATH NAME:PATH | NAME:PATH PATH",
                            "copy a file or directory into a machine or out of it",
                            "With modes and times; directories with all that is in them. The guest needs sh and tar. "
                            "What comes out belongs to who copies it.",
                            2,
                            2,
                            NULL,
                            run_cp};
