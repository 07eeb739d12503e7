"""Fold BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul next to it.

    Conv -> BN                                 =>  Conv'
    ConvTranspose -> [Add constant ->] BN      =>  ConvTranspose'
    MatMul -> [Add constant ->] BN             =>  MatMul' -> Add'
    MatMul -> Transpose(0, 2, 1) -> BN         =>  MatMul' -> Add' -> Transpose(0, 2, 1)
    BN -> Conv                                 =>  Conv'
    BN -> [Flatten ->] Gemm                    =>  [Flatten ->] Gemm'
    BN -> [Flatten ->] MatMul                  =>  [Flatten ->] MatMul' -> Add'

The fourth is how exporters write a Linear layer with BatchNorm1d over a 3-D tensor (pillar
encoders). The last three are tried where nothing stands before the BN. TensorRT folds BN only
where no Q/DQ stands between the two; quantized weights must be those that it will compute with.
The algebra is in `affine`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.graph import WEIGHTED, Graph, Node, constant_of, is_output
from onnxq.passes import affine
from onnxq.passes.affine import Affine, NotExact, Params
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.passes.remove_identity import replace_tensor
from onnxq.passes.weights import name_beside, set_bias, set_weight, sole_writer, take_output

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chain:
    """What stands before a BN: the weighted node, then an Add and a Transpose if there are."""

    weighted: Node
    add: Node | None = None
    added: Array | None = None
    transpose: Node | None = None


def fold_bn(graph: Graph) -> int:
    """Fold the BNs that can be folded exactly; how many. Needs ranks where a MatMul is before."""
    taken = names_of(graph)
    count = 0
    for bn in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        try:
            _check_inference(graph, bn)
            _fold(graph, bn, affine.of_batchnorm(bn), taken)
        except NotExact as reason:
            log.info("BatchNormalization '%s' kept: %s", bn.name, reason)
        else:
            count += 1
    if count:
        graph.cleanup()
    return count


def _check_inference(graph: Graph, bn: Node) -> None:
    # before opset 14 it was in training mode if it had the outputs of it, read or not
    trained = graph.opset < 14 and any(t.name for t in bn.outputs[1:])
    if trained or bn.attrs.get("training_mode", 0):
        raise NotExact("it is in training mode")
    if bn.attrs.get("spatial", 1) != 1:
        raise NotExact("it normalizes each position by itself")
    if any(t.outputs or is_output(graph, t) for t in bn.outputs[1:]):
        raise NotExact("its statistics outputs are used")


def _fold(graph: Graph, bn: Node, map_: Affine, taken: set[str]) -> None:
    """Fold backward, or else forward; raises NotExact with both reasons, the graph untouched."""
    try:
        chain = _chain_before(graph, bn)
        params = affine.behind(chain.weighted, chain.added, map_)
    except NotExact as before:
        try:
            node = _weighted_after(graph, bn)
            params = affine.ahead(node, map_)
        except NotExact as after:
            raise NotExact(f"{before}; {after}") from None
        if node.op == "MatMul":
            set_weight(node, params.weight, taken)
            _add_behind(graph, node, params, taken)
        else:
            _set_params(node, params, taken)
        replace_tensor(bn.outputs[0], bn.inputs[0])
        bn.inputs.clear()
        bn.outputs.clear()
        return
    if chain.weighted.op == "MatMul":
        _rewrite_matmul(graph, bn, chain, params, taken)
    else:
        _rewrite_biased(bn, chain.weighted, params, taken)


def _chain_before(graph: Graph, bn: Node) -> Chain:
    node = sole_writer(graph, bn.inputs[0])
    transpose = add = added = None
    if node.op == "Transpose":
        perm = node.attrs.get("perm", [])
        if len(perm) < 2 or perm[1] != len(perm) - 1:
            raise NotExact(f"Transpose '{node.name}' before it does not move the last axis to 1")
        transpose, node = node, sole_writer(graph, node.inputs[0])
    if node.op == "Add":
        add = node
        side = 0 if constant_of(add.inputs[0]) is not None else 1
        added = affine.constant(add.inputs[side], f"summand of Add '{add.name}'")
        node = sole_writer(graph, add.inputs[1 - side])
    if node.op not in WEIGHTED:
        raise NotExact(f"{node.op} '{node.name}' before it has no weight")
    if (node.op == "MatMul") != (transpose is not None) and not _is_matrix(node, transpose):
        raise NotExact(f"{node.op} '{node.name}' before it has its channels on another axis")
    if added is not None:
        added = affine.per_channel(added, node)
    return Chain(node, add, added, transpose)


def _is_matrix(node: Node, transpose: Node | None) -> bool:
    """Whether a MatMul, straight before the BN, writes two dimensions: the last is then axis 1."""
    shape = node.outputs[0].shape
    return node.op == "MatMul" and transpose is None and shape is not None and len(shape) == 2


def _weighted_after(graph: Graph, bn: Node) -> Node:
    node = _sole_reader(graph, bn)
    data = bn.outputs[0]
    flat = _flattens(node)
    if flat:
        data, node = node.outputs[0], _sole_reader(graph, node)
    if node.op not in ("Conv", "Gemm", "MatMul") or (flat and node.op == "Conv"):
        raise NotExact(f"{node.op} '{node.name}' after it is nothing to fold into")
    if node.inputs[0] is not data or list(node.inputs).count(data) != 1:
        raise NotExact(f"{node.op} '{node.name}' after it reads it as another input")
    if node.op == "MatMul" and not flat and len(bn.inputs[0].shape or ()) != 2:
        raise NotExact(f"MatMul '{node.name}' after it sums over another axis than its channels")
    return node


def _sole_reader(graph: Graph, node: Node) -> Node:
    out = node.outputs[0]
    if is_output(graph, out) or len(out.outputs) != 1:
        raise NotExact(f"the output of {node.op} '{node.name}' has other consumers than one")
    return out.outputs[0]


def _flattens(node: Node) -> bool:
    """Whether a node makes a row of each sample."""
    if node.op == "Reshape":
        shape = constant_of(node.inputs[1])
        keeps_rows = not node.attrs.get("allowzero", 0)
        return shape is not None and shape.tolist() == [0, -1] and keeps_rows
    return bool(node.op == "Flatten" and node.attrs.get("axis", 1) == 1)


def _set_params(node: Node, params: Params, taken: set[str]) -> None:
    set_weight(node, params.weight, taken)
    set_bias(node, params.bias, taken)
    if node.op == "Gemm":
        node.attrs["beta"] = 1.0


def _rewrite_biased(bn: Node, node: Node, params: Params, taken: set[str]) -> None:
    _set_params(node, params, taken)
    take_output(bn, node)


def _rewrite_matmul(graph: Graph, bn: Node, chain: Chain, params: Params, taken: set[str]) -> None:
    node, add = chain.weighted, chain.add
    set_weight(node, params.weight, taken)
    if add is None:
        add = _add_behind(graph, node, params, taken)
    else:
        add.inputs = [node.outputs[0], gs.Constant(name_beside(node, "bias", taken), params.bias)]
    take_output(bn, chain.transpose or add)


def _add_behind(graph: Graph, node: Node, params: Params, taken: set[str]) -> Node:
    """An Add of the bias behind a MatMul, which whoever read the product reads."""
    product = node.outputs[0]
    name = new_name(node.name.removesuffix("MatMul") + "Add", taken)
    total = gs.Variable(new_name(f"{name}_output_0", taken), product.dtype, product.shape)
    if is_output(graph, product):
        node.outputs, total, product = [total], product, total
    else:
        replace_tensor(product, total)
    bias = gs.Constant(name_beside(node, "bias", taken), params.bias)
    add = gs.Node("Add", name, inputs=[product, bias], outputs=[total])
    graph.nodes.insert(next(i for i, n in enumerate(graph.nodes) if n is node) + 1, add)
    return add
