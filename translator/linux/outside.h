/* Telling other translated processes of writes to their memory (outside.c). */
#ifndef STELE_LINUX_OUTSIDE_H
#define STELE_LINUX_OUTSIDE_H

#include "runtime/runtime.h"

typedef enum OutsideTold {
  OUTSIDE_NOT_TOLD, /* it is no translated process, or not of this build, or this one may not write its memory */
  OUTSIDE_TOLD,     /* what it translates reckons with such writes; or will, where it is stopped */
  OUTSIDE_OWN       /* its memory is this process' own, whose runtime can be told as of any call */
} OutsideTold;

/* To be called before a write of the kind `what` to the memory of the process whose directory in a procfs is `path`.
 * Does not return before the other has taken notice, unless that takes longer than about 50 ms. */
OutsideTold linux_outside_tell(const char *path, RuntimeOutside what);

/* The same for process `pid`, quick where it was told already. */
OutsideTold linux_outside_tell_process(int pid, RuntimeOutside what);

#endif
