#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on every source file of the programs that BUILD compiles, as many at a time as there are cores.

Most of a unit is what gRPC, protobuf and the standard library include, so several units are looked at as one that
includes them: those that BUILD compiles as one, and else what seems to fit together. Where that finds anything, or the
units do not fit together, each of them is looked at alone, and what is said is of that.

A clean unit leaves a stamp in BUILD/tidy, named by the hash of all that clang-tidy's verdict depends on: the
configuration, the compile command and every file of the project that the unit includes. It is looked at again only
when one of these changes.
"""
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = [TOP / "loader", TOP / "ctl", TOP / "offload"]
CONFIG = TOP / ".clang-tidy"
TOGETHER = 8
# The analyzer looks less deep than it could: the whole of it would take longer than the build. It does not follow calls
# into the standard library, where it else spends what it may spend on a function before it has seen the end of it.
TIDY = ["clang-tidy-19", "--quiet", f"--config-file={CONFIG}", "--extra-arg=-Wno-unknown-warning-option",
        *(f"--extra-arg={word}" for word in
          ("-Xclang", "-analyzer-config", "-Xclang", "mode=shallow,c++-stdlib-inlining=false"))]


@dataclasses.dataclass
class Unit:
    file: str
    command: str
    stamp: pathlib.Path | None
    compiled_as: str  # the file of the compile command: its own, or one of CMake's that includes several

    @functools.cached_property
    def text(self):
        return pathlib.Path(self.file).read_text()

    @property
    def is_part(self):
        return self.compiled_as != self.file

    @property
    def words(self):
        """Its compile command, without the compiler, the file and the output."""
        words = shlex.split(self.command)
        end = words.index("-o")
        return words[1:end] + [word for word in words[end + 2:] if word not in ("-c", self.file)]

    @property
    def company(self):
        """What has to be the same in units that are looked at as one; <pcap.h> has a struct bpf_insn of its own. Unused
        using-declarations are found in a unit's own file only, so one with a name that it never says again stays alone."""
        used = re.findall(r"^using [\w:]+::(\w+);", self.text, re.MULTILINE)
        lone = self.file if any(len(re.findall(rf"\b{name}\b", self.text)) == 1 for name in used) else ""
        if self.is_part:
            return self.compiled_as, lone
        return (tuple(self.words), frozenset(re.findall(r"^using namespace .*;", self.text, re.MULTILINE)),
                "<pcap" in self.text, lone)

    @functools.cached_property
    def names(self):
        """main, and what it declares in anonymous namespaces, where clang-format leaves that at a line's start."""
        found, inside = set(), False
        for line in self.text.splitlines():
            if line == "namespace {":
                inside = True
            elif line.startswith("}  // namespace"):
                inside = False
            elif inside or line.startswith("int main("):
                name = (re.match(r"(?:template.*> )?(?:struct|class|enum class|enum|using) (\w+)", line)
                        or re.match(r"[A-Za-z].*?(\w+)\s*[(={;\[]", line))
                if name:
                    found.add(name[1])
        return found


def sources(unit):
    """The source files that a compile command is for: CMake makes one of several by a file that includes them."""
    file = pathlib.Path(unit["file"])
    return re.findall(r'^#include "(.+)"$', file.read_text(), re.MULTILINE) if file.parent.name == "Unity" else [str(file)]


def included(build):
    """For each object file, the files it was last built from, as ninja noted them."""
    out = subprocess.run(["ninja", "-C", str(build), "-t", "deps"], capture_output=True, text=True, check=False).stdout
    deps, current = {}, None
    for line in out.splitlines():
        if line.startswith("    "):
            current.append(line.strip())
        elif ": #deps" in line:
            current = deps.setdefault(line.split(": #deps")[0], [])
    return deps


@functools.cache
def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def stamp_of(unit, deps, build):
    """The name of the unit's stamp; none while the unit has not been built as it is."""
    files = deps.get(re.search(r" -o (\S+)", unit["command"])[1])
    if not files:
        return None
    key = hashlib.sha256(" ".join([*TIDY, unit["command"], digest(CONFIG)]).encode())
    for name in sorted({str((build / f).resolve()) for f in files if not f.startswith("/usr/")} | {unit["file"]}):
        key.update(f"{name} {digest(name)}\n".encode())
    return build / "tidy" / key.hexdigest()


def batches(units):
    """The units in lists of those that are compiled as one, or of up to TOGETHER that fit together, the longest text
    first."""
    fitting = collections.defaultdict(list)
    for unit in units:
        lists = fitting[unit.company]
        place = next((batch for batch in lists
                      if unit.is_part or
                      (len(batch) < TOGETHER and not any(unit.names & other.names for other in batch))), None)
        if place is None:
            lists.append(place := [])
        place.append(unit)
    return sorted((batch for lists in fitting.values() for batch in lists),
                  key=lambda batch: -sum(len(unit.text) for unit in batch))


def tidy(file, words, *options):
    done = subprocess.run([*TIDY, *options, file, "--", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def look(build, number, batch):
    """(unit, exit code, output) of each unit of the batch."""
    if len(batch) > 1:
        # The analyzer takes files that a file of this name includes for code, not for headers.
        whole = build / "tidy" / f"UnifiedSource-{number}.cpp"
        whole.write_text("".join(f'#include "{unit.file}"\n' for unit in batch))
        headers = re.search(r"^HeaderFilterRegex: '(.*)\\.h\$'$", CONFIG.read_text(), re.MULTILINE)[1]
        if tidy(str(whole), batch[0].words, rf"--header-filter={headers}\.(h|cpp)$")[0] == 0:
            return [(unit, 0, "") for unit in batch]
    return [(unit, *tidy(unit.file, unit.words)) for unit in batch]


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    stamps = build / "tidy"
    stamps.mkdir(exist_ok=True)
    deps = included(build)
    units, kept, todo = 0, set(), []
    commands = json.loads((build / "compile_commands.json").read_text())
    for unit in ({"file": source, "command": command["command"].replace(command["file"], source),
                  "compiled_as": command["file"]} for command in commands for source in sources(command)):
        file = pathlib.Path(unit["file"])
        # Tests compile a few of the files once more.
        if file.suffix != ".cpp" or not any(folder in file.parents for folder in FOLDERS) or " -o tests/" in unit["command"]:
            continue
        units += 1
        stamp = stamp_of(unit, deps, build)
        if stamp and stamp.exists():
            kept.add(stamp)
        else:
            todo.append(Unit(unit["file"], unit["command"], stamp, unit["compiled_as"]))
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = [pool.submit(look, build, number, batch) for number, batch in enumerate(batches(todo))]
        for unit, code, out in (result for done in concurrent.futures.as_completed(looks) for result in done.result()):
            if code == 0:
                if unit.stamp:
                    unit.stamp.touch()
                    kept.add(unit.stamp)
            else:
                bad += 1
                print(f"{os.path.relpath(unit.file, TOP)}:\n{out}", flush=True)
    for stale in set(stamps.iterdir()) - kept:
        stale.unlink()
    print(f"{units} units, {len(todo)} looked at, {bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
