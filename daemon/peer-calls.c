// See peer-calls.h. Messages are seen by a filter: calls when they were read, answers when it is their turn to be
// written, which comes only when the peer has read what was before them. Filters run in GDBus's own thread.
#include "peer-calls.h"

#include <string.h>

typedef struct PeerCalls {
  GMutex lock;       // its last use and the filter's end may be in different threads
  guint calls;       // unanswered, but for
  GHashTable *waits; // these: serial numbers
} PeerCalls;

void peer_cut_off(GDBusConnection *connection) {
  GIOStream *stream = g_dbus_connection_get_stream(connection);
  if (G_IS_SOCKET_CONNECTION(stream))
    g_socket_shutdown(g_socket_connection_get_socket(G_SOCKET_CONNECTION(stream)), TRUE, TRUE, NULL);
}

// FALSE: that is one too many.
static gboolean count_call(PeerCalls *peer, GDBusMessage *message) {
  gpointer serial = GUINT_TO_POINTER(g_dbus_message_get_serial(message));
  if (g_strcmp0(g_dbus_message_get_member(message), "ExecWait") != 0) return ++peer->calls <= PEER_CALLS_MAX;
  g_hash_table_add(peer->waits, serial);
  return g_hash_table_size(peer->waits) <= PEER_WAITS_MAX;
}

static void count_answer(PeerCalls *peer, GDBusMessage *message) {
  gpointer serial = GUINT_TO_POINTER(g_dbus_message_get_reply_serial(message));
  if (!g_hash_table_remove(peer->waits, serial) && peer->calls) peer->calls--;
}

// Calls without an answer would have nothing to be counted by, so all are answered (D-Bus Specification, "Message
// Format": that is allowed despite this flag). What has been read cannot be changed, only copied.
static GDBusMessage *want_answer(GDBusMessage *message) {
  GDBusMessageFlags flags = g_dbus_message_get_flags(message);
  if (!(flags & G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED)) return message;
  GDBusMessage *copy = g_dbus_message_copy(message, NULL);
  g_object_unref(message);
  if (copy) g_dbus_message_set_flags(copy, flags & ~G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  return copy;
}

static GDBusMessage *on_message(GDBusConnection *connection, GDBusMessage *message, gboolean incoming,
                                gpointer user_data) {
  PeerCalls *peer = user_data;
  GDBusMessageType type = g_dbus_message_get_message_type(message);
  gboolean called = incoming && type == G_DBUS_MESSAGE_TYPE_METHOD_CALL, good = TRUE;
  gboolean answered = !incoming && (type == G_DBUS_MESSAGE_TYPE_METHOD_RETURN || type == G_DBUS_MESSAGE_TYPE_ERROR);
  g_mutex_lock(&peer->lock);
  if (called) good = count_call(peer, message);
  if (answered) count_answer(peer, message);
  g_mutex_unlock(&peer->lock);
  if (good) return called ? want_answer(message) : message;
  peer_cut_off(connection);
  g_object_unref(message);
  return NULL;
}

static void free_peer(gpointer user_data) {
  PeerCalls *peer = user_data;
  g_hash_table_unref(peer->waits);
  g_mutex_clear(&peer->lock);
  g_free(peer);
}

void peer_calls_limit(GDBusConnection *connection) {
  PeerCalls *peer = g_new0(PeerCalls, 1);
  g_mutex_init(&peer->lock);
  peer->waits = g_hash_table_new(NULL, NULL);
  g_dbus_connection_add_filter(connection, on_message, peer, free_peer);
}
