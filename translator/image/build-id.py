#!/usr/bin/env python3
"""Writes IMAGE_BUILD, a hash of the sources that decide what code is made and what it relies on.

build-id.py TRANSLATOR OUTPUT DEPFILE
"""
import hashlib
import os
import sys

MAKERS = ["x86", "region", "ir", "lift", "opt", "a64", "guest", "pipeline", "image"]
RELIED_ON = ["runtime/trampolines.S", "runtime/layout.h", "runtime/helpers.c"]


def sources(root):
    for folder in MAKERS:
        for path, folders, names in os.walk(os.path.join(root, folder)):
            folders.sort()
            for name in sorted(names):
                if name.endswith((".c", ".h", ".def", ".tbl", ".py", ".S")):
                    yield os.path.join(path, name)
    for name in RELIED_ON:
        yield os.path.join(root, name)


def main():
    root, output, depfile = sys.argv[1:]
    digest = hashlib.sha256()
    files = list(sources(root))
    for path in files:
        with open(path, "rb") as file:
            data = file.read()
        digest.update(f"{os.path.relpath(path, root)} {len(data)}\n".encode() + data)
    words = [int.from_bytes(digest.digest()[i : i + 8], "little") for i in (0, 8)]
    with open(output, "w") as file:
        file.write("/* A hash of the sources that decide what code is made (build-id.py). */\n")
        file.write(f"#define IMAGE_BUILD {{UINT64_C(0x{words[0]:016x}), UINT64_C(0x{words[1]:016x})}}\n")
    with open(depfile, "w") as file:
        file.write(f"{os.path.basename(output)}: " + " ".join(files) + "\n")


main()
