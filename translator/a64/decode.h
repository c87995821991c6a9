/* What an AArch64 load or store does, for those who stand in for one that faulted. */
#ifndef STELE_A64_DECODE_H
#define STELE_A64_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "a64/encode.h"

typedef enum A64AccessKind {
  A64_ACCESS_LOAD,
  A64_ACCESS_STORE,
  A64_ACCESS_LOAD_EXCLUSIVE,
  A64_ACCESS_STORE_EXCLUSIVE,
  A64_ACCESS_ATOMIC, /* reads, combines as `operation` says, writes; t gets the old value */
  A64_ACCESS_CAS,    /* m: expected, gets the old value; t: new */
  A64_ACCESS_PREFETCH
} A64AccessKind;

typedef enum A64Addressing {
  A64_ADDRESS_OFFSET, /* n + offset */
  A64_ADDRESS_PRE,    /* the same, and n is moved */
  A64_ADDRESS_POST,   /* n, moved by offset, or by m, afterwards */
  A64_ADDRESS_INDEX,  /* n + m, which may be extended and shifted: not told */
  A64_ADDRESS_LITERAL /* PC + offset */
} A64Addressing;

enum { A64_NO_REGISTER = 0xff };

typedef struct A64Access {
  uint8_t kind;       /* A64AccessKind */
  uint8_t addressing; /* A64Addressing */
  uint8_t bytes;      /* in memory, of each register */
  uint8_t registers;  /* 1; 2 of pairs; up to 4 of vector structures */
  uint8_t operation;  /* A64_ACCESS_ATOMIC: an A64Atomic, or 4-7 for the signed and unsigned maxima and minima */
  uint8_t extends_to; /* of a load that extends the sign: 4 or 8 bytes; otherwise 0 */
  bool vector;
  bool acquire, release;
  uint8_t t, t2, n;   /* 31 is the zero register as t and t2, SP as n; of vectors the number */
  uint8_t m;          /* index, operand of an atomic, status of a store-exclusive */
  int32_t offset;     /* bytes */
} A64Access;

/* False when `word` is no load, store or prefetch of base instructions or Advanced SIMD (Arm ARM C4.1.94). */
bool a64_decode_access(uint32_t word, A64Access *ret);

/* Whether the instruction may write memory, which DC ZVA also does. */
bool a64_writes_memory(uint32_t word);

/* The load or store of one general register at n + offset as LDUR or STUR, which keep no order; 0 for other accesses. */
uint32_t a64_without_order(const A64Access *access);

/* A locked operation as the emitter makes them: one LSE instruction, or a loop of exclusives from its LDAXR on, which
 * leaves the old value in x16. */
typedef struct A64Locked {
  bool compares;     /* CAS: `operand` is stored where the memory holds `expected` */
  A64Atomic operation; /* of the others */
  uint8_t bytes;
  uint8_t words;     /* instructions it takes */
  uint8_t n;         /* registers: address */
  uint8_t operand;
  uint8_t expected;
  uint8_t old;       /* gets the old value */
} A64Locked;

bool a64_decode_locked(const uint32_t *site, A64Locked *ret);

#endif
