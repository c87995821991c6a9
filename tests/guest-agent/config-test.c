// The kernel command line. A case is a row: the line, whether it is accepted, and one thing to look at.
#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "config.h"

#define ROOT        "stele.root=virtiofs:stele-root "
#define LONG_DEVICE "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

enum { NOTHING = -1 };

static const struct {
  const char *line;
  int result;
  long field; // offset of a string in Config, or NOTHING
  const char *value;
} lines[] = {
    {ROOT, 0, offsetof(Config, root_source), "stele-root"},
    {ROOT, 0, offsetof(Config, init_path), "/sbin/init"},
    {ROOT, 0, offsetof(Config, translator_tag), "stele"},
    {"quiet console=hvc0 " ROOT "stele.later=1", 0, NOTHING, NULL},
    {"stele.root=disk:/dev/vda", 0, offsetof(Config, root_fstype), "ext4"},
    {"stele.root=disk:/dev/vda,erofs\n", 0, offsetof(Config, root_fstype), "erofs"},
    {"stele.root=disk:/dev/vda,erofs", 0, offsetof(Config, root_source), "/dev/vda"},
    {ROOT "stele.init=system:/lib/systemd/systemd", 0, offsetof(Config, init_path), "/lib/systemd/systemd"},
    {ROOT "stele.hostname=dev stele.cpu=x86-64-v2", 0, offsetof(Config, cpu), "x86-64-v2"},
    {ROOT "stele.cpu-vendor=AuthenticAMD stele.cpu=x86-64", 0, offsetof(Config, cpu_vendor), "AuthenticAMD"},
    {ROOT "stele.init=command stele.command=eyJhcmd2IjpbImEiXX0=", 0, offsetof(Config, command), "{\"argv\":[\"a\"]}"},
    {ROOT "stele.init=none", 0, offsetof(Config, init_path), "/sbin/init"},
    {ROOT "stele.changes=/dev/vdb", 0, offsetof(Config, changes_device), "/dev/vdb"},
    {ROOT "stele.changes=/dev/vdb", 0, offsetof(Config, changes_fstype), "ext4"},
    {ROOT "stele.share=stele-share-0:ro:/a%20b%25", 0, offsetof(Config, shares[0].path), "/a b%"},
    {ROOT "stele.share=a:rw:/x stele.share=b:ro:/y", 0, offsetof(Config, shares[1].tag), "b"},
    {ROOT "stele.translator=disk:/dev/vdc", 0, offsetof(Config, translator_device), "/dev/vdc"},
    {ROOT "stele.translator=disk:/dev/vdc", 0, offsetof(Config, translator_fstype), "erofs"},
    {ROOT "stele.translator=disk:/dev/vdc,ext4", 0, offsetof(Config, translator_fstype), "ext4"},
    {ROOT "stele.translator=disk:vdc", -EINVAL, NOTHING, NULL},
    {ROOT "stele.translator=disk:/dev/vdc,", -EINVAL, NOTHING, NULL},
    {ROOT "stele.translator=disk:/dev/" LONG_DEVICE, -EINVAL, NOTHING, NULL},
    {ROOT "stele.changes=vdb", -EINVAL, NOTHING, NULL},
    {ROOT "stele.changes=/dev/vdb,", -EINVAL, NOTHING, NULL},
    {ROOT "stele.share=a:/x", -EINVAL, NOTHING, NULL},
    {ROOT "stele.share=a:rw:x", -EINVAL, NOTHING, NULL},
    {ROOT "stele.share=a:rw:/%2", -EINVAL, NOTHING, NULL},
    {ROOT "stele.share=a:rw:/%00", -EINVAL, NOTHING, NULL},
    {ROOT "stele.share=:rw:/x", -EINVAL, NOTHING, NULL},
    {"", -EINVAL, NOTHING, NULL},
    {"quiet", -EINVAL, NOTHING, NULL},
    {"stele.root=", -EINVAL, NOTHING, NULL},
    {"stele.root=nfs:x", -EINVAL, NOTHING, NULL},
    {"stele.root=virtiofs:", -EINVAL, NOTHING, NULL},
    {"stele.root=disk:vda", -EINVAL, NOTHING, NULL},
    {"stele.root=disk:/dev/vda,", -EINVAL, NOTHING, NULL},
    {"stele.root=disk:/dev/vda,averyveryverylongname", -EINVAL, NOTHING, NULL},
    {ROOT "stele.mode=sometimes", -EINVAL, NOTHING, NULL},
    {ROOT "stele.init=systemd", -EINVAL, NOTHING, NULL},
    {ROOT "stele.init=system:relative", -EINVAL, NOTHING, NULL},
    {ROOT "stele.init=command", -EINVAL, NOTHING, NULL},
    {ROOT "stele.command=e", -EINVAL, NOTHING, NULL},
    {ROOT "stele.command=AAAA", -EINVAL, NOTHING, NULL}, // NULs
    {ROOT "stele.hostname=", -EINVAL, NOTHING, NULL},
};

Test(config, command_lines) {
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    Config config;
    char message[256] = "";
    int r = config_parse(&config, lines[i].line, message, sizeof message);
    cr_expect(r == lines[i].result, "'%s' gives %d (%s)", lines[i].line, r, message);
    cr_expect((r < 0) == (*message != 0), "'%s': an error has a message", lines[i].line);
    if (r == 0 && lines[i].field != NOTHING) cr_expect_str_eq((char *)&config + lines[i].field, lines[i].value);
  }
}

Test(config, modes) {
  static const struct {
    const char *line;
    RootMode mode;
  } modes[] = {{ROOT, ROOT_OVERLAY},
               {ROOT "stele.mode=overlay", ROOT_OVERLAY},
               {ROOT "stele.mode=rw", ROOT_RW},
               {ROOT "stele.mode=ro", ROOT_RO}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    Config config;
    char message[256];
    cr_expect(config_parse(&config, modes[i].line, message, sizeof message) == 0 && config.root_mode == modes[i].mode);
  }
}

Test(config, too_long_a_line) {
  Config config;
  char line[STELE_COMMAND_LINE_MAX + 2], message[256] = "";
  memset(line, 'x', sizeof line - 1);
  line[sizeof line - 1] = 0;
  cr_expect(config_parse(&config, line, message, sizeof message) == -EINVAL && *message);
}

static const struct {
  const char *text;
  int result;
  const char *bytes;
} codes[] = {
    {"", 0, ""},
    {"Zg==", 1, "f"},
    {"Zm8=", 2, "fo"},
    {"Zm9v", 3, "foo"},
    {"Zm9vYg==", 4, "foob"},
    {"Zm9vYmE=", 5, "fooba"},
    {"+/+/", 3, "\xfb\xff\xbf"},
    {"Zg=", -EINVAL, NULL},
    {"Zg", -EINVAL, NULL},
    {"Z===", -EINVAL, NULL},
    {"====", -EINVAL, NULL},
    {"Zg==Zg==", -EINVAL, NULL},
    {"Zm 9", -EINVAL, NULL},
    {"Zm9vYmFyYmF6", -EINVAL, NULL}, // does not fit
};

Test(config, base64) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    char bytes[9];
    int r = config_decode_base64(codes[i].text, bytes, sizeof bytes);
    cr_expect(r == codes[i].result, "'%s' gives %d", codes[i].text, r);
    if (r >= 0) cr_expect_str_eq(bytes, codes[i].bytes);
  }
}
