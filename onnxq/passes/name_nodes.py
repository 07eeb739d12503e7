"""Give every node and tensor a name of its own: plans, patterns and reports speak in names.

An unnamed node becomes `<op>_<k>`, where k is its number among the graph's nodes of that op; the
second node of a name becomes `<name>_1`. Names that are unique already, and those of graph
inputs and outputs, stay. Bodies of If, Loop and Scan share the names with the main graph.
"""

from __future__ import annotations

import itertools
from collections import Counter

from onnxq.model.graph import Graph, scopes, within


def name_nodes(graph: Graph) -> int:
    """Name the unnamed and rename the duplicates; how many nodes and tensors got a name."""
    return _name_the_nodes(graph) + _name_the_tensors(graph)


def names_of(graph: Graph) -> set[str]:
    """Every name that a node or tensor has, in bodies of If, Loop and Scan too."""
    found: set[str] = set()
    for scope in scopes(graph):
        found |= scope.tensors().keys() | {node.name for node in scope.nodes}
        found |= {t.name for t in (*scope.inputs, *scope.outputs)}
    return found


def unique_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, ... that is not in `taken`."""
    if wanted not in taken:
        return wanted
    return next(n for k in itertools.count(1) if (n := f"{wanted}_{k}") not in taken)


def new_name(wanted: str, taken: set[str]) -> str:
    """As `unique_name`, and taken from now on."""
    name = unique_name(wanted, taken)
    taken.add(name)
    return name


def _name_the_nodes(graph: Graph) -> int:
    taken = {node.name for node in within(graph.nodes)}
    numbers: Counter[str] = Counter()
    seen: set[str] = set()
    count = 0
    for node in (node for scope in scopes(graph) for node in scope.nodes):
        number = numbers[node.op]
        numbers[node.op] += 1
        if not node.name or node.name in seen:
            node.name = unique_name(node.name or f"{node.op}_{number}", taken)
            taken.add(node.name)
            count += 1
        seen.add(node.name)
    return count


def _name_the_tensors(graph: Graph) -> int:
    """Distinct tensors under one name; an empty name is an omitted input and stays empty."""
    ends = [*graph.inputs, *graph.outputs]
    inner = [t for node in graph.nodes for t in (*node.inputs, *node.outputs)]
    for body in scopes(graph)[1:]:
        inner += [t for node in body.nodes for t in (*node.inputs, *node.outputs)]
        inner += [*body.inputs, *body.outputs]
    taken = {t.name for t in (*ends, *inner)}
    owner = {t.name: id(t) for t in reversed(ends)}
    count = 0
    for tensor in inner:
        if tensor.name == "" or owner.setdefault(tensor.name, id(tensor)) == id(tensor):
            continue
        tensor.name = unique_name(tensor.name or "tensor", taken)
        taken.add(tensor.name)
        owner[tensor.name] = id(tensor)
        count += 1
    return count
