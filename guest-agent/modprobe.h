// Kernel modules on demand. The kernel asks for a module by running /sbin/modprobe of its own root, the initramfs
// (Linux, Documentation/admin-guide/sysctl/kernel.rst, "modprobe"): a link to the agent, which finds it in what
// depmod(8) wrote beside the modules, in the translator's share. x86-64 programs have the same files at /lib/modules,
// and their own modprobe. What the root's administrator says of modules counts for both (modprobe-rules.h).
//
// Files of modules.dep(5) are read as text. What is in the share was made with the agent, on the host.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "modprobe-rules.h"

// Where the modules of one kernel release are: MODULES_SHARE "/RELEASE".
#define MODULES_SHARE "/run/stele/modules"

// The module that `aliases` (modules.alias) has for the alias and that is not blacklisted; 0, or -ENOENT. Rewinds the
// file.
int modprobe_resolve(FILE *aliases, const ModprobeRules *rules, const char *wanted, char *ret_name, size_t size);

// The line of `dependencies` (modules.dep) for the module, in place: `ret_line` is the module's path, and behind it the
// paths of those it needs, blank-separated, the first to be loaded at the end. 0, or -ENOENT. Rewinds the file.
int modprobe_find(FILE *dependencies, const char *name, char *ret_line, size_t size);

// Loads the modules named; for the kernel's command line 'modprobe -q -- NAME'. Returns the exit status.
int modprobe_main(int argc, char **argv);

// Makes the device nodes (modules.devname) whose opening loads their module, in `devices`, a devtmpfs.
void modprobe_make_nodes(const char *devices);
