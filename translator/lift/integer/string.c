/* MOVS, STOS, LODS, CMPS, SCAS and their repetition.
 *
 * Each iteration leaves RCX, RSI and RDI as hardware would before the next, so a fault is precise and the
 * instruction restarts where it stopped. Repeated moves and stores upward go 32 bytes at a time where
 * source and destination are far enough apart for that not to show. */
#include "lift/internal.h"

enum { BULK = 32 };

typedef struct StringOp {
  unsigned size, log2;
  bool narrow_address; /* 67h: ESI, EDI, ECX */
  uint8_t segment;     /* of the source */
  IrReg step;          /* size or -size */
} StringOp;

static StringOp begin(Lift *l, const X86Insn *insn) {
  StringOp s = {.size = insn->operand_size, .narrow_address = insn->prefixes & X86_PREFIX_ADDR32,
                .segment = insn->mem.segment};
  s.log2 = (unsigned)__builtin_ctz(s.size);
  s.step = ir_temp(&l->b);
  ir_load_state(&l->b, 8, s.step, offsetof(GuestCpu, direction));
  if (s.log2) ir_lsl_imm(&l->b, 8, s.step, s.step, s.log2);
  return s;
}

/* The address in RSI or RDI, with the source's segment. */
static IrAddress element(Lift *l, const StringOp *s, unsigned index) {
  IrReg address = lift_gpr(index);
  if (s->narrow_address) {
    address = ir_temp(&l->b);
    ir_mov(&l->b, 4, address, lift_gpr(index));
  }
  if (index == X86_RSI && (s->segment == X86_SEG_FS || s->segment == X86_SEG_GS)) {
    IrReg sum = ir_temp(&l->b);
    ir_load_state(&l->b, 8, sum, s->segment == X86_SEG_FS ? offsetof(GuestCpu, fs_base) : offsetof(GuestCpu, gs_base));
    ir_rrr(&l->b, IR_ADD, 8, sum, sum, address);
    address = sum;
  }
  return lift_address_at(l, address, s->size);
}

static void advance(Lift *l, const StringOp *s, unsigned index) {
  ir_rrr(&l->b, IR_ADD, s->narrow_address ? 4 : 8, lift_gpr(index), lift_gpr(index), s->step);
}

static void count_down(Lift *l, const StringOp *s) {
  ir_add_imm(&l->b, s->narrow_address ? 4 : 8, lift_gpr(X86_RCX), lift_gpr(X86_RCX), -1);
}

static unsigned count_size(const StringOp *s) { return s->narrow_address ? 4 : 8; }
static bool repeated(const X86Insn *insn) { return insn->prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE); }

/* --- MOVS, STOS, LODS ---------------------------------------------------------------------------------- */

static void move_one(Lift *l, const StringOp *s) {
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, s->size, IR_EXTEND_ZERO, value, element(l, s, X86_RSI));
  ir_store(&l->b, s->size, value, element(l, s, X86_RDI));
  advance(l, s, X86_RSI);
  advance(l, s, X86_RDI);
}

static void store_one(Lift *l, const StringOp *s) {
  ir_store(&l->b, s->size, lift_gpr(X86_RAX), element(l, s, X86_RDI));
  advance(l, s, X86_RDI);
}

static void load_one(Lift *l, const StringOp *s) {
  X86Operand accumulator = {X86_OPERAND_GPR, X86_RAX, (uint8_t)s->size, X86_ACCESS_W};
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, s->size, IR_EXTEND_ZERO, value, element(l, s, X86_RSI));
  advance(l, s, X86_RSI);
  lift_write_register(l, &accumulator, value);
}

/* The end of a round: `again` while there is something left. In a single step a trap comes between the rounds. */
static void next_round(Lift *l, const StringOp *s, IrLabel again) {
  if (!l->region->single_step) {
    ir_cbnz(&l->b, count_size(s), lift_gpr(X86_RCX), again);
    ir_loop_end(&l->b, again);
    return;
  }
  IrLabel leave = ir_label(&l->b);
  ir_cbnz(&l->b, count_size(s), lift_gpr(X86_RCX), leave);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, leave);
  lift_exit(l, l->pc);
  ir_cold_end(&l->b);
}

static void repeat(Lift *l, const StringOp *s, void (*one)(Lift *, const StringOp *)) {
  IrLabel again = ir_label(&l->b), done = ir_label(&l->b);
  ir_cbz(&l->b, count_size(s), lift_gpr(X86_RCX), done);
  ir_bind(&l->b, again);
  one(l, s);
  count_down(l, s);
  next_round(l, s, again);
  ir_bind(&l->b, done);
}

/* What RCX is after one bulk step; to `skip` where there is none to be made (negative: RCX may have its top bit
 * set). */
static IrReg bulk_bounds(Lift *l, const StringOp *s, IrLabel skip) {
  IrReg rest = ir_temp(&l->b);
  ir_tbnz(&l->b, s->step, 63, skip);
  ir_add_imm(&l->b, 8, rest, lift_gpr(X86_RCX), -(int64_t)(BULK >> s->log2));
  ir_tbnz(&l->b, rest, 63, skip);
  return rest;
}

/* The end of a bulk step: again, if there is another. */
static void bulk_next(Lift *l, const StringOp *s, IrReg rest, IrLabel again) {
  ir_mov(&l->b, 8, lift_gpr(X86_RCX), rest);
  ir_add_imm(&l->b, 8, rest, rest, -(int64_t)(BULK >> s->log2));
  ir_tbz(&l->b, rest, 63, again);
  ir_loop_end(&l->b, again);
}

/* Pairs are plain accesses: a full barrier between loads and stores keeps x86's order. */
static void order_before_store(Lift *l) {
  if (l->ordered) ir_emit(&l->b, IR_DMB_ISH, 8, IR_NONE, IR_NONE, IR_NONE, 0);
}

static void bulk_store(Lift *l, const StringOp *s) {
  IrLabel again = ir_label(&l->b), skip = ir_label(&l->b);
  IrReg rest = bulk_bounds(l, s, skip);
  IrVec value = ir_vector_temp(&l->b);
  static const uint16_t broadcast[] = {IR_DUP_16BG, IR_DUP_8HG, IR_DUP_4SG, IR_DUP_2DG};
  ir_vr_raw(&l->b, (IrOp)broadcast[s->log2], 8, value, lift_gpr(X86_RAX), 0);
  ir_bind(&l->b, again);
  order_before_store(l);
  ir_vector_pair(&l->b, IR_STP_Q, value, value, lift_gpr(X86_RDI));
  ir_add_imm(&l->b, 8, lift_gpr(X86_RDI), lift_gpr(X86_RDI), BULK);
  bulk_next(l, s, rest, again);
  ir_bind(&l->b, skip);
}

/* Only where the destination does not begin within the source's next step. */
static void bulk_move(Lift *l, const StringOp *s) {
  IrLabel again = ir_label(&l->b), skip = ir_label(&l->b);
  IrReg distance = ir_temp(&l->b);
  IrVec low = ir_vector_temp(&l->b), high = ir_vector_temp(&l->b);
  IrReg rest = bulk_bounds(l, s, skip);
  ir_rrr(&l->b, IR_SUB, 8, distance, lift_gpr(X86_RDI), lift_gpr(X86_RSI));
  ir_lsr_imm(&l->b, 8, distance, distance, 5); /* distance / BULK, unsigned */
  ir_cbz(&l->b, 8, distance, skip);
  ir_bind(&l->b, again);
  ir_vector_pair(&l->b, IR_LDP_Q, low, high, lift_gpr(X86_RSI));
  order_before_store(l);
  ir_vector_pair(&l->b, IR_STP_Q, low, high, lift_gpr(X86_RDI));
  ir_add_imm(&l->b, 8, lift_gpr(X86_RSI), lift_gpr(X86_RSI), BULK);
  ir_add_imm(&l->b, 8, lift_gpr(X86_RDI), lift_gpr(X86_RDI), BULK);
  bulk_next(l, s, rest, again);
  ir_bind(&l->b, skip);
}

static bool bulk_possible(const Lift *l, const StringOp *s) {
  return !l->region->single_step && !s->narrow_address && s->segment == X86_NOREG;
}

void lift_movs(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  StringOp s = begin(l, insn);
  if (!repeated(insn)) {
    move_one(l, &s);
    return;
  }
  if (bulk_possible(l, &s)) bulk_move(l, &s);
  repeat(l, &s, move_one);
}

void lift_stos(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  StringOp s = begin(l, insn);
  if (!repeated(insn)) {
    store_one(l, &s);
    return;
  }
  if (bulk_possible(l, &s)) bulk_store(l, &s);
  repeat(l, &s, store_one);
}

void lift_lods(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  StringOp s = begin(l, insn);
  if (repeated(insn)) repeat(l, &s, load_one);
  else load_one(l, &s);
}

/* --- CMPS, SCAS ---------------------------------------------------------------------------------------- */

/* Loads what is compared, then steps. */
static void fetch_pair(Lift *l, const StringOp *s, bool scan, IrReg a, IrReg b) {
  if (scan) {
    ir_load(&l->b, s->size, IR_EXTEND_ZERO, b, element(l, s, X86_RDI));
  } else {
    ir_load(&l->b, s->size, IR_EXTEND_ZERO, a, element(l, s, X86_RSI));
    ir_load(&l->b, s->size, IR_EXTEND_ZERO, b, element(l, s, X86_RDI));
    advance(l, s, X86_RSI);
  }
  advance(l, s, X86_RDI);
}

static void compare_flags(Lift *l, unsigned size, IrReg a, IrReg b) {
  if (!(l->live_flags & (X86_F_STATUS | X86_F_LT))) return;
  if (size < 4) lift_compare_narrow(l, size, a, b);
  else lift_subtract(l, size, IR_ZERO, a, (LiftSource){.reg = b});
}

static void compare_repeated(Lift *l, const X86Insn *insn, const StringOp *s, bool scan, IrReg a, IrReg b) {
  IrLabel again = ir_label(&l->b), stop = ir_label(&l->b), done = ir_label(&l->b);
  IrReg differs = ir_temp(&l->b);
  lift_flags_canonical(l, l->live_flags);
  ir_cbz(&l->b, count_size(s), lift_gpr(X86_RCX), done);
  ir_bind(&l->b, again);
  fetch_pair(l, s, scan, a, b);
  count_down(l, s);
  ir_rrr(&l->b, IR_EOR, 8, differs, a, b);
  if (l->region->single_step) { /* each round's flags can be seen */
    compare_flags(l, s->size, a, b);
    lift_flags_canonical(l, l->live_flags);
  }
  if (insn->prefixes & X86_PREFIX_REPNE) ir_cbz(&l->b, 8, differs, stop);
  else ir_cbnz(&l->b, 8, differs, stop);
  next_round(l, s, again);
  ir_bind(&l->b, stop);
  compare_flags(l, s->size, a, b);
  lift_flags_canonical(l, l->live_flags);
  ir_bind(&l->b, done);
}

static void compare(Lift *l, const X86Insn *insn, bool scan) {
  StringOp s = begin(l, insn);
  IrReg a = ir_temp(&l->b), b = ir_temp(&l->b);
  if (scan) ir_ubfx(&l->b, 8, a, lift_gpr(X86_RAX), 0, s.size * 8);
  if (repeated(insn)) {
    compare_repeated(l, insn, &s, scan, a, b);
    return;
  }
  fetch_pair(l, &s, scan, a, b);
  compare_flags(l, s.size, a, b);
}

void lift_cmps(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  compare(l, insn, false);
}

void lift_scas(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  compare(l, insn, true);
}
