"""The single steps of the pipeline; `api` has them all, and the verbs made of several."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import TensorProto

from onnxq import accuracy
from onnxq import graph as graphs
from onnxq.accuracy import Agreement
from onnxq.calib.cache import cached
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.data_check import check_finite, drop_nonfinite
from onnxq.calib.gated import GatedMse, read_by_gates
from onnxq.calib.methods import Auto, Method, parse_method
from onnxq.calib.mse import Mse
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.ranges import Ranges, read_ranges
from onnxq.calib.stats import Stats
from onnxq.calib.weights import weight_mse
from onnxq.config import Config
from onnxq.errors import ModelError, PlanError
from onnxq.graph import Graph
from onnxq.numerics import amax_of
from onnxq.passes.apply import apply, tidy
from onnxq.passes.insert_qdq import Codes, InsertOptions, Weight, insert_qdq
from onnxq.passes.prepare import prepare as prepare_graph
from onnxq.passes.raise_opset import MINIMUM, raise_opset_to
from onnxq.passes.softmax_before_transpose import softmax_before_transpose
from onnxq.passes.strip_qdq import quantized_nodes, strip_qdq
from onnxq.passes.to_half import FP16_MAX, HalfOptions, reasons_to_keep, to_half
from onnxq.passes.type_custom_ops import type_custom_ops
from onnxq.passes.write_attributes import write_attributes
from onnxq.plan import Plan
from onnxq.recover import pipeline
from onnxq.recover.bias import Corrections, correct_biases
from onnxq.recover.choice import chosen
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.sites import shift_biases
from onnxq.runtime import Runtime
from onnxq.sensitivity import sensitivity as sensitivity
from onnxq.targets import placement
from onnxq.targets.specs import opset_of

Progress = Callable[[str, int, int], None]
HALF_SAMPLES, HALF_MARGIN = 4, 2.0  # samples looked at for values near the end of FP16
HALF_OPSET = 19  # below it Q/DQ has no half scales


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Source:
    """A prepared graph with the file it came from and its hash."""

    graph: Graph
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


def prepare(
    model: str | Path, config: Config | None = None, plan_from: Plan | None = None
) -> Source:
    """Load and prepare a model file: names, constants, BatchNorm folded, opset raised to what the
    configuration, or the saved plan in its place, needs.

    Raises ModelError for a file that is not a float ONNX model; a quantized one is refused unless
    `config.requantize` says to take its Q/DQ out first.
    """
    config = config or Config()
    path = Path(model)
    graph = graphs.load(path)
    if found := quantized_nodes(graph):
        if not config.requantize:
            raise ModelError(
                f"'{path}' is quantized already ({len(found)} quantized ops, e.g. "
                f"'{found[0].name}'); start from the float model, or say --requantize"
            )
        strip_qdq(graph)
    before = graph.opset
    graph = prepare_graph(graph)
    if config.placement.attribute_op or (plan_from and plan_from.attribute_ops):
        graph = apply(graph, type_custom_ops)
    if config.placement.target == "onnxruntime":
        graph = apply(graph, softmax_before_transpose)
    needed, why = MINIMUM, "scales per channel"
    if (other := opset_of(config.placement, plan_from)) > needed:
        needed, why = other, "the types of the plan"
    if needed < HALF_OPSET and (config.high_precision != "fp32" or _has_half(graph)):
        needed, why = HALF_OPSET, "FP16 and BF16 scales"
    if graph.opset < needed:
        graph = apply(graph, raise_opset_to(needed))
    raised = graph.opset > before
    notes = (f"opset raised from {before} to {graph.opset}: {why} need it",) if raised else ()
    return Source(graph, path, graphs.fingerprint(path), notes)


def _has_half(graph: Graph) -> bool:
    halves = (np.float16, TensorProto.BFLOAT16)
    return any(t.dtype in halves for t in graph.tensors().values() if t.dtype is not None)


def open_model(model: str | Path) -> Source:
    """A model file as it is, not prepared; raises ModelError as `prepare` does."""
    path = Path(model)
    return Source(graphs.load(path), path, graphs.fingerprint(path))


def plan(source: Source, config: Config | None = None) -> Plan:
    """Where and how to quantize a prepared graph; raises PlanError as `targets` does."""
    config = config or Config()
    result = placement.plan(source.graph, config.placement, source.sha256)
    refuse_empty(result, source)
    return result


def refuse_empty(plan: Plan, source: Source) -> None:
    """Raises PlanError for a plan that quantizes nothing."""
    if not plan.edges:
        reasons = sorted(set(plan.skipped.values())) or ["it has no Conv, Gemm or MatMul"]
        raise PlanError(f"nothing to quantize in '{source.path}': {'; '.join(reasons[:3])}")


def data(source: Source, calib: Sequence[str], config: Config | None = None) -> Dataset:
    """Calibration data for a model; raises DataError for data that does not fit it."""
    config = config or Config()
    inputs = {
        t.name: InputInfo(
            tuple(d if isinstance(d, int) and d > 0 else None for d in t.shape or ()),
            np.dtype(t.dtype),
        )
        for t in source.graph.inputs
    }
    dataset = open_data(calib, inputs, limit=config.samples, seed=config.seed or 0)
    if config.samples is not None:
        dataset = dataset.subset(config.samples, config.seed)
    if config.allow_nonfinite:
        return drop_nonfinite(dataset)
    check_finite(dataset)
    return dataset


def calibrate(
    source: Source,
    plan: Plan,
    dataset: Dataset,
    config: Config | None = None,
    progress: Progress = silent,
    checkpoint: Path | None = None,
) -> Stats:
    """Statistics of every tensor the plan quantizes: one pass over the data, no method chosen.

    `checkpoint` names a file that is written as the work goes on; what an interrupted run left
    there is not done again. Raises DataError where that is another run's.
    """
    config = config or Config()
    tensors, runtime = observed(source.graph, plan), runtime_of(config)

    def count(names: Sequence[str]) -> Stats:
        return collect(
            source.graph,
            names,
            dataset,
            model=source.sha256,
            runtime=runtime,
            workers=config.workers,
            progress=lambda done, total: progress("calibrate", done, total),
            checkpoint=Checkpoint.open(checkpoint, source.sha256, names) if checkpoint else None,
        )

    if config.cache is None:
        return count(tensors)
    return cached(config.cache, source.sha256, tensors, dataset, runtime, count)


def insert(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    config: Config | None = None,
    codes: Mapping[Weight, Codes] | None = None,
) -> Graph:
    """A copy of the graph with the plan's Q/DQ; `codes` are of weights that `refine` rounded.

    Attribute ops have Q/DQ too, which ONNX Runtime can run; `as_attributes` takes it out.
    """
    config = config or Config()
    graph = source.graph.copy()
    options = replace(_insert_options(config), codes=codes or {})
    insert_qdq(graph, plan, ranges.limits, options)
    tidy(graph)
    return graph


def as_attributes(
    source: Source, graph: Graph, plan: Plan, ranges: Ranges, config: Config
) -> Graph:
    """`graph` with attributes in place of Q/DQ at the plan's attribute ops, a copy; `graph` itself
    where the plan has none."""
    if not plan.attribute_ops:
        return graph
    out = graph.copy()
    write_attributes(out, source.graph, plan, ranges.amax, _insert_options(config))
    return out


def _insert_options(config: Config) -> InsertOptions:
    weight_range = weight_mse if config.weight_method == "mse" else amax_of
    return InsertOptions(config.weights_as, config.scale_dtype, weight_range)


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
    return read_ranges(stats, parsed, specs, plan.tied, own)


def reshape(
    source: Source,
    plan: Plan,
    dataset: Dataset,
    config: Config,
    progress: Progress = silent,
) -> tuple[Source, list[Outcome]]:
    """A source whose float graph computes the same and is easier to quantize, as far as the
    configuration asks for that (equalize, smooth); what each algorithm brought.

    Statistics and ranges of a changed graph are not those of the model file: its hash differs.
    """
    names = chosen(config.recover, plan)
    if not dataset or not set(names) & set(pipeline.RESHAPING):
        return source, []
    bench = _bench(source, plan, dataset, config, progress)
    draft, outcomes = pipeline.run(pipeline.RESHAPING, names, bench, Draft(source.graph))
    if draft.graph is source.graph:
        return source, outcomes
    digest = hashlib.sha256(f"{source.sha256} {','.join(names)}".encode()).hexdigest()
    return replace(source, graph=draft.graph, sha256=digest), outcomes


def refine(
    source: Source,
    plan: Plan,
    ranges: Ranges,
    dataset: Dataset,
    config: Config,
    progress: Progress = silent,
) -> tuple[Draft, list[Outcome]]:
    """Ranges and weights after `scales` and `round`, if the configuration asks for them; what each
    brought."""
    names = chosen(config.recover, plan)
    draft = Draft(source.graph, ranges)
    if not dataset or not set(names) & set(pipeline.REFINING):
        return draft, []
    bench = _bench(source, plan, dataset, config, progress)
    return pipeline.run(pipeline.REFINING, names, bench, draft)


def _bench(
    source: Source, plan: Plan, dataset: Dataset, config: Config, progress: Progress
) -> Bench:
    method = "mse" if isinstance(parse_method(config.method), Auto) else config.method
    return Bench(
        source.graph,
        plan,
        dataset,
        _insert_options(config),
        lambda graph, stats: read(replace(source, graph=graph), plan, stats, method),
        runtime_of(config),
        config.workers,
        config.max_memory << 20,
        lambda done, total: progress("recover", done, total),
    )


def recover(
    source: Source,
    quantized: Graph,
    plan: Plan,
    dataset: Dataset,
    config: Config,
    progress: Progress = silent,
) -> Corrections:
    """Correct the biases of a Q/DQ graph in float32, in place, if the configuration says so."""
    if "bias" not in chosen(config.recover, plan) or not dataset:
        return Corrections()
    found = correct_biases(
        source.graph,
        quantized,
        plan,
        dataset,
        runtime=runtime_of(config),
        workers=config.workers,
        progress=lambda done, total: progress("recover", done, total),
    )
    shift_biases(quantized, found.sites, found.shifts)
    return found


def compare(
    source: Source, quantized: Graph, check: Dataset, config: Config, progress: Progress = silent
) -> dict[str, Agreement]:
    """Agreement of every float output of a model before and after, through ONNX Runtime."""
    done = iter(range(1, 2 * len(check) + 1))
    return accuracy.measure(
        lambda: graphs.to_proto(source.graph),
        lambda: graphs.to_proto(quantized),
        check,
        lambda: progress("compare", next(done), 2 * len(check)),
        runtime_of(config),
    )


def to_high_precision(
    source: Source, graph: Graph, dataset: Dataset, config: Config
) -> dict[str, str]:
    """Convert what is not quantized to FP16 or BF16 in place; what stays FP32, and why.

    Values beyond the range of FP16 are looked for in a few samples, in every float tensor.
    """
    if config.high_precision == "fp32":
        return {}
    large: dict[str, str] = {}
    if config.high_precision == "fp16":
        few = dataset.subset(min(HALF_SAMPLES, len(dataset)))
        floats = [t.name for n in source.graph.nodes for t in n.outputs if t.dtype == np.float32]
        stats = collect(source.graph, floats, few, runtime=runtime_of(config), workers=1)
        large = {
            node.name: f"'{t.name}' reaches {stats[t.name].amax:.4g}, near the end of FP16"
            for node in source.graph.nodes
            for t in (*node.inputs, *node.outputs)
            if t.name in stats.histograms and stats[t.name].amax > FP16_MAX / HALF_MARGIN
        }
    options = HalfOptions(config.high_precision, large, config.io)
    kept = reasons_to_keep(graph, options)
    to_half(graph, options)
    tidy(graph)
    return kept


def runtime_of(config: Config) -> Runtime:
    """Where this configuration runs models."""
    library = Path(config.ort_library) if config.ort_library else None
    return Runtime(config.provider, library, config.ort_extension)
