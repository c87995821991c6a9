// See agent.h: the clock, the state, and the description of it that the host gets.
#include "agent.h"

#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include "guest-protocol.h"

const char *agent_state_name(GuestState state) {
  static const char *const names[] = {
      [GUEST_BOOTING] = STELE_GUEST_BOOTING, [GUEST_STARTING] = STELE_GUEST_STARTING,
      [GUEST_READY] = STELE_GUEST_READY,     [GUEST_STOPPING] = STELE_GUEST_STOPPING,
      [GUEST_FAILED] = STELE_GUEST_FAILED,
  };
  return names[state];
}

void agent_enter_state(Agent *agent, GuestState state, const char *message) {
  agent->state = state;
  if (message != agent->message) snprintf(agent->message, sizeof agent->message, "%s", message);
  if (state == GUEST_READY) agent->ready_ms = agent_now_ms();
  if (agent->state_changed) agent->state_changed();
}

uint64_t agent_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void describe_command(const Agent *agent, Buffer *json) {
  bool signalled = WIFSIGNALED(agent->command_status);
  json_key(json, "command");
  json_open(json, '{');
  json_member_boolean(json, "signalled", signalled);
  json_member_integer(json, "value", signalled ? WTERMSIG(agent->command_status) : WEXITSTATUS(agent->command_status));
  json_close(json, '}');
}

void agent_describe_status(const Agent *agent, Buffer *json) {
  json_open(json, '{');
  json_member_string(json, "version", STELE_VERSION);
  json_member_integer(json, "protocol", STELE_PROTOCOL_VERSION);
  json_member_string(json, "state", agent_state_name(agent->state));
  json_member_string(json, "message", agent->message);
  static const char *const inits[] = {[INIT_SYSTEM] = "system", [INIT_COMMAND] = "command", [INIT_NONE] = "none"};
  json_member_string(json, "init", inits[agent->config.init_kind]);
  json_member_integer(json, "uptime-ms", (int64_t)agent_now_ms());
  json_member_integer(json, "ready-ms", (int64_t)agent->ready_ms);
  if (agent->command_ended) describe_command(agent, json);
  json_key(json, "translator");
  json_open(json, '{');
  json_member_boolean(json, "registered", agent->translator_registered);
  json_member_string(json, "cpu", agent->config.cpu);
  json_member_string(json, "memory-model", agent->config.memory_model);
  json_close(json, '}');
  json_close(json, '}');
}
