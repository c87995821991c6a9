/* STELE_DUMP: a region's guest code, IR and host code, instruction by instruction. */
#include "runtime/internal.h"

#include <string.h>

#include "x86/format.h"

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

static const RegionInsn *insn_at(const LiftRegion *guest, uint64_t pc) {
  for (uint32_t i = 0; i < guest->count; i++)
    if (guest->insns[i].pc == pc) return &guest->insns[i];
  return NULL;
}

static void dump_words(const Region *region, uint32_t from, uint32_t to) {
  for (uint32_t offset = from; offset < to; offset += 4)
    base_print(2, "                                 %08x: %08x\n", offset, region->code[offset / 4]);
}

/* Host code of map entry i: up to the next entry, or to the end. */
static void dump_host(const Region *region, unsigned i) {
  uint32_t end = i + 1 < region->pc_map_count ? region->pc_map[i + 1].host_offset : region->code_bytes;
  dump_words(region, region->pc_map[i].host_offset, end);
}

static void dump_ir(const IrBuilder *b, uint64_t pc) {
  bool inside = false;
  char text[96];
  for (uint32_t i = 0; i < b->count; i++) {
    const IrInsn *insn = &b->insns[i];
    if (insn->op == IR_GUEST) inside = (uint64_t)insn->imm == pc;
    if (!inside || insn->op == IR_GUEST) continue;
    ir_format(insn, text, sizeof text);
    base_print(2, "              %s\n", text);
  }
}

void dump_region(const Lift *lift, const LiftRegion *guest, const Region *region) {
  base_print(2, "region 0x%lx: %u instructions, %u bytes of code at %p\n", (unsigned long)region->entry, guest->count,
             region->code_bytes, (void *)region->code);
  for (unsigned i = 0; i < region->pc_map_count; i++) {
    unsigned form;
    uint64_t pc = runtime_pc_of_host(region, (uint64_t)(uintptr_t)region->code + region->pc_map[i].host_offset, &form);
    const RegionInsn *r = insn_at(guest, pc);
    char text[96] = "?";
    if (r && r->decode == X86_DECODE_OK) x86_format(&r->insn, pc, text, sizeof text);
    bool cold = i > 0 && region->pc_map[i].host_offset > region->pc_map[i - 1].host_offset && r && i >= guest->count;
    base_print(2, "%012lx  %s%s\n", (unsigned long)pc, text, cold ? "  (out of line)" : "");
    if (!cold) dump_ir(&lift->b, pc);
    dump_host(region, i);
  }
}
