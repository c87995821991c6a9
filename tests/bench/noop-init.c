/* The init of the bare boot that ./dev bench compares with: says that it runs, and waits to be killed. */
#include <unistd.h>

int main(void) {
  static const char text[] = "noop-init runs\n";
  if (write(1, text, sizeof text - 1) < 0) return 1;
  for (;;) pause();
}
