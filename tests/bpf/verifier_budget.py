#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the programs to their verifier budget.

usage: verifier_budget.py [--update] VERIFIER_STATS BUDGET

Runs VERIFIER_STATS and compares it with the file BUDGET: more than 10 % more
instructions or stack than there, or a program that is not in it, fails. The
load time is shown and not judged. --update writes the present numbers into
BUDGET, to change it on purpose.
"""
import json
import subprocess
import sys

GROWTH = 1.10
JUDGED = ("instructions", "stack_bytes")


def main(arguments):
    update = "--update" in arguments
    paths = [argument for argument in arguments if argument != "--update"]
    if len(paths) != 2:
        sys.exit(__doc__)
    run = subprocess.run([paths[0]], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(run.stdout + run.stderr, end="")
        return run.returncode
    now = json.loads(run.stdout)
    if update:
        with open(paths[1], "w", encoding="utf-8") as file:
            file.write(run.stdout)
        return 0
    with open(paths[1], encoding="utf-8") as file:
        budget = json.load(file)

    failed = False
    print(f"{'program':<12} {'':<13} {'budget':>8} {'now':>8}")
    for program, numbers in now.items():
        for name, value in numbers.items():
            allowed = budget.get(program, {}).get(name, 0)
            over = name in JUDGED and value > allowed * GROWTH
            failed |= over
            print(f"{program:<12} {name:<13} {allowed:>8} {value:>8}{'  over the budget by more than 10 %' if over else ''}")
    for program in budget.keys() - now.keys():
        print(f"{program} is in the budget and not in the object")
        failed = True
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
