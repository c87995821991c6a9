"""Programs of userspace.tbl in one machine, compared with the same root on this machine's processor."""
import os
import platform
import subprocess

from boot import FULL
from harness import PATIENCE, check, check_contains, check_equal, machine_xml

HERE = os.path.dirname(os.path.abspath(__file__))

# What the tests' own caller ignores (a shell's '&': SIGINT and SIGQUIT) is no program's here, as it is none's in a machine.
WITH_DEFAULT_SIGNALS = ["env", "--default-signal"]

# The same root natively: an overlay of it, its own mounts, processes and (only loopback) network.
NATIVE = r"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount --rbind /sys "$1/root/sys"
ip link set lo up 2>/dev/null || true
exec env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$1/root" /bin/sh -c "cd /root; $3"
"""


def names(name):
    """[(test's name, $1 of its script)]: one, or one a word of NAME{WORD,…}."""
    stem, brace, words = name.partition("{")
    return [(stem + word, word) for word in words.rstrip("}").split(",")] if brace else [(name, "")]


def read_table():
    """(name, in_slice, seconds, script) of each record."""
    records = []
    with open(os.path.join(HERE, "userspace.tbl")) as file:
        for line in file:
            if line.startswith("  ") and records:
                records[-1][3] += line[2:]
            elif line.strip() and not line.startswith("#"):
                name, where, seconds = line.split()
                records.append([name, where == "slice", int(seconds), ""])
    return records


def run_natively(place, script, seconds):
    directory = os.path.join(place.directory, "native")
    os.makedirs(directory, exist_ok=True)
    return subprocess.run([*WITH_DEFAULT_SIGNALS, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", NATIVE,
                           "sh", directory, FULL, script],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds * PATIENCE)


def machine(place):
    """The machine all rows share, started by the first."""
    steled = place.shared_steled()
    if not any(m["name"] == "userspace" for m in steled.machines()):
        steled.define("userspace", machine_xml("userspace", FULL, memory=2048, vcpus=2))
    if steled.state("userspace")[0] == "stopped":
        steled.vmctl("start", "--wait", "userspace")
        check_contains(steled.sh("userspace", "grep -m1 vendor_id /proc/cpuinfo"), "VirtualStele", "the processor")
    return steled


def row_test(script, seconds):
    def test(place):
        steled = machine(place)
        clean = "rm -rf /tmp/* /srv/*; "  # what the rows before left
        got = steled.run("exec", "userspace", "--", "/bin/sh", "-c", clean + script, timeout=seconds)
        if platform.machine() != "x86_64":
            check_equal(got.returncode, 0, f"status ({got.stderr[-2000:]})")
            return
        native = run_natively(place, script, seconds)
        check(native.stdout, f"natively it prints nothing: {native.stderr}")
        check_equal((got.returncode, got.stdout), (native.returncode, native.stdout), f"natively and in the machine ({got.stderr[-2000:]})")
    return test


TESTS = [(name, row_test(f"set -- {word}; {script}", seconds), in_slice)
         for names_of, in_slice, seconds, script in read_table() for name, word in names(names_of)]
