"""Roots that are translated ahead: what machines take from there, and what becomes of it when files change, are damaged, or
there is no room."""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import time

from boot import FULL
from harness import check, check_contains, check_equal, machine_xml

AHEAD = "<stele:translator ahead='loaded'/>"
FILES = ["bin/dash", "bin/true", "bin/cat", "bin/sleep", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"]
SEVEN, NINE = b"\xb8\x07\x00\x00\x00\xc3", b"\xb8\x09\x00\x00\x00\xc3"  # mov $7, %eax; ret


def small_root(place, name):
    """A root of a few programs, and number: its exit status is 7."""
    root = os.path.join(place.directory, name)
    for path in FILES:
        os.makedirs(os.path.dirname(f"{root}/usr/{path}"), exist_ok=True)
        shutil.copy(os.path.realpath(f"{FULL}/usr/{path}"), f"{root}/usr/{path}")
    for link, target in (("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("usr/bin/sh", "dash"),
                         ("lib64", "usr/lib/x86_64-linux-gnu")):
        os.symlink(target, f"{root}/{link}")
    for folder in ("dev", "proc", "sys", "run", "tmp", "etc"):
        os.mkdir(f"{root}/{folder}")
    source = os.path.join(place.directory, "number.c")
    with open(source, "w", encoding="ascii") as file:
        file.write("int number(void); int main(void) { return number(); }\n"
                   "__attribute__((noinline)) int number(void) { return 7; }\n")
    subprocess.run(["gcc", "-O1", "-fcf-protection=none", source, "-o", f"{root}/usr/bin/number"], check=True)
    os.chmod(root, 0o755)
    return root


def change_number(root):
    """In place: neither size nor time of the file tell."""
    path = f"{root}/usr/bin/number"
    status = os.stat(path)
    with open(path, "r+b") as file:
        data = file.read()
        check_equal(data.count(SEVEN), 1, "places where the number is")
        file.seek(data.index(SEVEN))
        file.write(NINE)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stats(steled):
    return json.loads(steled.vmctl("cache", "stats", "--json").stdout)


def counters(steled, name, program):
    text = steled.sh(name, f"STELE_STATS=/tmp/stats {program}; cat /tmp/stats; echo > /tmp/stats")
    return {key: int(value) for key, value in map(str.split, text.splitlines()) if value.isdigit()}


def number_of(steled, name):
    return steled.run("exec", name, "--", "number").returncode


def used(place):
    """What was translated is used; a file that was changed since is executed as it is; nothing in use is removed."""
    steled = place.shared_steled()
    root = small_root(place, "ahead-root")
    steled.define("ahead", machine_xml("ahead", root, translator=AHEAD))
    made = json.loads(steled.vmctl("translate", "ahead", "--json").stdout)
    check_equal(made["files"], len(FILES) + 1, "files translated")
    change_number(root)
    steled.vmctl("start", "--wait", "ahead", timeout=300)
    taken = counters(steled, "ahead", "/bin/true")
    check(taken["image-regions"] > 50 and taken["regions"] * 5 < taken["image-regions"], f"/bin/true was translated again: {taken}")
    check_equal(number_of(steled, "ahead"), 9, "the number of a file changed since")
    check_equal([(row["root"], row["in-use"]) for row in stats(steled)["roots"]], [(root, True)], "roots translated")
    check_equal(json.loads(steled.vmctl("cache", "prune", "--all", "--json").stdout)["removed"], 0, "removed while in use")
    steled.vmctl("destroy", "ahead")
    check_equal(json.loads(steled.vmctl("cache", "prune", "--all", "--json").stdout)["removed"], 1, "removed")
    check_equal(stats(steled)["roots"], [], "roots translated")
    steled.vmctl("undefine", "ahead")


def store_of(steled):
    found = glob.glob(os.path.join(steled.directory, "state/translations/*/stele"))
    check_equal(len(found), 1, "stores")
    return found[0]


def damage(path, translator, how):
    front, size = os.path.getsize(translator), os.path.getsize(path)
    if how == "cut":
        os.truncate(path, front + (size - front) // 2)
        return
    generator = random.Random(how)
    with open(path, "r+b") as file:
        for _ in range(10000):
            at = generator.randrange((front + 4095) // 4096 * 4096, size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << generator.randrange(8)]))


def damaged(place):
    """A start translates by itself; machines whose store has wrong bits or an end that is missing run as ever."""
    steled = place.shared_steled()
    root = small_root(place, "damaged-root")
    steled.define("damaged", machine_xml("damaged", root, translator=AHEAD))
    for how in (None, "flipped", "cut"):
        if how:
            damage(store_of(steled), os.path.join(steled.translator_dir, "stele"), how)
        steled.vmctl("start", "--wait", "damaged", timeout=300)
        taken = counters(steled, "damaged", "/bin/true")
        passed_over = sum(taken.get("missed-" + why, 0) for why in ("no-region", "damaged", "changed"))
        as_expected = {None: taken["image-regions"] > 50 > passed_over, "flipped": passed_over > 50, "cut": not taken["image-regions"]}
        check(as_expected[how], f"{how}: {taken}")
        check_equal(number_of(steled, "damaged"), 7, f"{how}: the number")
        check_equal(steled.sh("damaged", "for i in 1 2 3; do cat /proc/version | cat; done").count("Linux"), 3, f"{how}: lines")
        steled.vmctl("destroy", "damaged")
    steled.vmctl("undefine", "damaged")
    steled.vmctl("cache", "prune", "--all")


def stopped(place):
    """^C, and a destroy while a start translates, end it soon; what was done is there for the next time."""
    steled = place.steled()
    steled.define("long", machine_xml("long", FULL, translator="<stele:translator ahead='all'/>"))
    for way in ("translate", "start"):
        process = steled.popen(way, "long", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        await_that(lambda: working(steled), "stele-aot runs")
        if way == "translate":
            process.send_signal(signal.SIGINT)
        else:
            steled.vmctl("destroy", "long", timeout=120)
        process.communicate(timeout=600)
        check(process.returncode != 0, f"{way} ended well")
        await_that(lambda: partial(steled) and not working(steled), "what was done is kept")
    check_equal(steled.state("long"), ("stopped", "start-failed"), "state of a machine whose start was given up")
    steled.vmctl("undefine", "long")


def await_that(condition, what):
    deadline = time.monotonic() + 300
    while not condition():
        check(time.monotonic() < deadline, f"not so: {what}")
        time.sleep(0.05)


def partial(steled):
    return glob.glob(os.path.join(steled.directory, "state", "translations", "*", "work", "store"))


def working(steled):
    """Whether a stele-aot of this steled's runs."""
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                name, fields = file.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "stele-aot" and int(fields.split()[1]) == steled.process.pid:
            return True
    return False


def no_room(place):
    """Without room nothing is kept, translate says so, and a machine starts all the same."""
    steled = place.steled(arguments=["--translations-limit", "1"])
    root = small_root(place, "no-room-root")
    steled.define("no-room", machine_xml("no-room", root, translator=AHEAD))
    result = steled.refuses("translate", "no-room", saying="no room")
    check_equal(result.returncode, 12, "status of translate without room")
    steled.vmctl("start", "--wait", "no-room", timeout=300)
    check_equal(number_of(steled, "no-room"), 7, "the number")
    check_contains(steled.log(), "starts without translations", "steled's log")
    steled.vmctl("destroy", "no-room")
    steled.vmctl("undefine", "no-room")


TESTS = [
    ("used", used, True),
    ("damaged", damaged, False),
    ("stopped", stopped, False),
    ("no-room", no_room, False),
]
