"""A prepared graph with the file it came from: what every verb starts with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto

from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model import model_file, stored
from onnxq.model.graph import Graph, Tensor, within
from onnxq.model.model_file import ModelFile, ModelLike
from onnxq.passes.apply import Pass, apply, run_pass
from onnxq.passes.fix_inputs import fix_inputs, fixed
from onnxq.passes.prepare import PREPARE
from onnxq.passes.prepare import prepare as prepare_graph
from onnxq.passes.raise_opset import raise_opset_to
from onnxq.passes.softmax_before_transpose import softmax_before_transpose
from onnxq.passes.strip_qdq import only_weights, quantized_nodes, strip_qdq
from onnxq.passes.sum_expectations import expectations, sum_expectations
from onnxq.passes.type_custom_ops import type_custom_ops
from onnxq.pipeline.config import Config
from onnxq.pipeline.first_layer import FirstLayer, first_layers
from onnxq.plan import Plan
from onnxq.progress import stage
from onnxq.run.runtime import OnDisk
from onnxq.spec import HALF_OPSET, LEAST_OPSET
from onnxq.table import Table, page
from onnxq.targets.specs import opset_of


@dataclass(frozen=True)
class Preparation:
    """What `prepare` was told."""

    config: Config
    plan: Plan | None


@dataclass
class Original:
    """What is known of the file beside its prepared graph (see `original`).

    on_disk: what ONNX Runtime opens. outputs: names that it has. passes: what prepared it.
    quantized: its Q/DQ were taken out.
    held: whether the two were seen to compute the same. refused: why ONNX Runtime cannot run it.
    first: its first layers, which show what data it was trained on.
    """

    on_disk: OnDisk | None = None
    outputs: frozenset[str] = frozenset()
    passes: tuple[Pass, ...] = ()
    quantized: bool = False
    held: bool = False
    refused: str | None = None
    first: tuple[FirstLayer, ...] = ()


@dataclass(frozen=True)
class Source:
    """A prepared graph with the file it was read from and its hash; how to prepare it again, None
    for a model as it is."""

    graph: Graph
    file: ModelFile
    sha256: str
    notes: tuple[str, ...] = ()
    preparation: Preparation | None = None
    original: Original = field(default_factory=Original, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The model file."""
        return self.file.path

    def __repr__(self) -> str:
        nodes = f"{len(self.graph.nodes)} nodes, opset {self.graph.opset}"
        return f"Source('{self.path}', {nodes}, model {self.sha256[:12]})"

    def _repr_html_(self) -> str:
        nodes = f"{len(list(within(self.graph.nodes)))} nodes, opset {self.graph.opset}"
        return page(f"{self.path.name}: {nodes}", *self.tables(), *self.notes)

    def tables(self) -> list[Table]:
        """Inputs and outputs of the graph; how many nodes there are of each op type."""
        ends = [("input", tensor) for tensor in self.graph.inputs]
        ends += [("output", tensor) for tensor in self.graph.outputs]
        rows = [(kind, t.name, _shape(t), _dtype(t)) for kind, t in ends]
        ops = Counter(node.op for node in within(self.graph.nodes)).most_common()
        ports = Table("Inputs and outputs", ("", "name", "shape", "type"), rows, names=2)
        return [ports, Table("Ops", ("op", "nodes"), ops)]


def _shape(tensor: Tensor) -> str:
    return "?" if tensor.shape is None else " × ".join(map(str, tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return "?" if tensor.dtype is None else str(getattr(tensor.dtype, "__name__", tensor.dtype))


@stage("prepare")
def prepare(
    model: ModelLike, config: Config | None = None, plan_from: Plan | None = None
) -> Source:
    """Load and prepare a model, a file or in memory: names, constants, BatchNorm folded, opset
    raised to what the configuration, or the saved plan in its place, needs.

    Raises ModelError for a file that is not a float ONNX model; a quantized one is refused unless
    `config.requantize` says to take its Q/DQ out first. Single weights that are quantized already
    stay as they are.
    """
    config = config or Config()
    read, file = model_file.read(model)
    path = file.path
    on_disk = OnDisk.of(path, read)
    graph = graphs.from_proto(read)
    del read
    stored.share(graphs.constants(graph))
    before, first = graph.opset, first_layers(graph)
    quantized = config.requantize and bool(quantized_nodes(graph))
    graph = prepare_graph(_as_float(graph, path, config))
    further, why = _further(graph, config, plan_from)
    if further:
        graph = apply(graph, *further)
    stored.share(graphs.constants(graph))
    raised = graph.opset > before
    notes = (f"opset raised from {before} to {graph.opset}: {why} need it",) if raised else ()
    told = Preparation(config, plan_from)
    outputs = frozenset(t.name for t in graph.outputs)
    original = Original(on_disk, outputs, (*PREPARE, *further), quantized,
                        first=first)  # fmt: skip
    return Source(graph, file, file.sha256, notes, told, original)


def given(source: Source) -> Graph:
    """The graph that was prepared: that of the file, without its Q/DQ if it had some, and with
    constants for the inputs that are fixed."""
    assert source.preparation is not None
    return _as_float(graphs.load(source.path), source.path, source.preparation.config)


def _as_float(graph: Graph, path: Path, config: Config) -> Graph:
    """`graph`, its Q/DQ taken out and its inputs fixed in place if `config` says so; raises
    ModelError for others."""
    if found := quantized_nodes(graph):
        if not config.requantize and not only_weights(graph):
            raise ModelError(
                f"'{path}' is quantized already ({len(found)} quantized ops, e.g. {found[0].op} "
                f"'{found[0].name}'); start from the float model, or say --requantize"
            )
        if config.requantize:
            run_pass(strip_qdq, graph, graph)
    if config.fix:
        run_pass(fix_inputs(fixed(config.fix)), graph, graph)
    return graph


def _further(graph: Graph, config: Config, plan_from: Plan | None) -> tuple[tuple[Pass, ...], str]:
    """The passes that the configuration asks for on a prepared graph, and what needs its opset."""
    passes: list[Pass] = []
    if config.placement.attribute_op or (plan_from and plan_from.attribute_ops):
        passes.append(type_custom_ops)
    if config.placement.target == "onnxruntime":
        passes.append(softmax_before_transpose)
    needed, why = LEAST_OPSET, "scales per channel"
    if (other := opset_of(config.placement, plan_from)) > needed:
        needed, why = other, "the types of the plan"
    if needed < HALF_OPSET and (config.high_precision != "fp32" or _has_half(graph)):
        needed, why = HALF_OPSET, "FP16 and BF16 scales"
    if graph.opset < needed:
        passes.append(raise_opset_to(needed))
    planned = plan_from.by_node if plan_from else ()
    if config.placement.target == "tensorrt" and config.placement.narrowest("Conv") > 1 \
            and not any(node.name in planned for node in expectations(graph)):  # fmt: skip
        passes.append(sum_expectations)
    return tuple(passes), why


def _has_half(graph: Graph) -> bool:
    halves = (np.float16, TensorProto.BFLOAT16)
    return any(t.dtype in halves for t in graph.tensors().values() if t.dtype is not None)


def open_model(model: ModelLike) -> Source:
    """A model as it is, not prepared; raises ModelError as `prepare` does."""
    graph, file = graphs.read(model)
    return Source(graph, file, file.sha256)
