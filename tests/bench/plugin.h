/*
 * What the QEMU TCG plugins here share. QEMU's plugin header is in no Debian package, so the few functions of its
 * documented interface (docs/devel/tcg-plugins, version 1) are declared here.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
typedef struct PluginInfo PluginInfo;
enum { INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(PluginId id, void (*callback)(PluginId, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation, void *counter,
                                                     uint64_t add);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_register_atexit_cb(PluginId id, void (*callback)(PluginId, void *), void *data);

/* What QEMU looks up in a plugin. */
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static char out_file[4096];

/* The argument out=FILE; -1 without it, as qemu_plugin_install() fails. */
static inline int read_out_file(const char *plugin, int argc, char **argv) {
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) snprintf(out_file, sizeof out_file, "%s", argv[i] + 4);
  if (out_file[0]) return 0;
  fprintf(stderr, "%s: needs out=FILE\n", plugin);
  return -1;
}
