// vmctl wait: until a machine is off.
#include "vmctl.h"

#include <string.h>

typedef struct Wait {
  const char *name;
  GMainLoop *loop;
} Wait;

static void on_event(GDBusProxy *proxy, const char *sender, const char *signal, GVariant *arguments,
                     gpointer user_data) {
  Wait *wait = user_data;
  const char *name, *event, *state;
  if (!g_str_equal(signal, "MachineChanged") || !g_variant_is_of_type(arguments, G_VARIANT_TYPE("(sssss)"))) return;
  g_variant_get(arguments, "(&s&s&s&s&s)", &name, &event, &state, NULL, NULL);
  if (g_str_equal(name, wait->name) && (g_str_equal(state, "stopped") || g_str_equal(event, "undefined")))
    g_main_loop_quit(wait->loop);
}

static void on_closed(GDBusConnection *connection, gboolean vanished, GError *error, gpointer loop) {
  g_main_loop_quit(loop);
}

static GVariant *get_info(Session *session, const char *name, GError **error) {
  g_autoptr(GVariant) result = session_call(session, "Info", g_variant_new("(s)", name), error);
  return result ? g_variant_get_child_value(result, 0) : NULL;
}

// Listens before it looks, so that no end is missed.
static int run_wait(Session *session, int argc, char **argv) {
  GError *error = NULL;
  GDBusProxy *steled = session_connect(session, &error);
  if (steled == NULL) return session_fail(session, error);
  g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
  Wait wait = {argv[0], loop};
  gulong events = g_signal_connect(steled, "g-signal", G_CALLBACK(on_event), &wait);
  gulong closed = g_signal_connect(g_dbus_proxy_get_connection(steled), "closed", G_CALLBACK(on_closed), loop);
  g_autoptr(GVariant) before = get_info(session, argv[0], &error);
  if (before == NULL) return session_fail(session, error);
  if (!g_str_equal(lookup_string(before, "state"), "stopped")) g_main_loop_run(loop);
  g_signal_handler_disconnect(steled, events);
  g_signal_handler_disconnect(g_dbus_proxy_get_connection(steled), closed);
  g_autoptr(GVariant) info = get_info(session, argv[0], &error);
  if (info == NULL) return session_fail(session, error);
  guint status = 0;
  gboolean ended = g_variant_lookup(info, "command-status", "u", &status);
  if (session->json)
    print_json(info);
  else if (ended)
    g_print("%u\n", status);
  else
    g_print("%s\n", lookup_string(info, "reason"));
  return ended ? (int)status : EXIT_OK;
}

const Command command_wait = {"wait",
                              "NAME",
                              "wait until a machine is off",
                              "Prints the exit status of the machine's command, and exits with it, or prints why the "
                              "machine is off.",
                              1,
                              1,
                              NULL,
                              run_wait};
