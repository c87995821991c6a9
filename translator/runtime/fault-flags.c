/* Status flags at a fault that nobody was going to read.
 *
 * Generated code makes only flags that are read before they are written again (region/region.c). A handler or a
 * debugger sees all of them, so the others are worked out where that can be done: the region is analysed
 * once more, and its instructions are gone through backward from the fault, as long as there is one way only
 * that control can have come, undoing what each did to the registers, until the one that wrote the flag.
 * What it computed follows from what is left of its operands and its result. A flag that cannot be had so
 * (its producer's operands are gone, or lie before a place with several ways in) keeps the value it has by
 * chance; with exact flags (RuntimeOptions) there is none such. */
#include "runtime/internal.h"

#include "guest/memory-map.h"

/* What is known of the machine at an earlier point of the block. */
typedef struct Past {
  const GuestCpu *cpu;
  uint64_t gpr[16];
  uint8_t width[16]; /* low bytes of gpr[] that are known: 0 to 8 */
  bool memory;       /* memory is what it was then */
  uint8_t wanted;    /* X86_F_*: status flags still to be found */
  uint8_t found, value;
} Past;

/* What an instruction left in the flags, as far as is known. */
typedef struct Outcome {
  uint8_t known, value; /* X86_F_* */
} Outcome;

/* --- Operands --------------------------------------------------------------------------------------------- */

static uint64_t low_bytes(uint64_t value, unsigned size) {
  return size >= 8 ? value : value & ((UINT64_C(1) << 8 * size) - 1);
}

static bool past_register(const Past *past, unsigned reg, unsigned size, uint64_t *ret_value) {
  if (past->width[reg] < size) return false;
  *ret_value = low_bytes(past->gpr[reg], size);
  return true;
}

static bool past_address(const Past *past, const X86Insn *insn, uint64_t pc, uint64_t *ret_address) {
  const X86Mem *mem = &insn->mem;
  uint64_t address = (uint64_t)mem->disp, value = 0;
  if (insn->prefixes & (X86_PREFIX_ADDR32 | X86_PREFIX_VSIB)) return false;
  if (mem->base == X86_RIP) address += pc + insn->length;
  else if (mem->base != X86_NOREG && !past_register(past, mem->base, 8, &value)) return false;
  address += value;
  value = 0;
  if (mem->index != X86_NOREG && !past_register(past, mem->index, 8, &value)) return false;
  address += value << mem->scale;
  if (mem->segment == X86_SEG_FS) address += past->cpu->fs_base;
  if (mem->segment == X86_SEG_GS) address += past->cpu->gs_base;
  *ret_address = address;
  return true;
}

static bool past_memory(const Past *past, const X86Insn *insn, uint64_t pc, unsigned size, uint64_t *ret_value) {
  uint64_t address, end = 0, value = 0;
  if (!past->memory || size > 8 || !past_address(past, insn, pc, &address)) return false;
  int protection = memory_map_query(address, &end);
  if (protection < 0 || !(protection & MEMORY_READ) || end - address < size) return false;
  for (unsigned i = 0; i < size; i++) value |= (uint64_t)((const uint8_t *)(uintptr_t)address)[i] << 8 * i;
  *ret_value = value;
  return true;
}

static bool same_register(const X86Insn *insn) {
  const X86Operand *o = insn->operands;
  return o[0].kind == X86_OPERAND_GPR && o[1].kind == X86_OPERAND_GPR && o[0].reg == o[1].reg;
}

/* The destination is part of the memory operand's address, which is therefore not known any more. */
static bool overwrites_address(const X86Insn *insn) {
  const X86Operand *o = &insn->operands[0];
  return o->kind == X86_OPERAND_GPR && o->access & X86_ACCESS_W &&
         (insn->mem.base == o->reg || insn->mem.index == o->reg);
}

/* An operand's value behind the instruction; before it, too, where the instruction does not write it. */
static bool operand_after(const Past *past, const X86Insn *insn, uint64_t pc, unsigned index, uint64_t *ret_value) {
  const X86Operand *o = &insn->operands[index];
  switch (o->kind) {
  case X86_OPERAND_GPR: return past_register(past, o->reg, o->size, ret_value);
  case X86_OPERAND_IMM: *ret_value = low_bytes((uint64_t)insn->imm, insn->operands[0].size); return true;
  case X86_OPERAND_MEM: return !overwrites_address(insn) && past_memory(past, insn, pc, o->size, ret_value);
  default: return false;
  }
}

/* --- What instructions leave in the flags ------------------------------------------------------------------- */

static void outcome_add(Outcome *outcome, uint8_t flag, bool set) {
  outcome->known |= flag;
  if (set) outcome->value |= flag;
}

static bool sign_of(uint64_t value, unsigned size) { return value >> (8 * size - 1) & 1; }

static Outcome of_result(uint64_t result, unsigned size) {
  Outcome outcome = {0};
  outcome_add(&outcome, X86_F_ZF, low_bytes(result, size) == 0);
  outcome_add(&outcome, X86_F_SF, sign_of(result, size));
  outcome_add(&outcome, X86_F_PF, guest_flags_even((uint8_t)result));
  return outcome;
}

static Outcome of_logic(uint64_t result, unsigned size) {
  Outcome outcome = of_result(result, size);
  outcome.known |= X86_F_CF | X86_F_OF; /* clear */
  return outcome;
}

/* Of a + b or a - b. */
static Outcome of_sum(uint64_t a, uint64_t b, unsigned size, bool subtract) {
  uint64_t result = low_bytes(subtract ? a - b : a + b, size);
  a = low_bytes(a, size), b = low_bytes(b, size);
  Outcome outcome = of_result(result, size);
  outcome_add(&outcome, X86_F_CF, subtract ? a < b : result < a);
  outcome_add(&outcome, X86_F_AF, (a ^ b ^ result) & 0x10);
  outcome_add(&outcome, X86_F_OF, sign_of((a ^ result) & (subtract ? a ^ b : ~(a ^ b)), size));
  return outcome;
}

static Outcome of_addition(const Past *past, const X86Insn *insn, uint64_t pc, bool subtract) {
  unsigned size = insn->operands[0].size;
  uint64_t result = 0, source;
  if (subtract && same_register(insn)) return of_sum(0, 0, size, true);
  if (!operand_after(past, insn, pc, 0, &result)) return (Outcome){0};
  if (same_register(insn) || !operand_after(past, insn, pc, 1, &source)) return of_result(result, size);
  return of_sum(subtract ? result + source : result - source, source, size, subtract);
}

static Outcome of_comparison(const Past *past, const X86Insn *insn, uint64_t pc, bool test) {
  unsigned size = insn->operands[0].size;
  uint64_t a, b;
  if (!test && same_register(insn)) return of_sum(0, 0, size, true);
  if (!operand_after(past, insn, pc, 0, &a) || !operand_after(past, insn, pc, 1, &b)) return (Outcome){0};
  return test ? of_logic(a & b, size) : of_sum(a, b, size, true);
}

static Outcome of_logic_insn(const Past *past, const X86Insn *insn, uint64_t pc) {
  unsigned size = insn->operands[0].size;
  uint64_t result;
  if (insn->mnemonic == X86_XOR && same_register(insn)) return of_logic(0, size);
  if (!operand_after(past, insn, pc, 0, &result)) return (Outcome){0};
  return of_logic(result, size);
}

/* INC, DEC, NEG: of the result alone. */
static Outcome of_unary(const Past *past, const X86Insn *insn, uint64_t pc) {
  unsigned size = insn->operands[0].size;
  uint64_t result;
  if (!operand_after(past, insn, pc, 0, &result)) return (Outcome){0};
  if (insn->mnemonic == X86_NEG) return of_sum(0, 0 - result, size, true);
  Outcome outcome = insn->mnemonic == X86_INC ? of_sum(result - 1, 1, size, false) : of_sum(result + 1, 1, size, true);
  outcome.known &= (uint8_t)~X86_F_CF;
  return outcome;
}

/* By a constant; the bits shifted out are gone, and CF with them. */
static Outcome of_shift(const Past *past, const X86Insn *insn, uint64_t pc) {
  unsigned size = insn->operands[0].size, count = (unsigned)insn->imm & (size == 8 ? 63 : 31);
  uint64_t result;
  if (insn->operands[1].kind != X86_OPERAND_IMM || !count || !operand_after(past, insn, pc, 0, &result))
    return (Outcome){0};
  Outcome outcome = of_result(result, size);
  if (insn->mnemonic == X86_SAR) outcome_add(&outcome, X86_F_OF, false);
  if (insn->mnemonic == X86_SHR) outcome_add(&outcome, X86_F_OF, count == 1 && sign_of(result << 1, size));
  return outcome;
}

static Outcome outcome_of(const Past *past, const X86Insn *insn, uint64_t pc) {
  switch (insn->mnemonic) {
  case X86_ADD: return of_addition(past, insn, pc, false);
  case X86_SUB: return of_addition(past, insn, pc, true);
  case X86_CMP: return of_comparison(past, insn, pc, false);
  case X86_TEST: return of_comparison(past, insn, pc, true);
  case X86_AND:
  case X86_OR:
  case X86_XOR: return of_logic_insn(past, insn, pc);
  case X86_INC:
  case X86_DEC:
  case X86_NEG: return of_unary(past, insn, pc);
  case X86_SHL:
  case X86_SHR:
  case X86_SAR: return of_shift(past, insn, pc);
  default: return (Outcome){0};
  }
}

/* --- Going back --------------------------------------------------------------------------------------------- */

static void forget_written(Past *past, const X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++) {
    const X86Operand *o = &insn->operands[i];
    if (!(o->access & X86_ACCESS_W)) continue;
    if (o->kind == X86_OPERAND_GPR) past->width[o->reg] = 0;
    else if (o->kind == X86_OPERAND_GPR8H && past->width[o->reg] > 1) past->width[o->reg] = 1;
    else if (o->kind == X86_OPERAND_MEM) past->memory = false;
  }
}

/* The register was `difference` less, in its low `size` bytes. */
static void undo_addition(Past *past, unsigned reg, unsigned size, uint64_t difference) {
  past->gpr[reg] -= difference;
  if (past->width[reg] > size) past->width[reg] = (uint8_t)size;
}

/* A copied register is known from the copy. */
static void undo_move(Past *past, const X86Insn *insn) {
  const X86Operand *to = &insn->operands[0], *from = &insn->operands[1];
  bool registers = to->kind == X86_OPERAND_GPR && from->kind == X86_OPERAND_GPR && to->reg != from->reg;
  uint8_t known = past->width[to->reg & 15] < to->size ? past->width[to->reg & 15] : to->size;
  if (registers && known > past->width[from->reg]) {
    past->gpr[from->reg] = past->gpr[to->reg];
    past->width[from->reg] = known;
  }
  forget_written(past, insn);
}

static void undo_stack(Past *past, const X86Insn *insn) {
  forget_written(past, insn);
  if (insn->mnemonic == X86_PUSH) past->memory = false;
  undo_addition(past, X86_RSP, 8, insn->mnemonic == X86_PUSH ? 0 - (uint64_t)insn->operand_size : insn->operand_size);
}

static bool uses_vectors(const X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++)
    if (insn->operands[i].kind == X86_OPERAND_XMM || insn->operands[i].kind == X86_OPERAND_MMX) return true;
  return false;
}

/* Makes `past` what it was before the instruction. False where that takes facts nobody has written down here. */
static bool undo(Past *past, const X86Insn *insn) {
  const X86Operand *o = &insn->operands[0];
  switch (insn->mnemonic) {
  case X86_MOV: undo_move(past, insn); return true;
  case X86_PUSH:
  case X86_POP: undo_stack(past, insn); return true;
  case X86_INC:
  case X86_DEC:
    if (o->kind != X86_OPERAND_GPR) forget_written(past, insn);
    else undo_addition(past, o->reg, o->size, insn->mnemonic == X86_INC ? 1 : UINT64_MAX);
    return true;
  case X86_LEA:
    if (insn->mem.base != o->reg || insn->mem.index != X86_NOREG || insn->prefixes & X86_PREFIX_ADDR32)
      forget_written(past, insn);
    else undo_addition(past, o->reg, o->size, (uint64_t)insn->mem.disp);
    return true;
  case X86_MOVZX:
  case X86_MOVSX:
  case X86_MOVSXD:
  case X86_CMOVCC:
  case X86_SETCC:
  case X86_XCHG:
  case X86_NOT:
  case X86_BSWAP:
  case X86_ROL:
  case X86_ROR:
  case X86_BT:
  case X86_BTS:
  case X86_BTR:
  case X86_BTC: forget_written(past, insn); return true;
  case X86_NOP:
  case X86_JMP:
  case X86_JCC: return true;
  default:
    /* Their results are all among the operands, but for a few that write flags too and end the search. */
    forget_written(past, insn);
    return uses_vectors(insn) && !insn->flags_written && !insn->flags_undefined;
  }
}

/* Takes from the instruction the wanted flags it wrote. False where the search ends. */
static bool look_at(Past *past, const X86Insn *insn, uint64_t pc) {
  uint8_t written = (insn->flags_written | insn->flags_undefined) & past->wanted;
  if (written & insn->flags_maybe) return false;
  if (written) {
    Outcome outcome = outcome_of(past, insn, pc);
    uint8_t taken = outcome.known & written;
    past->found |= taken;
    past->value |= outcome.value & taken;
    past->wanted &= (uint8_t)~written;
  }
  return past->wanted && undo(past, insn);
}

/* The only instruction control can have come from to instruction `i`, or REGION_NO_INSN. */
static uint32_t instruction_before(const LiftRegion *region, uint32_t i) {
  const RegionInsn *r = &region->insns[i];
  if (!r->leader) return i - 1;
  if (r->entry || r->predecessors != 1) return REGION_NO_INSN;
  for (uint32_t k = 0; k < region->count; k++)
    if (region->insns[k].target == i) return k;
  return region->insns[i - 1].adjacent ? i - 1 : REGION_NO_INSN;
}

/* --- Putting it together -------------------------------------------------------------------------------------- */

/* "SF != OF" is live where only that is read: then one of the two alone must not change. */
static void keep_less_than(Past *past, uint8_t live) {
  const uint8_t both = X86_F_SF | X86_F_OF;
  if (!(live & X86_F_LT) || ((past->found | live) & both) == both) return;
  past->found &= (uint8_t)~both;
}

static void set_flags(GuestCpu *cpu, const Past *past) {
  static const struct {
    uint8_t flag, rflags_bit;
  } rows[] = {{X86_F_CF, 0}, {X86_F_PF, 2}, {X86_F_AF, 4}, {X86_F_ZF, 6}, {X86_F_SF, 7}, {X86_F_OF, 11}};
  uint64_t rflags = guest_flags_get(cpu);
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint64_t bit = UINT64_C(1) << rows[i].rflags_bit;
    if (past->found & rows[i].flag) rflags = (rflags & ~bit) | (past->value & rows[i].flag ? bit : 0);
  }
  guest_flags_set(cpu, rflags);
}

/* The machine as it is before the faulting instruction. A repeated one has moved its operands on already. */
static Past now(const GuestCpu *cpu, const RegionInsn *faulting) {
  bool repeated = faulting->insn.prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE);
  Past past = {.cpu = cpu, .memory = !repeated, .wanted = X86_F_STATUS & (uint8_t)~faulting->live_before};
  for (unsigned r = 0; r < 16; r++) past.gpr[r] = cpu->gpr[r], past.width[r] = 8;
  if (repeated) past.width[X86_RCX] = past.width[X86_RSI] = past.width[X86_RDI] = 0;
  return past;
}

static void recover(GuestCpu *cpu, RuntimeThread *thread, const Region *region, uint32_t offset) {
  const LiftRegion *guest = translate_analyse_again(thread, region, offset);
  uint32_t i = guest ? region_find(guest, cpu->rip) : REGION_NO_INSN;
  if (i == REGION_NO_INSN) return;
  uint8_t live = guest->insns[i].live_before;
  Past past = now(cpu, &guest->insns[i]);
  bool more = past.wanted != 0;
  while (more && (i = instruction_before(guest, i)) != REGION_NO_INSN)
    more = look_at(&past, &guest->insns[i].insn, guest->insns[i].pc);
  keep_less_than(&past, live);
  if (past.found) set_flags(cpu, &past);
}

void runtime_recover_flags(GuestCpu *cpu, uint64_t host_pc) {
  if (runtime.options.exact_flags) return;
  RuntimeThread *thread = runtime_thread_of(cpu);
  uint32_t offset;
  base_lock(&runtime.lock);
  const Region *region = detour_region_at(thread, host_pc, &offset);
  if (region) recover(cpu, thread, region, offset);
  base_unlock(&runtime.lock);
}
