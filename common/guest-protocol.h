// The contract between steled on the host and stele-agent in the guest. Both sides include this file and
// nothing of one another; what is written here is what a third implementation would need.
//
// Constraints: plain C, no library, no allocation. Either side may be of another version, and the host
// treats everything the guest sends as hostile: every length is checked before it is used.
//
// 1. Kernel command line (host -> guest, at boot)
//    One STELE_PARAM_* per row below, written PARAM=VALUE. Values hold no white space or quotes. The
//    whole command line must stay below STELE_COMMAND_LINE_MAX. Unknown stele.* parameters are ignored.
//
// 2. Agent channel, virtio-serial port STELE_AGENT_CHANNEL
//    The QEMU guest agent's protocol (one JSON object a line), so that libvirt's own functions work where
//    libvirt is a process of its own. `guest-shutdown` is answered {"return":{}} before it acts.
//
// 3. Stream channel, virtio-serial port STELE_STREAM_CHANNEL
//    Frames: a header of STELE_FRAME_HEADER_SIZE bytes, little endian, then `length` bytes of payload:
//
//      offset 0  u8   version   STELE_FRAME_VERSION; a zero byte here is padding and is skipped
//             1  u8   type      SteleFrameType
//             2  u16  flags     0; a receiver rejects frames with bits it does not know
//             4  u32  stream    0 is the channel itself, others are streams
//             8  u32  length    of the payload, at most STELE_FRAME_PAYLOAD_MAX
//
//    Session. The host opens a session with STELE_FRAME_SIZE_MAX zero bytes (they complete whatever
//    frame an earlier, killed host left half sent; the rest is padding) and a HELLO frame with a fresh
//    nonce. The guest then hangs up every stream of the session before, and answers HELLO with the
//    same nonce, followed by STATUS. The host discards all bytes until the HELLO with its nonce. The
//    guest also resets its parser when the port reports that the host went away. Either side that
//    receives a frame that breaks a rule ends the session: the host closes the channel, the guest
//    sends a HELLO of its own and drops all input until padding followed by a HELLO arrives. A HELLO
//    in an open session thus tells the host to open a new one. The guest sends STATUS again whenever
//    its state changes while a session is open.
//
//    Streams. The host picks the stream number, counting up from 1 in a session and never reusing one.
//    OPEN_EXEC starts a program; the guest answers OPENED or ERROR. Data flows in DATA frames on three
//    channels: 0 stdin (host -> guest), 1 stdout, 2 stderr (guest -> host). With a terminal there is
//    no channel 2. EOF ends a channel: from its sender, no more data comes; from its receiver (the host,
//    for 1 and 2), nobody reads it any more, and the guest closes its end so that the program gets
//    SIGPIPE. The guest sends EXIT once the program is reaped
//    and the output that was in its pipes or terminal by then has been sent; a descendant that keeps
//    them open does not delay it. EXIT and ERROR end the stream: no more frames for it either way
//    (frames that crossed on the wire are ignored). CLOSE is the host hanging up: the guest sends SIGHUP
//    to the program's process group (as a terminal would), closes its ends, sends nothing more, and
//    reaps the program silently.
//
//    Commands. COMMAND takes a number of the same sequence; the guest answers REPLY, which ends it.
//
//    Flow control. Per stream and channel the sender of DATA starts with STELE_STREAM_WINDOW bytes of
//    credit, spends the number of data bytes (the channel byte not counted), and gets credit back by
//    WINDOW frames. Sending more than the credit ends the session. Credit never exceeds
//    STELE_STREAM_WINDOW.
#pragma once

#include <stdint.h>

// --- 1. kernel command line ---------------------------------------------------------------------------

// arm64's COMMAND_LINE_SIZE, terminating NUL included (Linux, arch/arm64/include/uapi/asm/setup.h).
#define STELE_COMMAND_LINE_MAX 2048

// virtiofs:TAG or disk:DEVICE[,FSTYPE]; FSTYPE defaults to ext4.
#define STELE_PARAM_ROOT "stele.root"
// overlay: the root is mounted read-only below an overlay whose upper layer is guest memory and
// vanishes with the boot; rw: written through; ro: read-only.
#define STELE_PARAM_MODE "stele.mode"
// DEVICE[,FSTYPE] (default ext4): a disk that holds the overlay's upper layer, so that changes outlast the boot.
#define STELE_PARAM_CHANGES "stele.changes"
// TAG:rw:PATH or TAG:ro:PATH: mount the virtiofs share TAG at PATH of the userspace. May be repeated, up to
// STELE_SHARES_MAX times; a byte of PATH that is white space, a quote, '%' or a control character is %XX.
#define STELE_PARAM_SHARE "stele.share"
#define STELE_SHARES_MAX  16
// system: execute the distribution's /sbin/init (or the path given as system:PATH);
// command: run STELE_PARAM_COMMAND, then power off; none: run nothing but a reaper of orphans until asked to stop.
#define STELE_PARAM_INIT "stele.init"
// Host name, set before the init runs.
#define STELE_PARAM_HOSTNAME "stele.hostname"
// Tag of the virtiofs share that holds the translator, a file named STELE_TRANSLATOR_FILE at its top; or
// disk:DEVICE[,FSTYPE] (default erofs), a disk that does. Mounted read-only at STELE_SHARE_MOUNT_POINT.
#define STELE_PARAM_TRANSLATOR "stele.translator"
// The CPU level, its vendor and the memory model the translator is to present; the agent hands them on.
#define STELE_PARAM_CPU          "stele.cpu"
#define STELE_PARAM_CPU_VENDOR   "stele.cpu-vendor"
#define STELE_PARAM_MEMORY_MODEL "stele.memory-model"
// needed (the default): systemd's units that are of no use in a machine are masked for the boot; all: only those that
// would break it. Not written by steled: for <cmdline>.
#define STELE_PARAM_UNITS "stele.units"
// Base64 (RFC 4648, padded, no line breaks) of a JSON object
//   {"argv": ["/usr/bin/env", "A"], "env": ["K=V"], "cwd": "/", "user": "name-or-uid", "stop-signal": 15}
// argv is required and not empty, argv[0] is looked up in PATH when it has no '/'. env adds to the
// agent's default environment; stop-signal is what asks the command to stop. When the command ends the agent prints
//   stele-agent: command exited with status N   or   stele-agent: command was killed by signal N
// on the console and powers the machine off.
#define STELE_PARAM_COMMAND "stele.command"

#define STELE_SHARE_MOUNT_POINT "/run/stele"
#define STELE_TRANSLATOR_FILE   "stele"

// Tags steled gives to the shares it adds.
#define STELE_TAG_TRANSLATOR "stele"
#define STELE_TAG_ROOT       "stele-root"
#define STELE_TAG_SHARE      "stele-share-" // and a number

// --- 2. agent channel ---------------------------------------------------------------------------------

// Only where libvirt runs in a process of its own: the QEMU guest agent's protocol (QEMU, docs/interop/qemu-ga-ref),
// for other users of that libvirt. steled does not use it, and a libvirt embedded in steled must not parse what a
// guest says. The commands are those of part 3.
#define STELE_AGENT_CHANNEL "org.qemu.guest_agent.0"

#define STELE_PROTOCOL_VERSION 2

// Names of the guest's states, in the order they are passed through.
#define STELE_GUEST_BOOTING  "booting"  // mounting, registering the translator
#define STELE_GUEST_STARTING "starting" // the init or command is being executed
#define STELE_GUEST_READY    "ready"    // an x86-64 init or command runs: its execve succeeded
#define STELE_GUEST_STOPPING "stopping" // powering off or rebooting
#define STELE_GUEST_FAILED   "failed"   // cannot continue; message says why. The agent keeps answering

// --- 3. stream channel --------------------------------------------------------------------------------

#define STELE_STREAM_CHANNEL "org.stele.stream.0"

#define STELE_FRAME_VERSION     1
#define STELE_FRAME_HEADER_SIZE 12
#define STELE_FRAME_PAYLOAD_MAX 65536
#define STELE_FRAME_SIZE_MAX    (STELE_FRAME_HEADER_SIZE + STELE_FRAME_PAYLOAD_MAX)

#define STELE_STREAM_WINDOW  262144 // bytes a sender may have outstanding, per stream and channel
#define STELE_STREAMS_MAX    64     // open at once; OPEN_EXEC beyond is answered with ERROR "busy"
#define STELE_NONCE_SIZE     16
#define STELE_DATA_CHUNK_MAX (STELE_FRAME_PAYLOAD_MAX - 1) // data bytes in one DATA frame

typedef enum SteleFrameType {
  // Both ways, stream 0: nonce[16], u32 STELE_PROTOCOL_VERSION. See "Session".
  STELE_FRAME_HELLO = 1,
  // Guest -> host, stream 0: JSON, the guest's state:
  //   {"version": "0.1.0",        the agent's
  //    "protocol": 2,             STELE_PROTOCOL_VERSION
  //    "state": "booting",        a STELE_GUEST_… name above
  //    "message": "",             for a person: what is being done, or why state is "failed"
  //    "init": "system",          as STELE_PARAM_INIT
  //    "uptime-ms": 2900,         guest's monotonic clock now
  //    "ready-ms": 0,             the same clock when state became "ready"; 0 before
  //    "translator": {"registered": true, "cpu": "x86-64-v3", "memory-model": "auto"},
  //    "command": {"signalled": false, "value": 0}}    only once the command of init=command has ended
  STELE_FRAME_STATUS = 2,
  // Host -> guest: JSON {"argv": [...], "env": ["K=V"], "cwd": "/", "user": "name-or-uid[:group-or-gid]",
  //   "tty": false, "rows": 24, "cols": 80}. No argv or an empty one: the user's login shell, started
  // as a login shell. user defaults to root, cwd to the user's home directory, env adds to
  // HOME, USER, LOGNAME, SHELL, PATH and, with a terminal, TERM.
  STELE_FRAME_OPEN_EXEC = 3,
  // Guest -> host: JSON {"pid": N}; the program's execve succeeded.
  STELE_FRAME_OPENED = 4,
  // Both ways: u8 channel, then 1..STELE_DATA_CHUNK_MAX bytes.
  STELE_FRAME_DATA = 5,
  // Both ways: u8 channel, three zero bytes, u32 credit (1..STELE_STREAM_WINDOW).
  STELE_FRAME_WINDOW = 6,
  // Both ways: u8 channel.
  STELE_FRAME_EOF = 7,
  // Host -> guest: u16 rows, u16 columns.
  STELE_FRAME_RESIZE = 8,
  // Host -> guest: u32 signal number (Linux's, 1..64), sent to the program's process group.
  STELE_FRAME_SIGNAL = 9,
  // Guest -> host: u32 kind (SteleExitKind), u32 value (exit status 0..255, or signal number).
  STELE_FRAME_EXIT = 10,
  // Guest -> host: JSON {"code": "...", "message": "..."}; codes below.
  STELE_FRAME_ERROR = 11,
  // Host -> guest: no payload.
  STELE_FRAME_CLOSE = 12,
  // Host -> guest: JSON {"execute": NAME, "arguments": {...}}, names and arguments as of the QEMU guest agent:
  // guest-shutdown, guest-set-time, guest-fsfreeze-freeze, … (guest-agent/command-table.c). The command has a number as
  // a stream has, and lasts until its answer.
  STELE_FRAME_COMMAND = 13,
  // Guest -> host: JSON {"return": VALUE} or {"error": {"class": "...", "desc": "..."}}. Ends the command.
  STELE_FRAME_REPLY = 14,
} SteleFrameType;

typedef enum SteleChannel {
  STELE_CHANNEL_STDIN = 0,
  STELE_CHANNEL_STDOUT = 1,
  STELE_CHANNEL_STDERR = 2,
} SteleChannel;

typedef enum SteleExitKind {
  STELE_EXIT_STATUS = 0,
  STELE_EXIT_SIGNAL = 1,
} SteleExitKind;

#define STELE_STREAM_ERROR_NOT_FOUND "not-found" // no such program, directory or user
#define STELE_STREAM_ERROR_DENIED    "denied"    // found, but may not be executed
#define STELE_STREAM_ERROR_FORMAT    "format"    // found, but the kernel cannot execute it (ENOEXEC)
#define STELE_STREAM_ERROR_INVALID   "invalid"   // the request itself is wrong
#define STELE_STREAM_ERROR_BUSY      "busy"      // too many streams, or the guest is not ready
#define STELE_STREAM_ERROR_FAILED    "failed"    // anything else; message says what
