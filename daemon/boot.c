// See boot.h.
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <libxml/xpath.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "domain-xml.h"
#include "errors.h"
#include "guest-protocol.h"
#include "root-check.h"
#include "share.h"
#include "translator-disk.h"

void boot_plan_free(BootPlan *plan) {
  if (plan == NULL) return;
  g_free(plan->name);
  g_free(plan->uuid);
  g_free(plan->xml);
  g_free(plan->translations);
  machine_config_free(plan->config);
  g_free(plan);
}

char *boot_console_log(const HostPaths *paths, const char *name) {
  return g_strdup_printf("%s/%s.log", paths->console, name);
}

// --- which directory is exported -----------------------------------------------------------------

// Root can bind read-only; libvirt new enough can export read-only. Embedded libvirt takes the
// first where it can, since it works with every virtiofsd and keeps set-uid programs and devices of a writable root
// from being such in virtiofsd's view; another libvirt does not see our mounts.
static gboolean binds(const HostPaths *paths, const HypervisorFeatures *features) {
  return !translator_disk_is_used(paths, features) && paths->libvirt &&
         (share_has_namespace() || !features->readonly_virtiofs);
}

static char *view_path(const HostPaths *paths, const char *uuid, const char *tag) {
  return g_build_filename(paths->shares, uuid, tag, NULL);
}

static char *lent_path(const HostPaths *paths, const char *uuid, const char *name) {
  return g_build_filename(paths->lent, uuid, name, NULL);
}

static const char *translator_source(const BootPlan *plan, const HostPaths *paths) {
  return plan->config->translator_source ? plan->config->translator_source : paths->translator_dir;
}

gboolean boot_plan_wish(const BootPlan *plan, const HostPaths *paths, TranslationsWish *ret_wish,
                        char **ret_translator) {
  const MachineConfig *config = plan->config;
  if (config == NULL || paths->libvirt == NULL || !share_has_namespace() || config->root_type != ROOT_DIR) return FALSE;
  *ret_translator = g_build_filename(translator_source(plan, paths), STELE_TRANSLATOR_FILE, NULL);
  *ret_wish = (TranslationsWish){.root = config->root_source,
                                 .translator = *ret_translator,
                                 .ahead = config->ahead,
                                 .memory = g_str_equal(config->memory_model, "tso")       ? "ordered"
                                           : g_str_equal(config->memory_model, "relaxed") ? "plain"
                                                                                          : "both",
                                 .features = plan->features};
  return !g_str_equal(config->ahead, "off");
}

static char *exported_translator(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features) {
  return binds(paths, features) ? view_path(paths, plan->uuid, plan->config->translator_tag)
                                : g_strdup(translator_source(plan, paths));
}

static char *exported_root(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features) {
  return binds(paths, features) ? view_path(paths, plan->uuid, STELE_TAG_ROOT) : g_strdup(plan->config->root_source);
}

static char *exported_share(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features, guint i) {
  const MachineShare *share = plan->config->shares->pdata[i];
  g_autofree char *tag = g_strdup_printf(STELE_TAG_SHARE "%u", i);
  return binds(paths, features) ? view_path(paths, plan->uuid, tag) : g_strdup(share->source);
}

static char **exported_shares(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features) {
  guint count = plan->config ? plan->config->shares->len : 0;
  char **directories = g_new0(char *, count + 1);
  for (guint i = 0; i < count; i++) directories[i] = exported_share(plan, paths, features, i);
  return directories;
}

// --- reading and expanding -----------------------------------------------------------------------

static char *dup_xpath(xmlDoc *document, const char *path) {
  xmlXPathContext *context = xmlXPathNewContext(document);
  g_autofree char *expression = g_strdup_printf("string(%s)", path);
  xmlXPathObject *found = xmlXPathEval((const xmlChar *)expression, context);
  char *text = found && found->stringval && *found->stringval ? g_strdup((const char *)found->stringval) : NULL;
  xmlXPathFreeObject(found);
  xmlXPathFreeContext(context);
  return text;
}

static gboolean expand(BootPlan *plan, xmlDoc *document, const HostPaths *paths, const HypervisorFeatures *features,
                       GError **error) {
  g_autofree char *kernel = g_build_filename(paths->guest_dir, "vmlinuz", NULL);
  g_autofree char *initrd = g_build_filename(paths->guest_dir, "initrd.img", NULL);
  g_autofree char *translator = plan->config ? exported_translator(plan, paths, features) : NULL;
  g_autofree char *disk = plan->config && translator_disk_is_used(paths, features)
                              ? translator_disk_dup_path(paths, translator_source(plan, paths))
                              : NULL;
  g_autofree char *root = plan->config ? exported_root(plan, paths, features) : NULL;
  g_autofree char *log = boot_console_log(paths, plan->name);
  g_auto(GStrv) shares = exported_shares(plan, paths, features);
  DomainHost host = {.kvm = features->kvm,
                     .cpus = g_get_num_processors(),
                     .kernel = kernel,
                     .initrd = initrd,
                     .translator_dir = translator,
                     .translator_disk = disk,
                     .root_dir = root,
                     .share_dirs = (const char *const *)shares,
                     .readonly_element = features->readonly_virtiofs,
                     .console_log = paths->libvirt ? log : NULL,
                     .embedded = paths->libvirt != NULL,
                     .network_guard = paths->network_guard,
                     .file_server = paths->file_server,
                     .uuid = plan->uuid};
  if (!domain_xml_expand(document, plan->config, &host, error)) return FALSE;
  plan->xml = domain_xml_to_string(document);
  return TRUE;
}

// QEMU's processor of mode maximum has these since version 7.2, of what translated code makes use of (A64_HAS_…,
// translator/a64/registers.h).
#define MAXIMUM_FEATURES 0x13ff

// The host's own, as the translator reads them there: guests of KVM have its processor.
static guint32 host_features(const char *translator) {
  const char *argv[] = {translator, "--features", NULL};
  g_autofree char *word = NULL;
  int status = -1;
  gboolean ran =
      g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &word, NULL, &status, NULL);
  return ran && status == 0 ? (guint32)g_ascii_strtoull(word, NULL, 0) : 0;
}

// The processor is known where its choice was left to us; otherwise code is for any.
static void find_translations(BootPlan *plan, xmlDoc *document, const HostPaths *paths,
                              const HypervisorFeatures *features) {
  TranslationsWish wish;
  g_autofree char *translator = NULL, *cpu = dup_xpath(document, "name(/domain/cpu)"),
                  *type = dup_xpath(document, "/domain/@type");
  gboolean kvm = type ? g_str_equal(type, "kvm") : features->kvm;
  if (!boot_plan_wish(plan, paths, &wish, &translator)) return;
  plan->features = cpu ? 0 : kvm ? host_features(translator) : MAXIMUM_FEATURES;
  wish.features = plan->features;
  if (translations_are_there(paths, &wish, FALSE)) plan->translations = translations_dup_directory(paths, &wish);
}

BootPlan *boot_plan_new(const HostPaths *paths, const HypervisorFeatures *features, const char *author_xml,
                        const char *uuid, GError **error) {
  g_autoptr(xmlDoc) document = domain_document_parse(author_xml, error);
  if (document == NULL) return NULL;
  g_autoptr(BootPlan) plan = g_new0(BootPlan, 1);
  plan->name = domain_document_dup_name(document);
  plan->uuid = dup_xpath(document, "/domain/uuid");
  if (plan->uuid == NULL) plan->uuid = uuid ? g_strdup(uuid) : g_uuid_string_random();
  if (!g_uuid_string_is_valid(plan->uuid)) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML, "'%s' is no UUID: leave <uuid> out to get one",
                plan->uuid);
    return NULL;
  }
  if (!machine_config_parse(document, &plan->config, error)) return NULL;
  find_translations(plan, document, paths, features);
  return expand(plan, document, paths, features, error) ? g_steal_pointer(&plan) : NULL;
}

// --- looking for what is needed ------------------------------------------------------------------

static gboolean missing(GError **error, const char *what, const char *path, const char *advice) {
  g_set_error(error, STELE_ERROR, STELE_ERROR_MISSING_FILE, "%s %s: %s: %s", what, path, g_strerror(errno), advice);
  return FALSE;
}

// What the expanded XML refers to; libvirt would notice late or in QEMU's words.
static const struct FileRule {
  const char *path, *what, *advice;
  gboolean of_qemu; // opened by QEMU's own user, not by virtiofsd
} file_rules[] = {
    {"/domain/os/kernel", "the guest kernel", "install the guest image, or name it with --guest-dir or <kernel>", TRUE},
    {"/domain/os/initrd", "the guest's initramfs", "install the guest image, or name it with --guest-dir or <initrd>",
     TRUE},
    {"/domain/os/dtb", "the device tree", "make it, or correct its path", TRUE},
    {"/domain/devices/disk/source/@file", "the disk image", "make it, or correct its path", TRUE},
    {"/domain/devices/disk/source/@dev", "the disk", "correct its path", TRUE},
    {"/domain/devices/filesystem/source/@dir", "the shared directory", "make it, or correct its path", FALSE},
};

// Steps through what a machine's XML refers to; ends with the first that fails.
typedef struct FileWalk {
  const HostPaths *paths;
  const BootPlan *plan;
  guint count; // of views and loans
} FileWalk;

static gboolean give_to_qemu(FileWalk *walk, xmlNode *node, GError **error);

static gboolean check_file(FileWalk *walk, const struct FileRule *rule, xmlNode *node, GError **error) {
  xmlChar *path = xmlNodeGetContent(node);
  gboolean good = g_access((const char *)path, R_OK) == 0;
  if (!good) missing(error, rule->what, (const char *)path, rule->advice);
  xmlFree(path);
  return good && (!rule->of_qemu || walk->paths->qemu_user == NULL || give_to_qemu(walk, node, error));
}

static gboolean prepare_files(BootPlan *plan, const HostPaths *paths, GError **error) {
  g_autoptr(xmlDoc) document = xmlReadMemory(plan->xml, (int)strlen(plan->xml), NULL, NULL, XML_PARSE_NONET);
  xmlXPathContext *context = xmlXPathNewContext(document);
  FileWalk walk = {paths, plan, 0};
  gboolean good = TRUE;
  for (size_t i = 0; good && i < G_N_ELEMENTS(file_rules); i++) {
    xmlXPathObject *found = xmlXPathEval((const xmlChar *)file_rules[i].path, context);
    for (int n = 0; good && found && n < xmlXPathNodeSetGetLength(found->nodesetval); n++)
      good = check_file(&walk, &file_rules[i], found->nodesetval->nodeTab[n], error);
    xmlXPathFreeObject(found);
  }
  xmlXPathFreeContext(context);
  if (!good || walk.count == 0) return good;
  g_free(plan->xml);
  plan->xml = domain_xml_to_string(document);
  return TRUE;
}

// --- files for QEMU's user -----------------------------------------------------------------------

#define CHAIN_MAX 32 // images behind an image

// A disk is written to unless it says otherwise.
static gboolean is_written(xmlNode *node) {
  if (node->type != XML_ATTRIBUTE_NODE) return FALSE; // kernel, initramfs
  xmlNode *disk = node->parent->parent;
  xmlChar *device = xmlGetNoNsProp(disk, (const xmlChar *)"device");
  gboolean written = g_strcmp0((const char *)device, "cdrom") != 0;
  xmlFree(device);
  for (xmlNode *child = xmlFirstElementChild(disk); child; child = xmlNextElementSibling(child))
    written &= !g_str_equal((const char *)child->name, "readonly");
  return written;
}

static gboolean is_qcow2(xmlNode *node) {
  xmlNode *disk = node->type == XML_ATTRIBUTE_NODE ? node->parent->parent : NULL;
  gboolean is = FALSE;
  for (xmlNode *child = disk ? xmlFirstElementChild(disk) : NULL; child; child = xmlNextElementSibling(child)) {
    if (!g_str_equal((const char *)child->name, "driver")) continue;
    xmlChar *type = xmlGetNoNsProp(child, (const xmlChar *)"type");
    is |= g_strcmp0((const char *)type, "qcow2") == 0;
    xmlFree(type);
  }
  return is;
}

// The image that a qcow2 image stands on (QEMU's docs/interop/qcow2.txt: offset and size of its name are the second and
// third field of the header), or NULL.
static char *dup_backing_file(const char *path) {
  g_autofree char *text = NULL, *directory = g_path_get_dirname(path);
  guint8 header[20];
  guint64 offset;
  guint32 size;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return NULL;
  gboolean has = pread(fd, header, sizeof header, 0) == sizeof header && memcmp(header, "QFI\xfb", 4) == 0;
  memcpy(&offset, header + 8, sizeof offset);
  memcpy(&size, header + 16, sizeof size);
  offset = GUINT64_FROM_BE(offset);
  size = GUINT32_FROM_BE(size);
  if (has && offset && offset < G_MAXINT32 && size && size < 1024) {
    text = g_malloc0(size + 1);
    if (pread(fd, text, size, (off_t)offset) != (ssize_t)size) g_clear_pointer(&text, g_free);
  }
  close(fd);
  if (text == NULL || strstr(text, ":")) return NULL; // a protocol, not a file
  return g_canonicalize_filename(text, directory);
}

// What is lent is remembered as a link to it, until boot_clean_up().
static gboolean lend(FileWalk *walk, const char *path, int wanted, GError **error) {
  const QemuUser *user = walk->paths->qemu_user;
  g_autofree char *name = g_strdup_printf("loan-%u", walk->count++),
                  *note = lent_path(walk->paths, walk->plan->uuid, name), *directory = g_path_get_dirname(note);
  g_remove(note);
  if (g_mkdir_with_parents(directory, 0755) < 0 || symlink(path, note) < 0) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "cannot make %s: %s", note, g_strerror(errno));
    return FALSE;
  }
  return qemu_user_lend(user, path, wanted, error);
}

static gboolean lend_backing_files(FileWalk *walk, const char *path, GError **error) {
  g_autofree char *image = g_strdup(path);
  for (int depth = 0; depth < CHAIN_MAX; depth++) {
    char *backing = dup_backing_file(image);
    g_free(image);
    image = backing;
    if (image == NULL) return TRUE;
    if (g_access(image, R_OK) < 0) return missing(error, "the image behind a disk image", image, "correct its path");
    if (!qemu_user_can(walk->paths->qemu_user, image, F_OK)) {
      g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
                  "QEMU's user '%s' cannot get to %s, which a disk image stands on: let others search its directories "
                  "(chmod o+x), or move it",
                  walk->paths->qemu_user->name, image);
      return FALSE;
    }
    if (!qemu_user_can(walk->paths->qemu_user, image, R_OK) && !lend(walk, image, R_OK, error)) return FALSE;
  }
  return TRUE;
}

// Where QEMU's user cannot get to the file, it gets a view of that file alone; where it may not use it, it is lent it.
static gboolean give_to_qemu(FileWalk *walk, xmlNode *node, GError **error) {
  const QemuUser *user = walk->paths->qemu_user;
  int wanted = R_OK | (is_written(node) ? W_OK : 0);
  xmlChar *content = xmlNodeGetContent(node);
  g_autofree char *path = g_strdup((const char *)content), *at = g_strdup(path);
  xmlFree(content);
  if (qemu_user_can(user, path, wanted)) return !is_qcow2(node) || lend_backing_files(walk, path, error);
  if (!qemu_user_can(user, path, F_OK)) {
    g_autofree char *name = g_strdup_printf("file-%u", walk->count++);
    g_free(at);
    at = lent_path(walk->paths, walk->plan->uuid, name);
    if (!share_bind(path, at, !(wanted & W_OK), error)) return FALSE;
    xmlNodeSetContent(node, (const xmlChar *)at);
  }
  if (!qemu_user_can(user, at, wanted) && !lend(walk, path, wanted, error)) return FALSE;
  return !is_qcow2(node) || lend_backing_files(walk, path, error);
}

// FALSE with errno.
static gboolean is_directory(const char *path) {
  GStatBuf status;
  if (g_stat(path, &status) < 0) return FALSE;
  errno = ENOTDIR;
  return S_ISDIR(status.st_mode);
}

// --- the other checks ----------------------------------------------------------------------------

static gboolean check_translator(const BootPlan *plan, const HostPaths *paths, GError **error) {
  g_autofree char *file = g_build_filename(translator_source(plan, paths), STELE_TRANSLATOR_FILE, NULL);
  return g_access(file, R_OK | X_OK) == 0 ? TRUE
                                          : missing(error, "the translator", file,
                                                    "install it, or name its directory with --translator-dir or "
                                                    "<stele:translator source=…>");
}

// x86-64-v4 adds AVX-512, which the translator lacks: a root built for it would not start.
static gboolean check_cpu(const BootPlan *plan, GError **error) {
  const char *cpu = plan->config->cpu;
  if (!g_str_equal(cpu, "x86-64-v4")) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "<stele:translator cpu='%s'>: AVX-512 is not translated, levels up to x86-64-v3 are; name that or none",
              cpu);
  return FALSE;
}

static gboolean check_root(const BootPlan *plan, GError **error) {
  const MachineConfig *config = plan->config;
  if (config->init == INIT_NONE && config->root_type == ROOT_DIR && !is_directory(config->root_source))
    return missing(error, "the root directory", config->root_source, "make it, or correct its path");
  if (config->root_type == ROOT_DISK || config->init == INIT_NONE)
    return TRUE; // check_files() looks for it, the guest's agent into it
  const char *init = config->init_path ? config->init_path : "/sbin/init";
  return root_check_program(config->root_source, config->init == INIT_SYSTEM ? init : config->argv[0], error);
}

// Of a machine whose steled is not root, with a libvirt that shares directories for root alone.
static gboolean check_without_shares(const BootPlan *plan, const HypervisorFeatures *features, GError **error) {
  gboolean root = plan->config->root_type == ROOT_DIR;
  if (!root && plan->config->shares->len == 0) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "this host's libvirt %lu.%lu shares directories with guests only for a steled that is root: %s",
              features->libvirt / 1000000, features->libvirt / 1000 % 1000,
              root ? "make an image of the root ('vmctl image import DIR') and a machine of that, or run steled as root"
                   : "leave the share out and copy ('vmctl cp'), or run steled as root, or have libvirt 10.0 or newer");
  return FALSE;
}

// libvirt says only 'Unable to find a satisfying virtiofsd'.
static gboolean check_virtiofsd(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features,
                                GError **error) {
  if (paths->libvirt == NULL) return TRUE;
  if (translator_disk_is_used(paths, features)) return check_without_shares(plan, features, error);
  for (const FileServer *server = host_file_servers; server->path; server++)
    if (g_access(server->path, X_OK) == 0) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "there is no virtiofsd on this host: install qemu-system-common (Debian 12) or "
              "virtiofsd (later)");
  return FALSE;
}

static gboolean check_readonly(const HostPaths *paths, const HypervisorFeatures *features, GError **error) {
  if (paths->libvirt || features->readonly_virtiofs) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "libvirt at %s cannot share a directory read-only, and a guest must not be able to "
              "change what others "
              "run: define <filesystem> elements for the tags %s and %s whose sources are mounted "
              "read-only on its host",
              paths->uri, STELE_TAG_TRANSLATOR, STELE_TAG_ROOT);
  return FALSE;
}

static gboolean wants_guard(const BootPlan *plan, const HostPaths *paths) {
  return paths->network_guard && plan->config && !plan->config->host_loopback;
}

#define GUARD_ADVICE                                                                                                   \
  "install it where QEMU's user can read it, or accept that the guest reaches services on the "                        \
  "host's 127.0.0.1 with <stele:network host-loopback='on'/>"

// Another libvirt's QEMU cannot be given the library: it may be on another host, which does not have it.
static gboolean check_unguarded(const BootPlan *plan, const HostPaths *paths, GError **error) {
  if (paths->network_guard || plan->config == NULL || plan->config->host_loopback) return TRUE;
  g_autoptr(xmlDoc) document = xmlReadMemory(plan->xml, (int)strlen(plan->xml), NULL, NULL, XML_PARSE_NONET);
  g_autofree char *user_network = dup_xpath(document, "/domain/devices/interface[@type='user']/@type");
  if (user_network == NULL) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "libvirt at %s cannot keep a guest with user-mode networking from services on its host's 127.0.0.1: give "
              "the machine an <interface> of another type, as of a libvirt network, or accept it with "
              "<stele:network host-loopback='on'/>",
              paths->uri);
  return FALSE;
}

static gboolean check_guard(const BootPlan *plan, const HostPaths *paths, GError **error) {
  if (!check_unguarded(plan, paths, error)) return FALSE;
  if (!wants_guard(plan, paths) || g_access(paths->network_guard, R_OK) == 0) return TRUE;
  return missing(error, "the network guard", paths->network_guard, GUARD_ADVICE);
}

gboolean boot_check_started(const BootPlan *plan, const HostPaths *paths, GError **error) {
  if (!wants_guard(plan, paths)) return TRUE;
  g_autofree char *path = g_strdup_printf("/proc/%d/maps", boot_qemu_pid(paths, plan->uuid));
  g_autofree char *maps = NULL, *file = g_path_get_basename(paths->network_guard);
  if (g_file_get_contents(path, &maps, NULL, NULL) && strstr(maps, file)) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED, "QEMU did not load the network guard %s: %s",
              paths->network_guard, GUARD_ADVICE);
  return FALSE;
}

static gboolean make_views(const BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features,
                           GError **error) {
  if (!binds(paths, features)) return TRUE;
  const MachineConfig *config = plan->config;
  g_autofree char *translator = exported_translator(plan, paths, features),
                  *root = exported_root(plan, paths, features);
  if (!share_bind(translator_source(plan, paths), translator, TRUE, error)) return FALSE;
  if (plan->translations && !share_cover(plan->translations, translator, STELE_TRANSLATOR_FILE, error)) return FALSE;
  if (config->root_type == ROOT_DIR && !share_bind(config->root_source, root, config->root_mode != ROOT_RW, error))
    return FALSE;
  for (guint i = 0; i < config->shares->len; i++) {
    const MachineShare *share = config->shares->pdata[i];
    g_autofree char *view = exported_share(plan, paths, features, i);
    if (!is_directory(share->source))
      return missing(error, "the shared directory", share->source, "make it, or correct its path");
    if (!share_bind(share->source, view, share->readonly, error)) return FALSE;
  }
  return TRUE;
}

gboolean boot_plan_prepare(BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features, GError **error) {
  gboolean local = paths->libvirt != NULL;
  if (plan->config && !check_cpu(plan, error)) return FALSE;
  if (plan->config && local && (!check_root(plan, error) || !check_translator(plan, paths, error))) return FALSE;
  if (!check_guard(plan, paths, error)) return FALSE;
  if (plan->config && !check_virtiofsd(plan, paths, features, error)) return FALSE;
  if (plan->config && translator_disk_is_used(paths, features) &&
      !translator_disk_make(paths, translator_source(plan, paths), error))
    return FALSE;
  if (plan->config && !check_readonly(paths, features, error)) return FALSE;
  if (plan->config && !make_views(plan, paths, features, error)) return FALSE;
  return !local || prepare_files(plan, paths, error);
}

// Of a machine: views, and notes of what is lent.
static void clear_directory(const HostPaths *paths, const char *parent, const char *uuid) {
  g_autofree char *directory = g_build_filename(parent, uuid, NULL);
  g_autoptr(GDir) entries = g_dir_open(directory, 0, NULL);
  for (const char *name; entries && (name = g_dir_read_name(entries));) {
    g_autofree char *entry = g_build_filename(directory, name, NULL), *lent = g_file_read_link(entry, NULL);
    if (lent && paths->qemu_user) qemu_user_take_back(paths->qemu_user, lent);
    share_unbind(entry);
  }
  g_rmdir(directory);
}

void boot_clean_up(const HostPaths *paths, const char *uuid) {
  clear_directory(paths, paths->shares, uuid);
  clear_directory(paths, paths->lent, uuid);
}

// --- processes -----------------------------------------------------------------------------------

static int read_pid(const char *path) {
  g_autofree char *text = NULL;
  return g_file_get_contents(path, &text, NULL, NULL) ? atoi(text) : 0;
}

// libvirt names these files <id>-<short name>-fs<n>-fs.pid.
GArray *boot_share_pids(const HostPaths *paths, int id) {
  GArray *pids = g_array_new(FALSE, FALSE, sizeof(int));
  if (paths->libvirt == NULL) return pids;
  g_autofree char *directory = g_build_filename(paths->libvirt, "run", "qemu", NULL),
                  *prefix = g_strdup_printf("%d-", id);
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  for (const char *file; files && (file = g_dir_read_name(files));) {
    if (!g_str_has_prefix(file, prefix) || !g_str_has_suffix(file, "-fs.pid")) continue;
    g_autofree char *path = g_build_filename(directory, file, NULL);
    int pid = read_pid(path);
    if (pid > 0) g_array_append_val(pids, pid);
  }
  return pids;
}

// Whether libvirt started it as QEMU of the domain with this UUID: the number may be another process's by now.
static gboolean is_qemu_of(int pid, const char *uuid) {
  g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *line = NULL;
  gsize size = 0;
  gboolean next = FALSE;
  if (!g_file_get_contents(path, &line, &size, NULL)) return FALSE;
  for (const char *word = line; word < line + size; word += strlen(word) + 1) {
    if (next && g_ascii_strcasecmp(word, uuid) == 0) return TRUE;
    next = g_str_equal(word, "-uuid");
  }
  return FALSE;
}

// Found by the UUID, not by the domain's name: both the file's name and QEMU's arguments have that with some characters
// written in other ways.
int boot_qemu_pid(const HostPaths *paths, const char *uuid) {
  if (paths->libvirt == NULL) return 0;
  g_autofree char *directory = g_build_filename(paths->libvirt, "run", "qemu", NULL);
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  for (const char *file; files && (file = g_dir_read_name(files));) {
    g_autofree char *path = g_build_filename(directory, file, NULL);
    int pid = g_str_has_suffix(file, ".pid") ? read_pid(path) : 0;
    if (pid > 0 && is_qemu_of(pid, uuid)) return pid;
  }
  return 0;
}

// --- what a steled that was killed left ----------------------------------------------------------

// The process of a pid file is a domain's QEMU, or the file is one of boot_share_pids().
static gboolean is_of_active(const char *file, int pid, const GPtrArray *domains) {
  for (guint i = 0; i < domains->len; i++) {
    const HypervisorDomain *domain = domains->pdata[i];
    g_autofree char *prefix = g_strdup_printf("%d-", domain->id);
    if (domain->active && (g_str_has_prefix(file, prefix) || is_qemu_of(pid, domain->uuid))) return TRUE;
  }
  return FALSE;
}

// Held before it is looked at, so that the number is not another's by then.
static void end_leftover(const HostPaths *paths, int pid) {
  ProcessWatch *process = process_watch_new(pid, NULL, NULL);
  g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *line = NULL,
                  *place = g_strconcat(paths->libvirt, "/", NULL);
  gsize size = 0;
  if (process && g_file_get_contents(path, &line, &size, NULL) && memmem(line, size, place, strlen(place)))
    process_watch_kill(process);
  process_watch_free(process);
}

void boot_end_leftovers(const HostPaths *paths, const GPtrArray *domains) {
  if (paths->libvirt == NULL) return;
  g_autofree char *directory = g_build_filename(paths->libvirt, "run", "qemu", NULL);
  g_autoptr(GDir) files = g_dir_open(directory, 0, NULL);
  for (const char *file; files && (file = g_dir_read_name(files));) {
    g_autofree char *path = g_build_filename(directory, file, NULL);
    int pid = g_str_has_suffix(file, ".pid") ? read_pid(path) : 0;
    if (pid > 0 && pid != getpid() && !is_of_active(file, pid, domains)) end_leftover(paths, pid);
  }
}
