#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes bpf/MAPS.md, the byte-level reference of the pinned maps.

usage: make-maps-md.py [--check] BPF_DIR

Reads include/ivds/abi.h and maps.h of BPF_DIR, which are the truth, and writes
MAPS.md beside them. --check writes nothing and fails if it is not current.
Offsets follow from the header's rules (fixed widths, natural alignment, no
implicit padding); abi_check.h and the tests hold them against the compilers.
"""
import re
import sys
from pathlib import Path

WIDTH = {"__u8": 1, "__u16": 2, "__be16": 2, "__u32": 4, "__u64": 8}


def words(comment):
    """A C comment as one line of text."""
    return " ".join(re.sub(r"^\s*\*", "", line).strip() for line in comment.split("\n")).strip()


def constants(header):
    """Name to (value, comment) of every plain #define."""
    found = {}
    for line in re.finditer(r"^#define (IVDS_\w+) (.+?)\s*(?:/\*(.*?)\*/)?$", header, re.M):
        found[line[1]] = (line[2].strip(), (line[3] or "").strip())
    return found


def evaluate(text, known):
    """The number that a constant expression of the header stands for."""
    names = re.sub(r"IVDS_\w+", lambda name: str(evaluate(known[name[0]][0], known)), text)
    return eval(re.sub(r"(?<=\d)u\b", "", names), {"__builtins__": {}})  # pylint: disable=eval-used


def notes(header, names):
    """What the header says of each map: "/* ---- NAME TYPE: KEY -> VALUE" and the lines below it."""
    found = []
    for block in re.finditer(r"^/\* -{5,} ?(\w+) ([^\n]*?)\s*(?:\*/|\n(.*?)\*/)", header, re.M | re.S):
        if block[1] in names:
            keyed = block[2].partition(":")[2].strip().replace("->", "to")
            text = ". ".join(part for part in (keyed, words(block[3] or "")) if part)
            if text:
                found.append(f"- `{block[1]}`: {text}")
    return "\n".join(found) + "\n"


def structures(header, known):
    """Name to ([(offset, size, type, member, comment)], size)."""
    found = {}
    for block in re.finditer(r"struct (ivds_\w+) \{\n(.*?)\n\};", header, re.S):
        members, offset = [], 0
        # A comment on lines of its own is about the members below it, and stays in the header.
        body = re.sub(r"^\s*/\*.*?\*/\n", "", block[2], flags=re.M | re.S)
        for line in body.split("\n"):
            member = re.match(r"\s*(__\w+|struct ivds_\w+) (\w+)(?:\[(\w+)\])?;\s*(?:/\*(.*)\*/)?$", line)
            if not member:
                sys.exit(f"struct {block[1]}: cannot read '{line.strip()}'")
            kind, name, count, comment = member.groups()
            length = evaluate(count, known) if count else 1
            if kind.startswith("struct "):
                inner = found[kind.removeprefix("struct ")]
                size, align = inner[1], max(WIDTH.get(part[2].partition("[")[0], 4) for part in inner[0])
            else:
                size = align = WIDTH[kind]
            if offset % align:
                sys.exit(f"struct {block[1]}: {name} is not aligned")
            text = f"{kind}[{length}]" if count else kind
            members.append((offset, size * length, text, name, (comment or "").strip()))
            offset += size * length
        found[block[1]] = (members, offset)
    return found


def maps(source):
    """(name, type, key, value, entries, flags) of every map, in order."""
    found = []
    for block in re.finditer(r"^struct \{\n(.*?)\n\} (\w+) SEC\(\".maps\"\);", source, re.M | re.S):
        attributes = dict(re.findall(r"__(?:uint|type)\((\w+), ([^)]+(?:\([^)]*\))?)\)", block[1]))
        found.append((
            block[2],
            attributes["type"].replace("BPF_MAP_TYPE_", ""),
            attributes.get("key", "__u32" if "key_size" in attributes else ""),
            attributes.get("value", "__u32" if "value_size" in attributes else ""),
            attributes["max_entries"],
            attributes.get("map_flags", "").replace("BPF_F_", ""),
        ))
    return found


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def link(kind):
    name = kind.removeprefix("struct ")
    known = kind.startswith("struct ") and name != "ivds_scratch"  # which no agent has a use for
    return f"[`{name}`](#{name})" if known else f"`{name}`" if kind else ""


def flags(known, prefix):
    rows = [(f"`{name}`", value.rstrip("u"), text) for name, (value, text) in known.items() if name.startswith(prefix)]
    return table(("flag", "value", "meaning"), rows)


def enumeration(header, name):
    body = re.search(r"enum " + name + r" \{\n(.*?)\n\};", header, re.S)[1]
    rows = re.findall(r"(IVDS_\w+) = (\d+),\s*(?:/\*(.*?)\*/)?", body)
    return table(("name", "value", "meaning"), [(f"`{row[0]}`", row[1], row[2].strip()) for row in rows])


def document(folder):
    header = (folder / "include/ivds/abi.h").read_text(encoding="utf-8")
    known = constants(header)
    described = structures(header, known)
    all_maps = maps((folder / "maps.h").read_text(encoding="utf-8"))
    # A long entry of the list goes on behind a backslash.
    drops = re.findall(r"X\((\w+), (\d+), (\w+), \"(\w+)\",[\s\\]*\"(.*?)\"\)", header)
    if [int(number) for _, number, *_ in drops] != list(range(1, len(drops) + 1)):
        sys.exit("IVDS_DROPS: cannot read the list of drop reasons, numbered from 1 on without a gap")

    out = ["<!-- Made by scripts/make-maps-md.py from abi.h and maps.h; do not edit. -->"]
    out.append("# The pinned maps, byte by byte\n")
    root = known["IVDS_PIN_ROOT"][0].strip('"')
    version = known["IVDS_PIN_DIR"][0].strip('"')
    major, minor = (evaluate(known[f"IVDS_LAYOUT_{part}"][0], known) for part in ("MAJOR", "MINOR"))
    out.append(
        f"Layout {major}.{minor}. The maps are pinned as `{root}/{version}/maps/NAME` (the root may be another).\n"
        "C and C++ programs include `<ivds/abi.h>`; this page is for the rest. An agent reads `meta` first and refuses a\n"
        "`layout_major` that it does not know.\n")
    rules = re.search(r"Layout rules:\n(.*?)\*/", header, re.S)[1]
    rules = re.sub(r"\n \*\s{4,}", " ", rules)
    out.append("\n".join(re.findall(r"- .*", rules.split("The header")[0])) + "\n")
    out.append("## Maps\n")
    out.append(table(("map", "type", "key", "value", "entries", "flags"), [
        (f"`{name}`", kind, link(key), link(value), evaluate(entries, known), f"`{flag}`" if flag else "")
        for name, kind, key, value, entries, flag in all_maps]))
    out.append(notes(header, {row[0] for row in all_maps}))
    out.append("A per-CPU map holds one value a possible CPU; the counter is their sum. The records of `events` are\n"
               "[`ivds_event`](#ivds_event); the argument of the program `ivds_sweep` is [`ivds_sweep`](#ivds_sweep).\n")
    out.append("## Structures\n")
    for name, (members, size) in described.items():
        out.append(f"### {name}\n")
        out.append(f"{size} bytes.\n")
        out.append(table(("offset", "bytes", "type", "member", "meaning"), [
            (offset, length, f"`{kind}`", f"`{member}`", comment) for offset, length, kind, member, comment in members]))
        if name == "ivds_port":
            out.append("`kind` is one of:\n\n" + enumeration(header, "ivds_port_kind"))
            out.append("`flags`:\n\n" + flags(known, "IVDS_PF_"))
        elif name == "ivds_instance":
            out.append("`flags`:\n\n" + flags(known, "IVDS_IF_"))
        elif name == "ivds_fdb_entry":
            out.append("`flags`:\n\n" + flags(known, "IVDS_FDB_"))
        elif name == "ivds_event":
            out.append("`kind` is one of:\n\n" + enumeration(header, "ivds_event_kind"))
    out.append("## Drop reasons\n")
    out.append("`reason` of [`ivds_drop_key`](#ivds_drop_key). IN counts on the port the frame came in by, OUT on the port it\n"
               "was meant for.\n")
    out.append(table(("reason", "name", "counts", "meaning"), [
        (number, f"`{name}`", side, text) for _, number, side, name, text in drops]))
    return "\n".join(out)


def main(arguments):
    check = "--check" in arguments
    folders = [argument for argument in arguments if argument != "--check"]
    if len(folders) != 1:
        sys.exit(__doc__)
    folder = Path(folders[0])
    text = document(folder)
    target = folder / "MAPS.md"
    if not check:
        target.write_text(text, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != text:
        sys.exit(f"{target} is not current: run scripts/make-maps-md.py {folder}")


main(sys.argv[1:])
