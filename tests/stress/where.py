"""Where the threads of hung processes are: states by /proc, registers by ptrace, names by nm.

On AArch64 the registers are the translator's own. Under qemu-aarch64 they are in the emulator's CPUARMState (QEMU
7.2, target/arm/cpu.h: regs, xregs, pc), which is found on the thread's stack by what it must look like. Nothing of
this is exact where the emulator or the translator changes: it is for reading, no test depends on it.
"""
import ctypes
import os
import re
import struct
import subprocess

ATTACH, INTERRUPT, DETACH, GETREGSET = 0x4206, 0x4207, 17, 0x4204
WALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long
REGISTER_FILE = 64  # of CPUARMState: xregs; pc follows them
RSP, RIP, NZCV = 4 * 8, 16 * 8, 17 * 8  # of GuestCpu (translator/guest/state.h)


def slurp(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return f"({error.strerror})"


class Memory:
    """Another process' memory and map."""

    def __init__(self, pid):
        self.file = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self.ranges = []
        for line in slurp(f"/proc/{pid}/maps").splitlines():
            found = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line)
            if found:
                self.ranges.append((int(found[1], 16), int(found[2], 16), found[3], found[4]))

    def find(self, address):
        for low, high, protection, name in self.ranges:
            if low <= address < high:
                return low, protection, name
        return None

    def words(self, address, count):
        if not 0 <= address < 1 << 63:
            return ()
        try:
            data = os.pread(self.file, count * 8, address)
        except (OSError, OverflowError):
            return ()
        return struct.unpack(f"<{len(data) // 8}Q", data[:len(data) // 8 * 8])


class Names:
    """The translator's functions by address."""

    def __init__(self, path):
        out = subprocess.run(["nm", "-n", path], capture_output=True, text=True, check=False).stdout
        self.symbols = [(int(line.split()[0], 16), line.split()[2]) for line in out.splitlines()
                        if len(line.split()) == 3 and line.split()[1] in "tTwW" and not line.split()[2].startswith("$")]

    def find(self, offset):
        best = None
        for address, name in self.symbols:
            if address > offset:
                break
            best = f"{name}+0x{offset - address:x}"
        return best


def registers(tid):
    """The general registers of a thread, which is stopped meanwhile; None where that is not permitted."""
    if libc.ptrace(ATTACH, tid, 0, 0) < 0:
        return None
    libc.ptrace(INTERRUPT, tid, 0, 0)
    os.waitpid(tid, WALL)
    buffer = ctypes.create_string_buffer(512)
    vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 512)
    failed = libc.ptrace(GETREGSET, tid, 1, ctypes.addressof(vector)) < 0
    libc.ptrace(DETACH, tid, 0, 0)
    return None if failed else struct.unpack(f"<{vector[1] // 8}Q", buffer.raw[:vector[1]])


def describe(address, memory, stele, names):
    """An AArch64 code address as text, or None where there can't be code."""
    place = memory.find(address)
    if not place:
        return None
    if place[2] == stele:
        base = min(low for low, _, _, name in memory.ranges if name == stele)
        return names.find(address - base)
    return None if place[2] else f"translated code {address:#x}"


def guest_cpu(memory, pointer):
    """The first words of the GuestCpu at a pointer, or None where there can't be one."""
    if pointer % 16 or not memory.find(pointer):
        return None
    cpu = memory.words(pointer, 18)
    if len(cpu) < 18 or cpu[NZCV // 8] & ~0xf0000000 or min(cpu[RSP // 8], cpu[RIP // 8]) < 0x1000:
        return None
    return cpu if memory.find(cpu[RSP // 8]) and memory.find(cpu[RIP // 8]) else None


def emulated(memory, host, stele, names):
    """x0-x31 and pc of the thread's CPUARMState."""
    for candidate in list(host) + list(memory.words(host[19], 2048)):
        place = memory.find(candidate)
        if candidate % 16 or not place or not place[1].startswith("rw"):
            continue
        state = memory.words(candidate + REGISTER_FILE, 33)
        if len(state) < 33 or state[32] % 4 or state[31] % 16 or not memory.find(state[31]):
            continue
        text = describe(state[32], memory, stele, names)
        if text and (not text.startswith("translated") or guest_cpu(memory, state[28])):
            return state
    return None


def guest_rip(memory, state):
    """The RIP the translator last stored for the thread: exact in C code, old in translated code."""
    for pointer in [state[28]] + list(state[19:28]) + list(memory.words(state[31], 512)):
        cpu = guest_cpu(memory, pointer)
        if cpu:
            place = memory.find(cpu[RIP // 8])
            return f"guest: rip {cpu[RIP // 8]:#x} in {os.path.basename(place[2]) or 'memory'} when last stored, " \
                   f"rsp {cpu[RSP // 8]:#x}, rax {cpu[0]:#x}"
    return "guest: rip unknown"


def backtrace(memory, state, stele, names):
    """pc, then return addresses by the frame pointers of the translator's C."""
    calls = [describe(state[32], memory, stele, names)]
    frame = state[29]
    for _ in range(8):
        link = memory.words(frame, 2) if frame % 8 == 0 and memory.find(frame) else ()
        text = describe(link[1], memory, stele, names) if len(link) == 2 else None
        if not text:
            break
        calls.append(text)
        if link[0] <= frame:
            break
        frame = link[0]
    return " < ".join(calls)


def thread_text(pid, tid, memory, stele, names):
    status = slurp(f"/proc/{pid}/task/{tid}/stat")
    state = status.rpartition(")")[2].split()[:1]
    text = f"    thread {tid}: state {''.join(state)}, wchan {slurp(f'/proc/{pid}/task/{tid}/wchan')}, " \
           f"syscall {slurp(f'/proc/{pid}/task/{tid}/syscall')}"
    host = registers(tid)
    if not host:
        return text + "\n      (no registers)"
    if os.uname().machine == "aarch64":
        own = host[:33]
    else:
        own = emulated(memory, host, stele, names)
    if not own:
        return text + f"\n      not found in translated code or the translator; host PC 0x{host[16]:x}"
    return text + f"\n      {backtrace(memory, own, stele, names)}\n      {guest_rip(memory, own)}"


def processes_of(session):
    """All processes of a session that one of our runs started."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        fields = slurp(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(fields) > 3 and int(fields[3]) == session and (fields[0] != "Z" or threads_of(pid)):
            found.append(int(pid))
    return sorted(found)


def threads_of(pid):
    """The threads of a process that have not ended; its first one may have."""
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    states = {int(tid): slurp(f"/proc/{pid}/task/{tid}/stat").rpartition(")")[2].split()[:1] for tid in tids}
    return sorted(tid for tid, state in states.items() if state not in ([], ["Z"], ["X"]))


def dump(session, stele):
    """Text about every thread of every process of a session."""
    stele = os.path.realpath(stele)
    names = Names(stele)
    lines = []
    for pid in processes_of(session):
        command = slurp(f"/proc/{pid}/cmdline").replace("\0", " ")
        lines.append(f"  process {pid}: {command[-100:]}, pending {pending(pid)}")
        try:
            tids = threads_of(pid)
            memory = Memory(tids[0] if tids else pid)
        except OSError as error:
            lines.append(f"    ({error.strerror})")
            continue
        lines += [thread_text(pid, tid, memory, stele, names) for tid in tids[:12]]
        os.close(memory.file)
    return "\n".join(lines)


def pending(pid):
    found = re.findall(r"^(?:SigPnd|ShdPnd|SigBlk):\s*(\w+)", slurp(f"/proc/{pid}/status"), re.M)
    return "/".join(found)
