/* Lifting a region: its instructions in order, each by its row, and what blocks hand on to those behind them. */
#include "lift/internal.h"

/* A block entered from one place within the region takes over that place's form of the flags, and what is known
 * of the vector registers. */
void lift_pass_form(Lift *l, uint32_t index) {
  LiftBlock *block = &l->blocks[index];
  if (!region_block_inherits(l->region, index)) return;
  block->entry_form = l->form;
  block->vectors = l->vectors;
  block->known = l->known;
  block->x87 = lift_x87_passed(l);
  block->uppers_loaded = l->uppers.loaded;
  block->uppers_dirty = l->uppers.dirty;
  block->form_known = true;
}

static void begin_block(Lift *l, const RegionInsn *r) {
  const LiftBlock *block = &l->blocks[l->index];
  l->form = block->form_known ? block->entry_form : FLAGS_CANONICAL;
  if (l->uppers.homes) lift_uppers_begin_block(l, block);
  else ir_mark(&l->b, IR_BLOCK, r->pc, r->entry, block->label);
  l->fused.kind = FUSED_NONE;
  lift_sse_block(l);
  if (block->form_known) l->vectors = block->vectors;
  l->known = block->form_known ? block->known : 0;
  l->uppers.loaded = block->uppers_loaded;
  l->uppers.dirty = block->uppers_dirty;
  lift_x87_block(l);
}

/* Whether the processor raises #GP where the instruction's memory operand is not aligned to its size: SSE's of 16 bytes but
 * for a few, VEX forms by name alone (Intel SDM volume 1, 14.9). */
static bool wants_alignment(const X86Insn *insn, bool vex) {
  switch (insn->mnemonic) {
  case X86_VMOVAPS:
  case X86_VMOVAPD:
  case X86_VMOVDQA:
  case X86_VMOVNTPS:
  case X86_VMOVNTPD:
  case X86_VMOVNTDQ:
  case X86_VMOVNTDQA: return true;
  case X86_MOVUPS:
  case X86_MOVUPD:
  case X86_MOVDQU:
  case X86_LDDQU:
  case X86_PCMPESTRI:
  case X86_PCMPESTRM:
  case X86_PCMPISTRI:
  case X86_PCMPISTRM: return false;
  default: return !vex;
  }
}

/* With exact flags alone, as this costs two to four instructions an access: executed instructions of `openssl dgst -sha256`
 * grow by 6 %, of `openssl enc -chacha20` by 13 %, of `python3 -c pass` by 0.7 % (8 MB, STELE_CPU=x86-64-v2, counted by
 * tests/bench/count.c with every region checked). */
static void check_alignment(Lift *l, const X86Insn *insn, bool vex) {
  enum { GENERAL_PROTECTION = 13 };
  unsigned i = 0;
  while (i < insn->operand_count && insn->operands[i].kind != X86_OPERAND_MEM) i++;
  if (i == insn->operand_count || insn->operands[i].size < 16 || !wants_alignment(insn, vex)) return;
  IrReg misalignment = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_AND, 8, misalignment, lift_address_register(l, insn), insn->operands[i].size - 1);
  lift_raise_if_not_zero(l, 8, misalignment, GENERAL_PROTECTION);
}

static void lift_one(Lift *l, const RegionInsn *r) {
  l->pc = r->pc;
  l->next_pc = r->pc + r->insn.length;
  l->live_flags = r->live_after;
  /* A jump goes with the test left to it: the flags are in no other place to begin with. */
  if (l->fused.kind == FUSED_NONE) ir_mark(&l->b, IR_GUEST, r->pc, l->form, l->uppers.dirty);
  if (r->decode != X86_DECODE_OK) {
    lift_undecodable(l, (X86DecodeStatus)r->decode);
    return;
  }
  const LiftRow *row = &lift_rows[r->insn.mnemonic];
  bool vector = r->insn.operands[0].kind == X86_OPERAND_XMM || r->insn.operands[1].kind == X86_OPERAND_XMM;
  if (vector && l->region->exact_flags) check_alignment(l, &r->insn, row->extended);
  bool traps = lift_sse_traps(l, &r->insn);
  if (traps) lift_sse_trap_begin(l, &r->insn);
  if (vector || l->group.count) lift_sse_enter(l, &r->insn);
  if (row->function && (l->extended || !row->extended)) row->function(l, &r->insn, row->argument);
  else lift_undefined(l, &r->insn, 0);
  if (l->x87.owed) lift_x87_settle(l);
  lift_known_after(l, &r->insn);
  if (vector || l->group.count) {
    const RegionInsn *next = region_next(l->region, l->index);
    lift_sse_leave(l, next ? &next->insn : NULL);
  }
  if (traps) lift_sse_trap_end(l, &r->insn);
}

/* Control falls out of an instruction into what is not the next instruction of the region, or into a
 * block that wants the flags in another form. */
static void end_instruction(Lift *l, const RegionInsn *r) {
  if (r->decode != X86_DECODE_OK) return;
  if (region_ends_block(&r->insn)) {
    if (l->uppers.homes && region_returns_behind(&r->insn) && r->adjacent) lift_uppers_settle(l, l->index + 1);
    return;
  }
  if (!r->adjacent) {
    lift_flags_canonical(l, r->live_after);
    lift_exit(l, r->pc + r->insn.length);
  } else if (r[1].leader) {
    if (!region_block_inherits(l->region, l->index + 1)) {
      lift_flags_canonical(l, r[1].live_before);
      lift_uppers_settle(l, l->index + 1);
    }
    lift_pass_form(l, l->index + 1);
  }
}

/* Code that nothing guards against changes compares itself with what it was made of: the guest bytes, in words, with
 * constants. Now and then it asks whether it still has to, unless others may change it: no guard is ever enough then. */
static void check_source(Lift *l, const LiftRegion *region) {
  const size_t budget = offsetof(GuestCpu, check_budget);
  IrBuilder *b = &l->b;
  uint64_t start = region->lowest & ~UINT64_C(7), end = (region->highest + 7) & ~UINT64_C(7);
  IrReg base = ir_temp(b), differs = ir_temp(b), left = ir_temp(b);
  l->pc = region->entry;
  ir_mark(b, IR_GUEST, region->entry, l->form, l->uppers.dirty);
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
  if (region->window.unwatched) return;
  ir_load_state(b, 8, left, budget);
  ir_add_imm(b, 8, left, left, -1);
  ir_store_state(b, 8, left, budget);
  lift_raise_if_zero(l, 8, left, LIFT_CODE_STABLE);
}

/* What blocks tell each other is nothing yet. */
static void begin_blocks(Lift *l, const LiftRegion *region) {
  for (unsigned i = 0; i < region->leader_count; i++)
    l->blocks[region->leaders[i]] = (LiftBlock){.label = ir_label(&l->b).id, .entry_form = FLAGS_CANONICAL};
  l->blocks[0].x87_top = l->entry_x87_top;
}

static void lift_all(Lift *l, const LiftRegion *region) {
  lift_sse_region(l);
  ir_reset(&l->b);
  l->address.temp = l->distant.temp = l->indexed.temp = IR_NO_REG;
  begin_blocks(l, region);
  if (l->uppers.planned) lift_uppers_plan(l);
  const RegionInsn *r = region->insns;
  const uint32_t count = region->count;
  for (uint32_t index = 0; index < count && !l->b.overflow; index++, r++) {
    l->index = index;
    if (r->leader) {
      begin_block(l, r);
      if (region->checked && r == region->insns) check_source(l, region);
    }
    lift_one(l, r);
    end_instruction(l, r);
  }
}

void lift_region(Lift *l, const LiftRegion *region) {
  l->region = region;
  l->uppers.homes = 0;
  l->uppers.planned = l->uppers.wanted = false;
  lift_all(l, region);
  if (!l->uppers.wanted) return;
  l->uppers.planned = true;
  lift_all(l, region);
}
