// See config.h.
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int copy(char *to, size_t size, const char *from) {
  size_t length = strlen(from);
  if (length == 0 || length >= size) return -EINVAL;
  memcpy(to, from, length + 1);
  return 0;
}

static int parse_root(Config *config, const char *value) {
  if (strncmp(value, "virtiofs:", 9) == 0) {
    config->root_kind = ROOT_VIRTIOFS;
    return copy(config->root_source, sizeof config->root_source, value + 9);
  }
  if (strncmp(value, "disk:", 5) != 0) return -EINVAL;
  config->root_kind = ROOT_DISK;
  int r = copy(config->root_source, sizeof config->root_source, value + 5);
  char *comma = strchr(config->root_source, ',');
  if (r == 0 && comma) {
    *comma = 0;
    r = copy(config->root_fstype, sizeof config->root_fstype, comma + 1);
  }
  return r == 0 && strncmp(config->root_source, "/dev/", 5) == 0 ? 0 : -EINVAL;
}

enum { DEVICE_SIZE = 64, FSTYPE_SIZE = 16 };

// /dev/DEVICE[,FSTYPE]
static int parse_disk(char ret_device[DEVICE_SIZE], char ret_fstype[FSTYPE_SIZE], const char *value,
                      const char *default_fstype) {
  const char *comma = strchr(value, ',');
  int length = comma ? (int)(comma - value) : (int)strlen(value);
  if (strncmp(value, "/dev/", 5) != 0 || length >= DEVICE_SIZE) return -EINVAL;
  snprintf(ret_device, DEVICE_SIZE, "%.*s", length, value);
  return copy(ret_fstype, FSTYPE_SIZE, comma ? comma + 1 : default_fstype);
}

static int parse_changes(Config *config, const char *value) {
  return parse_disk(config->changes_device, config->changes_fstype, value, "ext4");
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode_percent(char *to, size_t size, const char *from) {
  size_t length = 0;
  for (; *from; from++) {
    int byte = (unsigned char)*from;
    if (*from == '%') {
      int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);
      if (low < 0 || (high | low) == 0) return -EINVAL;
      byte = high << 4 | low;
      from += 2;
    }
    if (length + 1 >= size) return -EINVAL;
    to[length++] = (char)byte;
  }
  to[length] = 0;
  return 0;
}

static int parse_share(Config *config, const char *value) {
  const char *colon = strchr(value, ':');
  if (config->share_count == STELE_SHARES_MAX || !colon) return -EINVAL;
  ConfigShare *share = &config->shares[config->share_count];
  size_t length = (size_t)(colon - value);
  if (length == 0 || length >= sizeof share->tag) return -EINVAL;
  memcpy(share->tag, value, length);
  share->tag[length] = 0;
  share->readonly = strncmp(colon, ":ro:/", 5) == 0;
  if (!share->readonly && strncmp(colon, ":rw:/", 5) != 0) return -EINVAL;
  int r = decode_percent(share->path, sizeof share->path, colon + 4);
  if (r == 0) config->share_count++;
  return r;
}

static int parse_mode(Config *config, const char *value) {
  static const char *const names[] = {[ROOT_OVERLAY] = "overlay", [ROOT_RW] = "rw", [ROOT_RO] = "ro"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(value, names[i]) != 0) continue;
    config->root_mode = (RootMode)i;
    return 0;
  }
  return -EINVAL;
}

static int parse_init(Config *config, const char *value) {
  if (strcmp(value, "command") == 0) return config->init_kind = INIT_COMMAND, 0;
  if (strcmp(value, "none") == 0) return config->init_kind = INIT_NONE, 0;
  if (strncmp(value, "system", 6) != 0) return -EINVAL;
  config->init_kind = INIT_SYSTEM;
  if (value[6] == 0) return 0;
  return value[6] == ':' && value[7] == '/' ? copy(config->init_path, sizeof config->init_path, value + 7) : -EINVAL;
}

static int parse_hostname(Config *config, const char *value) {
  return copy(config->hostname, sizeof config->hostname, value);
}

static int parse_translator(Config *config, const char *value) {
  if (strncmp(value, "disk:", 5) == 0)
    return parse_disk(config->translator_device, config->translator_fstype, value + 5, "erofs");
  return copy(config->translator_tag, sizeof config->translator_tag, value);
}

static int parse_cpu(Config *config, const char *value) {
  return copy(config->cpu, sizeof config->cpu, value);
}

static int parse_cpu_vendor(Config *config, const char *value) {
  return copy(config->cpu_vendor, sizeof config->cpu_vendor, value);
}

static int parse_memory_model(Config *config, const char *value) {
  return copy(config->memory_model, sizeof config->memory_model, value);
}

static int parse_units(Config *config, const char *value) {
  config->all_units = strcmp(value, "all") == 0;
  return config->all_units || strcmp(value, "needed") == 0 ? 0 : -EINVAL;
}

static int parse_command(Config *config, const char *value) {
  int length = config_decode_base64(value, config->command, sizeof config->command);
  return length > 0 ? 0 : -EINVAL;
}

static const struct Parameter {
  const char *name;
  int (*parse)(Config *config, const char *value);
  const char *expected;
} parameters[] = {
    {STELE_PARAM_ROOT, parse_root, "virtiofs:TAG or disk:/dev/DEVICE[,FSTYPE]"},
    {STELE_PARAM_MODE, parse_mode, "overlay, rw or ro"},
    {STELE_PARAM_CHANGES, parse_changes, "/dev/DEVICE[,FSTYPE]"},
    {STELE_PARAM_SHARE, parse_share, "TAG:rw:/PATH or TAG:ro:/PATH"},
    {STELE_PARAM_INIT, parse_init, "system, system:/PATH, command or none"},
    {STELE_PARAM_HOSTNAME, parse_hostname, "a host name of at most 64 bytes"},
    {STELE_PARAM_TRANSLATOR, parse_translator, "the tag of the translator share, or disk:/dev/DEVICE[,FSTYPE]"},
    {STELE_PARAM_CPU, parse_cpu, "a CPU level"},
    {STELE_PARAM_CPU_VENDOR, parse_cpu_vendor, "the name of a processor's maker"},
    {STELE_PARAM_MEMORY_MODEL, parse_memory_model, "a memory model"},
    {STELE_PARAM_UNITS, parse_units, "all or needed"},
    {STELE_PARAM_COMMAND, parse_command, "base64 of a JSON object"},
};

static int parse_word(Config *config, const char *word, char *message, size_t message_size) {
  for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
    const struct Parameter *parameter = &parameters[i];
    size_t length = strlen(parameter->name);
    if (strncmp(word, parameter->name, length) != 0 || word[length] != '=') continue;
    if (parameter->parse(config, word + length + 1) == 0) return 0;
    snprintf(message, message_size, "kernel parameter '%.100s': expected %s", word, parameter->expected);
    return -EINVAL;
  }
  return 0; // the kernel's, or of a later version
}

static int check(const Config *config, char *message, size_t message_size) {
  const char *problem = NULL;
  if (config->root_kind == ROOT_UNSET)
    problem = STELE_PARAM_ROOT " is missing: name the root file system";
  else if (config->init_kind == INIT_COMMAND && !config->command[0])
    problem = STELE_PARAM_INIT "=command needs " STELE_PARAM_COMMAND;
  if (!problem) return 0;
  snprintf(message, message_size, "kernel command line: %s", problem);
  return -EINVAL;
}

int config_parse(Config *ret_config, const char *command_line, char *message, size_t message_size) {
  char words[STELE_COMMAND_LINE_MAX + 1], *position;
  *ret_config = (Config){.root_fstype = "ext4", .init_path = "/sbin/init", .translator_tag = STELE_TAG_TRANSLATOR};
  if (strlen(command_line) >= sizeof words) {
    snprintf(message, message_size, "the kernel command line is longer than %d bytes", STELE_COMMAND_LINE_MAX);
    return -EINVAL;
  }
  strcpy(words, command_line);
  for (char *word = strtok_r(words, " \t\n", &position); word; word = strtok_r(NULL, " \t\n", &position)) {
    int r = parse_word(ret_config, word, message, message_size);
    if (r < 0) return r;
  }
  return check(ret_config, message, message_size);
}

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int config_decode_base64(const char *text, char *ret_bytes, size_t size) {
  size_t length = strlen(text), out = 0;
  if (length % 4 != 0 || length / 4 * 3 >= size) return -EINVAL;
  for (size_t i = 0; i < length; i += 4) {
    bool last = i + 4 == length;
    int padding = last && text[i + 3] == '=' ? 1 + (text[i + 2] == '=') : 0;
    unsigned value = 0;
    for (int k = 0; k < 4; k++) {
      int digit = k >= 4 - padding ? 0 : base64_digit(text[i + (size_t)k]);
      if (digit < 0) return -EINVAL;
      value = value << 6 | (unsigned)digit;
    }
    for (int k = 0; k < 3 - padding; k++) {
      ret_bytes[out] = (char)(value >> (16 - 8 * k));
      if (!ret_bytes[out++]) return -EINVAL;
    }
  }
  ret_bytes[out] = 0;
  return (int)out;
}
