"""A model's weights are from its own folder alone; a graph never stands over another's weights."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model.graph import load, save

SECRET = b"TOPSECRET-" * 1000
SHAPE = [50, 50]
HEADER = '<ir_version: 9, opset_import: ["": 17, "my": 1]>'
NET = f"{HEADER} net (float[2, 50] x) => (float[2, 50] y) {{ y = MatMul(x, w) }}"
CONSTANT = NET.replace("y = ", "w = Constant() y = ")
BODY = f"""{HEADER} net (float[2, 50] x, bool c) => (float[2, 50] y) {{
    y = If(c) <then_branch = a () => (float[2, 50] t) {{ t = MatMul(x, w) }},
               else_branch = b () => (float[2, 50] e) {{ e = Neg(x) }}> }}"""
FUNCTION = f"""{HEADER} net (float[2, 50] x) => (float[2, 50] y) {{ y = my.f(x) }}
<domain: "my", opset_import: ["": 17]> f (a) => (b) {{ w = Constant() b = MatMul(a, w) }}"""


def external(location, shape=SHAPE):
    """A tensor `w` whose data is at `location`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    length = 4 * int(np.prod(shape))
    for key, value in (("location", location), ("offset", 0), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def initializer(model, tensor):
    model.graph.initializer.append(tensor)


def sparse(model, tensor):
    indices = numpy_helper.from_array(np.zeros(0, np.int64), "i")
    model.graph.sparse_initializer.add(values=tensor, indices=indices, dims=SHAPE)


def in_constant(model, tensor):
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))


def in_body(model, tensor):
    model.graph.node[0].attribute[0].g.initializer.append(tensor)


def in_function(model, tensor):
    model.functions[0].node[0].attribute.append(onnx.helper.make_attribute("value", tensor))


HOLDERS = {
    "an initializer": (NET, initializer),
    "a sparse initializer": (NET, sparse),
    "a Constant node": (CONSTANT, in_constant),
    "the body of a node": (BODY, in_body),
    "a function": (FUNCTION, in_function),
}


@pytest.fixture
def folder(tmp_path):
    """A folder `m` for a model, beside a folder with a file that is none of its business."""
    (tmp_path / "m" / "sub").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(SECRET)
    for own in ("own", "sub/own"):
        (tmp_path / "m" / own).write_bytes(SECRET)
    (tmp_path / "m" / "linked").symlink_to("../secret")
    (tmp_path / "m" / "link").symlink_to("../secret/key")
    (tmp_path / "m" / "inner").symlink_to("own")
    os.link(tmp_path / "secret" / "key", tmp_path / "m" / "hard")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "m" / "fifo")
    return tmp_path / "m"


def model_in(folder, location, holder="an initializer"):
    text, add = HOLDERS[holder]
    model = onnx.parser.parse_model(text)
    add(model, external(location))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


FOREIGN = {
    "ABSOLUTE": "model's own folder",
    "OWN": "model's own folder",
    "../secret/key": "model's own folder",
    "sub/../../secret/key": "model's own folder",
    "../m/own": "model's own folder",
    "linked/key": "'linked' is a link.*cp -rL",
    "link": "'link' is a link.*cp -rL",
    "inner": "'inner' is a link.*cp -rL",
    "hard": "2 names",
    "fifo": "is no file",
    "sub": "is no file",
    "": "model's own folder",
    "nothing": "not beside it",
    "own/deeper": "not beside it",
    "*/_ORT_MEM_ADDR_/*": "not beside it",  # ONNX Runtime's word for an address in memory
}


@pytest.mark.parametrize("location", FOREIGN)
def test_weights_from_elsewhere_are_refused_as_onnx_refuses_them(folder, location):
    if location == "fifo" and not hasattr(os, "mkfifo"):
        pytest.skip("a system without FIFOs")
    known = {"ABSOLUTE": folder.parent / "secret" / "key", "OWN": folder / "own"}
    path = model_in(folder, str(known.get(location, location)))
    with pytest.raises(ModelError, match=f"keeps its weights in.*{FOREIGN[location]}"):
        load(path)
    if location != "own/deeper":  # onnx says nothing there but that it cannot
        with pytest.raises((onnx.checker.ValidationError, ValueError, OSError)):
            onnx.load(path)


@pytest.mark.parametrize("holder", HOLDERS)
def test_they_are_refused_wherever_the_model_holds_them(folder, holder):
    for location in (str(folder.parent / "secret" / "key"), "linked/key", "hard"):
        with pytest.raises(ModelError, match="keeps its weights in"):
            load(model_in(folder, location, holder))


@pytest.mark.parametrize("location", ["own", "./own", "sub/own", "sub/../own"])
def test_weights_in_the_folder_are_read(folder, location):
    graph = load(model_in(folder, location))
    np.testing.assert_array_equal(
        graphs.constant_of(graph.tensors()["w"]),
        np.frombuffer(SECRET, np.float32).reshape(SHAPE),
    )


def test_a_second_location_of_a_tensor_is_looked_at_too(folder):
    path = model_in(folder, "own")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="hard")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="2 names"):
        load(path)


def test_a_model_in_a_linked_folder_is_read(folder, tmp_path):
    model_in(folder, "own")
    (tmp_path / "other").symlink_to("m")
    assert load(tmp_path / "other" / "m.onnx").tensors()["w"].shape == (50, 50)


def test_more_weight_files_than_a_process_may_open_are_read(tmp_path):
    resource = pytest.importorskip("resource")
    model = onnx.parser.parse_model(f"{HEADER} n (float[2, 32] x) => (float[2, 32] y) {{}}")
    for k in range(300):
        np.full((32, 32), k, np.float32).tofile(tmp_path / f"w{k}.bin")
        tensor = external(f"w{k}.bin", [32, 32])
        tensor.name = f"w{k}"
        model.graph.initializer.append(tensor)
        model.graph.node.add(op_type="MatMul", input=[f"t{k}" if k else "x", f"w{k}"],
                             output=[f"t{k + 1}" if k < 299 else "y"])  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        graph = load(tmp_path / "m.onnx")
        assert [float(graphs.constant_of(n.inputs[1])[0, 0]) for n in graph.nodes] == [*range(300)]
        assert all(n.inputs[1].values.shape == (32, 32) for n in graph.nodes)
        save(graph, tmp_path / "out.onnx", external_data=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(list(tmp_path.glob("out.onnx*"))) == 2


def weights(seed, folder):
    """A model with a weight of that seed, in a file of its own name."""
    path = folder / f"in{seed}.onnx"
    model = onnx.parser.parse_model(NET)
    w = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    onnx.save(model, path)
    return path, w


def value(path):
    return numpy_helper.to_array(onnx.load(path).graph.initializer[0])


KILLED = """
import os, sys
from pathlib import Path
from onnxq.model.graph import load, save
count, replace = int(sys.argv[3]), Path.replace
def dying(a, b):
    global count
    count -= 1
    if count < 0:
        os._exit(9)
    return replace(a, b)
Path.replace = dying
save(load(sys.argv[1]), sys.argv[2], external_data=True)
"""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_between_two_renames_leaves_the_old_model_whole(tmp_path, renames):
    (a, old), (b, new) = weights(1, tmp_path), weights(2, tmp_path)
    out = tmp_path / "m.onnx"
    save(load(a), out, external_data=True)
    command = [sys.executable, "-c", KILLED, str(b), str(out), str(renames)]
    assert subprocess.run(command, check=False).returncode == (9 if renames < 2 else 0)
    np.testing.assert_array_equal(value(out), old if renames < 2 else new)


def data_of(out):
    return {f.name for f in out.parent.glob(f"{out.name}.*.data")}


def test_weights_of_a_model_go_with_it_when_it_is_replaced(tmp_path):
    (a, _), (b, new) = weights(1, tmp_path), weights(2, tmp_path)
    out = tmp_path / "m.onnx"
    save(load(a), out, external_data=True)
    before = data_of(out)
    other = tmp_path / "m.onnx.mine.data"
    other.write_bytes(b"not ours")
    save(load(b), out, external_data=True)
    assert len(data_of(out)) == 2  # this one, and that which is not ours
    assert other.exists()
    assert not before & data_of(out)
    np.testing.assert_array_equal(value(out), new)
    save(load(b), out)
    assert data_of(out) == {other.name}


def test_weights_that_a_copy_of_the_model_names_stay(tmp_path):
    (a, old), (b, new) = weights(1, tmp_path), weights(2, tmp_path)
    out, copy = tmp_path / "m.onnx", tmp_path / "copy.onnx"
    save(load(a), out, external_data=True)
    copy.write_bytes(out.read_bytes())
    save(load(b), out, external_data=True)
    np.testing.assert_array_equal(value(copy), old)
    np.testing.assert_array_equal(value(out), new)


def test_the_same_weights_are_written_once_and_damaged_ones_anew(tmp_path):
    a, old = weights(1, tmp_path)
    out = tmp_path / "m.onnx"
    save(load(a), out, external_data=True)
    (data,) = tmp_path.glob("m.onnx.*.data")
    assert data.name.split(".")[-2] == hashlib.sha256(data.read_bytes()).hexdigest()[:12]
    graph, before = out.read_bytes(), data.stat().st_ino
    save(load(a), out, external_data=True)
    assert (out.read_bytes(), data.stat().st_ino) == (graph, before)
    data.write_bytes(bytes(data.stat().st_size))
    save(load(a), out, external_data=True)
    np.testing.assert_array_equal(value(out), old)


def test_the_hash_of_a_model_is_of_the_bytes_that_were_read(tmp_path):
    a, _ = weights(1, tmp_path)
    b, _ = weights(2, tmp_path)
    graph, file = graphs.read(a)
    before = hashlib.sha256(a.read_bytes()).hexdigest()
    a.write_bytes(b.read_bytes())
    assert file.sha256 == before
    assert not np.array_equal(graphs.constant_of(graph.tensors()["w"]), value(a))


def test_weights_that_change_after_they_were_hashed_are_refused(folder):
    path = model_in(folder, "own")
    graph = load(path)
    (folder / "own").write_bytes(SECRET[:100])  # cut short: its mapped pages are gone
    with pytest.raises(ModelError, match="changed during the run"):
        graphs.constant_of(graph.tensors()["w"])
    (folder / "own").write_bytes(SECRET)
    with pytest.raises(ModelError, match="changed during the run"):
        graphs.to_proto(graph)


def test_weights_that_another_file_replaced_are_not_read_in_their_place(folder):
    graph = load(model_in(folder, "own"))
    (folder / "new").write_bytes(bytes(len(SECRET)))
    (folder / "new").replace(folder / "own")
    w = graphs.constant_of(graph.tensors()["w"])  # the old file is still mapped
    np.testing.assert_array_equal(w, np.frombuffer(SECRET, np.float32).reshape(SHAPE))
    with pytest.raises(ModelError, match="changed during the run"):
        graphs.to_proto(graph)


def test_a_model_that_changed_is_not_opened_again_for_the_one_that_was_read(folder):
    path = model_in(folder, "own")
    _, file = graphs.read(path)
    assert file.unchanged() == path
    (folder / "new").write_bytes(bytes(len(SECRET)))
    (folder / "new").replace(folder / "own")
    with pytest.raises(ModelError, match="own' changed while it was in use"):
        file.unchanged()
    _, file = graphs.read(path)
    path.write_bytes(path.read_bytes() + b"\x1a\x00")
    with pytest.raises(ModelError, match=r"m\.onnx' changed while it was in use"):
        file.unchanged()
