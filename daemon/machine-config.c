// From the author's domain XML to MachineConfig. The schema (machine.rng) decides what is right;
// libxml2's own words about what is wrong are unfit for people, so `expectations` says it by
// element. Everything the schema cannot say (init and command belong together, modes a file system
// cannot have) is checked here after it. See machine-config.h.
#include "machine-config.h"

#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <string.h>
#include "errors.h"
#include "guest-protocol.h"
#include "text.h"

#define DOMAIN_XML_MAX (1024 * 1024)
#define NAME_MAX_BYTES 128
// libvirt names the directory of a domain's sockets with the first 20 characters of its name
// (virDomainDefGetShortName()), and the path of a socket has 107 bytes (unix(7)).
#define NAME_BEGINNING_CHARACTERS 20
#define NAME_BEGINNING_MAX_BYTES  30

static const char *const root_types[] = {[ROOT_DIR] = "dir", [ROOT_DISK] = "disk"};
static const char *const root_modes[] = {[ROOT_OVERLAY] = "overlay", [ROOT_RW] = "rw", [ROOT_RO] = "ro"};
static const char *const remove_words[] = {
    [REMOVE_NEVER] = "", [REMOVE_CLOSED] = "closed", [REMOVE_STOPPED] = "stopped"};
static const char *const init_kinds[] = {[INIT_SYSTEM] = "system", [INIT_COMMAND] = "command", [INIT_NONE] = "none"};

const char *root_type_name(RootType type) {
  return root_types[type];
}
const char *root_mode_name(RootMode mode) {
  return root_modes[mode];
}
const char *init_kind_name(InitKind init) {
  return init_kinds[init];
}

// What each element of the schema may be, for error messages; the first row is for the rest.
static const struct Expectation {
  const char *element, *expected;
} expectations[] = {
    {"machine", "<stele:machine> holds one <stele:rootfs type=… source=…/> and at most one each of "
                "<stele:translator/>, <stele:init>, <stele:command>, <stele:hostname> and <stele:network/>, any number "
                "of <stele:share/>, and may have remove='closed' or 'stopped' and autostart='yes' or 'no'"},
    {"rootfs", "<stele:rootfs> has type='dir' or 'disk', source='/absolute/path', and may have "
               "arch='x86_64', mode='overlay', 'rw' or 'ro', changes='/absolute/path' with overlay, image='NAME', and "
               "for a disk format='raw' or 'qcow2' and "
               "fstype='ext4' or 'erofs'"},
    {"translator",
     "<stele:translator> may have source='/absolute/directory', tag='letters, digits, . _ -' (a "
     "letter or digit first, at most 35), cpu='x86-64', "
     "'x86-64-v2', 'x86-64-v3' or 'x86-64-v4', cpu-vendor='GenuineIntel', 'AuthenticAMD' or 'VirtualStele', "
     "memory-model='auto', 'tso' or 'relaxed', and ahead='off', 'loaded' or 'all'"},
    {"init", "<stele:init> holds the word system, command or none, and with system may have "
             "path='/absolute/path'"},
    {"command", "<stele:command> holds one or more <stele:arg> and any number of "
                "<stele:env name='NAME'>value</stele:env> (a NAME of letters, digits and '_'), and may have "
                "cwd='/absolute/path', user='NAME' or 'NAME:GROUP' and stop-signal='1' to '64'"},
    {"network", "<stele:network> may have host-loopback='off' or 'on' and any number of <stele:port host='PORT' or "
                "'ADDRESS:PORT' guest='PORT'/>, which may have protocol='tcp' or 'udp'"},
    {"share", "<stele:share> has source='/absolute/directory', target='/absolute/path' and may have mode='rw' or 'ro'"},
    {"hostname", "<stele:hostname> holds up to 63 letters, digits and '-'"},
};

void machine_config_free(MachineConfig *config) {
  if (config == NULL) return;
  g_free(config->root_source);
  g_free(config->disk_format);
  g_free(config->disk_fstype);
  g_free(config->translator_source);
  g_free(config->translator_tag);
  g_free(config->cpu);
  g_free(config->cpu_vendor);
  g_free(config->memory_model);
  g_free(config->ahead);
  g_free(config->init_path);
  g_strfreev(config->argv);
  g_strfreev(config->env);
  g_free(config->cwd);
  g_free(config->user);
  g_free(config->hostname);
  g_free(config->changes);
  g_free(config->image);
  if (config->shares) g_ptr_array_unref(config->shares);
  if (config->ports) g_ptr_array_unref(config->ports);
  g_free(config);
}

static void share_free(gpointer data) {
  MachineShare *share = data;
  g_free(share->source);
  g_free(share->target);
  g_free(share);
}

static void port_free(gpointer data) {
  MachinePort *port = data;
  g_free(port->protocol);
  g_free(port->address);
  g_free(port);
}

// --- the domain document -------------------------------------------------------------------------

static void keep_first_error(void *user_data, xmlError *problem) {
  xmlError *first = user_data;
  if (first->code == XML_ERR_OK) xmlCopyError(problem, first);
}

static xmlNode *child_element(xmlNode *parent, const char *namespace, const char *name) {
  for (xmlNode *node = xmlFirstElementChild(parent); node; node = xmlNextElementSibling(node)) {
    const char *href = node->ns ? (const char *)node->ns->href : NULL;
    if (g_strcmp0(href, namespace) == 0 && g_str_equal((const char *)node->name, name)) return node;
  }
  return NULL;
}

static char *dup_text(xmlNode *node) {
  xmlChar *content = xmlNodeGetContent(node);
  char *text = g_strdup((const char *)content);
  xmlFree(content);
  return text;
}

static char *dup_attribute(xmlNode *node, const char *name, const char *fallback) {
  xmlChar *value = xmlGetNoNsProp(node, (const xmlChar *)name);
  char *copy = g_strdup(value ? (const char *)value : fallback);
  xmlFree(value);
  return copy;
}

char *domain_document_dup_name(xmlDoc *document) {
  xmlNode *name = child_element(xmlDocGetRootElement(document), NULL, "name");
  return name ? dup_text(name) : NULL;
}

static gboolean begins_short(const char *name) {
  gsize bytes = 0;
  for (int i = 0; i < NAME_BEGINNING_CHARACTERS && name[bytes]; i++)
    bytes += (gsize)(g_utf8_next_char(name + bytes) - (name + bytes));
  return bytes <= NAME_BEGINNING_MAX_BYTES;
}

// A name is also a file name of the store and of libvirt.
const char *machine_name_trouble(const char *name) {
  if (name == NULL || *name == 0) return "has no <name>";
  if (strlen(name) > NAME_MAX_BYTES) return "has a <name> longer than 128 bytes";
  if (name[0] == '.' || name[0] == '-' || strpbrk(name, "/\n\t\\ \"'<>"))
    return "has a <name> that starts with '.' or '-', or holds '/', a backslash, quotes or white space";
  if (!text_all_plain(name)) return "has a <name> with characters that steer a terminal or the direction of writing";
  if (!begins_short(name)) return "has a <name> whose first 20 characters take more than 30 bytes";
  return NULL;
}

static gboolean check_name(xmlDoc *document, GError **error) {
  g_autofree char *name = domain_document_dup_name(document);
  const char *trouble = machine_name_trouble(name);
  if (trouble == NULL) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML, "the domain %s: give it a plain name", trouble);
  return FALSE;
}

char *domain_text_declare_utf8(const char *xml) {
  g_autoptr(GRegex) pattern = g_regex_new("^(<\\?xml[^>]*encoding\\s*=\\s*[\"'])[A-Za-z0-9._-]+", 0, 0, NULL);
  return g_regex_replace(pattern, xml, -1, 0, "\\1UTF-8", 0, NULL);
}

xmlDoc *domain_document_parse(const char *xml, GError **error) {
  size_t size = strlen(xml);
  if (size > DOMAIN_XML_MAX) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML, "the domain XML is larger than 1 MiB");
    return NULL;
  }
  xmlParserCtxt *parser = xmlNewParserCtxt();
  g_autoptr(xmlDoc) document = xmlCtxtReadMemory(parser, xml, (int)size, NULL, "UTF-8", // whatever it declares
                                                 XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
  if (document == NULL) {
    const xmlError *problem = xmlCtxtGetLastError(parser);
    g_autofree char *message = g_strdup(problem && problem->message ? problem->message : "no content");
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML, "line %d: not well-formed XML: %s",
                problem ? problem->line : 1, g_strstrip(message));
  }
  xmlFreeParserCtxt(parser);
  if (document == NULL) return NULL;
  xmlNode *root = xmlDocGetRootElement(document);
  if (document->intSubset) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML,
                "line 1: a document type is not accepted: remove <!DOCTYPE …>");
    return NULL;
  }
  if (!g_str_equal((const char *)root->name, "domain")) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_XML,
                "line %ld: expected a libvirt <domain> element, found <%s>", xmlGetLineNo(root), root->name);
    return NULL;
  }
  return check_name(document, error) ? g_steal_pointer(&document) : NULL;
}

// --- the schema ----------------------------------------------------------------------------------

// The elements directly inside <machine>, each a definition of the same name in machine.rng.
static const char *const parts[] = {"rootfs", "translator", "init", "command", "hostname", "network", "share"};

// The schema with another start, so that a part can be judged by itself: for the whole, libxml2
// says only that it does not fit.
static xmlRelaxNG *load_schema(const char *start) {
  g_autoptr(GBytes) bytes = g_resources_lookup_data("/org/stele/machine.rng", G_RESOURCE_LOOKUP_FLAGS_NONE, NULL);
  g_assert(bytes);
  g_autoptr(GString) text = g_string_new_len(g_bytes_get_data(bytes, NULL), (gssize)g_bytes_get_size(bytes));
  g_autofree char *reference = g_strdup_printf("<ref name=\"%s\"/></start>", start);
  guint replaced = g_string_replace(text, "<ref name=\"machine\"/></start>", reference, 1);
  xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewMemParserCtxt(text->str, (int)text->len);
  xmlRelaxNG *schema = xmlRelaxNGParse(parser);
  xmlRelaxNGFreeParserCtxt(parser);
  g_assert(replaced == 1 && schema);
  return schema;
}

static const char *expected_of(const char *element) {
  for (size_t i = 0; i < G_N_ELEMENTS(expectations); i++)
    if (g_strcmp0(expectations[i].element, element) == 0) return expectations[i].expected;
  return expectations[0].expected;
}

static gboolean refuse(xmlNode *node, const char *trouble, GError **error) {
  g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_MACHINE, "line %ld: %s; expected: %s", xmlGetLineNo(node),
              trouble, expected_of((const char *)node->name));
  return FALSE;
}

static gboolean validate_element(xmlNode *element, GError **error) {
  xmlRelaxNG *schema = load_schema((const char *)element->name);
  xmlRelaxNGValidCtxt *validator = xmlRelaxNGNewValidCtxt(schema);
  xmlError first = {0};
  xmlRelaxNGSetValidStructuredErrors(validator, (xmlStructuredErrorFunc)keep_first_error, &first);
  xmlDoc *alone = xmlNewDoc((const xmlChar *)"1.0"); // the validator takes whole documents
  xmlDocSetRootElement(alone, xmlDocCopyNode(element, alone, 1));
  gboolean valid = xmlRelaxNGValidateDoc(validator, alone) == 0;
  if (!valid) {
    g_autofree char *trouble = g_strdup(first.message ? first.message : "does not fit its schema");
    g_strdelimit(g_strstrip(trouble), "\n", ' ');
    g_autofree char *message = g_strdup_printf("<%s>: %s", element->name, trouble);
    refuse(element, message, error);
  }
  xmlResetError(&first);
  xmlFreeDoc(alone);
  xmlRelaxNGFreeValidCtxt(validator);
  xmlRelaxNGFree(schema);
  return valid;
}

static gboolean is_part(xmlNode *node) {
  if (node->ns == NULL || !g_str_equal((const char *)node->ns->href, STELE_MACHINE_NAMESPACE)) return FALSE;
  for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
    if (g_str_equal((const char *)node->name, parts[i])) return TRUE;
  return FALSE;
}

// Part by part, so that the message names the right line, and then the whole: what is missing or
// there twice.
static gboolean validate(xmlNode *machine, GError **error) {
  for (xmlNode *child = xmlFirstElementChild(machine); child; child = xmlNextElementSibling(child)) {
    if (is_part(child)) {
      if (!validate_element(child, error)) return FALSE;
      continue;
    }
    g_autofree char *message = g_strdup_printf("<%s> is no element of <stele:machine>", child->name);
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_MACHINE, "line %ld: %s; expected: %s", xmlGetLineNo(child),
                message, expected_of("machine"));
    return FALSE;
  }
  return validate_element(machine, error);
}

// --- reading -------------------------------------------------------------------------------------

static int index_of(const char *const *words, size_t count, const char *word, int fallback) {
  for (size_t i = 0; word && i < count; i++)
    if (g_str_equal(words[i], word)) return (int)i;
  return fallback;
}

static gboolean read_rootfs(xmlNode *machine, MachineConfig *config, GError **error) {
  xmlNode *rootfs = child_element(machine, STELE_MACHINE_NAMESPACE, "rootfs");
  g_autofree char *type = dup_attribute(rootfs, "type", NULL);
  g_autofree char *mode = dup_attribute(rootfs, "mode", NULL);
  config->root_type = index_of(root_types, G_N_ELEMENTS(root_types), type, ROOT_DIR);
  gboolean disk = config->root_type == ROOT_DISK;
  config->root_source = dup_attribute(rootfs, "source", NULL);
  if (disk) config->disk_format = dup_attribute(rootfs, "format", "raw");
  if (disk) config->disk_fstype = dup_attribute(rootfs, "fstype", "ext4");
  gboolean erofs = g_strcmp0(config->disk_fstype, "erofs") == 0;
  RootMode fallback = disk && !erofs ? ROOT_RW : ROOT_OVERLAY;
  config->root_mode = index_of(root_modes, G_N_ELEMENTS(root_modes), mode, fallback);
  if (erofs && config->root_mode == ROOT_RW)
    return refuse(rootfs, "an erofs image cannot be written: mode must be overlay or ro", error);
  config->changes = dup_attribute(rootfs, "changes", NULL);
  config->image = dup_attribute(rootfs, "image", NULL);
  if (config->changes && (mode == NULL || config->root_mode != ROOT_OVERLAY))
    return refuse(rootfs, "changes are an overlay's: mode must be overlay", error);
  return TRUE;
}

// A tag is also a directory name under shares/, beside the root's.
static gboolean read_translator(xmlNode *machine, MachineConfig *config, GError **error) {
  xmlNode *translator = child_element(machine, STELE_MACHINE_NAMESPACE, "translator");
  config->translator_source = translator ? dup_attribute(translator, "source", NULL) : NULL;
  config->translator_tag = translator ? dup_attribute(translator, "tag", "stele") : g_strdup("stele");
  config->cpu = translator ? dup_attribute(translator, "cpu", "x86-64-v3") : g_strdup("x86-64-v3");
  config->cpu_vendor = translator ? dup_attribute(translator, "cpu-vendor", NULL) : NULL;
  config->memory_model = translator ? dup_attribute(translator, "memory-model", "auto") : g_strdup("auto");
  config->ahead = translator ? dup_attribute(translator, "ahead", "off") : g_strdup("off");
  if (g_str_equal(config->translator_tag, STELE_TAG_ROOT))
    return refuse(translator, "the tag " STELE_TAG_ROOT " is the root's", error);
  if (g_str_has_prefix(config->translator_tag, STELE_TAG_SHARE))
    return refuse(translator, "tags that begin with " STELE_TAG_SHARE " are those of shares", error);
  if (g_str_equal(config->ahead, "off")) return TRUE;
  if (config->root_type != ROOT_DIR)
    return refuse(translator, "only a root of type dir can be translated ahead: steled does not look into disks",
                  error);
  if (!g_str_equal(config->cpu, "x86-64-v3"))
    return refuse(translator, "translations made ahead are for cpu='x86-64-v3'", error);
  return TRUE;
}

static void read_shares(xmlNode *machine, MachineConfig *config) {
  config->shares = g_ptr_array_new_with_free_func(share_free);
  for (xmlNode *node = xmlFirstElementChild(machine); node; node = xmlNextElementSibling(node)) {
    if (!g_str_equal((const char *)node->name, "share")) continue;
    MachineShare *share = g_new0(MachineShare, 1);
    g_autofree char *mode = dup_attribute(node, "mode", "rw");
    *share = (MachineShare){.source = dup_attribute(node, "source", NULL),
                            .target = dup_attribute(node, "target", NULL),
                            .readonly = g_str_equal(mode, "ro")};
    g_ptr_array_add(config->shares, share);
  }
}

static gboolean read_port_number(xmlNode *node, const char *text, guint *ret_port, GError **error) {
  *ret_port = (guint)g_ascii_strtoull(text, NULL, 10);
  if (*ret_port >= 1 && *ret_port <= 65535) return TRUE;
  refuse(node->parent, "a port is a number from 1 to 65535", error);
  return FALSE;
}

static gboolean read_port(xmlNode *node, MachineConfig *config, GError **error) {
  g_autofree char *host = dup_attribute(node, "host", ""), *guest = dup_attribute(node, "guest", "");
  char *colon = strchr(host, ':');
  if (colon) *colon = 0;
  MachinePort *port = g_new0(MachinePort, 1);
  *port = (MachinePort){.protocol = dup_attribute(node, "protocol", "tcp"),
                        .address = g_strdup(colon ? host : "127.0.0.1")};
  g_ptr_array_add(config->ports, port);
  g_autoptr(GInetAddress) address = g_inet_address_new_from_string(port->address);
  if (address == NULL) return refuse(node->parent, "the address of a port is none", error);
  return read_port_number(node, colon ? colon + 1 : host, &port->host, error) &&
         read_port_number(node, guest, &port->guest, error);
}

static gboolean read_network(xmlNode *machine, MachineConfig *config, GError **error) {
  xmlNode *network = child_element(machine, STELE_MACHINE_NAMESPACE, "network");
  g_autofree char *loopback = network ? dup_attribute(network, "host-loopback", "off") : NULL;
  config->host_loopback = g_strcmp0(loopback, "on") == 0;
  config->ports = g_ptr_array_new_with_free_func(port_free);
  for (xmlNode *node = network ? xmlFirstElementChild(network) : NULL; node; node = xmlNextElementSibling(node))
    if (!read_port(node, config, error)) return FALSE;
  return TRUE;
}

static void read_command(xmlNode *command, MachineConfig *config) {
  g_autoptr(GPtrArray) argv = g_ptr_array_new(), env = g_ptr_array_new();
  for (xmlNode *node = xmlFirstElementChild(command); node; node = xmlNextElementSibling(node)) {
    g_autofree char *text = dup_text(node);
    if (g_str_equal((const char *)node->name, "arg")) {
      g_ptr_array_add(argv, g_steal_pointer(&text));
    } else {
      g_autofree char *name = dup_attribute(node, "name", "");
      g_ptr_array_add(env, g_strdup_printf("%s=%s", name, text));
    }
  }
  g_ptr_array_add(argv, NULL);
  g_ptr_array_add(env, NULL);
  config->argv = (char **)g_ptr_array_steal(argv, NULL);
  config->env = (char **)g_ptr_array_steal(env, NULL);
  config->cwd = dup_attribute(command, "cwd", NULL);
  config->user = dup_attribute(command, "user", NULL);
  g_autofree char *signal = dup_attribute(command, "stop-signal", "0");
  config->stop_signal = (guint)g_ascii_strtoull(signal, NULL, 10);
}

static gboolean read_init(xmlNode *machine, MachineConfig *config, GError **error) {
  xmlNode *init = child_element(machine, STELE_MACHINE_NAMESPACE, "init");
  xmlNode *command = child_element(machine, STELE_MACHINE_NAMESPACE, "command");
  g_autofree char *kind = init ? dup_text(init) : NULL;
  if (kind) g_strstrip(kind);
  config->init = index_of(init_kinds, G_N_ELEMENTS(init_kinds), kind, command ? INIT_COMMAND : INIT_SYSTEM);
  if (init) config->init_path = dup_attribute(init, "path", NULL);
  if (config->init == INIT_COMMAND && command == NULL)
    return refuse(init, "init is command but there is no <stele:command>", error);
  if (config->init != INIT_COMMAND && command)
    return refuse(command, "there is a <stele:command> but init is not command", error);
  if (command) read_command(command, config);
  if (command && *config->argv[0] == 0) return refuse(command, "the first <stele:arg> is empty", error);
  return TRUE;
}

// Our element under any other name, version or place would be ignored in silence and the machine
// would boot as something the author did not ask for: all of these are errors.
static gboolean find_machine(xmlNode *node, xmlNode **ret_machine, GError **error) {
  for (xmlNode *child = xmlFirstElementChild(node); child; child = xmlNextElementSibling(child)) {
    const char *href = child->ns ? (const char *)child->ns->href : "";
    const char *parent = (const char *)node->name, *trouble = NULL;
    if (!g_str_has_prefix(href, "urn:stele:")) {
      if (!find_machine(child, ret_machine, error)) return FALSE;
      continue;
    }
    if (!g_str_equal(href, STELE_MACHINE_NAMESPACE))
      trouble = "its namespace is not urn:stele:machine:1";
    else if (!g_str_equal((const char *)child->name, "machine"))
      trouble = "it is outside <stele:machine>";
    else if (!g_str_equal(parent, "metadata") || node->parent == NULL || node->parent->parent == NULL ||
             node->parent->parent->type != XML_DOCUMENT_NODE)
      trouble = "it is not directly inside the domain's <metadata>";
    else if (*ret_machine)
      trouble = "it is the second one";
    if (trouble) {
      g_autofree char *message = g_strdup_printf("<%s>: %s", child->name, trouble);
      return refuse(child, message, error);
    }
    *ret_machine = child;
  }
  return TRUE;
}

gboolean machine_share_parse(const char *text, MachineShare *ret_share, GError **error) {
  g_auto(GStrv) parts = g_strsplit(text, ":", 3);
  guint count = g_strv_length(parts);
  const char *mode = count == 3 ? parts[2] : "rw";
  if (count < 2 || *parts[0] != '/' || *parts[1] != '/' || !(g_str_equal(mode, "ro") || g_str_equal(mode, "rw"))) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
                "a share is /HOST/DIRECTORY:/GUEST/PATH or that with :ro, not '%s'", text);
    return FALSE;
  }
  *ret_share =
      (MachineShare){.source = g_strdup(parts[0]), .target = g_strdup(parts[1]), .readonly = g_str_equal(mode, "ro")};
  return TRUE;
}

gboolean machine_port_parse(const char *text, MachinePort *ret_port, GError **error) {
  g_autoptr(GRegex) pattern = g_regex_new("^(?:([0-9.]+):)?([0-9]{1,5}):([0-9]{1,5})(?:/(tcp|udp))?$", 0, 0, NULL);
  g_autoptr(GMatchInfo) match = NULL;
  gboolean good = g_regex_match(pattern, text, 0, &match);
  g_autofree char *address = good ? g_match_info_fetch(match, 1) : NULL,
                  *host = good ? g_match_info_fetch(match, 2) : NULL,
                  *guest = good ? g_match_info_fetch(match, 3) : NULL,
                  *protocol = good ? g_match_info_fetch(match, 4) : NULL;
  g_autoptr(GInetAddress) parsed = address && *address ? g_inet_address_new_from_string(address) : NULL;
  guint64 from = good ? g_ascii_strtoull(host, NULL, 10) : 0, to = good ? g_ascii_strtoull(guest, NULL, 10) : 0;
  if (from < 1 || from > 65535 || to < 1 || to > 65535 || (*address && parsed == NULL)) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
                "a port is HOST:GUEST or ADDRESS:HOST:GUEST, numbers from 1 to 65535, perhaps with /udp, not '%s'",
                text);
    return FALSE;
  }
  *ret_port = (MachinePort){.protocol = g_strdup(protocol && *protocol ? protocol : "tcp"),
                            .address = g_strdup(*address ? address : "127.0.0.1"),
                            .host = (guint)from,
                            .guest = (guint)to};
  return TRUE;
}

gboolean machine_config_parse(xmlDoc *document, MachineConfig **ret_config, GError **error) {
  *ret_config = NULL;
  xmlNode *machine = NULL;
  if (!find_machine(xmlDocGetRootElement(document), &machine, error)) return FALSE;
  if (machine == NULL) return TRUE;
  if (!validate(machine, error)) return FALSE;
  g_autoptr(MachineConfig) config = g_new0(MachineConfig, 1);
  if (!read_rootfs(machine, config, error)) return FALSE;
  if (!read_translator(machine, config, error)) return FALSE;
  if (!read_init(machine, config, error)) return FALSE;
  xmlNode *hostname = child_element(machine, STELE_MACHINE_NAMESPACE, "hostname");
  if (hostname) config->hostname = g_strstrip(dup_text(hostname));
  if (!read_network(machine, config, error)) return FALSE;
  read_shares(machine, config);
  g_autofree char *remove = dup_attribute(machine, "remove", NULL),
                  *autostart = dup_attribute(machine, "autostart", "no");
  config->autostart = g_str_equal(autostart, "yes");
  config->remove = index_of(remove_words, G_N_ELEMENTS(remove_words), remove, REMOVE_NEVER);
  *ret_config = g_steal_pointer(&config);
  return TRUE;
}
