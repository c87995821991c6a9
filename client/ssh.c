// vmctl ssh-config, ssh-proxy: ssh(1) into machines, and what goes by it: scp, rsync, editors, agent forwarding. The
// connection is the standard input and output of an sshd that exec starts, so that it needs neither a port nor a
// network. Whoever may use steled is root in its machines already: our public keys are taken for any user there.
#include "vmctl.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <unistd.h>

static char *user;
static gboolean forward_agent;
static const GOptionEntry config_options[] = {
    {"user", 'u', 0, G_OPTION_ARG_STRING, &user, "Log in as USER (default root)", "USER"},
    {"forward-agent", 'A', 0, G_OPTION_ARG_NONE, &forward_agent, "Let machines use our ssh-agent", NULL},
    {NULL}};

// --- ssh-config ----------------------------------------------------------------------------------

// What ssh_config(5) takes as a word, and as no pattern.
static gboolean is_host_word(const char *text) {
  gboolean good = *text && *text != '-';
  for (const char *c = text; *c; c++) good &= g_ascii_isgraph(*c) && strchr("*?!,\"'\\#%=", *c) == NULL;
  return good;
}

static char *own_path(void) {
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  return g_strdup(self ? self : "vmctl");
}

// For a shell, after ssh has replaced its %s (ssh_config(5), TOKENS).
static void add_word(GString *command, const char *word) {
  g_autofree char *quoted = g_shell_quote(word);
  g_auto(GStrv) parts = g_strsplit(quoted, "%", -1);
  g_autofree char *escaped = g_strjoinv("%%", parts);
  g_string_append_printf(command, "%s%s", command->len ? " " : "", escaped);
}

static char *proxy_command(const Session *session, const char *name) {
  g_autoptr(GString) command = g_string_new(NULL);
  g_autofree char *self = own_path();
  add_word(command, self);
  if (session->host) add_word(command, "--host"), add_word(command, session->host);
  if (session->socket_given) {
    g_autofree char *socket =
        session->host ? g_strdup(session->socket) : g_canonicalize_filename(session->socket, NULL);
    add_word(command, "--socket"), add_word(command, socket);
  }
  add_word(command, "ssh-proxy"), add_word(command, "--"), add_word(command, name);
  return g_string_free(g_steal_pointer(&command), FALSE);
}

// Whom one talks to is certain: the connection is steled's, and leaves the host by ssh alone.
static void print_host(const Session *session, const char *name) {
  g_autofree char *command = proxy_command(session, name);
  g_print("Host %s\n  HostName %s\n  User %s\n  ProxyCommand %s\n  StrictHostKeyChecking no\n"
          "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n%s",
          name, name, user ? user : "root", command, forward_agent ? "  ForwardAgent yes\n" : "");
}

static void add_member(JsonBuilder *builder, const char *key, const char *value) {
  json_builder_set_member_name(builder, key);
  json_builder_add_string_value(builder, value);
}

static void print_hosts_json(const Session *session, char *const *names) {
  g_autoptr(JsonBuilder) builder = json_builder_new();
  json_builder_begin_array(builder);
  for (; *names; names++) {
    g_autofree char *command = proxy_command(session, *names);
    json_builder_begin_object(builder);
    add_member(builder, "host", *names);
    add_member(builder, "user", user ? user : "root");
    add_member(builder, "proxy-command", command);
    json_builder_end_object(builder);
  }
  json_builder_end_array(builder);
  g_autoptr(JsonNode) root = json_builder_get_root(builder);
  g_autofree char *text = json_to_string(root, FALSE);
  g_print("%s\n", text);
}

// Of all machines with Stele's agent.
static char **all_names(Session *session, GError **error) {
  g_autoptr(GVariant) result = session_call(session, "List", NULL, error);
  if (result == NULL) return NULL;
  g_autoptr(GVariant) machines = g_variant_get_child_value(result, 0);
  GStrvBuilder *names = g_strv_builder_new();
  for (gsize i = 0; i < g_variant_n_children(machines); i++) {
    g_autoptr(GVariant) machine = g_variant_get_child_value(machines, i);
    gboolean ours = FALSE;
    const char *name = lookup_string(machine, "name");
    if (g_variant_lookup(machine, "stele", "b", &ours) && ours && is_host_word(name)) g_strv_builder_add(names, name);
  }
  char **list = g_strv_builder_end(names);
  g_strv_builder_unref(names);
  return list;
}

static gboolean check(Session *session, int argc, char **argv) {
  g_autofree char *message = NULL;
  if (argc == 0 && session->host) message = g_strdup("ssh-config: with --host, name the machines");
  if (user && !is_host_word(user)) message = g_strdup_printf("ssh-config: '%s' is no user's name", user);
  for (int i = 0; i < argc && message == NULL; i++)
    if (!is_host_word(argv[i])) message = g_strdup_printf("ssh-config: ssh cannot have '%s' as a host's name", argv[i]);
  if (message) print_error(session, NULL, EXIT_USAGE, message);
  return message == NULL;
}

static int run_ssh_config(Session *session, int argc, char **argv) {
  if (!check(session, argc, argv)) return EXIT_USAGE;
  GError *error = NULL;
  g_auto(GStrv) listed = argc ? NULL : all_names(session, &error);
  if (error) return session_fail(session, error);
  char **names = argc ? argv : listed;
  if (session->json)
    print_hosts_json(session, names);
  else
    for (; *names; names++) print_host(session, *names);
  return EXIT_OK;
}

const Command command_ssh_config = {
    "ssh-config",
    "[NAME…]",
    "print what ssh's configuration needs for machines",
    "vmctl ssh-config dev >>~/.ssh/config; ssh dev\nA machine needs an sshd (openssh-server), but no port. Our public "
    "keys, those of ssh-agent and ~/.ssh/id_*.pub, are taken there for any user.",
    0,
    -2,
    config_options,
    run_ssh_config};

// --- ssh-proxy -----------------------------------------------------------------------------------

// The keys are in a file of root's that every user's sshd can read; it goes with the connection.
static const char proxy_script[] =
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
    "sshd=$(command -v sshd) || { echo \"there is no sshd in this machine: install openssh-server there\" >&2; exit "
    "127; }\n"
    "mkdir -p /run/sshd && umask 022 && keys=$(mktemp /run/stele-ssh-keys.XXXXXX) && chmod 644 \"$keys\" || exit 125\n"
    "trap 'rm -f \"$keys\"' EXIT; trap 'exit 129' HUP; trap 'exit 143' TERM\n"
    "printf '%s' \"$STELE_SSH_KEYS\" >\"$keys\"; unset STELE_SSH_KEYS\n"
    "set -- /etc/ssh/ssh_host_*_key; [ -e \"$1\" ] || ssh-keygen -A >/dev/null\n"
    "\"$sshd\" -i -o \"AuthorizedKeysFile=$keys .ssh/authorized_keys\"\n";

#define KEYS_MAX 65536 // bytes handed over

static void add_agents_keys(GString *keys) {
  const char *argv[] = {"ssh-add", "-L", NULL};
  g_autofree char *output = NULL;
  int status = -1;
  if (g_getenv("SSH_AUTH_SOCK") &&
      g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &output,
                   NULL, &status, NULL) &&
      status == 0)
    g_string_append(keys, output);
}

static void add_files_keys(GString *keys) {
  g_autofree char *place = g_build_filename(g_get_home_dir(), ".ssh", NULL);
  g_autoptr(GDir) entries = g_dir_open(place, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *path = g_build_filename(place, entry, NULL), *text = NULL;
    if (!g_str_has_prefix(entry, "id_") || !g_str_has_suffix(entry, ".pub")) continue;
    if (!g_file_test(path, G_FILE_TEST_IS_REGULAR) || !g_file_get_contents(path, &text, NULL, NULL)) continue;
    g_string_append_printf(keys, "%s\n", text);
  }
}

static char *own_keys(void) {
  GString *keys = g_string_new(NULL);
  add_agents_keys(keys);
  add_files_keys(keys);
  if (keys->len > KEYS_MAX || !g_utf8_validate(keys->str, (gssize)keys->len, NULL)) g_string_truncate(keys, 0);
  return g_string_free(keys, FALSE);
}

static int run_ssh_proxy(Session *session, int argc, char **argv) {
  g_autofree char *keys = own_keys(), *entry = g_strconcat("STELE_SSH_KEYS=", keys, NULL);
  char *env[] = {entry, NULL};
  const char *const program[] = {"sh", "-c", proxy_script, NULL};
  ExecSettings settings = {.env = env};
  return exec_program(session, argv[0], program, &settings);
}

const Command command_ssh_proxy = {"ssh-proxy",
                                   "NAME",
                                   "speak ssh's protocol with a machine, for ssh's ProxyCommand",
                                   "'vmctl ssh-config' writes it where ssh finds it.",
                                   1,
                                   1,
                                   NULL,
                                   run_ssh_proxy};
