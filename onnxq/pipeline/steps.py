"""The single steps of the pipeline; `api` has them all, and the verbs made of several."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto

from onnxq.calib.cache import cached
from onnxq.calib.checkpoint import Checkpoint
from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.data_check import check_finite, drop_nonfinite
from onnxq.calib.gated import GatedMse, read_by_gates
from onnxq.calib.masks import mask_inputs
from onnxq.calib.methods import Auto, Method, parse_method
from onnxq.calib.mse import Mse
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.ranges import Ranges, read_ranges
from onnxq.calib.stats import Stats
from onnxq.calib.weights import weight_mse
from onnxq.errors import DataError, ModelError, PlanError
from onnxq.judge import accuracy
from onnxq.judge.accuracy import Agreements
from onnxq.judge.plain import plainly
from onnxq.model import graph as graphs
from onnxq.model.graph import WEIGHTED, Graph, Tensor, constant_of, within
from onnxq.numerics import amax_of
from onnxq.passes.apply import tidy
from onnxq.passes.half_pairs import FP16_MAX
from onnxq.passes.insert_qdq import Codes, InsertOptions, Weight, insert_qdq
from onnxq.passes.part_biases import part_biases
from onnxq.passes.pin_weights import pin_weights
from onnxq.passes.quantize_biases import quantize_biases
from onnxq.passes.raise_opset import raise_opset_to
from onnxq.passes.rounded import concats_of_codes
from onnxq.passes.to_half import HalfOptions, reasons_to_keep, to_half
from onnxq.passes.write_attributes import write_attributes
from onnxq.pipeline import counting, original
from onnxq.pipeline.config import Config
from onnxq.pipeline.opening import placed
from onnxq.pipeline.source import Source as Source
from onnxq.pipeline.source import open_model as open_model
from onnxq.pipeline.source import prepare as prepare
from onnxq.plan import Plan
from onnxq.progress import Progress, silent
from onnxq.run.runtime import Runtime
from onnxq.spec import Edge
from onnxq.targets import placement
from onnxq.targets.attention import merged_projections
from onnxq.targets.options import weight_input

log = logging.getLogger(__name__)
BF16_OPSET = 22
HALF_SAMPLES, HALF_MARGIN = 4, 2.0  # samples looked at for values near the end of FP16


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


def refuse_unsound(plan: Plan, source: Source) -> None:
    """Raises ModelError for NaN in a weight or bias, and for infinities in what is quantized."""
    for node in within(source.graph.nodes):
        specs = plan.by_node.get(node.name, {})
        for i, tensor in enumerate(node.inputs) if specs or node.op in WEIGHTED else ():
            values = constant_of(tensor)
            if values is None or values.dtype.kind != "f" or not values.size:
                continue
            ends = float(values.min()), float(values.max())  # of NaN: NaN
            bad = next((x for x in ends if math.isnan(x) or (i in specs and math.isinf(x))), None)
            if bad is not None:
                raise ModelError(
                    f"input {i} of {node.op} '{node.name}', the constant '{tensor.name}', holds "
                    f"{'NaN' if math.isnan(bad) else bad}; export the model from sound weights"
                )


def data(source: Source, calib: Sequence[str], config: Config | None = None) -> Dataset:
    """Calibration data for a model; raises DataError for data that does not fit it."""
    config = config or Config()
    inputs = {t.name: _input_info(t) for t in source.graph.inputs}
    dataset = open_data(calib, inputs, limit=config.samples, seed=config.seed or 0)
    if config.samples is not None:
        dataset = dataset.subset(config.samples, config.seed)
    masks = mask_inputs(source.graph)
    if config.allow_nonfinite:
        return drop_nonfinite(dataset, masks)
    check_finite(dataset, masks)
    return dataset


def _input_info(tensor: Tensor) -> InputInfo:
    dtype = tensor.dtype
    if isinstance(dtype, int) or np.dtype(dtype).kind not in "fiub":  # an int: no type of NumPy
        kind = TensorProto.DataType.Name(dtype) if isinstance(dtype, int) else np.dtype(dtype)
        raise DataError(
            f"input '{tensor.name}' is {kind}, which calibration data cannot be; export the model "
            "with inputs of numbers that NumPy has"
        )
    if tensor.shape is None:
        return InputInfo(None, np.dtype(dtype))
    axes = tuple(d if isinstance(d, int) and d > 0 else None for d in tensor.shape)
    return InputInfo(axes, np.dtype(dtype))


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
    bits (docs/clusters.md). Raises DataError where the checkpoint is another run's, WorkerError
    where workers fail.
    """
    config = config or Config()
    refuse_unsound(plan, source)
    tensors, runtime = observed(source.graph, plan), runtime_of(config)
    original.hold(source, dataset, runtime)

    def tick(done: int, total: int) -> None:
        progress("calibrate", done, total)

    def count(names: Sequence[str]) -> Stats:
        begun = Checkpoint.open(checkpoint, source.sha256, names) if checkpoint else None
        if executor is not None:
            where = runtime_of(placed(config))
            return counting.count(executor, source, names, dataset, where, tick, begun)
        return collect(
            source.graph,
            names,
            dataset,
            model=source.sha256,
            runtime=runtime,
            workers=config.workers,
            progress=tick,
            checkpoint=begun,
        )

    if config.cache is None:
        return count(tensors)
    return cached(config.cache, source.sha256, tensors, dataset, runtime, count)


@graphs.uncollected()
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
    options = insert_options(config, codes)
    if config.weights_as == "auto" and plan.target == "tensorrt":
        options = replace(options, paired=_split_in_the_engine(graph, plan))
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
    write_attributes(out, source.graph, plan, ranges.amax, insert_options(config))
    return out


def insert_options(config: Config, codes: Mapping[Weight, Codes] | None = None) -> InsertOptions:
    """How this configuration writes Q/DQ; `codes` are of weights that are rounded already."""
    weight_range = weight_mse if config.weight_method == "mse" else amax_of
    return InsertOptions(config.stored_as, config.scale_dtype, weight_range, codes or {})


def _split_in_the_engine(graph: Graph, plan: Plan) -> list[str]:
    """Weights that TensorRT splits, and would dequantize for that, of products on codes."""
    return [
        node.inputs[weight_input(node)].name
        for node in merged_projections(graph)
        if {Edge(node.name, 0), Edge(node.name, 1)} <= plan.edges.keys()
    ]


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


def compare(
    source: Source,
    quantized: Graph,
    check: Dataset,
    config: Config,
    progress: Progress = silent,
    runtime: Runtime | None = None,
) -> Agreements:
    """How near the outputs of a model are before and after, through ONNX Runtime: in plain sessions
    where those can run it, or in those of `runtime`.

    The quantized model is made of the source, so outputs of other lengths, whatever they are
    declared, are left out: their lengths come from values. The float side is the file of `source`.
    Raises ModelError as `original.hold` does.
    """
    if runtime is None:
        original.hold(source, check, runtime_of(config))
        return plainly(
            lambda where: compare(source, quantized, check, config, progress, where),
            runtime_of(config),
        )[0]
    done = iter(range(1, 2 * len(check) + 1))
    return accuracy.measure(
        original.reference(source),
        lambda: graphs.to_proto(quantized),
        check,
        lambda: progress("compare", next(done), 2 * len(check)),
        runtime,
        declared={},
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
        written = (t for node in source.graph.nodes for t in node.outputs)
        floats = [t.name for t in (*source.graph.inputs, *written) if t.dtype == np.float32]
        stats = collect(source.graph, floats, few, runtime=runtime_of(config), workers=1)
        large = {
            node.name: f"'{t.name}' reaches {stats[t.name].amax:.4g}, near the end of FP16"
            for node in source.graph.nodes
            for t in (*node.inputs, *node.outputs)
            if t.name in stats.histograms and stats[t.name].amax > FP16_MAX / HALF_MARGIN
        }
        if config.placement.target == "onnxruntime":
            large |= dict.fromkeys(
                concats_of_codes(graph), "ONNX Runtime has no FP16 QLinearConcat"
            )
    if config.high_precision == "bf16":
        _raise_for_bf16(graph)
    options = HalfOptions(config.high_precision, large, config.io)
    kept = reasons_to_keep(graph, options)
    to_half(graph, options)
    tidy(graph)
    return kept


def _raise_for_bf16(graph: Graph) -> None:
    """Raise the opset to the first in which Conv and pooling are defined for BF16; where onnx
    cannot, they stay FP32."""
    try:
        raise_opset_to(BF16_OPSET)(graph)
    except ModelError as e:
        log.info("BF16: %s", e)


def write_biases(graph: Graph, config: Config) -> None:
    """Write the biases of a quantized graph, in place, so that ONNX Runtime computes with them as
    they are: after all that corrects them or changes their type."""
    if config.high_precision == "fp32":
        quantize_biases(graph)
    part_biases(graph)
    if config.placement.target == "onnxruntime":
        pin_weights(graph)


def runtime_of(config: Config) -> Runtime:
    """Where this configuration runs models."""
    library = Path(config.ort_library) if config.ort_library else None
    return Runtime(config.provider, library, config.ort_extension)
