/* X86Insn to text in Intel syntax, close to what objdump -M intel prints, for STELE_DUMP and
 * messages. Only decoded facts are used: what cannot be seen here the lifter cannot see either.
 * Freestanding. */
#include "x86/format.h"

#include "base/print.h"
#include "format-data.h"

static const char conditions[16][4] = {
    "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g",
};

static const char registers64[17][4] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8",
    "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip",
};

static const char segments[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};

const char *x86_mnemonic_name(unsigned mnemonic) {
  return mnemonic_text + mnemonic_offsets[mnemonic < X86_MNEMONIC_COUNT ? mnemonic : X86_INVALID];
}

static void append_gpr(BaseText *text, unsigned reg, unsigned size) {
  const char *name = registers64[reg];
  if (reg >= X86_R8 && reg != X86_RIP)
    base_text_printf(text, "%s%s", name, size == 8 ? "" : size == 4 ? "d" : size == 2 ? "w" : "b");
  else if (size >= 4)
    base_text_printf(text, "%c%s", size == 8 ? 'r' : 'e', name + 1);
  else if (size == 2)
    base_text_printf(text, "%s", name + 1);
  else if (reg < X86_RSP)
    base_text_printf(text, "%cl", name[1]);
  else
    base_text_printf(text, "%sl", name + 1);
}

static const char *size_name(unsigned size) {
  switch (size) {
  case 1:
    return "byte ptr ";
  case 2:
    return "word ptr ";
  case 4:
    return "dword ptr ";
  case 8:
    return "qword ptr ";
  case 10:
    return "tbyte ptr ";
  case 16:
    return "xmmword ptr ";
  case 32:
    return "ymmword ptr ";
  default:
    return "";
  }
}

/* A signed displacement after something it is added to. */
static void append_displacement(BaseText *text, int64_t disp) {
  if (disp == 0) return;
  base_text_printf(text, "%c0x%lx", disp < 0 ? '-' : '+',
                   disp < 0 ? 0ul - disp : (unsigned long)disp);
}

/* Gathers: the index vector is as wide as the data, or half or twice, by the widths of their
 * elements. */
static char vector_index_class(const X86Insn *insn) {
  bool wide = insn->operands[0].size == 32;
  switch (insn->mnemonic) {
  case X86_VGATHERDPD:
  case X86_VPGATHERDQ:
    return 'x';
  case X86_VGATHERQPS:
  case X86_VPGATHERQD:
    return insn->operands[0].size == 16 ? 'y' : 'x';
  default:
    return wide ? 'y' : 'x';
  }
}

static void append_memory(BaseText *text, const X86Insn *insn, unsigned size, uint64_t next_pc) {
  const X86Mem *mem = &insn->mem;
  unsigned width = insn->prefixes & X86_PREFIX_ADDR32 ? 4 : 8;
  bool vector_index = insn->prefixes & X86_PREFIX_VSIB;
  base_text_printf(text, "%s", size_name(size));
  if (mem->segment != X86_NOREG) base_text_printf(text, "%s:", segments[mem->segment]);
  base_text_printf(text, "[");
  if (mem->base == X86_RIP) {
    uint64_t address = next_pc + mem->disp;
    base_text_printf(text, "0x%lx]", (unsigned long)(width == 4 ? (uint32_t)address : address));
    return;
  }
  if (mem->base != X86_NOREG) append_gpr(text, mem->base, width);
  if (mem->index != X86_NOREG) {
    if (mem->base != X86_NOREG) base_text_printf(text, "+");
    if (vector_index)
      base_text_printf(text, "%cmm%u", vector_index_class(insn), mem->index);
    else
      append_gpr(text, mem->index, width);
    base_text_printf(text, "*%u", 1u << mem->scale);
  }
  if (mem->base == X86_NOREG && mem->index == X86_NOREG)
    base_text_printf(text, "0x%lx", (unsigned long)mem->disp);
  else
    append_displacement(text, mem->disp);
  base_text_printf(text, "]");
}

static void append_immediate(BaseText *text, int64_t value, unsigned size) {
  uint64_t mask = size >= 8 ? ~0ul : (1ul << size * 8) - 1;
  if (value < 0 && value >= -128)
    base_text_printf(text, "-0x%lx", 0ul - value);
  else
    base_text_printf(text, "0x%lx", (unsigned long)value & mask);
}

static void append_operand(BaseText *text, const X86Insn *insn, const X86Operand *operand,
                           uint64_t next_pc) {
  switch (operand->kind) {
  case X86_OPERAND_GPR:
    append_gpr(text, operand->reg, operand->size);
    break;
  case X86_OPERAND_GPR8H:
    base_text_printf(text, "%ch", registers64[operand->reg][1]);
    break;
  case X86_OPERAND_MEM:
    append_memory(text, insn, operand->size, next_pc);
    break;
  case X86_OPERAND_IMM:
    append_immediate(text, insn->imm, operand->size);
    break;
  case X86_OPERAND_IMM2:
    append_immediate(text, insn->imm2, 2);
    break;
  case X86_OPERAND_REL:
    base_text_printf(text, "0x%lx", (unsigned long)(next_pc + insn->imm));
    break;
  case X86_OPERAND_XMM:
    base_text_printf(text, "%cmm%u", operand->size == 32 ? 'y' : 'x', operand->reg);
    break;
  case X86_OPERAND_MMX:
    base_text_printf(text, "mm%u", operand->reg);
    break;
  case X86_OPERAND_ST:
    base_text_printf(text, "st(%u)", operand->reg);
    break;
  case X86_OPERAND_SEG:
    base_text_printf(text, "%s", segments[operand->reg]);
    break;
  case X86_OPERAND_CR:
    base_text_printf(text, "cr%u", operand->reg);
    break;
  case X86_OPERAND_DR:
    base_text_printf(text, "dr%u", operand->reg);
    break;
  default:
    break;
  }
}

/* Instructions without operands that exist in several widths say which by a letter. */
static const char *width_suffix(const X86Insn *insn) {
  switch (insn->mnemonic) {
  case X86_MOVS:
  case X86_CMPS:
  case X86_STOS:
  case X86_LODS:
  case X86_SCAS:
  case X86_INS:
  case X86_OUTS:
    return insn->operand_size == 1   ? "b"
           : insn->operand_size == 2 ? "w"
           : insn->operand_size == 4 ? "d"
                                     : "q";
  case X86_PUSHF:
  case X86_POPF:
    return insn->operand_size == 2 ? "w" : "q";
  case X86_IRET:
  case X86_RETF:
    return insn->operand_size == 2 ? "w" : insn->operand_size == 4 ? "" : "q";
  default:
    return "";
  }
}

static void append_mnemonic(BaseText *text, const X86Insn *insn) {
  const char *condition = conditions[insn->condition & 15];
  if (insn->operand_count == 0 && insn->mem.segment != X86_NOREG)
    base_text_printf(text, "%s ", segments[insn->mem.segment]); /* of an implicit operand */
  if (insn->prefixes & X86_PREFIX_LOCK) base_text_printf(text, "lock ");
  if (insn->prefixes & X86_PREFIX_REPNE) base_text_printf(text, "repne ");
  if (insn->prefixes & X86_PREFIX_REP)
    base_text_printf(text,
                     insn->mnemonic == X86_CMPS || insn->mnemonic == X86_SCAS ? "repe " : "rep ");
  switch (insn->mnemonic) {
  case X86_JCC:
    base_text_printf(text, "j%s", condition);
    break;
  case X86_SETCC:
    base_text_printf(text, "set%s", condition);
    break;
  case X86_CMOVCC:
    base_text_printf(text, "cmov%s", condition);
    break;
  default:
    base_text_printf(text, "%s%s", x86_mnemonic_name(insn->mnemonic), width_suffix(insn));
    break;
  }
}

int x86_format(const X86Insn *insn, uint64_t pc, char *text, size_t size) {
  BaseText out = base_text(text, size);
  append_mnemonic(&out, insn);
  for (unsigned i = 0; i < insn->operand_count; i++) {
    base_text_printf(&out, i == 0 ? " " : ", ");
    append_operand(&out, insn, &insn->operands[i], pc + insn->length);
  }
  return (int)out.length;
}
