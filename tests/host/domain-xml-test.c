// The expansion by golden files: golden/NAME.xml is an author's, golden/NAME.kvm.xml and
// NAME.tcg.xml are what it becomes on a host with and without KVM for AArch64.
// STELE_UPDATE_GOLDEN=1 writes them anew; read the difference. What comes out must also be right in
// the eyes of libvirt's own schema.
#include <criterion/criterion.h>
#include <libxml/relaxng.h>
#include <stdlib.h>
#include <string.h>
#include "domain-xml.h"
#include "errors.h"

#define LIBVIRT_SCHEMA "/usr/share/libvirt/schemas/domain.rng"

static const char *const share_dirs[] = {"/views/stele-share-0", "/views/stele-share-1", NULL};

static DomainHost make_host(gboolean kvm) {
  return (DomainHost){.kvm = kvm,
                      .cpus = 8,
                      .kernel = "/guest/vmlinuz",
                      .initrd = "/guest/initrd.img",
                      .translator_dir = "/views/stele",
                      .root_dir = "/views/stele-root",
                      .share_dirs = share_dirs,
                      .readonly_element = kvm,
                      .console_log = "/log/dev.log",
                      .embedded = !kvm,
                      .network_guard = kvm ? NULL : "/lib/guard.so",
                      .file_server = kvm ? NULL : "/state/virtiofsd",
                      .uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"};
}

static char *expand_on(const DomainHost *host, const char *author, GError **error) {
  g_autoptr(MachineConfig) config = NULL;
  g_autoptr(xmlDoc) document = domain_document_parse(author, error);
  if (document == NULL || !machine_config_parse(document, &config, error)) return NULL;
  return domain_xml_expand(document, config, host, error) ? domain_xml_to_string(document) : NULL;
}

static char *expand(const char *author, gboolean kvm, GError **error) {
  DomainHost host = make_host(kvm);
  return expand_on(&host, author, error);
}

static xmlRelaxNG *libvirt_schema(void) {
  xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(LIBVIRT_SCHEMA);
  xmlRelaxNG *schema = xmlRelaxNGParse(parser);
  xmlRelaxNGFreeParserCtxt(parser);
  cr_assert_not_null(schema, LIBVIRT_SCHEMA);
  return schema;
}

static void check_against_libvirt(xmlRelaxNG *schema, const char *name, const char *xml) {
  g_autoptr(xmlDoc) document = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
  xmlRelaxNGValidCtxt *validator = xmlRelaxNGNewValidCtxt(schema);
  cr_expect_eq(xmlRelaxNGValidateDoc(validator, document), 0, "%s: libvirt's schema refuses it", name);
  xmlRelaxNGFreeValidCtxt(validator);
}

static void check_golden(xmlRelaxNG *schema, const char *name, const char *author, gboolean kvm) {
  g_autofree char *path = g_strdup_printf(TEST_DATA "/golden/%s.%s.xml", name, kvm ? "kvm" : "tcg");
  g_autoptr(GError) error = NULL;
  g_autofree char *expanded = expand(author, kvm, &error), *expected = NULL;
  cr_assert_not_null(expanded, "%s: %s", name, error ? error->message : "");
  check_against_libvirt(schema, name, expanded);
  if (getenv("STELE_UPDATE_GOLDEN")) cr_assert(g_file_set_contents(path, expanded, -1, NULL), "%s", path);
  cr_assert(g_file_get_contents(path, &expected, NULL, NULL), "%s", path);
  cr_expect(g_str_equal(expanded, expected), "%s has changed; got:\n%s", path, expanded);
}

static gboolean is_authors(const char *file) {
  return g_str_has_suffix(file, ".xml") && strchr(file, '.') == strrchr(file, '.');
}

// An embedded libvirt would parse, inside steled, what a guest says on this channel: whoever wrote it.
Test(domain_xml, no_agent_channel_where_libvirt_is_embedded) {
  static const char channel[] = "<devices><channel type='unix'><target type='virtio' "
                                "name='org.qemu.guest_agent.0'/></channel></devices>";
  static const char element[] = "<metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs type='dir' "
                                "source='/r'/></s:machine></metadata>";
  for (int row = 0; row < 4; row++) {
    g_autofree char *author =
        g_strdup_printf("<domain><name>m</name>%s%s</domain>", row & 1 ? element : "", row & 2 ? channel : "");
    g_autofree char *embedded = expand(author, FALSE, NULL), *apart = expand(author, TRUE, NULL);
    cr_expect_null(strstr(embedded, "guest_agent"), "row %d: %s", row, embedded);
    cr_expect_eq(strstr(apart, "guest_agent") != NULL, row != 0, "row %d: %s", row, apart);
  }
}

// Where guests get no directories the translator is the disk behind the root's and that of the changes, for the guest
// by the order of their addresses; a share of it there is not.
Test(domain_xml, the_translator_is_a_disk_where_there_are_no_shares) {
  static const struct {
    const char *rootfs, *target;
  } rows[] = {{"type='disk' format='raw' fstype='erofs'", "vdb"},
              {"type='disk' format='raw' fstype='erofs' mode='overlay' changes='/changes.img'", "vdc"}};
  xmlRelaxNG *schema = libvirt_schema();
  DomainHost host = make_host(FALSE);
  host.translator_disk = "/state/translator.erofs";
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *author = g_strdup_printf(
        "<domain><name>m</name><metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs source='/r' "
        "%s/></s:machine></metadata></domain>",
        rows[i].rootfs);
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = expand_on(&host, author, &error), *again = xml ? expand_on(&host, xml, NULL) : NULL;
    g_autofree char *parameter = g_strdup_printf("stele.translator=disk:/dev/%s,erofs", rows[i].target),
                    *target = g_strdup_printf("<target dev=\"%s\" bus=\"virtio\"/>\n      <readonly/>", rows[i].target);
    cr_assert_not_null(xml, "%s", error ? error->message : "");
    check_against_libvirt(schema, rows[i].rootfs, xml);
    cr_expect_null(strstr(xml, "<filesystem"), "%s", xml);
    cr_expect(strstr(xml, parameter) && strstr(xml, "file=\"/state/translator.erofs\"") && strstr(xml, target), "%s",
              xml);
    cr_expect_str_eq(xml, again);
  }
  xmlRelaxNGFree(schema);
}

Test(domain_xml, golden) {
  xmlRelaxNG *schema = libvirt_schema();
  g_autoptr(GDir) directory = g_dir_open(TEST_DATA "/golden", 0, NULL);
  cr_assert_not_null(directory);
  int count = 0;
  for (const char *file; (file = g_dir_read_name(directory));) {
    if (!is_authors(file)) continue;
    g_autofree char *path = g_build_filename(TEST_DATA "/golden", file, NULL), *author = NULL;
    g_autofree char *name = g_strndup(file, strlen(file) - strlen(".xml"));
    cr_assert(g_file_get_contents(path, &author, NULL, NULL));
    check_golden(schema, name, author, FALSE);
    check_golden(schema, name, author, TRUE);
    count++;
  }
  xmlRelaxNGFree(schema);
  cr_expect_geq(count, 6, "golden files are missing: %d", count);
}

Test(domain_xml, expanding_twice_changes_nothing) {
  g_autofree char *author = NULL;
  cr_assert(g_file_get_contents(TEST_DATA "/golden/minimal.xml", &author, NULL, NULL));
  g_autofree char *once = expand(author, FALSE, NULL), *twice = expand(once, FALSE, NULL);
  cr_expect_str_eq(once, twice);
}

Test(domain_xml, a_command_line_that_does_not_fit_is_refused) {
  g_autofree char *argument = g_strnfill(1500, 'x');
  g_autofree char *author =
      g_strdup_printf("<domain><name>dev</name><metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs "
                      "type='dir' "
                      "source='/r'/><s:command><s:arg>%s</s:arg></s:command></s:machine></metadata></domain>",
                      argument);
  g_autoptr(GError) error = NULL;
  g_autofree char *expanded = expand(author, FALSE, &error);
  cr_expect_null(expanded);
  cr_expect(g_error_matches(error, STELE_ERROR, STELE_ERROR_INVALID_MACHINE));
  cr_expect_not_null(strstr(error->message, "2047"), "%s", error->message);
}
