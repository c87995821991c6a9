// The options that create and run share, and what they make of an image's own wishes (OCI image-spec, config.md): as
// docker does, the command line's COMMAND takes the place of Cmd, behind Entrypoint; env adds to Env; -u and -w take
// the place of User and WorkingDir.
#pragma once

#include "vmctl.h"

typedef struct MachineOptions {
  char **env, **shares, **ports;
  char *user, *directory, *memory, *disk, *hostname, *entrypoint;
  int cpus;
} MachineOptions;

extern MachineOptions machine_options;

#define MACHINE_OPTIONS                                                                                                \
  {"volume",         'v', 0, G_OPTION_ARG_STRING_ARRAY, &machine_options.shares, "Share a directory of the host",      \
   "HOST:GUEST[:ro]"},                                                                                                 \
      {"publish",                                                                                                      \
       'p',                                                                                                            \
       0,                                                                                                              \
       G_OPTION_ARG_STRING_ARRAY,                                                                                      \
       &machine_options.ports,                                                                                         \
       "Let the host's port reach one of the machine's",                                                               \
       "[ADDRESS:]HOST:GUEST[/udp]"},                                                                                  \
      {"env",                                                                                                          \
       'e',                                                                                                            \
       0,                                                                                                              \
       G_OPTION_ARG_STRING_ARRAY,                                                                                      \
       &machine_options.env,                                                                                           \
       "Set an environment variable of the command; without a value, to ours",                                         \
       "NAME[=VALUE]"},                                                                                                \
      {"user", 'u', 0, G_OPTION_ARG_STRING, &machine_options.user, "Run the command as USER", "USER[:GROUP]"},         \
      {"workdir", 'w', 0, G_OPTION_ARG_STRING, &machine_options.directory, "Start the command in DIR", "DIR"},         \
      {"entrypoint", 0, 0, G_OPTION_ARG_STRING, &machine_options.entrypoint, "Instead of the image's", "PROGRAM"},     \
      {"hostname", 0, 0, G_OPTION_ARG_STRING, &machine_options.hostname, "The machine's name for itself", "NAME"},     \
      {"cpus", 0, 0, G_OPTION_ARG_INT, &machine_options.cpus, "How many processors it has", "N"},                      \
      {"memory", 'm', 0, G_OPTION_ARG_STRING, &machine_options.memory, "How much memory: 512M, 2G", "SIZE"}, {         \
    "disk", 0, 0, G_OPTION_ARG_STRING, &machine_options.disk, "How far its changes may grow (default 32G)", "SIZE"     \
  }

// Whether they make sense; otherwise an error has been printed.
gboolean machine_options_check(Session *session);

// The program: `command` (may be empty) with what the image says. Free with g_free(); empty: there is none.
const char **machine_options_argv(GVariant *description, const char *const *command);
// The image's variables and the user's, NAME=VALUE.
GPtrArray *machine_options_env(GVariant *description);
// NULL: none is named.
const char *machine_options_user(GVariant *description);
const char *machine_options_cwd(GVariant *description);

// 512M, 2g, 1048576. FALSE: none of these.
gboolean machine_options_read_size(const char *text, guint64 *ret_bytes);
// Shares with the host's directories made absolute: a floating "as".
GVariant *machine_options_shares(char **shares);

// Options of Create: begins them with what does not depend on a command, and adds the command.
void machine_options_begin(GVariantBuilder *builder, GVariant *description);
void machine_options_add_command(GVariantBuilder *builder, GVariant *description, const char *const *argv);
