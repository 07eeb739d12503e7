"""`onnxq lint`: exit codes, severities, --fix, JSON and SARIF."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array

BODY = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1,16,8,8] x) => (float[1,16,6,6] y) {
  xq = QuantizeLinear (x, s, z) xd = DequantizeLinear (xq, s, z)
  wd = DequantizeLinear <axis=0> (w, ws, wz)
  bd = DequantizeLinear <axis=0> (b, bs)
  y = Conv (xd, wd, bd)
}
"""


@pytest.fixture
def model(folder):
    """A Conv as ONNX Runtime quantizes it: the bias is INT32 under DequantizeLinear."""
    made = onnx.parser.parse_model(BODY)
    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": np.ones((16, 16, 3, 3), np.int8),
        "ws": np.full(16, 0.1, np.float32),
        "wz": np.zeros(16, np.int8),
        "b": np.arange(16, dtype=np.int32),
        "bs": np.full(16, 0.01, np.float32),
    }
    made.graph.initializer.extend(from_array(np.asarray(v), k) for k, v in constants.items())
    made.metadata_props.add(key="names", value="cat,dog")
    onnx.save(made, "m.onnx")
    return "m.onnx"


def test_a_refused_model_exits_with_1_and_says_how_to_mend_it(onnxq, model):
    ran = onnxq("lint", model)
    assert ran.code == 1
    assert "int32-bias" in ran.out
    assert "fix: keep biases float" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_fixing_writes_a_model_that_passes(onnxq, model):
    ran = onnxq("lint", model, "--fix", "-o", "mended.onnx")
    assert ran.code == 0
    assert "fixed int32-bias: 1 places" in ran.out
    mended = onnx.load("mended.onnx")
    onnx.checker.check_model(mended)
    assert {p.key: p.value for p in mended.metadata_props} == {"names": "cat,dog"}
    assert onnxq("lint", "mended.onnx").code == 0


def test_what_is_mended_goes_beside_the_model_and_nothing_else_does(onnxq, refused, model):
    assert "--fix" in refused("lint", model, "-o", "mended.onnx")
    assert "written: m.mended.onnx" in onnxq("lint", model, "--fix").out


def test_severity_hides_what_is_milder_and_keeps_the_exit_code(onnxq, model):
    assert "fp32-rest" in onnxq("lint", model).out
    ran = onnxq("lint", model, "--severity", "slow")
    assert "fp32-rest" not in ran.out
    assert ran.code == 1


def test_json_lists_every_finding(onnxq, model):
    ran = onnxq("lint", model, "--json")
    found = json.loads(ran.out)
    assert [f["rule"] for f in found["findings"]] == ["int32-bias", "fp32-rest"]
    assert found["fixed"] == {}


def test_sarif_names_the_rule_the_model_and_the_node(onnxq, model, folder):
    onnxq("lint", model, "--sarif", "lint.sarif")
    log = json.loads((folder / "lint.sarif").read_text("utf-8"))
    assert log["version"] == "2.1.0"
    run = log["runs"][0]
    result = run["results"][0]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert result["level"] == "error"
    place = result["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "m.onnx"
    assert place["logicalLocations"][0]["name"] == "bd"


def test_a_good_model_has_nothing_to_complain_about(onnxq, model):
    onnxq("lint", model, "--fix", "-o", "mended.onnx")
    ran = onnxq("lint", "mended.onnx", "--severity", "slow")
    assert ran.out.strip() == "nothing to complain about"


def test_a_file_that_is_no_model_exits_with_2(onnxq, folder):
    (folder / "x.onnx").write_text("hello")
    assert onnxq("lint", "x.onnx").code == 2


@pytest.mark.parametrize("name", ["?", "side"])
def test_one_name_of_two_sizes_is_found_and_mended_by_the_shapes_of_samples(onnxq, folder, name):
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,16,h,w] x) => (float y) {y = Relu (x)}'
    )
    for dim in made.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = name
    onnx.save(made, "m.onnx")
    np.save("x.npy", np.ones((4, 16, 6, 9), np.float32))
    assert onnxq("lint", "m.onnx", "--calib", "x.npy").code == 1
    ran = onnxq("lint", "m.onnx", "--calib", "x.npy", "--fix", "-o", "fixed.onnx")
    assert ran.code == 0
    dims = onnx.load("fixed.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 16, "x_2", "x_3"]
