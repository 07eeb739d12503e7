"""`onnxq tune` on the fixtures and on real models: which rung meets a goal, and what it took.

    python benchmarks/tune.py [--shared DIR] [--minilm FILE] [--cache DIR] [--only NAME ...]
        [--ladder TITLE=FOLDER ...] [--page]

Every model calibrates on its own data and is judged by others (`--eval`), PP-OCR's detector by
drawn pages with text. The figure in the record has to be that of the manifest of the model that is
written, and be printed. Results are kept in CACHE/tune.json; `--page` writes them into
docs/mixed.md, with the ladders of folders that `onnxq tune` wrote by hand. Exit code 1: a figure is
not the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, ONNXQ, ROOT, Bench, add_places, calibration, feeds, places, say
from text_images import pages

sys.path[:0] = [str(ROOT), str(ROOT / "cli")]

from onnxq.ladder.result import Tuned  # noqa: E402
from onnxq.report.tuning import markdown  # noqa: E402

PAGE = ROOT / "docs" / "mixed.md"
BEGINS, ENDS = "<!-- figures begin -->", "<!-- figures end -->"
JUDGES = 32  # samples that judge a model that is not a fixture
FIXTURES = {"classifier": "classifier", "transformer": "transformer", "yolo_like": "yolo_like",
            "centerpoint": "backbone_neck_head"}  # fmt: skip
LADDERS = "ladders"  # the key of those that are shown whole


@dataclass(frozen=True)
class Run:
    """A model and a goal for it."""

    name: str
    goal: tuple[str, ...]

    @property
    def key(self) -> str:
        """What it is kept by."""
        return " ".join((self.name, *self.goal))


RUNS = tuple(
    Run(name, tuple(goal.split()))
    for name, goal in (
        ("classifier", "--min-sqnr 43"),
        ("classifier", "--max-drop 0.5 --metric top1"),
        ("transformer", "--min-sqnr 36"),
        ("centerpoint", "--min-sqnr 32"),
        ("yolo_like", "--min-sqnr 32"),
        ("efficientnet_lite0", "--min-sqnr 26"),
        ("minilm_l3", "--min-sqnr 28"),
        ("yolo11n", "--min-sqnr 17"),
        ("yolo11n", "--agreement 0.95"),
        ("ppocr_det", "--min-sqnr 20"),
        ("ppocr_det", "--min-sqnr 25 --recover channels,bias"),
        ("ppocr_det", "--agreement 0.98"),
    )
)


def main() -> int:
    """Run what is asked for and missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--only", action="append", metavar="NAME",
                        help="a model, or a model with its goal, to run")  # fmt: skip
    parser.add_argument("--ladder", action="append", default=[], metavar="TITLE=FOLDER")
    parser.add_argument("--page", action="store_true", help="write docs/mixed.md")
    args = parser.parse_args()
    bench = places(args)
    kept = bench.cache / "tune.json"
    results: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    same = True
    for run in RUNS:
        if args.only is not None and not {run.name, run.key} & {*args.only}:
            continue
        if why := missing(bench, run.name):
            say(f"{run.name}: not measured: {why}")
            continue
        results[run.key] = found = measured(bench, run)
        same &= found["same"]
        kept.write_text(json.dumps(results, indent=1), "utf-8")
    for title, _, folder in (word.rpartition("=") for word in args.ladder):
        shown = Tuned.load(Path(folder) / "tune.json")
        results.setdefault(LADDERS, {})[title] = markdown(shown)
        kept.write_text(json.dumps(results, indent=1), "utf-8")
    text = table(results)
    print(text)
    if args.page:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGINS)
        after = rest.partition(ENDS)[2]
        PAGE.write_text(f"{before}{BEGINS}\n\n{text}\n{ENDS}{after}", "utf-8")
    return 0 if same else 1


def missing(bench: Bench, name: str) -> str | None:
    """What keeps a model from being measured, None if nothing does."""
    return None if name in FIXTURES else bench.missing(case_of(name))


def case_of(name: str) -> Any:
    """The case of a model that is not a fixture."""
    return next(case for case in CASES if case.name == name)


def measured(bench: Bench, run: Run) -> dict[str, Any]:
    """Tune a model; the record, and whether its figure is the same everywhere."""
    model, calib, judges, labels = data(bench, run.name)
    folder = bench.cache / f"tuned-{run.key.replace(' ', '').replace('--', '-')}"
    words = [*ONNXQ, "tune", str(model), "--calib", str(calib), "--eval", str(judges), *run.goal]
    if "top1" in run.goal:
        words += ["--labels", str(labels)]
    say(f"{run.key}: tune")
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    done = subprocess.run([*words, "-o", str(folder)], env=environment, text=True, check=False,
                          stdout=subprocess.PIPE)  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{run.key}: exit code {done.returncode}")
    record = json.loads((folder / "tune.json").read_text("utf-8"))
    taken = record["rungs"][record["chosen"]]
    (written,) = folder.glob("*.manifest.json")
    headline = json.loads(written.read_text("utf-8"))["agreement"]["headline"]
    printed = f"{taken['sqnr_db']:.1f} dB ({taken['part']})" in done.stdout
    same = printed and headline["sqnr_db"] == round(taken["sqnr_db"], 3)
    if not same:
        say(f"{run.key}: {headline} in the manifest, {taken['sqnr_db']} in the record, "
            f"{'printed' if printed else 'not printed'}")  # fmt: skip
    return {"record": record, "same": same}


def data(bench: Bench, name: str) -> tuple[Path, Path, Path, Path | None]:
    """(model, what calibrates, what judges, the labels of that)."""
    if name in FIXTURES:
        return of_fixture(bench, name)
    case = case_of(name)
    if name == "ppocr_det":
        return bench.model(case), drawn(bench, 0, 40), drawn(bench, 1, 24), None
    rows = islice(feeds(bench, case, "val"), JUDGES)
    return bench.model(case), calibration(bench, case), saved(bench, name, rows), None


def drawn(bench: Bench, seed: int, count: int) -> Path:
    """Pages with text as PP-OCR's detector takes them, [n, 3, 352, 480], made once."""
    path = bench.cache / f"pages-{seed}-{count}.npy"
    if not path.is_file():
        mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        made = [
            (np.float32(page.pixels) / 255 - mean) / std for page in pages(count, seed, 480, 352)
        ]
        np.save(path, np.ascontiguousarray(np.stack(made).transpose(0, 3, 1, 2)))
    return path


def of_fixture(bench: Bench, name: str) -> tuple[Path, Path, Path, Path | None]:
    """The same of a fixture; its evaluation data judge."""
    folder = ROOT / "fixtures" / name
    model = folder / f"{FIXTURES[name]}.onnx"
    (calib,) = (p for p in folder.glob("calib.np*"))
    labels = None
    with np.load(folder / "eval.npz") as found:
        if name == "centerpoint":
            from fixtures.centerpoint.score import canvases, load_eval

            scenes = load_eval()[:JUDGES]
            rows = canvases(folder / "voxel_encoder.onnx", scenes)
            return model, calib, saved(bench, name, rows), None
        if name == "yolo_like":
            arrays = {"images": np.float32(found["images"][:JUDGES]) / np.float32(255)}
        elif name == "classifier":
            arrays = {"image": found["x"]}
            labels = bench.cache / "labels-classifier.npy"
            np.save(labels, found["y"])
        else:
            arrays = {k: found[k][:256] for k in ("input_ids", "attention_mask")}
    path = bench.cache / f"judges-{name}.npz"
    np.savez(path, **arrays)
    return model, calib, path, labels


def saved(bench: Bench, name: str, rows: Iterable[Any]) -> Path:
    """Samples in a file: arrays, or mappings by input."""
    every = list(rows)
    path = bench.cache / f"judges-{name}.np{'z' if isinstance(every[0], dict) else 'y'}"
    if isinstance(every[0], dict):
        np.savez(path, **{k: np.concatenate([row[k] for row in every]) for k in every[0]})
    else:
        np.save(path, np.concatenate(every))
    return path


def table(results: dict[str, Any]) -> str:
    """What was taken, a line a goal, and some ladders whole."""
    head = ["model", "goal", "default", "taken", "figure", "SQNR, dB", "quantized", "cost",
            "rungs", "seconds"]  # fmt: skip
    rows = [row(run, results[run.key]["record"]) for run in RUNS if run.key in results]
    lines = [head, ["---", "---", *["--:"] * 8], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    shown = results.get(LADDERS, {})
    return "\n".join([text, *(f"{title}:\n\n{found}" for title, found in shown.items())])


def row(run: Run, record: dict[str, Any]) -> list[str]:
    """A line of the table."""
    rungs = record["rungs"]
    first, taken = rungs[0], rungs[record["chosen"]]
    made = sum(not rung["why"] for rung in rungs)
    title = run.name if run.name in FIXTURES else case_of(run.name).title
    return [
        f"{title}{', a fixture' if run.name in FIXTURES else ''}",
        f"`{' '.join(run.goal)}`",
        f"{float(first['figure']):.3g}",
        taken["name"] if taken["holds"] else f"**not met**; best: {taken['name']}",
        f"{float(taken['figure']):.3g}",
        f"{float(taken['sqnr_db']):.1f}",
        f"{100 * float(taken['macs']):.1f}%",
        f"{float(taken['cost']):.3f}",
        f"{made} of {len(rungs)}",
        f"{sum(rung['seconds'] for rung in rungs):.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
