/* Runs of x87 register instructions, made at random and executed where they are made: after each the whole x87 state, as
 * FNSAVE stores it, must be what the processor leaves. Operands are of every kind, registers empty ones too, precision,
 * rounding and masks any; loads and stores of memory stand between, some of them of memory that isn't there, so that the
 * state is looked at in the middle as well.
 * Build: nopie
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { CHAINS = 3000, LONGEST = 24, SHOWN = 50, CODE_BYTES = 4096 };

typedef struct Registers { /* FNSAVE's image, 32-bit form */
  uint32_t environment[7];
  uint8_t stack[8][10];
} Registers;

static uint64_t state = 88172645463325252u;
static uint32_t chance(uint32_t below) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 32) % below;
}

static uint8_t *code, *at;
static Registers before, after;
static double doubles[4];
static float floats[4];
static uint8_t wide[16];
static uint8_t *missing; /* a page without access */
static sigjmp_buf out;
static uint64_t hash;
static int faults, exceptions;

static void mix(const void *data, size_t size) {
  for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
}

/* --- Values --- */

static uint64_t any_significand(void) {
  uint64_t top = UINT64_C(1) << 63, any = (uint64_t)chance(UINT32_MAX) << 32 | chance(UINT32_MAX);
  switch (chance(8)) {
  case 0: return top;
  case 1: return UINT64_MAX;
  case 2: return top | any << chance(64);
  case 3: return UINT64_MAX << chance(64);
  case 4: return top | (any & 0xff);
  default: return top | any;
  }
}

static void make_value(uint8_t *to) {
  static const uint16_t edges[] = {0, 0, 1, 2, 0x0fff, 0x1000, 0x13ff, 0x1400, 0x1fff, 0x2000,
                                   0x5fff, 0x6000, 0x6bff, 0x6c00, 0x6fff, 0x7000, 0x7ffd, 0x7ffe, 0x7fff, 0x7fff};
  uint64_t s = any_significand();
  uint16_t e = 16383 + (uint16_t)chance(40) - 20;
  switch (chance(12)) {
  case 0: e = edges[chance(sizeof edges / sizeof *edges)]; break;
  case 1: s = 0, e = 0; break;
  case 2: e = (uint16_t)chance(0x8000); break;
  case 3: s = UINT64_C(1) << 63; break;
  case 4: e = edges[chance(sizeof edges / sizeof *edges)], s = chance(2) ? s << 1 : s & UINT64_C(1) << 63; break;
  case 5: e = 16383 + (uint16_t)chance(160) - 80; break;
  }
  if (chance(2)) e |= 0x8000;
  memcpy(to, &s, 8);
  memcpy(to + 8, &e, 2);
}

static void make_memory(void) {
  for (int i = 0; i < 4; i++) {
    uint64_t bits = (uint64_t)chance(UINT32_MAX) << 32 | chance(UINT32_MAX);
    doubles[i] = (double)(int32_t)chance(2000) / 64 - 15;
    floats[i] = (float)(int32_t)chance(2000) / 32 - 30;
    if (chance(4) == 0) memcpy(&doubles[i], &bits, 8);
    if (chance(4) == 0) memcpy(&floats[i], &bits, 4);
    if (chance(8) == 0) doubles[i] = 0;
    if (chance(8) == 0) floats[i] = -0.0f;
  }
  make_value(wide);
}

static void make_registers(void) {
  uint16_t control = 0x37f, tags = 0xffff;
  if (chance(3) == 0) control = (uint16_t)(chance(64) << 8 & 0xf00) | 0x7f;
  if (chance(4) == 0) control &= (uint16_t)~(1u << chance(6));
  unsigned count = chance(4) ? 2 + chance(6) : chance(9), top = chance(8);
  for (unsigned i = 0; i < 8; i++) {
    make_value(before.stack[i]);
    unsigned physical = (top + i) & 7;
    if (i < count) tags &= (uint16_t)~(3u << physical * 2);
  }
  before.environment[0] = 0xffff0000 | control;
  before.environment[1] = 0xffff0000 | top << 11 | (chance(2) ? 0x20 : 0) | (chance(2) ? 0x200 : 0);
  before.environment[2] = 0xffff0000 | tags;
  for (int i = 3; i < 7; i++) before.environment[i] = 0;
}

/* --- Code --- */

static void put(unsigned a, unsigned b) { *at++ = (uint8_t)a, *at++ = (uint8_t)b; }

/* With a memory operand at an absolute address below 2 GiB. */
static void put_memory(unsigned opcode, unsigned reg, const void *address) {
  uint32_t low = (uint32_t)(uintptr_t)address;
  put(opcode, reg << 3 | 4);
  *at++ = 0x25;
  memcpy(at, &low, 4);
  at += 4;
}

static void put_instruction(void) {
  static const uint8_t arithmetic[] = {0, 1, 4, 5, 6, 7};
  unsigned i = chance(3) ? chance(3) : chance(8), op = arithmetic[chance(6)];
  switch (chance(26)) {
  case 0 ... 4: put(0xd8, 0xc0 | op << 3 | i); break; /* ST(0) op= ST(i) */
  case 5 ... 6: put(0xdc, 0xc0 | op << 3 | i); break;
  case 7 ... 9: put(0xde, 0xc0 | op << 3 | i); break; /* and pop */
  case 10 ... 11: put(0xd9, 0xc8 | i); break; /* FXCH */
  case 12 ... 13: put(0xd9, 0xc0 | i); break; /* FLD */
  case 14: put(0xdd, 0xd0 | i); break; /* FST */
  case 15: put(0xdd, 0xd8 | i); break;
  case 16: put(0xd9, 0xe0 | chance(2)); break; /* FCHS, FABS */
  case 17: put(0xd9, chance(2) ? 0xe8 : 0xee); break;
  case 18: put_memory(chance(2) ? 0xd8 : 0xd9, 0, chance(40) ? (void *)&floats[chance(4)] : missing); break;
  case 19: put_memory(0xdd, 0, chance(40) ? (void *)&doubles[chance(4)] : missing); break;
  case 20: put_memory(0xdc, op, chance(40) ? (void *)&doubles[chance(4)] : missing); break;
  case 21: put_memory(0xdd, 2 + chance(2), chance(40) ? (void *)&doubles[chance(4)] : missing); break;
  case 22: put_memory(0xd9, 2 + chance(2), chance(40) ? (void *)&floats[chance(4)] : missing); break;
  case 23: put_memory(0xdb, chance(2) ? 5 : 7, chance(40) ? wide : missing); break;
  case 24:
    if (chance(2)) put(chance(2) ? 0xdb : 0xdf, (chance(2) ? 0xe8 : 0xf0) | i); /* FUCOMI(P), FCOMI(P) */
    else put_memory(chance(2) ? 0xdb : 0xdd, 1 + chance(3), chance(40) ? (void *)&doubles[chance(4)] : missing); /* FISTTP, FIST(P), FST(P) */
    break;
  default: put(0xdd, 0xc0 | chance(8)); break; /* FFREE */
  }
}

/* FRSTOR before; the chain; FNSAVE after; RET. */
static void make_chain(void) {
  at = code;
  put_memory(0xdd, 4, &before);
  for (unsigned length = 1 + chance(LONGEST); length; length--) put_instruction();
  put_memory(0xdd, 6, &after);
  *at++ = 0xc3;
}

/* --- Running it --- */

static void on_signal(int number, siginfo_t *info, void *context) {
  const ucontext_t *c = context;
  const struct _libc_fpstate *f = c->uc_mcontext.fpregs;
  uint64_t where = (uint64_t)c->uc_mcontext.gregs[REG_RIP] - (uint64_t)(uintptr_t)code;
  uint16_t words[3] = {f->cwd, f->swd, f->ftw};
  mix(&where, sizeof where);
  mix(&number, sizeof number);
  mix(words, sizeof words);
  for (int i = 0; i < 8; i++) mix(&f->_st[i], 10);
  ++*(number == SIGSEGV ? &faults : &exceptions);
  siglongjmp(out, 1);
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGFPE, &action, NULL);
  code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  missing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (code == MAP_FAILED || missing == MAP_FAILED) return perror("mmap"), 1;
  for (int i = 0; i < CHAINS; i++) {
    make_memory();
    make_registers();
    make_chain();
    memset(&after, 0, sizeof after);
    if (!sigsetjmp(out, 1)) ((void (*)(void))code)();
    __asm__ volatile("fninit");
    after.environment[3] = after.environment[4] = after.environment[5] = after.environment[6] = 0;
    mix(&after, sizeof after);
    mix(doubles, sizeof doubles);
    mix(floats, sizeof floats);
    mix(wide, 10);
    if (i % SHOWN == SHOWN - 1) printf("%d %016lx\n", i, hash);
  }
  printf("%d faults, %d exceptions\n", faults, exceptions);
  return 0;
}
