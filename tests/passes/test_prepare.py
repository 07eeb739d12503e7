"""Whole models: what exporters write comes out clean, and computes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from onnxq.model.graph import Graph, load, to_proto
from onnxq.passes.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT.parent / "shared" / "models").glob("*.onnx"))
SPARSE = ROOT / "fixtures" / "sparse" / "sparse.onnx"  # ops that ONNX Runtime has not by itself
FIXTURES = sorted(p for p in (ROOT / "fixtures").glob("*/*.onnx") if p != SPARSE)


def shape_for(declared: list[int | str | None]) -> list[int]:
    image = len(declared) == 4
    sizes = [2, 3, 64, 64] if image else [2, 16, 9]
    return [d if isinstance(d, int) else sizes[i] for i, d in enumerate(declared)]


def feeds_for(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        t.name: np.ones(shape_for(t.shape), t.dtype)
        if np.dtype(t.dtype).kind == "i"
        else rng.standard_normal(shape_for(t.shape)).astype(t.dtype)
        for t in graph.inputs
    }


def outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def expose_sigmoids(*models: onnx.ModelProto) -> None:
    """Make outputs of what final sigmoids read: probabilities near 0 would hide any mistake."""
    for model in models:
        ends = {o.name for o in model.graph.output}
        for node in model.graph.node:
            if node.op_type == "Sigmoid" and node.output[0] in ends:
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))


def check_prepared(path: Path) -> None:
    graph = load(path)
    before = to_proto(graph)
    prepared = prepare(graph)
    after = to_proto(prepared)
    assert to_proto(graph) == before
    assert not {n.op for n in prepared.nodes} & {"BatchNormalization", "Constant", "Dropout"}
    assert prepared.opset >= 13
    names = [n.name for n in prepared.nodes]
    assert all(names)
    assert len(set(names)) == len(names)
    assert [t.name for t in prepared.inputs] == [t.name for t in graph.inputs]
    assert [t.name for t in prepared.outputs] == [t.name for t in graph.outputs]
    assert to_proto(prepare(prepared)) == after
    feeds = feeds_for(graph)
    expose_sigmoids(before, after)
    for ref, out in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        # Folding reorders float32 sums in up to 90 layers; a sigmoid is only good to 2^-23.
        assert np.abs(ref - out).max() <= 1e-5 * np.abs(ref).max() + 2e-7


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_a_fixture_is_prepared(path):
    check_prepared(path)


@pytest.mark.skipif(not MODELS, reason="needs ../shared/models")
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_a_public_model_is_prepared(path):
    check_prepared(path)


def test_ops_that_onnx_does_not_know_are_left_alone():
    before, after = ({n.name: n for n in g.nodes} for g in (load(SPARSE), prepare(load(SPARSE))))
    assert before.keys() == after.keys()
    for name in ("conv0", "conv1", "conv2", "scatter0"):
        assert after[name].attrs == before[name].attrs
        assert [t.name for t in after[name].inputs] == [t.name for t in before[name].inputs]
        assert after[name].outputs == before[name].outputs


def test_the_pillar_encoder_becomes_a_matmul_with_a_bias():
    prepared = prepare(load(ROOT / "fixtures" / "centerpoint" / "voxel_encoder.onnx"))
    assert [n.op for n in prepared.nodes] == ["MatMul", "Add", "Relu", "ReduceMax"]


def test_the_nodes_of_a_model_keep_their_names():
    path = ROOT / "fixtures" / "centerpoint" / "backbone_neck_head.onnx"
    graph = load(path)
    convs = [n.name for n in graph.nodes if n.op in ("Conv", "ConvTranspose")]
    assert [n.name for n in prepare(graph).nodes if n.op in ("Conv", "ConvTranspose")] == convs


def test_preparing_does_not_import_onnxruntime():
    path = ROOT / "fixtures" / "classifier" / "classifier.onnx"
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from onnxq.model.graph import load; from onnxq.passes.prepare import prepare\n"
        f"print(len(prepare(load({str(path)!r})).nodes))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert int(done.stdout) > 10


def test_a_model_past_two_gigabytes_is_prepared_without_serializing_its_weights():
    side = 24_000  # 2.3 GB of zeros, which the system gives out only when they are written
    x = gs.Variable("x", np.float32, ["N", side])
    y = gs.Variable("y", np.float32, ["N", side])
    weight = gs.Constant("w", np.zeros((side, side), np.float32))
    node = gs.Node("MatMul", inputs=[x, weight], outputs=[y])
    prepared = prepare(gs.Graph([node], [x], [y], opset=12, ir_version=7))
    assert prepared.opset == 13
    assert prepared.nodes[0].name == "MatMul_0"
    assert prepared.nodes[0].inputs[1].values is weight.values


@pytest.mark.parametrize("step", ["Identity(w)", "Transpose(w)", "Cast<to = 1>(w)"])
def test_a_weight_that_nodes_share_behind_the_same_op_stays_one(graph_of, step):
    nodes = "".join(f"w{i} = {step} h{i + 1} = MatMul(h{i}, w{i}) " for i in range(4))
    body = f"(float[N,32] h0) => (float[N,32] y) {{ {nodes} y = Relu(h4) }}"
    graph = graph_of(body, {"w": np.eye(32, dtype=np.float32)})
    read = {id(n.inputs[1]) for n in prepare(graph).nodes if n.op == "MatMul"}
    assert len(read) == 1


def test_a_pad_and_a_batchnorm_in_front_of_products_are_gone(graph_of, rng):
    body = """(float[1,4,6,6] x) => (float[1,5] y) {
        p = Pad(x, pads) c = Conv(p, k) r = Relu(c)
        b = BatchNormalization(r, g, g, g, g) f = Flatten(b) y = Gemm(f, w)}"""
    weights = {"k": (8, 4, 3, 3), "g": (8,), "w": (200, 5)}
    constants = {n: rng.uniform(0.1, 1, s).astype(np.float32) for n, s in weights.items()}
    graph = graph_of(body, constants | {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])})
    assert [n.op for n in prepare(graph).nodes] == ["Conv", "Relu", "Flatten", "Gemm"]


@pytest.mark.parametrize("factor", [0.6, 2.0])
def test_scales_that_constants_make_are_known_before_an_old_resize_is_raised(graph_of, factor):
    body = """(float[1,2,7,5] x) => (float[1,2,h,w] y) {
        s = Mul(k, ones) y = Resize<mode = "nearest">(x, s) }"""
    scales = {"k": np.array([1, 1, factor, factor], np.float32), "ones": np.ones(4, np.float32)}
    graph = graph_of(body, scales, opset=10)
    x = np.arange(70, dtype=np.float32).reshape(1, 2, 7, 5)
    (ref,), (out,) = (outputs(to_proto(g), {"x": x}) for g in (graph, prepare(graph)))
    np.testing.assert_array_equal(out, ref)
