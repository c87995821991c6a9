// api-load SOCKET CLIENTS CALLS [TIMES]: that many connections at once, each making that many calls, every
// reply checked, and all of it as many times, once by default. Prints calls a second. Used by daemon.py, which watches
// what steled's memory does meanwhile.
#include <gio/gio.h>
#include <stdlib.h>
#include "api-names.h"

static const char *address;
static int calls, times = 1;
static gint failures;

static void fail(const char *what, const GError *error) {
  g_atomic_int_inc(&failures);
  g_printerr("%s: %s\n", what, error ? error->message : "wrong reply");
}

static void make_connection(void) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GDBusConnection) connection = g_dbus_connection_new_for_address_sync(
      address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, &error);
  if (connection == NULL) {
    fail("connect", error);
    return;
  }
  for (int i = 0; i < calls; i++) {
    g_clear_error(&error);
    gboolean wrong = i % 4 == 3; // one call in four is an error's way through
    g_autoptr(GVariant) reply = g_dbus_connection_call_sync(
        connection, NULL, STELE_OBJECT_PATH, "org.stele.Manager1", wrong ? "Info" : "List",
        wrong ? g_variant_new("(s)", "no-such-machine") : NULL, NULL, G_DBUS_CALL_FLAGS_NONE, 60000, NULL, &error);
    g_autofree char *name = error ? g_dbus_error_get_remote_error(error) : NULL;
    if (wrong ? g_strcmp0(name, "org.stele.Error.NoSuchMachine") != 0 : reply == NULL) fail("call", error);
  }
  g_dbus_connection_close_sync(connection, NULL, NULL);
}

static gpointer client(gpointer unused) {
  for (int i = 0; i < times; i++) make_connection();
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4 && argc != 5) return 2;
  g_autofree char *path = g_strconcat("unix:path=", argv[1], NULL);
  int clients = atoi(argv[2]);
  address = path;
  calls = atoi(argv[3]);
  if (argc == 5) times = atoi(argv[4]);
  g_autofree GThread **threads = g_new(GThread *, clients);
  gint64 start = g_get_monotonic_time();
  for (int i = 0; i < clients; i++) threads[i] = g_thread_new("client", client, NULL);
  for (int i = 0; i < clients; i++) g_thread_join(threads[i]);
  double seconds = (double)(g_get_monotonic_time() - start) / 1e6;
  g_print("%.0f calls a second\n", clients * calls * times / seconds);
  return failures ? 1 : 0;
}
