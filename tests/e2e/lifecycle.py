"""Every command of vmctl on a machine that works, and the machine's own power-off and reboot."""
import json
import os
import pty
import select
import signal
import subprocess
import time

from boot import FULL
from harness import PATIENCE, Events, check, check_contains, check_equal, machine_xml


def running(steled, name, **options):
    steled.define(name, machine_xml(name, FULL, **options))
    steled.vmctl("start", "--wait", name)


def remove(steled, name):
    steled.run("destroy", name)
    steled.vmctl("undefine", name)


def commands(place):
    steled = place.shared_steled()
    events = Events(steled)
    try:
        steled.define("life", machine_xml("life", FULL, vcpus=2))
        events.wait(name="life", event="defined")
        check_equal(steled.state("life")[0], "stopped", "state after define")
        check_contains(steled.vmctl("dumpxml", "life").stdout, "stele:rootfs", "dumpxml")
        steled.vmctl("start", "life")
        check(steled.state("life")[0] in ("booting", "running"), "start returns when QEMU runs")
        events.wait(name="life", state="running", timeout=120)
        steled.refuses("start", "life", saying="life")
        info = steled.info("life")
        check_equal((info["state"], info["guest-state"], info["agent"]), ("running", "ready", True), "info")
        steled.vmctl("suspend", "life")
        events.wait(name="life", state="paused")
        check_equal(steled.state("life")[0], "paused", "state")
        steled.vmctl("resume", "life")
        events.wait(name="life", state="running")
        check_equal(steled.sh("life", "echo back"), "back\n", "exec after resume")
        found = {row["check"]: row for row in json.loads(steled.vmctl("doctor", "--json", "life").stdout)}
        check_equal([found[name]["result"] for name in ("machine", "options", "translated-by", "cache")], ["ok", "ok", "ok", "note"], "doctor")
        check_contains(found["options"]["message"], "cpu x86-64-v3", "doctor")
        boot_id = steled.sh("life", "cat /proc/sys/kernel/random/boot_id")
        steled.vmctl("reboot", "--wait", "life", timeout=240)
        check(steled.sh("life", "cat /proc/sys/kernel/random/boot_id") != boot_id, "the machine has booted anew")
        steled.refuses("undefine", "life", saying="life")
        steled.vmctl("shutdown", "life")
        events.wait(name="life", state="stopped", reason="shutdown")
        steled.vmctl("start", "--wait", "life")
        steled.vmctl("destroy", "life")
        events.wait(name="life", state="stopped", reason="destroyed")
        steled.vmctl("undefine", "life")
        events.wait(name="life", event="undefined")
    finally:
        events.close()
    check_equal([m for m in steled.machines() if m["name"] == "life"], [], "list after undefine")
    check("version" in json.loads(steled.vmctl("version", "--json").stdout), "version")


# A row: what it shows, vmctl exec's options, the shell script, its input, expected status, output, errors.
EXEC_ROWS = [
    ("status", [], "exit 7", "", 7, "", ""),
    ("signal", [], "kill -TERM $$", "", 128 + 15, "", ""),
    ("kill", [], "kill -KILL $$", "", 128 + 9, "", ""),
    ("output and errors apart", [], "echo out; echo err >&2", "", 0, "out\n", "err\n"),
    ("input", [], "cat", "line one\nline two", 0, "line one\nline two", ""),
    ("end of input", [], "wc -c", "12345", 0, "5\n", ""),
    ("environment", ["--env", "COLOUR=green"], "echo $COLOUR $HOME $USER", "", 0, "green /root root\n", ""),
    ("directory", ["--cwd", "/usr/bin"], "pwd", "", 0, "/usr/bin\n", ""),
    ("user", ["--user", "user"], "id -un; id -u; pwd", "", 0, "user\n1000\n/home/user\n", ""),
    ("output after closing input", [], "exec 0<&-; echo ok", "ignored", 0, "ok\n", ""),
    ("a background child keeps no one waiting", [], "sleep 1000 & echo gone", "", 0, "gone\n", ""),
    ("translated", [], "grep -m1 -o VirtualStele /proc/cpuinfo", "", 0, "VirtualStele\n", ""),
]


def exec_rows(place):
    steled = place.shared_steled()
    running(steled, "exec")
    for what, options, script, given, status, output, errors in EXEC_ROWS:
        result = steled.run("exec", *options, "exec", "--", "sh", "-c", script, input=given)
        check_equal((result.returncode, result.stdout, result.stderr), (status, output, errors), f"exec: {what}")
    check_equal(steled.run("exec", "exec", "--", "no-such-program").returncode, 127, "no such program")
    check_equal(steled.run("exec", "exec", "--", "/etc/passwd").returncode, 126, "not executable")
    check_equal(steled.run("exec", "--user", "nobody-here", "exec", "--", "true").returncode, 127, "no such user")
    large = os.urandom(3 << 20)
    result = steled.run("exec", "exec", "--", "cat", input=large, text=False)
    check(result.stdout == large, f"3 MiB through cat: {len(result.stdout)} bytes came back")
    many = [steled.popen("exec", "exec", "--", "sh", "-c", f"read x; exit {n}", stdin=subprocess.PIPE) for n in range(8)]
    for process in many:
        process.stdin.close()
    check_equal([process.wait(120 * PATIENCE) for process in many], list(range(8)), "eight at once")
    remove(steled, "exec")


def read_until(fd, text, timeout=60):
    """Reads a terminal until `text` has appeared."""
    seen, deadline = b"", time.monotonic() + timeout * PATIENCE
    while text not in seen:
        ready = select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]
        check(ready, f"the terminal never showed {text!r}; it showed {seen!r}")
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        check(data, f"the terminal closed without {text!r}; it showed {seen!r}")
        seen += data
    return seen


def terminal(place):
    steled = place.shared_steled()
    running(steled, "tty")
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = steled.popen("exec", "--tty", "tty", "--", "sh", "-c", "tty; stty size; read line; echo got=$line; stty size; cat",
                           stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "dumb"})
    os.close(slave)
    try:
        seen = read_until(master, b"40 100")
        check(b"/dev/pts/" in seen, f"tty: {seen!r}")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        os.kill(process.pid, signal.SIGWINCH)
        # The new size is on its way before the line, on the same channel.
        os.write(master, b"word\r")
        read_until(master, b"got=word")
        read_until(master, b"50 120")
        os.write(master, b"\x03")  # cat dies of ^C, as on any terminal
        check_equal(process.wait(60 * PATIENCE), 128 + 2, "^C")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    remove(steled, "tty")


def whole_screen(place):
    """A program that runs long has the screen for itself: nothing of vmctl's between its lines."""
    steled = place.shared_steled()
    running(steled, "screen")
    for command in (["exec", "--tty", "screen", "--", "sh", "-c", "echo first; sleep 4; echo last"],
                    ["exec", "--no-tty", "screen", "--", "sh", "-c", "echo first; sleep 4; echo last"]):
        master, slave = pty.openpty()
        process = steled.popen(*command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:
            pass
        check_equal(process.wait(60 * PATIENCE), 0, "status")
        os.close(master)
        # What it says while the program is being started is wiped away again before the first line.
        screen = seen.rsplit(b"\r\x1b[K", 1)[-1] if b"first" not in seen.split(b"\r\x1b[K", 1)[0] else seen
        check_equal(screen, b"first\r\nlast\r\n", f"the screen of {command[1]}, whole output {seen}")
    check_equal(steled.sh("screen", "true"), "", "exec")
    check_equal(steled.run("exec", "-u", "1000:1000", "screen", "--", "sh", "-c", "id -u; id -g; id -G").stdout, "1000\n1000\n1000\n", "-u 1000:1000")
    check_equal(steled.run("exec", "-e", "OWN_NAME", "screen", "--", "sh", "-c", "echo $OWN_NAME",
                           env={**os.environ, "OWN_NAME": "a b"}).stdout, "a b\n", "-e NAME")
    remove(steled, "screen")


def two_at_once(place):
    steled = place.shared_steled()
    for name in ("one", "two"):
        steled.define(name, machine_xml(name, FULL))
        steled.vmctl("start", name)
    events = Events(steled)
    try:
        for name in ("one", "two"):
            if steled.state(name)[0] != "running":
                events.wait(name=name, state="running", timeout=180)
        for name in ("one", "two"):
            steled.sh(name, f"echo {name} >/root/name")
        check_equal([steled.sh(name, "cat /root/name; hostname") for name in ("one", "two")],
                    ["one\none\n", "two\ntwo\n"], "each has its own root")
        steled.vmctl("destroy", "one")
        check_equal(steled.sh("two", "echo alive"), "alive\n", "the other one")
    finally:
        events.close()
    remove(steled, "one")
    remove(steled, "two")


def guest_power_off(place):
    steled = place.shared_steled()
    running(steled, "off")
    events = Events(steled)
    try:
        steled.run("exec", "off", "--", "systemctl", "poweroff", "--force", "--force")
        events.wait(name="off", state="stopped", reason="shutdown")
    finally:
        events.close()
    remove(steled, "off")


def guest_reboot(place):
    steled = place.shared_steled()
    running(steled, "again")
    events = Events(steled)
    boot_id = steled.sh("again", "cat /proc/sys/kernel/random/boot_id")
    try:
        steled.run("exec", "again", "--", "systemctl", "reboot", "--force", "--force")
        events.wait(name="again", state="booting", reason="rebooted")
        events.wait(name="again", state="running", timeout=180)
        check(steled.sh("again", "cat /proc/sys/kernel/random/boot_id") != boot_id, "booted anew")
    finally:
        events.close()
    remove(steled, "again")


def console(place):
    """What the guest prints is on its console, and what is typed there reaches it."""
    steled = place.shared_steled()
    script = "echo console is here; read line; echo typed=$line; sleep 1000"
    steled.define("talk", machine_xml("talk", FULL, command=("/bin/sh", "-c", script)))
    steled.vmctl("start", "--wait", "talk")
    master, slave = pty.openpty()
    process = steled.popen("console", "talk", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        os.write(master, b"hello\r")
        read_until(master, b"typed=hello")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    remove(steled, "talk")


TESTS = [
    ("commands", commands, True),
    ("exec", exec_rows, True),
    ("terminal", terminal, True),
    ("whole-screen", whole_screen, True),
    ("two-at-once", two_at_once, True),
    ("guest-power-off", guest_power_off, True),
    ("guest-reboot", guest_reboot, True),
    ("console", console, False),
]
