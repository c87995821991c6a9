#!/usr/bin/python3
"""vmctl snapshot without a guest: what is kept and brought back, and copying that is interrupted or runs out of room.

usage: snapshots.py STELED VMCTL [TEST…]
"""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from images import Daemon, contains, equal, good, run_tests

SLOW = """#!/bin/sh
for last; do :; done
case $last in *.draft|*/changes/*) echo >$TMPDIR/begun; while [ -e {place}/slow ]; do sleep 0.05; done ;; esac
exec {cp} "$@"
"""


def machine(directory, **options):
    """A daemon with a machine whose changes last, and the file they are in."""
    daemon = Daemon(directory, **options).start()
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "layout")))
    daemon.vmctl("create", "dev", "--image", "layout", "--disk", "64M", "--", "true")
    uuid = json.loads(daemon.vmctl("--json", "info", "dev").stdout)["uuid"]
    return daemon, os.path.join(daemon.root, "changes", f"{uuid}.img"), os.path.join(daemon.root, "snapshots", uuid)


def write(path, text, at=50 << 20):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(text)


def read(path, size=3, at=50 << 20):
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(size)


def names(daemon):
    return [snapshot["name"] for snapshot in json.loads(daemon.vmctl("--json", "snapshot", "dev", "list").stdout)]


def kept(directory):
    """Kept, brought back, listed, removed, and gone with the machine; what has no changes of its own has none."""
    daemon, changes, place = machine(directory)
    equal(names(daemon), [], "none at first")
    write(changes, b"one")
    daemon.vmctl("snapshot", "dev", "create", "first")
    write(changes, b"two")
    daemon.vmctl("snapshot", "dev", "create", "second")
    write(changes, b"six")
    equal(names(daemon), ["first", "second"], "in the order they were made")
    for name, content in (("first", b"one"), ("second", b"two"), ("first", b"one")):
        daemon.vmctl("snapshot", "dev", "restore", name)
        equal(read(changes), content, f"after restoring {name}")
    equal(os.stat(changes).st_mode & 0o777, 0o600, "the mode of what is restored")
    equal(os.stat(changes).st_blocks * 512 < 32 << 20, True, "it is sparse")
    contains(daemon.vmctl("snapshot", "dev").stdout, "second")
    daemon.refuses("snapshot", "dev", "create", "first", saying="already", status=4)
    daemon.refuses("snapshot", "dev", "restore", "third", saying="'vmctl snapshot dev list'", status=5)
    daemon.refuses("snapshot", "dev", "remove", "third", saying="has no snapshot", status=5)
    for name in ("../x", ".draft", "", "a/b", "x" * 65):
        daemon.refuses("snapshot", "dev", "create", name, saying="cannot be a snapshot's name", status=5)
    daemon.refuses("snapshot", "absent", "create", "a", saying="absent", status=3)
    for wrong in (("dev", "create"), ("dev", "keep", "a"), ("dev", "list", "a")):
        daemon.vmctl("snapshot", *wrong, status=2)
    daemon.vmctl("rename", "dev", "renamed")
    daemon.vmctl("rename", "renamed", "dev")
    daemon.stop()
    daemon.start()
    equal(names(daemon), ["first", "second"], "after other names and another steled")
    daemon.vmctl("clone", "dev", "other")
    equal(daemon.vmctl("--json", "snapshot", "other").stdout, "[]\n", "those of a clone")
    daemon.vmctl("snapshot", "dev", "remove", "first")
    equal(names(daemon), ["second"], "what is left")
    daemon.vmctl("undefine", "dev")
    equal((os.path.exists(changes), os.listdir(os.path.dirname(place))), (False, []), "left by the machine")
    daemon.vmctl("create", "passing", "--image", "layout", "--mode", "overlay", "--", "true")
    daemon.refuses("snapshot", "passing", "create", "a", saying="no disk of its own", status=13)
    daemon.stop()


def while_copying(directory):
    """Nothing else is done to a machine while it is copied; a steled that is killed leaves all as it was."""
    tool = os.path.join(directory, "bin")
    os.makedirs(tool)
    with open(os.path.join(tool, "cp"), "w") as file:
        file.write(SLOW.format(place=directory, cp=shutil.which("cp")))
    os.chmod(os.path.join(tool, "cp"), 0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = tool + ":" + path
    try:
        copying(directory)
    finally:
        os.environ["PATH"] = path


def begin(daemon, directory, *arguments):
    """Starts a command whose copy does not end before the file 'slow' is gone."""
    open(os.path.join(directory, "slow"), "w").close()
    process = subprocess.Popen(daemon.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not [begun for begun in glob.glob(os.path.join(daemon.root, "changes/begun")) + glob.glob(os.path.join(daemon.root, "snapshots/*/begun"))
               if not os.unlink(begun)]:
        assert time.monotonic() < deadline and process.poll() is None, "nothing is copied"
        time.sleep(0.05)
    return process


def copying(directory):
    daemon, changes, place = machine(directory)
    write(changes, b"one")
    for arguments in (("snapshot", "dev", "create", "a"), ("snapshot", "dev", "restore", "a"), ("clone", "dev", "other")):
        process = begin(daemon, directory, *arguments)
        for refused in (("start", "dev"), ("undefine", "dev"), ("rename", "dev", "x"), ("clone", "dev", "y"),
                        ("snapshot", "dev", "create", "b"), ("snapshot", "dev", "remove", "a")):
            daemon.refuses(*refused, saying="just being", status=4)
        os.unlink(os.path.join(directory, "slow"))
        equal(process.communicate(timeout=60)[1], "", f"{arguments}")
    daemon.vmctl("undefine", "other")
    write(changes, b"two")
    for arguments in (("snapshot", "dev", "create", "b"), ("snapshot", "dev", "restore", "a")):
        process = begin(daemon, directory, *arguments)
        daemon.stop(signal.SIGKILL)
        os.unlink(os.path.join(directory, "slow"))
        assert process.wait(60) != 0, "steled was killed"
        daemon.start()
        equal((names(daemon), read(changes)), (["a"], b"two"), f"after a kill in {arguments}")
    daemon.vmctl("snapshot", "dev", "restore", "a")
    equal(read(changes), b"one", "the next try")
    daemon.vmctl("undefine", "dev")
    equal(os.listdir(os.path.dirname(place)), [], "left by the machine")
    daemon.stop()


def full_disk(directory):
    """No room for a copy: an error that says so, the former content, and no half snapshot."""
    disk = os.path.join(directory, "disk")
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", disk], check=True)
    try:
        daemon, changes, place = machine(directory, root=disk)
        write(changes, b"one")
        daemon.vmctl("snapshot", "dev", "create", "small")
        write(changes, os.urandom(45 << 20), at=10 << 20)
        write(changes, b"two")
        daemon.refuses("snapshot", "dev", "create", "large", saying="No space left", status=12)
        equal((names(daemon), os.listdir(place), read(changes)), (["small"], ["small.img"], b"two"), "what is left")
        daemon.vmctl("snapshot", "dev", "restore", "small")
        equal(read(changes), b"one", "what was small")
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


TESTS = [kept, while_copying, full_disk]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
