"""Detections of two models on the image that they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import PlanError
from onnxq.judge.decisions import Decision, decisions_of
from onnxq.judge.parts import BOXES, ranked_in, slices_of
from onnxq.judge.ranked import matched
from onnxq.model.graph import Graph
from onnxq.report.encoded import photograph
from onnxq.report.maps import Image

SHARE = (-0.5, 1.5)  # what boxes that are shares of the sides lie between
PIXELS = (0.25, 2.0)  # of the longer side: where large numbers of boxes in pixels are
OUTLIERS = 0.05  # of the numbers on either side: places where nothing is may have any box
MOST = 100  # detections that are drawn


@dataclass(frozen=True)
class Boxes:
    """Where a model's detections are. numbers: all that its boxes are made of, of a sample."""

    decision: Decision
    numbers: Callable[[Mapping[str, Any]], Array]

    def on(self, image: Image, outputs: Mapping[str, Any]) -> Array | None:
        """Detections [n, 7] of the first image of a sample: image, class, score, corners in pixels;
        None where the boxes are neither in pixels of it nor shares of its sides."""
        try:
            unit = unit_of(self.numbers(outputs), image.size)
            found: Array = self.decision.made(outputs)
        except (KeyError, ValueError, IndexError):  # an output is missing or of another form
            return None
        if unit is None:
            return None
        placed = np.isfinite(found).all(1)
        first: Array = found[placed & (found[:, 0] == 0)][:MOST]
        first[:, 3:] *= (*unit, *unit)
        return first


def boxes_of(graph: Graph) -> Boxes | None:
    """Where a float graph's detections are; None for a graph without."""
    try:
        decisions = decisions_of(graph)
    except PlanError:
        return None
    decision = next((d for d in decisions if d.called == "detections"), None)
    if decision is None:
        return None
    parts = slices_of(graph)
    if groups := ranked_in(parts):
        rows = groups[0].rows

        def picked(outputs: Mapping[str, Any]) -> Array:
            return groups[0].boxes.of({r.output: r.read(outputs[r.output]) for r in rows})

        return Boxes(decision, picked)
    (part,) = (p for p in parts if p.called.endswith(BOXES))
    return Boxes(decision, lambda outputs: part.of(outputs[part.output]))


def unit_of(numbers: Array, size: tuple[int, int]) -> tuple[float, float] | None:
    """What x and y of boxes are multiplied by to be pixels of an image (height, width); None where
    the numbers say neither shares of its sides nor pixels."""
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return None
    least, largest = np.quantile(known, (OUTLIERS, 1 - OUTLIERS))
    if SHARE[0] <= least and largest <= SHARE[1]:
        return float(size[1]), float(size[0])
    if PIXELS[0] * max(size) <= largest <= PIXELS[1] * max(size):
        return 1.0, 1.0
    return None


def detections(
    image: Image, ref: Array, test: Array, names: Mapping[int, str]
) -> tuple[float, Callable[[], dict[str, Any]]]:
    """(share of the detections [n, 7] that one model alone has, what makes the picture)."""
    labelled = not np.isnan(ref[:, 1]).any()  # else boxes are paired by place alone
    label, its = (x[:, 1] if labelled else np.zeros(len(x)) for x in (ref, test))
    pairs = matched(ref[:, 3:], _score(ref), label, test[:, 3:], _score(test), its)
    every = len(ref) + len(test)
    loss = 1 - 2 * len(pairs) / every if every else 0.0

    def make() -> dict[str, Any]:
        assert image.pixels is not None
        height, width = image.size
        both = [{pair[k] for pair in pairs} for k in (0, 1)]
        return {
            "kind": "boxes", "image": photograph(image.pixels), "width": width, "height": height,
            "float": _listed(ref, both[0], names), "quantized": _listed(test, both[1], names),
        }  # fmt: skip

    return loss, make


def _score(found: Array) -> Array:
    return np.nan_to_num(found[:, 2], nan=1.0)


def _listed(found: Array, both: set[int], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Boxes for the page: corners in pixels, what to write at them, whether the other has them."""
    return [
        {"box": [round(float(x), 1) for x in row[3:]], "label": _label(row, names),
         "alone": i not in both}
        for i, row in enumerate(found)
    ]  # fmt: skip


def _label(row: Array, names: Mapping[int, str]) -> str:
    """`person 0.92`; without a name the number of the class."""
    name = "" if math.isnan(row[1]) else names.get(int(row[1]), f"class {int(row[1])}")
    score = "" if math.isnan(row[2]) else f"{row[2]:.2f}"
    return f"{name} {score}".strip()
