"""Run every toggle over every sample, on all workers, and add the sums to a `State`.

Jobs are handed out in order: toggle by toggle, sample by sample, the next toggle's sessions being
built while samples of this one run. They are taken back in the same order, so no result depends on
the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from onnxq.errors import ModelError
from onnxq.judge.metrics import AnyMetric, FunctionMetric, Metric, Sums, sums_of
from onnxq.progress import Count
from onnxq.run.over import in_order
from onnxq.sensitivity.runner import Outputs, Runner, Variant
from onnxq.sensitivity.state import State
from onnxq.sensitivity.toggles import FLOAT, Toggle

AHEAD = 3  # jobs in flight for each worker
BLOCK = 4  # samples a job: enough for weights to stay in the cache between them


@dataclass(frozen=True)
class Bench:
    """What measures: a runner, a metric, how many workers, and how many samples may be held."""

    runner: Runner
    metric: AnyMetric
    workers: int
    together: int

    def chunks(self, samples: Sequence[int]) -> list[Sequence[int]]:
        """Samples that are held together."""
        return [samples[k : k + self.together] for k in range(0, len(samples), self.together)]


def bench_of(runner: Runner, metric: AnyMetric, workers: int, max_memory: int) -> Bench:
    """A bench that holds as many samples as fit `max_memory` bytes, one at least."""
    return Bench(runner, metric, workers, max(1, max_memory // max(runner.footprint(), 1)))


def measure(
    bench: Bench,
    toggles: Sequence[Toggle],
    samples: Sequence[int],
    state: State,
    progress: Count,
) -> None:
    """Add to `state` what is missing of the toggles for these samples, which for a function are
    all; it is saved as work goes on and at the end.

    `progress(done, total)` counts toggles times chunks of samples. Raises ModelError where a scored
    value is NaN or infinite, PlanError where the metric fails.
    """
    function = isinstance(bench.metric, FunctionMetric)
    missing = [t for t in toggles if not state.has(t.name, [0] if function else samples)]
    if not missing:
        return
    with ThreadPoolExecutor(bench.workers, "sensitivity") as pool:
        try:
            if isinstance(bench.metric, FunctionMetric):
                _evaluate(bench, bench.metric, missing, samples, state, pool, progress)
            else:
                _add_up(bench, bench.metric, missing, samples, state, pool, progress)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            state.save()


def _add_up(
    bench: Bench,
    metric: Metric,
    toggles: Sequence[Toggle],
    samples: Sequence[int],
    state: State,
    pool: Executor,
    progress: Count,
) -> None:
    chunks = bench.chunks(samples)
    done, total = 0, len(toggles) * len(chunks)
    for chunk in chunks:
        todo = [toggle for toggle in toggles if not state.has(toggle.name, chunk)]
        done += len(toggles) - len(todo)
        if not todo:
            continue
        bench.runner.hold(chunk, pool)
        jobs = _jobs(bench.runner, metric, todo, chunk, pool)
        for toggle, sums in in_order(pool, jobs, AHEAD * bench.workers):
            for i, one in sums.items():
                state.add(toggle, i, one)
            if chunk[-1] in sums:
                done += 1
                state.save_soon()
                progress(done, total)


def _jobs(
    runner: Runner, metric: Metric, toggles: Sequence[Toggle], chunk: Sequence[int], pool: Executor
) -> Iterator[Callable[[], tuple[str, dict[int, dict[str, Sums]]]]]:
    for toggle, variant in _built(runner, toggles, pool):
        for block in _blocks(chunk):
            yield partial(_score, runner, metric, toggle, variant, block)


def _blocks(chunk: Sequence[int]) -> Iterator[Sequence[int]]:
    return (chunk[k : k + BLOCK] for k in range(0, len(chunk), BLOCK))


def _built(
    runner: Runner, toggles: Sequence[Toggle], pool: Executor
) -> Iterator[tuple[Toggle, Future[Variant]]]:
    """The toggles with their variants, each of which is built while the one before it runs."""
    first = pool.submit(_variant, runner, toggles[0])
    for toggle, following in zip(toggles, [*toggles[1:], None], strict=True):
        current = first
        if following is not None:
            first = pool.submit(_variant, runner, following)
        yield toggle, current


def _variant(runner: Runner, toggle: Toggle) -> Variant:
    if toggle.name == FLOAT:
        return lambda samples: [runner.reference(i) for i in samples]
    return runner.variant(toggle)


def _score(
    runner: Runner, metric: Metric, toggle: Toggle, variant: Future[Variant], block: Sequence[int]
) -> tuple[str, dict[int, dict[str, Sums]]]:
    found = {}
    for i, test in zip(block, variant.result()(block), strict=True):
        ref = runner.reference(i)
        for name in toggle.tensors:
            if ref[name].shape != test[name].shape:
                raise ModelError(
                    f"'{name}' cannot be scored: its length depends on the values, shape "
                    f"{ref[name].shape} float and {test[name].shape} in sample {i} "
                    f"({toggle.name}); score other outputs with --output"
                )
        found[i] = {name: sums_of(metric, i, ref[name], test[name]) for name in toggle.tensors}
        for name, sums in found[i].items():
            if not all(map(math.isfinite, sums)):
                raise ModelError(
                    f"metric '{metric.name}' is not a number: '{name}' holds NaN or infinite "
                    f"values in sample {i} ({toggle.name}); score other outputs with --output"
                )
    return toggle.name, found


def _evaluate(
    bench: Bench,
    metric: FunctionMetric,
    toggles: Sequence[Toggle],
    samples: Sequence[int],
    state: State,
    pool: Executor,
    progress: Count,
) -> None:
    """Stream every toggle's outputs to the user's function, in this thread.

    It sees all samples of a toggle at once, so where they cannot be held together they are held
    chunk by chunk for every toggle anew.
    """
    chunks = bench.chunks(samples)
    if len(chunks) == 1:
        bench.runner.hold(chunks[0], pool)
    for done, (toggle, variant) in enumerate(_built(bench.runner, toggles, pool)):
        stream = _stream(bench, chunks, variant, pool)
        score = metric.evaluate(stream)
        for _ in stream:  # a function that stops early leaves samples in flight
            pass
        state.add(toggle.name, 0, {"": score})
        state.save_soon()
        progress(done + 1, len(toggles))


def _stream(
    bench: Bench, chunks: Sequence[Sequence[int]], variant: Future[Variant], pool: Executor
) -> Iterator[Outputs]:
    for chunk in chunks:
        if len(chunks) > 1:
            bench.runner.hold(chunk, pool)
        jobs = (partial(_outputs, variant, block) for block in _blocks(chunk))
        for outputs in in_order(pool, jobs, AHEAD * bench.workers):
            yield from outputs


def _outputs(variant: Future[Variant], block: Sequence[int]) -> list[Outputs]:
    return [dict(outputs) for outputs in variant.result()(block)]
