"""A small model that streams: a convolution with a cache and a gated cell that forgets slowly, both
fed back; and the same model unrolled over a sequence, as one graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

FEEDBACK = {"cache_out": "cache", "h_out": "h"}
PAIRS = tuple(f"{out}={name}" for out, name in FEEDBACK.items())
OPTIONS = tuple(word for pair in PAIRS for word in ("--feedback", pair))
SHAPES = {"x": (1, 8, 4), "cache": (1, 8, 2), "h": (1, 32, 4)}

BODY = """(float[1,8,4] x, float[1,8,2] cache, float[1,32,4] h)
    => (float[1,16,4] y, float[1,8,2] cache_out, float[1,32,4] h_out) {
    joined = Concat <axis = 2> (cache, x)
    conv = Conv (joined, wc, bc)
    act = Relu (conv)
    cache_out = Slice (joined, four, six, two)
    gate_x = Conv (act, wz, bz)
    gate_h = Conv (h, uz)
    open = Add (gate_x, gate_h)
    z = Sigmoid (open)
    new_x = Conv (act, wn)
    new_h = Conv (h, un)
    sum = Add (new_x, new_h)
    n = Tanh (sum)
    gap = Sub (h, n)
    kept = Mul (z, gap)
    h_out = Add (n, kept)
    y = Conv (h_out, wy, by)
}"""


def streaming_model(seed: int = 0) -> onnx.ModelProto:
    """x, and what is fed back, to y: a tenth of the state is new in each sample, so that it grows
    to ten times what one sample gives."""
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {BODY}')
    wide = {name: (32, 32, 1) for name in ("wz", "uz", "wn", "un")}
    shapes = {"wc": (32, 8, 3), "bc": (32,), **wide, "wy": (16, 32, 1), "by": (16,)}
    scale = {"uz": 0.1, "un": 0.3}  # of what the state says
    weights = {n: scale.get(n, 1) * rng.normal(0, np.prod(s[1:]) ** -0.5, s)
               for n, s in shapes.items()}  # fmt: skip
    weights["bz"] = np.full(32, 2.2)
    for name, x in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(x.astype(np.float32), name))
    for name, value in {"two": 2, "four": 4, "six": 6}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    return model


def sequences(count: int, steps: int, seed: int = 1) -> list[np.ndarray]:
    """Seeded sequences of x, each [steps, 8, 4]: noise on a level of its own."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(0, 1, (1, 8, 1)) + rng.normal(0, 0.5, (steps, 8, 4))).astype(np.float32)
        for _ in range(count)
    ]


def unrolled(model: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """One graph of `steps` copies; tensor t of step k is `t@k`, a state what the step before
    wrote."""
    nodes, inputs, outputs = [], [], []
    weights = {tensor.name for tensor in model.graph.initializer}

    def at(name: str, k: int) -> str:
        source = {v: o for o, v in FEEDBACK.items()}.get(name)
        if name in weights:
            return name
        return f"{source}@{k - 1}" if source and k else f"{name}@{k}"

    for k in range(steps):
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.output[0]}@{k}"
            copy.input[:] = [at(name, k) for name in node.input]
            copy.output[:] = [at(name, k) for name in node.output]
            nodes.append(copy)
        names = SHAPES if k == 0 else ["x"]
        inputs += [helper.make_tensor_value_info(f"{n}@{k}", 1, SHAPES[n]) for n in names]
        outputs.append(helper.make_tensor_value_info(f"y@{k}", 1, [1, 16, 4]))
    graph = helper.make_graph(nodes, "unrolled", inputs, outputs, model.graph.initializer)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
