"""Scores of a quantized model beside its float model, through the shared folder's tasks.

SQNR in dB = 10 log10(sum(ref^2) / sum((ref - test)^2)) of the scored output over all samples; for
detectors of boxes (rows 0 to 3) and of class scores (the others) apart. Agreement is how often the
top class is the same: for detectors over the anchors that the float model gives more than 0.25; for
the text detector it is the overlap (intersection over union) of the pixels above 0.3. Detections
are those of `detections`, after the task's own NMS.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from average_precision import Boxes, Matches, Truth, matches, mean_average_precision
from average_precision import paired_bootstrap as bootstrap
from cases import Bench, Case, feeds, quantized, say
from detections import Alike, alike
from numpy.typing import NDArray

from onnxq.run import runtime

CONFIDENT, TEXT = 0.25, 0.3
Outputs = NDArray[np.float32]


def run(bench: Bench, case: Case, model: Path) -> Outputs:
    """The scored output of every evaluation sample, [samples, ...]."""
    session = runtime.session(model)
    names = [value.name for value in session.get_inputs()]
    output = bench.task(case).output or session.get_outputs()[0].name
    found = []
    for feed in feeds(bench, case, "val"):
        named = feed if isinstance(feed, dict) else {names[0]: feed}
        found.append(session.run([output], {name: named[name] for name in names})[0])
    return np.stack(found)


def reference(bench: Bench, case: Case) -> Outputs:
    """The float model's outputs, kept in the cache."""
    digest = hashlib.sha256(bench.model(case).read_bytes()).hexdigest()
    kept = bench.cache / f"float-{case.name}-{digest[:12]}.npy"
    if not kept.is_file():
        say(f"{case.title}: float outputs")
        np.save(kept, run(bench, case, bench.model(case)))
    outputs: Outputs = np.load(kept, mmap_mode="r")
    return outputs


def sqnr_db(ref: Outputs, test: Outputs) -> float:
    """The SQNR of all values together, in dB; infinite where they are equal."""
    power = noise = 0.0
    for r, t in zip(ref, test, strict=True):
        r64 = r.astype(np.float64)
        power += float((r64**2).sum())
        noise += float(((r64 - t) ** 2).sum())
    return 10 * math.log10(power / noise) if noise else math.inf


def closeness(case: Case, ref: Outputs, test: Outputs) -> dict[str, float]:
    """SQNR and agreement of the test outputs."""
    if case.detector:
        return {
            "sqnr_boxes_db": sqnr_db(ref[:, 0, :4], test[:, 0, :4]),
            "sqnr_classes_db": sqnr_db(ref[:, 0, 4:], test[:, 0, 4:]),
            "agreement": _anchor_agreement(ref, test),
        }
    found = {"sqnr_db": sqnr_db(ref, test)}
    if case.metric == "top1":
        n = len(ref)
        same = ref.reshape(n, -1).argmax(axis=1) == test.reshape(n, -1).argmax(axis=1)
        found["agreement"] = 100 * float(same.mean())
    if case.name == "ppocr_det":
        both, either = (ref > TEXT) & (test > TEXT), (ref > TEXT) | (test > TEXT)
        found["agreement"] = 100 * float(both.sum() / either.sum())
    return found


def _anchor_agreement(ref: Outputs, test: Outputs) -> float:
    same = total = 0
    for r, t in zip(ref, test, strict=True):
        sure = r[0, 4:].max(axis=0) > CONFIDENT
        same += int((r[0, 4:, sure].argmax(axis=1) == t[0, 4:, sure].argmax(axis=1)).sum())
        total += int(sure.sum())
    return 100 * same / max(total, 1)


def score(bench: Bench, case: Case, outputs: Outputs) -> tuple[float, list[Matches]]:
    """The task's metric and, for detectors, what it can be resampled from.

    The detections are taken from the task's own scoring, so that both judge the same boxes.
    """
    seen: list[tuple[list[Boxes], list[Truth]]] = []
    precision = bench.tasks._average_precision

    def watched(detections: list[Boxes], truths: list[Truth]) -> tuple[float, float]:
        seen.append((detections, truths))
        found: tuple[float, float] = precision(detections, truths)
        return found

    bench.tasks._average_precision = watched
    try:
        metric = float(bench.task(case).score(list(outputs))[case.metric])
    finally:
        bench.tasks._average_precision = precision
    if not seen:
        return metric, []
    found = matches(*seen[0], bench.tasks._iou)
    again = 100 * mean_average_precision(found, np.ones(len(outputs), int))
    if abs(again - metric) > 0.01:
        raise RuntimeError(f"{case.title}: mAP {metric:.3f} by the task, {again:.3f} by matches")
    return metric, found


def top1_error(bench: Bench, case: Case, ref: Outputs, test: Outputs) -> float:
    """Standard error, in points, of the difference in top-1 over the same samples.

    Only the task knows the labels: a sample is right if it adds one to the right ones before it.
    """

    def right(outputs: Outputs, upto: int) -> float:
        scored = bench.task(case).score(list(outputs[:upto]))["top1"] if upto else 0.0
        return upto * float(scored) / 100

    n = len(ref)
    differ = ref.reshape(n, -1).argmax(axis=1) != test.reshape(n, -1).argmax(axis=1)
    change = np.zeros(n)
    for i in np.flatnonzero(differ).tolist():
        gained, had = (right(o, i + 1) - right(o, i) for o in (test, ref))
        change[i] = round(gained) - round(had)
    return 100 * float(change.std(ddof=1)) / math.sqrt(n)


def accuracy(bench: Bench, case: Case) -> dict[str, Any]:
    """Metric of float, INT8 and INT8 in an FP16 graph; SQNR and agreement of the latter two."""
    found = float_figures(bench, case)
    for key, options in {"int8": (), "fp16": ("--high-precision", "fp16")}.items():
        found[key] = figures(bench, case, quantized(bench, case, *options).path)
    return found


def float_figures(bench: Bench, case: Case) -> dict[str, Any]:
    """samples: how many are scored. float: the metric of the float model, if there is one."""
    found: dict[str, Any] = {"samples": len(reference(bench, case))}
    if case.metric:
        found["float"] = _float_score(bench, case)[0]
    return found


@functools.cache
def _float_score(bench: Bench, case: Case) -> tuple[float, list[Matches]]:
    say(f"{case.title}: scoring the float model")
    return score(bench, case, reference(bench, case))


def figures(bench: Bench, case: Case, model: Path) -> dict[str, float]:
    """What a quantized model reaches: metric with its gap to float and that gap's standard error,
    SQNR, agreement, and the size of its file."""
    say(f"{case.title}: scoring {model.name}")
    ref, test = reference(bench, case), run(bench, case, model)
    entry: dict[str, float] = closeness(case, ref, test) | {"bytes": model.stat().st_size}
    if not case.metric:
        return entry
    if case.detector:
        decode = bench.tasks._decode
        found = Alike.of([alike(decode(r), decode(t)) for r, t in zip(ref, test, strict=True)])
        entry |= {"detections": 100 * found.share, "detections_error": 100 * found.error}
    float_metric, float_matches = _float_score(bench, case)
    entry["metric"], resampled = score(bench, case, test)
    entry["gap"] = entry["metric"] - float_metric
    if resampled:
        entry["gap_error"] = 100 * bootstrap(float_matches, resampled)[1]
    elif case.metric == "top1":
        entry["gap_error"] = top1_error(bench, case, ref, test)
    return entry
