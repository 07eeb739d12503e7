"""Models that remember, from files to figures: what they are fed back is theirs from then on."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from tests.streaming import OPTIONS, SHAPES, sequences, streaming_model

COUNT, STEPS = 9, 24


@pytest.fixture
def model(folder):
    onnx.save(streaming_model(), "model.onnx")
    xs = sequences(COUNT, STEPS)
    reset = np.arange(COUNT * STEPS) % STEPS == 0
    np.savez("calib.npz", x=np.concatenate(xs), reset=reset.astype(np.int64))
    zeros = {n: np.zeros((COUNT * STEPS, *s[1:]), np.float32) for n, s in SHAPES.items()}
    np.savez("zeros.npz", **zeros | {"x": np.concatenate(xs)})
    return "model.onnx"


def compared(done, quantized, *options):
    found = done("compare", "model.onnx", quantized, "--calib", "calib.npz", *options, "--json")
    return json.loads(found.out)


def test_states_are_worth_their_decibels_in_a_closed_loop(done, model):
    out = done("quantize", model, "--calib", "calib.npz", *OPTIONS, "-o", "q.onnx", "--repeat").out
    assert f"fed back its own states over {STEPS} samples in a row: 'h_out' has" in out
    assert "polygraphy" not in out
    metadata = {p.key: p.value for p in onnx.load("q.onnx").metadata_props}
    assert json.loads(metadata["onnxq.feedback"]) == {"cache_out": "cache", "h_out": "h"}
    done("quantize", model, "--calib", "zeros.npz", "-o", "ignored.onnx")
    known, ignored = compared(done, "q.onnx"), compared(done, "ignored.onnx", *OPTIONS)
    assert known["along"]["y"]["steps"] == STEPS
    assert known["parts"]["y"]["sqnr_db"] > 40  # 48 were seen, and 21 with ranges of first samples
    assert ignored["parts"]["y"]["sqnr_db"] < 30
    assert ignored["along"]["y"]["first_db"] > ignored["along"]["y"]["last_db"] + 20
    table = done("compare", model, "q.onnx", "--calib", "calib.npz").out
    assert f"Along sequences of up to {STEPS} samples" in table


def test_complete_samples_are_written_and_compared_one_by_one(done, model):
    done("quantize", model, "--calib", "calib.npz", *OPTIONS, "-o", "q.onnx")
    done("data", "--model", model, "--from", "calib.npz", *OPTIONS, "-o", "complete.npz")
    assert np.load("complete.npz")["h"].shape == (COUNT * STEPS, 32, 4)
    args = ("compare", model, "q.onnx", "--calib", "complete.npz", "--feedback", "none", "--json")
    found = json.loads(done(*args).out)
    assert found["along"] == {}
    assert found["parts"]["h_out"]["sqnr_db"] > 30


@pytest.mark.parametrize(
    "command",
    [
        ("sensitivity", "model.onnx", "--top", "2", "-o", "r.csv"),
        ("search", "model.onnx", "--min-sqnr", "20", "--trials", "2", "-o", "plan.yaml"),
        ("tune", "model.onnx", "--min-sqnr", "20", "-o", "tuned"),
        ("calibrate", "model.onnx", "--shard", "1/3", "-o", "r.json"),
    ],
    ids=lambda words: words[0],
)
def test_other_commands_run_sequences_too(done, model, command):
    done(*command, "--calib", "calib.npz", *OPTIONS)


def test_what_cannot_be_is_a_line(onnxq, model):
    for options, said in (
        (
            ("--feedback", "h_out=x"),
            "the output is float32 (1, 32, 4), the input float",
        ),
        (("--feedback", "h_out"), "--feedback 'h_out' is not OUT=IN, such as state_out=state"),
        ((*OPTIONS, "--shard", "10/10"), "--shard 10/10 would split a sequence: there are 9"),
    ):
        ran = onnxq("calibrate", model, "--calib", "calib.npz", *options, "-o", "r.json")
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert said in ran.err
