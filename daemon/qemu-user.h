// The user QEMU runs as, when steled is root: who it is, what it can reach, and how a file is lent to it. A file stays
// its owner's: what QEMU's user lacks is an entry in the file's access control list (acl(5)), taken away again
// afterwards. No machines, no libvirt.
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

typedef struct QemuUser {
  char *name;
  uid_t uid;
  gid_t gid; // its own group, or that of /dev/kvm where only the group may use it
  gid_t *groups;
  int group_count;
} QemuUser;

// NULL: there is no user of that name. Uses the user database: call it before there are threads.
QemuUser *qemu_user_new(const char *name);
void qemu_user_free(QemuUser *user);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QemuUser, qemu_user_free)

// Whether the kernel would let the user do this: `wanted` as for access(2); F_OK: get to the path at all. Steled must
// be root.
gboolean qemu_user_can(const QemuUser *user, const char *path, int wanted);

// Lends a file or device: `wanted` is R_OK or R_OK | W_OK. STELE_ERROR_UNSUPPORTED where the file system has no access
// control lists, or where the file's own list already says something else about this user.
gboolean qemu_user_lend(const QemuUser *user, const char *path, int wanted, GError **error);
// Ends the loan. A file that is gone or was never lent is left alone.
void qemu_user_take_back(const QemuUser *user, const char *path);

// An access control list as the kernel keeps it (the value of system.posix_acl_access, linux/posix_acl_xattr.h), with
// an entry for the user. `list` is empty where a file has a mode only. NULL: no list, or it has an entry for the user
// already. Free with g_byte_array_unref().
GByteArray *qemu_user_list_with(const guint8 *list, gsize size, mode_t mode, uid_t uid, int wanted);
// The same without the entry; NULL: no list, or there is none.
GByteArray *qemu_user_list_without(const guint8 *list, gsize size, uid_t uid);
