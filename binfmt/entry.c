/* See entry.h. */
#include "binfmt/entry.h"

#include <elf.h>
#include <string.h>

static bool take_word(const char **at, const char *word) {
  size_t length = strlen(word);
  if (strncmp(*at, word, length)) return false;
  *at += length;
  return true;
}

/* The rest of a line, cut at `size`. */
static void take_line(const char **at, char *ret_text, size_t size) {
  size_t length = 0;
  for (; **at && **at != '\n'; (*at)++)
    if (length + 1 < size) ret_text[length++] = **at;
  ret_text[length] = '\0';
}

static bool take_number(const char **at, size_t most, size_t *ret_number) {
  size_t number = 0;
  if (**at < '0' || **at > '9') return false;
  for (; **at >= '0' && **at <= '9'; (*at)++)
    if ((number = number * 10 + (size_t)(**at - '0')) > most) return false;
  *ret_number = number;
  return true;
}

static int digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t take_bytes(const char **at, uint8_t *ret_bytes, size_t most) {
  size_t count = 0;
  for (; count < most && digit((*at)[0]) >= 0 && digit((*at)[1]) >= 0; *at += 2)
    ret_bytes[count++] = (uint8_t)(digit((*at)[0]) << 4 | digit((*at)[1]));
  return count;
}

bool binfmt_entry_parse(const char *text, BinfmtEntry *ret_entry) {
  BinfmtEntry *entry = ret_entry;
  memset(entry, 0, sizeof *entry);
  entry->enabled = !strncmp(text, "enabled\n", 8);
  if (!take_word(&text, "enabled\n") && !take_word(&text, "disabled\n")) return false;
  if (!take_word(&text, "interpreter ")) return false;
  take_line(&text, entry->interpreter, sizeof entry->interpreter);
  if (!take_word(&text, "\nflags: ")) return false;
  take_line(&text, entry->flags, sizeof entry->flags);
  if (!take_word(&text, "\noffset ")) return true; /* an extension */
  if (!take_number(&text, BINFMT_HEAD, &entry->offset) || !take_word(&text, "\nmagic ")) return false;
  entry->by_magic = true;
  entry->length = take_bytes(&text, entry->magic, sizeof entry->magic);
  memset(entry->mask, 0xff, sizeof entry->mask); /* without one every bit counts */
  if (take_word(&text, "\nmask ")) take_bytes(&text, entry->mask, sizeof entry->mask);
  return entry->length > 0 && entry->offset + entry->length <= BINFMT_HEAD;
}

static bool matches(const BinfmtEntry *entry, uint16_t type) {
  uint8_t head[BINFMT_HEAD] = {0};
  Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                       .e_type = type,
                       .e_machine = EM_X86_64,
                       .e_version = EV_CURRENT,
                       .e_phoff = sizeof header,
                       .e_ehsize = sizeof header,
                       .e_phentsize = sizeof(Elf64_Phdr)};
  memcpy(head, &header, sizeof header);
  for (size_t i = 0; i < entry->length; i++)
    if ((head[entry->offset + i] ^ entry->magic[i]) & entry->mask[i]) return false;
  return true;
}

bool binfmt_entry_takes_x86_64(const BinfmtEntry *entry) {
  return entry->enabled && entry->by_magic && (matches(entry, ET_EXEC) || matches(entry, ET_DYN));
}
