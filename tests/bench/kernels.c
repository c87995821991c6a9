/*
 * The bench's own loops, for kinds of work that no packaged program does alone: kernels NAME ROUNDS.
 * Compiled for both architectures; each prints a checksum, so that every run is compared.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
typedef long double Wide; /* x87 */
#else
typedef double Wide; /* what a native program would use instead */
#endif

/* --- integer core: lists, matrices, a state machine over text, a checksum ---------------------- */

typedef struct Node {
  struct Node *next;
  int16_t value, index;
} Node;

static uint16_t checksum(uint8_t data, uint16_t crc) {
  for (int i = 0; i < 8; i++) {
    int carry = (data ^ crc) & 1;
    crc >>= 1, data >>= 1;
    if (carry) crc ^= 0xa001;
  }
  return crc;
}

static uint16_t lists(Node *nodes, int count, int seed) {
  Node *head = NULL, *found = NULL;
  for (int i = 0; i < count; i++) nodes[i] = (Node){head, (int16_t)(i * seed), (int16_t)i}, head = &nodes[i];
  Node *reversed = NULL;
  while (head) {
    Node *next = head->next;
    head->next = reversed, reversed = head, head = next;
  }
  for (Node *n = reversed; n; n = n->next)
    if (n->value % 7 == seed % 7) found = n;
  return found ? found->index : 0;
}

static int32_t matrices(int32_t *a, const int16_t *b, const int16_t *c, int n) {
  int32_t sum = 0;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      int32_t cell = 0;
      for (int k = 0; k < n; k++) cell += b[i * n + k] * c[k * n + j];
      a[i * n + j] = cell;
      sum += cell >> 3 & 0xff;
    }
  return sum;
}

static int numbers_in(const char *text) {
  enum { START, SIGN, WHOLE, FRACTION, BAD } state = START;
  int counts[5] = {0};
  for (; *text; text++) {
    char c = *text;
    if (c == ',') counts[state]++, state = START;
    else if (c >= '0' && c <= '9') state = state == FRACTION || state == BAD ? state : WHOLE;
    else if ((c == '+' || c == '-') && state == START) state = SIGN;
    else if (c == '.' && state == WHOLE) state = FRACTION;
    else state = BAD;
  }
  return counts[WHOLE] * 1000 + counts[FRACTION] * 100 + counts[BAD];
}

static uint64_t core(long rounds) {
  static Node nodes[200];
  static int32_t a[20 * 20];
  static int16_t b[20 * 20], c[20 * 20];
  static const char text[] = "12,3.5,-7,+x,99.25,1e5,-,42,3.14159,foo,0,77.1,-12.5,";
  uint16_t crc = 0;
  for (int i = 0; i < 400; i++) b[i] = (int16_t)(i * 3), c[i] = (int16_t)(i ^ 5);
  for (long r = 0; r < rounds; r++) {
    uint16_t found = lists(nodes, 200, (int)r + 3);
    crc = checksum(found & 0xff, crc);
    b[r % 400] ^= crc & 15;
    crc = checksum((uint8_t)matrices(a, b, c, 20), crc);
    crc = checksum((uint8_t)(numbers_in(text) + r), crc);
  }
  return crc;
}

/* --- floating point ---------------------------------------------------------------------------- */

__attribute__((optimize("O3", "tree-vectorize"))) static double vector(long rounds) {
  static float x[1024], y[1024];
  static double u[512], v[512];
  for (int i = 0; i < 1024; i++) x[i] = 1.0f / (i + 1), y[i] = i * 0.5f;
  for (int i = 0; i < 512; i++) u[i] = i * 0.25, v[i] = 1.0 / (i + 2);
  for (long r = 0; r < rounds; r++) {
    for (int i = 0; i < 1024; i++) y[i] = y[i] * 0.999f + x[i] * 1.5f - (y[i] - x[i]) * 0.01f;
    for (int i = 0; i < 512; i++) u[i] = (u[i] + v[i]) * 0.75 + 1.0 / (v[i] + 2.0);
  }
  double sum = 0;
  for (int i = 0; i < 512; i++) sum += y[i] + u[i];
  return sum;
}

static double scalar(long rounds) {
  double px[5] = {0, 4.84, 8.34, 12.89, 15.37}, py[5] = {0, -1.16, 4.12, -15.11, -25.9}, vx[5] = {0}, vy[5] = {0};
  double mass[5] = {39.47, 0.037, 0.011, 0.0017, 0.002};
  for (int i = 1; i < 5; i++) vx[i] = 0.5 / i, vy[i] = -0.3 / i;
  for (long r = 0; r < rounds; r++) {
    for (int i = 0; i < 5; i++)
      for (int j = i + 1; j < 5; j++) {
        double dx = px[i] - px[j], dy = py[i] - py[j], distance = dx * dx + dy * dy + 0.01;
        double pull = 0.001 / (distance * sqrt(distance));
        vx[i] -= dx * mass[j] * pull, vy[i] -= dy * mass[j] * pull;
        vx[j] += dx * mass[i] * pull, vy[j] += dy * mass[i] * pull;
      }
    for (int i = 0; i < 5; i++) px[i] += 0.001 * vx[i], py[i] += 0.001 * vy[i];
  }
  return px[0] + py[1] + vx[2];
}

static double wide(long rounds) {
  Wide sum = 0, x = 1, step = (Wide)1 / 1024;
  for (long r = 0; r < rounds; r++) {
    x = x * (1 + step) - sum * step / 3;
    sum += x / (2 + x * x);
    if (sum > 100) sum -= 100;
  }
  return (double)sum;
}

/* --- calls, atomics ---------------------------------------------------------------------------- */

__attribute__((noinline)) static uint64_t fibonacci(unsigned n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls(long rounds) {
  uint64_t sum = 0;
  for (long r = 0; r < rounds; r++) sum += fibonacci(22);
  return sum;
}

static uint64_t locked(long rounds) {
  static uint64_t counters[8];
  for (long r = 0; r < rounds; r++) {
    __atomic_fetch_add(&counters[r & 7], r, __ATOMIC_SEQ_CST);
    uint64_t old = counters[(r + 1) & 7];
    __atomic_compare_exchange_n(&counters[(r + 1) & 7], &old, old * 3 + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&counters[(r + 2) & 7], r, __ATOMIC_SEQ_CST);
  }
  return counters[0] ^ counters[5];
}

int main(int argc, char **argv) {
  const char *name = argc > 2 ? argv[1] : "";
  long rounds = argc > 2 ? atol(argv[2]) : 0;
  if (!strcmp(name, "core")) printf("%lx\n", (long)core(rounds));
  else if (!strcmp(name, "vector")) printf("%.9g\n", vector(rounds));
  else if (!strcmp(name, "scalar")) printf("%.9g\n", scalar(rounds));
  else if (!strcmp(name, "wide")) printf("%.9g\n", wide(rounds));
  else if (!strcmp(name, "calls")) printf("%lx\n", (long)calls(rounds));
  else if (!strcmp(name, "locked")) printf("%lx\n", (long)locked(rounds));
  else return fprintf(stderr, "usage: kernels core|vector|scalar|wide|calls|locked ROUNDS\n"), 2;
  return 0;
}
