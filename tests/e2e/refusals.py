"""Bad input: a clear error, an exit status that is not 0, nothing lost and nothing left behind."""
import os
import shutil
import subprocess

from boot import FULL
from harness import Steled, check, check_contains, check_equal, machine_xml, qemu_pids

GOOD = machine_xml("good", FULL)

# What is wrong with it, the XML, what the message must say.
DEFINITIONS = [
    ("empty", "", ""),
    ("malformed", GOOD.replace("</domain>", ""), "line"),
    ("no domain", "<network><name>x</name></network>", "domain"),
    ("no name", GOOD.replace("<name>good</name>", ""), "name"),
    ("a name that is a path", GOOD.replace("<name>good<", "<name>../good<"), "name"),
    ("no root", GOOD.replace("<stele:rootfs", "<stele:rotfs"), "rootfs"),
    ("root without source", GOOD.replace(f"source='{FULL}'", ""), "source"),
    ("relative root", GOOD.replace(f"source='{FULL}'", "source='srv/debian'"), "source"),
    ("unknown root type", GOOD.replace("type='dir'", "type='tape'"), "type"),
    ("unknown attribute", GOOD.replace("type='dir'", "type='dir' colour='red'"), "colour"),
    ("unknown architecture", GOOD.replace("x86_64", "sparc"), "arch"),
    ("unknown init", GOOD.replace("<stele:init>command", "<stele:init>sometimes"), "init"),
    ("command without arguments", GOOD.replace("<stele:arg>/bin/sleep</stele:arg><stele:arg>infinity</stele:arg>", ""), "command"),
    ("libvirt's part", GOOD.replace("<vcpu>1</vcpu>", "<vcpu>many</vcpu>"), "vcpu"),
    ("unknown device", GOOD.replace("</metadata>", "</metadata><devices><teapot/></devices>"), ""),
]


def definitions(place):
    steled = place.shared_steled()
    for what, xml, saying in DEFINITIONS:
        path = os.path.join(steled.directory, "bad.xml")
        with open(path, "w") as file:
            file.write(xml)
        result = steled.run("define", path)
        check(result.returncode != 0, f"{what}: was defined")
        check_contains(result.stderr, saying, what)
        check("GDBus" not in result.stderr, f"{what}: the message is for people: {result.stderr}")
    steled.refuses("define", os.path.join(steled.directory, "none.xml"), saying="none.xml")
    check_equal(steled.machines(), [], "machines after refusals")


def name_taken(place):
    steled = place.shared_steled()
    steled.define("taken", machine_xml("taken", FULL))
    before = steled.vmctl("dumpxml", "taken").stdout
    path = os.path.join(steled.directory, "again.xml")
    with open(path, "w") as file:
        file.write(machine_xml("taken", FULL, memory=777))
    steled.refuses("define", path, saying="taken")
    check_equal(steled.vmctl("dumpxml", "taken").stdout, before, "the definition after a refusal")
    steled.vmctl("undefine", "taken")


def start_refused(steled, name, xml, saying):
    steled.define(name, xml)
    steled.refuses("start", "--wait", name, saying=saying, timeout=200)
    steled.run("destroy", name)
    check_equal(steled.state(name)[0], "stopped", f"state of {name} after a refused start")
    steled.vmctl("undefine", name)


def missing_files(place):
    steled = place.shared_steled()
    empty = os.path.join(place.directory, "empty")
    os.makedirs(empty, exist_ok=True)
    none = "/nonexistent/thing"
    kernel = "<os><type arch='aarch64' machine='virt'>hvm</type><kernel>/nonexistent/vmlinuz</kernel></os>"
    start_refused(steled, "no-root", machine_xml("no-root", none), none)
    start_refused(steled, "no-disk", machine_xml("no-disk", none, kind="disk"), none)
    start_refused(steled, "empty-root", machine_xml("empty-root", empty), empty)
    start_refused(steled, "no-kernel", machine_xml("no-kernel", FULL, boot=kernel), "/nonexistent/vmlinuz")
    start_refused(steled, "no-translator", machine_xml("no-translator", FULL, translator=f"<stele:translator source='{empty}'/>"), empty)
    start_refused(steled, "no-avx512", machine_xml("no-avx512", FULL, translator="<stele:translator cpu='x86-64-v4'/>"), "x86-64-v3")
    check_equal(qemu_pids(steled.directory), [], "processes left behind")


def broken_roots(place):
    """Roots that cannot run x86-64 programs: said by name, with what to install."""
    steled = place.shared_steled()
    root = os.path.join(place.directory, "broken-root")
    os.makedirs(os.path.join(root, "bin"))
    shutil.copy(os.path.join(FULL, "usr/bin/sleep"), os.path.join(root, "bin/sleep"))
    start_refused(steled, "no-loader", machine_xml("no-loader", root), "libc6:amd64")
    with open(os.path.join(root, "bin/sleep"), "r+b") as file:
        file.truncate(100)
    start_refused(steled, "corrupt", machine_xml("corrupt", root), "/bin/sleep")
    shutil.rmtree(root)


def corrupt_disk(place):
    """The guest's kernel cannot mount it: the agent's reason reaches the user."""
    steled = place.shared_steled()
    image = os.path.join(place.directory, "corrupt.img")
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    start_refused(steled, "corrupt-disk", machine_xml("corrupt-disk", image, kind="disk", mode="rw"), "root file system")
    os.remove(image)


def sockets(place):
    steled = place.shared_steled()
    nowhere = Steled(place.directory)
    nowhere.socket = os.path.join(place.directory, "no-such-socket")
    result = nowhere.run("list")
    check_equal(result.returncode, 7, "status without a daemon")
    check_contains(result.stderr, "no-such-socket", "message")
    if os.geteuid() == 0:
        os.chmod(place.directory, 0o755)
        os.chmod(steled.directory, 0o755)
        result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *steled.command("list")],
                                capture_output=True, text=True)
        check_equal(result.returncode, 7, f"status of a stranger: {result.stderr}")
    check_equal(steled.run("list").returncode, 0, "the daemon goes on")
    steled.refuses("start", "nobody", saying="nobody")
    check_equal(steled.run("no-such-command").returncode, 2, "an unknown command")


def full_disk(place):
    """Defining on a full file system: an error, and what was there before stays."""
    if os.geteuid() != 0:
        return
    directory = os.path.join(place.directory, "small")
    os.mkdir(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", directory], check=True)
    steled = Steled(directory)
    place.steleds.append(steled)
    try:
        steled.start()
        steled.define("kept", machine_xml("kept", FULL))
        before = steled.vmctl("dumpxml", "kept").stdout
        with open(os.path.join(directory, "filler"), "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        other = os.path.join(place.directory, "other.xml")
        with open(other, "w") as file:
            file.write(machine_xml("other", FULL, machine_extra="<stele:hostname>other</stele:hostname>" + " " * 8192))
        steled.refuses("define", other, saying="")
        check_equal([machine["name"] for machine in steled.machines()], ["kept"], "machines")
        check_equal(steled.vmctl("dumpxml", "kept").stdout, before, "the definition")
        os.remove(os.path.join(directory, "filler"))
        steled.vmctl("define", other)
        steled.vmctl("undefine", "other")
        steled.vmctl("undefine", "kept")
    finally:
        steled.stop()
        subprocess.run(["umount", "-l", directory], check=True)


TESTS = [
    ("definitions", definitions, True),
    ("name-taken", name_taken, True),
    ("missing-files", missing_files, True),
    ("broken-roots", broken_roots, True),
    ("corrupt-disk", corrupt_disk, True),
    ("sockets", sockets, True),
    ("full-disk", full_disk, True),
]
