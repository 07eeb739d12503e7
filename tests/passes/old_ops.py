"""One small node for nearly every form of every op that onnx changed between opsets 7 and 21.

`FORMS[op]` lists its forms: the opsets that write it so, what it reads (arrays; None: nothing
here), and its attributes. The first `variable` inputs are fed, the others are constants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

LAST = 21
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Form:
    """A node of `op` as opsets `first` to `last` write it; `goal`: the last that can say it."""

    op: str
    first: int
    last: int
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    variable: int = 1
    goal: int = LAST

    def opsets(self) -> list[int]:
        """`first`, and every opset up to `last` in which the op has a new schema."""
        changed = [v for v in versions(self.op) if self.first < v <= min(self.last, LAST - 1)]
        return [self.first, *changed]

    def model(self, opset: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The node and nothing else that computes, and what it is fed."""
        arrays = {f"x{i}": np.asarray(a) for i, a in enumerate(self.inputs) if a is not None}
        fed = {name: a for name, a in arrays.items() if int(name[1:]) < self.variable}
        names = [f"x{i}" if a is not None else "" for i, a in enumerate(self.inputs)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        inner = [f"{name}_inner" for name in outputs]  # the converter gives some of them new names
        node = helper.make_node(self.op, names, inner, "node", **self.attributes)
        ends = zip(inner, outputs, strict=True)
        graph = helper.make_graph(
            [node, *(helper.make_node("Identity", [a], [b]) for a, b in ends)],
            "one",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for n, a in fed.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [from_array(a, name) for name, a in arrays.items() if name not in fed],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8), fed


def versions(op: str) -> list[int]:
    """The opsets up to 21 in which an op has a schema of its own."""
    return SCHEMAS[op]


def _schemas() -> dict[str, list[int]]:
    found = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= LAST:
            found[schema.name].add(schema.since_version)
    return {op: sorted(opsets) for op, opsets in found.items()}


SCHEMAS = _schemas()


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


X, WIDE, FLAT = floats(2, 4, 6, 6), floats(1, 2, 7, 7), floats(3, 3)
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
NORM = (floats(4), floats(4), floats(4), np.abs(floats(4)) + 0.5)
ROIS = (scales(0, 0, 5, 5, 1, 1, 4, 3).reshape(2, 4), np.array([0, 1]))
PLACES = np.array([[1, 0, 2], [0, 2, 1]])


def every_form() -> Iterator[Form]:
    yield from resizing()
    yield from normalizing()
    yield from pooling()
    yield from moving()
    yield from reducing()
    yield from recurring()
    for op in ("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "Neg", "Abs",
               "Exp", "Ceil", "Floor", "Identity", "Shape", "Size", "Reciprocal", "Transpose",
               "GlobalLpPool"):  # fmt: skip
        yield Form(op, 7, LAST, (X,))
    for op in ("Log", "Sqrt"):
        yield Form(op, 7, LAST, (np.abs(X) + 0.1,))
    for op in ("Erf", "Sign", "IsNaN", "NonZero"):
        yield Form(op, 9, LAST, (X,))
    yield Form("IsInf", 10, LAST, (X,))
    for op in ("Add", "Sub", "Mul", "Div", "PRelu"):
        yield Form(op, 7, LAST, (X, floats(4, 1, 1)))
    for op in ("Max", "Min", "Sum", "Mean"):
        yield Form(op, 8, LAST, (X, floats(4, 1, 1)))
    for op in ("Greater", "Less"):
        yield Form(op, 7, LAST, (X, floats(4, 1, 1)))
    yield Form("Equal", 11, LAST, (X, floats(4, 1, 1)))
    for op in ("GreaterOrEqual", "LessOrEqual"):
        yield Form(op, 12, LAST, (X, floats(4, 1, 1)))
    for op in ("And", "Or", "Xor"):
        yield Form(op, 7, LAST, (X > 0, floats(4, 1, 1) > 0))
    yield Form("Pow", 7, LAST, (np.abs(X), np.float32(2)))
    yield Form("Mod", 10, LAST, (X, np.float32(0.7)), {"fmod": 1})
    yield Form("Where", 9, LAST, (X > 0, X, floats(1)), variable=2)
    yield Form("CumSum", 11, LAST, (X, np.array(1)), {"reverse": 1})
    yield Form("Gemm", 7, LAST, (floats(3, 4), floats(4, 5), floats(5)), {"alpha": 0.5})
    yield Form("Gemm", 11, LAST, (floats(3, 4), floats(5, 4)), {"transB": 1})
    yield Form("MatMul", 7, LAST, (floats(2, 3, 4), floats(4, 5)))
    yield Form("Conv", 7, LAST, (X, floats(3, 4, 3, 3)), {"auto_pad": "SAME_LOWER"})
    for more in (
        {"output_padding": [1, 1]},
        {"auto_pad": "SAME_UPPER"},
        {"output_shape": [12, 12]},
    ):
        yield Form("ConvTranspose", 7, LAST, (X, floats(4, 3, 3, 3)), {"strides": [2, 2], **more})


def resizing() -> Iterator[Form]:
    for mode, by in product(("nearest", "linear"), ((2, 2), (1.5, 1.7), (3, 2))):
        yield Form("Upsample", 7, 8, (X,), {"mode": mode, "scales": [1.0, 1.0, *map(float, by)]})
        yield Form("Upsample", 9, 9, (X, scales(1, 1, *by)), {"mode": mode})
    for mode, by in product(("nearest", "linear"), ((2, 2), (1.5, 1.7), (0.6, 0.6), (0.5, 1.5))):
        yield Form("Resize", 10, 10, (X, scales(1, 1, *by)), {"mode": mode})
    yield Form("Upsample", 9, 9, (floats(1, 2, 3, 4, 5), scales(1, 1, 2, 1, 1.5)))
    yield Form("Upsample", 9, 9, (floats(5, 6), scales(2, 1.5)), {"mode": "linear"})
    places = (
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    )
    for mode, where in product(("nearest", "linear", "cubic"), places):
        said = {"mode": mode, "coordinate_transformation_mode": where}
        box = scales(0, 0, 0.1, 0.1, 1, 1, 0.8, 0.8)
        yield Form("Resize", 11, LAST, (X, box, scales(1, 1, 1.5, 0.7)), said)
    for rounding in ("floor", "ceil", "round_prefer_ceil"):
        said = {"mode": "nearest", "nearest_mode": rounding}
        yield Form("Resize", 11, LAST, (X, scales(), scales(1, 1, 1.5, 0.7)), said)
    sizes = np.array([2, 4, 9, 7])
    yield Form("Resize", 11, LAST, (X, scales(), scales(), sizes), {"mode": "linear"})
    grid = RNG.uniform(-1.2, 1.2, (2, 5, 5, 2)).astype(np.float32)
    yield Form("GridSample", 16, 20, (X, grid), variable=2)
    for mode, edge in product(("bilinear", "nearest", "bicubic"), ("border", "reflection")):
        said = {"mode": mode, "padding_mode": edge, "align_corners": 1}
        yield Form("GridSample", 16, 19, (X, grid), said, variable=2)
    for mode in ("avg", "max"):
        said = {"mode": mode, "output_height": 3, "output_width": 3, "sampling_ratio": 2}
        yield Form("RoiAlign", 10, 20, (X, *ROIS), said)


def normalizing() -> Iterator[Form]:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for shape in ((3, 4), (2, 3, 4)):
            yield Form(op, 7, LAST, (floats(*shape),))
            yield Form(op, 11, LAST, (floats(*shape),), {"axis": -2})
            for axis in range(len(shape)):
                yield Form(op, 7, LAST, (floats(*shape),), {"axis": axis})
    yield Form("BatchNormalization", 7, LAST, (X, *NORM), {"epsilon": 0.1, "momentum": 0.5})
    yield Form("BatchNormalization", 7, LAST, (floats(5, 4), *NORM))
    yield Form("BatchNormalization", 9, 12, (X, *NORM), outputs=5, goal=13)
    yield Form("BatchNormalization", 14, LAST, (X, *NORM), {"training_mode": 1}, outputs=3)
    yield Form("InstanceNormalization", 7, LAST, (X, *NORM[:2]))
    yield Form("LRN", 7, LAST, (X,), {"size": 3})
    yield Form("MeanVarianceNormalization", 9, LAST, (X,), {"axes": [0, 2]})
    yield Form("Dropout", 7, LAST, (X,))
    yield Form("Dropout", 7, 11, (X,), {"ratio": 0.3})
    yield Form("Clip", 7, 10, (X,), {"min": -0.5, "max": 0.5})
    yield Form("Clip", 7, 10, (X,), {"min": -0.5})
    yield Form("Clip", 7, LAST, (X,))
    yield Form("Clip", 11, LAST, (X, np.float32(-0.5), np.float32(0.5)))
    for to in (TensorProto.INT32, TensorProto.FLOAT16, TensorProto.BOOL):
        yield Form("Cast", 7, LAST, (100 * X,), {"to": to})
    yield Form("CastLike", 15, LAST, (100 * X, np.int32(0)))
    yield Form("QuantizeLinear", 10, LAST, (X, np.float32(0.05), np.uint8(100)))
    yield Form("QuantizeLinear", 13, LAST, (X, np.abs(NORM[0]), np.zeros(4, np.int8)))
    yield Form("DequantizeLinear", 10, LAST, ((20 * X).astype(np.int8), np.float32(0.05)))


def pooling() -> Iterator[Form]:
    for pads, ceil in product((0, 1), (0, 1)):
        said = {**WINDOW, "count_include_pad": pads, "ceil_mode": ceil}
        yield Form("AveragePool", 10, LAST, (X,), said)
        yield Form("AveragePool", 10, LAST, (WIDE,), said)
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        said = {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": auto}
        yield Form("AveragePool", 7, LAST, (X,), said)
        yield Form("MaxPool", 7, LAST, (X,), said)
    yield Form("MaxPool", 8, LAST, (X,), {**WINDOW, "storage_order": 1}, outputs=2)
    for ceil in (0, 1):
        said = {**WINDOW, "dilations": [2, 2], "ceil_mode": ceil}
        yield Form("MaxPool", 10, LAST, (WIDE,), said)
        yield Form("LpPool", 18, LAST, (X,), {**WINDOW, "ceil_mode": ceil})
    yield Form("LpPool", 7, LAST, (X,), {**WINDOW, "p": 3})
    said = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield Form("MaxUnpool", 9, LAST, (floats(1, 1, 2, 2), np.array([[[[0, 3], [9, 14]]]])), said)


def moving() -> Iterator[Form]:
    shift, x = [0, 0, 1, 2, 0, 0, 1, 0], floats(2, 1, 3, 1)
    for mode in ("constant", "reflect", "edge"):
        yield Form("Pad", 7, 10, (X,), {"mode": mode, "pads": shift, "value": 1.5})
        yield Form("Pad", 11, LAST, (X, np.array(shift)), {"mode": mode})
    yield Form("Pad", 7, 10, (X,), {"pads": [0, 0, -1, 2, 0, 0, 1, -1]})
    yield Form("Slice", 7, 9, (X,), {"starts": [1, -3], "ends": [1000, -1], "axes": [1, 2]})
    yield Form("Slice", 7, 9, (X,), {"starts": [0, 1], "ends": [2, 3]})
    yield Form(
        "Slice", 10, LAST, (X, *(np.array(v) for v in ([1, -1], [1000, -9], [1, 2], [1, -2])))
    )
    yield Form("TopK", 7, 9, (X,), {"k": 3, "axis": 1}, outputs=2)
    yield Form("TopK", 10, LAST, (X, np.array([3])), outputs=2)
    yield Form("Squeeze", 7, 12, (x,), {"axes": [1]})
    yield Form("Squeeze", 11, 12, (x,), {"axes": [-1]})
    yield Form("Squeeze", 7, LAST, (x,))
    yield Form("Unsqueeze", 7, 12, (x,), {"axes": [1, 3]})
    yield Form("Unsqueeze", 11, 12, (x,), {"axes": [-1, 0]})
    yield Form("Split", 7, 17, (X,), {"axis": 1}, outputs=2)
    yield Form("Split", 7, 12, (X,), {"axis": 1, "split": [1, 3]}, outputs=2)
    yield Form("Split", 11, 12, (X,), {"axis": -1, "split": [1, 3, 2]}, outputs=3)
    yield Form("Split", 13, 17, (X, np.array([1, 3])), {"axis": 1}, outputs=2)
    yield Form("DepthToSpace", 7, LAST, (X,), {"blocksize": 2})
    yield Form("DepthToSpace", 11, LAST, (X,), {"blocksize": 2, "mode": "CRD"})
    yield Form("SpaceToDepth", 7, LAST, (X,), {"blocksize": 2})
    for axis in (0, 2):
        yield Form("Flatten", 7, LAST, (X,), {"axis": axis})
    yield Form("Flatten", 11, LAST, (X,), {"axis": -1})
    yield Form("Reshape", 7, LAST, (X, np.array([0, -1])))
    yield Form("Expand", 8, LAST, (floats(1, 3), np.array([2, 3])))
    yield Form("Tile", 7, LAST, (FLAT, np.array([2, 1])))
    yield Form("Concat", 7, LAST, (X, X), {"axis": 1})
    yield Form("Concat", 11, LAST, (X, X), {"axis": -1})
    yield Form("Gather", 7, LAST, (X, np.array([1, 0])), {"axis": 1})
    yield Form("Gather", 11, LAST, (X, np.array([-1, 0])), {"axis": -1})
    yield Form("GatherElements", 11, LAST, (FLAT, PLACES))
    yield Form("GatherND", 11, LAST, (FLAT, np.array([[1, 0], [2, 2]])))
    yield Form("Scatter", 9, 10, (FLAT, PLACES, floats(2, 3)))
    yield Form("ScatterElements", 11, LAST, (FLAT, PLACES, floats(2, 3)), {"axis": 1})
    yield Form("ScatterND", 11, LAST, (FLAT, np.array([[1], [0]]), floats(2, 3)))
    yield Form("Compress", 9, LAST, (FLAT, np.array([True, False, True])), {"axis": 0})
    yield Form("OneHot", 9, LAST, (np.array([0, 2, 1]), np.array([3]), scales(0, 1)))
    yield Form("ConstantOfShape", 9, LAST, (np.array([2, 3]),), variable=0)
    boxes, score = RNG.random((1, 6, 4), np.float32), RNG.random((1, 1, 6), np.float32)
    limits = (np.array([3]), scales(0.5))
    yield Form("NonMaxSuppression", 10, LAST, (boxes, score, *limits), variable=2)


def reducing() -> Iterator[Form]:
    positive = np.abs(X) + 0.1
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
               "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"):  # fmt: skip
        last = 12 if op == "ReduceSum" else 17
        yield Form(op, 7, LAST, (positive,), {"keepdims": 0})
        yield Form(op, 7, last, (positive,), {"axes": [1, 2]})
        yield Form(op, 11, last, (positive,), {"axes": [-1], "keepdims": 0})
    for op in ("ArgMax", "ArgMin"):
        yield Form(op, 7, LAST, (X,), {"axis": 1, "keepdims": 0})
    yield Form("DFT", 17, 19, (floats(2, 6, 1),), {"axis": 1, "onesided": 1})
    yield Form("DFT", 17, 19, (floats(2, 5, 6, 1),))


def recurring() -> Iterator[Form]:
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for said in ({}, {"direction": "reverse"}):
            weights = (floats(1, 5 * gates, 3), floats(1, 5 * gates, 5), floats(1, 10 * gates))
            yield Form(op, 7, LAST, (floats(4, 2, 3), *weights), {"hidden_size": 5, **said}, 2)


FORMS: dict[str, list[Form]] = defaultdict(list)
for one in every_form():
    FORMS[one.op].append(one)
