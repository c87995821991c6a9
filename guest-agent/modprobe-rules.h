// What the root's administrator says of kernel modules: modprobe.d(5), for modules that the kernel asks for by itself
// (modprobe.h). x86-64 programs run the root's own modprobe(8), which reads the same files.
//
// Of 'install' only the use is known that every hardening guide makes of it, /bin/true or /bin/false in place of a
// module: another command would be an x86-64 program of the root, run by the kernel outside of it. It is passed over,
// as are 'remove' and 'softdep'.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// Whether a module's name, an alias or a pattern of one (fnmatch(3)) means the one wanted: '-' and '_' are the same.
bool modprobe_name_matches(const char *pattern, const char *wanted);

typedef struct ModprobeRule ModprobeRule;

typedef struct ModprobeRules {
  ModprobeRule *first; // NULL: none
} ModprobeRules;

// Adds the rules of an open file; what is no rule is passed over.
void modprobe_rules_add(ModprobeRules *rules, FILE *file);

// Adds those of the root that is open as `root`: *.conf in modprobe.d of /etc, /run, /usr/local/lib, /usr/lib and /lib,
// a name once, the first of these. Links stay inside the root.
void modprobe_rules_add_root(ModprobeRules *rules, int root);

// The module that an alias of the administrator's means, or NULL.
const char *modprobe_rules_alias(const ModprobeRules *rules, const char *wanted);

// Whether the module is not to be found by the aliases it has itself.
bool modprobe_rules_blacklist(const ModprobeRules *rules, const char *module);

// Whether the module is not to be loaded at all; then `ret_counts_as_loaded` says what is to be told (/bin/true).
bool modprobe_rules_forbid(const ModprobeRules *rules, const char *module, bool *ret_counts_as_loaded);

// The module's parameters, blank-separated; what does not fit is left out.
void modprobe_rules_options(const ModprobeRules *rules, const char *module, char *ret_options, size_t size);

void modprobe_rules_clear(ModprobeRules *rules);
