"""What ends or misbehaves behind steled's back: steled itself, QEMU, virtiofsd, the guest's agent."""
import os
import platform
import signal
import socket
import subprocess
import time

from boot import FULL
from harness import BUILD, PATIENCE, ROOT, Events, Failure, check, check_contains, check_equal, machine_xml, qemu_pids


def daemon_killed(place):
    """kill -9 of steled while a machine runs: the next steled finds it, exec works, events flow."""
    steled = place.steled()
    steled.define("survivor", machine_xml("survivor", FULL))
    steled.vmctl("start", "--wait", "survivor")
    steled.sh("survivor", "echo before >/root/mark")
    pid = steled.info("survivor")["pid"]
    steled.kill()
    check(os.path.exists(f"/proc/{pid}"), "QEMU must outlive steled")
    steled.start()
    events = Events(steled)
    try:
        found = steled.state("survivor")
        if found[0] != "running":
            try:
                events.wait(name="survivor", state="running", timeout=60)
            except Failure as failure:
                raise Failure(f"{failure}; found as {found}, now {steled.state('survivor')}") from failure
        check_equal(steled.info("survivor")["pid"], pid, "the same QEMU")
        check_equal(steled.sh("survivor", "cat /root/mark"), "before\n", "the same guest")
        steled.vmctl("suspend", "survivor")
        events.wait(name="survivor", state="paused")
        steled.vmctl("resume", "survivor")
        events.wait(name="survivor", state="running")
        steled.vmctl("shutdown", "survivor")
        events.wait(name="survivor", state="stopped", reason="shutdown")
    finally:
        events.close()
    steled.vmctl("undefine", "survivor")
    steled.stop()


def process_killed(place, program, state, reason):
    steled = place.shared_steled()
    name = f"kill-{program.replace('_', '-')}"
    steled.define(name, machine_xml(name, FULL))
    steled.vmctl("start", "--wait", name)
    events = Events(steled)
    try:
        victims = []
        for pid in qemu_pids(steled.directory):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
            if program.encode() in line.split(b"\0")[0] and (program != "qemu-system" or name.encode() in line):
                victims.append(pid)
        check(victims, f"no {program} found")
        os.kill(victims[0], signal.SIGKILL)
        events.wait(name=name, state=state, reason=reason)
        check_equal(steled.state(name), (state, reason), "state")
    finally:
        events.close()
    steled.run("destroy", name)
    check_equal(steled.state(name)[0], "stopped", "state after destroy")
    steled.vmctl("start", "--wait", name)
    check_equal(steled.sh(name, "echo again"), "again\n", "it starts anew")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


def qemu_killed(place):
    process_killed(place, "qemu-system", "stopped", "died")


def virtiofsd_killed(place):
    process_killed(place, "virtiofsd", "failed", "share-died")


def stub_initrd(place):
    """An initramfs whose init is stub-agent.c."""
    tree = os.path.join(place.directory, "stub")
    image = tree + ".img"
    if not os.path.exists(image):
        compiler = "gcc" if platform.machine() == "aarch64" else "aarch64-linux-gnu-gcc"
        for directory in ("proc", "sys", "dev"):
            os.makedirs(os.path.join(tree, directory))
        subprocess.run([compiler, "-O2", "-static", f"-I{ROOT}/common", "-o", os.path.join(tree, "init"),
                        f"{ROOT}/tests/e2e/stub-agent.c", f"{ROOT}/common/stream-frame.c"], check=True)
        with open(image, "wb") as file:
            names = subprocess.run(["find", ".", "-mindepth", "1"], cwd=tree, capture_output=True, check=True).stdout
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=tree, input=names, stdout=file, check=True)
    return image


def define_stub(place, steled, mode):
    """Defines a machine with that agent; its name."""
    boot = (f"<os><type arch='aarch64' machine='virt'>hvm</type><kernel>{BUILD}/guest-image/vmlinuz</kernel>"
            f"<initrd>{stub_initrd(place)}</initrd><cmdline>stub={mode}</cmdline></os>")
    steled.define(f"stub-{mode}", machine_xml(f"stub-{mode}", FULL, init="system", command=(), boot=boot))
    return f"stub-{mode}"


def stub_machine(place, mode):
    steled = place.shared_steled()
    return steled, define_stub(place, steled, mode)


def no_agent(place):
    """An agent that never comes is an error that shows the guest's console."""
    steled, name = stub_machine(place, "silent")
    result = steled.refuses("start", "--wait", "--timeout", "25", name, saying="stub-agent: silent")
    check(result.returncode != 0, "start --wait without an agent")
    steled.refuses("exec", name, "true", saying="")
    steled.refuses("shutdown", "--timeout", "5", name, saying="")
    steled.vmctl("destroy", name)
    check_equal(steled.state(name), ("stopped", "destroyed"), "state")
    steled.vmctl("undefine", name)


def deaf_agent(place):
    """An agent that acknowledges a shutdown or reboot and does nothing: a timeout, and destroy still works."""
    steled, name = stub_machine(place, "deaf")
    steled.vmctl("start", "--wait", name)
    steled.refuses("reboot", "--wait", "--timeout", "2", name, saying="has not come up again within 2 s")
    check_equal(steled.state(name), ("running", "ready"), "state when the reboot was given up")
    steled.refuses("shutdown", "--timeout", "5", name, saying="")
    check(steled.state(name)[0] in ("stopping", "running"), f"state {steled.state(name)}")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


def lying_agent(place):
    """Broken frames and broken JSON from the guest harm neither steled nor other machines."""
    steled, name = stub_machine(place, "liar")
    steled.run("start", "--wait", "--timeout", "15", name)
    steled.refuses("exec", name, "true", saying="")
    check_contains(steled.vmctl("list").stdout, name, "list")
    steled.run("shutdown", "--timeout", "5", name)
    steled.run("destroy", name)
    check_equal(steled.state(name)[0], "stopped", "state")
    steled.vmctl("undefine", name)


def list_seconds(steled, times=15):
    """What `vmctl list` takes: the median, since a busy machine delays a call now and then."""
    taken = []
    for _ in range(times):
        started = time.monotonic()
        steled.vmctl("list")
        taken.append(time.monotonic() - started)
    return sorted(taken)[times // 2]


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def flooding_agent(place):
    """A guest that sends without end and reads nothing: steled stays small and quick."""
    steled, name = stub_machine(place, "flood")
    idle, before = list_seconds(steled), resident(steled.process.pid)
    steled.vmctl("start", "--wait", name)
    busy = list_seconds(steled, 40)
    check(busy < 10 * idle, f"'list' takes {busy:.3f} s, {idle:.3f} s when idle")
    grown = resident(steled.process.pid) - before
    check(grown < 16384, f"steled has grown by {grown} KiB")
    steled.vmctl("destroy", name)
    check_equal(steled.state(name), ("stopped", "destroyed"), "state")
    steled.vmctl("undefine", name)


def loopback(place):
    """What listens on the host's 127.0.0.1 is out of a guest's reach, unless its machine says otherwise."""
    steled = place.shared_steled()
    listeners = [socket.socket() for _ in range(2)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
    port, reached = listeners[0].getsockname()[1], listeners[1].getsockname()[1]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    datagrams.setblocking(False)
    try:
        steled.define("walled", machine_xml("walled", FULL))
        steled.vmctl("start", "--wait", "walled")
        for address in ("10.0.2.2", "127.0.0.2", "0.0.0.0"):
            # 127.0.0.2 by the router: a guest's root can send there what its own loopback would take.
            script = (f"sysctl -qw net.ipv4.conf.eth0.route_localnet=1; ip route replace table local 127.0.0.2 via 10.0.2.2 dev eth0;"
                      f" timeout 20 bash -c 'echo x >/dev/tcp/{address}/{port}' && echo reached;"
                      f" timeout 20 bash -c 'echo x >/dev/udp/{address}/{datagrams.getsockname()[1]}'; true")
            check("reached" not in steled.sh("walled", script) or address == "0.0.0.0", f"{address} was reached")
        for what, server in (("TCP", listeners[0]), ("UDP", datagrams)):
            try:
                server.accept() if what == "TCP" else server.recv(10)
            except BlockingIOError:
                continue
            raise Failure(f"the guest reached the host's loopback by {what}")
        steled.vmctl("destroy", "walled")
        steled.define("open", machine_xml("open", FULL, machine_extra="<stele:network host-loopback='on'/>"))
        steled.vmctl("start", "--wait", "open")
        steled.sh("open", f"bash -c 'echo x >/dev/tcp/10.0.2.2/{reached}'")
        listeners[1].accept()[0].close()
    finally:
        for listener in (*listeners, datagrams):
            listener.close()
        for name in ("walled", "open"):
            steled.run("destroy", name)
            steled.run("undefine", name)


def await_true(condition, what, seconds=30):
    """what: a text, or a function that makes one of what holds when time is up."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() >= deadline:
            raise Failure(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.1)


def clients(place):
    """Clients that die in the middle leave nothing behind; more programs than the guest takes wait for a place."""
    steled = place.shared_steled()
    steled.define("busy", machine_xml("busy", FULL))
    steled.vmctl("start", "--wait", "busy")
    steled.sh("busy", "true")
    descriptors = lambda: len(os.listdir(f"/proc/{steled.process.pid}/fd"))
    before = descriptors()
    for _ in range(3):
        programs = [steled.popen("exec", "busy", "--", "sh", "-c", "echo up; exec sleep 1000", stdout=subprocess.PIPE) for _ in range(5)]
        for program in programs:
            check_equal(program.stdout.readline(), b"up\n", "the program")
            program.kill()
            program.wait()
            program.stdout.close()
    await_true(lambda: descriptors() <= before, f"{descriptors()} descriptors, {before} before 15 clients were killed")
    check_equal(steled.sh("busy", "pgrep -xc sleep || true").strip(), "1", "programs left, besides the machine's own")
    many = [steled.popen("exec", "busy", "--", "true", stderr=subprocess.PIPE) for _ in range(100)]
    results = [(program.communicate(timeout=600 * PATIENCE)[1], program.returncode) for program in many]
    check_equal([result for result in results if result[1]], [], "100 programs at once")
    victims = [pid for pid in qemu_pids(steled.directory) if b"virtiofsd" in open(f"/proc/{pid}/cmdline", "rb").read()]
    os.kill(victims[0], signal.SIGKILL)
    await_true(lambda: steled.state("busy") == ("failed", "share-died"), "share-died")
    result = steled.refuses("exec", "busy", "true", saying="virtiofsd")
    check_equal(result.returncode, 125, "exec in a machine whose share died")
    steled.vmctl("destroy", "busy")
    steled.vmctl("undefine", "busy")


def mute_agent(place):
    """An agent that never answers a command: the power button is pressed, and nothing hangs."""
    steled, name = stub_machine(place, "mute")
    steled.vmctl("start", "--wait", name)
    steled.refuses("shutdown", "--timeout", "15", name, saying="no guest agent answers")
    steled.refuses("reboot", name, saying="did not answer in time")
    check_equal(steled.state(name)[0], "running", "state")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


TESTS = [
    ("steled-killed", daemon_killed, True),
    ("qemu-killed", qemu_killed, True),
    ("virtiofsd-killed", virtiofsd_killed, True),
    ("no-agent", no_agent, True),
    ("deaf-agent", deaf_agent, True),
    ("lying-agent", lying_agent, True),
    ("flooding-agent", flooding_agent, True),
    ("mute-agent", mute_agent, False),
    ("loopback", loopback, True),
    ("clients", clients, False),
]
