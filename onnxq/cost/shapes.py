"""The shapes that costs are made of: inferred, and where that fails read off a run."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from onnxq.arrays import Sample
from onnxq.model import graph as graphs
from onnxq.model.graph import WEIGHTED, Graph, constant_of
from onnxq.run.over import loaded
from onnxq.run.runtime import Runtime
from onnxq.run.segments import restrict, shapes_at, usual_inputs


def shapes_of(
    graph: Graph, nodes: Collection[str], sample: Sample, runtime: Runtime
) -> dict[str, tuple[int, ...]]:
    """Shapes at this sample of what weighted nodes, `nodes` and writers of outputs read and write.

    A model that computes shapes from its inputs' lengths has some that cannot be inferred: the
    tensors in question are then computed for this one sample. Raises ModelError as a run does.
    """
    shapes = shapes_at(graph, {name: x.shape for name, x in sample.items()})
    last = {node.name for t in graph.outputs for node in t.inputs}
    unknown = dict.fromkeys(
        tensor.name
        for node in graph.nodes
        if node.op in WEIGHTED or node.name in nodes or node.name in last
        for tensor in (*node.inputs, *node.outputs)
        if tensor.inputs and tensor.name not in shapes and constant_of(tensor) is None
    )
    if unknown:
        part = restrict(graph, list(unknown))
        values = loaded(graphs.to_proto(part), runtime)(sample)
        shapes |= {name: np.shape(x) for name, x in values.items()}
    return shapes


def usual_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a graph without a sample: an axis of unknown length has a usual
    one."""
    return shapes_at(graph, usual_inputs(graph))
