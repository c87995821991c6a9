/* The tests' side of the fake runtime. */
#ifndef STELE_TESTS_LINUX_CASES_H
#define STELE_TESTS_LINUX_CASES_H

#include "guest/state.h"

extern unsigned fake_changes, fake_shared; /* how often the runtime was told */
extern volatile uint64_t fake_guest_fault;          /* not 0: the next host fault is the guest's, at this RIP */

/* The first thread runs all cases, later ones the function their stack's top word names. */
_Noreturn void test_thread(GuestCpu *cpu);

#endif
