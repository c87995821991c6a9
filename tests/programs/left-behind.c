/*
 * Code that is left in the middle, since an instruction has written to its page or has met a misaligned address under
 * a lock, and goes on with what stands behind: a test and the jump that reads it, a register set to zero and a byte put
 * into it, a register copied and changed, the upper half of one.
 *
 * Build: dynamic static
 * Needs: avx
 * With: STELE_MEMORY_MODEL=auto; STELE_MEMORY_MODEL=tso; STELE_FLAGS=exact
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, ROUNDS = 3 };

/* Called with RDI, RSI, and RDX: where to write. */
#define EACH(X)                                                                                                        \
  X(sign, "cmp $0, %di\n jge 1f\n not %di\n1: movzx %di, %eax")                                                        \
  X(zero, "test %edi, %edi\n jz 1f\n mov %rsi, %rdi\n1: mov %rdi, %rax")                                               \
  X(bit, "testb $8, %dil\n jnz 1f\n mov %rsi, %rdi\n1: mov %rdi, %rax")                                                \
  X(result, "or %esi, %edi\n js 1f\n inc %edi\n1: mov %rdi, %rax")                                                     \
  X(bt, "bt $5, %edi\n jc 1f\n inc %edi\n1: mov %rdi, %rax")                                                           \
  X(set, "mov %rdi, %rax\n nop\n xor %eax, %eax\n cmp %esi, %edi\n setg %al")                                          \
  X(kept, "xor %eax, %eax\n cmp %esi, %edi\n setg %al")                                                                \
  X(merged, "xor %eax, %eax\n lea 3(%rdi), %r8d\n mov %r8b, %al")                                                      \
  X(vector, "movq %rdi, %xmm1\n movq %rsi, %xmm2\n xorps %xmm0, %xmm0\n movb $2, (%rdx)\n movaps %xmm1, %xmm0\n"       \
            "paddq %xmm2, %xmm0\n movq %xmm0, %rax")                                                                   \
  X(upper, "vmovq %rdi, %xmm1\n vinsertf128 $1, %xmm1, %ymm1, %ymm0\n mov 7(%rdx), %rcx\n lock addl $1, 3(%rdx)\n"     \
           "vextractf128 $1, %ymm0, %xmm0\n vmovq %xmm0, %rax\n vzeroupper")                                           \
  X(stack,                                                                                                             \
    "fld1\n fldpi\n fstpl 8(%rdx)\n fadd %st(0)\n fld %st(0)\n fistpl 16(%rdx)\n fadd %st(0)\n fistpl 24(%rdx)\n"      \
    "mov 16(%rdx), %eax\n sub 24(%rdx), %eax")                                                                         \
  X(group,                                                                                                             \
    "cvtsi2sd %edi, %xmm1\n cvtsi2sd %esi, %xmm2\n movaps %xmm1, %xmm0\n addsd %xmm2, %xmm0\n movsd %xmm0, 8(%rdx)\n"  \
    "mulsd %xmm0, %xmm0\n movsd %xmm0, 16(%rdx)\n subsd %xmm1, %xmm0\n cvtsd2si %xmm0, %rax")                          \
  X(copied, "mov %rdi, %rax\n add %rsi, %rax\n mov %rax, %rcx\n sub %rdi, %rcx\n lea (%rax,%rcx), %rax")               \
  X(pushed, "push %rdi\n push %rsi\n pop %rax\n pop %rcx\n shl $8, %rcx\n xor %rcx, %rax")                             \
  X(widened, "mov %dil, %al\n movzx %al, %eax\n add %esi, %eax")

/* A store, and what is behind; a locked operation, likewise, which is made of several or is one. */
#define CODE(kind, store, name, text)                                                                                  \
  __asm__(".pushsection .rodata\n" kind #name ": mov %rdi, %rax\n " store "\n " text "\n ret\n" kind #name             \
          "_end:\n.popsection\n");
#define VARIANTS(name, text)                                                                                           \
  CODE("written_", "movb $1, (%rdx)", name, text)                                                                      \
  CODE("locked_", "clc\n lock sbbl %esi, 3(%rdx)", name, text)                                                         \
  CODE("added_", "lock addl %esi, 3(%rdx)", name, text)
EACH(VARIANTS)

#define DECLARE(name, text)                                                                                            \
  extern const char written_##name[], written_##name##_end[], locked_##name[], locked_##name##_end[], added_##name[],  \
      added_##name##_end[];
EACH(DECLARE)

static const struct {
  const char *name, *code, *end;
} rows[] = {
#define ROWS(name, text)                                                                                               \
  {"written " #name, written_##name, written_##name##_end}, {"locked " #name, locked_##name, locked_##name##_end},     \
      {"added " #name, added_##name, added_##name##_end},
    EACH(ROWS)};

/* In pages of its own, written beside the code or elsewhere. */
static void try(unsigned row, unsigned beside, uint64_t first, uint64_t second) {
  char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, rows[row].code, (size_t)(rows[row].end - rows[row].code));
  uint64_t (*function)(uint64_t, uint64_t, char *) = (void *)page;
  printf("%s, %s:", rows[row].name, beside ? "beside" : "elsewhere");
  for (int round = 0; round < ROUNDS; round++)
    printf(" %lx", function(first, second, page + (beside ? PAGE / 2 : PAGE + 64)));
  printf("\n");
  munmap(page, 2 * PAGE);
}

int main(void) {
  static const uint64_t values[][2] = {{0xfffd, 5}, {0, 0xabcdef}, {0x80000028, 1}, {0x123456789a8, 0x7fffffff}};
  for (unsigned row = 0; row < sizeof rows / sizeof *rows; row++)
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++)
      for (unsigned beside = 0; beside < 2; beside++) try(row, beside, values[i][0], values[i][1]);
  return 0;
}
