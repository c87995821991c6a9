/* STELE_DUMP: a region's guest code, IR and host code side by side, guest instruction by guest instruction: in line
 * first, with the IR on the left, then what was put out of line, then the literals. */
#include "runtime/internal.h"

#include <string.h>

#include "a64/disassemble.h"
#include "a64/encode.h"
#include "x86/format.h"

enum { TEXT = 96, MAX_BYTES = 15 };

static uint64_t parse_hex(const char *text) {
  uint64_t value = 0;
  if (text[0] == '0' && text[1] == 'x') text += 2;
  for (; *text; text++) {
    unsigned digit = *text >= 'a' ? (unsigned)(*text - 'a') + 10 : (unsigned)(*text - '0');
    if (digit > 15) break;
    value = value << 4 | digit;
  }
  return value;
}

bool dump_wanted(uint64_t guest_pc) {
  const char *dump = runtime.options.dump;
  if (!dump) return false;
  return !strcmp(dump, "all") || parse_hex(dump) == guest_pc;
}

/* --- Host code ------------------------------------------------------------------------------------ */

/* Offset of the literal that the word at `offset` loads. */
static uint32_t literal_offset(const Region *region, uint32_t offset) {
  return offset + ((region->code[offset / 4] >> 5 & 0x7ffff) << 2);
}

static uint32_t literals_start(const Region *region) {
  uint32_t start = region->code_bytes;
  for (uint32_t offset = 0; offset < start; offset += 4)
    if (a64_is_load_literal(region->code[offset / 4]) && literal_offset(region, offset) < start)
      start = literal_offset(region, offset);
  return start;
}

static const char *trampoline_name(uint64_t target) {
  static const char names[A64_TRAMPOLINE_COUNT][12] = {
      [A64_TRAMPOLINE_LINK] = "link",       [A64_TRAMPOLINE_INDIRECT] = "indirect", [A64_TRAMPOLINE_RETURN] = "return",
      [A64_TRAMPOLINE_SYSCALL] = "syscall", [A64_TRAMPOLINE_RAISE] = "raise",       [A64_TRAMPOLINE_HELPER] = "helper"};
  for (unsigned i = 0; i < A64_TRAMPOLINE_COUNT; i++)
    if (runtime.trampolines[i] == target) return names[i];
  return NULL;
}

/* The word at `offset` as text, with what it leads to. */
static void format_host(const Region *region, uint32_t offset, char *text, size_t size) {
  uint32_t word = region->code[offset / 4];
  uint64_t address = (uint64_t)(uintptr_t)region->code + offset;
  size_t length = (size_t)a64_disassemble(word, address, text, size);
  const char *name = NULL;
  if (a64_is_b_or_bl(word)) name = trampoline_name(address + (uint64_t)a64_branch_distance(word));
  if (name && length < size) {
    base_format(text + length, size - length, " <%s>", name);
  } else if (a64_is_load_literal(word) && length < size) {
    const uint32_t *literal = &region->code[literal_offset(region, offset) / 4];
    base_format(text + length, size - length, " =0x%lx", (unsigned long)((uint64_t)literal[1] << 32 | literal[0]));
  }
}

static void put_host(const Region *region, uint32_t offset, const char *left) {
  char text[TEXT];
  format_host(region, offset, text, sizeof text);
  base_print(2, "    %-46s %012lx  %s\n", left, (unsigned long)((uintptr_t)region->code + offset), text);
}

/* --- One guest instruction ------------------------------------------------------------------------ */

static const RegionInsn *insn_at(const LiftRegion *guest, uint64_t pc) {
  for (uint32_t i = 0; i < guest->count; i++)
    if (guest->insns[i].pc == pc) return &guest->insns[i];
  return NULL;
}

static void put_guest(const LiftRegion *guest, const RegionInsn *r, uint64_t pc) {
  char text[TEXT] = "(no instruction)", bytes[3 * MAX_BYTES + 1] = "";
  if (r && r->decode == X86_DECODE_OK) {
    x86_format(&r->insn, pc, text, sizeof text);
    const uint8_t *code = guest->window.bytes + (pc - guest->window.start);
    for (unsigned i = 0; i < r->insn.length && i < MAX_BYTES; i++) base_format(bytes + 3 * i, 4, "%02x ", code[i]);
  }
  base_print(2, "%012lx  %-40s  ; %s\n", (unsigned long)pc, text, bytes);
}

/* The IR of the instruction at `pc` from *at on: the next operation as text; false at the end. */
static bool next_ir(const IrBuilder *b, uint32_t *at, char *text, size_t size) {
  while (*at < b->count && b->insns[*at].op == IR_NOP) ++*at;
  if (*at >= b->count || b->insns[*at].op == IR_GUEST) return false;
  ir_format(&b->insns[(*at)++], text, size);
  return true;
}

/* Index behind the marker of the instruction at `pc`. */
static uint32_t ir_start(const IrBuilder *b, uint64_t pc) {
  uint32_t i = 0;
  while (i < b->count && (b->insns[i].op != IR_GUEST || (uint64_t)b->insns[i].imm != pc)) i++;
  return i + 1;
}

static void put_both(const IrBuilder *b, const Region *region, uint64_t pc, uint32_t from, uint32_t to) {
  char left[TEXT];
  uint32_t at = ir_start(b, pc);
  bool more = next_ir(b, &at, left, sizeof left);
  for (; from < to; from += 4) {
    put_host(region, from, more ? left : "");
    if (more) more = next_ir(b, &at, left, sizeof left);
  }
  for (; more; more = next_ir(b, &at, left, sizeof left)) base_print(2, "    %s\n", left);
}

/* --- The region ----------------------------------------------------------------------------------- */

static void put_literals(const Region *region) {
  for (uint32_t offset = literals_start(region); offset + 8 <= region->code_bytes; offset += 8)
    base_print(2, "    %-46s %012lx  .quad 0x%lx\n", "", (unsigned long)((uintptr_t)region->code + offset),
               (unsigned long)((uint64_t)region->code[offset / 4 + 1] << 32 | region->code[offset / 4]));
}

void dump_region(const Lift *lift, const LiftRegion *guest, const Region *region) {
  base_print(2, "region 0x%lx: %u instructions, %u bytes of code at 0x%lx\n", (unsigned long)region->entry,
             guest->count, region->code_bytes, (unsigned long)(uintptr_t)region->code);
  uint32_t end = literals_start(region);
  uint64_t last_pc = 0;
  bool cold = false;
  A64PcCursor at = a64_pc_map_begin(&region->tables);
  for (bool more = a64_pc_map_next(&at), first = true; more; first = false) {
    unsigned form;
    uint32_t from = at.last.host_offset;
    more = a64_pc_map_next(&at);
    uint32_t to = more ? at.last.host_offset : end;
    uint64_t pc = region_pc_at(region, from, &form);
    if (!first && pc <= last_pc && !cold) {
      cold = true; /* in line, guest PCs only ascend */
      base_print(2, "  out of line:\n");
    }
    last_pc = pc;
    put_guest(guest, insn_at(guest, pc), pc);
    if (!cold) put_both(&lift->b, region, pc, from, to);
    else
      for (; from < to; from += 4) put_host(region, from, "");
  }
  put_literals(region);
}
