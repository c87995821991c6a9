// What a service manager and steled tell each other: the socket it listens at for us (sd_listen_fds(3)) and that we are
// ready (sd_notify(3)). Both protocols are an environment variable and a descriptor, so libsystemd isn't needed.
#pragma once

#include <glib.h>

// The listening unix socket that was handed over, or -1 where none was. It's the caller's, close-on-exec, and its path
// is in *ret_path. What else was handed over is closed. The variables are taken out of the environment, so that neither
// QEMU nor a second call takes them for its own: call it once, before there are threads.
int activation_take_socket(char **ret_path);

// Tells the service manager, if one wants to hear of it, what NAME=VALUE lines say (sd_notify(3)).
void activation_notify(const char *state);
