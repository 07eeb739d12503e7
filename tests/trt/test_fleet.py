"""`build --arch all`: what every GPU makes of a model."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from layer_files import INT8, layer, port, written
from onnxq_cli.main import run

import onnxq
from onnxq.errors import OnnxqError
from onnxq.trt.fleet import KNOWN, architectures

pytest.importorskip("tensorrt_rtx", reason="there is no TensorRT-RTX")
FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "classifier"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The classifier in INT8 and in FP8."""
    folder = tmp_path_factory.mktemp("fleet")
    for scheme in ("w8a8", "fp8"):
        onnxq.quantize(FOLDER / "classifier.onnx", FOLDER / "calib.npy", samples=2, recover="none",
                       check_samples=1, scheme=scheme).save(folder / f"{scheme}.onnx")  # fmt: skip
    return folder


def test_architectures_are_all_or_some():
    assert architectures("all") == tuple(KNOWN)
    assert architectures("sm89, sm120,sm89") == ("sm89", "sm120")
    for text in ("ada", "sm89,", "", "sm8"):
        if text == "sm89,":
            assert architectures(text) == ("sm89",)
            continue
        with pytest.raises(OnnxqError, match="architecture"):
            architectures(text)


def test_a_model_is_built_for_each_as_it_is_and_with_fp16_around(models):
    found = onnxq.build_fleet(models / "w8a8.onnx", "sm80,sm89,sm90")
    assert found.ok
    cells = {(c.arch, c.form): c for c in found.cells}
    for arch in ("sm80", "sm89"):
        for form in ("as it is", "FP16 around"):
            cell = cells[arch, form]
            assert cell.state == "builds"
            assert cell.covered == cell.meant == 13
            assert cell.moved > 0
    assert cells["sm90", "as it is"].state == "unknown"
    assert "--layers sm90=FILE" in cells["sm90", "as it is"].why
    assert not list(models.glob("*.engine"))


def test_a_channel_whose_scale_is_zero_in_fp16_is_no_refusal(models, tmp_path):
    model = onnx.load(models / "w8a8.onnx")
    scale = next(i for i in model.graph.initializer if i.name.endswith("_scale") and i.dims)
    values = onnx.numpy_helper.to_array(scale).copy()
    values[0] = 1e-9
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))
    onnx.save(model, tmp_path / "dead.onnx")
    (_, half) = onnxq.build_fleet(tmp_path / "dead.onnx", "sm89").cells
    assert (half.form, half.state, half.covered) == ("FP16 around", "builds", half.meant)


def test_a_refusal_is_found_with_its_line(models, capsys):
    code = run(["build", str(models / "fp8.onnx"), "--arch", "sm80,sm89", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 1
    states = {(c["arch"], c["form"]): c["state"] for c in found["cells"]}
    assert states["sm80", "as it is"] == "refused"
    assert states["sm89", "as it is"] == "builds"
    (why,) = {c["why"] for c in found["cells"] if c["arch"] == "sm80"}
    assert "fp8" in why
    assert "\n" not in why


def test_a_device_tells_by_its_own_layer_info(models, tmp_path):
    from onnxq.layers.model import model_of
    from onnxq.model.graph import load

    _, *others = model_of(load(models / "w8a8.onnx")).meant
    layers = [layer(n, reads=(port("x", INT8),), writes=(port("y", INT8),), weights="Int8")
              for n in others]  # fmt: skip
    path = written(tmp_path, "orin.json", {"Layers": layers})
    found = onnxq.build_fleet(models / "w8a8.onnx", "sm87", layers={"sm87": path})
    (cell,) = found.cells
    assert (cell.device, cell.form, cell.covered, cell.meant) == (
        "Orin", "by trtexec", len(others), len(others) + 1)  # fmt: skip
    alien = written(tmp_path, "alien.json", {"Layers": [layer("Conv_z")]})
    with pytest.raises(OnnxqError, match="no node of"):
        onnxq.build_fleet(models / "w8a8.onnx", "sm87", layers={"sm87": alien})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arch", "all", "-o", "x.engine"), "no engine is kept"),
        (("--arch", "all", "--layers", "orin"), "write ARCH=FILE"),
        (("--layers", "sm87=f.json"), "give several --arch"),
        (("--arch", "sm89,ada"), "unknown architecture 'ada'"),
    ],
    ids=["out", "layers", "one", "name"],
)
def test_what_does_not_go_together_is_refused(models, capsys, options, said):
    assert run(["build", str(models / "w8a8.onnx"), *options]) == 2
    assert said in capsys.readouterr().err
