/* Floating-point arithmetic, comparison, rounding.
 *
 * NaNs. x86: the first operand's NaN, quieted, else the second's; what an invalid operation makes is the
 * negative default NaN (Intel SDM volume 1, 4.8.3.5 to 4.8.3.7). AArch64 (Arm ARM, FPProcessNaNs): a signalling NaN
 * first, then the first operand's; it makes the positive default NaN. The two differ only where an
 * operand is signalling or the NaN is made, and both set the cumulative invalid flag, FPSR.IOC. So a result
 * is right if it is no NaN, or if IOC is clear; otherwise the cold path chooses the NaN from the operands, which
 * are still there, and clears IOC into the guest's MXCSR. Programs go there often: a comparison that meets a quiet NaN
 * sets IOC as well, so one NaN in an iteration's lanes makes every round of it cold.
 *
 * IOC is sticky, so instructions in a row are checked together (group.c). */
#include "lift/vector/sse.h"

static void fix_nans_quietly(Lift *l, SseFormat format, IrVec a, IrVec b, IrVec result) {
  sse_store_operand(l, 0, a);
  sse_store_operand(l, 1, b);
  sse_store_operand(l, 2, result);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_NAN, format);
  sse_load_operand(l, 2, result);
}

/* Chooses x86's NaN in the lanes of `result`, a temporary: of a, quieted, else the host's, which is then of b or made and
 * becomes negative. Scalar forms have zeros above, and leave them. Two temporaries are enough for it. */
static void fix_nans(Lift *l, SseFormat format, IrVec a, IrVec b, IrVec result) {
  static const uint16_t equal[] = {IR_FCMEQ_4S, IR_FCMEQ_2D, IR_FCMEQ_S, IR_FCMEQ_D};
  static const uint16_t greatest[] = {IR_FMAX_4S, IR_FMAX_2D, IR_FMAX_S, IR_FMAX_D};
  IrBuilder *builder = &l->b;
  bool wide = sse_is_double(format);
  IrVec made = sse_vvv(l, (IrOp)equal[format], result, result), number = sse_vvv(l, (IrOp)equal[format], a, a);
  ir_vvv(builder, IR_BIC_16B, made, number, made);
  if (b.id != a.id) {
    ir_vvv(builder, (IrOp)equal[format], number, b, b);
    ir_vvv(builder, IR_AND_16B, made, made, number);
    ir_vvv(builder, (IrOp)equal[format], number, a, a);
  }
  ir_vv_raw(builder, wide ? IR_SHL_2D : IR_SHL_4S, made, made, ir_shift_left(wide ? 63 : 31));
  ir_vvv(builder, IR_ORR_16B, result, result, made);
  ir_vvv(builder, (IrOp)greatest[format], made, a, a);
  ir_vvv(builder, IR_BIF_16B, result, made, number);
}

/* For the look whether the instruction has raised an exception that is unmasked (traps.c). */
static void note_raised(Lift *l, IrReg flags) {
  IrReg raised = ir_temp(&l->b);
  ir_load_state(&l->b, 4, raised, offsetof(GuestCpu, float_raised));
  ir_rrr(&l->b, IR_ORR, 4, raised, raised, flags);
  ir_store_state(&l->b, 4, raised, offsetof(GuestCpu, float_raised));
}

void sse_clear_invalid(Lift *l, bool noted) {
  enum { FPSR_IOC = 1 << 0 }; /* and MXCSR.IE */
  IrBuilder *b = &l->b;
  IrReg status = ir_temp(b);
  ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  if (noted) {
    IrReg invalid = ir_temp(b), mxcsr = ir_temp(b);
    ir_logic_imm(b, IR_AND, 4, invalid, status, FPSR_IOC);
    ir_load_state(b, 4, mxcsr, offsetof(GuestCpu, mxcsr));
    ir_rrr(b, IR_ORR, 4, mxcsr, mxcsr, invalid);
    ir_store_state(b, 4, mxcsr, offsetof(GuestCpu, mxcsr));
    if (l->region->float_traps) note_raised(l, invalid);
  }
  ir_logic_imm(b, IR_AND, 8, status, status, ~(uint64_t)FPSR_IOC);
  ir_emit(b, IR_MSR_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
}

/* Looks at IOC after `result` of operands a and b, and mends it out of line; IOC is the caller's. */
static void check_nan(Lift *l, SseFormat format, IrVec a, IrVec b, IrVec result) {
  IrLabel cold = ir_label(&l->b), done = ir_label(&l->b);
  IrReg status = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_tbnz(&l->b, status, 0, cold);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, cold);
  fix_nans_quietly(l, format, a, b, result);
  ir_branch(&l->b, done);
  ir_cold_end(&l->b);
  ir_bind_return(&l->b, done);
}

IrVec sse_arithmetic(Lift *l, IrOp op, SseFormat format, IrVec a, IrVec b) {
  bool unary = ir_op_info[op].kind[2] == IR_KIND_N;
  IrVec result = unary ? sse_vv(l, op, a) : sse_vvv(l, op, a, b);
  if (l->group.replay) fix_nans(l, format, a, b, result);
  else l->group.unchecked = true;
  return result;
}

/* Operand of an instruction of this format: all of it, or the scalar. */
static IrVec float_source(Lift *l, const X86Insn *insn, unsigned operand, SseFormat format) {
  return sse_is_scalar(format) ? sse_scalar_source(l, insn, operand, sse_bytes(format))
                               : sse_source(l, insn, operand);
}

static void write_float(Lift *l, const X86Insn *insn, SseFormat format, IrVec result) {
  unsigned number = insn->operands[0].reg;
  if (sse_is_scalar(format)) sse_write_scalar(l, number, sse_bytes(format), result);
  else sse_write(l, number, result);
}

/* ADDPS, SUBSD …: argument: operation, format. */
void sse_lift_arithmetic(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)sse_high(argument);
  IrVec m = float_source(l, insn, 1, format), n = float_source(l, insn, 0, format);
  write_float(l, insn, format, sse_arithmetic(l, (IrOp)sse_low(argument), format, n, m));
}

/* SQRT: of the second operand. */
void sse_lift_sqrt(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)sse_high(argument);
  IrVec m = float_source(l, insn, 1, format);
  write_float(l, insn, format, sse_arithmetic(l, (IrOp)sse_low(argument), format, m, m));
}

/* MIN, MAX: the first operand only if it compares less (greater): the second where either is a NaN or both
 * are zero. FCMGT signals quiet NaNs, as MIN and MAX do. A denormal chosen under DAZ is not flushed, as it is
 * on hardware. argument: FCMGT of the format, format; bit 8 of
 * the high part: MAX. */
void sse_lift_min_max(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  SseFormat format = (SseFormat)(sse_high(argument) & 3);
  bool max = sse_high(argument) >> 8;
  unsigned number = insn->operands[0].reg;
  IrVec m = float_source(l, insn, 1, format), n = float_source(l, insn, 0, format);
  IrVec first = max ? sse_vvv(l, (IrOp)sse_low(argument), n, m)
                    : sse_vvv(l, (IrOp)sse_low(argument), m, n);
  if (!sse_is_scalar(format) && !l->vex.active) {
    ir_vvv(&l->b, IR_BIF_16B, sse_changed(l, insn), m, first);
    return;
  }
  ir_vvv(&l->b, IR_BSL_16B, first, n, m);
  if (!sse_is_scalar(format)) {
    sse_finish(l, insn, first);
    return;
  }
  sse_merge_scalar(l, number, sse_bytes(format), first);
}

/* --- Comparisons into masks --- */

typedef struct CompareOps {
  uint16_t equal, greater, greater_equal, least;
} CompareOps;

static const CompareOps compare_ops[] = {
    [SSE_PS] = {IR_FCMEQ_4S, IR_FCMGT_4S, IR_FCMGE_4S, IR_FMIN_4S},
    [SSE_PD] = {IR_FCMEQ_2D, IR_FCMGT_2D, IR_FCMGE_2D, IR_FMIN_2D},
    [SSE_SS] = {IR_FCMEQ_S, IR_FCMGT_S, IR_FCMGE_S, IR_FMIN_S},
    [SSE_SD] = {IR_FCMEQ_D, IR_FCMGT_D, IR_FCMGE_D, IR_FMIN_D},
};

/* Predicates 0-3 (EQ, LT, LE, UNORD negated to ORD): less-than signals quiet NaNs, equality does not. */
static IrVec compare(Lift *l, SseFormat format, unsigned predicate, IrVec n, IrVec m) {
  const CompareOps *ops = &compare_ops[format];
  switch (predicate) {
  case 0: return sse_vvv(l, (IrOp)ops->equal, n, m);
  case 1: return sse_vvv(l, (IrOp)ops->greater, m, n);
  case 2: return sse_vvv(l, (IrOp)ops->greater_equal, m, n);
  default: break;
  }
  IrVec ordered = sse_vvv(l, (IrOp)ops->equal, n, n);
  if (m.id == n.id) return ordered;
  IrVec other = sse_vvv(l, (IrOp)ops->equal, m, m);
  ir_vvv(&l->b, IR_AND_16B, ordered, ordered, other);
  return ordered;
}

/* n < m or n <= m without a signal for quiet NaNs, which the lesser of both is if either is: not equal to anything. */
static IrVec compare_quietly(Lift *l, SseFormat format, bool or_equal, IrVec n, IrVec m) {
  const CompareOps *ops = &compare_ops[format];
  IrVec least = sse_vvv(l, (IrOp)ops->least, n, m);
  ir_vvv(&l->b, (IrOp)ops->equal, least, least, n);
  if (or_equal) return least;
  IrVec equal = sse_vvv(l, (IrOp)ops->equal, n, m);
  ir_vvv(&l->b, IR_BIC_16B, least, least, equal);
  return least;
}

/* Predicates 8 to 31 (Intel SDM volume 2, CMPPD, table 3-1): of the low four bits 0-7 are as ever, 8 EQ or unordered,
 * 9 not GE, 10 not GT, 11 false, and 12-15 those negated; bit 4 changes whether quiet NaNs are signalled. */
static IrVec compare_more(Lift *l, SseFormat format, unsigned predicate, IrVec n, IrVec m, bool *ret_negated) {
  enum { CHANGED = 16 };
  const CompareOps *ops = &compare_ops[format];
  unsigned low = predicate & 15, kind = low & 3;
  bool relation = kind == 1 || kind == 2, swapped = low & 8 && relation, mask_negated = false;
  IrVec mask;
  *ret_negated = low & 4;
  if (relation) { /* LT, LE; with bit 3 GE, GT, negated where those are not */
    IrVec a = swapped ? m : n, b = swapped ? n : m;
    bool or_equal = swapped ? kind == 1 : kind == 2;
    if (swapped) *ret_negated = !*ret_negated;
    if (predicate & CHANGED) return compare_quietly(l, format, or_equal, a, b);
    return sse_vvv(l, (IrOp)(or_equal ? ops->greater_equal : ops->greater), b, a);
  }
  switch (low & 11) {
  case 0: mask = compare(l, format, 0, n, m); break;
  case 3: mask = compare(l, format, 3, n, m), mask_negated = true; break;
  case 8: {
    IrVec equal = compare(l, format, 0, n, m);
    mask = sse_vvv(l, IR_ORN_16B, equal, compare(l, format, 3, n, m));
    break;
  }
  default: {
    IrVec equal = compare(l, format, 0, n, m);
    mask = sse_vvv(l, IR_EOR_16B, equal, equal);
    break;
  }
  }
  if (predicate & CHANGED) { /* for the signal alone */
    IrVec compared = sse_vvv(l, (IrOp)ops->greater_equal, n, m);
    ir_vvv(&l->b, IR_EOR_16B, mask, mask, compared);
    ir_vvv(&l->b, IR_EOR_16B, mask, mask, compared);
  }
  *ret_negated ^= mask_negated;
  return mask;
}

/* CMPPS, CMPSD …: argument: format. Immediates 0-3 EQ LT LE UNORD, 4-7 NEQ NLT NLE ORD; with VEX 8-31, too. */
void sse_lift_compare(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  SseFormat format = (SseFormat)argument;
  unsigned predicate = (unsigned)insn->imm & 7, number = insn->operands[0].reg;
  IrVec m = float_source(l, insn, 1, format), n = float_source(l, insn, 0, format), mask;
  bool negated = predicate == 3 || (predicate >= 4 && predicate != 7);
  bool more = l->vex.active && insn->imm & 0x18;
  if (more) mask = compare_more(l, format, (unsigned)insn->imm & 31, n, m, &negated);
  else mask = compare(l, format, predicate & 3, n, m);
  if (negated) ir_vv(&l->b, IR_NOT_16B, mask, mask);
  if ((negated || more) && sse_is_scalar(format)) { /* ones above now */
    sse_merge_scalar(l, number, sse_bytes(format), mask);
    return;
  }
  write_float(l, insn, format, mask);
}

/* UCOMISS … COMISD: argument: FCMP or FCMPE. */
void sse_lift_comis(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  unsigned bytes = argument == IR_FCMP_D || argument == IR_FCMPE_D ? 8 : 4;
  IrVec m = sse_scalar_source(l, insn, 1, bytes), n = sse_scalar_source(l, insn, 0, bytes);
  ir_emit(&l->b, (IrOp)argument, 16, IR_NONE, n.id, m.id, 0);
  lift_flags_fcmp(l);
}

/* --- Rounding --- */

/* By immediate bits 1:0 nearest, down, up, zero; then by MXCSR, and by MXCSR noting inexact results. */
enum { ROUND_CURRENT = 4, ROUND_CURRENT_EXACT = 5 };
static const uint16_t round_ops[][6] = {
    [SSE_PS] = {IR_FRINTN_4S, IR_FRINTM_4S, IR_FRINTP_4S, IR_FRINTZ_4S, IR_FRINTI_4S, IR_FRINTX_4S},
    [SSE_PD] = {IR_FRINTN_2D, IR_FRINTM_2D, IR_FRINTP_2D, IR_FRINTZ_2D, IR_FRINTI_2D, IR_FRINTX_2D},
    [SSE_SS] = {IR_FRINTN_S, IR_FRINTM_S, IR_FRINTP_S, IR_FRINTZ_S, IR_FRINTI_S, IR_FRINTX_S},
    [SSE_SD] = {IR_FRINTN_D, IR_FRINTM_D, IR_FRINTP_D, IR_FRINTZ_D, IR_FRINTI_D, IR_FRINTX_D},
};

/* ROUNDPS …: argument: format. NaNs come out quieted on both sides. */
void sse_lift_round(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  SseFormat format = (SseFormat)argument;
  unsigned imm = (unsigned)insn->imm, number = insn->operands[0].reg, mode = imm & 3;
  if (imm & 4) mode = imm & 8 ? ROUND_CURRENT : ROUND_CURRENT_EXACT;
  IrVec m = float_source(l, insn, 1, format);
  IrVec d = sse_is_scalar(format) ? sse_scalar_target(l, number, sse_bytes(format))
                                  : sse_result(l, insn);
  if (!(imm & 12)) sse_vv(l, (IrOp)round_ops[format][ROUND_CURRENT_EXACT], m); /* for the inexact flag */
  ir_vv(&l->b, (IrOp)round_ops[format][mode], d, m);
  if (sse_is_scalar(format)) sse_write_scalar(l, number, sse_bytes(format), d);
}

/* --- Horizontal and mixed --- */

/* HADDPS, HADDPD: FADDP adds the same pairs; the NaN helper is shown even and odd lanes as operands. */
void sse_lift_hadd(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)argument;
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec result = sse_vvv(l, sse_is_double(format) ? IR_FADDP_2D : IR_FADDP_4S, n, m);
  l->group.unchecked |= !l->group.replay;
  if (l->group.replay) {
    IrVec even = sse_vvv(l, sse_is_double(format) ? IR_UZP1_2D : IR_UZP1_4S, n, m);
    IrVec odd = sse_vvv(l, sse_is_double(format) ? IR_UZP2_2D : IR_UZP2_4S, n, m);
    fix_nans(l, format, even, odd, result);
  }
  sse_write(l, insn->operands[0].reg, result);
}

void sse_lift_hsub(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)argument;
  bool wide = sse_is_double(format);
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec even = sse_vvv(l, wide ? IR_UZP1_2D : IR_UZP1_4S, n, m);
  IrVec odd = sse_vvv(l, wide ? IR_UZP2_2D : IR_UZP2_4S, n, m);
  IrVec result = sse_arithmetic(l, wide ? IR_FSUB_2D : IR_FSUB_4S, format, even, odd);
  sse_write(l, insn->operands[0].reg, result);
}

/* ADDSUBPS, ADDSUBPD: even lanes subtract, odd lanes add. Each operation sees zeros in the other's lanes, so
 * that it raises no flag there. */
void sse_lift_addsub(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)argument;
  bool wide = sse_is_double(format);
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec even = wide ? sse_const128(l, ~UINT64_C(0), 0)
                    : sse_const128(l, 0xffffffff, 0xffffffff);
  IrVec n_even = sse_vvv(l, IR_AND_16B, n, even), n_odd = sse_vvv(l, IR_BIC_16B, n, even);
  IrVec m_even = sse_vvv(l, IR_AND_16B, m, even), m_odd = sse_vvv(l, IR_BIC_16B, m, even);
  IrVec low = sse_arithmetic(l, wide ? IR_FSUB_2D : IR_FSUB_4S, format, n_even, m_even);
  IrVec high = sse_arithmetic(l, wide ? IR_FADD_2D : IR_FADD_4S, format, n_odd, m_odd);
  ir_vvv(&l->b, IR_BSL_16B, even, low, high);
  sse_write(l, insn->operands[0].reg, even);
}

static uint64_t lane_mask(unsigned bits, unsigned lane_bits, unsigned half) {
  if (lane_bits == 64) return bits >> half & 1 ? ~UINT64_C(0) : 0;
  uint64_t mask = bits >> (2 * half) & 1 ? 0xffffffff : 0;
  return bits >> (2 * half + 1) & 1 ? mask | UINT64_C(0xffffffff) << 32 : mask;
}

static IrVec lanes(Lift *l, unsigned bits, unsigned lane_bits) {
  return sse_const128(l, lane_mask(bits, lane_bits, 0), lane_mask(bits, lane_bits, 1));
}

/* DPPS, DPPD: products of the lanes in imm 7:4 (others +0), summed in pairs, to the lanes in imm 3:0. Which of two
 * NaNs a lane gets is as on Intel's processors: of neighbours the other one's, of halves its own. */
void sse_lift_dot_product(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)argument;
  bool wide = sse_is_double(format);
  unsigned bits = wide ? 64 : 32, all = wide ? 3 : 15, imm = (unsigned)insn->imm;
  unsigned in = imm >> 4 & all, out = imm & all;
  IrOp add = wide ? IR_FADD_2D : IR_FADD_4S;
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  if (in != all) {
    IrVec mask = lanes(l, in, bits);
    m = sse_vvv(l, IR_AND_16B, m, mask);
    n = sse_vvv(l, IR_AND_16B, n, mask);
  }
  IrVec sum = sse_arithmetic(l, wide ? IR_FMUL_2D : IR_FMUL_4S, format, n, m);
  if (!wide) sum = sse_arithmetic(l, add, format, sse_vv(l, IR_REV64_4S, sum), sum);
  sum = sse_arithmetic(l, add, format, sum, sse_vvv_raw(l, IR_EXT_16B, sum, sum, ir_ext(8)));
  if (out != all) sum = sse_vvv(l, IR_AND_16B, sum, lanes(l, out, bits));
  sse_write(l, insn->operands[0].reg, sum);
}

/* --- Approximations --- */

/* RCPPS, RSQRTPS and scalar forms. Hardware's twelve-bit tables differ from vendor to vendor; what is promised
 * is a relative error of at most 1.5 * 2^-12 (Intel SDM volume 2). One Newton step on AArch64's eight-bit
 * estimate gives sixteen bits. These instructions touch no flag, so FPSR is kept; denormal operands count
 * as zero and tiny results become zero, whatever MXCSR says, hence the change of FPCR.
 * argument: format; bit 8: the square root's. */
static IrVec estimate(Lift *l, bool root, IrVec m) {
  IrVec x = sse_vv(l, root ? IR_FRSQRTE_4S : IR_FRECPE_4S, m);
  IrVec factor = root ? sse_vvv(l, IR_FMUL_4S, m, x) : m;
  IrVec step = sse_vvv(l, root ? IR_FRSQRTS_4S : IR_FRECPS_4S, factor, x);
  IrVec result = sse_vvv(l, IR_FMUL_4S, x, step);
  if (root) { /* zero and infinity make a NaN of m * x: their estimates are exact */
    IrVec number = sse_vvv(l, IR_FCMEQ_4S, result, result);
    ir_vvv(&l->b, IR_BIF_16B, result, x, number);
  }
  return result;
}

void sse_lift_approximate(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { FLUSH_TO_ZERO = 1 << 24 };
  IrBuilder *b = &l->b;
  SseFormat format = (SseFormat)(argument & 3);
  bool root = argument >> 8;
  unsigned number = insn->operands[0].reg;
  IrVec m = sse_source(l, insn, 1);
  if (sse_is_scalar(format)) m = sse_vv(l, IR_FMOV_S, m);
  IrReg status = ir_temp(b), control = ir_temp(b), flushing = ir_temp(b);
  ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_emit(b, IR_MRS_FPCR, 8, control.id, IR_NONE, IR_NONE, 0);
  ir_logic_imm(b, IR_ORR, 8, flushing, control, FLUSH_TO_ZERO);
  ir_emit(b, IR_MSR_FPCR, 8, flushing.id, IR_NONE, IR_NONE, 0);
  IrVec result = estimate(l, root, m);
  check_nan(l, SSE_PS, m, m, result);
  ir_emit(b, IR_MSR_FPCR, 8, control.id, IR_NONE, IR_NONE, 0);
  ir_emit(b, IR_MSR_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  if (sse_is_scalar(format)) {
    sse_merge_scalar(l, number, 4, result);
  } else {
    sse_write(l, number, result);
  }
}
