"""A model whose weights are larger than what a process may hold: they stay in their file.

The real thing, 2.2 GB through every verb, is `benchmarks/large.py`. Here limits are lowered.
"""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxq import api
from onnxq.model import graph as graphs
from onnxq.model import stored
from onnxq.model.graph import save
from onnxq.pipeline.config import Config
from onnxq.run import runtime

WIDTH, LAYERS = 6000, 3  # 432 MB of weights
ROOM = 200 << 20  # bytes that the process may take beside what it has after its imports
WITHIN = """
import resource, sys
from onnxq import api
from onnxq.model import graph
graph.PROTOBUF_LIMIT = 100 << 20
taken = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
limit = taken + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
source = api.prepare(sys.argv[2])
assert len(api.plan(source).nodes) == int(sys.argv[4])
print(graph.save(source.graph, sys.argv[3]))
"""


def write_sparse(path):
    """A chain of MatMuls whose weights are a sparse file of zeros, all but the last value."""
    data = path.with_name("weights.bin")
    size = 4 * WIDTH * WIDTH
    with open(data, "wb") as file:
        file.truncate(LAYERS * size - 4)
        file.seek(LAYERS * size - 4)
        file.write(np.float32(7).tobytes())
    nodes, weights = [], []
    for k in range(LAYERS):
        tensor = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", k * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        nodes.append(helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [16, WIDTH])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_graph_work_on_a_large_model_needs_no_room_for_its_weights(tmp_path):
    write_sparse(tmp_path / "m.onnx")
    arguments = [str(ROOM), tmp_path / "m.onnx", tmp_path / "out.onnx", str(LAYERS)]
    ran = subprocess.run(
        [sys.executable, "-c", WITHIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (data,) = tmp_path.glob("out.onnx.*.data")
    assert data.stat().st_size == LAYERS * 4 * WIDTH * WIDTH
    last = np.memmap(data, np.float32, "r", offset=data.stat().st_size - 8)
    np.testing.assert_array_equal(last, [0, 7])


TEXT = """<ir_version: 9, opset_import: ["": 17]>
net (float[1, 64, 8, 8] x) => (float[1, 64, 8, 8] y)
<float[64, 64, 3, 3] w, float[64] b, float[64] s, float[64] o, float[64] m, float[64] v,
 float[64, 64, 3, 3] u>
{
    c = Conv<pads = [1, 1, 1, 1]>(x, w, b)
    n = BatchNormalization(c, s, o, m, v)
    r = Relu(n)
    y = Conv<pads = [1, 1, 1, 1]>(r, u)
}"""


@pytest.mark.parametrize("recover", ["none", "bias", "all"])
def test_weights_in_files_give_the_model_that_weights_in_memory_give(
    tmp_path, monkeypatch, recover
):
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    for name in "wbsomvu":
        shape = (64, 64, 3, 3) if name in "wu" else (64,)
        values = rng.uniform(0.5, 1.5, shape) if name == "v" else rng.normal(0, 0.1, shape)
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(values.astype(np.float32), name)
        )
    inline, beside = tmp_path / "inline.onnx", tmp_path / "beside.onnx"
    onnx.save(model, inline)
    onnx.save(model, beside, save_as_external_data=True, location="w.bin")
    data = tmp_path / "x.npy"
    np.save(data, rng.standard_normal((6, 64, 8, 8)).astype(np.float32))
    config = Config(recover=recover, check_samples=2)
    expected = api.quantize(inline, [str(data)], config)
    monkeypatch.setattr(stored, "SCRATCH_BYTES", 1 << 16)
    monkeypatch.setattr(stored, "LARGE", 1 << 10)
    monkeypatch.setattr(graphs, "PROTOBUF_LIMIT", 1 << 16)
    monkeypatch.setattr(runtime, "IN_MEMORY", 1 << 12)
    result = api.quantize(beside, [str(data)], config)
    assert result.ranges.limits == expected.ranges.limits
    save(result.graph, tmp_path / "out.onnx")
    assert len(list(tmp_path.glob("out.onnx.*.data"))) == 1
    feed = {"x": np.load(data)[:1]}
    outputs = [
        runtime.run(runtime.session(m, threads=1), ["y"], feed)[0]
        for m in (tmp_path / "out.onnx", graphs.to_proto(expected.graph))
    ]
    np.testing.assert_array_equal(*outputs)
