#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy on every translation unit of the programs that BUILD compiles, as many at a time as there are cores.

A clean unit leaves a stamp in BUILD/tidy, named by the hash of all that clang-tidy's verdict depends on: the
configuration, the compile command and every file of the project that the unit includes. It is looked at again only
when one of these changes.
"""
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = [TOP / "loader", TOP / "ctl", TOP / "offload"]
# The analyzer looks less deep than it could: the whole of it would take longer than the build.
TIDY = ["clang-tidy-19", "--quiet", "--extra-arg=-Wno-unknown-warning-option",
        *(f"--extra-arg={word}" for word in ("-Xclang", "-analyzer-config", "-Xclang", "mode=shallow"))]


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
    key = hashlib.sha256((unit["command"] + digest(TOP / ".clang-tidy")).encode())
    for name in sorted({str((build / f).resolve()) for f in files if not f.startswith("/usr/")} | {unit["file"]}):
        key.update(f"{name} {digest(name)}\n".encode())
    return build / "tidy" / key.hexdigest()


def look(build, file):
    done = subprocess.run([*TIDY, "-p", str(build), file], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    stamps = build / "tidy"
    stamps.mkdir(exist_ok=True)
    deps = included(build)
    units, kept, todo = 0, set(), []
    for unit in json.loads((build / "compile_commands.json").read_text()):
        file = pathlib.Path(unit["file"])
        if file.suffix != ".cpp" or not any(folder in file.parents for folder in FOLDERS):
            continue
        units += 1
        stamp = stamp_of(unit, deps, build)
        if stamp and stamp.exists():
            kept.add(stamp)
        else:
            todo.append((unit["file"], stamp))
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (file, stamp), (code, out) in zip(todo, pool.map(lambda item: look(build, item[0]), todo)):
            if code == 0:
                if stamp:
                    stamp.touch()
                    kept.add(stamp)
            else:
                bad += 1
                print(f"{os.path.relpath(file, TOP)}:\n{out}", flush=True)
    for stale in set(stamps.iterdir()) - kept:
        stale.unlink()
    print(f"{units} units, {len(todo)} looked at, {bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
