"""`onnxq diff`: exit codes, tables, and the effect on outputs."""

import json

import pytest


@pytest.fixture
def models(done, classifier, images, folder):
    """The classifier in INT8, with max ranges, and with its first op float."""
    for out, *options in (
        ("mse.onnx",),
        ("max.onnx", "--method", "max"),
        ("float.onnx", "--keep-first", "1"),
    ):
        done("quantize", classifier, "--calib", images, "--recover", "none", *options, "-o", out)
    return folder


@pytest.mark.usefixtures("models")
def test_equal_models_exit_with_0_and_say_how_much_was_compared(done):
    assert "equal: " in done("diff", "mse.onnx", "mse.onnx").out


@pytest.mark.usefixtures("models")
def test_different_models_exit_with_1_and_the_largest_change_comes_first(onnxq):
    ran = onnxq("diff", "mse.onnx", "max.onnx", "--json")
    assert ran.code == 1
    found = json.loads(ran.out)
    changes = [abs(s["change_db"]) for s in found["scales"]]
    assert not found["placement"]
    assert changes == sorted(changes, reverse=True)
    assert all(s["kind"] == "activation" and s["change_db"] >= 0 for s in found["scales"])
    text = onnxq("diff", "mse.onnx", "max.onnx", "--top", "2").out
    assert "(the first 2 of " in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.usefixtures("models")
def test_placement_says_which_node_is_float_in_one(onnxq):
    found = json.loads(onnxq("diff", "mse.onnx", "float.onnx", "--json").out)
    (change,) = found["placement"]
    assert (change["a"], change["b"]) == ("INT8", "FP32")


@pytest.mark.usefixtures("models")
def test_data_adds_the_effect_on_the_outputs(onnxq, classifier, images):
    ran = onnxq("diff", "mse.onnx", "max.onnx", "--calib", images, "--samples", "2",
                "--reference", classifier, "--json")  # fmt: skip
    effect = json.loads(ran.out)["effect"]
    assert list(effect) == ["B against A", "A against FLOAT", "B against FLOAT"]
    assert all(a["sqnr_db"] > 10 for outputs in effect.values() for a in outputs.values())


@pytest.mark.usefixtures("models")
def test_a_reference_needs_data(refused, classifier):
    line = refused("diff", "mse.onnx", "max.onnx", "--reference", classifier)
    assert "give --calib DATA too" in line
