"""Measure what `onnxq quantize` makes of real models, against the bars; performance.py times it.

    python benchmarks/results.py [--shared DIR] [--minilm FILE] [--cache DIR]
        [--only PART,...] [--models NAME,...] [--schemes NAME,...] [--write docs/results.md]

Results of parts are kept in `results.json` beside this file, so that one can be measured anew.
Needs pillow (and tokenizers for MiniLM) besides onnxq; engines need tensorrt-rtx. Exit code 1: a
bar is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from accuracy import accuracy  # noqa: E402
from bars import Results, bars  # noqa: E402
from cases import CASES, Bench, Case, add_places, places, say  # noqa: E402
from checks import centerpoint, identity, memory  # noqa: E402
from engines import engines  # noqa: E402
from page import page  # noqa: E402
from precisions import FOUR_BITS, four_bits, recoveries, schemes  # noqa: E402

from onnxq.schemes import SCHEMES  # noqa: E402

PARTS: dict[str, Callable[[Bench, Case], Any]] = {
    "accuracy": accuracy,
    "engines": engines,
    "memory": memory,
    "identity": identity,
    "schemes": schemes,
    "recoveries": recoveries,
    "four_bits": four_bits,
}
LITE0_ALONE = ("memory", "identity")  # parts that one model answers
PACKAGES = ("onnxruntime", "numpy", "tensorrt-rtx")


def main() -> int:
    """Measure what is asked for, merge it with what the cache holds, print the bars."""
    args = _arguments()
    bench = places(args)
    kept = HERE / "results.json"
    results: Results = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    for name, part, measure in _chosen(bench, args):
        old = results.setdefault(name, {}).get(part) if part == "schemes" else None
        results[name][part] = {**(old or {}), **measure()}
        kept.write_text(json.dumps(results, indent=1), "utf-8")
    found = bars(results, {case.name: case.title for case in CASES})
    for bar in found:
        print(f"{'pass' if bar.passed else 'MISS'}  {bar.model}: {bar.asked}: {bar.measured}")
    if args.write:
        absent = [
            f"{case.title} ({why})"
            for case in CASES
            if case.name not in results and (why := bench.missing(case))
        ]
        args.write.write_text(page(results, setup(), absent), "utf-8")
    return 0 if all(bar.passed for bar in found) else 1


def _chosen(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """(result's name, part, the measurement) for everything asked for that can be measured."""
    for case in CASES:
        if case.name not in args.models:
            continue
        if why := bench.missing(case):
            say(f"{case.title}: not measured: {why}")
            continue
        for part, measure in PARTS.items():
            if part not in args.only or (part in LITE0_ALONE and case is not CASES[0]):
                continue
            if part == "four_bits" and case.name not in FOUR_BITS:
                continue
            if part == "engines" and importlib.util.find_spec("tensorrt_rtx") is None:
                say("engines: not measured: no tensorrt_rtx; pip install 'onnxq[rtx]'")
                continue
            if part == "schemes":
                measure = partial(schemes, names=args.schemes)
            yield case.name, part, partial(measure, bench, case)
    if "centerpoint" in args.only:
        yield "centerpoint", "map", lambda: centerpoint(bench.cache)


def _arguments() -> argparse.Namespace:
    def names(known: list[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            if unknown := sorted(set(text.split(",")) - set(known)):
                raise argparse.ArgumentTypeError(f"no '{unknown[0]}'; choose of {', '.join(known)}")
            return text.split(",")

        return parse

    parts, models = [*PARTS, "centerpoint"], [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    add_places(parser)
    parser.add_argument("--only", type=names(parts), default=parts, help=", ".join(parts))
    parser.add_argument("--models", type=names(models), default=models, help=", ".join(models))
    parser.add_argument("--schemes", type=names([*SCHEMES]), default=[*SCHEMES], metavar="NAME,...",
                        help=", ".join(SCHEMES))  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page")
    return parser.parse_args()


def setup() -> str:
    """On what the figures were measured, in words that name no machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{cores} cores ({platform.machine()}), {', '.join(versions)}"


if __name__ == "__main__":
    sys.exit(main())
