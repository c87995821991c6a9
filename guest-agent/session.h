// Where a program that the host asked for belongs in a userspace run by systemd: a login shell in a session of its
// user, as a login at a terminal would be (systemd-logind(8)), so that the user's own services and XDG_RUNTIME_DIR are
// there; any other program in a control group (scope.h).
//
// For a forked child inside the userspace, still root, that is about to become the program. Without systemd, or while
// it does not answer, the program runs without: nothing here is an error.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

typedef struct Session {
  char id[64];                // of the login session, or ""
  char runtime_directory[96]; // the user's, or ""
  int fd;                     // what the session lasts as long as, or -1
} Session;

// `terminal`: the name below /dev, or "".
void session_enter(Session *ret_session, uid_t uid, bool login, const char *terminal);

// Adds what a program finds in its environment.
void session_set_environment(const Session *session);
