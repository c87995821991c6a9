"""What qemu-aarch64 cannot do, and so no test of the translator under it, in a machine: vfork and clone that share
memory, robust lists, process_vm_readv, the highest real-time signals (tests/programs/limits.h), and the scenarios that
tests/stress/scenarios.tbl leaves out there. Both compare with a native run on this machine's processor. And the
translator's self-test on several processors."""
import os
import platform
import shlex
import subprocess

from boot import FULL
from harness import BUILD, PATIENCE, ROOT, check, check_contains, machine_xml

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(ROOT, "tests/programs")
STRESS = os.path.join(ROOT, "tests/stress")


# Threads of the scenarios there, as the guest's kernel sees them (the translator's stacks are not told).
WHERE = r"""
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' <$process/cmdline) in *stele-stress-*) ;; *) continue;; esac
  for task in $process/task/*; do
    echo "  $task, wchan $(cat $task/wchan), syscall $(cat $task/syscall)"
    grep -E '^(Name|State|SigPnd|ShdPnd|SigBlk|voluntary)' $task/status | tr '\t\n' '  '; echo
  done
done 2>/dev/null
"""


def machine(place):
    """The machine that both share, started by the first."""
    steled = place.shared_steled()
    if not any(m["name"] == "programs" for m in steled.machines()):
        steled.define("programs", machine_xml("programs", FULL, memory=1024, vcpus=2))
    if steled.state("programs")[0] == "stopped":
        steled.vmctl("start", "--wait", "programs")
        check_contains(steled.sh("programs", "grep -m1 vendor_id /proc/cpuinfo"), "VirtualStele", "the processor")
    return steled


def run(place, command, seconds):
    """A test of the translator, with the machine as its translator."""
    steled = machine(place)
    translator = [os.path.join(HERE, "in-machine"), os.path.join(BUILD, "vmctl"), steled.socket, "programs"]
    got = subprocess.run(command, env=dict(os.environ, STELE=shlex.join(translator)), capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=seconds * PATIENCE, check=False)
    check(got.returncode == 0, f"{got.stdout}{got.stderr[-2000:]}")


def limited_programs():
    """Those that ask limits.h what to leave out, linked statically: the root's C library need not be this machine's."""
    for file in sorted(os.listdir(PROGRAMS)):
        with open(os.path.join(PROGRAMS, file), encoding="utf-8") as source:
            if file.endswith(".c") and "under_qemu_user()" in source.read():
                yield file.removesuffix(".c") + "-static"


def programs(place):
    run(place, [os.path.join(PROGRAMS, "compare"), *limited_programs()], 600)


def stress(place):
    where = machine(place).command("exec", "programs", "--", "/bin/sh", "-c", WHERE)
    run(place, [os.path.join(STRESS, "run"), "--slice", "--left-out", "--build", "static",
                "--patience", str(PATIENCE), "--where", shlex.join(where)], 600)


def self_test(place):
    """What no emulator of user programs can show: the translator on a kernel of its own and four processors."""
    steled = place.shared_steled()
    steled.define("self-test", machine_xml("self-test", FULL, memory=1024, vcpus=4))
    steled.vmctl("start", "--wait", "self-test")
    report = steled.vmctl("exec", "self-test", "--", "/run/stele/stele", "--self-test=quick", timeout=3600).stdout
    check_contains(report, "cores 0-3:", "the report")
    check_contains(report, "self-test: all right", "the report")
    steled.vmctl("destroy", "self-test")
    steled.vmctl("undefine", "self-test")


# The oracle of two is an x86-64 processor, and their programs are its. Four processors on two busy ones take long.
TESTS = [("self-test", self_test, False)] + ([] if platform.machine() != "x86_64" else [
    ("limits", programs, True),
    ("stress", stress, True),
])
