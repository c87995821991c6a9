/* FMA: fused multiplication and addition.
 *
 * NaNs. x86: of the first multiplicand, the second, the addend the first that is one, quieted; what an invalid operation
 * makes is the negative default NaN, and zero times infinity is not invalid where the addend is a quiet NaN. AArch64 has
 * another order, and raises invalid there, too. Two quiet NaNs set no flag, so every result is compared with itself, which
 * does set it: unless the next such instruction uses it, whose result is then one, too. A group with such instructions
 * begins with the flag clear; done again, it does not count what the first
 * time has set, and a helper chooses each NaN from the operands and sees to the flag.
 *
 * The digits of a name say which operand is the first multiplicand, the second and the addend. */
#include "lift/vector/vex.h"

/* Row arguments: format, digits, signs. */
enum {
  FMA_FORMAT = 3,      /* SseFormat */
  FMA_DIGITS = 2,      /* shift: 0: 132, 1: 213, 2: 231 */
  FMA_NEGATE_PRODUCT = 1 << 4,
  FMA_NEGATE_ADDEND = 1 << 5,
  FMA_NEGATE_EVEN = 1 << 6, /* of the addend's lanes */
  FMA_NEGATE_ODD = 1 << 7
};

typedef struct Operands {
  VexPair first, second, addend;
} Operands;

static VexPair source(Lift *l, const X86Insn *insn, unsigned operand, SseFormat format) {
  if (!sse_is_scalar(format)) return vex_read(l, insn, operand);
  return (VexPair){{sse_scalar_source(l, insn, operand, sse_bytes(format)), IR_VECTOR_ZERO}};
}

static Operands read_operands(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint8_t places[][3] = {{0, 2, 1}, {1, 0, 2}, {1, 2, 0}};
  const uint8_t *place = places[argument >> FMA_DIGITS & 3];
  VexPair o[3];
  for (unsigned i = 3; i-- > 0;) o[i] = source(l, insn, i, (SseFormat)(argument & FMA_FORMAT));
  return (Operands){o[place[0]], o[place[1]], o[place[2]]};
}

static IrVec multiply_scalar(Lift *l, uint32_t argument, IrVec a, IrVec b, IrVec c) {
  static const uint16_t ops[2][4] = {{IR_FMADD_S, IR_FMSUB_S, IR_FNMSUB_S, IR_FNMADD_S},
                                     {IR_FMADD_D, IR_FMSUB_D, IR_FNMSUB_D, IR_FNMADD_D}};
  unsigned signs = argument >> 4 & 3; /* product, addend */
  IrVec d = ir_vector_temp(&l->b);
  IrInsn *insn = ir_emit(&l->b, (IrOp)ops[sse_is_double((SseFormat)(argument & FMA_FORMAT))][signs], 16, d.id, a.id,
                         b.id, 0);
  insn->reg[3] = c.id;
  ir_note_temps(insn);
  return d;
}

/* The addend with the signs of the lanes changed that are to be subtracted, in a temporary to be changed: a new one, or what
 * memory was read into, which only choose_nans() needs unchanged. */
static IrVec signed_addend(Lift *l, uint32_t argument, IrVec c, bool from_memory) {
  bool wide = sse_is_double((SseFormat)(argument & FMA_FORMAT));
  if (argument & FMA_NEGATE_ADDEND) return sse_vv(l, wide ? IR_FNEG_2D : IR_FNEG_4S, c);
  if (!(argument & (FMA_NEGATE_EVEN | FMA_NEGATE_ODD)))
    return from_memory && !l->group.replay ? c : sse_copy(l, c);
  bool odd = argument & FMA_NEGATE_ODD;
  uint64_t sign = UINT64_C(1) << 63, singles = odd ? sign : sign >> 32;
  IrVec mask = wide ? sse_const128(l, odd ? 0 : sign, odd ? sign : 0) : sse_const128(l, singles, singles);
  return sse_vvv(l, IR_EOR_16B, c, mask);
}

static IrVec multiply_packed(Lift *l, uint32_t argument, IrVec a, IrVec b, IrVec c, bool from_memory) {
  static const uint16_t ops[2][2] = {{IR_FMLA_4S, IR_FMLS_4S}, {IR_FMLA_2D, IR_FMLS_2D}};
  IrVec d = signed_addend(l, argument, c, from_memory);
  ir_vvv(&l->b, (IrOp)ops[argument & 1][(argument & FMA_NEGATE_PRODUCT) != 0], d, a, b);
  return d;
}

/* Sets the host's invalid flag if a lane of either is a NaN: this comparison signals quiet ones, too. */
static void signal_nans(Lift *l, SseFormat format, IrVec value, IrVec other) {
  static const uint16_t compare[] = {IR_FCMGE_4S, IR_FCMGE_2D, IR_FCMGE_S, IR_FCMGE_D};
  sse_vvv(l, (IrOp)compare[format], value, other);
}

static bool addend_is_memory(const X86Insn *insn, uint32_t argument) {
  enum { DIGITS_213 = 1 }; /* the one form whose addend is the last operand */
  return (argument >> FMA_DIGITS & 3) == DIGITS_213 && sse_is_memory(insn, 2);
}

static void choose_nans(Lift *l, SseFormat format, const Operands *o, VexPair result, unsigned k) {
  sse_store_operand(l, 0, o->first.half[k]);
  sse_store_operand(l, 1, o->second.half[k]);
  sse_store_operand(l, 2, result.half[k]);
  ir_store_state_vector(&l->b, 16, o->addend.half[k], offsetof(GuestCpu, addend));
  lift_plain_helper_imm(l, LIFT_HELPER_FMA_NAN, format);
  sse_load_operand(l, 2, result.half[k]);
}

/* What the host's flag says from before is moved to MXCSR, so that what it says afterwards is of what follows. */
static void settle(Lift *l) { sse_clear_invalid(l, true); }

void vex_settle(Lift *l) {
  IrBuilder *b = &l->b;
  if (l->settled) return;
  IrLabel cold = ir_label(b), done = ir_label(b);
  IrReg status = ir_temp(b);
  ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_tbnz(b, status, 0, cold);
  ir_cold_begin(b);
  ir_bind(b, cold);
  settle(l);
  ir_branch(b, done);
  ir_cold_end(b);
  ir_bind_return(b, done);
  l->settled = true;
}

static void write(Lift *l, const X86Insn *insn, SseFormat format, VexPair result) {
  if (!sse_is_scalar(format)) {
    vex_write(l, insn, result);
    return;
  }
  sse_write_scalar(l, insn->operands[0].reg, sse_bytes(format), result.half[0]);
  ymm_zero_upper(l, insn->operands[0].reg);
}

static void signal_pending(Lift *l, unsigned number) {
  uint16_t bit = (uint16_t)(1u << number);
  l->group.pending &= (uint16_t)~bit;
  IrVec low = lift_xmm(number), other = l->group.pending_wide & bit ? ymm_upper(l, number) : low;
  signal_nans(l, (SseFormat)l->group.pending_format[number], low, other);
}

void vex_signal_nans(Lift *l, uint16_t numbers) {
  for (unsigned left = numbers; left; left &= left - 1) signal_pending(l, (unsigned)__builtin_ctz(left));
}

/* A NaN among the sources that are results not looked at yet is one in this result, whose lanes are the same. */
static void take_pending(Lift *l, const X86Insn *insn, SseFormat format) {
  LiftGroup *g = &l->group;
  for (unsigned i = 0; i < 3; i++) {
    const X86Operand *o = &insn->operands[i];
    uint16_t bit = (uint16_t)(1u << (o->reg & 15));
    if (o->kind != X86_OPERAND_XMM || !(g->pending & bit)) continue;
    bool same = g->pending_format[o->reg & 15] == format && ((g->pending_wide & bit) != 0) == vex_is_wide(insn, 0);
    if (same) g->pending &= (uint16_t)~bit;
  }
  vex_signal_pending(l, (uint16_t)(1u << insn->operands[0].reg));
}

static void note_result(Lift *l, const X86Insn *insn, SseFormat format) {
  LiftGroup *g = &l->group;
  unsigned number = insn->operands[0].reg;
  uint16_t bit = (uint16_t)(1u << number);
  g->pending |= bit;
  g->pending_wide &= (uint16_t)~bit;
  if (vex_is_wide(insn, 0)) g->pending_wide |= bit;
  g->pending_format[number] = (uint8_t)format;
}

/* VFMADD132PS … VFNMSUB231SD: always in a group, which looks at the flag. */
void vex_lift_fma(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)(argument & FMA_FORMAT);
  bool wide = vex_is_wide(insn, 0), scalar = sse_is_scalar(format);
  Operands o = read_operands(l, insn, argument);
  VexPair result = {{{IR_NONE}, IR_VECTOR_ZERO}};
  if (l->group.replay) settle(l);
  else take_pending(l, insn, format);
  for (unsigned k = 1u + wide; k-- > 0;) {
    IrVec a = o.first.half[k], b = o.second.half[k], c = o.addend.half[k];
    result.half[k] = scalar ? multiply_scalar(l, argument, a, b, c)
                            : multiply_packed(l, argument, a, b, c, addend_is_memory(insn, argument));
    if (l->group.replay) choose_nans(l, format, &o, result, k);
  }
  write(l, insn, format, result);
  if (l->group.replay) return;
  l->group.unchecked = true;
  note_result(l, insn, format);
}
