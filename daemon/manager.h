// The machines of one steled and what can be done with them: the API's methods without D-Bus.
// Everything here runs on the main loop and returns at once; results come by callback. Blocking
// work is done on worker threads.
#pragma once

#include "agent-link.h"
#include "host.h"
#include "machine-edit.h"

typedef struct Manager Manager;

// result is the method's result as in org.stele.Manager1.xml (NULL when it has none or error is
// set). Called exactly once, perhaps before the call that it was given to returns.
typedef void (*ManagerDone)(GVariant *result, const GError *error, gpointer user_data);

typedef struct ManagerObserver {
  void (*changed)(const char *name, const char *event, const char *state, const char *reason, const char *message,
                  gpointer user_data);
  void (*progress)(const char *name, const char *operation, const char *message, gpointer user_data);
  void (*disconnected)(gpointer user_data); // libvirt has gone: nothing works any more
} ManagerObserver;

// Blocking; before the main loop runs. Opens libvirt and the store, and finds the machines that
// run.
Manager *manager_new(HostPaths *paths, const ManagerObserver *observer, gpointer user_data, GError **error);
// Machines go on running.
void manager_free(Manager *manager);

typedef struct ManagerStartOptions {
  gboolean wait;
  guint timeout; // seconds
} ManagerStartOptions;

void manager_define(Manager *manager, const char *xml, gboolean replace, ManagerDone done, gpointer user_data);
// The changes are copied. A machine that runs goes on as it is.
void manager_change(Manager *manager, const char *name, const MachineChanges *changes, ManagerDone done,
                    gpointer user_data);
void manager_undefine(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_start(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                   gpointer user_data);
void manager_shutdown(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                      gpointer user_data);
void manager_reboot(Manager *manager, const char *name, const ManagerStartOptions *options, ManagerDone done,
                    gpointer user_data);
void manager_destroy(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_suspend(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_resume(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_list(Manager *manager, ManagerDone done, gpointer user_data);
void manager_info(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_dump_xml(Manager *manager, const char *name, gboolean full, ManagerDone done, gpointer user_data);
// former: of the time before the last start.
void manager_read_console_log(Manager *manager, const char *name, gboolean former, guint bytes, ManagerDone done,
                              gpointer user_data);
// The results are int32s: a file descriptor that is the callee's to close.
void manager_open_console(Manager *manager, const char *name, gboolean force, ManagerDone done, gpointer user_data);
void manager_open_console_log(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_stats(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
// port: see machine_port_parse().
void manager_forward_port(Manager *manager, const char *name, const char *port, gboolean add, ManagerDone done,
                          gpointer user_data);
void manager_version(Manager *manager, ManagerDone done, gpointer user_data);
void manager_translate(Manager *manager, const char *name, GCancellable *cancellable, ManagerDone done,
                       gpointer user_data);
void manager_translation_stats(Manager *manager, ManagerDone done, gpointer user_data);
// Removes what machines do not use, the longest unused first, until `bytes` are left.
void manager_prune_translations(Manager *manager, guint64 bytes, ManagerDone done, gpointer user_data);

// --- images and machines made of them: manager-images.c -------------------------------------------

// What is done for whom may be given up by g_cancellable_cancel(). The cancellable is referenced.
void manager_pull_image(Manager *manager, const char *source, const char *name, const char *authfile, gboolean insecure,
                        GCancellable *cancellable, ManagerDone done, gpointer user_data);
void manager_list_images(Manager *manager, ManagerDone done, gpointer user_data);
void manager_inspect_image(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_remove_image(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
void manager_prune_images(Manager *manager, gboolean unused, ManagerDone done, gpointer user_data);

// As the options of Create in org.stele.Manager1.xml; what is 0 or NULL is left to defaults.
typedef struct CreateRequest {
  const char *name, *image;
  const char *init, *mode, *remove, *user, *cwd, *stop_signal, *hostname;
  const char *const *argv, *const *env, *const *shares, *const *ports;
  guint cpus;
  guint64 memory, disk; // bytes
} CreateRequest;

void manager_create(Manager *manager, const CreateRequest *request, ManagerDone done, gpointer user_data);
// A stopped machine goes by another name; all else of it stays, its UUID too.
void manager_rename(Manager *manager, const char *name, const char *new_name, ManagerDone done, gpointer user_data);
// A stopped machine once more, under another name, with a copy of its changes if they are its own.
void manager_clone(Manager *manager, const char *name, const char *new_name, ManagerDone done, gpointer user_data);
// Snapshots of what a stopped machine has changed on the disk that manager_create() made: see org.stele.Manager1.xml.
void manager_create_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                             gpointer user_data);
void manager_restore_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                              gpointer user_data);
void manager_remove_snapshot(Manager *manager, const char *name, const char *snapshot, ManagerDone done,
                             gpointer user_data);
void manager_list_snapshots(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
// The connection that made a machine to be removed with it has been closed.
void manager_discard(Manager *manager, const char *name);

// Comes back when programs can be started in the machine: at once, or when a boot that is under way
// is done.
void manager_await_agent(Manager *manager, const char *name, ManagerDone done, gpointer user_data);
// See agent_link_exec().
AgentStream *manager_exec(Manager *manager, const char *name, const AgentExecRequest *request,
                          const AgentStreamHandlers *handlers, gpointer user_data, GError **error);
