/* Decodes with both and compares fact by fact. Zydis tells more (hidden operands, element types)
 * and other things otherwise (its own names); what is compared is all that X86Insn holds. */
#include "compare.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "differences.h"
#include "x86/format.h"

static ZydisDecoder decoder;
static bool mnemonic_met[X86_MNEMONIC_COUNT];

void compare_setup(void) {
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

/* What Zydis made of the bytes. */
typedef struct Verdict {
  ZydisDecodedInstruction insn;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  unsigned operand_count;
  ZyanStatus status;
} Verdict;

static unsigned status_flags(uint32_t zydis) {
  static const struct {
    uint32_t zydis;
    unsigned ours;
  } map[] = {
      {ZYDIS_CPUFLAG_CF, X86_F_CF}, {ZYDIS_CPUFLAG_PF, X86_F_PF}, {ZYDIS_CPUFLAG_AF, X86_F_AF},
      {ZYDIS_CPUFLAG_ZF, X86_F_ZF}, {ZYDIS_CPUFLAG_SF, X86_F_SF}, {ZYDIS_CPUFLAG_OF, X86_F_OF},
      {ZYDIS_CPUFLAG_DF, X86_F_DF},
  };
  unsigned flags = 0;
  for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
    if (zydis & map[i].zydis) flags |= map[i].ours;
  return flags;
}

static const char *flags_text(unsigned flags) {
  static char texts[4][9];
  static unsigned next;
  char *text = texts[next++ % 4], *at = text;
  for (unsigned i = 0; i < 8; i++)
    if (flags >> i & 1) *at++ = "CPAZSOLD"[i];
  *at = 0;
  return text;
}

static bool compare_flags(const X86Insn *ours, const Verdict *zydis, char *what, size_t size) {
  const ZydisAccessedFlags *flags = zydis->insn.cpu_flags;
  unsigned read = ours->flags_read;
  if (read & X86_F_LT) read = (read & ~X86_F_LT) | X86_F_SF | X86_F_OF;
  unsigned zydis_read = flags ? status_flags(flags->tested) : 0;
  unsigned zydis_undefined = flags ? status_flags(flags->undefined) : 0;
  unsigned zydis_written = flags ? status_flags(flags->modified | flags->set_0 | flags->set_1) : 0;
  zydis_written &= ~zydis_undefined;
  if (read == zydis_read && ours->flags_written == zydis_written &&
      ours->flags_undefined == zydis_undefined)
    return true;
  snprintf(what, size, "flags r=%s w=%s u=%s, Zydis r=%s", flags_text(read),
           flags_text(ours->flags_written), flags_text(ours->flags_undefined),
           flags_text(zydis_read));
  snprintf(what + strlen(what), size - strlen(what), " w=%s u=%s", flags_text(zydis_written),
           flags_text(zydis_undefined));
  return false;
}

static unsigned register_number(ZydisRegister reg) {
  if (reg == ZYDIS_REGISTER_NONE) return X86_NOREG;
  if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) return X86_RIP;
  return (unsigned)ZydisRegisterGetId(reg);
}

static const char *compare_memory(const X86Insn *ours, const X86Operand *operand,
                                  const ZydisDecodedOperand *zydis) {
  const X86Mem *mem = &ours->mem;
  static const uint8_t log2_of[9] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};
  if (zydis->type != ZYDIS_OPERAND_TYPE_MEMORY) return "kind (ours memory)";
  if (mem->base != register_number(zydis->mem.base)) return "base";
  if (mem->index != register_number(zydis->mem.index)) return "index";
  if (mem->index != X86_NOREG && mem->scale != log2_of[zydis->mem.scale]) return "scale";
  if (mem->disp != zydis->mem.disp.value) return "displacement";
  unsigned segment = X86_NOREG;
  if (zydis->mem.segment == ZYDIS_REGISTER_FS) segment = X86_SEG_FS;
  if (zydis->mem.segment == ZYDIS_REGISTER_GS) segment = X86_SEG_GS;
  if (mem->segment != segment && zydis->mem.type != ZYDIS_MEMOP_TYPE_AGEN) return "segment";
  bool vector = ZydisRegisterGetClass(zydis->mem.index) == ZYDIS_REGCLASS_XMM ||
                ZydisRegisterGetClass(zydis->mem.index) == ZYDIS_REGCLASS_YMM;
  if (vector != !!(ours->prefixes & X86_PREFIX_VSIB)) return "vector index";
  if (operand->size && operand->size * 8 != zydis->size) return "memory size";
  return NULL;
}

static const char *compare_register(const X86Operand *operand, const ZydisDecodedOperand *zydis) {
  if (zydis->type != ZYDIS_OPERAND_TYPE_REGISTER) return "kind (ours register)";
  ZydisRegister reg = zydis->reg.value;
  ZydisRegisterClass class = ZydisRegisterGetClass(reg);
  unsigned number = (unsigned)ZydisRegisterGetId(reg);
  switch (operand->kind) {
  case X86_OPERAND_GPR: {
    static const ZydisRegisterClass classes[9] = {[1] = ZYDIS_REGCLASS_GPR8,
                                                  [2] = ZYDIS_REGCLASS_GPR16,
                                                  [4] = ZYDIS_REGCLASS_GPR32,
                                                  [8] = ZYDIS_REGCLASS_GPR64};
    if (class != classes[operand->size]) return "register size";
    if (operand->size == 1) /* Zydis numbers AH to BH between BL and SPL */
      return reg == ZydisRegisterEncode(class, operand->reg + (operand->reg >= 4 ? 4 : 0))
                 ? NULL
                 : "register";
    break;
  }
  case X86_OPERAND_GPR8H:
    return reg == (ZydisRegister)(ZYDIS_REGISTER_AH + operand->reg) ? NULL : "high byte register";
  case X86_OPERAND_XMM:
    if (class != (operand->size == 32 ? ZYDIS_REGCLASS_YMM : ZYDIS_REGCLASS_XMM))
      return "vector class";
    break;
  case X86_OPERAND_MMX:
    if (class != ZYDIS_REGCLASS_MMX) return "MMX class";
    break;
  case X86_OPERAND_ST:
    if (class != ZYDIS_REGCLASS_X87) return "x87 class";
    break;
  case X86_OPERAND_SEG:
    if (class != ZYDIS_REGCLASS_SEGMENT) return "segment class";
    break;
  case X86_OPERAND_CR:
    if (class != ZYDIS_REGCLASS_CONTROL) return "control class";
    break;
  case X86_OPERAND_DR:
    if (class != ZYDIS_REGCLASS_DEBUG) return "debug class";
    break;
  default:
    return "kind";
  }
  return number == operand->reg ? NULL : "register";
}

static const char *compare_immediate(int64_t ours, unsigned size,
                                     const ZydisDecodedOperand *zydis) {
  if (zydis->type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return "kind (ours immediate)";
  uint64_t mask = size >= 8 ? ~0ul : (1ul << size * 8) - 1;
  return ((uint64_t)ours ^ zydis->imm.value.u) & mask ? "immediate" : NULL;
}

/* Whether writing a part of a vector or x87 register reads the rest is a matter of taste. */
static bool same_access(const X86Operand *operand, unsigned zydis) {
  bool partial = operand->kind == X86_OPERAND_XMM || operand->kind == X86_OPERAND_ST;
  if (partial && operand->access & zydis & X86_ACCESS_W) return true;
  return operand->access == 0 || operand->access == zydis;
}

static const char *compare_operand(const X86Insn *ours, const X86Operand *operand,
                                   const ZydisDecodedOperand *zydis) {
  unsigned access = (zydis->actions & ZYDIS_OPERAND_ACTION_MASK_READ ? X86_ACCESS_R : 0) |
                    (zydis->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? X86_ACCESS_W : 0);
  if (zydis->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
    access |= X86_ACCESS_R; /* keeps what was there */
  const char *differs;
  switch (operand->kind) {
  case X86_OPERAND_MEM:
    differs = compare_memory(ours, operand, zydis);
    break;
  case X86_OPERAND_IMM:
    differs = compare_immediate(ours->imm, operand->size, zydis);
    break;
  case X86_OPERAND_IMM2:
    differs = compare_immediate(ours->imm2, 1, zydis);
    break;
  case X86_OPERAND_REL:
    differs = compare_immediate(ours->imm, 8, zydis);
    if (!differs && !zydis->imm.is_relative) differs = "not relative";
    break;
  default:
    differs = compare_register(operand, zydis);
  }
  if (!differs && !same_access(operand, access)) differs = "access";
  return differs;
}

/* The segment of the memory that string instructions and XLAT imply: Zydis has hidden operands for
 * it. */
static bool compare_implicit_segment(const X86Insn *ours, const Verdict *zydis) {
  for (unsigned i = zydis->operand_count; i < zydis->insn.operand_count; i++) {
    const ZydisDecodedOperandMem *mem = &zydis->operands[i].mem;
    if (zydis->operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    if (mem->segment == ZYDIS_REGISTER_FS) return ours->mem.segment == X86_SEG_FS;
    if (mem->segment == ZYDIS_REGISTER_GS) return ours->mem.segment == X86_SEG_GS;
  }
  return true;
}

static bool compare_operands(const X86Insn *ours, const Verdict *zydis, char *what, size_t size) {
  unsigned count = ours->operand_count, first = 0;
  if (count == zydis->operand_count + 1) { /* ST(0) and XMM0 that Zydis calls hidden */
    const X86Operand *last = &ours->operands[count - 1];
    if (ours->operands[0].kind == X86_OPERAND_ST && ours->operands[0].reg == 0)
      first = 1;
    else if (last->kind == X86_OPERAND_XMM && last->reg == 0)
      count--;
  }
  if (count - first != zydis->operand_count) {
    snprintf(what, size, "%u operands, Zydis %u", ours->operand_count, zydis->operand_count);
    return false;
  }
  for (unsigned i = first; i < count; i++) {
    const char *differs = compare_operand(ours, &ours->operands[i], &zydis->operands[i - first]);
    if (!differs) continue;
    snprintf(what, size, "operand %u: %s", i + 1, differs);
    return false;
  }
  if (!compare_implicit_segment(ours, zydis)) {
    snprintf(what, size, "implicit segment");
    return false;
  }
  return true;
}

static bool compare_prefixes(const X86Insn *ours, const Verdict *zydis, char *what, size_t size) {
  ZydisInstructionAttributes attributes = zydis->insn.attributes;
  bool rep = attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE),
       repne = attributes & ZYDIS_ATTRIB_HAS_REPNE;
  if (repne && ours->mnemonic != X86_CMPS && ours->mnemonic != X86_SCAS) rep = true, repne = false;
  bool lock = attributes & ZYDIS_ATTRIB_HAS_LOCK, address32 = zydis->insn.address_width == 32;
  if (!!(ours->prefixes & X86_PREFIX_REP) == rep &&
      !!(ours->prefixes & X86_PREFIX_REPNE) == repne &&
      !!(ours->prefixes & X86_PREFIX_LOCK) == lock &&
      !!(ours->prefixes & X86_PREFIX_ADDR32) == address32)
    return true;
  snprintf(what, size, "prefixes %x, Zydis rep %d repne %d lock %d address32 %d", ours->prefixes,
           rep, repne, lock, address32);
  return false;
}

/* Our mnemonic as Zydis would spell it: with the condition. */
static void mnemonic_text(const X86Insn *insn, char *text, size_t size) {
  static const char conditions[16][4] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                         "s", "ns", "p", "np", "l", "nl", "le", "nle"};
  const char *stem = insn->mnemonic == X86_JCC      ? "j"
                     : insn->mnemonic == X86_SETCC  ? "set"
                     : insn->mnemonic == X86_CMOVCC ? "cmov"
                                                    : NULL;
  snprintf(text, size, "%s%s", stem ? stem : x86_mnemonic_name(insn->mnemonic),
           stem ? conditions[insn->condition] : "");
}

/* The first aspect in which the two differ, or 0; the later ones mean nothing then. */
static unsigned first_difference(const X86Insn *ours, const Verdict *zydis, const char *our_name,
                                 const char *zydis_name, unsigned skip, char *what, size_t size) {
  if (ours->length != zydis->insn.length) {
    snprintf(what, size, "length %u, Zydis %u", ours->length, zydis->insn.length);
    return ASPECT_LENGTH;
  }
  if (!(skip & ASPECT_MNEMONIC) && !differences_same_name(our_name, zydis_name)) {
    snprintf(what, size, "mnemonic");
    return ASPECT_MNEMONIC;
  }
  if (!(skip & ASPECT_OPERANDS) && !compare_operands(ours, zydis, what, size))
    return ASPECT_OPERANDS;
  if (!(skip & ASPECT_FLAGS) && !compare_flags(ours, zydis, what, size)) return ASPECT_FLAGS;
  if (!(skip & ASPECT_PREFIXES) && !compare_prefixes(ours, zydis, what, size))
    return ASPECT_PREFIXES;
  return 0;
}

size_t compare_decoders(const uint8_t *bytes, size_t available, Difference *ret_difference) {
  X86Insn insn;
  Verdict verdict;
  char ours[32] = "?", what[80] = "";
  const char *zydis = "?";
  X86DecodeStatus status = x86_decode(bytes, available, &insn);
  if (status == X86_DECODE_OK) mnemonic_met[insn.mnemonic] = true;
  verdict.status =
      ZydisDecoderDecodeFull(&decoder, bytes, available, &verdict.insn, verdict.operands);
  ret_difference->aspect = 0;
  if (ZYAN_FAILED(verdict.status)) {
    if (status) return insn.length;
    mnemonic_text(&insn, ours, sizeof ours);
  } else {
    if (status == X86_DECODE_INVALID && differences_left_out(&verdict.insn)) return insn.length;
    zydis = ZydisMnemonicGetString(verdict.insn.mnemonic);
    verdict.operand_count = verdict.insn.operand_count_visible;
  }
  unsigned skip = 0;
  do { /* a listed difference does not hide what else may differ */
    if (status || ZYAN_FAILED(verdict.status)) {
      ret_difference->aspect = ASPECT_VALIDITY;
      snprintf(what, sizeof what, status ? "only Zydis decodes it" : "only ours decodes it");
    } else {
      mnemonic_text(&insn, ours, sizeof ours);
      ret_difference->aspect =
          first_difference(&insn, &verdict, ours, zydis, skip, what, sizeof what);
    }
    snprintf(ret_difference->what, sizeof ret_difference->what, "%s / %s: %s", ours, zydis, what);
    if (!ret_difference->aspect || !differences_expected(ret_difference->what, bytes))
      return insn.length;
    skip |= ret_difference->aspect;
  } while (!(skip & (ASPECT_VALIDITY | ASPECT_LENGTH)));
  ret_difference->aspect = 0;
  return insn.length;
}

unsigned compare_report_unmet(void) {
  unsigned unmet = 0;
  for (unsigned i = X86_INVALID + 1; i < X86_MNEMONIC_COUNT; i++) {
    if (mnemonic_met[i]) continue;
    printf("never met: %s\n", x86_mnemonic_name(i));
    unmet++;
  }
  return unmet;
}
