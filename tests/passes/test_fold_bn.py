"""BatchNormalization is folded wherever that is exact, and nowhere else."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.cancel_transposes import cancel_transposes
from onnxq.passes.fold_bn import fold_bn
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.prepare import prepare

BN = "BatchNormalization<epsilon = 0.001>"
CONV = (
    f"(float[N,4,7,7] x) => (float[N,6,5,5] y) {{a = Conv(x, w) b = {BN}(a,g,s,m,v) y = Relu(b)}}"
)
LINEAR = f"""(float[N,5,4] x) => (float[N,5,6] y) {{
    a = MatMul(x, w)
    t = Transpose<perm = [0, 2, 1]>(a)
    b = {BN}(t, g, s, m, v)
    u = Transpose<perm = [0, 2, 1]>(b)
    y = Relu(u)
}}"""
LINEAR_BIAS = LINEAR.replace("a = MatMul(x, w)", "p = MatMul(x, w) a = Add(c, p)")
MATRIX = f"(float[N,4] x) => (float[N,6] y) {{a = OP b = {BN}(a,g,s,m,v) y = Relu(b)}}"


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def norm(channels, seed=1):
    """Scale, bias, mean and variance of a trained-looking BatchNormalization."""
    rng = np.random.default_rng(seed)
    return {
        "g": rng.uniform(-2, 2, channels).astype(np.float32),
        "s": rng.standard_normal(channels).astype(np.float32),
        "m": rng.standard_normal(channels).astype(np.float32),
        "v": rng.uniform(0.01, 3, channels).astype(np.float32),
    }


def conv(channels_in, channels_out):
    return {"w": floats(channels_out, channels_in, 3, 3), **norm(channels_out)}


def ops(graph):
    return [node.op for node in graph.nodes]


FOLDS = {
    "conv": (CONV, conv(4, 6), ["Conv", "Relu"]),
    "conv with bias": (
        CONV.replace("(x, w)", "(x, w, c)"),
        conv(4, 6) | {"c": floats(6)},
        ["Conv", "Relu"],
    ),
    "grouped conv": (CONV.replace("Conv(", "Conv<group = 2>("), conv(2, 6), ["Conv", "Relu"]),
    "conv and a constant added": (
        CONV.replace("a = Conv(x, w)", "p = Conv(x, w) a = Add(p, c)"),
        conv(4, 6) | {"c": floats(1, 6, 1, 1)},
        ["Conv", "Relu"],
    ),
    "conv and a scalar added": (
        CONV.replace("a = Conv(x, w)", "p = Conv(x, w) a = Add(c, p)"),
        conv(4, 6) | {"c": np.float32(0.5).reshape(())},
        ["Conv", "Relu"],
    ),
    "default epsilon": (CONV.replace("<epsilon = 0.001>", ""), conv(4, 6), ["Conv", "Relu"]),
    "conv at the output": (
        f"(float[N,4,7,7] x) => (float[N,6,5,5] y) {{a = Conv(x, w) y = {BN}(a,g,s,m,v)}}",
        conv(4, 6),
        ["Conv"],
    ),
    "deconv": (
        CONV.replace("Conv(", "ConvTranspose<strides = [2, 2]>(").replace("5,5] y", "15,15] y"),
        {"w": floats(4, 6, 3, 3), **norm(6)},
        ["ConvTranspose", "Relu"],
    ),
    "grouped deconv": (
        CONV.replace("Conv(", "ConvTranspose<group = 2>(").replace("5,5] y", "9,9] y"),
        {"w": floats(4, 3, 3, 3), **norm(6)},
        ["ConvTranspose", "Relu"],
    ),
    "gemm": (
        MATRIX.replace("OP", "Gemm(x, w)"),
        {"w": floats(4, 6), **norm(6)},
        ["Gemm", "Relu"],
    ),
    "gemm with everything": (
        MATRIX.replace("OP", "Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, c)"),
        {"w": floats(6, 4), "c": floats(1, 6), **norm(6)},
        ["Gemm", "Relu"],
    ),
    "gemm with a scalar bias": (
        MATRIX.replace("OP", "Gemm<beta = 3.0>(x, w, c)"),
        {"w": floats(4, 6), "c": floats(1), **norm(6)},
        ["Gemm", "Relu"],
    ),
    "gemm without its bias": (
        MATRIX.replace("OP", "Gemm<beta = 0.0>(x, w, c)"),
        {"w": floats(4, 6), "c": floats(6), **norm(6)},
        ["Gemm", "Relu"],
    ),
    "matmul": (
        MATRIX.replace("OP", "MatMul(x, w)"),
        {"w": floats(4, 6), **norm(6)},
        ["MatMul", "Add", "Relu"],
    ),
    "linear over three dimensions": (
        LINEAR,
        {"w": floats(4, 6), **norm(6)},
        ["MatMul", "Add", "Relu"],
    ),
    "linear with bias over three dimensions": (
        LINEAR_BIAS,
        {"w": floats(4, 6), "c": floats(6), **norm(6)},
        ["MatMul", "Add", "Relu"],
    ),
    "before a conv": (
        f"(float[N,4,7,7] x) => (float[N,6,5,5] y) {{a = {BN}(x,g,s,m,v) y = Conv(a, w)}}",
        {"w": floats(6, 4, 3, 3), **norm(4)},
        ["Conv"],
    ),
    "before a grouped conv with bias": (
        f"(float[N,4,7,7] x) => (float[N,6,5,5] y)"
        f"{{a = {BN}(x,g,s,m,v) y = Conv<group = 2>(a, w, c)}}",
        {"w": floats(6, 2, 3, 3), "c": floats(6), **norm(4)},
        ["Conv"],
    ),
    "before a padded conv, without a shift": (
        f"(float[N,4,7,7] x) => (float[N,6,7,7] y)"
        f"{{a = {BN}(x,g,s,m,v) y = Conv<pads = [1, 1, 1, 1]>(a, w)}}",
        {"w": floats(6, 4, 3, 3), **norm(4), "s": np.zeros(4, "f"), "m": np.zeros(4, "f")},
        ["Conv"],
    ),
    "before a gemm with everything": (
        f"(float[N,4] x) => (float[N,6] y) {{a = {BN}(x,g,s,m,v) "
        "y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(a, w, c)}",
        {"w": floats(6, 4), "c": floats(6), **norm(4)},
        ["Gemm"],
    ),
    "before a matmul": (
        f"(float[N,4] x) => (float[N,6] y) {{a = {BN}(x,g,s,m,v) b = MatMul(a, w) y = Relu(b)}}",
        {"w": floats(4, 6), **norm(4)},
        ["MatMul", "Add", "Relu"],
    ),
    "before a matmul at the output": (
        f"(float[N,4] x) => (float[N,6] y) {{a = {BN}(x,g,s,m,v) y = MatMul(a, w)}}",
        {"w": floats(4, 6), **norm(4)},
        ["MatMul", "Add"],
    ),
    "before a gemm, over a flatten": (
        f"(float[N,4,3,5] x) => (float[N,6] y) "
        f"{{a = {BN}(x,g,s,m,v) f = Flatten(a) y = Gemm(f, w, c)}}",
        {"w": floats(60, 6), "c": floats(6), **norm(4)},
        ["Flatten", "Gemm"],
    ),
    "before a matmul, over a reshape": (
        f"(float[N,4,3,5] x) => (float[N,6] y) "
        f"{{a = {BN}(x,g,s,m,v) f = Reshape(a, rows) b = MatMul(f, w) y = Relu(b)}}",
        {"w": floats(60, 6), "rows": np.array([0, -1]), **norm(4)},
        ["Reshape", "MatMul", "Add", "Relu"],
    ),
}


@pytest.mark.parametrize("case", FOLDS)
def test_it_folds_and_preserves_the_numbers(graph_of, run_graph, case):
    body, weights, expected = FOLDS[case]
    graph = graph_of(body, weights)
    before = to_proto(graph)
    once = apply(graph, infer_shapes, fold_bn, cancel_transposes)
    assert ops(once) == expected
    assert to_proto(graph) == before
    assert fold_bn(once) == 0
    shape = [3 if d == "N" else d for d in graph.inputs[0].shape]
    feeds = {"x": floats(*shape, seed=2)}
    (ref,), (out,) = run_graph(graph, feeds), run_graph(once, feeds)
    # Weights rounded once to float32 and sums of under 100 terms: a few hundred times 2^-24.
    np.testing.assert_allclose(out, ref, rtol=1e-5, atol=2e-5 * np.abs(ref).max())


@settings(max_examples=60, deadline=None)
@given(
    group=st.sampled_from([1, 2, 3]),
    deconv=st.booleans(),
    bias=st.booleans(),
    epsilon=st.floats(1e-7, 0.1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_positive_variance_folds(graph_of, run_graph, group, deconv, bias, epsilon, seed):
    rng = np.random.default_rng(seed)
    c_in, c_out = 2 * group, 3 * group
    shape = (c_in, c_out // group, 2, 2) if deconv else (c_out, c_in // group, 2, 2)
    op = "ConvTranspose" if deconv else "Conv"
    graph = graph_of(
        f"(float[N,{c_in},4,4] x) => (float[N,{c_out},H,W] y) {{"
        f"a = {op}<group = {group}>(x, w{', c' if bias else ''})"
        f"y = BatchNormalization<epsilon = {epsilon:.9f}>(a, g, s, m, v)}}",
        {
            "w": rng.standard_normal(shape).astype(np.float32),
            "c": rng.standard_normal(c_out).astype(np.float32),
            **norm(c_out, seed),
            "v": (10.0 ** rng.uniform(-8, 3, c_out)).astype(np.float32),
        },
    )
    once = apply(graph, fold_bn)
    assert ops(once) == [op]
    feeds = {"x": rng.standard_normal((2, c_in, 4, 4)).astype(np.float32)}
    (ref,), (out,) = run_graph(graph, feeds), run_graph(once, feeds)
    # Where the mean cancels what comes in, the float32 BN itself is only good to 2^-24 of the
    # largest term, which a small variance magnifies: compare on the scale of those terms.
    magnified = np.abs(ref).max(axis=(0, 2, 3), keepdims=True) + norm_scale(graph, epsilon)
    assert np.all(np.abs(out - ref) <= 1e-5 * magnified)


def norm_scale(graph, epsilon):
    """|gamma / sqrt(var + epsilon)| times the size of what is subtracted, per channel."""
    t = {
        name: np.asarray(tensor.values, float)
        for name, tensor in graph.tensors().items()
        if name in "gmv"
    }
    scale = np.abs(t["g"]) / np.sqrt(t["v"] + epsilon) * (np.abs(t["m"]) + 10)
    return scale.reshape(1, -1, 1, 1)


def test_the_weight_keeps_its_name_and_the_new_bias_stands_beside_it(graph_of):
    graph = graph_of(CONV, conv(4, 6))
    graph.tensors()["w"].name = "layer.weight"
    out = apply(graph, fold_bn)
    assert [t.name for t in out.nodes[0].inputs] == ["x", "layer.weight", "layer.bias"]


def test_a_weight_that_others_read_is_not_changed_for_them(graph_of, run_graph):
    body = f"""(float[N,4,7,7] x) => (float[N,4,5,5] y, float[N,4,5,5] z) {{
        a = Conv(x, w)
        y = {BN}(a, g, s, m, v)
        z = Conv(x, w)
    }}"""
    graph = graph_of(body, conv(4, 4))
    out = apply(graph, fold_bn)
    feeds = {"x": floats(1, 4, 7, 7)}
    assert ops(out) == ["Conv", "Conv"]
    # The second Conv is untouched: equal to the bit.
    assert np.array_equal(run_graph(out, feeds)[1], run_graph(graph, feeds)[1])


def test_a_shared_bias_is_not_changed_for_the_others(graph_of, run_graph):
    body = f"""(float[N,4,7,7] x) => (float[N,4,5,5] y, float[N,4,5,5] z) {{
        a = Conv(x, w, c)
        y = {BN}(a, g, s, m, v)
        b = Conv(x, u, c)
        z = {BN}(b, g, s, m, v)
    }}"""
    graph = graph_of(body, conv(4, 4) | {"c": floats(4), "u": floats(4, 4, 3, 3, seed=5)})
    out = apply(graph, fold_bn)
    feeds = {"x": floats(1, 4, 7, 7)}
    assert ops(out) == ["Conv", "Conv"]
    for a, b in zip(run_graph(out, feeds), run_graph(graph, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5 * np.abs(b).max())  # float32


def test_half_weights_stay_half(graph_of):
    weights = {name: values.astype(np.float16) for name, values in conv(4, 6).items()}
    out = apply(graph_of(CONV.replace("float[", "float16["), weights), fold_bn)
    assert [t.dtype for t in out.nodes[0].inputs[1:]] == [np.float16, np.float16]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (BN, BN.replace(">", ", training_mode = 1>"), "training mode"),
        ("(x, w)", "(x, x)", "weight of Conv 'first' is not constant"),
        ("(x, w)", "(x, w, r)", "bias of Conv 'first' is not constant"),
        ("a = Conv(x, w)", "a = Sigmoid(x)", "Sigmoid 'first' before it has no weight"),
        ("b = ", "q = Neg(a) b = ", "second consumer"),
        ("=> (", "=> (float[N,6,5,5] a, ", "output of Conv 'first' before it is an output"),
        ("(a,g,s,m,v)", "(a,g,s,m,x)", "parameters are not constant"),
        ("(a,g,s,m,v)", "(a,g,s,m,negative)", "not finite"),
        ("(a,g,s,m,v)", "(x,g,s,m,v)", "an input or a constant is before it"),
        ("Conv(x, w)", "Conv(x, w5)", "6 channels do not fit 5 of Conv 'first'"),
        (
            "a = Conv(x, w)",
            "p = Conv(x, w) a = Add(p, wide)",
            "constant behind Conv 'first' has more than one value a channel",
        ),
        ("a = Conv(x, w)", "p = Conv(x, w) a = Add(p, x)", "summand of Add '' is not constant"),
        (
            "a = Conv(x, w)",
            "p = Conv(x, w) a = Transpose<perm = [0, 2, 3, 1]>(p)",
            "does not move the last axis to 1",
        ),
        (
            "a = Conv(x, w)",
            "p = Conv(x, w) a = Transpose<perm = [0, 3, 1, 2]>(p)",
            "has its channels on another axis",
        ),
        ("a = Conv(x, w)", "a = MatMul(x, square)", "has its channels on another axis"),
    ],
)
def test_it_declines_with_a_reason(graph_of, caplog, old, new, reason):
    extra = {
        "negative": np.full(6, -1, np.float32),
        "wide": floats(1, 6, 1, 5),
        "w5": floats(5, 4, 3, 3),
        "square": floats(7, 7),
    }
    body = CONV.replace("x) =>", "x, float[6] r) =>").replace(old, new)
    assert body != CONV.replace("x) =>", "x, float[6] r) =>")
    graph = graph_of(body, conv(4, 6) | extra)
    graph.nodes[0].name = "first"
    with caplog.at_level(logging.INFO):
        assert fold_bn(graph) == 0
    assert reason in caplog.text
    assert "BatchNormalization" in ops(graph)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("y = Conv<pads = [1, 1, 1, 1]>(a, w)", "pads with zeros"),
        ('y = Conv<auto_pad = "SAME_UPPER">(a, w)', "pads with zeros"),
        ("b = Relu(a) y = Conv(b, w)", "Relu '' after it is nothing to fold into"),
        ("b = Neg(a) c = Conv(a, w) y = Add(b, c)", "other consumers than one"),
        ("y = Conv(w, a)", "reads it as another input"),
        ("y = MatMul(a, square)", "sums over another axis"),
        ("f = Flatten<axis = 2>(a) y = Gemm(f, square)", "Flatten '' after it is nothing"),
        ("y = Conv(a, x)", "weight of Conv '' is not constant"),
    ],
)
def test_a_bn_before_a_conv_declines_with_a_reason(graph_of, caplog, after, reason):
    graph = graph_of(
        f"(float[N,4,7,7] x) => (float[N,6,H,W] y) {{a = {BN}(x,g,s,m,v) {after}}}",
        {"w": floats(6, 4, 3, 3), "square": floats(7, 7), **norm(4)},
    )
    with caplog.at_level(logging.INFO):
        assert fold_bn(graph) == 0
    assert reason in caplog.text


def test_used_statistics_keep_a_bn(graph_of, caplog):
    graph = graph_of(
        "(float[N,4,7,7] x) => (float[N,6,5,5] y, float[6] n)"
        "{a = Conv(x, w) y, n, k = BatchNormalization<training_mode = 0>(a,g,s,m,v)}",
        conv(4, 6),
    )
    with caplog.at_level(logging.INFO):
        assert fold_bn(graph) == 0
    assert "statistics outputs are used" in caplog.text


@pytest.mark.parametrize("opset", [7, 9, 12, 13])
def test_before_opset_14_five_outputs_that_nobody_reads_mean_training(
    graph_of, run_graph, rng, caplog, opset
):
    body = CONV.replace("b = Batch", "b, om, ov, sm, sv = Batch")
    graph = graph_of(body, conv(4, 6), opset=opset)
    x = (3 * rng.standard_normal((3, 4, 7, 7)) + 2).astype(np.float32)
    with caplog.at_level(logging.INFO):
        prepared = prepare(graph)
    assert "kept: it is in training mode" in caplog.text
    (expected,) = run_graph(graph, {"x": x})
    # the same kernels on the same values: to the bit
    np.testing.assert_array_equal(run_graph(prepared, {"x": x})[0], expected)


def test_weights_that_would_overflow_keep_a_bn(graph_of, caplog):
    weights = {name: values.astype(np.float16) for name, values in conv(4, 6).items()}
    weights["v"] = np.full(6, 1e-7, np.float16)
    weights["w"] = np.full((6, 4, 3, 3), 60000, np.float16)
    graph = graph_of(CONV.replace("float[", "float16["), weights)
    with caplog.at_level(logging.INFO):
        assert fold_bn(graph) == 0
    assert "overflow float16" in caplog.text


def test_a_matmul_whose_rank_is_not_known_keeps_its_bn(graph_of):
    graph = graph_of(MATRIX.replace("OP", "MatMul(x, w)"), {"w": floats(4, 6), **norm(6)})
    assert graph.tensors()["a"].shape is None
    assert fold_bn(graph) == 0


def test_a_summand_that_adds_a_dimension_keeps_the_bn(graph_of):
    graph = graph_of(
        f"(float[6,4] x) => (float[1,6,6] y)"
        f"{{p = MatMul(x, w) a = Add(p, c) b = {BN}(a,g,s,m,v) y = Relu(b)}}",
        {"w": floats(4, 6), "c": floats(1, 1, 6), **norm(6)},
    )
    infer_shapes(graph)
    assert fold_bn(graph) == 0


def test_a_chain_of_bns_is_folded_whole(graph_of, run_graph):
    graph = graph_of(
        f"(float[N,4,7,7] x) => (float[N,6,5,5] y)"
        f"{{a = Conv(x, w) b = {BN}(a,g,s,m,v) y = {BN}(b,g,s,m,v)}}",
        conv(4, 6),
    )
    out = apply(graph, fold_bn)
    assert ops(out) == ["Conv"]
    onnx.checker.check_model(to_proto(out))
    feeds = {"x": floats(2, 4, 7, 7)}
    (ref,), (test,) = run_graph(graph, feeds), run_graph(out, feeds)
    # Two roundings instead of one, otherwise as above.
    np.testing.assert_allclose(test, ref, rtol=1e-5, atol=4e-5 * np.abs(ref).max())
