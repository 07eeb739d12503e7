"""Graphs that hypothesis makes up: DAGs of the ops that quantization meets, with valid shapes.

A graph grows an op at a time from a pool of float tensors of known shapes: each step draws a kind
of op, and tensors of the pool that it can take. So residuals, concats, diamonds and several outputs
come about by themselves. Odd on purpose: weights shared by ops, constants computed by ops, ranks
from 0 to 5, lengths of 0 and 1, ops behind scalars, free batches, outputs that others read,
weighted ops in the bodies of If and Loop, sequences; outputs without a shape or with one that is
not true, an input of unknown rank, no graph name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper
from onnx.numpy_helper import from_array

SMALL = 1e-6  # of weights and inputs, now and then
Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Generated:
    """A model with data for it: its one input `x`, samples along the first axis."""

    model: onnx.ModelProto
    samples: np.ndarray
    batch: int

    @property
    def feed(self) -> dict[str, np.ndarray]:
        """The first samples, as the model takes them."""
        return {"x": self.samples[: self.batch]}

    def __repr__(self) -> str:  # what hypothesis prints of a falsifying example
        return f"{onnx.printer.to_text(self.model)}\nsamples {self.samples.shape}"


@dataclass
class Builder:
    """The graph so far. pool: float tensors and their shapes, the batch, `free` or not, first.

    latest: the tensor that the next step takes if it can.
    """

    draw: Draw
    rng: np.random.Generator
    free: bool
    opset: int
    pool: dict[str, Shape]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)  # constants that nothing else reads
    latest: str | None = None

    def pick(self, *suits: Callable[[Shape], bool]) -> str | None:
        """A tensor whose shape suits, the latest as likely as all before it; None without any."""
        names = [n for n, shape in self.pool.items() if all(suit(shape) for suit in suits)]
        if not names:
            return None
        if self.latest in names:
            return self.latest
        return names[-1] if self.draw(st.booleans()) else self.draw(st.sampled_from(names))

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        """A node, and its output of that shape in the pool."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"{op}_{name}", **attributes))
        self.pool[name] = shape
        return name

    def weight(self, shape: Shape, scale: float = 1.0, shared: bool = True) -> str:
        """A normal constant of about `scale`, now and then one that is there already or one that
        an op computes from another."""
        public = {n: w for n, w in self.weights.items() if n not in self.private}
        same = [n for n, w in public.items() if w.shape == shape and w.dtype == np.float32]
        if shared and same and self.draw(st.booleans()):
            return self.draw(st.sampled_from(same))
        size = 1.0 if self.draw(st.integers(0, 15)) else SMALL
        name = self.constant(self.rng.normal(0, scale * size, shape).astype(np.float32))
        if self.draw(st.integers(0, 7)):
            return name
        node = helper.make_node("Mul", [name, self.constant(np.float32(0.5))], [f"{name}_half"])
        self.nodes.append(node)
        return f"{name}_half"

    def constant(self, values: np.ndarray) -> str:
        """A constant with these values."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def chance(self) -> bool:
        """Yes or no."""
        return bool(self.draw(st.booleans()))


def whole(shape: Shape) -> bool:
    """Whether a tensor has values."""
    return prod(shape) > 0


def images(shape: Shape) -> bool:
    """Whether a tensor has a batch, channels and at least a spatial axis."""
    return len(shape) >= 3


def matrices(shape: Shape) -> bool:
    """Whether a tensor can be the left operand of a product."""
    return len(shape) >= 2


def convolve(b: Builder) -> None:
    """Conv: any rank from 3 to 5, grouped or depthwise or not, with a bias or not."""
    name = b.pick(whole, images)
    if name is None:
        return
    n, channels, *size = b.pool[name]
    kernel = [b.draw(st.sampled_from([k for k in (1, 2, 3) if k <= d])) for d in size]
    pads = [b.draw(st.integers(0, 1)) for _ in size]
    stride = [b.draw(st.integers(1, 2)) for _ in size]
    groups = b.draw(st.sampled_from([g for g in {1, 2, channels} if channels % g == 0]))
    out = groups * b.draw(st.integers(1, 4))
    each = channels // groups
    inputs = [name, b.weight((out, each, *kernel), 1 / np.sqrt(each * prod(kernel)))]
    if b.chance():
        inputs.append(b.weight((out,)))
    moved = zip(size, kernel, pads, stride, strict=True)
    shape = (n, out, *((d + 2 * p - k) // s + 1 for d, k, p, s in moved))
    b.add("Conv", inputs, shape, pads=pads * 2, strides=stride, group=groups)


def deconvolve(b: Builder) -> None:
    """ConvTranspose, which doubles the size."""
    name = b.pick(whole, images, lambda s: prod(s) < 2000)
    if name is None:
        return
    n, channels, *size = b.pool[name]
    out, two = b.draw(st.integers(1, 4)), [2] * len(size)
    inputs = [name, b.weight((channels, out, *two), 1 / np.sqrt(channels))]
    b.add("ConvTranspose", inputs, (n, out, *(2 * d for d in size)), strides=two)


def block(b: Builder) -> None:
    """A weighted op with BatchNormalization and a constant Mul or Add behind it, or before."""
    around = [normalize, compute] if b.chance() else [normalize]
    order = [b.draw(st.sampled_from([convolve, convolve, deconvolve, multiply])), *around]
    for step in order if b.chance() else reversed(order):
        before = len(b.pool)
        b.latest = list(b.pool)[-1]
        step(b)
        if len(b.pool) == before:
            break
    b.latest = None


def normalize(b: Builder) -> None:
    """BatchNormalization, its variances not so small that they blow up rounding errors."""
    name = b.pick(matrices)
    if name is None:
        return
    channels = b.pool[name][1]
    variance = b.constant(b.rng.uniform(0.5, 2.0, channels).astype(np.float32))
    inputs = [name, *(b.weight((channels,)) for _ in range(3)), variance]
    shape = b.pool[name]
    if b.opset > 12 or not whole(shape) or b.chance():
        b.add("BatchNormalization", inputs, shape, epsilon=1e-5)
        return
    # with the outputs of training, which nobody reads: it normalizes by the batch; a variance of
    # next to nothing would blow up rounding errors. ONNX Runtime writes the new mean and variance
    # over the old ones, so that nothing else may read those
    inputs[3] = b.constant(b.rng.normal(0, 1, channels).astype(np.float32))
    b.private |= set(inputs[3:])
    out = b.add("BatchNormalization", inputs, shape, epsilon=0.1)
    b.nodes[-1].output.extend(f"{out}_{what}" for what in ("mean", "var", "saved", "kept"))


def activate(b: Builder) -> None:
    """An activation function, or an op that changes nothing."""
    name = b.pick()
    op = b.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Identity",
                                 "SiLU", "Dropout", "Clip", "Abs", "Neg", "Softmax"]))  # fmt: skip
    shape = b.pool[name]
    if op == "SiLU":
        gate = b.add("Sigmoid", [name], shape)
        b.add("Mul", [name, gate], shape)
    elif op == "Clip" and b.opset < 11:
        b.add("Clip", [name], shape, min=0.0, max=6.0)
    elif op == "Clip":
        limits = [b.constant(np.float32(0)), b.constant(np.float32(6))]
        b.add("Clip", [name, *limits], shape)
    elif op != "Softmax" or (shape if b.opset > 12 else len(shape) > 1):
        b.add(op, [name], shape)


def compute(b: Builder) -> None:
    """An elementwise op with a constant: a scalar, one of rank 0, 1, or one a channel."""
    name = b.pick()
    shape = b.pool[name]
    kinds: list[Shape] = [(), (1,), (1, *shape[1:2], *(1 for _ in shape[2:]))]
    kind = b.draw(st.sampled_from([k for k in kinds if len(k) <= len(shape)]))
    inputs = [name, b.weight(kind)]
    b.add(b.draw(st.sampled_from(["Add", "Mul", "Sub"])), inputs[:: 1 if b.chance() else -1], shape)


def join(b: Builder) -> None:
    """Add or Mul of two tensors of one shape, be it the same: residuals, gates."""
    name = b.pick()
    other = b.pick(lambda s: s == b.pool[name])
    b.add(b.draw(st.sampled_from(["Add", "Add", "Mul"])), [name, other], b.pool[name])


def concatenate(b: Builder) -> None:
    """Concat of two or three tensors that differ on an axis other than the batch at most."""
    name = b.pick(matrices)
    if name is None:
        return
    shape = b.pool[name]
    axis = b.draw(st.integers(1, len(shape) - 1))

    def fits(s: Shape) -> bool:
        return len(s) == len(shape) and _without(s, axis) == _without(shape, axis)

    names = [name, *(b.pick(fits) for _ in range(b.draw(st.integers(1, 2))))]
    length = sum(b.pool[n][axis] for n in names)
    if prod(shape) * len(names) < 4000:
        b.add("Concat", names, (*shape[:axis], length, *shape[axis + 1 :]),
              axis=axis - len(shape) if b.opset > 10 and b.chance() else axis)  # fmt: skip


def pool(b: Builder) -> None:
    """A pool over a window, or over everything."""
    name = b.pick(whole, images)
    if name is None:
        return
    n, channels, *size = b.pool[name]
    op = b.draw(st.sampled_from(["MaxPool", "AveragePool", "GlobalAveragePool"]))
    if op == "GlobalAveragePool":
        b.add(op, [name], (n, channels, *(1 for _ in size)))
    else:
        window = [min(d, 2) for d in size]
        shape = (n, channels, *(d - k + 1 for d, k in zip(size, window, strict=True)))
        b.add(op, [name], shape, kernel_shape=window)


def multiply(b: Builder) -> None:
    """MatMul with a constant, 2-D or batched, on the right; or Gemm."""
    name = b.pick(whole, matrices)
    if name is None:
        return
    *front, k = b.pool[name]
    n = b.draw(st.integers(1, 8))
    if len(front) == 1:
        turned, bias = b.chance(), b.chance() or b.opset < 11
        shape = (n, k) if turned else (k, n)
        inputs = [name, b.weight(shape, 1 / np.sqrt(k)), *([b.weight((n,))] if bias else [])]
        alpha = b.draw(st.sampled_from([1.0, 0.5]))
        b.add("Gemm", inputs, (front[0], n), transB=int(turned), alpha=alpha)
        return
    stacked = (front[1],) if len(front) == 2 and front[1] and b.chance() else ()
    if stacked and not b.free:  # a weight for each element of the axis before the last but one
        turned_shape = (front[1], front[0], k)
        turned_name = b.add("Transpose", [name], turned_shape, perm=[1, 0, 2])
        b.add("MatMul", [turned_name, b.weight((*stacked, k, n), 1 / np.sqrt(k))],
              (front[1], front[0], n))  # fmt: skip
        return
    b.add("MatMul", [name, b.weight((k, n), 1 / np.sqrt(k))], (*front, n))


def attend(b: Builder) -> None:
    """softmax(q k^T) v, all three of one tensor with three axes."""
    name = b.pick(whole, lambda s: len(s) == 3)
    if name is None:
        return
    n, t, c = b.pool[name]
    q, k, v = (b.add("MatMul", [name, b.weight((c, c), 1 / np.sqrt(c))], (n, t, c))
               for _ in range(3))  # fmt: skip
    turned = b.add("Transpose", [k], (n, c, t), perm=[0, 2, 1])
    scores = b.add("MatMul", [q, turned], (n, t, t))
    b.add("MatMul", [b.add("Softmax", [scores], (n, t, t), axis=2), v], (n, t, c))


def rearrange(b: Builder) -> None:
    """Transpose, Reshape, Flatten, Squeeze or Unsqueeze; the batch stays where it is."""
    name = b.pick(matrices)
    if name is None:
        return
    shape = b.pool[name]
    op = b.draw(st.sampled_from(["Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]))
    if op == "Transpose":
        order = [0, *b.draw(st.permutations(range(1, len(shape))))]
        b.add(op, [name], tuple(shape[i] for i in order), perm=order)
    elif op == "Flatten":
        b.add(op, [name], (shape[0], prod(shape[1:])), axis=1)
    elif op == "Reshape" and whole(shape):  # axes 1 and 2 become one, or axis 1 gets one of 1
        new = (0, shape[1] * shape[2], *shape[3:]) if len(shape) > 2 else (0, 1, shape[1])
        b.add(op, [name, b.constant(np.array(new))], (shape[0], *new[1:]))
    elif op == "Unsqueeze" and len(shape) < 5:
        _at_axis(b, op, name, 1, (shape[0], 1, *shape[1:]))
    elif op == "Squeeze" and (ones := [i for i, d in enumerate(shape) if d == 1 and i]):
        _at_axis(b, op, name, ones[0], _without(shape, ones[0]))


def _at_axis(b: Builder, op: str, name: str, axis: int, shape: Shape) -> None:
    if b.opset < 13:
        b.add(op, [name], shape, axes=[axis])
    else:
        b.add(op, [name, b.constant(np.array([axis]))], shape)


def select(b: Builder) -> None:
    """Slice, to nothing too, or Resize."""
    name = b.pick(matrices)
    if name is None:
        return
    shape = b.pool[name]
    if b.chance() and resizable(shape):
        _resize(b, name, 2.0, "nearest")
        return
    axis = b.draw(st.integers(1, len(shape) - 1))
    start = b.draw(st.integers(0, shape[axis]))
    end = b.draw(st.integers(start, shape[axis]))
    new = (*shape[:axis], end - start, *shape[axis + 1 :])
    if b.opset < 10:
        b.add("Slice", [name], new, starts=[start], ends=[end], axes=[axis])
    else:
        b.add("Slice", [name, *(b.constant(np.array([i])) for i in (start, end, axis))], new)


def resizable(shape: Shape) -> bool:
    """Whether a tensor is a small image."""
    return len(shape) == 4 and 0 < prod(shape) < 1000


def _resize(b: Builder, name: str, by: float, mode: str) -> None:
    shape, scales = b.pool[name], b.constant(np.array([1, 1, by, by], np.float32))
    inputs = [name, scales]
    if b.opset > 10:  # until 13 nothing is said by a constant
        nothing = b.constant(np.zeros(0, np.float32)) if b.opset < 13 else ""
        inputs = [name, nothing, scales]
    new = (*shape[:2], int(by * shape[2]), int(by * shape[3]))
    b.add("Upsample" if b.opset < 10 else "Resize", inputs, new, mode=mode)


def enlarge(b: Builder) -> None:
    """Upsample or Resize by any factor, linear or not: each opset means something else by it."""
    name = b.pick(resizable)
    if name is not None:
        factor = b.draw(st.sampled_from([1.5, 2.0, 3.0]))
        _resize(b, name, factor, b.draw(st.sampled_from(["linear", "nearest"])))


def peak(b: Builder) -> None:
    """Softmax over an axis and, in old opsets, all behind it; Hardmax of the input, as rounding
    decides between values that are about the same."""
    name = b.pick(whole, matrices)
    if name is not None:
        axis = b.draw(st.integers(1, len(b.pool[name]) - 1))
        b.add("Hardmax" if name == "x" else "Softmax", [name], b.pool[name], axis=axis)


def reduce(b: Builder) -> None:
    """The mean of everything, a scalar, and a tensor times it; or of an axis."""
    name = b.pick(whole, matrices)
    if name is None:
        return
    shape = b.pool[name]
    if b.chance():
        mean = b.add("ReduceMean", [name], (), keepdims=0)
        b.add("Add", [name, mean], shape)
        return
    axis = b.draw(st.integers(1, len(shape) - 1))
    if b.opset < 18:
        b.add("ReduceMean", [name], _without(shape, axis), axes=[axis], keepdims=0)
    else:
        axes = b.constant(np.array([axis]))
        b.add("ReduceMean", [name, axes], _without(shape, axis), keepdims=0)


def branch(b: Builder) -> None:
    """If, by the input `x`, with a weighted op in one of its branches."""
    body = _weighted(b)
    if body is None:
        return
    name, work, written = body
    mean, flag = f"t{len(b.nodes)}_mean", f"t{len(b.nodes)}_flag"
    b.nodes.append(helper.make_node("ReduceMean", ["x"], [mean], keepdims=0))
    b.nodes.append(helper.make_node("Greater", [mean, b.constant(np.float32(0))], [flag]))
    other = helper.make_node("Neg", [name], [f"{written}_no"])
    bodies = [_body([*work], [], [written]), _body([other], [], [f"{written}_no"])]
    yes, no = bodies if b.chance() else bodies[::-1]
    b.add("If", [flag], b.pool[name], then_branch=yes, else_branch=no)


def repeat(b: Builder) -> None:
    """Loop, twice over a weighted op."""
    body = _weighted(b)
    if body is None:
        return
    name, work, written = body
    state, (go, on, i) = f"{written}_state", (f"{written}_{n}" for n in ("go", "on", "i"))
    for node in work:
        node.input[:] = [state if n == name else n for n in node.input]
    infos = [helper.make_tensor_value_info(*one, []) for one in ((i, 7), (go, 9))]
    infos.append(helper.make_tensor_value_info(state, 1, [None] * len(b.pool[name])))
    passing = helper.make_node("Identity", [go], [on])
    loop = _body([passing, *work], infos, [on, written])
    loop.output[0].type.tensor_type.elem_type = 9
    inputs = [b.constant(np.array(2)), b.constant(np.array(True)), name]
    b.add("Loop", inputs, b.pool[name], body=loop)


def _weighted(b: Builder) -> tuple[str, list[onnx.NodeProto], str] | None:
    """The tensor that a body works on, its nodes, which keep the shape, and what they write."""
    name = b.pick(whole, matrices)
    if name is None:
        return None
    shape, written = b.pool[name], f"t{len(b.nodes)}_inner"
    if images(shape) and b.chance():
        channels, ones = shape[1], [1] * (len(shape) - 2)
        weight = b.weight((channels, channels, *ones), 1 / np.sqrt(channels), shared=False)
        first = helper.make_node("Conv", [name, weight], [f"{written}_sum"])
    else:
        weight = b.weight((shape[-1], shape[-1]), 1 / np.sqrt(shape[-1]), shared=False)
        first = helper.make_node("MatMul", [name, weight], [f"{written}_sum"])
    return name, [first, helper.make_node("Tanh", [f"{written}_sum"], [written])], written


def _body(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[str]
) -> onnx.GraphProto:
    infos = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    return helper.make_graph(nodes, "body", inputs, infos)


def split(b: Builder) -> None:
    """A sequence of slices of a tensor, of which two are put together again."""
    name = b.pick(whole, matrices)
    if name is None:
        return
    shape = b.pool[name]
    sequence = f"t{len(b.nodes)}_slices"
    inputs = [name, b.constant(np.array(1))]
    b.nodes.append(helper.make_node("SplitToSequence", inputs, [sequence], axis=1))
    one = (shape[0], 1, *shape[2:])
    ends = [b.add("SequenceAt", [sequence, b.constant(np.array(k))], one) for k in (0, -1)]
    b.add("Concat", ends, (shape[0], 2, *shape[2:]), axis=1)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _declared(b: Builder, name: str, unknown: bool) -> onnx.ValueInfoProto:
    """What the model says of an output: its rank, mostly; or nothing, or what is not true. The last
    not where shapes are `unknown`, and nothing could contradict it."""
    rank = len(b.pool[name])
    wrong = [] if unknown else [[], [1] * rank]
    said = b.draw(st.sampled_from([[None] * rank] * 6 + [None, *wrong]))
    return helper.make_tensor_value_info(name, 1, said)


def with_odd_outputs(case: Generated) -> Generated:
    """The same with outputs that are hard to compare, made of the first with values: masked by
    -inf, the classes of an ArgMax, and the values over 0, however many."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, name = model.graph, case.model.graph.output[0].name
    graph.initializer.extend([
        from_array(np.float32(-np.inf), "none"), from_array(np.float32(0), "zero"),
        from_array(np.array([-1]), "flat"), from_array(np.array([True]), "seen"),
    ])  # fmt: skip
    graph.node.extend([
        helper.make_node("Reshape", [name, "flat"], ["line"]),
        helper.make_node("Concat", ["line", "line"], ["twice"], axis=0),
        helper.make_node("Greater", ["line", "zero"], ["over"]),
        helper.make_node("Compress", ["line", "over"], ["kept"], axis=0),
        helper.make_node("Not", ["seen"], ["unseen"]),
        helper.make_node("Where", ["unseen", "line", "none"], ["masked"]),
        helper.make_node("Concat", ["line", "masked"], ["half"], axis=0),
        helper.make_node("ArgMax", ["twice"], ["class"], axis=0),
    ])  # fmt: skip
    for output, kind in (("kept", 1), ("masked", 1), ("half", 1), ("class", 7)):
        graph.output.append(helper.make_tensor_value_info(output, kind, [None]))
    return replace(case, model=model)


PLAIN = (block, block, block, convolve, multiply, multiply, normalize, activate, activate, compute,
         join, concatenate, pool, attend, deconvolve, rearrange, select, reduce)  # fmt: skip
STEPS = (*PLAIN, branch, repeat, split)
# and what onnx's version converter has to carry over
OLD = (*PLAIN, enlarge, enlarge, enlarge, peak, peak, normalize, normalize)
STARTS = st.one_of(
    st.tuples(st.sampled_from([1, 3, 4, 8]), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 8)),
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)


@st.composite
def generated(draw: Draw, steps: int = 20, samples: int = 3) -> Generated:
    """A model of three to `steps` steps with `samples` times its batch in data."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    free, batch = draw(st.booleans()), draw(st.integers(1, 2))
    start = (batch, *draw(STARTS))
    opset = draw(st.sampled_from([9, 10, 12, 13, 17, 21]))
    b = Builder(draw, rng, free, opset, {"x": start})
    for _ in range(draw(st.integers(3, steps))):
        draw(st.sampled_from(STEPS if opset > 12 else OLD))(b)
    made = [name for name in b.pool if name != "x"]
    if not made:
        b.add("Relu", ["x"], start)
        made = ["t0"]
    read = {name for node in b.nodes for name in node.input}
    ends = [name for name in made if name not in read]
    inner = [name for name in made if name in read and not draw(st.integers(0, 7))]
    x = helper.make_tensor_value_info("x", 1, ["N" if free else batch, *start[1:]])
    if unknown := free and not draw(st.integers(0, 7)):  # data then comes a sample at a time
        x.type.tensor_type.ClearField("shape")
    unknown = unknown or any(node.op_type in ("Loop", "SplitToSequence") for node in b.nodes)
    outputs = [_declared(b, name, unknown) for name in ends + inner]
    weights = [from_array(values, name) for name, values in b.weights.items()]
    title = "generated" if draw(st.integers(0, 7)) else ""
    graph = helper.make_graph(b.nodes, title, [x], outputs, weights)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10 if opset > 17 else 8)
    size = 1.0 if draw(st.integers(0, 7)) else SMALL
    data = rng.normal(0, size, (batch * samples, *start[1:])).astype(np.float32)
    return Generated(model, data, batch)
