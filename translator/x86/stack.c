/* Which accesses are in the stack segment. Nothing but the exception that a non-canonical address raises depends on it. */
#include "x86/decode.h"

static bool near(uint64_t address, uint64_t pointer) {
  enum { REACH = 64 }; /* what an instruction pushes or pops, and how far into an access the processor may fault */
  return address - pointer + REACH < 2 * REACH;
}

/* The pointer by which it pushes or pops; X86_NOREG: it does neither. */
static unsigned implied_pointer(const X86Insn *insn) {
  switch (insn->mnemonic) {
  case X86_LEAVE: return X86_RBP;
  case X86_PUSH:
  case X86_POP:
  case X86_PUSHF:
  case X86_POPF:
  case X86_CALL:
  case X86_RET:
  case X86_ENTER:
  case X86_CALLF:
  case X86_RETF:
  case X86_IRET: return X86_RSP;
  default: return X86_NOREG;
  }
}

static bool has_stack_operand(const X86Insn *insn) {
  if (insn->mem.segment != X86_NOREG || (insn->mem.base != X86_RSP && insn->mem.base != X86_RBP)) return false;
  for (unsigned i = 0; i < insn->operand_count; i++)
    if (insn->operands[i].kind == X86_OPERAND_MEM) return true;
  return false;
}

bool x86_accesses_stack(const X86Insn *insn, uint64_t rsp, uint64_t rbp, uint64_t address) {
  unsigned pointer = implied_pointer(insn);
  if (pointer != X86_NOREG && near(address, pointer == X86_RSP ? rsp : rbp)) return true;
  return has_stack_operand(insn);
}
