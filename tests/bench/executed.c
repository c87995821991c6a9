/*
 * A QEMU TCG plugin that counts executed instructions where others can look while it does: the argument out=FILE names
 * a file of eight bytes, which holds the count as a number of this machine's. For one virtual processor: the additions
 * are not atomic.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plugin.h"

static uint64_t *executed;

static void count_block(PluginId id, struct qemu_plugin_tb *tb) {
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, executed, qemu_plugin_tb_n_insns(tb));
}

EXPORT int qemu_plugin_install(PluginId id, const PluginInfo *info, int argc, char **argv) {
  if (read_out_file("executed", argc, argv) < 0) return -1;
  int fd = open(out_file, O_RDWR | O_CLOEXEC);
  if (fd >= 0) executed = mmap(NULL, sizeof *executed, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || executed == MAP_FAILED) {
    fprintf(stderr, "executed: cannot map %s\n", out_file);
    return -1;
  }
  close(fd);
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  return 0;
}
