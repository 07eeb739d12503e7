"""Samples that judge a quantized model beside the float one.

Outputs of a detector take megabytes a sample, and a recovery is judged many times: the float ones
are held, and of every other model only the sums of squares that the verdict needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from onnxq.arrays import Samples
from onnxq.judge.classes import logits
from onnxq.judge.judged import score_parts
from onnxq.judge.parts import class_axes
from onnxq.judge.ranked import Ranked, line_up, outputs_in
from onnxq.judge.rankings import ranked_outputs
from onnxq.judge.verdict import Errors, Sums, gathered, hopeless, sums, worst_fall
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph
from onnxq.progress import steps
from onnxq.run import over
from onnxq.run import runtime as ort
from onnxq.run.over import Outputs


@dataclass(frozen=True)
class Jury:
    """The samples, and the judged tensors that the float model gives for each of them.

    reference: by the number of the sample; it may come later, before that sample judges. scores:
    those of the tensors that are scores beside other parts. classes: tensors that hold
    probabilities of classes, which are judged at their logits -> the axis of the classes. ranked:
    tensors whose rows are matched before they are compared.
    """

    samples: Samples
    reference: Mapping[int, Outputs] | Sequence[Outputs]
    scores: Collection[str]
    classes: Mapping[str, int]
    runtime: ort.Runtime
    workers: int = 2
    ranked: Sequence[Ranked] = ()

    @staticmethod
    def of(
        graph: Graph,
        samples: Samples,
        reference: Mapping[int, Outputs] | Sequence[Outputs],
        runtime: ort.Runtime,
        workers: int = 2,
    ) -> Jury:
        """The samples as judges of models that compute what `graph` does."""
        ranked = ranked_outputs(graph)
        rows = outputs_in(ranked)
        classes = {n: axis for n, axis in class_axes(graph).items() if n not in rows}
        return Jury(samples, reference, score_parts(graph), classes, runtime, workers, ranked)

    @property
    def names(self) -> list[str]:
        """The judged tensors."""
        return [name for name, x in self.reference[0].items() if x.dtype.kind == "f"]

    def errors(self, graph: Graph) -> Errors:
        """How far the outputs of `graph`, which are the judged tensors, are from the float ones."""
        return gathered(self.opened(graph)(range(len(self.samples))))

    def opened(self, graph: Graph) -> Callable[[Sequence[int]], list[Sums]]:
        """What tells the sums of squares of some of the samples for `graph`, opened once."""
        run = over.loaded(graphs.to_proto(graph), self.runtime, threads=1)

        def judge(i: int) -> Sums:
            return self.sums(i, run(self.samples.sample(i)))

        def judged(judges: Sequence[int]) -> list[Sums]:
            with ThreadPoolExecutor(self.workers, "judge") as pool:
                return list(steps("judges", pool.map(judge, judges), len(judges)))

        return judged

    def sums(self, i: int, values: Outputs) -> Sums:
        """What the errors of a sample are made of, from the judged tensors of another model."""
        ref, test = line_up(self.ranked, self.reference[i], values, {})
        return sums(self._judged(ref), self._judged(test))

    def _judged(self, values: Outputs) -> Outputs:
        """The values that are compared: probabilities near 0 and 1 hardly move whatever becomes of
        the logits."""
        axes = self.classes
        floats = {n: x for n, x in values.items() if x.dtype.kind == "f"}
        return {n: logits(x, axes[n]) if n in axes else x for n, x in floats.items()}

    def worst_fall(self, before: Errors, after: Errors) -> str | None:
        """The judged tensor that argues against `after`; None where none does."""
        return worst_fall(before, after, self.scores)

    def hopeless(self, before: Errors, after: Errors) -> str | None:
        """The same by a few of the samples, where more of them would hardly change it."""
        return hopeless(before, after, self.scores)
