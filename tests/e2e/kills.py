"""kill -9 and SIGSTOP of whoever takes part, at every state of a machine: states come right without a restart of anything,
and nothing is left behind. The guest is stub-agent.c, which is up in seconds.

A round is a state and a victim; all pairs are gone through in an order that STELE_SEED (default: 1) decides.
STELE_KILL_ROUNDS is how many (./dev kills ROUNDS).
"""
import itertools
import os
import random
import signal
import subprocess
import time

from boot import FULL
from faults import await_true, define_stub, resident
from harness import check, check_equal, machine_xml, qemu_pids

ROUNDS = int(os.environ.get("STELE_KILL_ROUNDS", "0"))
SEED = int(os.environ.get("STELE_SEED", "1"))
SETTLE_SECONDS = 300
WARM_ROUNDS = 4

# State → victim → what the machine may be in the end, before it is destroyed. A victim that is not there has no row.
EXPECTED = {
    "defined": {"client": {"stopped"}, "steled": {"stopped"}},
    "starting": {"client": {"booting", "running"}, "qemu": {"stopped"}, "virtiofsd": {"failed", "stopped"},
                 "steled": {"stopped", "booting", "running"}, "frozen": {"starting", "booting"}},
    "booting": {"client": {"booting", "running"}, "qemu": {"stopped"}, "virtiofsd": {"failed"},
                "steled": {"booting", "running"}, "frozen": {"booting"}},
    "up": {"client": {"running"}, "qemu": {"stopped"}, "virtiofsd": {"failed"}, "steled": {"running"}, "frozen": {"running"}},
    "paused": {"client": {"paused"}, "qemu": {"stopped"}, "virtiofsd": {"failed"}, "steled": {"paused"}, "frozen": {"paused"}},
    "stopping": {"client": {"stopping"}, "qemu": {"stopped"}, "virtiofsd": {"failed"}, "steled": {"booting", "running"},
                 "frozen": {"stopping"}},
}


class Campaign:
    def __init__(self, place, rounds):
        self.steled = place.steled()
        self.place, self.rounds, self.random = place, rounds, random.Random(SEED)
        self.name = define_stub(place, self.steled, "deaf")
        self.waiting = []  # clients under way
        self.baseline = None

    def state(self):
        return next(machine["state"] for machine in self.steled.machines() if machine["name"] == self.name)

    def client(self, *arguments):
        self.waiting.append(self.steled.popen(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL))

    def pids(self, program):
        found = []
        for pid in qemu_pids(self.steled.directory):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if program in file.read().split(b"\0")[0]:
                        found.append(pid)
            except OSError:
                pass
        return found

    # Ways into a state.

    def reach(self, state):
        if state == "defined":
            self.client("define", "--replace", os.path.join(self.steled.directory, f"{self.name}.xml"))
        elif state == "starting":
            self.client("start", self.name)
            await_true(lambda: self.state() != "stopped", "it starts", SETTLE_SECONDS)
            time.sleep(self.random.random() * 0.3)  # not for an event: whatever the moment, all must be well
        elif state == "booting":
            self.steled.vmctl("start", self.name)
            self.client("exec", self.name, "true")
            time.sleep(self.random.random())  # ditto
        elif state == "paused":
            self.steled.vmctl("start", self.name)
            self.steled.vmctl("suspend", self.name)
        else:
            self.steled.vmctl("start", "--wait", self.name)
            if state == "stopping":
                self.client("shutdown", "--timeout", "600", self.name)
                await_true(lambda: self.state() == "stopping", "it is asked to stop")

    # What happens to whom.

    def strike(self, victim):
        if victim == "client":
            self.client("events")
            for client in self.waiting:
                client.kill()
        elif victim == "steled":
            self.steled.kill()
            self.steled.start()
        else:
            program = b"virtiofsd" if victim == "virtiofsd" else b"qemu-system"
            await_true(lambda: self.pids(program) or self.state() not in ("starting",), f"{program} is there")
            pids = self.pids(program)
            if pids:
                os.kill(self.random.choice(pids), signal.SIGSTOP if victim == "frozen" else signal.SIGKILL)

    def round(self, state, victim):
        what = f"{victim} in state {state}"
        self.reach(state)
        self.strike(victim)
        wanted = EXPECTED[state][victim]
        await_true(lambda: self.state() in wanted, lambda: f"{what}: {self.state()} should become one of {wanted}", SETTLE_SECONDS)
        if victim != "frozen":  # libvirt asks QEMU, which does not answer
            check(self.steled.info(self.name)["state"], f"{what}: info")
        if self.state() != "stopped":
            result = self.steled.run("destroy", self.name, timeout=120)
            check(result.returncode == 0 or self.state() == "stopped", f"{what}: destroy: {result.stderr}")
        check_equal(self.state(), "stopped", f"{what}: the state after all")
        self.check_nothing_left(what)

    def check_nothing_left(self, what):
        for client in self.waiting:
            client.kill()
            client.wait()
        self.waiting.clear()
        await_true(lambda: not qemu_pids(self.steled.directory), lambda: f"{what}: processes are left: {qemu_pids(self.steled.directory)}", SETTLE_SECONDS)
        for views in ("state/shares", "state/lent"):
            views = os.path.join(self.steled.directory, views)
            await_true(lambda: not os.path.isdir(views) or not os.listdir(views), f"{what}: no view is left")
        descriptors = lambda: len(os.listdir(f"/proc/{self.steled.process.pid}/fd"))
        if self.baseline is None or self.baseline[0] != self.steled.process.pid:
            return
        await_true(lambda: descriptors() <= self.baseline[1], lambda: f"{what}: {descriptors()} descriptors, {self.baseline[1]} before", SETTLE_SECONDS)

    def take_baseline(self):
        pid = self.steled.process.pid
        self.baseline = (pid, len(os.listdir(f"/proc/{pid}/fd")))
        self.memory = []

    def check_memory(self, what):
        """Threads and their heaps are made in the first rounds; after them memory stays as it is."""
        self.memory.append(resident(self.steled.process.pid))
        if len(self.memory) > WARM_ROUNDS:
            grown = self.memory[-1] - self.memory[WARM_ROUNDS - 1]
            check(grown < 8192, f"{what}: steled has grown by {grown} KiB: {self.memory}")

    def pairs(self):
        """All of them, those that leave steled alone first: then its memory can be compared."""
        while True:
            pairs = [(state, victim) for state, victims in EXPECTED.items() for victim in victims]
            self.random.shuffle(pairs)
            yield from sorted(pairs, key=lambda pair: pair[1] == "steled")

    def run(self, pairs):
        self.round("booting", "qemu")  # what is made once is made
        self.take_baseline()
        for state, victim in itertools.islice(pairs, self.rounds):
            self.round(state, victim)
            if self.steled.process.pid == self.baseline[0]:
                self.check_memory(f"{victim} in state {state}")
            else:
                self.take_baseline()
        self.steled.vmctl("undefine", self.name)
        self.steled.stop()


def start_after_giving_up(place):
    """What ends a start that is given up ends no later one."""
    campaign = Campaign(place, 0)
    steled, name = campaign.steled, campaign.name
    for _ in range(6):
        campaign.reach("starting")
        steled.vmctl("destroy", name)
        steled.vmctl("start", name)
        time.sleep(1)  # for what may still be under way to do its harm
        check(campaign.state() in ("booting", "running"), f"after a start that was given up the next ended, too: {steled.state(name)}")
        steled.vmctl("destroy", name)
        campaign.check_nothing_left("a start after one that was given up")
    steled.vmctl("undefine", name)
    steled.stop()


def start_interrupted(place):
    """A start that steled has not lived to complete is no machine that somebody has paused, nor one that is up."""
    campaign = Campaign(place, 0)
    steled, name = campaign.steled, campaign.name
    campaign.client("start", name)
    await_true(lambda: campaign.pids(b"qemu-system"), "QEMU is there", SETTLE_SECONDS)
    for pid in campaign.pids(b"qemu-system"):
        os.kill(pid, signal.SIGSTOP)
    campaign.strike("steled")
    check(campaign.state() != "paused", f"the state of a machine that was being started: {steled.state(name)}")
    for pid in campaign.pids(b"qemu-system"):
        os.kill(pid, signal.SIGCONT)
    await_true(lambda: campaign.state() == "stopped", lambda: f"it should have stopped: {steled.state(name)}", SETTLE_SECONDS)
    campaign.check_nothing_left("an interrupted start")
    steled.vmctl("start", "--wait", name)
    steled.vmctl("destroy", name)
    steled.vmctl("undefine", name)
    steled.stop()


# Every state and every victim, in seconds.
SLICE = [("starting", "qemu"), ("booting", "frozen"), ("up", "virtiofsd"), ("stopping", "qemu"), ("paused", "client"),
         ("starting", "virtiofsd"), ("stopping", "frozen"), ("starting", "steled"), ("stopping", "steled"), ("defined", "steled")]


def slice_of_campaign(place):
    Campaign(place, len(SLICE)).run(SLICE)


def whole_campaign(place):
    campaign = Campaign(place, ROUNDS or 28)
    campaign.run(campaign.pairs())


def clients_killed(place):
    """kill -9 of the clients of 100 programs, at any moment of their lives: the programs go, and steled is as before."""
    steled = place.shared_steled()
    steled.define("crowd", machine_xml("crowd", FULL))
    steled.vmctl("start", "--wait", "crowd")
    steled.sh("crowd", "true")
    descriptors = lambda: len(os.listdir(f"/proc/{steled.process.pid}/fd"))
    before, memory, moments = descriptors(), resident(steled.process.pid), random.Random(SEED)
    for _ in range(5):
        programs = [steled.popen("exec", "crowd", "--", "sh", "-c", "cat; sleep 1000", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(20)]
        for program in programs:
            time.sleep(moments.random() * 0.3)  # not for an event: at any moment
            program.kill()
            program.wait()
            program.stdin.close()
    await_true(lambda: descriptors() <= before, f"{descriptors()} descriptors, {before} before", 120)
    await_true(lambda: steled.sh("crowd", "pgrep -c '^(cat|sh)$' || true").strip() in ("0", "1"), "the programs have gone", 120)
    grown = resident(steled.process.pid) - memory
    check(grown < 8192, f"steled has grown by {grown} KiB")
    steled.vmctl("destroy", "crowd")
    steled.vmctl("undefine", "crowd")


TESTS = [
    ("slice", slice_of_campaign, True),
    ("start-after-giving-up", start_after_giving_up, True),
    ("start-interrupted", start_interrupted, True),
    ("campaign", whole_campaign, False),
    ("clients-killed", clients_killed, False),
]
