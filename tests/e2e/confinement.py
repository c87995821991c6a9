"""What serves a guest on the host may do no more than that: QEMU's and virtiofsd's processes as the kernel sees them."""
import json
import os
import pwd

from boot import FULL
from harness import check, check_contains, check_equal, machine_xml, qemu_pids

# linux/capability.h, by bit.
CAPABILITIES = {0: "chown", 1: "dac_override", 3: "fowner", 4: "fsetid", 6: "setgid", 7: "setuid", 27: "mknod", 31: "setfcap",
                2: "dac_read_search", 9: "linux_immutable", 21: "sys_admin", 19: "sys_ptrace", 12: "net_admin", 17: "sys_rawio",
                16: "sys_module", 5: "kill"}
# What a file server that acts for a guest's users needs, and is confined to the share with.
FILE_SERVER = {"chown", "dac_override", "fowner", "fsetid", "setgid", "setuid", "mknod", "setfcap"}


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


def capabilities(status):
    held = int(status["CapEff"], 16)
    return {CAPABILITIES.get(bit, str(bit)) for bit in range(64) if held >> bit & 1}


def mounts_of(pid):
    """Mount point → options, as the process sees them."""
    with open(f"/proc/{pid}/mountinfo") as file:
        return {line.split()[4]: line.split()[5].split(",") for line in file}


def processes(steled, program):
    for pid in qemu_pids(steled.directory):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if program.encode() in file.read().split(b"\0")[0]:
                yield pid


def confined(place):
    """A machine with a writable root works while QEMU is nobody and virtiofsd sees the share alone, without devices."""
    steled = place.shared_steled()
    tree = os.path.join(place.directory, "tree")
    os.makedirs(tree, exist_ok=True)
    os.system(f"cp -a {FULL}/. {tree}")
    steled.define("confined", machine_xml("confined", tree, mode="rw"))
    steled.vmctl("start", "--wait", "confined")
    steled.sh("confined", "cp /bin/true /root/set-uid; chmod 4755 /root/set-uid; mknod /root/device c 1 3; sync")
    qemu = steled.info("confined")["pid"]
    status = status_of(qemu)
    check_equal(status["Uid"].split()[1], str(pwd.getpwnam("libvirt-qemu").pw_uid), "QEMU's user")
    check_equal((capabilities(status), status["NoNewPrivs"], status["Seccomp"]), (set(), "1", "2"), "QEMU's confinement")
    servers = 0
    for pid in processes(steled, "virtiofsd"):
        status, mounts = status_of(pid), mounts_of(pid)
        if "/proc/self/fd" in mounts and len(mounts) > 4:
            continue  # the process that only waits for the sandboxed one
        servers += 1
        check_equal(status["Seccomp"], "2", "virtiofsd's seccomp")
        check(capabilities(status) <= FILE_SERVER, f"virtiofsd's capabilities: {capabilities(status) - FILE_SERVER}")
        check(capabilities(status), "virtiofsd is looked at after its sandbox is built")
        check({"nosuid", "nodev"} <= set(mounts["/"]), f"virtiofsd's view of the share: {mounts}")
        check_equal(sorted(os.listdir(f"/proc/{pid}/root")) != sorted(os.listdir("/")), True, "virtiofsd does not see the host")
    check(servers >= 2, f"{servers} virtiofsd processes in a sandbox")
    check_contains(json.loads(steled.vmctl("version", "--json").stdout)["confinement"], "libvirt-qemu", "version")
    steled.vmctl("destroy", "confined")
    steled.vmctl("undefine", "confined")
    os.system(f"rm -rf {tree}")


TESTS = [("confined", confined, True)]
