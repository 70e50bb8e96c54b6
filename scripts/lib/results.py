#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a run of the tests showed.

results.py collect BUILD [--record FILE]   list what was skipped; write the cases of the run to FILE
results.py requirements FILE…              a line a requirement, from such files of one commit; the first is of a full run

A run is CTest's JUnit file (BUILD/ctest.xml) and a file for each program that reports its single cases in Catch2's
XML (BUILD/results/NAME.xml; the scripted tests write the same form). A case passed if its program did, it succeeded
and it skipped nothing; a file that ends in the middle, because its program crashed, shows nothing.
"""
import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

REQUIREMENTS = 192
# What is shown where all of these are, as it asks for nothing beside them: R133 is R65's line speed, set by R132's rates;
# R135 is what other switches have (learning, flow table, profiles, ACL, rates, mirrors, bonds, telemetry, a control
# center, offload).
TOGETHER = {133: (65, 132), 135: (16, 48, 123, 130, 132, 136, 138, 148, 150, 171, 36, 179)}


def ids_of(text):
    return sorted({int(n) for n in re.findall(r"\bR([0-9]{1,3})\b", text)} & set(range(1, REQUIREMENTS + 1)))


def programs(build):
    """Name, status ("passed", "failed", "skipped") and output of each CTest test of the run."""
    file = build / "ctest.xml"
    if not file.exists():
        return
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        status = {"run": "passed", "fail": "failed"}.get(case.get("status"), "skipped")
        yield case.get("name"), status, case.findtext("system-out") or ""


def cases(file):
    """Name, tags and status of each case that a program reported."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return
    for case in root.iter("TestCase"):
        result = case.find("OverallResult")
        if result is None or result.get("success") != "true":
            status = "failed"
        else:
            status = "skipped" if int(result.get("skips", 0)) else "passed"
        reasons = [" ".join((skip.text or "").split()) for skip in case.iter("Skip")]
        yield case.get("name"), case.get("tags", ""), status, reasons


def git(*words):
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def collect(arguments):
    found, skips = [], []
    for name, status, output in programs(arguments.build):
        reported = list(cases(arguments.build / "results" / f"{name}.xml"))
        if status == "skipped":
            reasons = re.findall(r"^\s*SKIP: (.*)$", output, re.MULTILINE)
            skips.append((name, reasons or ["it gave no reason"]))
        for case, tags, case_status, reasons in reported:
            if case_status == "skipped" and status == "passed":
                skips.append((f"{name}: {case}", reasons or ["it gave no reason"]))
            both = case_status if status == "passed" else status
            found.append({"test": f"{name}: {case}", "status": both, "ids": ids_of(f"{tags} {case}")})
        found.append({"test": name, "status": status, "ids": ids_of(name)})
    if skips:
        print(f"\nSkipped ({len(skips)}):")
        for name, reasons in skips:
            print(f"  {name}: {'; '.join(dict.fromkeys(reasons))}")
    else:
        print("\nSkipped: nothing")
    if arguments.record:
        arguments.record.write_text(json.dumps({
            "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain")),
            "cases": found,
        }, indent=1) + "\n")


def requirements(arguments):
    shown = {}
    runs = [json.loads(file.read_text()) for file in arguments.files if file.exists()]
    for run in runs:
        if (run["commit"], run["changed"]) != (runs[0]["commit"], runs[0]["changed"]):
            continue
        for case in run["cases"]:
            if case["status"] == "passed":
                for number in case["ids"]:
                    shown.setdefault(number, []).append(case["test"])
    for number, parts in TOGETHER.items():
        if all(part in shown for part in parts):
            shown.setdefault(number, []).append(f"all of {', '.join(f'R{part}' for part in parts)}")
    for number in range(1, REQUIREMENTS + 1):
        tests = shown.get(number)
        print(f"R{number} shown: {'; '.join(tests)}" if tests else f"R{number} not shown")
    print(f"{len(shown)} of {REQUIREMENTS} requirements shown", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("collect")
    verb.add_argument("build", type=pathlib.Path)
    verb.add_argument("--record", type=pathlib.Path)
    verb.set_defaults(run=collect)
    verb = verbs.add_parser("requirements")
    verb.add_argument("files", type=pathlib.Path, nargs="+")
    verb.set_defaults(run=requirements)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
