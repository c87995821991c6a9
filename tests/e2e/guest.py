"""What the guest offers to those who work in it: kernel modules, sessions, terminals, the right time."""
import fcntl
import hashlib
import json
import os
import pty
import select
import shlex
import socket
import struct
import subprocess
import termios
import time

import pyte

import userspace
from boot import FULL, IMAGE
from harness import PATIENCE, Failure, check, check_contains, check_equal, machine_xml

ROWS, COLUMNS = 30, 90

# --- modules -------------------------------------------------------------------------------------------

# Each line makes the kernel ask for a module, or asks for one itself.
MODULES = r"""
set -e
ip link add veth0 type veth peer name veth1
ip link add bridge0 type bridge && ip link set veth0 master bridge0
ip link add dummy0 type dummy && ip link add link veth1 name vlan0 type macvlan
ip tuntap add tap0 mode tap && test -c /dev/net/tun
nft add table ip t && nft add chain ip t out '{ type nat hook postrouting priority 100; }'
nft add rule ip t out oifname bridge0 masquerade && nft add rule ip t out ct state new counter
nft list table ip t | grep -c -e masquerade -e 'ct state'
modprobe br_netfilter && cat /proc/sys/net/bridge/bridge-nf-call-iptables
modprobe xt_conntrack && modprobe ip_tables && modprobe --show-depends overlay | grep -o 'overlay.ko.*'
ip -o link | grep -o -e 'veth0@veth1.*master bridge0' -e tap0 -e dummy0 -e vlan0@veth1 | sed 's/:.*master/ in/' | sort
"""


def modules(place):
    steled = userspace.machine(place)
    got = steled.run("exec", "userspace", "--", "unshare", "--net", "sh", "-c", MODULES, timeout=300)
    check_equal((got.returncode, got.stdout.splitlines()),
                (0, ["2", "1", "overlay.ko.xz ", "dummy0", "tap0", "veth0@veth1 in bridge0", "vlan0@veth1"]),
                f"modules ({got.stderr})")


# --- terminals -----------------------------------------------------------------------------------------

class Screen(pyte.Screen):
    """pyte takes settings of the keyboard (CSI > … m) for colours, and cannot."""

    def select_graphic_rendition(self, *attributes, private=False):
        if not private:
            super().select_graphic_rendition(*attributes)


class Terminal:
    """A program on a terminal of ROWS and COLUMNS, with the screen that its output makes."""

    def __init__(self, command):
        self.screen = Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        self.master, slave = pty.openpty()
        self.resize(ROWS, COLUMNS)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                        env={**os.environ, "TERM": "linux"})
        os.close(slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def read(self, deadline):
        """Whether there was something; False at the end."""
        ready = select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            raise Failure("the terminal shows:\n" + "\n".join(self.lines()))
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.bytes += data
        self.stream.feed(data)
        return bool(data)

    def wait(self, shown, timeout=120):
        """Reads until shown(lines of the screen)."""
        deadline = time.monotonic() + timeout * PATIENCE
        while not shown(self.lines()):
            check(self.read(deadline), "the terminal closed; it showed:\n" + "\n".join(self.lines()))

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def type(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        while data:
            ready = select.select([self.master], [self.master], [], 60 * PATIENCE)
            if ready[0]:
                self.read(time.monotonic() + 60)
            if ready[1]:
                data = data[os.write(self.master, data[:1024]):]

    def end(self, timeout=120):
        """Reads to the end; the exit status."""
        deadline = time.monotonic() + timeout * PATIENCE
        while self.read(deadline):
            pass
        return self.process.wait(timeout * PATIENCE)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def shows(text):
    return lambda lines: any(text in line for line in lines)


def has_line(text):
    return lambda lines: text in lines


def last_line_is(text):
    return lambda lines: [line for line in lines if line][-1:] == [text]


def prompt_after(text):
    """A line that ends with the text, and then the prompt."""
    def shown(lines):
        last = [line for line in lines if line][-2:]
        return len(last) == 2 and last[0].endswith(text) and last[1] == ">"
    return shown


def has_ends(*texts):
    """Lines one below the other end so."""
    return lambda lines: any(all(line.endswith(text) for line, text in zip(lines[first:], texts))
                             for first in range(len(lines) - len(texts) + 1))


# A session is a program and steps: what to type once the screen shows what the step before led to, and what that is.
# What a key is to end says itself that it is there: a bash that is to become a program catches SIGINT almost until it does,
# and forgets one that comes behind its last look, here and on any machine.
PASTE = "\x1b[200~echo pasted\necho twice\x1b[201~"
BASH = ["bash", "--noprofile", "--norc"]
SESSIONS = {
    "bash": (BASH, [
        ("", shows("#")),
        ("PS1='> '; clear\r", last_line_is(">")),
        ("echo grün ‘→’ 漢字 $LINES $COLUMNS\r", prompt_after(" 30 90")),
        ("printf '\\033[31mred\\033[0m %s\\n' \"$(tty | cut -c 1-9)\"\r", prompt_after("red /dev/pts/")),
        ("echo go1; cat\r", has_line("go1")),
        ("one\r", lambda lines: lines.count("one") == 2), ("\x1a", prompt_after("Stopped                 cat")),
        ("fg\r", last_line_is("cat")), ("two\r", lambda lines: lines.count("two") == 2), ("\x04", prompt_after("two")),
        ("(exec sh -c 'echo go2; exec sleep 1000')\r", has_line("go2")), ("\x03", prompt_after("^C")),
        ("(trap '' INT; exec sh -c 'echo go3; exec sleep 1000')\r", has_line("go3")), ("\x1c", prompt_after("Quit")),
        (PASTE, shows("echo twice")), ("\r", prompt_after("twice")),
        ("abc\x1b[D\x1b[D\x7fX\x01echo \r", prompt_after("Xbc")),
        ("exit 7\r", None)], 7),
    "vim": (["vim.tiny", "-u", "NONE", "-N", "+set ruler showmode laststatus=2", "/tmp/text"], [
        ("", shows("/tmp/text")),
        ("i", shows("-- INSERT --")), ("first line\rzweite Zeile: grün\r" + "word " * 30, shows("word word")),
        ("\x1b", lambda lines: "-- INSERT --" not in lines[-1]), (":set number\r", shows("  1 first")),
        ("ggyyP:%s/word/WORD/g\r", shows("WORD")),
        (":w\r", lambda lines: "written" in lines[-1] and "[+]" not in lines[-2]),
        ("gg", shows("1,1")), ("G", shows("4,1"))], None),
    "tmux": (["tmux", "-u", "-f", "/dev/null", "-S", "/tmp/tmux", "new-session", "-n", "window", "bash --noprofile --norc"], [
        ("", shows("#")),
        ("PS1='> '; tmux set -g status-right ''; clear\r", lambda lines: lines[0] == ">"),
        ("echo left\r", has_line("left")),
        ("\x02%", shows("│")), ("PS1='> '; clear; seq 1 12\r", has_ends("│12", "│>")),
        ("\x02\"", shows("──")), ("PS1='> '; clear; echo grün\r", has_ends("│grün", "│>"))], None),
}


def play(command, steps, status, processes=lambda: ""):
    """Plays a session; what is on the screen in the end. `processes` tells of them where a step does not lead on."""
    terminal = Terminal(command)
    try:
        for text, shown in steps:
            terminal.type(text)
            if shown is None:
                check_equal(terminal.end(), status, f"status after {text!r}")
            else:
                try:
                    terminal.wait(shown)
                except Failure as failure:
                    raise Failure(f"after {text!r}: {failure}\n{processes()}") from None
        return terminal.lines()
    finally:
        terminal.close()


def natively(place, program):
    """The command that runs a program in the same root on this machine's processor."""
    directory = os.path.join(place.directory, "native")
    os.makedirs(directory, exist_ok=True)
    return [*userspace.WITH_DEFAULT_SIGNALS, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", userspace.NATIVE, "sh",
            directory, FULL, "exec env LANG=C.UTF-8 TERM=linux " + shlex.join(program)]


# Who has the terminal, and what each does with signals.
PROCESSES = ["ps", "-wweo", "pid,ppid,pgid,tpgid,stat,pending,blocked,ignored,caught,wchan:20,args"]


def session_test(name):
    """The screen in the end is the one of the same session on a terminal of this machine."""
    def test(place):
        steled = userspace.machine(place)
        steled.sh("userspace", "rm -f /tmp/text /tmp/tmux")
        program, steps, status = SESSIONS[name]
        inside = play(steled.command("exec", "--tty", "--env", "LANG=C.UTF-8", "userspace", "--", *program), steps, status,
                      lambda: steled.run("exec", "userspace", "--", *PROCESSES).stdout)
        outside = play(natively(place, program), steps, status)
        check_equal("\n".join(inside), "\n".join(outside), f"the screen of {name}")
    return test


def large_paste(place):
    """100 KB and every byte there is, through a terminal in raw mode, both ways."""
    steled = userspace.machine(place)
    data = bytes(range(256)) * 400
    terminal = Terminal(steled.command("exec", "--tty", "userspace", "--", "sh", "-c",
                                       f"stty raw -echo; echo ready; head -c {len(data)} >/tmp/pasted; cat /tmp/pasted; exec sha256sum /tmp/pasted"))
    try:
        terminal.wait(shows("ready"))
        terminal.type(data)
        check_equal(terminal.end(), 0, "status")
        check_contains(terminal.bytes, data, "what came back")
        check_contains(terminal.bytes, hashlib.sha256(data).hexdigest().encode(), "the sum of what arrived")
    finally:
        terminal.close()


WATCH_SIZE = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
while True:
    print("now", *reversed(os.get_terminal_size()), flush=True)
    signal.sigwait([signal.SIGWINCH])
"""


def resized(place):
    """A change of the window reaches the program as a signal and as a size."""
    steled = userspace.machine(place)
    terminal = Terminal(steled.command("exec", "--tty", "userspace", "--", "python3", "-c", WATCH_SIZE))
    try:
        time.sleep(0.3)  # not for an event: vmctl has asked for the program by now, which is not there yet
        terminal.resize(25, 80)
        terminal.wait(shows("now 25 80"))
        for rows, columns in ((20, 70), (33, 101)):
            terminal.resize(rows, columns)
            terminal.wait(shows(f"now {rows} {columns}"))
    finally:
        terminal.close()


# --- edges ---------------------------------------------------------------------------------------------

# What a system may have in its user data base: a name of any shape, a member of a group with very many, a long line before.
ODD_USERS = r"""
printf 'long:x:2000:2000:%05000d:/tmp:/bin/sh\nwe.ird-Us_er$:x:2001:2001::/tmp:/bin/sh\n' 0 >>/etc/passwd
printf 'weird:x:2001:\nmany:x:2002:%s,we.ird-Us_er$\n' "$(seq -s, -f member%g 1 900)" >>/etc/group
"""


def edges(place):
    """Programs and callers that do not behave as one might expect."""
    steled = userspace.machine(place)
    vmctl = steled.command("exec", "userspace", "--")

    def run(script, **options):
        return steled.run("exec", "userspace", "--", "sh", "-c", script, timeout=120, **options)

    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        got = subprocess.run(["sh", "-c", f"exec {closed}; exec \"$@\"", "sh", *vmctl, "sh", "-c", "cat; echo out; echo err >&2; exit 5"],
                             stdin=subprocess.DEVNULL, capture_output=True, timeout=120 * PATIENCE, check=False)
        wanted = (5, b"" if ">&- " in closed + " " and "2>&- " != closed + " " else b"out\n")
        check_equal((got.returncode, got.stdout), wanted, f"vmctl exec {closed}")
    got = run("head -c 1; exit 4", input="x" * (10 << 20))
    check_equal((got.returncode, got.stdout), (4, "x"), "10 MB for one who reads a byte")
    got = run("wc -c", input="x" * (10 << 20))
    check_equal((got.returncode, got.stdout), (0, f"{10 << 20}\n"), "10 MB")
    got = run("echo first; exec >&- 2>&-; read line; sleep 1; exit $line", input="6\n")
    check_equal((got.returncode, got.stdout), (6, "first\n"), "closed output")
    got = run("mkfifo /tmp/up; (setsid sh -c 'echo started; echo >/tmp/up; exec sleep 300' &); read line </tmp/up; echo end")
    check_equal((got.returncode, got.stdout), (0, "started\nend\n"), "a daemon")
    steled.sh("userspace", ODD_USERS)
    got = steled.run("exec", "--user", "we.ird-Us_er$", "userspace", "--", "sh", "-c", "id -u; id -G; echo $USER $HOME")
    check_equal((got.returncode, got.stdout), (0, "2001\n2001 2002\nwe.ird-Us_er$ /tmp\n"), f"an odd name ({got.stderr})")
    steled.sh("userspace", "dd if=/dev/zero of=/run/full bs=1M 2>/dev/null; echo x >/run/x || true")
    check_equal(run("echo works").stdout, "works\n", "exec with a full /run")
    steled.sh("userspace", "rm /run/full; cp /etc/passwd /etc/passwd.whole; sed -i 's|^\\(root:.*:\\).*|\\1/bin/none|' /etc/passwd")
    got = steled.run("shell", "userspace", input="")
    check_equal(got.returncode, 127, "the status of a shell that is missing")
    check_contains(got.stderr, "/bin/none", "which shell is missing")
    steled.sh("userspace", "mv /etc/passwd.whole /etc/passwd")


def ended_at(steled, delay):
    """A ^C at a moment of a program's start; the terminal's settings before and after."""
    terminal = Terminal(steled.command("exec", "--tty", "userspace", "--", "sleep", "301"))
    try:
        before = termios.tcgetattr(terminal.master)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and select.select([terminal.master], [], [], deadline - time.monotonic())[0]:
            terminal.read(deadline + 1)
        terminal.type("\x03")
        status = terminal.end()
        return status, before == termios.tcgetattr(terminal.master)
    finally:
        terminal.close()


def interrupted(place):
    """^C ends a program whenever it comes: by vmctl's end at first, then by the terminal's in the machine."""
    steled = userspace.machine(place)
    for delay in (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2):
        status, restored = ended_at(steled, delay)
        check(status in (-2, 130), f"^C after {delay} s: status {status}")
        check(restored, f"^C after {delay} s: the terminal is not as it was")
    steled.sh("userspace", "while pgrep -f '[s]leep 301' >/dev/null; do sleep 0.2; done", timeout=60)


def deaf_terminal(place):
    """vmctl ends when it is told to, also while its terminal takes nothing."""
    steled = userspace.machine(place)
    terminal = Terminal(steled.command("exec", "--tty", "userspace", "--", "sh", "-c", "echo begins; exec yes"))
    try:
        before = termios.tcgetattr(terminal.master)
        terminal.wait(shows("begins"))
        full = lambda: struct.unpack("i", fcntl.ioctl(terminal.master, termios.FIONREAD, b"\0" * 4))[0]
        waiting = -1
        while full() != waiting:  # it writes until nothing more fits
            waiting = full()
            time.sleep(1)
        terminal.process.terminate()
        check_equal(terminal.process.wait(60 * PATIENCE), -15, "status")
        check(before == termios.tcgetattr(terminal.master), "the terminal is not as it was")
    finally:
        terminal.close()
    steled.sh("userspace", "while pgrep -x yes >/dev/null; do sleep 0.2; done", timeout=60)


def stopped_under(place):
    """The machine ends while its shell is open: vmctl says so, and the terminal is as it was."""
    steled = place.shared_steled()
    steled.define("under", machine_xml("under", FULL))
    for command in (("destroy",), ("shutdown", "--timeout", "100")):
        steled.vmctl("start", "--wait", "under")
        terminal = Terminal(steled.command("shell", "under"))
        try:
            before = termios.tcgetattr(terminal.master)
            terminal.wait(shows("#"))
            check(termios.tcgetattr(terminal.master) != before, "the terminal is raw while the shell is open")
            steled.vmctl(*command, "under", timeout=150)
            check(terminal.end() != 0, "the status of a shell whose machine is gone")
            check(termios.tcgetattr(terminal.master) == before, f"{command[0]}: the terminal is not as it was")
        finally:
            terminal.close()
    steled.vmctl("undefine", "under")


# --- time ----------------------------------------------------------------------------------------------

def clock(place):
    """The clock is right after the machine stood still, whoever stopped it."""
    steled = place.shared_steled()
    steled.define("clock", machine_xml("clock", FULL))
    steled.vmctl("start", "--wait", "clock")
    steled.vmctl("suspend", "clock")
    time.sleep(5)  # the time that the machine misses
    steled.vmctl("resume", "clock")
    before = time.time()
    inside = float(steled.sh("clock", "date +%s.%N"))
    check(before - 1 < inside < time.time() + 1, f"the guest's clock is {inside - before:+.1f} s off")
    steled.vmctl("destroy", "clock")
    steled.vmctl("undefine", "clock")


# --- file systems held still ---------------------------------------------------------------------------

# What another libvirt's agent channel is, with a socket of the test's at its end. As JSON, like libvirt's own devices: QEMU
# makes others before them, and their bus would be missing.
AGENT_CHANNEL = """<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:arg value='-chardev'/><qemu:arg value='socket,id=test,path={path},server=on,wait=off'/>
<qemu:arg value='-device'/><qemu:arg value='{{"driver":"virtserialport","chardev":"test","name":"org.qemu.guest_agent.0"}}'/></qemu:commandline>"""


def ask_agent(path, command):
    """What the guest's agent returns, to a client that goes at once."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60 * PATIENCE)
        client.connect(path)
        client.sendall(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":7}}\n' + json.dumps({"execute": command}).encode() + b"\n")
        got = b""
        while got.rpartition(b"\xff")[2].count(b"\n") < 2:
            more = client.recv(4096)
            check(more, f"the agent's channel ended after {got!r}")
            got += more
    return json.loads(got.rpartition(b"\xff")[2].split(b"\n")[1])["return"]


def frozen(place):
    """Who freezes the root and goes does not hold the machine for good, nor keep it from its end."""
    steled = place.shared_steled()
    directory = os.path.join(place.directory, "frozen")
    image, path = os.path.join(place.directory, "frozen.ext4"), os.path.join(directory, "agent")
    os.mkdir(directory)
    os.chmod(place.directory, 0o711)
    os.chmod(directory, 0o777)  # QEMU's user makes the socket
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", IMAGE, image], check=True)
    steled.define("frozen", machine_xml("frozen", image, kind="disk", mode="rw", extra=AGENT_CHANNEL.format(path=path)))
    steled.vmctl("start", "--wait", "frozen")
    check_equal([ask_agent(path, "guest-fsfreeze-" + verb) for verb in ("freeze", "status", "freeze")], [1, "frozen", 0], "frozen twice")
    check_equal(steled.sh("frozen", "cat /etc/hostname >/dev/null && echo reads"), "reads\n", "a program that only reads")
    check_equal(steled.sh("frozen", "echo text >/root/file; cat /root/file", timeout=150), "text\n", "a program that writes")
    check_equal(ask_agent(path, "guest-fsfreeze-status"), "thawed", "the state after the limit")
    check_equal([ask_agent(path, "guest-fsfreeze-" + verb) for verb in ("freeze", "thaw", "thaw", "status")], [1, 1, 0, "thawed"], "frozen and thawed")
    check_equal(ask_agent(path, "guest-fsfreeze-freeze"), 1, "frozen before the end")
    steled.vmctl("shutdown", "--timeout", "50", "frozen")  # less than the limit
    steled.vmctl("undefine", "frozen")
    checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    check_equal(checked.returncode, 0, f"e2fsck: {checked.stdout}")
    os.remove(image)


TESTS = [
    ("modules", modules, True),
    *((f"session-{name}", session_test(name), name == "bash") for name in SESSIONS),
    ("large-paste", large_paste, True),
    ("resized", resized, True),
    ("edges", edges, True),
    ("interrupted", interrupted, True),
    ("deaf-terminal", deaf_terminal, True),
    ("stopped-under", stopped_under, False),
    ("clock", clock, False),
    ("frozen", frozen, False),
]
