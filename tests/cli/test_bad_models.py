"""Each way a model can be wrong has one line that says what, where and how to mend it."""

from pathlib import Path

import numpy as np
import onnx
import pytest

CONV = "h = Conv<pads = [1, 1, 1, 1]>(x, w)"
IO = "(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y)"


@pytest.fixture
def quantize_refused(refused, images):
    return lambda model, *options: refused("quantize", model, "--calib", images, *options)


@pytest.mark.parametrize("command", ["quantize", "prepare", "plan", "calibrate"])
def test_a_missing_model_is_named_by_every_command(refused, images, command):
    data = ("--calib", images) if command in ("quantize", "calibrate") else ()
    message = refused(command, "none.onnx", *data, "-o", "out")
    assert message == "no model at 'none.onnx'; check the path"


def test_a_file_that_is_not_onnx_is_told(quantize_refused):
    Path("text.onnx").write_text("# a recipe for soup\n")
    np.save("array.npy", np.zeros(3))
    for name in ("text.onnx", "array.npy"):
        assert "is not an ONNX model or is cut short; export it again" in quantize_refused(name)


def test_an_empty_file_is_told(quantize_refused):
    Path("empty.onnx").touch()
    assert "'empty.onnx' is not an ONNX model" in quantize_refused("empty.onnx")


def test_a_folder_is_told(quantize_refused):
    Path("models").mkdir()
    assert quantize_refused("models") == "'models' is a folder; name the .onnx file in it"


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.5, 0.9, 0.999, 0.99999])
def test_a_model_cut_short_anywhere_is_told(quantize_refused, classifier, share):
    whole = classifier.read_bytes()
    Path("cut.onnx").write_bytes(whole[: int(len(whole) * share)])
    assert "'cut.onnx' is not an ONNX model or is cut short" in quantize_refused("cut.onnx")


def test_a_damaged_name_is_told(quantize_refused, classifier):
    whole = classifier.read_bytes()
    Path("damaged.onnx").write_bytes(whole.replace(b"/layer3/", b"/lay\xd2r3/"))
    assert "'damaged.onnx' is damaged: b'/lay\\xd2r3/" in quantize_refused("damaged.onnx")


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("dims", [16, 16, 3, 4], "has 9216 bytes of data, 12288 for FLOAT [16, 16, 3, 4]"),
        ("dims", [-16, 16, 3, 3], "has the shape [-16, 16, 3, 3]"),
        ("data_type", 11, "has 9216 bytes of data, 18432 for DOUBLE [16, 16, 3, 3]"),
        ("data_type", 0, "is of the unknown type 0"),
        ("data_type", 99, "is of the unknown type 99"),
    ],
)
def test_a_weight_that_is_not_what_its_shape_says_is_told(
    quantize_refused, conv_model, field, value, why
):
    model = onnx.load(conv_model(f"{IO} {{ {CONV} y = Relu(h) }}"))
    tensor = model.graph.initializer[0]
    if field == "dims":
        del tensor.dims[:]
        tensor.dims.extend(value)
    else:
        tensor.data_type = value
    Path("damaged.onnx").write_bytes(model.SerializeToString())
    expected = f"'damaged.onnx' is damaged: tensor 'w' in it {why}; export it again"
    assert quantize_refused("damaged.onnx") == expected


def test_a_weight_without_the_axes_of_its_op_is_told(refused, conv_model):
    model = onnx.load(conv_model(f"{IO} {{ {CONV} y = Relu(h) }}"))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.append(16 * 16 * 9)
    onnx.save(model, "flat.onnx")
    message = refused("plan", "flat.onnx", "-o", "plan.yaml")
    assert message.startswith("the graph 'g' cannot be planned and may be damaged (IndexError")


def test_missing_and_short_external_data_are_told(quantize_refused, classifier):
    onnx.save(onnx.load(classifier), "m.onnx", save_as_external_data=True, location="m.data")
    content = Path("m.data").read_bytes()
    Path("m.data").write_bytes(content[:1000])
    assert "the external data of 'm.onnx' cannot be read" in quantize_refused("m.onnx")
    Path("m.data").unlink()
    assert "keeps its weights in 'm.data', which is not beside it" in quantize_refused("m.onnx")


def test_an_old_opset_is_raised(done, conv_model, conv_data):
    model = conv_model(f"{IO} {{ {CONV} y = Relu(h) }}", opset=9)
    done("quantize", model, "--calib", conv_data, "-o", "q.onnx")
    assert onnx.load("q.onnx").opset_import[0].version >= 13


def test_an_opset_that_cannot_be_raised_names_the_op(refused, conv_model, conv_data):
    # before opset 7 an Add said where its operand goes; onnx rewrites that for known sizes only
    body = """(float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y) <float[1] one = {1}> {
        h = Conv<pads = [1, 1, 1, 1]>(x, w)
        y = Add<broadcast = 1, axis = 0>(h, one)
    }"""
    model = conv_model(body, opset=6)
    message = refused("quantize", model, "--calib", conv_data)
    assert message.startswith("opset 6 cannot be raised to 13: onnx cannot convert op Add")
    assert message.endswith("export the model again with opset 13 or later")


def test_a_quantized_model_is_refused_and_taken_apart_on_demand(refused, done, classifier, images):
    done("quantize", classifier, "--calib", images, "-o", "once.onnx")
    message = refused("quantize", "once.onnx", "--calib", images)
    assert "'once.onnx' is quantized already" in message
    assert "or say --requantize" in message
    done("quantize", "once.onnx", "--calib", images, "--requantize", "-o", "twice.onnx")
    once, twice = (_weights(onnx.load(p)) for p in ("once.onnx", "twice.onnx"))
    assert len(once) == 13
    assert once.keys() == twice.keys()
    # a rounded weight's largest value is a code of +-127 again: the codes come back
    assert all(np.array_equal(once[name], twice[name]) for name in once)


def _weights(model):
    arrays = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    return {k: a for k, a in enumerate(x for x in arrays if x.dtype == np.int8 and x.ndim > 1)}


@pytest.mark.parametrize(
    "body", [f"{CONV} y = my.domain.Foo(h)", "h = my.domain.Foo(x) y = Conv<pads=[1,1,1,1]>(h, w)"]
)
def test_a_custom_op_asks_for_its_library(refused, conv_model, conv_data, body):
    message = refused("quantize", conv_model(f"{IO} {{ {body} }}"), "--calib", conv_data)
    assert "no op 'my.domain:Foo'; give its library with --ort-library lib.so" in message


def test_a_missing_op_library_is_told(refused, classifier, images):
    message = refused("quantize", classifier, "--calib", images, "--ort-library", "none.so")
    assert "the custom op library 'none.so' cannot be loaded" in message


@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_a_model_with_nothing_to_quantize_is_told(refused, conv_model, conv_data, command):
    data = ("--calib", conv_data) if command == "quantize" else ()
    message = refused(command, conv_model(f"{IO} {{ y = Relu(x) }}"), *data, "-o", "out")
    assert message == "nothing to quantize in 'model.onnx': it has no Conv, Gemm or MatMul"


def test_a_tensor_of_zeros_leaves_its_reader_float(done, conv_model, conv_data):
    body = f"{IO} {{ {CONV} a = Abs(h) n = Neg(a) z = Relu(n) b = Conv<pads=[1,1,1,1]>(z, w) " \
           "y = Add(h, b) }"  # fmt: skip
    ran = done("quantize", conv_model(body), "--calib", conv_data, "-o", "q.onnx")
    assert "'Conv_1' stays float: zero-range: 'z' is zero in every sample" in " ".join(
        ran.out.split()
    )
    model = onnx.load("q.onnx")
    onnx.checker.check_model(model, full_check=True)
    conv = next(n for n in model.graph.node if n.name == "Conv_1")
    assert conv.input[0] == "z"


def test_a_tensor_without_values_leaves_its_reader_float(done, conv_model, conv_data):
    body = """(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] h, float[n, 16, 8, 8] y)
    <float huge = {1e9}> {
        h = Conv<pads = [1, 1, 1, 1]>(x, w)
        top = ReduceMax<axes = [1, 2, 3], keepdims = 0>(h)
        keep = Greater(top, huge)
        none = Compress<axis = 0>(h, keep)
        y = Conv<pads = [1, 1, 1, 1]>(none, w)
    }"""
    ran = done("quantize", conv_model(body), "--calib", conv_data, "-o", "q.onnx")
    assert "'none' has no values in any sample" in " ".join(ran.out.split())


def test_ops_in_a_branch_are_said_to_stay_float(done, conv_model, conv_data):
    body = """(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) <float huge = {1e9}> {
        h = Conv<pads = [1, 1, 1, 1]>(x, w)
        sum = ReduceSum<keepdims = 0>(h)
        c = Greater(sum, huge)
        y = If (c) <
            then_branch = t () => (float[1, 16, 8, 8] a) {
                r = Neg(h) a = Conv<pads = [1, 1, 1, 1]>(r, w)
            },
            else_branch = e () => (float[1, 16, 8, 8] b) { b = Relu(h) }
        >
    }"""
    ran = done("quantize", conv_model(body), "--calib", conv_data, "-o", "q.onnx")
    assert "float  in-branch: what it reads is computed" in ran.out


def test_values_that_overflow_inside_the_model_name_the_tensor(refused, conv_model, conv_data):
    model = conv_model(f"{IO} {{ a = Log(x) y = Conv<pads = [1, 1, 1, 1]>(a, w) }}")
    message = refused("quantize", model, "--calib", conv_data)
    assert message.startswith("tensor 'a': ")
    assert "infinite or NaN" in message
