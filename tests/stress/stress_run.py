"""What tests/stress/run and tests/stress/real share: a run with a limit, its memory, and telling what came of it."""
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

import oracle
import where


# What a shell or nohup has this process ignore, programs that end themselves by these signals would ignore, too.
for inherited in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(inherited) == signal.SIG_IGN:
        signal.signal(inherited, signal.SIG_DFL)


def resident_kib(pid):
    """A process' memory but for what belongs to the emulator alone: its heap and the code it makes."""
    total, counted = 0, False
    for line in where.slurp(f"/proc/{pid}/smaps").splitlines():
        if re.match(r"[0-9a-f]+-", line):
            counted = " rwxp " not in line and not line.endswith("[heap]")
        elif line.startswith("Rss:") and counted:
            total += int(line.split()[1])
    return total


class Watch:
    """Samples the memory of a process until it ends."""

    def __init__(self, pid):
        self.pid, self.samples, self.stop = pid, [], threading.Event()
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()

    def sample(self):
        while not self.stop.wait(0.2):
            self.samples.append(resident_kib(self.pid))

    def growth(self):
        """From the end of the first third of the time to the most there was later."""
        self.stop.set()
        self.thread.join()
        late = [kib for kib in self.samples if kib][len(self.samples) // 3:]
        return max(late) - late[0] if late else 0


def run(command, environment, seconds, folder, on_hang=None, growth=None):
    """A Result; where it takes too long, after calling on_hang with the session. Appends to a list `growth` in KiB."""
    with open(f"{folder}/out.{os.getpid()}.{time.monotonic_ns()}", "w+b") as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
                                   cwd=folder, start_new_session=True)
        status = None
        watch = Watch(process.pid) if growth is not None else None
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            if on_hang:
                on_hang(process.pid)
        if watch:
            growth.append(watch.growth())
        end_session(process)
        for file in (out, err):
            file.seek(0)
        os.unlink(out.name)
        return oracle.Result(status, out.read(), err.read())


def end_session(process):
    """Ends what is left of a session of ours, also children that ignore everything else."""
    for pid in where.processes_of(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


def difference(native, translated, took, threads):
    """What two results differ in, as text."""
    text = [f"natively {native.how()}, translated {translated.how()} after {took:.1f} s"]
    expected = native.out.decode(errors="replace").splitlines()
    seen = translated.out.decode(errors="replace").splitlines()
    at = next((i for i, pair in enumerate(zip(expected, seen)) if pair[0] != pair[1]), min(len(expected), len(seen)))
    text += [f"line {at + 1}: natively {expected[at:at + 1]}, translated {seen[at:at + 2]}"]
    text += translated.err.decode(errors="replace").splitlines()[-4:] + threads
    return "\n".join(text)


def report(name, took, text):
    """Prints a finished run; whether it failed."""
    left_out = text is not None and text.startswith("left out")
    print(f"{'left' if left_out else 'FAIL' if text else 'ok  '} {took:5.1f} s {name}", flush=True)
    if text:
        print("    " + text.replace("\n", "\n    "), flush=True)
    return text is not None and not left_out
