"""A steled that is not root: an ordinary user's own, with machines of that user's own."""
import json
import os
import re
import sys
import tarfile

import images
from harness import BUILD, ROOT, Steled, check, check_contains, check_equal, machine_xml

sys.path.append(os.path.join(ROOT, "tests/host"))
import ordinary  # noqa: E402


class Ordinary(Steled):
    """An ordinary user's steled, at the place where it is by default; with numbers for other owners, or without."""

    def __init__(self, place, name, owners):
        directory = os.path.join(place.directory, name)
        os.chmod(place.directory, 0o755)
        super().__init__(directory)
        ordinary.prepare(directory, owners)
        self.state_directory, self.socket = ordinary.state(directory)
        place.steleds.append(self)

    def daemon_command(self):
        return ordinary.as_user(self.directory, BUILD, super().daemon_command()[0], "--guest-dir", self.guest_dir, "--translator-dir", self.translator_dir)

    def command(self, *arguments):
        return ordinary.as_user(self.directory, BUILD, super().command()[0], *arguments)


def make_tarball(directory):
    """A root whose files have owners, one a set-uid program, and which only root can read all of."""
    root = images.make_root(os.path.join(directory, "root"))
    with open(os.path.join(root, "etc/owned"), "w") as file:
        file.write("of a user\n")
    os.chown(os.path.join(root, "etc/owned"), 1000, 50)
    os.chmod(os.path.join(root, "etc/owned"), 0o600)
    os.chmod(os.path.join(root, "usr/bin/id"), 0o4755)
    path = os.path.join(directory, "small.tar")
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path


def findings(steled):
    listed = json.loads(steled.run("doctor", "--json").stdout)
    return {finding["check"]: finding for finding in listed}


def shares_directories(steled):
    return json.loads(steled.vmctl("version", "--json").stdout)["shares-directories"]


def owners(place):
    """Files keep owners and modes; changes last; what cannot be shared is said; the state is the user's alone."""
    steled = Ordinary(place, "owners", owners=True).start()
    tarball = make_tarball(steled.directory)
    steled.vmctl("image", "import", tarball, timeout=300)
    script = "uname -m; stat -c '%u:%g %a' /etc/owned /usr/bin/id; grep -c VirtualStele /proc/cpuinfo >&2"
    result = images.run(steled, "--rm", "small", "sh", "-c", script)
    images.check_run(result, 0, "x86_64\n1000:50 600\n0:0 4755\n", "run")
    steled.vmctl("create", "lasting", "--image", "small", "--init", "none", "-m", "512M", "--cpus", "1")
    steled.vmctl("start", "--wait", "lasting", timeout=300)
    check_equal(steled.sh("lasting", "rm /etc/owned; echo kept >/root/kept; grep ' / ' /proc/mounts | cut -d ' ' -f 3"), "overlay\n", "root")
    steled.vmctl("shutdown", "lasting", timeout=300)
    steled.vmctl("start", "--wait", "lasting", timeout=300)
    check_equal(steled.sh("lasting", "cat /root/kept; [ -e /etc/owned ] || echo gone"), "kept\ngone\n", "what was changed")
    steled.vmctl("destroy", "lasting")
    steled.vmctl("undefine", "lasting")
    found = findings(steled)
    check_equal(found["owners"]["result"], "ok", f"doctor: {found['owners']}")
    check_equal(found["group"]["result"], "ok", f"doctor: {found['group']}")
    if not shares_directories(steled):
        without_shares(steled, found)
    check_equal(ordinary.files_of_others(steled.directory), [], "files of others that are left")
    steled.stop()


def without_shares(steled, found):
    """On a stack that gives a user's machines no directories."""
    check_equal(found["shares"]["result"], "note", f"doctor: {found['shares']}")
    check_contains(found["shares"]["message"], "erofs disks", "doctor")
    result = images.run(steled, "--rm", "-v", "/tmp:/mnt", "small", "true")
    check_equal(result.returncode, 125, "run -v")
    check_contains(result.stderr, "'vmctl cp'", "run -v")
    steled.define("of-a-directory", machine_xml("of-a-directory", os.path.join(steled.directory, "root")))
    steled.refuses("start", "of-a-directory", saying="'vmctl image import DIR'")
    steled.vmctl("undefine", "of-a-directory")
    disks = os.listdir(os.path.join(steled.state_directory, "translator-disks"))
    check(len(disks) == 1 and re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}\.erofs", disks[0]), f"disks of the translator: {disks}")


def without_owners(place):
    """No numbers for other owners: all files are root's, doctor says so, and the machine runs all the same."""
    steled = Ordinary(place, "without-owners", owners=False).start()
    steled.vmctl("image", "import", make_tarball(steled.directory), timeout=300)
    result = images.run(steled, "--rm", "small", "sh", "-c", "uname -m; stat -c '%u:%g %a' /etc/owned /usr/bin/id")
    images.check_run(result, 0, "x86_64\n0:0 600\n0:0 4755\n", "run")
    owner = findings(steled)["owners"]
    check_equal(owner["result"], "note", f"doctor: {owner}")
    check_contains(owner["remedy"], "--add-subuids", "doctor")
    steled.stop()


TESTS = [
    ("owners", owners, False),
    ("without-owners", without_owners, False),
]
