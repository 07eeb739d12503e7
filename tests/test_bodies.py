"""Weights in the bodies of If, Loop and Scan, and in functions, are prepared and quantized."""

import json

import numpy as np
import onnx
import pytest

from onnxq import api
from onnxq.errors import PlanError
from onnxq.model.graph import constant_of, from_proto, node_by_name, save, scopes, to_proto
from onnxq.numerics import amax_of, fake_quant
from onnxq.passes.apply import apply
from onnxq.passes.fold_bn import fold_bn
from onnxq.passes.in_bodies import in_bodies
from onnxq.passes.prepare import prepare
from onnxq.pipeline.config import Config
from onnxq.run import runtime
from onnxq.sensitivity.options import Options
from onnxq.spec import QuantSpec
from onnxq.targets.options import PlanOptions

IF = """(float[4,32] x, bool c) => (float[4,32] y) {
    h = Relu(x)
    y = If(c) <
        then_branch = yes () => (float[4,32] a) { [in] p = MatMul(h, w) a = Add(p, b) },
        else_branch = no () => (float[4,32] e) { [other] e = MatMul(h, v) }
    >
}"""
LOOP = """(float[4,32] x, float[4,32] k) => (float[4,32] y) <int64 n = {3}, bool t = {1}> {
    h = Relu(x)
    y = Loop(n, t, k) <
        body = once (int64 i, bool go, float[4,32] state) => (bool on, float[4,32] next) {
            on = Identity(go)
            [in] p = MatMul(h, w)
            [deep] d = MatMul(state, v)
            q = Add(p, d)
            next = Tanh(q)
        }
    >
}"""
SCAN = """(float[4,32] x, float[5,4,32] k) => (float[4,32] y, float[5,4,32] each) {
    h = Relu(x)
    y, each = Scan <num_scan_inputs = 1,
        body = once (float[4,32] state, float[4,32] item) => (float[4,32] next, float[4,32] out) {
            [in] p = MatMul(h, w)
            [deep] d = MatMul(item, v)
            out = Add(p, d)
            next = Add(out, state)
        }
    >(x, k)
}"""
BODIES = {"If": IF, "Loop": LOOP, "Scan": SCAN}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 4


WEIGHTS = {"w": floats(32, 32), "v": floats(32, 32, seed=1), "b": floats(32, seed=2)}


def feeds(kind, seed):
    found = {"x": floats(4, 32, seed=seed)}
    if kind == "If":
        return found | {"c": np.array(seed % 2 == 0)}
    return found | {"k": floats(*((5, 4, 32) if kind == "Scan" else (4, 32)), seed=seed + 50)}


@pytest.fixture
def saved(graph_of, tmp_path):
    """`saved(kind)`: paths of a model and of its calibration data."""

    def make(kind):
        used = {k: v for k, v in WEIGHTS.items() if kind == "If" or k != "b"}
        save(graph_of(BODIES[kind], used), tmp_path / "m.onnx")
        folder = tmp_path / "data"
        folder.mkdir()
        for seed in range(4):
            np.savez(folder / f"{seed}.npz", **feeds(kind, seed))
        return tmp_path / "m.onnx", [str(folder)]

    return make


def quantized(saved, kind, **options):
    path, data = saved(kind)
    return api.quantize(path, data, Config(recover="none", check_samples=1, **options))


def ops(graph, kind):
    """How many nodes of each op the bodies hold."""
    names = [n.op for body in scopes(graph)[1:] for n in body.nodes]
    return {op: names.count(op) for op in ("QuantizeLinear", "DequantizeLinear", kind)}


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_what_a_body_reads_from_outside_is_quantized_beside_its_reader(saved, kind):
    result = quantized(saved, kind)
    inside = {"If": 2, "Loop": 1, "Scan": 1}[kind]  # the MatMuls that read h
    counted = ops(result.graph, "MatMul")
    assert counted == {"QuantizeLinear": inside, "DequantizeLinear": 2 * inside, "MatMul": 2}
    assert not [n for n in result.graph.nodes if n.op.endswith("QuantizeLinear")]
    assert set(result.manifest["quantized_nodes"]) == {"in", "other"} if kind == "If" else {"in"}
    assert set(result.ranges.tensors) == {"h"}
    if kind != "If":
        assert result.manifest["float_nodes"]["deep"].startswith("in-branch: what it reads is")
    json.dumps(result.manifest)


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_a_body_computes_what_numpy_does_with_rounded_numbers(saved, kind):
    result = quantized(saved, kind)
    per_channel = QuantSpec("int8", "channel", 1)

    def rounded(w):
        return fake_quant(w, amax_of(w, per_channel), per_channel)

    for seed in (0, 1):
        feed = feeds(kind, seed)
        h = np.maximum(feed["x"], 0)
        p = fake_quant(h, result.ranges["h"].amax, QuantSpec()) @ rounded(WEIGHTS["w"])
        if kind == "If" and feed["c"]:
            expected = p + WEIGHTS["b"]
        elif kind == "If":
            expected = fake_quant(h, result.ranges["h"].amax, QuantSpec()) @ rounded(WEIGHTS["v"])
        elif kind == "Loop":
            expected = feed["k"]
            for _ in range(3):
                expected = np.tanh(p + expected @ WEIGHTS["v"])
        else:
            expected = feed["x"] + sum(p + item @ WEIGHTS["v"] for item in feed["k"])
        session = runtime.session(to_proto(result.graph), threads=1, optimize="none")
        (y,) = runtime.run(session, ["y"], feed)
        # float32 sums of 32 products, a few of them in a row
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
@pytest.mark.parametrize(
    "options", [{"placement": PlanOptions(scheme="w4a16")}, {"high_precision": "fp16"}]
)
def test_other_types_run_too(saved, kind, options):
    result = quantized(saved, kind, **options)
    if "placement" in options:  # weights alone need no range
        assert {e.node for e in result.plan.edges} == {"in", "other" if kind == "If" else "deep"}
    assert min(a.sqnr_db for a in result.agreement.values()) > 10  # INT4 weights to nearest: 15


def test_onnx_runtime_gets_no_codes_in_a_branch(saved):
    with pytest.raises(PlanError, match="in-branch: codes do not go into an If, Loop or Scan"):
        quantized(saved, "If", placement=PlanOptions(target="onnxruntime"))


def test_sensitivity_toggles_a_node_in_a_branch(saved):
    path, data = saved("If")
    source = api.prepare(path)
    plan = api.plan(source)
    dataset = api.data(source, data)
    ranges = api.read(source, plan, api.calibrate(source, plan, dataset), "max")
    for at in ("outputs", "node"):
        ranking = api.sensitivity(source, plan, ranges, dataset, Options(at=at))
        scores = {row.name: row.overall.score for row in ranking.rows}
        assert set(scores) == {"in", "other"}
        assert all(np.isfinite(s) and s > 20 for s in scores.values())  # each alone in INT8


BN = """(float[1,16,6,6] x, bool c) => (float[1,16,6,6] y) {
    h = Conv<pads = [1,1,1,1]>(x, w)
    y = If(c) <
        then_branch = yes () => (float[1,16,6,6] a) {
            p = Conv<pads = [1,1,1,1]>(h, u)
            a = BatchNormalization(p, s, b, m, v)
        },
        else_branch = no () => (float[1,16,6,6] e) { e = BatchNormalization(h, s, b, m, v) }
    >
}"""
BN_WEIGHTS = {
    "w": floats(16, 16, 3, 3),
    "u": floats(16, 16, 3, 3, seed=1),
    **{name: floats(16, seed=k) for k, name in enumerate("sbm", 3)},
    "v": np.square(floats(16, seed=9)) + np.float32(0.5),
}


def test_a_batchnorm_is_folded_within_its_body_and_never_into_what_runs_anyway(graph_of, run_graph):
    graph = graph_of(BN, BN_WEIGHTS)
    out = apply(graph, in_bodies(fold_bn))
    yes, no = scopes(out)[1:]
    assert [n.op for n in yes.nodes] == ["Conv"]
    assert [n.op for n in no.nodes] == ["BatchNormalization"]
    np.testing.assert_array_equal(constant_of(out.nodes[0].inputs[1]), BN_WEIGHTS["w"])
    for c in (True, False):
        feed = {"x": floats(1, 16, 6, 6, seed=7), "c": np.array(c)}
        (before,), (after,) = run_graph(graph, feed), run_graph(out, feed)
        # folding rounds each weight once more, in float32
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_constants_in_a_body_are_folded(graph_of, run_graph):
    text = IF.replace("[in] p = MatMul(h, w)", "wt = Transpose(w) [in] p = MatMul(h, wt)")
    graph = graph_of(text, WEIGHTS)
    out = prepare(graph)
    assert [n.op for n in scopes(out)[1].nodes] == ["MatMul", "Add"]
    np.testing.assert_array_equal(constant_of(node_by_name(out)["in"].inputs[1]), WEIGHTS["w"].T)
    feed = feeds("If", 0)
    np.testing.assert_array_equal(run_graph(out, feed), run_graph(graph, feed))


def test_shapes_written_in_a_body_are_not_believed(graph_of):
    text = """(float[N,32] x, bool c) => (float[N,32] y) {
        y = If(c) <
            then_branch = yes () => (float[N,32] a) <float[4,32] r> {
                r = Relu(x)
                s = Shape(r)
                z = ConstantOfShape(s)
                a = Add(r, z)
            },
            else_branch = no () => (float[N,32] e) { e = Neg(x) }
        >
    }"""
    yes, _ = scopes(prepare(graph_of(text)))[1:]
    assert [n.op for n in yes.nodes] == ["Relu", "Shape", "ConstantOfShape", "Add"]
    assert yes.nodes[0].outputs[0].shape == [4, 32]


def test_names_are_unique_over_all_bodies(graph_of):
    text = IF.replace("[in] ", "").replace("[other] ", "")
    out = prepare(graph_of(text, WEIGHTS))
    names = [n.name for scope in scopes(out) for n in scope.nodes]
    assert len(set(names)) == len(names)
    assert all(names)


def test_a_weight_within_a_function_called_in_a_branch_is_quantized(tmp_path):
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "my": 1]>
        g (float[4,32] x, bool c) => (float[4,32] y) {
            h = Relu(x)
            z = my.layer(h, w)
            y = If(c) <
                then_branch = yes () => (float[4,32] a) { a = my.layer(z, v) },
                else_branch = no () => (float[4,32] e) { e = Neg(z) }
            >
        }
        <domain: "my", opset_import: ["": 17]>
        layer (a, b) => (c) { p = MatMul(a, b) c = Relu(p) }"""
    )
    for name in "wv":
        model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHTS[name], name))
    save(from_proto(model), tmp_path / "m.onnx")
    source = api.prepare(tmp_path / "m.onnx")
    assert not source.graph.functions
    assert [n.op for n in scopes(source.graph)[1].nodes] == ["MatMul", "Relu"]
    assert len(api.plan(source).nodes) == 2


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_tensorrt_builds_it_and_multiplies_in_int8(saved, kind, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    from onnxq.trt.build import BuildOptions, build
    from onnxq.trt.engine import load_engine

    result = quantized(saved, kind)
    api.write(result, tmp_path / "q.onnx")
    built = build(
        tmp_path / "q.onnx", tmp_path / "q.engine", options=BuildOptions(backend="tensorrt-rtx")
    )
    assert built.engine is not None, built.problems
    kernels = load_engine(built.engine).kernels
    assert any(kernel.inputs[:2] == ("int8", "int8") for kernel in kernels)


@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_recoveries_leave_bodies_whole(saved, kind):
    path, data = saved(kind)
    result = api.quantize(path, data, Config(recover="all", check_samples=1))
    assert ops(result.graph, "MatMul")["QuantizeLinear"] == (2 if kind == "If" else 1)
    assert min(a.sqnr_db for a in result.agreement.values()) > 20  # 8 bits: about 40
