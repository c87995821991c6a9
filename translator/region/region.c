/* Forming regions and computing which flags are live.
 *
 * Liveness across a region's exits: at direct jumps the target's first instructions are looked at; at indirect jumps
 * everything is live (to carry PF and AF there takes 0.1 to 0.2 % of the executed instructions of scripts for perl,
 * python3, lua and ruby, counted by tests/bench/count.c). Flags are
 * not carried through calls and returns: no calling convention does, and where code is written by hand to do so
 * anyway, it shows: the callee or the continuation reads a flag it has not set. Callees of direct calls are looked at
 * for that; a continuation that does makes region_analyse() report return_reads_flags, and the runtime then translates
 * everything anew with strict_flags, where everything is live at every exit. Instructions that load flags from data
 * (POPF, SAHF) always produce all of them. With exact_flags everything is live everywhere. */
#include "region/region.h"

enum {
  PEEK_INSNS = 64,      /* instructions looked at behind a direct exit */
  PEEK_DEFINITE = 32,   /* and behind a call or return, until a flag is read or all are written */
  SLOT_REACH = 4 << 20, /* bytes around the region in which slots of addresses are read */
  MAX_GAP = 128,        /* bytes the sweep may skip to reach a branch target */
  ALL_FLAGS = X86_F_STATUS | X86_F_LT
};

/* --- Decoding ------------------------------------------------------------------------------------- */

static inline X86DecodeStatus decode_at(LiftRegion *region, uint64_t pc, X86Insn *ret_insn) {
  uint64_t at = pc - region->window.start, size = region->window.end - region->window.start;
  if (at >= size) return X86_DECODE_TRUNCATED;
  return x86_decode_shaped(region->window.bytes + at, size - at, ret_insn, region->shapes);
}

static uint64_t branch_target(const RegionInsn *r) {
  return r->pc + r->insn.length + (uint64_t)r->insn.imm;
}

static bool has_direct_target(const X86Insn *insn) {
  return insn->flow == X86_FLOW_JUMP || insn->flow == X86_FLOW_COND;
}

/* The closest target of the region's branches at or after `pc`, or 0. */
static uint64_t nearest_target(const LiftRegion *region, uint64_t pc) {
  uint64_t best = 0;
  for (unsigned i = 0; i < region->end_count; i++) {
    const RegionInsn *r = &region->insns[region->ends[i]];
    if (!has_direct_target(&r->insn)) continue;
    uint64_t target = branch_target(r);
    if (target >= pc && target - pc < MAX_GAP && (!best || target < best)) best = target;
  }
  return best;
}

static bool falls_through(const X86Insn *insn) {
  switch (insn->flow) {
  case X86_FLOW_JUMP:
  case X86_FLOW_JUMP_IND:
  case X86_FLOW_RET:
  case X86_FLOW_TRAP: return false;
  default: return true;
  }
}

/* All but the instruction itself, and what is found out about it later. */
static inline void begin_insn(RegionInsn *r, uint64_t pc, X86DecodeStatus status) {
  r->pc = pc;
  __builtin_memset(&r->decode, 0, offsetof(RegionInsn, target) - offsetof(RegionInsn, decode));
  r->decode = (uint8_t)status;
  r->target = REGION_NO_INSN;
}
_Static_assert(offsetof(RegionInsn, target) - offsetof(RegionInsn, decode) == 8, "one store");

/* By a register that is no operand. */
static bool writes_implied_memory(const X86Insn *insn) {
  switch (insn->mnemonic) {
  case X86_PUSH:
  case X86_PUSHF:
  case X86_ENTER:
  case X86_STOS:
  case X86_MOVS:
  case X86_MASKMOVQ:
  case X86_MASKMOVDQU:
  case X86_VMASKMOVDQU: return true;
  default: return false;
  }
}

static __attribute__((noinline)) bool writes_memory(const X86Insn *insn) {
  if (writes_implied_memory(insn)) return true;
  for (unsigned i = 0; i < insn->operand_count; i++)
    if (insn->operands[i].kind == X86_OPERAND_MEM && insn->operands[i].access & X86_ACCESS_W) return true;
  return false;
}

/* `undecoded`: where decoding found what is no instruction, or 0. */
static void begin_sources(LiftRegion *region, uint64_t undecoded) {
  region->source_count = 0;
  if (!region->window.writable && !region->window.anonymous) return;
  uint64_t end = undecoded ? undecoded + X86_MAX_LENGTH : region->highest;
  if (end > region->window.end) return;
  region->sources[0] = (RegionRun){region->entry, end};
  region->source_count = 1;
}

/* Whether a region that has come to its limit without a branch has more room, as its last instruction has VEX. */
static bool goes_on(const LiftRegion *region, const RegionInsn *last, uint32_t *limit, uint32_t most) {
  if (region->end_count || !(last->insn.prefixes & X86_PREFIX_VEX)) return false;
  *limit = most;
  return true;
}

static void end_region(LiftRegion *region, uint32_t count, uint64_t undecoded) {
  uint32_t index = count - 1;
  region->count = count;
  if (!region->end_count || region->ends[region->end_count - 1] != index)
    region->ends[region->end_count++] = (uint16_t)index;
  const RegionInsn *last = &region->insns[index];
  region->look_lowest = region->lowest;
  region->look_highest = last->pc + (last->decode == X86_DECODE_OK ? last->insn.length : X86_MAX_LENGTH);
  region->highest = region->look_highest < region->window.end ? region->look_highest : region->window.end;
  if (region->highest <= last->pc) region->highest = last->pc + 1; /* nothing of it can be read */
  region->look_count = 0;
  region->run_count = 0;
  begin_sources(region, undecoded);
}

/* Whether the region ends before the instruction at `pc`, its first one aside. */
static inline bool ends_before(const LiftRegion *region, uint64_t pc) {
  if (!region->met) return region->stop && pc >= region->stop;
  return region->met[pc % REGION_MET_BITS / 64] >> pc % 64 & 1 && region->meets(pc);
}

void region_decode(LiftRegion *region, const RegionWindow *window, uint64_t entry, uint32_t max_insns,
                   uint32_t max_straight) {
  region->window = *window;
  region->entry = region->lowest = entry;
  region->end_count = region->leader_count = 0;
  uint64_t pc = entry, behind = 0, undecoded = 0; /* `behind`: the last instruction */
  uint32_t limit = max_straight, count = 0;
  const bool checked = region->checked;
  const uint32_t most = checked || max_straight <= max_insns ? max_straight : 2 * max_straight;
  for (RegionInsn *r = region->insns; count < limit || (limit < most && goes_on(region, r - 1, &limit, most)); r++) {
    if (count > 0 && ends_before(region, pc)) break;
    X86DecodeStatus status = decode_at(region, pc, &r->insn);
    if (status != X86_DECODE_OK) undecoded = pc;
    if (status != X86_DECODE_OK && count > 0) break;
    begin_insn(r, pc, status);
    if (count > 0) r[-1].adjacent = behind == pc;
    count++;
    if (status != X86_DECODE_OK) break; /* it is part of the region as the first */
    behind = pc += r->insn.length;
    if (checked && writes_memory(&r->insn)) break; /* perhaps what follows */
    if (r->insn.flow == X86_FLOW_NEXT) continue;
    region->ends[region->end_count++] = (uint16_t)(count - 1);
    limit = max_insns;
    if (count >= max_insns / 2) break;
    if (falls_through(&r->insn)) continue;
    pc = nearest_target(region, pc);
    if (!pc) break;
  }
  end_region(region, count, undecoded);
}

uint16_t region_find(const LiftRegion *region, uint64_t pc) {
  uint32_t low = 0, high = region->count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (region->insns[middle].pc < pc) low = middle + 1;
    else high = middle;
  }
  return low < region->count && region->insns[low].pc == pc ? (uint16_t)low : REGION_NO_INSN;
}

/* --- Flags at exits ------------------------------------------------------------------------------- */

static void look_at_page(LiftRegion *region, uint64_t address) {
  enum { PAGE = 4096 };
  uint64_t page = address & ~(uint64_t)(PAGE - 1);
  if (page + PAGE > region->lowest && page < region->highest) return;
  for (unsigned i = 0; i < region->look_count; i++)
    if (region->looked[i] == page) return;
  if (region->look_count < REGION_MAX_LOOKED) region->looked[region->look_count++] = page;
}

static __attribute__((noinline)) bool look_at_pages(LiftRegion *region, uint64_t start, uint64_t end) {
  if (region->look_count + 2 > REGION_MAX_LOOKED) return false;
  look_at_page(region, start);
  look_at_page(region, end - 1);
  return true;
}

static void note_source(LiftRegion *region, uint64_t start, uint64_t end) {
  const RegionRun *own = &region->sources[0];
  if (start >= own->start && end <= own->end) return;
  if (region->source_count == REGION_MAX_SOURCES || end > region->window.end) region->source_count = 0;
  else region->sources[region->source_count++] = (RegionRun){start, end};
}

static __attribute__((noinline)) bool keep_run(LiftRegion *region, uint64_t start, uint64_t end) {
  if (end > region->window.end) end = region->window.end;
  if (region->run_count == REGION_MAX_RUNS) return false;
  region->runs[region->run_count++] = (RegionRun){start, end};
  return true;
}

/* The translation depends on bytes in [start, end), too; false when there are too many such places. Outside the
 * window nothing was read. */
static inline bool look_at(LiftRegion *region, uint64_t start, uint64_t end) {
  if (start < region->window.start || start >= region->window.end) return true;
  if (start < region->look_lowest) region->look_lowest = start;
  if (end > region->look_highest) region->look_highest = end;
  if (region->source_count) note_source(region, start, end);
  if (region->window.recorded && !keep_run(region, start, end)) return false;
  return !region->window.writable || look_at_pages(region, start, end);
}

/* Flags read from `pc` on before being written; those still open after PEEK_INSNS, or where control goes
 * where it cannot be followed, count when `pessimistic`. */
static uint8_t peek(LiftRegion *region, uint64_t pc, bool pessimistic) {
  if (region->exact_flags) return ALL_FLAGS;
  uint8_t open = ALL_FLAGS, read = 0;
  X86Insn looked_at, *insn = &looked_at;
  uint64_t start = pc; /* of the run of instructions being looked at */
  unsigned beyond = 0; /* bytes behind it that have been looked at */
  bool open_count = pessimistic;
  unsigned limit = pessimistic ? PEEK_INSNS : PEEK_DEFINITE;
  for (unsigned i = 0; i < limit && open; i++) {
    if (decode_at(region, pc, insn) != X86_DECODE_OK) {
      beyond = X86_MAX_LENGTH;
      break;
    }
    pc += insn->length;
    if (!pessimistic && insn->flow == X86_FLOW_SYSTEM) break; /* what it leaves in R11 nobody reads */
    read |= insn->flags_read & open;
    open &= (uint8_t)~insn->flags_killed;
    if (insn->flow == X86_FLOW_NEXT) continue;
    if (insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_RET) {
      open_count = region->strict_flags;
      break;
    }
    if (insn->flow != X86_FLOW_JUMP) break;
    if (!look_at(region, start, pc)) return pessimistic ? ALL_FLAGS : read;
    start = pc += (uint64_t)insn->imm;
  }
  if (start < pc + beyond && !look_at(region, start, pc + beyond) && pessimistic) return ALL_FLAGS;
  return open_count ? read | open : read;
}

static uint8_t live_out(LiftRegion *region, const RegionInsn *r) {
  switch (r->insn.flow) {
  case X86_FLOW_JUMP:
  case X86_FLOW_COND: return peek(region, branch_target(r), true);
  case X86_FLOW_CALL: return region->strict_flags ? ALL_FLAGS : peek(region, branch_target(r), false);
  case X86_FLOW_CALL_IND:
  case X86_FLOW_RET: return region->strict_flags ? ALL_FLAGS : 0;
  case X86_FLOW_JUMP_IND: return ALL_FLAGS;
  default: return 0;
  }
}

/* --- Blocks --------------------------------------------------------------------------------------- */

static void count_predecessor(RegionInsn *leader) {
  if (leader->predecessors < UINT8_MAX) leader->predecessors++;
}

static void make_leader(LiftRegion *region, uint32_t index, bool entry) {
  RegionInsn *r = &region->insns[index];
  r->entry |= entry;
  if (r->leader) return;
  r->leader = true;
  region->leaders[region->leader_count++] = (uint16_t)index;
  if (index > 0 && r[-1].adjacent && falls_through(&r[-1].insn) && !region_returns_behind(&r[-1].insn)) count_predecessor(r);
}

static void find_target(LiftRegion *region, uint32_t index) {
  RegionInsn *r = &region->insns[index];
  uint64_t target = branch_target(r);
  if (target < region->entry || target >= region->highest) return;
  r->target = region_find(region, target);
  if (r->target == REGION_NO_INSN) return;
  RegionInsn *leader = &region->insns[r->target];
  make_leader(region, r->target, r->target <= index);
  if (r->target <= index) leader->loop_head = true;
  count_predecessor(leader);
}

static void find_blocks(LiftRegion *region) {
  make_leader(region, 0, true);
  for (unsigned i = 0; i < region->end_count; i++) {
    uint32_t index = region->ends[i];
    const RegionInsn *r = &region->insns[index];
    if (r->decode != X86_DECODE_OK) continue;
    if (has_direct_target(&r->insn)) find_target(region, index);
    if (index + 1 < region->count) make_leader(region, index + 1, region_returns_behind(&r->insn));
  }
  for (uint32_t i = 1; region->is_entry && i < region->count; i++)
    if (region->is_entry(region->entries, region->insns[i].pc)) make_leader(region, i, true);
  for (unsigned i = 0; i < region->leader_count; i++) { /* several ways in: as good an entry as any */
    RegionInsn *r = &region->insns[region->leaders[i]];
    if (r->predecessors != 1 && r != region->insns) r->entry = true;
  }
}

/* --- Jumps through slots ----------------------------------------------------------------------------- */

/* Jumps and calls through an address that the loader has written and then protected, as entries of a procedure linkage
 * table do in programs linked with -z now, and calls of code compiled with -fno-plt. */
static void bind_slot(LiftRegion *region, unsigned index) {
  const RegionInsn *r = &region->insns[index];
  const X86Insn *insn = &r->insn;
  const RegionWindow *window = &region->window;
  region->bound[index] = 0;
  if (!region->read_slot || region->checked || region->single_step || window->writable || window->anonymous) return;
  if (insn->operands[0].kind != X86_OPERAND_MEM || insn->operands[0].size != 8 || insn->mem.base != X86_RIP ||
      insn->mem.segment != X86_NOREG || insn->prefixes & X86_PREFIX_ADDR32)
    return;
  uint64_t slot = r->pc + insn->length + (uint64_t)insn->mem.disp, target;
  if (slot - (region->entry - SLOT_REACH) >= 2 * SLOT_REACH || !region->read_slot(slot, &target)) return;
  const int64_t reach = INT64_C(1) << 34; /* of an exit (a64/tables.h), and some */
  int64_t distance = (int64_t)(target - region->entry);
  if (distance < -reach || distance >= reach) return;
  region->bound[index] = target;
  if (!region->slot_highest || slot < region->slot_lowest) region->slot_lowest = slot;
  if (slot + 8 > region->slot_highest) region->slot_highest = slot + 8;
}

/* --- Liveness ------------------------------------------------------------------------------------- */

/* Flags live after an instruction, by the present state of its successors. */
static uint8_t flags_after(LiftRegion *region, const RegionInsn *r) {
  const X86Insn *insn = &r->insn;
  if (r->decode != X86_DECODE_OK || insn->flow == X86_FLOW_TRAP) return ALL_FLAGS;
  uint8_t live = 0;
  if (insn->flow == X86_FLOW_NEXT || insn->flow == X86_FLOW_SYSTEM || insn->flow == X86_FLOW_COND) {
    if (r->adjacent) live = r[1].live_before;
    else live = peek(region, r->pc + insn->length, true);
    if (insn->flow != X86_FLOW_COND) return live;
  }
  if (r->target != REGION_NO_INSN) return live | region->insns[r->target].live_before;
  return live | r->live_after; /* holds live_out(): see region_analyse() */
}

/* One pass backward over the region; true when another is needed, as a loop's head asks for more flags than
 * the pass had assumed at its back edge. */
static bool propagate(LiftRegion *region) {
  bool changed = false;
  for (RegionInsn *r = &region->insns[region->count]; r-- > region->insns;) {
    if (r->insn.flow == X86_FLOW_NEXT && r->adjacent && !r->loop_head) {
      uint8_t live = r[1].live_before;
      r->live_after = live;
      r->live_before = (uint8_t)((live & ~r->insn.flags_killed) | r->insn.flags_read);
      continue;
    }
    uint8_t after = flags_after(region, r);
    uint8_t before = r->decode == X86_DECODE_OK ? (uint8_t)((after & ~r->insn.flags_killed) | r->insn.flags_read) : after;
    r->live_after = r->target == REGION_NO_INSN && r->decode == X86_DECODE_OK && region_ends_block(&r->insn)
                        ? r->live_after | after : after;
    if (before != r->live_before && r->loop_head) changed = true;
    r->live_before = before;
  }
  return changed;
}

static void keep_all_flags(LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) region->insns[i].live_before = region->insns[i].live_after = ALL_FLAGS;
  for (unsigned i = 0; i < region->end_count; i++) region->bound[region->ends[i]] = 0;
}

/* Whether behind a call flags are read that have not been set. What the region goes on with has been looked at. */
static bool returns_read_flags(LiftRegion *region) {
  for (unsigned i = 0; i < region->end_count; i++) {
    const RegionInsn *r = &region->insns[region->ends[i]];
    bool calls = r->insn.flow == X86_FLOW_CALL || r->insn.flow == X86_FLOW_CALL_IND;
    if (!calls || r->decode != X86_DECODE_OK || (r->adjacent && !r[1].live_before)) continue;
    if (peek(region, r->pc + r->insn.length, false)) return true;
  }
  return false;
}

void region_analyse(LiftRegion *region) {
  find_blocks(region);
  region->slot_lowest = region->slot_highest = 0;
  region->return_reads_flags = false;
  if (region->exact_flags) {
    keep_all_flags(region);
    return;
  }
  for (unsigned i = 0; i < region->end_count; i++) {
    RegionInsn *r = &region->insns[region->ends[i]];
    if (r->decode != X86_DECODE_OK) continue;
    if (r->insn.flow == X86_FLOW_JUMP_IND || r->insn.flow == X86_FLOW_CALL_IND) bind_slot(region, region->ends[i]);
    if (r->target == REGION_NO_INSN) r->live_after = live_out(region, r);
  }
  while (propagate(region)) {}
  region->return_reads_flags = returns_read_flags(region);
}

bool region_block_inherits(const LiftRegion *region, uint32_t index) {
  const RegionInsn *r = &region->insns[index];
  return r->predecessors == 1 && !r->entry;
}

const RegionInsn *region_next(const LiftRegion *region, uint32_t index) {
  const RegionInsn *r = &region->insns[index];
  if (!r->adjacent || r[1].leader || region_ends_block(&r->insn)) return NULL;
  return r[1].decode == X86_DECODE_OK ? &r[1] : NULL;
}
