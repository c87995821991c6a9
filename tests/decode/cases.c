/* Runs cases.tbl: decodes each line's bytes and compares the text of the instruction and its
 * effects with the line's.
 *
 *   cases cases.tbl             fails on the first difference of any line, after printing all
 *   cases --print cases.tbl     prints the file as it would be right by the decoder, for review */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "x86/format.h"

enum { PC = 0x401000 };

static void append_flags(char *text, char name, unsigned flags) {
  if (!flags) return;
  char letters[12] = {' ', name, '='}, *at = letters + 3;
  for (unsigned i = 0; i < 8; i++)
    if (flags >> i & 1) *at++ = "CPAZSOLD"[i];
  strcat(text, letters);
}

/* What the third column says: flag effects, and the flow where it is not just on. */
static void effects_text(const X86Insn *insn, char *text) {
  static const char *const flows[] = {"",          " jump", " jump_ind", " cond", " call",
                                      " call_ind", " ret",  " system",   " trap"};
  *text = 0;
  append_flags(text, 'r', insn->flags_read);
  append_flags(text, 'w', insn->flags_written);
  append_flags(text, 'u', insn->flags_undefined);
  append_flags(text, 'm', insn->flags_maybe);
  strcat(text, flows[insn->flow]);
}

static void decoded_text(uint8_t *bytes, size_t count, char *text, size_t size) {
  static const char *const failures[] = {"", "(truncated)", "(invalid)", "(too long)"};
  X86Insn insn;
  char effects[64];
  X86DecodeStatus status = x86_decode(bytes, count, &insn);
  if (status) {
    snprintf(text, size, "%s", failures[status]);
    return;
  }
  x86_format(&insn, PC, text, size);
  effects_text(&insn, effects);
  size_t length = strlen(text);
  snprintf(text + length, size - length, "%s%s%s", insn.length == count ? "" : " (length)",
           *effects ? " ;" : "", effects);
}

/* "48 89 e5 | mov rbp, rsp": the bytes; returns where the expected text starts, or NULL in no case
 * line. */
static const char *read_line(char *line, uint8_t *bytes, size_t *ret_count) {
  char *bar = strchr(line, '|'), *at = line;
  *ret_count = 0;
  if (line[0] == '#' || !bar) return NULL;
  while (at < bar && *ret_count < 16) {
    bytes[(*ret_count)++] = strtoul(at, &at, 16);
    while (isspace((unsigned char)*at)) at++;
  }
  line[strcspn(line, "\n")] = 0;
  return bar + 1 + (bar[1] == ' ');
}

int main(int argc, char **argv) {
  bool print = argc == 3 && strcmp(argv[1], "--print") == 0;
  if (argc != 2 && !print) {
    fprintf(stderr, "usage: cases [--print] FILE\n");
    return 2;
  }
  FILE *file = fopen(argv[argc - 1], "r");
  if (!file) {
    perror(argv[argc - 1]);
    return 1;
  }
  char line[300], text[300];
  unsigned cases = 0, failures = 0;
  for (unsigned number = 1; fgets(line, sizeof line, file); number++) {
    uint8_t bytes[16];
    size_t count;
    const char *expected = read_line(line, bytes, &count);
    if (!expected) {
      if (print) fputs(line, stdout);
      continue;
    }
    cases++;
    decoded_text(bytes, count, text, sizeof text);
    if (print) {
      printf("%.*s| %s\n", (int)(strchr(line, '|') - line), line, text);
    } else if (strcmp(text, expected)) {
      printf("line %u: expected '%s'\n  decoded '%s'\n", number, expected, text);
      failures++;
    }
  }
  fclose(file);
  if (!print) printf("%u cases, %u failures\n", cases, failures);
  return failures || !cases;
}
