/* Selectors against the descriptors there are (Intel SDM volume 3, 5.5 to 5.8), at privilege level 3. */
#include "guest/segments.h"

#include <stddef.h>

enum { RPL = 3 };

/* Rights: P DPL S type in bits 8-15, AVL L D/B G in bits 20-23; the limit's bits between are as LAR leaves them. */
static const GuestDescriptor descriptors[] = {
    {GUEST_SELECTOR_DATA, true, false, 0xcff300},
    {GUEST_SELECTOR_CODE, false, true, 0xaffb00},
    {GUEST_SELECTOR_PROCESSOR, false, false, 0x40f500},
};

static bool is_null(uint16_t selector) { return !(selector & ~RPL); }

/* The error code names the descriptor: bits 0 and 1 mean something else there (SDM volume 3, 6.13). */
static int refuse(uint16_t selector) { return selector & ~RPL; }

const GuestDescriptor *guest_descriptor(uint16_t selector) {
  for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
    if ((selector ^ descriptors[i].selector) <= RPL) return &descriptors[i];
  return NULL;
}

int guest_check_data(uint16_t selector, bool stack) {
  if (stack) return selector == GUEST_SELECTOR_DATA ? GUEST_SELECTOR_FINE : refuse(selector);
  return is_null(selector) || guest_descriptor(selector) ? GUEST_SELECTOR_FINE : refuse(selector);
}

int guest_check_code(uint16_t selector, bool returns) {
  const GuestDescriptor *descriptor = guest_descriptor(selector);
  bool fine = descriptor && descriptor->executable && (!returns || (selector & RPL) == RPL);
  return fine ? GUEST_SELECTOR_FINE : refuse(selector);
}
