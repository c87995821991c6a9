// From the author's domain XML to the full XML libvirt is given: adds what a machine needs and the
// author left out. A pure function: the same input gives the same bytes, and it looks at nothing
// else, so that golden files under tests/host/golden/ say all there is to say. What the author
// wrote wins.
#pragma once

#include "machine-config.h"

// What the expansion has to know about the host, found out by host.c or given by a test.
typedef struct DomainHost {
  gboolean kvm;                  // KVM for AArch64 guests
  unsigned cpus;                 // online
  const char *kernel, *initrd;   // of the installed guest
  const char *translator_dir;    // as the hypervisor is to export it
  const char *translator_disk;   // an erofs image of it, for guests that get no directories; or NULL
  const char *root_dir;          // ditto, for type='dir' roots
  const char *const *share_dirs; // ditto, for each share of the machine in its order
  gboolean readonly_element;     // libvirt takes <readonly/> on virtiofs
  const char *console_log;       // file QEMU writes the console to
  gboolean embedded;             // libvirt runs inside steled
  const char *network_guard;     // library that keeps QEMU's user network off loopback, or NULL
  const char *file_server;       // what to run as virtiofsd, or NULL for libvirt's choice
  const char *uuid;              // of the machine
} DomainHost;

// Expands `document` in place. config may be NULL: a plain VM, which only gets its UUID.
// STELE_ERROR_INVALID_MACHINE when the parts do not fit together, e.g. a command line that gets too
// long.
gboolean domain_xml_expand(xmlDoc *document, const MachineConfig *config, const DomainHost *host, GError **error);

// The document as text, indented.
char *domain_xml_to_string(xmlDoc *document);
