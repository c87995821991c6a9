"""What the differential tests share: the translator's command, running a program both ways, workers.

The processor this runs on is the oracle, so the tests need an x86-64 host. STELE names the translator
command (default: ./dev run), for example STELE=qemu-x86_64 to try the tests themselves.

A native run tells what every x86-64 processor does. What only this host shows (its hypervisor's CPUID), what its
processor may lack and what the tests' own caller has set up (ignored signals, limits) must not reach a result.
"""
import concurrent.futures
import functools
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("STELE_BUILD", ROOT + "/build")
JOBS = int(os.environ.get("STELE_JOBS", len(os.sched_getaffinity(0))))

# The C library chooses functions by CPU feature, and those with FMA round differently: both runs use the
# ones that need no more than x86-64-v2.
ENVIRONMENT = dict(os.environ, GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-FMA,-FMA4,-BMI2")


# A caller's nohup ignores SIGHUP, and its limits may be any: programs start as a login shell would start them.
WITH_DEFAULT_SIGNALS = ["env", "--default-signal"]
STACK_BYTES = 8 << 20


# What the tests take for granted: x86-64-v2, every x86-64 processor since 2013. More than that is asked for row by row.
LEVEL = {"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}


def require_oracle():
    """Exits with 77, 'skipped', on a host that cannot run x86-64 programs itself."""
    if os.uname().machine != "x86_64":
        print("skipped: the oracle is an x86-64 processor")
        sys.exit(77)
    if missing := LEVEL - processor_flags():
        print("skipped: this processor is not an x86-64-v2: it lacks " + " ".join(sorted(missing)))
        sys.exit(77)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES if hard < 0 else min(STACK_BYTES, hard), hard))


def processor_flags():
    """The features of this processor, by their names in /proc/cpuinfo, and its vendor's name."""
    flags = set()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "vendor_id"):
                flags |= set(value.split())
    return flags


def translator():
    """The command prefix that runs a program under the translator."""
    if os.environ.get("STELE"):
        return shlex.split(os.environ["STELE"])
    return [ROOT + "/dev", "run"]


class Result:
    """Status (negative: signal), output and errors of a finished program; status None: out of time."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def same_as(self, other):
        return self.status == other.status and self.out == other.out

    def how(self):
        if self.status is None:
            return "did not finish"
        return f"signal {-self.status}" if self.status < 0 else f"status {self.status}"


def run(command, timeout, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("env", ENVIRONMENT)
    with subprocess.Popen(WITH_DEFAULT_SIGNALS + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
            return Result(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            return Result(None, out, err)


def native(command, timeout=300, **options):
    return run(command, timeout, **options)


def translated(command, timeout=900, **options):
    if not os.environ.get("STELE_AHEAD"):
        return run(translator() + command, timeout, **options)
    with tempfile.NamedTemporaryFile(prefix="stele-store-") as store:
        translate_ahead(store.name, [command[0], *libraries_of(command[0])])
        options["env"] = options.get("env", ENVIRONMENT) | {"STELE_STORE": store.name}
        return run(translator() + command, timeout, **options)


def libraries_of(program):
    """What the loader maps for a program, the loader included; nothing for a static one."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [path for line in listed.splitlines() for path in line.split() if path.startswith("/")]


@functools.lru_cache
def features():
    """The emulated processor's, as stele-aot takes them."""
    return subprocess.run(translator() + ["--features"], capture_output=True, text=True, check=True).stdout.strip()


def translate_ahead(store, files):
    """With STELE_AHEAD set every program is translated before it runs."""
    subprocess.run([BUILD + "/host/translator/stele-aot", "--quiet", "--features", features(), "--output", store, *files],
                   check=True)


def each(function, items):
    """Calls function on every item with as many workers as there are processors; results as they come."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        futures = [pool.submit(function, item) for item in items]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
