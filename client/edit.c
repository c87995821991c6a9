// vmctl edit, clone, rename, port, explain: changing definitions, and looking at what they become.
#include "vmctl.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// --- edit -----------------------------------------------------------------------------------------

static char *dump(Session *session, const char *name, gboolean full, GError **error) {
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  if (full) g_variant_builder_add(&options, "{sv}", "full", g_variant_new_boolean(TRUE));
  g_autoptr(GVariant) result = session_call(session, "DumpXml", g_variant_new("(sa{sv})", name, &options), error);
  char *xml = NULL;
  if (result) g_variant_get(result, "(s)", &xml);
  return xml;
}

// The user's editor, as a shell command (environ(7)), at the line of the error if there was one: vi's and nano's +N.
static gboolean open_editor(const char *file, const char *complaint) {
  const char *editor = g_getenv("VISUAL") ? g_getenv("VISUAL") : g_getenv("EDITOR") ? g_getenv("EDITOR") : "vi";
  const char *line = complaint ? strstr(complaint, "line ") : NULL;
  int number = line ? atoi(line + 5) : 0;
  g_autofree char *quoted = g_shell_quote(file), *command = number > 0
                                                                ? g_strdup_printf("%s +%d %s", editor, number, quoted)
                                                                : g_strdup_printf("%s %s", editor, quoted);
  int status = system(command);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static GVariant *define(Session *session, const char *xml, GError **error) {
  GVariantBuilder options;
  g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&options, "{sv}", "replace", g_variant_new_boolean(TRUE));
  return session_call(session, "Define", g_variant_new("(sa{sv})", xml, &options), error);
}

static gboolean wants_again(void) {
  char answer[16] = "";
  if (!isatty(STDIN_FILENO)) return FALSE;
  g_printerr("Edit it again? [Y/n] ");
  return fgets(answer, sizeof answer, stdin) && g_ascii_tolower(*answer) != 'n';
}

// Until steled takes it or the user gives up. A name that was changed would define another machine.
static int edit_file(Session *session, const char *name, const char *file, const char *before) {
  g_autofree char *complaint = NULL;
  for (;;) {
    g_autofree char *xml = NULL;
    GError *error = NULL;
    if (!open_editor(file, complaint)) {
      print_error(session, NULL, EXIT_OTHER, "edit: the editor failed; nothing was changed");
      return EXIT_OTHER;
    }
    if (!g_file_get_contents(file, &xml, NULL, &error)) return session_fail(session, error);
    if (g_str_equal(xml, before)) return g_print("nothing was changed\n"), EXIT_OK;
    g_autofree char *tag = g_markup_printf_escaped("<name>%s</name>", name);
    if (strstr(xml, tag) == NULL)
      g_set_error(&error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "the name must stay '%s': 'vmctl rename' changes it", name);
    g_autoptr(GVariant) result = error ? NULL : define(session, xml, &error);
    if (result)
      return g_print("machine '%s' changed; what runs goes on as it is until it is started anew\n", name), EXIT_OK;
    g_free(complaint);
    complaint = g_strdup(error->message);
    int code = session_fail(session, error);
    if (!wants_again()) return code;
  }
}

static int run_edit(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autofree char *xml = dump(session, argv[0], FALSE, &error), *file = NULL;
  if (xml == NULL) return session_fail(session, error);
  int fd = g_file_open_tmp("vmctl-XXXXXX.xml", &file, &error);
  if (fd < 0) return session_fail(session, error);
  close(fd);
  int code = g_file_set_contents(file, xml, -1, &error) ? edit_file(session, argv[0], file, xml)
                                                        : session_fail(session, error);
  g_unlink(file);
  return code;
}

const Command command_edit = {"edit",
                              "NAME",
                              "change a machine's definition with $VISUAL or $EDITOR",
                              "What steled does not take is opened again, at the line of the error.",
                              1,
                              1,
                              NULL,
                              run_edit};

// --- clone ----------------------------------------------------------------------------------------

static int run_clone(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "Clone", g_variant_new("(ss)", argv[0], argv[1]), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json)
    print_json_result("name", result);
  else
    g_print("machine '%s' cloned from '%s'\n", argv[1], argv[0]);
  return EXIT_OK;
}

const Command command_clone = {
    "clone",
    "NAME NEW-NAME",
    "make a stopped machine once more",
    "With a copy of its changes, where it was made by create or run; other roots are shared.",
    2,
    2,
    NULL,
    run_clone};

// --- rename ---------------------------------------------------------------------------------------

static int run_rename(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autoptr(GVariant) result = session_call(session, "Rename", g_variant_new("(ss)", argv[0], argv[1]), &error);
  if (result == NULL) return session_fail(session, error);
  if (session->json)
    print_json_result("name", result);
  else
    g_print("machine '%s' is '%s' now\n", argv[0], argv[1]);
  return EXIT_OK;
}

const Command command_rename = {"rename", "NAME NEW-NAME", "give a stopped machine another name", NULL, 2, 2,
                                NULL,     run_rename};

// --- port -----------------------------------------------------------------------------------------

static int run_port(Session *session, int argc, char **argv) {
  gboolean add = g_str_equal(argv[1], "add"), remove = g_str_equal(argv[1], "remove");
  if (!add && !remove) {
    print_error(session, NULL, EXIT_USAGE, "port: add or remove?");
    return EXIT_USAGE;
  }
  GError *error = NULL;
  g_autoptr(GVariant) result =
      session_call(session, add ? "AddPort" : "RemovePort", g_variant_new("(ss)", argv[0], argv[2]), &error);
  if (result == NULL) return session_fail(session, error);
  if (!session->json) g_print("port %s %s\n", argv[2], add ? "added" : "removed");
  return EXIT_OK;
}

const Command command_port = {"port",
                              "NAME add|remove [ADDRESS:]HOST:GUEST[/udp]",
                              "let a port of the host reach one of a running machine, or no longer",
                              "Until the machine stops; 'create -p' and 'run -p' do it at every start.",
                              3,
                              3,
                              NULL,
                              run_port};

// --- explain --------------------------------------------------------------------------------------

static void print_command_line(int pid) {
  g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *line = NULL;
  gsize size = 0;
  if (!g_file_get_contents(path, &line, &size, NULL)) return;
  g_print("\n");
  for (const char *word = line; word < line + size; word += strlen(word) + 1) {
    g_autofree char *quoted = g_shell_quote(word), *clean = printable(quoted);
    g_print("%s%s", clean, word + strlen(word) + 1 < line + size ? " \\\n  " : "\n");
  }
}

static int run_explain(Session *session, int argc, char **argv) {
  GError *error = NULL;
  g_autofree char *xml = dump(session, argv[0], TRUE, &error);
  if (xml == NULL) return session_fail(session, error);
  g_autoptr(GVariant) result = session_call(session, "Info", g_variant_new("(s)", argv[0]), &error);
  if (result == NULL) return session_fail(session, error);
  g_autoptr(GVariant) info = g_variant_get_child_value(result, 0);
  int pid = 0;
  print_text(xml, strlen(xml));
  if (g_variant_lookup(info, "pid", "i", &pid)) print_command_line(pid);
  return EXIT_OK;
}

const Command command_explain = {
    "explain", "NAME",     "print what a machine is to libvirt and, while it runs, QEMU's command", NULL, 1, 1,
    NULL,      run_explain};
