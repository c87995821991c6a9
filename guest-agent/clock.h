// The guest's clocks, and what becomes of them while the machine stands still: with its processors stands the counter
// that the system's clock is made of; the real-time clock is the host's, and goes on. steled tells the time when it
// resumes a machine itself, but a host that slept, or another user of libvirt, does not.
//
// A clock that somebody in the guest set, or a network time service steers, is left alone: only what the machine fell
// behind the real-time clock between two looks is made up for, in one step.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

// Milliseconds of the three clocks at one moment.
typedef struct ClockSample {
  int64_t hardware; // the real-time clock, to the second below
  int64_t system;   // CLOCK_REALTIME
  int64_t running;  // CLOCK_MONOTONIC
} ClockSample;

// Milliseconds that the system's clock fell behind the hardware's from one sample to the other; 0 where it was set
// meanwhile, where the hardware's was set to it, or where the difference may be the hardware clock's grain.
int64_t clock_lag(const ClockSample *before, const ClockSample *now);

// What the real-time clock says. 0, or a negative errno.
int clock_read_hardware(struct timespec *ret_time);

// Has a look, and sets the system's clock if the machine stood still. Returns the milliseconds until the next.
int clock_look(void);
