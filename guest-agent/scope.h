// A control group for each program that the host asked for, in a userspace run by systemd, so that systemd and its
// tools can tell what belongs to it.
//
// One scope (systemd.scope(5)) is for all of them, and delegated: a directory made below it costs nothing, where a
// scope of its own for each program has systemd do as much as a whole small program does. A process that only waits
// keeps the scope, which would end with its last; without it, at the machine's end or when somebody stopped the scope,
// the next program makes both anew. What the scope gets of processors its groups share evenly, and each may have a
// third of the tasks that the kernel allows: a program that makes processes without end is no end of the others.
#pragma once

// Puts this process into a control group of its own. For a forked child inside the userspace, still root, that is about
// to become a program. Without systemd, or while it does not answer, it stays where it is: nothing here is an error.
void scope_enter(void);
