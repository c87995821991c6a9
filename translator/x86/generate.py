#!/usr/bin/python3
"""Compiles instructions.tbl into mnemonics.h (names, for everyone), decode-data.h (look-up data for
decode.c) and format-data.h (texts for format.c).

    generate.py instructions.tbl --mnemonics M.h --decode D.h --format F.h

The look-up data is a forest of selector nodes, one root an opcode of each map, with rows as leaves, all
in arrays of small integers: nothing needs relocation. decode.c documents the layout it reads. Output
depends on the table alone, byte for byte.
"""
import argparse
import re
import sys
from dataclasses import dataclass, field

MAPS = ["", "0f", "0f38", "0f3a", "vex.0f", "vex.0f38", "vex.0f3a"]
PREFIXES = {"np": {0}, "66": {1}, "f3": {2}, "f2": {3}, "nr": {0, 1}}

# Selectors in the order they are asked; the number of their values. The position is the node's kind.
SELECTORS = {"prefix": 4, "mod": 2, "reg": 8, "rm": 8, "w": 2, "l": 2, "b": 2, "osize": 4}

# Bytes by operand size 16, 32, 64 and, where given, the same again for VEX.L = 1.
SIZES = {
    "": (0,) * 3, "b": (1,) * 3, "w": (2,) * 3, "d": (4,) * 3, "q": (8,) * 3, "dq": (16,) * 3,
    "v": (2, 4, 8), "z": (2, 4, 4), "y": (4, 4, 8), "t": (10,) * 3, "s": (10,) * 3, "p": (4, 6, 10),
    "e": (14, 28, 28), "a": (94, 108, 108),
    "x": (16, 16, 16, 32, 32, 32), "h": (8, 8, 8, 16, 16, 16), "f": (4, 4, 4, 8, 8, 8),
    "o": (2, 2, 2, 4, 4, 4), "qq": (32,) * 3,
}
PAIRS = {"dw": ("d", "w"), "db": ("d", "b"), "vw": ("v", "w"), "zw": ("z", "w")}

# Letter of an operand → (kind, field the register number comes from, its mask, form).
# form "rm" is register or memory, "r" register only, "m" memory only.
LETTERS = {
    "E": ("GPR", "RM", 15, "rm"), "G": ("GPR", "REG", 15, ""), "R": ("GPR", "RM", 15, "r"),
    "M": ("MEM", "ZERO", 0, "m"), "Z": ("GPR", "OPCODE", 15, ""), "B": ("GPR", "VVVV", 15, ""),
    "V": ("XMM", "REG", 15, ""), "W": ("XMM", "RM", 15, "rm"), "U": ("XMM", "RM", 15, "r"),
    "H": ("XMM", "VVVV", 15, ""), "L": ("XMM", "IS4", 15, ""),
    "P": ("MMX", "REG", 7, ""), "Q": ("MMX", "RM", 7, "rm"), "N": ("MMX", "RM", 7, "r"),
    "S": ("SEG", "REG", 7, ""), "C": ("CR", "REG", 15, ""), "D": ("DR", "REG", 15, ""),
    "T": ("ST", "RM", 7, "r"), "I": ("IMM", "ZERO", 0, ""), "J": ("REL", "ZERO", 0, ""),
    "O": ("MEM", "ZERO", 0, ""),
}
# Operands that need no field: (kind, register, size).
FIXED = {
    "AL": ("GPR", 0, "b"), "AX": ("GPR", 0, "w"), "rAX": ("GPR", 0, "v"), "zAX": ("GPR", 0, "z"),
    "CL": ("GPR", 1, "b"), "DX": ("GPR", 2, "w"), "ST0": ("ST", 0, "t"), "XMM0": ("XMM", 0, "dq"),
    "FS": ("SEG", 4, "w"), "GS": ("SEG", 5, "w"), "1": ("IMM", 0, "b"),
}
FIELDS = ["ZERO", "REG", "RM", "OPCODE", "VVVV", "IS4"]
IMMEDIATES = ["NONE", "S8", "U8", "U16", "S16_32", "FULL", "U16_U8", "U8_U8", "ADDRESS", "ONE", "IS4"]
FLOWS = ["next", "jump", "jump_ind", "cond", "call", "call_ind", "ret", "system", "trap"]
ATTRIBUTES = ["modrm", "lock", "string", "default64", "ignore66", "byte", "cap32", "count", "cond",
              "check", "vvvv", "vsib", "anymod"]
FLAG_BITS = {"C": 1, "P": 2, "A": 4, "Z": 8, "S": 16, "O": 32, "L": 64, "D": 128}

NODE_SELECT = 0x8000   # kind in bits 12-14, offset / 2 in bits 0-11
NODE_SPECIAL = 0x7f00  # prefixes and escapes
SPECIALS = ["66", "67", "f0", "f2", "f3", "segment", "fs", "gs", "rex", "0f", "vex2", "vex3", "evex"]
SPECIAL_BYTES = {0x66: "66", 0x67: "67", 0xf0: "f0", 0xf2: "f2", 0xf3: "f3", 0x26: "segment",
                 0x2e: "segment", 0x36: "segment", 0x3e: "segment", 0x64: "fs", 0x65: "gs",
                 0x0f: "0f", 0xc5: "vex2", 0xc4: "vex3", 0x62: "evex"}
SPECIAL_BYTES.update({byte: "rex" for byte in range(0x40, 0x50)})


class TableError(Exception):
    pass


@dataclass
class Row:
    """One line of the table, its encoding taken apart."""
    where: str
    mnemonic: str
    operands: list
    attributes: list
    map: str = ""
    opcodes: list = field(default_factory=list)
    conditions: dict = field(default_factory=dict)  # selector → allowed values
    flags: str = "none"
    feature: str = "BASE"
    flow: str = "next"

    def error(self, text):
        return TableError(f"{self.where}: {self.mnemonic}: {text}")


ENCODING = re.compile(r"(?:(?P<prefix>np|nr|66|f3|f2)\.(?=.))?(?P<map>(?:vex\.)?0f(?:38|3a)?\.)?"
                      r"(?P<opcode>[0-9a-f]{2})(?P<plus>\+r|\+cc)?"
                      r"(?:/(?P<reg>[0-7])(?::(?P<rm>[0-7]))?)?(?:/(?P<form>[rm]))?(?P<suffix>(?:\.\w+)*)$")
SUFFIXES = {"w0": ("w", {0}), "w1": ("w", {1}), "l0": ("l", {0}), "l1": ("l", {1}), "b0": ("b", {0}),
            "o16": ("osize", {0}), "o32": ("osize", {1}), "o64": ("osize", {2})}


def parse_encoding(row, text):
    """Fills the row's map, opcodes and conditions from the first column."""
    match = ENCODING.match(text)
    if not match:
        raise row.error(f"cannot read the encoding '{text}'")
    row.map = (match["map"] or "").rstrip(".")
    first = int(match["opcode"], 16)
    row.opcodes = list(range(first, first + {None: 1, "+r": 8, "+cc": 16}[match["plus"]]))
    if match["prefix"]:
        row.conditions["prefix"] = PREFIXES[match["prefix"]]
    if match["reg"]:
        row.conditions["reg"] = {int(match["reg"])}
    if match["rm"]:
        row.conditions.update(rm={int(match["rm"])}, mod={1})
    forms = {LETTERS[o.lstrip("=+")[0]][3] for o in row.operands if o.lstrip("=+") not in FIXED}
    form = match["form"] or ("m" if "m" in forms else "r" if "r" in forms else None)
    if form and "anymod" not in row.attributes:
        row.conditions["mod"] = {int(form == "r")}
    for suffix in filter(None, match["suffix"].split(".")):
        if suffix not in SUFFIXES:
            raise row.error(f"unknown suffix .{suffix}")
        row.conditions.update([SUFFIXES[suffix]])


def parse_attributes(row):
    for attribute in row.attributes:
        if attribute.startswith("f:"):
            row.flags = attribute[2:]
        elif attribute.startswith("cpu:"):
            row.feature = attribute[4:]
        elif attribute == "trap":
            row.flow = "trap"
        elif attribute.startswith("flow:"):
            row.flow = attribute[5:]
        elif attribute not in ("lock", "string", "d64", "f64", "o:b", "o:z", "count", "vsib", "anymod"):
            raise row.error(f"unknown attribute {attribute}")


def parse_flags(line):
    """flags NAME [r=..] [w=..] [u=..] [m=..] | cond → (read, written, undefined, maybe, conditional)"""
    effects = {"r": 0, "w": 0, "u": 0, "m": 0}
    for word in line[2:]:
        if "=" in word:
            effects[word[0]] = sum(FLAG_BITS[letter] for letter in word[2:])
    return (*effects.values(), "cond" in line[2:])


def parse_table(path):
    """Returns (rows, {flags class: effects})."""
    rows, flags = [], {}
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            fields = line.split("#", 1)[0].split()
            if not fields:
                continue
            if fields[0] == "flags":
                flags[fields[1]] = parse_flags(fields)
                continue
            if len(fields) < 3:
                raise TableError(f"{path}:{number}: a row is ENCODING MNEMONIC OPERANDS ATTRIBUTES")
            operands = [] if fields[2] == "-" else fields[2].split(",")
            row = Row(f"{path}:{number}", fields[1], operands, fields[3:])
            parse_attributes(row)
            parse_encoding(row, fields[0])
            if row.flags not in flags:
                raise row.error(f"no such flags class: {row.flags}")
            if row.flow not in FLOWS:
                raise row.error(f"no such flow: {row.flow}")
            rows.append(row)
    return rows, flags


def unique(items):
    return list(dict.fromkeys(items))


class Compiler:
    """Turns rows into the arrays decode.c reads."""

    def __init__(self, rows, flags):
        self.rows, self.flags = rows, flags
        self.mnemonics = unique(row.mnemonic for row in rows)
        self.features = unique(["BASE"] + [row.feature for row in rows])
        self.flag_names = list(flags)
        self.templates = [("NONE", "ZERO", 0, 0, False, "", "", 0)]
        self.leaves = [None]
        self.nodes = [0] * (256 * len(MAPS))
        self.shared = {}

    def template(self, row, text):
        """Index of the operand's template: how to make the X86Operand of it."""
        access = {"=": 2, "+": 3}.get(text[0], 1)
        name = text.lstrip("=+")
        if name in FIXED:
            kind, register, size = FIXED[name]
            made = (kind, "ZERO", 0, register, False, size, size, access)
        else:
            kind, source, mask, form = LETTERS[name[0]]
            size = name[1:]
            if kind == "IMM":
                size, kind = self.immediate_size(row, size), "IMM2" if size == "ub2" else "IMM"
            elif kind == "REL":
                size = "q"
            elif kind == "ST":
                size = "t"
            elif kind == "MEM" and size == "" and access == 1:
                access = 0
            of_register, of_memory = PAIRS.get(size, (size, size))
            if of_memory not in SIZES:
                raise row.error(f"unknown size in operand {text}")
            made = (kind, source, mask, 0, form == "rm", of_register, of_memory, access)
        if made not in self.templates:
            self.templates.append(made)
        return self.templates.index(made)

    def immediate_size(self, row, size):
        if size in ("ub", "ub2"):
            return "b"
        if size == "w":
            return "w"
        return "b" if self.is_byte(row) else "v"

    @staticmethod
    def is_byte(row):
        if "o:b" in row.attributes:
            return True
        first = row.operands[0].lstrip("=+") if row.operands else ""
        return first == "AL" or (len(first) == 2 and first[0] in "EGZO" and first[1] == "b")

    @staticmethod
    def immediate(row):
        names = [o.lstrip("=+") for o in row.operands]
        if "Iub2" in names:
            return "U16_U8" if "Iw" in names else "U8_U8"
        known = {"Ib": "S8", "Jb": "S8", "Iub": "U8", "Iw": "U16", "Iz": "S16_32", "Jz": "S16_32",
                 "Iv": "FULL", "1": "ONE"}
        for name in names:
            if name in known:
                return known[name]
            if name[0] == "O":
                return "ADDRESS"
            if name[0] == "L":
                return "IS4"
        return "NONE"

    def attributes(self, row):
        """The decoder's attribute bits of a row."""
        letters = {o.lstrip("=+")[0] for o in row.operands if o.lstrip("=+") not in FIXED}
        made = {
            "modrm": bool(letters & set("EGRMVWUPQNSCDT")) or bool({"reg", "mod"} & set(row.conditions)),
            "lock": "lock" in row.attributes, "string": "string" in row.attributes,
            "default64": bool({"d64", "f64"} & set(row.attributes)),
            "ignore66": "f64" in row.attributes or row.conditions.get("prefix") == {1}
            or row.map.startswith("vex"),
            "byte": self.is_byte(row), "cap32": "o:z" in row.attributes,
            "count": "count" in row.attributes, "cond": self.flags[row.flags][4],
            "check": bool(letters & set("SCD")), "vvvv": bool(letters & set("BH")),
            "vsib": "vsib" in row.attributes, "anymod": "anymod" in row.attributes,
        }
        return sum(1 << i for i, name in enumerate(ATTRIBUTES) if made[name])

    def leaf(self, row):
        """Index of the row's record; equal rows (aliases) share one."""
        operands = [self.template(row, text) for text in row.operands]
        made = (row.mnemonic, self.attributes(row), tuple(operands + [0] * (4 - len(operands))),
                len(operands), self.flag_names.index(row.flags), self.features.index(row.feature),
                FLOWS.index(row.flow), IMMEDIATES.index(self.immediate(row)))
        if made not in self.leaves:
            self.leaves.append(made)
        return self.leaves.index(made)

    @staticmethod
    def rank(row):
        """The row with the higher rank wins: a prefix outweighs all other conditions."""
        return "prefix" in row.conditions, len(row.conditions)

    def tree(self, rows, asked=()):
        """Node for the rows that are still possible after the selectors `asked`."""
        for kind, (name, count) in enumerate(SELECTORS.items()):
            if name not in asked and any(name in row.conditions for row in rows):
                children = [self.tree([row for row in rows if value in row.conditions.get(name, {value})],
                                      (*asked, name)) for value in range(count)]
                return self.select(kind, tuple(children))
        if not rows:
            return 0
        rows = sorted(rows, key=self.rank, reverse=True)
        if len(rows) > 1 and self.rank(rows[0]) == self.rank(rows[1]):
            raise rows[0].error(f"same encoding as {rows[1].where}")
        return self.leaf(rows[0])

    def select(self, kind, children):
        if len(set(children)) == 1:
            return children[0]
        if children not in self.shared:
            self.shared[children] = len(self.nodes)
            self.nodes.extend(children)
        offset = self.shared[children]
        if offset % 2 or offset // 2 > 0xfff:
            raise TableError("too many selector nodes: decode.c's node layout needs more bits")
        return NODE_SELECT | kind << 12 | offset // 2

    def compile(self):
        by_opcode = {}
        for row in self.rows:
            for opcode in row.opcodes:
                by_opcode.setdefault((MAPS.index(row.map), opcode), []).append(row)
        for (number, opcode), rows in sorted(by_opcode.items()):
            self.nodes[number * 256 + opcode] = self.tree(rows)
        for byte, name in SPECIAL_BYTES.items():
            if self.nodes[byte]:
                raise TableError(f"opcode {byte:02x} is a prefix")
            self.nodes[byte] = NODE_SPECIAL + SPECIALS.index(name)
        if len(self.leaves) >= NODE_SPECIAL or len(self.templates) > 256:
            raise TableError("too many rows for decode.c's data layout")


def write_lines(out, head, lines, tail):
    out.write(head)
    out.writelines(f"  {line},\n" for line in lines)
    out.write(tail)


def write_mnemonics(made, out):
    out.write("/* Generated from instructions.tbl by generate.py. */\n"
              "#ifndef STELE_X86_MNEMONICS_H\n#define STELE_X86_MNEMONICS_H\n\n")
    write_lines(out, "enum X86Mnemonic {\n  X86_INVALID,\n",
                [f"X86_{name}" for name in made.mnemonics], "  X86_MNEMONIC_COUNT\n};\n\n")
    write_lines(out, "enum X86Feature {\n", [f"X86_FEATURE_{name}" for name in made.features],
                "  X86_FEATURE_COUNT\n};\n\n#endif\n")


def enumeration(out, prefix, names):
    write_lines(out, "enum {\n", [f"{prefix}_{name.upper()}" for name in names], "};\n\n")


def write_decode(made, out):
    """The constants and arrays of decode.c, in the order of its struct declarations."""
    out.write("/* Generated from instructions.tbl by generate.py; decode.c explains the layout. */\n\n")
    enumeration(out, "SELECT", SELECTORS)
    enumeration(out, "SPECIAL", SPECIALS)
    enumeration(out, "FIELD", FIELDS)
    enumeration(out, "IMMEDIATE", IMMEDIATES)
    sizes = list(SIZES)
    write_lines(out, "enum {\n", [f"ROW_{name.upper()} = {1 << i}" for i, name in enumerate(ATTRIBUTES)],
                "};\n\n")
    write_lines(out, "static const uint8_t operand_sizes[][6] = {\n",
                [f"{{{', '.join(map(str, (SIZES[name] * 2)[:6]))}}}" for name in sizes], "};\n\n")
    write_lines(out, "static const OperandTemplate operand_templates[] = {\n",
                [f"{{X86_OPERAND_{kind}, {'X86_OPERAND_MEM' if form else 'X86_OPERAND_' + kind}, "
                 f"FIELD_{source}, {mask}, {register}, {sizes.index(a)}, {sizes.index(b)}, {access}}}"
                 for kind, source, mask, register, form, a, b, access in made.templates], "};\n\n")
    write_lines(out, "static const FlagEffects flag_effects[] = {\n",
                [f"{{{', '.join(map(str, made.flags[name][:4]))}}}" for name in made.flag_names], "};\n\n")
    leaves = [f"{{X86_{m}, {a}, {{{', '.join(map(str, o))}}}, {n}, {fl}, {fe}, {fw}, {im}}}"
              for m, a, o, n, fl, fe, fw, im in made.leaves[1:]]
    write_lines(out, "static const Row rows[] = {\n", ["{X86_INVALID}"] + leaves, "};\n\n")
    lines = [", ".join(map(str, made.nodes[i:i + 16])) for i in range(0, len(made.nodes), 16)]
    write_lines(out, "static const uint16_t nodes[] = {\n", lines, "};\n")


def write_format(made, out):
    names = ["invalid"] + [name.lower() for name in made.mnemonics]
    offsets, at = [], 0
    for name in names:
        offsets.append(at)
        at += len(name) + 1
    out.write("/* Generated from instructions.tbl by generate.py. */\n\n"
              "/* All names in one text, so that the table holds offsets and needs no relocation. */\n")
    write_lines(out, "static const char mnemonic_text[] =\n", [], "")
    out.write("".join(f'  "{name}\\0"\n' for name in names) + ";\n\n")
    write_lines(out, "static const uint16_t mnemonic_offsets[] = {\n",
                [", ".join(map(str, offsets[i:i + 16])) for i in range(0, len(offsets), 16)], "};\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    writers = {"mnemonics": write_mnemonics, "decode": write_decode, "format": write_format}
    for name in writers:
        parser.add_argument("--" + name, required=True)
    options = vars(parser.parse_args())
    made = Compiler(*parse_table(options["table"]))
    made.compile()
    for name, write in writers.items():
        with open(options[name], "w", encoding="utf-8") as out:
            write(made, out)


if __name__ == "__main__":
    try:
        main()
    except TableError as error:
        sys.exit(str(error))
