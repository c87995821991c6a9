#!/usr/bin/python3
"""vmctl and ssh without a guest: machines of several hosts, and what ssh is told to get into machines.

usage: hosts.py STELED VMCTL [TEST…]
"""
import json
import os
import shutil
import subprocess
import sys

from images import VMCTL, Daemon, contains, equal, run_tests

MACHINE = """<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory><os><type arch='aarch64' machine='virt'>hvm</type></os>{}</domain>"""
STELE = """<metadata><s:machine xmlns:s='urn:stele:machine:1'><s:rootfs type='dir' source='/nowhere'/></s:machine></metadata>"""

# An ssh of our own: what it runs is a file of the name of the host it is asked for.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
exec sh "{}/hosts/$2" "$3"
"""


class Host:
    """A daemon with machines, and an environment in which other hosts are scripts."""

    def __init__(self, directory):
        self.directory = directory
        self.daemon = Daemon(directory).start()
        for part in ("bin", "hosts", "config/stele", "home/.ssh"):
            os.makedirs(os.path.join(directory, part))
        self.write("bin/ssh", SSH.format(directory))
        os.chmod(os.path.join(directory, "bin/ssh"), 0o755)
        self.environment = {**os.environ, "PATH": os.path.join(directory, "bin") + ":" + os.environ["PATH"],
                            "HOME": os.path.join(directory, "home"), "XDG_CONFIG_HOME": os.path.join(directory, "config")}
        self.environment.pop("STELE_HOSTS", None)

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w") as file:
            file.write(text)

    def define(self, name, element=""):
        self.write("machine.xml", MACHINE.format(name, element))
        self.daemon.vmctl("define", os.path.join(self.directory, "machine.xml"))

    def vmctl(self, *arguments, status=0, **environment):
        result = subprocess.run(self.daemon.command(*arguments), capture_output=True, text=True, timeout=60,
                                env={**self.environment, **environment})
        equal(result.returncode, status, f"{arguments}: {result.stderr}")
        return result


def all_hosts(directory):
    """list --all-hosts: the machines of hosts that answer, and an error for each that does not."""
    host = Host(directory)
    host.define("here")
    rows = [{"name": "there", "state": "running", "reason": "started", "stele": True, "host": "a liar", "more": [1]}]
    host.write("hosts/one", f"[ \"$1\" = 'vmctl --json list' ] && cat <<'END'\n{json.dumps(rows)}\nEND\n")
    host.write("hosts/empty", "echo '[]'\n")
    host.write("hosts/down", "echo 'ssh: no route to host \033[31m' >&2; exit 255\n")
    host.write("hosts/strange", "echo '[[1], 2]'\n")
    host.write("hosts/silent", "")
    host.write("config/stele/hosts", "# of this room\none\n\n  empty # nothing yet\n")
    listed = json.loads(host.vmctl("--json", "list", "--all-hosts").stdout)
    equal([(row["host"], row["name"], row["state"]) for row in listed], [("localhost", "here", "stopped"), ("one", "there", "running")], "machines")
    equal(listed[1]["stele"], True, "what else there is of a machine")
    equal([row.split()[:3] for row in host.vmctl("list", "-a").stdout.splitlines()],
          [["HOST", "NAME", "STATE"], ["localhost", "here", "stopped"], ["one", "there", "running"]], "the table")
    result = host.vmctl("list", "-a", status=7, STELE_HOSTS="down one strange silent -oProxyCommand=x absent")
    contains(result.stdout, "there")
    for said in ("down: ssh: no route to host", "strange: its answer is no list", "silent: its answer is no list", "-oProxyCommand=x: it is no", "absent: "):
        contains(result.stderr, said)
    equal("\033" in result.stderr, False, "escape sequences of another host")
    equal(host.vmctl("list", STELE_HOSTS="down").stdout.split()[:3], ["NAME", "STATE", "REASON"], "without --all-hosts nobody is asked")
    host.daemon.stop()
    gone = host.vmctl("--json", "list", "--all-hosts", status=7, STELE_HOSTS="one")
    equal([row["name"] for row in json.loads(gone.stdout)], ["there"], "with no steled here")


def ssh_config(directory):
    """ssh-config: what it prints is what ssh(1) reads, whatever the socket's name."""
    host = Host(directory)
    host.define("dev", STELE)
    host.define("plain")
    odd = os.path.join(directory, "it's a 100% socket")
    os.symlink(host.daemon.socket, odd)
    host.daemon.socket = odd
    text = host.vmctl("ssh-config").stdout
    equal([line for line in text.splitlines() if line.startswith("Host ")], ["Host dev"], "machines that have the agent")
    host.write("config.ssh", host.vmctl("ssh-config", "-A", "--user", "user", "dev").stdout)
    read = subprocess.run([shutil.which("ssh"), "-G", "-F", os.path.join(directory, "config.ssh"), "dev"], capture_output=True, text=True, timeout=60)
    equal(read.returncode, 0, f"ssh -G: {read.stderr}")
    settings = dict(line.split(" ", 1) for line in read.stdout.splitlines() if " " in line)
    equal((settings["user"], settings["forwardagent"], settings["stricthostkeychecking"]), ("user", "yes", "false"), "what ssh reads")
    # As ssh would run it: '%%' is '%', the rest is a shell's.
    command = settings["proxycommand"].replace("%%", "%")
    tried = subprocess.run(["sh", "-c", "exec " + command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    equal(tried.returncode, 125, f"the proxy: {tried.stderr}")
    contains(tried.stderr, "cannot run a program in 'dev': it is stopped")
    listed = json.loads(host.vmctl("--json", "ssh-config", "dev").stdout)
    equal((listed[0]["host"], listed[0]["user"], "'ssh-proxy' '--' 'dev'" in listed[0]["proxy-command"]), ("dev", "root", True), "as JSON")
    contains(host.vmctl("--host", "one", "ssh-config", "dev").stdout, "'--host' 'one'")
    for refused, said in ((("a b",), "cannot have"), (("dev*",), "cannot have"), (("--user", "a\nb", "dev"), "no user's name")):
        contains(host.vmctl("ssh-config", *refused, status=2).stderr, said)
    contains(host.vmctl("--host", "one", "ssh-config", status=2).stderr, "name the machines")
    host.daemon.stop()


TESTS = [all_hosts, ssh_config]

if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
