"""The activation function that a QuantizeLinear stands for.

Quantizers that know zero points, ONNX Runtime's first, take out a Relu or Clip in front of a
QuantizeLinear whose codes end where it did: with codes from zero up, what is negative saturates.

    Conv -> Q(s, z = qmin) -> DQ      is      Conv -> Clip(0, (qmax - qmin) s)

Where the codes lie on one side of zero and the tensor may not; and where codes with a zero point
lie on both sides and an op writes the tensor that often has an activation function behind it: that
may have been Clip(-1, 1). Symmetric codes end where the calibration data did: no part of the model.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.passes.name_nodes import new_name

NEVER_NEGATIVE = frozenset({
    "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt", "ReduceL1",
    "ReduceL2", "ReduceSumSquare",
})  # fmt: skip
KEEP_SIGN = frozenset({  # nothing negative comes of inputs that are not
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace", "Expand",
    "SpaceToDepth", "Tile", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Slice",
    "Split", "Gather", "Concat", "Add", "Mul", "Max", "ReduceMean", "ReduceSum", "ReduceMax",
    "Dropout", "Cast",
})  # fmt: skip
ACTIVATED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add")
CLIP_INPUTS = 11  # the opset from which the bounds of Clip are inputs


def saturated(graph: Graph, node: Node, taken: set[str]) -> Tensor:
    """What a QuantizeLinear reads, behind a new Clip where its codes stand for one."""
    tensor, ends, scale = node.inputs[0], interval(node), constant_of(node.inputs[1])
    before = producer(tensor)
    if ends is None or scale is None or before is None or constant_of(tensor) is not None:
        return tensor
    if 0 not in ends and before.op not in ACTIVATED:
        return tensor
    if ends[0] == 0 and _never_negative(tensor, {}):
        return tensor
    out = gs.Variable(new_name(f"{tensor.name}_saturated", taken), tensor.dtype, tensor.shape)
    name = new_name(f"{node.name}_Clip", taken)
    if graph.opset < CLIP_INPUTS:
        clip = gs.Node("Clip", name, {"min": ends[0], "max": ends[1]}, [tensor], [out])
    else:
        bounds = [gs.Constant(new_name(f"{name}_{which}", taken), np.array(end, scale.dtype))
                  for which, end in zip(("min", "max"), ends, strict=True)]  # fmt: skip
        clip = gs.Node("Clip", name, {}, [tensor, *bounds], [out])
    graph.nodes.append(clip)
    return out


def is_symmetric(graph: Graph) -> bool:
    """Whether every QuantizeLinear has a signed zero point of 0: no activation function was taken
    out then."""
    quantizers = [node for node in graph.nodes if node.op == "QuantizeLinear"]
    zeros = [constant_of(q.inputs[2]) if len(q.inputs) > 2 else None for q in quantizers]
    return all(z is not None and z.dtype.kind != "u" and not z.any() for z in zeros)


def interval(node: Node) -> tuple[float, float] | None:
    """The least and the largest value that the codes of a QuantizeLinear stand for; None where it
    has several scales, or codes that are no integers of 8 or 16 bits."""
    scale = constant_of(node.inputs[1])
    given = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    zero = constant_of(node.inputs[2]) if given else np.zeros(1, np.uint8)
    if not given and node.attrs.get("output_dtype", 0):
        return None
    if scale is None or zero is None or scale.size != 1 or zero.dtype.kind not in "iu":
        return None
    codes, z, s = np.iinfo(zero.dtype), int(zero.reshape(-1)[0]), float(scale.reshape(-1)[0])
    return (int(codes.min) - z) * s, (int(codes.max) - z) * s


def _never_negative(tensor: Tensor, known: dict[int, bool]) -> bool:
    """Whether a tensor's values are zero and more whatever the inputs of the model are."""
    if id(tensor) not in known:
        values = constant_of(tensor)
        if values is None:
            known[id(tensor)] = _writes_no_negative(producer(tensor), known)
        else:
            known[id(tensor)] = not (values < 0).any()
    return known[id(tensor)]


def _writes_no_negative(node: Node | None, known: dict[int, bool]) -> bool:
    if node is None or node.op in NEVER_NEGATIVE:
        return node is not None
    if node.op == "Clip":
        bound = constant_of(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("min", -1)
        return bound is not None and bool(np.all(np.asarray(bound) >= 0))
    if node.op == "DequantizeLinear":
        before = producer(node.inputs[0])
        ends = None if before is None or before.op != "QuantizeLinear" else interval(before)
        return ends is not None and ends[0] == 0
    if node.op not in KEEP_SIGN:
        return False
    floats = [t for t in node.inputs if not t.is_empty() and t.dtype not in (np.int32, np.int64)]
    return all(_never_negative(t, known) for t in floats)
