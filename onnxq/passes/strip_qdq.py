"""Take Q/DQ out again: the float model that a quantized model stands for.

    x -> Q (-> Clip) -> DQ -> y      y becomes x, behind a Clip if Q stands for one (`saturation`)
    x -> Q -> Reshape -> DQ -> y     y becomes Reshape(x), as of all that only moves codes
    x -> TRT_FP4DynamicQuantize -> DQ -> y, whose scales have a DQ too: y becomes x
    INT8 initializer -> DQ -> y      y becomes a float initializer, codes times scale

A weight does not get back what rounding took; quantize from the float model where you have it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs

from onnxq import fp4
from onnxq.arrays import Array
from onnxq.errors import ModelError
from onnxq.model.flow import SAME
from onnxq.model.graph import Graph, Node, Tensor, behind, constant_of, is_output, producer
from onnxq.model.qdq import QUANTIZED_OPS, dequantized, dynamic_quantizer, gives_scales
from onnxq.passes.apply import tidy
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.passes.saturation import is_symmetric, saturated

NO_QUANTIZER = (
    "'{}' dequantizes a tensor that is not constant and has no QuantizeLinear before it; start "
    "from the float model"
)
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", fp4.DYNAMIC)
MOVES = frozenset({*SAME, "MaxPool", "Slice", "Split", "Gather", "Concat"})  # also on codes


def quantized_nodes(graph: Graph) -> list[Node]:
    """Nodes that show that a graph is quantized already."""
    return [n for n in graph.nodes if n.op in QUANTIZED_OPS]


def only_weights(graph: Graph) -> bool:
    """Whether all that is quantized are constants, under a DequantizeLinear each."""
    return all(
        node.op == "DequantizeLinear"
        and all(constant_of(t) is not None for t in node.inputs if not t.is_empty())
        for node in quantized_nodes(graph)
    )


def strip_qdq(graph: Graph, only: Collection[str] | None = None) -> int:
    """Remove every Q/DQ in place; returns how many DequantizeLinear went.

    `only` names the DequantizeLinear to take out, with the QuantizeLinear that no other reads.
    Raises ModelError for integer ops that are not Q/DQ, for integers that go anywhere but into a
    DequantizeLinear, and for weights whose scale is computed.
    """
    for node in quantized_nodes(graph) if only is None else ():
        if node.op not in QUANTIZERS:
            raise ModelError(f"'{node.name}' is a {node.op}, which has no float form; start from "
                             "the float model")  # fmt: skip
    count, taken = 0, names_of(graph)
    chosen = [n for n in graph.nodes if n.op == "DequantizeLinear" and not gives_scales(n)]
    floats = _Floats(graph, taken, whole=only is None)
    for node in chosen if only is None else [n for n in chosen if n.name in only]:
        _replace(graph, node, floats.of(node), taken)
        count += 1
    tidy(graph)
    for node in graph.nodes if only is None else ():
        if node.op == "QuantizeLinear":
            raise ModelError(f"'{node.name}' quantizes for something that is no DequantizeLinear; "
                             "start from the float model")  # fmt: skip
    return count


class _Floats:
    """The float tensors that stand for codes. whole: all Q/DQ go, and what moves codes moves floats
    from now on."""

    def __init__(self, graph: Graph, taken: set[str], whole: bool) -> None:
        self.graph, self.taken, self.whole = graph, taken, whole
        self.symmetric = is_symmetric(graph)
        self.grids: dict[int, list[Array]] = {}  # of tensors that held codes, by id
        self.clipped: dict[int, Tensor] = {}  # what each QuantizeLinear reads, by its id

    def of(self, node: Node) -> Tensor:
        """What a DequantizeLinear gives; raises ModelError as `strip_qdq` does."""
        if (dynamic := dynamic_quantizer(node)) is not None:
            return dynamic.inputs[0]
        before = producer(behind(node.inputs[0], ("Clip",)))  # codes of fewer bits
        if before is not None and before.op == "QuantizeLinear":
            return self.read_by(before)
        if self.whole and before is not None and before.op in MOVES:
            return self.moved(node.inputs[0], node)
        return _dequantized(node, self.taken)

    def read_by(self, quantize: Node) -> Tensor:
        """What a QuantizeLinear reads, clipped as it clips."""
        if not self.whole or self.symmetric:
            return quantize.inputs[0]
        if id(quantize) not in self.clipped:
            self.clipped[id(quantize)] = saturated(self.graph, quantize, self.taken)
        return self.clipped[id(quantize)]

    def moved(self, tensor: Tensor, node: Node) -> Tensor:
        """`tensor`, which holds codes for the DequantizeLinear `node`, as floats."""
        grid, before = _grid_of(node), producer(tensor)
        if id(tensor) in self.grids:
            _check_grid(node, self.grids[id(tensor)])
            return tensor
        if before is not None and before.op == "QuantizeLinear":
            _check_grid(node, _grid_of(before))
            return self.read_by(before)
        if before is None or before.op not in MOVES or _reads_more(before, self.graph):
            raise ModelError(NO_QUANTIZER.format(node.name))
        data = range(len(before.inputs) if before.op == "Concat" else 1)
        for i in data:
            before.inputs[i] = self.moved(before.inputs[i], node)
        for out in before.outputs:
            out.dtype, self.grids[id(out)] = grid[0].dtype, grid
        return tensor


def _reads_more(node: Node, graph: Graph) -> bool:
    """Whether codes that `node` moves go anywhere but into a DequantizeLinear or another move."""
    return any(
        is_output(graph, out) or any(r.op not in ("DequantizeLinear", *MOVES) for r in out.outputs)
        for out in node.outputs
    )


def _grid_of(node: Node) -> list[Array]:
    """Scale and zero point of a Q or DQ, constant and one each; raises ModelError for others."""
    found = []
    for tensor in [t for t in node.inputs[1:] if not t.is_empty()]:
        values = constant_of(tensor)
        if values is None or values.size != 1:
            raise ModelError(NO_QUANTIZER.format(node.name))
        found.append(values.reshape(()))
    return found if len(found) > 1 else [*found, np.array(0)]


def _check_grid(node: Node, other: list[Array]) -> None:
    """Raises ModelError unless a DequantizeLinear has the scale and zero point its codes have."""
    if not all(map(np.array_equal, _grid_of(node), other)):
        raise ModelError(f"'{node.name}' has another scale or zero point than the codes it reads; "
                         "start from the float model")  # fmt: skip


def _dequantized(node: Node, taken: set[str]) -> Tensor:
    """The constant that a DequantizeLinear makes of a constant, in the type of its scale."""
    values = [constant_of(t) for t in node.inputs]
    scales = producer(node.inputs[1])
    if scales is not None and gives_scales(scales):  # FP8 scales of FP4 blocks
        values[1] = constant_of(_dequantized(scales, taken))
    if values[0] is None or values[1] is None:
        raise ModelError(NO_QUANTIZER.format(node.name))
    zero = values[2] if len(values) > 2 else None
    floats = dequantized(node, values[0], values[1], zero).astype(values[1].dtype)
    return gs.Constant(new_name(f"{node.outputs[0].name}_float", taken), floats)


def _replace(graph: Graph, node: Node, new: Tensor, taken: set[str]) -> None:
    """Let the readers of what `node` writes read `new`; an output of the graph keeps its name."""
    old = node.outputs[0]
    node.outputs.clear()
    for reader in list(old.outputs):
        reader.inputs = [new if t is old else t for t in reader.inputs]
    if is_output(graph, old):
        name = new_name(f"{old.name}_Identity", taken)
        graph.nodes.append(gs.Node("Identity", name, {}, [new], [old]))
