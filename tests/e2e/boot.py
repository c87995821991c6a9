"""Every kind of root and of init comes up, and the guest is what it should be."""
import os
import re
import shutil
import subprocess

from harness import PATIENCE, Events, check, check_contains, check_equal, machine_xml

FULL = os.environ.get("STELE_E2E_ROOT", "")
IMAGE = os.environ.get("STELE_E2E_IMAGE", "")

# The identity every x86-64 program in the guest must see; the vendor is Stele's own, so that a program
# that by mistake ran natively cannot pass.
LOOK = r"""
uname -m
grep -m1 '^vendor_id' /proc/cpuinfo
grep -c '^processor' /proc/cpuinfo
cat /proc/mounts
"""


def check_identity(steled, name, vcpus):
    text = steled.sh(name, LOOK)
    lines = text.splitlines()
    check_equal(lines[0], "x86_64", "uname -m")
    check_contains(lines[1], "VirtualStele", "/proc/cpuinfo")
    check_equal(lines[2], str(vcpus), "processors")
    check_contains(text, "stele /run/stele virtiofs ro", "the translator share is read-only in the guest")
    return text


def check_devices(steled, name):
    """The network as configured before the userspace, and what the agent loads modules for behind it."""
    text = steled.sh(name, "cat /proc/net/route /sys/class/input/event*/device/name /sys/class/misc/hw_random/rng_current; ls /sys/bus/virtio/drivers/virtio_balloon")
    check_contains(text, "eth0\t00000000", "default route")
    check_contains(text, "gpio-keys", "power button")
    check_contains(text, "virtio_rng", "random numbers of the host")
    check_contains(text, "\nvirtio", "balloon")


def directory_overlay(place):
    steled = place.shared_steled()
    steled.define("dir-overlay", machine_xml("dir-overlay", FULL, vcpus=2))
    steled.vmctl("start", "--wait", "dir-overlay")
    mounts = check_identity(steled, "dir-overlay", 2)
    check_contains(mounts, "overlay / overlay rw", "root")
    check_devices(steled, "dir-overlay")
    steled.sh("dir-overlay", "echo changed >/etc/hostname && rm /etc/passwd && test ! -e /etc/passwd")
    check(os.path.exists(os.path.join(FULL, "etc/passwd")), "an overlay's changes must not reach the host")
    steled.vmctl("shutdown", "dir-overlay")
    check_equal(steled.state("dir-overlay"), ("stopped", "shutdown"), "state")
    steled.vmctl("undefine", "dir-overlay")


def directory_read_only(place):
    steled = place.shared_steled()
    steled.define("dir-ro", machine_xml("dir-ro", FULL, mode="ro"))
    steled.vmctl("start", "--wait", "dir-ro")
    check_contains(steled.sh("dir-ro", "touch /etc/new 2>&1; echo $?"), "Read-only file system", "touch")
    # The host's side is read-only too: the guest's root user cannot remount its way around it.
    check_contains(steled.sh("dir-ro", "mount -o remount,rw / 2>&1; touch /etc/new 2>&1; ls /etc/new 2>&1 || true"),
                   "No such file", "remounted")
    steled.vmctl("destroy", "dir-ro")
    steled.vmctl("undefine", "dir-ro")


def directory_read_write(place):
    steled = place.shared_steled()
    root = os.path.join(place.directory, "rw-root")
    subprocess.run(["cp", "-a", "--reflink=auto", FULL, root], check=True)
    steled.define("dir-rw", machine_xml("dir-rw", root, mode="rw"))
    steled.vmctl("start", "--wait", "dir-rw")
    steled.sh("dir-rw", "echo kept >/etc/kept && chown 1000:1000 /etc/kept && sync")
    steled.vmctl("shutdown", "dir-rw")
    kept = os.path.join(root, "etc/kept")
    with open(kept) as file:
        check_equal(file.read(), "kept\n", "what the guest wrote")
    check_equal(os.stat(kept).st_uid, 1000, "its owner")
    steled.vmctl("undefine", "dir-rw")
    check(os.path.exists(kept), "undefine must not touch the root")
    shutil.rmtree(root)


def disk_image(place):
    steled = place.shared_steled()
    image = os.path.join(place.directory, "disk.ext4")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", IMAGE, image], check=True)
    steled.define("disk", machine_xml("disk", image, kind="disk", mode="rw"))
    for boot in ("first", "second"):
        steled.vmctl("start", "--wait", "disk")
        text = check_identity(steled, "disk", 1)
        check_contains(text, "/dev/vda / ext4 rw", "root")
        if boot == "first":
            steled.sh("disk", "echo kept >/root/kept && sync")
        else:
            check_equal(steled.sh("disk", "cat /root/kept"), "kept\n", "what the first boot wrote")
        steled.vmctl("shutdown", "disk")
    steled.vmctl("undefine", "disk")
    checked = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    check_equal(checked.returncode, 0, f"e2fsck after an orderly shutdown: {checked.stdout}")
    os.remove(image)


def disk_overlay(place):
    steled = place.shared_steled()
    steled.define("disk-overlay", machine_xml("disk-overlay", IMAGE, kind="disk", mode="overlay"))
    before = os.stat(IMAGE).st_mtime_ns
    steled.vmctl("start", "--wait", "disk-overlay")
    check_equal(steled.sh("disk-overlay", "echo x >/root/x && cat /root/x"), "x\n", "write")
    steled.vmctl("shutdown", "disk-overlay")
    check_equal(os.stat(IMAGE).st_mtime_ns, before, "the image's time of change")
    steled.vmctl("undefine", "disk-overlay")


def command_status(place):
    """The init kind `command`: its end is the machine's, and its status is told."""
    steled = place.shared_steled()
    script = "grep -m1 vendor_id /proc/cpuinfo; (sleep 1000 &); echo orphan made; exit 42"
    steled.define("command", machine_xml("command", FULL, command=("/bin/sh", "-c", script)))
    events = Events(steled)
    try:
        steled.vmctl("start", "command")
        events.wait(name="command", state="stopped", timeout=120)
    finally:
        events.close()
    check_equal(steled.state("command"), ("stopped", "command-exited"), "state")
    with open(os.path.join(steled.directory, "state/console/command.log"), errors="replace") as file:
        console = file.read()
    for part in ("VirtualStele", "orphan made", "command exited with status 42"):
        check_contains(console, part, "console")
    steled.vmctl("undefine", "command")


SESSION = """
cat /proc/self/cgroup; echo $XDG_RUNTIME_DIR $XDG_SESSION_TYPE $HOME $USER $LOGNAME $SHELL; loginctl show-session $XDG_SESSION_ID -p Name -p Leader -p State
echo leader $$ $XDG_SESSION_ID; systemctl --user is-active basic.target; exit 3
"""


def check_scopes(steled, name):
    """Each program has a control group in a scope that systemd knows, can end, and that is there again for the next."""
    look = "cut -d: -f3 /proc/self/cgroup; read -r children </proc/$$/task/$$/children; echo ${children:-none}"
    for _ in range(2):
        group, children = steled.sh(name, look).split()
        check(re.fullmatch(r"/system\.slice/stele-exec\.scope/\d+", group), f"a program's control group {group}")
        check_equal(children, "none", "children that a program has from the start")
    many = [steled.popen("exec", name, "--", "sh", "-c", look, stdout=subprocess.PIPE, text=True) for _ in range(12)]
    groups = {program.communicate(timeout=300)[0].split()[0] for program in many}
    check_equal(len(groups), len(many), f"control groups of as many programs: {groups}")
    left = steled.sh(name, "ls -d /sys/fs/cgroup/system.slice/stele-exec.scope/*/").split()
    check_equal(len(left), 2, f"control groups, the keeper's and that of this program: {left}")
    limits = "cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); cat cpu.weight pids.max /proc/sys/kernel/threads-max /proc/sys/kernel/pid_max"
    weight, limit, *most = (int(number) for number in steled.sh(name, limits).split())
    check_equal((weight, limit), (100, min(most) // 3), f"a program's share of the processors, and how many processes it may have of {most}")
    killed = steled.run("exec", name, "--", "sh", "-c", "systemctl kill --kill-whom=all -s KILL stele-exec.scope; sleep 100")
    check_equal(killed.returncode, 128 + 9, f"the scope killed ({killed.stderr})")
    check_contains(steled.sh(name, "cat /proc/self/cgroup"), "/system.slice/stele-exec.scope/", "a program after that")


def system_to_multi_user(place):
    """Debian's systemd comes up fully, runs services, and shuts down by itself."""
    steled = place.shared_steled()
    steled.define("system", machine_xml("system", FULL, init="system", command=(), memory=1024, vcpus=2))
    steled.vmctl("start", "--wait=system", "system", timeout=800)
    state = steled.run("exec", "system", "--", "systemctl", "is-system-running")
    failed = steled.run("exec", "system", "--", "systemctl", "--no-pager", "--plain", "list-units", "--failed")
    check_equal(state.stdout.strip(), "running", f"systemd's state; failed units: {failed.stdout}{state.stderr}")
    check_contains(steled.sh("system", "systemctl is-active multi-user.target"), "active", "multi-user.target")
    check_contains(steled.sh("system", "cat /proc/1/comm"), "systemd", "process 1")
    check_equal(steled.sh("system", "hostname"), "system\n", "host name")
    # CPUID's hypervisor is one that systemd has no name for.
    check_equal(steled.sh("system", "systemd-detect-virt --container; systemd-detect-virt; systemd-run --wait --pipe -q systemd-detect-virt -c; true",
                          timeout=200), "none\nvm-other\nnone\n", "systemd-detect-virt")
    check_equal(steled.sh("system", "systemd-run --wait --pipe -q grep -m1 -o VirtualStele /proc/cpuinfo", timeout=200),
                "VirtualStele\n", "a service")
    check_identity(steled, "system", 2)
    check_scopes(steled, "system")
    steled.vmctl("shutdown", "--timeout", "200", "system", timeout=240)
    check_equal(steled.state("system"), ("stopped", "shutdown"), "state")
    steled.vmctl("undefine", "system")


def login_session(place):
    """A login shell is in a session of its user, whose service manager runs."""
    steled = place.shared_steled()
    name = "session"
    steled.define(name, machine_xml(name, FULL, init="system", command=(), memory=1024, vcpus=2))
    steled.vmctl("start", "--wait=system", name, timeout=800)
    got = steled.run("shell", "--user", "user", name, input=SESSION, timeout=300)
    lines = got.stdout.splitlines()
    check_equal((got.returncode, len(lines)), (3, 7), f"shell: {got.stdout}{got.stderr}")
    check_contains(lines[0], "/user.slice/user-1000.slice/session-", "a shell's control group")
    check_equal(lines[1], "/run/user/1000 unspecified /home/user user user /bin/bash", "a shell's environment")
    _, leader, session = lines[5].split()
    check_equal(lines[2:5], ["Name=user", f"Leader={leader}", "State=active"], "the session")
    check_equal(lines[6], "active", "the user's service manager")
    # It ends with the shell.
    steled.sh(name, f"while loginctl show-session {session} >/dev/null 2>&1; do sleep 0.2; done", timeout=100)
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


# A scope as systemd makes it, which does not answer: a process of the scope's own, and one in a group of a program.
MAKE_SCOPE = """
cd /sys/fs/cgroup; mkdir -p system.slice/stele-exec.scope/77 system.slice/stele-exec.scope/keeper /run/systemd; : >/run/systemd/private
for group in . system.slice system.slice/stele-exec.scope; do echo +pids >$group/cgroup.subtree_control; done
sleep 1000 >/dev/null 2>&1 & echo $! >system.slice/stele-exec.scope/keeper/cgroup.procs; echo $!
sleep 1000 >/dev/null 2>&1 & echo $! >system.slice/stele-exec.scope/77/cgroup.procs
"""


# Makes processes that wait until it gets no more; what it prints then, its shell prints.
BOMB = r"""
echo /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkfifo /tmp/bomb; exec 3<>/tmp/bomb
(while read line <&3 & do :; done); echo full; read line <&3
"""


def check_bomb(steled, name):
    """A program that makes processes without end keeps none from starting, and from ending it."""
    before = steled.sh(name, "cat /proc/sys/kernel/threads-max; sysctl -q kernel.threads-max=600").strip()
    bomb = steled.popen("exec", name, "--", "sh", "-c", BOMB, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    group = bomb.stdout.readline().strip()
    check_equal(bomb.stdout.readline(), "full\n", "what a program says that gets no more processes")
    for _ in range(3):
        check_equal(steled.sh(name, "echo runs"), "runs\n", "a program beside one that has all processes it may have")
    count = int(steled.sh(name, f"cat {group}/pids.current; echo 1 >{group}/cgroup.kill; sysctl -q kernel.threads-max={before}"))
    check(190 <= count <= 200, f"{count} processes of 200 that a program may have")
    check_equal(bomb.wait(120 * PATIENCE), 128 + 9, "status of the program that made processes")
    bomb.stdout.close()


def scope_without_keeper(place):
    """Programs enter the shared scope as long as its keeper lives: without it the scope is being stopped, and they with it.
    What they leave of control groups is removed by the next, and none has more processes than its share."""
    steled = place.shared_steled()
    steled.define("keeper", machine_xml("keeper", FULL))
    steled.vmctl("start", "--wait", "keeper")
    keeper = steled.sh("keeper", MAKE_SCOPE).strip()
    look = "cut -d: -f3 /proc/self/cgroup"
    check_contains(steled.sh("keeper", look), "/system.slice/stele-exec.scope/", "a program's control group")
    steled.sh("keeper", f"mkdir -p /sys/fs/cgroup$({look})/inner/most")
    left = steled.sh("keeper", "ls -d /sys/fs/cgroup/system.slice/stele-exec.scope/*/").split()
    check_equal(len(left), 3, f"control groups, the keeper's, one with a program and that of this one: {left}")
    check_bomb(steled, "keeper")
    steled.sh("keeper", f"kill {keeper}; while [ -d /proc/{keeper} ]; do sleep 0.1; done")
    check_equal(steled.sh("keeper", look), "/\n", "a program's control group after the keeper's end")
    steled.vmctl("destroy", "keeper")
    steled.vmctl("undefine", "keeper")


# name, function, part of ./dev test
TESTS = [
    ("directory-overlay", directory_overlay, True),
    ("directory-read-only", directory_read_only, False),
    ("directory-read-write", directory_read_write, False),
    ("disk-image", disk_image, True),
    ("disk-overlay", disk_overlay, False),
    ("command-status", command_status, True),
    ("system-to-multi-user", system_to_multi_user, True),
    ("login-session", login_session, False),
    ("scope-without-keeper", scope_without_keeper, True),
]
