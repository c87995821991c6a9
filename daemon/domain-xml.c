// The expansion of a domain XML: a list of steps, each of which looks whether the author said
// something about its subject and adds it if not. Order matters only where a comment says so. See
// domain-xml.h; the guest's side of the kernel command line is common/guest-protocol.h.
#include "domain-xml.h"

#include <string.h>
#include "errors.h"
#include "guest-protocol.h"
#include "json.h"

#define DEFAULT_MEMORY_MIB 2048
#define DEFAULT_CPUS_MAX   4
#define TCG_CACHE_MIB      256 // QEMU's own default of 1 GiB would be most of an idle machine's memory

typedef struct Expansion {
  xmlNode *domain;
  const MachineConfig *config;
  const DomainHost *host;
  gboolean tcg;
  guint32 used_slots; // of the root bus, a bit each
} Expansion;

// --- the tree ------------------------------------------------------------------------------------

static xmlNode *find(xmlNode *parent, const char *name) {
  for (xmlNode *node = xmlFirstElementChild(parent); node; node = xmlNextElementSibling(node))
    if (node->ns == NULL && g_str_equal((const char *)node->name, name)) return node;
  return NULL;
}

// Attributes are name, value pairs up to NULL; a NULL value leaves its attribute out.
static xmlNode *add(xmlNode *parent, const char *name, const char *text, ...) G_GNUC_NULL_TERMINATED;

static xmlNode *add(xmlNode *parent, const char *name, const char *text, ...) {
  xmlNode *node = xmlNewTextChild(parent, NULL, (const xmlChar *)name, (const xmlChar *)text);
  va_list pairs;
  va_start(pairs, text);
  for (const char *key = va_arg(pairs, const char *); key; key = va_arg(pairs, const char *)) {
    const char *value = va_arg(pairs, const char *);
    if (value) xmlNewProp(node, (const xmlChar *)key, (const xmlChar *)value);
  }
  va_end(pairs);
  // A child inherits its parent's name space; libvirt's elements have none.
  node->ns = NULL;
  return node;
}

static xmlNode *ensure(xmlNode *parent, const char *name) {
  xmlNode *node = find(parent, name);
  return node ? node : add(parent, name, NULL, NULL);
}

static gboolean attribute_is(xmlNode *node, const char *name, const char *value) {
  xmlChar *found = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
  gboolean same = g_strcmp0((const char *)found, value) == 0;
  xmlFree(found);
  return same;
}

static void ensure_attribute(xmlNode *node, const char *name, const char *value) {
  if (!xmlHasProp(node, (const xmlChar *)name)) xmlNewProp(node, (const xmlChar *)name, (const xmlChar *)value);
}

// A device <name> whose child <child> has attribute=value.
static xmlNode *find_device(Expansion *x, const char *name, const char *child, const char *attribute,
                            const char *value) {
  for (xmlNode *node = xmlFirstElementChild(find(x->domain, "devices")); node; node = xmlNextElementSibling(node))
    if (g_str_equal((const char *)node->name, name) && attribute_is(find(node, child), attribute, value)) return node;
  return NULL;
}

// --- PCI addresses -------------------------------------------------------------------------------

#define FIRST_SLOT 16 // libvirt places what it adds itself from slot 1 up

static void note_used_slot(Expansion *x, xmlNode *address) {
  xmlChar *bus = xmlGetNoNsProp(address, (const xmlChar *)"bus"),
          *slot = xmlGetNoNsProp(address, (const xmlChar *)"slot");
  guint64 number = slot ? g_ascii_strtoull((const char *)slot, NULL, 0) : 32;
  if (number < 32 && (bus == NULL || g_ascii_strtoull((const char *)bus, NULL, 0) == 0)) x->used_slots |= 1u << number;
  xmlFree(bus);
  xmlFree(slot);
}

static void note_used_slots(Expansion *x) {
  for (xmlNode *device = xmlFirstElementChild(find(x->domain, "devices")); device;
       device = xmlNextElementSibling(device))
    if (find(device, "address")) note_used_slot(x, find(device, "address"));
}

// Puts a device of ours right on the root bus. libvirt would give each a port of its own to plug it
// from, and finding ports is a good part of a guest kernel's boot. Without a free slot libvirt's
// way is good enough.
static void place(Expansion *x, xmlNode *device) {
  guint slot = FIRST_SLOT;
  while (slot < 32 && x->used_slots & 1u << slot) slot++;
  if (slot == 32) return;
  x->used_slots |= 1u << slot;
  g_autofree char *number = g_strdup_printf("0x%02x", slot);
  add(device, "address", NULL, "type", "pci", "bus", "0x00", "slot", number, NULL);
}

// --- the steps -----------------------------------------------------------------------------------

static void add_type(Expansion *x) {
  ensure_attribute(x->domain, "type", x->host->kvm ? "kvm" : "qemu");
  x->tcg = attribute_is(x->domain, "type", "qemu");
}

static void add_uuid(Expansion *x) {
  if (find(x->domain, "uuid") == NULL) add(x->domain, "uuid", x->host->uuid, NULL);
}

static void add_memory(Expansion *x) {
  if (find(x->domain, "memory") || find(x->domain, "maxMemory")) return;
  g_autofree char *amount = g_strdup_printf("%d", DEFAULT_MEMORY_MIB);
  add(x->domain, "memory", amount, "unit", "MiB", NULL);
}

static void add_vcpus(Expansion *x) {
  if (find(x->domain, "vcpu")) return;
  g_autofree char *count = g_strdup_printf("%u", CLAMP(x->host->cpus, 1, DEFAULT_CPUS_MAX));
  add(x->domain, "vcpu", count, NULL);
}

static void add_os(Expansion *x) {
  xmlNode *os = ensure(x->domain, "os"), *type = find(os, "type");
  if (type == NULL) type = add(os, "type", "hvm", NULL);
  ensure_attribute(type, "arch", "aarch64");
  ensure_attribute(type, "machine", "virt");
  if (find(os, "kernel") == NULL) add(os, "kernel", x->host->kernel, NULL);
  if (find(os, "initrd") == NULL) add(os, "initrd", x->host->initrd, NULL);
}

// Guest memory that virtiofsd maps too.
static void add_memory_backing(Expansion *x) {
  xmlNode *backing = ensure(x->domain, "memoryBacking");
  if (find(backing, "source") == NULL) add(backing, "source", NULL, "type", "memfd", NULL);
  if (find(backing, "access") == NULL) add(backing, "access", NULL, "mode", "shared", NULL);
}

static void add_cpu(Expansion *x) {
  if (find(x->domain, "cpu") == NULL)
    add(x->domain, "cpu", NULL, "mode", x->tcg ? "maximum" : "host-passthrough", NULL);
}

static void add_features(Expansion *x) {
  if (!x->tcg) return;
  xmlNode *features = ensure(x->domain, "features");
  if (find(features, "gic") == NULL) add(features, "gic", NULL, "version", "3", NULL);
  if (find(features, "tcg")) return;
  g_autofree char *size = g_strdup_printf("%d", TCG_CACHE_MIB);
  add(add(features, "tcg", NULL, NULL), "tb-cache", size, "unit", "MiB", NULL);
}

// steled counts on a reset to tell it that the guest restarted, and on the end of QEMU that it is
// off.
static void add_lifecycle(Expansion *x) {
  static const struct {
    const char *element, *action;
  } rows[] = {{"on_poweroff", "destroy"}, {"on_reboot", "restart"}, {"on_crash", "destroy"}};
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (find(x->domain, rows[i].element) == NULL) add(x->domain, rows[i].element, rows[i].action, NULL);
}

// Caching for as long as the guest likes is right for what nobody writes to.
static void add_share(Expansion *x, const char *source, const char *tag, gboolean readonly) {
  if (find_device(x, "filesystem", "target", "dir", tag)) return;
  xmlNode *share =
      add(find(x->domain, "devices"), "filesystem", NULL, "type", "mount", "accessmode", "passthrough", NULL);
  add(share, "driver", NULL, "type", "virtiofs", "queue", "1024", NULL);
  xmlNode *binary = add(share, "binary", NULL, "xattr", "on", NULL);
  if (x->host->file_server) xmlNewProp(binary, (const xmlChar *)"path", (const xmlChar *)x->host->file_server);
  if (readonly) add(binary, "cache", NULL, "mode", "always", NULL);
  add(share, "source", NULL, "dir", source, NULL);
  add(share, "target", NULL, "dir", tag, NULL);
  if (readonly && x->host->readonly_element) add(share, "readonly", NULL, NULL);
  place(x, share);
}

// The guest is told which disk is whose by their order (/dev/vda, /dev/vdb), so these come before any other of the
// author's virtio disks.
static xmlNode *add_disk(Expansion *x, const char *file, const char *format, const char *target, gboolean readonly) {
  xmlNode *devices = find(x->domain, "devices"), *disk = xmlNewNode(NULL, (const xmlChar *)"disk");
  xmlNode *after = find_device(x, "disk", "target", "dev", "vda"), *first = xmlFirstElementChild(devices);
  if (after)
    xmlAddNextSibling(after, disk);
  else if (first)
    xmlAddPrevSibling(first, disk);
  else
    xmlAddChild(devices, disk);
  xmlNewProp(disk, (const xmlChar *)"type", (const xmlChar *)"file");
  xmlNewProp(disk, (const xmlChar *)"device", (const xmlChar *)"disk");
  add(disk, "driver", NULL, "name", "qemu", "type", format, "discard", "unmap", NULL);
  add(disk, "source", NULL, "file", file, NULL);
  add(disk, "target", NULL, "dev", target, "bus", "virtio", NULL);
  if (readonly) add(disk, "readonly", NULL, NULL);
  place(x, disk);
  return disk;
}

static const char *changes_target(Expansion *x) {
  return x->config->root_type == ROOT_DISK ? "vdb" : "vda";
}

static void add_changes(Expansion *x) {
  if (x->config->changes && find_device(x, "disk", "target", "dev", changes_target(x)) == NULL)
    add_disk(x, x->config->changes, "raw", changes_target(x), FALSE);
}

static const char *translator_target(Expansion *x) {
  static const char *const targets[] = {"vda", "vdb", "vdc"};
  return targets[(x->config->root_type == ROOT_DISK) + (x->config->changes != NULL)];
}

static void add_translator(Expansion *x) {
  if (x->host->translator_disk == NULL)
    add_share(x, x->host->translator_dir, x->config->translator_tag, TRUE);
  else if (find_device(x, "disk", "target", "dev", translator_target(x)) == NULL)
    add_disk(x, x->host->translator_disk, "raw", translator_target(x), TRUE);
}

static void add_shares(Expansion *x) {
  for (guint i = 0; i < x->config->shares->len; i++) {
    const MachineShare *share = x->config->shares->pdata[i];
    g_autofree char *tag = g_strdup_printf(STELE_TAG_SHARE "%u", i);
    add_share(x, x->host->share_dirs[i], tag, share->readonly);
  }
}

static void add_disk_root(Expansion *x) {
  const MachineConfig *config = x->config;
  add_disk(x, config->root_source, config->disk_format, "vda", config->root_mode != ROOT_RW);
}

static void add_root(Expansion *x) {
  if (x->config->root_type == ROOT_DIR)
    add_share(x, x->host->root_dir, STELE_TAG_ROOT, x->config->root_mode != ROOT_RW);
  else if (find_device(x, "disk", "target", "dev", "vda") == NULL)
    add_disk_root(x);
}

static void add_serial_controller(Expansion *x) {
  xmlNode *devices = find(x->domain, "devices");
  for (xmlNode *node = xmlFirstElementChild(devices); node; node = xmlNextElementSibling(node))
    if (g_str_equal((const char *)node->name, "controller") && attribute_is(node, "type", "virtio-serial")) return;
  place(x, add(devices, "controller", NULL, "type", "virtio-serial", "index", "0", NULL));
}

static void add_channel(Expansion *x, const char *name) {
  if (find_device(x, "channel", "target", "name", name)) return;
  xmlNode *channel = add(find(x->domain, "devices"), "channel", NULL, "type", "unix", NULL);
  add(channel, "target", NULL, "type", "virtio", "name", name, NULL);
}

// libvirt connects to the agent's channel by itself and parses what the guest says on it, in its own
// process: never in steled's. Another process of libvirt's may have it, for virsh's sake.
static void add_channels(Expansion *x) {
  if (!x->host->embedded) add_channel(x, STELE_AGENT_CHANNEL);
  add_channel(x, STELE_STREAM_CHANNEL);
}

static void drop_agent_channel(Expansion *x) {
  xmlNode *channel;
  while (x->host->embedded && (channel = find_device(x, "channel", "target", "name", STELE_AGENT_CHANNEL))) {
    xmlUnlinkNode(channel);
    xmlFreeNode(channel);
  }
}

static void add_console(Expansion *x) {
  xmlNode *devices = find(x->domain, "devices");
  if (find(devices, "console") || find(devices, "serial")) return;
  xmlNode *console = add(devices, "console", NULL, "type", "pty", NULL);
  if (x->host->console_log) add(console, "log", NULL, "file", x->host->console_log, "append", "on", NULL);
  add(console, "target", NULL, "type", "virtio", "port", "0", NULL);
}

// libvirt would add a USB controller; nothing here needs one.
static void add_usb(Expansion *x) {
  xmlNode *devices = find(x->domain, "devices");
  for (xmlNode *node = xmlFirstElementChild(devices); node; node = xmlNextElementSibling(node))
    if (g_str_equal((const char *)node->name, "controller") && attribute_is(node, "type", "usb")) return;
  add(devices, "controller", NULL, "type", "usb", "model", "none", NULL);
}

static void add_small_devices(Expansion *x) {
  xmlNode *devices = find(x->domain, "devices");
  if (find(devices, "rng") == NULL) {
    xmlNode *rng = add(devices, "rng", NULL, "model", "virtio", NULL);
    add(rng, "backend", "/dev/urandom", "model", "random", NULL);
    place(x, rng);
  }
  if (find(devices, "memballoon") == NULL)
    place(x, add(devices, "memballoon", NULL, "model", "virtio", "freePageReporting", "on", NULL));
}

// The address follows from the UUID, so that it stays the same from boot to boot.
static void add_network(Expansion *x) {
  xmlNode *devices = find(x->domain, "devices");
  if (find(devices, "interface")) return;
  guint hash = g_str_hash(x->host->uuid);
  g_autofree char *address = g_strdup_printf("52:54:00:%02x:%02x:%02x", hash >> 16 & 255, hash >> 8 & 255, hash & 255);
  xmlNode *interface = add(devices, "interface", NULL, "type", "user", NULL);
  add(interface, "mac", NULL, "address", address, NULL);
  add(interface, "model", NULL, "type", "virtio", NULL);
  add(interface, "rom", NULL, "enabled", "no",
      NULL); // the option ROM is for firmware we do not have
  place(x, interface);
}

#define QEMU_NAMESPACE "http://libvirt.org/schemas/domain/qemu/1.0"

static xmlNode *find_qemu(xmlNode *parent, const char *name) {
  for (xmlNode *node = xmlFirstElementChild(parent); node; node = xmlNextElementSibling(node))
    if (node->ns && g_str_equal((const char *)node->ns->href, QEMU_NAMESPACE) &&
        g_str_equal((const char *)node->name, name))
      return node;
  return NULL;
}

static xmlNode *add_qemu_command_line(Expansion *x) {
  xmlNs *space = xmlSearchNsByHref(x->domain->doc, x->domain, (const xmlChar *)QEMU_NAMESPACE);
  if (space == NULL || space->prefix == NULL)
    space = xmlNewNs(x->domain, (const xmlChar *)QEMU_NAMESPACE, (const xmlChar *)"qemu");
  return xmlNewChild(x->domain, space, (const xmlChar *)"commandline", NULL);
}

// An LD_PRELOAD of the author's stays, behind ours.
static void add_network_guard(Expansion *x) {
  if (x->host->network_guard == NULL || x->config->host_loopback) return;
  xmlNode *line = find_qemu(x->domain, "commandline");
  if (line == NULL) line = add_qemu_command_line(x);
  for (xmlNode *env = xmlFirstElementChild(line); env; env = xmlNextElementSibling(env)) {
    if (!attribute_is(env, "name", "LD_PRELOAD")) continue;
    xmlChar *old = xmlGetNoNsProp(env, (const xmlChar *)"value");
    g_autofree char *both = g_strdup_printf("%s:%s", x->host->network_guard, old ? (char *)old : "");
    if (old == NULL || strstr((char *)old, x->host->network_guard) == NULL)
      xmlSetProp(env, (const xmlChar *)"value", (const xmlChar *)both);
    xmlFree(old);
    return;
  }
  xmlNode *env = xmlNewChild(line, line->ns, (const xmlChar *)"env", NULL);
  xmlNewProp(env, (const xmlChar *)"name", (const xmlChar *)"LD_PRELOAD");
  xmlNewProp(env, (const xmlChar *)"value", (const xmlChar *)x->host->network_guard);
}

// --- the kernel command line ---------------------------------------------------------------------

static void append_parameter(GString *line, const char *author, const char *name, const char *value) {
  g_auto(GStrv) words = g_strsplit(author, " ", -1);
  size_t length = strlen(name);
  for (char **word = words; *word; word++)
    if (strncmp(*word, name, length) == 0 && ((*word)[length] == '=' || (*word)[length] == 0)) return;
  g_string_append_printf(line, "%s%s", line->len ? " " : "", name);
  if (value) g_string_append_printf(line, "=%s", value);
}

static char *encode_command(const MachineConfig *config) {
  Buffer json = {0};
  json_open(&json, '{');
  json_member_strings(&json, "argv", (const char *const *)config->argv);
  if (config->env && *config->env) json_member_strings(&json, "env", (const char *const *)config->env);
  if (config->cwd) json_member_string(&json, "cwd", config->cwd);
  if (config->user) json_member_string(&json, "user", config->user);
  if (config->stop_signal) json_member_integer(&json, "stop-signal", config->stop_signal);
  json_close(&json, '}');
  if (json.error) g_error("no memory");
  char *encoded = g_base64_encode(json.data, json.size);
  buffer_clear(&json);
  return encoded;
}

static char *root_parameter(Expansion *x) {
  if (x->config->root_type == ROOT_DIR) return g_strdup("virtiofs:" STELE_TAG_ROOT);
  return g_strdup_printf("disk:/dev/vda,%s", x->config->disk_fstype);
}

// See STELE_PARAM_SHARE.
static void append_shares(Expansion *x, GString *line) {
  for (guint i = 0; i < x->config->shares->len; i++) {
    const MachineShare *share = x->config->shares->pdata[i];
    g_string_append_printf(line, " " STELE_PARAM_SHARE "=" STELE_TAG_SHARE "%u:%s:", i, share->readonly ? "ro" : "rw");
    for (const char *c = share->target; *c; c++)
      if ((guchar)*c <= ' ' || strchr("\"'%\\", *c) || *c == 127)
        g_string_append_printf(line, "%%%02X", (guchar)*c);
      else
        g_string_append_c(line, *c);
  }
}

// The author's name for the machine, if a guest can have it as its host name.
static char *hostname_parameter(Expansion *x) {
  if (x->config->hostname) return g_strdup(x->config->hostname);
  g_autofree char *name = domain_document_dup_name(x->domain->doc);
  gboolean usable = strlen(name) <= 63 && g_ascii_isalnum(name[0]);
  for (const char *c = name; *c; c++) usable &= g_ascii_isalnum(*c) || *c == '-';
  return usable ? g_steal_pointer(&name) : NULL;
}

static void append_our_parameters(Expansion *x, GString *line, const char *author) {
  const MachineConfig *config = x->config;
  g_autofree char *root = root_parameter(x), *hostname = hostname_parameter(x);
  g_autofree char *command = config->init == INIT_COMMAND ? encode_command(config) : NULL;
  g_autofree char *translator = x->host->translator_disk ? g_strdup_printf("disk:/dev/%s,erofs", translator_target(x))
                                                         : g_strdup(config->translator_tag);
  g_autofree char *changes = config->changes ? g_strdup_printf("/dev/%s,ext4", changes_target(x)) : NULL;
  g_autofree char *init =
      g_strconcat(init_kind_name(config->init), config->init_path ? ":" : "", config->init_path, NULL);
  const struct {
    gboolean wanted;
    const char *name, *value;
  } rows[] = {
      {TRUE, "console", "hvc0"},
      {TRUE, "quiet", NULL},
      // A panic resets the guest, which steled takes for a failed boot; without it a guest would
      // hang.
      {TRUE, "panic", "-1"},
      // Self-tests of the crypto API and, under emulation, pointer authentication: most of a cold
      // boot.
      {TRUE, "cryptomgr.notests", NULL},
      {x->tcg, "arm64.nopauth", NULL},
      // QEMU translates code anew for every vector length, the kernel's included: with SVE the first
      // program that uses it makes most of the kernel be translated a second time.
      {x->tcg, "arm64.nosve", NULL},
      {TRUE, STELE_PARAM_ROOT, root},
      {TRUE, STELE_PARAM_MODE, root_mode_name(config->root_mode)},
      {changes != NULL, STELE_PARAM_CHANGES, changes},
      {TRUE, STELE_PARAM_INIT, init},
      {hostname != NULL, STELE_PARAM_HOSTNAME, hostname},
      // systemd would put the root's /etc/hostname over the name the agent sets
      // (kernel-command-line(7)).
      {hostname != NULL && config->init == INIT_SYSTEM, "systemd.hostname", hostname},
      {TRUE, STELE_PARAM_TRANSLATOR, translator},
      {TRUE, STELE_PARAM_CPU, config->cpu},
      {config->cpu_vendor != NULL, STELE_PARAM_CPU_VENDOR, config->cpu_vendor},
      {TRUE, STELE_PARAM_MEMORY_MODEL, config->memory_model},
      {command != NULL, STELE_PARAM_COMMAND, command},
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (rows[i].wanted) append_parameter(line, author, rows[i].name, rows[i].value);
}

static gboolean add_command_line(Expansion *x, GError **error) {
  xmlNode *os = find(x->domain, "os"), *cmdline = find(os, "cmdline");
  xmlChar *content = cmdline ? xmlNodeGetContent(cmdline) : NULL;
  g_autofree char *author = g_strstrip(g_strdup(content ? (const char *)content : ""));
  xmlFree(content);
  g_autoptr(GString) line = g_string_new(NULL);
  append_our_parameters(x, line, author);
  append_shares(x, line);
  if (*author) g_string_append_printf(line, "%s%s", line->len ? " " : "", author);
  if (line->len >= STELE_COMMAND_LINE_MAX) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_MACHINE,
                "the kernel command line would be %zu bytes long, more than the %d an ARM64 kernel takes: "
                "shorten <stele:command> or <cmdline>, or put the command into a script in the root",
                line->len, STELE_COMMAND_LINE_MAX - 1);
    return FALSE;
  }
  if (cmdline) {
    xmlUnlinkNode(cmdline);
    xmlFreeNode(cmdline);
  }
  add(os, "cmdline", line->str, NULL);
  return TRUE;
}

// --- the whole -----------------------------------------------------------------------------------

static void (*const steps[])(Expansion *) = {
    add_type, // first: later steps ask whether this is emulation
    add_uuid,
    add_memory,
    add_vcpus,
    add_os,
    add_memory_backing,
    add_cpu,
    add_features,
    add_lifecycle,
    note_used_slots, // before the devices that are placed
    add_root,
    add_changes,
    add_translator,
    add_shares,
    add_usb,
    add_serial_controller,
    add_channels,
    add_console,
    add_small_devices,
    add_network,
    add_network_guard,
};

// The author's indentation would be mixed with ours.
static void drop_blank_text(xmlNode *node) {
  for (xmlNode *child = node->children, *next; child; child = next) {
    next = child->next;
    gboolean between = xmlIsBlankNode(child) && (child->prev || child->next);
    if (child->type == XML_ELEMENT_NODE) drop_blank_text(child);
    if (between) {
      xmlUnlinkNode(child);
      xmlFreeNode(child);
    }
  }
}

// libvirt's own order of a domain's elements. libxml2 refuses some other orders, though the schema
// allows all: elements that the schema groups must stand together. Elements without a row come
// last, as they were.
static const char *const element_order[] = {"name",
                                            "uuid",
                                            "genid",
                                            "title",
                                            "description",
                                            "metadata",
                                            "maxMemory",
                                            "memory",
                                            "currentMemory",
                                            "memoryBacking",
                                            "vcpu",
                                            "vcpus",
                                            "iothreads",
                                            "iothreadids",
                                            "defaultiothread",
                                            "cputune",
                                            "numatune",
                                            "blkiotune",
                                            "memtune",
                                            "resource",
                                            "sysinfo",
                                            "bootloader",
                                            "bootloader_args",
                                            "os",
                                            "features",
                                            "cpu",
                                            "clock",
                                            "on_poweroff",
                                            "on_reboot",
                                            "on_crash",
                                            "on_lockfailure",
                                            "pm",
                                            "perf",
                                            "idmap",
                                            "devices",
                                            "seclabel",
                                            "keywrap",
                                            "launchSecurity"};

static void put_in_order(xmlNode *domain) {
  xmlNode *last = NULL;
  for (size_t i = 0; i < G_N_ELEMENTS(element_order); i++)
    for (xmlNode *node = xmlFirstElementChild(domain), *next; node; node = next) {
      next = xmlNextElementSibling(node);
      if (node->ns || !g_str_equal((const char *)node->name, element_order[i])) continue;
      xmlNode *before = last ? last->next : domain->children;
      if (before == node) {
        last = node;
        continue;
      }
      xmlUnlinkNode(node);
      last = xmlAddPrevSibling(before, node);
    }
}

gboolean domain_xml_expand(xmlDoc *document, const MachineConfig *config, const DomainHost *host, GError **error) {
  Expansion x = {.domain = xmlDocGetRootElement(document), .config = config, .host = host};
  drop_blank_text(x.domain);
  if (find(x.domain, "devices")) drop_agent_channel(&x);
  if (config == NULL) {
    add_uuid(&x);
    put_in_order(x.domain);
    return TRUE;
  }
  ensure(x.domain, "devices");
  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) steps[i](&x);
  if (!add_command_line(&x, error)) return FALSE;
  put_in_order(x.domain);
  return TRUE;
}

char *domain_xml_to_string(xmlDoc *document) {
  xmlChar *text = NULL;
  int size = 0;
  xmlDocDumpFormatMemoryEnc(document, &text, &size, "UTF-8", 1);
  char *copy = g_strndup((const char *)text, (gsize)size);
  xmlFree(text);
  return copy;
}
