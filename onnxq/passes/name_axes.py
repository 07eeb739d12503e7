"""Give axes of the inputs that are not one size names of their own.

Paddle's exporter calls every dynamic axis `?`. A name is a promise: TensorRT takes one name for one
size, and refuses an image of 48 x 192 whose two axes have the same.

    x: [N, 3, ?, ?]   =>   x: [N, 3, x_2, x_3]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from onnxq.model.graph import Graph
from onnxq.passes.name_nodes import new_name

Shapes = Mapping[str, Sequence[int]]  # input -> the shape of one sample


def name_axes(graph: Graph) -> int:
    """Rename the axes that share what is no name; how many. An identifier is taken at its word."""
    return _rename(graph, [name for name in shared_names(graph) if not name.isidentifier()])


def name_axes_by(graph: Graph, samples: Iterable[Shapes]) -> int:
    """Rename the axes whose name has two sizes in one of `samples`; how many."""
    return _rename(graph, two_sizes(graph, samples))


def shared_names(graph: Graph) -> dict[str, list[tuple[str, int]]]:
    """Names that several axes of the inputs have -> those axes, as input and place."""
    found: dict[str, list[tuple[str, int]]] = {}
    for tensor in graph.inputs:
        for axis, dim in enumerate(tensor.shape or ()):
            if isinstance(dim, str) and dim:
                found.setdefault(dim, []).append((tensor.name, axis))
    return {name: axes for name, axes in found.items() if len(axes) > 1}


def two_sizes(graph: Graph, samples: Iterable[Shapes]) -> list[str]:
    """Names of axes that have two sizes in one of `samples`."""
    shared = shared_names(graph)
    found: dict[str, None] = {}
    for shapes in samples if shared else ():
        for name, axes in shared.items():
            if len({shapes[x][axis] for x, axis in axes if x in shapes}) > 1:
                found[name] = None
    return list(found)


def _rename(graph: Graph, names: Iterable[str]) -> int:
    wrong = set(names)
    taken = {dim for t in graph.inputs for dim in t.shape or () if isinstance(dim, str)}
    count = 0
    for tensor in graph.inputs:
        shape = list(tensor.shape or ())
        for axis, dim in enumerate(shape):
            if dim in wrong:
                shape[axis] = new_name(f"{tensor.name}_{axis}", taken)
                count += 1
        tensor.shape = tensor.shape if tensor.shape is None else shape
    return count
