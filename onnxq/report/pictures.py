"""What two models make of samples, as pictures on a page.

    outputs with boxes and scores          detections drawn on the image
    an output with the image's two axes    a map of the float model, of the other, their difference
    module:function of the user's          boxes on the image, or a picture of its own

Boxes are drawn where their numbers are pixels of the image or shares of its sides; else nothing is.
Of all samples the first are shown, and those in which the models differ most.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxq.arrays import Array, Sample
from onnxq.calib.data import Dataset
from onnxq.errors import CannotRun, PlanError
from onnxq.imports import attribute_of, users_code
from onnxq.judge.plain import plainly
from onnxq.model import graph as graphs
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, producer
from onnxq.passes.apply import apply, run_pass
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.strip_qdq import strip_qdq
from onnxq.report.boxes import Boxes, boxes_of, detections
from onnxq.report.encoded import photograph
from onnxq.report.maps import Image, image_of, map_of, maps_in
from onnxq.run.closed_loop import looped
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime

log = logging.getLogger(__name__)

FIRST, WORST = 2, 2  # samples that are shown
MAPS = 2  # outputs of a sample
Outputs = Mapping[str, Any]
Picture = dict[str, Any]
Draw = Callable[[Sample, Outputs], Any]


@dataclass(frozen=True)
class Shown:
    """A sample as pictures. loss: how far the models are apart in it, from 0 on. of: how many
    outputs could be drawn."""

    sample: int
    loss: float
    pictures: tuple[Picture, ...]
    of: int


@dataclass
class Pictures:
    """Takes samples one by one, and keeps those that a page shows.

    boxes: where detections are in the outputs; None for a model without. shares: outputs that a
    Sigmoid writes, from 0 to 1. names: of classes. draw: the user's function, in place of both;
    called with the inputs of a sample and the outputs of either model, it gives boxes [n, 4 to 6]
    in pixels of the image (corners, score, class), or a picture [h, w, 3] of type uint8.
    """

    boxes: Boxes | None = None
    shares: frozenset[str] = frozenset()
    names: Mapping[int, str] = field(default_factory=dict)
    draw: Draw | None = None
    drawn_by: str = ""
    _kept: list[Shown] = field(default_factory=list)
    _seen: int = 0

    def __call__(self, i: int, sample: Sample, ref: Outputs, test: Outputs) -> None:
        """Look at a sample: its number, its inputs, what the float and the other model give."""
        if i == 0:  # a run that failed begins again
            self._kept.clear()
        self._seen = i + 1
        found = self._pictures(sample, ref, test)
        if not found:
            return
        loss = max(loss for loss, _ in found)
        worst = sorted((s for s in self._kept if s.sample >= FIRST), key=lambda s: -s.loss)
        if i >= FIRST and len(worst) == WORST:
            if not loss > worst[-1].loss:
                return
            self._kept.remove(worst[-1])
        pictures = sorted(found, key=lambda each: -each[0])[:MAPS]
        made = tuple(make() for _, make in pictures)
        self._kept.append(Shown(i, loss, made, len(found)))

    def shown(self) -> list[Picture]:
        """The samples to show, in their order: number, whether it differs most, pictures."""
        most = max(self._kept, key=lambda s: s.loss, default=None)
        return [
            {"sample": s.sample, "samples": self._seen, "worst": s is most and s.loss > 0,
             "outputs": s.of, "pictures": list(s.pictures)}
            for s in sorted(self._kept, key=lambda s: s.sample)
        ]  # fmt: skip

    def _pictures(
        self, sample: Sample, ref: Outputs, test: Outputs
    ) -> list[tuple[float, Callable[[], Picture]]]:
        """(how far apart, what makes the picture) of all that can be drawn of a sample."""
        image = image_of(sample)
        if self.draw is not None:
            return [self._users(sample, image, ref, test)]
        if image is not None and image.pixels is not None and self.boxes is not None:
            pair = self.boxes.on(image, ref), self.boxes.on(image, test)
            if pair[0] is not None and pair[1] is not None:
                return [detections(image, pair[0], pair[1], self.names)]
        maps = () if image is None else maps_in(image, ref, test)
        return [map_of(image, name, a, b, name in self.shares) for name, a, b in maps if image]

    def _users(
        self, sample: Sample, image: Image | None, ref: Outputs, test: Outputs
    ) -> tuple[float, Callable[[], Picture]]:
        a, b = (self._drawn(sample, outputs) for outputs in (ref, test))
        if a.ndim == b.ndim == 2 and image is not None and image.pixels is not None:
            return detections(image, a, b, self.names)
        if a.ndim == b.ndim == 2:
            raise PlanError(f"--draw {self.drawn_by} gives boxes, but the model reads no image to "
                            "draw them on; return a picture [h, w, 3] of type uint8")  # fmt: skip
        if a.shape != b.shape:
            raise PlanError(f"--draw {self.drawn_by} gives pictures of two sizes: {a.shape} and "
                            f"{b.shape}")  # fmt: skip
        loss = float(np.abs(a.astype(np.int16) - b).mean() / 255)
        return loss, lambda: {"kind": "drawn", "float": photograph(a), "quantized": photograph(b)}

    def _drawn(self, sample: Sample, outputs: Outputs) -> Array:
        """What the user's function gives; raises PlanError for what is neither boxes nor picture.

        Boxes come back as detections: image, class, score, corners.
        """
        assert self.draw is not None
        with users_code(f"--draw {self.drawn_by} failed", PlanError):
            given = np.asarray(self.draw(sample, outputs))
        if given.ndim == 3 and given.shape[2] == 3 and given.dtype == np.uint8:
            return given
        if given.ndim == 2 and given.shape[1] in (4, 5, 6) and given.dtype.kind in "fiu":
            more = [given[:, k] if given.shape[1] > k else np.full(len(given), np.nan)
                    for k in (5, 4)]  # fmt: skip
            rows = np.column_stack([np.zeros(len(given)), *more, given[:, :4]]).astype(np.float64)
            return rows[np.isfinite(rows[:, 3:]).all(1)]
        raise PlanError(
            f"--draw {self.drawn_by} returned {given.dtype} {list(given.shape)}; return boxes "
            "[n, 4 to 6] (x1, y1, x2, y2, score, class) or a picture [h, w, 3] of type uint8"
        )


def pictures_of(graph: Graph, metadata: Mapping[str, str], draw: str | None = None) -> Pictures:
    """What draws the samples of a model, float or with Q/DQ. metadata: of its file, where exporters
    keep the names of classes. draw: `module:function` of the user's.

    Raises PlanError for a function that cannot be imported.
    """
    if draw is not None:
        return Pictures(names=_names(metadata), draw=_function(draw), drawn_by=draw)
    graph = graph.copy()
    run_pass(strip_qdq, graph, graph)
    ops = {t.name: producer(same_source(t)) for t in graph.outputs}
    shares = frozenset(name for name, node in ops.items() if node and node.op == "Sigmoid")
    return Pictures(boxes_of(apply(graph, infer_shapes)), shares, _names(metadata))


def pictures_for(model: Path, draw: str | None = None) -> Pictures:
    """The same of a file."""
    graph, file = graphs.read(model)
    return pictures_of(graph, file.metadata, draw)


def looked_at(
    pictures: Pictures, float_model: Path, quantized: onnx.ModelProto, check: Dataset,
    runtime: Runtime | None,
) -> list[Picture]:  # fmt: skip
    """The first samples of a data set as pictures, run for that; none of a model that reads no
    image, or that a session cannot run."""
    few = range(min(len(check), FIRST + WORST))
    if not few or (pictures.draw is None and image_of(check.sample(0)) is None):
        return []

    def run(where: Runtime) -> None:
        pair = [looped(loaded(model, where), check) for model in (float_model, quantized)]
        for i in few:
            sample = check.sample(i)
            ref, test = (one(i, sample) for one in pair)
            pictures(i, sample, ref, test)

    try:
        plainly(run, runtime)
    except CannotRun as e:
        log.info("no pictures: %s", e)
        return []
    return pictures.shown()


def _function(text: str) -> Draw:
    advice = "; write module:function, with the module on the Python path or in the current folder"
    with users_code(f"--draw '{text}' cannot be imported", PlanError, advice):
        function = attribute_of(text)
    if not callable(function):
        raise PlanError(f"--draw '{text}' is {type(function).__name__}; name a function")
    made: Draw = function
    return made


def _names(metadata: Mapping[str, str]) -> dict[int, str]:
    """Names of classes as Ultralytics writes them: `{0: 'person', ...}`."""
    try:
        found = ast.literal_eval(metadata.get("names", "{}"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else enumerate(found) \
        if isinstance(found, list) else ()  # fmt: skip
    return {int(k): str(v) for k, v in pairs if isinstance(k, int)}
