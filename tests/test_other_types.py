"""Outputs that are sequences, maps or optional values: models that have some are quantized too."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array

from onnxq import api
from onnxq.errors import ModelError
from onnxq.pipeline.config import Config

SEQUENCE = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
OPTIONAL = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
MAPS = helper.make_sequence_type_proto(
    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, None))
)
CLASSES = list(range(16))
NODES = {
    "SplitToSequence": (SEQUENCE, {"axis": 1}),
    "Optional": (OPTIONAL, {}),
    "ZipMap": (MAPS, {"classlabels_int64s": CLASSES, "domain": "ai.onnx.ml"}),
}


@pytest.fixture
def model(tmp_path, rng):
    """`model(op)`: a file whose output 'odd' is what `op` gives, beside a float output 'y'."""

    def save(op):
        kind, attributes = NODES[op]
        text = """<ir_version: 8, opset_import: ["": 19, "ai.onnx.ml": 3]>
            g (float[N, 16] x) => (float[N, 16] y) { h = MatMul(x, w) y = Softmax(h) }"""
        made = onnx.parser.parse_model(text)
        weight = rng.standard_normal((16, 16)).astype(np.float32)
        made.graph.initializer.append(from_array(weight, "w"))
        made.graph.node.append(helper.make_node(op, ["y"], ["odd"], **attributes))
        made.graph.output.append(helper.make_value_info("odd", kind))
        onnx.save(made, tmp_path / "m.onnx")
        np.save(tmp_path / "c.npy", rng.standard_normal((16, 16)).astype(np.float32))
        return tmp_path / "m.onnx"

    return save


@pytest.mark.parametrize("half", ["fp32", "fp16"])
@pytest.mark.parametrize("op", NODES)
def test_an_output_that_is_no_tensor_is_kept_as_it_is(model, tmp_path, op, half):
    path = model(op)
    config = Config(high_precision=half)
    made = api.quantize(path, [str(tmp_path / "c.npy")], config)
    api.write(made, tmp_path / "q.onnx", config)
    assert made.plan.nodes
    types = [{o.name: o.type for o in onnx.load(p).graph.output}["odd"]
             for p in (path, tmp_path / "q.onnx")]  # fmt: skip
    assert types[0] == types[1]
    feeds = {"x": np.load(tmp_path / "c.npy")}
    ours, theirs = (ort.InferenceSession(p).run(["odd"], feeds)[0]
                    for p in (tmp_path / "q.onnx", path))  # fmt: skip
    assert type(ours) is type(theirs)
    assert len(ours) == len(theirs)
    # ONNX Runtime gives an optional value as an array, which can be compared
    compared = ["odd", "y"] if op == "Optional" else ["y"]
    assert sorted(made.agreement) == compared
    assert set(made.agreement.left_out) == {"odd", "y"} - set(compared)


def test_an_input_that_is_no_tensor_is_refused_by_its_name(model, tmp_path):
    path = model("SplitToSequence")
    made = onnx.load(path)
    made.graph.input.append(helper.make_value_info("more", SEQUENCE))
    onnx.save(made, path)
    with pytest.raises(ModelError, match="'more' in graph 'g' is of type sequence; only tensors"):
        api.prepare(path)
