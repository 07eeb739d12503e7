"""What a model file declares, or leaves out, and ONNX Runtime runs all the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from onnxq import api
from onnxq.errors import DataError, ModelError
from onnxq.inspect.reading import read
from onnxq.model.graph import to_proto
from onnxq.pipeline.config import Config
from onnxq.report.html.gathering import Sources, gather
from onnxq.sensitivity.options import Options
from onnxq.targets.options import PlanOptions

RNG = np.random.default_rng(0)
WEIGHTS = {"w1": RNG.normal(0, 0.1, (16, 16, 3, 3)), "w2": RNG.normal(0, 0.1, (32, 16, 3, 3))}
X = RNG.normal(size=(8, 16, 8, 8)).astype(np.float32)
NET = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 16, 8, 8] x) => (float[N, 32, 8, 8] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w1)
    mid = Relu(a)
    c = Conv<pads = [1, 1, 1, 1]>(mid, w2)
    y = Relu(c)
}"""


def model_of(text):
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in WEIGHTS.items()
    )
    return model


@pytest.fixture
def saved(tmp_path):
    """`saved(model)`: the path of its file, and what calibrates it."""

    def save(model):
        onnx.save(model, tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", X)
        return tmp_path / "m.onnx", [str(tmp_path / "x.npy")]

    return save


def run(model, x=X[:1]):
    """What the file gives in a plain session; it warns of shapes that are not true."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options,
                                   providers=["CPUExecutionProvider"])  # fmt: skip
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def sensitivity(path, data):
    source = api.prepare(path)
    plan = api.plan(source)
    dataset = api.data(source, data)
    ranges = api.read(source, plan, api.calibrate(source, plan, dataset), "max")
    return api.sensitivity(source, plan, ranges, dataset, Options())


@pytest.mark.parametrize("recover", ["auto", "all"])
def test_an_output_that_a_constant_writes_goes_through(saved, recover):
    text = NET.replace("8, 8] y)", "8, 8] y, float[2, 2] priors)").replace(
        "mid = Relu", "priors = Constant<value = float[2, 2] {1, 2, 3, 4}>() mid = Relu"
    )
    path, data = saved(model_of(text))
    result = api.quantize(path, data, Config(recover=recover))
    assert len(result.plan.nodes) == 2
    assert result.agreement["y"].sqnr_db > 30  # 8 bits: about 35
    assert result.agreement["priors"].noise == 0
    ranking = sensitivity(path, data)
    assert all(np.isfinite(row.overall.score) for row in ranking.rows)


def declaring(name, shape):
    """An edit: an output more, or another shape for one."""

    def edit(model):
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        kept = [o for o in model.graph.output if o.name != name]
        del model.graph.output[:]
        model.graph.output.extend([*kept, info])

    return edit


def saying(name, shape, count=1):
    """An edit: what value_info says of a tensor."""
    info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    return lambda model: model.graph.value_info.extend([info] * count)


def without_shape_of_x(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def with_an_output_of_unknown_rank(model):
    model.graph.node.extend(
        [
            helper.make_node("SequenceConstruct", ["y"], ["s"]),
            helper.make_node("Constant", [], ["zero"], value_int=0),
            helper.make_node("SequenceAt", ["s", "zero"], ["z"]),
        ]
    )
    declaring("z", None)(model)


def untyped(model):
    model.graph.output[0].ClearField("type")


def without_a_graph_name(model):
    model.graph.name = ""


def of_ir_version_3(model):
    model.ir_version, model.opset_import[0].version = 3, 8
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )


def with_an_output_twice(model):
    model.graph.output.append(model.graph.output[0])


def with_a_weight_as_output(model):
    declaring("w1", [16, 16, 3, 3])(model)


def with_the_input_as_output(model):
    declaring("x", ["N", 16, 8, 8])(model)


KINDS = {
    "an output without a shape": declaring("y", None),
    "an output without a type": untyped,
    "an output of unknown rank": with_an_output_of_unknown_rank,
    "an input of unknown rank": without_shape_of_x,
    "a scalar that is none": declaring("mid", []),
    "an image of a pixel that is none": declaring("mid", [1, 16, 1, 1]),
    "another rank": declaring("mid", [1, 16]),
    "other lengths": declaring("y", [1, 32, 4, 4]),
    "a batch of 1 that is free": declaring("y", [1, 32, 8, 8]),
    "negative lengths": declaring("y", [-1, 32, -1, -1]),
    "value_info of another rank": saying("mid", [1, 16]),
    "value_info without a shape": saying("mid", None),
    "value_info twice": saying("mid", ["N", 16, 8, 8], 2),
    "value_info of the input": saying("x", [1, 16, 1, 1]),
    "value_info of the output": saying("y", [1, 3]),
    "no graph name": without_a_graph_name,
    "IR version 3": of_ir_version_3,
    "an output twice": with_an_output_twice,
    "a weight as output": with_a_weight_as_output,
    "the input as output": with_the_input_as_output,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_onnx_runtime_runs_is_taken(saved, kind):
    model = model_of(NET)
    KINDS[kind](model)
    expected = run(model)
    path, data = saved(model)
    for name, values in run(to_proto(api.prepare(path).graph)).items():
        assert values.shape == expected[name].shape
        # the same kernels on the same weights
        np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6)
    for placement in (PlanOptions(), PlanOptions(target="onnxruntime")):
        result = api.quantize(path, data, Config(placement=placement, recover="none"))
        assert {"Conv_0", "Conv_1"} <= set(result.plan.nodes)
        found = run(to_proto(result.graph))
        assert found.keys() == expected.keys()
        noise = np.square(found["y"] - expected["y"]).mean()
        assert noise < np.square(expected["y"]).mean() / 1000  # 30 dB; 8 bits: about 35
    half = api.quantize(path, data, Config(high_precision="fp16", recover="none"))
    assert run(to_proto(half.graph)).keys() == expected.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_pages_and_listings_take_it_too(saved, kind):
    model = model_of(NET)
    KINDS[kind](model)
    path, _ = saved(model)
    assert {"Conv", "Relu"} <= {node.op for node in read(path).nodes}
    assert gather(path, Sources()).graph.nodes


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ([], ["N", 32, 8, 8]),
        ([1, 32], ["N", 32, 8, 8]),
        ([1, 32, 4, 4], ["N", 32, 8, 8]),
        ([1, 32, 8, 8], ["N", 32, 8, 8]),
        (["B", 32, "h", "w"], ["B", 32, "h", "w"]),
        (None, ["N", 32, 8, 8]),
    ],
)
def test_an_output_keeps_its_shape_unless_inference_finds_another(saved, declared, written):
    model = model_of(NET)
    declaring("y", declared)(model)
    path, _ = saved(model)
    assert api.prepare(path).graph.outputs[0].shape == written


def test_what_only_an_output_declares_is_known_behind_it(graph_of):
    from onnxq.passes.infer_shapes import infer_shapes

    text = """(float[N, 4] x, int64[k] shape) => (float[2, 3, 8] m, float[?, ?, ?] y) {
        m = Reshape(x, shape)
        n = Neg(m)
        y = Transpose(n)
    }"""
    graph = graph_of(text)
    infer_shapes(graph)
    assert graph.tensors()["n"].shape == [2, 3, 8]


def test_a_stale_shape_in_a_branch_does_not_end_inference(graph_of):
    from onnxq.passes.prepare import prepare

    text = """(float[N, 4, 8] x, bool flag) => (float[N, 4, 8] y) {
        m = If(flag) <
            then_branch = yes () => (float[7] a) <float[3] r> { r = Relu(x) a = Neg(r) },
            else_branch = no () => (float e) { e = Abs(x) }
        >
        y = Sigmoid(m)
    }"""
    graph = prepare(graph_of(text))
    assert graph.tensors()["m"].shape == ["N", 4, 8]


def test_an_input_without_a_type_is_named(saved):
    model = model_of(NET)
    model.graph.input[0].ClearField("type")
    path, _ = saved(model)
    with pytest.raises(ModelError, match=r"input 'x' declares no type.* export it with typed"):
        api.prepare(path)


def test_no_shape_can_be_drawn_for_an_input_of_unknown_rank(saved):
    model = model_of(NET)
    without_shape_of_x(model)
    path, _ = saved(model)
    with pytest.raises(DataError, match="random data for input 'x', float32 of any shape, needs"):
        api.data(api.prepare(path), ["random"])
