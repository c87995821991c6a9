// Access control lists by hand: what is added for QEMU's user, that nobody else gains by it, and that nothing is left
// of it afterwards.
#include <criterion/criterion.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include "qemu-user.h"

#define UID  999
#define NONE ((guint32)ACL_UNDEFINED_ID)

typedef struct Row {
  guint16 tag, permissions;
  guint32 id;
} Row;

#define ROWS_MAX 8

static gsize make_list(guint8 *ret_list, const Row *rows) {
  struct posix_acl_xattr_header header = {GUINT32_TO_LE(POSIX_ACL_XATTR_VERSION)};
  gsize size = sizeof header;
  memcpy(ret_list, &header, size);
  for (; rows->tag; rows++) {
    struct posix_acl_xattr_entry entry = {GUINT16_TO_LE(rows->tag), GUINT16_TO_LE(rows->permissions),
                                          GUINT32_TO_LE(rows->id)};
    memcpy(ret_list + size, &entry, sizeof entry);
    size += sizeof entry;
  }
  return size;
}

static void check_list(const GByteArray *list, const Row *expected, const char *what) {
  guint8 bytes[256];
  gsize size = make_list(bytes, expected);
  cr_assert_not_null(list, "%s", what);
  cr_assert_eq(list->len, size, "%s: %u bytes, not %zu", what, list->len, size);
  cr_expect_eq(memcmp(list->data, bytes, size), 0, "%s", what);
}

static const struct {
  const char *what;
  Row before[ROWS_MAX]; // empty: a mode only
  mode_t mode;
  int wanted;
  Row with[ROWS_MAX], without[ROWS_MAX];
} cases[] = {
    {"a private file",
     {{0}},
     0600,
     6,
     {{ACL_USER_OBJ, 6, NONE}, {ACL_USER, 6, UID}, {ACL_GROUP_OBJ, 0, NONE}, {ACL_MASK, 6, NONE}, {ACL_OTHER, 0, NONE}},
     {{ACL_USER_OBJ, 6, NONE}, {ACL_GROUP_OBJ, 0, NONE}, {ACL_OTHER, 0, NONE}}},
    {"one that its group reads",
     {{0}},
     0640,
     4,
     {{ACL_USER_OBJ, 6, NONE}, {ACL_USER, 4, UID}, {ACL_GROUP_OBJ, 4, NONE}, {ACL_MASK, 4, NONE}, {ACL_OTHER, 0, NONE}},
     {{ACL_USER_OBJ, 6, NONE}, {ACL_GROUP_OBJ, 4, NONE}, {ACL_OTHER, 0, NONE}}},
    {"users on both sides, and a mask that kept them back",
     {{ACL_USER_OBJ, 6, NONE},
      {ACL_USER, 6, 100},
      {ACL_USER, 7, 2000},
      {ACL_GROUP_OBJ, 6, NONE},
      {ACL_MASK, 4, NONE},
      {ACL_OTHER, 0, NONE}},
     0640,
     6,
     {{ACL_USER_OBJ, 6, NONE},
      {ACL_USER, 4, 100},
      {ACL_USER, 6, UID},
      {ACL_USER, 4, 2000},
      {ACL_GROUP_OBJ, 4, NONE},
      {ACL_MASK, 6, NONE},
      {ACL_OTHER, 0, NONE}},
     {{ACL_USER_OBJ, 6, NONE},
      {ACL_USER, 4, 100},
      {ACL_USER, 4, 2000},
      {ACL_GROUP_OBJ, 4, NONE},
      {ACL_MASK, 6, NONE},
      {ACL_OTHER, 0, NONE}}},
};

Test(qemu_user, lists) {
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    guint8 bytes[256];
    gsize size = cases[i].before[0].tag ? make_list(bytes, cases[i].before) : 0;
    g_autoptr(GByteArray) with = qemu_user_list_with(bytes, size, cases[i].mode, UID, cases[i].wanted);
    check_list(with, cases[i].with, cases[i].what);
    g_autoptr(GByteArray) without = qemu_user_list_without(with->data, with->len, UID);
    check_list(without, cases[i].without, cases[i].what);
    cr_expect_null(qemu_user_list_with(with->data, with->len, 0, UID, 4), "%s: an entry stays as it is", cases[i].what);
    cr_expect_null(qemu_user_list_without(without->data, without->len, UID), "%s: nothing to take", cases[i].what);
  }
}

Test(qemu_user, damaged_lists) {
  guint8 bytes[256];
  gsize size = make_list(bytes, cases[2].before);
  for (gsize cut = 1; cut < size; cut++)
    if ((cut - 4) % 8) {
      cr_expect_null(qemu_user_list_with(bytes, cut, 0600, UID, 4), "%zu bytes", cut);
      cr_expect_null(qemu_user_list_without(bytes, cut, UID), "%zu bytes", cut);
    }
  bytes[0] = 9;
  cr_expect_null(qemu_user_list_with(bytes, size, 0600, UID, 4), "another version");
}
