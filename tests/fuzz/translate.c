/*
 * Arbitrary bytes as guest code, through the whole path from decoder to emitter, for a number of seconds: nothing
 * may crash, overrun (build it with sanitizers), produce IR the verifier rejects, or be too large for the limits.
 * A guest's #UD is a fine answer; the translator's own death is not.
 *
 *   fuzz-translate SECONDS SEED [FILE]
 *
 * Bytes are random, random with plausible prefixes and opcodes, with those of vectors, or, where FILE (any program) is given, pieces of it
 * with a few bytes changed. A failure prints the seed of the piece; that seed alone with 0 seconds repeats it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "a64/emit.h"
#include "lift/lift.h"
#include "opt/opt.h"

enum { PIECE = 256, CODE_WORDS = 32768, RELOCATIONS = 4096, CHECK_TIME = 64 };

static Lift lift;
static LiftRegion region;
static A64Code code;
static A64Emitter *emitter;
static uint64_t random_state;
static const uint8_t *file;
static size_t file_size;

static uint64_t random64(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static uint32_t below(uint32_t limit) { return (uint32_t)(random64() % limit); }

static void random_bytes(uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)random64();
}

/* Prefixes and escapes in an order a decoder believes, then opcode and operands. */
static void plausible_bytes(uint8_t *bytes, size_t size) {
  static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x67, 0x2e};
  static const uint8_t after_escape[] = {0x38, 0x3a};
  for (size_t at = 0; at + 16 <= size;) {
    for (uint32_t n = below(3); n > 0; n--) bytes[at++] = prefixes[below(sizeof prefixes)];
    if (below(2)) bytes[at++] = 0x40 | (uint8_t)below(16);
    if (below(2)) {
      bytes[at++] = 0x0f;
      if (below(3) == 0) bytes[at++] = after_escape[below(2)];
    }
    for (uint32_t n = 2 + below(5); n > 0; n--) bytes[at++] = (uint8_t)random64();
  }
}

/* VEX and EVEX prefixes of maps that exist mostly, then opcode, ModRM and what may follow (Intel SDM volume 2, 2.3, 2.7). */
static void vector_bytes(uint8_t *bytes, size_t size) {
  enum { VEX2 = 0xc5, VEX3 = 0xc4, EVEX = 0x62 };
  static const uint8_t starts[] = {VEX2, VEX3, VEX3, VEX3, EVEX};
  for (size_t at = 0; at + 16 <= size;) {
    uint8_t start = starts[below(sizeof starts)], map = below(16) ? (uint8_t)(1 + below(3)) : (uint8_t)below(32);
    if (below(32) == 0) bytes[at++] = 0x67;
    bytes[at++] = start;
    if (start != VEX2) bytes[at++] = (uint8_t)((random64() & (start == EVEX ? 0xf0 : 0xe0)) | map);
    for (uint32_t n = start == EVEX ? 4 : 3; n > 0; n--) bytes[at++] = (uint8_t)random64();
    for (uint32_t n = below(6); n > 0; n--) bytes[at++] = (uint8_t)random64();
  }
}

static void changed_bytes(uint8_t *bytes, size_t size) {
  memcpy(bytes, file + random64() % (file_size - size), size);
  for (uint32_t n = below(6); n > 0; n--) bytes[below((uint32_t)size)] = (uint8_t)random64();
}

static void make_piece(uint8_t *bytes) {
  switch (below(file ? 4 : 3)) {
  case 0: random_bytes(bytes, PIECE); break;
  case 1: plausible_bytes(bytes, PIECE); break;
  case 2: vector_bytes(bytes, PIECE); break;
  default: changed_bytes(bytes, PIECE);
  }
}

static void fail(uint64_t seed, const uint8_t *bytes, const char *what) {
  fprintf(stderr, "fuzz-translate: %s: seed %llu:", what, (unsigned long long)seed);
  for (unsigned i = 0; i < 48; i++) fprintf(stderr, " %02x", bytes[i]);
  fprintf(stderr, "\n");
  exit(1);
}

/* As runtime/translate.c: a region too large is tried again with fewer instructions, down to one. */
static void translate(uint64_t seed, const uint8_t *bytes) {
  uint64_t pc = below(2) ? 0x400000 : 0x7f0123456789;
  uint32_t size = 1 + below(PIECE), features = below(2) ? UINT32_MAX : (uint32_t)random64();
  bool ordered = below(2), strict = below(2);
  RegionWindow window = {pc, pc + size, bytes};
  for (uint32_t limit = REGION_MAX_INSNS; limit > 0; limit /= 2) {
    memset(&lift.x87, 0, sizeof lift.x87);
    region.strict_flags = strict;
    region_decode(&region, &window, pc, limit, limit);
    region_analyse(&region);
    lift.features = features;
    lift.ordered = ordered;
    lift.extended = true;
    lift_region(&lift, &region);
    if (lift.b.overflow) continue;
    const char *problem = ir_verify(&lift.b);
    if (problem) fail(seed, bytes, problem);
    opt_run(&lift.b);
    problem = ir_verify(&lift.b);
    if (problem) fail(seed, bytes, problem);
    A64EmitOptions options = {.guest_entry = pc, .features = features, .ordered = ordered};
    if (a64_emit(emitter, &lift.b, &options, &code) == A64_EMIT_OK) return;
  }
  fail(seed, bytes, "one instruction alone is too large");
}

static void map_file(const char *path) {
  FILE *stream = fopen(path, "rb");
  if (!stream) {
    perror(path);
    exit(2);
  }
  fseek(stream, 0, SEEK_END);
  file_size = (size_t)ftell(stream);
  file = mmap(NULL, file_size, PROT_READ, MAP_PRIVATE, fileno(stream), 0);
  fclose(stream);
  if (file == MAP_FAILED || file_size <= PIECE) exit(2);
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: fuzz-translate SECONDS SEED [FILE]\n"), 2;
  time_t end = time(NULL) + atol(argv[1]);
  uint64_t seed = strtoull(argv[2], NULL, 0), count = 0;
  if (argc > 3) map_file(argv[3]);
  lift.b.insns = calloc(IR_MAX_INSNS, sizeof *lift.b.insns);
  code.words = calloc(code.capacity = CODE_WORDS, sizeof *code.words);
  code.relocations = calloc(code.relocation_capacity = RELOCATIONS, sizeof *code.relocations);
  emitter = calloc(1, a64_emitter_size());
  if (!lift.b.insns || !code.words || !code.relocations || !emitter) return 2;
  do {
    uint8_t *bytes = malloc(PIECE); /* its own allocation: a sanitizer sees reads beyond it */
    random_state = seed;
    make_piece(bytes);
    translate(seed, bytes);
    free(bytes);
    seed++;
  } while (++count % CHECK_TIME || time(NULL) < end);
  printf("%llu pieces of code translated\n", (unsigned long long)count);
  return 0;
}
