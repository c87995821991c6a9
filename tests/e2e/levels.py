"""A userland whose programs are built for x86-64-v3: a machine has it by default, and below that level its own C library refuses."""
import os
import subprocess

from boot import check_identity
from harness import ROOT, check_contains, check_equal, machine_xml

# Of a login shell: what the C library chooses from, and which library a program has; then what coreutils compute.
LOOK = r"""
/lib64/ld-linux-x86-64.so.2 --help | grep -o 'x86-64-v3 (supported, searched)'
python3 -c 'import zlib; print(zlib.crc32(b"x" * 1000), sorted({line.split("/")[-3] for line in open("/proc/self/maps") if "libz.so" in line}))'
seq 1 3000 | sort -R --random-source=/bin/bash | sha512sum
id -un; shopt -q login_shell && echo login
exit 5
"""
# A program that isn't built for v3 stays where the others can't run.
WAIT = ("/usr/bin/python3", "-c", "import time; time.sleep(1e6)")


def root():
    return subprocess.run([os.path.join(ROOT, "dev"), "rootfs", "v3"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def notes(path):
    return subprocess.run(["readelf", "--notes", path], check=True, stdout=subprocess.PIPE, text=True).stdout


def v3_login(place):
    """systemd, bash and coreutils of the root come up to a login, with the libraries for the level."""
    tree, steled, name = root(), place.shared_steled(), "v3-login"
    for program in ("usr/bin/bash", "usr/bin/ls", "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1"):
        check_contains(notes(os.path.join(tree, program)), "x86-64-v3", f"what {program} needs")
    steled.define(name, machine_xml(name, tree, init="system", command=(), memory=1024, vcpus=2))
    steled.vmctl("start", "--wait=system", name, timeout=800)
    check_identity(steled, name, 2)
    got = steled.run("shell", "--user", "user", name, input=LOOK, timeout=300)
    natively = subprocess.run(["chroot", tree, "/bin/sh", "-c", "seq 1 3000 | sort -R --random-source=/bin/bash | sha512sum"], check=True, stdout=subprocess.PIPE, text=True).stdout
    check_equal((got.returncode, got.stdout.splitlines()),
                (5, ["x86-64-v3 (supported, searched)", "994167270 ['x86-64-v3']", natively.strip(), "user", "login"]),
                f"the login shell ({got.stderr})")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


def v3_at_v2(place):
    """At x86-64-v2 the same programs are refused as such a processor's C library refuses them."""
    tree, steled, name = root(), place.shared_steled(), "v3-at-v2"
    steled.define(name, machine_xml(name, tree, command=WAIT, translator="<stele:translator cpu='x86-64-v2'/>"))
    steled.vmctl("start", "--wait", name)
    got = steled.run("exec", name, "--", "/usr/bin/ls", "/")
    check_equal((got.returncode, got.stdout), (127, ""), "ls for v3 at v2")
    check_contains(got.stderr, "CPU ISA level is lower than required", "its C library")
    got = steled.run("exec", name, "--", "/usr/bin/python3", "-c", "print(6 * 7)")
    check_equal(got.stdout, "42\n", "a program for any processor")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


# name, function, part of ./dev test
TESTS = [
    ("v3-login", v3_login, False),
    ("v3-at-v2", v3_at_v2, False),
]
