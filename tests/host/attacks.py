#!/usr/bin/python3
"""What registries and layers may try beyond images.py: redirections, answers without end, whiteouts of files with two names,
^C while a root is unpacked.

usage: attacks.py STELED VMCTL [TEST…]
"""
import os
import shutil
import sys

import images
from images import BASE, Daemon, Image, Registry, RegistryHandler, equal, good, gz, run_tests, two_layers
from rootless import LOWER, UPPER, interrupt_import


class Handler(RegistryHandler):
    def do_GET(self):
        server, part = self.server, "/blobs/" if "/blobs/" in self.path else "/manifests/" if "/manifests/" in self.path else None
        if part and part == server.endless:
            return self.pour()
        if part and part == server.part and server.elsewhere:
            self.send_response(307)
            self.send_header("Location", server.elsewhere(self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().do_GET()

    def pour(self):
        """More than was announced: a length that is none, and bytes without end."""
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.end_headers()
        try:
            while not self.server.go_on.is_set():
                self.wfile.write(b"[" * 65536)
                self.server.poured += 65536
        except OSError:
            pass


class Elsewhere(Registry):
    """A registry whose blobs or manifests are somewhere else, as `elsewhere` says of a path."""

    def __init__(self, **served):
        super().__init__(**served)
        self.RequestHandlerClass = Handler
        self.part, self.elsewhere, self.endless, self.poured = "/blobs/", None, None, 0


def nothing_left(daemon, what):
    images.await_empty(daemon, "staging")
    equal((daemon.entries("roots"), daemon.images()), ([], []), f"left by {what}")


def redirections(directory):
    """To another server: the digest decides. To itself, for ever, to a file, to nowhere: errors, and nothing is left."""
    app = two_layers()
    registry, other = Elsewhere(app=app), Elsewhere(app=app)
    wrong = Elsewhere(app=app)
    wrong.images = {"app": Image(*[gz(BASE)] * 2)}
    for name in app.blobs:
        wrong.images["app"].blobs[name] = b"something else of the same name"
    daemon = Daemon(directory, "--image-stall", "5").start()
    pull = ("image", "pull", "--insecure", registry.reference("app"))
    outside = os.path.join(directory, "secret")
    open(outside, "w").write("of the host")
    for what, elsewhere in (("a loop", lambda path: path), ("a file", lambda path: "file://" + outside), ("nowhere", lambda path: "http://127.0.0.1:1" + path),
                            ("wrong bytes", lambda path: f"http://127.0.0.1:{wrong.server_port}" + path), ("no address", lambda path: "::%%")):
        for registry.part in ("/blobs/", "/manifests/"):
            registry.elsewhere = elsewhere
            result = daemon.vmctl(*pull, status=None)
            assert result.returncode in (6, 14), f"{what} of {registry.part}: {result.returncode}: {result.stderr}"
            equal("of the host" in result.stderr, False, f"what {what} tells of the host")
            nothing_left(daemon, f"{what} of {registry.part}")
    registry.part, registry.elsewhere = "/blobs/", lambda path: f"http://127.0.0.1:{other.server_port}" + path
    daemon.vmctl(*pull)
    equal(len(daemon.images()), 1, "by way of another server")
    daemon.stop()
    for server in (registry, other, wrong):
        server.shutdown()


def endless(directory):
    """Manifests and layers that never end are given up, long before the disk or memory is full."""
    registry = Elsewhere(app=two_layers())
    daemon = Daemon(directory, "--image-stall", "5", "--image-max", "64").start()
    for registry.endless in ("/manifests/", "/blobs/"):
        registry.poured = 0
        result = daemon.vmctl("image", "pull", "--insecure", registry.reference("app"), status=None)
        assert result.returncode in (6, 14), f"{registry.endless}: {result.returncode}: {result.stderr}"
        assert registry.poured < 1 << 30, f"{registry.poured} bytes of {registry.endless} were taken"
        nothing_left(daemon, f"endless {registry.endless}")
    size = sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(daemon.root) for name in names)
    assert size < 200 << 20, f"{size} bytes are left of it"
    registry.endless = None
    daemon.vmctl("image", "pull", "--insecure", registry.reference("app"))
    daemon.stop()
    registry.go_on.set()
    registry.shutdown()


def whiteouts(directory):
    """Of files, directories, one of two names of a file, and opaque ones, with directories below."""
    daemon = Daemon(directory).start()
    daemon.vmctl("image", "import", Image(gz(LOWER), UPPER).layout(os.path.join(directory, "layers")))
    root = daemon.inspect("layers")["path"]
    found = sorted(os.path.relpath(os.path.join(top, name), root) for top, directories, files in os.walk(root) for name in directories + files)
    equal(found, ["closed", "dir", "dir/b", "link", "locked", "locked/in", "null", "opaque", "opaque/new", "second", "suid"], "what is left")
    equal(open(os.path.join(root, "second")).read(), "linked", "a file whose other name is gone")
    equal(os.stat(os.path.join(root, "second")).st_nlink, 1, "its names")
    status = os.stat(os.path.join(root, "closed"))
    equal((status.st_mode & 0o7777, status.st_uid, status.st_gid), (0o600, 1000, 50), "a user's file")
    daemon.stop()


def unpacking(directory):
    """^C, and the end of steled, while umoci unpacks."""
    tools, layout = os.path.join(directory, "tools"), good().layout(os.path.join(directory, "layers"))
    os.makedirs(tools)
    real = shutil.which("umoci")
    with open(os.path.join(tools, "umoci"), "w") as file:
        file.write(f"#!/bin/sh\n{real} \"$@\"\n[ -e {directory}/go ] || {{ echo >$TMPDIR/reached; exec sleep 1000; }}\n")
    os.chmod(os.path.join(tools, "umoci"), 0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = tools + ":" + path
    try:
        daemon = Daemon(directory).start()
        for how in ("client", "steled"):
            interrupt_import(daemon, layout, how)
            nothing_left(daemon, how)
        open(os.path.join(directory, "go"), "w").close()
        daemon.vmctl("image", "import", layout)
        equal(len(daemon.images()), 1, "the next try")
        daemon.stop()
    finally:
        os.environ["PATH"] = path


TESTS = [redirections, endless, whiteouts, unpacking]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
