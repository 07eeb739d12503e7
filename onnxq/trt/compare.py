"""Compare a float model with a quantized one (or an engine), sample by sample, in constant memory.

ONNX Runtime runs models and Polygraphy engines; Polygraphy judges each sample by its `simple`
comparison where a tolerance is given; SQNR, PSNR, cosine and the rest are sums over samples (see
`accuracy`). Per tensor: every float tensor that both graphs name is compared too, in graph order,
to find where they drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxq.calib.data import Dataset
from onnxq.errors import ModelError, OnnxqError
from onnxq.judge.accuracy import Agreements, Headline, agreement, agreements
from onnxq.judge.along import Course
from onnxq.judge.comparable import Comparable, Declared, Equality, equality, is_float
from onnxq.judge.gates import TensorGap, missed
from onnxq.judge.gates import Thresholds as Thresholds
from onnxq.judge.parts import Part, by_output, classifies, ranked_in, slices_of
from onnxq.judge.plain import cannot, plainly
from onnxq.judge.ranked import Found, line_up
from onnxq.layers.ran import Ran
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.strip_qdq import only_weights, quantized_nodes
from onnxq.pipeline.source import Source
from onnxq.progress import Progress, count, silent, stage, told
from onnxq.run.closed_loop import feeds_back, looped
from onnxq.run.runtime import Runtime
from onnxq.trt import golden as golds
from onnxq.trt.runners import ENGINES as ENGINES
from onnxq.trt.runners import quiet, runner
from onnxq.trt.scored import Scores


@dataclass(frozen=True)
class Comparison:
    """outputs: by name. parts: what they are judged by, by name. tensors: inner tensors in graph
    order. failures: why the answer is no. found: what the outputs' figures leave out, and the
    outputs that are compared by equality. trouble: why a plain ONNX Runtime session could not be
    used; "" where it was. places: part -> the tensor that holds it. ran: what each tensor ran in,
    where the layers of an engine are given. scores: of the user's metric, if there is one."""

    samples: int
    outputs: Mapping[str, TensorGap]
    tensors: Mapping[str, TensorGap]
    failures: tuple[str, ...]
    found: Agreements = field(default_factory=Agreements)
    trouble: str = ""
    parts: Mapping[str, TensorGap] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    ran: Ran | None = None
    scores: Scores | None = None

    @property
    def headline(self) -> Headline | None:
        """The worst part of the outputs."""
        return self.found.headline

    @property
    def first_offender(self) -> str | None:
        """The first inner tensor, in graph order, that falls most below the one before it."""
        values = [(n, _bounded(t.sums.sqnr_db)) for n, t in self.tensors.items() if t.samples]
        drops = [(b[1] - a[1], b[0]) for a, b in pairwise(values)]
        return min(drops)[1] if drops else None

    def as_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "samples": self.samples,
            "session": cannot(self.trouble) if self.trouble else "plain",
            "headline": None if self.headline is None else self.headline.as_dict(),
            "metric": None if self.scores is None else self.scores.as_dict(),
            "parts": {n: {**t.with_spread(), **self._ran(self.places.get(n, n), n)}
                      for n, t in self.parts.items()},
            "outputs": {n: {**t.as_dict(), **self._ran(n)} for n, t in self.outputs.items()},
            "exact": {n: e.as_dict() for n, e in self.found.exact.items()},
            "matched": {n: f.as_dict() for n, f in self.found.matched.items()},
            "along": {n: a.as_dict() for n, a in self.found.along.items()},
            "notes": [*self.found.notes(), *([cannot(self.trouble)] if self.trouble else ())],
            "tensors": {n: {**t.as_dict(), **self._ran(n)} for n, t in self.tensors.items()},
            "first_offender": self.first_offender,
            "failures": list(self.failures),
        }  # fmt: skip

    def _ran(self, *tensors: str) -> dict[str, Any]:
        """What the first of some tensors that the layers tell of ran in."""
        if self.ran is None:
            return {}
        return {"runs": next(filter(None, map(self.ran.of, tensors)), None)}


def in_order(reference: Source, other: str | Path) -> None:
    """Raises ModelError for a quantized model and a float one that stand the wrong way round. Two
    quantized models may be compared, and two float ones. other: a model file, or an engine."""
    if Path(other).suffix in ENGINES or only_weights(reference.graph):
        return
    if not quantized_nodes(graphs.load(other)):
        raise ModelError(
            f"'{reference.path}' is quantized and '{other}' is not; give the float model first"
        )


@told
def compare(
    reference: Path,
    quantized: Path,
    dataset: Dataset,
    thresholds: Thresholds,
    *,
    per_tensor: bool = False,
    golden: Path | None = None,
    seen: golds.Keep | None = None,
    runtime: Runtime | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare two model files over a dataset; `quantized` may be an engine (.engine, .plan, .trt).

    golden: where to keep inputs and outputs of both, as `golden.save` does, of the same runs. seen:
    called with each sample, its number, inputs and both outputs; from 0 on again where a plain
    session fails.

    ONNX Runtime runs the files in plain sessions, as it comes, where those can run them. Raises
    ModelError for models whose outputs differ in name or shape, RuntimeMissing where an engine
    cannot run.
    """
    if golden is not None and quantized.suffix in ENGINES:
        raise OnnxqError(f"'{quantized}' is an engine; golden outputs are what ONNX Runtime gives: "
                         "give the ONNX model it was built from")  # fmt: skip
    if golden is not None and feeds_back(dataset):  # a device gets the samples as they are
        golds.save(reference, quantized, dataset, golden, runtime, progress)
        golden = None
    found, trouble = plainly(
        lambda where: _compared(reference, quantized, dataset, thresholds, per_tensor, golden,
                                seen, where),
        runtime,
    )  # fmt: skip
    return replace(found, trouble=trouble)


def _compared(
    reference: Path,
    quantized: Path,
    dataset: Dataset,
    thresholds: Thresholds,
    per_tensor: bool,
    golden: Path | None,
    seen: golds.Keep | None,
    runtime: Runtime,
) -> Comparison:
    pair = _models(reference, quantized, per_tensor)
    inner = pair.inner
    says_top = pair.classifies or thresholds.min_agreement is not None
    sums = _Sums(Comparable(pair.declared), set(inner), by_output(pair.parts), says_top,
                 Course(dataset))  # fmt: skip
    outputs = [name for name in pair.declared if name not in inner]
    keeping = nullcontext() if golden is None else golds.keeping(
        golden, len(dataset), pair.parts, outputs)  # fmt: skip
    with stage("compare"), ExitStack() as stack, quiet(), keeping as keep:
        ref_run, test_run = (stack.enter_context(runner(m, runtime)) for m in pair.models)
        ref, test = looped(ref_run, dataset), looped(test_run, dataset)
        for i in range(len(dataset)):
            feed = dataset.sample(i)
            sums.course.at(i)
            both = ref(i, feed), test(i, feed)
            sums.add(*both, thresholds)
            for call in filter(None, (keep, seen)):
                call(i, feed, *both)
            count(i + 1, len(dataset))
    found = sums.found(len(dataset))
    floats = {name: sums.floats[name] for name in found}
    tensors = {n: sums.floats[n] for n in inner if n in sums.floats and n not in sums.left_out}
    judged = {part.name: gap for part, gap in sums.parts.items() if part.name in found.parts}
    failures = tuple(missed(floats, judged, found, len(dataset), thresholds))
    places = {part.name: part.tensor for part in pair.parts}
    return Comparison(len(dataset), floats, tensors, failures, found, parts=judged, places=places)


class _Sums:
    """What is added up sample by sample: of the outputs, their parts `of` each, and of `inner`
    tensors. says_top: whether the outputs are rows of classes."""

    def __init__(
        self,
        sorted_out: Comparable,
        inner: set[str],
        of: Mapping[str, Sequence[Part]],
        says_top: bool,
        course: Course,
    ) -> None:
        self.sorted_out, self.inner, self.of, self.says_top = sorted_out, inner, of, says_top
        self.course = course
        self.floats: dict[str, TensorGap] = {}
        self.parts: dict[Part, TensorGap] = {}
        self.exact: dict[str, Equality] = {}
        self.groups = ranked_in([part for parts in of.values() for part in parts])
        self.matched: dict[str, Found] = {}

    @property
    def left_out(self) -> Mapping[str, str]:
        """Tensors that cannot be compared, with the reason."""
        return self.sorted_out.left_out

    def add(self, ref: Mapping[str, Any], test: Mapping[str, Any], asked: Thresholds) -> None:
        """Add one sample."""
        ref, test = line_up(self.groups, ref, test, self.matched)
        for name, a, b in self.sorted_out.pairs(ref, test):
            if is_float(a):
                whole = self.floats.setdefault(name, TensorGap(name, self.says_top))
                whole.add(a, b, asked)
                for part in self.of.get(name, ()):
                    if self.course.wants:
                        self.course.add(part.name, agreement(part.of(a), part.of(b)))
                    if part.is_whole:
                        self.parts[part] = whole
                    else:
                        gap = self.parts.setdefault(part, TensorGap(part.name))
                        gap.add(part.of(a), part.of(b), Thresholds())
            elif name not in self.inner:
                self.exact[name] = self.exact.get(name, Equality()) + equality(a, b)

    def found(self, samples: int) -> Agreements:
        """How near the outputs are."""
        self.sorted_out.check()
        floats = {n: t.sums for n, t in self.floats.items() if n not in self.inner}
        left_out = {n: why for n, why in self.left_out.items() if n not in self.inner}
        parts = {part: t.sums for part, t in self.parts.items()}
        found = agreements(floats, self.exact, left_out, samples, parts)
        return replace(found, along=self.course.found(), matched=self.matched)


@dataclass(frozen=True)
class _Pair:
    """What to run, and what of it to compare: see `_Sums`. declared: shapes of the outputs and of
    the inner tensors. classifies: see `parts.classifies`."""

    models: tuple[onnx.ModelProto | Path, onnx.ModelProto | Path]
    inner: list[str]
    declared: Declared
    parts: tuple[Part, ...]
    classifies: bool


def _models(reference: Path, quantized: Path, per_tensor: bool) -> _Pair:
    ref = graphs.load(reference)
    shaped = apply(ref, infer_shapes)
    declared = {t.name: t.shape or () for t in ref.outputs}
    pair = _Pair((reference, quantized), [], declared, slices_of(shaped), classifies(shaped))
    if quantized.suffix in ENGINES:
        if per_tensor:
            raise OnnxqError(f"'{quantized}' is an engine, which has no inner tensors to compare; "
                             "compare the ONNX model it was built from")  # fmt: skip
        return pair
    test = graphs.load(quantized)
    if missing := [t.name for t in ref.outputs if t.name not in {o.name for o in test.outputs}]:
        raise ModelError(f"'{quantized}' has no output '{missing[0]}', which '{reference}' has; "
                         "compare a model with its own quantized form")  # fmt: skip
    if not per_tensor:
        return pair
    inner = _common(ref, test)
    for graph in (ref, test):
        tensors = graph.tensors()
        graph.outputs += [tensors[name] for name in inner]
    declared = {t.name: t.shape or () for t in ref.outputs}
    models = graphs.to_proto(ref), graphs.to_proto(test)
    return replace(pair, models=models, inner=inner, declared=declared)


def _common(ref: Graph, test: Graph) -> list[str]:
    """Float tensors that nodes of both graphs write, in the order of the quantized graph."""
    skip = {t.name for t in ref.outputs}
    known = {t.name for n in ref.nodes for t in n.outputs} - skip
    named = (t for n in test.nodes for t in n.outputs)
    return [t.name for t in named if t.name in known and t.dtype in (None, np.float32, np.float16)]


def _bounded(decibels: float) -> float:
    """What is not a number is worse than any."""
    return -100.0 if math.isnan(decibels) else min(decibels, 100.0)
