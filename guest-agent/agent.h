// The state of the guest agent that its parts share. One instance lives in main.c; every part is
// handed a pointer and touches the fields its own header names.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "config.h"
#include "json.h"

typedef enum GuestState { GUEST_BOOTING, GUEST_STARTING, GUEST_READY, GUEST_STOPPING, GUEST_FAILED } GuestState;

typedef struct Userspace {
  pid_t pid;          // PID 1 of the x86-64 userspace, in our numbering; 0: not started or gone
  int mount_ns;       // its mount namespace, -1 before the start
  int pid_ns;         // its PID namespace, -1 before the start
  bool systemd;       // the init is systemd
  int report;         // read end of the start report, -1 when done
  uint64_t remind_at; // monotonic ms at which one that was asked to stop is asked again; 0: never
} Userspace;

typedef struct Agent {
  Config config;
  GuestState state;
  char message[512]; // for a person: what is being done, or why it failed
  uint64_t ready_ms; // monotonic ms of becoming ready; 0 before
  bool translator_registered;
  bool network_up;
  char nameservers[128]; // lines for resolv.conf, from DHCP
  Userspace userspace;
  bool command_ended;          // init=command, and it ran to its end
  int command_status;          // its wait status then
  int stop_action;             // the reboot(2) command asked for by the host, 0 for none
  void (*state_changed)(void); // tells who wants to know; NULL: nobody
} Agent;

// The name of a state as guest-protocol.h has it.
const char *agent_state_name(GuestState state);

// Enters a state, with a message for people (may be ""), and calls state_changed.
void agent_enter_state(Agent *agent, GuestState state, const char *message);

// Milliseconds of the guest's monotonic clock.
uint64_t agent_now_ms(void);

// Appends the object of a STATUS frame (guest-protocol.h).
void agent_describe_status(const Agent *agent, Buffer *json);
