"""A userland whose shell and libraries are built for x86-64-v3: a machine has it by default, and below that level its own C
library refuses it."""
import os
import subprocess

from boot import check_identity
from harness import ROOT, check_contains, check_equal, machine_xml

LIBRARY = "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libbz2.so.1.0"

# Of a login shell: what the C library chooses from, which library a program has, and what shell and library compute.
LOOK = r"""
/lib64/ld-linux-x86-64.so.2 --help | grep -o 'x86-64-v3 (supported, searched)'
python3 -c 'import bz2; print(sorted({line.split("/")[-2] for line in open("/proc/self/maps") if "libbz2.so" in line}))'
COMPUTE
id -un; shopt -q login_shell && echo login
exit 5
"""
COMPUTE = r"""for ((i = s = 0; i < 3000; i++)); do ((s = (s * 31 + i) % 1000003)); t+=$s; done; echo $s ${#t} ${t//[13]/x} | cksum
python3 -c 'import bz2; t = b"".join(b"%d,%x;" % (i, i * i) for i in range(9000)); c = bz2.compress(t, 9); print(len(c), c.hex()[:80], bz2.decompress(c) == t)'"""


def root():
    return subprocess.run([os.path.join(ROOT, "dev"), "rootfs", "v3"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def v3_login(place):
    """systemd of the root comes up to a login, whose shell is built for the level, with the libraries for it."""
    tree, steled, name = root(), place.shared_steled(), "v3-login"
    for path in ("usr/bin/bash", LIBRARY):
        notes = subprocess.run(["readelf", "--notes", os.path.join(tree, path)], check=True, stdout=subprocess.PIPE, text=True).stdout
        check_contains(notes, "x86-64-v2, x86-64-v3", f"what {path} needs")
    natively = subprocess.run(["chroot", tree, "/bin/bash", "-c", COMPUTE], check=True, stdout=subprocess.PIPE, text=True).stdout
    steled.define(name, machine_xml(name, tree, init="system", command=(), memory=1024, vcpus=2))
    steled.vmctl("start", "--wait=system", name, timeout=800)
    check_identity(steled, name, 2)
    got = steled.run("shell", "--user", "user", name, input=LOOK.replace("COMPUTE", COMPUTE), timeout=300)
    check_equal((got.returncode, got.stdout), (5, f"x86-64-v3 (supported, searched)\n['x86-64-v3']\n{natively}user\nlogin\n"),
                f"the login shell ({got.stderr})")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


def v3_at_v2(place):
    """At x86-64-v2 the same shell is refused as such a processor's C library refuses it, and the library is passed over."""
    tree, steled, name = root(), place.shared_steled(), "v3-at-v2"
    steled.define(name, machine_xml(name, tree, translator="<stele:translator cpu='x86-64-v2'/>"))
    steled.vmctl("start", "--wait", name)
    got = steled.run("exec", name, "--", "/usr/bin/bash", "-c", "echo started")
    check_equal((got.returncode, got.stdout), (127, ""), "bash for v3 at v2")
    check_contains(got.stderr, "CPU ISA level is lower than required", "its C library")
    got = steled.run("exec", name, "--", "/usr/bin/python3", "-c", "import bz2; print('x86-64-v3' in open('/proc/self/maps').read())")
    check_equal(got.stdout, "False\n", f"whether the library for v3 is mapped ({got.stderr})")
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)


# name, function, part of ./dev test
TESTS = [
    ("v3-login", v3_login, False),
    ("v3-at-v2", v3_at_v2, False),
]
