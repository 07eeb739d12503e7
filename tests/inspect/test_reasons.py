"""Why a node is quantized: by the manifest, or by onnxq's own rules, said so."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxq
from onnxq import Config, PlanOptions
from onnxq.errors import DataError
from onnxq.inspect.clipping import clipping
from onnxq.inspect.reading import read
from onnxq.inspect.reasons import reasons_of
from onnxq.pipeline.steps import data, open_model

sys.path.insert(0, str(Path(__file__).parent))
from qdq_models import STORED, WEIGHT, codes, numbers

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
DATA = str(FIXTURES / "classifier" / "calib.npy")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The classifier, its first Conv left float."""
    out = tmp_path_factory.mktemp("ours") / "model.int8.onnx"
    config = Config(placement=PlanOptions(keep_first=1), recover="none")
    model = FIXTURES / "classifier" / "classifier.onnx"
    onnxq.write(onnxq.quantize(model, [DATA], config), out, config)
    return out


def test_the_manifest_says_which_rule_or_option_decided(ours):
    reading = read(ours)
    reasons = reasons_of(reading)
    manifest = json.loads(Path(f"{ours}.manifest.json").read_text())
    assert reasons.source == "manifest"
    by_name = {name: reasons.why(node) for name, node in reading.by_name.items()}
    for name, rule in manifest["quantized_nodes"].items():
        assert f"(rule {rule})" in by_name[name]
        assert reading.by_name[name].quantized
    assert {by_name[name] for name in manifest["float_nodes"]} >= {"--keep-first 1"}


def test_the_manifest_says_where_a_scale_came_from(ours):
    reading = read(ours)
    reasons = reasons_of(reading)
    activations = [t for t in reading.tensors if t.kind == "activation"]
    assert activations
    for tensor in activations:
        entry = reasons.range_of(tensor)
        assert entry["amax"] == pytest.approx(tensor.interval[1], rel=1e-6)  # float32 of amax / 127
        assert reasons.origin(tensor).startswith("method mse over ")


def test_a_manifest_of_another_model_is_not_believed(ours, tmp_path):
    out = tmp_path / "model.onnx"
    shutil.copy(ours, out)
    manifest = json.loads(Path(f"{ours}.manifest.json").read_text())
    manifest["float_nodes"] = {}
    Path(f"{out}.manifest.json").write_text(json.dumps(manifest))
    reasons = reasons_of(read(out))
    assert reasons.source == "rules"
    assert "is of another model" in reasons.note
    with pytest.raises(DataError, match="is of another model"):
        reasons_of(read(out), Path(f"{out}.manifest.json"))
    assert reasons_of(read(out), Path(f"{ours}.manifest.json")).source == "manifest"


def test_without_a_manifest_our_own_rules_say_what_they_would_do(reading):
    found = reading(STORED, conv_weight_quantized=codes(), other=WEIGHT, **numbers())
    reasons = reasons_of(found)
    assert "by onnxq's own rules" in reasons.note
    assert reasons.why(found.by_name["first"]).startswith("by its tool; onnxq would too")
    assert reasons.why(found.by_name["second"]).startswith("onnxq would quantize it")
    assert reasons.why(found.by_name["relu"]) == "no rule asks for Q/DQ at this Relu"


def test_the_rules_are_those_of_the_types_in_the_model(reading):
    arrays = numbers(code=np.uint8)
    found = reading(STORED, conv_weight_quantized=codes(), other=WEIGHT, **arrays)
    assert "--target onnxruntime --scheme w8a8" in reasons_of(found).note
    found = reading(STORED.replace("(d, w)", "(x, w)"), other=WEIGHT,
                    conv_weight_quantized=codes(), **numbers())  # fmt: skip
    assert "--target tensorrt --scheme w8a16" in reasons_of(found).note


def test_what_a_scale_clips_is_measured_on_data(saved):
    path = saved(STORED, conv_weight_quantized=codes(), other=WEIGHT, **numbers())
    x = np.zeros((2, 16, 8, 8), np.float32)
    x[0, 0] = 127 * 0.05  # just held
    x[1, 0] = -6.36  # beyond
    np.save(path.with_name("x.npy"), x)
    config = Config(workers=1)
    dataset = data(open_model(path), [str(path.with_name("x.npy"))], config)
    assert clipping(read(path), dataset, config) == {"x": 1 / 32}
