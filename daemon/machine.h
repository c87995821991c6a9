// A machine's life as a table: which states there are, which events lead from one to another, and
// for which reason. Pure: no libvirt, no D-Bus, no files; manager.c feeds it and acts on what comes
// out.
#pragma once

#include <glib.h>

typedef enum MachineState {
  MACHINE_STOPPED,
  MACHINE_STARTING,
  MACHINE_BOOTING,
  MACHINE_RUNNING,
  MACHINE_PAUSED,
  MACHINE_STOPPING,
  MACHINE_FAILED,
} MachineState;

typedef enum MachineEvent {
  // Requests: refused where the table has no row.
  MACHINE_REQUEST_START,
  MACHINE_REQUEST_SHUTDOWN,
  MACHINE_REQUEST_REBOOT,
  MACHINE_REQUEST_DESTROY,
  MACHINE_REQUEST_SUSPEND,
  MACHINE_REQUEST_RESUME,
  MACHINE_REQUEST_UNDEFINE,
  // What came of them.
  MACHINE_STARTED,       // QEMU runs, a guest agent is expected
  MACHINE_STARTED_PLAIN, // QEMU runs, nothing more is expected
  MACHINE_START_FAILED,
  MACHINE_REQUEST_GIVEN_UP, // shutdown or reboot did not happen in time
  // What happens by itself.
  MACHINE_FOUND,        // steled started and QEMU runs
  MACHINE_FOUND_PAUSED, // ditto, its CPUs stopped
  MACHINE_FOUND_ENDED,  // steled started, QEMU was running when it was last seen, and is gone
  MACHINE_GUEST_READY,
  MACHINE_GUEST_FAILED,
  MACHINE_GUEST_RESET,
  MACHINE_BOOT_FAILED, // the guest reset or powered off before userspace ran; QEMU is being ended
  MACHINE_SUSPENDED,
  MACHINE_HOST_PAUSED, // QEMU stopped the CPUs for want of space or an I/O error
  MACHINE_RESUMED,
  MACHINE_SHARE_DIED,
  MACHINE_POWERED_OFF,
  MACHINE_COMMAND_EXITED, // powered off because init=command ended
  MACHINE_DESTROYED,
  MACHINE_DIED, // QEMU ended and nobody asked it to
} MachineEvent;

typedef struct MachineLife {
  MachineState state;
  const char *reason;     // static text, see the list in org.stele.Manager1.xml
  MachineState resume_to; // the state a paused or stopping machine goes back to
  const char *resume_reason;
} MachineLife;

// Applies the event. FALSE, and nothing changed, when the table has no row for it: a request is
// then to be refused, a happening ignored.
gboolean machine_life_apply(MachineLife *life, MachineEvent event);

// Whether the event would be accepted.
gboolean machine_life_accepts(const MachineLife *life, MachineEvent event);

// Whether QEMU runs in this state.
gboolean machine_state_is_active(MachineState state);

// The name the API uses.
const char *machine_state_name(MachineState state);

// A reason's name as the static text of the table, or "unknown": for reasons read back from disk.
const char *machine_reason_intern(const char *reason);
