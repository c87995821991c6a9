/* The stack frame an x86-64 signal handler finds, and the way back out of it (arch/x86/kernel/signal_64.c's
 * rt_sigframe; the layout is user ABI: struct ucontext and struct _fpstate_64 in
 * arch/x86/include/uapi/asm/). Where CPUID offers XSAVE the floating-point state is an XSAVE area, which a handler knows by
 * two magic numbers; otherwise it is FXSAVE's. */
#include "guest/segments.h"
#include "linux/linux.h"
#include "linux/signals.h"
#include "runtime/runtime.h"
#include "x87/x87.h"
#include "x87/xsave.h"

typedef struct Context { /* struct sigcontext_64 */
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags;
  uint16_t cs, gs, fs, ss;
  uint64_t error_code, vector, old_mask, address, fpstate, reserved[8];
} Context;
_Static_assert(sizeof(Context) == 256, "kernel ABI");

typedef struct Frame { /* struct rt_sigframe */
  uint64_t return_address;
  uint64_t flags, link; /* struct ucontext from here */
  LinuxStack stack;
  Context context;
  uint64_t mask; /* its end */
  LinuxSiginfo info;
} Frame;
_Static_assert(sizeof(Frame) == 440, "kernel ABI");

/* struct _fpx_sw_bytes, the last of FXSAVE's image. */
typedef struct Software {
  uint32_t magic, extended_size;
  uint64_t features;
  uint32_t size, padding[7];
} Software;
_Static_assert(sizeof(Software) == 48 && sizeof(Software) <= sizeof((FxImage *)0)->unused, "kernel ABI");

typedef struct FpArea {
  XsaveImage image;
  uint32_t magic; /* where there is an XSAVE area */
} FpArea;
_Static_assert(offsetof(FpArea, magic) == sizeof(XsaveImage), "kernel ABI");

enum {
  FP_AREA_SIZE = offsetof(FpArea, magic) + sizeof(uint32_t),
  XSTATE_MAGIC1 = 0x46505853,
  XSTATE_MAGIC2 = 0x46505845,
  UC_FP_XSTATE = 1,
  FLAG_RF = 1 << 16,
  UC_SIGCONTEXT_SS = 2,
  UC_STRICT_RESTORE_SS = 4,
  GUEST_SA_ONSTACK = 0x08000000,
  STACK_DISABLED = 2,
  STACK_ON = 1,
  RED_ZONE = 128
};

static bool has_xsave(void) { return linux_program.cpu_level >= LINUX_CPU_V3; }

static size_t area_size(void) { return has_xsave() ? FP_AREA_SIZE : sizeof(FxImage); }

static Software *software_of(FpArea *area) {
  return (Software *)((uint8_t *)&area->image.fx + sizeof(FxImage) - sizeof(Software));
}

uint64_t linux_frame_size(void) {
  return sizeof(Frame) + area_size() + 64 + 16 + RED_ZONE; /* alignment of both, and the red zone */
}

static void save_fp(const GuestCpu *cpu, FpArea *area) {
  memset(area, 0, sizeof *area);
  xsave_get_fx(cpu, &area->image.fx);
  if (!has_xsave()) return;
  area->image.present = xsave_in_use(cpu) | XSAVE_X87 | XSAVE_SSE; /* those are said to be there in any case */
  memcpy(area->image.upper, cpu->upper, sizeof cpu->upper);
  *software_of(area) = (Software){.magic = XSTATE_MAGIC1, .extended_size = FP_AREA_SIZE, .features = XSAVE_ALL,
                                  .size = sizeof(XsaveImage)};
  area->magic = XSTATE_MAGIC2;
}

/* How much of the area at `fpstate` there is: all, or where the magic numbers or sizes are not right (check_xstate_in_
 * sigframe() of arch/x86/kernel/fpu/signal.c) what FXSAVE has. -EFAULT. */
static int read_fp(FpArea *area, uint64_t fpstate, bool *ret_extended) {
  const Software *software = software_of(area);
  uint32_t magic;
  *ret_extended = false;
  if (linux_copy_in(&area->image.fx, fpstate, sizeof(FxImage)) < 0) return -EFAULT;
  if (!has_xsave() || software->magic != XSTATE_MAGIC1 || software->size < offsetof(XsaveImage, upper) ||
      software->size > sizeof(XsaveImage) || software->size > software->extended_size)
    return 0;
  if (linux_copy_in(&magic, fpstate + software->size, sizeof magic) < 0) return -EFAULT;
  if (magic != XSTATE_MAGIC2) return 0;
  *ret_extended = true;
  return linux_copy_in(area, fpstate, software->size) < 0 ? -EFAULT : 0;
}

/* Whether XRSTOR or, where the area isn't extended, FXRSTOR takes it (Intel SDM volume 1, 13.8 and 10.5.2). */
static bool fp_is_right(const FpArea *area, uint64_t fpstate, bool extended) {
  if (area->image.fx.mxcsr & ~(uint32_t)XSAVE_MXCSR_MASK) return false;
  return extended ? !(fpstate & 63) && xsave_header_is_right(&area->image) : !(fpstate & 15);
}

/* Components that are not in the area become as after reset. */
static void restore_fp(GuestCpu *cpu, FpArea *area, bool extended) {
  XsaveImage *image = &area->image;
  if (!extended) image->present = XSAVE_X87 | XSAVE_SSE;
  else image->present &= software_of(area)->features;
  xsave_set(cpu, image, XSAVE_ALL);
  cpu->mxcsr = image->fx.mxcsr & XSAVE_MXCSR_MASK;
}

/* Floating-point state as a handler starts with it. */
static void reset_fp(GuestCpu *cpu) {
  static const XsaveImage empty;
  xsave_set(cpu, &empty, XSAVE_ALL);
  cpu->mxcsr = GUEST_MXCSR_DEFAULT;
}

static void save_registers(const GuestCpu *cpu, Context *context) {
  const uint64_t *gpr = cpu->gpr;
  *context = (Context){.r8 = gpr[R8],   .r9 = gpr[R9],   .r10 = gpr[R10], .r11 = gpr[R11],
                       .r12 = gpr[R12], .r13 = gpr[R13], .r14 = gpr[R14], .r15 = gpr[R15],
                       .rdi = gpr[RDI], .rsi = gpr[RSI], .rbp = gpr[RBP], .rbx = gpr[RBX],
                       .rdx = gpr[RDX], .rax = gpr[RAX], .rcx = gpr[RCX], .rsp = gpr[RSP],
                       .rip = cpu->rip, .flags = guest_flags_get(cpu), .cs = 0x33, .ss = 0x2b};
}

/* Flags that a handler's return sets; the others stay as they are (FIX_EFLAGS in arch/x86/kernel/signal_64.c). */
static uint64_t returned_flags(const GuestCpu *cpu, uint64_t flags) {
  enum { RETURNED = 0x50dd5 }; /* CF PF AF ZF SF TF DF OF RF AC */
  return (guest_flags_get(cpu) & ~(uint64_t)RETURNED) | (flags & RETURNED);
}

static void restore_registers(GuestCpu *cpu, const Context *context) {
  const uint64_t gpr[16] = {context->rax, context->rcx, context->rdx, context->rbx,
                            context->rsp, context->rbp, context->rsi, context->rdi,
                            context->r8,  context->r9,  context->r10, context->r11,
                            context->r12, context->r13, context->r14, context->r15};
  memcpy(cpu->gpr, gpr, sizeof gpr);
  cpu->rip = context->rip;
  guest_flags_set(cpu, returned_flags(cpu, context->flags));
}

static bool on_alternate(const LinuxStack *stack, uint64_t rsp) {
  return !(stack->flags & STACK_DISABLED) && rsp > stack->address && rsp - stack->address <= stack->size;
}

/* The stack pointer before anything is put there. */
static uint64_t frame_stack(const LinuxThread *thread, const LinuxAction *action) {
  uint64_t rsp = thread->cpu->gpr[RSP];
  const LinuxStack *stack = &thread->alternate;
  bool usable = stack->size && !(stack->flags & STACK_DISABLED);
  if (!(action->flags & GUEST_SA_ONSTACK) || !usable || linux_on_alternate_stack(thread)) return rsp - RED_ZONE;
  return stack->address + stack->size;
}

bool linux_on_alternate_stack(const LinuxThread *thread) {
  if (thread->alternate.flags & (int32_t)SS_AUTODISARM_BIT) return false;
  return thread->alternate.size && on_alternate(&thread->alternate, thread->cpu->gpr[RSP]);
}

static void enter_handler(GuestCpu *cpu, const LinuxSiginfo *info, const LinuxAction *action, uint64_t frame) {
  cpu->gpr[RDI] = (uint64_t)info->signal;
  cpu->gpr[RSI] = frame + offsetof(Frame, info);
  cpu->gpr[RDX] = frame + offsetof(Frame, flags);
  cpu->gpr[RAX] = 0;
  cpu->gpr[RSP] = frame;
  cpu->rip = action->handler;
  uint64_t flags = guest_flags_get(cpu);
  guest_flags_set(cpu, flags & ~(UINT64_C(1) << 8 | UINT64_C(1) << 10)); /* TF, DF */
  reset_fp(cpu);
}

/* Faults push RF, and traps after any round of a repeated instruction but the last; other traps (vectors 1, 3 and 4) do not
 * (Intel SDM volume 3, 17.3.1.1). */
static bool pushes_rf(const LinuxFault *fault) {
  return fault->vector == 1 ? fault->error_code : fault->vector != 3 && fault->vector != 4;
}

int linux_frame_build(LinuxThread *thread, const LinuxSiginfo *info, const LinuxAction *action,
                      const LinuxFault *fault, uint64_t saved_mask) {
  GuestCpu *cpu = thread->cpu;
  uint64_t fpstate = (frame_stack(thread, action) - area_size()) & ~UINT64_C(63);
  uint64_t at = ((fpstate - sizeof(Frame)) & ~UINT64_C(15)) - 8; /* RSP is 8 off 16 at a function's start */
  FpArea area;
  Frame frame = {.return_address = action->restorer,
                 .flags = (has_xsave() ? UC_FP_XSTATE : 0) | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
                 .stack = thread->alternate,
                 .mask = saved_mask,
                 .info = *info};
  if (linux_on_alternate_stack(thread)) frame.stack.flags |= STACK_ON;
  if (!thread->alternate.size) frame.stack.flags = STACK_DISABLED;
  save_registers(cpu, &frame.context);
  frame.context.fpstate = fpstate;
  frame.context.old_mask = saved_mask;
  if (fault) {
    frame.context.vector = fault->vector;
    frame.context.error_code = fault->vector == 1 ? 0 : fault->error_code;
    frame.context.address = fault->address;
    if (pushes_rf(fault)) frame.context.flags |= FLAG_RF;
  }
  save_fp(cpu, &area);
  if (linux_copy_out(fpstate, &area, area_size()) || linux_copy_out(at, &frame, sizeof frame))
    return -EFAULT;
  if (thread->alternate.flags & (int32_t)SS_AUTODISARM_BIT) /* the handler starts without it */
    thread->alternate = (LinuxStack){.flags = STACK_DISABLED};
  enter_handler(cpu, info, action, at);
  return 0;
}

/* FXSAVE's state, or what XSAVE has more, as the frame says; -EFAULT where the kernel would find that it cannot. */
static int return_fp(GuestCpu *cpu, uint64_t fpstate) {
  FpArea area;
  bool extended;
  if (!fpstate) {
    reset_fp(cpu);
    return 0;
  }
  if (read_fp(&area, fpstate, &extended) < 0 || !fp_is_right(&area, fpstate, extended)) return -EFAULT;
  restore_fp(cpu, &area, extended);
  runtime_float_traps(cpu);
  return 0;
}

/* What IRET, by which the kernel returns, makes of the frame's selectors: GUEST_SELECTOR_FINE or #GP's error code. SS counts
 * where the frame says that it was kept. */
static int check_selectors(const Frame *frame) {
  enum { RPL = 3 };
  int error = guest_check_code(frame->context.cs | RPL, true);
  if (error != GUEST_SELECTOR_FINE || !(frame->flags & UC_STRICT_RESTORE_SS)) return error;
  return guest_check_data(frame->context.ss | RPL, true);
}

int64_t sys_rt_sigreturn(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  Frame frame;
  int error = 0;
  bool bad = linux_copy_in(&frame, cpu->gpr[RSP] - 8, sizeof frame) < 0;
  if (!bad) {
    linux_set_mask(thread, frame.mask);
    restore_registers(cpu, &frame.context);
    bad = return_fp(cpu, frame.context.fpstate) < 0;
  }
  if (!bad) {
    linux_set_alternate(thread, &frame.stack);
    error = check_selectors(&frame);
  }
  if (bad || error != GUEST_SELECTOR_FINE) linux_raise_exception(cpu, 13, 0, (uint64_t)error);
  return LINUX_STATE_SET;
}
