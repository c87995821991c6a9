/*
 * What the emulator between a program and the kernel cannot do, where the translator itself runs under
 * qemu-aarch64 (7.2): vfork and clone share no memory, robust lists and process_vm_readv are missing, the two
 * highest real-time signals are its own, mremap knows no old size of 0, a stack's limit can't be raised,
 * O_LARGEFILE does not show, a fault at a non-canonical address has none, a fork takes no advice. `compare` sets
 * the variable for both runs; in a machine (tests/e2e/programs.py) the programs run without it and test it all.
 */
#pragma once
#include <stdbool.h>
#include <stdlib.h>

/* Whether to leave out what qemu-aarch64 cannot do. */
static inline int under_qemu_user(void) { return getenv("TEST_UNDER_QEMU_USER") != NULL; }

/* Whether something about the machine is as it must be under the translator. The native run has no say there: what a
 * host's hypervisor shows of its processor need not hold together. `compare` tells which run this is. */
static inline bool as_promised(bool verdict) { return verdict || getenv("TEST_ORACLE") != NULL; }
