/* `stele install-binfmt | remove-binfmt | status`: the kernel's registration of the translator on a host without a machine;
 * and the same by the command line that images registering emulators have, `stele binfmt --install amd64`. */
#ifndef STELE_BINFMT_BINFMT_H
#define STELE_BINFMT_BINFMT_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a first argument is one of the commands, rather than a program to run. */
bool binfmt_is_command(const char *word);

/* Carries the command argv[0] out and returns the exit status: 0 done (status: registered), 1 not, 2 wrong usage. */
int binfmt_run(char *const *argv, uint64_t page_size);

#endif
