// See clock.h.
#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOK_MS = 10000, SET_MS = 500, LEAST_LAG_MS = 2500 };

static int64_t magnitude(int64_t value) {
  return value < 0 ? -value : value;
}

int64_t clock_lag(const ClockSample *before, const ClockSample *now) {
  int64_t set_by = (now->system - now->running) - (before->system - before->running);
  int64_t behind = now->hardware - now->system, lag = behind - (before->hardware - before->system);
  if (magnitude(set_by) >= SET_MS || lag < LEAST_LAG_MS) return 0;
  return behind >= LEAST_LAG_MS ? lag : 0;
}

int clock_read_hardware(struct timespec *ret_time) {
  struct rtc_time rtc;
  int fd = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = ioctl(fd, RTC_RD_TIME, &rtc) < 0 ? -errno : 0;
  close(fd);
  struct tm utc = {.tm_sec = rtc.tm_sec,
                   .tm_min = rtc.tm_min,
                   .tm_hour = rtc.tm_hour,
                   .tm_mday = rtc.tm_mday,
                   .tm_mon = rtc.tm_mon,
                   .tm_year = rtc.tm_year};
  if (r == 0) *ret_time = (struct timespec){.tv_sec = timegm(&utc)};
  return r;
}

static int64_t milliseconds(const struct timespec *time) {
  return (int64_t)time->tv_sec * 1000 + time->tv_nsec / 1000000;
}

static int take_sample(ClockSample *ret_sample) {
  struct timespec hardware, system, running;
  int r = clock_read_hardware(&hardware);
  if (r < 0) return r;
  if (clock_gettime(CLOCK_REALTIME, &system) < 0 || clock_gettime(CLOCK_MONOTONIC, &running) < 0) return -errno;
  *ret_sample = (ClockSample){milliseconds(&hardware), milliseconds(&system), milliseconds(&running)};
  return 0;
}

static void step(int64_t by) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) < 0) return;
  int64_t wanted = milliseconds(&now) + by;
  now = (struct timespec){.tv_sec = wanted / 1000, .tv_nsec = wanted % 1000 * 1000000};
  clock_settime(CLOCK_REALTIME, &now);
}

int clock_look(void) {
  static ClockSample last;
  static int64_t due;
  ClockSample now;
  struct timespec running;
  if (clock_gettime(CLOCK_MONOTONIC, &running) < 0) return -1;
  int64_t left = due - milliseconds(&running);
  if (left > 0) return (int)left;
  due = milliseconds(&running) + LOOK_MS;
  if (take_sample(&now) < 0) return -1; // no such clock
  int64_t lag = last.running ? clock_lag(&last, &now) : 0;
  if (lag) {
    step(lag);
    now.system += lag;
  }
  last = now;
  return LOOK_MS;
}
