"""Run a pass in the bodies of If, Loop and Scan as well.

A body reads tensors of the graphs around it. While a pass works on a body, a stand-in without a
writer takes the place of each, or the pass would rewrite what runs whether the branch is taken or
not: a BatchNormalization in one branch must not be folded into a Conv before the If. Constants
from outside stay as they are; passes make new ones and know who else reads the old. Shapes written
inside a body are not shown to the pass: `infer_shapes` does not look there, and exporters leave the
sizes of the example input.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, Tensor, scopes
from onnxq.passes.apply import Pass
from onnxq.passes.name_nodes import name_nodes
from onnxq.passes.remove_identity import replace_tensor


def in_bodies(one: Pass) -> Pass:
    """The pass `one` on a graph and then on every body in it."""

    @functools.wraps(one)
    def everywhere(graph: Graph) -> int:
        count, *others = one(graph), *_bodies(graph, one)
        if any(others):
            name_nodes(graph)  # a name that is new in a body may exist elsewhere
        return count + sum(others)

    return everywhere


def _bodies(graph: Graph, one: Pass) -> Iterator[int]:
    for body in scopes(graph)[1:]:
        with _apart(body):
            yield one(body)


@contextmanager
def _apart(body: Graph) -> Iterator[None]:
    """Within it `body` reads stand-ins for the variables of the graphs around it, and its own have
    no shapes."""
    own = [*(t for node in body.nodes for t in node.outputs), *body.inputs]
    mine = {id(t) for t in own}
    outside: dict[int, Tensor] = {
        id(t): t
        for t in (*(t for node in body.nodes for t in node.inputs), *body.outputs)
        if isinstance(t, gs.Variable) and not t.is_empty() and id(t) not in mine
    }
    pairs = [(t, gs.Variable(t.name, t.dtype, t.shape)) for t in outside.values()]
    for tensor, stand_in in pairs:
        _let_read(body, tensor, stand_in)
    shapes = [t.shape for t in own]
    for tensor in own:
        tensor.shape = None
    try:
        yield
    finally:
        for tensor, shape in zip(own, shapes, strict=True):
            if isinstance(tensor, gs.Variable):
                tensor.shape = shape
        for tensor, stand_in in pairs:
            replace_tensor(stand_in, tensor)
            for scope in scopes(body):
                scope.outputs = [tensor if t is stand_in else t for t in scope.outputs]


def _let_read(body: Graph, old: Tensor, new: Tensor) -> None:
    for node in body.nodes:
        for i, tensor in enumerate(node.inputs):
            if tensor is old:
                node.inputs[i] = new
    body.outputs = [new if t is old else t for t in body.outputs]
