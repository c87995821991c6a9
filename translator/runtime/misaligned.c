/* Ordered accesses that are not aligned.
 *
 * x86 orders misaligned accesses like any others; AArch64's acquire and release instructions fault on them
 * (without FEAT_LSE2 on every misaligned address, with it where a 16-byte boundary is crossed; Arm ARM B2.9).
 * The faulting load or store is carried out here, and its guest PC remembered, so that the region is translated again
 * with a plain access and a barrier there; a locked operation is carried out here each time, under one lock. */
#include "runtime/internal.h"

#include <string.h>

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "a64/decode.h"
#include "guest/memory-map.h"
#include "runtime/fault.h"

enum { MISALIGNED_KNOWN = 1 << 13 };

/* --- Ordered loads and stores --------------------------------------------------------------------------------- */

static bool is_ordered(uint32_t word, A64Access *ret_access) {
  return a64_decode_access(word, ret_access) &&
         (ret_access->kind == A64_ACCESS_LOAD || ret_access->kind == A64_ACCESS_STORE) &&
         (ret_access->acquire || ret_access->release);
}

/* Guest instructions that have met a misaligned address: open addressing; when it is full, all are forgotten, and those
 * still executed come back. */
static struct {
  uint64_t pc[MISALIGNED_KNOWN];
  uint32_t count;
} known;

static uint32_t slot_of(uint64_t pc) {
  uint32_t i = (uint32_t)(pc ^ pc >> 11) & (MISALIGNED_KNOWN - 1);
  while (known.pc[i] && known.pc[i] != pc) i = (i + 1) & (MISALIGNED_KNOWN - 1);
  return i;
}

bool misaligned_is_known(uint64_t pc) { return known.pc[slot_of(pc)] != 0; }

bool misaligned_any(void) { return known.count != 0; }

/* The region is given up, to be made again with accesses for misaligned addresses at this instruction. */
static void note_misaligned(RuntimeThread *thread, const Region *region, uint32_t offset) {
  unsigned form;
  uint64_t pc = region_pc_at(region, offset, &form);
  base_lock(&runtime.lock);
  if (known.count >= MISALIGNED_KNOWN / 2) memset(&known, 0, sizeof known);
  uint64_t *slot = &known.pc[slot_of(pc)];
  known.count += *slot == 0;
  *slot = pc;
  region_kill((Region *)region, DEATH_MISALIGNED);
  threads_note_deaths(thread);
  base_unlock(&runtime.lock);
}

/* --- Access ------------------------------------------------------------------------------------------------- */

/* An access across a page's end faults at the first byte that is not there, whatever bytes memcpy() takes first. */
static uint64_t fault_address(uint64_t address, unsigned bytes, uint64_t seen) {
  uint64_t second = (address + bytes - 1) & ~(MEMORY_PAGE_SIZE - 1);
  return seen >= second && second > address ? second : address;
}

/* Whether the guest may access all of [address, address + bytes), as far as the map tells; otherwise its fault. */
static bool accessible(uint64_t address, unsigned bytes, bool write, RuntimeHostFault *fault) {
  uint64_t end = 0, at = address;
  int wanted = write ? MEMORY_WRITE : MEMORY_READ;
  for (; at < address + bytes; at = end) {
    int protection = memory_map_query(at, &end);
    if (protection >= 0 && protection & wanted) continue;
    *fault = (RuntimeHostFault){SIGSEGV, SEGV_MAPERR, at};
    return false;
  }
  return true;
}

/* The access was tried and the memory is not there: it has gone meanwhile, or is behind the end of a mapped file. */
static bool failed(const RuntimeThread *thread, uint64_t address, unsigned bytes, RuntimeHostFault *fault) {
  *fault = thread->guard_fault;
  fault->address = fault_address(address, bytes, fault->address);
  return false;
}

static void set_register(struct sigcontext *host, unsigned number, uint64_t value) {
  if (number != A64_REG_ZERO) host->regs[number] = value;
}

static uint64_t get_register(const struct sigcontext *host, unsigned number) {
  return number == A64_REG_ZERO ? 0 : host->regs[number];
}

/* --- Locked operations ------------------------------------------------------------------------------------ */

BaseLock runtime_split_lock = {.rank = BASE_RANK_SPLIT};

static uint64_t combine(const A64Locked *locked, uint64_t old, uint64_t operand) {
  if (locked->compares) return operand;
  switch (locked->operation) {
  case A64_LDADD: return old + operand;
  case A64_LDCLR: return old & ~operand;
  case A64_LDEOR: return old ^ operand;
  case A64_LDSET: return old | operand;
  default: return operand;
  }
}

typedef struct LockedAccess {
  struct sigcontext *host;
  const A64Locked *operation;
  uint64_t old;
} LockedAccess;

static void access_locked(void *argument) {
  LockedAccess *access = argument;
  const A64Locked *operation = access->operation;
  const struct sigcontext *host = access->host;
  void *at = (void *)(uintptr_t)host->regs[operation->n];
  unsigned bytes = operation->bytes;
  uint64_t operand = get_register(host, operation->operand);
  uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << bytes * 8) - 1;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  memcpy(&access->old, at, bytes);
  uint64_t fresh = combine(operation, access->old, operand) & mask;
  bool store = !operation->compares || access->old == (get_register(host, operation->expected) & mask);
  if (store) memcpy(at, &fresh, bytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* On any address: atomic among themselves, as split locks are rare and slow on hardware too. False where the memory
 * went away meanwhile. */
static bool do_locked(RuntimeThread *thread, struct sigcontext *host, const A64Locked *operation) {
  LockedAccess access = {host, operation, 0};
  base_lock(&runtime_split_lock);
  bool done = guard_call(thread, access_locked, &access);
  base_unlock(&runtime_split_lock);
  if (!done) return false;
  set_register(host, operation->old, access.old);
  host->pc += 4 * operation->words;
  return true;
}

/* --- Carrying out an ordered access --------------------------------------------------------------------------- */

typedef struct PlainAccess {
  void *at;
  uint64_t value;
  unsigned bytes;
  bool load;
} PlainAccess;

static void access_plain(void *argument) {
  PlainAccess *access = argument;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (access->load) memcpy(&access->value, access->at, access->bytes);
  else memcpy(access->at, &access->value, access->bytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint64_t extended(uint64_t value, const A64Access *access) {
  unsigned shift = 64 - access->bytes * 8u;
  if (!access->extends_to) return value;
  int64_t wide = (int64_t)(value << shift) >> shift;
  return access->extends_to == 4 ? (uint32_t)wide : (uint64_t)wide;
}

static bool do_ordered(RuntimeThread *thread, struct sigcontext *host, const A64Access *access, uint64_t address) {
  bool load = access->kind == A64_ACCESS_LOAD;
  PlainAccess plain = {(void *)(uintptr_t)address, load ? 0 : get_register(host, access->t), access->bytes, load};
  if (!guard_call(thread, access_plain, &plain)) return false;
  if (load) set_register(host, access->t, extended(plain.value, access));
  return true;
}

static bool locked_access(RuntimeThread *thread, struct ucontext *context, const A64Locked *locked, const Region *region,
                          uint32_t offset, RuntimeHostFault *fault) {
  struct sigcontext *host = &context->uc_mcontext;
  uint64_t address = host->regs[locked->n];
  if (!accessible(address, locked->bytes, true, fault)) return false;
  if (!do_locked(thread, host, locked)) return failed(thread, address, locked->bytes, fault);
  /* It may have changed the code it stands in. */
  uint32_t behind = offset + 4u * locked->words;
  if (region->dead) {
    fault_take_uppers(thread->cpu, context, region, offset); /* it is left at the next guest instruction */
    host->pc = detour_take(thread, region, behind, behind - 4);
  }
  return true;
}

static bool ordered_access(RuntimeThread *thread, struct ucontext *context, const A64Access *access, uint64_t address,
                           const Region *region, uint32_t offset, RuntimeHostFault *fault) {
  struct sigcontext *host = &context->uc_mcontext;
  if (!accessible(address, access->bytes, access->kind == A64_ACCESS_STORE, fault)) return false;
  if (!do_ordered(thread, host, access, address)) return failed(thread, address, access->bytes, fault);
  /* It may be by this store: then it is left at the next guest instruction. One that stores writes no upper halves; a load that
   * is the second of its instruction also finds the region dead, by note_misaligned() of the first. */
  bool changed = access->kind == A64_ACCESS_STORE && region->dead;
  note_misaligned(thread, region, offset);
  if (changed) fault_take_uppers(thread->cpu, context, region, offset);
  /* Out of the old code, which may be a loop. */
  host->pc = detour_take(thread, region, offset + 4, changed ? offset : UINT32_MAX);
  return true;
}

bool misaligned_access(RuntimeThread *thread, void *opaque, RuntimeHostFault *fault) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  uint32_t offset;
  const Region *region = thread->state == THREAD_IN_CODE ? detour_region_at(thread, host->pc, &offset) : NULL;
  if (!region) return false;
  const uint32_t *site = (const uint32_t *)(uintptr_t)host->pc;
  A64Locked locked;
  A64Access access;
  if (a64_decode_locked(site, &locked))
    return host->regs[locked.n] & (locked.bytes - 1u) && locked_access(thread, opaque, &locked, region, offset, fault);
  if (!is_ordered(*site, &access)) return false;
  uint64_t address = host->regs[access.n] + (uint64_t)(int64_t)access.offset;
  return address & (access.bytes - 1u) && ordered_access(thread, opaque, &access, address, region, offset, fault);
}
