// Requests to run a program, and the check that explains why a file cannot run.
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "program.h"

static const struct {
  const char *text;
  int result;
} requests[] = {
    {"{\"argv\":[\"/bin/true\"]}", 0},
    {"{}", 0},
    {"{\"argv\":[\"a\",\"b\"],\"env\":[\"A=B\",\"C=\"],\"cwd\":\"/\","
     "\"user\":\"0\",\"tty\":true,\"rows\":24,\"cols\":80}",
     0},
    {"{\"cwd\":null}", 0},
    {"[]", -EINVAL},
    {"{\"argv\":\"ls\"}", -EINVAL},
    {"{\"argv\":[1]}", -EINVAL},
    {"{\"env\":[\"no-equals\"]}", -EINVAL},
    {"{\"env\":[\"=x\"]}", -EINVAL},
    {"{\"tty\":1}", -EINVAL},
    {"{\"rows\":70000}", -EINVAL},
    {"{\"rows\":-1}", -EINVAL},
    {"{\"user\":5}", -EINVAL},
    {"not json", -EINVAL},
};

Test(program, requests) {
  for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
    ProgramRequest request;
    int r = program_parse(&request, requests[i].text, strlen(requests[i].text));
    cr_expect(r == requests[i].result, "%s gives %d", requests[i].text, r);
    program_free(&request);
  }
}

// Writes a file that is an ELF header and an interpreter segment, and says what the check finds.
static int check_elf(uint16_t machine, const char *loader, char *message, size_t size) {
  char path[] = "/tmp/stele-program-test-XXXXXX";
  int fd = mkstemp(path);
  Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', machine == EM_386 ? ELFCLASS32 : ELFCLASS64, ELFDATA2LSB, 1},
                       .e_type = ET_DYN, .e_machine = machine, .e_phoff = sizeof header,
                       .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1};
  Elf64_Phdr segment = {
      .p_type = PT_INTERP, .p_offset = sizeof header + sizeof segment, .p_filesz = strlen(loader) + 1};
  cr_assert(fd >= 0);
  cr_assert(write(fd, &header, sizeof header) > 0 && write(fd, &segment, sizeof segment) > 0);
  cr_assert(write(fd, loader, strlen(loader) + 1) > 0);
  close(fd);
  int r = program_check(path, message, size);
  unlink(path);
  return r;
}

Test(program, says_which_loader_is_missing) {
  char message[256] = "";
  cr_expect(check_elf(EM_X86_64, "/bin/sh", message, sizeof message) == 0);
  cr_expect(check_elf(EM_X86_64, "/lib64/no-such-loader.so.2", message, sizeof message) == -ENOENT);
  cr_expect(strstr(message, "/lib64/no-such-loader.so.2") && strstr(message, "install libc6:amd64"), "%s", message);
  cr_expect(check_elf(EM_386, "/lib/ld-linux.so.2", message, sizeof message) == -ENOEXEC);
  cr_expect(strstr(message, "32-bit") != NULL, "%s", message);
}

Test(program, a_loader_name_as_long_as_it_likes_does_no_harm) {
  char loader[8192], message[256] = "";
  memset(loader, 'x', sizeof loader - 1);
  loader[sizeof loader - 1] = 0;
  cr_expect(check_elf(EM_X86_64, loader, message, sizeof message) == 0);
}
