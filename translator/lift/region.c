/* Forming regions and computing which flags are live.
 *
 * Liveness across a region's exits: at direct jumps the target's first instructions are looked at; at
 * indirect jumps everything is live. Flags are not carried through calls and returns: no calling convention
 * does, and where code is written by hand to do so anyway, it shows: the callee or the continuation reads
 * a flag it has not set. Callees of direct calls are looked at for that; a continuation that does makes
 * region_analyse() report return_reads_flags, and the runtime then translates everything anew with
 * strict_flags, where everything is live at every exit. Instructions that load flags from data (POPF,
 * SAHF) always produce all of them. */
#include "lift/region.h"

#include "lift/internal.h"

enum {
  PEEK_INSNS = 6,       /* instructions looked at behind a direct exit */
  PEEK_DEFINITE = 32,   /* and behind a call or return, until a flag is read or all are written */
  MAX_GAP = 128,        /* bytes the sweep may skip to reach a branch target */
  ALL_FLAGS = X86_F_STATUS | X86_F_LT
};

/* --- Decoding ------------------------------------------------------------------------------------- */

static X86DecodeStatus decode_at(const RegionWindow *window, uint64_t pc, X86Insn *insn) {
  if (pc < window->start || pc >= window->end) return X86_DECODE_TRUNCATED;
  return x86_decode(window->bytes + (pc - window->start), window->end - pc, insn);
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
  for (uint32_t i = 0; i < region->count; i++) {
    const RegionInsn *r = &region->insns[i];
    if (r->decode != X86_DECODE_OK || !has_direct_target(&r->insn)) continue;
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

void region_decode(LiftRegion *region, const RegionWindow *window, uint64_t entry, uint32_t max_insns) {
  region->window = *window;
  region->entry = region->lowest = entry;
  region->count = 0;
  region->max_insns = max_insns;
  uint64_t pc = entry;
  while (region->count < max_insns) {
    RegionInsn *r = &region->insns[region->count];
    r->pc = pc;
    r->decode = (uint8_t)decode_at(window, pc, &r->insn);
    if (r->decode != X86_DECODE_OK && region->count > 0) break;
    region->count++;
    if (r->decode != X86_DECODE_OK) break;
    pc += r->insn.length;
    if (r->insn.flow == X86_FLOW_NEXT) continue;
    if (region->count >= max_insns / 2) break;
    if (falls_through(&r->insn)) continue;
    pc = nearest_target(region, pc);
    if (!pc) break;
  }
  const RegionInsn *last = &region->insns[region->count - 1];
  region->highest = last->decode == X86_DECODE_OK ? last->pc + last->insn.length : last->pc + 1;
}

static uint16_t find_insn(const LiftRegion *region, uint64_t pc) {
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

/* Flags read from `pc` on before being written; those still open after PEEK_INSNS, or where control goes
 * where it cannot be followed, count when `pessimistic`. */
static uint8_t peek(const LiftRegion *region, uint64_t pc, bool pessimistic) {
  uint8_t open = ALL_FLAGS, read = 0;
  X86Insn insn;
  unsigned limit = pessimistic ? PEEK_INSNS : PEEK_DEFINITE;
  for (unsigned i = 0; i < limit && open; i++) {
    if (decode_at(&region->window, pc, &insn) != X86_DECODE_OK) break;
    if (insn.flow == X86_FLOW_SYSTEM && !pessimistic) return read; /* what it leaves in R11 nobody reads */
    read |= insn.flags_read & open;
    open &= (uint8_t)~kills(&insn);
    pc += insn.length;
    if (insn.flow == X86_FLOW_JUMP) pc += (uint64_t)insn.imm;
    else if (insn.flow == X86_FLOW_CALL || insn.flow == X86_FLOW_CALL_IND || insn.flow == X86_FLOW_RET)
      return region->strict_flags ? read | open : read;
    else if (insn.flow != X86_FLOW_NEXT) break;
  }
  return pessimistic ? read | open : read;
}

uint8_t region_flags_wanted_at(const LiftRegion *region, uint64_t pc) { return peek(region, pc, true); }

static uint8_t live_out(const LiftRegion *region, const RegionInsn *r) {
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

static void make_leader(LiftRegion *region, uint32_t index, bool entry) {
  RegionInsn *r = &region->insns[index];
  r->leader = true;
  r->entry |= entry;
}

static bool ends_block(const X86Insn *insn) { return insn->flow != X86_FLOW_NEXT; }

static bool contiguous(const LiftRegion *region, uint32_t index) { return region->insns[index].adjacent; }

static void count_predecessor(RegionInsn *leader) {
  if (leader->predecessors < UINT8_MAX) leader->predecessors++;
}

/* Control comes back to the next instruction from outside the region. */
static bool returns_behind(const X86Insn *insn) {
  return insn->flow == X86_FLOW_CALL || insn->flow == X86_FLOW_CALL_IND || insn->flow == X86_FLOW_SYSTEM;
}

static void find_blocks(LiftRegion *region) {
  for (uint32_t i = 0; i < region->count; i++) {
    RegionInsn *r = &region->insns[i];
    r->leader = r->entry = r->form_known = r->loop_head = false;
    r->predecessors = 0;
    r->target = REGION_NO_INSN;
    r->entry_form = FLAGS_CANONICAL;
    r->adjacent = i + 1 < region->count && r->decode == X86_DECODE_OK && r[1].pc == r->pc + r->insn.length;
  }
  make_leader(region, 0, true);
  for (uint32_t i = 0; i < region->count; i++) {
    RegionInsn *r = &region->insns[i];
    if (r->insn.flow == X86_FLOW_NEXT && r->adjacent) continue;
    if (r->decode != X86_DECODE_OK) continue;
    if (has_direct_target(&r->insn)) {
      r->target = find_insn(region, branch_target(r));
      if (r->target != REGION_NO_INSN) {
        make_leader(region, r->target, r->target <= i);
        if (r->target <= i) region->insns[r->target].loop_head = true;
        count_predecessor(&region->insns[r->target]);
      }
    }
    if (i + 1 < region->count && (ends_block(&r->insn) || !contiguous(region, i)))
      make_leader(region, i + 1, returns_behind(&r->insn));
  }
  for (uint32_t i = 1; i < region->count; i++) {
    if (!region->insns[i].leader) continue;
    const RegionInsn *before = &region->insns[i - 1];
    bool reached = falls_through(&before->insn) && contiguous(region, i - 1) && !returns_behind(&before->insn);
    if (reached) count_predecessor(&region->insns[i]);
  }
  for (uint32_t i = 0; i < region->count; i++) /* several ways in: as good an entry as any */
    if (region->insns[i].leader && region->insns[i].predecessors != 1) region->insns[i].entry = true;
}

/* --- Liveness ------------------------------------------------------------------------------------- */

/* Flags live after instruction `i`, by the present state of its successors. */
static uint8_t flags_after(const LiftRegion *region, uint32_t i) {
  const RegionInsn *r = &region->insns[i];
  const X86Insn *insn = &r->insn;
  if (r->decode != X86_DECODE_OK || insn->flow == X86_FLOW_TRAP) return ALL_FLAGS;
  uint8_t live = 0;
  if (insn->flow == X86_FLOW_NEXT || insn->flow == X86_FLOW_SYSTEM || insn->flow == X86_FLOW_COND) {
    if (contiguous(region, i)) live = r[1].live_before;
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
  for (uint32_t i = region->count; i-- > 0;) {
    RegionInsn *r = &region->insns[i];
    if (r->insn.flow == X86_FLOW_NEXT && r->adjacent && !r->loop_head) {
      r->live_after = r[1].live_before;
      r->live_before = (uint8_t)((r->live_after & ~kills(&r->insn)) | r->insn.flags_read);
      continue;
    }
    uint8_t after = flags_after(region, i);
    uint8_t before = r->decode == X86_DECODE_OK ? (uint8_t)((after & ~kills(&r->insn)) | r->insn.flags_read) : after;
    r->live_after = r->target == REGION_NO_INSN && r->decode == X86_DECODE_OK && ends_block(&r->insn)
                        ? r->live_after | after : after;
    if (before != r->live_before && r->loop_head) changed = true;
    r->live_before = before;
  }
  return changed;
}

static void note_continuations(LiftRegion *region) {
  region->return_reads_flags = false;
  for (uint32_t i = 0; i < region->count; i++) {
    const RegionInsn *r = &region->insns[i];
    if (r->decode != X86_DECODE_OK) continue;
    if ((r->insn.flow == X86_FLOW_CALL || r->insn.flow == X86_FLOW_CALL_IND) &&
        peek(region, r->pc + r->insn.length, false))
      region->return_reads_flags = true;
  }
}

void region_analyse(LiftRegion *region) {
  find_blocks(region);
  for (uint32_t i = 0; i < region->count; i++) {
    RegionInsn *r = &region->insns[i];
    r->live_before = 0;
    bool leaves = r->decode == X86_DECODE_OK && r->target == REGION_NO_INSN;
    r->live_after = leaves ? live_out(region, r) : 0;
  }
  while (propagate(region)) {}
  note_continuations(region);
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
  IrInsn *block = ir_emit(&l->b, IR_BLOCK, 8, IR_NONE, IR_NONE, IR_NONE, (int64_t)r->pc);
  block->shift = r->label;
  block->cond = r->entry;
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
  ir_emit(&l->b, IR_GUEST, 8, IR_NONE, IR_NONE, IR_NONE, (int64_t)r->pc)->cond = l->form;
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

/* Control falls out of instruction `i` into what is not the next instruction of the region, or into a
 * block that wants the flags in another form. */
static void end_instruction(Lift *l, uint32_t i) {
  const LiftRegion *region = l->region;
  const RegionInsn *r = &region->insns[i];
  if (r->decode != X86_DECODE_OK || ends_block(&r->insn)) return;
  if (!contiguous(region, i)) {
    lift_flags_canonical(l, r->live_after);
    lift_exit(l, r->pc + r->insn.length);
  } else if (r[1].leader) {
    if (!region_block_inherits(region, i + 1)) lift_flags_canonical(l, r[1].live_before);
    region_pass_form(l, i + 1);
  }
}

void region_lift(Lift *l, LiftRegion *region) {
  l->region = region;
  lift_sse_region(l);
  ir_reset(&l->b);
  for (uint32_t i = 0; i < region->count; i++) {
    if (!region->insns[i].leader) continue;
    region->insns[i].label = ir_label(&l->b).id;
    region->insns[i].x87_top = region->insns[i].pc == region->entry ? region->entry_x87_top : 0;
  }
  for (uint32_t i = 0; i < region->count && !l->b.overflow; i++) {
    RegionInsn *r = &region->insns[i];
    l->index = i;
    if (r->leader) begin_block(l, r);
    lift_one(l, r);
    end_instruction(l, i);
  }
}
