/* Prints what a64_decode_access() says of words as lines "WORD DESCRIPTION", "WORD -" where it refuses; of locked
 * operations what a64_decode_locked() says of the emitter's own code. tests/a64/accesses compares the former with what
 * the disassembler says.
 *
 *   a64-accesses COUNT      words at random from the encoding group of loads and stores (bits 27 and 25)
 *   a64-accesses --locked   every locked operation in every size, with and without LSE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a64/decode.h"
#include "a64/emit.h"

static const char *const kinds[] = {"load", "store", "load-exclusive", "store-exclusive", "atomic", "cas", "prefetch"};
static const char *const addressings[] = {"offset", "pre", "post", "index", "literal"};

static void print_register(const char *name, unsigned number) {
  if (number != A64_NO_REGISTER) printf(" %s=%u", name, number);
}

static void print_access(uint32_t word) {
  A64Access a;
  printf("%08x", word);
  if (!a64_decode_access(word, &a)) {
    printf(" -\n");
    return;
  }
  printf(" %s %s bytes=%u registers=%u", kinds[a.kind], a.vector ? "vector" : "general", a.bytes, a.registers);
  if (a.kind == A64_ACCESS_ATOMIC) printf(" operation=%u", a.operation);
  if (a.extends_to) printf(" extends=%u", a.extends_to);
  printf("%s%s", a.acquire ? " acquire" : "", a.release ? " release" : "");
  print_register("t", a.t);
  print_register("t2", a.t2);
  print_register("n", a.n);
  print_register("m", a.m);
  printf(" %s=%d", addressings[a.addressing], a.offset);
  if (a64_writes_memory(word)) printf(" writes");
  A64Locked locked;
  if (a64_decode_locked((uint32_t[5]){word}, &locked)) printf(" locked");
  if (a64_without_order(&a)) printf(" plain=%08x", a64_without_order(&a));
  printf("\n");
}

static uint64_t next_random(void) { /* xorshift64* */
  static uint64_t state = 0x9e3779b97f4a7c15;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Fields that must be all ones or zeros in many classes are so often enough. */
static uint32_t random_word(void) {
  uint64_t random = next_random();
  uint32_t word = (uint32_t)random, choices = (uint32_t)(random >> 32);
  if (choices & 1) word |= 31u << 10;
  if (choices & 2) word |= 31u << 16;
  if (choices & 4) word &= ~(31u << 16);
  if (choices & 8) word &= ~(3u << 10);
  return (word | 1u << 27) & ~(1u << 25);
}

/* --- Locked operations ------------------------------------------------------------------------------------ */

enum { WORDS = 64, SEVERAL = 64 };
static IrInsn insns[IR_MAX_INSNS];
static IrBuilder builder = {.insns = insns};
static A64Emitter *emitter;
static uint32_t words[WORDS];
static A64Relocation relocations[SEVERAL];
static A64Code code = {.words = words, .capacity = WORDS, .relocations = relocations, .relocation_capacity = SEVERAL};

static void print_locked(IrOp op, unsigned size, uint32_t features) {
  A64EmitOptions options = {.features = features, .ordered = true};
  ir_reset(&builder);
  ir_mark(&builder, IR_GUEST, 0, 0, 0);
  ir_atomic(&builder, op, size, (IrReg){3}, (IrReg){5}, (IrReg){7});
  A64EmitStatus status = a64_emit(emitter, &builder, &options, &code);
  for (uint32_t at = 0; status == A64_EMIT_OK && at < code.count; at++) {
    A64Locked locked;
    if (!a64_decode_locked(&words[at], &locked)) continue;
    printf("%s %u at %u:", features ? "lse" : "loop", size, at);
    if (locked.compares) printf(" cas expected=%u", locked.expected);
    else printf(" operation=%u", locked.operation);
    printf(" bytes=%u words=%u n=%u operand=%u old=%u\n", locked.bytes, locked.words, locked.n, locked.operand,
           locked.old);
    return;
  }
  printf("none\n");
}

static void print_all_locked(void) {
  static const IrOp operations[] = {IR_ATOMIC_ADD, IR_ATOMIC_CLEAR, IR_ATOMIC_XOR,
                                    IR_ATOMIC_OR,  IR_ATOMIC_SWAP,  IR_ATOMIC_CAS};
  emitter = calloc(1, a64_emitter_size());
  if (!emitter) abort();
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
    for (unsigned size = 1; size <= 8; size *= 2) {
      print_locked(operations[i], size, A64_HAS_LSE);
      print_locked(operations[i], size, 0);
    }
}

int main(int argc, char **argv) {
  if (argc == 2 && !strcmp(argv[1], "--locked")) {
    print_all_locked();
    return 0;
  }
  for (long left = argc == 2 ? atol(argv[1]) : 0; left > 0; left--) print_access(random_word());
  return 0;
}
