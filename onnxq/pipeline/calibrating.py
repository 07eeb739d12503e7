"""The steps that count what tensors hold, and read ranges off the counts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from onnxq.calib.cache import cached
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.collect import collect, collect_parts
from onnxq.calib.data import Dataset
from onnxq.calib.enough import Enough, enough, parted
from onnxq.calib.gated import GatedMse, read_by_gates
from onnxq.calib.hidden import without_hidden
from onnxq.calib.methods import Auto, Method, parse_method
from onnxq.calib.mse import Mse
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.ranges import Ranges, errors_on, read_ranges
from onnxq.calib.stats import Stats, merge
from onnxq.errors import PlanError
from onnxq.pipeline import counting, original
from onnxq.pipeline.config import Config
from onnxq.pipeline.opening import placed
from onnxq.pipeline.planning import refuse_unsound
from onnxq.pipeline.runtimes import runtime_of
from onnxq.pipeline.source import Source
from onnxq.plan import Plan
from onnxq.progress import Progress, silent, stage, told
from onnxq.progress import count as told_of
from onnxq.run.runtime import Runtime


@told
def calibrate(
    source: Source,
    plan: Plan,
    dataset: Dataset,
    config: Config | None = None,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    executor: Executor | None = None,
) -> Stats:
    """Statistics of every tensor the plan quantizes: one pass over the data, no method chosen.

    `checkpoint` names a file that is written as the work goes on; what an interrupted run left
    there is not done again. The workers of an `executor` count instead of this process, to the same
    bits (docs/scale.md). Raises DataError where the checkpoint is another run's, WorkerError
    where workers fail.
    """
    config = config or Config()
    tensors, runtime = _begun(source, plan, dataset, config)

    def count(names: Sequence[str]) -> Stats:
        begun = Checkpoint.open(checkpoint, source.sha256, names) if checkpoint else None
        if executor is not None:
            where = runtime_of(placed(config))
            return counting.count(executor, source, names, dataset, where, told_of, begun)
        return collect(
            source.graph,
            names,
            dataset,
            model=source.sha256,
            runtime=runtime,
            workers=config.workers,
            progress=told_of,
            checkpoint=begun,
        )

    with stage("calibrate"):
        if config.cache is None:
            return count(tensors)
        return cached(config.cache, source.sha256, tensors, dataset, runtime, count)


@told
def calibrate_parts(
    source: Source,
    plan: Plan,
    dataset: Dataset,
    parts: int,
    config: Config | None = None,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> list[Stats]:
    """`calibrate`, with the statistics of up to `parts` parts of the data apart: they add up to
    those of the whole, to the bit."""
    config = config or Config()
    if executor is not None or config.cache is not None:
        each = parted(dataset, parts)
        return [calibrate(source, plan, d, config, progress, None, executor) for d in each]
    tensors, runtime = _begun(source, plan, dataset, config)
    with stage("calibrate"):
        return collect_parts(
            source.graph,
            tensors,
            dataset,
            parted(dataset, parts),
            model=source.sha256,
            runtime=runtime,
            workers=config.workers,
            progress=told_of,
        )


def _begun(
    source: Source, plan: Plan, dataset: Dataset, config: Config
) -> tuple[list[str], Runtime]:
    """What is counted and where, once the model is seen to be sound."""
    refuse_unsound(plan, source)
    runtime = runtime_of(config)
    original.hold(source, dataset, runtime)
    return observed(source.graph, plan), runtime


def how_enough(
    source: Source, plan: Plan, parts: Sequence[Stats], whole: Ranges, method: str
) -> Enough:
    """What twice the data would change in ranges `whole`, read by a method off all `parts`."""
    specs = activation_specs(source.graph, plan)
    stats = without_hidden(source.graph, merge(*parts))
    with stage("enough"):
        return enough(
            parts,
            whole,
            lambda some: read(source, plan, some, method),
            lambda found: errors_on(stats, found, specs, plan.tied),
        )


def read(source: Source, plan: Plan, stats: Stats, method: str) -> Ranges:
    """Ranges of every observed tensor by one method; raises PlanError for an unknown one."""
    parsed = parse_method(method)
    if isinstance(parsed, Auto):
        raise PlanError("method 'auto' is judged at the model's outputs: use 'onnxq quantize'")
    specs = activation_specs(source.graph, plan)
    own: dict[str, Method] = {}
    if isinstance(parsed, Mse):
        asymmetric = {name for name, spec in specs.items() if spec.asymmetric}
        gates = read_by_gates(source.graph)
        own = {name: GatedMse(gate) for name, gate in gates.items() if name in asymmetric}
    with stage("ranges"):
        stats = without_hidden(source.graph, stats)
        return read_ranges(stats, parsed, specs, plan.tied, own)
