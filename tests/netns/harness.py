# SPDX-License-Identifier: Apache-2.0
"""harness.py -- cases of a scripted test, run in order, and the record of what passed.

A test file names its cases and ends in `harness.main()`:

    @case("no frame crosses between tenants [R3][R84]")
    def _(bench): ...

`bench` has `binaries`, the folder of the programs under test, and `seed`, and makes scenes. The record has the form of Catch2's
XML reporter, so that the requirement ids in the names count like its tags.
"""
import argparse
import os
import pathlib
import re
import sys
import time
import traceback
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
from lab import Lab, LabError  # noqa: E402  pylint: disable=wrong-import-position

_cases = []


class Skip(Exception):
    """The case cannot run here; its text is the reason."""


def case(name):
    def register(function):
        _cases.append((name, function))
        return function
    return register


def check(held, what):
    """The assertion of the scripted tests; it cannot be optimised away."""
    if not held:
        raise AssertionError(what)


def check_equal(got, wanted, what):
    check(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


class Bench:
    def __init__(self, binaries, seed, ctl):
        self.binaries, self.seed, self.ctl = binaries, seed, ctl

    def lab(self):
        return Lab(self.binaries, self.ctl)


def _agents_said(lab):
    for place in lab.places:
        said = getattr(place, "agent_said", lambda: "")()
        if said:
            print(f"--- ivdsd on {place.name} said:\n{said[-8000:]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--ctl", type=pathlib.Path, help="the ivds-ctl to use instead of that in BINARIES, if it is there")
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--only", default="", help="run only the cases whose name contains this")
    parser.add_argument("--seed", type=int, default=1, help="what random cases draw from; 0: another one each time")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("SKIP: making network namespaces and loading BPF programs need root")
        sys.exit(77)
    root = ElementTree.Element("Catch2TestRun", name=pathlib.Path(sys.argv[0]).stem)
    ctl = arguments.ctl.resolve() if arguments.ctl and arguments.ctl.exists() else None
    failed = skipped = 0
    for name, function in _cases:
        if arguments.only not in name:
            continue
        element = ElementTree.SubElement(root, "TestCase", name=name, tags="".join(re.findall(r"\[\w+\]", name)))
        started, success, skips = time.monotonic(), True, 0
        try:
            function(Bench(arguments.binaries, arguments.seed or int(time.time()), ctl))
        except Skip as reason:
            skips, skipped = 1, skipped + 1
            ElementTree.SubElement(element, "Skip").text = str(reason)
            print(f"SKIP: {name}: {reason}")
        except Exception as error:  # pylint: disable=broad-except
            success, failed = False, failed + 1
            if isinstance(error, (AssertionError, LabError)):
                print(f"FAILED: {error}")
            traceback.print_exc(file=sys.stdout)
        ElementTree.SubElement(element, "OverallResult", success=str(success).lower(), skips=str(skips))
        print(f"{'ok  ' if success and not skips else 'skip' if skips else 'FAIL'} {name} "
              f"({time.monotonic() - started:.1f} s)", flush=True)
        if arguments.record:  # after each case, so that a crash loses none
            ElementTree.ElementTree(root).write(arguments.record)
    if failed:
        sys.exit(1)
    sys.exit(77 if skipped and skipped == len(root) else 0)
