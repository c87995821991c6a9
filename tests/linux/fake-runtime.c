/* A runtime without a translator, to test the Linux layer by itself: runtime_run() feeds system calls and
 * looks at what became of the registers and memory, where guest code would do it (cases.c). It keeps the
 * contract of runtime/runtime.h as far as the layer can see. */
#include "linux/linux.h"
#include "runtime/runtime.h"
#include "tests/linux/cases.h"

int runtime_init(const RuntimeOptions *options) { return 0; }

GuestCpu *runtime_thread_new(const GuestCpu *like) {
  GuestCpu *cpu = base_alloc(sizeof *cpu);
  if (!cpu) return NULL;
  if (like) *cpu = *like;
  else guest_cpu_reset(cpu);
  cpu->lock_name = BASE_LOCK_UNKNOWN;
  return cpu;
}

void runtime_thread_free(GuestCpu *cpu) { base_free(cpu); }

void runtime_before_fork(void) {}

void runtime_after_fork_in_parent(void) {}

void runtime_after_fork(GuestCpu *cpu) {}

unsigned fake_changes;
void runtime_memory_changed(uint64_t start, uint64_t length) { fake_changes++; }

unsigned fake_shared;
void runtime_memory_shared(void) { fake_shared++; }

void runtime_change_begin(void) {}

void runtime_change_end(uint64_t start, uint64_t length) { fake_changes++; }

void runtime_concurrent(void) {}

void runtime_float_traps(const GuestCpu *cpu) {}

void runtime_write_begin(uint64_t start, uint64_t length) {}

void runtime_write_end(uint64_t start, uint64_t length) {}

void runtime_write_expected(uint64_t start, uint64_t length) {}

bool runtime_has_writable_code(void) { return false; }
uint32_t runtime_features(uint64_t hwcap, uint64_t hwcap2) { return 0; }
bool runtime_has_image(uint64_t file) { return true; }
bool runtime_takes_images(void) { return false; }
void runtime_use_store(const void *bytes, uint64_t size) {}
void runtime_file_mapped(uint64_t file, uint64_t start, uint64_t length, uint64_t offset) {}
void runtime_loader(uint64_t start, uint64_t end, uint64_t program_entry) {}

void runtime_hold_threads(int tid) { (void)tid; }
void runtime_release_threads(void) {}
void runtime_each_thread(void (*visit)(GuestCpu *cpu, void *argument), void *argument) {
  visit(linux_current_cpu(), argument);
}
bool runtime_take_kick(GuestCpu *cpu, const void *siginfo, void *context) { return false; }

RuntimeMailbox runtime_mailbox;
bool runtime_is_notice(const void *siginfo) { return false; }
bool runtime_take_notice(GuestCpu *cpu, const void *siginfo, void *context) { return false; }
void runtime_exec_begin(void) {}
void runtime_exec_failed(void) {}

/* A fault at a "guest instruction" of a test is marked by fake_guest_fault: the state is precise. */
volatile uint64_t fake_guest_fault;

RuntimeFault runtime_host_fault(GuestCpu *cpu, void *context, RuntimeHostFault *fault, bool write) {
  return fake_guest_fault ? RUNTIME_FAULT_GUEST : RUNTIME_FAULT_OURS;
}

void fake_resume(GuestCpu *cpu, void *context);
bool runtime_faulting_write(const GuestCpu *cpu) { return false; }
bool runtime_faulting_stack(const GuestCpu *cpu, uint64_t address) { return false; }

void runtime_resume_after_fault(GuestCpu *cpu, void *context) { fake_resume(cpu, context); }

void runtime_interrupt(GuestCpu *cpu, void *context) { cpu->interrupt = 1; }

bool runtime_is_generated_code(uint64_t host_pc) { return false; }

void runtime_write_stats(void) {}

void runtime_run(GuestCpu *cpu) { test_thread(cpu); }
