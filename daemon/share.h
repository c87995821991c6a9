// Directories given to guests: read-only views of them, and watching the processes that serve them.
//
// A share that must be read-only is so on the host's side: a read-only bind mount, in a mount
// namespace of steled's own, so that neither a crash nor kill -9 leaves a mount on the host. QEMU's
// helpers are started from this process and see it; they keep it alive when steled is restarted.
#pragma once

#include <gio/gio.h>

// Once, before any thread exists: gives this process its own mount namespace. FALSE where the host
// does not let us; share_bind() then fails with the reason.
gboolean share_enter_namespace(void);
// Whether it has one.
gboolean share_has_namespace(void);

// Makes `source`, a directory or a file, visible at `target`, without set-uid programs and devices being such there;
// makes `target`.
// STELE_ERROR_UNSUPPORTED or STELE_ERROR_MISSING_FILE.
gboolean share_bind(const char *source, const char *target, gboolean readonly, GError **error);

// Has a file of a view that share_bind() made show the one of that name in `directory` instead. It goes with the view.
gboolean share_cover(const char *directory, const char *view, const char *name, GError **error);

// Undoes it, as far as it was done; removes `target`.
void share_unbind(const char *target);

// Calls `died` on the main loop when a process ends. NULL when there is no such process any more.
typedef struct ProcessWatch ProcessWatch;
typedef void (*ProcessDied)(gpointer user_data);
ProcessWatch *process_watch_new(int pid, ProcessDied died, gpointer user_data);
void process_watch_free(ProcessWatch *watch);
gboolean process_watch_is_dead(const ProcessWatch *watch);
// Sends SIGKILL to that very process, whatever its number names by now.
void process_watch_kill(const ProcessWatch *watch);
