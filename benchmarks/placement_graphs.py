"""The graphs of `placement.py`: one tiny graph a pattern, with Q/DQ at the places a variant names.

A case builds its graph with a `Net`; `net.q(tensor, "skip")` is the tensor itself unless the
variant names the place "skip". "w" is every weight, "a" every activation input of a product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

C, HW = 32, 16  # channels and size of most graphs


class Net:
    """An ONNX graph under construction, with Q/DQ at the places in `on`."""

    def __init__(self, on: str, half: bool) -> None:
        self.on = frozenset(on.split())
        self.type: Any = np.float16 if half else np.float32
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.products: list[str] = []
        self.made: dict[tuple[str, float], str] = {}
        self.random = np.random.default_rng(0)

    def const(self, values: Any) -> str:
        """A constant; returns its tensor."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns its output tensor, or the list of them."""
        name = f"{kind}{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        if kind in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            self.products.append(name)
        return names if outputs > 1 else names[0]

    def input(self, *shape: int) -> str:
        """A graph input."""
        name = f"x{len(self.inputs)}"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.type))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, tensor: str) -> None:
        """Make `tensor` a graph output."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.type))
        self.outputs.append(helper.make_tensor_value_info(tensor, kind, None))

    def q(self, tensor: str, place: str, scale: float = 0.05) -> str:
        """`tensor` behind Q/DQ if the variant names `place`; one pair for a tensor and scale."""
        if place not in self.on:
            return tensor
        if (tensor, scale) not in self.made:
            step, zero = self.const(self.type(scale)), self.const(np.int8(0))
            stored = self.op("QuantizeLinear", tensor, step, zero)
            self.made[tensor, scale] = self.op("DequantizeLinear", stored, step, zero)
        return self.made[tensor, scale]

    def weight(self, shape: tuple[int, ...], axis: int | None, place: str = "w") -> str:
        """A weight, INT8 behind DequantizeLinear if the variant names `place`."""
        if place not in self.on:
            return self.const((self.random.standard_normal(shape) * 0.05).astype(self.type))
        count = () if axis is None else (shape[axis],)
        codes = self.const(self.random.integers(-127, 128, shape).astype(np.int8))
        scale, zero = self.const(np.full(count, 0.01, self.type)), self.const(np.zeros(count, "i1"))
        where = {} if axis is None else {"axis": axis}
        return self.op("DequantizeLinear", codes, scale, zero, **where)

    def conv(
        self, x: str, cin: int = C, cout: int = C, *, k: int = 3, group: int = 1, place: str = "a"
    ) -> Any:
        """A Conv with bias, its activation quantized at `place`, its weight at "w"."""
        weight = self.weight((cout, cin // group, k, k), 0)
        bias = self.const(np.zeros(cout, self.type))
        return self.op("Conv", self.q(x, place), weight, bias, pads=[k // 2] * 4, group=group)

    def block(self, x: str, *, place: str = "a") -> Any:
        """Conv and Relu."""
        return self.op("Relu", self.conv(x, place=place))

    def model(self) -> onnx.ModelProto:
        """The finished model, opset 19: the first with FP16 scales."""
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 19)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@dataclass(frozen=True)
class Case:
    """A pattern: how to build it, the variants to try, and the one that onnxq inserts."""

    name: str
    build: Callable[[Net], None]
    variants: tuple[str, ...]
    ours: str
    half: bool = False


def image(net: Net, channels: int = C) -> str:
    """An input image."""
    return net.input(1, channels, HW, HW)


def conv_act(*kinds: str) -> Callable[[Net], None]:
    """Conv, an activation, Conv."""

    def build(net: Net) -> None:
        x = y = net.conv(image(net))
        for kind in kinds:
            y = net.op(kind, y)
        net.output(net.conv(net.op("Mul", x, y) if kinds == ("Sigmoid",) else y))

    return build


def q_inside(net: Net) -> None:
    """Q/DQ between Conv and Relu."""
    net.output(net.conv(net.op("Relu", net.q(net.conv(image(net)), "mid"))))


def silu_inside(net: Net) -> None:
    """Q/DQ before the SiLU."""
    x = net.q(net.conv(image(net)), "mid")
    net.output(net.conv(net.op("Mul", x, net.op("Sigmoid", x))))


def identity_add(net: Net) -> None:
    """A residual block whose skip tensor also feeds the block's first Conv."""
    skip = net.block(image(net))
    branch = net.conv(net.block(skip))
    add = net.op("Add", net.q(branch, "branch"), net.q(skip, "skip"))
    net.output(net.conv(net.op("Relu", add)))


def projection_add(net: Net) -> None:
    """A residual block with a Conv on both branches."""
    x = net.block(image(net))
    add = net.op("Add", net.q(net.conv(net.block(x)), "branch"), net.q(net.conv(x, k=1), "skip"))
    net.output(net.conv(net.op("Relu", add)))


def chained_add(net: Net) -> None:
    """(a + b) + c of three Convs."""
    x = net.block(image(net))
    a, b, c = (net.conv(x) for _ in range(3))
    net.output(net.conv(net.op("Add", net.op("Add", net.q(a, "skip"), b), net.q(c, "skip"))))


def through(kind: str, *constants: Any, **attributes: Any) -> Callable[[Net], None]:
    """T -> op -> Conv and T -> Conv."""

    def build(net: Net) -> None:
        t = net.block(image(net), place="w")
        before = net.q(t, "before")
        names = ["" if c is None else net.const(c) for c in constants]
        net.output(net.conv(net.op(kind, before, *names, **attributes)))
        net.output(net.conv(before))

    return build


def concat(second: float) -> Callable[[Net], None]:
    """Two Convs into a Concat, the second input's scale `second`, then Conv."""

    def build(net: Net) -> None:
        x = image(net)
        a, b = net.block(x, place="w"), net.block(x, place="w")
        a, b = net.q(a, "in"), net.q(b, "in", second)
        net.output(net.conv(net.op("Concat", a, b, axis=1), 2 * C))

    return build


def channels(cin: int, cout: int, group: int = 1) -> Callable[[Net], None]:
    """One Conv of that many channels."""
    return lambda net: net.output(net.op("Relu", net.conv(image(net, cin), cin, cout, group=group)))


def deconv(axis: int | None, group: int = 1) -> Callable[[Net], None]:
    """ConvTranspose with a weight axis."""

    def build(net: Net) -> None:
        x = net.q(image(net), "a")
        net.output(net.op("ConvTranspose", x, net.weight((C, C // group, 2, 2), axis),
                          strides=[2, 2], group=group))  # fmt: skip

    return build


def gemm(rows: int, trans: int, axis: int) -> Callable[[Net], None]:
    """Gemm 64 x 48 with bias."""

    def build(net: Net) -> None:
        x, weight = (
            net.q(net.input(rows, 64), "a"),
            net.weight((48, 64) if trans else (64, 48), axis),
        )
        net.output(net.op("Gemm", x, weight, net.const(np.zeros(48, net.type)), transB=trans))

    return build


def matmul(net: Net) -> None:
    """A 3-D MatMul with a weight, and its bias."""
    x = net.op("MatMul", net.q(net.input(2, 16, 64), "a"), net.weight((64, 64), 1))
    net.output(net.op("Add", x, net.const(np.zeros(64, net.type))))


def attention(net: Net) -> None:
    """Softmax(q k^T) v and the MatMul behind it."""
    q, k, v = (net.input(1, 4, 128, 64) for _ in range(3))
    k = net.op("Transpose", k, perm=[0, 1, 3, 2])
    scores = net.op("MatMul", net.q(q, "qkv"), net.q(k, "qkv"))
    shares = net.op("Softmax", scores, axis=-1)
    out = net.op("MatMul", net.q(shares, "softmax", 1 / 127), net.q(v, "qkv"))
    out = net.op("Transpose", out, perm=[0, 2, 1, 3])
    out = net.op("Reshape", out, net.const([1, 128, 256]))
    net.output(net.op("MatMul", net.q(out, "out"), net.weight((256, 64), 1)))


def squeeze_excite(net: Net) -> None:
    """Two 1x1 Convs behind a global pool gate an image."""
    x = net.block(image(net))
    s = net.op("GlobalAveragePool", x)
    for act in ("Relu", "Sigmoid"):
        weight = net.weight((C, C, 1, 1), 0, "gate")
        s = net.op(act, net.op("Conv", net.q(s, "gate"), weight))
    net.output(net.conv(net.op("Mul", x, s)))


RESIZE = {"mode": "nearest", "nearest_mode": "floor"}
TWICE = np.array([1, 1, 2, 2], np.float32)
PASS = ("a w", "before w", "before a w")
CASES = (
    Case("Conv, Relu, Conv", conv_act("Relu"), ("a w", "w", "a"), "a w"),
    Case("Conv, Relu, Conv in FP16", conv_act("Relu"), ("a w",), "a w", half=True),
    Case("Conv, HardSwish, Conv", conv_act("HardSwish"), ("a w",), "a w"),
    Case("Conv, SiLU, Conv", conv_act("Sigmoid"), ("a w",), "a w"),
    Case("Conv, SiLU, Conv: Q before the SiLU", silu_inside, ("a w", "a w mid"), "a w"),
    Case("Conv, Relu, Conv: Q before the Relu", q_inside, ("a w", "a w mid"), "a w"),
    Case("Add, identity skip", identity_add,
         ("a w", "a w skip", "a w branch", "a w skip branch"), "a w skip"),
    Case("Add, projection skip", projection_add,
         ("a w", "a w skip", "a w branch", "a w skip branch"), "a w"),
    Case("Add, chained", chained_add, ("a w", "a w skip"), "a w"),
    Case("MaxPool", through("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), PASS, "a w"),
    Case("AveragePool", through("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), PASS, "a w"),
    Case("Resize, nearest", through("Resize", None, TWICE, **RESIZE), PASS, "a w"),
    Case("Resize, linear", through("Resize", None, TWICE, mode="linear"), PASS, "a w"),
    Case("Slice", through("Slice", [0], [8], [2]), PASS, "a w"),
    Case("Transpose", through("Transpose", perm=[0, 1, 3, 2]), PASS, "a w"),
    Case("Reshape", through("Reshape", [1, C, 8, 32]), PASS, "a w"),
    Case("Pad", through("Pad", [0, 0, 1, 1, 0, 0, 1, 1]), PASS, "a w"),
    Case("Concat, equal scales", concat(0.05), ("a w", "a in w", "in w"), "a w"),
    Case("Concat, unequal scales", concat(0.03), ("a in w", "in w"), ""),
    *(Case(f"Conv {i} -> {o} channels, group {g}", channels(i, o, g), ("a w",), "a w")
      for i, o, g in ((3, 32, 1), (8, 32, 1), (32, 8, 1), (33, 35, 1), (32, 32, 32), (32, 32, 8),
                      (24, 24, 4))),
    *(Case(f"ConvTranspose, axis {a}, group {g}", deconv(a, g), ("a w",), "")
      for a, g in ((None, 1), (0, 1), (1, 1), (None, 4))),
    *(Case(f"Gemm {m} x 64 x 48, transB={t}, axis {a}", gemm(m, t, a), ("a w",), o)
      for m, t, a, o in ((16, 1, 0, "a w"), (16, 0, 1, "a w"), (16, 1, 1, ""), (1, 1, 0, ""))),
    Case("MatMul with a weight, 3-D", matmul, ("a w", "w", "a"), "a w"),
    *(Case(f"Attention{name}", attention,
           ("qkv softmax out w", "qkv out w", "qkv softmax", "out w"), "qkv softmax out w", half)
      for name, half in (("", False), (" in FP16", True))),
    Case("Squeeze-excite", squeeze_excite, ("a w", "a w gate"), "a w"),
)  # fmt: skip
