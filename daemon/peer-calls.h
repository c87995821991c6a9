// How much one peer may have under way. GDBus reads a peer's calls as fast as they come and keeps answers until the
// peer reads them, both without bound: one that calls and never reads would fill steled's memory. A peer that has more
// calls unanswered or unread than a client has use for is cut off.
#pragma once

#include <gio/gio.h>

// Calls whose answer the peer has not been sent; waits for the end of programs (ExecWait) are counted apart, since
// their answers are small and there may be thousands.
#define PEER_CALLS_MAX 1024
#define PEER_WAITS_MAX 8192

// Starts to count; before the connection's first message is processed.
void peer_calls_limit(GDBusConnection *connection);

// Ends the connection at once, from any thread; closing it would wait for what is being written.
void peer_cut_off(GDBusConnection *connection);
