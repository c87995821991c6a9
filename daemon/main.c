// steled: owns the machines of a host. This file is the order things start and end in, and nothing
// else.
#include <glib-unix.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "activation.h"
#include "api.h"
#include "errors.h"
#include "host.h"
#include "server.h"
#include "share.h"
#include "text.h"

#define LOG_LINE_MAX 500

static struct {
  char *socket, *root, *connect, *guest_dir, *translator_dir;
  gint64 translations_limit; // MiB
  gint64 image_max;
  int image_stall;
  gboolean version;
} options;

static const GOptionEntry entries[] = {
    {"socket", 0, 0, G_OPTION_ARG_FILENAME, &options.socket, "Listen at PATH", "PATH"},
    {"root", 0, 0, G_OPTION_ARG_FILENAME, &options.root, "Keep all state under DIR", "DIR"},
    {"connect", 0, 0, G_OPTION_ARG_STRING, &options.connect, "Use libvirt at URI instead of the embedded one", "URI"},
    {"guest-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.guest_dir, "Take vmlinuz and initrd.img from DIR", "DIR"},
    {"translator-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.translator_dir,
     "Take the translator, a file named stele, from DIR", "DIR"},
    {"translations-limit", 0, 0, G_OPTION_ARG_INT64, &options.translations_limit,
     "Let translations made ahead take at most MIB (16384)", "MIB"},
    {"image-max", 0, 0, G_OPTION_ARG_INT64, &options.image_max, "Refuse images that unpack to more (default 65536)",
     "MIB"},
    {"image-stall", 0, 0, G_OPTION_ARG_INT, &options.image_stall,
     "Give a registry up that sends nothing for so long (default 60)", "SECONDS"},
    {"version", 0, 0, G_OPTION_ARG_NONE, &options.version, "Print the version and exit", NULL},
    {NULL}};

// 0: go on; otherwise an exit status plus one.
static int read_options(int argc, char **argv) {
  g_autoptr(GOptionContext) context = g_option_context_new("— manager of Stele machines");
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_set_description(context, "See steled(8). Machines go on running when steled ends.");
  if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
    g_printerr("steled: %s\nTry 'steled --help'.\n", error ? error->message : "it takes options only");
    return 1 + 2;
  }
  if (options.translations_limit < 0 || options.translations_limit > G_MAXINT32) {
    g_printerr("steled: --translations-limit takes a number of MiB\n");
    return 1 + 2;
  }
  if (options.version) g_print("steled " STELE_VERSION "\n");
  return options.version ? 1 : 0;
}

// GLib warns of a peer's broken message with all of it, up to 128 MiB, in hexadecimal. One line a warning will do.
static void log_a_line(const char *domain, GLogLevelFlags level, const char *message, gpointer user_data) {
  if (level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO)) {
    g_log_default_handler(domain, level, message, user_data); // shown where G_MESSAGES_DEBUG asks for it
    return;
  }
  g_autofree char *line = text_clean(message, strcspn(message, "\n"));
  g_printerr("steled: %s: %.*s\n", domain ? domain : "log", LOG_LINE_MAX, line);
}

static gboolean on_signal(gpointer loop) {
  g_main_loop_quit(loop);
  return G_SOURCE_CONTINUE;
}

static gboolean give_up(GError *error) {
  g_printerr("steled: %s\n", error->message);
  g_error_free(error);
  return FALSE;
}

// For systemd, and for scripts that read our output.
static void announce(const char *socket) {
  activation_notify("READY=1");
  g_print("steled: ready at %s\n", socket);
  fflush(stdout);
}

// What workers do when steled ends may be waited for as long as this; after that it ends as if killed, which leaves
// machines, definitions and images whole.
enum { END_SECONDS = 10 };

static gpointer end_in_time(gpointer unused) {
  g_usleep(END_SECONDS * G_USEC_PER_SEC);
  g_printerr("steled: a request waits for a QEMU or a registry that does not answer; ending without it\n");
  _exit(EXIT_SUCCESS);
}

static gboolean serve(HostPaths *paths, Api *api, const char *socket, int inherited) {
  GError *error = NULL;
  Manager *manager = manager_new(paths, &api_observer, api, &error);
  if (manager == NULL) return give_up(error);
  api_set_manager(api, manager);
  Server *server = server_new(socket, inherited, api_add_peer, api, &error);
  if (server == NULL) {
    give_up(error);
  } else {
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    announce(socket);
    g_main_loop_run(loop);
    activation_notify("STOPPING=1");
    g_thread_unref(g_thread_new("end", end_in_time, NULL));
    g_main_loop_unref(loop);
    server_free(server);
  }
  gboolean served = server != NULL;
  api_free(api);
  manager_free(manager);
  return served;
}

// Workers are many, mostly idle, and read libvirt's XML: a heap for each would keep 4 MiB for good. mallopt(3)
enum { HEAPS_MAX = 2 };

// As the service's unit has it: the limit that a shell hands on is for programs that use select(2).
enum { DESCRIPTORS_MAX = 65536 };

static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS_MAX) return;
  limit.rlim_cur = MIN(limit.rlim_max, DESCRIPTORS_MAX);
  setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
  raise_descriptor_limit();
  mallopt(M_ARENA_MAX, HEAPS_MAX);
  setlocale(LC_ALL, "");
  setlocale(LC_CTYPE, "C.UTF-8"); // libvirt cuts names where the locale says that a character ends
  int parsed = read_options(argc, argv);
  if (parsed) return parsed - 1;
  signal(SIGPIPE, SIG_IGN);
  g_log_set_default_handler(log_a_line, NULL);
  g_autofree char *socket = NULL;
  int inherited = activation_take_socket(&socket);
  if (socket == NULL) socket = options.socket ? g_canonicalize_filename(options.socket, NULL) : host_default_socket();
  share_enter_namespace(); // before any thread; what it cannot do is said when a share needs it
  stele_error_quark();     // names errors before any can reach a client
  GError *error = NULL;
  HostOptions host = {options.root, options.connect, options.guest_dir, options.translator_dir,
                      (guint64)options.translations_limit << 20};
  g_autoptr(HostPaths) paths = host_paths_new(&host, &error);
  if (paths == NULL) return give_up(error), EXIT_FAILURE;
  paths->image_max = (guint64)CLAMP(options.image_max, 0, G_MAXINT64 >> 20) << 20;
  paths->image_stall = (guint)MAX(options.image_stall, 0);
  return serve(paths, api_new(), socket, inherited) ? EXIT_SUCCESS : EXIT_FAILURE;
}
