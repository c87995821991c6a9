/* Helpers of the integer lifting (lift/helpers.def): flags as data, full-width division, double-width
 * compare and exchange, CPUID. They run on the thread's C stack with the guest's registers in GuestCpu. */
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"
#include "guest/segments.h"
#include "lift/internal.h"

void helper_cpuid(GuestCpu *cpu, uint64_t pc);
void helper_get_flags(GuestCpu *cpu, uint64_t argument);
void helper_set_flags(GuestCpu *cpu, uint64_t mask);
void helper_check_selector(GuestCpu *cpu, uint64_t argument);
void helper_describe_selector(GuestCpu *cpu, uint64_t argument);
void helper_divide_unsigned(GuestCpu *cpu, uint64_t argument);
void helper_divide_signed(GuestCpu *cpu, uint64_t argument);
void helper_compare_exchange_8(GuestCpu *cpu, uint64_t address);
void helper_compare_exchange_16(GuestCpu *cpu, uint64_t address);

void helper_bit_extract(GuestCpu *cpu, uint64_t argument);
void helper_bit_deposit(GuestCpu *cpu, uint64_t argument);
void helper_random(GuestCpu *cpu, uint64_t argument);
void helper_processor(GuestCpu *cpu, uint64_t argument);

enum { NZCV_Z = 1u << 30 };

void helper_cpuid(GuestCpu *cpu, uint64_t pc) {
  cpu->rip = pc; /* the answer may depend on who asks */
  linux_cpuid(cpu);
}

void helper_get_flags(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  cpu->scratch[0] = guest_flags_get(cpu);
}

void helper_set_flags(GuestCpu *cpu, uint64_t mask) {
  guest_flags_set(cpu, (guest_flags_get(cpu) & ~mask) | (cpu->scratch[0] & mask));
}

void helper_check_selector(GuestCpu *cpu, uint64_t argument) {
  uint16_t selector = (uint16_t)argument;
  LiftSelectorUse use = (LiftSelectorUse)(argument >> 16);
  bool data = use == LIFT_SELECTOR_DATA || use == LIFT_SELECTOR_STACK;
  int error = data ? guest_check_data(selector, use == LIFT_SELECTOR_STACK)
                   : guest_check_code(selector, use == LIFT_SELECTOR_RETURN);
  cpu->scratch[1] = error != GUEST_SELECTOR_FINE;
  cpu->raise_error = cpu->scratch[1] ? (uint64_t)error : 0;
}

/* Which processor a program runs on, as Linux tells by a segment's limit and by IA32_TSC_AUX: the node above bit 12
 * is always 0 here. */
static uint64_t current_processor(void) {
  unsigned processor = 0;
  host_call(__NR_getcpu, &processor, 0, 0);
  return processor & 0xfff;
}

static uint64_t limit_of(const GuestDescriptor *descriptor) {
  return descriptor->selector == GUEST_SELECTOR_PROCESSOR ? current_processor() : UINT32_MAX;
}

void helper_processor(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  cpu->scratch[0] = current_processor();
}

void helper_random(GuestCpu *cpu, uint64_t argument) {
  enum { GRND_INSECURE = 4 }; /* RDRAND never waits; the pool is filled long before the first program of a machine */
  (void)argument;
  int64_t got = host_call(__NR_getrandom, &cpu->scratch[0], sizeof cpu->scratch[0], GRND_INSECURE);
  if (got == (int64_t)sizeof cpu->scratch[0]) return;
  if (host_call(__NR_getrandom, &cpu->scratch[0], sizeof cpu->scratch[0], 0) != (int64_t)sizeof cpu->scratch[0])
    base_panic("no random numbers for RDRAND");
}

/* The bits of the value at the mask's ones, together at the low end; and the other way. */
void helper_bit_extract(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  uint64_t value = cpu->scratch[0], result = 0;
  unsigned at = 0;
  for (uint64_t mask = cpu->scratch[1]; mask; mask &= mask - 1, at++)
    result |= (value >> __builtin_ctzll(mask) & 1) << at;
  cpu->scratch[0] = result;
}

void helper_bit_deposit(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  uint64_t value = cpu->scratch[0], result = 0;
  for (uint64_t mask = cpu->scratch[1]; mask; mask &= mask - 1, value >>= 1)
    if (value & 1) result |= mask & -mask;
  cpu->scratch[0] = result;
}

void helper_describe_selector(GuestCpu *cpu, uint64_t argument) {
  const GuestDescriptor *descriptor = guest_descriptor((uint16_t)argument);
  LiftSelectorUse question = (LiftSelectorUse)(argument >> 16);
  cpu->scratch[1] = descriptor && (question != LIFT_SELECTOR_WRITE || descriptor->writable);
  if (!descriptor) return;
  cpu->scratch[0] = question == LIFT_SELECTOR_LIMIT ? limit_of(descriptor) : descriptor->rights;
}

/* scratch[1] := 1 when the quotient does not fit (or the divisor is zero, which was excluded before). */
void helper_divide_unsigned(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  uint64_t divisor = cpu->scratch[0], high = cpu->gpr[X86_RDX];
  cpu->scratch[1] = high >= divisor;
  if (cpu->scratch[1]) return;
  unsigned __int128 dividend = (unsigned __int128)high << 64 | cpu->gpr[X86_RAX];
  cpu->gpr[X86_RAX] = (uint64_t)(dividend / divisor);
  cpu->gpr[X86_RDX] = (uint64_t)(dividend % divisor);
}

void helper_divide_signed(GuestCpu *cpu, uint64_t argument) {
  (void)argument;
  int64_t divisor = (int64_t)cpu->scratch[0];
  unsigned __int128 bits = (unsigned __int128)cpu->gpr[X86_RDX] << 64 | cpu->gpr[X86_RAX];
  bool negative = bits >> 127, divisor_negative = divisor < 0;
  unsigned __int128 magnitude = negative ? -bits : bits;
  uint64_t by = divisor_negative ? -(uint64_t)divisor : (uint64_t)divisor;
  unsigned __int128 quotient = magnitude / by;
  uint64_t remainder = (uint64_t)(magnitude % by);
  unsigned __int128 limit = (unsigned __int128)INT64_MAX + (negative != divisor_negative);
  cpu->scratch[1] = quotient > limit;
  if (cpu->scratch[1]) return;
  cpu->gpr[X86_RAX] = negative != divisor_negative ? -(uint64_t)quotient : (uint64_t)quotient;
  cpu->gpr[X86_RDX] = negative ? -remainder : remainder;
}

static void set_zero_flag(GuestCpu *cpu, bool zero) {
  cpu->nzcv = zero ? cpu->nzcv | NZCV_Z : cpu->nzcv & ~(uint64_t)NZCV_Z;
}

/* An address no AArch64 atomic takes: atomic among such operations only, as split locks are a rarity. */
static bool exchange_misaligned(uint64_t address, uint64_t *expected, uint64_t fresh) {
  uint64_t old;
  uint8_t *at = (uint8_t *)(uintptr_t)address;
  __atomic_fetch_or(at, 0, __ATOMIC_SEQ_CST); /* faults come before the lock */
  __atomic_fetch_or(at + sizeof old - 1, 0, __ATOMIC_SEQ_CST);
  base_lock(&runtime_split_lock);
  memcpy(&old, at, sizeof old);
  bool equal = old == *expected;
  if (equal) memcpy(at, &fresh, sizeof fresh);
  base_unlock(&runtime_split_lock);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  *expected = old;
  return equal;
}

void helper_compare_exchange_8(GuestCpu *cpu, uint64_t address) {
  uint64_t expected = cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
  uint64_t fresh = cpu->gpr[X86_RCX] << 32 | (uint32_t)cpu->gpr[X86_RBX];
  bool swapped = address & 7 ? exchange_misaligned(address, &expected, fresh)
                             : __atomic_compare_exchange_n((uint64_t *)(uintptr_t)address, &expected, fresh, false,
                                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  if (!swapped) {
    cpu->gpr[X86_RAX] = (uint32_t)expected;
    cpu->gpr[X86_RDX] = expected >> 32;
  }
  set_zero_flag(cpu, swapped);
}

/* Exclusives: the store back of the old value where the comparison fails makes the load single-copy atomic
 * (Arm ARM B2.2.1). */
void helper_compare_exchange_16(GuestCpu *cpu, uint64_t address) {
  uint64_t low, high;
  uint32_t failed, equal;
  do {
    __asm__ volatile("ldaxp %0, %1, [%2]" : "=&r"(low), "=&r"(high) : "r"(address) : "memory");
    equal = low == cpu->gpr[X86_RAX] && high == cpu->gpr[X86_RDX];
    uint64_t new_low = equal ? cpu->gpr[X86_RBX] : low, new_high = equal ? cpu->gpr[X86_RCX] : high;
    __asm__ volatile("stlxp %w0, %1, %2, [%3]"
                     : "=&r"(failed)
                     : "r"(new_low), "r"(new_high), "r"(address)
                     : "memory");
  } while (failed);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (!equal) {
    cpu->gpr[X86_RAX] = low;
    cpu->gpr[X86_RDX] = high;
  }
  set_zero_flag(cpu, equal);
}
