"""Threads that start programs, fork and wait, while others compute."""
import hashlib
import os
import subprocess
import threading

results = {}


def compute(number):
    digest = hashlib.sha256()
    for i in range(300):
        digest.update(str(i * number).encode() * 50)
    results[number] = digest.hexdigest()[:8]


def start(number):
    results[number] = [subprocess.run(["/bin/echo", str(i)], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
                       for i in range(3)]


def fork(number):
    statuses = []
    for i in range(3):
        child = os.fork()
        if child == 0:
            os._exit(i + 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    results[number] = statuses


threads = [threading.Thread(target=[compute, start, compute, fork][i % 4], args=(i,)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([results[i] for i in range(8)])
