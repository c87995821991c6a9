/* Loads and stores back from words. A table of encoding classes (Arm ARM C4.1.94) names the function that reads the
 * fields of each; reserved combinations are refused, so that what is no instruction isn't taken for one. */
#include "a64/decode.h"

#include <stddef.h>

static uint32_t field(uint32_t word, unsigned lsb, unsigned width) { return word >> lsb & ((1u << width) - 1); }

static int32_t signed_field(uint32_t word, unsigned lsb, unsigned width) {
  return (int32_t)(word << (32 - lsb - width)) >> (32 - width);
}

static bool bit(uint32_t word, unsigned at) { return word >> at & 1; }

enum { VECTOR = 26, LOAD = 22 }; /* bits that many classes share */

/* --- Single registers ------------------------------------------------------------------------------------ */

static bool make_prefetch(A64Access *ret) {
  ret->kind = A64_ACCESS_PREFETCH;
  ret->t = A64_NO_REGISTER;
  return true;
}

/* Size in bits 30-31, direction and extension in 22-23. */
static bool decode_transfer(uint32_t word, A64Access *ret) {
  unsigned log2 = field(word, 30, 2), opc = field(word, 22, 2);
  if (ret->vector) {
    if (opc & 2 && log2) return false;
    ret->bytes = opc & 2 ? 16 : (uint8_t)(1 << log2);
    ret->kind = opc & 1 ? A64_ACCESS_LOAD : A64_ACCESS_STORE;
    return true;
  }
  ret->bytes = (uint8_t)(1 << log2);
  ret->kind = opc == A64_STORE ? A64_ACCESS_STORE : A64_ACCESS_LOAD;
  if (opc <= A64_LOAD) return true;
  if (opc == A64_LOAD_SIGN64 && log2 == 3) return make_prefetch(ret);
  ret->extends_to = opc == A64_LOAD_SIGN64 ? 8 : 4;
  return ret->bytes < ret->extends_to;
}

static bool decode_scaled(uint32_t word, A64Access *ret) {
  if (!decode_transfer(word, ret)) return false;
  ret->offset = (int32_t)field(word, 10, 12) * ret->bytes;
  return true;
}

static bool decode_unscaled(uint32_t word, A64Access *ret) {
  ret->offset = signed_field(word, 12, 9);
  return decode_transfer(word, ret);
}

/* The other forms with such an offset have no prefetches. */
static bool decode_unscaled_transfer(uint32_t word, A64Access *ret) {
  return decode_unscaled(word, ret) && ret->kind != A64_ACCESS_PREFETCH;
}

/* LDTR, STTR; general registers only. */
static bool decode_unprivileged(uint32_t word, A64Access *ret) {
  return !ret->vector && decode_unscaled_transfer(word, ret);
}

static bool decode_post(uint32_t word, A64Access *ret) {
  ret->addressing = A64_ADDRESS_POST;
  return decode_unscaled_transfer(word, ret);
}

static bool decode_pre(uint32_t word, A64Access *ret) {
  ret->addressing = A64_ADDRESS_PRE;
  return decode_unscaled_transfer(word, ret);
}

static bool decode_index(uint32_t word, A64Access *ret) {
  ret->addressing = A64_ADDRESS_INDEX;
  ret->m = (uint8_t)field(word, 16, 5);
  return bit(word, 14) && decode_transfer(word, ret); /* an index of 32 or 64 bits */
}

static bool decode_literal(uint32_t word, A64Access *ret) {
  unsigned opc = field(word, 30, 2);
  ret->addressing = A64_ADDRESS_LITERAL;
  ret->n = A64_NO_REGISTER;
  ret->offset = signed_field(word, 5, 19) * 4;
  ret->bytes = (uint8_t)(ret->vector ? 4u << opc : opc == 1 ? 8 : 4);
  if (opc == 3) return !ret->vector && make_prefetch(ret);
  if (!ret->vector && opc == 2) ret->extends_to = 8;
  return true;
}

/* --- Pairs and structures -------------------------------------------------------------------------------- */

static bool decode_pair(uint32_t word, A64Access *ret) {
  static const uint8_t addressing[] = {A64_ADDRESS_OFFSET, A64_ADDRESS_POST, A64_ADDRESS_OFFSET, A64_ADDRESS_PRE};
  unsigned opc = field(word, 30, 2), index = field(word, 23, 2);
  bool load = bit(word, LOAD), sign = !ret->vector && opc == 1;
  if (opc == 3 || (sign && (!load || !index))) return false;
  ret->kind = load ? A64_ACCESS_LOAD : A64_ACCESS_STORE;
  ret->addressing = addressing[index];
  ret->registers = 2;
  ret->bytes = (uint8_t)(ret->vector ? 4u << opc : opc == 2 ? 8 : 4);
  ret->extends_to = sign ? 8 : 0;
  ret->t2 = (uint8_t)field(word, 10, 5);
  ret->offset = signed_field(word, 15, 7) * ret->bytes;
  return true;
}

/* LD1 to LD4 and ST1 to ST4; bit 23: n is moved by m, or for 31 by the bytes accessed. */
static bool decode_structure_address(uint32_t word, A64Access *ret) {
  unsigned m = field(word, 16, 5);
  ret->vector = true;
  ret->kind = bit(word, LOAD) ? A64_ACCESS_LOAD : A64_ACCESS_STORE;
  if (!bit(word, 23)) return m == 0;
  ret->addressing = A64_ADDRESS_POST;
  if (m == 31) ret->offset = ret->bytes * ret->registers;
  else ret->m = (uint8_t)m;
  return true;
}

static bool decode_structures(uint32_t word, A64Access *ret) {
  static const uint8_t registers[16] = {[0] = 4, [2] = 4, [4] = 3, [6] = 3, [7] = 1, [8] = 2, [10] = 2};
  unsigned opcode = field(word, 12, 4);
  bool interleaves = opcode == 0 || opcode == 4 || opcode == 8, whole = bit(word, 30);
  ret->registers = registers[opcode];
  ret->bytes = whole ? 16 : 8;
  if (!ret->registers || bit(word, 21)) return false;
  if (interleaves && field(word, 10, 2) == 3 && !whole) return false;
  return decode_structure_address(word, ret);
}

static bool decode_structure_lane(uint32_t word, A64Access *ret) {
  unsigned opcode = field(word, 13, 3), size = field(word, 10, 2);
  bool s = bit(word, 12);
  ret->registers = (uint8_t)((opcode & 1) * 2 + bit(word, 21) + 1);
  switch (opcode >> 1) {
  case 0: ret->bytes = 1; break;
  case 1:
    if (size & 1) return false;
    ret->bytes = 2;
    break;
  case 2:
    if (size > 1 || (size == 1 && s)) return false;
    ret->bytes = size ? 8 : 4;
    break;
  default: /* to all lanes */
    if (!bit(word, LOAD) || s) return false;
    ret->bytes = (uint8_t)(1 << size);
    break;
  }
  return decode_structure_address(word, ret);
}

/* --- Order and atomicity --------------------------------------------------------------------------------- */

static bool decode_ordered_unscaled(uint32_t word, A64Access *ret) {
  if (!decode_unscaled_transfer(word, ret)) return false;
  ret->acquire = ret->kind == A64_ACCESS_LOAD;
  ret->release = !ret->acquire;
  return true;
}

/* Operand or status, and the second register of pairs. */
static void take_exclusive_registers(uint32_t word, A64Access *ret, bool pair) {
  ret->m = (uint8_t)field(word, 16, 5);
  if (!pair) return;
  ret->registers = 2;
  ret->bytes = bit(word, 30) ? 8 : 4;
  ret->t2 = (uint8_t)field(word, 10, 5);
}

/* Register fields that an instruction hasn't are all ones. */
static bool unused(uint32_t word, unsigned lsb) { return field(word, lsb, 5) == 31; }

static bool decode_exclusive(uint32_t word, A64Access *ret) {
  bool load = bit(word, LOAD), pair = bit(word, 21), ordered = bit(word, 15);
  if ((load && !unused(word, 16)) || (!pair && !unused(word, 10))) return false;
  ret->kind = load ? A64_ACCESS_LOAD_EXCLUSIVE : A64_ACCESS_STORE_EXCLUSIVE;
  ret->acquire = load && ordered;
  ret->release = !load && ordered;
  take_exclusive_registers(word, ret, pair);
  if (load) ret->m = A64_NO_REGISTER;
  return true;
}

/* CAS, and of two registers CASP, whose registers come in pairs. */
static bool decode_compare_and_swap(uint32_t word, A64Access *ret) {
  bool pair = !bit(word, 23);
  if (!unused(word, 10) || (pair && word & 1u << 16) || (pair && word & 1)) return false;
  ret->kind = A64_ACCESS_CAS;
  ret->acquire = bit(word, 22);
  ret->release = bit(word, 15);
  take_exclusive_registers(word, ret, pair);
  if (pair) ret->t2 = (uint8_t)(ret->t + 1);
  return true;
}

/* LDAR, STLR; without bit 15 LDLAR, STLLR, which order no less. */
static bool decode_acquire_release(uint32_t word, A64Access *ret) {
  ret->kind = bit(word, LOAD) ? A64_ACCESS_LOAD : A64_ACCESS_STORE;
  ret->acquire = bit(word, LOAD);
  ret->release = !ret->acquire;
  return unused(word, 10) && unused(word, 16);
}

static bool decode_exclusive_class(uint32_t word, A64Access *ret) {
  bool o2 = bit(word, 23), o1 = bit(word, 21);
  ret->bytes = (uint8_t)(1 << field(word, 30, 2));
  if (o2 && !o1) return decode_acquire_release(word, ret);
  if (o1 && (o2 || !bit(word, 31))) return decode_compare_and_swap(word, ret);
  return decode_exclusive(word, ret);
}

static bool decode_atomic(uint32_t word, A64Access *ret) {
  enum { SWP = 8, LDAPR = 12 };
  unsigned operation = field(word, 12, 4);
  ret->bytes = (uint8_t)(1 << field(word, 30, 2));
  ret->acquire = bit(word, 23);
  ret->release = bit(word, 22);
  if (operation == LDAPR) {
    ret->kind = A64_ACCESS_LOAD;
    return ret->acquire && !ret->release && unused(word, 16);
  }
  if (operation > SWP) return false;
  ret->kind = A64_ACCESS_ATOMIC;
  ret->operation = (uint8_t)operation;
  ret->m = (uint8_t)field(word, 16, 5);
  return true;
}

/* --- Classes --------------------------------------------------------------------------------------------- */

/* Encodings with (word & mask) == value; the first that matches counts. */
typedef struct Class {
  uint32_t mask, value;
  bool (*decode)(uint32_t word, A64Access *ret);
} Class;

static const Class classes[] = {
    {0x3b000000, 0x39000000, decode_scaled},
    {0x3b200c00, 0x38000000, decode_unscaled},
    {0x3b200c00, 0x38000400, decode_post},
    {0x3b200c00, 0x38000800, decode_unprivileged},
    {0x3b200c00, 0x38000c00, decode_pre},
    {0x3b200c00, 0x38200800, decode_index},
    {0x3b000000, 0x18000000, decode_literal},
    {0x3a000000, 0x28000000, decode_pair},
    {0x3f000000, 0x08000000, decode_exclusive_class},
    {0x3f200c00, 0x19000000, decode_ordered_unscaled},
    {0x3f200c00, 0x38200000, decode_atomic},
    {0xbf000000, 0x0c000000, decode_structures},
    {0xbf000000, 0x0d000000, decode_structure_lane},
};

bool a64_decode_access(uint32_t word, A64Access *ret) {
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    if ((word & classes[i].mask) != classes[i].value) continue;
    *ret = (A64Access){.registers = 1, .vector = bit(word, VECTOR), .t = (uint8_t)field(word, 0, 5),
                       .t2 = A64_NO_REGISTER, .n = (uint8_t)field(word, 5, 5), .m = A64_NO_REGISTER};
    return classes[i].decode(word, ret);
  }
  return false;
}

bool a64_writes_memory(uint32_t word) {
  A64Access access;
  if ((word & 0xffffffe0u) == 0xd50b7420u) return true; /* DC ZVA */
  if (!a64_decode_access(word, &access)) return false;
  return access.kind == A64_ACCESS_STORE || access.kind == A64_ACCESS_STORE_EXCLUSIVE ||
         access.kind == A64_ACCESS_ATOMIC || access.kind == A64_ACCESS_CAS;
}

uint32_t a64_without_order(const A64Access *access) {
  static const A64Opc load[] = {[0] = A64_LOAD, [4] = A64_LOAD_SIGN32, [8] = A64_LOAD_SIGN64};
  if (access->kind > A64_ACCESS_STORE || access->addressing != A64_ADDRESS_OFFSET || access->vector ||
      access->registers != 1)
    return 0;
  A64Opc opc = access->kind == A64_ACCESS_STORE ? A64_STORE : load[access->extends_to];
  return a64_at_unscaled(a64_transfer(access->bytes, opc, A64_X(access->t)), A64_X(access->n), access->offset);
}

/* --- Locked operations ----------------------------------------------------------------------------------- */

static bool is_emitted(unsigned operation) {
  return operation == A64_LDADD || operation == A64_LDCLR || operation == A64_LDEOR || operation == A64_LDSET ||
         operation == A64_SWP;
}

static bool decode_lse(uint32_t word, A64Locked *ret) {
  A64Access access;
  if (!a64_decode_access(word, &access) || access.registers != 1) return false;
  bool compares = access.kind == A64_ACCESS_CAS;
  if (!compares && (access.kind != A64_ACCESS_ATOMIC || !is_emitted(access.operation))) return false;
  *ret = (A64Locked){.compares = compares, .operation = (A64Atomic)access.operation, .bytes = access.bytes, .words = 1,
                     .n = access.n, .operand = compares ? access.t : access.m, .expected = access.m,
                     .old = compares ? access.m : access.t};
  return true;
}

/* The operation of registers that a loop computes the new value with. */
static bool decode_combination(uint32_t word, A64Atomic *ret) {
  A64Reg d = A64_X(A64_REG_EXIT1), n = A64_X(A64_REG_EXIT0), m = A64_X(field(word, 16, 5));
  uint32_t narrow = word & 0x7fffffffu;
  if (narrow == a64_add(4, d, n, m)) *ret = A64_LDADD;
  else if (narrow == a64_bic(4, d, n, m)) *ret = A64_LDCLR;
  else if (narrow == a64_eor(4, d, n, m)) *ret = A64_LDEOR;
  else if (narrow == a64_orr(4, d, n, m)) *ret = A64_LDSET;
  else return false;
  return true;
}

/* put_exclusive_loop() in emit.c makes these. */
static bool decode_loop(const uint32_t *site, A64Locked *ret) {
  enum { SWAP_STORE = 1, OPERATION_STORE = 2, CAS_STORE = 3, NARROW_CAS_STORE = 4 };
  A64Access load, store = {0};
  if (!a64_decode_access(site[0], &load) || load.kind != A64_ACCESS_LOAD_EXCLUSIVE || load.registers != 1 ||
      load.t != A64_REG_EXIT0)
    return false;
  unsigned at = SWAP_STORE;
  while (!a64_decode_access(site[at], &store) || store.kind != A64_ACCESS_STORE_EXCLUSIVE)
    if (++at > NARROW_CAS_STORE) return false;
  *ret = (A64Locked){.operation = A64_SWP, .bytes = load.bytes, .words = (uint8_t)(at + 2), .n = load.n,
                     .operand = store.t, .old = A64_REG_EXIT0};
  if (at == SWAP_STORE) return true;
  uint8_t m = (uint8_t)field(site[1], 16, 5);
  if (at == OPERATION_STORE) {
    ret->operand = m;
    return decode_combination(site[1], &ret->operation);
  }
  ret->compares = true;
  ret->expected = m;
  return true;
}

bool a64_decode_locked(const uint32_t *site, A64Locked *ret) {
  return decode_lse(site[0], ret) || decode_loop(site, ret);
}
