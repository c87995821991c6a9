#!/usr/bin/python3
"""The image store of a steled that is not root: images become erofs images, with what layers say of owners and deletions.

usage: rootless.py STELED VMCTL [TEST…]
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import images
import ordinary
from images import BAD, BASE, STELED, VMCTL, Daemon, Image, contains, entry, equal, good, gz, run_tests, tar

BUILD = os.path.dirname(STELED)


class Ordinary(Daemon):
    def __init__(self, directory, *options, owners=True):
        os.chmod(directory, 0o755)
        ordinary.prepare(directory, owners)
        root, self.socket_of_user = ordinary.state(directory)
        super().__init__(directory, *options, root=root)
        self.socket = self.socket_of_user

    def start(self):
        self.process = subprocess.Popen(ordinary.as_user(self.directory, BUILD, STELED, *self.options), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        Daemon.started.append(self)
        line = self.process.stdout.readline()
        assert "ready" in line, f"steled did not start: {line}{self.process.stderr.read()}"
        return self

    def command(self, *arguments):
        return ordinary.as_user(self.directory, BUILD, VMCTL, *arguments)

    def unpack(self, name):
        """What is in an image, by erofs' own tool: {path: (type, mode, uid, gid, content)}."""
        path, to = self.inspect(name)["path"], os.path.join(self.directory, "unpacked")
        subprocess.run(["fsck.erofs", f"--extract={to}", "--preserve", path], check=True, capture_output=True)
        found = {}
        for top, directories, files in os.walk(to):
            for entry_name in directories + files:
                full = os.path.join(top, entry_name)
                status = os.lstat(full)
                regular = os.path.isfile(full) and not os.path.islink(full)
                content = open(full, "rb").read() if regular else os.readlink(full) if os.path.islink(full) else None
                found[os.path.relpath(full, to)] = (status.st_mode & 0o7777, status.st_uid, status.st_gid, content)
        shutil.rmtree(to)
        return found

    def left(self):
        return self.entries("staging"), self.entries("disks"), self.entries("roots"), self.images(), ordinary.files_of_others(self.directory)


def mode_in(image, path):
    """As the inode has it: the tools of erofs show and give no more than permissions (erofs' on-disk format, i_mode)."""
    shown = subprocess.run(["dump.erofs", f"--path={path}", image], check=True, capture_output=True, text=True).stdout
    with open(image, "rb") as file:
        data = file.read()
    first_block = int.from_bytes(data[1024 + 40:1024 + 44], "little")
    at = first_block * 4096 + int(re.search(r"NID: (\d+)", shown)[1]) * 32 + 4
    return int.from_bytes(data[at:at + 2], "little")


NOTHING = ([], [], [], [], [])


def directory_entry(name, **fields):
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


LOWER = tar(directory_entry("dir"), entry("dir/a", b"a"), entry("dir/b", b"b"), entry("gone", b"g"), directory_entry("opaque"),
            entry("opaque/old", b"o"), directory_entry("opaque/deep"), entry("opaque/deep/old", b"o"), directory_entry("whole"),
            entry("whole/of/it", b"w"), entry("first", b"linked"), entry("second", type=tarfile.LNKTYPE, linkname="first"),
            entry("closed", b"c", mode=0o600, uid=1000, gid=50), directory_entry("locked", mode=0o700, uid=1000, gid=50),
            entry("locked/in", b"i", uid=1000, gid=50), entry("suid", b"s", mode=0o4755), entry("link", type=tarfile.SYMTYPE, linkname="dir/b"))
UPPER = tar(entry("dir/.wh.a"), entry(".wh.gone"), directory_entry("opaque"), entry("opaque/.wh..wh..opq"), entry("opaque/new", b"n"),
            entry(".wh.whole"), entry(".wh.first"), entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3))


def layers(directory):
    """Owners, set-uid programs, closed directories and whiteouts: of files, of directories, opaque, of one of two names of a file."""
    for owners in (True, False):
        place = os.path.join(directory, str(owners))
        os.makedirs(place)
        os.chmod(directory, 0o755)
        daemon = Ordinary(place, owners=owners).start()
        daemon.vmctl("image", "import", Image(gz(LOWER), UPPER).layout(os.path.join(place, "layers")))
        record = daemon.inspect("layers")
        equal((record["type"], record["fstype"], record["has-init"]), ("disk", "erofs", False), "the record")
        found = daemon.unpack("layers")
        equal(sorted(found), ["closed", "dir", "dir/b", "link", "locked", "locked/in", "null", "opaque", "opaque/new", "second", "suid"], "what is left")
        user = (1000, 50) if owners else (0, 0)
        equal(found["closed"], (0o600, *user, b"c"), "a user's file")
        equal(found["locked"][:3], (0o700, *user), "a user's directory")
        equal(found["locked/in"][3], b"i", "what is in it")
        equal(found["suid"][1:3], (0, 0), "a set-uid program's owner")
        equal(mode_in(record["path"], "/suid"), 0o104755, "a set-uid program's mode")
        equal((found["second"][3], found["link"][3]), (b"linked", "dir/b"), "links")
        equal((daemon.entries("staging"), ordinary.files_of_others(place)), ([], []), "left")
        versions = json.loads(daemon.vmctl("--json", "version").stdout)
        equal(versions["keeps-owners"], owners, "what version says")
        # The same layers under another name are there once; the last name takes them along.
        daemon.vmctl("image", "import", "--name", "again", os.path.join(place, "layers"))
        equal((len(daemon.entries("disks")), daemon.inspect("again")["has-init"]), (1, False), "disks of two names")
        daemon.vmctl("image", "remove", "again")
        daemon.vmctl("image", "remove", "layers")
        daemon.vmctl("image", "prune")
        equal(daemon.left(), NOTHING, "left after all is removed")
        daemon.stop()


def bad_images(directory):
    """What root's steled refuses is refused, and nothing is left of it."""
    daemon = Ordinary(directory, "--image-max", "64").start()
    for what, make, saying in BAD:
        layout = make().layout(os.path.join(directory, "bad"))
        result = daemon.vmctl("image", "import", "--name", "bad", layout, status=None)
        assert result.returncode == 6 and saying in result.stderr, f"{what}: {result.returncode}: {result.stderr}"
        equal(daemon.left(), NOTHING, f"left by {what}")
        shutil.rmtree(layout)
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "good")))
    equal(len(daemon.images()), 1, "a good one afterwards")
    daemon.stop()


def interrupted(directory):
    """^C, and the end of steled, while umoci unpacks and while mkfs.erofs packs: files of other owners go, too."""
    os.chmod(directory, 0o755)
    tools = os.path.join(directory, "tools")
    os.makedirs(tools)
    layout = Image(LOWER).layout(os.path.join(directory, "layers"))
    for tool in ("umoci", "mkfs.erofs"):
        for how in ("client", "steled"):
            place = os.path.join(directory, f"{tool}-{how}")
            os.makedirs(place)
            # It does its work, says so, and goes on for ever.
            with open(os.path.join(tools, tool), "w") as file:
                file.write(f"#!/bin/sh\n[ -e {place}/go ] && exec {shutil.which(tool)} \"$@\"\n{shutil.which(tool)} \"$@\"\n"
                           "echo done >$TMPDIR/reached; exec sleep 1000\n")
            os.chmod(os.path.join(tools, tool), 0o755)
            path = os.environ["PATH"]
            os.environ["PATH"] = tools + ":" + path
            try:
                interrupt(Ordinary(place), layout, how, os.path.join(place, "go"))
            finally:
                os.environ["PATH"] = path
                os.unlink(os.path.join(tools, tool))


def interrupt_import(daemon, layout, how):
    """Ends the client or steled when the tool says that it has reached its end."""
    pull = subprocess.Popen(daemon.command("image", "import", layout), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(os.path.exists(daemon.store("staging", name, "reached")) for name in daemon.entries("staging")):
        assert time.monotonic() < deadline and pull.poll() is None, f"the tool was never done: {pull.returncode} {daemon.entries('staging')}"
        time.sleep(0.05)
    if how == "client":
        pull.send_signal(signal.SIGINT)
    else:
        daemon.process.kill()
    _, errors = pull.communicate(timeout=60)
    assert pull.returncode != 0, "the import was interrupted"
    if how == "steled":
        daemon.process.communicate()
        daemon.start()
    images.await_empty(daemon, "staging")


def interrupt(daemon, layout, how, go):
    interrupt_import(daemon.start(), layout, how)
    equal(daemon.left(), NOTHING, f"left by {how}")
    open(go, "w").close()
    daemon.vmctl("image", "import", layout)
    equal(len(daemon.images()), 1, "the next try")
    daemon.stop()


def any_room(directory):
    """The state on file systems of growing sizes, until an image fits: each step runs out of room once."""
    os.chmod(directory, 0o755)
    layout = Image(gz(tar(entry("one", os.urandom(5 << 20)))), LOWER).layout(os.path.join(directory, "layout"))
    outcomes = []
    for megabytes in (4, 10, 14, 18, 40, 90):
        place = os.path.join(directory, str(megabytes))
        os.makedirs(place)
        daemon = Ordinary(place)
        home = os.path.join(place, "home")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,uid={ordinary.USER},gid={ordinary.GROUP},mode=0700", "tmpfs", home], check=True)
        try:
            daemon.start()
            result = daemon.vmctl("image", "import", layout, status=None)
            outcomes.append(result.returncode)
            if result.returncode:
                equal(result.returncode, 12, f"the status with {megabytes} MiB: {result.stderr}")
                equal(daemon.left(), NOTHING, f"left with {megabytes} MiB")
            daemon.stop()
        finally:
            subprocess.run(["umount", "-l", home], check=True)
    equal((outcomes[0], outcomes[-1]), (12, 0), f"with least and most room: {outcomes}")


def unconfined(directory):
    """Where the host lets nobody make user namespaces, nothing of a stranger's is unpacked."""
    daemon = Ordinary(directory)
    # A user namespace has limits of its own for those below it.
    script = "echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\""
    confine = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh", STELED]
    daemon.process = subprocess.Popen(ordinary.as_user(directory, BUILD, *confine), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    Daemon.started.append(daemon)
    line = daemon.process.stdout.readline()
    assert "ready" in line, f"steled did not start: {line}{daemon.process.stderr.read()}"
    daemon.refuses("image", "import", good().layout(os.path.join(directory, "good")), saying="lets no users make user namespaces", status=13)
    equal(daemon.left(), NOTHING, "left")
    daemon.stop()


def directories(directory):
    """A directory of the user's own, and one of root's: what is in them is root's of the image."""
    daemon = Ordinary(directory).start()
    for name, owner in (("own", ordinary.USER), ("roots", 0)):
        top = os.path.join(directory, name)
        os.makedirs(os.path.join(top, "sub"))
        open(os.path.join(top, "sub", "file"), "w").write("text")
        for path in (top, os.path.join(top, "sub"), os.path.join(top, "sub/file")):
            os.chown(path, owner, owner)
        daemon.vmctl("image", "import", top)
        equal(daemon.unpack(name)["sub/file"], (0o644, 0, 0, b"text"), name)
    secret = os.path.join(directory, "secret")
    os.makedirs(secret, 0o700)
    daemon.refuses("image", "import", secret, saying="Permission denied")
    daemon.stop()


TESTS = [layers, bad_images, interrupted, any_room, unconfined, directories]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
