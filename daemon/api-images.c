// See api-images.h. A handler's signature is gdbus-codegen's.
#include "api-images.h"

#include "api-options.h"

struct ApiImages {
  Manager *manager;
  GPtrArray *pulls;    // of Pull, under way
  GPtrArray *machines; // of Tied
};

typedef struct Pull {
  ApiImages *images;
  GDBusConnection *connection;
  GDBusMethodInvocation *invocation;
  GCancellable *cancellable;
} Pull;

// A machine that goes when the connection does.
typedef struct Tied {
  GDBusConnection *connection;
  char *name;
} Tied;

static void tied_free(gpointer data) {
  Tied *tied = data;
  g_free(tied->name);
  g_free(tied);
}

// --- images ---------------------------------------------------------------------------------------

static void on_pulled(GVariant *result, const GError *error, gpointer user_data) {
  Pull *pull = user_data;
  api_reply(result, error, pull->invocation);
  g_ptr_array_remove_fast(pull->images->pulls, pull);
  g_object_unref(pull->cancellable);
  g_free(pull);
}

static gboolean on_pull_image(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *source,
                              GVariant *options, ApiImages *images) {
  const char *name = NULL, *authfile = NULL;
  gboolean insecure = FALSE;
  const ApiOption rows[] = {{"name", "s", &name}, {"authfile", "s", &authfile}, {"insecure", "b", &insecure}};
  if (!api_read_options(invocation, options, rows, G_N_ELEMENTS(rows))) return TRUE;
  Pull *pull = g_new(Pull, 1);
  *pull = (Pull){images, g_dbus_method_invocation_get_connection(invocation), invocation, g_cancellable_new()};
  g_ptr_array_add(images->pulls, pull);
  manager_pull_image(images->manager, source, name, authfile, insecure, pull->cancellable, on_pulled, pull);
  return TRUE;
}

static gboolean on_list_images(SteleManager1 *object, GDBusMethodInvocation *invocation, ApiImages *images) {
  manager_list_images(images->manager, api_reply, invocation);
  return TRUE;
}

static gboolean on_inspect_image(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                 ApiImages *images) {
  manager_inspect_image(images->manager, name, api_reply, invocation);
  return TRUE;
}

static gboolean on_remove_image(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name,
                                ApiImages *images) {
  manager_remove_image(images->manager, name, api_reply, invocation);
  return TRUE;
}

static gboolean on_prune_images(SteleManager1 *object, GDBusMethodInvocation *invocation, GVariant *options,
                                ApiImages *images) {
  gboolean unused = FALSE;
  const ApiOption rows[] = {{"unused", "b", &unused}};
  if (api_read_options(invocation, options, rows, G_N_ELEMENTS(rows)))
    manager_prune_images(images->manager, unused, api_reply, invocation);
  return TRUE;
}

// --- machines of images ---------------------------------------------------------------------------

typedef struct Creating {
  ApiImages *images;
  GDBusMethodInvocation *invocation;
  gboolean tied;
} Creating;

static void on_created(GVariant *result, const GError *error, gpointer user_data) {
  g_autofree Creating *creating = user_data;
  GDBusConnection *connection = g_dbus_method_invocation_get_connection(creating->invocation);
  ApiImages *images = creating->images;
  if (result && creating->tied && g_dbus_connection_is_closed(connection)) {
    manager_discard(images->manager, g_variant_get_string(result, NULL));
  } else if (result && creating->tied) {
    Tied *tied = g_new(Tied, 1);
    *tied = (Tied){connection, g_variant_dup_string(result, NULL)};
    g_ptr_array_add(images->machines, tied);
  }
  api_reply(result, error, creating->invocation);
}

static gboolean on_create(SteleManager1 *object, GDBusMethodInvocation *invocation, const char *name, const char *image,
                          GVariant *options, ApiImages *images) {
  CreateRequest request = {.name = name, .image = image, .init = "none", .mode = "lasting", .remove = ""};
  g_autofree const char **argv = NULL, **env = NULL, **shares = NULL, **ports = NULL;
  const ApiOption rows[] = {{"init", "s", &request.init},
                            {"mode", "s", &request.mode},
                            {"remove", "s", &request.remove},
                            {"user", "s", &request.user},
                            {"cwd", "s", &request.cwd},
                            {"stop-signal", "s", &request.stop_signal},
                            {"hostname", "s", &request.hostname},
                            {"argv", "as", &argv},
                            {"env", "as", &env},
                            {"shares", "as", &shares},
                            {"ports", "as", &ports},
                            {"cpus", "u", &request.cpus},
                            {"memory", "t", &request.memory},
                            {"disk", "t", &request.disk}};
  if (!api_read_options(invocation, options, rows, G_N_ELEMENTS(rows))) return TRUE;
  request.argv = argv;
  request.env = env;
  request.shares = shares;
  request.ports = ports;
  Creating *creating = g_new(Creating, 1);
  *creating = (Creating){images, invocation, g_str_equal(request.remove, "closed")};
  manager_create(images->manager, &request, on_created, creating);
  return TRUE;
}

// --- the whole ------------------------------------------------------------------------------------

void api_images_closed(ApiImages *images, GDBusConnection *connection) {
  for (guint i = 0; i < images->pulls->len; i++) {
    Pull *pull = images->pulls->pdata[i];
    if (pull->connection == connection) g_cancellable_cancel(pull->cancellable);
  }
  for (guint i = images->machines->len; i-- > 0;) {
    Tied *tied = images->machines->pdata[i];
    if (tied->connection != connection) continue;
    manager_discard(images->manager, tied->name);
    g_ptr_array_remove_index_fast(images->machines, i);
  }
}

static const struct {
  const char *signal;
  GCallback handler;
} handlers[] = {
    {"handle-pull-image", G_CALLBACK(on_pull_image)},       {"handle-list-images", G_CALLBACK(on_list_images)},
    {"handle-inspect-image", G_CALLBACK(on_inspect_image)}, {"handle-remove-image", G_CALLBACK(on_remove_image)},
    {"handle-prune-images", G_CALLBACK(on_prune_images)},   {"handle-create", G_CALLBACK(on_create)}};

ApiImages *api_images_new(SteleManager1 *skeleton) {
  ApiImages *images = g_new0(ApiImages, 1);
  images->pulls = g_ptr_array_new();
  images->machines = g_ptr_array_new_with_free_func(tied_free);
  for (gsize i = 0; i < G_N_ELEMENTS(handlers); i++)
    g_signal_connect(skeleton, handlers[i].signal, handlers[i].handler, images);
  return images;
}

void api_images_set_manager(ApiImages *images, Manager *manager) {
  images->manager = manager;
}

void api_images_free(ApiImages *images) {
  for (guint i = 0; i < images->pulls->len; i++) g_cancellable_cancel(((Pull *)images->pulls->pdata[i])->cancellable);
  g_ptr_array_unref(images->pulls);
  g_ptr_array_unref(images->machines);
  g_free(images);
}
