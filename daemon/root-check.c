// See root-check.h.
#include "root-check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "elf-program.h"
#include "errors.h"
#include "open-inside.h"

enum { READING = O_RDONLY | O_NONBLOCK };

#define SCRIPT_DEPTH 4   // as deep as the kernel follows interpreters of scripts
#define SHEBANG_MAX  256 // BINPRM_BUF_SIZE of Linux

static const char *const search_path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};

static gboolean refuse(GError **error, const char *root, const char *format, ...) G_GNUC_PRINTF(3, 4);

static gboolean refuse(GError **error, const char *root, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *trouble = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNUSABLE_ROOT, "the root %s cannot run: %s", root, trouble);
  return FALSE;
}

static const char *machine_name(guint16 machine) {
  static const struct {
    guint16 machine;
    const char *name;
  } rows[] = {{EM_AARCH64, "ARM64"}, {EM_386, "32-bit x86"}, {EM_ARM, "32-bit ARM"},
              {EM_RISCV, "RISC-V"},  {EM_PPC64, "POWER"},    {EM_S390, "s390x"}};
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (rows[i].machine == machine) return rows[i].name;
  return "another architecture";
}

static gboolean check_elf(int root, const ElfProgram *file, const char *root_path, const char *program,
                          GError **error) {
  switch (file->kind) {
  case ELF_NONE:
    return refuse(error, root_path, "%s is neither an ELF program nor a script", program);
  case ELF_FOREIGN:
    return refuse(error, root_path, "%s is a program for %s, not for x86-64: use an amd64 root", program,
                  machine_name(file->machine));
  case ELF_NO_PROGRAM:
    return refuse(error, root_path, "%s is an ELF file but no program", program);
  case ELF_DAMAGED:
    return refuse(error, root_path, "%s is a damaged ELF file: install its package again", program);
  case ELF_PROGRAM:
    break;
  }
  int loader = *file->loader ? open_inside(root, file->loader, READING) : -1;
  if (*file->loader && loader < 0 && errno != ENOENT && errno != ENOTDIR)
    return refuse(error, root_path, "the x86-64 loader %s, which %s asks for: %s", file->loader, program,
                  g_strerror(errno));
  if (*file->loader && loader < 0)
    return refuse(error, root_path,
                  "the x86-64 loader %s, which %s asks for, is missing from this root: install libc6:amd64",
                  file->loader, program);
  if (loader >= 0) close(loader);
  return TRUE;
}

static gboolean check_file(int root, const char *root_path, const char *program, int depth, GError **error);

static gboolean check_script(int root, const char *root_path, const char *program, char *line, int depth,
                             GError **error) {
  char *start = line + 2 + strspn(line + 2, " \t");
  start[strcspn(start, " \t\n")] = 0;
  if (*start == 0) return refuse(error, root_path, "%s is a script that names no interpreter", program);
  if (depth >= SCRIPT_DEPTH) return refuse(error, root_path, "%s is a script of scripts without end", program);
  return check_file(root, root_path, start, depth + 1, error);
}

static gboolean check_content(int root, int fd, const char *root_path, const char *program, int depth, GError **error) {
  char line[SHEBANG_MAX] = "";
  ElfProgram file;
  ssize_t size = pread(fd, line, sizeof line - 1, 0);
  if (size < 0) return refuse(error, root_path, "%s cannot be read: %s", program, g_strerror(errno));
  if (size >= 2 && memcmp(line, "#!", 2) == 0) return check_script(root, root_path, program, line, depth, error);
  elf_program_read(fd, &file);
  return check_elf(root, &file, root_path, program, error);
}

static gboolean check_file(int root, const char *root_path, const char *program, int depth, GError **error) {
  int fd = open_inside(root, program, READING);
  if (fd < 0)
    return refuse(error, root_path, "%s %s", program,
                  errno == ENOENT || errno == ENOTDIR ? "is missing" : g_strerror(errno));
  struct stat status;
  gboolean usable = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_mode & 0111;
  gboolean good = usable ? check_content(root, fd, root_path, program, depth, error)
                         : refuse(error, root_path, "%s is not an executable file", program);
  close(fd);
  return good;
}

static char *find_program(int root, const char *program) {
  if (strchr(program, '/')) return g_strdup(program);
  for (size_t i = 0; i < G_N_ELEMENTS(search_path); i++) {
    g_autofree char *path = g_build_filename(search_path[i], program, NULL);
    int fd = open_inside(root, path, READING);
    if (fd < 0) continue;
    close(fd);
    return g_steal_pointer(&path);
  }
  return NULL;
}

gboolean root_check_program(const char *root_path, const char *program, GError **error) {
  int root = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_MISSING_FILE,
                "the root directory %s: %s: give <stele:rootfs> the "
                "directory that holds the x86-64 system",
                root_path, g_strerror(errno));
    return FALSE;
  }
  g_autofree char *path = find_program(root, program);
  gboolean good = path ? check_file(root, root_path, path, 0, error)
                       : refuse(error, root_path, "%s is in none of the directories of PATH", program);
  close(root);
  return good;
}
