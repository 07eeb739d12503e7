"""Vision transformers, seeded: what runs in INT8 and how near it is, into docs/models.md.

    python benchmarks/vision.py [--write docs/models.md] [--model vit.onnx --images calib/]

ViT: patches, a class token, one projection for q, k and v, GELU by Erf, LayerNormalization.
Swin-like: windows of 7 x 7, rolled by 3 in every second block (Slice, Concat), a bias of places
and a mask of -100 on the scores, LayerNormalization out of single ops, GELU by Tanh, patches
merged once. DETR: that of tests/detr_like.py, with a selection of queries. `--model` adds a real
one that takes 224 x 224 images. Engines need no GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from markdown import table
from onnx import TensorProto, helper, numpy_helper

import onnxq
from onnxq.model.graph import load
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import load_engine
from onnxq.trt.verdict import judge

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from detr_like import detr, images

BEGIN, END = "<!-- vision: begin -->", "<!-- vision: end -->"
HEAD = ["model", "around it", "SQNR dB", "products in INT8", "others", "kernels"]
OPSET, SIDE, WINDOW, SHIFT, HEAD_DIM = 17, 56, 7, 3, 32
Array = np.ndarray


class Net:
    """An ONNX graph under construction, its weights seeded."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def const(self, values: Any) -> str:
        """A constant, float32 where it is a float; returns its tensor."""
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def normal(self, *shape: int, size: float) -> str:
        """Random weights."""
        return self.const(self.random.normal(0, size, shape))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns its output tensor, or the list of them."""
        name = f"/{kind}_{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        return names if outputs > 1 else names[0]

    def reshape(self, x: str, *shape: int) -> str:
        """`x` in that shape."""
        return str(self.op("Reshape", x, self.const(np.array(shape))))

    def dense(self, x: str, wide: int, out: int) -> str:
        """MatMul and Add."""
        product = self.op("MatMul", x, self.normal(wide, out, size=wide**-0.5))
        return str(self.op("Add", product, self.normal(out, size=0.1)))

    def norm(self, x: str, wide: int, fused: bool) -> str:
        """LayerNormalization over the last axis, as one op or as many."""
        gain = 1 + 0.2 * self.random.standard_normal(wide)
        scale, shift = self.const(gain), self.normal(wide, size=0.1)
        if fused:
            return str(self.op("LayerNormalization", x, scale, shift, axis=-1))
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        square = self.op("Pow", centred, self.const(2.0))
        variance = self.op("Add", self.op("ReduceMean", square, axes=[-1]), self.const(1e-6))
        normal = self.op("Div", centred, self.op("Sqrt", variance))
        return str(self.op("Add", self.op("Mul", normal, scale), shift))

    def gelu(self, x: str, by_erf: bool) -> str:
        """x times the share of a normal distribution below it, by Erf or nearly so by Tanh."""
        if by_erf:
            share = self.op("Erf", self.op("Div", x, self.const(2**0.5)))
        else:
            cube = self.op("Mul", self.op("Pow", x, self.const(3.0)), self.const(0.044715))
            inner = self.op("Mul", self.op("Add", x, cube), self.const((2 / np.pi) ** 0.5))
            share = self.op("Tanh", inner)
        half = self.op("Mul", x, self.const(0.5))
        return str(self.op("Mul", half, self.op("Add", share, self.const(1.0))))

    def attention(self, x: str, tokens: int, wide: int, extra: list[Array]) -> str:
        """softmax(q k^T + extra) v of `x` [n, tokens, wide] by one projection."""
        heads = wide // HEAD_DIM
        five = self.reshape(self.dense(x, wide, 3 * wide), -1, tokens, 3, heads, HEAD_DIM)
        parts = self.op("Transpose", five, perm=[2, 0, 3, 1, 4])
        q, k, v = (self.op("Gather", parts, self.const(np.array(i)), axis=0) for i in range(3))
        q = self.op("Mul", q, self.const(HEAD_DIM**-0.5))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        for added in extra:
            scores = self.op("Add", scores, self.const(added))
        out = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        flat = self.reshape(self.op("Transpose", out, perm=[0, 2, 1, 3]), -1, tokens, wide)
        return self.dense(flat, wide, wide)

    def mlp(self, x: str, wide: int, fused: bool) -> str:
        """x and what two products make of its norm."""
        inner = self.gelu(self.dense(self.norm(x, wide, fused), wide, 4 * wide), fused)
        return str(self.op("Add", x, self.dense(inner, 4 * wide, wide)))

    def patches(self, size: int, wide: int) -> str:
        """The image as tokens [1, n, wide] of size x size pixels."""
        weight = self.normal(wide, 3, size, size, size=(3 * size * size) ** -0.5)
        bias = self.normal(wide, size=0.1)
        maps = self.op("Conv", "x", weight, bias, strides=[size, size])
        return str(self.op("Transpose", self.reshape(maps, 1, wide, -1), perm=[0, 2, 1]))

    def model(self, y: str, side: int, classes: int) -> onnx.ModelProto:
        """The whole, of an image `x` [1, 3, side, side] and logits `y`."""
        self.op("Identity", y)
        self.nodes[-1].output[0] = "y"
        value = helper.make_tensor_value_info
        x = value("x", TensorProto.FLOAT, [1, 3, side, side])
        y_info = value("y", TensorProto.FLOAT, [1, classes])
        graph = helper.make_graph(self.nodes, "g", [x], [y_info], self.constants)
        imports = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def vit(depth: int = 4, wide: int = 192, side: int = 112, size: int = 16) -> onnx.ModelProto:
    """A ViT of `depth` blocks."""
    net, tokens = Net(), (side // size) ** 2 + 1
    image = net.patches(size, wide)
    token = net.normal(1, 1, wide, size=0.5)
    x = net.op("Add", net.op("Concat", token, image, axis=1), net.normal(1, tokens, wide, size=0.3))
    for _ in range(depth):
        x = net.op("Add", x, net.attention(net.norm(x, wide, True), tokens, wide, []))
        x = net.mlp(x, wide, True)
    first = net.op("Gather", net.norm(x, wide, True), net.const(np.array(0)), axis=1)
    return net.model(net.dense(first, wide, 100), side, 100)


def swin(depth: int = 2, wide: int = 64, size: int = 4) -> onnx.ModelProto:
    """A Swin-like model: two stages of `depth` blocks, patches merged between them."""
    net, edge = Net(), SIDE // size
    x = net.patches(size, wide)
    for stage in range(2):
        for k in range(depth):
            x = _windowed(net, x, edge, wide, SHIFT if k % 2 and edge > WINDOW else 0)
            x = net.mlp(x, wide, False)
        if stage == 0:
            halves = net.reshape(x, 1, edge // 2, 2, edge // 2, 2, wide)
            near = net.op("Transpose", halves, perm=[0, 1, 3, 4, 2, 5])
            edge, wide = edge // 2, 2 * wide
            x = net.reshape(near, 1, edge * edge, 2 * wide)
            x = net.dense(net.norm(x, 2 * wide, False), 2 * wide, wide)
    mean = net.op("ReduceMean", net.norm(x, wide, False), axes=[1], keepdims=0)
    return net.model(net.dense(mean, wide, 100), SIDE, 100)


def _windowed(net: Net, x: str, edge: int, wide: int, shift: int) -> str:
    """x and the attention within its windows, rolled by `shift`."""
    n, tokens, heads = edge // WINDOW, WINDOW * WINDOW, wide // HEAD_DIM
    square = net.reshape(net.norm(x, wide, False), 1, edge, edge, wide)
    rolled = _rolled(net, square, shift, edge)
    cut = net.reshape(rolled, 1, n, WINDOW, n, WINDOW, wide)
    windows = net.reshape(net.op("Transpose", cut, perm=[0, 1, 3, 2, 4, 5]), -1, tokens, wide)
    extra = [net.random.normal(0, 0.5, (1, heads, tokens, tokens))]
    if shift:
        extra.append(_mask(edge, shift))
    out = net.attention(windows, tokens, wide, extra)
    back = net.reshape(out, 1, n, n, WINDOW, WINDOW, wide)
    back = net.reshape(net.op("Transpose", back, perm=[0, 1, 3, 2, 4, 5]), 1, edge, edge, wide)
    flat = net.reshape(_rolled(net, back, edge - shift, edge), 1, edge * edge, wide)
    return str(net.op("Add", x, flat))


def _rolled(net: Net, x: str, shift: int, edge: int) -> str:
    """`x` [1, edge, edge, wide] rolled towards the first row and column."""
    for axis in (1, 2) if shift % edge else ():
        ends = [net.const(np.array([v])) for v in (0, shift, edge, axis)]
        head = net.op("Slice", x, ends[0], ends[1], ends[3])
        tail = net.op("Slice", x, ends[1], ends[2], ends[3])
        x = net.op("Concat", tail, head, axis=axis)
    return x


def _mask(edge: int, shift: int) -> Array:
    """-100 between tokens of a window that the roll brought together."""
    part = np.zeros((edge, edge))
    spans = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for k, (rows, columns) in enumerate((r, c) for r in spans for c in spans):
        part[rows, columns] = k
    n = edge // WINDOW
    cut = part.reshape(n, WINDOW, n, WINDOW).transpose(0, 2, 1, 3).reshape(n * n, 1, -1)
    return np.where(cut[..., None] == cut[..., None, :], 0.0, -100.0)


def rows(name: str, model: Path, data: Any, folder: Path, **options: Any) -> list[list[str]]:
    """A row for FP32 and one for FP16 around the INT8 products."""
    found = []
    for around in ("fp32", "fp16"):
        made = onnxq.quantize(model, data, high_precision=around, **options)
        path = folder / f"{name}.{around}.onnx"
        made.save(path)
        result = build(path, path.with_suffix(".engine"), options=BuildOptions("tensorrt-rtx"))
        assert result.engine is not None, result.problems
        verdict = judge(load(path), load_engine(result.engine))
        worst = min(a.sqnr_db for a in made.agreement.judged.values())
        others = Counter(p for p in verdict.real.values() if p != "int8")
        left = ", ".join(f"{n} {p}" for p, n in others.items()) or "-"
        covered = f"{verdict.covered} of {len(verdict.meant)}"
        kernels = str(len(verdict.engine.kernels))
        found.append([name, around.upper(), f"{worst:.1f}", covered, left, kernels])
        print(*found[-1], flush=True)
    return found


def main() -> None:
    """Print the table, or write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the document to write the table into")
    parser.add_argument("--model", type=Path, help="a real vision transformer")
    parser.add_argument("--images", type=Path, help="images to calibrate it on")
    arguments = parser.parse_args()
    lines = []
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="onnxq-") as folder:
        for name, model, side in (("ViT, seeded", vit(), 112), ("Swin-like, seeded", swin(), SIDE)):
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            data = random.standard_normal((32, 3, side, side)).astype(np.float32)
            lines += rows(name, path, data, Path(folder))
        text, constants = detr()
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {OPSET}]> g {text}')
        model.graph.initializer.extend(numpy_helper.from_array(x, n) for n, x in constants.items())
        onnx.save(model, path)
        lines += rows("DETR, seeded", path, images(32), Path(folder))
        if arguments.model:
            given = [str(arguments.images)]
            lines += rows(arguments.model.stem, arguments.model, given, Path(folder),
                          preprocess="imagenet", samples=32)  # fmt: skip
    text = table(HEAD, lines)
    if arguments.write:
        before, _, rest = arguments.write.read_text("utf-8").partition(BEGIN)
        written = f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}"
        arguments.write.write_text(written, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
