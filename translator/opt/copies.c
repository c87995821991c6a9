/* MOV d, n; …; OP d, d, m → …; OP d, n, m
 *
 * x86 has two operands where AArch64 has three, so a register is copied before it is changed. Where nothing between the
 * copy and the change can fault or branch, the copy is not needed: what reads it reads the original; and where the
 * original changes in between, the copy's change can be made first. The guest instructions from the copy to the change
 * become one, as the register's state between them is no longer made. */
#include "opt/opt.h"

enum { REACH = 16, MAX_READS = 8 };

typedef struct Copy {
  unsigned d, n, kind; /* IR_KIND_G or IR_KIND_V */
  bool word;           /* of a copy of 32 bits, the others being zeros */
  bool original_changed;
  uint32_t written; /* host registers of the kind written since */
  unsigned reads;
  uint16_t *read[MAX_READS]; /* operands that name the copy */
  IrInsn *reader[MAX_READS];
} Copy;

static bool is_plain(const IrInsn *insn) {
  if (ir_op_info[insn->op].effects & ~(IR_EFFECT_RF | IR_EFFECT_WF)) return false;
  if (!ir_op_info[insn->op].pseudo) return true;
  return insn->op == IR_MOV || insn->op == IR_CONST || insn->op == IR_GUEST_ADDRESS || insn->op == IR_NOP;
}

/* Whether the operation reads no more of a general register than a copy of 32 bits has. */
static bool reads_word(const IrInsn *insn) {
  return insn->size == 4 && (ir_op_info[insn->op].sf || insn->op == IR_MOV);
}

static bool writes_of_kind(const IrInsn *insn, unsigned k, unsigned kind) {
  unsigned both = kind | IR_KIND_D;
  return (ir_op_info[insn->op].kind[k] & both) == both;
}

static void note_writes(Copy *c, const IrInsn *insn) {
  for (unsigned k = 0; k < 4; k++)
    if (writes_of_kind(insn, k, c->kind) && insn->reg[k] < IR_TEMP_FIRST) c->written |= 1u << insn->reg[k];
}

/* Whether the operation, which changes the copy alone, may stand where the copy is made. */
static bool may_come_first(const Copy *c, const IrInsn *insn) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  if (info->pseudo || info->effects || insn->temps || c->reads) return false;
  for (unsigned k = 1; k < 4; k++) {
    unsigned kind = info->kind[k];
    if (kind == IR_KIND_N || insn->reg[k] == c->d) continue;
    if (!(kind & c->kind) || c->written >> insn->reg[k] & 1) return false;
  }
  return true;
}

/* What an operation does with the copy. */
typedef enum Step { GO_ON, REPLACED, GIVE_UP } Step;

static Step step(Copy *c, IrInsn *insn) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  bool replaced = false;
  for (unsigned k = 0; k < 4; k++) {
    unsigned kind = info->kind[k], id = insn->reg[k];
    if (!(kind & c->kind) || (id != c->d && id != c->n)) continue;
    if (id == c->n) {
      c->original_changed |= (kind & IR_KIND_D) != 0;
      continue;
    }
    if (kind & IR_KIND_D) {
      if (kind & IR_KIND_U) return GIVE_UP;
      replaced = true;
      continue;
    }
    if ((c->word && !reads_word(insn)) || c->reads == MAX_READS) return GIVE_UP;
    c->read[c->reads] = &insn->reg[k];
    c->reader[c->reads++] = insn;
  }
  return replaced ? REPLACED : GO_ON;
}

/* Has what reads the copy read the original. */
static void rename_reads(const Copy *c) {
  for (unsigned i = 0; i < c->reads; i++) {
    *c->read[i] = (uint16_t)c->n;
    ir_note_temps(c->reader[i]);
  }
}

static void forward(IrBuilder *b, uint32_t at) {
  IrInsn *move = &b->insns[at];
  bool vector = move->op == IR_MOV_16B;
  if ((!vector && move->op != IR_MOV) || move->temps || move->reg[0] == move->reg[1]) return;
  Copy c; /* its arrays are not worth clearing for each move */
  c.d = move->reg[0];
  c.n = move->reg[1];
  c.kind = vector ? IR_KIND_V : IR_KIND_G;
  c.word = !vector && move->size == 4;
  c.original_changed = false;
  c.written = 0;
  c.reads = 0;
  uint32_t end = at + 1, limit = at + REACH < b->count ? at + REACH : b->count;
  for (;; end++) {
    if (end == limit) return;
    IrInsn *insn = &b->insns[end];
    if (insn->op == IR_GUEST) continue;
    unsigned reads = c.reads;
    bool first = may_come_first(&c, insn);
    Step taken = is_plain(insn) ? step(&c, insn) : GIVE_UP;
    if (taken == GIVE_UP) return;
    if (c.original_changed) {
      if (taken == GO_ON && reads == 0 && c.reads == 0) {
        note_writes(&c, insn);
        continue;
      }
      if (taken != REPLACED || !first) return;
      rename_reads(&c);
      *move = *insn;
      opt_drop(insn);
      break;
    }
    if (taken == REPLACED) {
      rename_reads(&c);
      break;
    }
    note_writes(&c, insn);
  }
  for (uint32_t i = at; i < end; i++)
    if ((i == at && !c.original_changed) || b->insns[i].op == IR_GUEST) opt_drop(&b->insns[i]);
}

void opt_copies(IrBuilder *b) {
  for (unsigned i = 0; i < b->copy_count; i++) forward(b, b->copies[i]);
}
