"""What only makes a run faster or a model better gives way where it cannot run the model."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from onnxq import api
from onnxq.errors import ModelError
from onnxq.pipeline.config import Config
from onnxq.plan import Plan
from onnxq.recover import pipeline
from onnxq.recover.draft import Bench
from onnxq.recover.pipeline import Recovery
from onnxq.run import magnitudes
from onnxq.sensitivity.options import Options
from onnxq.targets.options import PlanOptions

# The shape of `g`, which a custom op writes, is believed for want of anything better. It is not
# true, ONNX Runtime does not mind, and no segment that reads `g` runs with another length.
STALE = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
net (float[N, 8, L] x) => (float[N, 8, L] y)
<float[1, 8, 4] g>
{
  a = Conv(x, w, b)
  g = com.microsoft.Gelu(a)
  c = Conv(g, w, b)
  y = Add(c, g)
}"""
CONFIG = Config(placement=PlanOptions(min_channels=1))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def stale(tmp_path):
    model = onnx.parser.parse_model(STALE)
    for name, values in (("w", normal(8, 8, 1)), ("b", normal(8, seed=1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "data").mkdir()
    for i, length in enumerate((4, 6, 8, 4, 6, 8)):
        np.savez(tmp_path / "data" / f"{i}.npz", x=normal(1, 8, length, seed=i))
    return tmp_path / "m.onnx", [str(tmp_path / "data")]


@pytest.mark.parametrize("recover", ["auto", "all"])
def test_a_recovery_that_cannot_run_the_model_is_left_out(stale, recover, caplog):
    path, data = stale
    result = api.quantize(path, data, Config(recover=recover, placement=CONFIG.placement))
    assert "bias correction is left out: ONNX Runtime cannot run the model" in caplog.text
    assert {"Conv_0", "Conv_1"} <= set(result.plan.nodes)
    assert result.agreement["y"].sqnr_db > 25  # 8 bits: about 35
    undone = result.manifest["recovered"][-1]["undone"]
    assert all(why.startswith("left out: ONNX Runtime") for why in undone.values())


def test_an_algorithm_that_fails_leaves_the_draft_as_it_is(caplog):
    def fails(bench, draft):
        raise ModelError("it cannot be run")

    bench = Bench(gs.Graph(), Plan("m", "tensorrt", {}), None, None, None)
    draft, (outcome,) = pipeline.run([Recovery("smooth", "smooth", fails)], bench, "the draft")
    assert draft == "the draft"
    assert outcome.notes == ("left out: it cannot be run",)
    assert "smooth is left out: it cannot be run" in caplog.text


def ranked(path, data, **options):
    source = api.prepare(path, CONFIG)
    plan = api.plan(source, CONFIG)
    dataset = api.data(source, data, CONFIG)
    ranges = api.read(source, plan, api.calibrate(source, plan, dataset, CONFIG), "max")
    found = api.sensitivity(source, plan, ranges, dataset, Options(**options), CONFIG)
    return {row.name: row.overall.score for row in found.rows}


@pytest.mark.parametrize("mode", ["one-on", "one-off"])
def test_sensitivity_runs_the_whole_model_where_segments_do_not_run(stale, mode, caplog):
    path, data = stale
    with caplog.at_level(logging.INFO, "onnxq"):
        scores = ranked(path, data, mode=mode)
    assert "the model is run as a whole" in caplog.text
    assert scores == ranked(path, data, mode=mode, whole=True)


def test_sensitivity_runs_the_whole_model_where_segments_compute_something_else(
    stale, monkeypatch, caplog
):
    path, data = stale
    monkeypatch.setattr(magnitudes, "SLACK", -1.0)  # nothing is like anything
    with caplog.at_level(logging.INFO, "onnxq"):
        scores = ranked(path, data)
    assert "the model is run as a whole: 'y' is another tensor in segments" in caplog.text
    assert scores == ranked(path, data, whole=True)
