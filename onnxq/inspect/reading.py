"""What a Q/DQ model says about itself: the precision of every node, and what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from onnxq.errors import ModelError
from onnxq.inspect.tensors import LIMITS, THROUGH, QuantizedTensor, between, quantized_by
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, Node, Tensor, producer
from onnxq.model.qdq import QUANTIZED_OPS, Qdq, is_constant, read_qdq
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.name_nodes import name_nodes
from onnxq.targets.options import is_weighted, weight_input

NAMES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP64"}
MOVES = (*THROUGH, "Transpose", "Reshape", "Squeeze", "Unsqueeze")  # between a weight and its op


@dataclass(frozen=True)
class Read:
    """One input of a node: its tensor in the float model, its Q/DQ if it has one, the type in which
    the node gets it."""

    index: int
    tensor: str
    type: str
    constant: bool
    quantized: QuantizedTensor | None


@dataclass(frozen=True)
class NodeReading:
    """One node that is not part of the quantization itself.

    precision: the types of its quantized inputs (`INT8`, `INT8 x INT4`, `INT4 weights`), or the
    type it computes in. before, after: names of its neighbours, Q/DQ left out.
    """

    name: str
    op: str
    precision: str
    weighted: bool
    inputs: tuple[Read, ...]
    outputs: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    node: Node = field(repr=False, compare=False)

    @property
    def quantized(self) -> bool:
        """Whether it reads anything but a bias through Q/DQ, or is an integer op."""
        return is_integer_op(self.op) or bool(self.grids)

    @property
    def grids(self) -> list[QuantizedTensor]:
        """The quantized tensors that it reads, biases left out."""
        return [r.quantized for r in self.inputs if r.quantized and r.quantized.kind != "bias"]


@dataclass(frozen=True)
class Reading:
    """A model, read. nodes: in the model's order. tensors: each quantized tensor once, in the order
    in which it is read. metadata: the model's metadata_props."""

    path: Path
    opset: int
    producer: str
    metadata: Mapping[str, str]
    nodes: tuple[NodeReading, ...]
    tensors: tuple[QuantizedTensor, ...]

    @cached_property
    def by_name(self) -> Mapping[str, NodeReading]:
        """Node name -> node."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """Tensor name -> names of the nodes that read it."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes:
            for read in node.inputs:
                found.setdefault(read.tensor, {})[node.name] = None
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def writers(self) -> Mapping[str, str]:
        """Tensor name -> name of the node that writes it."""
        return {name: node.name for node in self.nodes for name in node.outputs}

    @cached_property
    def grids(self) -> Mapping[str, tuple[QuantizedTensor, ...]]:
        """Tensor name -> how it is quantized; twice where two nodes read it in two ways."""
        found: dict[str, list[QuantizedTensor]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.name, []).append(tensor)
        return {name: tuple(tensors) for name, tensors in found.items()}

    def sharing(self, tensor: QuantizedTensor) -> list[str]:
        """Names of the other activations with the same type, scale and zero point."""
        if tensor.kind != "activation":
            return []
        return [name for name in self._by_grid[tensor.grid] if name != tensor.name]

    @cached_property
    def _by_grid(self) -> Mapping[tuple[object, ...], tuple[str, ...]]:
        """Type, scale and zero point -> names of the activations that have them."""
        found: dict[tuple[object, ...], dict[str, None]] = {}
        for tensor in self.tensors:
            if tensor.kind == "activation":
                found.setdefault(tensor.grid, {})[tensor.name] = None
        return {grid: tuple(names) for grid, names in found.items()}


def read(path: str | Path) -> Reading:
    """A model file, read; raises ModelError for one that cannot be."""
    path = Path(path)
    graph, file = graphs.read(path)
    graph = apply(graph, name_nodes, infer_shapes)
    with readable(path):
        return read_graph(graph, path, file.made_by, file.metadata)


@contextmanager
def readable(*paths: Path) -> Iterator[None]:
    """What a damaged model makes NumPy or onnx raise within it becomes a ModelError of a line."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as e:
        named = " or ".join(f"'{path}'" for path in paths)
        raise ModelError(f"{named} cannot be read and may be damaged ({type(e).__name__}: {e}); "
                         "export it again") from e  # fmt: skip


def read_graph(
    graph: Graph, path: Path, made_by: str = "", metadata: Mapping[str, str] | None = None
) -> Reading:
    """A graph with named nodes, read."""
    qdq = read_qdq(graph)
    reader = _Reader(qdq)
    glue = {id(node) for node in between(qdq)}
    shown = [n for n in qdq.nodes if id(n) not in glue and n.op != "Constant"]
    nodes = tuple(reader.node(node, glue) for node in shown)
    tensors = tuple({id(r.quantized): r.quantized for n in nodes for r in n.inputs
                     if r.quantized is not None}.values())  # fmt: skip
    return Reading(path, qdq.opset, made_by, dict(metadata or {}), nodes, tensors)


class _Reader:
    """Reads nodes; a tensor that several DequantizeLinear give alike is one value."""

    def __init__(self, qdq: Qdq) -> None:
        self.qdq = qdq
        self._by_node: dict[int, QuantizedTensor] = {}
        self._by_key: dict[tuple[object, ...], QuantizedTensor] = {}

    def node(self, node: Node, glue: set[int]) -> NodeReading:
        """One node."""
        inputs = tuple(self._read(i, t, glue) for i, t in enumerate(node.inputs)
                       if not t.is_empty())  # fmt: skip
        before = (_behind(t, glue) for t in node.inputs)
        names = (p.name for t in before if (p := producer(t)) is not None and p.op != "Constant")
        after = (reader.name for t in node.outputs for reader in _readers(t, glue))
        return NodeReading(
            node.name,
            node.op,
            self._precision(node, inputs),
            is_weighted(node),
            inputs,
            tuple(t.name for t in node.outputs if not t.is_empty()),
            tuple(dict.fromkeys(names)),
            tuple(dict.fromkeys(after)),
            node,
        )

    def _read(self, index: int, tensor: Tensor, glue: set[int]) -> Read:
        quantized = self._quantized(tensor)
        source = _behind(tensor, glue)
        name = quantized.name if quantized is not None else source.name
        kind = self.qdq.type_of(tensor) or "unknown"
        return Read(index, name, NAMES.get(kind, kind), is_constant(source), quantized)

    def _quantized(self, tensor: Tensor) -> QuantizedTensor | None:
        found = self.qdq.dequantizer(tensor, THROUGH)
        if found is None:
            found = self.qdq.dequantizer(tensor, MOVES)
            if found is None or not self.qdq.is_weight(found):
                return None
        if id(found.node) not in self._by_node:
            made = quantized_by(self.qdq, found)
            self._by_node[id(found.node)] = self._by_key.setdefault(made.key, made)
        return self._by_node[id(found.node)]

    def _precision(self, node: Node, inputs: Iterable[Read]) -> str:
        inputs = [r for r in inputs if not (r.quantized and r.quantized.kind == "bias")]
        if is_weighted(node):
            inputs = [r for r in inputs if r.index < 2]
        labels = [r.quantized.label for r in inputs if r.quantized is not None]
        joined = " x ".join(dict.fromkeys(labels))
        if not is_weighted(node) or len(labels) in (0, len(inputs)):
            return joined or self._computes_in(node)
        if all(r.constant for r in inputs if r.quantized is not None):
            return f"{joined} weights"
        weight = weight_input(node)
        alone = next((r for r in inputs if r.quantized is None), inputs[0])
        return f"{joined} x {alone.type}" + (" weights" if alone.index == weight else "")

    def _computes_in(self, node: Node) -> str:
        """The first floating type among what it reads and writes, else that of the first."""
        tensors = [t for t in (*node.inputs, *node.outputs) if not t.is_empty()]
        types = [kind for t in tensors if (kind := self.qdq.type_of(t))]
        if is_integer_op(node.op):
            return next((kind for kind in types if kind in LIMITS), "unknown")
        written = [kind for t in node.outputs if (kind := self.qdq.type_of(t))]
        if written and written[0] not in NAMES:
            return written[0]
        return next((NAMES[kind] for kind in types if kind in NAMES), "unknown")


def is_integer_op(op: str) -> bool:
    """Whether an op computes on codes and takes their scales as inputs (QOperator form)."""
    return op in QUANTIZED_OPS or op.startswith("QLinear")


def _behind(tensor: Tensor, glue: set[int]) -> Tensor:
    """The tensor before the Q/DQ, Casts and Clips that lead to `tensor`."""
    node = producer(tensor)
    while node is not None and id(node) in glue:
        tensor = node.inputs[0]
        node = producer(tensor)
    return tensor


def _readers(tensor: Tensor, glue: set[int]) -> list[Node]:
    """The nodes that read `tensor`, through Q/DQ too."""
    found: list[Node] = []
    for node in tensor.outputs:
        found += _readers(node.outputs[0], glue) if id(node) in glue else [node]
    return found
