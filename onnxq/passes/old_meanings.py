"""What ops meant before an opset, where the version converter of onnx changes what they compute.

    Upsample 7, 9, Resize 10   x_in = x_out / scale: `asymmetric` since 11, no default
    Hardmax 1, 11              over all axes from `axis` on as one; since 13 over `axis` alone
    BatchNormalization 7, 9    five outputs: training; since 14 an attribute says so
    Dropout 7, 10              at inference the mask is all zero; since 12 it is all one
    GroupNormalization 18      a scale a group; since 21 a channel: there is no form for it
    Pad 2                      `value` may stand at any mode; since 11 an input at mode constant

What older ops can say is said before the conversion, by `keep_meanings`; what only newer attributes
can say, after it, by `write_meanings`. The meaning is ONNX Runtime's, which for Resize 10 to the
nearest rounds up where it makes an axis shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper
from onnx.numpy_helper import to_array

from onnxq.arrays import Array
from onnxq.model.graph import is_standard
from onnxq.passes.name_nodes import unique_name


class NoWords(Exception):
    """Why the new opset cannot say what a node means."""


@dataclass(frozen=True)
class Meaning:
    """What a converted node gets: attributes, and outputs that are named behind its first."""

    attributes: Mapping[str, int | str]
    outputs: tuple[str, ...] = ()


# What nodes get by the op that they are afterwards, in their order: the converter keeps that, but
# neither the names of the nodes nor those of what they write.
Meanings = Mapping[str, Sequence[Meaning]]
AS_IT_IS = Meaning({})
TRAINING = Meaning({"training_mode": 1}, ("running_mean", "running_var"))


def keep_meanings(model: onnx.ModelProto, opset: int, minimum: int) -> Meanings:
    """Rewrite in place what the conversion from `opset` to `minimum` would change, in bodies too;
    what to write afterwards.

    Raises NoWords for a node that the new opset has no form for.
    """
    found: dict[str, list[Meaning]] = {"Resize": [], "BatchNormalization": []}
    used = set(_read(model.graph))
    constants = _constants(model.graph)
    taken = used | {name for part in _parts(model.graph) for n in part.node for name in n.output}
    for part in _parts(model.graph):
        for node in [n for n in part.node if is_standard(n)]:
            if node.op_type in ("Upsample", "Resize") and opset < 11:
                found["Resize"].append(_resized(node, constants))
            elif node.op_type == "Hardmax" and opset < 13:
                _flatten_around(part, node, taken)
            elif node.op_type == "BatchNormalization" and opset < 14 <= minimum:
                rest = _drop_outputs(node, used)
                found[node.op_type].append(TRAINING if rest else AS_IT_IS)
            elif node.op_type == "Dropout" and opset < 12:
                _drop_outputs(node, used)
            elif node.op_type == "Pad" and opset < 11:
                _drop_value(node)
            elif node.op_type == "GroupNormalization" and opset < 21 <= minimum:
                raise NoWords(f"GroupNormalization '{node.name}' has a scale a group, not a "
                              "channel")  # fmt: skip
    return found


def write_meanings(model: onnx.ModelProto, found: Meanings) -> None:
    """Write into converted nodes, in place, what `keep_meanings` found."""
    left = {op: list(meanings) for op, meanings in found.items() if meanings}
    for part in _parts(model.graph) if left else ():
        for node in part.node:
            if is_standard(node) and node.op_type in left:
                meaning = left[node.op_type].pop(0)
                node.attribute.extend(helper.make_attribute(k, v)
                                      for k, v in meaning.attributes.items())  # fmt: skip
                node.output.extend(f"{node.output[0]}_{what}" for what in meaning.outputs)
    assert not any(left.values())


def _parts(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and the bodies in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _parts(body)


def _read(graph: GraphProto) -> Iterator[str]:
    """Names of the tensors that somebody reads, or that go out."""
    for part in _parts(graph):
        yield from (name for node in part.node for name in node.input)
        yield from (value.name for value in part.output)


def _constants(graph: GraphProto) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for part in _parts(graph):
        found |= {tensor.name: to_array(tensor) for tensor in part.initializer}
        for node in part.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                found[node.output[0]] = to_array(node.attribute[0].t)
    return found


def _resized(node: NodeProto, constants: Mapping[str, Array]) -> Meaning:
    asymmetric = {"coordinate_transformation_mode": "asymmetric"}
    if _attribute(node, "mode", b"nearest") != b"nearest":
        return Meaning(asymmetric)
    scales: Sequence[float] = _attribute(node, "scales", [])
    if len(node.input) > 1:
        scales = constants.get(node.input[1], np.ones(0)).tolist()  # computed: upwards, as usual
    down = any(s < 1 and not math.log2(s).is_integer() for s in scales if s > 0)
    if down and any(s > 1 for s in scales):
        raise NoWords(f"{node.op_type} '{node.name}' rounds up along one axis, down along another")
    return Meaning({**asymmetric, "nearest_mode": "ceil" if down else "floor"})


def _flatten_around(part: GraphProto, node: NodeProto, taken: set[str]) -> None:
    """Let Hardmax work on the two axes that it looks at: Flatten -> Hardmax -> Reshape."""
    x, y = node.input[0], node.output[0]
    flat, hard, shape = (unique_name(f"{y}_{what}", taken) for what in ("flat", "hard", "shape"))
    axis = _attribute(node, "axis", 1)
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 1))
    node.input[0], node.output[0] = flat, hard
    place = next(i for i, n in enumerate(part.node) if hard in n.output)
    part.node.insert(place + 1, helper.make_node("Reshape", [hard, shape], [y]))
    part.node.insert(place, helper.make_node("Shape", [x], [shape]))
    part.node.insert(place, helper.make_node("Flatten", [x], [flat], axis=axis))
    taken |= {flat, hard, shape}


def _drop_outputs(node: NodeProto, used: set[str]) -> bool:
    """Take all outputs but the first from a node; whether it had more. Raises NoWords where one of
    them is read."""
    rest = tuple(name for name in node.output[1:] if name)
    if read := next((name for name in rest if name in used), None):
        raise NoWords(f"what {node.op_type} '{node.name}' writes to '{read}' is read and changed")
    del node.output[1:]
    return bool(rest)


def _drop_value(node: NodeProto) -> None:
    if _attribute(node, "mode", b"constant") != b"constant":
        kept = [a for a in node.attribute if a.name != "value"]
        del node.attribute[:]
        node.attribute.extend(kept)


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
