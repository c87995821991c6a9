/* The AArch64 half of `stele --self-test`. */
#ifndef STELE_SELF_TEST_HOST_H
#define STELE_SELF_TEST_HOST_H

#include <stdint.h>

typedef struct SelfTestHost {
  uint64_t hwcap, hwcap2, page_size;
} SelfTestHost;

/* Prints the report's first lines: kernel, page size, features, cores. */
void self_test_describe(const SelfTestHost *host);

/* The x86-64 program that does the tests, as a descriptor; a negative errno where there can be none. */
int64_t self_test_open(void);

#endif
