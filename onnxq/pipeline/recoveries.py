"""The recoveries as steps of `quantize`, by the configuration: before the calibration, and with
ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from onnxq.calib.data import Dataset
from onnxq.calib.methods import Auto, parse_method
from onnxq.calib.ranges import Ranges
from onnxq.calib.stats import Stats
from onnxq.model.graph import Graph, constant_of
from onnxq.pipeline.config import Config
from onnxq.pipeline.source import Source
from onnxq.pipeline.steps import insert_options, read, runtime_of
from onnxq.plan import Plan
from onnxq.progress import Progress, silent, stage, told
from onnxq.recover import bias, pipeline
from onnxq.recover.channel_scales import offers_of
from onnxq.recover.choice import chosen, parse
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.sites import shift_biases
from onnxq.run.replay import with_float_weights

BIAS = "bias"
LEFT = "the statistics are of the model as it is, whose channels stay as they are"


class Learner(Protocol):
    """What learns roundings, ranges and biases behind all recoveries (see `onnxq.finetune`)."""

    def check(self, graph: Graph, outputs: Sequence[str]) -> None:
        """Raise an OnnxqError before anything runs for a graph that it cannot learn."""

    def __call__(self, bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
        """The better draft, and what was learned."""


def reshape(
    source: Source,
    plan: Plan,
    dataset: Dataset,
    config: Config,
    stats: Stats | None = None,
) -> tuple[Source, list[Outcome]]:
    """A source whose float graph computes the same and is easier to quantize, as far as the
    configuration asks for that (channels, equalize, smooth); what each algorithm brought.

    Statistics and ranges of a changed graph are not those of the model file: its hash differs, by
    the constants that changed. Where saved statistics are of the model as it is, what runs unasked
    does not change it.
    """
    recoveries = pipeline.asked(chosen(config.recover, plan), reshaping=True)
    if not dataset or not recoveries:
        return source, []
    bench = _bench(source, plan, dataset, config)
    if stats is not None and stats.model == source.sha256 and parse(config.recover) is None:
        return source, _left(bench)
    draft, outcomes = pipeline.run(recoveries, bench, Draft(source.graph))
    outcomes = [o for o in outcomes if o.gains or o.undone or o.notes]
    if draft.graph is source.graph:
        return source, outcomes
    return replace(source, graph=draft.graph, sha256=_digest(source, draft.graph)), outcomes


def _left(bench: Bench) -> list[Outcome]:
    """What channel scales would change, and why they do not."""
    offers = offers_of(bench, bench.graph) if bench.judged else {}
    undone = {name: LEFT for group in offers for name in group.readers}
    notes = (f"{LEFT}; it would help to leave out --stats (nodes: {len(undone)})",)
    return [Outcome("channel scales", undone=undone, notes=notes)] if undone else []


def _digest(source: Source, graph: Graph) -> str:
    """The hash of a source whose graph has other constants."""
    sha = hashlib.sha256(source.sha256.encode())
    for node in graph.nodes:
        for i, tensor in enumerate(node.inputs):
            values = constant_of(tensor)
            if values is not None and values.dtype.kind == "f":
                sha.update(f"\0{node.name}\0{i}\0".encode())
                sha.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def refine(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    config: Config,
    learner: Learner | None = None,
) -> tuple[Draft, list[Outcome]]:
    """Ranges, weights and biases after `scales`, `round` and `bias`, as far as the configuration
    asks for them, and then after `learner`, behind which biases are corrected again; what each
    brought."""
    recoveries = pipeline.asked(chosen(config.recover, plan), reshaping=False)
    draft = Draft(source.graph, ranges)
    if not dataset or not (recoveries or learner):
        return draft, []
    bench = _bench(source, plan, dataset, config)
    draft, outcomes = pipeline.run(recoveries, bench, draft)
    if learner is None:
        return draft, outcomes
    with stage("finetune"):
        draft, outcome = learner(bench, draft)
    again = [r for r in recoveries if r.name == BIAS]
    draft, corrected = pipeline.run(again, bench, draft)
    return draft, [*outcomes, outcome, *corrected]


def _bench(source: Source, plan: Plan, dataset: Dataset, config: Config) -> Bench:
    method = "mse" if isinstance(parse_method(config.method), Auto) else config.method
    return Bench(
        source.graph,
        plan,
        dataset,
        insert_options(config),
        lambda graph, stats: read(replace(source, graph=graph), plan, stats, method),
        runtime_of(config),
        config.workers,
        config.max_memory << 20,
    )


@told
def recover(
    source: Source,
    quantized: Graph,
    plan: Plan,
    dataset: Dataset,
    config: Config,
    progress: Progress = silent,
) -> Outcome:
    """Correct the biases of a Q/DQ graph in float32, in place, if the configuration says so; they
    stay where the model cannot be run piece by piece. `refine` does the same before Q/DQ stands."""
    if BIAS not in chosen(config.recover, plan) or not dataset:
        return Outcome(bias.TITLE)
    bench = _bench(source, plan, dataset, config)

    def corrected(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
        made = with_float_weights(quantized)
        shifts, outcome = bias.corrections(bench, draft.graph, made)
        return replace(draft, shifts=shifts), outcome

    recovery = pipeline.Recovery(BIAS, bias.TITLE, corrected)
    draft, (outcome,) = pipeline.run([recovery], bench, Draft(source.graph))
    shift_biases(quantized, draft.shifts)
    return outcome
