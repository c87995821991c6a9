/* What every layer of the translator stands on: memory, formatted text, locks, the last words of a
 * process. `stele` has no C library, since a libc under the guest would bring locks, thread-local
 * storage and start-up work the guest can collide with; these few functions (and mem- and str-functions
 * with their standard names and prototypes) are what there is instead.
 *
 * On the host side (unit tests) the same interface stands on libc: base/host.c. */
#ifndef STELE_BASE_BASE_H
#define STELE_BASE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- Memory. Thread-safe; not for signal handlers. ------------------------------------------------ */

/* `size` bytes, zeroed, aligned to 16. NULL when out of memory. */
void *base_alloc(size_t size);

/* Gives back what base_alloc() returned; NULL is allowed. */
void base_free(void *block);

/* Whole zeroed pages, readable and writable, outside the guest's address space where the kernel has room
 * there (base_window() says where). `length` is rounded up to pages. NULL when out of memory. */
void *base_pages_alloc(size_t length);

/* Unmaps what base_pages_alloc() returned, with the same length. */
void base_pages_free(void *pages, size_t length);

/* The range of addresses base_pages_alloc() uses; no guest mapping may be put there. */
void base_window(uint64_t *ret_start, uint64_t *ret_end);

/* Around a fork that copies memory: the child must not inherit the allocator half-way through a change
 * made by a thread it does not have. */
void base_before_fork(void);
void base_after_fork(void);

/* --- Text ------------------------------------------------------------------------------------------ */

/* base_text_printf() (base/print.h) into a buffer of `size` bytes, in one call; returns the length the
 * whole text would have. Async-signal-safe. */
size_t base_format(char *buffer, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t base_format_list(char *buffer, size_t size, const char *format, va_list arguments);

/* The same to a file descriptor, in one write, cut at 4 KiB. Async-signal-safe. */
void base_print(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- Locks ----------------------------------------------------------------------------------------- */

/* The order of locks: one may be taken while only ones with lower numbers are held. ARCHITECTURE.md says what each guards. */
enum {
  BASE_RANK_HANDLERS = 1, /* signal dispositions (linux/signals.c) */
  BASE_RANK_MAPPINGS,     /* the guest's mapping calls (linux/memory.c) */
  BASE_RANK_SPLIT,        /* misaligned locked operations (runtime/misaligned.c) */
  BASE_RANK_RUNTIME,      /* regions, threads, code pages (runtime) */
  BASE_RANK_MAP,          /* the guest's memory map (guest/memory-map.c) */
  BASE_RANK_ALLOCATOR,    /* base/alloc.c */
  BASE_RANK_WINDOW        /* base/freestanding.c */
};

/* A mutex; state zero is unlocked. Not recursive. A build with STELE_CHECK_LOCKS ends the process where the order is
 * not kept.
 *
 * Processes may share this memory (CLONE_VM), and one may be killed at any time. A lock whose owner has ended passes to
 * who waits for it; what the owner was changing is as it was left (base_lock_inherited). */
typedef struct BaseLock {
  uint32_t state; /* 0: free; the owner's name, with BASE_LOCK_WAITED where somebody may sleep */
  uint32_t rank;  /* BASE_RANK_* */
} BaseLock;

/* A thread's name is its number as all who share this memory see it (gettid()), or BASE_LOCK_UNKNOWN where that is not
 * sure, as in another namespace of process numbers: such a thread's end is not noticed, and it takes no lock from
 * others. It is read where TPIDR_EL0 points, BASE_LOCK_NAME bytes from there; without a thread pointer it is unknown. */
enum { BASE_LOCK_UNKNOWN = 1 << 30, BASE_LOCK_NAME = 1176 };
#define BASE_LOCK_WAITED (UINT32_C(1) << 31)

void base_lock(BaseLock *lock);
void base_unlock(BaseLock *lock);

/* Called by who has taken a lock over from an owner that has ended, with that lock held: what it guards may be half-changed.
 * Set once by main or whom it starts; NULL: nobody wants to know. */
extern void (*base_lock_inherited)(const BaseLock *lock);

/* Whether thread `tid` has ended or, where that is a process' first one, all of the process (waited for or not). False where
 * that can't be told. In `stele` alone. */
bool base_thread_has_ended(int tid);

/* Where a thread's set of held ranks is kept (bit n: rank n), for STELE_CHECK_LOCKS: set once by main. NULL when the calling
 * thread runs no guest. */
extern uint64_t *(*base_held_locks)(void);

/* --- The end --------------------------------------------------------------------------------------- */

/* Where the guest was, for base_panic(): set once by main. Returns false when the calling thread runs no
 * guest. */
extern bool (*base_panic_guest_rip)(uint64_t *ret_rip);

/* An internal error: prints what happened, the guest's RIP and how to get more, and dies by SIGABRT
 * without running any guest handler. */
_Noreturn void base_panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroes an object of few hundred bytes, in stores of its own: for each region once, where a call of memset() shows. */
#define BASE_CLEAR(object) base_clear_pieces(object, sizeof *(object))
static inline __attribute__((always_inline)) void base_clear_pieces(void *object, size_t size) {
  enum { PIECE = 16 };
  uint8_t *at = object;
#pragma GCC unroll 32
  for (size_t i = 0; i < size / PIECE; i++) __builtin_memset(at + i * PIECE, 0, PIECE);
  __builtin_memset(at + size / PIECE * PIECE, 0, size % PIECE);
}

#endif
