// What vmctl's files share: the subcommand row, the connection to steled, calls that show progress,
// and exit codes.
//
// Exit codes: 0 done; 1 anything without a code of its own; 2 wrong usage; 7 steled cannot be
// reached; the others by error, see common/api-errors.h. exec and shell pass on the program's own:
// its status, 128 + n for signal n, 127 no such program, 126 not executable, 125 steled or the
// agent failed.
#pragma once

#include <gio/gio.h>

enum {
  EXIT_OK = 0,
  EXIT_OTHER = 1,
  EXIT_USAGE = 2,
  EXIT_UNREACHABLE = 7,
  EXIT_TIMEOUT = 8, // as the API's error
  EXIT_EXEC_FAILED = 125,
  EXIT_NOT_EXECUTABLE = 126,
  EXIT_NOT_FOUND = 127,
};

typedef struct Session {
  const char *socket; // where steled listens
  gboolean socket_given;
  const char *host;    // whose steled, for ssh; NULL: this one's
  GDBusProxy *steled;  // connected on first use
  gboolean json;       // --json
  gboolean quiet;      // a program has the terminal: no progress on it
  const char *subject; // whose progress is shown; NULL: all
} Session;

typedef struct Command {
  const char *name, *arguments, *summary;
  const char *details;         // shown by --help below the options, or NULL
  int least, most;             // how many arguments; most -1: any number, and options end at the first;
                               // -2: any number
  const GOptionEntry *options; // besides --json, or NULL
  int (*run)(Session *session, int argc, char **argv); // the arguments only; returns the exit code
} Command;

extern const Command command_define, command_undefine, command_start, command_shutdown, command_destroy, command_reboot,
    command_suspend, command_resume, command_list, command_info, command_dumpxml, command_console, command_shell,
    command_exec, command_events, command_doctor, command_version, command_image, command_create, command_run,
    command_logs, command_wait, command_stats, command_top, command_edit, command_clone, command_port, command_explain,
    command_cp, command_set, command_share, command_autostart, command_completion, command_translate, command_cache,
    command_rename, command_ssh_config, command_ssh_proxy, command_snapshot;
extern const Command *const all_commands[]; // ends with NULL

// --- connection.c: talking to steled -------------------------------------------------------------

// Calls a method and shows progress while it takes long. The result, to be unreferenced, or NULL
// and error.
GVariant *session_call(Session *session, const char *method, GVariant *arguments, GError **error);
// The same with descriptors in the reply.
GVariant *session_call_with_fds(Session *session, const char *method, GVariant *arguments, GUnixFDList **ret_fds,
                                GError **error);
// The proxy, to connect to its signals; NULL and error when steled cannot be reached.
GDBusProxy *session_connect(Session *session, GError **error);

// Prints the error and returns its exit code; frees it.
int session_fail(Session *session, GError *error);
// Ditto for exec and shell.
int session_fail_exec(Session *session, GError *error);

// Where steled is when nothing says otherwise: this user's if it is there, otherwise the host's.
char *default_socket(void);

// --- host.c --------------------------------------------------------------------------------------

// Has the command, with its name first, run by vmctl on `host`; comes back only with an exit code for what went wrong.
int run_on_host(Session *session, const char *host, int argc, char **argv);

// --- all-hosts.c ---------------------------------------------------------------------------------

// Machines of this host and of others, with the key "host" each (aa{sv}). *ret_code: that of the first host that could
// not be asked, whose error has been printed, or EXIT_OK.
GVariant *all_hosts_list(Session *session, int *ret_code);

// --- image.c -------------------------------------------------------------------------------------

// The image, pulled if it is not there yet; its description (InspectImage), or NULL and error.
GVariant *image_ensure(Session *session, const char *image, gboolean insecure, GError **error);
// A list of texts in a description; NULL: none. Free with g_free().
const char **lookup_strings(GVariant *description, const char *key);

// --- exec.c --------------------------------------------------------------------------------------

typedef struct ExecSettings {
  char **env;             // NAME=VALUE, or NAME for our own value; or NULL
  const char *cwd, *user; // or NULL
  gboolean tty, no_input;
} ExecSettings;

// Runs a program in the machine with our standard streams, or on our terminal; returns its exit code.
int exec_program(Session *session, const char *name, const char *const *argv, const ExecSettings *settings);
// Whether all are NAME=VALUE or NAME; otherwise an error has been printed.
gboolean exec_check_environment(Session *session, char **environment);
// With NAME alone made NAME=VALUE of our own, or left out.
GPtrArray *exec_environment(char **environment);

// Runs a shell script in the machine and waits for its end. *ret_output is what it printed. -1 and error when it could
// not be run, otherwise its exit code.
int run_script(Session *session, const char *name, const char *script, char **ret_output, GError **error);

// --- output.c: tables, JSON, progress ------------------------------------------------------------

// Prints a D-Bus value as JSON, on a line of its own.
void print_json(GVariant *value);
// The same for a method's single result, as an object: {"key": value}.
void print_json_result(const char *key, GVariant *result);
// What g_print() prints goes to standard output as it is, in UTF-8 whatever the locale; the first error is remembered.
void output_open(void);
// Whether it takes nothing more, or nobody reads it: whoever prints again and again has to end.
gboolean output_is_lost(void);
// The exit code: `code`, unless output got lost without a word. Who closes a pipe has seen enough.
int output_finish(Session *session, int code);
// Prints an error for people, or as JSON {"error": {"name", "code", "message"}}, on standard error. name: of the API's
// errors, or NULL; code: the exit code.
void print_error(Session *session, const char *name, int code, const char *message);
// The value of a string key of an a{sv}, or "".
const char *lookup_string(GVariant *dictionary, const char *key);
// Calls a method whose result is a dictionary, and prints that.
int print_dictionary(Session *session, const char *method, GVariant *arguments);
// Rows of `columns` cells, the first row being the head; column widths follow the text.
void print_table(const GPtrArray *cells, guint columns);
// A copy without what would steer a terminal (common/text.h), on one line, or with its lines kept.
char *printable(const char *text);
char *printable_lines(const char *text);
// Writes a document of somebody else's to standard output: cleaned for a terminal, as it is for anything else. FALSE:
// output is lost.
gboolean print_text(const void *text, gsize size);

// A line on the terminal that says what is being waited for, once it takes more than a second.
typedef struct Progress Progress;
Progress *progress_new(void); // NULL when standard error is no terminal
void progress_say(Progress *progress, const char *message);
void progress_free(Progress *progress);
