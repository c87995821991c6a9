/* Which accesses are in the stack segment: by RSP or RBP as base, or implied, the address telling which of two it was. */
#include <stdio.h>

#include "x86/decode.h"

int main(void) {
  enum { LENGTH = 8 };
  static const struct {
    uint8_t code[LENGTH];
    uint64_t address;
    bool stack;
  } rows[] = {
      {{0x8b, 0x00}, 0x800000000000, false},             /* mov eax, [rax] */
      {{0x8b, 0x04, 0x24}, 0x800000000000, true},        /* mov eax, [rsp] */
      {{0x8b, 0x45, 0x08}, 0x800000000008, true},        /* mov eax, [rbp + 8] */
      {{0x8b, 0x04, 0x28}, 0x800000000000, false},       /* mov eax, [rax + rbp] */
      {{0x8b, 0x44, 0x05, 0}, 0x800000000000, true},     /* mov eax, [rbp + rax] */
      {{0x3e, 0x8b, 0x45, 0x08}, 0x800000000008, true},  /* mov eax, ds:[rbp + 8] */
      {{0x64, 0x8b, 0x45, 0x08}, 0x800000000008, false}, /* mov eax, fs:[rbp + 8] */
      {{0x41, 0x8b, 0x45, 0x08}, 0x800000000008, false}, /* mov eax, [r13 + 8] */
      {{0x50}, 0x1233fffffff8, true},                    /* push rax */
      {{0x58}, 0x123400000000, true},                    /* pop rax */
      {{0x9c}, 0x1233fffffff8, true},                    /* pushf */
      {{0xc3}, 0x123400000000, true},                    /* ret */
      {{0xe8, 0, 0, 0, 0}, 0x1233fffffff8, true},        /* call */
      {{0xff, 0x37}, 0x800000000000, false},             /* push [rdi] */
      {{0xff, 0x37}, 0x1233fffffff8, true},
      {{0xff, 0x75, 0}, 0x800000000000, true},           /* push [rbp] */
      {{0xc9}, 0x567800000000, true},                    /* leave */
      {{0xc9}, 0x123400000000, false},
      {{0xaa}, 0x123400000000, false},                   /* stosb */
  };
  unsigned failures = 0, count = sizeof rows / sizeof *rows;
  for (unsigned i = 0; i < count; i++) {
    X86Insn insn;
    bool decoded = x86_decode(rows[i].code, LENGTH, &insn) == X86_DECODE_OK;
    if (decoded && x86_accesses_stack(&insn, 0x123400000000, 0x567800000000, rows[i].address) == rows[i].stack) continue;
    printf("row %u: it should be %s\n", i, rows[i].stack ? "in the stack segment" : "elsewhere");
    failures++;
  }
  printf("%u accesses, %u failures\n", count, failures);
  return failures != 0;
}
