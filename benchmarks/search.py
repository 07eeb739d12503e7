"""Mixed precision on real models: the worst K nodes left float, and a searched plan, scored.

    python benchmarks/search.py [--shared DIR] [--cache DIR] [--models NAME,...]

YOLO11n starts from ranges by `--method max`, which lose most; biases are not corrected
(`--recover none`), so that what is seen is the plan alone. The nodes are ranked and the plans
searched on calibration samples without labels; mAP and top-1 are of validation images that nothing
was chosen on. Exit code 1: a bar is missed. Results are kept in CACHE/search.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from accuracy import bootstrap, closeness, reference, run, score  # noqa: E402
from cases import CASES, ROOT, Bench, Case, calibration, onnxq, say  # noqa: E402

from onnxq.sensitivity import Ranking  # noqa: E402

PLAIN = {"yolo11n": ("--method", "max", "--recover", "none"),
         "efficientnet_lite0": ("--recover", "none")}  # fmt: skip
COUNTS = (0, 1, 2, 3, 5, 8)
SHARES = {"yolo11n": 0.95, "efficientnet_lite0": 0.90}  # of the operations in INT8, at least
MAP_POINTS, GAIN_DB = 0.5, 3.0


def main() -> int:
    """Measure, print a table a model and the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "results")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(PLAIN))
    args = parser.parse_args()
    cache = args.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.shared.resolve(), None, cache)
    kept = cache / "search.json"
    results = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    passed = True
    for case in CASES:
        if case.name not in args.models:
            continue
        if why := bench.missing(case):
            say(f"{case.title}: not measured: {why}")
            continue
        results[case.name] = rows = measured(bench, case)
        kept.write_text(json.dumps(results, indent=1), "utf-8")
        for name, row in rows.items():
            print(f"{case.title}, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        passed &= bar(case, rows)
    return 0 if passed else 1


def measured(bench: Bench, case: Case) -> dict[str, dict[str, float]]:
    """Scores of the float model, of INT8 with the worst K left float, and of the searched plan."""
    found = {"float": {"metric": score(bench, case, reference(bench, case))[0]}}
    stem = bench.cache / f"search-{case.name}"
    model, data = bench.model(case), calibration(bench, case)
    say(f"{case.title}: onnxq search")
    plan, table = stem.with_suffix(".plan.yaml"), stem.with_suffix(".pareto.json")
    # float32 at 32 bits and INT8 at 8: a share s of the operations in INT8 costs 1 - 0.75 s
    limit = f"{1 - 0.75 * SHARES[case.name]:.4f}"
    onnxq("search", model, "--calib", data, *PLAIN[case.name], "--max-cost", limit, "-o", plan,
          "--pareto", table)  # fmt: skip
    search = json.loads(table.read_text("utf-8"))
    chosen = search["trials"][search["chosen"]]
    say(f"{case.title}: onnxq sensitivity")
    folder = stem.with_suffix(".recipe")
    if not folder.is_dir():
        onnxq("recipe", model, "--calib", data, *PLAIN[case.name], "--worst",
              ",".join(map(str, COUNTS)), "-o", folder)  # fmt: skip
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    ranking = Ranking.load(folder / "ranking.json")
    for step in recipe["steps"]:
        count = step["count"]
        skip = stem.with_suffix(f".skip{count}.txt")
        skip.write_text(ranking.skip_list(count), "utf-8")
        options = ("--skip", f"@{skip}") if count else ()
        found[f"K = {count}"] = {
            "int8_macs": step["trial"]["share"],
            **scored(bench, case, f"k{count}", *PLAIN[case.name], *options),
        }
    found["searched"] = {
        "int8_macs": chosen["quantized_macs"],
        **scored(bench, case, "searched", *PLAIN[case.name], "--plan", str(plan)),
    }
    return found


def scored(bench: Bench, case: Case, name: str, *options: str) -> dict[str, float]:
    """Metric, gap to float with its bootstrap error, SQNR and agreement of a quantized model."""
    out = bench.cache / f"search-{case.name}.{name}.onnx"
    say(f"{case.title}: scoring {name}")
    onnxq("quantize", bench.model(case), "--calib", calibration(bench, case), "-o", out, *options)
    ref = reference(bench, case)
    test = run(bench, case, out)
    found: dict[str, Any] = closeness(case, ref, test)
    found["metric"], resampled = score(bench, case, test)
    if resampled:
        float_score = score(bench, case, ref)
        found["gap"], found["gap_error"] = (100 * v for v in bootstrap(float_score[1], resampled))
    return found


def bar(case: Case, rows: dict[str, dict[str, float]]) -> bool:
    """Print what was asked of the searched plan and whether it was met."""
    plain, searched, share = rows["K = 0"], rows["searched"], SHARES[case.name]
    enough = searched["int8_macs"] >= share
    if case.detector:
        gap = rows["float"]["metric"] - searched["metric"]
        ok = gap <= MAP_POINTS
        said = f"{case.metric} {gap:.2f} below float, asked {MAP_POINTS}"
    else:
        gain = searched["sqnr_db"] - plain["sqnr_db"]
        ok = gain >= GAIN_DB
        said = f"SQNR {gain:.2f} dB over plain INT8, asked {GAIN_DB}"
    macs = f"{100 * searched['int8_macs']:.1f}% of operations in INT8, asked {100 * share:.0f}%"
    print(f"{'pass' if ok and enough else 'MISS'}  {case.title}: {said}; {macs}")
    return ok and enough


if __name__ == "__main__":
    sys.exit(main())
