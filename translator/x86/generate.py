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

# Letter of an operand → (kind, lane the register number comes from, form); REG7 and RM7 know no REX.
# form "rm" is register or memory, "r" register only, "m" memory only.
LETTERS = {
    "E": ("GPR", "RM", "rm"), "G": ("GPR", "REG", ""), "R": ("GPR", "RM", "r"),
    "M": ("MEM", "ZERO", "m"), "Z": ("GPR", "OPCODE", ""), "B": ("GPR", "VVVV", ""),
    "V": ("XMM", "REG", ""), "W": ("XMM", "RM", "rm"), "U": ("XMM", "RM", "r"),
    "H": ("XMM", "VVVV", ""), "L": ("XMM", "IS4", ""),
    "P": ("MMX", "REG7", ""), "Q": ("MMX", "RM7", "rm"), "N": ("MMX", "RM7", "r"),
    "S": ("SEG", "REG7", ""), "C": ("CR", "REG", ""), "D": ("DR", "REG", ""),
    "T": ("ST", "RM7", "r"), "I": ("IMM", "ZERO", ""), "J": ("REL", "ZERO", ""),
    "O": ("MEM", "ZERO", ""),
}
# Operands that need no field: (kind, register, size).
FIXED = {
    "AL": ("GPR", 0, "b"), "AX": ("GPR", 0, "w"), "rAX": ("GPR", 0, "v"), "zAX": ("GPR", 0, "z"),
    "CL": ("GPR", 1, "b"), "DX": ("GPR", 2, "w"), "ST0": ("ST", 0, "t"), "XMM0": ("XMM", 0, "dq"),
    "FS": ("SEG", 4, "w"), "GS": ("SEG", 5, "w"), "1": ("IMM", 0, "b"),
}
# Lanes of register numbers in the decoder's word of them, eight bits each.
LANES = ["ZERO", "REG", "RM", "OPCODE", "VVVV", "REG7", "RM7", "IS4"]
# Kind of immediate → bytes by operand size 16, 32, 64 where the kind alone says; kinds from the third on
# are no plain number.
IMMEDIATES = {
    "SIGNED": (0, 0, 0), "UNSIGNED": (0, 0, 0), "U16_U8": (3, 3, 3), "U8_U8": (2, 2, 2),
    "ADDRESS": (8, 8, 8), "ONE": (0, 0, 0), "IS4": (1, 1, 1),
}
FLOWS = ["next", "jump", "jump_ind", "cond", "call", "call_ind", "ret", "system", "trap"]
ATTRIBUTES = ["modrm", "lock", "string", "count", "check", "vvvv", "anymod", "byte_register"]
# What keeps an instruction off the decoder's short path.
SPECIAL_ATTRIBUTES = ["string", "count", "check", "byte_register"]
FLAG_BITS = {"C": 1, "P": 2, "A": 4, "Z": 8, "S": 16, "O": 32, "L": 64, "D": 128}
# Flags a condition reads, by the low four bits of the opcode (SDM volume 1, appendix B).
CONDITIONS = ["O", "O", "C", "C", "Z", "Z", "CZ", "CZ", "S", "S", "P", "P", "L", "L", "LZ", "LZ"]
PREFIX_VSIB, PREFIX_VEX = 16, 32  # X86_PREFIX_*

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
    forms = {LETTERS[o.lstrip("=+")[0]][2] for o in row.operands if o.lstrip("=+") not in FIXED}
    form = match["form"] or ("m" if "m" in forms else "r" if "r" in forms else None)
    if form and "anymod" not in row.attributes:
        row.conditions["mod"] = {int(form == "r")}
    if "vsib" in row.attributes:
        row.conditions["rm"] = {4}
    for suffix in filter(None, match["suffix"].split(".")):
        if suffix not in SUFFIXES:
            raise row.error(f"unknown suffix .{suffix}")
        row.conditions.update([SUFFIXES[suffix]])


def parse_attributes(row):
    for attribute in row.attributes:
        if attribute.startswith("f:"):
            row.flags = attribute[2:]
        elif attribute.startswith("cpu:"):
            pass  # for the reader
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
        self.flag_names = list(flags)
        self.templates = [("0",) * 12]
        self.leaves = [None]
        self.nodes = [0] * (256 * len(MAPS))
        self.shared = {}

    def template(self, row, text):
        """Index of the operand's template: X86Operand by form and size, with the register's lane."""
        access = {"=": 2, "+": 3}.get(text[0], 1)
        name = text.lstrip("=+")
        lane, fixed, memory = "ZERO", 0, False
        if name in FIXED:
            kind, fixed, size = FIXED[name]
        else:
            kind, lane, form = LETTERS[name[0]]
            size, memory = name[1:], form == "rm"
            if kind == "IMM":
                size, kind = self.immediate_size(row, size), "IMM2" if size == "ub2" else "IMM"
            elif kind == "REL":
                size = "q"
            elif kind == "ST":
                size = "t"
            elif kind == "MEM" and size == "" and access == 1:
                access = 0
        sizes = PAIRS.get(size, (size, size))
        if sizes[1] not in SIZES:
            raise row.error(f"unknown size in operand {text}")
        made = (self.words(kind, lane, fixed, sizes[0], access)
                + (self.words("MEM", "ZERO", 0, sizes[1], access) if memory
                   else self.words(kind, lane, fixed, sizes[1], access)))
        if made not in self.templates:
            self.templates.append(made)
        return self.templates.index(made)

    @staticmethod
    def words(kind, lane, fixed, size, access):
        """A template's words for the six columns of SIZES."""
        return tuple(f"OPERAND(X86_OPERAND_{kind}, {LANES.index(lane) * 8}, {size_bytes}, {access}, {fixed})"
                     for size_bytes in (SIZES[size] * 2)[:6])

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
        """(kind, bytes by operand size) of the row's immediate."""
        names = [o.lstrip("=+") for o in row.operands]
        if "Iub2" in names:
            kind = "U16_U8" if "Iw" in names else "U8_U8"
            return kind, IMMEDIATES[kind]
        plain = {"Ib": ("SIGNED", "b"), "Jb": ("SIGNED", "b"), "Iub": ("UNSIGNED", "b"),
                 "Iw": ("UNSIGNED", "w"), "Iz": ("SIGNED", "z"), "Jz": ("SIGNED", "z"), "Iv": ("SIGNED", "v")}
        for name in names:
            if name in plain:
                return plain[name][0], SIZES[plain[name][1]]
            kind = {"1": "ONE", "O": "ADDRESS", "L": "IS4"}.get(name[0])
            if kind:
                return kind, IMMEDIATES[kind]
        return "SIGNED", (0, 0, 0)

    @staticmethod
    def widths(row):
        """Column of operand size by (REX.W, 66): two bits each for neither, 66, W, both."""
        default = 2 if {"d64", "f64"} & set(row.attributes) else 1
        ignores = ("f64" in row.attributes or row.conditions.get("prefix") == {1}
                   or row.map.startswith("vex"))
        columns = (default, default if ignores else 0, 2, 2)
        return sum(column << 2 * i for i, column in enumerate(columns))

    def operand_sizes(self, row):
        """X86Insn.operand_size by column, a nibble each."""
        if self.is_byte(row):
            return 0x111
        return 0x442 if "o:z" in row.attributes else 0x842

    def attributes(self, row):
        """Names of the decoder's attributes of a row."""
        letters = {o.lstrip("=+")[0] for o in row.operands if o.lstrip("=+") not in FIXED}
        made = {
            "modrm": bool(letters & set("EGRMVWUPQNSCDT")) or bool({"reg", "mod"} & set(row.conditions)),
            "lock": "lock" in row.attributes, "string": "string" in row.attributes,
            "count": "count" in row.attributes, "check": bool(letters & set("SCD")) or "vsib" in row.attributes,
            "vvvv": bool(letters & set("BH")), "anymod": "anymod" in row.attributes,
            "byte_register": any(re.fullmatch(r"[=+]?[EGZR]b", o) for o in row.operands),
        }
        return [name for name in ATTRIBUTES if made[name]]

    def leaf(self, row, opcode):
        """Index of the row's record; equal records (aliases) are one."""
        operands = [self.template(row, text) for text in row.operands]
        read, written, undefined, maybe, conditional = self.flags[row.flags]
        condition = opcode & 15 if conditional else 0
        if conditional:
            read = sum(FLAG_BITS[letter] for letter in CONDITIONS[condition])
        kind, sizes = self.immediate(row)
        prefixes = (PREFIX_VSIB if "vsib" in row.attributes else 0) | (PREFIX_VEX if row.map.startswith("vex") else 0)
        made = (f"HEAD(X86_{row.mnemonic}, {len(operands)}, {prefixes}, {condition}, {FLOWS.index(row.flow)})",
                f"FLAGS({read}, {written}, {undefined}, {maybe})",
                sum(template << 8 * i for i, template in enumerate(operands)),
                " | ".join(f"ROW_{name.upper()}" for name in self.attributes(row)) or "0",
                sum(size << 4 * i for i, size in enumerate(sizes)), self.operand_sizes(row),
                self.widths(row), f"IMMEDIATE_{kind}")
        if made not in self.leaves:
            self.leaves.append(made)
        return self.leaves.index(made)

    @staticmethod
    def rank(row):
        """The row with the higher rank wins: a prefix outweighs all other conditions."""
        return "prefix" in row.conditions, len(row.conditions)

    def tree(self, rows, opcode, asked=()):
        """Node for the rows that are still possible after the selectors `asked`."""
        for kind, (name, count) in enumerate(SELECTORS.items()):
            if name not in asked and any(name in row.conditions for row in rows):
                children = [self.tree([row for row in rows if value in row.conditions.get(name, {value})],
                                      opcode, (*asked, name)) for value in range(count)]
                return self.select(kind, tuple(children))
        if not rows:
            return 0
        rows = sorted(rows, key=self.rank, reverse=True)
        if len(rows) > 1 and self.rank(rows[0]) == self.rank(rows[1]):
            raise rows[0].error(f"same encoding as {rows[1].where}")
        return self.leaf(rows[0], opcode)

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

    def choosing_bytes(self, first):
        """How many bytes of an instruction that begins with `first` mostly go up to its ModRM."""
        node = self.nodes[first]
        if node >= NODE_SELECT:
            return 2
        if node >= NODE_SPECIAL:
            return 3 if SPECIAL_BYTES[first] in ("rex", "0f") else 4
        return 2 if node and any("ROW_MODRM" in str(field) for field in self.leaves[node]) else 1

    def compile(self):
        by_opcode = {}
        for row in self.rows:
            for opcode in row.opcodes:
                by_opcode.setdefault((MAPS.index(row.map), opcode), []).append(row)
        for (number, opcode), rows in sorted(by_opcode.items()):
            self.nodes[number * 256 + opcode] = self.tree(rows, opcode)
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
                [f"X86_{name}" for name in made.mnemonics], "  X86_MNEMONIC_COUNT\n};\n\n#endif\n")


def enumeration(out, prefix, names):
    write_lines(out, "enum {\n", [f"{prefix}_{name.upper()}" for name in names], "};\n\n")


def write_decode(made, out):
    """The constants and arrays of decode.c, in the order of its struct declarations."""
    out.write("/* Generated from instructions.tbl by generate.py; decode.c explains the layout. */\n\n")
    enumeration(out, "SELECT", SELECTORS)
    enumeration(out, "SPECIAL", SPECIALS)
    enumeration(out, "IMMEDIATE", IMMEDIATES)
    write_lines(out, "enum {\n", [f"ROW_{name.upper()} = {1 << i}" for i, name in enumerate(ATTRIBUTES)]
                + ["ROW_SPECIAL = " + " | ".join("ROW_" + name.upper() for name in SPECIAL_ATTRIBUTES)],
                "};\n\n")
    write_lines(out, "static const OperandTemplate operand_templates[] = {\n",
                [f"{{{{{', '.join(words)}}}}}" for words in made.templates], "};\n\n")
    write_lines(out, "static const Row rows[] = {\n",
                ["{0}"] + [f"{{{', '.join(map(str, leaf))}}}" for leaf in made.leaves[1:]], "};\n\n")
    lines = [", ".join(map(str, made.nodes[i:i + 16])) for i in range(0, len(made.nodes), 16)]
    write_lines(out, "static const uint16_t nodes[] = {\n", lines, "};\n\n")
    bits = [64 - 8 * made.choosing_bytes(byte) for byte in range(256)]
    lines = [", ".join(map(str, bits[i:i + 16])) for i in range(0, 256, 16)]
    write_lines(out, "const uint8_t x86_not_choosing[256] = {\n", lines, "};\n")


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
