/* Control and status as programs see them, stack faults, environments and images.
 *
 * The register file's rotation (guest/state.h) ends here: everything that leaves this file is numbered as
 * the architecture does. Layouts: Intel SDM volume 1, 8.1.10 and volume 1, 10.5.1. */
#include "x87/float.h"

static void copy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
}

static unsigned architectural_top(const GuestX87 *x) {
  return (unsigned)(x->top - x->rotation) & 7;
}

static void set_control(GuestX87 *x, uint16_t control) {
  enum { USUAL = X87_CONTROL_USUAL | X87_PE };
  x->control = (control & 0x1f3f) | 0x40; /* the bits that exist; bit 6 reads as 1 */
  x->unusual = (control & (X87_CONTROL_RC_PC | X87_PE)) != USUAL;
}

static void set_status(GuestX87 *x, uint16_t status) {
  x->inexact = 0;
  x->status = status & ~(7 << 11 | X87_C1 | X87_ES | X87_BUSY);
  x87_set_c1(x, status & X87_C1);
  x->top = (uint8_t)((status >> 11) + x->rotation) & 7;
}

/* ES follows FSW's exceptions and FCW's masks. */
static void update_pending(GuestX87 *x) {
  if (x->inexact) x->status |= X87_PE;
  x->inexact = 0;
  x->status &= ~(X87_ES | X87_BUSY);
  x->top &= 7;
  if (x->status & ~x->control & X87_EXCEPTIONS) x87_set_pending(x);
}

uint16_t x87_status_word(const GuestX87 *x) {
  return (uint16_t)(x->status | architectural_top(x) << 11 | (guest_x87_c1(x) ? X87_C1 : 0) | (x->inexact ? X87_PE : 0));
}

static unsigned tag_of(const GuestX87Register *r) {
  enum { VALID, ZERO, SPECIAL };
  if (!(r->sign_exponent & X87_EXPONENT) && !r->significand) return ZERO;
  return x87_is_normal(r->significand, r->sign_exponent) ? VALID : SPECIAL;
}

uint16_t x87_tag_word(const GuestX87 *x) {
  enum { EMPTY = 3 };
  unsigned tags = 0;
  for (unsigned slot = 0; slot < 8; slot++) {
    unsigned tag = x->valid >> slot & 1 ? tag_of(&x->reg[slot]) : EMPTY;
    tags |= tag << (((slot - x->rotation) & 7) * 2);
  }
  return (uint16_t)tags;
}

/* Moves the file so that ST(0) is in the slot given. */
static void rotate(GuestX87 *x, unsigned slot) {
  unsigned by = (slot - x->top) & 7;
  GuestX87Register old[8];
  if (!by) return;
  for (unsigned i = 0; i < 8; i++) old[i] = x->reg[i];
  for (unsigned i = 0; i < 8; i++) x->reg[(i + by) & 7] = old[i];
  x->valid = (uint8_t)(x->valid << by | x->valid >> (8 - by));
  x->rotation = (x->rotation + by) & 7;
  x->top = (uint8_t)((x->top & GUEST_X87_PENDING) | slot);
}

/* Physical registers in the slots of their numbers. */
static void rotate_home(GuestX87 *x) {
  rotate(x, architectural_top(x));
}

/* A block was translated for ST(0) in the slot of the argument. */
void x87_rotate(GuestCpu *cpu, uint64_t slot) {
  rotate(&cpu->x87, (unsigned)slot);
}

/* An MMX instruction begins: TOP 0 and all registers in use (SDM volume 1, 9.2.1). */
void x87_enter_mmx(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  rotate_home(x);
  x->top &= GUEST_X87_PENDING;
  x->valid = 0xff;
}

/* --- Stack faults: the whole instruction happens here --- */

/* Arguments of x87_underflow: a set of slots that receive the default NaN, then what the instruction does
 * (lift/x87/x87.h). */
enum {
  UNDERFLOW_POPS_SHIFT = 8,
  UNDERFLOW_COMPARES = 1 << 10,
  UNDERFLOW_PUSHES = 1 << 11,
  UNDERFLOW_REDUCES = 1 << 12,
  UNDERFLOW_EXCHANGES = 1 << 13,
  UNDERFLOW_MARKS = 1 << 14
};

static bool stack_fault(GuestX87 *x, unsigned c1) {
  x87_set_c1(x, c1);
  x->status |= X87_SF;
  return !x87_raise_before(x, X87_IE, 0);
}

static void move_top(GuestX87 *x, int by) {
  x->top = (uint8_t)((x->top & GUEST_X87_PENDING) | ((x->top + by) & 7));
}

/* The registers of a set of two, or one. */
static void exchange(GuestX87 *x, unsigned slots) {
  GuestX87Register *a = &x->reg[__builtin_ctz(slots)], *b = &x->reg[31 - __builtin_clz(slots)], old = *a;
  *a = *b;
  *b = old;
}

/* An operand is empty. */
void x87_underflow(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  enum { UNORDERED_NZCV = 0x30000000 };
  x->transfer[0] = UNORDERED_NZCV;
  if (argument & UNDERFLOW_COMPARES) x->status |= X87_CONDITIONS;
  if (argument & UNDERFLOW_REDUCES) x->status &= ~X87_C2;
  if (!stack_fault(x, 0)) return;
  unsigned filled = argument & 0xff;
  if (argument & UNDERFLOW_EXCHANGES) filled &= ~x->valid;
  for (unsigned slot = 0; slot < 8; slot++)
    if (filled >> slot & 1 && !(argument & UNDERFLOW_MARKS)) x87_store_default_nan(&x->reg[slot]);
  x->valid |= (uint8_t)filled;
  if (argument & UNDERFLOW_EXCHANGES) exchange(x, argument & 0xff);
  for (unsigned pops = argument >> UNDERFLOW_POPS_SHIFT & 3; pops; pops--) {
    x->valid &= ~(1 << (x->top & 7));
    move_top(x, 1);
  }
  if (argument & UNDERFLOW_PUSHES) move_top(x, -1);
}

/* A push finds its register in use. */
void x87_overflow(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  if (!stack_fault(x, 1)) return;
  move_top(x, -1);
  x87_store_default_nan(x87_st(x, 0));
}

/* As above, for instructions with two results: ST(0) receives a NaN too. Argument 1 clears C2. */
void x87_overflow_two(GuestCpu *cpu, uint64_t clear_c2) {
  GuestX87 *x = &cpu->x87;
  if (clear_c2) x->status &= ~X87_C2;
  if (!stack_fault(x, 1)) return;
  x87_store_default_nan(x87_st(x, 0));
  move_top(x, -1);
  x87_store_default_nan(x87_st(x, 0));
}

/* --- Control instructions --- */

void x87_fldcw(GuestCpu *cpu, uint64_t value) {
  set_control(&cpu->x87, (uint16_t)value);
  update_pending(&cpu->x87);
}

/* transfer[0] receives FSW. */
void x87_fnstsw(GuestCpu *cpu, uint64_t argument) {
  cpu->x87.transfer[0] = x87_status_word(&cpu->x87);
}

void x87_fnclex(GuestCpu *cpu, uint64_t argument) {
  cpu->x87.status &= X87_CONDITIONS;
  cpu->x87.inexact = 0;
  update_pending(&cpu->x87);
}

void x87_init(GuestX87 *x) {
  rotate_home(x);
  set_control(x, GUEST_FCW_DEFAULT);
  set_status(x, 0);
  x->valid = 0;
  x->opcode = 0;
  x->instruction_pointer = x->data_pointer = 0;
}

void x87_fninit(GuestCpu *cpu, uint64_t argument) {
  x87_init(&cpu->x87);
}

/* --- Environments: 28 bytes in transfer[], 14 where the argument is not 0 (operand size 2) --- */

enum { ENV_UPPER = 0xffff }; /* unused halves of the environment's words */

static uint32_t *environment(GuestX87 *x) {
  return (uint32_t *)((char *)x + offsetof(GuestX87, transfer));
}

/* Without FOP; FCS and FDS are 0, as CPUID says (leaf 7, EBX bit 13). */
static void store_environment_16(GuestX87 *x) {
  const uint16_t words[7] = {x->control, x87_status_word(x), x87_tag_word(x),          (uint16_t)x->instruction_pointer,
                             0,          (uint16_t)x->data_pointer, 0};
  copy(environment(x), words, sizeof words);
}

static void store_environment_32(GuestX87 *x) {
  uint32_t *env = environment(x);
  env[0] = x->control | (uint32_t)ENV_UPPER << 16;
  env[1] = x87_status_word(x) | (uint32_t)ENV_UPPER << 16;
  env[2] = x87_tag_word(x) | (uint32_t)ENV_UPPER << 16;
  env[3] = (uint32_t)x->instruction_pointer;
  env[4] = (uint32_t)x->opcode << 16;
  env[5] = (uint32_t)x->data_pointer;
  env[6] = (uint32_t)ENV_UPPER << 16;
}

void x87_fnstenv(GuestCpu *cpu, uint64_t is_16) {
  if (is_16) store_environment_16(&cpu->x87);
  else store_environment_32(&cpu->x87);
}

/* FNSTENV's second half, after the stores: masks all exceptions. */
void x87_mask_all(GuestCpu *cpu, uint64_t argument) {
  set_control(&cpu->x87, cpu->x87.control | X87_EXCEPTIONS);
  update_pending(&cpu->x87);
}

static void load_words(GuestX87 *x, uint16_t control, uint16_t status, uint16_t tags) {
  rotate_home(x);
  set_control(x, control);
  set_status(x, status);
  x->valid = 0;
  for (unsigned i = 0; i < 8; i++)
    if ((tags >> (i * 2) & 3) != 3) x->valid |= 1 << i;
}

static void load_environment_16(GuestX87 *x) {
  uint16_t words[7];
  copy(words, environment(x), sizeof words);
  load_words(x, words[0], words[1], words[2]);
  x->instruction_pointer = words[3];
  x->opcode = 0;
  x->data_pointer = words[5];
}

static void load_environment_32(GuestX87 *x) {
  const uint32_t *env = environment(x);
  load_words(x, (uint16_t)env[0], (uint16_t)env[1], (uint16_t)env[2]);
  x->instruction_pointer = env[3];
  x->opcode = env[4] >> 16 & 0x7ff;
  x->data_pointer = env[5];
}

void x87_fldenv(GuestCpu *cpu, uint64_t is_16) {
  if (is_16) load_environment_16(&cpu->x87);
  else load_environment_32(&cpu->x87);
  update_pending(&cpu->x87);
}

/* FNSAVE's first half: the environment, and ST(i) in slot i. */
void x87_fnsave(GuestCpu *cpu, uint64_t is_16) {
  rotate(&cpu->x87, 0);
  x87_fnstenv(cpu, is_16);
}

/* FRSTOR but for the registers, which the caller puts into slot i for ST(i). */
void x87_frstor(GuestCpu *cpu, uint64_t is_16) {
  x87_fldenv(cpu, is_16);
  rotate(&cpu->x87, 0);
}

/* --- FXSAVE images --- */

/* The first 32 bytes, but for MXCSR, in transfer[0..2]. */
static void fxsave_header(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  uint8_t turned = (uint8_t)(x->valid >> x->rotation | x->valid << (8 - x->rotation));
  x->transfer[0] = x->control | (uint64_t)x87_status_word(x) << 16 | (uint64_t)turned << 32 |
                   (uint64_t)x->opcode << 48;
  x->transfer[1] = x->instruction_pointer;
  x->transfer[2] = x->data_pointer;
}

/* What FXSAVE needs: the above, and ST(i) in slot i. */
void x87_fxsave(GuestCpu *cpu, uint64_t argument) {
  rotate(&cpu->x87, 0);
  fxsave_header(cpu, 0);
}

/* The reverse; the registers are restored by the caller, ST(i) to slot top + i. */
static void fxrstor_header(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  uint64_t header = x->transfer[0];
  x->rotation = 0;
  set_control(x, (uint16_t)header);
  set_status(x, (uint16_t)(header >> 16));
  x->valid = (uint8_t)(header >> 32);
  x->opcode = (uint16_t)(header >> 48) & 0x7ff;
  x->instruction_pointer = x->transfer[1];
  x->data_pointer = x->transfer[2];
  update_pending(x);
}

/* What FXRSTOR needs: ST(i) in slot i. */
void x87_fxrstor(GuestCpu *cpu, uint64_t argument) {
  fxrstor_header(cpu, 0);
  rotate(&cpu->x87, 0);
}

void x87_fxsave_image(const GuestX87 *x, void *image) {
  GuestCpu scratch;
  uint8_t *bytes = image;
  scratch.x87 = *x;
  fxsave_header(&scratch, 0);
  copy(bytes, scratch.x87.transfer, 24);
  for (unsigned i = 0; i < 8; i++) {
    const GuestX87Register *r = &x->reg[(x->top + i) & 7];
    uint64_t high = r->sign_exponent;
    copy(bytes + 32 + i * 16, &r->significand, 8);
    copy(bytes + 40 + i * 16, &high, 8);
  }
}

void x87_fxrstor_image(GuestX87 *x, const void *image) {
  GuestCpu scratch;
  const uint8_t *bytes = image;
  copy(scratch.x87.transfer, bytes, 24);
  fxrstor_header(&scratch, 0);
  for (unsigned i = 0; i < 8; i++) {
    GuestX87Register *r = x87_st(&scratch.x87, i);
    copy(&r->significand, bytes + 32 + i * 16, 8);
    copy(&r->sign_exponent, bytes + 40 + i * 16, 2);
    copy(r->reserved, (const uint16_t[3]){0}, sizeof r->reserved);
  }
  *x = scratch.x87;
}
