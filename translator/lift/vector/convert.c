/* Conversions between integers, floats and doubles.
 *
 * Out of range or NaN, x86 gives the integer indefinite (only the top bit set); AArch64 saturates, NaN to
 * zero. FRINT32Z and relatives (FEAT_FRINTTS) round to a float that is the indefinite in those cases, so a
 * conversion is two instructions. Without them, FPSR.IOC tells that a conversion was out of range, and the
 * cold path asks a helper. What is out of range is not inexact besides (Intel SDM volume 1, 4.9.1.6): there the
 * inexact flag comes from rounding a second time what the helper has left of the source, the probe. */
#include "lift/vector/sse.h"

/* --- To integers --- */

typedef struct RoundOps {
  uint16_t to32[2], to64[2]; /* current rounding mode, toward zero */
  uint16_t current, inexact; /* without FEAT_FRINTTS: current mode; the same, raising the inexact flag */
} RoundOps;

static const RoundOps round_ops[] = {
    [SSE_PS] = {{IR_FRINT32X_4S, IR_FRINT32Z_4S}, {IR_FRINT64X_4S, IR_FRINT64Z_4S}, IR_FRINTI_4S, IR_FRINTX_4S},
    [SSE_PD] = {{IR_FRINT32X_2D, IR_FRINT32Z_2D}, {IR_FRINT64X_2D, IR_FRINT64Z_2D}, IR_FRINTI_2D, IR_FRINTX_2D},
    [SSE_SS] = {{IR_FRINT32X_S, IR_FRINT32Z_S}, {IR_FRINT64X_S, IR_FRINT64Z_S}, IR_FRINTI_S, IR_FRINTX_S},
    [SSE_SD] = {{IR_FRINT32X_D, IR_FRINT32Z_D}, {IR_FRINT64X_D, IR_FRINT64Z_D}, IR_FRINTI_D, IR_FRINTX_D},
};

/* `value` rounded for a conversion to integers of `bytes`; with FEAT_FRINTTS in range as well. */
static IrVec round_for(Lift *l, SseFormat format, unsigned bytes, bool truncate, IrVec value) {
  const RoundOps *ops = &round_ops[format];
  if (l->features & A64_HAS_FRINT)
    return sse_vv(l, (IrOp)(bytes == 8 ? ops->to64 : ops->to32)[truncate], value);
  return truncate ? value : sse_vv(l, (IrOp)ops->current, value);
}

/* The source, to be rounded by raise_inexact(); IR_NONE where the conversion raises the inexact flag itself. */
static IrVec probe_for(Lift *l, bool truncate, IrVec source) {
  bool raises = truncate || l->features & A64_HAS_FRINT;
  return raises ? (IrVec){IR_NONE} : sse_copy(l, source);
}

static void raise_inexact(Lift *l, SseFormat format, IrVec probe) {
  if (probe.id != IR_NONE) sse_vv(l, (IrOp)round_ops[format].inexact, probe);
}

/* Calls the helper, which mends operand 2 and makes zeros of what is out of range in the probe. */
static void call_helper(Lift *l, uint64_t kind, IrVec value, IrVec probe) {
  bool probes = probe.id != IR_NONE;
  sse_store_operand(l, 0, value);
  if (probes) sse_store_operand(l, 1, probe);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_CONVERT, kind | (probes ? SSE_CONVERT_PROBE : 0));
  if (probes) sse_load_operand(l, 1, probe);
}

/* A cold path, taken when IOC is set, in which the helper mends `result` (vector) or `general`. */
static void mend(Lift *l, uint64_t kind, IrVec value, IrVec probe, IrVec result, IrReg general) {
  IrBuilder *b = &l->b;
  if (l->features & A64_HAS_FRINT) return;
  IrLabel cold = ir_label(b), done = ir_label(b);
  IrReg status = ir_temp(b);
  ir_emit(b, IR_MRS_FPSR, 8, status.id, IR_NONE, IR_NONE, 0);
  ir_tbnz(b, status, 0, cold);
  ir_cold_begin(b);
  ir_bind(b, cold);
  bool vector = general.id == IR_NONE;
  size_t slot = offsetof(GuestCpu, operand[2]);
  if (vector) sse_store_operand(l, 2, result);
  else ir_store_state(b, 8, general, slot);
  call_helper(l, kind, value, probe);
  if (vector) sse_load_operand(l, 2, result);
  else ir_load_state(b, kind & SSE_CONVERT_64 ? 8 : 4, general, slot);
  ir_branch(b, done);
  ir_cold_end(b);
  ir_bind(b, done);
}

/* CVTSS2SI … CVTTSD2SI. argument: SSE_SS or SSE_SD; 4 to truncate. */
void sse_lift_to_general(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  SseFormat format = (SseFormat)(argument & 3);
  unsigned size = insn->operands[0].size == 8 ? 8 : 4;
  IrVec source = sse_scalar_source(l, insn, 1, sse_bytes(format));
  IrVec probe = probe_for(l, argument & 4, source), value = round_for(l, format, size, argument & 4, source);
  IrOp op = sse_is_double(format) ? IR_FCVTZS_GD : IR_FCVTZS_GS;
  if (l->features & A64_HAS_FRINT) {
    ir_rv_raw(&l->b, op, size, lift_gpr(insn->operands[0].reg), value, 0);
    return;
  }
  IrReg d = ir_temp(&l->b);
  ir_rv_raw(&l->b, op, size, d, value, 0);
  mend(l, format | (size == 8 ? SSE_CONVERT_64 : 0), value, probe, (IrVec){IR_NONE}, d);
  raise_inexact(l, format, probe);
  ir_mov(&l->b, size, lift_gpr(insn->operands[0].reg), d);
}

/* Four (two) floats to 32-bit integers. */
static IrVec singles_to_integers(Lift *l, IrVec source, bool truncate) {
  IrVec probe = probe_for(l, truncate, source), value = round_for(l, SSE_PS, 4, truncate, source);
  IrVec result = sse_vv(l, IR_FCVTZS_4S, value);
  mend(l, SSE_PS, value, probe, result, IR_NO_REG);
  raise_inexact(l, SSE_PS, probe);
  return result;
}

/* Two doubles to 32-bit integers, zeros above. */
static IrVec doubles_to_integers(Lift *l, IrVec source, bool truncate) {
  IrVec probe = probe_for(l, truncate, source), value = round_for(l, SSE_PD, 4, truncate, source), result;
  if (l->features & A64_HAS_FRINT) {
    result = sse_vv(l, IR_FCVTZS_2D, value);
    return sse_vv(l, IR_XTN_2S, result);
  }
  result = ir_vector_temp(&l->b);
  call_helper(l, SSE_CONVERT_PD_TO_32, value, probe);
  sse_load_operand(l, 2, result);
  raise_inexact(l, SSE_PD, probe);
  return result;
}

/* CVTPS2DQ, CVTTPS2DQ, CVTPD2DQ, CVTTPD2DQ and, to MMX registers, CVTPS2PI … argument: SSE_PS or SSE_PD; 4 to
 * truncate. */
void sse_lift_to_integers(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  IrVec source = sse_source(l, insn, 1);
  bool wide = sse_is_double((SseFormat)(argument & 3)), truncate = argument & 4;
  unsigned number = insn->operands[0].reg;
  if (!wide && sse_is_mmx(insn, 0)) source = sse_vv(l, IR_FMOV_D, source); /* no flags from above */
  IrVec result = wide ? doubles_to_integers(l, source, truncate)
                      : singles_to_integers(l, source, truncate);
  if (sse_is_mmx(insn, 0)) {
    lift_write_mmx(l, number, result);
    return;
  }
  sse_write(l, number, result);
  if (wide) sse_know_zero_above(l, number, 8);
}

/* --- From integers --- */

/* CVTSI2SS, CVTSI2SD. argument: SSE_SS or SSE_SD. */
void sse_lift_from_general(Lift *l, const X86Insn *insn, uint32_t argument) {
  SseFormat format = (SseFormat)argument;
  unsigned number = insn->operands[0].reg, bytes = sse_bytes(format);
  IrReg value = lift_read(l, insn, 1);
  IrVec d = sse_scalar_target(l, number, bytes);
  ir_vr_raw(&l->b, sse_is_double(format) ? IR_SCVTF_DG : IR_SCVTF_SG, insn->operands[1].size, d, value,
            0);
  sse_write_scalar(l, number, bytes, d);
}

/* CVTDQ2PD, CVTPI2PD. */
void sse_lift_integers_to_doubles(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_vv(l, IR_SXTL_2D, sse_source(l, insn, 1));
  ir_vv(&l->b, IR_SCVTF_2D, sse_result(l, insn), value);
}

/* CVTPI2PS: the upper half stays. */
void sse_lift_cvtpi2ps(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned number = insn->operands[0].reg;
  IrVec source = sse_is_memory(insn, 1) ? sse_source(l, insn, 1)
                                        : lift_read_mmx(l, insn->operands[1].reg);
  IrVec value = sse_vv(l, IR_SCVTF_4S, source);
  ir_vv_raw(&l->b, IR_INS_D, lift_xmm(number), value, 0);
  sse_forget_scalar(l, number);
  l->vectors.zero_above4 &= (uint16_t)~(1u << number);
}

/* --- Between floats and doubles: both sides quiet a NaN and keep its sign and upper fraction --- */

/* CVTSS2SD, CVTSD2SS. argument: the operation; bytes of the result. */
void sse_lift_scalar_precision(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  unsigned number = insn->operands[0].reg, bytes = sse_high(argument);
  IrVec m = sse_scalar_source(l, insn, 1, 12 - bytes), d = sse_scalar_target(l, number, bytes);
  ir_vv(&l->b, (IrOp)sse_low(argument), d, m);
  sse_write_scalar(l, number, bytes, d);
}

/* CVTPS2PD, CVTPD2PS. argument: the operation. */
void sse_lift_precision(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  sse_lift_unary(l, insn, argument);
  if (argument == IR_FCVTN_2S) sse_know_zero_above(l, insn->operands[0].reg, 8);
}
