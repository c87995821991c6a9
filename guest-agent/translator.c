// See translator.h. binfmt_misc is mounted in the agent's own mount namespace only: a mount in the
// userspace's tree would let its systemd flush the registration at start and at shutdown.
#include "translator.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include "binfmt-rule.h"
#include "file.h"
#include "mounts.h"

#define TRANSLATOR STELE_SHARE_MOUNT_POINT "/" STELE_TRANSLATOR_FILE

// The interpreter must be static: of what the kernel pins at registration (flag F), a loader and
// libraries would not be part.
static const char *reject(const Elf64_Ehdr *header, int fd) {
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_machine != EM_AARCH64) return "is no AArch64 program";
  for (unsigned i = 0; i < header->e_phnum; i++) {
    Elf64_Phdr segment;
    off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);
    if (pread(fd, &segment, sizeof segment, at) != sizeof segment) return "is truncated";
    if (segment.p_type == PT_INTERP) return "is not statically linked";
  }
  return NULL;
}

static int check_translator(char *message, size_t size) {
  Elf64_Ehdr header = {0};
  int fd = open(TRANSLATOR, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    int r = -errno;
    snprintf(message, size,
             "the translator share holds no file '" STELE_TRANSLATOR_FILE
             "' (%s): install the translator into the shared directory on the host",
             strerror(-r));
    return r;
  }
  ssize_t got = pread(fd, &header, sizeof header, 0);
  const char *why = got == (ssize_t)sizeof header ? reject(&header, fd) : "is truncated";
  close(fd);
  if (!why) return 0;
  snprintf(message, size,
           "the file '" STELE_TRANSLATOR_FILE "' in the translator share %s: "
           "install the translator built for the guest",
           why);
  return -ENOEXEC;
}

static int mount_disk(const Config *config, char *message, size_t message_size) {
  int r = mounts_add(config->translator_device, STELE_SHARE_MOUNT_POINT, config->translator_fstype,
                     MS_RDONLY | MS_NODEV, NULL);
  if (r == 0) return check_translator(message, message_size);
  snprintf(message, message_size, "cannot mount the translator's disk '%s' (%s): %s; check the image on the host",
           config->translator_device, config->translator_fstype, strerror(-r));
  return r;
}

int translator_mount(const Config *config, char *message, size_t message_size) {
  if (config->translator_device[0]) return mount_disk(config, message, message_size);
  int r = mounts_add(config->translator_tag, STELE_SHARE_MOUNT_POINT, "virtiofs", MS_RDONLY | MS_NODEV, NULL);
  if (r == 0) return check_translator(message, message_size);
  snprintf(message, message_size,
           "cannot mount the translator share '%.60s': %s; the host must give a virtiofs "
           "share with this tag",
           config->translator_tag, strerror(-r));
  return r;
}

int translator_register(char *message, size_t message_size) {
  static const char rule[] = BINFMT_RULE(TRANSLATOR);
  int r = 0;
  if (mount("binfmt_misc", BINFMT_MISC, "binfmt_misc", 0, NULL) < 0 && errno != EBUSY) r = -errno;
  file_write(BINFMT_MISC "/" BINFMT_RULE_NAME, "-1"); // where there is one
  int fd = r == 0 ? open(BINFMT_MISC "/register", O_WRONLY | O_CLOEXEC) : -1;
  if (r == 0 && fd < 0) r = -errno;
  if (r == 0 && write(fd, rule, sizeof rule - 1) < 0) r = -errno;
  if (fd >= 0) close(fd);
  if (r < 0) snprintf(message, message_size, "cannot register the translator with binfmt_misc: %s", strerror(-r));
  return r;
}
