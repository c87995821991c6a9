// vmctl define, undefine, dumpxml: machines' definitions.
#include "vmctl.h"

#include <stdio.h>
#include <string.h>

#define XML_MAX (1024 * 1024)

// --- define --------------------------------------------------------------------------------------

static gboolean replace;
static const GOptionEntry define_options[] = {
    {"replace", 'r', 0, G_OPTION_ARG_NONE, &replace,
     "Replace the definition of a machine of the same name", NULL},
    {NULL}};

static char *read_stdin(void) {
  g_autoptr(GString) text = g_string_new(NULL);
  char bytes[4096];
  for (size_t n; text->len <= XML_MAX && (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
    g_string_append_len(text, bytes, (gssize)n);
  return g_string_free(g_steal_pointer(&text), FALSE);
}

// steled reads D-Bus strings, which are UTF-8; XML in another encoding would arrive mangled.
static char *read_definition(const char *file, GError **error) {
  g_autofree char *text = NULL;
  gsize size = 0;
  if (g_str_equal(file, "-"))
    text = read_stdin();
  else if (!g_file_get_contents(file, &text, &size, error))
    return NULL;
  if (!g_utf8_validate(text, -1, NULL) || (size && strlen(text) != size)) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is not UTF-8 text", file);
    return NULL;
  }
  return g_steal_pointer(&text);
}

static int run_define(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autofree char *xml = read_definition(argv[0], &error);
  if (xml == NULL) return session_fail(error);
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (replace) g_variant_builder_add(&options, "{sv}", "replace", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result =
      session_call(session, "Define", g_variant_new("(sa{sv})", xml, &options), &error);
  if (result == NULL) {
    g_printerr("vmctl: %s was not taken\n", argv[0]);
    return session_fail(error);
  }
  const char *name;
  g_variant_get(result, "(&s)", &name);
  if (session->json)
    print_json(result);
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
  g_autoptr(GVariant) result =
      session_call(session, "Undefine", g_variant_new("(s)", argv[0]), &error);
  if (result == NULL) return session_fail(error);
  if (!session->json) g_print("machine '%s' undefined\n", argv[0]);
  return EXIT_OK;
}

const Command command_undefine = {
    "undefine", "NAME",      "forget a stopped machine; its root is not touched", NULL, 1, 1,
    NULL,       run_undefine};

// --- dumpxml -------------------------------------------------------------------------------------

static gboolean full;
static const GOptionEntry dumpxml_options[] = {
    {"full", 'f', 0, G_OPTION_ARG_NONE, &full,
     "Print what libvirt was given instead of what the author wrote", NULL},
    {NULL}};

static int run_dumpxml(Session *session, int argc, char **argv) {
  GError *error = NULL;
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (full) g_variant_builder_add(&options, "{sv}", "full", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result =
      session_call(session, "DumpXml", g_variant_new("(sa{sv})", argv[0], &options), &error);
  if (result == NULL) return session_fail(error);
  const char *xml;
  g_variant_get(result, "(&s)", &xml);
  if (session->json)
    print_json(result);
  else if (!print_text(xml, strlen(xml)) || (!g_str_has_suffix(xml, "\n") && !print_text("\n", 1)))
    return EXIT_OTHER;
  return EXIT_OK;
}

const Command command_dumpxml = {
    "dumpxml", "NAME", "print a machine's definition", NULL, 1, 1, dumpxml_options, run_dumpxml};
