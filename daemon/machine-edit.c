// See machine-edit.h.
#include "machine-edit.h"

#include <string.h>
#include "domain-xml.h"
#include "errors.h"
#include "machine-config.h"

static xmlNode *find(xmlNode *parent, const char *name) {
  xmlNode *node = parent ? xmlFirstElementChild(parent) : NULL;
  while (node && !g_str_equal((const char *)node->name, name)) node = xmlNextElementSibling(node);
  return node;
}

static xmlNode *ensure(xmlNode *parent, xmlNs *space, const char *name) {
  xmlNode *node = find(parent, name);
  if (node == NULL) node = xmlNewChild(parent, NULL, (const xmlChar *)name, NULL);
  node->ns = space;
  return node;
}

static void set(xmlNode *node, const char *name, const char *value) {
  xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
}

static gboolean attribute_is(xmlNode *node, const char *name, const char *value) {
  xmlChar *found = xmlGetNoNsProp(node, (const xmlChar *)name);
  gboolean same = g_strcmp0((const char *)found, value) == 0;
  xmlFree(found);
  return same;
}

static void drop(xmlNode *node) {
  xmlUnlinkNode(node);
  xmlFreeNode(node);
}

// --- each kind of change --------------------------------------------------------------------------

// currentMemory, where there is one, must not stay above.
static void change_memory(xmlNode *domain, guint64 bytes) {
  g_autofree char *amount = g_strdup_printf("%" G_GUINT64_FORMAT, bytes / 1024);
  xmlNode *memory = ensure(domain, NULL, "memory"), *current = find(domain, "currentMemory");
  xmlNodeSetContent(memory, (const xmlChar *)amount);
  set(memory, "unit", "KiB");
  if (current) drop(current);
}

static void change_text(xmlNode *domain, const char *element, const char *text) {
  xmlNode *node = ensure(domain, NULL, element);
  xmlNodeSetContent(node, NULL);
  xmlNodeAddContent(node, (const xmlChar *)text); // which escapes it
}

static void change_cpus(xmlNode *domain, guint cpus) {
  g_autofree char *count = g_strdup_printf("%u", cpus);
  xmlNode *vcpu = ensure(domain, NULL, "vcpu");
  xmlNodeSetContent(vcpu, (const xmlChar *)count);
  xmlUnsetProp(vcpu, (const xmlChar *)"current");
}

// Removes the children of that name whose attribute has the value.
static gboolean remove_where(xmlNode *parent, const char *name, const char *attribute, const char *value) {
  gboolean found = FALSE;
  for (xmlNode *node = parent ? xmlFirstElementChild(parent) : NULL, *next; node; node = next) {
    next = xmlNextElementSibling(node);
    if (!g_str_equal((const char *)node->name, name) || !attribute_is(node, attribute, value)) continue;
    drop(node);
    found = TRUE;
  }
  return found;
}

static gboolean add_share(xmlNode *machine, const char *text, GError **error) {
  MachineShare share = {NULL};
  if (!machine_share_parse(text, &share, error)) return FALSE;
  remove_where(machine, "share", "target", share.target);
  xmlNode *node = xmlNewChild(machine, machine->ns, (const xmlChar *)"share", NULL);
  set(node, "source", share.source);
  set(node, "target", share.target);
  set(node, "mode", share.readonly ? "ro" : "rw");
  g_free(share.source);
  g_free(share.target);
  return TRUE;
}

static gboolean remove_share(xmlNode *machine, const char *target, GError **error) {
  if (remove_where(machine, "share", "target", target)) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT, "it has no share at '%s'", target);
  return FALSE;
}

static gboolean add_port(xmlNode *machine, const char *text, GError **error) {
  MachinePort port = {NULL};
  if (!machine_port_parse(text, &port, error)) return FALSE;
  xmlNode *node = xmlNewChild(ensure(machine, machine->ns, "network"), machine->ns, (const xmlChar *)"port", NULL);
  g_autofree char *host = g_strdup_printf("%s:%u", port.address, port.host), *guest = g_strdup_printf("%u", port.guest);
  set(node, "host", host);
  set(node, "guest", guest);
  set(node, "protocol", port.protocol);
  g_free(port.address);
  g_free(port.protocol);
  return TRUE;
}

static gboolean remove_port(xmlNode *machine, const char *host, GError **error) {
  g_autofree char *local = g_strconcat("127.0.0.1:", host, NULL);
  xmlNode *network = find(machine, "network");
  if (remove_where(network, "port", "host", strchr(host, ':') ? host : local) ||
      remove_where(network, "port", "host", host))
    return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT, "it has no port '%s' of the host", host);
  return FALSE;
}

// --- the whole ------------------------------------------------------------------------------------

static gboolean change_each(xmlNode *machine, const MachineChanges *changes, GError **error) {
  const struct {
    const char *const *texts;
    gboolean (*change)(xmlNode *machine, const char *text, GError **error);
  } rows[] = {{changes->remove_shares, remove_share},
              {changes->add_shares, add_share},
              {changes->remove_ports, remove_port},
              {changes->add_ports, add_port}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
    for (const char *const *text = rows[i].texts; text && *text; text++) {
      if (machine == NULL) {
        g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
                    "shares and ports are for machines with <stele:machine>");
        return FALSE;
      }
      if (!rows[i].change(machine, *text, error)) return FALSE;
    }
  return TRUE;
}

char *machine_edit(const char *xml, const MachineChanges *changes, GError **error) {
  g_autoptr(xmlDoc) document = domain_document_parse(xml, error);
  if (document == NULL) return NULL;
  xmlNode *domain = xmlDocGetRootElement(document), *machine = find(find(domain, "metadata"), "machine");
  if (changes->name) change_text(domain, "name", changes->name);
  if (changes->uuid) change_text(domain, "uuid", changes->uuid);
  if (changes->memory) change_memory(domain, changes->memory);
  if (changes->cpus) change_cpus(domain, changes->cpus);
  if (changes->autostart && machine) set(machine, "autostart", changes->autostart);
  return change_each(machine, changes, error) ? domain_xml_to_string(document) : NULL;
}
