/* Ordered accesses that are not aligned.
 *
 * x86 orders misaligned accesses like any others; AArch64's acquire and release instructions fault on them
 * (without FEAT_LSE2 on every misaligned address, with it where a 16-byte boundary is crossed; Arm ARM B2.9).
 * The faulting load or store is replaced for good by a branch to a plain access with a barrier; a locked
 * operation is carried out here, under one lock, each time. */
#include "runtime/internal.h"

#include <string.h>

#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "a64/encode.h"
#include "guest/memory-map.h"
#include "runtime/fault.h"

enum { DMB_ISH = 0xd5033bbf, DMB_ISHLD = 0xd50339bf, STUB_WORDS = 4 };

typedef struct OrderedAccess {
  uint32_t plain;  /* the same access as LDUR/STUR */
  bool load;
} OrderedAccess;

/* LDAPUR, STLUR; LDAPR, LDAR, STLR (Arm ARM C4.1.94). */
static bool decode_ordered(uint32_t word, OrderedAccess *ret) {
  uint32_t size = word & 0xc0000000u, registers = word & 0x3ff;
  if ((word & 0x3f200c00u) == 0x19000000u) { /* unscaled offset: the same fields at the same places */
    uint32_t opc = word >> 22 & 3;
    *ret = (OrderedAccess){size | 0x38000000u | opc << 22 | (word & 0x1ff000u) | registers, opc != 0};
    return true;
  }
  if ((word & 0x3ffffc00u) == 0x38bfc000u || (word & 0x3ffffc00u) == 0x08dffc00u) {
    *ret = (OrderedAccess){size | 0x38400000u | registers, true};
    return true;
  }
  if ((word & 0x3ffffc00u) == 0x089ffc00u) {
    *ret = (OrderedAccess){size | 0x38000000u | registers, false};
    return true;
  }
  return false;
}

/* --- Access ------------------------------------------------------------------------------------------------- */

/* Whether the guest may access all of [address, address + bytes); otherwise the address its fault is at. */
static bool accessible(uint64_t address, unsigned bytes, bool write, uint64_t *ret_fault) {
  uint64_t end = 0, at = address;
  int wanted = write ? MEMORY_WRITE : MEMORY_READ;
  for (; at < address + bytes; at = end) {
    int protection = memory_map_query(at, &end);
    if (protection >= 0 && protection & wanted) continue;
    *ret_fault = at;
    return false;
  }
  return true;
}

static void set_register(struct sigcontext *host, unsigned number, uint64_t value) {
  if (number != A64_REG_ZERO) host->regs[number] = value;
}

static uint64_t get_register(const struct sigcontext *host, unsigned number) {
  return number == A64_REG_ZERO ? 0 : host->regs[number];
}

/* --- Locked operations ------------------------------------------------------------------------------------ */

/* Operations by the numbers LSE instructions give them. */
typedef enum LockedKind { LOCKED_ADD, LOCKED_CLEAR, LOCKED_XOR, LOCKED_OR, LOCKED_SWAP = 8, LOCKED_CAS } LockedKind;

typedef struct LockedOperation {
  LockedKind kind;
  uint8_t bytes;
  uint8_t words;    /* instructions it takes */
  uint8_t address;  /* registers: of the memory */
  uint8_t operand;  /* second operand, or new value */
  uint8_t expected; /* LOCKED_CAS */
  uint8_t old;      /* gets the old value */
} LockedOperation;

BaseLock runtime_split_lock;

static uint64_t combine(LockedKind kind, uint64_t old, uint64_t operand) {
  switch (kind) {
  case LOCKED_ADD: return old + operand;
  case LOCKED_CLEAR: return old & ~operand;
  case LOCKED_XOR: return old ^ operand;
  case LOCKED_OR: return old | operand;
  default: return operand;
  }
}

/* LSE atomics and CAS. */
static bool decode_lse(const uint32_t *site, LockedOperation *ret) {
  uint32_t word = *site;
  bool cas = (word & 0x3fa07c00u) == 0x08a07c00u;
  if (!cas && (word & 0x3f200c00u) != 0x38200000u) return false;
  uint8_t rs = word >> 16 & 31, rt = word & 31;
  *ret = (LockedOperation){.kind = cas ? LOCKED_CAS : word & 0x8000 ? LOCKED_SWAP : (LockedKind)(word >> 12 & 7),
                           .bytes = (uint8_t)(1 << (word >> 30)), .words = 1, .address = word >> 5 & 31,
                           .operand = cas ? rt : rs, .expected = rs, .old = cas ? rs : rt};
  return true;
}

/* The loops of exclusives that the emitter makes for want of LSE (put_exclusive_loop() in a64/emit.c), from their
 * LDAXR on. The old value is left in x16, and moved on behind the loop. */
static bool decode_exclusives(const uint32_t *site, LockedOperation *ret) {
  enum { SWAP_STORE = 1, OPERATION_STORE = 2, CAS_STORE = 3, NARROW_CAS_STORE = 4 };
  if ((site[0] & 0x3ffffc1fu) != 0x085ffc10u) return false;
  unsigned store = SWAP_STORE;
  while (store <= NARROW_CAS_STORE && (site[store] & 0x3fe0fc00u) != 0x0800fc00u) store++; /* STLXR */
  if (store > NARROW_CAS_STORE) return false;
  uint32_t first = site[1];
  *ret = (LockedOperation){.kind = LOCKED_SWAP, .bytes = (uint8_t)(1 << (site[0] >> 30)), .words = (uint8_t)(store + 2),
                           .address = site[0] >> 5 & 31, .operand = site[store] & 31, .old = 16};
  if (store == SWAP_STORE) return true;
  uint8_t m = first >> 16 & 31;
  if (store >= CAS_STORE) {
    ret->kind = LOCKED_CAS;
    ret->expected = m;
    return true;
  }
  ret->operand = m;
  switch (first & 0x7f200000u) {
  case 0x0b000000u: ret->kind = LOCKED_ADD; return true;
  case 0x0a200000u: ret->kind = LOCKED_CLEAR; return true;
  case 0x4a000000u: ret->kind = LOCKED_XOR; return true;
  case 0x2a000000u: ret->kind = LOCKED_OR; return true;
  default: return false;
  }
}

/* On any address: atomic among themselves, as split locks are rare and slow on hardware too. */
static void do_locked(struct sigcontext *host, const LockedOperation *operation) {
  void *at = (void *)(uintptr_t)host->regs[operation->address];
  unsigned bytes = operation->bytes;
  uint64_t old = 0, operand = get_register(host, operation->operand);
  uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << bytes * 8) - 1;
  base_lock(&runtime_split_lock);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  memcpy(&old, at, bytes);
  uint64_t fresh = combine(operation->kind, old, operand) & mask;
  bool store = operation->kind != LOCKED_CAS || old == (get_register(host, operation->expected) & mask);
  if (store) memcpy(at, &fresh, bytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  base_unlock(&runtime_split_lock);
  set_register(host, operation->old, old);
  host->pc += 4 * operation->words;
}

/* --- Loads and stores --------------------------------------------------------------------------------------- */

/* The plain access with its barrier, done for this once by going through a stub that stays. */
static uint32_t *make_stub(uint32_t *site, const OrderedAccess *access) {
  if (runtime.cache_size - runtime.cache_used < STUB_WORDS * 4) return NULL;
  uint32_t *stub = (uint32_t *)(runtime.cache + runtime.cache_used);
  uint32_t *at = stub;
  if (!access->load) *at++ = DMB_ISH;
  *at++ = access->plain;
  if (access->load) *at++ = DMB_ISHLD;
  *at = a64_retarget(0x14000000u, (int64_t)((uint8_t *)(site + 1) - (uint8_t *)at));
  cache_sync(stub, STUB_WORDS * 4);
  return stub;
}

static uint64_t address_of(const struct sigcontext *host, uint32_t word) {
  int64_t offset = (word & 0x3f200c00u) == 0x19000000u ? (int64_t)((uint64_t)(word >> 12 & 0x1ff) << 55) >> 55 : 0;
  return host->regs[word >> 5 & 31] + (uint64_t)offset;
}

/* The access done here, for the time being: the lock is taken, perhaps by a thread waiting for this one. */
static void access_once(struct sigcontext *host, uint32_t word, const OrderedAccess *access) {
  unsigned bytes = 1u << (word >> 30), rt = word & 31;
  void *at = (void *)(uintptr_t)address_of(host, word);
  uint64_t value = get_register(host, rt);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (access->load) {
    unsigned opc = word >> 22 & 3, shift = 64 - bytes * 8;
    bool is_signed = (word & 0x3f200c00u) == 0x19000000u && opc >= 2;
    value = 0;
    memcpy(&value, at, bytes);
    if (is_signed) value = (uint64_t)((int64_t)(value << shift) >> shift);
    if (is_signed && opc == 3) value &= UINT32_MAX;
    set_register(host, rt, value);
  } else {
    memcpy(at, &value, bytes);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  host->pc += 4;
}

static bool try_lock(BaseLock *lock) {
  uint32_t expected = 0;
  return __atomic_compare_exchange_n(&lock->state, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void ordered_access(struct sigcontext *host, uint32_t word, const Region *region, const OrderedAccess *access) {
  uint32_t *site = (uint32_t *)(uintptr_t)host->pc;
  if (!try_lock(&runtime.lock)) {
    access_once(host, word, access);
    return;
  }
  uint32_t *stub = *site == word ? make_stub(site, access) : NULL;
  if (stub) {
    cache_adopt_stub(stub, STUB_WORDS * 4, region, host->pc);
    cache_patch(site, a64_retarget(0x14000000u, (int64_t)((uint8_t *)stub - (uint8_t *)site)));
  } else if (*site == word) { /* no room */
    access_once(host, word, access);
  }
  base_unlock(&runtime.lock);
}

Misaligned misaligned_access(void *opaque, uint64_t *ret_fault) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  const Region *region = cache_find_region(host->pc);
  if (!region) return MISALIGNED_NOT;
  const uint32_t *site = (const uint32_t *)(uintptr_t)host->pc;
  uint32_t word = __atomic_load_n(site, __ATOMIC_RELAXED);
  if ((word & 0xfc000000u) == 0x14000000u) return MISALIGNED_DONE; /* another thread has replaced it meanwhile */
  LockedOperation locked;
  OrderedAccess access;
  if (decode_lse(site, &locked) || decode_exclusives(site, &locked)) {
    uint64_t address = host->regs[locked.address];
    if (!accessible(address, locked.bytes, true, ret_fault)) return MISALIGNED_FAULT;
    do_locked(host, &locked);
    return MISALIGNED_DONE;
  }
  if (!decode_ordered(word, &access)) return MISALIGNED_NOT;
  if (!accessible(address_of(host, word), 1u << (word >> 30), !access.load, ret_fault)) return MISALIGNED_FAULT;
  ordered_access(host, word, region, &access);
  return MISALIGNED_DONE;
}
