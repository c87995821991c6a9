/* Guest PC to host PC of every region entry: open addressing, linear probing, keys hashed so that
 * neighbouring code lands on neighbouring slots (and so on few pages of the table). */
#include "runtime/internal.h"

enum { FIRST_BITS = 12 };

typedef struct Slot {
  uint64_t guest_pc; /* 0: never used */
  uint64_t host_pc;  /* 0 with a guest_pc: removed */
  Region *region;    /* the entry's */
} Slot;

static struct {
  Slot *slots;
  unsigned bits;
  uint32_t used; /* slots with a guest_pc */
} map;

uint64_t block_map_met[REGION_MET_BITS / 64];

static uint32_t home(uint64_t pc) {
  uint64_t hash = pc ^ pc >> 17 ^ pc >> 33;
  return (uint32_t)(hash & ((UINT64_C(1) << map.bits) - 1));
}

static Slot *probe(uint64_t guest_pc) {
  uint32_t mask = (1u << map.bits) - 1;
  uint32_t i = home(guest_pc);
  while (map.slots[i].guest_pc && map.slots[i].guest_pc != guest_pc) i = (i + 1) & mask;
  return &map.slots[i];
}

uint64_t block_map_find(uint64_t guest_pc, Region **ret_region) {
  if (!map.slots) return 0;
  const Slot *slot = probe(guest_pc);
  *ret_region = slot->region;
  return slot->host_pc;
}

static __attribute__((noinline, cold)) void grow(void) {
  Slot *old = map.slots;
  uint32_t old_size = old ? 1u << map.bits : 0;
  map.bits = old ? map.bits + 1 : FIRST_BITS;
  map.slots = base_pages_alloc(sizeof(Slot) << map.bits);
  if (!map.slots) base_panic("out of memory for translations");
  map.used = 0;
  for (uint32_t i = 0; i < old_size; i++)
    if (old[i].guest_pc && old[i].host_pc) {
      *probe(old[i].guest_pc) = old[i];
      map.used++;
    }
  if (old) base_pages_free(old, old_size * sizeof *old);
}

void block_map_add(uint64_t guest_pc, uint64_t host_pc, Region *region) {
  if (!map.slots || map.used * 2 >= 1u << map.bits) grow();
  Slot *slot = probe(guest_pc);
  if (!slot->guest_pc) map.used++;
  block_map_met[guest_pc % REGION_MET_BITS / 64] |= UINT64_C(1) << guest_pc % 64;
  *slot = (Slot){guest_pc, host_pc, region};
}

void block_map_add_region(Region *region) {
  for (unsigned i = 0; i < region->tables.entry_count; i++)
    block_map_add(region_entry_key(region, i), region_entry_host(region, i), region);
}

void block_map_remove(uint64_t guest_pc, uint64_t host_pc) {
  if (!map.slots) return;
  Slot *slot = probe(guest_pc);
  if (slot->guest_pc && slot->host_pc == host_pc) slot->host_pc = 0;
}

void block_map_clear(void) {
  if (!map.slots) return;
  base_pages_free(map.slots, sizeof(Slot) << map.bits);
  block_map_abandon();
}

void block_map_abandon(void) {
  map.slots = NULL;
  map.used = 0;
}
