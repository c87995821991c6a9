// Translations made ahead: for each root that machines ask it for, a directory with the translator and behind it, in
// the same file, a store of what stele-aot has made of the root's programs. Guests get that directory instead of the
// translator's own, read-only like it. It is the host's, outlives machines, and is made anew where the translator is
// another one; a root that has changed since costs time, not correctness: the translator compares.
//
// Files of a root are anybody's. So stele-aot, which reads them, runs as a user without privileges, with nothing but
// the root, the translator and a directory of its own open; what it makes counts for machines of this root alone.
// Blocking (files, processes); no main loop, no machine states.
#pragma once

#include "host.h"

// What is wanted. The strings are the caller's.
typedef struct TranslationsWish {
  const char *root;       // directory
  const char *translator; // file
  const char *ahead;      // loaded, all
  const char *memory;     // plain, ordered, both (stele-aot(1))
  guint32 features;       // of the processor (stele-aot(1)); 0: any
} TranslationsWish;

// The directory for it, whether it is there or not.
char *translations_dup_directory(const HostPaths *paths, const TranslationsWish *wish);
// Whether it holds what this translator uses. Then it is noted as used just now, if `use`.
gboolean translations_are_there(const HostPaths *paths, const TranslationsWish *wish, gboolean use);

typedef void (*TranslationsProgress)(guint done, guint count, gpointer user_data);

// Makes it, or makes it anew from the root's files as they are now; of those that are as they were it takes over what
// it has. One at a time on this host; others wait. What was done when it was cancelled is taken over the next time.
// in_use: roots whose translations are not to be removed for room (a set of strings). *ret_result: "files" u, "bytes"
// t. STELE_ERROR_CANCELLED, STELE_ERROR_STORAGE_FULL, STELE_ERROR_STORAGE, STELE_ERROR_MISSING_FILE.
gboolean translations_make(const HostPaths *paths, const TranslationsWish *wish, GHashTable *in_use,
                           GCancellable *cancellable, TranslationsProgress progress, gpointer user_data,
                           GVariant **ret_result, GError **error);

// As in org.stele.Manager1.xml.
GVariant *translations_stats(const HostPaths *paths, GHashTable *in_use);

// Removes what is there for roots not in use, those longest unused first, until all take no more than `bytes`.
// *ret_result as in org.stele.Manager1.xml.
GVariant *translations_prune(const HostPaths *paths, guint64 bytes, GHashTable *in_use);
