// What a peer may send to steled over D-Bus, for a number of seconds: calls of its methods with arguments of the right
// types and hostile values or of wrong types, messages with bytes changed, and clients that leave in the middle.
// steled, built with sanitizers, is started and watched by who runs this.
//
//   fuzz-bus SOCKET API-XML SECONDS SEED
//
// It ends with 0 when steled has answered an honest client at the end.
#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "api-names.h"

#define INTERFACE   "org.stele.Manager1"
#define CALLS       40 // on a connection
#define ANSWER_MS   60000
#define STRING_MOST 70000
#define CALL_MOST   200000 // bytes of arguments, about

static guint64 random_state;

static guint64 random64(void) { // splitmix64
  guint64 z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static guint below(guint limit) {
  return (guint)(random64() % limit);
}

// --- values --------------------------------------------------------------------------------------

static const char *const strings[] = {"",
                                      "m0",
                                      "m1",
                                      "m0",
                                      "m1",
                                      "none",
                                      "../m0",
                                      "m0/..",
                                      "/",
                                      ".",
                                      "%s%n",
                                      "\x1b[31m",
                                      "\xe2\x80\xae",
                                      "\xc3\xa9",
                                      "wait",
                                      "timeout",
                                      "replace",
                                      "full",
                                      "force",
                                      "env",
                                      "cwd",
                                      "user",
                                      "tty",
                                      "rows",
                                      "columns",
                                      "A=B",
                                      "=",
                                      "root:0",
                                      "<domain type='qemu'><name>m0</name></domain>",
                                      "<domain type='qemu'><name>m1</name><memory>65536</memory><os><type "
                                      "arch='aarch64' machine='virt'>hvm</type></os></domain>",
                                      "<domain type='qemu'><name>m0</name><metadata><s:machine "
                                      "xmlns:s='urn:stele:machine:1'><s:rootfs type='dir' source='/none'/>"
                                      "</s:machine></metadata></domain>",
                                      "<domain",
                                      "<?xml version='1.0' encoding='utf-16'?><domain/>"};
static const guint64 numbers[] = {0,    1, 2, 3, 15, 64, 65, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
                                  ~0ull};
static const char *const types[] = {"b", "y",  "q",     "i",  "u",    "x", "t", "d",
                                    "s", "as", "a{sv}", "ay", "(su)", "v", "o", "ah"};

static guint room; // for more arguments

static char *random_string(void) {
  guint kind = below(room > STRING_MOST ? 12 : 9);
  if (kind < 9) return g_strdup(strings[below(G_N_ELEMENTS(strings))]);
  if (kind > 9) return g_strdup_printf("n%u", below(1000));
  room -= STRING_MOST;
  return g_strnfill(below(STRING_MOST), 'x');
}

static GVariant *random_value(const GVariantType *type, guint depth);

static GVariant *random_array(const GVariantType *type, guint depth) {
  const GVariantType *element = g_variant_type_element(type);
  GVariantBuilder builder;
  g_variant_builder_init(&builder, type);
  for (guint count = below(below(20) ? 4 : 2000); count > 0 && room > 100; count--, room -= 100)
    g_variant_builder_add_value(&builder, random_value(element, depth + 1));
  return g_variant_builder_end(&builder);
}

static GVariant *random_tuple(const GVariantType *type, guint depth) {
  GVariantBuilder builder;
  g_variant_builder_init(&builder, type);
  for (const GVariantType *item = g_variant_type_first(type); item; item = g_variant_type_next(item))
    g_variant_builder_add_value(&builder, random_value(item, depth + 1));
  return g_variant_builder_end(&builder);
}

static GVariant *random_value(const GVariantType *type, guint depth) {
  guint64 number = below(3) ? numbers[below(G_N_ELEMENTS(numbers))] : random64();
  g_autofree char *string = random_string();
  const char *any = types[below(depth > 6 ? 9 : G_N_ELEMENTS(types))];
  switch (*g_variant_type_peek_string(type)) {
  case 'b':
    return g_variant_new_boolean(number & 1);
  case 'y':
    return g_variant_new_byte((guint8)number);
  case 'q':
    return g_variant_new_uint16((guint16)number);
  case 'i':
    return g_variant_new_int32((gint32)number);
  case 'u':
    return g_variant_new_uint32((guint32)number);
  case 'x':
    return g_variant_new_int64((gint64)number);
  case 't':
    return g_variant_new_uint64(number);
  case 'd':
    return g_variant_new_double((double)number);
  case 'h':
    return g_variant_new_handle((gint32)number);
  case 'o':
    return g_variant_new_object_path("/a/b");
  case 'v':
    return g_variant_new_variant(random_value(G_VARIANT_TYPE(any), depth + 1));
  case 'a':
    return random_array(type, depth);
  case '(':
  case '{':
    return random_tuple(type, depth);
  default:
    return g_variant_new_string(string);
  }
}

static GVariant *random_arguments(const GDBusMethodInfo *method) {
  g_autoptr(GString) type = g_string_new("(");
  for (GDBusArgInfo **arg = method->in_args; arg && *arg; arg++)
    g_string_append(type, below(20) ? (*arg)->signature : types[below(G_N_ELEMENTS(types))]);
  if (below(40) == 0) g_string_append(type, types[below(G_N_ELEMENTS(types))]);
  g_string_append_c(type, ')');
  return random_value(G_VARIANT_TYPE(type->str), 0);
}

static GDBusMessage *random_call(const GDBusInterfaceInfo *interface) {
  guint count = 0;
  room = CALL_MOST;
  while (interface->methods[count]) count++;
  const GDBusMethodInfo *method = interface->methods[below(count)];
  const char *path = below(30) ? STELE_OBJECT_PATH : "/org/freedesktop/DBus",
             *name = below(30) ? INTERFACE : "org.freedesktop.DBus.Properties";
  GDBusMessage *message = g_dbus_message_new_method_call(NULL, path, name, method->name);
  g_dbus_message_set_body(message, random_arguments(method));
  if (below(4) == 0) g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  return message;
}

// --- connections ---------------------------------------------------------------------------------

// Whether a peer of ours got in; it is turned away while too many are there.
static int connect_raw(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct timeval patience = {.tv_usec = 20000};
  char hello[64], answer[256];
  g_strlcpy(address.sun_path, path, sizeof address.sun_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    if (fd >= 0) close(fd);
    return -1;
  }
  g_autofree char *uid = g_strdup_printf("%u", getuid());
  g_autoptr(GString) hex = g_string_new(NULL);
  for (const char *c = uid; *c; c++) g_string_append_printf(hex, "%02x", (guint)*c);
  int size = g_snprintf(hello, sizeof hello, "%cAUTH EXTERNAL %s\r\n", 0, hex->str);
  if (write(fd, hello, (gsize)size) < 0 || read(fd, answer, sizeof answer) <= 0 || write(fd, "BEGIN\r\n", 7) < 0) {
    close(fd);
    return -1;
  }
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

static void change_bytes(guint8 *bytes, gsize size) {
  for (guint times = below(6); times > 0; times--) {
    guint at = below((guint)MIN(size, below(2) ? 64 : size));
    bytes[at] = below(2) ? (guint8)random64() : bytes[at] ^ (guint8)(1u << below(8));
  }
}

// Messages as bytes, some changed, some cut off; the answers are read now and then, or never.
static void speak_raw(const char *path, const GDBusInterfaceInfo *interface) {
  int fd = connect_raw(path);
  char answer[4096];
  if (fd < 0) return;
  for (guint32 serial = 1; serial <= CALLS; serial++) {
    g_autoptr(GDBusMessage) message = random_call(interface);
    gsize size = 0;
    g_dbus_message_set_serial(message, serial);
    g_autofree guint8 *blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, NULL);
    if (blob == NULL) continue;
    if (below(3)) change_bytes(blob, size);
    gsize piece = below(20) ? size : below((guint)size);
    if (send(fd, blob, piece, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) break;
    if (piece < size) break;
    if (below(4) == 0 && recv(fd, answer, sizeof answer, MSG_DONTWAIT) == 0) break;
  }
  close(fd);
}

static void speak_well(const char *address, const GDBusInterfaceInfo *interface) {
  g_autoptr(GDBusConnection) connection =
      g_dbus_connection_new_for_address_sync(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, NULL);
  if (connection == NULL) return;
  for (guint i = 0; i < CALLS && !g_dbus_connection_is_closed(connection); i++) {
    g_autoptr(GDBusMessage) message = random_call(interface);
    g_dbus_connection_send_message(connection, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
  }
  if (below(2)) g_dbus_connection_flush_sync(connection, NULL, NULL);
  g_dbus_connection_close_sync(connection, NULL, NULL);
}

static gboolean is_alive(const char *address) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GDBusConnection) connection = g_dbus_connection_new_for_address_sync(
      address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, &error);
  g_autoptr(GVariant) list = connection ? g_dbus_connection_call_sync(connection, NULL, STELE_OBJECT_PATH, INTERFACE,
                                                                      "List", NULL, G_VARIANT_TYPE("(aa{sv})"),
                                                                      G_DBUS_CALL_FLAGS_NONE, ANSWER_MS, NULL, &error)
                                        : NULL;
  if (list == NULL) fprintf(stderr, "steled does not answer: %s\n", error->message);
  return list != NULL;
}

int main(int argc, char **argv) {
  g_autofree char *xml = NULL;
  if (argc != 5 || !g_file_get_contents(argv[2], &xml, NULL, NULL)) {
    fprintf(stderr, "usage: fuzz-bus SOCKET API-XML SECONDS SEED\n");
    return 2;
  }
  g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(xml, NULL);
  g_autofree char *address = g_strconcat("unix:path=", argv[1], NULL);
  gint64 end = g_get_monotonic_time() + (gint64)(atof(argv[3]) * 1e6);
  guint64 seed = strtoull(argv[4], NULL, 0), count = 0;
  do {
    random_state = seed + count++;
    if (below(2))
      speak_raw(argv[1], node->interfaces[0]);
    else
      speak_well(address, node->interfaces[0]);
  } while (g_get_monotonic_time() < end && (count % 64 || is_alive(address)));
  gboolean alive = is_alive(address);
  printf("bus: %llu connections\n", (unsigned long long)count);
  return alive ? 0 : 1;
}
