"""Damaged files through the command line: `python benchmarks/fuzz.py --mutants 10000`.

Prints every mutant that did harm, then how many there were by file: refused in one line, or taken
(the damage was harmless or in the numbers). Exits with 1 if any did harm. `--seed N --mutants 1`
repeats one. The mutants are made and judged by tests/fuzzing.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fuzzing import COMMANDS, survive


def main() -> int:
    """Run the mutants and print the counts; 1 if any did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="The first seed.")
    options = parser.parse_args()
    refused, taken, harm = Counter(), Counter(), Counter()
    slowest = 0.0
    for outcome in survive(options.seed, options.mutants):
        slowest = max(slowest, outcome.seconds)
        if outcome.fault:
            harm[outcome.file] += 1
            print(f"seed {outcome.seed}, {outcome.command}: {outcome.fault}", flush=True)
        else:
            (refused if outcome.code else taken)[outcome.file] += 1
    print(f"| {'file damaged':28} | refused | taken | harm |")
    print(f"|{'-' * 30}|{'-' * 9}|{'-' * 7}|{'-' * 6}|")
    for file in (*COMMANDS, *sorted(harm.keys() - COMMANDS.keys())):
        print(f"| {file:28} | {refused[file]:7} | {taken[file]:5} | {harm[file]:4} |")
    total = (refused.total(), taken.total(), harm.total())
    print(f"| {'all':28} | {total[0]:7} | {total[1]:5} | {total[2]:4} |")
    print(f"slowest: {slowest:.1f} s")
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main())
