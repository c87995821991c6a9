// When the machine has stood still, and when somebody has set a clock. A row: by how much (ms) each clock went on
// between two looks, how far the system's was behind the hardware's before, and what is to be made up for.
#include <criterion/criterion.h>
#include "clock.h"

static const struct {
  const char *what;
  int64_t behind, hardware, system, running, lag;
} rows[] = {
    {"nothing happened", 0, 10000, 10000, 10000, 0},
    {"the hardware's grain", 0, 11000, 10000, 10000, 0},
    {"the machine stood for a minute", 0, 70000, 10000, 10000, 60000},
    {"it stood for three seconds", 0, 13000, 10000, 10000, 3000},
    {"it stood, and steled has set the clock", 0, 70000, 70000, 10000, 0},
    {"somebody set the system's clock back", 0, 10000, -50000, 10000, 0},
    {"somebody set it ahead", 0, 10000, 3610000, 10000, 0},
    {"a clock that is an hour ahead stays so", -3600000, 10000, 10000, 10000, 0},
    {"a clock that is an hour late stays so", 3600000, 10000, 10000, 10000, 0},
    {"an hour late, and the machine stood for a minute", 3600000, 70000, 10000, 10000, 60000},
    {"the hardware's was set to the system's, which was ahead", -3600000, 3610000, 10000, 10000, 0},
    {"the hardware's was set to the system's, which was late", 3600000, -3590000, 10000, 10000, 0},
    {"steered by a time service", 0, 10000, 10005, 10000, 0},
};

Test(clock, lag) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    ClockSample before = {1000000000 + rows[i].behind, 1000000000, 5000};
    ClockSample now = {before.hardware + rows[i].hardware, before.system + rows[i].system,
                       before.running + rows[i].running};
    int64_t lag = clock_lag(&before, &now);
    cr_expect(lag == rows[i].lag, "%s: %lld", rows[i].what, (long long)lag);
  }
}
