"""Machines made of images: vmctl run, create, and what one does with such a machine every day."""
import json
import os
import pty
import re
import shutil
import socket
import subprocess

from boot import FULL
from harness import PATIENCE, Events, check, check_contains, check_equal
from lifecycle import read_until

PROGRAMS = ("dash cat cp chmod dd echo env false grep head hostname id ls mkdir mktemp mount mv od pwd readlink rm seq sha256sum sleep "
            "stat stty tail tar touch true tty uname wc").split()


def make_root(to):
    """A root of a few programs of the large one's: no init, no package manager."""
    for directory in "usr/bin usr/lib/x86_64-linux-gnu usr/lib64 etc tmp root proc sys dev run var".split():
        os.makedirs(os.path.join(to, directory))
    for link in ("bin", "lib", "lib64"):
        os.symlink("usr/" + link, os.path.join(to, link))
    os.chmod(os.path.join(to, "tmp"), 0o1777)
    os.symlink("dash", os.path.join(to, "usr/bin/sh"))
    libraries = set()
    for program in PROGRAMS:
        shutil.copy2(os.path.join(FULL, "usr/bin", program), os.path.join(to, "usr/bin", program))
        shown = subprocess.run(["chroot", FULL, "ldd", "/usr/bin/" + program], capture_output=True, text=True).stdout
        libraries |= set(re.findall(r"/\S+\.so[\w.]*", shown))
    for library in libraries | {"/lib64/ld-linux-x86-64.so.2"}:
        inside = library if library.startswith("/usr") else "/usr" + library
        shutil.copy2(FULL + inside, to + inside)
    with open(os.path.join(to, "etc/passwd"), "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    with open(os.path.join(to, "etc/group"), "w") as file:
        file.write("root:x:0:\nuser:x:1000:\nstaff:x:50:\n")
    return to


def image(steled):
    """Imports the small root once a steled."""
    root = os.path.join(steled.directory, "small")
    if not os.path.exists(root):
        make_root(root + ".new")
        os.rename(root + ".new", root)
        steled.vmctl("image", "import", root)
    return "small"


def run(steled, *arguments, **options):
    return steled.run("run", "-m", "512M", "--cpus", "1", *arguments, timeout=400, **options)


def check_run(result, status, output, what):
    check_equal((result.returncode, result.stdout), (status, output), f"{what} ({result.stderr})")


def statuses(place):
    """What a command returns, and that --rm leaves nothing, however it ends."""
    steled = place.shared_steled()
    name = image(steled)
    script = "read line; echo $line; echo $A$B $(id -u):$(id -g) $(pwd) $(uname -m); ls /proc/1/exe >/dev/null && exit 7"
    result = run(steled, "--rm", "-i", "-e", "A=a b", "-e", "B", "-u", "user:staff", "-w", "/var", name, "sh", "-c", script,
                 input="typed\n", env={**os.environ, "B": "own"})
    check_equal((result.returncode, result.stdout.split("\n")[:2]), (2, ["typed", "a bown 1000:50 /var x86_64"]), f"run ({result.stderr})")
    check_run(run(steled, "--rm", name, "no-such-program"), 127, "", "no such program")
    check_run(run(steled, "--rm", "-v", "/nowhere-to-be-found:/x", name, "true"), 125, "", "a share that is not there")
    check_equal([m["name"] for m in steled.machines() if m["name"].startswith("small-")], [], "machines left")
    check_equal(os.listdir(os.path.join(steled.directory, "state", "changes")), [], "disks left")


def killed(place):
    """A machine of run --rm goes with its client, and with steled."""
    steled = place.steled()
    name = image(steled)
    for victim in ("client", "steled"):
        client = steled.popen("run", "--rm", "--name", victim, "-m", "512M", name, "sh", "-c", "echo up; sleep 1000",
                              stdout=subprocess.PIPE)
        check_equal(client.stdout.readline(), b"up\n", "the command")
        if victim == "client":
            events = Events(steled)
            client.kill()
            events.wait(name=victim, event="undefined")
            events.close()
        else:
            steled.kill()
            steled.start()
            events = Events(steled)
            if victim in [m["name"] for m in steled.machines()]:
                events.wait(name=victim, event="undefined")
            events.close()
        client.wait(60 * PATIENCE)
        client.stdout.close()
        check(victim not in [m["name"] for m in steled.machines()], "it is gone")
    steled.stop()


def everyday(place):
    """A machine that lasts: its changes, shares, ports, copies, clone, statistics."""
    steled = place.shared_steled()
    name = image(steled)
    shared = os.path.join(steled.directory, "shared dir")
    os.makedirs(shared)
    with open(os.path.join(shared, "file"), "w") as file:
        file.write("of the host\n")
    script = "cat '/mnt/a b/file'; echo of the guest >'/mnt/a b/new'; echo kept >/root/kept; touch /ro/x 2>/dev/null || echo refused"
    result = run(steled, "--name", "every", "-v", shared + ":/mnt/a b", "-v", shared + ":/ro:ro", name, "sh", "-c", script)
    check_run(result, 0, "of the host\nrefused\n", "run")
    check_equal(open(os.path.join(shared, "new")).read(), "of the guest\n", "what the guest wrote")
    check_equal(steled.state("every"), ("stopped", "shutdown"), "state after the command")
    steled.vmctl("clone", "every", "pair")
    steled.vmctl("start", "--wait", "every")
    check_equal(steled.sh("every", "cat /root/kept; rm /root/kept"), "kept\n", "changes outlast a boot")
    copies(steled, "every")
    ports(steled, "every")
    stats = json.loads(steled.vmctl("stats", "--json", "every").stdout)["every"]
    check(stats["cpu-time"] > 0 and stats["memory"] == 512 << 20 and stats["block-written"] > 0, f"stats: {stats}")
    check_contains(steled.vmctl("explain", "every").stdout, "qemu-system-aarch64", "explain")
    check_contains(steled.vmctl("logs", "every").stdout, "stele-agent", "logs")
    check_contains(steled.vmctl("logs", "--boot=-1", "every").stdout, "stele-agent", "logs of the boot before")
    steled.refuses("rename", "every", "other", saying="not stopped: 'vmctl shutdown' it first")
    steled.vmctl("destroy", "every")
    steled.vmctl("undefine", "every")
    steled.vmctl("rename", "pair", "twin")
    steled.vmctl("start", "--wait", "twin", timeout=240)
    check_equal(steled.sh("twin", "cat /root/kept"), "kept\n", "a clone has the changes, and those of its own")
    steled.vmctl("destroy", "twin")
    steled.vmctl("undefine", "twin")


def copies(steled, name):
    here = os.path.join(steled.directory, "copies")
    os.makedirs(os.path.join(here, "tree/sub"))
    data = os.urandom(700000)
    for path, mode in (("tree/data", 0o640), ("tree/sub/exec", 0o755), ("tree/we|ird & \\name", 0o600)):
        with open(os.path.join(here, path), "wb") as file:
            file.write(data)
        os.chmod(os.path.join(here, path), mode)
    os.symlink("data", os.path.join(here, "tree/link"))
    steled.vmctl("cp", os.path.join(here, "tree"), f"{name}:/tmp")          # into a directory that is there
    steled.vmctl("cp", os.path.join(here, "tree"), f"{name}:/tmp/as")       # under another name
    steled.vmctl("cp", os.path.join(here, "tree/we|ird & \\name"), f"{name}:/tmp/fi|le")
    listed = steled.sh(name, "cd /tmp; stat -c '%a %s %n' tree/data as/sub/exec 'fi|le'; readlink as/link")
    check_equal(listed, "640 700000 tree/data\n755 700000 as/sub/exec\n600 700000 fi|le\ndata\n", "what was copied in")
    steled.vmctl("cp", f"{name}:/tmp/as", os.path.join(here, "back"))
    steled.vmctl("cp", f"{name}:/tmp/fi|le", here)
    for path, mode in (("back/data", 0o640), ("back/sub/exec", 0o755), ("fi|le", 0o600)):
        check_equal(os.stat(os.path.join(here, path)).st_mode & 0o777, mode, f"mode of {path}")
        check(open(os.path.join(here, path), "rb").read() == data, f"content of {path}")
    check_equal(os.readlink(os.path.join(here, "back/link")), "data", "a link")
    steled.refuses("cp", f"{name}:/nowhere", here, saying="nowhere")
    steled.refuses("cp", "a", "b", saying="NAME:PATH")
    shutil.rmtree(here)


def ports(steled, name):
    """A port of the host that reaches the guest: the guest's end is what nc would be, made of a fifo-less shell."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    steled.vmctl("port", name, "add", f"{number}:7777")
    with socket.create_connection(("127.0.0.1", number), 30):
        pass  # QEMU listens
    steled.refuses("port", name, "add", f"{number}:7777", saying="cannot forward port")
    steled.refuses("port", name, "add", "70000:1", saying="a port is")
    steled.vmctl("port", name, "remove", f"{number}:7777")
    try:
        socket.create_connection(("127.0.0.1", number), 30).close()
    except ConnectionRefusedError:
        return
    check(False, "the port is still open")


def detached(place):
    """run -d: the command is the machine's own; logs and wait tell of it. A terminal: run -it."""
    steled = place.shared_steled()
    name = image(steled)
    result = run(steled, "-d", "--name", "apart", "-e", "WORD=said it", name, "sh", "-c", "echo $WORD; sleep 5; exit 9")
    check_run(result, 0, "apart\n", "run -d")
    follow = steled.popen("logs", "-f", "apart", stdout=subprocess.PIPE, text=True)
    waited = steled.run("wait", "apart", timeout=300)
    check_equal((waited.returncode, waited.stdout), (9, "9\n"), "wait")
    check_contains(follow.communicate(timeout=60 * PATIENCE)[0], "said it", "logs -f")
    check_equal(follow.returncode, 0, "logs -f ends with the machine")
    check_equal(steled.state("apart"), ("stopped", "command-exited"), "state")
    steled.vmctl("undefine", "apart")
    master, slave = pty.openpty()
    process = steled.popen("run", "--rm", "-it", "-m", "512M", name, "sh", "-c", "tty; read line; echo got=$line; cat",
                           stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    read_until(master, b"/dev/pts/", timeout=300)
    os.write(master, b"word\r")
    read_until(master, b"got=word")
    os.write(master, b"\x03")
    # What vmctl says while it removes the machine is read, or it would wait for room.
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        pass
    check_equal(process.wait(60 * PATIENCE), 128 + 2, "^C")
    os.close(master)


def with_init(place):
    """create boots the image's own init, and what it changes stays."""
    steled = place.shared_steled()
    steled.vmctl("image", "import", "--name", "full", FULL, timeout=900)
    steled.vmctl("create", "whole", "--image", "full", "-m", "1G", "-p", "127.0.0.1:0:80".replace(":0:", ":18181:"))
    steled.vmctl("start", "--wait", "whole", timeout=300)
    check_contains(steled.sh("whole", "readlink /proc/1/exe; echo here >/etc/mark"), "systemd", "process 1")
    steled.vmctl("shutdown", "whole", timeout=300)
    steled.vmctl("start", "--wait", "whole", timeout=300)
    check_equal(steled.sh("whole", "cat /etc/mark"), "here\n", "what was changed")
    steled.vmctl("destroy", "whole")
    steled.vmctl("undefine", "whole")


# Says what it was started with, the keys it would take, and what the connection brings.
STUB_SSHD = r"""mkdir -p /etc/ssh; : >/etc/ssh/ssh_host_a_key; cat >/usr/bin/sshd <<'END'
#!/bin/sh
keys=${3#AuthorizedKeysFile=}; cat "${keys% *}"; echo "$1 $2 ${keys#* } $STELE_SSH_KEYS"; cat
END
chmod 755 /usr/bin/sshd"""


def ssh(steled, name):
    """ssh-proxy: an sshd in the machine for the connection, with our public keys."""
    home = os.path.join(steled.directory, "home")
    os.makedirs(os.path.join(home, ".ssh"))
    for file, text in (("id_one.pub", "ssh-one AAAA me\n"), ("id_one", "secret\n"), ("known.pub", "no key of ours\n")):
        with open(os.path.join(home, ".ssh", file), "w") as out:
            out.write(text)
    environment = {key: value for key, value in os.environ.items() if key != "SSH_AUTH_SOCK"}
    result = steled.run("ssh-proxy", name, env={**environment, "HOME": home})
    check_equal(result.returncode, 127, f"without an sshd ({result.stderr})")
    check_contains(result.stderr, "install openssh-server", "without an sshd")
    steled.sh(name, STUB_SSHD)
    result = steled.run("ssh-proxy", name, env={**environment, "HOME": home}, input="SSH-2.0-client\n")
    check_run(result, 0, "ssh-one AAAA me\n\n-i -o .ssh/authorized_keys \nSSH-2.0-client\n", "ssh-proxy")
    check_equal(steled.sh(name, "ls /run | grep -c ssh-keys || true"), "0\n", "keys that are left")


def kept(place):
    """Snapshots of what a machine has changed, and ssh into it."""
    steled = place.shared_steled()
    steled.vmctl("create", "keep", "--image", image(steled), "--init", "none", "-m", "512M", "--cpus", "1")
    steled.vmctl("start", "--wait", "keep", timeout=300)
    ssh(steled, "keep")
    steled.sh("keep", "echo first >/root/file")
    steled.refuses("snapshot", "keep", "create", "a", saying="'vmctl shutdown' it first")
    steled.vmctl("shutdown", "keep", timeout=300)
    steled.vmctl("snapshot", "keep", "create", "a")
    steled.vmctl("start", "--wait", "keep", timeout=300)
    check_equal(steled.sh("keep", "cat /root/file; echo second >/root/file; rm /usr/bin/sshd"), "first\n", "after a snapshot")
    steled.vmctl("shutdown", "keep", timeout=300)
    steled.vmctl("snapshot", "keep", "restore", "a")
    steled.vmctl("start", "--wait", "keep", timeout=300)
    check_equal(steled.sh("keep", "cat /root/file /usr/bin/sshd | head -n 2"), "first\n#!/bin/sh\n", "what the snapshot brought back")
    steled.vmctl("destroy", "keep")
    steled.vmctl("undefine", "keep")
    check_equal(os.listdir(os.path.join(steled.directory, "state", "snapshots")), [], "snapshots left")


TESTS = [
    ("kept", kept, False),
    ("statuses", statuses, True),
    ("everyday", everyday, False),
    ("detached", detached, False),
    ("killed", killed, False),
    ("with-init", with_init, False),
]
