/* Results, flags and roundings against answers that an x86-64 processor has given (vectors.def, written by
 * `self-test --vectors` run natively). A row's answer is a digest over all its operands, as a table of every result
 * would tell no more of what is wrong: the row does. */
#include "self-test.h"

enum { CF = 1, PF = 4, AF = 16, ZF = 64, SF = 128, OF = 2048, ALL = CF | PF | AF | ZF | SF | OF };

static const uint64_t integers[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                    0x123456789abcdef, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff};
enum { INTEGERS = sizeof integers / sizeof *integers };

/* No product or quotient of these is rounded up to the smallest normal number: whether that underflows x86 asks after
 * rounding and AArch64 before it (lift/vector/state.h). */
static const uint64_t doubles[] = {0, 0x8000000000000000, 1, 0x000ffffffffffff0, 0x0010000000000000, 0x3fb999999999999a,
                                   0x3ff0000000000000, 0xbff0000000000001, 0x3ff5555555555555, 0x4008000000000000,
                                   0x47efffffefffffff, 0x3690000000000001, 0x41dfffffffe00000, 0xc3e0000000000000,
                                   0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000};
enum { DOUBLES = sizeof doubles / sizeof *doubles };

static uint64_t mix(uint64_t digest, uint64_t value) { /* splitmix64's finaliser over a chain */
  uint64_t z = (digest ^ value) + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/* --- Integer ----------------------------------------------------------------------------------------------- */

typedef uint64_t Operation(uint64_t a, uint64_t b, uint64_t *flags);

#define INTEGER(name, suffix, type, text)                                                                          \
  static uint64_t name##_##suffix(uint64_t first, uint64_t second, uint64_t *flags) {                              \
    type a = (type)first, b = (type)second;                                                                        \
    __asm__ volatile("sub $128, %%rsp; stc; " text "; pushfq; popq %1; add $128, %%rsp"                            \
                     : "+a"(a), "=&r"(*flags) : "c"(b) : "cc", "memory");                                          \
    return a;                                                                                                      \
  }
#define SIZES(name, text_b, text_w, text_l, text_q)                                                                \
  INTEGER(name, 8, uint8_t, text_b)                                                                                \
  INTEGER(name, 16, uint16_t, text_w)                                                                              \
  INTEGER(name, 32, uint32_t, text_l)                                                                              \
  INTEGER(name, 64, uint64_t, text_q)
#define TWO(name) SIZES(name, #name " %%cl, %%al", #name " %%cx, %%ax", #name " %%ecx, %%eax", #name " %%rcx, %%rax")
#define ONE(name) SIZES(name, #name " %%al", #name " %%ax", #name " %%eax", #name " %%rax")
#define COUNT(name, count)                                                                                         \
  SIZES(name##count, #name " $" #count ", %%al", #name " $" #count ", %%ax", #name " $" #count ", %%eax",          \
        #name " $" #count ", %%rax")

TWO(add) TWO(adc) TWO(sub) TWO(sbb) TWO(cmp) TWO(and) TWO(or) TWO(xor) TWO(test)
ONE(inc) ONE(dec) ONE(neg) ONE(not)
COUNT(shl, 1) COUNT(shr, 1) COUNT(sar, 1) COUNT(rol, 1) COUNT(ror, 1) COUNT(rcl, 1) COUNT(rcr, 1)
COUNT(shl, 5) COUNT(shr, 5) COUNT(sar, 5) COUNT(rol, 5) COUNT(ror, 5) COUNT(rcl, 5) COUNT(rcr, 5)
INTEGER(imul, 16, uint16_t, "imul %%cx, %%ax")
INTEGER(imul, 32, uint32_t, "imul %%ecx, %%eax")
INTEGER(imul, 64, uint64_t, "imul %%rcx, %%rax")
INTEGER(bt, 32, uint32_t, "bt %%ecx, %%eax")
INTEGER(bt, 64, uint64_t, "bt %%rcx, %%rax")

static uint64_t integer_digest(Operation *operation, uint64_t defined) {
  uint64_t digest = 0, flags = 0;
  for (unsigned i = 0; i < INTEGERS; i++)
    for (unsigned k = 0; k < INTEGERS; k++) {
      digest = mix(digest, operation(integers[i], integers[k], &flags));
      digest = mix(digest, flags & defined);
    }
  return digest;
}

/* --- Floating point ---------------------------------------------------------------------------------------- */

enum { MASKED = 0x1f80, RAISED = 0x3d /* all but the denormal operand */ };

typedef uint64_t Calculation(uint64_t a, uint64_t b);

static uint32_t get_mxcsr(void) {
  uint32_t value;
  __asm__ volatile("stmxcsr %0" : "=m"(value));
  return value;
}
static void set_mxcsr(uint32_t value) { __asm__ volatile("ldmxcsr %0" : : "m"(value)); }
static void set_x87(uint16_t control) { __asm__ volatile("fninit; fldcw %0" : : "m"(control)); }

#define SSE_TWO(name)                                                                                              \
  static uint64_t name(uint64_t a, uint64_t b) {                                                                   \
    __asm__ volatile("movq %0, %%xmm0; movq %1, %%xmm1; " #name " %%xmm1, %%xmm0; movq %%xmm0, %0"                 \
                     : "+r"(a) : "r"(b) : "xmm0", "xmm1");                                                         \
    return a;                                                                                                      \
  }
SSE_TWO(addsd) SSE_TWO(subsd) SSE_TWO(mulsd) SSE_TWO(divsd) SSE_TWO(sqrtsd) SSE_TWO(minsd) SSE_TWO(maxsd)
SSE_TWO(addss) SSE_TWO(mulss) SSE_TWO(divss) SSE_TWO(cvtsd2ss) SSE_TWO(cvtss2sd)

#define SSE_TO_INTEGER(name)                                                                                       \
  static uint64_t name(uint64_t a, uint64_t b) {                                                                   \
    uint64_t result;                                                                                               \
    (void)b;                                                                                                       \
    __asm__ volatile("movq %1, %%xmm0; " #name " %%xmm0, %0" : "=r"(result) : "r"(a) : "xmm0");                    \
    return result;                                                                                                 \
  }
SSE_TO_INTEGER(cvtsd2si) SSE_TO_INTEGER(cvttsd2si)

static uint64_t ucomisd(uint64_t a, uint64_t b) {
  uint64_t flags;
  __asm__ volatile("sub $128, %%rsp; movq %1, %%xmm0; movq %2, %%xmm1; ucomisd %%xmm1, %%xmm0; pushfq; popq %0; add $128, %%rsp"
                   : "=&r"(flags) : "r"(a), "r"(b) : "xmm0", "xmm1", "cc", "memory");
  return flags & ALL;
}

#define X87_TWO(name)                                                                                              \
  static uint64_t name(uint64_t a, uint64_t b) {                                                                   \
    struct { uint64_t significand; uint16_t exponent; } __attribute__((packed)) result;                            \
    uint16_t status;                                                                                               \
    __asm__ volatile("fldl %2; fldl %3; " #name "; fstpt %0; fnstsw %1" : "=m"(result), "=a"(status) : "m"(a), "m"(b)); \
    return mix(mix(result.significand, result.exponent), status & RAISED);                                         \
  }
X87_TWO(faddp) X87_TWO(fmulp) X87_TWO(fdivp) X87_TWO(fsubp)

static uint64_t float_digest(Calculation *calculation, bool x87) {
  uint64_t digest = 0;
  for (unsigned mode = 0; mode < 4; mode++)
    for (unsigned precision = x87 ? 0 : 3; precision < 4; precision++) {
      if (precision == 1) continue; /* reserved */
      for (unsigned i = 0; i < DOUBLES; i++)
        for (unsigned k = 0; k < DOUBLES; k++) {
          set_x87((uint16_t)(0x3f | precision << 8 | mode << 10));
          set_mxcsr(MASKED | mode << 13);
          digest = mix(digest, calculation(doubles[i], doubles[k]));
          digest = mix(digest, get_mxcsr() & RAISED);
        }
    }
  set_mxcsr(MASKED);
  return digest;
}

/* --- Rows -------------------------------------------------------------------------------------------------- */

typedef struct Vector {
  const char *name;
  Operation *integer;
  uint64_t defined; /* flags */
  Calculation *calculation;
  bool x87;
} Vector;

#define ROW(name, size, defined) {#name " " #size, name##_##size, defined, 0, false}
#define ROWS(name, defined) ROW(name, 8, defined), ROW(name, 16, defined), ROW(name, 32, defined), ROW(name, 64, defined)
#define SSE(name) {#name, 0, 0, name, false}
#define X87(name) {#name, 0, 0, name, true}
enum { LOGIC = ALL & ~AF, ROTATED = CF, ROTATED_BY_ONE = CF | OF, SHIFTED_BY_ONE = ALL & ~AF, SHIFTED = CF | PF | ZF | SF };

static const Vector vectors[] = {
    ROWS(add, ALL), ROWS(adc, ALL), ROWS(sub, ALL), ROWS(sbb, ALL), ROWS(cmp, ALL), ROWS(and, LOGIC), ROWS(or, LOGIC),
    ROWS(xor, LOGIC), ROWS(test, LOGIC), ROWS(inc, ALL), ROWS(dec, ALL), ROWS(neg, ALL), ROWS(not, ALL & ~(PF | AF | ZF | SF | OF)),
    ROWS(shl1, SHIFTED_BY_ONE), ROWS(shr1, SHIFTED_BY_ONE), ROWS(sar1, SHIFTED_BY_ONE), ROWS(rol1, ROTATED_BY_ONE),
    ROWS(ror1, ROTATED_BY_ONE), ROWS(rcl1, ROTATED_BY_ONE), ROWS(rcr1, ROTATED_BY_ONE), ROWS(shl5, SHIFTED),
    ROWS(shr5, SHIFTED), ROWS(sar5, SHIFTED), ROWS(rol5, ROTATED), ROWS(ror5, ROTATED), ROWS(rcl5, ROTATED),
    ROWS(rcr5, ROTATED), ROW(imul, 16, CF | OF), ROW(imul, 32, CF | OF), ROW(imul, 64, CF | OF), ROW(bt, 32, CF),
    ROW(bt, 64, CF), SSE(addsd), SSE(subsd), SSE(mulsd), SSE(divsd), SSE(sqrtsd), SSE(minsd), SSE(maxsd), SSE(addss),
    SSE(mulss), SSE(divss), SSE(cvtsd2ss), SSE(cvtss2sd), SSE(cvtsd2si), SSE(cvttsd2si), SSE(ucomisd), X87(faddp),
    X87(fmulp), X87(fdivp), X87(fsubp)};
enum { VECTORS = sizeof vectors / sizeof *vectors };

static const uint64_t answers[VECTORS] = {
#define ANSWER(name, digest) digest,
#include "vectors.def"
#undef ANSWER
};

static uint64_t digest_of(const Vector *vector) {
  return vector->integer ? integer_digest(vector->integer, vector->defined)
                         : float_digest(vector->calculation, vector->x87);
}

void test_vectors(void) {
  uint64_t wrong = 0;
  for (unsigned i = 0; i < VECTORS; i++) {
    if (digest_of(&vectors[i]) == answers[i]) continue;
    print("vectors %s: other results or flags than x86's\n", vectors[i].name);
    wrong++;
  }
  report("vectors", "results, flags and roundings", VECTORS, wrong);
}

void print_vectors(void) {
  for (unsigned i = 0; i < VECTORS; i++) print("ANSWER(\"%s\", 0x%lx)\n", vectors[i].name, digest_of(&vectors[i]));
}
