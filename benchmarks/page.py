"""The results as a Markdown page: missed bars first, then a table a part, then how to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import page_precisions
from bars import NAMES, REST, Results, bars
from cases import CASES, Case
from markdown import Row, table

INTRO = """# Results

What `onnxq quantize` does with its default options to real pretrained models.
Written by `benchmarks/results.py`; do not edit.
"""
REPEAT = """## To repeat

```
pip install -e '.[cpu,rtx]' pillow tokenizers
python benchmarks/results.py --shared ../shared --minilm minilm_l3.onnx --write docs/results.md
python benchmarks/results.py --only accuracy,memory --models efficientnet_lite0   # one piece anew
```

The models and the labelled data lie in a folder beside the repository (`--shared DIR`). Figures of
parts that are not measured anew come from `benchmarks/results.json`.
"""
MODELOPT_ACCURACY = (
    [
        "EfficientNet-Lite0, ModelOpt 0.47 entropy",
        "top-1",
        "900",
        "88.67",
        "87.67",
        "-1.00",
        "18.95",
        "-",
        "-",
    ],
    ["YOLO11n, ModelOpt 0.47 entropy", "mAP50-95", "128", "45.20", "43.75", "-1.45", "-", "-", "-"],
)


def page(results: Results, setup: str, unmeasured: Iterable[str] = ()) -> str:
    """The page for these results; `setup` says on what, `unmeasured` why something is not there."""
    cases = [case for case in CASES if results.get(case.name)]
    parts = [INTRO, f"Measured on {setup}.\n", _bars(results)]
    parts += [f"Not measured: {line}.\n" for line in unmeasured]
    sections: tuple[tuple[str, Callable[[Results, list[Case]], str]], ...] = (
        ("Accuracy", _accuracy),
        ("Engines", _engines),
        ("Recoveries at INT8", page_precisions.recoveries),
        ("Schemes", page_precisions.schemes),
        ("Weights in 4 bits", page_precisions.four_bits),
        ("Memory does not grow with the samples", _memory),
        ("Ranges do not depend on order, split or workers", _identity),
        ("Deconvolutions: the centerpoint fixture", _centerpoint),
    )
    for title, section in sections:
        if text := section(results, cases):
            parts.append(f"## {title}\n\n{text}")
    return "\n".join([*parts, REPEAT])


def _bars(results: Results) -> str:
    found = bars(results, {case.name: case.title for case in CASES})
    missed = sum(not bar.passed for bar in found)
    rows = [
        [f"**{verdict}**" if verdict == "miss" else verdict, bar.model, bar.asked, bar.measured]
        for bar in found
        for verdict in ["pass" if bar.passed else "miss"]
    ]
    title = f"## Bars: {missed} missed, {len(found) - missed} passed\n\n"
    return title + table(["", "model", "asked", "measured"], rows)


def _accuracy(results: Results, cases: list[Case]) -> str:
    head = ["model", "metric", "samples", "float", "INT8", "difference", "SQNR dB", "agreement",
            "same detections"]  # fmt: skip
    rows = []
    for case in cases:
        if not (found := results[case.name].get("accuracy")):
            continue
        for key, title in (("int8", case.title), ("fp16", f"{case.title}, rest in FP16")):
            rows.append(_accuracy_row(title, case, found, found[key]))
    if not rows:
        return ""
    text = (
        "On data that calibration did not see. SQNR is that of the scored output; for detectors\n"
        "of boxes / of class scores. Agreement is that of the top class, for detectors over the\n"
        "anchors the float model gives more than 0.25, for PP-OCR the overlap (IoU) of the pixels\n"
        "above 0.3; its SQNR is that of probabilities, on images with little text. Differences\n"
        "have their standard error over the samples: for mAP by paired bootstrap over the images\n"
        "(200 draws), for top-1 from the samples that changed. The ModelOpt rows come from a\n"
        "separate run.\n\n"
    )
    rows += MODELOPT_ACCURACY
    if all(row[-1] == "-" for row in rows):
        return text + table(head[:-1], [row[:-1] for row in rows])
    same = (
        "Same detections have one class and an IoU of 0.9 or more, among what scores above 0.25\n"
        "and NMS leaves.\n\n"
    )
    return text + same + table(head, rows)


def _accuracy_row(title: str, case: Case, found: dict[str, Any], entry: dict[str, Any]) -> Row:
    row = [title, NAMES.get(case.metric or "", "-"), str(found["samples"])]
    if case.metric:
        gap = f"{entry['metric'] - found['float']:+.2f}"
        if "gap_error" in entry:
            gap += f" ± {entry['gap_error']:.2f}"
        row += [f"{found['float']:.2f}", f"{entry['metric']:.2f}", gap]
    else:
        row += ["-", "-", "-"]
    if case.detector:
        row.append(f"{entry['sqnr_boxes_db']:.1f} / {entry['sqnr_classes_db']:.1f}")
    else:
        row.append(f"{entry['sqnr_db']:.2f}")
    same = "-"
    if "detections" in entry:
        same = f"{entry['detections']:.1f} ± {entry['detections_error']:.1f}%"
    return [*row, f"{entry['agreement']:.1f}%" if "agreement" in entry else "-", same]


def _engines(results: Results, cases: list[Case]) -> str:
    rows, tools = [], set()
    for case in cases:
        for key, engine in (results[case.name].get("engines") or {}).items():
            tools.add(engine["tool"])
            builds = "yes" if engine["builds"] else f"no: {engine['error']}"
            ran = f"{engine['int8']} of {engine['planned']}" if "int8" in engine else "unknown"
            if engine.get("others"):
                ran += f" ({', '.join(f'{n} {kind}' for kind, n in engine['others'].items())})"
            rows.append([case.title, REST[key], builds, ran, str(engine.get("kernels", "-"))])
    head = ["model", "rest of the graph", "builds", "Conv, Gemm, MatMul on INT8 inputs", "kernels"]
    if not rows:
        return ""
    return f"Built with {', '.join(sorted(tools))} for SM89.\n\n" + table(head, rows)


def _memory(results: Results, cases: list[Case]) -> str:
    found = [(c, results[c.name]["memory"]) for c in cases if results[c.name].get("memory")]
    if not found:
        return ""
    head = ["model", *(f"{count} samples" for count in found[0][1])]
    return table(head, ([c.title, *(f"{mb:.0f} MB" for mb in m.values())] for c, m in found))


def _identity(results: Results, cases: list[Case]) -> str:
    found = [(c, results[c.name]["identity"]) for c in cases if results[c.name].get("identity")]
    if not found:
        return ""
    rows = ([c.title, *("yes" if same else "**no**" for same in f.values())] for c, f in found)
    text = "Is `ranges.json` of `onnxq calibrate` the same to the byte?\n\n"
    return text + table(["model", *found[0][1]], rows)


def _centerpoint(results: Results, cases: list[Case]) -> str:
    found = results.get("centerpoint", {}).get("map")
    if not found:
        return ""
    rows = (
        [name, f"{value:.2f}", f"{value - found['float']:+.2f}"] for name, value in found.items()
    )
    text = "mAP of `fixtures/centerpoint/score.py` on the fixture's evaluation scenes.\n\n"
    return text + table(["model", "mAP", "difference"], rows)
