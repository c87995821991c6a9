// Copies between a byte channel and a file descriptor until either ends: the console on its way to
// a client.
#pragma once

#include "byte-channel.h"

// Takes both; closes both when one ends. The descriptor must be non-blocking. Frees itself.
void pump_start(ByteChannel *channel, int fd);
