"""`--attribute-op` and `--ort-extension`: a sparse backbone with a dense head, as exported."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxq.calib.ranges import Ranges
from onnxq.model.graph import to_proto
from onnxq.numerics import amax_of, fake_quant
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.run.runtime import Runtime, run, session
from onnxq.spec import QuantSpec
from onnxq.targets.options import PlanOptions

TENSOR, CHANNEL = QuantSpec(), QuantSpec("int8", "channel", 0)
CONVS = ("conv0", "conv1", "conv2")


@pytest.fixture
def sparse(fixtures):
    return fixtures / "sparse" / "sparse.onnx"


@pytest.fixture
def scans(fixtures):
    return fixtures / "sparse" / "calib"


@pytest.fixture
def ops(fixtures):
    return str(fixtures / "sparse" / "ops.py")


@pytest.fixture
def quantized(done, sparse, scans, ops):
    """`quantized(*more)`: what `onnxq quantize` writes and prints."""

    def call(*more: object):
        ran = done("quantize", sparse, "--calib", scans, "--ort-extension", ops,
                   "--attribute-op", "SparseConvolution", "-o", "q.onnx", *more)  # fmt: skip
        return onnx.load("q.onnx"), ran.out

    return call


def attributes(model):
    """Node -> attribute -> value."""
    return {
        node.name: {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        for node in model.graph.node
    }


def weights_of(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def dense_convolution(features, weight, bias, indices):
    """A submanifold convolution the long way: over the whole grid, then read at the voxels."""
    _, z, y, x = indices.T
    grid = np.zeros((*(indices[:, 1:].max(0) + 3), features.shape[1]), np.float64)
    grid[z + 1, y + 1, x + 1] = features
    out = np.tile(bias.astype(np.float64), (len(features), 1))
    for place in np.ndindex(3, 3, 3):
        at = [axis + k for axis, k in zip((z, y, x), place, strict=True)]
        out += grid[tuple(at)] @ weight[(slice(None), *place)].T
    return out


def sparse_part(scan, weights, rounded=lambda i, x, w: (x, w)):
    """The features behind the block; `rounded` is what convolution i reads."""
    x, outputs = scan["features"], []
    for i in range(3):
        features, weight = rounded(i, x, weights[f"spconv{i}.weight"])
        x = dense_convolution(features, weight, weights[f"spconv{i}.bias"], scan["indices"])
        x = np.maximum(x, 0) if i < 2 else x
        outputs.append(x)
    return np.maximum(outputs[2] + outputs[0], 0)


def block_of(graph, scan, ops):
    """The same features by ONNX Runtime and the ops of the fixture."""
    model = to_proto(graph)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("block"))
    where = Runtime(ort_extension=ops)
    return run(session(model, where, threads=1), ["block"], scan)[0]


def test_sparse_nodes_get_attributes_and_the_head_gets_q_dq(quantized, sparse):
    model, out = quantized("--recover", "none", "--method", "max", "--save-ranges", "r.json")
    found = attributes(model)
    ranges = Ranges.load("r.json").amax
    before = weights_of(onnx.load(sparse))
    for i, source in enumerate(("features", "sparse0", "sparse1")):
        node = found[f"conv{i}"]
        assert node["input_dynamic_range"] == np.float32(ranges[source])
        weight = before[f"spconv{i}.weight"]
        np.testing.assert_array_equal(
            np.float32(node["weight_dynamic_ranges"]), np.abs(weight).max((1, 2, 3, 4))
        )
        np.testing.assert_array_equal(weights_of(model)[f"spconv{i}.weight"], weight)
        assert node["precision"] == b"int8"
        assert node["rulebook"] == b"res0"
    assert [found[c]["output_precision"] for c in CONVS] == [b"fp16", b"int8", b"fp16"]
    ops = {node.output[0]: node.op_type for node in model.graph.node}
    heads = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [ops[i] for h in heads for i in h.input[:2]] == ["DequantizeLinear"] * 4
    assert list(ops.values()).count("QuantizeLinear") == 2
    assert "3 of 3 nodes INT8, by attributes" in " ".join(out.split())
    assert "polygraphy" not in out  # it cannot run Python ops


def test_the_fixture_s_ops_compute_what_a_dense_convolution_does(sparse, scans, ops):
    scan = dict(np.load(scans / "03.npz"))
    wanted = sparse_part(scan, weights_of(onnx.load(sparse)))
    found = block_of(steps.prepare(sparse).graph, scan, ops)
    # float32 sums of up to 27 x 16 products
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_comparison_rounds_what_sparse_nodes_read(quantized, sparse, scans, ops):
    """The numbers of the compared model are those of `numerics` with the ranges as written."""
    model, _ = quantized("--recover", "none", "--save-plan", "p.yaml", "--save-ranges", "r.json")
    written = attributes(model)

    def rounded(i, x, w):
        amax = written[f"conv{i}"]["input_dynamic_range"]
        x = fake_quant(x.astype(np.float32), amax, TENSOR)
        return x, fake_quant(w, amax_of(w, CHANNEL), CHANNEL)

    config = Config(placement=PlanOptions(attribute_op=("SparseConvolution",)))
    source = steps.prepare(sparse, config)
    compared = steps.insert(source, Plan.load("p.yaml"), Ranges.load("r.json"))
    scan = dict(np.load(scans / "03.npz"))
    weights = weights_of(onnx.load(sparse))
    wanted = sparse_part(scan, weights, rounded)
    error = np.abs(block_of(compared, scan, ops) - wanted)
    # float32 sums differ in their last bits from float64 ones; a value on the edge between two
    # codes may then fall to the other side, which moves single voxels by up to a step
    assert np.quantile(error, 0.99) < 1e-4
    assert np.abs(sparse_part(scan, weights) - wanted).mean() > 1e-3  # rounding shows


def test_the_rounding_of_sparse_nodes_alone_is_in_the_comparison(quantized):
    _, out = quantized("--skip", "op:Conv")
    assert float(re.search(r"heatmap +([\d.]+)", out)[1]) < 60  # equal outputs would be inf


def test_fp16_neighbours_are_handed_fp16(quantized):
    model, out = quantized("--skip", "name:conv1")
    found = attributes(model)
    assert "input_dynamic_range" not in found["conv1"]
    assert [(found[c]["precision"], found[c]["output_precision"]) for c in CONVS] == [
        (b"int8", b"fp16"),
        (b"fp16", b"int8"),
        (b"int8", b"fp16"),
    ]
    assert "2 of 3 nodes INT8" in " ".join(out.split())


def test_a_plan_says_it_all_and_can_be_edited(done, quantized, sparse, scans, ops):
    done("plan", sparse, "--attribute-op", "SparseConvolution", "-o", "plan.yaml")
    plan = Plan.load("plan.yaml")
    assert plan.attribute_ops == ("SparseConvolution",)
    assert plan.rules["conv0"] == "attribute-SparseConvolution"
    plan.without("conv0").save("edited.yaml")
    done("quantize", sparse, "--calib", scans, "--ort-extension", ops, "--plan", "edited.yaml",
         "-o", "edited.onnx")  # fmt: skip
    found = attributes(onnx.load("edited.onnx"))
    assert [found[c]["precision"] for c in CONVS] == [b"fp16", b"int8", b"int8"]


def test_adds_may_carry_attributes_as_in_the_public_exports(quantized):
    model, _ = quantized("--attribute-op", "Add")
    found = attributes(model)
    add = found["add0"]
    assert add["input0_dynamic_range"] == add["input1_dynamic_range"]
    assert add["input0_dynamic_range"] == found["conv1"]["input_dynamic_range"]  # of one tensor
    assert (add["precision"], add["output_precision"]) == (b"int8", b"fp16")
    assert [found[c]["output_precision"] for c in CONVS] == [b"int8"] * 3


def test_an_fp16_export_of_opset_11_is_quantized_as_it_is(done, fixtures, scans, ops, folder):
    spec = importlib.util.spec_from_file_location("make", fixtures / "sparse" / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    onnx.save(make.model(np.float16, 11), "half.onnx")
    (folder / "scans").mkdir()
    for path in sorted(scans.glob("*.npz"))[:12]:
        scan = np.load(path)
        np.savez(folder / "scans" / path.name, features=scan["features"].astype(np.float16),
                 indices=scan["indices"])  # fmt: skip
    done("quantize", "half.onnx", "--calib", "scans", "--ort-extension", ops,
         "--attribute-op", "SparseConvolution", "-o", "q.onnx")  # fmt: skip
    model = onnx.load("q.onnx")
    weights = weights_of(model)
    nodes = {node.name: node for node in model.graph.node}
    for i, conv in enumerate(CONVS):
        assert nodes[conv].domain == ""
        assert weights[nodes[conv].input[1]].dtype == np.float16  # what libspconv reads
        assert attributes(model)[conv]["precision"] == b"int8"
        assert nodes[conv].output[0] == f"sparse{i}"


def test_sensitivity_ranks_sparse_nodes_by_what_rounding_does_to_them(done, sparse, scans, ops):
    done("sensitivity", sparse, "--calib", scans, "--ort-extension", ops, "--attribute-op",
         "SparseConvolution", "-o", "ranking.json")  # fmt: skip
    ranking = json.loads(Path("ranking.json").read_text())
    rows = {row["name"]: row for row in ranking["rows"]}
    assert all(0.05 < rows[conv]["share"] < 1 for conv in CONVS)


def test_an_op_type_that_the_model_lacks_is_one_line(refused, sparse, scans):
    line = refused("quantize", sparse, "--calib", scans, "--attribute-op", "SparseConv")
    assert line.startswith("--attribute-op SparseConv: the model has no such op; it has Add, Conv")


def test_an_op_that_nothing_computes_is_one_line_with_both_ways_out(refused, sparse, scans):
    line = refused("quantize", sparse, "--calib", scans, "--attribute-op", "SparseConvolution")
    assert line == (
        "ONNX Runtime has no op 'SparseConvolution'; give its library with --ort-library lib.so, "
        "or a Python module that declares it with --ort-extension"
    )


def test_an_extension_that_is_not_there_is_one_line(refused, sparse, scans):
    line = refused("quantize", sparse, "--calib", scans, "--ort-extension", "nowhere.py")
    assert "'nowhere.py' cannot be imported" in line
