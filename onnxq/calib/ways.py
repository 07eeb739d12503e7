"""Ways to run a graph whose tensors are counted, the fastest first.

    laid out     the graph as ONNX Runtime optimizes it, in segments (see `layout`)
    on device    in segments whose tensors stay on a GPU and are counted there
    in segments  the graph as it is, in segments that fit the cache
    whole        the graph as it is, in one session: the plain way

A way is taken if it can be built and runs the first sample; where not, for whatever reason, the
next one is, with a line in the log. So no model is refused that the plain way runs. A way that
cannot run a later sample gives place to the next one too (`Program.slower`).

What the laid out graph computes must also be what the whole graph does, on the first sample. Its
convolutions add up in another order, so values differ in the last bits: how many values a tensor
has and the sum of their magnitudes are compared, and a few percent are let pass. That finds tensors
which are taken for others or counted with their padding, and does not depend on the sample where
nothing is wrong: or shards of the data would go different ways and differ in those last bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxq.arrays import Sample
from onnxq.calib.device_counts import compile_counters
from onnxq.model.graph import Graph
from onnxq.run import on_device, segments
from onnxq.run import runtime as ort
from onnxq.run.layout import Layout, laid_out, sizes
from onnxq.run.magnitudes import Magnitudes
from onnxq.run.program import (
    Live,
    Program,
    built,
    compile_program,
    compile_whole,
    free_steps,
    itself,
    planned,
    wanted,
)

Way = Callable[[], Program | None]

AT_ONCE = 32 << 20  # bytes of observed tensors that may be compared in one run

log = logging.getLogger(__name__)


def compile_counting(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, sample: Sample
) -> Program:
    """The fastest program that runs `sample`, for what does not care about the order of the values
    within a tensor; raises as the plain way does where none can."""

    def on_gpu() -> Program | None:
        return _on_device(graph, observed, runtime, sample)

    def blocked() -> Program | None:
        return _laid_out(graph, observed, runtime, sample)

    def in_segments() -> Program | None:
        return planned(sample, compile_program(graph, observed, runtime))

    def whole() -> Program | None:
        return planned(sample, compile_whole(graph, observed, runtime))

    fast = on_gpu if ort.resolved(runtime.provider) == "cuda" else blocked
    return _first([("laid out" if fast is blocked else "on device", fast),
                   ("in segments", in_segments), ("whole", whole)])  # fmt: skip


def _first(ways: Sequence[tuple[str, Way]]) -> Program:
    """The program of the first way that works; what comes after it is what is slower."""
    (name, way), *others = ways
    if not others:
        program = way()
        assert program is not None  # the plain way raises, or it is there
        return program
    try:
        program = way()
    except Exception as e:  # of foreign libraries too: the plain way knows whether it matters
        log.info("calibration %s is not possible: %s", name, " ".join(str(e).split()))
        program = None
    if program is None:
        return _first(others)
    return replace(program, slower=lambda: _first(others))


def _on_device(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, sample: Sample
) -> Program:
    program = compile_program(graph, observed, runtime, on_device.SEGMENT_BYTES)
    on_device.log_nodes_on_cpu(session for _, session in program.segments)
    live: Live = program.checked(sample)
    for step in on_device.steps(program.segments):
        step(live)
    return replace(program, counters=compile_counters(runtime))


def _laid_out(
    graph: Graph, observed: Sequence[str], runtime: ort.Runtime, sample: Sample
) -> Program | None:
    part = wanted(graph, observed)
    layout = laid_out(part, runtime)
    if layout is None:
        return None
    known = segments.usual_sizes(part)
    place = {name: layout.place.get(name, name) for name in observed}
    order = segments.cut(layout.graph, set(place.values()), sizes=sizes(layout, known))
    seen = Magnitudes()
    program = planned(sample, built(layout.graph, order, runtime, "none", place), seen)
    expected = Magnitudes()
    largest = max(known.values(), default=0)
    size = sum(known.get(name, largest) for name in place)
    for values in _plain(part, layout, size, runtime, sample):
        expected(values)
    if unlike := [n for n in layout.place if not expected.alike(n, seen.of[place[n]])]:
        log.info("calibration laid out is left out: '%s' is another tensor there", unlike[0])
        return None
    return program


def _plain(
    part: Graph, layout: Layout, size: int, runtime: ort.Runtime, sample: Sample
) -> Iterator[Live]:
    """The values of the observed tensors in `part`, at once or segment by segment."""
    names = list(layout.place)
    if size <= AT_ONCE:
        live = {t.name: np.ascontiguousarray(sample[t.name]) for t in part.inputs}
        yield dict(zip(names, ort.run(layout.session, names, live), strict=True))
        return
    program = built(part, segments.cut(part, set(names)), runtime, "all", itself(names))
    live = program.checked(sample)
    yield from (step(live) for step in free_steps(program))
