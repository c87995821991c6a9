// Changes to a definition that need no editor: the author's text with some of its elements changed, all else kept.
// Pure.
#pragma once

#include <gio/gio.h>

typedef struct MachineChanges { // what is 0 or NULL stays as it is
  const char *name, *uuid;
  guint64 memory; // bytes
  guint cpus;
  const char *autostart;                                // yes or no
  const char *const *add_shares, *const *remove_shares; // as machine_share_parse() reads them; targets in the guest
  const char *const *add_ports, *const *remove_ports;   // as machine_port_parse() reads them; the host's [ADDRESS:]PORT
} MachineChanges;

// The changed text. STELE_ERROR_INVALID_ARGUMENT: a change is none, or is about something that is not there;
// STELE_ERROR_UNSUPPORTED: shares and ports are for machines with our element.
char *machine_edit(const char *xml, const MachineChanges *changes, GError **error);
