/* From IR operations to AArch64 words: register allocation of temporaries and emission in one pass.
 *
 * The emitted region is position independent but for what its relocations list: branches to the
 * runtime's trampolines and literals holding guest addresses. Layout: hot code, cold code, literals. */
#ifndef STELE_A64_EMIT_H
#define STELE_A64_EMIT_H

#include "ir/ir.h"

/* The runtime's entry points that generated code branches to. */
typedef enum A64Trampoline {
  A64_TRAMPOLINE_LINK,        /* BL: direct exit not linked yet; x30 - 4 is the exit's site */
  A64_TRAMPOLINE_INDIRECT,    /* B: branch-cache miss; x17 guest target */
  A64_TRAMPOLINE_RETURN,      /* B: return mispredicted or interrupted; x17 guest target */
  A64_TRAMPOLINE_SYSCALL,     /* BL: x17 next guest PC */
  A64_TRAMPOLINE_RAISE,       /* BL: x17 guest PC, x16 exception vector */
  A64_TRAMPOLINE_HELPER,      /* BL: x16 helper number, x17 argument */
  A64_TRAMPOLINE_COUNT
} A64Trampoline;

typedef enum A64ExitKind {
  A64_EXIT_JUMP, /* `site` is patched to B target */
  A64_EXIT_CALL, /* `site` is patched to BL target */
  A64_EXIT_LOOP  /* only taken when interrupted: `branch` is retargeted to a64_loop_exit() */
} A64ExitKind;

typedef struct A64Exit {
  uint64_t guest_pc; /* where it goes */
  uint32_t site;     /* offset of the BL to A64_TRAMPOLINE_LINK */
  uint32_t branch;   /* offset of the one conditional branch that leads to a cold site, or UINT32_MAX */
  uint8_t kind;      /* A64ExitKind */
  uint8_t x87_top;   /* 1 + slot of ST(0) there (guest/state.h); 0: not known */
} A64Exit;

/* Guest instruction boundaries, ascending in host offset within hot and again within cold code. */
typedef struct A64PcMap {
  uint16_t host_offset; /* bytes */
  uint16_t uppers;      /* bit n: YMMn's upper half is in a64_upper_home(n) alone, GuestCpu.upper is out of date */
  uint32_t guest_offset; /* from the region's entry PC, modulo 2^30, and flag form << 30 */
} A64PcMap;

typedef struct A64Entry {
  uint64_t guest_pc;
  uint32_t host_offset;
} A64Entry;

typedef enum A64RelocationKind { A64_RELOCATE_TRAMPOLINE, A64_RELOCATE_GUEST_ADDRESS } A64RelocationKind;
typedef struct A64Relocation {
  uint32_t word; /* index of a B/BL, or of an 8-byte literal's first word */
  uint8_t kind;
  uint8_t trampoline;
} A64Relocation;

enum { A64_MAX_EXITS = 1024, A64_MAX_ENTRIES = 512, A64_MAX_INDIRECT = 256, A64_MAX_PC_MAP = 2048 };

/* One emitted region; arrays are the caller's scratch, reused from region to region. */
typedef struct A64Code {
  uint32_t *words; /* code, literals included */
  uint32_t capacity; /* words */
  uint32_t count;    /* words used */
  uint32_t hot_count; /* words before the cold part */
  uint32_t instruction_count; /* words before the literals */
  A64Exit exits[A64_MAX_EXITS];
  uint32_t exit_count;
  A64Entry entries[A64_MAX_ENTRIES];
  uint32_t entry_count;
  uint32_t indirect_checks[A64_MAX_INDIRECT]; /* offsets of CBNZs that interruption turns into branches */
  uint32_t indirect_count;
  A64PcMap pc_map[A64_MAX_PC_MAP];
  uint32_t pc_map_count;
  uint32_t cold_pc_map; /* index of the first cold entry in pc_map */
  A64Relocation *relocations; /* `relocation_capacity` rows */
  uint32_t relocation_capacity, relocation_count;
} A64Code;

typedef struct A64EmitOptions {
  uint64_t guest_entry; /* PC the offsets in pc_map count from */
  uint32_t features;    /* A64_HAS_* */
  bool ordered;
  /* Whether the accesses of a guest instruction may be misaligned although ordered, which LDAPR and STLR do not allow
   * (Arm ARM B2.9): it gets plain ones with barriers. NULL: none is. */
  bool (*is_misaligned)(uint64_t guest_pc);
} A64EmitOptions;

typedef enum A64EmitStatus {
  A64_EMIT_OK = 0,
  A64_EMIT_TOO_LARGE,        /* some capacity was reached: translate a smaller region */
  A64_EMIT_OUT_OF_REGISTERS, /* too many temporaries live at once */
  A64_EMIT_UNENCODABLE       /* an operand no instruction holds: lifting must not make one */
} A64EmitStatus;

/* What emission needs while it goes on: zeroed memory of this size that the caller owns, used again from region to
 * region. */
typedef struct A64Emitter A64Emitter;
size_t a64_emitter_size(void);

/* Trampoline branches are emitted with offset 0; a64_relocate() (a64/tables.h) completes them for a place. */
A64EmitStatus a64_emit(A64Emitter *e, const IrBuilder *b, const A64EmitOptions *options, A64Code *code);

#endif
