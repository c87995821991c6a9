#!/usr/bin/python3
"""steled without a guest running: its socket, its store, kill -9 while defining, QEMU that ends or hangs, many clients.

usage: daemon.py STELED VMCTL API-LOAD [TEST…]

Each test gets a directory of its own; a steled is waited for by its 'ready' line.
"""
import json
import os
import pty
import pwd
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from xml.etree import ElementTree

STELED, VMCTL, API_LOAD = (os.path.abspath(path) for path in sys.argv[1:4])
PLAIN = "<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type arch='aarch64' machine='virt'>hvm</type></os>{extra}</domain>"
STELE = PLAIN.replace("{extra}", "<metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs type='dir' source='{root}'/></s:machine></metadata>")


class Daemon:
    started = []  # those of the test that runs

    def __init__(self, directory, *options, path=None):
        self.directory, self.options = directory, options
        self.socket = path or os.path.join(directory, "socket")
        self.process = None
        self.wrapper, self.descriptors = [], []

    def start(self):
        command = [*self.wrapper, STELED, "--root", os.path.join(self.directory, "root"), "--socket", self.socket, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=self.descriptors)
        Daemon.started.append(self)
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

    def clear_away(self):
        """Ends what a test that failed left running."""
        if self.process.poll() is None:
            for name in self.names():
                self.vmctl("destroy", name, status=None)
            self.process.kill()
            self.process.communicate()

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


def activated(directory):
    """A socket that a service manager opened: served, told of being ready, and left for the next steled, with what waits there."""
    path, notify = os.path.join(directory, "socket"), os.path.join(directory, "notify")
    listener, told = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    listener.listen()
    told.bind(notify)
    told.settimeout(60)
    daemon = Daemon(directory, "--socket", os.path.join(directory, "another"))
    # Descriptor 3, as sd_listen_fds(3) has it, and one that is no socket behind it.
    os.set_inheritable(listener.fileno(), True)
    daemon.descriptors = [listener.fileno()]
    daemon.wrapper = ["bash", "-c", f'exec 3<&{listener.fileno()} 4</dev/null; export LISTEN_PID=$$ LISTEN_FDS=2 NOTIFY_SOCKET={notify}; exec "$@"', "-"]
    daemon.start()
    assert told.recv(100) == b"READY=1"
    assert daemon.names() == []
    assert not os.path.exists(os.path.join(directory, "another"))
    daemon.stop()
    assert told.recv(100) == b"STOPPING=1"
    waiting = subprocess.Popen([VMCTL, "--socket", path, "--json", "list"], stdout=subprocess.PIPE, text=True)
    daemon.start()
    assert json.loads(waiting.communicate(timeout=60)[0]) == [], "who came between two of them is served"
    daemon.stop()
    listener.close()
    os.remove(path)
    # A manager that speaks to somebody else, by number, is not listened to.
    os.environ.update(LISTEN_PID="1", LISTEN_FDS="1")
    try:
        other = Daemon(directory, path=os.path.join(directory, "own")).start()
        other.stop()
        assert not os.path.exists(other.socket)
    finally:
        del os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"]


def state_format(directory):
    """State that a newer steled left is refused and not changed; that of one before there was a format is taken."""
    daemon = Daemon(directory).start()
    note = os.path.join(directory, "root", "format")
    assert open(note).read() == "1\n"
    daemon.stop()
    for text in ("2\n", "x", "0\n", ""):
        with open(note, "w") as file:
            file.write(text)
        contains(Daemon(directory).refuse(), f"is of format '{text.strip()}'")
        assert open(note).read() == text
    os.remove(note)
    Daemon(directory).start().stop()
    assert open(note).read() == "1\n"


def doctor(directory):
    """Each finding has a result and, unless it is fine, a remedy; what is wrong shows in the exit status."""
    guest, share = os.path.join(directory, "guest"), os.path.join(directory, "share")
    os.mkdir(guest)
    os.mkdir(share)
    daemon = Daemon(directory, "--guest-dir", guest, "--translator-dir", share)

    def look(status, *arguments):
        found = json.loads(daemon.vmctl("--json", "doctor", *arguments, status=status).stdout)
        for finding in found:
            assert finding["message"] and finding["result"] in ("ok", "note", "wrong"), finding
            assert ("remedy" in finding) == (finding["result"] != "ok"), finding
        return {finding["check"]: finding["result"] for finding in found}

    assert look(1)["steled"] == "wrong"
    daemon.start()
    found = look(1)
    assert (found["steled"], found["guest-image"], found["translator"]) == ("ok", "wrong", "wrong"), found
    with open(os.path.join(guest, "vmlinuz"), "wb") as file:
        file.write(bytes(56) + b"ARM\x64" + bytes(8))
    with open(os.path.join(guest, "initrd.img"), "wb") as file:
        file.write(b"070701")
    shutil.copy(STELED, os.path.join(share, "stele"))  # an ELF program, for this processor
    found = look(None)
    arm64 = os.uname().machine == "aarch64"
    assert (found["guest-image"], found["translator"]) == ("ok", "ok" if arm64 else "wrong"), found
    text = daemon.vmctl("doctor", status=None).stdout
    contains(text, "apt install --reinstall stele-guest" if not arm64 else "guest-image")
    assert look(1, "nobody") == {"machine": "wrong"}
    daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=""))
    assert look(0, "vm") == {"machine": "note", "translated-by": "note"}
    daemon.stop()


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


GROUP_SCRIPT = 'mount --bind "$1" /etc/group && shift && exec "$@"'


def members(directory):
    """Members of the group get in and others do not, however many come at once and however long the list of groups is."""
    if os.geteuid() != 0:
        return
    os.chmod(directory, 0o755)
    groups, member, other = os.path.join(directory, "group"), 54321, 54322
    with open("/etc/group") as file:
        own = [line for line in file if not line.startswith("stele:")]  # libvirt looks for its own
    with open(groups, "w") as file:
        file.writelines(own)
        for number in range(400):  # each names other members, so that looking it up takes a while
            file.write(f"g{number}:x:{60000 + number}:{','.join(f'u{number}x{n}' for n in range(40))}\n")
        file.write(f"stele:x:{member}:\n")
    daemon = Daemon(directory)
    daemon.wrapper = ["unshare", "--mount", "sh", "-c", GROUP_SCRIPT, "sh", groups]
    daemon.start()
    assert os.stat(daemon.socket).st_gid == member, "the socket is the group's"
    as_user = lambda group: ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={group}"]
    inside = [subprocess.Popen([*as_user(member), API_LOAD, daemon.socket, "64", "1", "20"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    for client in inside:
        errors = client.communicate(timeout=120)[1]
        assert client.returncode == 0, f"a member was turned away: {errors[:500]}"
    os.chmod(daemon.socket, 0o666)
    outside = subprocess.run([*as_user(other), VMCTL, "--socket", daemon.socket, "list"], capture_output=True, text=True, timeout=60)
    assert outside.returncode == 7, outside.stderr
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


def speak(daemon):
    """A connection that has introduced itself, for messages made by hand."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(daemon.socket)
    client.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
    client.recv(100)
    client.sendall(b"BEGIN\r\n")
    return client


def padded(data, to=8):
    return data.ljust((len(data) + to - 1) // to * to, b"\0")


def call(method, signature, body, serial=1, flags=0):
    """A method call of the D-Bus specification's wire format."""
    field = lambda code, kind, value: bytes((code, 1)) + kind + b"\0" + value
    string = lambda text: struct.pack("<I", len(text)) + text + b"\0"
    fields = padded(field(1, b"o", string(b"/org/stele/Manager1"))) + padded(field(2, b"s", string(b"org.stele.Manager1")))
    fields += padded(field(3, b"s", string(method)))
    fields += field(8, b"g", bytes((len(signature),)) + signature + b"\0")
    return padded(struct.pack("<cBBBIII", b"l", 1, flags, 1, len(body), serial, len(fields)) + fields) + body


def message_types(data):
    """Of whole messages: 1 is a call, 2 an answer, 3 an error, 4 a signal."""
    types = []
    while len(data) >= 16:
        size = padded(data[:16 + struct.unpack_from("<I", data, 12)[0]])
        types.append(data[1])
        data = data[len(size) + struct.unpack_from("<I", data, 4)[0]:]
    return types


def broken_messages(directory):
    """What is D-Bus but a broken message ends its connection, and does not fill the log."""
    daemon = Daemon(directory).start()
    client, body = speak(daemon), struct.pack("<I", 200000) + b"\xff" * 200000 + b"\0"
    client.sendall(call(b"Info", b"s", body))
    try:
        while client.recv(1000):
            pass
    except ConnectionResetError:
        pass
    daemon.vmctl("list")
    daemon.process.send_signal(signal.SIGTERM)
    _, errors = daemon.process.communicate(timeout=60)
    contains(errors, "decoding")
    assert len(errors) < 2000, f"{len(errors)} bytes are logged of a message of {len(body)}"


def deaf_peers(directory):
    """A peer that reads nothing is cut off before what waits for it fills steled's memory; others are not."""
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=STELE.format(name="m", root="/none"))
    deaf, caller = speak(daemon), speak(daemon)
    deaf.sendall(call(b"List", b"", b""))
    events = subprocess.Popen([VMCTL, "--socket", daemon.socket, "--json", "events"], stdout=subprocess.PIPE)
    seen = threading.Thread(target=lambda: [None for _ in events.stdout])
    seen.start()
    body = padded(struct.pack("<I", 1) + b"m\0") + struct.pack("<I", 0) + b"\0\0\0\0"
    poller = select.poll()
    poller.register(deaf, select.POLLRDHUP)
    deadline = time.monotonic() + 120
    serial = 1
    while not poller.poll(0):
        assert time.monotonic() < deadline, f"a peer that does not read is still there after {serial} starts that failed"
        for _ in range(50):
            serial += 1
            caller.sendall(call(b"Start", b"sa{sv}", body, serial))
            caller.recv(1 << 20)  # the answer to one, and signals
    daemon.vmctl("list")
    assert events.poll() is None, "a peer that reads stays"
    events.terminate()
    seen.join()
    events.communicate()
    daemon.stop()


def flooding_peers(directory):
    """A peer that calls and calls without reading is cut off; one that reads may have hundreds under way."""
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="m", extra=f"<description>{'x' * 5000}</description>"))
    daemon.vmctl("info", "m")
    before, body = resident(daemon.process.pid), struct.pack("<I", 1) + b"m\0"
    for flags in (0, 1):  # 1: no answer is wanted
        deaf, serial = speak(daemon), 1
        try:
            while serial < 20000:
                deaf.sendall(b"".join(call(b"Info", b"s", body, serial + i, flags) for i in range(100)))
                serial += 100
            raise AssertionError(f"a peer with {serial} calls unread is still there")
        except (BrokenPipeError, ConnectionResetError):
            pass
    daemon.vmctl("list")
    grown = resident(daemon.process.pid) - before
    limit = 64 << (12 if is_sanitized() else 10)  # with what sanitizers put around each piece
    assert grown < limit, f"{grown} KiB more for peers that do not read"
    reader, serial, answers = speak(daemon), 1, b""
    for _ in range(4):  # all at once, and then all of the answers
        reader.sendall(b"".join(call(b"List", b"", b"", serial + i, 0) for i in range(900)))
        wanted, answers = 900, b""
        while wanted:
            answers += reader.recv(1 << 20)
            while len(answers) >= 16:
                size = 16 + struct.unpack_from("<I", answers, 12)[0]
                size = (size + 7) // 8 * 8 + struct.unpack_from("<I", answers, 4)[0]
                if len(answers) < size:
                    break
                wanted, answers = wanted - 1, answers[size:]
        serial += 900
    daemon.stop()


def is_turned_away(client):
    try:
        return not client.recv(100)
    except OSError:
        return True


def crowds(directory):
    """More clients than there are descriptors for are turned away; steled goes on, and takes others when they have gone."""
    daemon = Daemon(directory)
    daemon.wrapper = ["prlimit", "--nofile=200:200"]
    daemon.start()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(400)]
    for client in clients:
        client.connect(daemon.socket)
        client.settimeout(60)
        try:
            client.send(b"\0AUTH\r\n")
        except OSError:
            pass  # turned away already
    turned_away = sum(is_turned_away(client) for client in clients[200:])
    assert turned_away == 200, f"{turned_away} of the last 200 were turned away"
    contains(daemon.vmctl("list", status=7).stderr, "as many clients as it can have" if os.geteuid() == 0 else "denied")
    for client in clients:
        client.close()
    deadline = time.monotonic() + 60
    while daemon.vmctl("list", status=None).returncode != 0:
        assert time.monotonic() < deadline, "nobody is let in after a crowd has gone"
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
    changes = {"define": ["define", "--replace", "-"], "clone": ["clone", "a-machine", "other"], "set": ["set", "a-machine", "--memory", "128M"],
               "rename": ["rename", "other", "another"]}
    names = {"define": "a-machine", "clone": "other", "set": "a-machine", "rename": "another"}
    for what, arguments in changes.items():
        assert json.loads(daemon.vmctl("--json", *arguments, text=changed).stdout) == {"name": names[what]}, what
    daemon.vmctl("undefine", "another")
    daemon.stop()
    os.mkfifo(os.path.join(directory, "root/machines/pipe.xml"))
    daemon.start()
    assert sorted(daemon.names()) == ["a-machine", "pipe"]
    daemon.vmctl("dumpxml", "pipe", status=12)
    daemon.vmctl("undefine", "pipe")
    daemon.vmctl("undefine", "a-machine")
    daemon.vmctl("undefine", "a-machine", status=3)
    assert os.listdir(os.path.join(directory, "root/machines")) == []
    daemon.stop()


# As declared, and as Python names it.
ENCODINGS = [("utf-8", "utf-8"), ("iso-8859-1", "iso-8859-1"), ("utf-16", "utf-16"), ("windows-1252", "cp1252"), ("utf-8", "utf-8-sig")]


def encodings(directory):
    """Text is stored as what it says, whatever encoding it was in, and what is stored says what encoding it is in."""
    daemon = Daemon(directory).start()
    for number, (declared, encoding) in enumerate(ENCODINGS):
        name, path = f"m{number}", os.path.join(directory, "machine.xml")
        text = f"<?xml version='1.0' encoding='{declared}'?>\n" + PLAIN.format(name=name, extra="<title>für ñ</title>")
        with open(path, "wb") as file:
            file.write(text.encode(encoding))
        daemon.vmctl("define", path)
        contains(daemon.vmctl("dumpxml", name).stdout, "<title>für ñ</title>")
        contains(daemon.vmctl("dumpxml", "--full", name).stdout, "<title>für ñ</title>")
        with open(os.path.join(directory, f"root/machines/{name}.xml"), "rb") as file:
            stored = file.read()
        title = ElementTree.fromstring(stored).findtext("title")
        assert title == "für ñ", f"{encoding}: a reader of the file finds '{title}'"
    with open(path, "wb") as file:
        file.write(text.encode("utf-8") + b"\xff")
    contains(daemon.vmctl("define", path, status=1).stderr, "declared to be in")
    daemon.stop()


# A row: what is typed, the exit code, what standard error says.
USAGE = [
    ([], 2, "missing"),
    (["strat", "x"], 2, "did you mean 'start'?"),
    (["shudtown", "x"], 2, "did you mean 'shutdown'?"),
    (["xyzzy"], 2, "try 'vmctl --help'"),
    (["--colour", "list"], 2, "no option '--colour'"),
    (["--host"], 2, "'--host' needs a value"),
    (["--socket"], 2, "'--socket' needs a value"),
    (["list", "--bogus"], 2, "--bogus"),
    (["start"], 2, "something is missing"),
    (["start", "a", "b"], 2, "too much"),
    (["start", "--wait=never", "a"], 2, "'ready' or 'system'"),
    (["start", "--wait", "a"], 3, "no machine 'a'"),
    (["start", "-w", "a"], 3, "no machine 'a'"),
    (["start", "--wait=system", "a"], 3, "no machine 'a'"),
    (["start", "--timeout", "soon", "a"], 2, "soon"),
    (["exec", "-e", "=x", "a", "true"], 2, "NAME=VALUE"),
    (["exec", "a"], 2, "missing"),
    (["start", "a"], 3, "no machine 'a'"),
]


def usage(directory):
    daemon = Daemon(directory).start()
    for arguments, status, saying in USAGE:
        contains(daemon.vmctl(*arguments, status=status).stderr, saying)
        if arguments:
            error = json.loads(daemon.vmctl("--json", *arguments, status=status).stderr)["error"]
            assert error["code"] == status, error
            contains(error["message"], saying)
    for arguments in (["list", "--json", "--bogus"], ["list", "--bogus", "--json"], ["exec", "--json", "--bogus", "a", "true"]):
        contains(json.loads(daemon.vmctl(*arguments, status=2).stderr)["error"]["message"], "--bogus")
    contains(daemon.vmctl("exec", "--bogus", "a", "true", "--json", status=2).stderr, "vmctl: exec: Unknown option")
    assert json.loads(daemon.vmctl("--json", "info", "a", status=3).stderr)["error"]["name"] == "org.stele.Error.NoSuchMachine"
    daemon.vmctl("define", "-", text=PLAIN.format(name="a", extra=""))
    for alias in ("ls", "ps"):
        assert daemon.vmctl(alias).stdout == daemon.vmctl("list").stdout
    contains(daemon.vmctl("stop", "a", status=4).stderr, "stopped")
    daemon.vmctl("rm", "a")
    for version in ("-v", "--version"):
        contains(daemon.vmctl(version).stdout, "vmctl ")
    daemon.stop()


# Whatever the locale says, names and documents are UTF-8.
def locales(directory):
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="m", extra="<title>grün 漢字</title>"))
    command = [VMCTL, "--socket", daemon.socket]
    for locale in ("C", "C.UTF-8", "none"):
        def run(*arguments, status, **variables):
            result = subprocess.run([*command, *arguments], capture_output=True, timeout=60, check=False,
                                    env={**os.environ, "LC_ALL": locale, **variables})
            errors = result.stderr.decode()
            assert result.returncode == status and "CRITICAL" not in errors, f"{arguments} with {locale}: {result.returncode}, {errors}"
            return result.stdout.decode(), errors

        contains(json.loads(run("--json", "dumpxml", "m", status=0)[0])["xml"], "grün 漢字")
        contains(run("info", "grün", status=3)[1], "'grün'")
        contains(run("exec", "--env", "X=grün", "m", "true", status=125)[1], "stopped")
        contains(run("exec", "-e", "X", "m", "true", status=125, X="grün")[1], "stopped")
        contains(run("exec", "-e", "X", "m", "true", status=2, X="\udcff")[1], "UTF-8")
        for arguments in (("info", "m\udcff"), ("exec", "m", "rm", "-r", "\udcff")):
            contains(run(*arguments, status=2)[1], "not UTF-8")
    daemon.stop()


def outputs(directory):
    """Output that gets lost is an error, unless the one who reads it has seen enough; then whoever would go on ends."""
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="m", extra=""))
    command = [VMCTL, "--socket", daemon.socket]
    log = os.path.join(directory, "root/console/m.log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "w") as file:
        file.write("a line\n")
    for arguments in (["list"], ["--json", "info", "m"], ["dumpxml", "m"], ["--help"], ["--version"], ["logs", "m"], ["completion", "bash"]):
        with open("/dev/full", "w") as full:
            result = subprocess.run([*command, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert result.returncode == 1 and "No space left" in result.stderr, f"{arguments} with a full disk: {result.returncode}, {result.stderr}"
        reader, writer = os.pipe()
        os.close(reader)
        result = subprocess.run([*command, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        os.close(writer)
        assert (result.returncode, result.stderr) == (0, ""), f"{arguments} for nobody: {result.returncode}, {result.stderr}"
    for arguments in (["events"], ["top"]):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.close()
        assert process.wait(60) == 0, f"{arguments} that nobody reads: {process.returncode}"
    daemon.stop()


def manual_example(directory):
    """The call that steled(8) shows works as written, but for the socket's place; where systemd's busctl is."""
    if shutil.which("busctl") is None:
        return
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="shown", extra=""))
    manual = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../daemon/steled.8")
    with open(manual) as file:
        example = file.read().split(".nf\nbusctl", 1)[1].split(".fi", 1)[0]
    command = "busctl" + example.replace("\\-", "-").replace("\\e", "\\").replace("/run/stele/stele.sock", daemon.socket)
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    contains(result.stdout, '"name" s "shown"')
    daemon.stop()


STRANGE = "\x1b]0;title\x07\x9b31m\u202eabc"


def terminals(directory):
    """What another user wrote does not steer the terminal it is shown on, and is not changed for anybody else."""
    daemon = Daemon(directory).start()
    refusal = daemon.vmctl("define", "-", text=PLAIN.format(name="m\u202e", extra=""), status=5).stderr
    contains(refusal, "steer")
    xml = PLAIN.format(name="m", extra=f"<title>{STRANGE[10:]}</title>")
    daemon.vmctl("define", "-", text=xml)
    assert daemon.vmctl("dumpxml", "m").stdout.strip() == xml.strip()
    os.makedirs(os.path.join(directory, "root/console"), exist_ok=True)
    with open(os.path.join(directory, "root/console/m.log"), "w") as file:
        file.write(STRANGE + "\n")
    for command in (["dumpxml", "m"], ["console", "--log", "m"], ["--json", "dumpxml", "m"], ["info", STRANGE], ["--json", "info", STRANGE]):
        master, slave = pty.openpty()
        process = subprocess.Popen([VMCTL, "--socket", daemon.socket, *command], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:
            pass
        process.wait(timeout=60)
        os.close(master)
        assert shown, command
        bad = [letter for letter in shown.decode() if letter in "\x1b\x07\x9b\u202e"]
        assert not bad, f"{command} showed {bad}: {shown}"
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


def full_disk(directory):
    """Nothing is lost on a full disk, and the next steled starts there."""
    if os.geteuid() != 0:
        return
    place = os.path.join(directory, "full")
    os.mkdir(place)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", place], capture_output=True, check=False).returncode:
        return
    filling = os.path.join(place, "filling")
    try:
        daemon = Daemon(place, path=os.path.join(directory, "socket")).start()
        daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=""))
        subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4k"], capture_output=True, check=False)
        contains(daemon.vmctl("define", "-", text=PLAIN.format(name="late", extra=""), status=12).stderr, "No space left")
        daemon.vmctl("start", "vm", status=None)
        daemon.stop()
        daemon.start()
        assert daemon.names() == ["vm"]
        os.remove(filling)
        daemon.vmctl("start", "vm")
        end_vm(daemon)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


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


# --- QEMU without a guest: a plain VM is up in a moment -------------------------------------------------------

def state(daemon, name="vm"):
    info = json.loads(daemon.vmctl("--json", "info", name).stdout)
    return info["state"], info["reason"], info.get("pid")


def await_state(daemon, wanted, seconds=30):
    deadline = time.monotonic() + seconds
    while state(daemon)[0] != wanted:
        assert time.monotonic() < deadline, f"{state(daemon)} instead of '{wanted}' after {seconds} s"
        time.sleep(0.1)


def running_vm(directory):
    daemon = Daemon(directory).start()
    daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=""))
    daemon.vmctl("start", "vm")
    return daemon, state(daemon)[2]


def end_vm(daemon):
    daemon.vmctl("destroy", "vm", status=None)
    daemon.stop()


def qemu_killed(directory):
    daemon, pid = running_vm(directory)
    os.kill(pid, signal.SIGKILL)
    await_state(daemon, "stopped")
    assert state(daemon)[1] == "died", state(daemon)
    daemon.vmctl("start", "vm")
    assert state(daemon)[0] == "running"
    end_vm(daemon)


def qemu_killed_unwatched(directory):
    """QEMU ends while no steled is there, at once or just after the next one has come."""
    for moment in ("before", "after"):
        daemon, pid = running_vm(directory) if moment == "before" else (daemon, None)
        if pid is None:
            daemon.vmctl("start", "vm")
            pid = state(daemon)[2]
        daemon.stop(signal.SIGKILL)
        if moment == "before":
            os.kill(pid, signal.SIGKILL)
        daemon.start()
        if moment == "after":
            os.kill(pid, signal.SIGKILL)
        await_state(daemon, "stopped")
    end_vm(daemon)


def kill_from(pidfile):
    try:
        with open(pidfile) as file:
            os.kill(int(file.read()), signal.SIGKILL)
    except (OSError, ValueError):
        pass


def qemu_killed_while_starting(directory):
    """Whatever the moment, the machine is running or stopped in the end and can be started again."""
    daemon, pid = running_vm(directory)
    daemon.vmctl("destroy", "vm")
    pidfile = os.path.join(directory, "root/run/qemu/vm.pid")
    for delay in (0, 0.02, 0.05, 0.1, 0.2, 0.3):
        start = subprocess.Popen([VMCTL, "--socket", daemon.socket, "start", "vm"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not os.path.exists(pidfile) and start.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
        kill_from(pidfile)
        start.wait(timeout=60)
        deadline = time.monotonic() + 120
        while state(daemon)[0] != "stopped":  # the file may have been the last QEMU's
            assert time.monotonic() < deadline, f"{state(daemon)} instead of 'stopped' after 120 s"
            kill_from(pidfile)
            time.sleep(0.05)
    daemon.vmctl("start", "vm")
    assert state(daemon)[0] == "running"
    end_vm(daemon)


def qemu_that_hangs(directory):
    """A QEMU that does not answer can be destroyed, also while somebody waits for its answer."""
    daemon, pid = running_vm(directory)
    os.kill(pid, signal.SIGSTOP)
    daemon.vmctl("destroy", "vm")
    assert state(daemon)[:2] == ("stopped", "destroyed"), state(daemon)
    daemon.vmctl("start", "vm")
    os.kill(state(daemon)[2], signal.SIGSTOP)
    waiting = subprocess.Popen([VMCTL, "--socket", daemon.socket, "shutdown", "vm"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    daemon.vmctl("list")
    daemon.vmctl("destroy", "vm")
    assert json.loads(daemon.vmctl("--json", "list").stdout)[0]["state"] == "stopped"
    waiting.wait(timeout=60)
    end_vm(daemon)


def qemu_that_hangs_at_once(directory):
    """A QEMU that never says a word to libvirt: its start can be given up, as often as one likes."""
    daemon = Daemon(directory).start()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # where QEMU's user can get to
        os.chmod(place, 0o755)
        emulator = os.path.join(place, "qemu-system-aarch64")
        with open(emulator, "w") as file:  # only to be asked what it can do, QEMU is started without a guest
            file.write('#!/bin/sh\ncase "$*" in *guest=vm*) kill -STOP $$ ;; esac\nexec /usr/bin/qemu-system-aarch64 "$@"\n')
        os.chmod(emulator, 0o755)
        daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=f"<devices><emulator>{emulator}</emulator></devices>"))
        for moment in (0, 0.3, 3):
            start = subprocess.Popen([VMCTL, "--socket", daemon.socket, "start", "vm"], stderr=subprocess.PIPE, text=True)
            while state(daemon)[0] != "starting":
                time.sleep(0.01)
            time.sleep(moment)  # before there is a QEMU, or after
            daemon.vmctl("destroy", "vm")
            assert state(daemon)[:2] == ("stopped", "start-failed"), state(daemon)
            contains(start.communicate(timeout=60)[1], "destroyed while it was being started")
            assert start.returncode != 0
    daemon.vmctl("undefine", "vm")
    daemon.stop()


def qemu_that_hangs_unwatched(directory):
    """QEMU stands still when a new steled comes: it listens all the same, destroy ends it, and so does its own end."""
    for ending in ("destroy", "kill"):
        daemon, pid = running_vm(directory) if ending == "destroy" else (daemon, None)
        if pid is None:
            daemon.vmctl("start", "vm")
            pid = state(daemon)[2]
        os.kill(pid, signal.SIGSTOP)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        if ending == "kill":
            os.kill(pid, signal.SIGKILL)
        else:
            daemon.vmctl("destroy", "vm")
        names = lambda: json.loads(daemon.vmctl("--json", "list").stdout)[0]["state"]
        deadline = time.monotonic() + 30
        while names() != "stopped":
            assert time.monotonic() < deadline, f"{names()} after '{ending}'"
            time.sleep(0.1)
        assert not os.path.exists(f"/proc/{pid}"), f"QEMU is still there after '{ending}'"
    end_vm(daemon)


def qemu_that_hangs_asked(directory):
    """destroy while another request waits for a QEMU that does not answer."""
    daemon, pid = running_vm(directory)
    for request in ("suspend", "info", "shutdown", "reboot"):
        os.kill(pid, signal.SIGSTOP)
        waiting = subprocess.Popen([VMCTL, "--socket", daemon.socket, request, "vm"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(0.5)  # until libvirt waits; sooner is as good a case
        daemon.vmctl("destroy", "vm")
        assert json.loads(daemon.vmctl("--json", "list").stdout)[0]["state"] == "stopped", request
        waiting.wait(timeout=60)
        assert json.loads(daemon.vmctl("--json", "list").stdout)[0]["state"] == "stopped", request
        daemon.vmctl("start", "vm")
        pid = state(daemon)[2]
    end_vm(daemon)


def qemu_that_hangs_many(directory):
    """However many requests wait for a QEMU that does not answer, other machines' do not wait for them."""
    daemon, pid = running_vm(directory)
    daemon.vmctl("define", "-", text=PLAIN.format(name="other", extra=""))
    os.kill(pid, signal.SIGSTOP)
    client, body = speak(daemon), struct.pack("<I", 2) + b"vm\0"
    client.sendall(b"".join(call(b"Suspend", b"s", body, serial) for serial in range(1, 201)) + call(b"Version", b"", b"", 201))
    got = client.recv(1 << 20)
    assert message_types(got)[0] == 2, "what was asked for last is answered first"
    daemon.vmctl("start", "other")
    daemon.vmctl("info", "other")
    daemon.vmctl("info", "vm")
    daemon.vmctl("destroy", "other")
    daemon.vmctl("undefine", "other")
    types = message_types(client.recv(1 << 20))
    assert set(types) == {4}, f"signals, and no answers that had to be waited for, among messages of types {types}"
    client.close()
    end_vm(daemon)


def qemu_that_hangs_at_the_end(directory):
    """steled ends when it is told to, whoever waits for a QEMU that does not answer; the machine runs on."""
    daemon, pid = running_vm(directory)
    os.kill(pid, signal.SIGSTOP)
    client = speak(daemon)
    client.sendall(call(b"Suspend", b"s", struct.pack("<I", 2) + b"vm\0") + call(b"Version", b"", b"", 2))
    assert message_types(client.recv(1 << 20))[0] == 2, "the request is under way"
    daemon.stop()
    os.kill(pid, signal.SIGCONT)
    daemon.start()
    assert state(daemon)[2] == pid, state(daemon)
    end_vm(daemon)


# --- what QEMU may do ------------------------------------------------------------------------------------------

OWNER = 12345  # of a user's files; there need not be such a user
DISK = "<devices><disk type='file' device='disk'><driver name='qemu' type='{type}'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk></devices>"


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


def check_confined(pid):
    """QEMU is a user of its own who can do nothing else, gain nothing and make few system calls."""
    status = status_of(pid)
    user = pwd.getpwnam("libvirt-qemu").pw_uid
    assert status["Uid"].split() == [str(user)] * 4, f"QEMU runs as {status['Uid']}"
    for field in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[field], 16) == 0, f"QEMU has capabilities: {field} {status[field]}"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), status
    assert "vda" not in os.listdir(f"/proc/{pid}/root/dev"), "QEMU sees the host's devices"


def put_image(path, content):
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o600)
    os.chown(path, OWNER, OWNER)


def qcow2(backing):
    """An empty image of 1 MiB that stands on another: header, reference counts and one level of a table, a cluster each."""
    cluster = 65536
    name, kind = backing.encode(), b"raw"
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 256, len(name), 16, 1 << 20, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    header += struct.pack(">II8sII", 0xE2792ACA, len(kind), kind, 0, 0)
    counts = struct.pack(">4H", 1, 1, 1, 1)
    return b"".join(part.ljust(cluster, b"\0") for part in (header.ljust(256, b"\0") + name, struct.pack(">Q", 2 * cluster), counts, b""))


def has_list(path):
    return "system.posix_acl_access" in os.listxattr(path)


def lent_files(directory):
    """QEMU runs as its own user, uses a file that is somebody's alone, and the file is as it was afterwards."""
    if os.geteuid() != 0:
        return
    private = os.path.join(directory, "private")
    os.mkdir(private, 0o700)  # as the test's own directory is, where all state is
    image, base = os.path.join(private, "disk.img"), "/var/tmp/stele-test-base.img"
    put_image(image, bytes(1 << 20))
    daemon = Daemon(directory).start()
    contains(daemon.vmctl("version").stdout, "user libvirt-qemu without capabilities")
    daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=DISK.format(type="raw", path=image)))

    def check_returned(path):
        status = os.stat(path)
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (OWNER, OWNER, 0o600), status
        assert not has_list(path), f"{path} is still lent"
        for left in ("root/shares", "root/lent"):
            assert os.listdir(os.path.join(directory, left)) == [], os.listdir(os.path.join(directory, left))

    shares = os.stat(os.path.join(directory, "root/shares"))
    assert shares.st_mode & 0o077 == 0, "QEMU's user can get at shares, past the directories above them"
    daemon.vmctl("start", "vm")
    check_confined(state(daemon)[2])
    assert has_list(image) and os.stat(image).st_uid == OWNER
    daemon.vmctl("destroy", "vm")
    check_returned(image)
    # What was lent when steled and QEMU were killed comes back with the next steled.
    daemon.vmctl("start", "vm")
    pid = state(daemon)[2]
    daemon.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    await_state(daemon, "stopped")
    check_returned(image)
    # An image behind the image, where QEMU's user can get to.
    put_image(base, bytes(1 << 20))
    put_image(image, qcow2(base))
    daemon.vmctl("define", "--replace", "-", text=PLAIN.format(name="vm", extra=DISK.format(type="qcow2", path=image)))
    try:
        daemon.vmctl("start", "vm")
        check_confined(state(daemon)[2])
        daemon.vmctl("destroy", "vm")
        check_returned(base)
    finally:
        os.remove(base)
    # One where it cannot get to is named before QEMU runs.
    behind = os.path.join(private, "base.img")
    put_image(behind, bytes(1 << 20))
    put_image(image, qcow2(behind))
    contains(daemon.vmctl("start", "vm", status=None).stderr, f"'libvirt-qemu' cannot get to {behind}")
    check_returned(image)
    daemon.stop()


def failing_starts(directory):
    """A QEMU that will not run is an error with QEMU's words, and the machine is stopped."""
    daemon = Daemon(directory).start()
    image = os.path.join(directory, "not-qcow2.img")
    put_image(image, bytes(1 << 20))
    daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=DISK.format(type="qcow2", path=image)))
    result = daemon.vmctl("start", "vm", status=None)
    assert result.returncode != 0, "a start that fails is no success"
    contains(result.stderr, "qcow2")
    assert state(daemon)[:2] == ("stopped", "start-failed"), state(daemon)
    assert not has_list(image), "the image is still lent"
    daemon.stop()


# What libvirt writes in other ways into file names (&) and QEMU's arguments (the comma), cuts (as libvirt's own locale
# tells characters), and as much of a name as its sockets' paths have room for.
ODD_NAMES = ("a,b", "a&b", "%n%s", "$(id)", "x" * 19 + "\N{LATIN SMALL LETTER E WITH GRAVE}" * 5, "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 10, "x" * 128)


def odd_names(directory):
    """Machines of any name run, are found by the next steled, and end when they are told to; in any locale."""
    daemon = Daemon(directory)
    daemon.wrapper = ["env", "LC_ALL=C"]
    daemon.start()
    for name in ODD_NAMES:
        daemon.vmctl("define", "-", text=PLAIN.format(name=name.replace("&", "&amp;"), extra=""))
        daemon.vmctl("start", name)

    def pids():
        return [json.loads(daemon.vmctl("--json", "info", name).stdout).get("pid") for name in ODD_NAMES]

    before = pids()
    assert None not in before, f"processes of {ODD_NAMES}: {before}"
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert pids() == before, f"processes found: {pids()}, which were {before}"
    for name, pid in zip(ODD_NAMES, before):
        daemon.vmctl("destroy", name)
        assert not os.path.exists(f"/proc/{pid}"), f"{name} runs on"
    daemon.stop()


def traceless(directory):
    """A machine that is removed, or gets another name, leaves nothing; others' logs stay."""
    daemon = Daemon(directory).start()
    root = os.path.join(directory, "root")

    def files():
        return {os.path.join(place, name) for place, _, names in os.walk(root) for name in names if "/cache/" not in place + "/"}

    os.makedirs(os.path.join(root, "log/qemu"), exist_ok=True)
    others = [os.path.join(root, "log/qemu", name) for name in ("vm.b.log", "vm2.log", "vm-fs.log", "a-vm.log", "vm-fs0.log")]
    for path in others:
        with open(path, "w"):
            pass
    before = files()
    for rename in (False, True):
        daemon.vmctl("define", "-", text=PLAIN.format(name="vm", extra=""))
        daemon.vmctl("start", "vm")
        daemon.vmctl("destroy", "vm")
        for name in ("vm-fs0-virtiofsd.log", "vm-fs0-virtiofsd.log.1", "vm.log.1"):  # as machines with shares have, and large ones
            with open(os.path.join(root, "log/qemu", name), "w"):
                pass
        if rename:
            daemon.vmctl("rename", "vm", "former")
        daemon.vmctl("undefine", "former" if rename else "vm")
        left = files() - before
        assert not left and before <= files(), f"left, {'renamed' if rename else 'removed'}: {left}; gone: {before - files()}"
    daemon.stop()


def leftovers(directory):
    """What a steled that was killed while it started a machine left running is ended by the next one; nothing else is."""
    daemon = Daemon(directory).start()
    place = json.loads(daemon.vmctl("--json", "version").stdout)["uri"].split("root=")[1]
    daemon.stop()
    left, other = (subprocess.Popen([f"virtiofsd --socket-path={path}/lib/qemu/fs0.sock", "1000"], executable="/bin/sleep") for path in (place, "/none"))
    for number, process in ((77, left), (78, other)):
        with open(os.path.join(directory, f"root/run/qemu/{number}-vm-fs0-fs.pid"), "w") as file:
            file.write(f"{process.pid}\n")
    try:
        daemon.start()
        assert left.wait(timeout=30) == -signal.SIGKILL, "it was ended"
        assert other.poll() is None, "a process that is not libvirt's is left alone"
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
    daemon.stop()


def own_settings(directory):
    """A qemu.conf of the administrator's is kept, and steled says that it counts."""
    daemon = Daemon(directory).start()
    daemon.stop()
    path = os.path.join(directory, "root/etc/qemu.conf")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.split("\n", 1)[1])
    daemon.start()
    contains(daemon.vmctl("version").stdout, f"QEMU as {path} says")
    daemon.stop()


def other_libvirt(directory):
    """A libvirt that is not steled's own cannot guard the host's loopback: a machine must say that it may be reached."""
    os.mkdir(os.path.join(directory, "libvirt"))
    daemon = Daemon(directory, "--connect", f"qemu:///embed?root={directory}/libvirt").start()
    xml = STELE.format(name="m", root=directory)
    daemon.vmctl("define", "-", text=xml)
    contains(daemon.vmctl("start", "m", status=None).stderr, "host-loopback")
    for consent in (xml.replace("</s:machine>", "<s:network host-loopback='on'/></s:machine>"),
                    xml.replace("</domain>", "<devices><interface type='bridge'><source bridge='br0'/></interface></devices></domain>")):
        daemon.vmctl("define", "--replace", "-", text=consent)
        refusal = daemon.vmctl("start", "m", status=None).stderr
        assert "host-loopback" not in refusal, refusal
    daemon.stop()


# --- many clients --------------------------------------------------------------------------------------------

def is_sanitized():
    with open(STELED, "rb") as file:
        return b"__asan_init" in file.read()


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


def starts_at_once(directory):
    """Machines started at once take little more memory than one after the other."""
    daemon, _ = running_vm(directory)
    names = [f"m{number}" for number in range(6)]
    for name in names:
        daemon.vmctl("define", "-", text=PLAIN.format(name=name, extra=""))
    before = resident(daemon.process.pid)
    for request in ("start", "destroy"):
        clients = [subprocess.Popen([VMCTL, "--socket", daemon.socket, request, name], stdout=subprocess.DEVNULL) for name in names]
        assert [client.wait(120) for client in clients] == [0] * len(names), request
    grown = resident(daemon.process.pid) - before
    assert grown < 16384, f"{grown} KiB more after six starts at once"
    end_vm(daemon)


TESTS = [one_a_root, sockets, activated, state_format, doctor, strangers, members, garbage, broken_messages, deaf_peers, flooding_peers, crowds, silence, definitions, encodings, usage, locales, outputs, manual_example, terminals, wrong_states, refused_starts, killed_while_defining,
         qemu_killed, qemu_killed_unwatched, qemu_killed_while_starting, qemu_that_hangs, qemu_that_hangs_at_once,
         qemu_that_hangs_unwatched, qemu_that_hangs_asked, qemu_that_hangs_many, qemu_that_hangs_at_the_end,
         full_disk, lent_files, failing_starts, odd_names, traceless, leftovers, own_settings, other_libvirt, starts_at_once, load]


def main():
    failed = 0
    tests = [test for test in TESTS if not sys.argv[4:] or test.__name__ in sys.argv[4:]]
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="steled-") as directory:
            try:
                test(directory)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"{test.__name__}: FAILED: {error}", flush=True)
                try:
                    for daemon in Daemon.started:
                        daemon.clear_away()
                except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as trouble:
                    print(f"    and something is left: {trouble}", flush=True)
            else:
                print(f"{test.__name__}: ok", flush=True)
            Daemon.started.clear()
    print(f"{len(tests) - failed} of {len(tests)} tests of the daemon passed")
    return 1 if failed else 0


sys.exit(main())
