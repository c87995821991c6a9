/* Upper halves of YMM registers in host registers.
 *
 * The sixteen XMM registers leave fifteen host registers for temporaries. In a region with 256-bit operations up to
 * thirteen of those become homes of the upper halves that are used most. A home is loaded when its register is first
 * read, and stored where control leaves the region, or goes where several ways meet. So a fault may come while
 * GuestCpu.upper is out of date: the region's map tells which homes hold the truth at each guest instruction
 * (A64PcMap.uppers), and the handler takes them from there. As other guest registers, homes are written only after an
 * instruction's last access that may fault.
 *
 * In a loop without calls they stay in their homes from round to round: every block in it that several ways lead to is
 * entered with the homes of all registers that the loop uses loaded, and those it writes count as stored nowhere else.
 * Who enters such a block from outside the region loads them first. */
#include "lift/vector/vex.h"

enum {
  FLOAT_HOMES = 8, /* where results are checked for NaNs, which takes copies */
  LOOP_WEIGHT = 8,
  MAX_LOOPS = 16
};

/* --- Planning ------------------------------------------------------------------------------------- */

/* A part of the region that control goes round in; those that overlap are one. */
typedef struct Loop {
  uint32_t first, last;             /* indices of instructions */
  uint16_t used, written, narrowed; /* registers with 256 bits, and those made zero above */
  bool leaves;                      /* has calls or the like, which keep no YMM register */
} Loop;

typedef struct Plan {
  Loop loops[MAX_LOOPS];
  unsigned loop_count;
  unsigned weight[16];
  bool checked; /* has arithmetic on 256 bits that may make NaNs */
} Plan;

static void add_loop(Plan *plan, uint32_t first, uint32_t last) {
  for (unsigned i = 0; i < plan->loop_count;) {
    Loop *loop = &plan->loops[i];
    if (loop->first > last || loop->last < first) {
      i++;
      continue;
    }
    if (loop->first < first) first = loop->first;
    if (loop->last > last) last = loop->last;
    *loop = plan->loops[--plan->loop_count];
    i = 0;
  }
  if (plan->loop_count < MAX_LOOPS) plan->loops[plan->loop_count++] = (Loop){.first = first, .last = last};
}

static void find_loops(Plan *plan, const LiftRegion *region) {
  for (unsigned i = 0; i < region->end_count; i++) {
    uint32_t index = region->ends[i];
    if (region->insns[index].target <= index) add_loop(plan, region->insns[index].target, index);
  }
}

static Loop *loop_at(Plan *plan, uint32_t index) {
  for (unsigned i = 0; i < plan->loop_count; i++)
    if (plan->loops[i].first <= index && index <= plan->loops[i].last) return &plan->loops[i];
  return NULL;
}

static void count_operands(Plan *plan, Loop *loop, const X86Insn *insn) {
  for (unsigned i = 0; i < insn->operand_count; i++) {
    const X86Operand *o = &insn->operands[i];
    if (o->kind != X86_OPERAND_XMM) continue;
    uint16_t bit = (uint16_t)(1u << o->reg);
    if (o->size == 32) plan->weight[o->reg] += loop ? LOOP_WEIGHT : 1;
    if (!loop) continue;
    if (o->size == 32) loop->used |= bit;
    if (o->size == 32 && o->access & X86_ACCESS_W) loop->written |= bit;
    if (o->size < 32 && o->access & X86_ACCESS_W && insn->prefixes & X86_PREFIX_VEX) loop->narrowed |= bit;
  }
}

static void count_insn(Plan *plan, const RegionInsn *r, uint32_t index) {
  Loop *loop = loop_at(plan, index);
  const X86Insn *insn = &r->insn;
  if (loop && region_returns_behind(insn)) loop->leaves = true;
  if (!(insn->prefixes & X86_PREFIX_VEX)) return;
  if (loop && (insn->mnemonic == X86_VZEROUPPER || insn->mnemonic == X86_VZEROALL)) loop->narrowed = 0xffff;
  count_operands(plan, loop, insn);
  plan->checked |= vex_may_make_nans(insn);
}

/* Those used most first; of several with the same home the first of them. */
static uint16_t choose_homes(const Plan *plan, unsigned most, uint32_t *ret_hosts) {
  uint16_t homes = 0;
  uint32_t hosts = 0;
  for (unsigned left = plan->checked && most > FLOAT_HOMES ? FLOAT_HOMES : most; left; left--) {
    unsigned best = 16;
    for (unsigned number = 0; number < 16; number++) {
      bool free = plan->weight[number] && !(homes >> number & 1) && !(hosts >> a64_upper_home(number) & 1);
      if (free && (best == 16 || plan->weight[number] > plan->weight[best])) best = number;
    }
    if (best == 16) break;
    homes |= (uint16_t)(1u << best);
    hosts |= 1u << a64_upper_home(best);
  }
  *ret_hosts = hosts;
  return homes;
}

static void tell_blocks(Lift *l, Plan *plan) {
  for (unsigned i = 0; i < l->region->leader_count; i++) {
    uint32_t index = l->region->leaders[i];
    const Loop *loop = loop_at(plan, index);
    if (!loop || loop->leaves || region_block_inherits(l->region, index)) continue;
    LiftBlock *block = &l->blocks[index];
    block->uppers_loaded = loop->used & (uint16_t)~loop->narrowed & l->uppers.homes;
    block->uppers_dirty = block->uppers_loaded & loop->written;
  }
}

void lift_uppers_plan(Lift *l) {
  Plan plan = {.loop_count = 0};
  l->uppers.homes = 0;
  find_loops(&plan, l->region);
  for (uint32_t index = 0; index < l->region->count; index++) count_insn(&plan, &l->region->insns[index], index);
  l->uppers.homes = choose_homes(&plan, A64_UPPER_HOMES - l->homes_left_out, &l->b.vector_homes);
  tell_blocks(l, &plan);
}

/* --- Between blocks ------------------------------------------------------------------------------- */

static void load_homes(Lift *l, unsigned numbers) {
  for (; numbers; numbers &= numbers - 1) {
    unsigned number = (unsigned)__builtin_ctz(numbers);
    ir_load_state_vector(&l->b, 16, ymm_home(number), ymm_upper_offset(number));
  }
}

static void store_homes(Lift *l, unsigned numbers) {
  for (; numbers; numbers &= numbers - 1) {
    unsigned number = (unsigned)__builtin_ctz(numbers);
    ir_store_state_vector(&l->b, 16, ymm_home(number), ymm_upper_offset(number));
  }
}

/* The way in from outside, which finds upper halves in GuestCpu: it loads what the block expects. */
static void load_on_entry(Lift *l, const LiftBlock *block) {
  IrBuilder *b = &l->b;
  uint64_t pc = l->region->insns[l->index].pc;
  bool first = l->index == 0; /* nothing comes from above */
  if (!first) ir_cold_begin(b);
  ir_mark(b, IR_BLOCK, pc, true, ir_label(b).id);
  ir_mark(b, IR_GUEST, pc, FLAGS_CANONICAL, 0); /* else a region of several would take the loads for what is before it */
  load_homes(l, block->uppers_loaded);
  if (first) return;
  ir_branch(b, (IrLabel){block->label});
  ir_cold_end(b);
}

void lift_uppers_begin_block(Lift *l, const LiftBlock *block) {
  const RegionInsn *r = &l->region->insns[l->index];
  bool entered = r->entry && block->uppers_loaded;
  if (entered) load_on_entry(l, block);
  ir_emit(&l->b, IR_UPPERS, 8, IR_NONE, IR_NONE, IR_NONE, block->uppers_dirty);
  ir_mark(&l->b, IR_BLOCK, r->pc, r->entry && !entered, block->label);
}

void lift_uppers_store(Lift *l) { store_homes(l, l->uppers.dirty); }

void lift_uppers_forget(Lift *l) {
  lift_uppers_leave(l);
  l->uppers.loaded = l->uppers.dirty = l->uppers.valid = l->uppers.same = 0;
}

/* What the block at `index` expects; where it takes over what is known, that. */
static bool expects(const Lift *l, uint32_t index, uint16_t *ret_loaded, uint16_t *ret_dirty) {
  if (!l->uppers.homes || region_block_inherits(l->region, index)) return false;
  *ret_loaded = l->blocks[index].uppers_loaded;
  *ret_dirty = l->blocks[index].uppers_dirty;
  return true;
}

bool lift_uppers_differ(const Lift *l, uint32_t index) {
  uint16_t loaded, dirty;
  return expects(l, index, &loaded, &dirty) && ((l->uppers.dirty & ~dirty) || (loaded & ~l->uppers.loaded));
}

void lift_uppers_convert(Lift *l, uint32_t index) {
  uint16_t loaded, dirty;
  if (!expects(l, index, &loaded, &dirty)) return;
  store_homes(l, l->uppers.dirty & ~dirty);
  load_homes(l, loaded & ~l->uppers.loaded);
  l->uppers.dirty &= dirty;
  l->uppers.loaded |= loaded;
}
