#!/usr/bin/python3
"""The image store of steled without a guest: sources, registries, bad input, interruptions, a full disk.

usage: images.py STELED VMCTL [TEST…]

Registries are Debian's docker-registry and one of our own that can be told to stop in the middle. Images are made here.
"""
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

STELED, VMCTL = (os.path.abspath(path) for path in sys.argv[1:3])
TYPE = "application/vnd.oci.image."
MOMENTS = int(os.environ.get("STELE_IMAGE_MOMENTS", "3"))  # at which a pull is interrupted
FILES = int(os.environ.get("STELE_IMAGE_FILES", "20000"))  # of one image; 100000 has been seen to work


class Daemon:
    started = []

    def __init__(self, directory, *options, root=None):
        self.directory, self.options = directory, options
        self.root = root or os.path.join(directory, "root")
        self.socket = os.path.join(directory, "socket")

    def start(self):
        command = [STELED, "--root", self.root, "--socket", self.socket, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        Daemon.started.append(self)
        line = self.process.stdout.readline()
        if "ready" not in line:
            raise AssertionError(f"steled did not start: {line}{self.process.stderr.read()}")
        return self

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=60)

    def command(self, *arguments):
        return [VMCTL, "--socket", self.socket, *arguments]

    def vmctl(self, *arguments, status=0):
        result = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=300)
        assert status is None or result.returncode == status, f"{arguments}: {result.returncode}, not {status}: {result.stderr}"
        return result

    def refuses(self, *arguments, saying, status=None):
        result = self.vmctl(*arguments, status=status)
        assert result.returncode != 0, f"{arguments} succeeded, although: {saying}"
        contains(result.stderr, saying)
        return result

    def images(self):
        return json.loads(self.vmctl("--json", "image", "list").stdout)

    def inspect(self, name):
        return json.loads(self.vmctl("--json", "image", "inspect", name).stdout)

    def store(self, *parts):
        return os.path.join(self.root, "images", *parts)

    def entries(self, *parts):
        return sorted(os.listdir(self.store(*parts)))


def contains(text, part):
    assert part in text, f"'{part}' is not in: {text}"


def equal(got, expected, what):
    assert got == expected, f"{what}: expected {expected!r}, got {got!r}"


# --- making images ---------------------------------------------------------------------------------------

def entry(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """An OCI image in memory; what is wrong with it is said by keywords."""

    def __init__(self, *layers, config=None, architecture="amd64", diff_ids=None, layer_type=None, size_off=0):
        self.blobs = {}
        descriptors, ids = [], []
        for layer in layers:
            plain, packed, kind = layer if isinstance(layer, tuple) else (layer, layer, "layer.v1.tar")
            ids.append(digest(plain) if plain is not None else "sha256:" + "0" * 64)
            descriptors.append(self.add(packed, TYPE + (layer_type or kind)))
            descriptors[-1]["size"] += size_off
        self.config = self.add(json.dumps({"architecture": architecture, "os": "linux", "config": config or {},
                                           "rootfs": {"type": "layers", "diff_ids": diff_ids or ids}}).encode(),
                               TYPE + "config.v1+json")
        self.layers = descriptors
        self.manifest = self.add(json.dumps({"schemaVersion": 2, "mediaType": TYPE + "manifest.v1+json",
                                             "config": self.config, "layers": descriptors}).encode(), TYPE + "manifest.v1+json")

    def add(self, data, kind):
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def layout(self, path):
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        for name, data in self.blobs.items():
            with open(os.path.join(path, "blobs", "sha256", name[7:]), "wb") as file:
                file.write(data)
        with open(os.path.join(path, "oci-layout"), "w") as file:
            json.dump({"imageLayoutVersion": "1.0.0"}, file)
        with open(os.path.join(path, "index.json"), "w") as file:
            json.dump({"schemaVersion": 2, "manifests": [self.manifest]}, file)
        return path


def gz(plain):
    return plain, gzip.compress(plain, 1), "layer.v1.tar+gzip"


BASE = tar(entry("bin", type=tarfile.DIRTYPE, mode=0o755), entry("bin/sh", b"#!shell", mode=0o755), entry("data", b"one"))


def good(content=b"good", **options):
    return Image(gz(BASE), tar(entry("file", content)), **options)


def compressions(layout):
    """What the layers of an OCI layout's one image are packed by."""
    def blob(descriptor):
        return json.load(open(os.path.join(layout, "blobs/sha256", descriptor["digest"][7:])))
    manifest = blob(json.load(open(os.path.join(layout, "index.json")))["manifests"][0])
    return {layer["mediaType"].rsplit(".", 1)[1] for layer in manifest["layers"]}


# --- sources ---------------------------------------------------------------------------------------------

def sources(directory):
    """Every kind of source becomes the same kind of image."""
    daemon = Daemon(directory).start()
    config = {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "true"], "Env": ["A=b c"], "User": "1:2", "WorkingDir": "/bin",
              "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}}
    layout = good(config=config).layout(os.path.join(directory, "layout"))
    daemon.vmctl("image", "import", layout)
    image = daemon.inspect("layout")
    equal({key: image[key] for key in ("entrypoint", "cmd", "env", "user", "cwd", "stop-signal", "ports", "volumes", "names")},
          {"entrypoint": ["/bin/sh"], "cmd": ["-c", "true"], "env": ["A=b c"], "user": "1:2", "cwd": "/bin", "stop-signal": "SIGQUIT",
           "ports": ["80/tcp", "53/udp"], "volumes": ["/data"], "names": ["layout:latest"]}, "what an image says of itself")
    equal(open(os.path.join(image["path"], "file")).read(), "good", "a file of the upper layer")
    equal(daemon.inspect(image["id"][:8])["id"], image["id"], "found by its ID")
    for kind in ("docker-archive", "oci-archive"):
        archive = os.path.join(directory, kind + ".tar")
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}", f"{kind}:{archive}:x:y"], check=True)
        daemon.vmctl("image", "import", archive)
        equal(daemon.inspect(kind)["cmd"], ["-c", "true"], f"the command of {kind}")
    zstd = os.path.join(directory, "zstd")
    subprocess.run(["skopeo", "copy", "-q", "--dest-compress-format", "zstd", "--dest-compress", f"oci-archive:{archive}:x:y", f"oci:{zstd}"],
                   check=True)
    equal(compressions(zstd), {"tar+zstd"}, "skopeo's layers")
    daemon.vmctl("image", "import", zstd)
    equal(daemon.inspect("zstd")["cmd"], ["-c", "true"], "the command of zstd")
    equal(len(daemon.entries("roots")), 1, "roots of the same layers")
    root = os.path.join(directory, "tree")
    os.makedirs(os.path.join(root, "usr/bin"))
    open(os.path.join(root, "usr/bin/tool"), "w").write("tool")
    os.chown(os.path.join(root, "usr/bin/tool"), 7, 8)
    os.setxattr(os.path.join(root, "usr/bin/tool"), "user.mark", b"kept")
    os.symlink("/usr/bin", os.path.join(root, "bin"))
    daemon.vmctl("image", "import", root)
    made = os.path.join(daemon.inspect("tree")["path"], "usr/bin/tool")
    equal((os.stat(made).st_uid, os.stat(made).st_gid, os.getxattr(made, "user.mark")), (7, 8, b"kept"), "a directory's file")
    plain = tar(entry("./hello", b"there"))
    for ending, data in (("tar", plain), ("tar.gz", gzip.compress(plain)), ("tar.xz", lzma.compress(plain))):
        path = os.path.join(directory, "ball-" + ending.replace(".", "-") + "." + ending)
        open(path, "wb").write(data)
        daemon.vmctl("image", "import", "--name", "ball:" + ending, path)
        equal(open(os.path.join(daemon.inspect("ball:" + ending)["path"], "hello")).read(), "there", ending)
    disk = os.path.join(directory, "disk.raw")
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", disk], check=True)
    daemon.vmctl("image", "import", disk)
    image = daemon.inspect("disk")
    equal((image["type"], image["format"], image["fstype"]), ("disk", "raw", "ext4"), "a disk")
    assert os.stat(image["path"]).st_blocks * 512 < 16 << 20, "holes stay holes"
    equal(open(image["path"], "rb").read() == open(disk, "rb").read(), True, "the disk's content")
    qcow = os.path.join(directory, "chained.qcow2")
    header = b"QFI\xfb" + (3).to_bytes(4, "big") + (104).to_bytes(8, "big") + (11).to_bytes(4, "big") + bytes(52) + bytes(32)
    open(qcow, "wb").write(header + b"/etc/shadow" + bytes(4096))
    daemon.refuses("image", "import", qcow, saying="stands on another file")
    daemon.refuses("image", "import", "/dev/zero", saying="neither a file nor a directory")
    daemon.refuses("image", "import", os.path.join(directory, "absent"), saying="No such file")
    text = os.path.join(directory, "text")
    open(text, "w").write("just text")
    daemon.refuses("image", "import", text, saying="is no archive")
    for place in ("/", directory, daemon.root):
        daemon.refuses("image", "import", place, saying="steled keeps its images in it", status=5)
    daemon.refuses("image", "inspect", "absent", saying="there is no image 'absent'", status=3)
    equal(daemon.entries("staging"), [], "nothing half done is left")
    equal(os.stat(daemon.store()).st_mode & 0o777, 0o700, "the store's mode")
    daemon.stop()


def removal(directory):
    """Names, use by machines, and what prune takes away."""
    daemon = Daemon(directory).start()
    layout = good().layout(os.path.join(directory, "one"))
    daemon.vmctl("image", "import", layout)
    daemon.vmctl("image", "import", "--name", "second:name", layout)
    equal([image["names"] for image in daemon.images()], [["one:latest", "second:name"]], "two names of one image")
    daemon.vmctl("image", "remove", "one")
    path = daemon.inspect("second:name")["path"]
    daemon.vmctl("create", "user", "--image", "second:name")
    daemon.refuses("image", "remove", "second:name", saying="is the root of 'user'")
    assert os.path.isdir(path), "the root of a machine stays"
    changes = os.path.join(daemon.root, "changes")
    equal(len(os.listdir(changes)), 1, "the machine's disk for changes")
    daemon.refuses("create", "user", "--image", "second:name", saying="there is a machine 'user' already", status=4)
    equal(len(os.listdir(changes)), 1, "a refused machine leaves no disk")
    for options, saying in ((("-v", "relative"), "a share is"), (("-p", "80"), "a port is"), (("-p", "1:70000"), "from 1 to 65535"),
                            (("-m", "much"), "takes a size"), (("-e", "=x"), "NAME=VALUE"), (("--mode", "odd"), "mode is"),
                            (("--disk", "1M"), "at least 16 MiB")):
        daemon.refuses("create", "other", "--image", "second:name", *options, saying=saying)
    equal(len(os.listdir(changes)), 1, "refused machines leave no disks")
    daemon.vmctl("undefine", "user")
    equal(os.listdir(changes), [], "changes go with the machine")
    daemon.vmctl("image", "remove", "second:name")
    equal((daemon.images(), daemon.entries("roots")), ([], []), "after the last name")
    assert daemon.entries("blobs", "sha256"), "blobs stay until they are pruned"
    daemon.vmctl("image", "prune")
    equal(daemon.entries("blobs", "sha256"), [], "blobs after prune")
    daemon.vmctl("image", "import", layout)
    daemon.vmctl("image", "prune")
    equal(len(daemon.images()), 1, "prune keeps images")
    daemon.vmctl("image", "prune", "--unused")
    equal((daemon.images(), daemon.entries("roots")), ([], []), "prune --unused")
    daemon.stop()


def definitions(directory):
    """clone and edit: definitions of machines of images, as they are changed."""
    daemon = Daemon(directory).start()
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "one")))
    daemon.vmctl("create", "first", "--image", "one", "-m", "256M", "--cpus", "1", "-p", "8080:80", "-v", directory + ":/mnt/a b:ro",
                 "-e", "A=<b> & 'c'", "-u", "1:2", "--", "/bin/sh", "-c", "echo \"$A\"")
    xml = daemon.vmctl("dumpxml", "first").stdout
    for part in ("<memory unit='KiB'>262144</memory>", "<vcpu>1</vcpu>", "host='127.0.0.1:8080' guest='80'", "target='/mnt/a b' mode='ro'",
                 "<stele:env name='A'>&lt;b&gt; &amp; &apos;c&apos;</stele:env>", "user='1:2'", "image='one'"):
        contains(xml, part)
    full = daemon.vmctl("dumpxml", "--full", "first").stdout
    for part in ("stele.changes=/dev/vda,ext4", "stele.share=stele-share-0:ro:/mnt/a%20b", "stele.mode=overlay", "<source file="):
        contains(full, part)
    daemon.vmctl("set", "first", "-m", "300M", "--cpus", "3", "-v", directory + ":/srv", "--no-volume", "/mnt/a b", "-p", "9090:90/udp",
                 "--no-publish", "8080")
    changed = daemon.vmctl("dumpxml", "first").stdout
    for part in (">307200</memory>", ">3</vcpu>", 'target="/srv" mode="rw"', 'host="127.0.0.1:9090" guest="90" protocol="udp"'):
        contains(changed, part)
    assert "/mnt/a b" not in changed and "8080" not in changed, changed
    daemon.vmctl("share", "first", "add", directory + ":/srv:ro")
    contains(daemon.vmctl("dumpxml", "first").stdout, 'target="/srv" mode="ro"')
    daemon.vmctl("share", "first", "remove", "/srv")
    daemon.refuses("share", "first", "remove", "/srv", saying="no share at '/srv'", status=5)
    daemon.refuses("set", "first", "--no-publish", "1", saying="no port '1'", status=5)
    daemon.vmctl("set", "first", "--cpus", "1")
    daemon.vmctl("clone", "first", "second")
    disks = [name for name in os.listdir(os.path.join(daemon.root, "changes"))]
    equal(len(disks), 2, "each has a disk for changes")
    assert all(disk[:-4] in daemon.vmctl("dumpxml", "first").stdout + daemon.vmctl("dumpxml", "second").stdout for disk in disks), disks
    daemon.refuses("clone", "first", "second", saying="there is a machine 'second' already", status=4)
    daemon.refuses("clone", "first", "a/b", saying="plain name")
    equal(len(os.listdir(os.path.join(daemon.root, "changes"))), 2, "a refused clone leaves no disk")
    edit(daemon, directory)
    completion(daemon)
    daemon.stop()


COMPLETIONS = [("vmctl sta", "start stats"), ("vmctl image pr", "prune"), ("vmctl start se", "second"), ("vmctl run on", "one:latest"),
               ("vmctl image inspect on", "one:latest")]


def completion(daemon):
    """What each shell itself makes of its script; vmctl is a function there, for the socket."""
    call = f"'{VMCTL}' --socket '{daemon.socket}'"
    for words, expected in COMPLETIONS:
        shell = (f"vmctl() {{ {call} \"$@\"; }}; source <(vmctl completion bash); cd '{daemon.root}/changes';"
                 f" COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _vmctl; echo ${{COMPREPLY[@]}}")
        result = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        equal((result.stdout.split()[:len(expected.split())], result.stderr), (expected.split(), ""), f"bash's completion of '{words}'")
        shell = f"function vmctl; {call} $argv; end; vmctl completion fish | source; cd '{daemon.root}/changes'; complete -C '{words}'"
        result = subprocess.run(["fish", "--no-config", "-c", shell], capture_output=True, text=True, env={**os.environ, "HOME": daemon.root})
        equal(([line.split("\t")[0] for line in result.stdout.splitlines()], result.stderr), (expected.split(), ""), f"fish's completion of '{words}'")
    zsh = Zsh(f"vmctl() {{ {call} \"$@\" }}; cd '{daemon.root}/changes'; autoload -U compinit; compinit -D; source <(vmctl completion zsh)")
    for words, expected in COMPLETIONS:
        equal(zsh.completed(words), expected.split(), f"zsh's completion of '{words}'")
    zsh.close()


class Zsh:
    """zsh at a terminal. Its completion is seen where it ends: in what it would have inserted, which a widget of its own prints."""

    def __init__(self, setup):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", PS1="")
            os.execvp("zsh", ["zsh", "-f", "-i"])
        widget = ("compadd() { local -a hits; builtin compadd -O hits \"$@\"; found+=($hits); builtin compadd \"$@\" };"
                  " ask() { typeset -ga found=(); zle complete-word; print -r -- \"<<${(u)found}>>\"; zle kill-whole-line };"
                  " zle -N ask; bindkey '^X' ask; print -r -- '<<'ready'>>'")
        self.said = ""
        for line in (setup, widget):
            os.write(self.terminal, line.encode() + b"\n")
        while self.next() != "ready":
            pass

    def next(self):
        """What stands next between << and >>."""
        while ">>" not in self.said.partition("<<")[2]:
            assert select.select([self.terminal], [], [], 60)[0], f"zsh says no more than {self.said!r}"
            self.said += os.read(self.terminal, 65536).decode(errors="replace")
        found, _, self.said = self.said.partition("<<")[2].partition(">>")
        return found

    def completed(self, words):
        os.write(self.terminal, words.encode() + b"\x18")
        return sorted(set(self.next().split()))

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def other_host(directory):
    """--host: ssh is one of our own, which runs here what it was to run there."""
    daemon = Daemon(directory).start()
    tool = os.path.join(directory, "bin")
    os.makedirs(tool)
    with open(os.path.join(tool, "ssh"), "w") as file:
        file.write(f"#!/bin/sh\necho \"$@\" >>{directory}/asked\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\ncd /\nexec sh -c \"$*\"\n")
    os.chmod(os.path.join(tool, "ssh"), 0o755)
    os.symlink(VMCTL, os.path.join(tool, "vmctl"))
    environment = {**os.environ, "PATH": tool + ":" + os.environ["PATH"]}

    def there(*arguments, status=0, **options):
        result = subprocess.run([VMCTL, *arguments], capture_output=True, text=True, env=environment, timeout=60, **options)
        equal((result.returncode, status and result.stderr != ""), (status, status and True), f"{arguments}: {result.stderr}")
        return result

    xml = "<domain type='qemu'><name>one</name><memory unit='MiB'>64</memory><os><type arch='aarch64' machine='virt'>hvm</type></os></domain>"
    with open(os.path.join(directory, "one.xml"), "w") as file:
        file.write(xml)
    there("--host", "user@there", "--socket", daemon.socket, "define", "--replace", "one.xml", cwd=directory)
    equal([machine["name"] for machine in json.loads(there("--json", "--host=there", "--socket=" + daemon.socket, "ls").stdout)], ["one"], "the machines there")
    contains(there("--host", "there", "--socket", daemon.socket, "info", "no such; touch /tmp/planted", status=3).stderr, "no such; touch /tmp/planted")
    equal([line.split(" vmctl ")[0] for line in open(os.path.join(directory, "asked"))], ["-T -- user@there", "-T -- there", "-T -- there"], "ssh's arguments")
    contains(there("--host", "there", "cp", "a", "one:b", status=2).stderr, "cp has no --host")
    contains(there("--host", "-oProxyCommand=x", "list", status=2).stderr, "--host takes")
    contains(there("--host", "there", "define", "absent.xml", status=1).stderr, "absent.xml: No such file")
    equal(len(open(os.path.join(directory, "asked")).readlines()), 3, "refusals reach no host")
    daemon.stop()


def same_quotes(xml):
    """As steled writes a definition anew."""
    return xml.replace('"', "'").removeprefix("<?xml version='1.0' encoding='UTF-8'?>\n")


def renaming(directory):
    """A machine's other name, and what a rename leaves that steled did not live to end."""
    daemon = Daemon(directory).start()
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "one")))
    daemon.vmctl("create", "first", "--image", "one")
    daemon.vmctl("create", "taken", "--image", "one")
    plain = os.path.join(directory, "plain.xml")
    with open(plain, "w") as file:
        file.write("<domain type='qemu'><name>no-uuid</name><memory unit='MiB'>64</memory><os><type arch='aarch64' machine='virt'>hvm</type></os></domain>")
    daemon.vmctl("define", plain)
    before = {name: json.loads(daemon.vmctl("--json", "info", name).stdout) for name in ("first", "no-uuid")}
    xml = daemon.vmctl("dumpxml", "first").stdout
    for new, saying, status in (("taken", "there is a machine 'taken' already", 4), ("first", "there is a machine 'first' already", 4),
                                ("a/b", "plain name", 5), ("-x", "", 2), ("..", "plain name", 5)):
        daemon.refuses("rename", "first", new, saying=saying, status=status)
    daemon.refuses("rename", "absent", "other", saying="there is no machine 'absent'", status=3)
    equal(daemon.vmctl("dumpxml", "first").stdout, xml, "the definition after refusals")
    for old, new in (("first", "a&b"), ("no-uuid", "plain")):
        contains(daemon.vmctl("rename", old, new).stdout, f"machine '{old}' is '{new}' now")
    names = ["a&b", "plain", "taken"]
    for restart in (False, True):
        if restart:
            daemon.stop(signal.SIGKILL)
            daemon.start()
        equal([machine["name"] for machine in json.loads(daemon.vmctl("--json", "list").stdout)], names, "machines")
        equal(same_quotes(daemon.vmctl("dumpxml", "a&b").stdout), xml.replace("<name>first</name>", "<name>a&amp;b</name>"), "all but the name")
        for old, new in (("first", "a&b"), ("no-uuid", "plain")):
            equal(json.loads(daemon.vmctl("--json", "info", new).stdout)["uuid"], before[old]["uuid"], "the UUID of " + new)
    # steled ended when both definitions were there, and when there was only the old one.
    daemon.stop(signal.SIGKILL)
    machines = os.path.join(daemon.root, "machines")
    with open(os.path.join(machines, "first.xml"), "w") as file:
        file.write(xml)
    for name, new in (("first", "a&b"), ("taken", "absent")):
        with open(os.path.join(machines, name + ".state"), "w") as file:
            file.write(f"renamed {new}\n")
    daemon.start()
    states = {machine["name"]: machine["state"] for machine in json.loads(daemon.vmctl("--json", "list").stdout)}
    equal(states, {name: "stopped" for name in names}, "after renames that were cut short")
    assert not [name for name in os.listdir(machines) if name.startswith("first")], os.listdir(machines)
    daemon.vmctl("rename", "a&b", "first")
    equal(same_quotes(daemon.vmctl("dumpxml", "first").stdout), xml, "back again")
    for name in ("first", "taken"):
        daemon.vmctl("undefine", name)
    equal(os.listdir(os.path.join(daemon.root, "changes")), [], "changes go with the machine")
    daemon.stop()


def logs_before(directory):
    """What a console printed before the last start, here by our own hand: nothing runs in this machine."""
    daemon = Daemon(directory).start()
    plain = os.path.join(directory, "plain.xml")
    with open(plain, "w") as file:
        file.write("<domain type='qemu'><name>bare</name><memory unit='MiB'>64</memory><os><type arch='aarch64' machine='virt'>hvm</type></os></domain>")
    daemon.vmctl("define", plain)
    equal(daemon.vmctl("logs", "--boot=-1", "bare").stdout, "", "before any start")
    with open(os.path.join(daemon.root, "console", "bare.log"), "w") as file:
        file.write("of the first boot\n")
    equal(daemon.vmctl("logs", "bare").stdout, "of the first boot\n", "the last boot's")
    daemon.vmctl("start", "bare")
    equal(daemon.vmctl("logs", "bare").stdout, "", "a new one")
    equal(daemon.vmctl("logs", "--boot", "-1", "bare").stdout, "of the first boot\n", "the one before")
    daemon.refuses("rename", "bare", "other", saying="not stopped", status=4)
    daemon.refuses("logs", "--boot=-2", "bare", saying="--boot is 0 or -1", status=2)
    daemon.refuses("logs", "--boot=-1", "-f", "bare", saying="cannot be followed", status=2)
    daemon.vmctl("destroy", "bare")
    daemon.vmctl("rename", "bare", "other")
    equal(daemon.vmctl("logs", "--boot=-1", "other").stdout, "of the first boot\n", "under another name")
    daemon.vmctl("undefine", "other")
    equal(os.listdir(os.path.join(daemon.root, "console")), [], "logs of machines that are no more")
    daemon.stop()


def autostart(directory):
    """A machine starts with the first steled after the host was booted, and with no other."""
    daemon = Daemon(directory, "--guest-dir", os.path.join(directory, "nowhere")).start()
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "one")))
    for name in ("with", "without"):
        daemon.vmctl("create", name, "--image", "one")
    daemon.vmctl("autostart", "with")
    daemon.vmctl("autostart", "without")
    daemon.vmctl("autostart", "--off", "without")

    def reasons():
        return {machine["name"]: machine["reason"] for machine in json.loads(daemon.vmctl("--json", "list").stdout)}

    daemon.stop()
    daemon.start()
    equal(reasons(), {"with": "new", "without": "new"}, "after another start of steled")
    daemon.stop()
    with open(os.path.join(daemon.root, "boot-id"), "w") as file:
        file.write("another boot\n")
    daemon.start()
    # It fails for want of a guest kernel, and so has been tried.
    deadline = time.monotonic() + 60
    while reasons()["with"] != "start-failed":
        assert time.monotonic() < deadline, f"it is not started: {reasons()}"
        time.sleep(0.1)
    equal(reasons()["without"], "new", "one that is not to be")
    daemon.stop()


def edit(daemon, directory):
    """An editor that spoils the definition first: it is given the error's line, and what it leaves at last is taken."""
    script, calls = os.path.join(directory, "editor"), os.path.join(directory, "calls")
    with open(script, "w") as file:
        file.write(f"""#!/bin/sh
echo "$@" >>{calls}
for file; do :; done
if [ $(wc -l <{calls}) = 1 ]; then sed -i 's/<metadata>/<bad bad>\\n&/' "$file"
else sed -i '/<bad bad>/d; s,<vcpu>1<,<vcpu>2<,' "$file"; fi
""")
    os.chmod(script, 0o755)
    master, slave = pty.openpty()
    process = subprocess.Popen(daemon.command("edit", "first"), stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "VISUAL": script})
    os.close(slave)
    seen = b""
    while b"Edit it again?" not in seen:
        assert select.select([master], [], [], 60)[0], f"edit asks nothing: {seen}"
        seen += os.read(master, 4096)
    os.write(master, b"y\r")
    equal(process.wait(60), 0, "edit")
    os.close(master)
    lines = open(calls).read().splitlines()
    assert len(lines) == 2 and lines[1].startswith("+"), f"how the editor was called: {lines}"
    contains(daemon.vmctl("dumpxml", "first").stdout, "<vcpu>2</vcpu>")
    result = subprocess.run(daemon.command("edit", "first"), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            env={**os.environ, "VISUAL": "sed -i s,<vcpu>2,<vcpu>x,"})
    assert result.returncode != 0, "what libvirt does not take"
    contains(daemon.vmctl("dumpxml", "first").stdout, "<vcpu>2</vcpu>")


# --- bad input -------------------------------------------------------------------------------------------

def bomb():
    """16 GiB of zeros in 16 MiB: a tar whose one file is that long, in gzip members."""
    info = tarfile.TarInfo("zeros")
    info.size = 16 << 30
    member = gzip.compress(bytes(64 << 20), 9)
    return None, gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + member * 256, "layer.v1.tar+gzip"


def sparse():
    info = tarfile.TarInfo("huge")
    info.type = b"S"
    return tar() and info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def pax_sparse():
    return tar(entry("huge", b"", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)}))


def broken_sum():
    data = bytearray(BASE)
    data[0] ^= 1
    return bytes(data)


GZ = gz(BASE)
# A row: what is wrong, the image (its layers come first), what the message says.
BAD = [
    ("another processor", lambda: good(architecture="arm64"), "it is for linux on arm64"),
    ("a wrong diff ID", lambda: Image(BASE, diff_ids=["sha256:" + "1" * 64]), "its content has the digest"),
    ("more diff IDs than layers", lambda: Image(BASE, diff_ids=["sha256:" + "1" * 64] * 2), "same number of layers"),
    ("a diff ID that is a path", lambda: Image(BASE, diff_ids=["sha256:../../../etc/passwd"]), "no diff ID of the form"),
    ("a layer of a kind nobody knows", lambda: Image(BASE, layer_type="layer.v1.tar+lzma"), "cannot be unpacked"),
    ("zstd that is none", lambda: Image((BASE, b"\x28\xb5\x2f\xfd" + bytes(100), "layer.v1.tar+zstd")), "that zstd compressed cannot be unpacked"),
    ("a layer that is no archive", lambda: Image(b"text" * 1000), "no tar archive"),
    ("a header's wrong checksum", lambda: Image(broken_sum()), "checksum is wrong"),
    ("an archive cut off", lambda: Image(tar(entry("f", b"x" * 5000))[:1024]), "ends too early"),
    ("gzip cut off", lambda: Image((BASE, GZ[1][:-20], GZ[2])), "ends too early"),
    ("gzip that is none", lambda: Image((BASE, b"\x1f\x8b" + bytes(100), GZ[2])), "gzip data is damaged"),
    ("rubbish after gzip", lambda: Image((BASE, GZ[1] + b"rubbish", GZ[2])), "gzip data is damaged"),
    ("a name that leads out", lambda: Image(tar(entry("a/../../escaped", b"x"))), "leads out of the root"),
    ("a long name that leads out", lambda: Image(tar(entry("a/" * 200 + "../" * 300 + "x", b"x"))), "leads out of the root"),
    ("a hard link that leads out", lambda: Image(tar(entry("l", type=tarfile.LNKTYPE, linkname="../../etc/passwd"))), "leads out"),
    ("a bomb of gzip", lambda: Image(bomb()), "that an image may, at zeros"),
    ("more files than bytes", lambda: Image(*[tar(*[entry(f"{k}-{n}") for n in range(9000)]) for k in range(2)]), "that an image may"),
    ("a sparse file", lambda: Image(sparse()), "sparse"),
    ("a sparse file of pax", lambda: Image(pax_sparse()), "sparse"),
]


def bad_images(directory):
    daemon = Daemon(directory, "--image-max", "64").start()
    for what, make, saying in BAD:
        layout = make().layout(os.path.join(directory, "bad"))
        result = daemon.vmctl("image", "import", "--name", "bad", layout, status=None)
        assert result.returncode == 6 and saying in result.stderr, f"{what}: {result.returncode}: {result.stderr}"
        equal((daemon.entries("staging"), daemon.entries("roots"), daemon.images()), ([], [], []), f"left by {what}")
        shutil.rmtree(layout)
    daemon.vmctl("image", "import", good().layout(os.path.join(directory, "good")))
    equal(len(daemon.images()), 1, "a good one afterwards")
    # A blob that is not what it is called is not kept for the next try.
    image = good(b"other")
    layout = image.layout(os.path.join(directory, "wrong"))
    name = image.layers[1]["digest"][7:]
    path = os.path.join(layout, "blobs", "sha256", name)
    data = open(path, "rb").read()
    open(path, "wb").write(data.replace(b"other", b"OTHER"))
    assert daemon.vmctl("image", "import", layout, status=None).returncode != 0, "a wrong digest"
    open(path, "wb").write(data)
    daemon.vmctl("image", "import", layout)
    # Nor is one that went bad in the store.
    daemon.vmctl("image", "remove", "wrong")
    open(daemon.store("blobs", "sha256", name), "wb").write(data.replace(b"other", b"OTHER"))
    daemon.refuses("image", "import", layout, saying="has the digest")
    daemon.vmctl("image", "import", layout)
    equal(open(os.path.join(daemon.inspect("wrong")["path"], "file")).read(), "other", "the content at last")
    daemon.stop()


def confinement(directory):
    """Layers that write through links of lower layers, whiteouts, devices, many files: nothing gets out of the root."""
    daemon = Daemon(directory).start()
    outside = os.path.join(directory, "outside")
    os.makedirs(outside)
    open(os.path.join(outside, "precious"), "w").write("mine")
    up = "../" * 20
    links = tar(entry("abs", type=tarfile.SYMTYPE, linkname=outside), entry("rel", type=tarfile.SYMTYPE, linkname=up + outside[1:]))
    through = tar(entry("abs/planted", b"x"), entry("rel/planted2", b"x"), entry("abs/.wh.precious"), entry("rel/.wh..wh..opq"))
    daemon.vmctl("image", "import", "--name", "links", Image(links, through).layout(os.path.join(directory, "links")))
    equal(os.listdir(outside), ["precious"], "outside of the root")
    lower = tar(entry("dir", type=tarfile.DIRTYPE, mode=0o755), entry("dir/a", b"a"), entry("dir/b", b"b"), entry("gone", b"g"),
                entry("opaque", type=tarfile.DIRTYPE, mode=0o755), entry("opaque/old", b"o"))
    upper = tar(entry("dir/.wh.a"), entry(".wh.gone"), entry("opaque", type=tarfile.DIRTYPE, mode=0o755),
                entry("opaque/.wh..wh..opq"), entry("opaque/new", b"n"), entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
                entry("suid", b"s", mode=0o4755))
    daemon.vmctl("image", "import", "--name", "whiteouts", Image(lower, upper).layout(os.path.join(directory, "whiteouts")))
    root = daemon.inspect("whiteouts")["path"]
    equal(sorted(os.path.relpath(os.path.join(top, name), root) for top, _, names in os.walk(root) for name in names),
          ["dir/b", "null", "opaque/new", "suid"], "files after whiteouts")
    many = tar(*[entry(f"d{n // 1000}/f{n}") for n in range(FILES)])
    daemon.vmctl("image", "import", "--name", "many", Image(gz(many)).layout(os.path.join(directory, "many")))
    root = daemon.inspect("many")["path"]
    equal(sum(len(names) for _, _, names in os.walk(root)), FILES, "files")
    # Also what unpacks runs where nothing else can be written: tar is made to try.
    tool = os.path.join(directory, "bin")
    os.makedirs(tool)
    with open(os.path.join(tool, "umoci"), "w") as file:
        file.write(f"#!/bin/sh\necho planted >{outside}/by-tool\necho planted >/etc/stele-planted\nexec /usr/bin/umoci \"$@\"\n")
    os.chmod(os.path.join(tool, "umoci"), 0o755)
    daemon.stop()
    os.environ["PATH"] = tool + ":" + os.environ["PATH"]
    try:
        daemon.start()
        daemon.vmctl("image", "import", "--name", "tool", good(b"tool").layout(os.path.join(directory, "tool")))
    finally:
        os.environ["PATH"] = os.environ["PATH"].split(":", 1)[1]
    equal((os.listdir(outside), os.path.exists("/etc/stele-planted")), (["precious"], False), "what a tool could write")
    daemon.stop()


# --- registries ------------------------------------------------------------------------------------------

class Registry(http.server.ThreadingHTTPServer):
    """Serves images as the OCI distribution specification has it; may stop in a blob, and may want a password."""
    daemon_threads = True

    def __init__(self, **images):
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.images, self.asked = images, []
        self.stop_in = self.password = None
        self.stopped, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def reference(self, name):
        return f"127.0.0.1:{self.server_port}/{name}:v1"

    def handle_error(self, request, address):
        pass


class RegistryHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        if server.password and self.headers.get("Authorization") != "Basic " + server.password:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        parts = self.path.strip("/").split("/")
        image = server.images.get(parts[1]) if len(parts) > 3 else None
        if self.path in ("/v2/", "/v2"):
            return self.reply(b"{}", "application/json")
        if image is None:
            return self.reply(b'{"errors":[{"code":"NAME_UNKNOWN","message":"name unknown"}]}', "application/json", 404)
        name = parts[3] if parts[3].startswith("sha256:") else image.manifest["digest"]
        server.asked.append((parts[2], name))
        kind = image.manifest["mediaType"] if parts[2] == "manifests" and name == image.manifest["digest"] else "application/octet-stream"
        if parts[2] == "manifests" and name != image.manifest["digest"]:
            kind = TYPE + "manifest.v1+json"
        self.reply(image.blobs[name], kind, stop=parts[2] == "blobs" and name == server.stop_in)

    def reply(self, data, kind, status=200, stop=False):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", digest(data))
        self.end_headers()
        if self.command == "HEAD":
            return
        if stop:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.stopped.set()
            self.server.go_on.wait(300)
        else:
            self.wfile.write(data)


def two_layers():
    return Image(gz(tar(entry("first", os.urandom(300000)))), gz(tar(entry("second", os.urandom(300000)))))


class Index(Image):
    """An index of several images."""

    def __init__(self, **images):
        self.blobs = {}
        manifests = []
        for architecture, image in images.items():
            self.blobs.update(image.blobs)
            manifests.append({**image.manifest, "platform": {"architecture": architecture, "os": "linux"}})
        kind = TYPE + "index.v1+json"
        self.manifest = self.add(json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode(), kind)


def registries(directory):
    arm = good(b"arm", architecture="arm64")
    registry = Registry(both=Index(arm64=arm, amd64=good(b"amd")), arm=Index(arm64=arm), single=arm, many=two_layers())
    daemon = Daemon(directory).start()
    daemon.vmctl("image", "pull", "--insecure", registry.reference("both"))
    equal(open(os.path.join(daemon.inspect(registry.reference("both"))["path"], "file")).read(), "amd", "what an index gives")
    assert ("blobs", arm.layers[1]["digest"]) not in registry.asked, "the other processor's layers are not fetched"
    daemon.refuses("image", "pull", "--insecure", registry.reference("arm"), saying="has no image for linux/amd64", status=6)
    daemon.refuses("image", "pull", "--insecure", registry.reference("single"), saying="it is for linux on arm64", status=6)
    daemon.refuses("image", "pull", "--insecure", registry.reference("absent"), saying="the registry has no", status=14)
    daemon.refuses("image", "pull", registry.reference("both"), saying="--insecure", status=14)
    daemon.refuses("image", "pull", "--insecure", "127.0.0.1:1/x", saying="cannot fetch", status=14)
    daemon.refuses("image", "pull", "--insecure", "-evil", saying="", status=2)
    # Credentials.
    registry.password = "dXNlcjpzZWNyZXQ="
    daemon.refuses("image", "pull", "--insecure", registry.reference("many"), saying="wants a login", status=14)
    auth = os.path.join(directory, "auth.json")
    json.dump({"auths": {f"127.0.0.1:{registry.server_port}": {"auth": registry.password}}}, open(auth, "w"))
    daemon.vmctl("image", "pull", "--insecure", "--authfile", auth, registry.reference("many"))
    equal(daemon.entries("staging"), [], "nothing half done is left")
    registry.shutdown()
    daemon.stop()


def interrupted(directory):
    """A pull ended by ^C, by the end of steled, or by a registry that sends no more: nothing half done, and the layers that
    were complete are not fetched again."""
    image = two_layers()
    first, second = (layer["digest"] for layer in image.layers)
    for how in ("client", "steled", "stall"):
        registry = Registry(app=image)
        registry.stop_in = second
        place = os.path.join(directory, how)
        os.makedirs(place)
        daemon = Daemon(place, "--image-stall", "3" if how == "stall" else "300").start()
        pull = subprocess.Popen(daemon.command("image", "pull", "--insecure", registry.reference("app")), stderr=subprocess.PIPE)
        assert registry.stopped.wait(60), "the registry was never asked for the second layer"
        await_blob(daemon, first)
        if how == "client":
            pull.send_signal(signal.SIGINT)
        if how == "steled":
            daemon.process.kill()
        _, errors = pull.communicate(timeout=120)
        assert pull.returncode != 0, "the pull was interrupted"
        if how == "stall":
            contains(errors.decode(), "has sent nothing for 3 s")
        if how == "steled":
            daemon.process.communicate()
            daemon.start()
        await_empty(daemon, "staging")
        equal((daemon.entries("roots"), daemon.images()), ([], []), f"left after {how}")
        registry.stop_in = None
        registry.go_on.set()
        registry.asked.clear()
        daemon.vmctl("image", "pull", "--insecure", registry.reference("app"))
        asked = [name for kind, name in registry.asked if kind == "blobs"]
        assert first not in asked and second in asked, f"the next try asked for {asked}"
        daemon.stop()
        registry.shutdown()


def await_blob(daemon, name):
    """Until the blob is in its place: skopeo writes it there when it is complete."""
    deadline = time.monotonic() + 60
    while not os.path.exists(daemon.store("blobs", "sha256", name[7:])):
        assert time.monotonic() < deadline, "the first layer never came"
        time.sleep(0.05)


def await_empty(daemon, *place):
    deadline = time.monotonic() + 60
    while daemon.entries(*place):
        assert time.monotonic() < deadline, f"{place} is not emptied: {daemon.entries(*place)}"
        time.sleep(0.05)


def at_once(directory):
    """Several pulls at a time, of the same image and of others that share a layer."""
    images = {f"app{n}": Image(gz(BASE), tar(entry("own", str(n).encode()))) for n in range(4)}
    registry = Registry(**images)
    daemon = Daemon(directory).start()
    pulls = [subprocess.Popen(daemon.command("image", "pull", "--insecure", registry.reference(name)), stderr=subprocess.PIPE, text=True)
             for name in list(images) * 2]
    for pull in pulls:
        _, errors = pull.communicate(timeout=300)
        equal(pull.returncode, 0, errors)
    equal(len(daemon.images()), 4, "images")
    for n in range(4):
        equal(open(os.path.join(daemon.inspect(registry.reference(f"app{n}"))["path"], "own")).read(), str(n), "its own file")
    equal(len(daemon.entries("blobs", "sha256")), 4 * 3 + 1, "blobs: the layer they share is there once")
    registry.shutdown()
    daemon.stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def debian_registry(directory):
    """Debian's docker-registry; its port."""
    port = free_port()
    config = os.path.join(directory, "registry.yml")
    with open(config, "w") as file:
        json.dump({"version": 0.1, "storage": {"filesystem": {"rootdirectory": os.path.join(directory, "storage")}},
                   "http": {"addr": f"127.0.0.1:{port}"}}, file)
    registry = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        registry.kill()
        registry.wait()


def docker_registry(directory):
    """Debian's docker-registry, filled by skopeo."""
    with debian_registry(directory) as port:
        layout = good(b"pushed").layout(os.path.join(directory, "layout"))
        command = ["skopeo", "copy", "-q", "--retry-times", "8", "--dest-tls-verify=false", f"oci:{layout}", f"docker://127.0.0.1:{port}/team/app:1.0"]
        subprocess.run(command, check=True)
        daemon = Daemon(directory).start()
        daemon.vmctl("image", "pull", "--insecure", f"127.0.0.1:{port}/team/app:1.0")
        equal(open(os.path.join(daemon.inspect(f"127.0.0.1:{port}/team/app:1.0")["path"], "file")).read(), "pushed", "its file")
        daemon.stop()


def anywhere(directory):
    """^C at moments spread over a whole pull, from Debian's registry: whatever was under way, there is either the image or nothing
    of it, and the next try works."""
    with debian_registry(directory) as port:
        reference = f"127.0.0.1:{port}/app:1"
        files = [entry(f"d{n % 20}/f{n}", os.urandom(2000)) for n in range(600)]
        layout = Image(gz(BASE), gz(tar(*files)), gz(tar(entry("large", os.urandom(12 << 20)))), tar(entry("last", b"last"))).layout(
            os.path.join(directory, "layout"))
        subprocess.run(["skopeo", "copy", "-q", "--retry-times", "8", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}"], check=True)
        daemon = Daemon(directory).start()
        begun = time.monotonic()
        daemon.vmctl("image", "pull", "--insecure", reference)
        whole = time.monotonic() - begun
        outcomes = set()
        for moment in range(MOMENTS):
            daemon.vmctl("image", "remove", reference)
            daemon.vmctl("image", "prune")
            pull = subprocess.Popen(daemon.command("image", "pull", "--insecure", reference), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                pull.wait(whole * (moment + 0.5) / MOMENTS)
            except subprocess.TimeoutExpired:
                pull.send_signal(signal.SIGINT)
            _, errors = pull.communicate(timeout=120)
            await_empty(daemon, "staging")
            names = [image["names"] for image in daemon.images()]
            equal((names, len(daemon.entries("roots"))), ([[reference]], 1) if names else ([], 0), f"after ^C at {moment} of {MOMENTS}: {errors}")
            outcomes.add((pull.returncode == 0, bool(names)))
            daemon.vmctl("image", "pull", "--insecure", reference)
            equal(open(os.path.join(daemon.inspect(reference)["path"], "last")).read(), "last", "the next try")
        assert (False, False) in outcomes and (True, False) not in outcomes, outcomes
        daemon.stop()


# --- a full disk -----------------------------------------------------------------------------------------

def full_disk(directory):
    """The store on a file system that is full while an image is fetched, and while it is unpacked."""
    disk = os.path.join(directory, "disk")
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", disk], check=True)
    try:
        daemon = Daemon(directory, root=disk).start()
        large, unpacked = os.path.join(directory, "large.tar"), os.path.join(directory, "unpacked.tar.gz")
        open(large, "wb").write(tar(entry("large", os.urandom(1 << 20) * 70)))
        plain = tar(entry("zeros", bytes(100 << 20)))
        open(unpacked, "wb").write(gzip.compress(plain, 1))
        for file in (large, unpacked):
            result = daemon.vmctl("image", "import", file, status=None)
            assert result.returncode == 12 and "free some space" in result.stderr, f"{file}: {result.returncode} {result.stderr}"
            equal((daemon.entries("staging"), daemon.entries("roots"), daemon.images()), ([], [], []), f"left of {file}")
        daemon.vmctl("image", "prune")
        daemon.vmctl("image", "import", good().layout(os.path.join(directory, "small")))
        equal(len(daemon.images()), 1, "a small one afterwards")
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def any_room(directory):
    """The store on file systems of growing sizes, until an image fits: each step runs out of room once."""
    disk = os.path.join(directory, "disk")
    os.makedirs(disk)
    layout = Image(gz(tar(entry("one", os.urandom(3 << 20)))), gz(tar(entry("zeros", bytes(9 << 20))))).layout(os.path.join(directory, "layout"))
    reasons = []
    for megabytes in (2, 4, 8, 12, 20, 40, 60, 120):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], check=True)
        try:
            daemon = Daemon(directory, root=disk).start()
            result = daemon.vmctl("image", "import", layout, status=None)
            reasons.append(result.stderr)
            if result.returncode == 0:
                assert megabytes > 14, "it cannot fit"
                equal(len(daemon.images()), 1, "images")
            else:
                equal(result.returncode, 12, f"the status with {megabytes} MiB: {result.stderr}")
                contains(result.stderr, "free some space")
                equal((daemon.entries("staging"), daemon.entries("roots"), daemon.images()), ([], [], []), f"left with {megabytes} MiB")
            daemon.stop()
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
    equal(reasons[-1], "", "with room enough")


TESTS = [sources, removal, definitions, renaming, logs_before, other_host, autostart, bad_images, confinement, registries, interrupted, at_once, docker_registry, anywhere, full_disk, any_room]


def run_tests(known):
    """Runs those that the command line names, or all; 1 if one failed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored behind '&', by programs started here, too
    failed = 0
    if os.geteuid() != 0:
        print("images are unpacked as root: left out")
        return 0
    tests = [test for test in known if not sys.argv[3:] or test.__name__ in sys.argv[3:]]
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="steled-") as directory:
            begun = time.monotonic()
            try:
                test(directory)
            except (AssertionError, OSError, KeyError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"{test.__name__}: FAILED: {error}", flush=True)
            else:
                print(f"{test.__name__}: ok ({time.monotonic() - begun:.0f} s)", flush=True)
            for daemon in Daemon.started:
                daemon.stop(signal.SIGKILL)
            Daemon.started.clear()
    print(f"{len(tests) - failed} of {len(tests)} tests passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
