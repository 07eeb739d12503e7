"""Running passes: purity, order and validity live here, so that a pass only has to rewrite.

A pass is a function `graph -> int` (how many rewrites) that edits in place. Weight arrays are
shared between a graph and its copies: a pass makes a new constant and never writes into one.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable

import onnx
import onnx_graphsurgeon as gs

from onnxq.errors import ModelError, OnnxqError
from onnxq.model import stored
from onnxq.model.graph import Graph, Node, Tensor, constants, scopes, uncollected
from onnxq.model.other_types import Other
from onnxq.passes.weightless import weightless
from onnxq.progress import steps

log = logging.getLogger(__name__)

Pass = Callable[[Graph], int]
LET_THROUGH = ("No Op registered", "is deprecated in domain_version")  # in errors of onnx.checker


@uncollected()
def apply(graph: Graph, *passes: Pass) -> Graph:
    """A copy of `graph` after `passes`, in order; `graph` itself is left alone.

    The result is sorted topologically, keeps the order of the nodes where it can, and holds no
    unused nodes. Raises ModelError where a graph is not valid, and names the pass that left it so.
    """
    check_types(graph)
    check(graph, "the model")
    out = graph.copy()
    out.producer_name, out.producer_version = graph.producer_name, graph.producer_version
    out.import_domains = list(graph.import_domains) if graph.import_domains else None
    tidy(out)
    tidy(out)
    given = constants(graph)
    settled: list[Pass] = []  # what ran since the last rewrite: it would do nothing again
    for one in steps("passes", passes, len(passes)):
        if one in settled:
            continue
        name = getattr(one, "__name__", repr(one))
        with stored.spilling():
            count = run_pass(one, out, graph)
        log.debug("%s: %d rewrites", name, count)
        settled = [one] if count else [*settled, one]
        if count:
            tidy(out)
            stored.spill(constants(out), given)
            check(out, f"the graph after pass '{name}'")
    check_with_onnx(out)
    return out


def run_pass(one: Pass, graph: Graph, given: Graph) -> int:
    """How many rewrites a pass did; ModelError where it stumbles over a model that is not valid."""
    try:
        return one(graph)
    except OnnxqError:
        raise
    except Exception as e:  # what is no ONNX may be of any form
        check_with_onnx(given, "the model")
        name, why = getattr(one, "__name__", repr(one)), " ".join(str(e).split())
        raise ModelError(f"pass '{name}' cannot read the model, which may be damaged "
                         f"({type(e).__name__}: {why}); export it again") from e  # fmt: skip


def tidy(graph: Graph) -> None:
    """Drop what no output needs and sort topologically, in place, in bodies too."""
    graph.cleanup()
    for scope in scopes(graph):
        sort(scope)


def sort(graph: Graph) -> None:
    """Sort the nodes topologically, in place; nodes that are in order already stay where they are.

    Raises ModelError for a cycle. (onnx-graphsurgeon sorts by depth, which shuffles branches, and
    recurses, which a deep graph does not survive.)
    """
    place = {id(node): i for i, node in enumerate(graph.nodes)}
    before = [{place[id(p)] for p in _producers(node) if id(p) in place} for node in graph.nodes]
    after: list[list[int]] = [[] for _ in graph.nodes]
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    waiting = [len(needed) for needed in before]
    ready = [i for i, n in enumerate(waiting) if n == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in after[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, j)
    if len(order) < len(graph.nodes):
        stuck = next(n for n, left in zip(graph.nodes, waiting, strict=True) if left)
        raise ModelError(f"node '{stuck.name}' depends on itself; export the model again")
    graph.nodes = [graph.nodes[i] for i in order]


def _producers(node: Node) -> list[Node]:
    tensors = list(node.inputs)
    for subgraph in node.subgraphs(recursive=True):
        tensors += [t for inner in subgraph.nodes for t in inner.inputs]
    return [p for t in tensors for p in t.inputs]


def check_types(graph: Graph) -> None:
    """Raises ModelError unless everything that goes into a graph or a body or comes out of a body
    is a tensor, and the graph's own inputs are of a type.

    Of a sequence or an optional onnx-graphsurgeon does not keep what is in it; the outputs of the
    graph itself carry that.
    """
    if untyped := [t.name for t in graph.inputs if t.dtype is None and not _is_other(t)]:
        raise ModelError(
            f"input '{untyped[0]}' declares no type, so that nothing can run the model; export it "
            "with typed inputs"
        )
    for part in (graph, *graph.subgraphs(recursive=True)):
        for value in (*part.inputs, *part.outputs):
            if _is_other(value) and not isinstance(value, Other):
                kind = value.type.removesuffix("_type").replace("_", " ")
                raise ModelError(
                    f"'{value.name}' in graph '{part.name}' is of type {kind}; only tensors may go "
                    "in or out, so export the model with those"
                )


def _is_other(value: Tensor) -> bool:
    return getattr(value, "type", None) not in ("tensor_type", None)


def check(graph: Graph, what: str) -> None:
    """Raises ModelError unless every tensor has one name and one origin.

    Looks at the main graph alone and at no weights, so that it can run after each pass.
    """
    inputs = {id(t) for t in graph.inputs}
    owner: dict[str, int] = {}
    for node in graph.nodes:
        for tensor in (*node.inputs, *node.outputs):
            if not tensor.is_empty() and owner.setdefault(tensor.name, id(tensor)) != id(tensor):
                raise ModelError(
                    f"{what} has two tensors named '{tensor.name}'; export the model again"
                )
        for tensor in node.outputs:
            if len(tensor.inputs) > 1 or id(tensor) in inputs:
                raise ModelError(
                    f"{what} writes tensor '{tensor.name}' more than once; export the model again"
                )
    for reader, tensor in _read(graph):
        constant = isinstance(tensor, gs.Constant)
        if not (constant or tensor.is_empty() or tensor.inputs or id(tensor) in inputs):
            raise ModelError(
                f"{what} has no origin for tensor '{tensor.name}', which {reader} reads; "
                "export the model again"
            )


def _read(graph: Graph) -> list[tuple[str, Tensor]]:
    read = [(f"node '{node.name}'", t) for node in graph.nodes for t in node.inputs]
    return read + [("the graph's output", t) for t in graph.outputs]


def check_with_onnx(graph: Graph, what: str = "the prepared graph") -> None:
    """Raises ModelError where onnx.checker refuses the graph (looked at without its weights).

    Ops that onnx does not know, such as plugins, cannot be checked and are let through; so are
    deprecated ones such as GroupNormalization of opset 18, and inputs and outputs of unknown rank:
    ONNX Runtime runs them.
    """
    model, _ = weightless(graph)
    for info in (*model.graph.input, *model.graph.output):
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except ValueError as e:  # onnx cannot read what it wrote
        raise ModelError(
            f"{what} nests If, Loop and Scan deeper than protobuf reads; export it flatter"
        ) from e
    except onnx.checker.ValidationError as e:
        reason = str(e).split("\n", 1)[0]
        if not any(text in str(e) for text in LET_THROUGH):
            raise ModelError(f"{what} is not valid ONNX: {reason}") from e
        log.info("graph not checked further: %s", reason)
