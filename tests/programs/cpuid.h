/*
 * The name of what this program runs on: how a test tells whether a child runs where its parent runs. Under a
 * translator that loses its children to the host kernel the two differ.
 */
#pragma once
#include <cpuid.h>
#include <string.h>

/* Writes the 12 letters of CPUID's leaf 0 and a terminator. */
static inline void cpuid_vendor(char vendor[13]) {
  unsigned eax, words[3];
  __cpuid(0, eax, words[0], words[2], words[1]);
  memcpy(vendor, words, 12);
  vendor[12] = 0;
}

/* The hypervisor's name, or, where none shows itself, the vendor. */
static inline void cpuid_host(char host[13]) {
  unsigned eax, ebx, ecx, edx, words[3];
  __cpuid(1, eax, ebx, ecx, edx);
  if (!(ecx >> 31)) {
    cpuid_vendor(host);
    return;
  }
  __cpuid(0x40000000, eax, words[0], words[1], words[2]);
  memcpy(host, words, 12);
  host[12] = 0;
}
