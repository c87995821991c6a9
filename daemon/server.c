// See server.h. GDBusServer would do, but for its queue of ten connections that are not accepted
// yet: one more gets EAGAIN. Peers are authenticated on threads of their own, where a slow one
// delays nobody, and handed to the main loop afterwards. GThreadedSocketService has such threads, but at its limit of
// them it stops accepting, and starts again from a thread while the main loop is at the same sockets: that crashes.
#include "server.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "errors.h"
#include "listener.h"

#define GROUP_NAME     "stele"
#define GROUPS_MAX     65536 // NGROUPS_MAX of Linux
#define GROUP_TEXT_MAX (1024 * 1024)

#define BACKLOG      256
#define PEERS_SHARE  4 // connections may have one in so many of all descriptors: without any, GLib ends the process
#define AUTH_THREADS 64
#define AUTH_SECONDS 10 // a peer may take to introduce itself

struct Server {
  GSocketService *service;
  GThreadPool *authenticators;
  GCancellable *closing;
  char *guid;
  GDBusAuthObserver *observer;
  char *path;            // NULL: not ours to remove
  int *peers, peers_max; // connections, counted from whichever thread their last user is on; each has a reference to
                         // the count, as it may outlive the server
  ServerNewPeer new_peer;
  gpointer user_data;
};

// --- who may -------------------------------------------------------------------------------------

static gboolean is_in_group(int fd, gid_t primary, gid_t wanted) {
  if (primary == wanted) return TRUE;
  g_autofree gid_t *groups = g_new(gid_t, GROUPS_MAX);
  socklen_t size = GROUPS_MAX * sizeof *groups;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) return FALSE;
  for (size_t i = 0; i < size / sizeof *groups; i++)
    if (groups[i] == wanted) return TRUE;
  return FALSE;
}

// getgrnam() hands out memory that the next caller, on another thread, overwrites.
static gboolean find_group(gid_t *ret_group) {
  struct group entry, *found = NULL;
  int r = ERANGE;
  g_autofree char *text = NULL; // for the members' names too
  for (gsize size = 4096; r == ERANGE && size <= GROUP_TEXT_MAX; size *= 4) {
    g_free(text);
    text = g_malloc(size);
    r = getgrnam_r(GROUP_NAME, &entry, text, size, &found);
  }
  if (r != 0 || found == NULL) return FALSE;
  *ret_group = found->gr_gid;
  return TRUE;
}

static gboolean may_use(int fd) {
  struct ucred peer = {0};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer) return FALSE;
  if (peer.uid == 0 || peer.uid == geteuid()) return TRUE;
  gid_t group;
  return find_group(&group) && is_in_group(fd, peer.gid, group);
}

static gboolean on_authorize(GDBusAuthObserver *observer, GIOStream *stream, GCredentials *credentials,
                             gpointer user_data) {
  return G_IS_SOCKET_CONNECTION(stream) &&
         may_use(g_socket_get_fd(g_socket_connection_get_socket(G_SOCKET_CONNECTION(stream))));
}

static gboolean on_mechanism(GDBusAuthObserver *observer, const char *mechanism, gpointer user_data) {
  return g_str_equal(mechanism, "EXTERNAL");
}

// --- clients that speak to us as to a bus --------------------------------------------------------

// gdbus and busctl introduce themselves to whatever an address leads to, and give up when nobody
// answers. A peer gets a name that means nothing, since there are no names to own here.
static const char bus_xml[] = "<node><interface name='org.freedesktop.DBus'>"
                              "<method name='Hello'><arg type='s' direction='out'/></method></interface></node>";

static void on_bus_call(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                        const char *method, GVariant *parameters, GDBusMethodInvocation *invocation,
                        gpointer user_data) {
  g_dbus_method_invocation_return_value(invocation, g_variant_new("(s)", ":1.1"));
}

static void answer_hello(GDBusConnection *connection) {
  static const GDBusInterfaceVTable table = {.method_call = on_bus_call};
  g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(bus_xml, NULL);
  g_dbus_connection_register_object(connection, "/org/freedesktop/DBus", node->interfaces[0], &table, NULL, NULL, NULL);
}

typedef struct NewPeer {
  Server *server;
  GDBusConnection *connection;
} NewPeer;

static gboolean hand_over(gpointer user_data) {
  g_autofree NewPeer *peer = user_data;
  answer_hello(peer->connection);
  peer->server->new_peer(peer->connection, peer->server->user_data);
  g_dbus_connection_start_message_processing(peer->connection);
  g_object_unref(peer->connection);
  return G_SOURCE_REMOVE;
}

static void cancel_too(GCancellable *closing, gpointer cancellable) {
  g_cancellable_cancel(cancellable);
}

static gboolean cancel(gpointer cancellable) {
  g_cancellable_cancel(cancellable);
  return G_SOURCE_CONTINUE; // it is removed by who added it
}

// A limit on the socket itself would outlast the introduction: a read with it is under way already.
static GDBusConnection *authenticate(Server *server, GSocketConnection *stream) {
  g_autoptr(GCancellable) cancellable = g_cancellable_new();
  guint timer =
      g_timeout_add_seconds_full(G_PRIORITY_DEFAULT, AUTH_SECONDS, cancel, g_object_ref(cancellable), g_object_unref);
  gulong closing = g_cancellable_connect(server->closing, G_CALLBACK(cancel_too), cancellable, NULL);
  GDBusConnection *connection = g_dbus_connection_new_sync(G_IO_STREAM(stream), server->guid,
                                                           G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                                                               G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                                                           server->observer, cancellable, NULL);
  g_cancellable_disconnect(server->closing, closing);
  g_source_remove(timer);
  return connection;
}

// On a thread of its own. Strangers are dropped before they can say anything.
static void authenticate_peer(gpointer data, gpointer user_data) {
  Server *server = user_data;
  g_autoptr(GSocketConnection) stream = data;
  if (!may_use(g_socket_get_fd(g_socket_connection_get_socket(stream)))) return;
  GDBusConnection *connection = authenticate(server, stream);
  if (connection == NULL) return;
  NewPeer *peer = g_new(NewPeer, 1);
  *peer = (NewPeer){server, connection};
  g_idle_add_full(G_PRIORITY_DEFAULT, hand_over, peer, NULL);
}

static void on_peer_gone(gpointer peers, GObject *stream) {
  g_atomic_int_add((int *)peers, -1);
  g_atomic_rc_box_release(peers);
}

// Whoever is one too many is hung up on.
static gboolean on_incoming(GSocketService *service, GSocketConnection *stream, GObject *source, gpointer user_data) {
  Server *server = user_data;
  if (g_atomic_int_get(server->peers) >= server->peers_max) return TRUE;
  g_atomic_int_inc(server->peers);
  g_object_weak_ref(G_OBJECT(stream), on_peer_gone, g_atomic_rc_box_acquire(server->peers));
  g_thread_pool_push(server->authenticators, g_object_ref(stream), NULL);
  return TRUE;
}

// --- the socket ----------------------------------------------------------------------------------

static gboolean fail(GError **error, const char *path, const char *trouble) {
  g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "cannot listen at %s: %s", path, trouble);
  return FALSE;
}

static gboolean clear_path(const char *path, GError **error) {
  g_autofree char *directory = g_path_get_dirname(path);
  struct stat status;
  if (g_mkdir_with_parents(directory, 0755) < 0) return fail(error, path, g_strerror(errno));
  if (lstat(path, &status) < 0) return TRUE;
  if (!S_ISSOCK(status.st_mode)) return fail(error, path, "something else is there that is no socket");
  if (listener_is_there(path))
    return fail(error, path, "another steled listens there: end it, or choose another --socket");
  return unlink(path) == 0 ? TRUE : fail(error, path, g_strerror(errno));
}

// Group members may connect; everybody else is turned away by the file's mode, and again by
// may_use().
static void set_access(const char *path) {
  gid_t group;
  gboolean shared = find_group(&group) && chown(path, (uid_t)-1, group) == 0;
  g_chmod(path, shared ? 0660 : 0600);
}

// Who may connect to it is its owner's to say; may_use() still holds.
static gboolean listen_at_inherited(Server *server, int fd, GError **error) {
  g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, error);
  if (socket == NULL) close(fd);
  return socket && g_socket_listener_add_socket(G_SOCKET_LISTENER(server->service), socket, NULL, error);
}

static gboolean listen_at(Server *server, const char *path, GError **error) {
  if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
    return fail(error, path, "the path is longer than the 107 bytes a socket's may have");
  if (!clear_path(path, error)) return FALSE;
  g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
  mode_t mask = umask(0177);
  gboolean listens = g_socket_listener_add_address(G_SOCKET_LISTENER(server->service), address, G_SOCKET_TYPE_STREAM,
                                                   G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, error);
  umask(mask);
  if (!listens) return FALSE;
  server->path = g_strdup(path);
  set_access(path);
  return TRUE;
}

static int count_peers_max(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return G_MAXINT;
  return (int)MIN(limit.rlim_cur / PEERS_SHARE, G_MAXINT);
}

Server *server_new(const char *path, int inherited, ServerNewPeer new_peer, gpointer user_data, GError **error) {
  Server *server = g_new0(Server, 1);
  *server = (Server){.new_peer = new_peer, .user_data = user_data, .peers_max = count_peers_max()};
  server->peers = g_atomic_rc_box_new0(int);
  server->observer = g_dbus_auth_observer_new();
  g_signal_connect(server->observer, "authorize-authenticated-peer", G_CALLBACK(on_authorize), NULL);
  g_signal_connect(server->observer, "allow-mechanism", G_CALLBACK(on_mechanism), NULL);
  server->guid = g_dbus_generate_guid();
  server->closing = g_cancellable_new();
  server->authenticators = g_thread_pool_new(authenticate_peer, server, AUTH_THREADS, FALSE, NULL);
  server->service = g_socket_service_new();
  g_socket_listener_set_backlog(G_SOCKET_LISTENER(server->service), BACKLOG);
  g_signal_connect(server->service, "incoming", G_CALLBACK(on_incoming), server);
  if (!(inherited >= 0 ? listen_at_inherited(server, inherited, error) : listen_at(server, path, error))) {
    server_free(server);
    return NULL;
  }
  g_socket_service_start(server->service);
  return server;
}

void server_free(Server *server) {
  if (server == NULL) return;
  if (server->service) {
    g_socket_service_stop(server->service);
    g_socket_listener_close(G_SOCKET_LISTENER(server->service));
    g_object_unref(server->service);
  }
  if (server->path) unlink(server->path);
  g_cancellable_cancel(server->closing);
  g_thread_pool_free(server->authenticators, FALSE, TRUE);
  g_object_unref(server->closing);
  g_object_unref(server->observer);
  g_atomic_rc_box_release(server->peers);
  g_free(server->guid);
  g_free(server->path);
  g_free(server);
}
