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

/* --- Locked operations ------------------------------------------------------------------------------------ */

static BaseLock split_lock;

static uint64_t combine(unsigned opc, uint64_t old, uint64_t operand) {
  switch (opc) {
  case 0: return old + operand;
  case 1: return old & ~operand;
  case 2: return old ^ operand;
  case 3: return old | operand;
  default: return operand; /* SWP */
  }
}

static void set_register(struct sigcontext *host, unsigned number, uint64_t value) {
  if (number != A64_REG_ZERO) host->regs[number] = value;
}

static uint64_t get_register(const struct sigcontext *host, unsigned number) {
  return number == A64_REG_ZERO ? 0 : host->regs[number];
}

/* LSE atomics and CAS on any address: atomic among themselves, as split locks are rare and slow on hardware
 * too. */
static bool locked_operation(struct sigcontext *host, uint32_t word) {
  bool cas = (word & 0x3fa07c00u) == 0x08a07c00u;
  bool lse = (word & 0x3f200c00u) == 0x38200000u;
  if (!cas && !lse) return false;
  unsigned bytes = 1u << (word >> 30), rs = word >> 16 & 31, rt = word & 31, rn = word >> 5 & 31;
  void *at = (void *)(uintptr_t)host->regs[rn];
  uint64_t old = 0, mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << bytes * 8) - 1;
  base_lock(&split_lock);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  memcpy(&old, at, bytes);
  if (cas) {
    uint64_t fresh = get_register(host, rt);
    if (old == (get_register(host, rs) & mask)) memcpy(at, &fresh, bytes);
    set_register(host, rs, old);
  } else {
    uint64_t fresh = combine(word & 0x8000 ? 8 : word >> 12 & 7, old, get_register(host, rs)) & mask;
    memcpy(at, &fresh, bytes);
    set_register(host, rt, old);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  base_unlock(&split_lock);
  host->pc += 4;
  return true;
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

/* The access done here, for the time being: the lock is taken, perhaps by a thread waiting for this one. */
static void access_once(struct sigcontext *host, uint32_t word, const OrderedAccess *access) {
  unsigned bytes = 1u << (word >> 30), rt = word & 31;
  int64_t offset = (word & 0x3f200c00u) == 0x19000000u ? (int64_t)((uint64_t)(word >> 12 & 0x1ff) << 55) >> 55 : 0;
  void *at = (void *)(uintptr_t)(host->regs[word >> 5 & 31] + (uint64_t)offset);
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

bool misaligned_access(void *opaque) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  Region *region = cache_find_region(host->pc);
  if (!region) return false;
  uint32_t *site = (uint32_t *)(uintptr_t)host->pc, word = *site;
  OrderedAccess access;
  if (locked_operation(host, word)) return true;
  if (!decode_ordered(word, &access)) return false;
  if (!try_lock(&runtime.lock)) {
    access_once(host, word, &access);
    return true;
  }
  uint32_t *stub = *site == word ? make_stub(site, &access) : NULL;
  if (stub) {
    cache_adopt_stub(stub, STUB_WORDS * 4, region, host->pc);
    cache_patch(site, a64_retarget(0x14000000u, (int64_t)((uint8_t *)stub - (uint8_t *)site)));
  } else if (*site == word) { /* no room */
    access_once(host, word, &access);
  }
  base_unlock(&runtime.lock);
  return true;
}
