"""The file that the user gave: what figures are measured against, and what its prepared graph has
to compute too.

`hold` runs the first samples through both. An output may differ by what rounding folded constants
and adding up in another order comes to: 1e-3 of its largest value, or in half precision 100
roundings of that type. Where more differs, the file itself is run again on inputs moved by a
rounding or so: what differs then too (random numbers, ties in TopK) is not held against the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, is_custom, within
from onnxq.passes.apply import apply
from onnxq.pipeline.source import Source, given
from onnxq.progress import stage, steps
from onnxq.run.over import stream, to_stream
from onnxq.run.providers import resolved
from onnxq.run.runtime import Model, Runtime, release_free_memory

Outputs = Mapping[str, Array]

FIRST = 2  # samples looked at
LEAST, ROUNDINGS = 1e-3, 100  # of an output's scale; how many roundings of the model's type
MOVED = 2.0**-16  # of every value of an input, the second time
FEW = 0.02  # share of values that may differ where some differ from run to run
TIMES = 4  # as many of them as in the second run of the file
LENGTHS = ("NonZero", "NonMaxSuppression", "Unique", "Compress")  # their outputs' depend on values


@dataclass(frozen=True)
class Gap:
    """An output that differs, and by how much of its scale at most."""

    output: str
    apart: float


def hold(source: Source, samples: Dataset, runtime: Runtime) -> None:
    """Raise ModelError unless the prepared graph computes what its file does on the first samples;
    it names the pass after which it does not. Nothing is run again for a source that was held.

    Where ONNX Runtime cannot run the file, `source.original` says so.
    """
    if source.original.held or source.preparation is None or not len(samples):
        return
    with stage("verify"):
        _hold(source, samples, runtime)


def _hold(source: Source, samples: Dataset, runtime: Runtime) -> None:
    feeds = [samples.sample(i) for i in range(min(FIRST, len(samples)))]
    after = _outputs(lambda: graphs.to_proto(source.graph), feeds, runtime)
    try:
        before = _outputs(lambda: file_of(source), feeds, runtime)
    except ModelError as e:
        source.original.refused = str(e)
    else:
        lengths = any(n.op in LENGTHS or is_custom(n) for n in within(source.graph.nodes))
        found = _Comparison(before, _tolerance(source.graph, runtime), lengths)
        if found.gaps(after):
            again = _outputs(
                lambda: file_of(source), [_moved(feed) for feed in feeds], runtime, "none"
            )
            found = replace(found, again=again)
        if gaps := found.gaps(after):
            raise _blamed(source, feeds, found, gaps[0], runtime)
    source.original.held = True


def reference(source: Source) -> Model:
    """The float side of a figure: the file itself; the prepared graph where `hold` found that ONNX
    Runtime cannot run the file."""
    if source.original.refused is None:
        return _opened(source)
    return graphs.to_proto(source.graph)


def _opened(source: Source) -> Model:
    """The file, for ONNX Runtime to open; raises ModelError where it is not what was read."""
    path = source.file.unchanged()
    return source.original.on_disk or path


def file_with(source: Source, outputs: Collection[str]) -> Path | None:
    """The file, where figures of single nodes can be against it: it runs, has no Q/DQ of its own
    and has these outputs."""
    known = source.original
    if source.preparation is None or known.quantized or known.refused is not None:
        return None
    return source.path if known.outputs.issuperset(outputs) else None


def notes(source: Source) -> Iterator[str]:
    """What to say of the float side, after `hold`."""
    if source.original.refused is not None:
        yield (f"figures are against the prepared graph: '{source.path}' as it is does not run "
               f"({source.original.refused})")  # fmt: skip
    elif source.original.quantized:
        yield f"figures are against '{source.path}' as it is, which is quantized"


def file_of(source: Source) -> Model:
    """What the graph was prepared from: the file, or what it is without its Q/DQ."""
    return graphs.to_proto(given(source)) if source.original.quantized else _opened(source)


def _outputs(
    make: Callable[[], Model], feeds: Sequence[Outputs], runtime: Runtime, optimize: str = "all"
) -> list[dict[str, Array]]:
    run = to_stream(make(), runtime, optimize)
    release_free_memory()  # what making it took must not stand beside what running it takes
    found = list(steps("samples", stream(run, feeds), len(feeds)))
    del run
    release_free_memory()
    return found


def _tolerance(graph: Graph, runtime: Runtime) -> float:
    """The share of an output's scale that rounding can come to."""
    rounding = max((_rounding(t.dtype) for t in graph.tensors().values()), default=0.0)
    if resolved(runtime.provider) == "cuda":
        rounding = max(rounding, _rounding(np.float16))  # products are of TF32 there
    return max(LEAST, ROUNDINGS * rounding)


def _rounding(dtype: Any) -> float:
    """The largest relative error of rounding to a float type; 0 for others."""
    if isinstance(dtype, int) or dtype is None:  # a type of ONNX that NumPy has not
        return 2.0**-9 if dtype == TensorProto.BFLOAT16 else 0.0
    return float(np.finfo(dtype).eps) / 2 if np.dtype(dtype).kind == "f" else 0.0


def _moved(feed: Outputs) -> dict[str, Array]:
    """The feed with every float moved a little, up or down."""
    rng = np.random.default_rng(0)
    moved = {}
    for name, x in feed.items():
        if x.dtype.kind == "f":
            by = max(MOVED, 2 * float(np.finfo(x.dtype).eps))
            x = (x * (1 + by * rng.uniform(-1, 1, x.shape))).astype(x.dtype)
        moved[name] = x
    return moved


@dataclass(frozen=True)
class _Comparison:
    """What the file computes; what it computes on moved inputs, if that was asked; how much of the
    scale is rounding; whether lengths may depend on values."""

    before: Sequence[Outputs]
    tolerance: float
    lengths: bool
    again: Sequence[Outputs] = ()

    def gaps(self, after: Sequence[Outputs]) -> list[Gap]:
        """The outputs that differ by more than they may, the worst first."""
        found = []
        for i, outputs in enumerate(self.before):
            for name, x in outputs.items():
                if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
                    continue
                y = after[i][name]
                if self.lengths and x.shape != y.shape and x.ndim == y.ndim:
                    continue
                apart, share = _apart(x, y, self.tolerance)
                if share > self._allowed(i, name, x):
                    found.append(Gap(name, apart))
        return sorted(found, key=lambda gap: -gap.apart)

    def _allowed(self, i: int, name: str, x: Array) -> float:
        """The share of the values that may be apart."""
        least = 0.0 if x.dtype.kind == "f" else FEW  # a class near a border is another by rounding
        natural = _apart(x, self.again[i][name], self.tolerance)[1] if self.again else 0.0
        return max(FEW, TIMES * natural) if natural else least


def _apart(ref: Array, test: Array, tolerance: float) -> tuple[float, float]:
    """(largest difference as a share of the scale, share of the values beyond the tolerance)."""
    if ref.shape != test.shape:
        return math.inf, 1.0
    if not ref.size:
        return 0.0, 0.0
    a, b = ref.astype(np.float64), test.astype(np.float64)
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    with np.errstate(invalid="ignore"):  # of infinities
        gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    gap[~np.isfinite(gap)] = np.inf
    limit = tolerance * scale if ref.dtype.kind == "f" else 0.0
    return float(gap.max()) / (scale or 1.0), float((gap > limit).mean())


def _blamed(
    source: Source, feeds: Sequence[Outputs], found: _Comparison, gap: Gap, runtime: Runtime
) -> ModelError:
    """The error, with the first pass after which outputs differ."""
    name, cure = "prepare", "report it with the model: it is a fault of onnxq"
    graph = given(source)
    for one in source.original.passes:
        graph = apply(graph, one)
        if gaps := found.gaps(_outputs(partial(graphs.to_proto, graph), feeds, runtime)):
            name, gap = getattr(one, "__name__", repr(one)), gaps[0]
            break
    if name == "raise_opset":
        cure = f"export the model again with opset {source.graph.opset} or later"
    return ModelError(
        f"pass '{name}' changes what '{source.path}' computes: output '{gap.output}' differs by "
        f"{gap.apart:.2g} of its largest value ({found.tolerance:g} is rounding); {cure}"
    )
