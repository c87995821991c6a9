// The unix socket and who may use it. Peers are judged by credentials the kernel vouches for: the
// user steled runs as, root, and members of the group `stele`.
#pragma once

#include <gio/gio.h>

typedef struct Server Server;
typedef void (*ServerNewPeer)(GDBusConnection *connection, gpointer user_data);

// Listens at path; its directory is made. A socket that a dead steled left is replaced; one that
// answers is STELE_ERROR_STORAGE.
Server *server_new(const char *path, ServerNewPeer new_peer, gpointer user_data, GError **error);
// Removes the socket.
void server_free(Server *server);
