/*
 * x87 environments and images: the 14- and 94-byte forms of operand size 2, and the pointers to the last
 * instruction. What is compared is what every processor shows: the instruction pointer after any instruction but
 * the control ones (FXSAVE shows none on some unless an exception waits); opcode and data pointer where an
 * exception is not masked (CPUID leaf 7, EBX bit 6); no selectors (bit 13).
 * Build: static dynamic
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct Area {
  uint8_t bytes[128] __attribute__((aligned(16)));
} Area;

static Area area, other;
static uint8_t image[512] __attribute__((aligned(16)));
static double value = 1.5;

static void print_bytes(const char *name, const uint8_t *bytes, int count) {
  printf("%-10s", name);
  for (int i = 0; i < count; i++) printf("%02x", bytes[i]);
  printf("\n");
}

static void clear(void) { memset(&area, 0xcc, sizeof area); }

/* --- operand size 2 ------------------------------------------------------------------------------ */

static void sizes(void) {
  clear();
  __asm__ volatile("fninit; fld1; fldpi; fldz; data16 fnstenv %0" : "=m"(area));
  print_bytes("words", area.bytes, 6);
  print_bytes("behind", area.bytes + 14, 16);
  clear();
  __asm__ volatile("fninit; fld1; fldpi; fldl2e; fincstp; data16 fnsave %0" : "=m"(area));
  print_bytes("words", area.bytes, 6);
  print_bytes("behind", area.bytes + 14, 98);

  __asm__ volatile("fninit; data16 frstor %1; fadd %%st(1), %%st; fnsave %0" : "=m"(other) : "m"(area));
  print_bytes("restored", other.bytes, 12);
  print_bytes("registers", other.bytes + 28, 80);

  const uint16_t environment[7] = {0x27f, 0x3900, 0x3fff, 0x1234, 0, 0x5678, 0};
  clear();
  __asm__ volatile("fninit; data16 fldenv %1; fnstenv %0" : "=m"(area) : "m"(environment));
  print_bytes("loaded", area.bytes, 16);
  print_bytes("data", area.bytes + 20, 4);
  clear();
  __asm__ volatile("data16 fnstenv %0; fninit" : "=m"(area));
  print_bytes("again", area.bytes, 16);
}

/* --- pointers ------------------------------------------------------------------------------------ */

static void print_distance(const char *text, uint64_t from) {
  uint32_t pointer;
  memcpy(&pointer, area.bytes + 12, 4);
  printf("%-60s %d\n", text, (int32_t)(pointer - (uint32_t)from));
}

/* Distance of the last x87 instruction from label 1 of the text. */
#define POINTER(text)                                                                                         \
  do {                                                                                                        \
    uint64_t from;                                                                                            \
    uint32_t scratch = 3;                                                                                     \
    uint16_t control = 0x37f;                                                                                 \
    __asm__ volatile("fninit; fld1; lea 1f(%%rip), %1; jmp 1f; .p2align 5; 1: " text "; nop; fnstenv %0; fninit" \
                     : "=m"(area), "=&r"(from), "+r"(scratch)                                                 \
                     : "m"(value), "m"(control)                                                               \
                     : "rax", "cc", "memory");                                                                \
    print_distance(text, from);                                                                               \
  } while (0)

static void pointers(void) {
  POINTER("nop; fld1");
  POINTER("fldl %3; fadd %%st(1), %%st");
  POINTER("fldl %3; faddl %3");
  POINTER("fldl %3; fstp %%st; fnstsw %%ax");
  POINTER("fld1; fxch; fwait");
  POINTER("fchs; fldcw %4");
  POINTER("fabs; fnclex");
  POINTER("fincstp; fnstcw %4; fdecstp");
  POINTER("nop; ffree %%st(3)");
  POINTER("nop; fnop");
  POINTER("nop; fcmove %%st(1), %%st");
  POINTER("fld1; fucomi %%st(1), %%st; jp 2f; nop; 2: nop");
  POINTER("fld1; fmulp; test %2, %2; jnz 2f; fldz; 2: nop");
  POINTER("fldz; 2: nop; fadd %%st, %%st(1); dec %2; jnz 2b");
  POINTER("fldz; call 3f; jmp 2f; 3: nop; fsubr %%st, %%st(1); ret; 2: nop");
  POINTER("nop; fld1; lea 2f(%%rip), %%rax; jmp *%%rax; .p2align 5; 2: nop");
  POINTER("nop; fldt (%%rsp); fnstenv -64(%%rsp); fldz; fldenv -64(%%rsp)");
  POINTER("nop; fld1; fnsave -200(%%rsp); fldz; frstor -200(%%rsp)");
  POINTER("nop; rex.w; fldpi");
}

/* With an exception that is not masked, all of them; FXSAVE too. */
static void at_exceptions(void) {
  uint16_t control = 0x37b;
  uint64_t from, pointer[2];
  uint16_t opcode;
  __asm__ volatile("fninit; fldcw %3; fldz; lea 1f(%%rip), %1; nop; 1: fdivrl %2; fnstenv %0; fnclex; fninit"
                   : "=m"(area), "=&r"(from)
                   : "m"(value), "m"(control)
                   : "memory");
  print_distance("exception", from);
  memcpy(&opcode, area.bytes + 18, 2);
  memcpy(pointer, area.bytes + 20, 4);
  printf("opcode %03x, data here %d\n", opcode & 0x7ff, (uint32_t)pointer[0] == (uint32_t)(uintptr_t)&value);
  __asm__ volatile("fninit; fldcw %2; fldz; lea 1f(%%rip), %0; nop; 1: fdivrl %1; fxsave64 %3; fnclex; fninit"
                   : "=&r"(from)
                   : "m"(value), "m"(control), "m"(image)
                   : "memory");
  memcpy(&opcode, image + 6, 2);
  memcpy(pointer, image + 8, 16);
  printf("opcode %03x, here %d, data here %d\n", opcode & 0x7ff, pointer[0] == from,
         pointer[1] == (uintptr_t)&value);
}

/* --- reserved bytes ------------------------------------------------------------------------------ */

static void on_signal(int number) {
  volatile long double one = 1;
  one /= 3;
}

/* FXSAVE stores zeros above registers, also after a handler has returned. */
static void reserved(void) {
  signal(SIGUSR1, on_signal);
  __asm__ volatile("fninit; fld1; fldpi");
  raise(SIGUSR1);
  memset(image, 0xcc, sizeof image);
  __asm__ volatile("fxsave %0; fninit" : "=m"(image));
  for (int i = 0; i < 8; i++) print_bytes("reserved", image + 32 + 16 * i + 10, 6);
}

int main(void) {
  sizes();
  pointers();
  at_exceptions();
  reserved();
  return 0;
}
