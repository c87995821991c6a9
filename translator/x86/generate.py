#!/usr/bin/python3
"""Compiles instructions.tbl into mnemonics.h (names) for everyone and instructions.inc (look-up data)
for decode.c.

    generate.py instructions.tbl --mnemonics mnemonics.h
"""
import argparse
import sys


class TableError(Exception):
    pass


def parse_rows(path):
    """Yields (line number, encoding, mnemonic, operands, attributes) of every instruction row."""
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            fields = line.split("#", 1)[0].split()
            if not fields or fields[0] == "flags":
                continue
            if len(fields) < 3:
                raise TableError(f"{path}:{number}: a row is ENCODING MNEMONIC OPERANDS ATTRIBUTES")
            yield number, fields[0], fields[1], fields[2], fields[3:]


def unique(items):
    return list(dict.fromkeys(items))


def write_mnemonics(rows, out):
    mnemonics = unique(row[2] for row in rows)
    features = unique(a[4:] for row in rows for a in row[4] if a.startswith("cpu:"))
    out.write("/* Generated from instructions.tbl by generate.py. */\n"
              "#ifndef STELE_X86_MNEMONICS_H\n#define STELE_X86_MNEMONICS_H\n\n"
              "enum X86Mnemonic {\n  X86_INVALID,\n")
    out.writelines(f"  X86_{name},\n" for name in mnemonics)
    out.write("  X86_MNEMONIC_COUNT\n};\n\nenum X86Feature {\n  X86_FEATURE_BASE,\n")
    out.writelines(f"  X86_FEATURE_{name},\n" for name in features)
    out.write("  X86_FEATURE_COUNT\n};\n\n#endif\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--mnemonics", required=True)
    options = parser.parse_args()
    rows = list(parse_rows(options.table))
    with open(options.mnemonics, "w", encoding="utf-8") as out:
        write_mnemonics(rows, out)


if __name__ == "__main__":
    try:
        main()
    except TableError as error:
        sys.exit(str(error))
