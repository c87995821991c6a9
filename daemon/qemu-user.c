// See qemu-user.h. What the user may do is asked of the kernel, with the user's identity for file accesses
// (setfsuid(2)): those calls, made directly, concern this thread alone.
#include "qemu-user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "errors.h"

#define GROUPS_MAX 65536 // NGROUPS_MAX of Linux
#define KVM        "/dev/kvm"

QemuUser *qemu_user_new(const char *name) {
  const struct passwd *entry = getpwnam(name);
  if (entry == NULL) return NULL;
  QemuUser *user = g_new0(QemuUser, 1);
  *user = (QemuUser){.name = g_strdup(name), .uid = entry->pw_uid, .gid = entry->pw_gid};
  struct stat kvm;
  if (stat(KVM, &kvm) == 0 && kvm.st_gid && kvm.st_mode & S_IWGRP && !(kvm.st_mode & S_IWOTH)) user->gid = kvm.st_gid;
  user->group_count = 0;
  getgrouplist(name, user->gid, NULL, &user->group_count);
  user->groups = g_new0(gid_t, MAX(user->group_count, 1));
  if (getgrouplist(name, user->gid, user->groups, &user->group_count) < 0) user->group_count = 0;
  return user;
}

void qemu_user_free(QemuUser *user) {
  if (user == NULL) return;
  g_free(user->name);
  g_free(user->groups);
  g_free(user);
}

// --- asking --------------------------------------------------------------------------------------

gboolean qemu_user_can(const QemuUser *user, const char *path, int wanted) {
  g_autofree gid_t *own = g_new(gid_t, GROUPS_MAX);
  int count = getgroups(GROUPS_MAX, own);
  gboolean dumps = prctl(PR_GET_DUMPABLE) == 1;
  if (count < 0 || syscall(SYS_setgroups, (gsize)user->group_count, user->groups) < 0) return FALSE;
  syscall(SYS_setfsgid, user->gid);
  syscall(SYS_setfsuid, user->uid);
  gboolean can = syscall(SYS_faccessat2, AT_FDCWD, path, wanted, AT_EACCESS) == 0;
  syscall(SYS_setfsuid, geteuid());
  syscall(SYS_setfsgid, getegid());
  if (dumps) prctl(PR_SET_DUMPABLE, 1); // the change of identity ended it: no core would tell of a crash
  if (syscall(SYS_setgroups, (gsize)count, own) < 0)
    g_error("cannot be in our own groups again: %s", g_strerror(errno));
  return can;
}

// --- access control lists ------------------------------------------------------------------------

typedef struct posix_acl_xattr_entry Entry;
typedef struct posix_acl_xattr_header Header;

static guint16 tag_of(const Entry *entry) {
  return GUINT16_FROM_LE(entry->e_tag);
}

static void append(GByteArray *list, guint tag, guint permissions, guint id) {
  Entry entry = {GUINT16_TO_LE(tag), GUINT16_TO_LE(permissions), GUINT32_TO_LE(id)};
  g_byte_array_append(list, (const guint8 *)&entry, sizeof entry);
}

static GByteArray *list_new(void) {
  Header header = {GUINT32_TO_LE(POSIX_ACL_XATTR_VERSION)};
  GByteArray *list = g_byte_array_new();
  g_byte_array_append(list, (const guint8 *)&header, sizeof header);
  return list;
}

static gboolean read_entries(const guint8 *list, gsize size, GArray *ret_entries) {
  Header header;
  if (size < sizeof header || (size - sizeof header) % sizeof(Entry)) return FALSE;
  memcpy(&header, list, sizeof header);
  if (GUINT32_FROM_LE(header.a_version) != POSIX_ACL_XATTR_VERSION) return FALSE;
  g_array_append_vals(ret_entries, list + sizeof header, (guint)((size - sizeof header) / sizeof(Entry)));
  return TRUE;
}

static void entries_of_mode(mode_t mode, GArray *ret_entries) {
  const struct { guint16 tag, shift; } rows[] = {{ACL_USER_OBJ, 6}, {ACL_GROUP_OBJ, 3}, {ACL_OTHER, 0}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    Entry entry = {GUINT16_TO_LE(rows[i].tag), GUINT16_TO_LE(mode >> rows[i].shift & 7),
                   GUINT32_TO_LE((guint32)ACL_UNDEFINED_ID)};
    g_array_append_val(ret_entries, entry);
  }
}

// What the mask lets through of an entry that it applies to; all where there is none.
static guint mask_of(const GArray *entries) {
  for (guint i = 0; i < entries->len; i++) {
    const Entry *entry = &g_array_index(entries, Entry, i);
    if (tag_of(entry) == ACL_MASK) return GUINT16_FROM_LE(entry->e_perm);
  }
  return 7;
}

static gboolean names(const Entry *entry, uid_t uid) {
  return tag_of(entry) == ACL_USER && GUINT32_FROM_LE(entry->e_id) == uid;
}

// The new mask must let our entry through, and must not let through what the old one kept back. Entries are in the
// order of their tags, named users in that of their numbers.
GByteArray *qemu_user_list_with(const guint8 *list, gsize size, mode_t mode, uid_t uid, int wanted) {
  g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(Entry));
  if (size == 0)
    entries_of_mode(mode, entries);
  else if (!read_entries(list, size, entries))
    return NULL;
  GByteArray *made = list_new();
  guint old_mask = mask_of(entries), mask = (guint)wanted;
  gboolean ours = FALSE;
  for (guint i = 0; i < entries->len; i++) {
    const Entry *entry = &g_array_index(entries, Entry, i);
    guint tag = tag_of(entry), permissions = GUINT16_FROM_LE(entry->e_perm), id = GUINT32_FROM_LE(entry->e_id);
    gboolean masked = tag == ACL_USER || tag == ACL_GROUP || tag == ACL_GROUP_OBJ;
    if (names(entry, uid)) {
      g_byte_array_unref(made);
      return NULL;
    }
    if (!ours && tag != ACL_USER_OBJ && !(tag == ACL_USER && id < uid)) {
      append(made, ACL_USER, (guint)wanted, uid);
      ours = TRUE;
    }
    if (tag == ACL_OTHER) append(made, ACL_MASK, mask, (guint)ACL_UNDEFINED_ID);
    if (masked) mask |= permissions & old_mask;
    if (tag != ACL_MASK) append(made, tag, masked ? permissions & old_mask : permissions, id);
  }
  return made;
}

// Without named entries a mask would say the same as the group's entry.
GByteArray *qemu_user_list_without(const guint8 *list, gsize size, uid_t uid) {
  g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(Entry));
  if (!read_entries(list, size, entries)) return NULL;
  guint named = 0, found = 0;
  for (guint i = 0; i < entries->len; i++) {
    const Entry *entry = &g_array_index(entries, Entry, i);
    found += names(entry, uid);
    named += (tag_of(entry) == ACL_USER || tag_of(entry) == ACL_GROUP) && !names(entry, uid);
  }
  if (found == 0) return NULL;
  GByteArray *made = list_new();
  for (guint i = 0; i < entries->len; i++) {
    const Entry *entry = &g_array_index(entries, Entry, i);
    if (!names(entry, uid) && (named || tag_of(entry) != ACL_MASK))
      g_byte_array_append(made, (const guint8 *)entry, sizeof *entry);
  }
  return made;
}

// --- lending -------------------------------------------------------------------------------------

#define ACL_XATTR "system.posix_acl_access"

static gssize read_list(const char *path, guint8 *ret_list, gsize size) {
  gssize length = getxattr(path, ACL_XATTR, ret_list, size);
  return length < 0 && errno == ENODATA ? 0 : length;
}

gboolean qemu_user_lend(const QemuUser *user, const char *path, int wanted, GError **error) {
  g_autofree guint8 *list = g_malloc(XATTR_SIZE_MAX);
  struct stat status;
  gssize size = stat(path, &status) == 0 ? read_list(path, list, XATTR_SIZE_MAX) : -1;
  g_autoptr(GByteArray) made =
      size < 0 ? NULL : qemu_user_list_with(list, (gsize)size, status.st_mode, user->uid, wanted);
  const char *why = size < 0 ? g_strerror(errno) : made ? NULL : "its access control list says otherwise of this user";
  if (made && setxattr(path, ACL_XATTR, made->data, made->len, 0) < 0) why = g_strerror(errno);
  if (why == NULL) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "%s cannot be lent to QEMU's user '%s' (%s): let that user %s it, or put it on a file system with access "
              "control lists",
              path, user->name, why, wanted & W_OK ? "read and write" : "read");
  return FALSE;
}

void qemu_user_take_back(const QemuUser *user, const char *path) {
  g_autofree guint8 *list = g_malloc(XATTR_SIZE_MAX);
  gssize size = read_list(path, list, XATTR_SIZE_MAX);
  g_autoptr(GByteArray) made = size > 0 ? qemu_user_list_without(list, (gsize)size, user->uid) : NULL;
  if (made) setxattr(path, ACL_XATTR, made->data, made->len, 0);
}
