"""Put the branch of an If that is always taken in the If's place.

    If(constant) -> y   =>   the branch's nodes, Identity(its output) -> y

Exporters of PyTorch leave such an If for each question about a rank or a size, and models of two
forms (a sample rate, with or without a cache) choose by an input that `fix_inputs` makes constant.
What stands in a branch is in the main graph then, where ranges are observed. A condition within a
branch may follow from shapes, which are known once the branch stands outside: so shapes are
inferred and constants folded after each round, until no If is left whose condition is constant.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_standard, scopes
from onnxq.model.other_types import Other
from onnxq.passes.fold_constants import fold_constants
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.name_nodes import name_nodes, names_of, new_name


def fold_ifs(graph: Graph) -> int:
    """Fold; how many Ifs went. The graph must be sorted topologically, and stays so."""
    count = 0
    while found := [node for node in graph.nodes if _is_decided(node)]:
        for node in found:
            _inline(graph, node)
        count += len(found)
        name_nodes(graph)
        infer_shapes(graph)
        fold_constants(graph)
    return count


def _is_decided(node: Node) -> bool:
    """Whether an If of tensors has a constant for its condition."""
    if node.op != "If" or not is_standard(node) or constant_of(node.inputs[0]) is None:
        return False
    return not any(isinstance(t.dtype, Other) for t in node.outputs)


def _inline(graph: Graph, node: Node) -> None:
    """Put the taken branch in a node's place."""
    condition = constant_of(node.inputs[0])
    assert condition is not None
    branch = node.attrs["then_branch" if condition.reshape(-1)[0] else "else_branch"]
    node.attrs = {}  # so that what is named in the branches is not taken
    taken = names_of(graph)
    for tensor in {id(t): t for n in branch.nodes for t in n.outputs if t.name}.values():
        tensor.name = new_name(tensor.name, taken)
    passed = [
        gs.Node("Identity", f"{node.name}_{k}", inputs=[value], outputs=[written])
        for k, (value, written) in enumerate(zip(branch.outputs, list(node.outputs), strict=True))
    ]
    place = next(i for i, other in enumerate(graph.nodes) if other is node)
    node.inputs.clear()
    node.outputs.clear()
    graph.nodes[place : place + 1] = [*branch.nodes, *passed]


def deciding_inputs(graph: Graph) -> list[str]:
    """Names of the inputs of the graph that, one alone each, decide an If, and are one number that
    is no float: a constant would take its branch into the graph."""
    inputs = {id(t): t.name for t in graph.inputs}
    choices = {t.name for t in graph.inputs if _is_a_choice(t)}
    found: dict[str, None] = {}
    for node in (n for scope in scopes(graph) for n in scope.nodes if n.op == "If"):
        waiting, read, seen = [node.inputs[0]], set[str](), set[int]()
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in inputs:
                read.add(inputs[id(tensor)])
            elif tensor.inputs and id(tensor) not in seen and tensor.inputs[0].op != "Shape":
                waiting += tensor.inputs[0].inputs
            seen.add(id(tensor))
        if len(read) == 1 and read <= choices:
            found[read.pop()] = None
    return list(found)


def _is_a_choice(tensor: Tensor) -> bool:
    """Whether a tensor holds one integer or truth value."""
    if tensor.shape is None or any(d != 1 for d in tensor.shape):
        return False
    return not isinstance(tensor.dtype, int | Other) and np.dtype(tensor.dtype).kind in "iub"
