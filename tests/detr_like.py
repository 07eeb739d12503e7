"""A small DETR with query selection, in ONNX text and seeded: as RT-DETR is exported.

A backbone of Convs, an encoder of one attention block, a TopK over its class scores that picks
queries, and decoder layers that attend to each other and sample the encoder's map by GridSample,
written out as deformable attention is. Boxes are refined layer by layer.
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array

D, HEADS, POINTS, QUERIES, CLASSES, SIDE = 64, 4, 4, 20, 8, 8
HEAD, TOKENS = D // HEADS, SIDE * SIDE
LAYERS = 2


def detr(seed: int = 0) -> tuple[str, dict[str, Array]]:
    """(the graph's text, its constants): images [1, 3, 64, 64] -> scores [1, 20, 8] after a
    Sigmoid, boxes [1, 20, 4] from 0 to 1."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "heads": np.array([1, TOKENS, HEADS, HEAD]), "flat": np.array([1, TOKENS, D]),
        "qheads": np.array([1, QUERIES, HEADS, HEAD]), "qflat": np.array([1, QUERIES, D]),
        "rows": np.array([1, D, TOKENS]), "k": np.array([QUERIES]), "last": np.array([2]),
        "deep": np.array([1, 1, D]), "four": np.array([1, 1, 4]),
        "map": np.array([HEADS, HEAD, SIDE, SIDE]), "one": np.array(1, np.float32),
        "points": np.array([1, QUERIES, HEADS, POINTS * 2]), "two": np.array(2, np.float32),
        "grid": np.array([HEADS, QUERIES, POINTS, 2]), "xy": np.array([1, QUERIES, 1, 2]),
        "weights": np.array([1, QUERIES, HEADS, POINTS]), "ones": np.ones(D, np.float32),
        "wgrid": np.array([HEADS, 1, QUERIES, POINTS]), "scale": np.array(HEAD**-0.5, np.float32),
        "start": np.array([0]), "stop": np.array([2]),
        "tiny": np.array(1e-3, np.float32), "summed": np.array([3]),
        "spread": np.array(0.15, np.float32),
    }  # fmt: skip

    def weight(name: str, *shape: int, gain: float = 1.0) -> str:
        fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
        constants[name] = rng.normal(0, gain * fan**-0.5, shape).astype(np.float32)
        return name

    def attention(p: str, x: str, shape: str, flat: str) -> str:
        lines = [f"[{p}_norm] {p}n = LayerNormalization({x}, ones)"]
        for one, perm in (("q", "0, 2, 1, 3"), ("k", "0, 2, 3, 1"), ("v", "0, 2, 1, 3")):
            lines += [f"[{p}_{one}] {p}{one}m = MatMul({p}n, {weight(f'{p}w{one}', D, D)})",
                      f"{p}{one}r = Reshape({p}{one}m, {shape})",
                      f"{p}{one} = Transpose<perm = [{perm}]>({p}{one}r)"]  # fmt: skip
        return "\n".join([*lines,
            f"{p}s = Mul({p}q, scale) [{p}_qk] {p}qk = MatMul({p}s, {p}k)",
            f"{p}p = Softmax<axis = -1>({p}qk) [{p}_pv] {p}pv = MatMul({p}p, {p}v)",
            f"{p}o = Transpose<perm = [0, 2, 1, 3]>({p}pv) {p}f = Reshape({p}o, {flat})",
            f"[{p}_out] {p}z = MatMul({p}f, {weight(f'{p}wo', D, D)})",
            f"{p}y = Add({x}, {p}z)"])  # fmt: skip

    def ffn(p: str, x: str) -> str:
        return f"""{p}fn = LayerNormalization({x}, ones)
            [{p}_up] {p}u = MatMul({p}fn, {weight(f"{p}w1", D, 2 * D)}) {p}a = Relu({p}u)
            [{p}_down] {p}d = MatMul({p}a, {weight(f"{p}w2", 2 * D, D)}) {p}e = Add({x}, {p}d)"""

    def decoder(p: str, x: str, ref: str) -> str:
        return f"""{attention(f"{p}self", x, "qheads", "qflat")}
            [{p}_value] {p}vm = MatMul(memory, {weight(f"{p}wv", D, D)})
            {p}vt = Transpose<perm = [0, 2, 1]>({p}vm) {p}map = Reshape({p}vt, map)
            [{p}_offsets] {p}om = MatMul({p}selfy, {weight(f"{p}woff", D, HEADS * POINTS * 2)})
            {p}or = Reshape({p}om, points) {p}ot = Transpose<perm = [0, 2, 1, 3]>({p}or)
            {p}og = Reshape({p}ot, grid) {p}os = Mul({p}og, spread)
            {p}xy0 = Slice({ref}, start, stop, last) {p}xy = Reshape({p}xy0, xy)
            {p}xyt = Transpose<perm = [0, 1, 2, 3]>({p}xy) {p}x2 = Mul({p}xyt, two)
            {p}xg = Sub({p}x2, one) {p}xr = Transpose<perm = [2, 1, 0, 3]>({p}xg)
            {p}g = Add({p}os, {p}xr)
            {p}sampled = GridSample<mode = "bilinear">({p}map, {p}g)
            [{p}_weights] {p}wm = MatMul({p}selfy, {weight(f"{p}ww", D, HEADS * POINTS)})
            {p}wr = Reshape({p}wm, weights) {p}ws = Softmax<axis = -1>({p}wr)
            {p}wt = Transpose<perm = [0, 2, 1, 3]>({p}ws) {p}wg = Reshape({p}wt, wgrid)
            {p}mul = Mul({p}sampled, {p}wg) {p}sum = ReduceSum<keepdims = 0>({p}mul, summed)
            {p}c0 = Transpose<perm = [2, 0, 1]>({p}sum) {p}c = Reshape({p}c0, qflat)
            [{p}_cross] {p}cz = MatMul({p}c, {weight(f"{p}wc", D, D)}) {p}cy = Add({p}selfy, {p}cz)
            {ffn(p, f"{p}cy")}
            [{p}_delta] {p}delta = MatMul({p}e, {weight(f"{p}wd", D, 4, gain=0.3)})
            {p}not = Sub(one, {ref}) {p}lo = Max({ref}, tiny) {p}hi = Max({p}not, tiny)
            {p}ratio = Div({p}lo, {p}hi) {p}logit = Log({p}ratio) {p}moved = Add({p}logit, {p}delta)
            {p}ref = Sigmoid({p}moved)"""

    layers, query, ref = [], "query", "ref"
    for i in range(LAYERS):
        layers.append(decoder(f"dec{i}", query, ref))
        query, ref = f"dec{i}e", f"dec{i}ref"
    conv = "Conv<strides = [2, 2], pads = [1, 1, 1, 1]>"
    body = f"""(float[1, 3, 64, 64] images) => (float[1, 20, 8] scores, float[1, 20, 4] boxes) {{
        [back_c0] b0 = {conv}(images, {weight("bw0", 16, 3, 3, 3, gain=1.4)}) r0 = Relu(b0)
        [back_c1] b1 = {conv}(r0, {weight("bw1", 32, 16, 3, 3, gain=1.4)}) r1 = Relu(b1)
        [back_c2] b2 = {conv}(r1, {weight("bw2", D, 32, 3, 3, gain=1.4)}) r2 = Relu(b2)
        b3 = Reshape(r2, rows) tokens = Transpose<perm = [0, 2, 1]>(b3)
        {attention("enc", "tokens", "heads", "flat")}
        {ffn("enc", "ency")}
        memory = LayerNormalization(ence, ones)
        [enc_score] es = MatMul(memory, {weight("wes", D, 16, gain=2)})
        [enc_box] eb = MatMul(memory, {weight("web", D, 4)}) ep = Sigmoid(eb)
        best = ReduceMax<axes = [2], keepdims = 0>(es) top, at = TopK<axis = 1>(best, k)
        at3 = Unsqueeze(at, last) atd = Tile(at3, deep) at4 = Tile(at3, four)
        query = GatherElements<axis = 1>(memory, atd) ref = GatherElements<axis = 1>(ep, at4)
        {" ".join(layers)}
        [head_class] logits = MatMul({query}, {weight("wcls", D, CLASSES)})
        scores = Sigmoid(logits) boxes = Identity({ref})
    }}"""
    return body, constants


def images(count: int, seed: int = 1) -> Array:
    """Smooth images [count, 3, 64, 64] from 0 to 1, each with a few rectangles."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 0.2, (count, 3, 64, 64)).astype(np.float32)
    for image in found:
        for _ in range(4):
            y, x = rng.integers(0, 48, 2)
            h, w = rng.integers(6, 24, 2)
            image[:, y : y + h, x : x + w] += rng.uniform(0, 0.8, (3, 1, 1)).astype(np.float32)
    return np.clip(found, 0, 1)
