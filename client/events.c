// vmctl events: one line for each change of a machine, as it happens.
#include "vmctl.h"

#include <glib-unix.h>
#include <unistd.h>

static void print_event(Session *session, GVariant *arguments) {
  const char *fields[5];
  static const char *const keys[] = {"name", "event", "state", "reason", "message"};
  g_variant_get(arguments, "(&s&s&s&s&s)", &fields[0], &fields[1], &fields[2], &fields[3], &fields[4]);
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  g_autofree char *time = g_date_time_format_iso8601(now);
  if (session->json) {
    GVariantBuilder line;
    g_variant_builder_init(&line, G_VARIANT_TYPE("a{ss}"));
    g_variant_builder_add(&line, "{ss}", "time", time);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) g_variant_builder_add(&line, "{ss}", keys[i], fields[i]);
    g_autoptr(GVariant) value = g_variant_ref_sink(g_variant_builder_end(&line));
    print_json(value);
  } else {
    g_autofree char *name = printable(fields[0]), *message = printable(fields[4]);
    g_print("%s  %s  %s  %s (%s)  %s\n", time, name, fields[1], fields[2], fields[3], message);
  }
}

typedef struct Watch {
  Session *session;
  GMainLoop *loop;
  gboolean steled_ended;
} Watch;

static void on_event(GDBusProxy *proxy, const char *sender, const char *signal, GVariant *arguments,
                     gpointer user_data) {
  Watch *watch = user_data;
  if (!g_str_equal(signal, "MachineChanged") || !g_variant_is_of_type(arguments, G_VARIANT_TYPE("(sssss)"))) return;
  print_event(watch->session, arguments);
  if (output_is_lost()) g_main_loop_quit(watch->loop);
}

static void on_closed(GDBusConnection *connection, gboolean vanished, GError *error, gpointer user_data) {
  Watch *watch = user_data;
  watch->steled_ended = TRUE;
  g_main_loop_quit(watch->loop);
}

// Nobody reads any more.
static gboolean on_unread(int fd, GIOCondition condition, gpointer user_data) {
  Watch *watch = user_data;
  g_main_loop_quit(watch->loop);
  return G_SOURCE_REMOVE;
}

static int run_events(Session *session, int argc, char **argv) {
  GError *error = NULL;
  GDBusProxy *steled = session_connect(session, &error);
  if (steled == NULL) return session_fail(session, error);
  g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
  Watch watch = {.session = session, .loop = loop};
  g_signal_connect(steled, "g-signal", G_CALLBACK(on_event), &watch);
  g_signal_connect(g_dbus_proxy_get_connection(steled), "closed", G_CALLBACK(on_closed), &watch);
  g_unix_fd_add(STDOUT_FILENO, G_IO_ERR, on_unread, &watch);
  g_main_loop_run(loop);
  g_signal_handlers_disconnect_by_data(steled, &watch);
  g_signal_handlers_disconnect_by_data(g_dbus_proxy_get_connection(steled), &watch);
  if (!watch.steled_ended) return EXIT_OK;
  g_printerr("vmctl: steled has ended\n");
  return EXIT_UNREACHABLE;
}

const Command command_events = {
    "events", "", "print changes of machines as they happen, until interrupted", NULL, 0, 0, NULL, run_events};
