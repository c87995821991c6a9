/*
 * A QEMU TCG plugin that counts how often each translation block is executed: one addition per block, made inline.
 *
 * Every process appends lines "ADDRESS INSTRUCTIONS COUNT" (hexadecimal, decimal, decimal) to the file named by the
 * argument out=FILE when it exits; a forked child goes on from its parent's counts. The functions of QEMU's plugin
 * interface are declared here for the reason count.c gives.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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

typedef struct Block {
  uint64_t address, count;
  size_t instructions;
  struct Block *next;
} Block;

static Block *blocks;
static char out_file[4096];

static void count_block(PluginId id, struct qemu_plugin_tb *tb) {
  Block *block = calloc(1, sizeof *block);
  if (!block) abort();
  block->address = qemu_plugin_tb_vaddr(tb);
  block->instructions = qemu_plugin_tb_n_insns(tb);
  block->next = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&blocks, &block->next, block, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &block->count, 1);
}

static void report(PluginId id, void *data) {
  FILE *file = fopen(out_file, "a");
  if (!file) {
    fprintf(stderr, "blocks: cannot write %s\n", out_file);
    return;
  }
  for (const Block *block = blocks; block; block = block->next)
    if (block->count) fprintf(file, "%" PRIx64 " %zu %" PRIu64 "\n", block->address, block->instructions, block->count);
  fclose(file);
}

EXPORT int qemu_plugin_install(PluginId id, const PluginInfo *info, int argc, char **argv) {
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) snprintf(out_file, sizeof out_file, "%s", argv[i] + 4);
  if (!out_file[0]) {
    fprintf(stderr, "blocks: needs out=FILE\n");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  qemu_plugin_register_atexit_cb(id, report, NULL);
  return 0;
}
