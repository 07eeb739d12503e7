"""NVFP4 beside FP8 and INT4 weights: accuracy and engines, into docs/schemes.md.

    python benchmarks/fp4.py --shared DIR --minilm FILE --cache DIR [--vit FILE]
    python benchmarks/fp4.py --page --cache DIR    # the page alone, from what the cache has

MiniLM-L3 is scored on the sentence pairs of docs/results.md, which nobody calibrated on; a
vision transformer (any ONNX file that takes 224 x 224 images) by the SQNR of its output over
images of ImageNet. NVFP4 runs as the float stand-in. Engines are built without a GPU and read.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from accuracy import reference, run, score, sqnr_db
from cases import CASES, ROOT, Bench, add_places, calibration, places, say
from markdown import table

import onnxq
from onnxq.trt.build import BuildOptions
from onnxq.trt.fleet import fleet
from onnxq.verbs.models import compare_models

PAGE = ROOT / "docs" / "schemes.md"
BEGINS, ENDS = "<!-- fp4 begins -->", "<!-- fp4 ends -->"
ARCHITECTURES = ("sm89", "sm120")
ATTENTION = "*attention/MatMul*", "*self/MatMul*"  # products of two activations, by their names
INT8 = "nvfp4, INT8 where it has no kernel"
BUILT = ("fp8", "w4a16", "nvfp4")
TITLES = ("MiniLM-L3", "ViT-S")
RECOVERIES = {"none": "none", "default": "auto", "adaround": "adaround,bias"}
ALL = tuple(RECOVERIES)
RUNS: dict[str, tuple[str, ...]] = {
    "nvfp4": ALL, "fp8": ALL[:2], "w4a16": ALL, INT8: ALL[:1], "w8a8": ALL[:1],
}  # fmt: skip
IMAGES = 64
Found = dict[str, Any]


def options(scheme: str, recover: str, patterns: tuple[str, ...]) -> dict[str, Any]:
    """Those of `onnxq.quantize`."""
    name = "nvfp4" if scheme == INT8 else scheme
    others = tuple(f"{p}=w8a8" for p in patterns) if scheme == INT8 else ()
    return {"scheme": name, "scheme_for": others, "recover": RECOVERIES[recover]}


def minilm(bench: Bench, scheme: str, recover: str) -> Found:
    """SQNR and Spearman's rank correlation of MiniLM-L3, and its file."""
    case = next(c for c in CASES if c.name == "minilm_l3")
    path = bench.cache / f"fp4-minilm-{scheme.partition(',')[0]}-{recover}.onnx"
    asked = options(scheme, recover, ATTENTION[1:])
    made = onnxq.quantize(bench.model(case), calibration(bench, case), **asked)
    made.save(path)
    outputs = run(bench, case, path)
    ref = reference(bench, case)
    return {
        "db": sqnr_db(ref, outputs),
        "metric": score(bench, case, outputs)[0],
        **_of(path, made, scheme, recover),
    }


def vit(bench: Bench, model: Path, scheme: str, recover: str) -> Found:
    """SQNR of a vision transformer, and its file."""
    path = bench.cache / f"fp4-vit-{scheme.partition(',')[0]}-{recover}.onnx"
    folder = bench.shared / "data" / "imagenet"
    asked = {"preprocess": "imagenet", "samples": IMAGES}
    own = options(scheme, recover, ATTENTION[:1])
    made = onnxq.quantize(model, [str(folder / "calib")], **own, **asked)
    made.save(path)
    config = onnxq.Config(preprocess="imagenet", samples=IMAGES)
    found = compare_models(model, path, [str(folder / "val")], config=config)
    decibels = [a.sqnr_db for a in found.found.judged.values()]
    return {"db": min(decibels), "metric": None, **_of(path, made, scheme, recover)}


def _of(path: Path, made: Any, scheme: str, recover: str) -> Found:
    kinds = Counter(made.plan.precision(name) for name in made.plan.nodes)
    found: Found = {"mb": path.stat().st_size / 1e6, "nodes": dict(kinds.most_common())}
    if recover == "none" and scheme in BUILT:
        cells = fleet(path, ARCHITECTURES, BuildOptions("tensorrt-rtx"), {}).cells
        found["engines"] = [asdict(cell) for cell in cells]
    return found


def measure(bench: Bench, model: Path | None, kept: Path) -> None:
    """Measure what is not kept yet."""
    for recover in RECOVERIES:  # what takes longest comes last
        for scheme, title in product(RUNS, TITLES[: 1 if model is None else 2]):
            key, found = f"{title}: {scheme}: {recover}", read(kept)
            if key in found or recover not in RUNS[scheme]:
                continue
            if title == TITLES[0]:
                one = minilm(bench, scheme, recover)
            elif model is not None and recover != "adaround":
                one = vit(bench, model, scheme, recover)
            else:
                continue
            say(f"{key}: {json.dumps(one)}")
            kept.write_text(json.dumps({**read(kept), key: one}, indent=1), "utf-8")


def page(found: dict[str, Found]) -> str:
    """Both tables."""
    accuracy, builds = [], []
    for title in TITLES:
        for scheme, recoveries in RUNS.items():
            mine = {r: found.get(f"{title}: {scheme}: {r}") for r in recoveries}
            plain = mine.get("none")
            if plain is None:
                continue
            cells = [_cell(mine.get(r)) for r in RECOVERIES]
            kinds = ", ".join(f"{n} {kind}" for kind, n in plain["nodes"].items())
            accuracy.append([title, scheme, *cells, f"{plain['mb']:.1f}", kinds])
            builds += [
                [title, scheme, cell["arch"], cell["form"], *_built(cell)]
                for cell in plain.get("engines", ())
            ]
    heads = (
        ["model", "scheme", "plain", "as `quantize` does it", "adaround, bias", "MB", "nodes"],
        ["model", "scheme", "for", "around it", "as meant", "kernels", "MB moved"],
    )
    return f"{table(heads[0], accuracy)}\n{table(heads[1], builds)}"


def _cell(found: Found | None) -> str:
    if found is None:
        return ""
    metric = found["metric"]
    return f"{found['db']:.2f}" + ("" if metric is None else f" / {metric:.2f}")


def _built(cell: Found) -> list[str]:
    if cell["state"] != "builds":
        return [cell["state"], "", ""]
    moved = "" if cell["moved"] is None else f"{cell['moved'] / 1e6:.1f}"
    return [f"{cell['covered']} of {cell['meant']}", str(cell["kernels"]), moved]


def read(kept: Path) -> dict[str, Found]:
    """What was measured so far."""
    found: dict[str, Found] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_places(parser)
    parser.add_argument("--vit", type=Path, metavar="FILE", help="a vision transformer")
    parser.add_argument("--page", action="store_true", help="write the page from what is kept")
    args = parser.parse_args()
    bench = places(args)
    kept = bench.cache / "fp4.json"
    if not args.page:
        measure(bench, args.vit, kept)
    head, _, rest = PAGE.read_text("utf-8").partition(BEGINS)
    text = f"{head}{BEGINS}\n\n{page(read(kept))}\n{ENDS}{rest.partition(ENDS)[2]}"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
