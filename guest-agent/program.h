// Starting one x86-64 program inside the userspace: who runs it, with which environment, and, when it
// cannot run, a reason a person can act on. Everything here happens in a forked child that has entered
// the userspace's root; the agent itself never looks at the root's files.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "json.h"

// What to run, from a JSON request (STELE_PARAM_COMMAND, STELE_FRAME_OPEN_EXEC). Owns its strings.
typedef struct ProgramRequest {
  char **argv; // NULL-terminated; no elements: the user's login shell
  char **env;  // NULL-terminated
  char *cwd;   // NULL: the user's home directory
  char *user;  // NULL: root
  bool tty;
  unsigned short rows, columns;
  unsigned short stop_signal; // of a machine's command; 0: SIGTERM
} ProgramRequest;

// Reads a request. -EINVAL: not of the documented shape; -ENOMEM, -E2BIG. Freed with program_free()
// also after an error.
int program_parse(ProgramRequest *ret_request, const char *json, size_t size);
void program_free(ProgramRequest *request);

// What a child tells its parent through a close-on-exec pipe or socket: first its process ID as the userspace
// sees it (error 0), perhaps the same with a descriptor to be kept open until the program has ended (session.h), then,
// only if it could not execute the program, why.
typedef struct ProgramReport {
  int error; // positive errno
  pid_t pid;
  char message[240];
} ProgramReport;

// Becomes the program: user, groups, directory, environment, execve. Never returns: on failure it
// writes a ProgramReport to `report_fd` and exits with 126 or 127 (as a shell would).
void program_exec(const ProgramRequest *request, int report_fd) __attribute__((noreturn));

// Whether the file is something this machine can run: an x86-64 ELF whose loader exists, or a script.
// Returns 0, or a negative errno with a reason.
int program_check(const char *path, char *message, size_t message_size);

// Resets what the agent changed for itself: signal mask and dispositions.
void program_reset_signals(void);
