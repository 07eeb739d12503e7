"""Weights in files: they are mapped, named by file in protobuf messages, and never read twice."""

import gc
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from onnxq.model import graph as graphs
from onnxq.model import located, mapped, stored
from onnxq.model.graph import load, save, to_proto
from onnxq.model.mapped import map_file
from onnxq.model.stored import Stored
from onnxq.passes.apply import apply
from onnxq.passes.fold_bn import fold_bn
from onnxq.passes.prepare import prepare
from onnxq.run import runtime

TEXT = """
<ir_version: 9, opset_import: ["": 17]>
net (float[1, 64, 8, 8] x) => (float[1, 64, 8, 8] y)
<float[64, 64, 3, 3] w, float[64] b, float[64] gamma, float[64] beta, float[64] mean,
 float[64] var, float[8, 8] m>
{
    c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    n = BatchNormalization(c, gamma, beta, mean, var)
    y = MatMul(n, m)
}
"""


@pytest.fixture
def path(tmp_path):
    """A model whose weight of 147 kB is in a file beside it; the small ones are in the model."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    shapes = {"w": (64, 64, 3, 3), "m": (8, 8)}
    for name in ("w", "b", "gamma", "beta", "mean", "var", "m"):
        values = rng.uniform(0.5, 1.5, shapes.get(name, (64,))).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=1024)
    return path


def feed():
    return {"x": np.random.default_rng(1).standard_normal((1, 64, 8, 8), np.float32)}


def outputs(model):
    return runtime.run(runtime.session(model, threads=1), ["y"], feed())[0]


def weight(graph):
    return graph.nodes[0].inputs[1]


def test_a_weight_beside_the_model_is_not_read_when_the_model_is_opened(path):
    tensor = weight(load(path))
    assert isinstance(tensor._values, Stored)
    assert tensor.shape == (64, 64, 3, 3)
    assert tensor.dtype == np.float32
    assert tensor._values.path == path.parent / "w.bin"


def test_small_weights_beside_the_model_are_read(path, tmp_path):
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="all", size_threshold=0)
    graph = load(path)
    assert [t.name for t in located.in_files(to_proto(graph))] == ["w"]
    prepare(graph)  # onnx.checker refuses absolute paths


def test_a_mapped_weight_has_the_values_of_the_file_and_cannot_be_written_to(path):
    values = graphs.constant_of(weight(load(path)))
    model = onnx.load(path)
    (expected,) = [t for t in model.graph.initializer if t.name == "w"]
    np.testing.assert_array_equal(values, onnx.numpy_helper.to_array(expected))
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_an_exported_model_names_the_file_even_after_the_values_were_looked_at(path):
    graph = load(path)
    assert weight(graph).values.shape == (64, 64, 3, 3)
    (tensor,) = located.in_files(to_proto(graph))
    assert (tensor.name, len(tensor.raw_data)) == ("w", 0)
    assert {e.key: e.value for e in tensor.external_data}["location"] == str(path.parent / "w.bin")


def test_a_constant_under_another_name_keeps_its_values(path):
    graph = load(path)
    shared = weight(graph)
    graph.nodes[0].inputs[1] = gs.Constant("renamed", shared._values)
    assert [t.name for t in located.in_files(to_proto(graph))] == ["renamed"]
    assert shared._values.tensor.name == ""


def test_onnx_runtime_reads_the_same_weights_from_the_file(path):
    np.testing.assert_array_equal(outputs(to_proto(load(path))), outputs(onnx.load(path)))


def test_weights_in_memory_and_in_several_files_run_together(path, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGE", 100)
    graph = load(path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.full((8, 8), 0.5, np.float32).tofile(elsewhere / "m.bin")
    matmul = graph.nodes[-1]
    file = map_file(elsewhere / "m.bin")
    matmul.inputs[1] = gs.Constant("m", Stored(file, 0, (8, 8), np.float32))
    graph.nodes[0].inputs[2] = gs.Constant("b", np.zeros(64, np.float32))
    model = to_proto(graph)
    assert {Path(located.entries(t)["location"]).name for t in located.in_files(model)} == {
        "w.bin",
        "m.bin",
    }
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    located.fill(plain)
    assert not list(located.in_files(plain))
    np.testing.assert_array_equal(outputs(model), outputs(plain))


@pytest.mark.parametrize("external_data", [False, True])
def test_a_saved_model_needs_no_other_file(path, tmp_path, external_data):
    out = tmp_path / "out"
    out.mkdir()
    before = outputs(path)
    size = save(load(path), out / "m.onnx", external_data=external_data)
    path.unlink()
    (path.parent / "w.bin").unlink()
    assert sum(f.stat().st_size for f in out.iterdir()) == size
    assert len(list(out.iterdir())) == 1 + external_data
    np.testing.assert_array_equal(outputs(out / "m.onnx"), before)


def test_a_model_can_be_saved_over_itself(path):
    before = outputs(path)
    save(load(path), path, external_data=True)
    save(load(path), path, external_data=True)
    np.testing.assert_array_equal(outputs(path), before)
    assert weight(load(path))._values.path.name.startswith("m.onnx.")
    assert len(list(path.parent.glob("m.onnx.*.data"))) == 1


def test_large_weights_that_a_pass_made_go_to_a_scratch_file(path, monkeypatch):
    plain = apply(load(path), fold_bn)
    monkeypatch.setattr(stored, "SCRATCH_BYTES", 1 << 16)
    graph = apply(load(path), fold_bn)
    values = weight(graph)._values
    assert isinstance(values, Stored)
    scratch = values.path
    assert scratch.is_file()
    np.testing.assert_array_equal(
        graphs.constant_of(weight(graph)), graphs.constant_of(weight(plain))
    )
    np.testing.assert_array_equal(outputs(to_proto(graph)), outputs(to_proto(plain)))
    del graph, values
    gc.collect()
    assert not scratch.exists()


def test_few_weights_in_memory_stay_there(path):
    assert isinstance(weight(apply(load(path), fold_bn))._values, np.ndarray)


def test_pages_given_back_are_read_again(path):
    values = graphs.constant_of(weight(load(path)))
    before = values.copy()
    mapped.release()
    np.testing.assert_array_equal(values, before)


def test_a_file_that_was_replaced_is_mapped_anew(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(8))
    old = map_file(path)
    assert map_file(path) is old
    other = tmp_path / "other.bin"
    other.write_bytes(bytes([1] * 8))
    other.replace(path)
    assert map_file(path)[0] == 1
    assert old[0] == 0


def test_external_data_of_types_that_numpy_lacks_is_taken_into_the_model(tmp_path):
    values = onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, [2048], [1.5] * 2048)
    values.raw_data = np.full(2048, 0x3FC0, np.uint16).tobytes()
    values.ClearField("int32_data")
    text = '<ir_version: 9, opset_import: ["": 17]> g () => (bfloat16[2048] y) {y = Identity(w)}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(values)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    graph = load(tmp_path / "m.onnx")
    (tensor,) = to_proto(graph).graph.initializer
    assert tensor.raw_data == np.full(2048, 0x3FC0, np.uint16).tobytes()


def test_data_outside_the_folder_is_refused(path):
    model = onnx.load(path, load_external_data=False)
    secret = path.parent / "secret"
    (path.parent / "w.bin").rename(secret)
    inner = path.parent / "inner"
    inner.mkdir()
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    (inner / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(graphs.ModelError, match="model's own folder"):
        load(inner / "m.onnx")


def test_prepared_weights_that_did_not_change_stay_in_their_file(path):
    model = onnx.load(path, load_external_data=False)
    model.graph.node[1].op_type = "Relu"
    del model.graph.node[1].input[1:]
    path.write_bytes(model.SerializeToString())
    assert isinstance(weight(prepare(load(path)))._values, Stored)


BRANCHES = """
<ir_version: 9, opset_import: ["": 17]>
net (float[4, 32] x, bool c) => (float[4, 32] y)
{
    y = If(c) <
        then_branch = then () => (float[4, 32] t) { t = MatMul(x, w) },
        else_branch = other () => (float[4, 32] e) { e = Add(x, x) }
    >
}
"""


def test_a_weight_that_only_a_branch_reads_is_taken_into_the_model(tmp_path):
    w = np.random.default_rng(0).standard_normal((32, 32), np.float32)
    model = onnx.parser.parse_model(BRANCHES)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    x = np.ones((4, 32), np.float32)
    feeds = {"x": x, "c": np.array(True)}
    for graph in (load(tmp_path / "m.onnx"), prepare(load(tmp_path / "m.onnx"))):
        session = runtime.session(to_proto(graph), threads=1, optimize="none")
        (y,) = runtime.run(session, ["y"], feeds)
        np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-5)  # sums of 32 in float32


def test_what_a_pass_makes_goes_to_disk_while_the_pass_still_runs(path, monkeypatch):
    monkeypatch.setattr(stored, "SCRATCH_BYTES", 1 << 16)
    monkeypatch.setattr(stored, "LARGE", 100)
    graph = load(path)
    with stored.spilling():
        fold_bn(graph)
        assert isinstance(weight(graph)._values, Stored)
    alone = stored.noted(gs.Constant("c", np.zeros(1 << 16, np.float32)))
    assert isinstance(alone._values, np.ndarray)  # nobody asked for it
