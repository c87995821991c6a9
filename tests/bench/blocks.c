/*
 * A QEMU TCG plugin that counts how often each translation block is executed: one addition per block, made inline.
 *
 * Every process appends lines "ADDRESS INSTRUCTIONS COUNT" (hexadecimal, decimal, decimal) to the file named by the
 * argument out=FILE when it exits; a forked child goes on from its parent's counts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin.h"

typedef struct Block {
  uint64_t address, count;
  size_t instructions;
  struct Block *next;
} Block;

static Block *blocks;

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
  if (read_out_file("blocks", argc, argv) < 0) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  qemu_plugin_register_atexit_cb(id, report, NULL);
  return 0;
}
