// vmctl doctor: whether this host can run machines, each finding with its remedy; and what translates in one of them.
// Looks by itself, since steled may be what is missing, and asks steled where that answers.
#include "vmctl.h"

#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <json-glib/json-glib.h>
#include <pwd.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "listener.h"

#define GROUP     "stele"
#define QEMU_USER "libvirt-qemu"
#define LOW_SPACE (2.0 * 1024 * 1024 * 1024) // less than a small root file system takes
#define GUEST_DIR STELE_LIBRARY_DIR "/guest"
#define SHARE_DIR STELE_LIBRARY_DIR "/share"
#define STATE_DIR "/var/lib/stele"

typedef enum Verdict { FINE, NOTE, WRONG } Verdict; // NOTE: machines run, something is missing
static const char *const verdict_names[] = {"ok", "note", "wrong"};

typedef struct Finding {
  const char *check;
  Verdict verdict;
  char *message, *remedy; // remedy: NULL where nothing is to be done
} Finding;

typedef struct Doctor {
  Session *session;
  GVariant *versions; // steled's answer, or NULL
  GPtrArray *findings;
} Doctor;

static void finding_free(gpointer data) {
  Finding *finding = data;
  g_free(finding->message);
  g_free(finding->remedy);
  g_free(finding);
}

// Takes message; remedy NULL or constant.
static void find(Doctor *doctor, const char *check, Verdict verdict, char *message, const char *remedy) {
  Finding *finding = g_new(Finding, 1);
  *finding = (Finding){check, verdict, message, verdict == FINE ? NULL : g_strdup(remedy)};
  g_ptr_array_add(doctor->findings, finding);
}

static const char *said(const Doctor *doctor, const char *key, const char *otherwise) {
  const char *text = doctor->versions ? lookup_string(doctor->versions, key) : "";
  return *text ? text : otherwise;
}

// Not root's: a user's own, who needs no group, and no user for QEMU.
static gboolean is_own_steled(const Doctor *doctor) {
  return geteuid() != 0 && g_str_has_prefix(doctor->session->socket, g_get_user_runtime_dir());
}

// --- the host ------------------------------------------------------------------------------------

static gboolean is_arm64(void) {
  struct utsname kernel;
  return uname(&kernel) == 0 && g_str_equal(kernel.machine, "aarch64");
}

static void check_host(Doctor *doctor) {
  struct utsname kernel;
  uname(&kernel);
  g_autofree char *name = g_get_os_info(G_OS_INFO_KEY_PRETTY_NAME);
  find(doctor, "host", FINE,
       g_strdup_printf("%s, kernel %s, %s, pages of %ld KiB", name ? name : "Linux", kernel.release, kernel.machine,
                       sysconf(_SC_PAGESIZE) / 1024),
       NULL);
}

static void check_kvm(Doctor *doctor) {
  if (!is_arm64())
    find(doctor, "kvm", NOTE,
         g_strdup("this processor is not ARM64: QEMU emulates the machines' processors, some ten times slower"),
         "use an ARM64 host where speed matters");
  else if (!g_file_test("/dev/kvm", G_FILE_TEST_EXISTS))
    find(doctor, "kvm", NOTE, g_strdup("there is no /dev/kvm: QEMU emulates what the processor could do itself"),
         "modprobe kvm; in a virtual machine, have its host allow nested virtualisation");
  else
    find(doctor, "kvm", FINE, g_strdup("/dev/kvm is there"), NULL);
}

// The first line a program prints for --version, or NULL.
static char *version_of(const char *program) {
  const char *argv[] = {program, "--version", NULL};
  char *text = NULL;
  int status = 0;
  if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &text,
                    NULL, &status, NULL))
    return NULL;
  text[strcspn(text, "\n")] = 0;
  return text;
}

static void check_qemu(Doctor *doctor) {
  char *version = version_of("qemu-system-aarch64");
  if (version)
    find(doctor, "qemu", FINE, version, NULL);
  else
    find(doctor, "qemu", WRONG, g_strdup("there is no qemu-system-aarch64"), "apt install qemu-system-arm");
}

// The first file that one of the patterns matches, or NULL.
static char *first_of(const char *const *patterns) {
  char *found = NULL;
  for (; *patterns && found == NULL; patterns++) {
    glob_t matches = {0};
    if (glob(*patterns, 0, NULL, &matches) == 0) found = g_strdup(matches.gl_pathv[0]);
    globfree(&matches);
  }
  return found;
}

static void check_file(Doctor *doctor, const char *check, const char *const *patterns, const char *what,
                       const char *remedy) {
  char *found = first_of(patterns);
  if (found)
    find(doctor, check, FINE, found, NULL);
  else
    find(doctor, check, WRONG, g_strdup_printf("%s is not installed", what), remedy);
}

static void check_packages(Doctor *doctor) {
  static const char *const virtiofsd[] = {"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd",
                                          NULL};
  static const char *const driver[] = {"/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so",
                                       "/usr/lib*/libvirt/connection-driver/libvirt_driver_qemu.so", NULL};
  check_qemu(doctor);
  check_file(doctor, "virtiofsd", virtiofsd, "virtiofsd, which shares directories with machines,",
             "apt install virtiofsd, or, on Debian 12, qemu-system-common");
  check_file(doctor, "libvirt", driver, "libvirt's QEMU driver",
             "apt install libvirt-daemon libvirt-daemon-driver-qemu");
}

static void check_tools(Doctor *doctor) {
  static const struct {
    const char *program, *for_what;
    const char *package;
    gboolean for_users; // wanted only where steled is not root
  } tools[] = {{"skopeo", "pull OCI images", "skopeo", FALSE},
               {"umoci", "unpack OCI images", "umoci", FALSE},
               {"mmdebstrap", "make Debian roots", "mmdebstrap", FALSE},
#ifdef __aarch64__
               {"arch-test", "make Debian roots for amd64", "arch-test", FALSE}, // mmdebstrap insists on it
#endif
               {"mkfs.erofs", "make images roots of machines without being root", "erofs-utils", TRUE}};
  g_autoptr(GString) missing = g_string_new(NULL), packages = g_string_new("apt install");
  for (gsize i = 0; i < G_N_ELEMENTS(tools); i++) {
    g_autofree char *path = g_find_program_in_path(tools[i].program);
    if (path || (tools[i].for_users && !is_own_steled(doctor))) continue;
    g_string_append_printf(missing, "%s%s (to %s)", missing->len ? ", " : "", tools[i].program, tools[i].for_what);
    g_string_append_printf(packages, " %s", tools[i].package);
  }
  if (missing->len)
    find(doctor, "tools", NOTE, g_strdup_printf("not installed: %s", missing->str), packages->str);
  else
    find(doctor, "tools", FINE, g_strdup("what makes roots and images is installed"), NULL);
}

// --- who may -------------------------------------------------------------------------------------

static gboolean process_is_in(gid_t wanted) {
  int count = getgroups(0, NULL);
  g_autofree gid_t *groups = g_new(gid_t, MAX(count, 1));
  count = getgroups(count, groups);
  for (int i = 0; i < count; i++)
    if (groups[i] == wanted) return TRUE;
  return getegid() == wanted;
}

static void check_users(Doctor *doctor) {
  const struct group *group = getgrnam(GROUP);
  if (is_own_steled(doctor)) {
    find(doctor, "group", FINE, g_strdup("steled is your own, and needs no group"), NULL);
    return;
  }
  if (group == NULL)
    find(doctor, "group", NOTE, g_strdup("there is no group '" GROUP "': root alone can use steled"),
         "groupadd --system " GROUP);
  else if (geteuid() != 0 && !process_is_in(group->gr_gid))
    find(doctor, "group", NOTE, g_strdup("you are not in the group '" GROUP "', or were not when you logged in"),
         "as root: usermod --append --groups " GROUP " YOU; then log in again");
  else
    find(doctor, "group", FINE, g_strdup("you may use steled of this host"), NULL);
  if (getpwnam(QEMU_USER))
    find(doctor, "qemu-user", FINE, g_strdup("QEMU has the user '" QEMU_USER "'"), NULL);
  else
    find(doctor, "qemu-user", WRONG, g_strdup("the user '" QEMU_USER "', which libvirt wants, does not exist"),
         "systemd-sysusers, or useradd --system --user-group --home-dir /var/lib/libvirt --shell "
         "/usr/sbin/nologin " QEMU_USER);
}

// What a steled that is not root does without.
static void check_roots(Doctor *doctor) {
  gboolean shares = TRUE, owners = TRUE;
  g_variant_lookup(doctor->versions, "shares-directories", "b", &shares);
  g_variant_lookup(doctor->versions, "keeps-owners", "b", &owners);
  if (shares)
    find(doctor, "shares", FINE, g_strdup("machines can have directories of this host"), NULL);
  else
    find(doctor, "shares", NOTE,
         g_strdup_printf("libvirt %s gives machines directories of this host only where steled is root: roots and the "
                         "translator are erofs disks, -v is refused",
                         said(doctor, "libvirt", "")),
         "copy with 'vmctl cp'; or have libvirt 10.0 or newer, or a steled that is root");
  if (owners)
    find(doctor, "owners", FINE, g_strdup("files of images keep their owners"), NULL);
  else
    find(doctor, "owners", NOTE,
         g_strdup("all files of images become root's: there is no newuidmap, or /etc/subuid and /etc/subgid have no "
                  "65,535 numbers for you"),
         "as root: apt install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 YOU");
}

static void check_socket(Doctor *doctor) {
  const char *socket = doctor->session->socket;
  g_autoptr(GError) error = NULL;
  g_autoptr(GVariant) result = session_call(doctor->session, "Version", NULL, &error);
  if (result == NULL) {
    gboolean installed = g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR);
    find(doctor, "steled", WRONG, printable(error->message),
         g_file_test(socket, G_FILE_TEST_EXISTS) && listener_is_there(socket) ? "look at its log: journalctl -u steled"
         : installed && geteuid() == 0                                        ? "systemctl enable --now steled.socket"
         : geteuid() != 0 ? "start one of your own: " STELE_PROGRAM_DIR "/steled &"
                          : "start steled as root");
    return;
  }
  doctor->versions = g_variant_get_child_value(result, 0);
  const char *version = said(doctor, "version", "");
  gboolean same = g_str_equal(version, STELE_VERSION);
  find(doctor, "steled", same ? FINE : NOTE,
       g_strdup_printf("steled %s at %s, vmctl %s, libvirt %s", version, socket, STELE_VERSION,
                       said(doctor, "libvirt", "?")),
       "restart steled (machines go on running): systemctl restart steled");
  find(doctor, "confinement", FINE, g_strdup(said(doctor, "confinement", "unknown")), NULL);
  check_roots(doctor);
}

// --- what machines boot --------------------------------------------------------------------------

static gsize read_head(const char *directory, const char *name, guint8 *ret_head, gsize size) {
  g_autofree char *path = g_build_filename(directory, name, NULL);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  gssize length = fd < 0 ? -1 : read(fd, ret_head, size);
  if (fd >= 0) close(fd);
  return length < 0 ? 0 : (gsize)length;
}

static gboolean has(const guint8 *head, gsize length, gsize at, const char *magic) {
  return length >= at + strlen(magic) && memcmp(head + at, magic, strlen(magic)) == 0;
}

// Linux, Documentation/arch/arm64/booting.rst; EFI's compressed form says "zimg" at 4; cpio(5), newc.
static void check_guest_image(Doctor *doctor) {
  const char *directory = said(doctor, "guest-dir", GUEST_DIR);
  guint8 kernel[64] = {0}, initrd[8] = {0};
  gsize size = read_head(directory, "vmlinuz", kernel, sizeof kernel);
  gboolean kernel_good = has(kernel, size, 56, "ARM\x64") || has(kernel, size, 4, "zimg");
  gboolean initrd_good = has(initrd, read_head(directory, "initrd.img", initrd, sizeof initrd), 0, "0707");
  if (kernel_good && initrd_good)
    find(doctor, "guest-image", FINE, g_strdup_printf("kernel and initramfs in %s", directory), NULL);
  else
    find(doctor, "guest-image", WRONG,
         g_strdup_printf("%s/%s is missing, unreadable or something else", directory,
                         kernel_good ? "initrd.img" : "vmlinuz"),
         "apt install --reinstall stele-guest, or stele-guest-image");
}

static void check_translator(Doctor *doctor) {
  const char *directory = said(doctor, "translator-dir", SHARE_DIR);
  Elf64_Ehdr header = {0};
  gsize size = read_head(directory, "stele", (guint8 *)&header, sizeof header);
  if (size == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_machine == EM_AARCH64)
    find(doctor, "translator", FINE, g_strdup_printf("%s/stele", directory), NULL);
  else
    find(doctor, "translator", WRONG, g_strdup_printf("%s/stele is missing, or no AArch64 program", directory),
         "apt install --reinstall stele-guest");
}

static void check_storage(Doctor *doctor) {
  const char *root = said(doctor, "root", STATE_DIR);
  struct statvfs status;
  if (statvfs(root, &status) < 0) {
    find(doctor, "storage", NOTE, g_strdup_printf("%s, where steled keeps its state, is not there", root),
         "start steled, which makes it");
    return;
  }
  double available = (double)status.f_bavail * (double)status.f_frsize;
  g_autofree char *size = g_format_size_full((guint64)available, G_FORMAT_SIZE_IEC_UNITS);
  gboolean readonly = status.f_flag & ST_RDONLY;
  find(doctor, "storage",
       readonly                ? WRONG
       : available < LOW_SPACE ? NOTE
                               : FINE,
       g_strdup_printf("%s has %s free%s", root, size, readonly ? ", but is read-only" : ""),
       readonly ? "put the state elsewhere: steled --root DIR"
                : "make room, or put the state elsewhere: steled --root DIR");
}

// --- a machine -----------------------------------------------------------------------------------

// Printed by x86-64 programs inside: who translates them, and what a program takes from translations made before.
static const char machine_script[] =
    "uname -m; sed -n 's/^vendor_id[[:space:]]*: //p; s/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 2\n"
    "t=$(mktemp) && { env STELE_STATS=$t sh -c : ; cat $t; rm -f $t; }\n";

static guint64 counter(char *const *lines, const char *name) {
  for (; *lines; lines++) {
    g_auto(GStrv) words = g_strsplit_set(*lines, " :\t=", 0);
    if (words[0] == NULL || !g_str_equal(words[0], name)) continue;
    for (char **word = words + 1; *word; word++)
      if (**word) return g_ascii_strtoull(*word, NULL, 10);
  }
  return 0;
}

static void check_inside(Doctor *doctor, char *const *lines) {
  gboolean translated =
      g_strv_length((char **)lines) > 2 && g_str_equal(lines[0], "x86_64") && g_str_equal(lines[1], "VirtualStele");
  g_autofree char *model = translated ? printable(lines[2]) : NULL;
  if (translated)
    find(doctor, "translated-by", FINE, g_strdup_printf("Stele: x86_64, %s", model), NULL);
  else
    find(doctor, "translated-by", WRONG, g_strdup("programs in the machine are not translated by Stele"),
         "look for another binfmt_misc registration in the machine: ls /proc/sys/fs/binfmt_misc");
  guint64 kept = counter(lines, "image-regions"), made = counter(lines, "regions");
  if (!translated) return;
  if (kept)
    find(doctor, "cache", FINE,
         g_strdup_printf("a shell takes %" G_GUINT64_FORMAT
                         " translations from the store, and makes %" G_GUINT64_FORMAT,
                         kept, made),
         NULL);
  else
    find(doctor, "cache", NOTE, g_strdup_printf("a shell makes all its %" G_GUINT64_FORMAT " translations anew", made),
         "translate the machine's root ahead of time: stele-aot(1)");
}

static void check_options(Doctor *doctor, GVariant *info) {
  static const char *const keys[] = {"cpu", "cpu-vendor", "memory-model", "translator"};
  g_autoptr(GString) text = g_string_new(NULL);
  for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
    g_autofree char *value = printable(lookup_string(info, keys[i]));
    if (*value) g_string_append_printf(text, "%s%s %s", text->len ? ", " : "", keys[i], value);
  }
  find(doctor, "options", FINE, g_strdup(text->len ? text->str : "as they come"), NULL);
}

static void check_machine(Doctor *doctor, const char *name) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GVariant) result = session_call(doctor->session, "Info", g_variant_new("(s)", name), &error);
  if (result == NULL) {
    g_dbus_error_strip_remote_error(error);
    find(doctor, "machine", WRONG, printable(error->message), "vmctl list tells what there is");
    return;
  }
  g_autoptr(GVariant) info = g_variant_get_child_value(result, 0);
  const char *state = lookup_string(info, "state"), *why = lookup_string(info, "message");
  gboolean runs = g_str_equal(state, "running"), ours = FALSE;
  g_variant_lookup(info, "stele", "b", &ours);
  g_autofree char *reason = printable(why);
  find(doctor, "machine", runs ? FINE : NOTE, g_strdup_printf("%s is %s%s%s", name, state, *reason ? ": " : "", reason),
       "vmctl start --wait NAME; what it prints: vmctl console --log NAME");
  if (!ours) {
    find(doctor, "translated-by", NOTE, g_strdup("it is a plain VM, in which nothing is translated"),
         "add Stele's element to its definition: steled(8)");
    return;
  }
  check_options(doctor, info);
  if (!runs) return;
  g_autofree char *output = NULL;
  int code = run_script(doctor->session, name, machine_script, &output, &error);
  g_auto(GStrv) lines = g_strsplit(output ? output : "", "\n", 0);
  if (code < 0)
    find(doctor, "translated-by", WRONG, printable(error->message),
         "look at what the guest prints: vmctl console --log NAME");
  else
    check_inside(doctor, lines);
}

// --- the report ----------------------------------------------------------------------------------

static void print_findings_json(const GPtrArray *findings) {
  g_autoptr(JsonBuilder) builder = json_builder_new();
  json_builder_begin_array(builder);
  for (guint i = 0; i < findings->len; i++) {
    const Finding *finding = findings->pdata[i];
    const char *const pairs[] = {"check",   finding->check,   "result", verdict_names[finding->verdict],
                                 "message", finding->message, "remedy", finding->remedy};
    json_builder_begin_object(builder);
    for (gsize k = 0; k < G_N_ELEMENTS(pairs); k += 2) {
      if (pairs[k + 1] == NULL) continue;
      json_builder_set_member_name(builder, pairs[k]);
      json_builder_add_string_value(builder, pairs[k + 1]);
    }
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  g_autoptr(JsonNode) root = json_builder_get_root(builder);
  g_autofree char *text = json_to_string(root, FALSE);
  g_print("%s\n", text);
}

static void print_findings(const GPtrArray *findings) {
  for (guint i = 0; i < findings->len; i++) {
    const Finding *finding = findings->pdata[i];
    g_print("%-6s %-14s %s\n", verdict_names[finding->verdict], finding->check, finding->message);
    if (finding->remedy) g_print("%-21s → %s\n", "", finding->remedy);
  }
}

static int run_doctor(Session *session, int argc, char **argv) {
  Doctor doctor = {.session = session, .findings = g_ptr_array_new_with_free_func(finding_free)};
  session->quiet = TRUE;
  if (argc == 1) {
    check_machine(&doctor, argv[0]);
  } else {
    check_host(&doctor);
    check_kvm(&doctor);
    check_packages(&doctor);
    check_tools(&doctor);
    check_users(&doctor);
    check_socket(&doctor);
    check_guest_image(&doctor);
    check_translator(&doctor);
    check_storage(&doctor);
  }
  if (session->json)
    print_findings_json(doctor.findings);
  else
    print_findings(doctor.findings);
  gboolean wrong = FALSE;
  for (guint i = 0; i < doctor.findings->len; i++) wrong |= ((Finding *)doctor.findings->pdata[i])->verdict == WRONG;
  g_ptr_array_unref(doctor.findings);
  if (doctor.versions) g_variant_unref(doctor.versions);
  return wrong ? EXIT_OTHER : EXIT_OK;
}

const Command command_doctor = {"doctor",
                                "[NAME]",
                                "look whether this host can run machines, or at what translates in one",
                                "Exits with 1 when something is wrong.",
                                0,
                                1,
                                NULL,
                                run_doctor};
