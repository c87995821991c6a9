// The unix socket and who may use it. Peers are judged by credentials the kernel vouches for: the
// user steled runs as, root, and members of the group `stele`.
#pragma once

#include <gio/gio.h>

typedef struct Server Server;
typedef void (*ServerNewPeer)(GDBusConnection *connection, gpointer user_data);

// Listens at path; its directory is made. A socket that a dead steled left is replaced; one that
// answers is STELE_ERROR_STORAGE. inherited: a socket that listens there already (activation.h), which
// becomes the server's, or -1.
Server *server_new(const char *path, int inherited, ServerNewPeer new_peer, gpointer user_data, GError **error);
// Removes the socket, but an inherited one, which its owner goes on listening at.
void server_free(Server *server);
