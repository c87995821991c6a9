/* Every x87 operation of translator/x87 beside this processor's own.
 *
 * Each case starts from a random register file, tags, control and status word; the instruction runs on the
 * real x87 between FRSTOR and FNSAVE, and in software between the same images, with what lifted code does
 * around the function written out by kind below. Everything FNSAVE shows must be equal, and the memory
 * operand. Runs on x86-64 only.
 *
 *   x87-test [CASES-PER-INSTRUCTION [SEED [INSTRUCTION]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "x87/float.h"

typedef struct Image {
  uint32_t env[7];
  uint8_t st[8][10];
} __attribute__((packed)) Image;

/* The memory operand, and RFLAGS after instructions that set them. */
typedef struct Operand {
  uint8_t bytes[32];
  uint64_t flags;
} Operand;

typedef enum Kind {
  REGISTER, COMPARE, COMPARE_FLAGS, MEMORY, COMPARE_MEMORY, LOAD, CONSTANT, STORE, PUSHES, ANY, ENVIRONMENT,
  CONTROL, FUNCTION, FUNCTION_POPS, FUNCTION_PUSHES
} Kind;

typedef void Native(const Image *in, Image *out, Operand *m);
typedef void Software(GuestCpu *cpu, uint64_t argument);

/* Declarations of the functions, and a native function for each line. */
#define HELPER(name, function) Software function;
#include "lift/x87/helpers.def"
#undef HELPER

#define NAME2(line) native_##line
#define NAME(line) NAME2(line)
#define CASE(text, kind, function, a, b, pops)                                                                \
  static void NAME(__LINE__)(const Image *in, Image *out, Operand *m) {                                       \
    __asm__ volatile("frstor %[in]\n\t" text "\n\tpushfq\n\tpop %[flags]\n\tfnsave %[out]"                    \
                     : [out] "=m"(*out), [m] "+m"(m->bytes), [flags] "=r"(m->flags)                           \
                     : [in] "m"(*in)                                                                          \
                     : "memory", "cc");                                                                       \
  }
#include "cases.def"
#undef CASE

typedef struct Case {
  const char *text;
  Kind kind;
  Native *native;
  Software *software;
  int a, b, pops;
} Case;

static const Case cases[] = {
#define CASE(text, kind, function, a, b, pops) {text, kind, NAME(__LINE__), function, a, b, pops},
#include "cases.def"
#undef CASE
};

/* --- Random states --- */

static uint64_t seed = 1;

static uint64_t next_random(void) { /* xorshift64* */
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * UINT64_C(2685821657736338717);
}

static unsigned pick(unsigned n) {
  return (unsigned)(next_random() >> 33) % n;
}

static uint64_t random_significand(void) {
  uint64_t r = next_random();
  switch (pick(9)) {
  case 0: return UINT64_C(1) << 63;
  case 1: return UINT64_C(1) << 63 | UINT64_C(1) << pick(64);
  case 2: return -(UINT64_C(1) << pick(64));
  case 3: return UINT64_C(1) << 63 | r >> pick(64);
  case 4: return r << pick(64) | UINT64_C(1) << 63;
  case 5: return ~(UINT64_C(1) << pick(63));
  case 6: return (UINT64_C(1) << 63 | (r & -(UINT64_C(1) << 40))) + pick(5) - 2;
  case 7: return (UINT64_C(1) << 63 | (r & -(UINT64_C(1) << 11))) + (pick(5) - 2) + (pick(2) ? 1 << 10 : 0);
  default: return r | UINT64_C(1) << 63;
  }
}

static unsigned random_exponent(void) {
  switch (pick(12)) {
  case 0: return pick(3);
  case 1: return 0x7fff - pick(3);
  case 2: return pick(200);
  case 3: return 0x7fff - pick(200);
  case 4: return pick(0x8000);
  case 5: return 16383 + 1022 + pick(6);
  case 6: return 16383 - 1022 - 60 + pick(66);
  case 7: return 16383 + 120 + pick(12);
  case 8: return 16383 - 155 + pick(35);
  case 9: return 16383 - 70 + pick(140);
  default: return 16383 - 4 + pick(10);
  }
}

static void random_value(uint8_t *bytes) {
  uint64_t significand = random_significand();
  unsigned exponent = random_exponent();
  switch (pick(24)) {
  case 0: exponent = 0, significand = 0; break;
  case 1: exponent = 0, significand = next_random() >> pick(64); break;
  case 2: exponent = 0x7fff, significand = UINT64_C(1) << 63; break;
  case 3: exponent = 0x7fff; break;
  case 4: significand &= ~(UINT64_C(1) << 63); break;
  case 5: significand = UINT64_C(1) << 63, exponent = 16383 + pick(3); break;
  case 6: significand = next_random() & -(UINT64_C(1) << pick(64)); break;
  }
  uint16_t se = (uint16_t)(exponent | pick(2) << 15);
  memcpy(bytes, &significand, 8);
  memcpy(bytes + 8, &se, 2);
}

/* Registers that follow one another closely, as sums and remainders find interesting. */
static void relate(Image *image) {
  uint64_t significand;
  uint16_t se0, se1;
  memcpy(&se0, image->st[0] + 8, 2);
  memcpy(&significand, image->st[0], 8);
  se1 = (uint16_t)((se0 & 0x8000) | ((se0 + pick(9) - 4) & 0x7fff));
  if (pick(2)) se1 ^= 0x8000;
  if (pick(2)) {
    significand += pick(5) - 2;
    memcpy(image->st[1], &significand, 8);
  }
  memcpy(image->st[1] + 8, &se1, 2);
}

static void random_image(Image *image) {
  unsigned control = 0x37f;
  if (pick(2)) control = (control & ~0xc00u) | pick(4) << 10;
  if (pick(3) == 0) control = (control & ~0x300u) | pick(4) << 8;
  if (pick(5) == 0) control &= ~pick(64);
  unsigned status = pick(4) == 0 ? (unsigned)next_random() & 0x7f & control : 0;
  status |= ((unsigned)next_random() & 0x4700) | pick(8) << 11;
  unsigned tags = pick(3) ? 0 : (unsigned)next_random() & (unsigned)next_random() & 0xffff;
  if (pick(4) == 0) tags = 0xffff;
  if (pick(3) == 0) tags = (unsigned)next_random() & 0xffff;
  memset(image, 0, sizeof *image);
  image->env[0] = control | 0xffff0000;
  image->env[1] = status | 0xffff0000;
  image->env[2] = tags | 0xffff0000;
  for (unsigned i = 0; i < 8; i++) random_value(image->st[i]);
  if (pick(4) == 0) relate(image);
}

static void random_operand(Operand *m, int width) {
  uint8_t value[10];
  for (unsigned i = 0; i < sizeof m->bytes; i++) m->bytes[i] = (uint8_t)next_random();
  random_value(value);
  if (width == 32 || width == 64) {
    uint16_t se;
    uint64_t significand, bits;
    memcpy(&se, value + 8, 2);
    memcpy(&significand, value, 8);
    unsigned fraction = width == 32 ? 23 : 52, ones = width == 32 ? 0xff : 0x7ff;
    uint64_t exponent = pick(3) ? (se & 0x7fffu) - 16383 + ones / 2 : pick(4) ? pick(3) : ones;
    bits = (exponent & ones) << fraction | (pick(12) ? significand << 1 >> (64 - fraction) : 0);
    bits |= (uint64_t)(se >> 15) << (width - 1);
    memcpy(m->bytes, &bits, 8);
  } else if (width < 0) {
    uint64_t bits = pick(6) ? next_random() >> pick(64) : (uint64_t)pick(3);
    if (pick(2)) bits = -bits;
    memcpy(m->bytes, &bits, 8);
  } else if (width == 80) {
    for (unsigned i = 0; i < 9; i++) m->bytes[i] = (uint8_t)(pick(10) << 4 | pick(10));
    if (pick(4) == 0) memset(m->bytes, 0, 1 + pick(9));
    m->bytes[9] = (uint8_t)(pick(2) << 7);
  } else {
    uint16_t control = (uint16_t)(next_random() | (pick(3) ? 0x3f : 0));
    memcpy(m->bytes, &control, 2);
  }
}

/* --- The software side --- */

static void *environment(GuestCpu *cpu) {
  return (char *)cpu + offsetof(GuestCpu, x87) + offsetof(GuestX87, transfer);
}

static void image_in(GuestCpu *cpu, const Image *image) {
  memset(cpu, 0, sizeof *cpu);
  memcpy(environment(cpu), image->env, sizeof image->env);
  x87_fldenv(cpu, 0);
  for (unsigned i = 0; i < 8; i++) {
    GuestX87Register *r = x87_st(&cpu->x87, i);
    memcpy(&r->significand, image->st[i], 8);
    memcpy(&r->sign_exponent, image->st[i] + 8, 2);
  }
  x87_rotate(cpu, pick(8));
}

static void image_out(GuestCpu *cpu, Image *image) {
  x87_fnstenv(cpu, 0);
  memcpy(image->env, environment(cpu), sizeof image->env);
  for (unsigned i = 0; i < 8; i++) {
    const GuestX87Register *r = x87_st(&cpu->x87, i);
    memcpy(image->st[i], &r->significand, 8);
    memcpy(image->st[i] + 8, &r->sign_exponent, 2);
  }
}

static unsigned slot(const GuestCpu *cpu, int i) {
  return (cpu->x87.top + (unsigned)i) & 7;
}

static bool is_empty(const GuestCpu *cpu, int i) {
  return !(cpu->x87.valid >> slot(cpu, i) & 1);
}

static void pop(GuestCpu *cpu, int count) {
  for (; count; count--) {
    cpu->x87.valid &= (uint8_t)~(1 << slot(cpu, 0));
    cpu->x87.top = (uint8_t)((cpu->x87.top & GUEST_X87_PENDING) | slot(cpu, 1));
  }
}

static void push(GuestCpu *cpu) {
  cpu->x87.top = (uint8_t)((cpu->x87.top & GUEST_X87_PENDING) | slot(cpu, -1));
  cpu->x87.valid |= (uint8_t)(1 << slot(cpu, 0));
}

static uint64_t operand_bits(const Operand *m, int width) {
  uint64_t bits;
  int16_t i16;
  int32_t i32;
  memcpy(&bits, m->bytes, 8);
  memcpy(&i16, m->bytes, 2);
  memcpy(&i32, m->bytes, 4);
  return width == -16 ? (uint64_t)i16 : width == -32 ? (uint64_t)i32 : width == 32 ? (uint32_t)bits : bits;
}

/* Instructions that report through C2 that they are not done, or that their operand is out of range. */
static bool clears_c2(const Case *c) {
  static const char *const names[] = {"fprem", "fprem1", "fsin", "fcos", "fsincos", "fptan"};
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(c->text, names[i])) return true;
  return false;
}

static void run_store(const Case *c, GuestCpu *cpu, Operand *m) {
  GuestX87 *x = &cpu->x87;
  unsigned width = (unsigned)abs(c->a);
  uint64_t argument = slot(cpu, 0) << 4 | width << 16;
  if (is_empty(cpu, 0))
    x87_underflow_store(cpu, (c->a < 0 ? 1 : 0) | width << 16);
  else
    c->software(cpu, argument);
  if (!(x->transfer[1] & UINT64_C(0x80000000))) {
    memcpy(m->bytes, &x->transfer[0], width / 8 > 8 ? 8 : width / 8);
    if (width == 80) memcpy(m->bytes + 8, &x->transfer[2], 2);
    pop(cpu, c->pops);
  }
  if (x->transfer[1] & UINT64_C(0xc0000000)) {
    x87_store_exceptions(cpu, 0);
    return;
  }
  x->status |= x->transfer[1] & 0x7f;
  x->c1 = x->transfer[1] >> 9 & 1 ? GUEST_X87_C1 : 0;
}

static void run_register(const Case *c, GuestCpu *cpu) {
  uint64_t argument = slot(cpu, c->a) << 4 | slot(cpu, c->b) << 12 | (unsigned)c->pops;
  bool compare = c->kind == COMPARE || c->kind == COMPARE_FLAGS;
  if (is_empty(cpu, c->a) || is_empty(cpu, c->b)) {
    unsigned fill = compare ? 0 : 1u << slot(cpu, c->a);
    x87_underflow(cpu, fill | (unsigned)c->pops << 8 | (c->kind == COMPARE ? 1 << 10 : 0) |
                           (clears_c2(c) ? 1 << 12 : 0));
    return;
  }
  pop(cpu, c->pops);
  c->software(cpu, argument);
}

static void run_memory(const Case *c, GuestCpu *cpu, Operand *m) {
  if (is_empty(cpu, 0)) {
    bool compare = c->kind == COMPARE_MEMORY;
    x87_underflow(cpu, (compare ? 1 << 10 : 1u << slot(cpu, 0)) | (unsigned)c->pops << 8);
    return;
  }
  c->software(cpu, operand_bits(m, c->a));
  if (!(cpu->x87.top & GUEST_X87_PENDING)) pop(cpu, c->pops);
}

static void run_load(const Case *c, GuestCpu *cpu, Operand *m) {
  uint16_t high;
  memcpy(&high, m->bytes + 8, 2);
  if (!is_empty(cpu, -1)) {
    x87_overflow(cpu, 0);
    return;
  }
  push(cpu);
  memcpy(&cpu->x87.transfer[0], m->bytes, 8);
  c->software(cpu, c->kind == CONSTANT ? (uint64_t)c->a : c->a == 80 ? high : operand_bits(m, c->a));
}

/* One result replaces ST(0), another is pushed. */
static void run_pushes(const Case *c, GuestCpu *cpu) {
  unsigned old = slot(cpu, 0), new = slot(cpu, -1);
  if (is_empty(cpu, 0)) {
    x87_underflow(cpu, 1u << old | 1u << new | 1 << 11 | (clears_c2(c) ? 1 << 12 : 0));
  } else if (!is_empty(cpu, -1)) {
    x87_overflow_two(cpu, clears_c2(c));
  } else {
    push(cpu);
    c->software(cpu, new << 4 | old << 12 | X87_ARG_PUSHED);
  }
}

static void run_software(const Case *c, GuestCpu *cpu, Operand *m) {
  uint16_t control;
  switch (c->kind) {
  case REGISTER:
  case FUNCTION:
  case FUNCTION_POPS:
  case COMPARE:
  case COMPARE_FLAGS: run_register(c, cpu); break;
  case MEMORY:
  case COMPARE_MEMORY: run_memory(c, cpu, m); break;
  case LOAD:
  case CONSTANT: run_load(c, cpu, m); break;
  case STORE: run_store(c, cpu, m); break;
  case FUNCTION_PUSHES:
  case PUSHES: run_pushes(c, cpu); break;
  case ENVIRONMENT:
    x87_fnstenv(cpu, 0);
    memcpy(m->bytes, environment(cpu), 28);
    x87_mask_all(cpu, 0);
    break;
  case CONTROL:
    memcpy(&control, m->bytes, 2);
    x87_fldcw(cpu, control);
    break;
  default: c->software(cpu, 0); break;
  }
  if (c->kind == COMPARE_FLAGS) {
    uint64_t nzcv = cpu->x87.transfer[0] >> 28, less = nzcv >> 3 & 1, unordered = nzcv & 1;
    m->flags = less | unordered | unordered << 2 | (nzcv >> 2 & 1 || unordered) << 6;
  }
}

/* --- Comparison --- */

static void print_image(const char *title, const Image *image, const Operand *m) {
  printf("  %-8s fcw %04x fsw %04x ftw %04x m ", title, image->env[0] & 0xffff, image->env[1] & 0xffff,
         image->env[2] & 0xffff);
  for (int i = 9; i >= 0; i--) printf("%02x", m->bytes[i]);
  printf(" flags %02llx\n          ", (unsigned long long)m->flags & 0x45);
  for (unsigned i = 0; i < 8; i++) {
    uint64_t significand;
    uint16_t se;
    memcpy(&significand, image->st[i], 8);
    memcpy(&se, image->st[i] + 8, 2);
    printf(" %04x:%016llx", se, (unsigned long long)significand);
  }
  printf("\n");
}

/* Distance of two values in units of the last place; huge where they are not comparable. */
static uint64_t distance(const uint8_t *a, const uint8_t *b) {
  uint64_t as, bs;
  uint16_t ae, be;
  memcpy(&as, a, 8), memcpy(&bs, b, 8);
  memcpy(&ae, a + 8, 2), memcpy(&be, b + 8, 2);
  if (ae == be) return as > bs ? as - bs : bs - as;
  if (ae == be + 1) return as - UINT64_C(0x8000000000000000) + -bs; /* across a power of two */
  if (be == ae + 1) return bs - UINT64_C(0x8000000000000000) + -as;
  return UINT64_MAX;
}

static uint64_t inexact, inexact_equal; /* results of functions */

/* A function's results may differ by one unit; C1, which tells how the last rounding went, is not compared. */
static bool close_enough(const Image *a, const Image *b) {
  enum { C1 = 0x200, PE = 0x20 };
  uint64_t d0 = distance(a->st[0], b->st[0]), d1 = distance(a->st[1], b->st[1]);
  if (a->env[1] & PE) inexact++, inexact_equal += !d0 && !d1;
  return d0 <= 1 && d1 <= 1 && a->env[0] == b->env[0] && !((a->env[1] ^ b->env[1]) & 0xffff & ~C1) &&
         !((a->env[2] ^ b->env[2]) & 0xffff) && !memcmp(a->st[2], b->st[2], 60);
}

static bool same(const Case *c, const Image *a, const Image *b, const Operand *am, const Operand *bm) {
  if (c->kind >= FUNCTION) return close_enough(a, b);
  for (unsigned i = 0; i < 3; i++)
    if ((a->env[i] ^ b->env[i]) & 0xffff) return false;
  if (memcmp(a->st, b->st, sizeof a->st)) return false;
  unsigned compared = c->kind == ENVIRONMENT ? 12 : sizeof am->bytes;
  if (memcmp(am->bytes, bm->bytes, compared)) return false;
  return c->kind != COMPARE_FLAGS || !((am->flags ^ bm->flags) & 0x45);
}

/* Processors do not agree on what is tiny: some find no underflow where a denormal operand comes out as it went in, with
 * underflow unmasked, nor where a function's result has been rounded to the least normal number; and one unit beside the
 * least denormal one is zero, which has another tag. One unit beside the greatest number is an overflow. */
static bool is_edge(const Case *c, const Image *in, const Image *hardware) {
  enum { UM = 0x10 };
  static const char *const unchanged[] = {"fprem", "fprem1", "fscale"};
  uint64_t significand[2];
  uint16_t se[2];
  for (unsigned i = 0; i < 2; i++) {
    memcpy(&significand[i], hardware->st[i], 8);
    memcpy(&se[i], hardware->st[i] + 8, 2);
    unsigned exponent = se[i] & 0x7fff;
    bool least = exponent == 1 ? significand[i] == UINT64_C(1) << 63 : !exponent && significand[i] == 1;
    bool greatest = exponent == 0x7ffe && significand[i] == UINT64_MAX;
    if (c->kind >= FUNCTION && (least || greatest)) return true;
  }
  bool denormal = !(se[0] & 0x7fff) && significand[0] && !(significand[0] >> 63);
  for (unsigned i = 0; i < sizeof unchanged / sizeof *unchanged; i++)
    if (!strcmp(c->text, unchanged[i]))
      return denormal && !(in->env[0] & UM) && !memcmp(in->st[0], hardware->st[0], sizeof in->st[0]);
  return false;
}

static bool run_case(const Case *c) {
  Image in, hardware, software;
  Operand m = {{0}, 0}, hardware_m, software_m;
  GuestCpu cpu;
  random_image(&in);
  random_operand(&m, c->kind == CONTROL ? 0 : c->kind == STORE ? 0 : c->a);
  hardware_m = software_m = m;
  c->native(&in, &hardware, &hardware_m);
  image_in(&cpu, &in);
  run_software(c, &cpu, &software_m);
  image_out(&cpu, &software);
  if (same(c, &hardware, &software, &hardware_m, &software_m) || is_edge(c, &in, &hardware)) return true;
  printf("%s\n", c->text);
  print_image("before", &in, &m);
  print_image("hardware", &hardware, &hardware_m);
  print_image("software", &software, &software_m);
  return false;
}

int main(int argc, char **argv) {
  unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000, failed = 0, total = 0;
  if (argc > 2) seed = strtoull(argv[2], NULL, 0) * 2 + 1;
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    unsigned long bad = 0, n;
    if (argc > 3 && !strstr(cases[i].text, argv[3])) continue;
    for (n = 0; n < count && bad < 3; n++) bad += !run_case(&cases[i]);
    if (cases[i].kind >= FUNCTION && argc > 3)
      printf("%s: %llu of %llu results are the same\n", cases[i].text, (unsigned long long)inexact_equal,
             (unsigned long long)inexact);
    inexact = inexact_equal = 0;
    if (bad) printf("%s: %lu of %lu differ\n", cases[i].text, bad, n);
    failed += bad != 0;
    total += n;
  }
  printf("%lu cases, %lu instructions differ\n", total, failed);
  return failed != 0;
}
