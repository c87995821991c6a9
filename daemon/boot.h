// What is done before libvirt is asked for a machine: the author's XML is read, expanded with this
// host's facts, and everything it refers to is looked for, so that what is missing is said by name.
// Blocking (files, mounts); no main loop, no machine states.
#pragma once

#include "host.h"
#include "hypervisor.h"
#include "machine-config.h"
#include "translations.h"

typedef struct BootPlan {
  char *name, *uuid;
  char *xml;             // for libvirt
  MachineConfig *config; // NULL: a plain VM
  guint32 features;      // of its processor, for translations made ahead (stele-aot(1)); 0: not known
  char *translations;    // directory with a translator that has what was translated ahead; NULL: there is none
} BootPlan;

// What is to be translated ahead for a machine of this plan, with strings of the plan's and *ret_translator, to be
// freed. FALSE: nothing, or this steled cannot give it to the machine.
gboolean boot_plan_wish(const BootPlan *plan, const HostPaths *paths, TranslationsWish *ret_wish,
                        char **ret_translator);

void boot_plan_free(BootPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BootPlan, boot_plan_free)

// Reads and expands. uuid: the machine's, or NULL for the author's or else a new one.
BootPlan *boot_plan_new(const HostPaths *paths, const HypervisorFeatures *features, const char *author_xml,
                        const char *uuid, GError **error);

// Checks that root, kernel, initramfs, translator, shares and images are there and of use, and
// makes the views of shared directories and what QEMU's user needs to open its files (the plan's XML may then name
// views). STELE_ERROR_MISSING_FILE,
// STELE_ERROR_UNUSABLE_ROOT, STELE_ERROR_UNSUPPORTED.
gboolean boot_plan_prepare(BootPlan *plan, const HostPaths *paths, const HypervisorFeatures *features, GError **error);

// Checks, once QEMU runs, that it is confined as planned. STELE_ERROR_UNSUPPORTED: it is to be ended.
gboolean boot_check_started(const BootPlan *plan, const HostPaths *paths, GError **error);

// Undoes what boot_plan_prepare() made for the machine with this UUID.
void boot_clean_up(const HostPaths *paths, const char *uuid);

// The console log QEMU writes for a machine.
char *boot_console_log(const HostPaths *paths, const char *name);

// Process ids from libvirt's run directory: of the virtiofsd processes that serve the machine with
// this id of libvirt's, and of the QEMU of the one with this UUID. Empty, and 0, where libvirt is not embedded.
GArray *boot_share_pids(const HostPaths *paths, int id);
int boot_qemu_pid(const HostPaths *paths, const char *uuid);

// Ends what a steled that was killed while it started a machine left running: processes of QEMU and virtiofsd that
// belong to none of libvirt's active domains (of HypervisorDomain).
void boot_end_leftovers(const HostPaths *paths, const GPtrArray *domains);
