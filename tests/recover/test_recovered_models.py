"""Whole models with and without correction, on data that was neither fitted to nor judged by."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from onnxq import api
from onnxq.model.graph import to_proto
from onnxq.numerics import sqnr_db
from onnxq.pipeline.config import Config
from onnxq.report.text import show, summary
from onnxq.targets.options import PlanOptions

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODELS = {
    "classifier": "classifier/classifier.onnx",
    "centerpoint": "centerpoint/backbone_neck_head.onnx",
}
SHARE = 4  # one sample in four is left out of calibration, to evaluate on


@cache
def quantized(name, calib=None, **options):
    path = FIXTURES / MODELS[name]
    skip = ("deblocks",) if name == "centerpoint" else ()
    config = Config(placement=PlanOptions(skip=skip), **options)
    return api.quantize(path, [str(calib or path.parent / "calib.npy")], config)


def outputs(model, x):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {session.get_inputs()[0].name: x[i : i + 1]}) for i in range(len(x))]
    return {o.name: np.concatenate([r[k] for r in rows])
            for k, o in enumerate(session.get_outputs())}  # fmt: skip


def gains(name, calib, x):
    """By how many dB correction raises the SQNR of each output on the samples `x`."""
    ref = outputs((FIXTURES / MODELS[name]).read_bytes(), x)
    made = [quantized(name, calib, recover=r) for r in ("none", "bias")]
    plain, better = (outputs(to_proto(m.graph).SerializeToString(), x) for m in made)
    return [sqnr_db(ref[n], better[n]) - sqnr_db(ref[n], plain[n]) for n in ref]


def test_a_classifier_gains_on_its_evaluation_data():
    with np.load(FIXTURES / "classifier/eval.npz") as data:
        (gain,) = gains("classifier", None, data["x"])
    assert gain > 0.5  # about 1 dB, whichever samples calibrate


def test_every_output_of_a_detector_gains_from_six_samples(tmp_path):
    samples = np.load(FIXTURES / "centerpoint/calib.npy")
    left_out = np.arange(len(samples)) % SHARE == 1
    np.save(tmp_path / "calib.npy", samples[~left_out])
    # two samples to evaluate on: outputs scatter by tenths of a dB
    assert min(gains("centerpoint", tmp_path / "calib.npy", samples[left_out])) > -0.2


def test_the_manifest_says_what_was_corrected(capsys):
    result = quantized("classifier")
    found = result.manifest["recovered"][-1]
    assert found["samples"] > 8
    assert len(found["largest_shift"]) + len(found["undone"]) == 13
    assert found["sqnr_db"]["logits"]["after"] > found["sqnr_db"]["logits"]["before"]
    show(summary({**result.manifest, "output": {"path": "q.onnx", "bytes": 1}}))
    printed = capsys.readouterr().out
    assert f"bias correction: {len(found['largest_shift'])} of 13 nodes" in printed


def test_nothing_is_corrected_if_asked_not_to(capsys):
    result = quantized("classifier", recover="none")
    assert result.manifest["recovered"] == []
    show(summary({**result.manifest, "output": {"path": "q.onnx", "bytes": 1}}))
    assert "bias correction" not in capsys.readouterr().out


def test_a_half_model_gets_the_shifts_of_its_float32_form():
    half, whole = quantized("classifier", high_precision="fp16"), quantized("classifier")
    one, other = (r.manifest["recovered"][-1]["sqnr_db"]["logits"]["after"] for r in (half, whole))
    # the same but for scales that were rounded to FP16
    assert one == pytest.approx(other, abs=1.5)
    biases = [n.inputs[2].values for n in half.graph.nodes if n.op == "Conv"]
    assert all(b.dtype == np.float16 for b in biases)
