/* Forming regions and computing which flags are live.
 *
 * Liveness across a region's exits: at direct jumps the target's first instructions are looked at; at indirect jumps
 * everything is live but PF and AF, which nothing reads so far from where they come from (to carry them took 0.5 %
 * more executed instructions in the bench's perl script and 0.8 % in its sqlite3 one, start-up included). Flags are
 * not carried through calls and returns: no calling convention does, and where code is written by hand to do so
 * anyway, it shows: the callee or the continuation reads a flag it has not set. Callees of direct calls are looked at
 * for that; a continuation that does makes region_analyse() report return_reads_flags, and the runtime then translates
 * everything anew with strict_flags, where everything is live at every exit. Instructions that load flags from data
 * (POPF, SAHF) always produce all of them. With exact_flags everything is live everywhere. */
#include "lift/region.h"

#include "lift/internal.h"

enum {
  PEEK_INSNS = 64,      /* instructions looked at behind a direct exit */
  PEEK_DEFINITE = 32,   /* and behind a call or return, until a flag is read or all are written */
  MAX_GAP = 128,        /* bytes the sweep may skip to reach a branch target */
  ALL_FLAGS = X86_F_STATUS | X86_F_LT
};

/* --- Decoding ------------------------------------------------------------------------------------- */

/* What was decoded lately, by PC: exits are looked behind before the code there is translated, and regions
 * overlap. Valid while the bytes are the same. Translation is serialised by its callers. */
enum { DECODED = 1024 };

typedef struct Decoded {
  uint64_t not_pc; /* ~PC: zeros stand for none */
  uint64_t bytes[2];
  X86Insn insn;
  uint8_t status; /* X86DecodeStatus */
} Decoded;

static Decoded decoded[DECODED];

static __attribute__((noinline)) const Decoded *decode_anew(Decoded *d, uint64_t pc, const uint8_t *bytes,
                                                            uint64_t available) {
  bool whole = available >= sizeof d->bytes;
  d->not_pc = whole ? ~pc : 0;
  if (whole) __builtin_memcpy(d->bytes, bytes, sizeof d->bytes);
  d->status = (uint8_t)x86_decode(bytes, available, &d->insn);
  return d;
}

static inline const Decoded *decode_at(const RegionWindow *window, uint64_t pc) {
  static const Decoded outside = {.status = X86_DECODE_TRUNCATED};
  if (pc < window->start || pc >= window->end) return &outside;
  const uint8_t *bytes = window->bytes + (pc - window->start);
  uint64_t available = window->end - pc, now[2];
  Decoded *d = &decoded[pc & (DECODED - 1)];
  if (d->not_pc != ~pc || available < sizeof now) return decode_anew(d, pc, bytes, available);
  __builtin_memcpy(now, bytes, sizeof now);
  return d->bytes[0] == now[0] && d->bytes[1] == now[1] ? d : decode_anew(d, pc, bytes, available);
}

void region_forget_decoded(void) { __builtin_memset(decoded, 0, sizeof decoded); }

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

/* All that is found out about an instruction later. */
static void begin_insn(RegionInsn *r) {
  r->live_before = r->live_after = 0;
  r->adjacent = r->leader = r->entry = false;
  r->decode = X86_DECODE_OK;
  r->target = REGION_NO_INSN;
  r->label = 0;
  r->predecessors = 0;
  r->entry_form = FLAGS_CANONICAL;
  r->x87_top = 0;
  r->form_known = r->loop_head = false;
}

/* Appends the instruction at `pc`; false when it cannot be decoded, which ends the region (and is part of it where
 * it is the first). */
static bool append_insn(LiftRegion *region, uint64_t pc) {
  const Decoded *d = decode_at(&region->window, pc);
  if (d->status != X86_DECODE_OK && region->count > 0) return false;
  RegionInsn *r = &region->insns[region->count];
  begin_insn(r);
  r->pc = pc;
  r->insn = d->insn;
  r->decode = d->status;
  if (region->count > 0) r[-1].adjacent = r[-1].pc + r[-1].insn.length == pc;
  region->count++;
  return d->status == X86_DECODE_OK;
}

static __attribute__((noinline)) bool writes_memory(const X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++)
    if (insn->operands[i].kind == X86_OPERAND_MEM && insn->operands[i].access & X86_ACCESS_W) return true;
  return false;
}

void region_decode(LiftRegion *region, const RegionWindow *window, uint64_t entry, uint32_t max_insns,
                   uint32_t max_straight) {
  region->window = *window;
  region->entry = region->lowest = entry;
  region->count = region->end_count = region->leader_count = 0;
  region->max_insns = max_insns;
  uint64_t pc = entry;
  uint32_t limit = max_straight;
  const bool checked = region->checked;
  while (region->count < limit && append_insn(region, pc)) {
    const RegionInsn *r = &region->insns[region->count - 1];
    pc += r->insn.length;
    if (checked && writes_memory(&r->insn)) break; /* perhaps what follows */
    if (r->insn.flow == X86_FLOW_NEXT) continue;
    region->ends[region->end_count++] = (uint16_t)(region->count - 1);
    limit = max_insns;
    if (region->count >= max_insns / 2) break;
    if (falls_through(&r->insn)) continue;
    pc = nearest_target(region, pc);
    if (!pc) break;
  }
  uint32_t index = region->count - 1;
  if (!region->end_count || region->ends[region->end_count - 1] != index)
    region->ends[region->end_count++] = (uint16_t)index;
  const RegionInsn *last = &region->insns[index];
  region->highest = last->decode == X86_DECODE_OK ? last->pc + last->insn.length : last->pc + 1;
  region->look_lowest = region->lowest;
  region->look_highest = region->highest;
  region->look_count = 0;
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

static uint8_t kills(const X86Insn *insn) {
  uint8_t killed = (uint8_t)((insn->flags_written | insn->flags_undefined) & ~insn->flags_maybe);
  /* "SF != OF" is known anew when both are. */
  if ((killed & (X86_F_SF | X86_F_OF)) == (X86_F_SF | X86_F_OF)) killed |= X86_F_LT;
  return killed;
}

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

/* The translation depends on bytes in [start, end), too; false when there are too many such places. */
static inline bool look_at(LiftRegion *region, uint64_t start, uint64_t end) {
  if (start < region->look_lowest) region->look_lowest = start;
  if (end > region->look_highest) region->look_highest = end;
  return !region->window.writable || look_at_pages(region, start, end);
}

/* Flags read from `pc` on before being written; those still open after PEEK_INSNS, or where control goes
 * where it cannot be followed, count when `pessimistic`. */
static uint8_t peek(LiftRegion *region, uint64_t pc, bool pessimistic) {
  if (region->exact_flags) return ALL_FLAGS;
  uint8_t open = ALL_FLAGS, read = 0;
  uint64_t start = pc; /* of the run of instructions being looked at */
  bool open_count = pessimistic;
  unsigned limit = pessimistic ? PEEK_INSNS : PEEK_DEFINITE;
  for (unsigned i = 0; i < limit && open; i++) {
    const Decoded *d = decode_at(&region->window, pc);
    const X86Insn *insn = &d->insn;
    if (d->status != X86_DECODE_OK) break;
    pc += insn->length;
    if (insn->flow == X86_FLOW_SYSTEM && !pessimistic) break; /* what it leaves in R11 nobody reads */
    read |= insn->flags_read & open;
    open &= (uint8_t)~kills(insn);
    if (insn->flow == X86_FLOW_NEXT) continue;
    if (insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_RET) {
      open_count = region->strict_flags;
      break;
    }
    if (insn->flow != X86_FLOW_JUMP) break;
    if (!look_at(region, start, pc)) return pessimistic ? ALL_FLAGS : read;
    start = pc += (uint64_t)insn->imm;
  }
  if (!look_at(region, start, pc + 1) && pessimistic) return ALL_FLAGS;
  return open_count ? read | open : read;
}

static uint8_t live_out(LiftRegion *region, const RegionInsn *r) {
  switch (r->insn.flow) {
  case X86_FLOW_JUMP:
  case X86_FLOW_COND: return peek(region, branch_target(r), true);
  case X86_FLOW_CALL: return region->strict_flags ? ALL_FLAGS : peek(region, branch_target(r), false);
  case X86_FLOW_CALL_IND:
  case X86_FLOW_RET: return region->strict_flags ? ALL_FLAGS : 0;
  case X86_FLOW_JUMP_IND: return region->strict_flags ? ALL_FLAGS : ALL_FLAGS & ~(X86_F_PF | X86_F_AF);
  default: return 0;
  }
}

/* --- Blocks --------------------------------------------------------------------------------------- */

static bool ends_block(const X86Insn *insn) { return insn->flow != X86_FLOW_NEXT; }

static bool contiguous(const LiftRegion *region, uint32_t index) { return region->insns[index].adjacent; }

static void count_predecessor(RegionInsn *leader) {
  if (leader->predecessors < UINT8_MAX) leader->predecessors++;
}

/* Control comes back to the next instruction from outside the region. */
static bool returns_behind(const X86Insn *insn) {
  return insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_SYSTEM;
}

static void make_leader(LiftRegion *region, uint32_t index, bool entry) {
  RegionInsn *r = &region->insns[index];
  r->entry |= entry;
  if (r->leader) return;
  r->leader = true;
  region->leaders[region->leader_count++] = (uint16_t)index;
  if (index > 0 && r[-1].adjacent && falls_through(&r[-1].insn) && !returns_behind(&r[-1].insn)) count_predecessor(r);
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
    if (index + 1 < region->count) make_leader(region, index + 1, returns_behind(&r->insn));
  }
  for (unsigned i = 0; i < region->leader_count; i++) { /* several ways in: as good an entry as any */
    RegionInsn *r = &region->insns[region->leaders[i]];
    if (r->predecessors != 1 && r != region->insns) r->entry = true;
  }
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
      r->live_before = (uint8_t)((live & ~kills(&r->insn)) | r->insn.flags_read);
      continue;
    }
    uint8_t after = flags_after(region, r);
    uint8_t before = r->decode == X86_DECODE_OK ? (uint8_t)((after & ~kills(&r->insn)) | r->insn.flags_read) : after;
    r->live_after = r->target == REGION_NO_INSN && r->decode == X86_DECODE_OK && ends_block(&r->insn)
                        ? r->live_after | after : after;
    if (before != r->live_before && r->loop_head) changed = true;
    r->live_before = before;
  }
  return changed;
}

static void keep_all_flags(LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) region->insns[i].live_before = region->insns[i].live_after = ALL_FLAGS;
}

void region_analyse(LiftRegion *region) {
  find_blocks(region);
  region->return_reads_flags = false;
  if (region->exact_flags) {
    keep_all_flags(region);
    return;
  }
  for (unsigned i = 0; i < region->end_count; i++) {
    RegionInsn *r = &region->insns[region->ends[i]];
    if (r->decode != X86_DECODE_OK) continue;
    if (r->target == REGION_NO_INSN) r->live_after = live_out(region, r);
    if ((r->insn.flow == X86_FLOW_CALL || r->insn.flow == X86_FLOW_CALL_IND) &&
        peek(region, r->pc + r->insn.length, false))
      region->return_reads_flags = true;
  }
  while (propagate(region)) {}
}

/* --- Lifting -------------------------------------------------------------------------------------- */

static RegionInsn *current(const Lift *l) { return &l->region->insns[l->index]; }

const RegionInsn *region_next(const Lift *l) {
  const RegionInsn *r = current(l);
  if (!contiguous(l->region, l->index) || r[1].leader || ends_block(&r->insn)) return NULL;
  return r[1].decode == X86_DECODE_OK ? &r[1] : NULL;
}

bool region_block_inherits(const LiftRegion *region, uint32_t index) {
  const RegionInsn *r = &region->insns[index];
  return r->predecessors == 1 && !r->entry;
}

/* A block entered from one place within the region takes over that place's form of the flags, and what is known
 * of the vector registers. */
void region_pass_form(Lift *l, uint32_t index) {
  RegionInsn *r = &l->region->insns[index];
  if (!region_block_inherits(l->region, index)) return;
  r->entry_form = l->form;
  r->vectors = l->vectors;
  r->form_known = true;
}

static void begin_block(Lift *l, RegionInsn *r) {
  ir_mark(&l->b, IR_BLOCK, r->pc, r->entry, r->label);
  l->form = r->form_known ? r->entry_form : FLAGS_CANONICAL;
  l->fused.kind = FUSED_NONE;
  lift_sse_block(l);
  if (r->form_known) l->vectors = r->vectors;
  lift_x87_block(l);
}

static void lift_one(Lift *l, RegionInsn *r) {
  l->pc = r->pc;
  l->next_pc = r->pc + r->insn.length;
  l->live_flags = r->live_after;
  ir_mark(&l->b, IR_GUEST, r->pc, l->form, 0);
  if (r->decode != X86_DECODE_OK) {
    lift_undecodable(l, (X86DecodeStatus)r->decode);
    return;
  }
  const LiftRow *row = &lift_rows[r->insn.mnemonic];
  bool vector = r->insn.operands[0].kind == X86_OPERAND_XMM || r->insn.operands[1].kind == X86_OPERAND_XMM;
  if (vector || l->group.count) lift_sse_enter(l, &r->insn);
  if (row->function) row->function(l, &r->insn, row->argument);
  else lift_undefined(l, &r->insn, 0);
  if (!vector && !l->group.count) return;
  const RegionInsn *next = region_next(l);
  lift_sse_leave(l, next ? &next->insn : NULL);
}

/* Control falls out of an instruction into what is not the next instruction of the region, or into a
 * block that wants the flags in another form. */
static void end_instruction(Lift *l, const RegionInsn *r) {
  if (r->decode != X86_DECODE_OK || ends_block(&r->insn)) return;
  if (!r->adjacent) {
    lift_flags_canonical(l, r->live_after);
    lift_exit(l, r->pc + r->insn.length);
  } else if (r[1].leader) {
    if (!region_block_inherits(l->region, l->index + 1)) lift_flags_canonical(l, r[1].live_before);
    region_pass_form(l, l->index + 1);
  }
}

/* Code that nothing guards against changes compares itself with what it was made of: the guest bytes, in words, with
 * constants. Now and then it asks whether it still has to. */
static void check_source(Lift *l, const LiftRegion *region) {
  const size_t budget = offsetof(GuestCpu, check_budget);
  IrBuilder *b = &l->b;
  uint64_t start = region->lowest & ~UINT64_C(7), end = (region->highest + 7) & ~UINT64_C(7);
  IrReg base = ir_temp(b), differs = ir_temp(b), left = ir_temp(b);
  l->pc = region->entry;
  ir_mark(b, IR_GUEST, region->entry, l->form, 0);
  ir_guest_address(b, base, start);
  for (uint64_t at = start; at < end; at += 8) {
    IrReg now = ir_temp(b), then = ir_temp(b);
    unsigned low = at < region->lowest ? (unsigned)(region->lowest - at) : 0;
    unsigned high = at + 8 > region->highest ? (unsigned)(at + 8 - region->highest) : 0;
    uint64_t bytes;
    __builtin_memcpy(&bytes, region->window.bytes + (at - region->window.start), sizeof bytes);
    ir_load(b, 8, IR_EXTEND_ZERO, now, (IrAddress){base, IR_NO_REG, 0, 0});
    ir_add_imm(b, 8, base, base, 8);
    ir_const(b, then, bytes);
    ir_rrr(b, IR_EOR, 8, now, now, then);
    if (low) ir_lsr_imm(b, 8, now, now, 8 * low);
    if (high) ir_lsl_imm(b, 8, now, now, 8 * (high + low));
    if (at == start) ir_mov(b, 8, differs, now);
    else ir_rrr(b, IR_ORR, 8, differs, differs, now);
  }
  lift_raise_if_not_zero(l, 8, differs, LIFT_CODE_CHANGED);
  ir_load_state(b, 8, left, budget);
  ir_add_imm(b, 8, left, left, -1);
  ir_store_state(b, 8, left, budget);
  lift_raise_if_zero(l, 8, left, LIFT_CODE_STABLE);
}

void region_lift(Lift *l, LiftRegion *region) {
  l->region = region;
  lift_sse_region(l);
  ir_reset(&l->b);
  l->address.temp = IR_NO_REG;
  for (unsigned i = 0; i < region->leader_count; i++) region->insns[region->leaders[i]].label = ir_label(&l->b).id;
  region->insns[0].x87_top = region->entry_x87_top;
  RegionInsn *r = region->insns;
  for (l->index = 0; l->index < region->count && !l->b.overflow; l->index++, r++) {
    if (r->leader) {
      begin_block(l, r);
      if (region->checked && r == region->insns) check_source(l, region);
    }
    lift_one(l, r);
    end_instruction(l, r);
  }
}
