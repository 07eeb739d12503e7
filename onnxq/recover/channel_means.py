"""Graphs that compute means per channel: tiny outputs, so that no activation leaves the runtime.

Float and quantized means come from the same ReduceMean, so that equal tensors have equal means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, Node, Tensor
from onnxq.recover.sites import Site
from onnxq.run import segments

TENSOR, SHIFT, MEAN, OTHER = "onnxq_tensor", "onnxq_shift", "onnxq_mean", "onnxq_other"


def float_means(graph: Graph, sites: Sequence[Site], outputs: Sequence[str]) -> Graph:
    """A graph that writes `outputs` and then, in the order of `sites`, the means of what each
    site compares.
    """
    wanted = [*outputs, *(site.compared for site in sites)]
    copy = segments.restrict(graph, list(dict.fromkeys(wanted)))
    tensors = copy.tensors()
    copy.outputs = [tensors[name] for name in outputs]
    for i, site in enumerate(sites):
        mean = _mean(copy, tensors[site.compared], site, f"{MEAN}_{i}")
        copy.outputs.append(mean)
    return copy


def probe(graph: Graph, nodes: Mapping[str, Node], site: Site) -> onnx.ModelProto:
    """A model (tensor, shift, ...) -> the means of what `site` compares if its channels shift.

    `nodes` are those of the graph by name. Its further inputs are the tensors of `outside`, in that
    order, as `OTHER` 0, 1, ... No name is that of the graph: sites alike have the same model.
    """
    rank = site.rank if site.axis == 1 else None
    tensor = gs.Variable(TENSOR, np.float32, None if rank is None else [None] * rank)
    shift = gs.Variable(SHIFT, np.float32, [None])
    out = gs.Graph(inputs=[tensor, shift], opset=graph.opset, ir_version=graph.ir_version)
    moved: Tensor = gs.Variable("onnxq_shifted", np.float32)
    out.nodes.append(gs.Node("Add", "onnxq_add", {}, [tensor, _spread(out, shift, site)], [moved]))
    made: dict[str, Tensor] = {site.biased: moved}
    for k, name in enumerate(outside(nodes, site)):
        made[name] = gs.Variable(f"{OTHER}_{k}", np.float32)
        out.inputs.append(made[name])
    for name in site.region:
        out.nodes.append(_copied(nodes[name], made))
    mean = _mean(out, made[site.compared], site, MEAN)
    mean.shape = None
    out.outputs = [mean]
    return graphs.to_proto(out)


def outside(nodes: Mapping[str, Node], site: Site) -> list[str]:
    """Names of the tensors that the region of `site` reads beside what it computes."""
    inner = {site.biased, *(nodes[name].outputs[0].name for name in site.region)}
    reads = [t for name in site.region for t in nodes[name].inputs]
    return list(
        dict.fromkeys(
            t.name
            for t in reads
            if t.name and t.name not in inner and not isinstance(t, gs.Constant)
        )
    )


def _spread(graph: Graph, shift: Tensor, site: Site) -> Tensor:
    """`shift` in the shape that adds to the channels of the tensor."""
    if site.axis != 1 or site.rank == 2:
        return shift
    shape = gs.Constant("onnxq_shape", np.array([1, -1, *[1] * (site.rank - 2)], np.int64))
    shaped = gs.Variable(f"{SHIFT}_shaped", np.float32)
    graph.nodes.append(gs.Node("Reshape", "onnxq_reshape", {}, [shift, shape], [shaped]))
    return shaped


def _copied(node: Node, made: dict[str, Tensor]) -> Node:
    """The node with inputs that are `made`, or made here: its constants, and its output."""
    for t in node.inputs:
        if t.name and t.name not in made:
            made[t.name] = gs.Constant(f"onnxq_inner_{len(made)}", t.values)
    inputs = [made[t.name] if t.name else gs.Variable.empty() for t in node.inputs]
    name = f"onnxq_inner_{len(made)}"
    made[node.outputs[0].name] = gs.Variable(name, np.float32)
    outputs = [made[node.outputs[0].name]]
    return gs.Node(node.op, f"{name}_node", dict(node.attrs), inputs, outputs, node.domain)


def _mean(graph: Graph, x: Tensor, site: Site, name: str) -> Tensor:
    """Append the nodes that average `x` over all axes but the channels; the means, shape (C,)."""
    axes = [a for a in range(site.rank) if a != 1]
    if site.axis == -1:  # of unknown rank: everything before the last axis becomes one
        rows = gs.Variable(f"{name}_rows", np.float32)
        shape = gs.Constant(f"{name}_shape", np.array([-1, site.channels], np.int64))
        graph.nodes.append(gs.Node("Reshape", f"{name}_reshape", {}, [x, shape], [rows]))
        x, axes = rows, [0]
    out = gs.Variable(name, np.float32, [site.channels])
    inputs: list[Tensor] = [x]
    attrs: dict[str, object] = {"keepdims": 0}
    if graph.opset >= 18:
        inputs.append(gs.Constant(f"{name}_axes", np.array(axes, np.int64)))
    else:
        attrs["axes"] = axes
    graph.nodes.append(gs.Node("ReduceMean", f"{name}_node", attrs, inputs, [out]))
    return out
