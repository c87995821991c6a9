// The socket of the API: clients come and go whenever they like, also after the server.
#include <criterion/criterion.h>
#include <glib/gstdio.h>
#include "server.h"

static char *directory, *path;

static void set_scene(void) {
  directory = g_dir_make_tmp("server-XXXXXX", NULL);
  path = g_build_filename(directory, "socket", NULL);
}

static void clear_scene(void) {
  cr_expect_eq(g_rmdir(directory), 0, "something was left behind");
}

TestSuite(server, .init = set_scene, .fini = clear_scene, .timeout = 120);

static void keep_peer(GDBusConnection *connection, gpointer ret_peer) {
  *(GDBusConnection **)ret_peer = g_object_ref(connection);
}

static void keep_client(GObject *source, GAsyncResult *result, gpointer ret_client) {
  *(GDBusConnection **)ret_client = g_dbus_connection_new_for_address_finish(result, NULL);
}

static GDBusConnection *connect_to(const char *socket, GDBusConnection **peer) {
  GDBusConnection *client = NULL;
  g_autofree char *address = g_strconcat("unix:path=", socket, NULL);
  g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, keep_client,
                                    &client);
  while (client == NULL || *peer == NULL) g_main_context_iteration(NULL, TRUE);
  return client;
}

Test(server, ends_before_its_clients) {
  GDBusConnection *peer = NULL;
  Server *server = server_new(path, -1, keep_peer, &peer, NULL);
  cr_assert_not_null(server);
  GDBusConnection *client = connect_to(path, &peer);
  gpointer stream = g_dbus_connection_get_stream(peer);
  g_object_add_weak_pointer(stream, &stream);
  server_free(server);
  g_dbus_connection_close_sync(peer, NULL, NULL);
  g_object_unref(peer);
  g_object_unref(client);
  while (g_atomic_pointer_get(&stream)) {
    g_main_context_iteration(NULL, FALSE); // what GDBus's thread hands over
    g_usleep(1000);
  }
}
