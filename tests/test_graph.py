"""Model files: read whole or refused in one line, written whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from ml_dtypes import int4
from onnx import numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from onnx.reference import ReferenceEvaluator

from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model.external import external_files
from onnxq.model.graph import load, load_proto, save

LINEAR = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 16] x) => (float[N, 32] y) { y = MatMul(x, w) }
"""
BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
net (bool c, float[4] x) => (float[4] y) {
    y = If(c) <
        then_branch = big () => (float[4] a) { a = Add(x, k) },
        else_branch = small () => (float[4] b) { b = Neg(x) }
    >
}
"""
FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
net (float[N] x) => (float[N] y) { y = my.twice(x) }
<domain: "my", opset_import: ["" : 17]>
twice (a) => (b) { b = Add(a, a) }
"""


def model(text=LINEAR):
    parsed = onnx.parser.parse_model(text)
    if "MatMul" in text:
        parsed.graph.initializer.append(numpy_helper.from_array(weight(), "w"))
    return parsed


def weight(seed=0):
    return np.random.default_rng(seed).standard_normal((16, 32)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def external(tmp_path):
    """A model whose weights lie beside it in `weights.bin`."""
    onnx.save(
        model(), tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    return tmp_path / "m.onnx"


def values(path, name="w"):
    return np.array(load(path).tensors()[name].values)


def test_a_saved_graph_is_the_graph_that_was_loaded(path, tmp_path):
    save(load(path), tmp_path / "again.onnx", {"made by": "a test"})
    again = load_proto(tmp_path / "again.onnx")
    assert again.graph == load_proto(path).graph
    assert again.opset_import == model().opset_import
    assert graphs.read(tmp_path / "again.onnx")[1].metadata == {"made by": "a test"}


def test_saving_twice_writes_the_same_bytes(path, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        save(load(path), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("text", [BRANCHES.replace("Add(x, k)", "Add(x, x)"), FUNCTION])
def test_bodies_and_functions_survive(text, tmp_path):
    onnx.save(model(text), tmp_path / "m.onnx")
    save(load(tmp_path / "m.onnx"), tmp_path / "again.onnx")
    onnx.checker.check_model(tmp_path / "again.onnx", full_check=True)
    feeds = {"x": np.array([1, -2, 3, 0], np.float32), "c": np.array(True)}
    feeds = {i.name: feeds[i.name] for i in model(text).graph.input}
    for name in ("m.onnx", "again.onnx"):
        (y,) = ReferenceEvaluator(load_proto(tmp_path / name)).run(None, feeds)
        np.testing.assert_array_equal(y, 2 * feeds["x"])


def test_the_metadata_of_a_model_can_be_read(path):
    tagged = model()
    onnx.helper.set_model_props(tagged, {"names": "{0: 'car'}", "stride": "32"})
    onnx.save(tagged, path)
    assert graphs.read(path)[1].metadata == {"names": "{0: 'car'}", "stride": "32"}


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no model at '.*none\.onnx'; check the path"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"PK\x03\x04zip", b"{}"])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="is not an ONNX model or is cut short"):
        load(tmp_path / "m.onnx")


def test_a_model_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    cuts = {1, 2, 3, 5, 10, 100, 1000, len(whole) // 2, *range(len(whole) - 60, len(whole) - 1)}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="is not an ONNX model or is cut short"):
            load(path)


def test_weights_beside_the_model_are_read(external):
    assert external_files(onnx.load(external, load_external_data=False)) == ["weights.bin"]
    np.testing.assert_array_equal(values(external), weight())


def test_weights_that_are_not_beside_the_model_are_named(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in 'weights\.bin'.*copy that file"):
        load(external)


@pytest.mark.parametrize("size", [0, 1, 2047])
def test_weights_cut_short_are_refused(external, size):
    data = external.parent / "weights.bin"
    assert data.stat().st_size == 2048
    data.write_bytes(data.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"the external data of '.*m\.onnx' cannot be read"):
        load(external)


def test_weights_inside_bodies_and_attributes_are_found(tmp_path):
    branches = model(BRANCHES)
    constant = numpy_helper.from_array(np.arange(4, dtype=np.float32), "k")
    branches.graph.node[0].attribute[0].g.initializer.append(constant)
    convert_model_to_external_data(branches, location="k.bin", size_threshold=0)
    onnx.save(branches, tmp_path / "m.onnx")
    stored = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert external_files(stored) == ["k.bin"]
    before = graphs.read(tmp_path / "m.onnx")[1].sha256
    (tmp_path / "k.bin").write_bytes(np.ones(4, np.float32).tobytes())
    assert graphs.read(tmp_path / "m.onnx")[1].sha256 != before
    (tmp_path / "k.bin").unlink()
    with pytest.raises(ModelError, match=r"'k\.bin'"):
        load(tmp_path / "m.onnx")


def test_weights_can_be_written_beside_the_model(path, tmp_path):
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    save(load(path), out, external_data=True)
    (data,) = (f for f in out.parent.iterdir() if f != out)
    assert data.name == f"m.onnx.{hashlib.sha256(data.read_bytes()).hexdigest()[:12]}.data"
    assert out.stat().st_size < 1000 < data.stat().st_size
    np.testing.assert_array_equal(values(out), weight())
    moved = out.parent.rename(tmp_path / "moved") / "m.onnx"
    np.testing.assert_array_equal(values(moved), weight())


def test_weights_of_a_body_are_written_beside_the_model_too(tmp_path):
    branches = model(BRANCHES.replace("[4]", "[400]"))
    k = np.random.default_rng(0).standard_normal(400).astype(np.float32)
    branches.graph.node[0].attribute[0].g.initializer.append(numpy_helper.from_array(k, "k"))
    save(graphs.from_proto(branches), tmp_path / "m.onnx", external_data=True)
    beside = [f.name for f in tmp_path.glob("m.onnx.*.data")]
    assert external_files(onnx.load(tmp_path / "m.onnx", load_external_data=False)) == beside
    body = load_proto(tmp_path / "m.onnx").graph.node[0].attribute[0].g
    np.testing.assert_array_equal(numpy_helper.to_array(body.initializer[0]), k)


def test_a_model_over_the_protobuf_limit_writes_its_weights_beside_it(path, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "PROTOBUF_LIMIT", 2048)
    out = tmp_path / "large.onnx"
    save(load(path), out)
    assert len(list(tmp_path.glob("large.onnx.*.data"))) == 1
    np.testing.assert_array_equal(values(out), weight())


def test_a_written_model_may_be_read_by_others(path, tmp_path):
    for external_data in (False, True):
        out = tmp_path / f"out{external_data}.onnx"
        save(load(path), out, external_data=external_data)
        for file in tmp_path.glob(f"{out.name}*"):
            assert file.stat().st_mode & 0o777 == path.stat().st_mode & 0o777


@pytest.mark.parametrize("external_data", [False, True])
def test_a_write_that_fails_leaves_what_was_there(path, tmp_path, monkeypatch, external_data):
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    graph = load(path)
    out.write_bytes(b"before")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("onnxq.model.graph.open", full, raising=False)
    with pytest.raises(OSError, match="no space"):
        save(graph, out, external_data=external_data)
    assert [f.name for f in out.parent.iterdir()] == ["m.onnx"]
    assert out.read_bytes() == b"before"


def test_a_folder_that_is_not_there_is_named(path, tmp_path):
    with pytest.raises(ModelError, match=r"no folder '.*nowhere' to write 'm\.onnx' to"):
        save(load(path), tmp_path / "nowhere" / "m.onnx")


def test_the_fingerprint_is_of_the_model_and_its_weights(path, external, tmp_path):
    before = graphs.read(external)[1].sha256
    assert before == graphs.read(external)[1].sha256
    assert len(before) == 64
    data = tmp_path / "weights.bin"
    data.write_bytes(weight(1).tobytes())
    assert graphs.read(external)[1].sha256 != before
    data.write_bytes(weight(0).tobytes())
    assert graphs.read(external)[1].sha256 == before


def test_the_size_of_the_weights_counts_every_type_without_loading_any(graph_of):
    import ml_dtypes

    graph = graph_of(
        "(float[N,8] x) => (float[N,8] y) { a = Add(x, f) b = Cast<to = 1>(h) y = Add(a, b) }",
        {"f": np.ones(8, np.float32), "h": np.ones(8, ml_dtypes.bfloat16)},
    )
    assert graphs.weight_bytes(graph) == 8 * 4 + 8 * 2


def test_a_constant_is_found_in_initializers_and_constant_nodes(graph_of):
    graph = graph_of(
        "(float[2] x) => (float[2] y) { c = Constant<value = float[2] {1, 2}>() a = Add(x, c) "
        "y = Mul(a, w) }",
        {"w": np.array([3, 4], np.float32)},
    )
    tensors = graph.tensors()
    assert graphs.constant_of(tensors["c"]).tolist() == [1, 2]
    assert graphs.constant_of(tensors["w"]).tolist() == [3, 4]
    assert graphs.constant_of(tensors["a"]) is None
    assert graphs.constant_of(tensors["x"]) is None


def test_producers_and_outputs_are_known(graph_of):
    graph = graph_of("(float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }")
    tensors = graph.tensors()
    assert graphs.producer(tensors["a"]).op == "Neg"
    assert graphs.producer(tensors["x"]) is None
    assert graphs.is_output(graph, tensors["y"])
    assert not graphs.is_output(graph, tensors["a"])


TYPES_BEYOND_NUMPY = """
import onnx, sys
from onnxq.model.graph import from_proto, save
from onnxq.passes.infer_shapes import infer_shapes
graph = from_proto(onnx.parser.parse_model('''
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[4] x, float s) => (float[4] y) {
        q = QuantizeLinear<output_dtype = 17>(x, s) y = DequantizeLinear(q, s)
    }'''))
infer_shapes(graph)
save(graph.copy(), sys.argv[1])
"""


def test_nothing_is_printed_about_types_that_numpy_does_not_have(tmp_path):
    command = [sys.executable, "-c", TYPES_BEYOND_NUMPY, str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_other_name_of_the_default_domain_is_read_as_the_default_domain(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["ai.onnx": 11]> g (float[2] x) => (float[2] y) {y = Abs(x)}'
    )
    onnx.save(model, tmp_path / "m.onnx")
    graph = graphs.load(tmp_path / "m.onnx")
    assert graph.opset == 11
    assert [(o.domain, o.version) for o in graphs.to_proto(graph).opset_import] == [("", 11)]


def test_an_op_of_another_domain_or_unknown_to_onnx_is_custom(graph_of):
    graph = graph_of(
        "(float[2] x) => (float[2] y) { a = my.Abs(x) b = SparseConvolution(a) y = Abs(b) }"
    )
    assert [graphs.is_custom(node) for node in graph.nodes] == [True, True, False]


def test_an_int4_constant_that_was_read_is_written_as_it_was(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> '
        "net () => (float[2,3] y) { y = DequantizeLinear(q, s) }"
    )
    codes = np.arange(-3, 3).reshape(2, 3).astype(int4)
    for values, name in ((codes, "q"), (np.float32(0.5), "s")):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    graph = graphs.from_proto(model)
    read = graphs.constant_of(graph.nodes[0].inputs[0])
    np.testing.assert_array_equal(read.astype(int), codes.astype(int))
    written = {i.name: i for i in graphs.to_proto(graph.copy()).graph.initializer}
    np.testing.assert_array_equal(
        numpy_helper.to_array(written["q"]).astype(int), codes.astype(int)
    )
