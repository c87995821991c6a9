/* Translates pieces of x86-64 code as runtime/translate.c does and prints the AArch64 code, for tests/golden/check.
 *
 *   golden-emit IMAGE < CASES
 *
 * A line of CASES is "OFFSET BODY WHOLE", in hexadecimal: a piece of WHOLE bytes at OFFSET in IMAGE, whose first BODY
 * bytes are the case and the rest a RET that ends it, which is not printed. All are translated as standing at one
 * guest address, so that adding one changes no other.
 * For every case and configuration comes a line "@ CONFIGURATION X86 HOT COLD" with the numbers of instructions, then
 * the listing. Lines "! WORD TEXT" between them are the words disassembled at the addresses 0, 4, 8 …, for
 * comparison with another disassembler.
 *
 *   golden-emit --words < WORDS
 *
 * prints such lines for given words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a64/disassemble.h"
#include "a64/emit.h"
#include "a64/encode.h"
#include "lift/lift.h"
#include "opt/opt.h"
#include "x86/format.h"

enum { BASE = 0x400000, CODE_WORDS = 32768, RELOCATIONS = 4096, MAX_WORDS = 4096 };

typedef struct Configuration {
  const char *name;
  uint32_t features;
  bool ordered;
} Configuration;

static const Configuration configurations[] = {
    {"all", UINT32_MAX, false},
    {"none", 0, false},
    {"ordered", UINT32_MAX, true},
    {"ordered-none", 0, true},
};

static const char *const trampoline_names[A64_TRAMPOLINE_COUNT] = {
    [A64_TRAMPOLINE_LINK] = "link",       [A64_TRAMPOLINE_INDIRECT] = "indirect", [A64_TRAMPOLINE_RETURN] = "return",
    [A64_TRAMPOLINE_SYSCALL] = "syscall", [A64_TRAMPOLINE_RAISE] = "raise",       [A64_TRAMPOLINE_HELPER] = "helper"};

typedef struct Piece {
  uint64_t pc, body, whole;
} Piece;

static Lift lift;
static LiftRegion region;
static A64Code code;
static A64Emitter *emitter;
static uint32_t listed; /* words printed with '!' */

static void fail(const char *what) {
  fprintf(stderr, "golden-emit: %s\n", what);
  exit(1);
}

static void fail_at(const uint8_t *bytes, const Piece *piece, const char *what) {
  X86Insn insn;
  char text[96] = "?";
  if (x86_decode(bytes, piece->whole, &insn) == X86_DECODE_OK) x86_format(&insn, piece->pc, text, sizeof text);
  fprintf(stderr, "golden-emit: case beginning with '%s': %s\n", text, what);
  exit(1);
}

/* --- Translation ---------------------------------------------------------------------------------- */

static void translate(const Piece *piece, const uint8_t *bytes, const Configuration *c) {
  RegionWindow window = {piece->pc, piece->pc + piece->whole, bytes};
  memset(&lift.x87, 0, sizeof lift.x87);
  region_decode(&region, &window, piece->pc, REGION_MAX_INSNS, REGION_MAX_INSNS);
  region_analyse(&region);
  lift.features = c->features;
  lift.ordered = c->ordered;
  lift.extended = true;
  lift_region(&lift, &region);
  const char *problem = lift.b.overflow ? "IR overflow" : ir_verify(&lift.b);
  if (problem) fail_at(bytes, piece, problem);
  opt_run(&lift.b);
  A64EmitOptions options = {.guest_entry = piece->pc, .features = c->features, .ordered = c->ordered};
  if (a64_emit(emitter, &lift.b, &options, &code) != A64_EMIT_OK) fail_at(bytes, piece, "a64_emit() failed");
}

/* --- What the words are --------------------------------------------------------------------------- */

static bool is_literal_load(uint32_t word) { return (word & 0xff000000u) == 0x58000000u; }
static bool is_adr(uint32_t word) { return (word & 0x9f000000u) == 0x10000000u; }

static bool is_branch(uint32_t word) {
  return (word & 0x7c000000u) == 0x14000000u || (word & 0xff000010u) == 0x54000000u ||
         (word & 0x7c000000u) == 0x34000000u;
}

static const A64Relocation *relocation_at(uint32_t index) {
  for (uint32_t i = 0; i < code.relocation_count; i++)
    if (code.relocations[i].word == index) return &code.relocations[i];
  return NULL;
}

/* Word index that a branch, ADR or literal load refers to. ADR's and LDR's distance has CBZ's place. */
static uint32_t reference(uint32_t index) {
  uint32_t word = code.words[index];
  if (is_adr(word) || is_literal_load(word)) word = (word & 0x00ffffe0u) | 0x34000000u;
  return (uint32_t)(index + a64_branch_distance(word) / 4);
}

/* First word of the literals. */
static uint32_t literals_start(void) {
  uint32_t start = code.count;
  for (uint32_t i = 0; i < start; i++)
    if (is_literal_load(code.words[i]) && reference(i) < start) start = reference(i);
  return start > code.hot_count && start < code.count && code.words[start - 1] == 0 ? start - 1 : start;
}

/* The parts of the code that belong to the case: up to the final RET's, hot and cold. */
typedef struct Extent {
  uint32_t hot_end, cold_start, cold_end;
} Extent;

static uint32_t map_pc(const A64PcMap *map) { return map->guest_offset & 0x3fffffffu; }

static Extent case_extent(const Piece *piece) {
  Extent e = {code.hot_count, code.hot_count, literals_start()};
  for (uint32_t i = 0; i < code.cold_pc_map; i++)
    if (map_pc(&code.pc_map[i]) == piece->body) e.hot_end = code.pc_map[i].host_offset / 4;
  /* The RET's last way out of line is the mispredicted return. */
  if (e.hot_end < code.hot_count && code.indirect_count)
    e.cold_end = reference(code.indirect_checks[code.indirect_count - 1] / 4);
  return e;
}

/* --- Printing ------------------------------------------------------------------------------------- */

static bool inside(const Extent *e, uint32_t i) { return i < e->hot_end || (i >= e->cold_start && i < e->cold_end); }

/* Marks the words branches go to. */
static void find_labels(const Extent *e, uint8_t *labels) {
  memset(labels, 0, MAX_WORDS);
  for (uint32_t i = 0; i < e->cold_end; i++)
    if (inside(e, i) && (is_branch(code.words[i]) || is_adr(code.words[i])) && !relocation_at(i))
      labels[reference(i)] = 1;
  uint8_t number = 0;
  for (uint32_t i = 0; i < e->cold_end; i++)
    if (labels[i]) labels[i] = ++number;
}

static void print_literal_load(uint32_t i) {
  uint32_t at = reference(i);
  uint64_t value = (uint64_t)code.words[at + 1] << 32 | code.words[at];
  printf("\tldr x%u, =0x%llx%s\n", code.words[i] & 31, (unsigned long long)value, relocation_at(at) ? " (guest)" : "");
}

static void print_word(uint32_t i, const uint8_t *labels) {
  uint32_t word = code.words[i];
  char text[96];
  a64_disassemble(word, i * 4, text, sizeof text);
  char *last = strrchr(text, ' ');
  if (labels[i]) printf(".%u:\n", labels[i]);
  const A64Relocation *relocation = relocation_at(i);
  if (relocation) printf("\t%.*s %s\n", (int)(last - text), text, trampoline_names[relocation->trampoline]);
  else if (is_literal_load(word)) print_literal_load(i);
  else if (is_branch(word) || is_adr(word)) printf("\t%.*s .%u\n", (int)(last - text), text, labels[reference(i)]);
  else printf("\t%s\n", text);
}

static void print_hot(const Piece *piece, const Extent *e, const uint8_t *labels) {
  uint32_t word = 0;
  for (uint32_t k = 0; k < code.cold_pc_map && code.pc_map[k].host_offset / 4 <= e->hot_end; k++) {
    uint32_t offset = map_pc(&code.pc_map[k]);
    if (offset == piece->body && piece->whole > piece->body) break;
    for (uint32_t n = 0; n < region.count; n++) {
      if (region.insns[n].pc != piece->pc + offset) continue;
      char text[96] = "(not an instruction)";
      if (region.insns[n].decode == X86_DECODE_OK)
        x86_format(&region.insns[n].insn, region.insns[n].pc, text, sizeof text);
      printf("  %s\n", text);
    }
    uint32_t end = k + 1 < code.cold_pc_map ? code.pc_map[k + 1].host_offset / 4 : code.hot_count;
    for (; word < end && word < e->hot_end; word++) print_word(word, labels);
  }
  if (e->hot_end < code.hot_count && labels[e->hot_end]) printf(".%u:\n", labels[e->hot_end]);
}

static uint32_t guest_count(const Piece *piece) {
  uint32_t count = 0;
  while (count < region.count && region.insns[count].pc < piece->pc + piece->body) count++;
  return count;
}

static void print_case(const Piece *piece, const Configuration *c) {
  static uint8_t labels[MAX_WORDS];
  if (code.count > MAX_WORDS) fail("a case is too large");
  Extent e = case_extent(piece);
  find_labels(&e, labels);
  printf("@ %s %u %u %u\n", c->name, guest_count(piece), e.hot_end, e.cold_end - e.cold_start);
  print_hot(piece, &e, labels);
  if (e.cold_start < e.cold_end) printf("  out of line\n");
  for (uint32_t i = e.cold_start; i < e.cold_end; i++) print_word(i, labels);
}

static void print_disassembled(uint32_t word) {
  char text[96];
  a64_disassemble(word, listed++ * 4, text, sizeof text);
  printf("! %08x %s\n", word, text);
}

static void print_words(void) {
  uint32_t end = literals_start();
  for (uint32_t i = 0; i < end; i++) print_disassembled(code.words[i]);
}

static int disassemble_input(void) {
  unsigned word;
  while (scanf("%x", &word) == 1) print_disassembled(word);
  return 0;
}

int main(int argc, char **argv) {
  static uint8_t image[1 << 20];
  if (argc == 2 && !strcmp(argv[1], "--words")) return disassemble_input();
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!file) fail("usage: golden-emit IMAGE < CASES");
  size_t length = fread(image, 1, sizeof image, file);
  lift.b.insns = calloc(IR_MAX_INSNS, sizeof *lift.b.insns);
  code.words = calloc(CODE_WORDS, sizeof *code.words);
  code.relocations = calloc(RELOCATIONS, sizeof *code.relocations);
  emitter = calloc(1, a64_emitter_size());
  if (!lift.b.insns || !code.words || !code.relocations || !emitter) fail("out of memory");
  code.capacity = CODE_WORDS;
  code.relocation_capacity = RELOCATIONS;
  unsigned long long offset, body, whole;
  while (scanf("%llx %llx %llx", &offset, &body, &whole) == 3) {
    Piece piece = {BASE, body, whole};
    if (offset + whole > length) fail("a case lies outside the image");
    for (unsigned i = 0; i < sizeof configurations / sizeof *configurations; i++) {
      translate(&piece, image + offset, &configurations[i]);
      print_words();
      print_case(&piece, &configurations[i]);
    }
  }
  return 0;
}
