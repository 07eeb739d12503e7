"""`onnxq inspect`: a model, a node, a tensor; whoever wrote the model."""

import json
import shutil

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


@pytest.fixture
def ours(done, classifier, images, folder):
    """The classifier, without its first Conv."""
    options = ("--recover", "none", "--skip", "name:/conv1/Conv")
    done("quantize", classifier, "--calib", images, *options, "-o", "ours.onnx")
    return folder / "ours.onnx"


class _Samples(CalibrationDataReader):
    def __init__(self, path):
        self.rows = iter([{"image": x[None]} for x in np.load(path)[:2]])

    def get_next(self):
        return next(self.rows, None)


@pytest.fixture
def quantized_by_ort(classifier, images, folder):
    """The classifier by ONNX Runtime's static quantizer, in one of its forms."""

    def quantize(form):
        quantize_static(classifier, "theirs.onnx", _Samples(images), quant_format=form,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        return folder / "theirs.onnx"

    return quantize


@pytest.fixture
def theirs(quantized_by_ort):
    return quantized_by_ort(QuantFormat.QDQ)


def test_a_model_shows_coverage_reasons_and_every_node_that_matters(done, ours):
    out = done("inspect", ours).out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "as 'ours.onnx.manifest.json' says" in out
    assert "--skip name:/conv1/Conv" in out
    assert "(--all lists them)" in out
    assert "(--all lists them)" not in done("inspect", ours, "--all").out


def test_a_node_shows_why_and_where_its_scale_came_from(done, ours):
    found = json.loads(done("inspect", ours, "/layer1/layer1.0/conv1/Conv", "--json").out)
    assert found["quantized"]
    assert "rule weighted-Conv" in found["why"]
    activation, weight = (i["quantized"] for i in found["inputs"][:2])
    assert activation["origin"].startswith("method mse over ")
    assert activation["sat_ratio"] is not None
    assert (weight["kind"], weight["granularity"], len(weight["scale"])) == (
        "weight",
        "channel",
        16,
    )
    out = done("inspect", ours, "/layer1/layer1.0/conv1/Conv").out
    assert all(word in out for word in ("INT8 per-channel axis 0", "clips", "before", "after"))
    assert done("inspect", ours, "conv1/Conv").out.startswith("Nodes")


def test_a_skipped_node_names_the_option(done, ours):
    assert "--skip name:/conv1/Conv" in done("inspect", ours, "/conv1/Conv").out


def test_a_tensor_shows_who_writes_and_reads_it(done, ours):
    name = "/relu/Relu_output_0"
    found = json.loads(done("inspect", ours, name, "--json").out)
    assert (found["tensor"], found["written_by"]) == (name, "/relu/Relu")
    assert found["quantized"][0]["spec"] == "INT8 per-tensor"
    assert "written by" in done("inspect", ours, name).out
    assert done("inspect", ours, "tensor:Relu_output").out.startswith("Tensors")


def test_a_name_that_nothing_has_gets_the_nearest(refused, ours):
    line = refused("inspect", ours, "layer1.0/conf1")
    assert "matches no node or tensor; the nearest names are" in line
    assert "'/layer1/layer1.0/conv1/Conv'" in line


def test_a_model_of_another_tool_is_judged_by_our_rules_and_says_so(done, theirs, images):
    found = json.loads(done("inspect", theirs, "--json").out)
    assert found["reasons"]["source"] == "rules"
    assert "--target onnxruntime" in found["reasons"]["note"]
    assert all(t["sat_ratio"] is None for t in found["tensors"])
    found = json.loads(done("inspect", theirs, "--calib", images, "--json").out)
    measured = [t for t in found["tensors"] if t["kind"] == "activation"]
    assert measured
    assert all(0 <= t["sat_ratio"] < 0.1 for t in measured)


def test_a_float_model_shows_what_quantize_would_do(done, classifier):
    out = done("inspect", classifier).out
    assert "0 of " in out
    assert "onnxq would quantize it" in out


def test_a_manifest_that_is_named_must_fit(refused, done, ours, classifier, images, folder):
    done("quantize", classifier, "--calib", images, "--recover", "none", "-o", "other.onnx")
    shutil.copy("other.onnx.manifest.json", "m.json")
    assert "is of another model" in refused("inspect", ours, "--manifest", "m.json")


def test_of_integer_ops_the_type_is_known_and_the_reason_is_not(done, quantized_by_ort):
    found = json.loads(done("inspect", quantized_by_ort(QuantFormat.QOperator), "--json").out)
    convs = [n for n in found["nodes"] if n["op"] == "QLinearConv"]
    assert convs
    assert {(n["precision"], n["quantized"], n["why"]) for n in convs} == {
        ("UINT8", True, "not known")
    }
    assert "which has no float form" in found["reasons"]["note"]


def test_a_model_that_is_cut_short_is_said_in_a_line(refused, ours):
    ours.with_name("cut.onnx").write_bytes(ours.read_bytes()[:20_000])
    for words in (("inspect", "cut.onnx"), ("diff", ours, "cut.onnx")):
        assert refused(*words) == "'cut.onnx' is not an ONNX model or is cut short; export it again"
