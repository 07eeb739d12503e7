"""Ops that carry their ranges as attributes: what is quantized in them, and which values follow.

NVIDIA's 3D sparse convolution library (Lidar_AI_Solution: CUDA-CenterPoint, CUDA-BEVFusion) reads

    SparseConvolution(features, weight [out, kz, ky, kx, in], bias):
        input_dynamic_range       float      amax of the features
        weight_dynamic_ranges     floats     amax of each output channel of the weight
    Add(a, b), QuantAdd(a, b):
        input0_dynamic_range, input1_dynamic_range   float; its exporter observes both in one
    either:
        precision                 "int8" or "fp16": what the node computes in
        output_precision          "int8" or "fp16": what it hands on

and no Q/DQ. `precision` is "fp16" for a node that is left float. `output_precision` is "int8"
where everything that reads the output, through Relu, computes in INT8 too, as in its exports.
Source: 3DSparseConvolution's onnx-parser.cpp, and export-scn.py and exptool.py of CUDA-CenterPoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxq.errors import PlanError
from onnxq.model.flow import same_source
from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_output
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec
from onnxq.targets.concat import joined
from onnxq.targets.options import PlanOptions, left_float
from onnxq.targets.specs import schemes_of

ADDS = ("Add", "QuantAdd")
THROUGH = ("Relu", "Identity")  # they compute in the type they are handed
FEATURES, WEIGHT = 0, 1  # inputs of any op but ADDS
CHANNELS = 0  # axis of the output channels in a weight
TENSOR, CHANNEL = QuantSpec(), QuantSpec("int8", "channel", CHANNELS)


def with_attributes(graph: Graph, plan: Plan, options: PlanOptions) -> Plan:
    """The plan with every node of `options.attribute_op` in it, quantized or with its reason.

    Raises PlanError for an op type that the graph does not have, a scheme other than w8a8 for such
    a node, and a weight whose first axis is not its output channels.
    """
    types = options.attribute_op
    ops = sorted({node.op for node in graph.nodes})
    if missing := [t for t in types if t not in ops]:
        raise PlanError(f"--attribute-op {missing[0]}: the model has no such op; it has "
                        f"{', '.join(ops)}")  # fmt: skip
    asked, schemes = left_float(graph, options), schemes_of(graph, options)
    nodes = [node for node in graph.nodes if node.op in types]
    names = {node.name for node in nodes}
    edges = {e: s for e, s in plan.edges.items() if e.node not in names}
    rules = {n: r for n, r in plan.rules.items() if n not in names}
    skipped = {n: r for n, r in plan.skipped.items() if n not in names}
    source, tied = dict(plan.source), list(plan.tied)
    for node in nodes:
        if node.name in schemes and schemes[node.name].name != "w8a8":
            raise PlanError(f"--scheme-for gives '{node.name}' {schemes[node.name].name}; an "
                            "attribute op computes in INT8 (w8a8) or FP16 (--skip)")  # fmt: skip
        reason = asked.get(node.name) or _no_range(node)
        if reason:
            skipped[node.name] = reason
            continue
        edges |= _inputs(node)
        rules[node.name] = f"attribute-{node.op}"
        origins = {t.name: same_source(t).name for t in _activations(node)}
        source |= {name: origin for name, origin in origins.items() if name != origin}
        tied.append(tuple(dict.fromkeys(origins.values())))
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    edges = dict(sorted(edges.items(), key=lambda item: (place[item[0].node], item[0].input)))
    return replace(
        plan, edges=edges, rules=rules, skipped=skipped, source=source, tied=joined(tied),
        attribute_ops=tuple(dict.fromkeys(types)),
    )  # fmt: skip


def _activations(node: Node) -> list[Tensor]:
    return list(node.inputs[:2]) if node.op in ADDS else [node.inputs[FEATURES]]


def _no_range(node: Node) -> str | None:
    """Why a node cannot compute in INT8."""
    if any(constant_of(t) is not None for t in _activations(node)):
        return "constant-input: there is no range to observe"
    if any(t.dtype not in (None, np.float32, np.float16) for t in _activations(node)):
        return "not-float: its inputs are not float32 or float16"
    if (
        node.op not in ADDS
        and len(node.inputs) > WEIGHT
        and constant_of(node.inputs[WEIGHT]) is None
    ):
        return "computed-weight: its weight is not constant"
    return None


def _inputs(node: Node) -> dict[Edge, QuantSpec]:
    edges = {Edge(node.name, i): TENSOR for i in range(len(_activations(node)))}
    weight = weight_of(node)
    if weight is None:
        return edges
    shape, channels = weight.shape, node.attrs.get("out_channels", weight.shape[CHANNELS])
    if shape[CHANNELS] != channels:
        raise PlanError(
            f"the weight of '{node.name}' has shape {tuple(shape)}, whose first axis is not its "
            f"{channels} output channels; export it as [out, kz, ky, kx, in]"
        )
    return {**edges, Edge(node.name, WEIGHT): CHANNEL}


def weight_of(node: Node) -> Tensor | None:
    """The constant weight of an attribute op; None for one that has none, such as Add."""
    if node.op in ADDS or len(node.inputs) <= WEIGHT or constant_of(node.inputs[WEIGHT]) is None:
        return None
    return node.inputs[WEIGHT]


def attributes_of(
    graph: Graph, node: Node, plan: Plan, amax: Mapping[str, float], weight_amax: list[float]
) -> dict[str, float | list[float] | str]:
    """The attributes that `node`, an attribute op of the float `graph`, gets under the plan.

    `amax` maps a source tensor's name to its range; `weight_amax` are the ranges of the weight's
    output channels, empty where there is no weight. Raises PlanError for a range that is missing.
    """
    handed = "int8" if _read_as_int8(graph, node.outputs[0], plan) else "fp16"
    if node.name not in plan.by_node:
        return {"precision": "fp16", "output_precision": handed}
    found: dict[str, float | list[float] | str] = {}
    for i, spec in plan.by_node[node.name].items():
        if spec not in (TENSOR, CHANNEL)[: i + 1]:
            raise PlanError(f"input {i} of '{node.name}' is {spec}; an attribute op takes "
                            f"'{TENSOR}', and '{CHANNEL}' for its weight")  # fmt: skip
    for i, tensor in enumerate(_activations(node)):
        source = plan.source.get(tensor.name, tensor.name)
        if source not in amax:
            raise PlanError(f"no range for tensor '{source}'; run 'onnxq calibrate' on this model "
                            "and plan")  # fmt: skip
        found[f"input{i if node.op in ADDS else ''}_dynamic_range"] = float(amax[source])
    if weight_amax:
        found["weight_dynamic_ranges"] = weight_amax
    return {**found, "precision": "int8", "output_precision": handed}


def _read_as_int8(graph: Graph, tensor: Tensor, plan: Plan) -> bool:
    """Whether everything that reads `tensor` is an attribute op that computes in INT8."""
    if is_output(graph, tensor) or not tensor.outputs:
        return False
    return all(
        _read_as_int8(graph, node.outputs[0], plan)
        if node.op in THROUGH and node.op not in plan.attribute_ops
        else node.op in plan.attribute_ops and node.name in plan.by_node
        for node in tensor.outputs
    )


def note(graph: Graph, plan: Plan) -> list[str]:
    """A line that says how attribute ops come out, and what a comparison says of them."""
    nodes = [node for node in graph.nodes if node.op in plan.attribute_ops]
    if not nodes:
        return []
    count, types = sum(node.name in plan.by_node for node in nodes), ", ".join(plan.attribute_ops)
    return [
        f"{types}: {count} of {len(nodes)} nodes INT8, by attributes instead of Q/DQ, the others "
        "FP16; the comparison rounds what the INT8 ones read"
    ]
