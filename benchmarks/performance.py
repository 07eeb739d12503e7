"""Time and memory beside plain inference and other quantizers, in turns in one run; every bar.

    python benchmarks/performance.py [--shared DIR] [--minilm FILE] [--cache DIR] [--only PART,...]
        [--models NAME,...] [--repeats N] [--no-wait] [--no-peers] [--onnxsim PYTHON]
        [--modelopt PYTHON] [--tree CHECKOUT] [-o FILE.json] [--write docs/performance.md]
        [--front README.md --front docs/index.md]

ONNX Runtime's own quantizer is measured with this interpreter, onnxsim's and Model Optimizer's with
those that `--onnxsim` and `--modelopt` name. `--tree` times another checkout. Figures of parts that
are not measured anew come from the file of `-o`. `--write` renews the part of the page between its
two marks, `--front` the short table of the README and the site. Exit code 1: a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bars import Results, timed  # noqa: E402
from cases import ROOT, Case, add_places, places, say  # noqa: E402
from page_times import TITLES, front, quantizers, times  # noqa: E402
from quiet import PATIENCE  # noqa: E402
from times import OF_CASE, WHOLE, Timer, cases_of  # noqa: E402

MODELS = ("efficientnet_lite0", "yolo11n", "minilm_l3", "resnet20")
BEGIN, END = "<!-- times: begin -->", "<!-- times: end -->"


def main() -> int:
    """Measure, keep, print, and write the page if asked to."""
    args = _arguments()
    timer = Timer(
        places(args),
        args.tree.resolve(),
        args.repeats,
        0.0 if args.no_wait else PATIENCE,
        args.onnxsim,
        args.modelopt,
        not args.no_peers,
    )
    found: Results = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    for name, part, measure in _chosen(timer, args):
        found.setdefault(name, {})[part] = measure()
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    text = times(found)
    print("\n".join([text, quantizers(found)]))
    for file, renewed in ((args.write, text), *((page, front(found)) for page in args.front)):
        if file:
            page = file.read_text("utf-8")
            head, tail = page.split(BEGIN)[0], page.split(END)[1]
            file.write_text(f"{head}{BEGIN}\n\n{renewed}\n{END}{tail}", "utf-8")
    return 0 if all(bar.passed for bar in timed(found, TITLES)) else 1


def _chosen(
    timer: Timer, args: argparse.Namespace
) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """(result's name, part, the measurement) for everything asked for that can be measured."""
    for part in args.only:
        if part in WHOLE:
            yield "whole", part, lambda part=part: WHOLE[part](timer)
            continue
        for case in cases_of(part, args.models):
            if why := timer.bench.missing(case):
                say(f"{case.title}: not measured: {why}")
            else:
                yield case.name, part, _measuring(timer, part, case)


def _measuring(timer: Timer, part: str, case: Case) -> Callable[[], dict[str, Any]]:
    return lambda: OF_CASE[part](timer, case)


def _arguments() -> argparse.Namespace:
    parts = [*WHOLE, *OF_CASE]
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    add_places(parser)
    parser.add_argument("--only", default=",".join(parts), help="of " + ", ".join(parts))
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-wait", action="store_true", help="measure a busy machine")
    parser.add_argument("--no-peers", action="store_true", help="no other quantizers, no scores")
    parser.add_argument("--onnxsim", metavar="PYTHON", help="an interpreter that has onnxsim")
    parser.add_argument("--modelopt", metavar="PYTHON", help="one that has Model Optimizer")
    parser.add_argument("--front", type=Path, metavar="FILE", action="append", default=[],
                        help="whose short table to renew")  # fmt: skip
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to time")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "performance.json")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page to renew")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := sorted(set(args.only) - set(parts)):
        parser.error(f"no part '{unknown[0]}'; choose of {', '.join(parts)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
