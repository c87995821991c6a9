// What steled knows about the host it runs on: where its state, the installed guest and the
// translator are, and the embedded libvirt root it prepares. Paths only; no machines, no libvirt
// calls.
#pragma once

#include <gio/gio.h>
#include "qemu-user.h"

typedef struct HostPaths {
  char *root;           // all of steled's state
  char *machines;       // definitions
  char *console;        // console logs, NAME.log
  char *images;         // see image-store.h
  char *changes;        // disks for what machines made of images change, UUID.img
  char *shares;         // views of shared directories, by machine and tag, for virtiofsd alone
  char *lent;           // by machine: views of files for QEMU's user, and notes of what is lent to it
  char *libvirt;        // root of the embedded libvirt, a short name for root; NULL with --connect
  char *uri;            // libvirt's
  char *guest_dir;      // has vmlinuz and initrd.img
  char *translator_dir; // has the file stele
  char *network_guard;  // library for QEMU; NULL with --connect
  char *file_server;    // program that becomes virtiofsd with fewer capabilities; NULL: virtiofsd as libvirt starts it
  char *aot;            // the program stele-aot
  // Bytes that translations made ahead may take (translations.h).
  guint64 translations_limit;
  QemuUser *qemu_user; // whom QEMU runs as, if that is for steled to arrange; or NULL
  char *confinement;   // how QEMU is confined and what is given up, for people
  guint64 image_max;   // bytes an image may unpack to; 0: the default
  guint image_stall;   // seconds a registry may send nothing; 0: the default
  gboolean new_boot;   // no steled has run here since the host was booted
  int lock;            // held as long as this exists: one steled a root
} HostPaths;

typedef struct HostOptions { // each NULL: the default
  const char *root, *connect, *guest_dir, *translator_dir;
  guint64 translations_limit; // bytes; 0: the default
} HostOptions;

// Where virtiofsd may be, and how that one is told to do without CAP_MKNOD: a guest's root user makes no device nodes
// on the host then (whiteouts of overlays need no capability since Linux 5.8). Ended by a row without a path.
typedef struct FileServer {
  const char *path, *option;
} FileServer;
extern const FileServer host_file_servers[];

// Finds the paths and makes the directories. With embedded libvirt also writes its qemu.conf and,
// after a boot of the host, clears what describes processes of the boot before.
// STELE_ERROR_STORAGE(_FULL), or STELE_ERROR_UNSUPPORTED when something libvirt needs is not
// installed.
HostPaths *host_paths_new(const HostOptions *options, GError **error);
void host_paths_free(HostPaths *paths);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostPaths, host_paths_free)

// Where the socket is by default: one for root, one for each user.
char *host_default_socket(void);
