/* All code of a program that can be found, to a code image. */
#ifndef STELE_AOT_TRANSLATE_H
#define STELE_AOT_TRANSLATE_H

#include "aot/program.h"
#include "pipeline/pipeline.h"

typedef struct AotImage {
  uint8_t *bytes; /* the image; freed by the caller */
  uint64_t size;
  uint64_t regions, instructions, guest_bytes; /* distinct bytes of code */
} AotImage;

/* The bytes that a program's images compare with, one segment behind the other; freed by the caller. */
typedef struct AotCopy {
  uint8_t *bytes;
  uint64_t size;
} AotCopy;

/* False when out of memory. */
bool aot_copy(const Program *program, AotCopy *ret_copy);

/* False when out of memory. The pipeline may be used again afterwards. */
bool aot_translate(Pipeline *pipeline, const Program *program, ImageTarget target, AotImage *ret_image);

#endif
