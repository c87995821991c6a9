"""What the end-to-end tests stand on: a steled of their own, vmctl, machine XML, and waiting for events.

Nothing here sleeps for an event: waiting means reading `vmctl events`, a pipe or a socket with a deadline.
Everything a test run makes is in one temporary directory (and libvirt's run directory, which steled
names), and goes with it.
"""
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

BUILD = os.environ["STELE_BUILD"]
ROOT = os.environ["STELE_ROOT"]
# Emulation on a busy machine is slow: patience is a factor on every deadline, not a pause.
PATIENCE = float(os.environ.get("STELE_PATIENCE", "1"))


class Failure(AssertionError):
    """A test's expectation did not hold."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(got, expected, what):
    check(got == expected, f"{what}: expected {expected!r}, got {got!r}")


def check_contains(text, part, what):
    check(part in text, f"{what}: expected {part!r} in {text!r}")


class Events:
    """`vmctl events --json`, read line by line."""

    def __init__(self, steled):
        self.process = steled.popen("events", "--json", stdout=subprocess.PIPE)
        self.pending = b""
        self.seen = []
        self.subscribe(steled)

    def subscribe(self, steled):
        """Returns once events arrive: provokes one until it is seen."""
        for _ in range(20):
            steled.define("probe", "<domain type='qemu'><name>probe</name><memory unit='MiB'>64</memory>"
                          "<os><type arch='aarch64' machine='virt'>hvm</type></os></domain>")
            steled.vmctl("undefine", "probe")
            if select.select([self.process.stdout], [], [], 1)[0]:
                return self.wait(name="probe", event="undefined")
        raise Failure("'vmctl events' shows nothing")

    def wait(self, timeout=60, **wanted):
        """The first event whose fields equal `wanted`, from those not yet looked at."""
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            while b"\n" in self.pending:
                line, self.pending = self.pending.split(b"\n", 1)
                event = json.loads(line)
                self.seen.append(event)
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event
            left = deadline - time.monotonic()
            ready = select.select([self.process.stdout], [], [], max(left, 0))[0]
            check(ready, f"no event {wanted} within {timeout} s; there were {self.seen[-8:]}")
            data = os.read(self.process.stdout.fileno(), 65536)
            check(data, f"'vmctl events' ended while waiting for {wanted}")
            self.pending += data

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Steled:
    """A private steled and the vmctl that talks to it."""

    def __init__(self, directory, guest_dir=None, translator_dir=None, arguments=()):
        self.directory = directory
        self.arguments = list(arguments)
        self.socket = os.path.join(directory, "socket")
        self.state_directory = os.path.join(directory, "state")
        self.guest_dir = guest_dir or os.path.join(BUILD, "guest-image")
        self.translator_dir = translator_dir or os.path.join(BUILD, "guest-share")
        self.process = None
        self.uri = None

    def start(self):
        log = open(os.path.join(self.directory, "steled.log"), "ab")
        self.process = subprocess.Popen(self.daemon_command(), stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        log.close()
        ready = select.select([self.process.stdout], [], [], 60 * PATIENCE)[0]
        line = self.process.stdout.readline() if ready else b""
        check(b"ready" in line, f"steled did not start: {self.log()[-2000:]}")
        self.uri = json.loads(self.vmctl("version", "--json").stdout).get("uri", "")
        return self

    def daemon_command(self):
        return [os.path.join(BUILD, "steled"), "--socket", self.socket, "--root", self.state_directory,
                "--guest-dir", self.guest_dir, "--translator-dir", self.translator_dir, *self.arguments]

    def log(self):
        with open(os.path.join(self.directory, "steled.log"), errors="replace") as file:
            return file.read()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def command(self, *arguments):
        return [os.path.join(BUILD, "vmctl"), "--socket", self.socket, *arguments]

    def popen(self, *arguments, **options):
        return subprocess.Popen(self.command(*arguments), **options)

    def run(self, *arguments, timeout=120, text=True, **options):
        """vmctl, whatever its exit status."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        try:
            return subprocess.run(self.command(*arguments), capture_output=True, text=text,
                                  timeout=timeout * PATIENCE, **options)
        except subprocess.TimeoutExpired as expired:
            raise Failure(f"vmctl {' '.join(arguments)}: not done after {timeout} s; "
                          f"output {expired.stdout!r}, errors {expired.stderr!r}") from None

    def vmctl(self, *arguments, **options):
        """vmctl, which must succeed."""
        result = self.run(*arguments, **options)
        check(result.returncode == 0, f"vmctl {' '.join(arguments)}: status {result.returncode}: "
                                      f"{result.stderr}{self.console_tail(arguments)}")
        return result

    def refuses(self, *arguments, saying, **options):
        """vmctl, which must fail, with a message that contains `saying`."""
        result = self.run(*arguments, **options)
        check(result.returncode != 0, f"vmctl {' '.join(arguments)} succeeded; expected an error with {saying!r}")
        check_contains(result.stderr, saying, f"vmctl {' '.join(arguments)}")
        return result

    def sh(self, name, script, **options):
        """Runs a shell script in a machine; returns what it printed."""
        return self.vmctl("exec", name, "--", "sh", "-c", script, **options).stdout

    def info(self, name):
        return json.loads(self.vmctl("info", name, "--json").stdout)

    def state(self, name):
        info = self.info(name)
        return info["state"], info["reason"]

    def console_tail(self, arguments):
        tails = []
        for name in arguments:
            path = os.path.join(self.state_directory, "console", f"{name}.log")
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    tails.append(f"\nconsole of {name}: {file.read()[-1500:]}")
        return "".join(tails)

    def define(self, name, xml):
        path = os.path.join(self.directory, f"{name}.xml")
        with open(path, "w") as file:
            file.write(xml)
        return self.vmctl("define", path)

    def machines(self):
        return json.loads(self.vmctl("list", "--json").stdout)

    def remove_all(self):
        for machine in self.machines():
            self.run("destroy", machine["name"])
            self.run("undefine", machine["name"])


def qemu_pids(directory, state=None):
    """Processes that serve a steled's machines: those whose command line names its state."""
    state = state or os.path.join(directory, "state")
    # steled gives libvirt a short name of it (unix sockets have short paths), made from the long one.
    names = [state, "/run/stele/" + hashlib.sha256(os.path.abspath(state).encode()).hexdigest()[:8]]
    match = re.compile("|".join(re.escape(name) for name in names).encode())
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if match.search(line) and (b"qemu-system" in line or b"virtiofsd" in line):
            found.append(int(entry))
    return found


def machine_xml(name, root, kind="dir", mode=None, init="command", command=("/bin/sleep", "infinity"), memory=512,
                vcpus=1, boot="", machine_extra="", extra="", translator=""):
    """Domain XML of a Stele machine; what is left out is steled's to add."""
    arguments = "".join(f"<stele:arg>{escape(word)}</stele:arg>" for word in command)
    run = f"<stele:command>{arguments}</stele:command>" if init == "command" else ""
    mode_attribute = f" mode='{mode}'" if mode else ""
    return f"""<domain>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  {boot}
  <metadata>
    <stele:machine xmlns:stele='urn:stele:machine:1'>
      <stele:rootfs arch='x86_64' type='{kind}' source='{escape(root)}'{mode_attribute}/>
      {translator}<stele:init>{init}</stele:init>{run}{machine_extra}
    </stele:machine>
  </metadata>
  {extra}
</domain>
"""


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")


class Place:
    """The temporary directory of a test run, with one steled that most tests share."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="stele-e2e.", dir=os.environ.get("TMPDIR", "/tmp"))
        self.steleds = []
        self.shared = None

    def steled(self, **options):
        directory = os.path.join(self.directory, str(len(self.steleds)))
        os.mkdir(directory)
        steled = Steled(directory, **options)
        self.steleds.append(steled)
        return steled.start()

    def shared_steled(self):
        if self.shared is None or self.shared.process.poll() is not None:
            self.shared = self.steled()
        return self.shared

    def close(self):
        for steled in self.steleds:
            if steled.process.poll() is None:
                try:
                    steled.remove_all()
                except Failure:
                    pass
                steled.stop()
            for pid in qemu_pids(steled.directory, steled.state_directory):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            match = re.search(r"root=(/run/[^&]+)", steled.uri or "")
            if match:
                shutil.rmtree(match[1], ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
