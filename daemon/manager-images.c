// Requests about images, and machines made of them: their definitions are written here, as an author would have written
// them, and defined like any other. See manager-private.h.
#include "manager-private.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "domain-xml.h"
#include "errors.h"
#include "image-tool.h"
#include "root-check.h"

#define DISK_BYTES_DEFAULT (32ull << 30) // of a sparse file
#define DISK_BYTES_MIN     (16ull << 20)

// --- descriptions ---------------------------------------------------------------------------------

static void add_text(GVariantBuilder *builder, const char *key, const char *text) {
  if (text) g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(text));
}

static void add_list(GVariantBuilder *builder, const char *key, char **list) {
  if (list) g_variant_builder_add(builder, "{sv}", key, g_variant_new_strv((const char *const *)list, -1));
}

static void add_summary(GVariantBuilder *builder, const ImageRecord *record) {
  add_list(builder, "names", record->names);
  add_text(builder, "id", record->id);
  add_text(builder, "type", record->disk ? "disk" : "dir");
  g_variant_builder_add(builder, "{sv}", "size", g_variant_new_uint64(record->size));
  g_variant_builder_add(builder, "{sv}", "created", g_variant_new_int64(record->created));
  add_text(builder, "source", record->source);
}

static gboolean has_init(const ImageRecord *record) {
  return record->disk ? !record->without_init : root_check_program(record->path, "/sbin/init", NULL);
}

static GVariant *describe(const ImageRecord *record) {
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
  add_summary(&builder, record);
  add_text(&builder, "path", record->path);
  add_text(&builder, "format", record->format);
  add_text(&builder, "fstype", record->fstype);
  add_list(&builder, "blobs", record->blobs);
  add_list(&builder, "entrypoint", record->config.entrypoint);
  add_list(&builder, "cmd", record->config.cmd);
  add_list(&builder, "env", record->config.env);
  add_list(&builder, "ports", record->config.ports);
  add_list(&builder, "volumes", record->config.volumes);
  add_text(&builder, "user", record->config.user);
  add_text(&builder, "cwd", record->config.cwd);
  add_text(&builder, "stop-signal", record->config.stop_signal);
  g_variant_builder_add(&builder, "{sv}", "has-init", g_variant_new_boolean(has_init(record)));
  return g_variant_builder_end(&builder);
}

// --- pull -----------------------------------------------------------------------------------------

typedef struct Pull {
  char *source, *name, *authfile;
  gboolean insecure;
  GCancellable *cancellable;
  Manager *manager;
  char *said;
} Pull;

static void pull_free(gpointer data) {
  Pull *pull = data;
  g_free(pull->source);
  g_free(pull->name);
  g_free(pull->authfile);
  g_free(pull->said);
  g_object_unref(pull->cancellable);
  g_free(pull);
}

static void say(const char *message, gpointer user_data) {
  Pull *pull = user_data;
  if (g_strcmp0(pull->said, message) == 0) return;
  g_free(pull->said);
  pull->said = g_strdup(message);
  manager_report_progress(pull->manager, pull->source, "PullImage", message);
}

static void work_pull(Job *job) {
  Pull *pull = job->data;
  ImageRequest request = {pull->source, pull->name, pull->authfile, job->manager->paths->image_stall, pull->insecure};
  g_autoptr(ImageRecord) record =
      image_fetch(job->manager->images, &request, pull->cancellable, say, pull, &job->error);
  g_autoptr(ImageRecord) found = record ? image_store_find(job->manager->images, record->id, &job->error) : NULL;
  if (found) job->result = describe(found);
}

void manager_pull_image(Manager *manager, const char *source, const char *name, const char *authfile, gboolean insecure,
                        GCancellable *cancellable, ManagerDone done, gpointer user_data) {
  Job *job = job_new(manager, NULL, work_pull, NULL, done, user_data);
  Pull *pull = g_new0(Pull, 1);
  *pull = (Pull){.source = g_strdup(source),
                 .name = g_strdup(name),
                 .authfile = g_strdup(authfile),
                 .insecure = insecure,
                 .cancellable = g_object_ref(cancellable),
                 .manager = manager};
  job->data = pull;
  job->free_data = pull_free;
  g_thread_pool_push(manager->pullers, job, NULL);
}

// --- list, inspect, remove, prune -----------------------------------------------------------------

static void work_list_images(Job *job) {
  g_autoptr(GPtrArray) records = image_store_list(job->manager->images, &job->error);
  GVariantBuilder list;
  g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
  for (guint i = 0; records && i < records->len; i++) {
    g_variant_builder_open(&list, G_VARIANT_TYPE_VARDICT);
    add_summary(&list, records->pdata[i]);
    g_variant_builder_close(&list);
  }
  job->result = g_variant_builder_end(&list);
}

void manager_list_images(Manager *manager, ManagerDone done, gpointer user_data) {
  job_run(job_new(manager, NULL, work_list_images, NULL, done, user_data));
}

static void work_inspect_image(Job *job) {
  g_autoptr(ImageRecord) record = image_store_find(job->manager->images, job->name, &job->error);
  if (record) job->result = describe(record);
}

static void run_named(Manager *manager, const char *name, void (*work)(Job *), ManagerDone done, gpointer user_data) {
  Job *job = job_new(manager, NULL, work, NULL, done, user_data);
  job->name = g_strdup(name);
  job_run(job);
}

void manager_inspect_image(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  run_named(manager, name, work_inspect_image, done, user_data);
}

// The definitions on disk are the truth about which machines there are.
static char *machines_on(const char *path, gpointer user_data) {
  Manager *manager = user_data;
  g_autoptr(GPtrArray) names = machine_store_list(manager->store, NULL);
  g_autoptr(GString) users = g_string_new(NULL);
  for (guint i = 0; names && i < names->len; i++) {
    g_autofree char *xml = machine_store_read(manager->store, names->pdata[i], NULL);
    if (xml && strstr(xml, path))
      g_string_append_printf(users, "%s'%s'", users->len ? ", " : "", (char *)names->pdata[i]);
  }
  return users->len ? g_string_free(g_steal_pointer(&users), FALSE) : NULL;
}

static void work_remove_image(Job *job) {
  image_store_remove(job->manager->images, job->name, machines_on, job->manager, &job->error);
}

void manager_remove_image(Manager *manager, const char *name, ManagerDone done, gpointer user_data) {
  run_named(manager, name, work_remove_image, done, user_data);
}

static void work_prune_images(Job *job) {
  guint64 freed = 0;
  if (image_store_prune(job->manager->images, job->flag, machines_on, job->manager, &freed, &job->error))
    job->result = g_variant_new_uint64(freed);
}

void manager_prune_images(Manager *manager, gboolean unused, ManagerDone done, gpointer user_data) {
  Job *job = job_new(manager, NULL, work_prune_images, NULL, done, user_data);
  job->flag = unused;
  job_run(job);
}

// --- create: the definition -----------------------------------------------------------------------

typedef struct Creation {
  Manager *manager;
  char *name, *image, *init, *mode, *remove, *user, *cwd, *hostname;
  char **argv, **env, **shares, **ports;
  guint cpus, stop_signal;
  guint64 memory, disk;
  char *uuid, *changes;
  ManagerDone done;
  gpointer user_data;
} Creation;

static void creation_free(gpointer data) {
  Creation *it = data;
  char *const strings[] = {it->name, it->image, it->init,     it->mode, it->remove,
                           it->user, it->cwd,   it->hostname, it->uuid, it->changes};
  char **const lists[] = {it->argv, it->env, it->shares, it->ports};
  for (gsize i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) g_strfreev(lists[i]);
  g_free(it);
}

static void put(GString *xml, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void put(GString *xml, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *text = g_markup_vprintf_escaped(format, arguments);
  va_end(arguments);
  g_string_append(xml, text);
}

static void put_attribute(GString *xml, const char *name, const char *value) {
  if (value && *value) put(xml, " %s='%s'", name, value);
}

static void put_root(GString *xml, const Creation *it, const ImageRecord *record) {
  gboolean lasting = it->changes != NULL;
  put(xml, "      <stele:rootfs type='%s' source='%s' mode='%s'", record->disk ? "disk" : "dir", record->path,
      lasting ? "overlay" : it->mode);
  put_attribute(xml, "changes", it->changes);
  put_attribute(xml, "image", it->image);
  put_attribute(xml, "format", record->format);
  put_attribute(xml, "fstype", record->fstype);
  g_string_append(xml, "/>\n");
}

static gboolean put_env(GString *xml, const char *entry, GError **error) {
  const char *equals = strchr(entry, '=');
  if (equals == NULL || equals == entry)
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "'%s' is no NAME=VALUE", entry);
  g_autofree char *name = g_strndup(entry, (gsize)(equals - entry));
  put(xml, "        <stele:env name='%s'>%s</stele:env>\n", name, equals + 1);
  return TRUE;
}

static gboolean put_command(GString *xml, const Creation *it, GError **error) {
  if (!g_str_equal(it->init, "command")) return TRUE;
  if (it->argv == NULL || *it->argv == NULL)
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "the image names no command: give one");
  g_string_append(xml, "      <stele:command");
  put_attribute(xml, "cwd", it->cwd);
  put_attribute(xml, "user", it->user);
  if (it->stop_signal) g_string_append_printf(xml, " stop-signal='%u'", it->stop_signal);
  g_string_append(xml, ">\n");
  for (char **word = it->argv; *word; word++) put(xml, "        <stele:arg>%s</stele:arg>\n", *word);
  for (char **entry = it->env; entry && *entry; entry++)
    if (!put_env(xml, *entry, error)) return FALSE;
  g_string_append(xml, "      </stele:command>\n");
  return TRUE;
}

static gboolean put_share(GString *xml, const char *text, GError **error) {
  MachineShare share = {NULL};
  if (!machine_share_parse(text, &share, error)) return FALSE;
  put(xml, "      <stele:share source='%s' target='%s' mode='%s'/>\n", share.source, share.target,
      share.readonly ? "ro" : "rw");
  g_free(share.source);
  g_free(share.target);
  return TRUE;
}

static gboolean put_port(GString *xml, const char *text, GError **error) {
  MachinePort port = {NULL};
  if (!machine_port_parse(text, &port, error)) return FALSE;
  put(xml, "        <stele:port host='%s:%u' guest='%u' protocol='%s'/>\n", port.address, port.host, port.guest,
      port.protocol);
  g_free(port.address);
  g_free(port.protocol);
  return TRUE;
}

static gboolean put_network(GString *xml, const Creation *it, GError **error) {
  if (it->ports == NULL || *it->ports == NULL) return TRUE;
  g_string_append(xml, "      <stele:network>\n");
  for (char **port = it->ports; *port; port++)
    if (!put_port(xml, *port, error)) return FALSE;
  g_string_append(xml, "      </stele:network>\n");
  return TRUE;
}

static char *write_definition(const Creation *it, const ImageRecord *record, GError **error) {
  g_autoptr(GString) xml = g_string_new("<domain>\n");
  put(xml, "  <name>%s</name>\n  <uuid>%s</uuid>\n", it->name, it->uuid);
  if (it->memory)
    g_string_append_printf(xml, "  <memory unit='KiB'>%" G_GUINT64_FORMAT "</memory>\n", it->memory / 1024);
  if (it->cpus) g_string_append_printf(xml, "  <vcpu>%u</vcpu>\n", it->cpus);
  g_string_append(xml, "  <metadata>\n    <stele:machine xmlns:stele='urn:stele:machine:1'");
  put_attribute(xml, "remove", it->remove);
  g_string_append(xml, ">\n");
  put_root(xml, it, record);
  put(xml, "      <stele:init>%s</stele:init>\n", it->init);
  if (!put_command(xml, it, error)) return NULL;
  if (it->hostname && *it->hostname) put(xml, "      <stele:hostname>%s</stele:hostname>\n", it->hostname);
  if (!put_network(xml, it, error)) return NULL;
  for (char **share = it->shares; share && *share; share++)
    if (!put_share(xml, *share, error)) return NULL;
  g_string_append(xml, "    </stele:machine>\n  </metadata>\n</domain>\n");
  return g_string_free(g_steal_pointer(&xml), FALSE);
}

// --- create: the disk for changes -----------------------------------------------------------------

static gboolean make_changes(Creation *it, GError **error) {
  HostPaths *paths = it->manager->paths;
  g_autofree char *file = g_strconcat(it->uuid, ".img", NULL), *path = g_build_filename(paths->changes, file, NULL);
  const char *const argv[] = {
      "/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-L",
      "stele-changes",   path, NULL};
  ImageTool tool = {.argv = argv, .writable = paths->changes, .output = -1};
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)it->disk) < 0)
    g_set_error(error, STELE_ERROR, errno == ENOSPC ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE,
                "cannot make the disk for changes %s: %s", path, g_strerror(errno));
  else if (image_tool_run(&tool, NULL, error))
    it->changes = g_steal_pointer(&path);
  if (fd >= 0) close(fd);
  if (path) g_unlink(path);
  return it->changes != NULL;
}

static void work_create(Job *job) {
  Creation *it = job->data;
  g_autoptr(ImageRecord) record = image_store_find(job->manager->images, it->image, &job->error);
  if (record == NULL || (g_str_equal(it->mode, "lasting") && !make_changes(it, &job->error))) return;
  job->text = write_definition(it, record, &job->error);
}

static void on_create_defined(GVariant *result, const GError *error, gpointer user_data) {
  Creation *it = user_data;
  if (error && it->changes) g_unlink(it->changes);
  it->done(result, error, it->user_data);
  creation_free(it);
}

static void finish_create(Job *job) {
  if (job->machine) job->machine->changing = FALSE; // that was cloned
  Creation *it = g_steal_pointer(&job->data);
  if (job->error)
    on_create_defined(NULL, job->error, it);
  else
    manager_define(job->manager, job->text, FALSE, on_create_defined, it);
}

// --- create: the request --------------------------------------------------------------------------

// Names with or without SIG, numbers, and RTMIN+n (signal(7); SIGRTMIN is the guest's C library's, 34).
static guint signal_number(const char *name) {
  if (g_str_has_prefix(name, "SIG")) name += 3;
  if (g_ascii_isdigit(*name)) return (guint)g_ascii_strtoull(name, NULL, 10);
  if (g_str_has_prefix(name, "RTMIN+")) return 34 + (guint)g_ascii_strtoull(name + 6, NULL, 10);
  for (int i = 1; i < 32; i++)
    if (g_strcmp0(sigabbrev_np(i), name) == 0) return (guint)i;
  return 0;
}

static gboolean check_request(const CreateRequest *request, GError **error) {
  static const char *const inits[] = {"system", "command", "none", NULL},
                           *const modes[] = {"lasting", "overlay", "ro", NULL},
                           *const removes[] = {"", "closed", "stopped", NULL};
  if (!g_strv_contains(inits, request->init))
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "init is system, command or none, not '%s'",
                        request->init);
  if (!g_strv_contains(modes, request->mode))
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "mode is lasting, overlay or ro, not '%s'", request->mode);
  if (!g_strv_contains(removes, request->remove))
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "remove is closed or stopped, not '%s'", request->remove);
  if (request->disk && request->disk < DISK_BYTES_MIN)
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "a disk for changes has at least 16 MiB");
  if (request->stop_signal && *request->stop_signal && signal_number(request->stop_signal) - 1 > 63)
    return stele_refuse(error, STELE_ERROR_INVALID_ARGUMENT, "there is no signal '%s'", request->stop_signal);
  return TRUE;
}

void manager_create(Manager *manager, const CreateRequest *request, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  if (!check_request(request, &error)) {
    request_refuse(done, user_data, error);
    return;
  }
  if (g_hash_table_contains(manager->machines, request->name)) {
    request_refuse(done, user_data,
                   g_error_new(STELE_ERROR, STELE_ERROR_NAME_TAKEN,
                               "there is a machine '%s' already: choose another name", request->name));
    return;
  }
  Job *job = job_new(manager, NULL, work_create, finish_create, NULL, NULL);
  Creation *it = g_new0(Creation, 1);
  *it = (Creation){.manager = manager,
                   .name = g_strdup(request->name),
                   .image = g_strdup(request->image),
                   .init = g_strdup(request->init),
                   .mode = g_strdup(request->mode),
                   .remove = g_strdup(request->remove),
                   .user = g_strdup(request->user),
                   .cwd = g_strdup(request->cwd),
                   .hostname = g_strdup(request->hostname),
                   .argv = g_strdupv((char **)request->argv),
                   .env = g_strdupv((char **)request->env),
                   .shares = g_strdupv((char **)request->shares),
                   .ports = g_strdupv((char **)request->ports),
                   .cpus = request->cpus,
                   .stop_signal = request->stop_signal ? signal_number(request->stop_signal) : 0,
                   .memory = request->memory,
                   .disk = request->disk ? request->disk : DISK_BYTES_DEFAULT,
                   .uuid = g_uuid_string_random(),
                   .done = done,
                   .user_data = user_data};
  job->data = it;
  job->free_data = creation_free;
  job_run(job);
}

// --- clone ----------------------------------------------------------------------------------------

static xmlNode *find_child(xmlNode *parent, const char *name) {
  xmlNode *node = parent ? xmlFirstElementChild(parent) : NULL;
  while (node && !g_str_equal((const char *)node->name, name)) node = xmlNextElementSibling(node);
  return node;
}

static gboolean copy_changes(Creation *it, const char *from, GError **error) {
  g_autofree char *file = g_strconcat(it->uuid, ".img", NULL),
                  *to = g_build_filename(it->manager->paths->changes, file, NULL);
  const char *const argv[] = {"cp", "--reflink=auto", "--sparse=always", "--", from, to, NULL};
  ImageTool tool = {.argv = argv, .writable = it->manager->paths->changes, .output = -1};
  if (!image_tool_run(&tool, NULL, error)) {
    g_unlink(to);
    return FALSE;
  }
  it->changes = g_steal_pointer(&to);
  return TRUE;
}

// The author's text with another name and UUID, and the clone's own disk for changes. Addresses of network cards that
// the author chose would be there twice.
static char *rewrite(Creation *it, const char *xml, const char *old_changes, GError **error) {
  g_autoptr(xmlDoc) document = domain_document_parse(xml, error);
  xmlNode *domain = document ? xmlDocGetRootElement(document) : NULL, *uuid = find_child(domain, "uuid");
  xmlNode *rootfs = find_child(find_child(find_child(domain, "metadata"), "machine"), "rootfs");
  if (document == NULL || (old_changes && !copy_changes(it, old_changes, error))) return NULL;
  g_autofree char *name = g_markup_escape_text(it->name, -1);
  xmlNodeSetContent(find_child(domain, "name"), (const xmlChar *)name);
  if (uuid == NULL) uuid = xmlNewChild(domain, NULL, (const xmlChar *)"uuid", NULL);
  xmlNodeSetContent(uuid, (const xmlChar *)it->uuid);
  if (it->changes) xmlSetProp(rootfs, (const xmlChar *)"changes", (const xmlChar *)it->changes);
  for (xmlNode *node = xmlFirstElementChild(find_child(domain, "devices")); node; node = xmlNextElementSibling(node)) {
    xmlNode *address = g_str_equal((const char *)node->name, "interface") ? find_child(node, "mac") : NULL;
    if (address) xmlUnlinkNode(address), xmlFreeNode(address);
  }
  return domain_xml_to_string(document);
}

static void work_clone(Job *job) {
  Creation *it = job->data;
  g_autofree char *xml = machine_store_read(job->manager->store, job->name, &job->error);
  if (xml) job->text = rewrite(it, xml, job->old, &job->error);
}

void manager_clone(Manager *manager, const char *name, const char *new_name, ManagerDone done, gpointer user_data) {
  GError *error = NULL;
  Machine *machine = manager_find(manager, name, &error);
  if (machine && (machine->foreign || machine->changing || machine->life.state != MACHINE_STOPPED))
    g_set_error(&error, STELE_ERROR, STELE_ERROR_WRONG_STATE, "cannot clone '%s': it is %s%s", name,
                machine->foreign    ? "none of steled's"
                : machine->changing ? "just being changed"
                                    : machine_state_name(machine->life.state),
                machine->foreign || machine->changing ? "" : ": 'vmctl shutdown' it first");
  else if (machine && g_hash_table_contains(manager->machines, new_name))
    g_set_error(&error, STELE_ERROR, STELE_ERROR_NAME_TAKEN, "there is a machine '%s' already: choose another name",
                new_name);
  if (error) {
    request_refuse(done, user_data, error);
    return;
  }
  Creation *it = g_new0(Creation, 1);
  *it = (Creation){.manager = manager,
                   .name = g_strdup(new_name),
                   .uuid = g_uuid_string_random(),
                   .done = done,
                   .user_data = user_data};
  Job *job = job_new(manager, machine, work_clone, finish_create, NULL, NULL);
  job->old = machine_dup_own_changes(machine);
  machine->changing = TRUE; // nobody writes to what is copied
  job->data = it;
  job->free_data = creation_free;
  job_run(job);
}

// --- machines that go by themselves ---------------------------------------------------------------

static void on_discarded(GVariant *result, const GError *error, gpointer user_data) {
  if (error) g_debug("a machine was not removed: %s", error->message);
}

// Its last change of state is told first.
static gboolean undefine_later(gpointer user_data) {
  Machine *machine = user_data;
  if (!machine->gone) manager_undefine(machine->manager, machine->name, on_discarded, NULL);
  machine_unref(machine);
  return G_SOURCE_REMOVE;
}

void machine_discard_when_due(Machine *machine, gboolean closed) {
  RemoveWhen when = machine->config ? machine->config->remove : REMOVE_NEVER;
  if (closed && when == REMOVE_CLOSED) machine->discarded = TRUE;
  gboolean stopped = machine->life.state == MACHINE_STOPPED;
  if (machine->foreign || !(machine->discarded || (when == REMOVE_STOPPED && stopped))) return;
  if (stopped)
    g_idle_add(undefine_later, machine_ref(machine));
  else
    manager_destroy(machine->manager, machine->name, on_discarded, NULL);
}

void manager_discard(Manager *manager, const char *name) {
  Machine *machine = g_hash_table_lookup(manager->machines, name);
  if (machine) machine_discard_when_due(machine, TRUE);
}
