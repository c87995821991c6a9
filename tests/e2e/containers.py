"""podman and docker in a machine: an image made there runs as x86-64, on a network of its own, and ends in order."""
import os
import subprocess

from harness import ROOT, check_contains, check_equal, machine_xml
from translations import small_root

# An image of one static program.
PREPARE = r"""
set -e
mkdir -p /tmp/tree/bin /tmp/tree/www
cp /bin/busybox /tmp/tree/bin/
for tool in sh cat echo grep httpd ip sleep uname wget; do ln -s busybox /tmp/tree/bin/$tool; done
echo from the container >/tmp/tree/www/index.html
tar -C /tmp/tree -c . >/tmp/image.tar
"""

# $1 is podman or docker. A container's address, its forwarded port, another container's way to it, what it sees.
LOOK = r"""
set -e
$1 import /tmp/image.tar local:1 >/dev/null
$1 run --rm local:1 sh -c 'uname -m; grep -m1 -o VirtualStele /proc/cpuinfo; exit 42' || echo status $?
$1 run -d --name web -p 8080:80 local:1 httpd -f -p 80 -h /www >/dev/null
address=$($1 inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web)
$1 run --rm local:1 wget -q -O - http://$address/
until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do sleep 1; done
exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; grep from <&3
$1 exec web sh -c 'echo inside $(ip -4 -o addr show eth0 | grep -c inet)'
$1 info | grep -i -o -m1 -e 'graphDriverName: overlay' -e 'Storage Driver: overlay2' | sed 's/.*: //; s/2$//'
$1 stop -t 2 web >/dev/null; $1 rm -f web >/dev/null; $1 ps -aq | wc -l
"""

# On any host with both, dockerd forbids what crosses other bridges than its own: br_netfilter, and a policy for FORWARD.
WITHOUT_DOCKER = """
systemctl stop docker.socket docker.service
iptables -P FORWARD ACCEPT
"""

EXPECTED = ["x86_64", "VirtualStele", "status 42", "from the container", "from the container", "inside 1", "overlay", "0"]


def machine(place):
    steled = place.shared_steled()
    if not any(m["name"] == "containers" for m in steled.machines()):
        root = subprocess.run([os.path.join(ROOT, "dev"), "rootfs", "containers"], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.strip()
        steled.define("containers", machine_xml("containers", root, init="system", memory=3072, vcpus=2))
        steled.vmctl("start", "--wait=system", "--timeout=1200", "containers", timeout=1500)
        steled.sh("containers", PREPARE)
    return steled


def engine_test(engine):
    def test(place):
        steled = machine(place)
        if engine == "podman":
            steled.sh("containers", WITHOUT_DOCKER, timeout=900)
        else:
            steled.sh("containers", "systemctl start docker.service", timeout=900)
        got = steled.run("exec", "containers", "--", "bash", "-c", LOOK, "bash", engine, timeout=1800)
        check_equal((got.returncode, got.stdout.splitlines()), (0, EXPECTED), f"{engine} ({got.stderr[-3000:]})")
    return test


DROP_IN = "etc/containers/containers.conf.d/00-stele.conf"
CHOICE = "etc/containers/containers.conf"


def settings(place):
    """podman's settings: offered where the root chooses none, and whatever is in their place the machine starts."""
    steled = place.shared_steled()
    root = small_root(place, "settings")
    os.symlink("dash", f"{root}/usr/bin/podman")
    os.makedirs(os.path.dirname(f"{root}/{DROP_IN}"))
    steled.define("settings", machine_xml("settings", root, mode="overlay"))

    def offered():
        steled.vmctl("start", "--wait", "settings", timeout=60)
        text = steled.sh("settings", f"cat /{DROP_IN}") if os.path.isfile(f"{root}/{DROP_IN}") or not os.path.lexists(
            f"{root}/{DROP_IN}") else ""
        steled.vmctl("destroy", "settings")
        return text

    check_contains(offered(), '\nseccomp_profile = "unconfined"\n', "settings offered")
    for path in (DROP_IN, CHOICE):
        os.mkfifo(f"{root}/{path}")
        offered()
        os.remove(f"{root}/{path}")
    with open(f"{root}/{DROP_IN}", "w", encoding="ascii") as file:
        file.write("# the root's\n")
    check_equal(offered(), "# the root's\n", "settings of the root")
    steled.vmctl("undefine", "settings")


TESTS = [("settings", settings, False), ("podman", engine_test("podman"), False), ("docker", engine_test("docker"), False)]
