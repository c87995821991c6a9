// libvirt, and the only file that knows it is behind hypervisor.c. Domains are named by their
// names.
//
// Functions marked BLOCKING may take seconds: call them on a worker thread, any number at a time.
// All others belong to the thread of the main loop, where events are delivered too. Errors are
// STELE_ERROR_HYPERVISOR with libvirt's own message, unless something more telling is known.
#pragma once

#include <gio/gio.h>
#include "byte-channel.h"

typedef struct Hypervisor Hypervisor;

typedef enum HypervisorEvent {
  HYPERVISOR_STARTED,
  HYPERVISOR_SUSPENDED,
  HYPERVISOR_HOST_PAUSED, // I/O error or out of space
  HYPERVISOR_RESUMED,
  HYPERVISOR_RESET,
  HYPERVISOR_POWERED_OFF,
  HYPERVISOR_DESTROYED,
  HYPERVISOR_DIED,
  HYPERVISOR_DISCONNECTED, // name is NULL: libvirt itself has gone
} HypervisorEvent;

typedef void (*HypervisorEventHandler)(const char *name, HypervisorEvent event, gpointer user_data);

typedef struct HypervisorDomain {
  char *name, *uuid;
  int id; // -1 when it does not run
  gboolean active, paused;
} HypervisorDomain;

typedef struct HypervisorUsage {
  guint64 memory, cpu_time; // bytes, nanoseconds
  guint vcpus;
} HypervisorUsage;

typedef struct HypervisorStats { // since its start; bytes, nanoseconds
  guint64 cpu_time, memory, resident, block_read, block_written, net_received, net_sent;
} HypervisorStats;

typedef struct HypervisorFeatures {
  unsigned long libvirt, emulator; // versions, major * 1000000 + minor * 1000 + release
  gboolean kvm;                    // for AArch64 guests
  gboolean readonly_virtiofs;      // <readonly/> is taken
} HypervisorFeatures;

// BLOCKING, but call it before the main loop runs: libvirt's events are hooked to the default main
// context. Opens the URI. The first open of an embedded root probes QEMU and takes seconds.
Hypervisor *hypervisor_open(const char *uri, HypervisorEventHandler handler, gpointer user_data, GError **error);
void hypervisor_close(Hypervisor *hypervisor);

const HypervisorFeatures *hypervisor_features(Hypervisor *hypervisor);
const char *hypervisor_uri(Hypervisor *hypervisor);

// BLOCKING. All domains; free with g_ptr_array_unref().
GPtrArray *hypervisor_list(Hypervisor *hypervisor, GError **error);
void hypervisor_domain_free(HypervisorDomain *domain);

// BLOCKING. Whether it is known; *ret_domain may be NULL.
gboolean hypervisor_lookup(Hypervisor *hypervisor, const char *name, HypervisorDomain **ret_domain);

// BLOCKING. Takes a definition, validated by libvirt's own schema.
gboolean hypervisor_define(Hypervisor *hypervisor, const char *xml, GError **error);
// BLOCKING. A domain that is not known counts as success.
gboolean hypervisor_undefine(Hypervisor *hypervisor, const char *name, GError **error);

// BLOCKING.
gboolean hypervisor_start(Hypervisor *hypervisor, const char *name, GError **error);
gboolean hypervisor_destroy(Hypervisor *hypervisor, const char *name, GError **error);
gboolean hypervisor_suspend(Hypervisor *hypervisor, const char *name, GError **error);
gboolean hypervisor_resume(Hypervisor *hypervisor, const char *name, GError **error);
gboolean hypervisor_press_power_button(Hypervisor *hypervisor, const char *name, GError **error);
// As libvirt thinks best: by a guest agent it has, or the power button.
gboolean hypervisor_shutdown(Hypervisor *hypervisor, const char *name, GError **error);
gboolean hypervisor_reboot(Hypervisor *hypervisor, const char *name, GError **error);
// inactive: the definition instead of what runs.
char *hypervisor_dump_xml(Hypervisor *hypervisor, const char *name, gboolean inactive, GError **error);
gboolean hypervisor_usage(Hypervisor *hypervisor, const char *name, HypervisorUsage *ret_usage, GError **error);

// BLOCKING. What libvirt counts of a running domain; what it does not is 0.
gboolean hypervisor_stats(Hypervisor *hypervisor, const char *name, HypervisorStats *ret_stats, GError **error);

// BLOCKING. Lets connections to a port of the host reach one of a guest with user-mode networking; FALSE and
// STELE_ERROR_INVALID_ARGUMENT when QEMU refuses, as for a port that is taken. add: otherwise no longer.
gboolean hypervisor_forward_port(Hypervisor *hypervisor, const char *name, gboolean add, const char *protocol,
                                 const char *address, guint host_port, guint guest_port, GError **error);

// BLOCKING. The console, or the virtio-serial channel of that name.
ByteChannel *hypervisor_open_console(Hypervisor *hypervisor, const char *name, gboolean force, GError **error);
ByteChannel *hypervisor_open_channel(Hypervisor *hypervisor, const char *name, const char *channel, GError **error);
