#!/usr/bin/python3
"""steled without a machine running: its socket, its store, kill -9 while defining, many clients.

usage: daemon.py STELED VMCTL API-LOAD

Each test gets a directory of its own; a steled is waited for by its 'ready' line.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

STELED, VMCTL, API_LOAD = (os.path.abspath(path) for path in sys.argv[1:4])
PLAIN = "<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type arch='aarch64' machine='virt'>hvm</type></os>{extra}</domain>"
STELE = PLAIN.replace("{extra}", "<metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs type='dir' source='{root}'/></s:machine></metadata>")


class Daemon:
    def __init__(self, directory, *options, path=None):
        self.directory, self.options = directory, options
        self.socket = path or os.path.join(directory, "socket")
        self.process = None

    def start(self):
        command = [STELED, "--root", os.path.join(self.directory, "root"), "--socket", self.socket, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if "ready" not in line:
            raise AssertionError(f"steled did not start: {line}{self.process.stderr.read()}")
        return self

    def refuse(self):
        """What it says when it cannot start."""
        command = [STELED, "--root", os.path.join(self.directory, "root"), "--socket", self.socket, *self.options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1, f"exit status {result.returncode}: {result.stderr}"
        return result.stderr

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        if number == signal.SIGTERM:
            assert self.process.returncode == 0, f"steled ended with {self.process.returncode}: {errors}"

    def vmctl(self, *arguments, text=None, status=0):
        result = subprocess.run([VMCTL, "--socket", self.socket, *arguments], input=text, capture_output=True, text=True, timeout=120)
        assert status is None or result.returncode == status, f"{arguments}: {result.returncode}, not {status}: {result.stderr}"
        return result

    def names(self):
        return [machine["name"] for machine in json.loads(self.vmctl("--json", "list").stdout)]


def contains(text, part):
    assert part in text, f"'{part}' is not in: {text}"


# --- the socket and the root -----------------------------------------------------------------------------

def one_a_root(directory):
    first = Daemon(directory).start()
    contains(Daemon(directory, path=os.path.join(directory, "other")).refuse(), "another steled works on")
    first.stop()
    assert not os.path.exists(first.socket), "the socket is removed at the end"


def sockets(directory):
    path = os.path.join(directory, "socket")
    with open(path, "w") as file:
        file.write("precious")
    contains(Daemon(directory).refuse(), "no socket")
    assert open(path).read() == "precious"
    os.remove(path)
    contains(Daemon(directory, path=os.path.join(directory, "x" * 120)).refuse(), "107 bytes")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    contains(Daemon(directory).refuse(), "another steled listens there")
    listener.close()  # and leaves the file, as a killed steled would
    Daemon(directory).start().stop()


def strangers(directory):
    """A peer's credentials count even where the socket's mode would let it in."""
    if os.geteuid() != 0:
        return
    daemon = Daemon(directory).start()
    os.chmod(directory, 0o755)
    os.chmod(daemon.socket, 0o666)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", VMCTL, "--socket", daemon.socket, "list"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 7, result.stderr
    contains(result.stderr, "permission denied")
    daemon.vmctl("list")
    daemon.stop()


def garbage(directory):
    """What is no D-Bus at all, and clients that go in the middle of it."""
    daemon = Daemon(directory).start()
    for text in (b"", b"\0", b"\0AUTH EXTERNAL 30\r\n", b"\0AUTH ANONYMOUS\r\n", os.urandom(100000), b"GET / HTTP/1.1\r\n\r\n"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(daemon.socket)
        try:
            client.sendall(text)
        except (BrokenPipeError, ConnectionResetError):
            pass  # turned away before it had said it all
        client.close()
    daemon.vmctl("list")
    daemon.stop()


def silence(directory):
    """Who does not introduce himself is dropped in the end; who has, may be silent as long as he likes."""
    daemon = Daemon(directory).start()
    events = subprocess.Popen([VMCTL, "--socket", daemon.socket, "--json", "events"], stdout=subprocess.PIPE, text=True)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(daemon.socket)
    client.sendall(b"\0AUTH")
    while client.recv(1000):
        pass
    daemon.vmctl("define", "-", text=PLAIN.format(name="late", extra=""))
    assert json.loads(events.stdout.readline())["name"] == "late"
    events.terminate()
    events.communicate()
    daemon.stop()


# --- definitions -------------------------------------------------------------------------------------------

def definitions(directory):
    daemon = Daemon(directory).start()
    xml = PLAIN.format(name="a-machine", extra="")
    daemon.vmctl("define", "-", text=xml)
    contains(daemon.vmctl("define", "-", text=xml, status=4).stderr, "--replace")
    changed = PLAIN.format(name="a-machine", extra="<title>changed</title>")
    before = json.loads(daemon.vmctl("--json", "info", "a-machine").stdout)["uuid"]
    daemon.vmctl("define", "--replace", "-", text=changed)
    contains(daemon.vmctl("dumpxml", "a-machine").stdout, "changed")
    contains(daemon.vmctl("dumpxml", "--full", "a-machine").stdout, before)
    broken = changed.replace("<memory>65536", "<memory>lots")
    daemon.vmctl("define", "--replace", "-", text=broken, status=5)
    contains(daemon.vmctl("dumpxml", "--full", "a-machine").stdout, "65536")
    daemon.stop()
    daemon.start()
    assert daemon.names() == ["a-machine"]
    daemon.vmctl("undefine", "a-machine")
    daemon.vmctl("undefine", "a-machine", status=3)
    assert os.listdir(os.path.join(directory, "root/machines")) == []
    daemon.stop()


def wrong_states(directory):
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="off", extra=""))
    for command in ("shutdown", "destroy", "reboot", "suspend", "resume", "console"):
        contains(daemon.vmctl(command, "off", status=4).stderr, "stopped")
    daemon.vmctl("exec", "off", "true", status=125)
    daemon.vmctl("exec", "none", "true", status=125)
    daemon.vmctl("start", "none", status=3)
    daemon.stop()


def refused_starts(directory):
    """What lacks is named, and nothing is left behind."""
    daemon = Daemon(directory, "--guest-dir", os.path.join(directory, "guest"), "--translator-dir", directory).start()
    root = os.path.join(directory, "tree")
    daemon.vmctl("define", "-", text=STELE.format(name="m", root=root))
    contains(daemon.vmctl("start", "m", status=6).stderr, root)
    os.makedirs(root + "/sbin")
    contains(daemon.vmctl("start", "m", status=6).stderr, "/sbin/init")
    with open(root + "/sbin/init", "wb") as file:
        file.write(b"\x7fELF" + bytes(100))
    os.chmod(root + "/sbin/init", 0o755)
    daemon.vmctl("start", "m", status=6)
    with open(root + "/sbin/init", "wb") as file, open("/bin/true", "rb") as true:
        file.write(true.read())
    contains(daemon.vmctl("start", "m", status=6).stderr, "ld-linux" if os.uname().machine == "x86_64" else "not for x86-64")
    info = json.loads(daemon.vmctl("--json", "info", "m").stdout)
    assert (info["state"], info["reason"]) == ("stopped", "start-failed"), info
    assert info["message"], info
    shares = os.path.join(directory, "root/shares")
    assert not os.path.isdir(shares) or os.listdir(shares) == [], os.listdir(shares)
    daemon.stop()


def killed_while_defining(directory):
    """Whatever the moment, a machine is there whole or not at all, and libvirt agrees."""
    for attempt in range(8):
        daemon = Daemon(directory).start()
        known = daemon.names()
        done = []

        def define():
            for number in range(1000):
                name = f"m{attempt}-{number}"
                if daemon.vmctl("define", "-", text=PLAIN.format(name=name, extra=""), status=None).returncode != 0:
                    return
                done.append(name)
                if len(done) == 3:
                    started.set()

        started = threading.Event()
        thread = threading.Thread(target=define)
        thread.start()
        assert started.wait(60)
        daemon.stop(signal.SIGKILL)
        thread.join()
        daemon = Daemon(directory).start()
        names = daemon.names()
        lost = (set(known) | set(done)) - set(names)
        assert not lost, f"lost: {lost}"
        assert len(names) - len(known) - len(done) in (0, 1), f"{len(names)} machines, {len(known)} + {len(done)} were defined"
        files = os.listdir(os.path.join(directory, "root/machines"))
        assert not [file for file in files if file.endswith(".draft")], files
        libvirts = {file[:-4] for file in os.listdir(os.path.join(directory, "root/etc/qemu")) if file.endswith(".xml")}
        assert libvirts <= set(names), f"libvirt knows more: {libvirts - set(names)}"
        for name in set(names) - set(known):
            contains(daemon.vmctl("dumpxml", name).stdout, "</domain>")
        daemon.stop()


# --- many clients --------------------------------------------------------------------------------------------

def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def load(directory):
    daemon = Daemon(directory).start()
    for number in range(50):
        daemon.vmctl("define", "-", text=PLAIN.format(name=f"m{number}", extra=""))
    subprocess.run([API_LOAD, daemon.socket, "32", "50"], check=True, timeout=200)
    before = resident(daemon.process.pid)
    subprocess.run([API_LOAD, daemon.socket, "32", "300"], check=True, timeout=400)
    grown = resident(daemon.process.pid) - before
    assert grown < 8192, f"{grown} KiB more after 9,600 calls"
    assert len(daemon.names()) == 50
    descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    assert descriptors < 40, f"{descriptors} descriptors are open after all clients have gone"
    daemon.stop()


TESTS = [one_a_root, sockets, strangers, garbage, silence, definitions, wrong_states, refused_starts, killed_while_defining, load]


def main():
    failed = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory(prefix="steled-") as directory:
            try:
                test(directory)
            except (AssertionError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"{test.__name__}: FAILED: {error}", flush=True)
            else:
                print(f"{test.__name__}: ok", flush=True)
    print(f"{len(TESTS) - failed} of {len(TESTS)} tests of the daemon passed")
    return 1 if failed else 0


sys.exit(main())
