// Definitions on disk: DIR/NAME.xml is the XML its author gave, DIR/NAME.state one line about how
// the machine was last seen. A definition is replaced whole or not at all: written beside, synced,
// renamed, directory synced; whatever fails leaves the old one. Knows nothing of what is in the
// files.
#pragma once

#include <gio/gio.h>

typedef struct MachineStore MachineStore;

// Opens (and makes, mode 0700) the directory, and removes what an interrupted write left.
// Errors of this file: STELE_ERROR_STORAGE_FULL (nothing was changed) or STELE_ERROR_STORAGE.
MachineStore *machine_store_open(const char *directory, GError **error);
void machine_store_close(MachineStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineStore, machine_store_close)

// A definition that is written and synced, but not yet the machine's. Lets a caller find out that
// the disk is full before it changes anything else.
typedef struct MachineDraft MachineDraft;
MachineDraft *machine_store_write(MachineStore *store, const char *name, const char *xml, GError **error);
// Makes it the machine's definition; frees the draft whatever happens.
gboolean machine_draft_commit(MachineDraft *draft, GError **error);
// Throws it away.
void machine_draft_discard(MachineDraft *draft);

char *machine_store_read(MachineStore *store, const char *name, GError **error);
gboolean machine_store_remove(MachineStore *store, const char *name, GError **error);
// Names of all definitions, sorted. Files that somebody put there under what cannot be a machine's name are left alone.
GPtrArray *machine_store_list(MachineStore *store, GError **error);

// The state line is a help for people after a restart; losing it loses nothing else, so it is not
// synced.
void machine_store_note_state(MachineStore *store, const char *name, const char *state, const char *reason);
// FALSE when there is none.
gboolean machine_store_recall_state(MachineStore *store, const char *name, char **ret_state, char **ret_reason);

// In place of the state line: the machine is about to be that of the definition `new_name`. It is there before that
// definition is committed, and goes with machine_store_remove() or the next note.
void machine_store_note_rename(MachineStore *store, const char *name, const char *new_name);
// FALSE when there is no such note. *ret_complete: whether the new definition is there.
gboolean machine_store_recall_rename(MachineStore *store, const char *name, gboolean *ret_complete);
