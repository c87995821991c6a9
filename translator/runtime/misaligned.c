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

#include "a64/decode.h"
#include "guest/memory-map.h"
#include "runtime/fault.h"

enum { STUB_WORDS = 4 };

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

BaseLock runtime_split_lock;

static uint64_t combine(A64Atomic operation, uint64_t old, uint64_t operand) {
  switch (operation) {
  case A64_LDADD: return old + operand;
  case A64_LDCLR: return old & ~operand;
  case A64_LDEOR: return old ^ operand;
  case A64_LDSET: return old | operand;
  default: return operand;
  }
}

/* On any address: atomic among themselves, as split locks are rare and slow on hardware too. */
static void do_locked(struct sigcontext *host, const A64Locked *operation) {
  void *at = (void *)(uintptr_t)host->regs[operation->n];
  unsigned bytes = operation->bytes;
  uint64_t old = 0, operand = get_register(host, operation->operand);
  uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << bytes * 8) - 1;
  base_lock(&runtime_split_lock);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  memcpy(&old, at, bytes);
  uint64_t fresh = (operation->compares ? operand : combine(operation->operation, old, operand)) & mask;
  bool store = !operation->compares || old == (get_register(host, operation->expected) & mask);
  if (store) memcpy(at, &fresh, bytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  base_unlock(&runtime_split_lock);
  set_register(host, operation->old, old);
  host->pc += 4 * operation->words;
}

/* --- Loads and stores --------------------------------------------------------------------------------------- */

/* The plain access with its barrier, done for this once by going through a stub that stays. */
static uint32_t *make_stub(uint32_t *site, const A64Access *access) {
  if (runtime.cache_size - runtime.cache_used < STUB_WORDS * 4) return NULL;
  uint32_t *stub = (uint32_t *)(runtime.cache + runtime.cache_used);
  uint32_t *at = stub;
  if (access->kind == A64_ACCESS_STORE) *at++ = A64_DMB_ISH;
  *at++ = a64_without_order(access);
  if (access->kind == A64_ACCESS_LOAD) *at++ = A64_DMB_ISHLD;
  *at = a64_b((int64_t)((uint8_t *)(site + 1) - (uint8_t *)at));
  cache_sync(stub, STUB_WORDS * 4);
  return stub;
}

static uint64_t address_of(const struct sigcontext *host, const A64Access *access) {
  return host->regs[access->n] + (uint64_t)(int64_t)access->offset;
}

/* The access done here, for the time being: the lock is taken, perhaps by a thread waiting for this one. */
static void access_once(struct sigcontext *host, const A64Access *access) {
  unsigned shift = 64 - access->bytes * 8;
  void *at = (void *)(uintptr_t)address_of(host, access);
  uint64_t value = get_register(host, access->t);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (access->kind == A64_ACCESS_LOAD) {
    value = 0;
    memcpy(&value, at, access->bytes);
    if (access->extends_to) value = (uint64_t)((int64_t)(value << shift) >> shift);
    if (access->extends_to == 4) value &= UINT32_MAX;
    set_register(host, access->t, value);
  } else {
    memcpy(at, &value, access->bytes);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  host->pc += 4;
}

static bool try_lock(BaseLock *lock) {
  uint32_t expected = 0;
  return __atomic_compare_exchange_n(&lock->state, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void ordered_access(struct sigcontext *host, uint32_t word, const Region *region, const A64Access *access) {
  uint32_t *site = (uint32_t *)(uintptr_t)host->pc;
  if (!try_lock(&runtime.lock)) {
    access_once(host, access);
    return;
  }
  uint32_t *stub = *site == word ? make_stub(site, access) : NULL;
  if (stub) {
    cache_adopt_stub(stub, STUB_WORDS * 4, region, host->pc);
    cache_patch(site, a64_b((int64_t)((uint8_t *)stub - (uint8_t *)site)));
  } else if (*site == word) { /* no room */
    access_once(host, access);
  }
  base_unlock(&runtime.lock);
}

Misaligned misaligned_access(void *opaque, uint64_t *ret_fault) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  const Region *region = cache_find_region(host->pc);
  if (!region) return MISALIGNED_NOT;
  const uint32_t *site = (const uint32_t *)(uintptr_t)host->pc;
  uint32_t word = __atomic_load_n(site, __ATOMIC_RELAXED);
  if (a64_is_b(word)) return MISALIGNED_DONE; /* another thread has replaced it meanwhile */
  A64Locked locked;
  A64Access access;
  if (a64_decode_locked(site, &locked)) {
    uint64_t address = host->regs[locked.n];
    if (!accessible(address, locked.bytes, true, ret_fault)) return MISALIGNED_FAULT;
    do_locked(host, &locked);
    return MISALIGNED_DONE;
  }
  if (!a64_decode_access(word, &access) || !(access.acquire | access.release) || !a64_without_order(&access))
    return MISALIGNED_NOT;
  bool write = access.kind == A64_ACCESS_STORE;
  if (!accessible(address_of(host, &access), access.bytes, write, ret_fault)) return MISALIGNED_FAULT;
  ordered_access(host, word, region, &access);
  return MISALIGNED_DONE;
}
