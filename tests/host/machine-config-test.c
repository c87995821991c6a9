// The machine element: what it means, and what is said about one that is wrong. Rows put a text into a domain.
#include <criterion/criterion.h>
#include <string.h>
#include "errors.h"
#include "machine-config.h"

#define DOMAIN(metadata) "<domain>\n<name>dev</name>\n<metadata>\n" metadata "\n</metadata>\n</domain>\n"
#define MACHINE(content) DOMAIN("<s:machine xmlns:s='urn:stele:machine:1'>\n" content "\n</s:machine>")
#define ROOT             "<s:rootfs type='dir' source='/r'/>"

static MachineConfig *parse(const char *xml, GError **error) {
  MachineConfig *config = NULL;
  g_autoptr(xmlDoc) document = domain_document_parse(xml, error);
  if (document) machine_config_parse(document, &config, error);
  return config;
}

// The element starts in line 4, its content in line 5.
static const struct {
  const char *what, *xml;
  SteleError code;
  const char *message;
} wrong[] = {
    {"empty", "", STELE_ERROR_INVALID_XML, "not well-formed"},
    {"malformed", "<domain>\n<name>dev</domain>", STELE_ERROR_INVALID_XML, "line 2"},
    {"no domain", "<network/>", STELE_ERROR_INVALID_XML, "expected a libvirt <domain>"},
    {"document type", "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>", STELE_ERROR_INVALID_XML,
     "<!DOCTYPE"},
    {"no name", "<domain/>", STELE_ERROR_INVALID_XML, "no <name>"},
    {"name with a slash", "<domain><name>../etc</name></domain>", STELE_ERROR_INVALID_XML, "<name>"},
    {"name like an option", "<domain><name>-f</name></domain>", STELE_ERROR_INVALID_XML, "<name>"},
    {"no root", MACHINE(""), STELE_ERROR_INVALID_MACHINE, "line 4"},
    {"root without source", MACHINE("<s:rootfs type='dir'/>"), STELE_ERROR_INVALID_MACHINE, "source='/absolute/path'"},
    {"root type", MACHINE("<s:rootfs type='tape' source='/r'/>"), STELE_ERROR_INVALID_MACHINE, "'dir' or 'disk'"},
    {"relative root", MACHINE("<s:rootfs type='dir' source='r'/>"), STELE_ERROR_INVALID_MACHINE, "/absolute/path"},
    {"root mode", MACHINE("<s:rootfs type='dir' source='/r' mode='rx'/>"), STELE_ERROR_INVALID_MACHINE,
     "'overlay', 'rw' or 'ro'"},
    {"root architecture", MACHINE("<s:rootfs arch='i386' type='dir' source='/r'/>"), STELE_ERROR_INVALID_MACHINE,
     "arch='x86_64'"},
    {"writable erofs", MACHINE("<s:rootfs type='disk' source='/r' fstype='erofs' mode='rw'/>"),
     STELE_ERROR_INVALID_MACHINE, "erofs"},
    {"format of a directory", MACHINE("<s:rootfs type='dir' source='/r' format='raw'/>"), STELE_ERROR_INVALID_MACHINE,
     "for a disk"},
    {"unknown element", MACHINE(ROOT "\n<s:colour>red</s:colour>"), STELE_ERROR_INVALID_MACHINE,
     "line 6: <colour> is no element"},
    {"element without our name space", MACHINE(ROOT "<init>system</init>"), STELE_ERROR_INVALID_MACHINE,
     "line 5: <init> is no element"},
    {"two roots", MACHINE(ROOT ROOT), STELE_ERROR_INVALID_MACHINE, "one <stele:rootfs"},
    {"init word", MACHINE(ROOT "<s:init>sysv</s:init>"), STELE_ERROR_INVALID_MACHINE, "system, command or none"},
    {"command without program", MACHINE(ROOT "<s:init>command</s:init>"), STELE_ERROR_INVALID_MACHINE,
     "no <stele:command>"},
    {"program without command", MACHINE(ROOT "<s:init>system</s:init><s:command><s:arg>ls</s:arg></s:command>"),
     STELE_ERROR_INVALID_MACHINE, "init is not command"},
    {"no arguments", MACHINE(ROOT "<s:command/>"), STELE_ERROR_INVALID_MACHINE, "<stele:arg>"},
    {"empty program", MACHINE(ROOT "<s:command><s:arg/></s:command>"), STELE_ERROR_INVALID_MACHINE, "empty"},
    {"variable name", MACHINE(ROOT "<s:command><s:arg>ls</s:arg><s:env name='A-B'>c</s:env></s:command>"),
     STELE_ERROR_INVALID_MACHINE, "letters, digits"},
    {"cpu", MACHINE(ROOT "<s:translator cpu='i486'/>"), STELE_ERROR_INVALID_MACHINE, "x86-64-v3"},
    {"cpu that would add a parameter", MACHINE(ROOT "<s:translator cpu='x86-64 init=/bin/sh'/>"),
     STELE_ERROR_INVALID_MACHINE, "x86-64-v3"},
    {"vendor", MACHINE(ROOT "<s:translator cpu-vendor='CyrixInstead'/>"), STELE_ERROR_INVALID_MACHINE,
     "'AuthenticAMD'"},
    {"tag that is the directory above", MACHINE(ROOT "<s:translator tag='..'/>"), STELE_ERROR_INVALID_MACHINE, "tag="},
    {"tag that is the directory itself", MACHINE(ROOT "<s:translator tag='.'/>"), STELE_ERROR_INVALID_MACHINE, "tag="},
    {"tag that is the root's", MACHINE(ROOT "<s:translator tag='stele-root'/>"), STELE_ERROR_INVALID_MACHINE, "root's"},
    {"name with a C1 control", "<domain><name>a\302\233b</name></domain>", STELE_ERROR_INVALID_XML, "steer"},
    {"name too long for a socket",
     "<domain><name>\346\274\242\346\274\242\346\274\242\346\274\242\346\274\242\346\274\242"
     "\346\274\242\346\274\242\346\274\242\346\274\242a</name></domain>",
     STELE_ERROR_INVALID_XML, "30 bytes"},
    {"name written backwards", "<domain><name>a\342\200\256b</name></domain>", STELE_ERROR_INVALID_XML, "steer"},
    {"network", MACHINE(ROOT "<s:network host-loopback='maybe'/>"), STELE_ERROR_INVALID_MACHINE, "host-loopback="},
    {"ahead", MACHINE(ROOT "<s:translator ahead='sometimes'/>"), STELE_ERROR_INVALID_MACHINE,
     "'off', 'loaded' or 'all'"},
    {"ahead of a disk", MACHINE("<s:rootfs type='disk' source='/i'/><s:translator ahead='all'/>"),
     STELE_ERROR_INVALID_MACHINE, "type dir"},
    {"ahead for a processor without AVX", MACHINE(ROOT "<s:translator cpu='x86-64-v2' ahead='loaded'/>"),
     STELE_ERROR_INVALID_MACHINE, "cpu='x86-64-v3'"},
    {"port", MACHINE(ROOT "<s:network><s:port host='1.2.3.4:0' guest='80'/></s:network>"), STELE_ERROR_INVALID_MACHINE,
     "from 1 to 65535"},
    {"port's address", MACHINE(ROOT "<s:network><s:port host='1.2.3.400:80' guest='80'/></s:network>"),
     STELE_ERROR_INVALID_MACHINE, "address of a port"},
    {"share without target", MACHINE(ROOT "<s:share source='/x'/>"), STELE_ERROR_INVALID_MACHINE, "target="},
    {"changes without overlay", MACHINE("<s:rootfs type='disk' source='/r' changes='/c'/>"),
     STELE_ERROR_INVALID_MACHINE, "mode must be overlay"},
    {"tag that is a share's", MACHINE(ROOT "<s:translator tag='stele-share-0'/>"), STELE_ERROR_INVALID_MACHINE,
     "shares"},
    {"signal", MACHINE(ROOT "<s:command stop-signal='65'><s:arg>ls</s:arg></s:command>"), STELE_ERROR_INVALID_MACHINE,
     "stop-signal="},
    {"memory model", MACHINE(ROOT "<s:translator memory-model='sc'/>"), STELE_ERROR_INVALID_MACHINE,
     "'auto', 'tso' or 'relaxed'"},
    {"host name", MACHINE(ROOT "<s:hostname>a b</s:hostname>"), STELE_ERROR_INVALID_MACHINE, "63 letters"},
    {"name space of another version", DOMAIN("<s:machine xmlns:s='urn:stele:machine:9'>" ROOT "</s:machine>"),
     STELE_ERROR_INVALID_MACHINE, "urn:stele:machine:1"},
    {"outside metadata",
     "<domain><name>dev</name><devices><s:machine xmlns:s='urn:stele:machine:1'/></devices></domain>",
     STELE_ERROR_INVALID_MACHINE, "<metadata>"},
    {"two machines",
     DOMAIN("<s:machine xmlns:s='urn:stele:machine:1'>" ROOT
            "</s:machine><s:machine xmlns:s='urn:stele:machine:1'>" ROOT "</s:machine>"),
     STELE_ERROR_INVALID_MACHINE, "second"},
};

Test(machine_config, wrong) {
  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConfig) config = parse(wrong[i].xml, &error);
    cr_expect_null(config, "%s", wrong[i].what);
    cr_assert_not_null(error, "%s", wrong[i].what);
    cr_expect(g_error_matches(error, STELE_ERROR, wrong[i].code), "%s: %s", wrong[i].what, error->message);
    cr_expect_not_null(strstr(error->message, wrong[i].message), "%s: '%s' is not in: %s", wrong[i].what,
                       wrong[i].message, error->message);
    cr_expect_null(strchr(error->message, '\n'), "%s: one line: %s", wrong[i].what, error->message);
  }
}

Test(machine_config, defaults_of_a_directory) {
  g_autoptr(MachineConfig) config = parse(MACHINE(ROOT), NULL);
  cr_assert_not_null(config);
  cr_expect_eq(config->root_type, ROOT_DIR);
  cr_expect_eq(config->root_mode, ROOT_OVERLAY);
  cr_expect_eq(config->init, INIT_SYSTEM);
  cr_expect_str_eq(config->root_source, "/r");
  cr_expect_str_eq(config->translator_tag, "stele");
  cr_expect_str_eq(config->memory_model, "auto");
  cr_expect_str_eq(config->ahead, "off");
  cr_expect_null(config->cpu_vendor);
  cr_expect_null(config->translator_source);
  cr_expect_null(config->hostname);
  cr_expect_not(config->host_loopback);
}

Test(machine_config, ahead) {
  g_autoptr(MachineConfig) config = parse(MACHINE(ROOT "<s:translator ahead='loaded'/>"), NULL);
  cr_assert_not_null(config);
  cr_expect_str_eq(config->ahead, "loaded");
}

Test(machine_config, host_loopback) {
  g_autoptr(MachineConfig) on = parse(MACHINE(ROOT "<s:network host-loopback='on'/>"), NULL);
  g_autoptr(MachineConfig) off = parse(MACHINE(ROOT "<s:network host-loopback='off'/>"), NULL);
  cr_assert(on && off);
  cr_expect(on->host_loopback && !off->host_loopback);
}

Test(machine_config, defaults_of_a_disk) {
  g_autoptr(MachineConfig) config = parse(MACHINE("<s:rootfs type='disk' source='/i'/>"), NULL);
  cr_assert_not_null(config);
  cr_expect_eq(config->root_mode, ROOT_RW);
  cr_expect_str_eq(config->disk_format, "raw");
  cr_expect_str_eq(config->disk_fstype, "ext4");
}

Test(machine_config, everything) {
  g_autoptr(GError) error = NULL;
  g_autoptr(MachineConfig) config = parse(MACHINE("<s:hostname>box</s:hostname><s:command cwd='/tmp' "
                                                  "user='www-data'><s:arg>sh</s:arg><s:env name='A'>1 &lt; 2</s:env>"
                                                  "<s:arg></s:arg><s:arg>a b</s:arg></s:command><s:translator "
                                                  "source='/t' tag='x' cpu='x86-64-v3' cpu-vendor='AuthenticAMD' "
                                                  "memory-model='tso'/>"
                                                  "<s:init>\n command </s:init><s:rootfs arch='x86_64' type='disk' "
                                                  "source='/i' format='qcow2' fstype='ext4' mode='ro'/>"),
                                          &error);
  cr_assert_not_null(config, "%s", error ? error->message : "");
  cr_expect_eq(config->init, INIT_COMMAND);
  cr_expect_str_eq(config->cpu_vendor, "AuthenticAMD");
  cr_expect_eq(g_strv_length(config->argv), 3);
  cr_expect_str_eq(config->argv[1], "");
  cr_expect_str_eq(config->argv[2], "a b");
  cr_expect_str_eq(config->env[0], "A=1 < 2");
  cr_expect_str_eq(config->cwd, "/tmp");
  cr_expect_str_eq(config->user, "www-data");
  cr_expect_str_eq(config->hostname, "box");
  cr_expect_str_eq(config->translator_source, "/t");
  cr_expect_str_eq(config->disk_format, "qcow2");
  cr_expect_eq(config->root_mode, ROOT_RO);
}

Test(machine_config, a_domain_without_the_element_is_a_plain_one) {
  g_autoptr(GError) error = NULL;
  g_autoptr(MachineConfig) config = parse(DOMAIN("<o:thing xmlns:o='urn:other'><o:machine/></o:thing>"), &error);
  cr_expect_null(config);
  cr_expect_null(error);
}
