/*
 * A QEMU TCG plugin that counts executed instructions: one addition per translation block, made inline.
 *
 * Every process appends a line "PID COUNT" to the file named by the argument out=FILE when it exits; a forked
 * child counts from zero.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "plugin.h"

static uint64_t executed;

static void count_block(PluginId id, struct qemu_plugin_tb *tb) {
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(tb));
}

static void report(PluginId id, void *data) {
  char line[64];
  int size = snprintf(line, sizeof line, "%d %" PRIu64 "\n", getpid(), executed);
  int fd = open(out_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, line, size) != size) fprintf(stderr, "count: cannot write %s\n", out_file);
  if (fd >= 0) close(fd);
}

static void start_child(void) { executed = 0; }

EXPORT int qemu_plugin_install(PluginId id, const PluginInfo *info, int argc, char **argv) {
  if (read_out_file("count", argc, argv) < 0) return -1;
  pthread_atfork(NULL, NULL, start_child);
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  qemu_plugin_register_atexit_cb(id, report, NULL);
  return 0;
}
