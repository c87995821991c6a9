/* What SSE lifting does in C: rare cases of generated code, and instructions too large to write out. */
#include "lift/vector/helpers.h"

#include "lift/vector/state.h"

enum { FPSR_IOC = 1, FPSR_IXC = 1 << 4, MXCSR_IE = 1 << 0, MXCSR_PE = 1 << 5 };

static void raise_invalid(GuestCpu *cpu) {
  cpu->mxcsr |= MXCSR_IE;
  cpu->float_raised |= FPSR_IOC;
}

static void raise_inexact(GuestCpu *cpu) {
  cpu->mxcsr |= MXCSR_PE;
  cpu->float_raised |= FPSR_IXC;
}

/* A lane of a vector, as bits. */
static uint64_t lane_get(const GuestVector *v, unsigned bits, unsigned i) {
  if (bits == 64) return v->lane[i];
  unsigned per = 64 / bits;
  return v->lane[i / per] >> (i % per * bits) & ((UINT64_C(1) << bits) - 1);
}

static void lane_set(GuestVector *v, unsigned bits, unsigned i, uint64_t value) {
  if (bits == 64) {
    v->lane[i] = value;
    return;
  }
  unsigned per = 64 / bits, shift = i % per * bits;
  uint64_t mask = ((UINT64_C(1) << bits) - 1) << shift;
  v->lane[i / per] = (v->lane[i / per] & ~mask) | (value << shift & mask);
}

static unsigned lane_count(unsigned format) {
  if (format & 2) return 1;
  return format & 1 ? 2 : 4;
}

/* --- NaNs --- */

typedef struct FloatFormat {
  uint64_t infinity, quiet, negative_default;
  unsigned fraction_bits;
} FloatFormat;

static FloatFormat float_format(bool wide) {
  if (wide)
    return (FloatFormat){UINT64_C(0x7ff) << 52, UINT64_C(1) << 51, UINT64_C(0xfff8) << 48, 52};
  return (FloatFormat){0x7f800000, 0x400000, 0xffc00000, 23};
}

static bool is_nan(const FloatFormat *f, uint64_t value) {
  uint64_t sign = f->infinity + (UINT64_C(1) << f->fraction_bits);
  return (value & ~sign) > f->infinity;
}

void sse_helper_nan(GuestCpu *cpu, uint64_t argument) {
  bool wide = argument & 1;
  unsigned bits = wide ? 64 : 32;
  FloatFormat f = float_format(wide);
  for (unsigned i = 0; i < lane_count((unsigned)argument); i++) {
    uint64_t a = lane_get(&cpu->operand[0], bits, i), b = lane_get(&cpu->operand[1], bits, i);
    if (is_nan(&f, a)) lane_set(&cpu->operand[2], bits, i, a | f.quiet);
    else if (is_nan(&f, b)) lane_set(&cpu->operand[2], bits, i, b | f.quiet);
    else if (is_nan(&f, lane_get(&cpu->operand[2], bits, i)))
      lane_set(&cpu->operand[2], bits, i, f.negative_default);
  }
}

static bool is_signalling(const FloatFormat *f, uint64_t value) { return is_nan(f, value) && !(value & f->quiet); }

/* The NaN of one lane. *invalid: whether x86 raises invalid. */
static uint64_t fma_lane(const FloatFormat *f, const uint64_t o[3], uint64_t result, bool *invalid) {
  for (unsigned i = 0; i < 3; i++) *invalid |= is_signalling(f, o[i]);
  for (unsigned i = 0; i < 3; i++)
    if (is_nan(f, o[i])) return o[i] | f->quiet;
  if (!is_nan(f, result)) return result;
  *invalid = true;
  return f->negative_default;
}

/* The host's flag, clear before, also says what AArch64 alone raises. */
void sse_helper_fma_nan(GuestCpu *cpu, uint64_t argument) {
  bool wide = argument & 1, invalid = false;
  unsigned bits = wide ? 64 : 32;
  FloatFormat f = float_format(wide);
  for (unsigned i = 0; i < lane_count((unsigned)argument & 3); i++) {
    const uint64_t o[3] = {lane_get(&cpu->operand[0], bits, i), lane_get(&cpu->operand[1], bits, i),
                           lane_get(&cpu->addend, bits, i)};
    lane_set(&cpu->operand[2], bits, i, fma_lane(&f, o, lane_get(&cpu->operand[2], bits, i), &invalid));
  }
  if (invalid) raise_invalid(cpu);
  sse_write_fpsr(sse_read_fpsr() & ~(uint64_t)FPSR_IOC);
}

/* --- Conversions to integers --- */

static unsigned exponent_of(const FloatFormat *f, bool wide, uint64_t value) {
  return (unsigned)(value >> f->fraction_bits) & (wide ? 0x7ff : 0xff);
}

/* Truncates; raises what the conversion does. False when the value is out of range. */
static bool double_to_int32(GuestCpu *cpu, uint64_t value, uint32_t *ret_integer) {
  enum { FRACTION_BITS = 52, BIAS = 1023 };
  unsigned exponent = value >> FRACTION_BITS & 0x7ff;
  uint64_t significand = (value & ((UINT64_C(1) << FRACTION_BITS) - 1)) | UINT64_C(1) << FRACTION_BITS;
  *ret_integer = 0x80000000;
  if (exponent > BIAS + 31) return false;
  if (exponent < BIAS) {
    if (value << 1) raise_inexact(cpu);
    *ret_integer = 0;
    return true;
  }
  unsigned shift = BIAS + FRACTION_BITS - exponent;
  uint64_t magnitude = significand >> shift;
  if (magnitude > (value >> 63 ? UINT64_C(0x80000000) : 0x7fffffff)) return false;
  if (significand & ((UINT64_C(1) << shift) - 1)) raise_inexact(cpu);
  *ret_integer = (uint32_t)(value >> 63 ? 0 - magnitude : magnitude);
  return true;
}

static void doubles_to_int32(GuestCpu *cpu, bool probe) {
  uint32_t integers[2];
  for (unsigned i = 0; i < 2; i++) {
    if (double_to_int32(cpu, cpu->operand[0].lane[i], &integers[i])) continue;
    raise_invalid(cpu);
    if (probe) cpu->operand[1].lane[i] = 0;
  }
  cpu->operand[2] = (GuestVector){{integers[0] | (uint64_t)integers[1] << 32, 0}};
}

void sse_helper_convert(GuestCpu *cpu, uint64_t argument) {
  bool probe = argument & SSE_CONVERT_PROBE;
  if (argument & SSE_CONVERT_PD_TO_32) {
    doubles_to_int32(cpu, probe);
    return;
  }
  bool wide = argument & 1;
  unsigned from_bits = wide ? 64 : 32, to_bits = argument & SSE_CONVERT_64 ? 64 : 32;
  FloatFormat f = float_format(wide);
  unsigned limit = (wide ? 1023u : 127u) + to_bits - 1;
  uint64_t lowest = UINT64_C(1) << (from_bits - 1) | (uint64_t)limit << (wide ? 52 : 23);
  for (unsigned i = 0; i < lane_count((unsigned)argument & 3); i++) {
    uint64_t value = lane_get(&cpu->operand[0], from_bits, i);
    if (exponent_of(&f, wide, value) < limit || value == lowest) continue;
    lane_set(&cpu->operand[2], to_bits, i, UINT64_C(1) << (to_bits - 1));
    if (probe) lane_set(&cpu->operand[1], from_bits, i, 0);
  }
}

/* --- MXCSR --- */

void sse_helper_ldmxcsr(GuestCpu *cpu, uint64_t argument) {
  cpu->mxcsr = (uint32_t)argument & SSE_MXCSR_MASK;
  cpu->float_unmasked = sse_fpsr_unmasked(cpu->mxcsr);
  sse_write_fpcr(sse_fpcr_from_mxcsr(cpu->mxcsr));
  sse_write_fpsr(0);
}

void sse_helper_stmxcsr(GuestCpu *cpu, uint64_t argument) {
  cpu->mxcsr = sse_mxcsr_from_fpsr(cpu->mxcsr, sse_read_fpsr());
}

/* --- String comparison (Intel SDM volume 2, 4.1) --- */

typedef struct StringOperand {
  const GuestVector *value;
  int length; /* valid elements */
} StringOperand;

static int64_t element(const GuestVector *v, unsigned imm, unsigned i) {
  unsigned bits = imm & 1 ? 16 : 8;
  uint64_t value = lane_get(v, bits, i);
  if (!(imm & 2)) return (int64_t)value;
  return (int64_t)(value << (64 - bits)) >> (64 - bits);
}

static int explicit_length(uint64_t value, bool wide, int count) {
  int64_t length = wide ? (int64_t)value : (int32_t)value;
  if (length > count || length < -count) return count;
  return (int)(length < 0 ? -length : length);
}

static int implicit_length(const GuestVector *v, unsigned imm, int count) {
  int length = 0;
  while (length < count && element(v, imm, (unsigned)length) != 0) length++;
  return length;
}

/* Bit j of the result for element j of the second operand. */
static bool equal_any(unsigned imm, StringOperand a, StringOperand b, int j) {
  if (j >= b.length) return false;
  for (int i = 0; i < a.length; i++)
    if (element(a.value, imm, (unsigned)i) == element(b.value, imm, (unsigned)j)) return true;
  return false;
}

static bool in_ranges(unsigned imm, StringOperand a, StringOperand b, int j) {
  if (j >= b.length) return false;
  int64_t value = element(b.value, imm, (unsigned)j);
  for (int i = 0; i + 1 < a.length; i += 2)
    if (element(a.value, imm, (unsigned)i) <= value && value <= element(a.value, imm, (unsigned)i + 1))
      return true;
  return false;
}

static bool equal_each(unsigned imm, StringOperand a, StringOperand b, int j) {
  if (j >= a.length || j >= b.length) return j >= a.length && j >= b.length;
  return element(a.value, imm, (unsigned)j) == element(b.value, imm, (unsigned)j);
}

static bool equal_ordered(unsigned imm, StringOperand a, StringOperand b, int j, int count) {
  for (int i = 0; i < a.length && i + j < count; i++) {
    if (i + j >= b.length) return false;
    if (element(a.value, imm, (unsigned)i) != element(b.value, imm, (unsigned)(i + j))) return false;
  }
  return true;
}

static bool aggregate(unsigned imm, StringOperand a, StringOperand b, int j, int count) {
  switch (imm >> 2 & 3) {
  case 0: return equal_any(imm, a, b, j);
  case 1: return in_ranges(imm, a, b, j);
  case 2: return equal_each(imm, a, b, j);
  default: return equal_ordered(imm, a, b, j, count);
  }
}

static unsigned compare_strings(unsigned imm, StringOperand a, StringOperand b, int count) {
  unsigned bits = 0;
  for (int j = 0; j < count; j++) {
    bool bit = aggregate(imm, a, b, j, count);
    if (imm & 0x10 && (!(imm & 0x20) || j < b.length)) bit = !bit; /* polarity */
    bits |= (unsigned)bit << j;
  }
  return bits;
}

static GuestVector expand_mask(unsigned bits, unsigned imm, int count) {
  GuestVector mask = {{0, 0}};
  if (!(imm & 0x40)) {
    mask.lane[0] = bits;
    return mask;
  }
  for (int i = 0; i < count; i++)
    if (bits >> i & 1) lane_set(&mask, 128u / (unsigned)count, (unsigned)i, ~UINT64_C(0) >> (64 - 128 / count));
  return mask;
}

void sse_helper_string(GuestCpu *cpu, uint64_t argument) {
  unsigned imm = (unsigned)argument & 0xff;
  int count = imm & 1 ? 8 : 16;
  bool wide = argument & SSE_STRING_WIDE;
  StringOperand a = {&cpu->operand[0], 0}, b = {&cpu->operand[1], 0};
  if (argument & SSE_STRING_EXPLICIT) {
    a.length = explicit_length(cpu->gpr[0], wide, count);
    b.length = explicit_length(cpu->gpr[2], wide, count);
  } else {
    a.length = implicit_length(a.value, imm, count);
    b.length = implicit_length(b.value, imm, count);
  }
  unsigned bits = compare_strings(imm, a, b, count);
  bool sign = a.length < count, zero = b.length < count;
  if (argument & SSE_STRING_MASK) cpu->operand[2] = expand_mask(bits, imm, count);
  else if (!bits) cpu->gpr[1] = (uint64_t)count;
  else cpu->gpr[1] = (uint64_t)(imm & 0x40 ? 31 - __builtin_clz(bits) : __builtin_ctz(bits));
  cpu->operand[0].lane[0] = (uint64_t)sign << 31 | (uint64_t)zero << 30 | (uint64_t)(bits == 0) << 29 |
                            (uint64_t)(bits & 1) << 28;
}

/* --- AES (FIPS 197), carry-less multiplication, CRC32C --- */

static uint8_t times2(uint8_t x) { return (uint8_t)(x << 1 ^ (x & 0x80 ? 0x1b : 0)); }

static uint8_t times(uint8_t x, uint8_t y) {
  uint8_t product = 0;
  for (; y; y >>= 1, x = times2(x))
    if (y & 1) product ^= x;
  return product;
}

static uint8_t rotate(uint8_t x, unsigned n) { return (uint8_t)(x << n | x >> (8 - n)); }

/* The multiplicative inverse, x^254. */
static uint8_t inverse(uint8_t x) {
  uint8_t result = 1;
  for (unsigned bit = 0x80; bit; bit >>= 1) {
    result = times(result, result);
    if (254 & bit) result = times(result, x);
  }
  return result;
}

static uint8_t substitute(uint8_t x) {
  uint8_t i = inverse(x);
  return i ^ rotate(i, 1) ^ rotate(i, 2) ^ rotate(i, 3) ^ rotate(i, 4) ^ 0x63;
}

static uint8_t substitute_inverse(uint8_t x) {
  uint8_t i = rotate(x, 1) ^ rotate(x, 3) ^ rotate(x, 6) ^ 0x05;
  return inverse(i);
}

/* ShiftRows and SubBytes, or their inverses: byte (row r, column c) comes from column c + r (c - r). */
static GuestVector aes_substitute_shift(const GuestVector *state, bool decrypt) {
  GuestVector out = {{0, 0}};
  for (unsigned i = 0; i < 16; i++) {
    unsigned row = i & 3, column = i >> 2;
    unsigned from = ((decrypt ? column - row : column + row) & 3) << 2 | row;
    uint8_t byte = (uint8_t)lane_get(state, 8, from);
    lane_set(&out, 8, i, decrypt ? substitute_inverse(byte) : substitute(byte));
  }
  return out;
}

static GuestVector aes_mix(const GuestVector *state, bool decrypt) {
  static const uint8_t forward[4] = {2, 3, 1, 1}, backward[4] = {14, 11, 13, 9};
  const uint8_t *factor = decrypt ? backward : forward;
  GuestVector out = {{0, 0}};
  for (unsigned i = 0; i < 16; i++) {
    uint8_t byte = 0;
    for (unsigned k = 0; k < 4; k++)
      byte ^= times((uint8_t)lane_get(state, 8, (i & ~3u) | ((i + k) & 3)), factor[k]);
    lane_set(&out, 8, i, byte);
  }
  return out;
}

static GuestVector aes_key_assist(const GuestVector *source, unsigned round) {
  GuestVector out = {{0, 0}};
  for (unsigned i = 0; i < 2; i++) {
    uint32_t word = (uint32_t)lane_get(source, 32, 2 * i + 1), sub = 0;
    for (unsigned k = 0; k < 4; k++)
      sub |= (uint32_t)substitute((uint8_t)(word >> (8 * k))) << (8 * k);
    lane_set(&out, 32, 2 * i, sub);
    lane_set(&out, 32, 2 * i + 1, (sub >> 8 | sub << 24) ^ round);
  }
  return out;
}

void sse_helper_aes(GuestCpu *cpu, uint64_t argument) {
  unsigned kind = (unsigned)argument & 0xff;
  const GuestVector *state = &cpu->operand[0], *key = &cpu->operand[1];
  GuestVector result = *state;
  bool decrypt = kind == SSE_AESDEC || kind == SSE_AESDECLAST || kind == SSE_AESIMC;
  if (kind == SSE_AESKEYGEN) {
    cpu->operand[2] = aes_key_assist(state, (unsigned)(argument >> 8) & 0xff);
    return;
  }
  if (kind != SSE_AESIMC) result = aes_substitute_shift(state, decrypt);
  if (kind == SSE_AESENC || kind == SSE_AESDEC || kind == SSE_AESIMC) result = aes_mix(&result, decrypt);
  if (kind != SSE_AESIMC)
    for (unsigned i = 0; i < 2; i++) result.lane[i] ^= key->lane[i];
  cpu->operand[2] = result;
}

/* A matrix of bits times a byte: bit b of the result is the parity of what row 7 - b has in common with it. */
static uint8_t transform(uint64_t matrix, uint8_t x) {
  uint8_t result = 0;
  for (unsigned b = 0; b < 8; b++)
    if (!guest_flags_even((uint8_t)(matrix >> (8 * (7 - b))) & x)) result |= (uint8_t)(1u << b);
  return result;
}

void sse_helper_galois(GuestCpu *cpu, uint64_t argument) {
  SseGalois kind = (SseGalois)(argument & 0xff);
  uint8_t constant = (uint8_t)(argument >> 8);
  for (unsigned i = 0; i < 16; i++) {
    uint8_t x = (uint8_t)lane_get(&cpu->operand[0], 8, i), result;
    if (kind == SSE_GALOIS_AFFINE_INVERSE) x = inverse(x);
    if (kind == SSE_GALOIS_MULTIPLY) result = times(x, (uint8_t)lane_get(&cpu->operand[1], 8, i));
    else result = transform(cpu->operand[1].lane[i / 8], x) ^ constant;
    lane_set(&cpu->operand[2], 8, i, result);
  }
}

void sse_helper_clmul(GuestCpu *cpu, uint64_t argument) {
  uint64_t a = cpu->operand[0].lane[0], b = cpu->operand[1].lane[0], low = 0, high = 0;
  for (unsigned i = 0; i < 64; i++) {
    if (!(b >> i & 1)) continue;
    low ^= a << i;
    if (i) high ^= a >> (64 - i);
  }
  cpu->operand[2] = (GuestVector){{low, high}};
}

void sse_helper_crc32(GuestCpu *cpu, uint64_t argument) {
  enum { CASTAGNOLI_REVERSED = (int)0x82f63b78 };
  uint32_t crc = (uint32_t)cpu->operand[0].lane[0];
  uint64_t data = cpu->operand[0].lane[1];
  for (unsigned i = 0; i < argument; i++, data >>= 8) {
    crc ^= (uint8_t)data;
    for (unsigned bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (crc & 1 ? (uint32_t)CASTAGNOLI_REVERSED : 0);
  }
  cpu->operand[0].lane[0] = crc;
}
