"""Run every toggle over every sample, on all workers, and add the sums to a `State`.

Jobs are handed out in order: toggle by toggle, sample by sample, the next toggle's sessions being
built while samples of this one run. They are taken back in the same order, so no result depends on
the number of workers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

from onnxq.errors import ModelError
from onnxq.judge.metrics import FunctionMetric, Metric, Sums, sums_of
from onnxq.judge.parts import Part
from onnxq.judge.ranked import Ranked, line_up
from onnxq.progress import Count
from onnxq.run.over import in_order
from onnxq.sensitivity.analysis import Analysis
from onnxq.sensitivity.runner import Outputs, Runner, Variant, Whole
from onnxq.sensitivity.segmented import Segmented, segmented
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import FLOAT, Toggle

AHEAD = 3  # jobs in flight for each worker
BLOCK = 4  # samples a job: enough for weights to stay in the cache between them

Measure = Callable[[Sequence[Toggle], Sequence[int], State, Count], None]
Found = Mapping[int, Mapping[str, Sums]]  # sample -> scored tensor -> sums
Step = tuple[str, Found, bool]  # toggle, what was found, whether that ends a step of the progress
Parts = Mapping[str, Sequence[Part]]  # output -> what it is scored by; of others the whole
Built = Iterator[tuple[Toggle, "Future[Variant]"]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measuring:
    """Measures toggles of an analysis in this process."""

    analysis: Analysis

    @cached_property
    def _runner(self) -> Runner:
        if self.analysis.options.whole:
            return Whole(self.analysis, self.analysis.scored)
        return segmented(self.analysis)

    @cached_property
    def _curve_runner(self) -> Runner:
        return Whole(self.analysis, self.analysis.outputs)

    def measure(
        self, toggles: Sequence[Toggle], samples: Sequence[int], state: State, progress: Count
    ) -> None:
        """Add to `state` what is missing of the toggles, those of the ranking or of a curve, for
        these samples, which for a function are all; it is saved as work goes on and at the end.

        `progress(done, total)` counts toggles times chunks of samples. Raises ModelError where a
        scored value is NaN or infinite, PlanError where the metric fails.
        """
        ranked = all(toggle.name in self.analysis.toggles for toggle in toggles)
        runner = self._runner if ranked else self._curve_runner
        try:
            self._measure(runner, toggles, samples, state, progress)
        except ModelError as e:
            if not isinstance(runner, Segmented):
                raise
            log.info("the model is run as a whole from here on, not in segments: %s", e)
            plain = Whole(self.analysis, self.analysis.scored)
            self._measure(plain, toggles, samples, state, progress)

    def _measure(
        self,
        runner: Runner,
        toggles: Sequence[Toggle],
        samples: Sequence[int],
        state: State,
        progress: Count,
    ) -> None:
        kept, metric = self.analysis.kept(samples), self.analysis.metric
        missing = [toggle for toggle in toggles if not state.has(toggle.name, kept)]
        if not missing:
            return
        together = max(1, self.analysis.options.max_memory // max(runner.footprint, 1))
        chunks = [samples[k : k + together] for k in range(0, len(samples), together)]
        workers = self.analysis.config.workers
        with ThreadPoolExecutor(workers, "sensitivity") as pool:
            jobs = _Jobs(runner, self.analysis.parts, self.analysis.ranked, pool, AHEAD * workers,
                         chunks)  # fmt: skip
            if isinstance(metric, FunctionMetric):
                steps, todo, total = jobs.evaluate(metric, missing), len(missing), len(missing)
            else:
                left = [[t for t in missing if not state.has(t.name, chunk)] for chunk in chunks]
                steps, total = jobs.add_up(metric, left), len(missing) * len(chunks)
                todo = sum(map(len, left))
            try:
                for toggle, found, ended in steps:
                    for i, sums in found.items():
                        state.add(toggle, i, sums)
                    if ended:
                        todo -= 1
                        state.save_soon()
                        progress(total - todo, total)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                state.save()


@dataclass(frozen=True)
class _Jobs:
    """What a pool of workers does, `ahead` jobs under way. parts: what outputs are scored by.
    ranked: outputs whose rows are matched first. chunks: of samples held together."""

    runner: Runner
    parts: Parts
    ranked: Sequence[Ranked]
    pool: Executor
    ahead: int
    chunks: Sequence[Sequence[int]]

    def add_up(self, metric: Metric, todo: Sequence[Sequence[Toggle]]) -> Iterator[Step]:
        """Sums of the toggles that each chunk is to be run under, a block of samples at a time."""
        for chunk, toggles in zip(self.chunks, todo, strict=True):
            if not toggles:
                continue
            self.runner.hold(chunk, self.pool)
            jobs = (
                partial(
                    _score, self.runner, metric, toggle, self.parts, self.ranked, variant, block
                )
                for toggle, variant in self._built(toggles)
                for block in _blocks(chunk)
            )
            for toggle, found in in_order(self.pool, jobs, self.ahead):
                yield toggle, found, chunk[-1] in found

    def evaluate(self, metric: FunctionMetric, toggles: Sequence[Toggle]) -> Iterator[Step]:
        """Stream every toggle's outputs to the user's function, in this thread.

        It sees all samples of a toggle at once, so where they cannot be held together they are held
        chunk by chunk for every toggle anew.
        """
        if len(self.chunks) == 1:
            self.runner.hold(self.chunks[0], self.pool)
        for toggle, variant in self._built(toggles):
            stream = self._stream(variant)
            score = metric.evaluate(stream)
            for _ in stream:  # a function that stops early leaves samples in flight
                pass
            yield toggle.name, {0: {"": score}}, True

    def _stream(self, variant: Future[Variant]) -> Iterator[Outputs]:
        for chunk in self.chunks:
            if len(self.chunks) > 1:
                self.runner.hold(chunk, self.pool)
            jobs = (partial(_outputs, variant, block) for block in _blocks(chunk))
            for outputs in in_order(self.pool, jobs, self.ahead):
                yield from outputs

    def _built(self, toggles: Sequence[Toggle]) -> Built:
        """The toggles with their variants, each of which is built while the one before it runs."""
        first = self.pool.submit(_variant, self.runner, toggles[0])
        for toggle, following in zip(toggles, [*toggles[1:], None], strict=True):
            current = first
            if following is not None:
                first = self.pool.submit(_variant, self.runner, following)
            yield toggle, current


def _blocks(chunk: Sequence[int]) -> Iterator[Sequence[int]]:
    return (chunk[k : k + BLOCK] for k in range(0, len(chunk), BLOCK))


def _variant(runner: Runner, toggle: Toggle) -> Variant:
    if toggle.name == FLOAT:
        return lambda samples: [runner.reference(i) for i in samples]
    return runner.variant(toggle)


def _outputs(variant: Future[Variant], block: Sequence[int]) -> list[Outputs]:
    return [dict(outputs) for outputs in variant.result()(block)]


def _score(
    runner: Runner,
    metric: Metric,
    toggle: Toggle,
    parts: Parts,
    ranked: Sequence[Ranked],
    variant: Future[Variant],
    block: Sequence[int],
) -> tuple[str, Found]:
    scored = {}
    for i, test in zip(block, variant.result()(block), strict=True):
        ref = runner.reference(i)
        for name in toggle.tensors:
            if ref[name].shape != test[name].shape:
                raise ModelError(
                    f"'{name}' cannot be scored: its length depends on the values, shape "
                    f"{ref[name].shape} float and {test[name].shape} in sample {i} "
                    f"({toggle.name}); score other outputs with --output"
                )
        ref, test = line_up(ranked, ref, test, {})
        scored[i] = {
            part.name: sums_of(metric, i, part.of(ref[name]), part.of(test[name]))
            for name in toggle.tensors
            if ref[name].dtype.kind == "f"  # classes tell rows apart
            for part in parts.get(name, (Part(name, name),))
        }
        for name, sums in scored[i].items():
            if not all(map(math.isfinite, sums)):
                raise ModelError(
                    f"metric '{metric.name}' is not a number: '{name}' holds NaN or infinite "
                    f"values in sample {i} ({toggle.name}); score other outputs with --output"
                )
    return toggle.name, scored
