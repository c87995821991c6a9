// One line to the person at the guest's console. For main-level code: parts return errors instead.
#pragma once

// Writes "stele-agent: TEXT" as one line to /dev/console, without ever blocking.
void console_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Makes a fatal signal of PID 1 itself print a line and power the machine off, where the kernel would
// panic (and, told to reboot on panic, loop).
void console_guard_against_panic(void);
