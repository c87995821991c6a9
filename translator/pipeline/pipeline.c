/* The list of passes, as code. */
#include "pipeline/pipeline.h"

#include "base/base.h"
#include "opt/opt.h"

enum { CODE_WORDS = PIPELINE_CODE_BYTES / 4, RELOCATIONS = 4096 };

Pipeline *pipeline_new(void) {
  Pipeline *p = base_pages_alloc(sizeof *p);
  IrInsn *insns = base_pages_alloc(IR_MAX_INSNS * sizeof *insns);
  uint32_t *words = base_pages_alloc(CODE_WORDS * sizeof *words);
  A64Relocation *relocations = base_pages_alloc(RELOCATIONS * sizeof *relocations);
  A64Emitter *emitter = base_pages_alloc(a64_emitter_size());
  if (!p || !insns || !words || !relocations || !emitter) return NULL;
  p->emitter = emitter;
  p->lift.b.insns = insns;
  p->code.words = words;
  p->code.capacity = CODE_WORDS;
  p->code.relocations = relocations;
  p->code.relocation_capacity = RELOCATIONS;
  return p;
}

void pipeline_analyse(Pipeline *p, const RegionWindow *window, uint64_t pc, uint32_t max_insns, uint32_t max_straight) {
  region_decode(&p->region, window, pc, max_insns, max_straight);
  region_analyse(&p->region);
}

/* Everything behind the analysis, up to words. */
static A64EmitStatus make_words(Pipeline *p, bool hasty, const A64EmitOptions *options) {
  lift_region(&p->lift, &p->region);
  if (p->lift.b.overflow) return A64_EMIT_TOO_LARGE;
  if (!hasty) opt_run(&p->lift.b);
  return a64_emit(p->emitter, &p->lift.b, options, &p->code);
}

/* Takes homes of upper halves away, which left too few registers to others: one of many, two of few. False where there are
 * none. */
static bool leave_out_homes(Lift *l) {
  enum { MANY = 11 };
  unsigned count = 0;
  for (unsigned homes = l->uppers.homes; homes; homes &= homes - 1) count++;
  unsigned step = count > MANY ? 1 : count > 2 ? 2 : count;
  l->homes_left_out = (uint8_t)(A64_UPPER_HOMES - (count - step));
  return count > 0;
}

A64EmitStatus pipeline_generate(Pipeline *p, const PipelineTarget *target) {
  p->lift.features = target->features;
  p->lift.ordered = target->ordered;
  p->lift.extended = !target->without_avx;
  p->lift.entry_x87_top = (uint8_t)target->x87_top;
  A64EmitOptions options = {.guest_entry = p->region.entry, .features = target->features, .ordered = target->ordered,
                            .is_misaligned = target->is_misaligned};
  p->lift.homes_left_out = 0;
  A64EmitStatus status = make_words(p, target->hasty, &options);
  while (status == A64_EMIT_OUT_OF_REGISTERS && leave_out_homes(&p->lift)) status = make_words(p, target->hasty, &options);
  if (status != A64_EMIT_OK) return status;
  return a64_make_tables(&p->code, p->region.entry, &p->table_room, &p->tables) ? A64_EMIT_OK : A64_EMIT_TOO_LARGE;
}
