// See modprobe-rules.h. Rules are kept in the order they are found; of several for one module the first counts.
#include "modprobe-rules.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "open-inside.h"

// A rule is a line "DIRECTIVE NAME REST"; that a file was read is noted as one, too.
struct ModprobeRule {
  ModprobeRule *next;
  const char *directive, *name, *rest; // in `line`
  char line[];
};

#define FILE_READ "file" // no directive of modprobe.d(5)

enum { RULES_MAX = 4096, LINE_SIZE = 1024, PATH_SIZE = 512 };

static const char blanks[] = " \t\n";

// --- names ---------------------------------------------------------------------------------------------

// '-' becomes '_', except where a pattern's brackets make it a range.
static void normalise(const char *name, char *ret_name, size_t size) {
  bool range = false;
  size_t length = 0;
  for (; name[length] && length + 1 < size; length++) {
    if (name[length] == '[') range = true;
    if (name[length] == ']') range = false;
    ret_name[length] = name[length] == '-' && !range ? '_' : name[length];
  }
  ret_name[length] = 0;
}

bool modprobe_name_matches(const char *pattern, const char *wanted) {
  char left[PATH_SIZE], right[PATH_SIZE];
  normalise(pattern, left, sizeof left);
  normalise(wanted, right, sizeof right);
  return fnmatch(left, right, 0) == 0;
}

// --- reading -------------------------------------------------------------------------------------------

static char *cut_word(char **at) {
  char *word = *at + strspn(*at, blanks), *end = word + strcspn(word, blanks);
  *at = *end ? end + 1 : end;
  *end = 0;
  return word;
}

static void add_rule(ModprobeRules *rules, const char *line) {
  ModprobeRule **last = &rules->first;
  size_t count = 0, size = strlen(line) + 1;
  for (; *last; last = &(*last)->next) count++;
  ModprobeRule *rule = count < RULES_MAX ? malloc(sizeof *rule + size) : NULL;
  if (!rule) return;
  memcpy(rule->line, line, size);
  char *at = rule->line;
  rule->next = NULL;
  rule->directive = cut_word(&at);
  rule->name = cut_word(&at);
  rule->rest = at + strspn(at, blanks);
  if (*rule->name && *rule->directive != '#')
    *last = rule;
  else
    free(rule);
}

// A line that ends with a backslash goes on in the next.
static bool read_line(FILE *file, char *ret_line, size_t size) {
  size_t length = 0;
  *ret_line = 0;
  while (length + 1 < size && fgets(ret_line + length, (int)(size - length), file)) {
    length += strcspn(ret_line + length, "\n");
    ret_line[length] = 0;
    if (!length || ret_line[length - 1] != '\\') return true;
    ret_line[--length] = 0;
  }
  return length > 0;
}

void modprobe_rules_add(ModprobeRules *rules, FILE *file) {
  char line[LINE_SIZE];
  while (read_line(file, line, sizeof line)) add_rule(rules, line);
}

static void add_file(ModprobeRules *rules, int root, const char *directory, const char *name) {
  char path[512], note[300];
  struct stat status;
  snprintf(path, sizeof path, "%s/%.255s", directory, name);
  snprintf(note, sizeof note, FILE_READ " %.255s", name);
  for (const ModprobeRule *rule = rules->first; rule; rule = rule->next)
    if (strcmp(rule->directive, FILE_READ) == 0 && strcmp(rule->name, name) == 0) return;
  add_rule(rules, note);
  int fd = open_inside(root, path, O_RDONLY | O_NONBLOCK);
  FILE *file = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? fdopen(fd, "re") : NULL;
  if (file) {
    modprobe_rules_add(rules, file);
    fclose(file);
  } else if (fd >= 0) {
    close(fd);
  }
}

void modprobe_rules_add_root(ModprobeRules *rules, int root) {
  static const char *const directories[] = {"etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d",
                                            "usr/lib/modprobe.d", "lib/modprobe.d"};
  for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
    int fd = open_inside(root, directories[i], O_RDONLY | O_DIRECTORY);
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
      const char *dot = strrchr(entry->d_name, '.');
      if (dot && strcmp(dot, ".conf") == 0) add_file(rules, root, directories[i], entry->d_name);
    }
    if (entries) closedir(entries);
  }
}

// --- asking --------------------------------------------------------------------------------------------

// The next rule of that kind for the module, from `rule` on. Names of aliases are patterns, others are not.
static const ModprobeRule *find(const ModprobeRule *rule, const char *directive, const char *name) {
  for (; rule; rule = rule->next)
    if (strcmp(rule->directive, directive) == 0 && modprobe_name_matches(rule->name, name)) return rule;
  return NULL;
}

const char *modprobe_rules_alias(const ModprobeRules *rules, const char *wanted) {
  const ModprobeRule *rule = find(rules->first, "alias", wanted);
  return rule && *rule->rest ? rule->rest : NULL;
}

bool modprobe_rules_blacklist(const ModprobeRules *rules, const char *module) {
  return find(rules->first, "blacklist", module) != NULL;
}

bool modprobe_rules_forbid(const ModprobeRules *rules, const char *module, bool *ret_counts_as_loaded) {
  const ModprobeRule *rule = find(rules->first, "install", module);
  char program[64];
  if (!rule) return false;
  snprintf(program, sizeof program, "%.*s", (int)strcspn(rule->rest, blanks), rule->rest);
  const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;
  *ret_counts_as_loaded = strcmp(name, "true") == 0 || strcmp(name, ":") == 0;
  return *ret_counts_as_loaded || strcmp(name, "false") == 0;
}

void modprobe_rules_options(const ModprobeRules *rules, const char *module, char *ret_options, size_t size) {
  size_t length = 0;
  *ret_options = 0;
  for (const ModprobeRule *rule = rules->first; (rule = find(rule, "options", module)); rule = rule->next) {
    if (length + strlen(rule->rest) + 2 > size) break;
    length += (size_t)snprintf(ret_options + length, size - length, "%s%s", length ? " " : "", rule->rest);
  }
}

void modprobe_rules_clear(ModprobeRules *rules) {
  for (ModprobeRule *rule; (rule = rules->first);) {
    rules->first = rule->next;
    free(rule);
  }
}
