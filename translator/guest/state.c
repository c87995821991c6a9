/* Conversions between the architecture's view of a thread's registers and the form generated code keeps
 * them in (state.h). */
#include <string.h>

#include "guest/state.h"

/* RFLAGS bits (Intel SDM volume 1, 3.4.3). */
enum {
  RFLAGS_CF = 1 << 0,
  RFLAGS_FIXED = 1 << 1,
  RFLAGS_PF = 1 << 2,
  RFLAGS_AF = 1 << 4,
  RFLAGS_ZF = 1 << 6,
  RFLAGS_SF = 1 << 7,
  RFLAGS_TF = 1 << 8,
  RFLAGS_IF = 1 << 9,
  RFLAGS_DF = 1 << 10,
  RFLAGS_OF = 1 << 11,
  RFLAGS_AC = 1 << 18,
  RFLAGS_ID = 1 << 21,
  RFLAGS_OTHER = RFLAGS_TF | RFLAGS_AC | RFLAGS_ID
};

enum { NZCV_N = 1u << 31, NZCV_Z = 1 << 30, NZCV_C = 1 << 29, NZCV_V = 1 << 28 };

/* Not __builtin_parity(): libgcc's may use v0, which is a guest register. */
bool guest_flags_even(uint8_t byte) {
  byte ^= byte >> 4;
  return !(0x6996 >> (byte & 15) & 1); /* bit n: n has an odd number of ones */
}

uint64_t guest_flags_get(const GuestCpu *cpu) {
  uint64_t flags = RFLAGS_FIXED | RFLAGS_IF | (cpu->other_flags & RFLAGS_OTHER);
  if (cpu->nzcv & NZCV_N) flags |= RFLAGS_SF;
  if (cpu->nzcv & NZCV_Z) flags |= RFLAGS_ZF;
  if (!(cpu->nzcv & NZCV_C)) flags |= RFLAGS_CF;
  if (cpu->nzcv & NZCV_V) flags |= RFLAGS_OF;
  if (guest_flags_even((uint8_t)cpu->flag_result)) flags |= RFLAGS_PF;
  if ((cpu->flag_result ^ cpu->flag_aux) & 0x10) flags |= RFLAGS_AF;
  if (cpu->direction < 0) flags |= RFLAGS_DF;
  return flags;
}

void guest_flags_set(GuestCpu *cpu, uint64_t rflags) {
  uint64_t nzcv = 0;
  if (rflags & RFLAGS_SF) nzcv |= NZCV_N;
  if (rflags & RFLAGS_ZF) nzcv |= NZCV_Z;
  if (!(rflags & RFLAGS_CF)) nzcv |= NZCV_C;
  if (rflags & RFLAGS_OF) nzcv |= NZCV_V;
  cpu->nzcv = nzcv;
  cpu->flag_result = rflags & RFLAGS_PF ? 0 : 1; /* any byte of the wanted parity */
  cpu->flag_aux = cpu->flag_result ^ (rflags & RFLAGS_AF);
  cpu->direction = rflags & RFLAGS_DF ? -1 : 1;
  cpu->other_flags = rflags & RFLAGS_OTHER;
}

void guest_cpu_reset(GuestCpu *cpu) {
  memset(cpu->gpr, 0, sizeof cpu->gpr);
  memset(cpu->xmm, 0, sizeof cpu->xmm);
  memset(cpu->upper, 0, sizeof cpu->upper);
  memset(&cpu->x87, 0, sizeof cpu->x87);
  memset(cpu->segment, 0, sizeof cpu->segment);
  cpu->rip = 0;
  cpu->fs_base = cpu->gs_base = 0;
  cpu->segment[1] = 0x33; /* CS and SS as Linux has them in 64-bit user mode */
  cpu->segment[2] = 0x2b;
  cpu->mxcsr = GUEST_MXCSR_DEFAULT;
  cpu->x87.control = GUEST_FCW_DEFAULT;
  guest_flags_set(cpu, 0);
}
