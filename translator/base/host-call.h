/* The host kernel's system calls, raw: the result is the kernel's, a negative errno on failure.
 *
 * host_call() runs to its end whatever signals come; a signal that arrives in it is queued and found
 * later. Calls made for the guest that may block go through linux_guest_call() instead, which a signal
 * can stop before it starts (linux/signals.h). */
#ifndef STELE_BASE_HOST_CALL_H
#define STELE_BASE_HOST_CALL_H

#include <stdint.h>

#include <asm/unistd.h>

int64_t host_call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f);

#define HOST_CALL_PICK(_0, _1, _2, _3, _4, _5, _6, NAME, ...) NAME
#define HOST_CALL_0(n)                host_call6(n, 0, 0, 0, 0, 0, 0)
#define HOST_CALL_1(n, a)             host_call6(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define HOST_CALL_2(n, a, b)          host_call6(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define HOST_CALL_3(n, a, b, c)       host_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define HOST_CALL_4(n, a, b, c, d) \
  host_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)
#define HOST_CALL_5(n, a, b, c, d, e) \
  host_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), 0)
#define HOST_CALL_6(n, a, b, c, d, e, f) \
  host_call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), (uint64_t)(f))

/* host_call(number, arguments…): pointers and integers alike. */
#define host_call(...)                                                                               \
  HOST_CALL_PICK(__VA_ARGS__, HOST_CALL_6, HOST_CALL_5, HOST_CALL_4, HOST_CALL_3, HOST_CALL_2,       \
                 HOST_CALL_1, HOST_CALL_0)                                                           \
  (__VA_ARGS__)

#endif
