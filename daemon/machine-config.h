// The <stele:machine> element: validation against xml-schemas/machine.rng and reading into a
// struct. Pure: no file system, no libvirt. Also the place where an author's domain XML is first
// parsed, so that messages carry the line of the author's text.
#pragma once

#include <gio/gio.h>
#include <libxml/tree.h>

#define STELE_MACHINE_NAMESPACE "urn:stele:machine:1"

typedef enum RootType { ROOT_DIR, ROOT_DISK } RootType;
typedef enum RootMode { ROOT_OVERLAY, ROOT_RW, ROOT_RO } RootMode;
typedef enum InitKind { INIT_SYSTEM, INIT_COMMAND, INIT_NONE } InitKind;
// When a machine goes by itself: never, when the connection that made it is closed, or when it has stopped.
typedef enum RemoveWhen { REMOVE_NEVER, REMOVE_CLOSED, REMOVE_STOPPED } RemoveWhen;

typedef struct MachineShare {
  char *source, *target; // of the host, in the guest
  gboolean readonly;
} MachineShare;

typedef struct MachinePort {
  char *protocol, *address; // tcp or udp; of the host
  guint host, guest;
} MachinePort;

// What the machine element says, defaults filled in.
typedef struct MachineConfig {
  RootType root_type;
  RootMode root_mode;
  char *root_source; // absolute path on the host
  char *disk_format; // raw or qcow2; disk roots only
  char *disk_fstype; // ext4 or erofs; disk roots only
  char *changes;     // an ext4 image for the overlay's changes, or NULL
  char *image;       // what the root is of, or NULL
  RemoveWhen remove;
  gboolean autostart; // with the first steled after the host was booted

  char *translator_source; // host directory, or NULL for the installed one
  char *translator_tag;
  char *cpu;
  char *cpu_vendor; // NULL: the translator's default
  char *memory_model;
  char *ahead; // what is translated before the first boot: off, loaded, all

  InitKind init;
  char *init_path;   // NULL: /sbin/init
  char **argv;       // init = command only
  char **env;        // K=V
  char *cwd, *user;  // or NULL
  guint stop_signal; // 0: the agent's default
  char *hostname;    // or NULL

  gboolean host_loopback; // the guest may reach the host's 127.0.0.1
  GPtrArray *shares;      // of MachineShare
  GPtrArray *ports;       // of MachinePort
} MachineConfig;

void machine_config_free(MachineConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineConfig, machine_config_free)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

// The words of the schema, for the XML and the kernel command line.
const char *root_type_name(RootType type);
const char *root_mode_name(RootMode mode);
const char *init_kind_name(InitKind init);

// Parses a domain XML. No network, no entities, at most 1 MiB. STELE_ERROR_INVALID_XML with the
// line, also when the document is no libvirt domain or its name cannot be a machine's.
xmlDoc *domain_document_parse(const char *xml, GError **error);

// A copy of XML text that declares the encoding it is in, UTF-8: a D-Bus string is, whatever the text was in before.
char *domain_text_declare_utf8(const char *xml);

// What keeps a text, or NULL, from being a machine's name, as the end of a sentence about the domain; NULL: nothing.
const char *machine_name_trouble(const char *name);

// The domain's name; valid as long as the document.
char *domain_document_dup_name(xmlDoc *document);

// Reads /HOST/DIRECTORY:/GUEST/PATH[:ro|:rw] as people write it; STELE_ERROR_INVALID_ARGUMENT. What is stored is the
// caller's.
gboolean machine_share_parse(const char *text, MachineShare *ret_share, GError **error);
// Reads [ADDRESS:]HOST:GUEST[/udp] as people write it; STELE_ERROR_INVALID_ARGUMENT. What is stored is the caller's.
gboolean machine_port_parse(const char *text, MachinePort *ret_port, GError **error);

// Reads the machine element. Returns TRUE with *ret_config NULL when the document has none.
// STELE_ERROR_INVALID_MACHINE with the line and what was expected.
gboolean machine_config_parse(xmlDoc *document, MachineConfig **ret_config, GError **error);
