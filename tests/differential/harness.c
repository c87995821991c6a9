/*
 * Runs generated instruction sequences and writes down the state each leaves behind.
 *
 * One static program without libc, so that it needs almost nothing of whoever runs it: processor or
 * translator. The cases are linked in (struct Case, section .cases): code that is entered with a state
 * made from a seed and leaves through case_done, or by a fault, whose ucontext is then the state. After
 * each case its records go to standard output in one write, so that a translator that dies names its case.
 *
 * The state is compared byte by byte, hence whatever the architecture leaves open is blanked here: flags
 * and x87 condition codes outside a case's masks, the last x87 instruction's address, reserved fields.
 */
#include <stdint.h>
#include <stddef.h>

#define RUNS_MAX 64
#define ARENA_SIZE 2048 /* the memory that sequences read and write; pointers point to its middle */

/* A sequence, as the generator lays it out. */
typedef struct Case {
  const uint8_t *code;
  uint64_t seed;
  uint32_t id;
  uint32_t pointers;   /* registers that point into the arena, by bit */
  uint32_t flags;      /* flags that are defined at the end */
  uint32_t fault_flags; /* and those that a fault's context must have right */
  uint32_t fsw;        /* x87 status bits that are defined at the end */
  uint32_t runs;       /* how many states to run it with */
  uint32_t ymm;        /* not 0: it uses YMM registers, which are part of the state */
  uint32_t filler;
} Case;

/* Offsets are used by entry.S. */
typedef struct State {
  uint64_t gpr[16]; /* 0 */
  uint64_t flags;   /* 128 */
  uint64_t code;    /* 136 */
  uint64_t fault;   /* 144: signal, si_code and trap number, or 0 */
  uint64_t fault_ip; /* 152: relative to the code */
  uint8_t fx[512] __attribute__((aligned(16))); /* 160 */
  uint64_t upper[16][2]; /* 672: bits 255:128 of YMM0-YMM15 */
} State;
_Static_assert(offsetof(State, fx) == 160, "entry.S");

typedef struct Record {
  uint32_t id, run;
  State state;
  uint64_t memory_hash;
  uint64_t filler;
} Record;
_Static_assert(sizeof(Record) == 960, "sequences reads this layout");

extern const Case cases_start[], cases_end[];
extern void enter_case(void);
extern void case_faulted(void);
extern void signal_return(void);
extern void on_alarm(void); /* changes every vector register */
extern const uint64_t signal_microseconds; /* between its calls; 0: none */

State case_in, case_out;
uint32_t case_ymm; /* Case.ymm */
uint8_t arena[ARENA_SIZE] __attribute__((aligned(4096)));
static Record records[RUNS_MAX];
static uint8_t signal_stack[65536] __attribute__((aligned(16)));

static long syscall4(long number, long a, long b, long c, long d) {
  register long r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
}

void *memcpy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

void *memset(void *to, int value, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = value;
  return to;
}

/* --- making states ------------------------------------------------------------------------------ */

static uint64_t random_state;

static uint64_t random64(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t limit) { return random64() % limit; }

/* Values where integer arithmetic changes its mind. */
static uint64_t random_integer(void) {
  static const uint64_t edges[] = {
      0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
      0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
      0xffffffff80000000, 0xffffffffffff8000, 0xffffffffffffff80, 0xfffffffffffffffe, 31, 32, 63, 64};
  switch (random_below(4)) {
  case 0: return edges[random_below(sizeof edges / sizeof *edges)];
  case 1: return random64() >> random_below(64);
  default: return random64();
  }
}

static uint32_t random_float(void) {
  static const uint32_t edges[] = {
      0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
      0x7f800001, 0xff812345, 0x7fc54321, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000,
      0xcf000000, 0x4effffff, 0x5f000000, 0x3f000000, 0x3fc00000, 0x40200000, 0xbf000000, 0x3effffff};
  switch (random_below(4)) {
  case 0: return edges[random_below(sizeof edges / sizeof *edges)];
  case 1: return random64();
  default: return (uint32_t)(random64() & 0x807fffff) | (uint32_t)(112 + random_below(32)) << 23;
  }
}

static uint64_t random_double(void) {
  static const uint64_t edges[] = {
      0x0000000000000000, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000,
      0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
      0x7ff0000000000001, 0xfff4000000054321, 0x7ff8000000012345, 0x0000000000000001,
      0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000,
      0xc1e0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000,
      0x3ff8000000000000, 0x4004000000000000, 0xbfe0000000000000, 0x41dfffffffe00000};
  switch (random_below(4)) {
  case 0: return edges[random_below(sizeof edges / sizeof *edges)];
  case 1: return random64();
  default: return (random64() & 0x800fffffffffffff) | (1008 + random_below(32)) << 52;
  }
}

static void random_vector(uint64_t vector[2]) {
  uint32_t *words = (uint32_t *)vector;
  switch (random_below(4)) {
  case 0:
    for (int i = 0; i < 4; i++) words[i] = random_float();
    return;
  case 1:
    for (int i = 0; i < 2; i++) vector[i] = random_double();
    return;
  default:
    for (int i = 0; i < 2; i++) vector[i] = random_integer();
  }
}

/* An 80-bit number: mostly normal, sometimes any of the special kinds and the unsupported ones. */
static void random_extended(uint8_t *to) {
  uint64_t significand = random64() | 1ull << 63;
  uint16_t exponent = 16383 - 40 + random_below(80);
  switch (random_below(10)) {
  case 0: exponent = 0, significand = random_below(2) ? 0 : random64() >> 1; break;
  case 1: exponent = 0x7fff, significand = random_below(2) ? 1ull << 63 : significand; break;
  case 2: exponent = 16383 + random_below(64), significand &= ~0ull << random_below(64); break;
  case 3: exponent = random_below(0x7fff); break;
  case 4: exponent = 16383, significand = 1ull << 63; break;
  case 5:
    if (random_below(4) == 0) significand &= ~(1ull << 63), exponent = random_below(0x8000);
    break;
  }
  exponent |= random_below(2) << 15;
  memcpy(to, &significand, 8);
  memcpy(to + 8, &exponent, 2);
  memset(to + 10, 0, 6);
}

/* An FXSAVE image (SDM volume 1, 10.5.1): all exceptions masked. Denormals are not flushed: FPCR's one bit
 * does what DAZ and FTZ do only roughly (lift/vector/state.h). */
static void random_fx(uint8_t *fx) {
  static const uint16_t controls[] = {0x37f, 0x37f, 0x37f, 0x37f, 0x27f, 0x77f, 0xb7f, 0xf7f, 0x7f, 0x67f};
  static const uint32_t mxcsrs[] = {0x1f80, 0x1f80, 0x1f80, 0x1f80, 0x3f80, 0x5f80, 0x7f80};
  uint16_t control = controls[random_below(sizeof controls / sizeof *controls)];
  uint32_t mxcsr = mxcsrs[random_below(sizeof mxcsrs / sizeof *mxcsrs)];
  uint16_t status = random_below(8) << 11;
  uint8_t valid = random_below(4) ? 0xff : random64();
  memset(fx, 0, 512);
  memcpy(fx, &control, 2);
  memcpy(fx + 2, &status, 2);
  fx[4] = valid;
  memcpy(fx + 24, &mxcsr, 4);
  for (int i = 0; i < 8; i++) random_extended(fx + 32 + 16 * i);
  for (int i = 0; i < 16; i++) random_vector((uint64_t *)(fx + 160 + 16 * i));
}

static void make_state(const Case *c, uint32_t run) {
  random_state = c->seed * 1000003 + run;
  for (size_t i = 0; i < ARENA_SIZE; i += 16) random_vector((uint64_t *)(arena + i));
  for (int i = 0; i < 16; i++) case_in.gpr[i] = random_integer();
  for (int i = 0; i < 16; i++)
    if (c->pointers >> i & 1) case_in.gpr[i] = (uint64_t)arena + 768 + 16 * random_below(16);
  case_in.gpr[4] = (uint64_t)arena + 1536;
  case_in.flags = (random64() & 0x8d5) | 0x202;
  case_in.code = (uint64_t)c->code;
  random_fx(case_in.fx);
  memset(case_in.upper, 0, sizeof case_in.upper);
  case_ymm = c->ymm;
  for (int i = 0; c->ymm && i < 16; i++)
    if (random_below(4)) random_vector(case_in.upper[i]);
}

/* --- running and recording ---------------------------------------------------------------------- */

/* The kernel's ucontext as far as it is used (arch/x86 uapi sigcontext.h, ucontext.h). */
typedef struct Context {
  uint64_t flags, link, stack[3];
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint64_t segments, error, trap, old_mask, cr2;
  uint8_t *fpstate;
} Context;

/* YMM registers' upper halves in a signal frame (Intel SDM volume 1, 13.4; struct _fpx_sw_bytes and struct
 * _xstate of arch/x86's uapi sigcontext.h). */
static void take_upper(const uint8_t *fpstate) {
  enum { SOFTWARE = 464, FEATURES = SOFTWARE + 8, HEADER = 512, YMM = 576, FP_XSTATE_MAGIC1 = 0x46505853 };
  uint32_t magic, present;
  memcpy(&magic, fpstate + SOFTWARE, sizeof magic);
  memcpy(&present, fpstate + HEADER, sizeof present);
  if (magic == FP_XSTATE_MAGIC1 && fpstate[FEATURES] & 4 && present & 4)
    memcpy(case_out.upper, fpstate + YMM, sizeof case_out.upper);
}

static void on_fault(int signal, const int *info, Context *uc) {
  uint64_t gpr[16] = {uc->rax, uc->rcx, uc->rdx, uc->rbx, uc->rsp, uc->rbp, uc->rsi, uc->rdi,
                      uc->r8,  uc->r9,  uc->r10, uc->r11, uc->r12, uc->r13, uc->r14, uc->r15};
  memcpy(case_out.gpr, gpr, sizeof gpr);
  case_out.flags = uc->eflags;
  case_out.fault = (uint64_t)signal | (uint64_t)(uint32_t)info[2] << 8 | uc->trap << 40;
  case_out.fault_ip = uc->rip - case_in.code;
  if (uc->fpstate) memcpy(case_out.fx, uc->fpstate, 512);
  if (uc->fpstate && case_ymm) take_upper(uc->fpstate);
  uc->rip = (uint64_t)case_faulted;
}

/* The kernel's sigaction. */
typedef struct Action {
  void *handler;
  uint64_t flags;
  void (*restorer)(void);
  uint64_t mask;
} Action;

enum { SIGALRM = 14, ALL_BUT_RESTART = 0x4 | 0x08000000 | 0x04000000 /* SIGINFO ONSTACK RESTORER */, RESTART = 0x10000000 };

static void catch_faults(void) {
  static const int signals[] = {4, 5, 7, 8, 11}; /* SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV */
  uint64_t stack[3] = {(uint64_t)signal_stack, 0, sizeof signal_stack};
  Action action = {(void *)on_fault, ALL_BUT_RESTART, signal_return, 1 << (SIGALRM - 1)};
  syscall4(131, (long)stack, 0, 0, 0);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    syscall4(13, signals[i], (long)&action, 0, 8);
}

static void start_alarms(void) {
  Action action = {(void *)on_alarm, ALL_BUT_RESTART | RESTART, signal_return, 0};
  uint64_t interval[4] = {0, signal_microseconds, 0, signal_microseconds};
  syscall4(13, SIGALRM, (long)&action, 0, 8);
  syscall4(38, 0, (long)interval, 0, 0);
}

static uint64_t hash_arena(void) { /* FNV-1a over words */
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < ARENA_SIZE; i += 8) hash = (hash ^ *(uint64_t *)(arena + i)) * 0x100000001b3;
  return hash;
}

static void blank_undefined(State *state, const Case *c) {
  uint16_t status;
  memcpy(&status, state->fx + 2, 2);
  status &= c->fsw;
  memcpy(state->fx + 2, &status, 2);
  memset(state->fx + 5, 0, 24 - 5);
  memset(state->fx + 28, 0, 4);
  memset(state->fx + 416, 0, 512 - 416);
  state->flags &= (state->fault ? c->fault_flags : c->flags) | 0x400;
  state->code = 0;
}

static void write_all(const void *data, size_t size) {
  while (size > 0) {
    long written = syscall4(1, 1, (long)data, size, 0);
    if (written <= 0) syscall4(231, 1, 0, 0, 0);
    data = (const uint8_t *)data + written;
    size -= written;
  }
}

static void run_case(const Case *c, int dump_memory) {
  for (uint32_t run = 0; run < c->runs; run++) {
    make_state(c, run);
    case_out.fault = case_out.fault_ip = 0;
    memset(case_out.upper, 0, sizeof case_out.upper);
    enter_case();
    Record *record = &records[run];
    record->id = c->id;
    record->run = run;
    record->state = case_out;
    record->memory_hash = hash_arena();
    blank_undefined(&record->state, c);
    if (!dump_memory) continue;
    write_all(record, sizeof *record);
    write_all(&case_in, sizeof case_in);
    write_all(arena, ARENA_SIZE);
  }
  if (!dump_memory) write_all(records, c->runs * sizeof *records);
}

/* With an argument, each record is followed by the state it started from and the arena it left. */
__attribute__((noreturn)) void harness_main(long argc) {
  catch_faults();
  if (signal_microseconds) start_alarms();
  for (const Case *c = cases_start; c < cases_end; c++) run_case(c, argc > 1);
  for (;;) syscall4(231, 0, 0, 0, 0);
}
