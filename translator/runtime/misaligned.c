/* Ordered accesses that are not aligned.
 *
 * x86 orders misaligned accesses like any others; AArch64's acquire and release instructions fault on them
 * (without FEAT_LSE2 on every misaligned address, with it where a 16-byte boundary is crossed; Arm ARM B2.9).
 * The faulting load or store is remembered by its guest PC, and its region translated again with a plain access and a
 * barrier there; a locked operation is carried out here, under one lock, each time. */
#include "runtime/internal.h"

#include <string.h>

#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>

#include "guest/memory-map.h"
#include "runtime/fault.h"

enum { MISALIGNED_KNOWN = 1 << 13 };

/* --- Ordered loads and stores --------------------------------------------------------------------------------- */

/* Whether a word is LDAPUR, STLUR; LDAPR, LDAR or STLR (Arm ARM C4.1.94). */
static bool is_ordered(uint32_t word) {
  return (word & 0x3f200c00u) == 0x19000000u || (word & 0x3ffffc00u) == 0x38bfc000u ||
         (word & 0x3ffffc00u) == 0x08dffc00u || (word & 0x3ffffc00u) == 0x089ffc00u;
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

/* The region is given up, and made again with accesses for misaligned addresses at this instruction. */
static void note_misaligned(RuntimeThread *thread, const Region *region, uint32_t offset) {
  unsigned form;
  uint64_t pc = region_pc_at(region, offset, &form);
  base_lock(&runtime.lock);
  if (known.count >= MISALIGNED_KNOWN / 2) memset(&known, 0, sizeof known);
  uint64_t *slot = &known.pc[slot_of(pc)];
  known.count += *slot == 0;
  *slot = pc;
  region_kill((Region *)region);
  threads_note_deaths(thread);
  base_unlock(&runtime.lock);
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

typedef struct LockedAccess {
  struct sigcontext *host;
  const LockedOperation *operation;
  uint64_t old;
} LockedAccess;

static void access_locked(void *argument) {
  LockedAccess *access = argument;
  const LockedOperation *operation = access->operation;
  const struct sigcontext *host = access->host;
  void *at = (void *)(uintptr_t)host->regs[operation->address];
  unsigned bytes = operation->bytes;
  uint64_t operand = get_register(host, operation->operand);
  uint64_t mask = bytes == 8 ? UINT64_MAX : (UINT64_C(1) << bytes * 8) - 1;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  memcpy(&access->old, at, bytes);
  uint64_t fresh = combine(operation->kind, access->old, operand) & mask;
  bool store = operation->kind != LOCKED_CAS || access->old == (get_register(host, operation->expected) & mask);
  if (store) memcpy(at, &fresh, bytes);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* On any address: atomic among themselves, as split locks are rare and slow on hardware too. False where the memory
 * went away meanwhile. */
static bool do_locked(RuntimeThread *thread, struct sigcontext *host, const LockedOperation *operation) {
  LockedAccess access = {host, operation, 0};
  base_lock(&runtime_split_lock);
  bool done = guard_call(thread, access_locked, &access);
  base_unlock(&runtime_split_lock);
  if (!done) return false;
  set_register(host, operation->old, access.old);
  host->pc += 4 * operation->words;
  return true;
}

Misaligned misaligned_access(RuntimeThread *thread, void *opaque, uint64_t *ret_fault) {
  struct sigcontext *host = &((struct ucontext *)opaque)->uc_mcontext;
  uint32_t offset;
  const Region *region = thread->state == THREAD_IN_CODE ? detour_region_at(thread, host->pc, &offset) : NULL;
  if (!region) return MISALIGNED_NOT;
  const uint32_t *site = (const uint32_t *)(uintptr_t)host->pc;
  LockedOperation locked;
  if (decode_lse(site, &locked) || decode_exclusives(site, &locked)) {
    uint64_t address = host->regs[locked.address];
    if (!accessible(address, locked.bytes, true, ret_fault)) return MISALIGNED_FAULT;
    return do_locked(thread, host, &locked) ? MISALIGNED_DONE : MISALIGNED_RETRANSLATED;
  }
  if (!is_ordered(*site)) return MISALIGNED_NOT;
  note_misaligned(thread, region, offset);
  return MISALIGNED_RETRANSLATED;
}
