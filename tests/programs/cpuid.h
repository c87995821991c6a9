/*
 * The vendor this program's processor names: how a test tells whether a child runs where its parent runs.
 * Under a translator that loses its children to the host kernel the two differ.
 */
#pragma once
#include <cpuid.h>
#include <string.h>

/* Writes the 12 letters of CPUID leaf 0 and a terminator. */
static inline void cpuid_vendor(char vendor[13]) {
  unsigned eax, ebx, ecx, edx;
  __cpuid(0, eax, ebx, ecx, edx);
  memcpy(vendor, &ebx, 4);
  memcpy(vendor + 4, &edx, 4);
  memcpy(vendor + 8, &ecx, 4);
  vendor[12] = 0;
}
