"""What serves a guest on the host may do no more than that: QEMU's and virtiofsd's processes as the kernel sees them."""
import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile

from boot import FULL
from harness import check, check_contains, check_equal, machine_xml, qemu_pids

# linux/capability.h, by bit.
CAPABILITIES = {0: "chown", 1: "dac_override", 3: "fowner", 4: "fsetid", 6: "setgid", 7: "setuid", 27: "mknod", 31: "setfcap",
                2: "dac_read_search", 9: "linux_immutable", 21: "sys_admin", 19: "sys_ptrace", 12: "net_admin", 17: "sys_rawio",
                16: "sys_module", 5: "kill"}
# What a file server that acts for a guest's users needs, and is confined to the share with.
FILE_SERVER = {"chown", "dac_override", "fowner", "fsetid", "setgid", "setuid", "setfcap"}


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


def capabilities(status):
    held = int(status["CapEff"], 16)
    return {CAPABILITIES.get(bit, str(bit)) for bit in range(64) if held >> bit & 1}


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def mounts_of(pid):
    """Mount point → options, as the process sees them."""
    with open(f"/proc/{pid}/mountinfo") as file:
        return {line.split()[4]: line.split()[5].split(",") for line in file}


def processes(steled, program):
    for pid in qemu_pids(steled.directory):
        if program.encode() in command_line(pid).split(b"\0")[0]:
            yield pid


def check_servers(steled):
    servers = 0
    for pid in processes(steled, "virtiofsd"):
        status, mounts = status_of(pid), mounts_of(pid)
        if status["Seccomp"] != "2":
            continue  # the process that only waits for the one in the sandbox
        servers += 1
        check_equal(capabilities(status) - FILE_SERVER, set(), "virtiofsd's capabilities besides a file server's")
        check({"nosuid", "nodev"} <= set(mounts["/"]), f"virtiofsd's view of the share: {mounts}")
        seen = set(mounts) - {"/", "/proc", "/proc/self/fd"}
        check_equal(seen, set(), "mounts virtiofsd sees besides its share")
    check_equal(servers, 2, "virtiofsd processes in a sandbox")


def check_qemu(steled, name):
    status = status_of(steled.info(name)["pid"])
    check_equal(status["Uid"].split(), [str(pwd.getpwnam("libvirt-qemu").pw_uid)] * 4, "QEMU's user")
    check_equal((capabilities(status), status["NoNewPrivs"], status["Seccomp"]), (set(), "1", "2"), "QEMU's confinement")


def confined(place):
    """A machine boots while QEMU is nobody, and virtiofsd sees its share alone, without devices."""
    steled = place.shared_steled()
    steled.define("confined", machine_xml("confined", FULL))
    steled.vmctl("start", "--wait", "confined")
    check_equal(steled.sh("confined", "id -u"), "0\n", "a program in it")
    check_qemu(steled, "confined")
    check_servers(steled)
    check_contains(json.loads(steled.vmctl("version", "--json").stdout)["confinement"], "libvirt-qemu", "version")
    steled.vmctl("destroy", "confined")
    steled.vmctl("undefine", "confined")


def writable(place):
    """The same with a root the guest writes to: it makes no devices there, and what is set-uid is not so in virtiofsd's view."""
    steled = place.shared_steled()
    tree = os.path.join(place.directory, "tree")
    subprocess.run(["cp", "-a", "--reflink=auto", FULL, tree], check=True)
    steled.define("writable", machine_xml("writable", tree, mode="rw"))
    steled.vmctl("start", "--wait", "writable")
    steled.sh("writable", "cp /bin/true /root/set-uid && chmod 4755 /root/set-uid && mkfifo /root/pipe && mknod /root/whiteout c 0 0 && sync")
    made = steled.run("exec", "writable", "--", "mknod", "/root/device", "c", "1", "3")
    check(made.returncode != 0 and not os.path.lexists(os.path.join(tree, "root/device")), f"a device made on the host: {made.stderr}")
    check(stat.S_ISFIFO(os.stat(os.path.join(tree, "root/pipe")).st_mode), "a pipe")
    check_qemu(steled, "writable")
    check_servers(steled)
    check(os.stat(os.path.join(tree, "root/set-uid")).st_mode & stat.S_ISUID, "a root that is written to takes everything")
    steled.vmctl("destroy", "writable")
    steled.vmctl("undefine", "writable")
    shutil.rmtree(tree)


def unguarded(place):
    """A QEMU that runs without the guard of the host's loopback is ended at once."""
    steled = place.shared_steled()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:  # where QEMU's user can get to
        os.chmod(directory, 0o755)
        emulator = os.path.join(directory, "qemu-system-aarch64")
        with open(emulator, "w") as file:
            file.write('#!/bin/sh\nunset LD_PRELOAD\nexec /usr/bin/qemu-system-aarch64 "$@"\n')
        os.chmod(emulator, 0o755)
        steled.define("unguarded", machine_xml("unguarded", FULL, extra=f"<devices><emulator>{emulator}</emulator></devices>"))
        steled.refuses("start", "unguarded", saying="did not load the network guard")
        check_equal(steled.state("unguarded"), ("stopped", "start-failed"), "state")
        check_equal([pid for pid in qemu_pids(steled.directory) if b"unguarded" in command_line(pid)], [], "processes left")
        steled.vmctl("undefine", "unguarded")


TESTS = [
    ("unguarded", unguarded, True),
    ("confined", confined, True),
    ("writable", writable, False),
]
