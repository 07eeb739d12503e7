"""Run toggles from their segment on, and nothing that does not depend on them.

The graph is cut at narrow points (see `cuts`). The untoggled model runs once over every sample, and
what crosses the cuts is kept. A toggle needs a session for the segments whose Q/DQ it changes; all
others are shared. Segments that read nothing that changed are not run, nor those whose outputs
nobody scores. Samples take turns segment by segment, so that weights stay in the cache: 9% faster.
"""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from onnxq.arrays import Array
from onnxq.model.graph import Graph, within
from onnxq.plan import Plan
from onnxq.run import over, segments
from onnxq.run import runtime as ort
from onnxq.run.magnitudes import Magnitudes
from onnxq.run.segments import Segment
from onnxq.sensitivity.analysis import Analysis
from onnxq.sensitivity.cuts import cut
from onnxq.sensitivity.runner import Outputs, Runner, Variant, Whole, restricted
from onnxq.sensitivity.toggles import Toggle

log = logging.getLogger(__name__)


def segmented(analysis: Analysis) -> Runner:
    """The fast runner; the plain one, with a line in the log, where the fast one cannot be built,
    does not run the first sample or computes something else there."""
    plain = Whole(analysis, analysis.scored)
    base = analysis.plan.only() if analysis.options.mode == "one-on" else analysis.plan
    try:
        with ThreadPoolExecutor(2, "sensitivity") as pool:
            expected = pool.submit(lambda: plain.variant(Toggle("", base, analysis.scored))([0]))
            fast = Segmented(analysis, base, plain, pool)
            unlike = fast.unlike(expected.result()[0])
    except Exception as e:  # of foreign libraries too: the plain way knows whether it matters
        log.info("the model is run as a whole, not in segments: %s", " ".join(str(e).split()))
        return plain
    if unlike is not None:
        log.info("the model is run as a whole: '%s' is another tensor in segments", unlike)
        return plain
    return fast


class Segmented:
    """Sessions of the segments under the untoggled plan `base`, and what they write."""

    def __init__(self, analysis: Analysis, base: Plan, plain: Whole, pool: Executor) -> None:
        """`plain` runs the float model, where the untoggled one is another; sessions are built in
        `pool`."""
        self.analysis, self.base = analysis, base
        scored, data = analysis.scored, analysis.dataset
        self._part = part = _in_order(analysis.graph, segments.restrict(analysis.graph, scored))
        shapes = segments.shapes_at(part, {name: x.shape for name, x in data.sample(0).items()})
        self._order = cut(part, set(analysis.plan.nodes), set(scored), shapes, len(data))
        sessions = pool.map(lambda segment: self._session(segment, base), self._order)
        self._sessions = list(sessions)
        ort.release_free_memory()
        apart = bool(base.edges) or analysis.file_with(scored) is not None
        self._float = plain if apart else None
        self._held: dict[int, dict[str, Array]] = {}
        self.footprint = 0  # bytes of a sample's inputs, boundaries and scored tensors

    def _session(self, segment: Segment, plan: Plan) -> ort.Session:
        # Where one node alone is quantized no integer kernel gains anything, but the DQ that such
        # kernels look for keeps its weight from being folded: a depthwise Conv runs up to four
        # times as fast without. Where more are, rounding decides codes: kernels as in `Whole`.
        optimize = "float" if len(plan.nodes) == 1 else "all"
        there, runtime = _at(plan, segment), self.analysis.runtime
        return over.opened(self._part, segment, runtime, optimize,
                           lambda part: self.analysis.quantized(part, there))  # fmt: skip

    def _run(self, i: int) -> dict[str, Array]:
        live = dict(self.analysis.dataset.sample(i))
        for segment, session in zip(self._order, self._sessions, strict=True):
            live |= over.written(segment, session, live)
        return live

    def unlike(self, expected: Outputs) -> str | None:
        """A scored tensor of the first sample that is not what is expected; None without any."""
        wanted, seen = Magnitudes(), Magnitudes()
        wanted(expected)
        first = self._run(0)
        seen(first)
        again = expected.values() if self._float is not None else ()
        self.footprint = sum(x.nbytes for x in (*first.values(), *again))
        return next((n for n in expected if not wanted.alike(n, seen.of[n])), None)

    def hold(self, samples: Sequence[int], pool: Executor) -> None:
        """Run the untoggled model over these samples and keep what crosses the cuts."""
        if list(self._held) == list(samples):
            return
        self._held.clear()
        self._held.update(zip(samples, pool.map(self._run, samples), strict=True))
        if self._float is not None:
            self._float.hold(samples, pool)

    def reference(self, i: int) -> Outputs:
        """The float model's scored tensors."""
        return self._held[i] if self._float is None else self._float.reference(i)

    def variant(self, toggle: Toggle) -> Variant:
        """The steps that the toggle needs, with new sessions where its Q/DQ differs."""
        steps = [
            (segment, self._session(segment, toggle.plan) if changed else session)
            for segment, session, changed in self._needed(toggle)
        ]
        scored = set(toggle.tensors)
        read = {name for segment, _ in steps for name in segment.inputs} | scored

        def run(samples: Sequence[int]) -> list[Outputs]:
            lives: dict[int, dict[str, Array]] = {i: {} for i in samples}
            for segment, session in steps:
                for i, live in lives.items():
                    live |= over.written(segment, session, ChainMap(live, self._held[i]), read)
                    for name in set(segment.dead) - scored:
                        live.pop(name, None)
            return [
                {name: live.get(name, self._held[i][name]) for name in toggle.tensors}
                for i, live in lives.items()
            ]

        return run

    def _needed(self, toggle: Toggle) -> list[tuple[Segment, ort.Session, bool]]:
        """The segments to run: (segment, its session, whether the toggle changes its Q/DQ)."""
        reached = []
        fresh: set[str] = set()
        for segment, session in zip(self._order, self._sessions, strict=True):
            changed = _at(self.base, segment).edges != _at(toggle.plan, segment).edges
            if changed or fresh.intersection(segment.inputs):
                reached.append((segment, session, changed))
                fresh.update(segment.outputs)
        read = set(toggle.tensors)
        needed = []
        for step in reversed(reached):
            if read.intersection(step[0].outputs):
                needed.append(step)
                read.update(step[0].inputs)
        return needed[::-1]


def _at(plan: Plan, segment: Segment) -> Plan:
    return restricted(plan, {node.name for node in within(segment.nodes)})


def _in_order(graph: Graph, part: Graph) -> Graph:
    """`part` with its nodes in the order of `graph`, where branches lie one after the other."""
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    part.nodes.sort(key=lambda node: place[node.name])
    return part
