"""The verbs: compositions of the modules below, no algorithms.

quantize = prepare, plan, calibrate, read ranges, insert Q/DQ, compare, write
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxq import accuracy
from onnxq import graph as graphs
from onnxq.accuracy import Agreement
from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.data_check import check_finite, drop_nonfinite
from onnxq.calib.holdout import held_out
from onnxq.calib.methods import Auto, parse_method
from onnxq.calib.observed import observed, settle
from onnxq.calib.ranges import Ranges, read_ranges
from onnxq.calib.stats import Stats
from onnxq.calib.weights import weight_mse
from onnxq.config import Config
from onnxq.errors import ModelError, PlanError
from onnxq.graph import Graph
from onnxq.numerics import amax_of
from onnxq.passes.apply import apply, tidy
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.prepare import prepare as prepare_graph
from onnxq.passes.raise_opset import MINIMUM, raise_opset_to
from onnxq.passes.strip_qdq import quantized_nodes, strip_qdq
from onnxq.passes.to_half import FP16_MAX, HalfOptions, reasons_to_keep, to_half
from onnxq.plan import Plan
from onnxq.report import manifest as manifests
from onnxq.runtime import Runtime
from onnxq.sensitivity import sensitivity as sensitivity
from onnxq.spec import QuantSpec
from onnxq.targets import tensorrt

Progress = Callable[[str, int, int], None]
HALF_SAMPLES, HALF_MARGIN = 4, 2.0  # samples looked at for values near the end of FP16
HALF_OPSET = 19  # below it Q/DQ has no half scales
AUTO = ("mse", "max", "percentile:99.999", "entropy")


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Source:
    """A prepared graph with the file it came from and its hash."""

    graph: Graph
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantized:
    """What `quantize` returns: the Q/DQ graph, every value on the way to it, and the manifest.

    metadata: the source model's own metadata_props, such as class names, handed on by `write`.
    """

    graph: Graph
    plan: Plan
    stats: Stats
    ranges: Ranges
    agreement: Mapping[str, Agreement]
    metadata: Mapping[str, str] = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)


def prepare(model: str | Path, config: Config | None = None) -> Source:
    """Load and prepare a model file: names, constants, BatchNorm folded, opset raised.

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
    needed, why = MINIMUM, "scales per channel"
    if config.high_precision != "fp32" or _has_half(graph):
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
    result = tensorrt.plan(source.graph, config.placement, source.sha256)
    _refuse_empty(result, source)
    return result


def _refuse_empty(plan: Plan, source: Source) -> None:
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
) -> Stats:
    """Statistics of every tensor the plan quantizes: one pass over the data, no method chosen."""
    config = config or Config()
    return collect(
        source.graph,
        observed(source.graph, plan),
        dataset,
        model=source.sha256,
        runtime=runtime_of(config),
        workers=config.workers,
        progress=lambda done, total: progress("calibrate", done, total),
    )


def insert(source: Source, plan: Plan, ranges: Ranges, config: Config | None = None) -> Graph:
    """A copy of the graph with the plan's Q/DQ."""
    config = config or Config()
    graph = source.graph.copy()
    weight_range = weight_mse if config.weight_method == "mse" else amax_of
    options = InsertOptions(config.weights_as, config.scale_dtype, weight_range)
    insert_qdq(graph, plan, ranges.amax, options)
    tidy(graph)
    return graph


def read(plan: Plan, stats: Stats, method: str) -> Ranges:
    """Ranges of every observed tensor by one method; raises PlanError for an unknown one."""
    parsed = parse_method(method)
    if isinstance(parsed, Auto):
        raise PlanError("method 'auto' is judged at the model's outputs: use 'onnxq quantize'")
    return read_ranges(stats, parsed, QuantSpec(), plan.tied)


def quantize(
    model: str | Path,
    calib: Sequence[str],
    config: Config | None = None,
    *,
    plan_from: Plan | None = None,
    stats_from: Stats | None = None,
    progress: Progress = silent,
) -> Quantized:
    """The whole pipeline on a model file and calibration data; writes nothing.

    `plan_from` and `stats_from` replace the plan and the calibration by saved ones, which must be
    of this model. Raises OnnxqError subclasses for whatever the user can mend.
    """
    config = config or Config()
    clock = _Clock()
    with clock("prepare"):
        source = prepare(model, config)
    with clock("plan"):
        chosen = plan_from or plan(source, config)
        chosen.check_model(source.sha256)
        _refuse_empty(chosen, source)
    with clock("calibrate"):
        dataset = data(source, calib, config)
        rest, check = held_out(dataset, config.check_samples)
        stats = stats_from or calibrate(source, chosen, rest, config, progress)
        stats.check_model(source.sha256)
    with clock("ranges"):
        ranges, scores = _choose(source, chosen, stats, check, config, progress)
        unseen = {name for name, seen in stats.histograms.items() if not seen.count}
        chosen, notes = settle(source.graph, chosen, ranges, unseen)
        notes = [*source.notes, *notes]
        _refuse_empty(chosen, source)
    with clock("insert"):
        graph = insert(source, chosen, ranges, config)
    if config.high_precision == "bf16":  # ONNX Runtime has no BF16 Q/DQ to compare with
        notes.append("compared before the rest became BF16, which ONNX Runtime cannot run")
    with clock("half"):
        half = graph.copy()
        kept = to_high_precision(source, half, rest, config)
    with clock("compare"):
        runs = graph if config.high_precision == "bf16" else half
        agreement = compare(source, runs, check, config, progress)
    result = Quantized(
        half, chosen, stats, ranges, agreement, graphs.read_metadata(source.path), {}
    )
    outcome = manifests.Outcome(notes, scores, kept, len(check), clock.seconds)
    result.manifest.update(manifests.describe(source.path, config, result, outcome))
    return result


def write(result: Quantized, out: str | Path, config: Config | None = None) -> None:
    """Write the model to `out` and its manifest to `<out>.manifest.json`, both or neither.

    The manifest in `result` gains the output's path and size; a digest of it goes into the model.
    """
    config = config or Config()
    out = Path(out)
    external = config.external_data or bool(result.manifest["model"].get("external_data"))
    with graphs.together():
        metadata = {**result.metadata, **manifests.digest(result.manifest)}
        size = graphs.save(result.graph, out, metadata, external)
        result.manifest["output"] = {"path": out.name, "bytes": size}
        manifests.save(result.manifest, out.with_name(out.name + ".manifest.json"))


def compare(
    source: Source, quantized: Graph, check: Dataset, config: Config, progress: Progress = silent
) -> dict[str, Agreement]:
    """Agreement of every float output of a model before and after, through ONNX Runtime."""
    feeds = [check.sample(i) for i in range(len(check))]
    done = iter(range(1, 2 * len(feeds) + 1))
    return accuracy.measure(
        graphs.to_proto(source.graph),
        graphs.to_proto(quantized),
        feeds,
        lambda: progress("compare", next(done), 2 * len(feeds)),
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


def _choose(
    source: Source,
    plan: Plan,
    stats: Stats,
    check: Dataset,
    config: Config,
    progress: Progress,
) -> tuple[Ranges, dict[str, float]]:
    """Ranges by the configured method; for `auto` the one with the best SQNR at the outputs."""
    if not isinstance(parse_method(config.method), Auto):
        return read(plan, stats, config.method), {}
    found: dict[str, tuple[float, Ranges]] = {}
    for method in AUTO:
        ranges = read(plan, stats, method)
        settled, _ = settle(source.graph, plan, ranges)
        graph = insert(source, settled, ranges, config)
        outputs = compare(source, graph, check, config, progress)
        # the mean over outputs, so that one output cannot be bought with another's ruin
        decibels = [min(a.sqnr_db, 200.0) for a in outputs.values()]
        found[method] = (sum(decibels) / max(len(decibels), 1), ranges)
    best = max(AUTO, key=lambda m: (found[m][0], m == "mse"))
    return found[best][1], {m: round(score, 3) for m, (score, _) in found.items()}


def runtime_of(config: Config) -> Runtime:
    """Where this configuration runs models."""
    library = Path(config.ort_library) if config.ort_library else None
    return Runtime(config.provider, library)


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
