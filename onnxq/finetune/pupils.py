"""Which samples are learned from, and which judge: by what they hold, so in any order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnxq.calib.data import Dataset
from onnxq.calib.holdout import content_order
from onnxq.judge.jury import Jury
from onnxq.judge.verdict import Errors
from onnxq.model import graph as graphs
from onnxq.recover.draft import SAMPLES, Bench, Draft
from onnxq.run import over, segments

MOST_JUDGES, SHARE = 32, 8  # at most so many, and one sample in eight


@dataclass(frozen=True)
class Pupils:
    """The samples of a bench, divided: judges are those of the recoveries, which took no part in
    them, and more where data are plenty."""

    bench: Bench

    @cached_property
    def judges(self) -> list[int]:
        """Numbers of the samples that judge."""
        order, held = content_order(self.bench.data), len(self.bench.held)
        more = min(MOST_JUDGES, len(order) // SHARE) - held
        return order[:held] + order[SAMPLES : SAMPLES + max(0, more)]

    @cached_property
    def fit(self) -> list[int]:
        """Numbers of the samples to learn from: the others, or the only one."""
        order = content_order(self.bench.data)
        taken = set(self.judges) if len(order) > 1 else set()
        return [i for i in order if i not in taken]

    @cached_property
    def data(self) -> Dataset:
        """The samples to learn from, and behind them the judges."""
        return self.bench.data.select([*self.fit, *self.judges])

    @cached_property
    def jury(self) -> Jury:
        """The judges, with what the float graph gives for them."""
        bench = self.bench
        samples = bench.data.select(self.judges)
        model = graphs.to_proto(segments.reduced(bench.graph.copy(), bench.judged))
        reference = over.each(model, samples, lambda _, v: v, bench.runtime, bench.workers)
        return Jury.of(bench.graph, samples, reference, bench.runtime, bench.workers)

    def errors(self, draft: Draft) -> Errors:
        """How far the judged tensors of the quantized draft are from those of the float graph."""
        bench = self.bench
        return self.jury.errors(segments.reduced(bench.quantized(draft), bench.judged))
