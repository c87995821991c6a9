/*
 * A QEMU TCG plugin that counts executed instructions: one addition per translation block, made inline.
 *
 * Every process appends a line "PID COUNT" to the file named by the argument out=FILE when it exits; a forked
 * child counts from zero. QEMU's plugin header is in no Debian package, so the few functions of its documented
 * interface (docs/devel/tcg-plugins, version 1) are declared here.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t PluginId;
struct qemu_plugin_tb;
typedef struct PluginInfo PluginInfo;
enum { INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(PluginId id, void (*callback)(PluginId, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation, void *counter,
                                                     uint64_t add);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_register_atexit_cb(PluginId id, void (*callback)(PluginId, void *), void *data);

/* What QEMU looks up in a plugin. */
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static char out_file[4096];

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
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) snprintf(out_file, sizeof out_file, "%s", argv[i] + 4);
  if (!out_file[0]) {
    fprintf(stderr, "count: needs out=FILE\n");
    return -1;
  }
  pthread_atfork(NULL, NULL, start_child);
  qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
  qemu_plugin_register_atexit_cb(id, report, NULL);
  return 0;
}
