/* The tables of deliberate differences. A name or an expected disagreement that no byte string
 * meets is stale; extensions left out may be rare enough to be missed by a short run. */
#include "differences.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* The same instruction by another name. Zydis splits by width what operand_size tells. */
static const struct {
  const char *ours, *zydis;
} names[] = {
    {"movs", "movsb"},
    {"movs", "movsw"},
    {"movs", "movsd"},
    {"movs", "movsq"},
    {"cmps", "cmpsb"},
    {"cmps", "cmpsw"},
    {"cmps", "cmpsd"},
    {"cmps", "cmpsq"},
    {"stos", "stosb"},
    {"stos", "stosw"},
    {"stos", "stosd"},
    {"stos", "stosq"},
    {"lods", "lodsb"},
    {"lods", "lodsw"},
    {"lods", "lodsd"},
    {"lods", "lodsq"},
    {"scas", "scasb"},
    {"scas", "scasw"},
    {"scas", "scasd"},
    {"scas", "scasq"},
    {"ins", "insb"},
    {"ins", "insw"},
    {"ins", "insd"},
    {"outs", "outsb"},
    {"outs", "outsw"},
    {"outs", "outsd"},
    {"pushf", "pushfq"},
    {"popf", "popfq"},
    {"iret", "iretd"},
    {"iret", "iretq"},
    {"retf", "ret"},
    {"jmpf", "jmp"},
    {"callf", "call"},
    {"jrcxz", "jecxz"},
    {"fxsave", "fxsave64"},
    {"fxrstor", "fxrstor64"},
    {"xsave", "xsave64"},
    {"xrstor", "xrstor64"},
    {"xsaveopt", "xsaveopt64"},
    {"xsavec", "xsavec64"},
    {"xsaves", "xsaves64"},
    {"xrstors", "xrstors64"},
    {"fstp", "fstpnce"},
    {"fnop", "feni8087_nop"},
    {"fnop", "fdisi8087_nop"},
    {"fnop", "fsetpm287_nop"},
    {"nop", "rdsspd"},
    {"nop", "rdsspq"},
    {"prefetchw", "prefetchwt1"},
};

/* fnmatch patterns on what compare.c says of the disagreement. */
static const struct {
  const char *pattern, *reason;
} expected[] = {
    {"sbb / sbb: flags*", "AF is defined (SDM volume 2, SBB)"},
    {"bextr / bextr: flags*", "CF and OF are cleared (SDM volume 2, BEXTR)"},
    {"r[oc][lr] / r[oc][lr]: flags*", "we tell counts 0 and 1 from others; OF is defined for 1"},
    {"s[ha][lr] / s[ha][lr]: flags*", "we tell counts 0 and 1 from others; OF is defined for 1"},
    {"sh[lr]d / sh[lr]d: flags*", "we tell counts 0 and 1 from others; OF is defined for 1"},
    {"syscall / syscall: flags*",
     "reads all flags too: they are saved in R11; DF is as before to Linux programs"},
    {"sysret / sysret*: flags*", "raises #GP in user mode"},
    {"rsm / rsm: flags*", "raises #UD in user mode"},
    {"nop / nop: *operand*", "operands of hint NOPs have no effect"},
    {"nop / rdssp[dq]: operand 1: access", "shadow stacks are off: no effect"},
    {"vptest / vptest: flags*", "AF, OF, PF and SF are cleared (SDM volume 2, PTEST)"},
    {"vtestp[sd] / vtestp[sd]: flags*", "AF, OF, PF and SF are cleared (SDM volume 2, VTESTPD)"},
    {"cmps / cmps?: flags*", "what a repeated compare tests is its own result"},
    {"scas / scas?: flags*", "what a repeated compare tests is its own result"},
    {"movsxd / movsxd: operand 2: memory size",
     "66 makes the source 16 bits (SDM volume 2, MOVSX/MOVSXD)"},
    {"clzero / clzero: 0 operands, Zydis 1", "RAX is implicit"},
    {"bs[fr] / bs[fr]: operand 1: access*", "source 0 leaves the destination as it was"},
    {"mov / mov: operand ?: displacement",
     "67 with a moffs: zero-extended, SDM volume 2, 2.1.1 and MOV"},
    {"xchg / pause: 2 operands, Zydis 0", "F3 41 90, as next"},
    {"xchg / pause: mnemonic", "F3 41 90 exchanges R8 and RAX, as processors do"},
    {"* / *: operand ?: base", "Zydis 4.0 invents a base for 67 with REX.B and no base"},
};

/* ISA extensions that no CPUID bit of ours advertises: #UD. */
static const struct {
  ZydisISAExt extension;
  const char *reason;
} left_out[] = {
    {ZYDIS_ISA_EXT_VTX, "virtualisation"},
    {ZYDIS_ISA_EXT_VMFUNC, "virtualisation"},
    {ZYDIS_ISA_EXT_SVM, "virtualisation"},
    {ZYDIS_ISA_EXT_SMX, "measured launch"},
    {ZYDIS_ISA_EXT_TDX, "trusted domains"},
    {ZYDIS_ISA_EXT_SNP, "memory encryption"},
    {ZYDIS_ISA_EXT_AMD_INVLPGB, "kernel only"},
    {ZYDIS_ISA_EXT_INVPCID, "kernel only"},
    {ZYDIS_ISA_EXT_SGX, "enclaves"},
    {ZYDIS_ISA_EXT_SGX_ENCLV, "enclaves"},
    {ZYDIS_ISA_EXT_PCONFIG, "kernel only"},
    {ZYDIS_ISA_EXT_CET, "shadow stacks are off: CR4.CET is 0"},
    {ZYDIS_ISA_EXT_RTM, "transactions"},
    {ZYDIS_ISA_EXT_TSX_LDTRK, "transactions"},
    {ZYDIS_ISA_EXT_UINTR, "user interrupts"},
    {ZYDIS_ISA_EXT_WAITPKG, "user waits"},
    {ZYDIS_ISA_EXT_HRESET, "kernel only"},
    {ZYDIS_ISA_EXT_KEYLOCKER, "key locker"},
    {ZYDIS_ISA_EXT_KEYLOCKER_WIDE, "key locker"},
    {ZYDIS_ISA_EXT_ENQCMD, "device queues"},
    {ZYDIS_ISA_EXT_MOVDIR, "direct stores"},
    {ZYDIS_ISA_EXT_PT, "processor trace"},
    {ZYDIS_ISA_EXT_RDPRU, "AMD counters"},
    {ZYDIS_ISA_EXT_MCOMMIT, "AMD commit"},
    {ZYDIS_ISA_EXT_PADLOCK, "VIA"},
    {ZYDIS_ISA_EXT_AMD3DNOW, "3DNow!"},
    {ZYDIS_ISA_EXT_XOP, "AMD XOP"},
    {ZYDIS_ISA_EXT_FMA4, "AMD FMA4"},
    {ZYDIS_ISA_EXT_KNC, "Knights Corner"},
    {ZYDIS_ISA_EXT_KNCE, "Knights Corner"},
    {ZYDIS_ISA_EXT_KNCV, "Knights Corner"},
    {ZYDIS_ISA_EXT_AVX512EVEX, "AVX-512"},
    {ZYDIS_ISA_EXT_AVX512VEX, "AVX-512"},
    {ZYDIS_ISA_EXT_AMX_BF16, "AMX"},
    {ZYDIS_ISA_EXT_AMX_INT8, "AMX"},
    {ZYDIS_ISA_EXT_AMX_TILE, "AMX"},
    {ZYDIS_ISA_EXT_AVX_VNNI, "VNNI"},
};

enum { NAMES = sizeof names / sizeof names[0] };
enum { EXPECTED = sizeof expected / sizeof expected[0] };
enum { LEFT_OUT = sizeof left_out / sizeof left_out[0] };

static unsigned long names_met[NAMES], expected_met[EXPECTED], left_out_met[LEFT_OUT];

bool differences_same_name(const char *ours, const char *zydis) {
  if (strcmp(ours, zydis) == 0) return true;
  for (unsigned i = 0; i < NAMES; i++) {
    if (strcmp(ours, names[i].ours) || strcmp(zydis, names[i].zydis)) continue;
    names_met[i]++;
    return true;
  }
  return false;
}

bool differences_left_out(const ZydisDecodedInstruction *zydis) {
  for (unsigned i = 0; i < LEFT_OUT; i++) {
    if (zydis->meta.isa_ext != left_out[i].extension) continue;
    left_out_met[i]++;
    return true;
  }
  return false;
}

bool differences_expected(const char *what, const uint8_t *bytes) {
  for (unsigned i = 0; i < EXPECTED; i++) {
    if (fnmatch(expected[i].pattern, what, 0)) continue;
    expected_met[i]++;
    return true;
  }
  return false;
}

unsigned differences_report(void) {
  unsigned stale = 0;
  for (unsigned i = 0; i < EXPECTED; i++) {
    printf("%10lu  %s: %s\n", expected_met[i], expected[i].pattern, expected[i].reason);
    stale += expected_met[i] == 0;
  }
  for (unsigned i = 0; i < LEFT_OUT; i++) {
    printf("%10lu  %s left out: %s\n", left_out_met[i], ZydisISAExtGetString(left_out[i].extension),
           left_out[i].reason);
  }
  for (unsigned i = 0; i < NAMES; i++) {
    if (names_met[i] == 0) printf("%10d  name %s / %s\n", 0, names[i].ours, names[i].zydis);
    stale += names_met[i] == 0;
  }
  return stale;
}
