// vmctl define, undefine, dumpxml: machines' definitions.
#include "vmctl.h"

#include <stdio.h>
#include <string.h>

#define XML_MAX (1024 * 1024)

// --- define --------------------------------------------------------------------------------------

static gboolean replace;
static const GOptionEntry define_options[] = {
    {"replace", 'r', 0, G_OPTION_ARG_NONE, &replace, "Replace the definition of a machine of the same name", NULL},
    {NULL}};

static GString *read_stdin(void) {
  GString *text = g_string_new(NULL);
  char bytes[4096];
  for (size_t n; text->len <= XML_MAX && (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
    g_string_append_len(text, bytes, (gssize)n);
  return text;
}

static GString *read_file(const char *file, GError **error) {
  char *text = NULL;
  gsize size = 0;
  if (g_str_equal(file, "-")) return read_stdin();
  if (!g_file_get_contents(file, &text, &size, error)) return NULL;
  GString *copy = g_string_new_len(text, (gssize)size);
  g_free(text);
  return copy;
}

// The encoding XML text says it is in (XML 1.0, 4.3.3 and appendix F): by its byte order mark or its declaration.
static char *declared_encoding(const GString *text) {
  if (text->len >= 2 && (memcmp(text->str, "\xff\xfe", 2) == 0 || memcmp(text->str, "\xfe\xff", 2) == 0))
    return g_strdup("UTF-16");
  const char *start = g_str_has_prefix(text->str, "\xef\xbb\xbf") ? text->str + 3 : text->str;
  g_autoptr(GRegex) pattern =
      g_regex_new("^<\\?xml[^>]*encoding\\s*=\\s*[\"']([A-Za-z0-9._-]+)[\"']", G_REGEX_RAW, 0, NULL);
  g_autoptr(GMatchInfo) match = NULL;
  return g_regex_match(pattern, start, 0, &match) ? g_match_info_fetch(match, 1) : g_strdup("UTF-8");
}

// steled takes D-Bus strings, which are UTF-8, and stores them as such whatever they declare: text in another encoding
// is converted here.
static char *read_definition(const char *file, GError **error) {
  GString *text = read_file(file, error);
  if (text == NULL) return NULL;
  g_autofree char *encoding = declared_encoding(text);
  gsize size = 0;
  char *converted = g_convert(text->str, (gssize)text->len, "UTF-8", encoding, NULL, &size, NULL);
  g_string_free(text, TRUE);
  g_autofree char *utf8 = converted;
  if (utf8 == NULL || strlen(utf8) != size || !g_utf8_validate(utf8, -1, NULL)) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no text in %s, the encoding it is declared to be in",
                file, encoding);
    return NULL;
  }
  const char *start = g_str_has_prefix(utf8, "\xef\xbb\xbf") ? utf8 + 3 : utf8;
  return g_strdup(start);
}

static int run_define(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autofree char *xml = read_definition(argv[0], &error);
  if (xml == NULL) return session_fail(session, error);
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (replace) g_variant_builder_add(&options, "{sv}", "replace", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result = session_call(session, "Define", g_variant_new("(sa{sv})", xml, &options), &error);
  if (result == NULL) {
    if (!session->json) g_printerr("vmctl: %s was not taken\n", argv[0]);
    return session_fail(session, error);
  }
  const char *name;
  g_variant_get(result, "(&s)", &name);
  if (session->json)
    print_json_result("name", result);
  else
    g_print("machine '%s' defined\n", name);
  return EXIT_OK;
}

const Command command_define = {"define",
                                "FILE",
                                "take a machine's definition from a libvirt domain XML file",
                                "FILE may be - for standard input.",
                                1,
                                1,
                                define_options,
                                run_define};

// --- undefine ------------------------------------------------------------------------------------

static int run_undefine(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "Undefine", g_variant_new("(s)", argv[0]), &error);
  if (result == NULL) return session_fail(session, error);
  if (!session->json) g_print("machine '%s' undefined\n", argv[0]);
  return EXIT_OK;
}

const Command command_undefine = {
    "undefine", "NAME", "forget a stopped machine; its root is not touched", NULL, 1, 1, NULL, run_undefine};

// --- dumpxml -------------------------------------------------------------------------------------

static gboolean full;
static const GOptionEntry dumpxml_options[] = {
    {"full", 0, 0, G_OPTION_ARG_NONE, &full, "Print what libvirt was given instead of what the author wrote", NULL},
    {NULL}};

static int run_dumpxml(Session *session, int argc, char **argv) {
  GError *error = NULL;
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (full) g_variant_builder_add(&options, "{sv}", "full", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result = session_call(session, "DumpXml", g_variant_new("(sa{sv})", argv[0], &options), &error);
  if (result == NULL) return session_fail(session, error);
  const char *xml;
  g_variant_get(result, "(&s)", &xml);
  if (session->json)
    print_json_result("xml", result);
  else if (print_text(xml, strlen(xml)) && !g_str_has_suffix(xml, "\n"))
    print_text("\n", 1);
  return EXIT_OK;
}

const Command command_dumpxml = {"dumpxml",       "NAME",     "print a machine's definition", NULL, 1, 1,
                                 dumpxml_options, run_dumpxml};
