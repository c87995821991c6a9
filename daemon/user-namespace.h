// User namespaces for programs that work on images where steled is not root: there they are root, and the numbers that
// /etc/subuid and /etc/subgid give steled's user stand for other owners (subuid(5), user_namespaces(7)). Without such
// numbers, or without newuidmap(1), root is the only owner there is.
#pragma once

#include <gio/gio.h>

typedef struct UserNamespace UserNamespace;

// Finds out what steled's user may have. Never NULL; free with user_namespace_free().
UserNamespace *user_namespace_new(void);
void user_namespace_free(UserNamespace *it);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(UserNamespace, user_namespace_free)

// Whether files in it can have other owners than root.
gboolean user_namespace_has_owners(const UserNamespace *it);

// Puts the calling process into such a namespace, as its root. For a child between fork and execve: makes system calls
// only. FALSE with errno when the host does not let its users.
gboolean user_namespace_enter(const UserNamespace *it);

// The row of a file of the form of /etc/subuid that gives `name` or `id` (a number as text) 65,535 numbers or more.
gboolean user_namespace_find_range(const char *text, const char *name, const char *id, guint32 *ret_first,
                                   guint32 *ret_count);
