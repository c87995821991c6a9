// What the files of the API share: reading a call's options, and its reply.
#pragma once

#include <gio/gio.h>

// Options are a dictionary; an unknown key or a wrong type is refused, not ignored.
typedef struct ApiOption {
  const char *name, *type;
  void *target; // gboolean, guint, guint64, const char * or const char ** (an array to be freed, of texts that are not)
} ApiOption;

// Stores what is there. FALSE: the invocation has been answered with what is wrong.
gboolean api_read_options(GDBusMethodInvocation *invocation, GVariant *options, const ApiOption *rows, gsize count);

// A ManagerDone that answers the invocation user_data: a method's result is the tuple of what its manager_…() call
// gave.
void api_reply(GVariant *result, const GError *error, gpointer user_data);
